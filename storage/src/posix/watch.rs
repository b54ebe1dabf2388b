//! What other processes change in directories that are watched, by inotify.
//!
//! inotify does not say who changed something, so this driver's own requests are told apart by order: while anything is
//! watched, a request that changes names or attributes reads what is queued, does its work, and reads again, all under one
//! lock. What comes in between under a name that the request concerns is its own and is kept quiet; the core tells of it. The
//! kernel queues events before the system call returns, so nothing of a request's own comes later. While nothing is watched
//! requests take no lock, but are counted: the first watch begins when those that did not know of it are done. (One hole is
//! left: a request that only looks at a file may be the last to let go of it, while another closes it; that the file was
//! written is told then as if somebody else had done it.)
//!
//! Data that another process writes is told when it closes the file: events of each write would have to be told apart from
//! ours, which would put a lock around all writes. Directories below a watched tree are watched one by one, up to a bound;
//! what is below further ones, or on a file system without inotify, is not seen.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{Dir, FileType, OFlags};
use rustix::io::Errno;
use smb_proto::command::change_notify::CompletionFilter;
use smb_proto::fscc::notify::{Action, Change};
use smb_proto::{Name, NtStatus, Payload};
use smb_state::ids::Handle;
use smb_state::storage::{LocalChange, LocalNews, StorageOp, StorageReply};

use super::handle::{Inode, Stat};
use super::resolve::open_beneath;
use super::{Volume, names};
use crate::driver::Completion;
use crate::fault::{Fault, Outcome, Place, reply};
use crate::handles::lock;

/// Directories that one volume watches at most.
const DIRECTORIES_MAX: usize = 16_384;
/// Changes that are kept for one watch while the core does not wait for them.
const CHANGES_MAX: usize = 4096;
/// How long the thread that waits for events sleeps before it looks whether anybody still watches.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// How often it is looked whether requests are done that don't know of the first watch. They are system calls that don't wait.
const LOOK_FOR_UNAWARE: Duration = Duration::from_micros(50);

/// How often it is looked whether a watched directory still has a name: inotify tells that only when nobody has it open.
const LOOK_FOR_GONE: Duration = Duration::from_secs(1);

const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::ONLYDIR);

const DATA: CompletionFilter = CompletionFilter::SIZE.with(CompletionFilter::LAST_WRITE);
/// inotify does not say which.
const METADATA: CompletionFilter = CompletionFilter::ATTRIBUTES
    .with(CompletionFilter::LAST_WRITE)
    .with(CompletionFilter::LAST_ACCESS)
    .with(CompletionFilter::CREATION)
    .with(CompletionFilter::EA)
    .with(CompletionFilter::SECURITY);

/// What is watched of a volume.
#[derive(Default)]
pub(super) struct Watching {
    /// Watches, one that is about to begin among them, and handles that must not begin one any more; requests look at nothing
    /// else while there is none.
    count: AtomicUsize,
    /// Requests under way that began while there was none, and may lead to events.
    unaware: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: Option<Arc<OwnedFd>>,
    /// A thread waits for events.
    listens: bool,
    /// Who watches which directory, by inotify's numbers.
    directories: HashMap<i32, Vec<Spot>>,
    watches: HashMap<Handle, Watch>,
    /// Handles that watch no longer and are still open: a request to watch may come after the one not to.
    ended: HashSet<Handle>,
}

/// A directory's place in a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spot {
    watch: Handle,
    /// Its path below the watched directory, as the disk has it; empty for that itself.
    path: Vec<u8>,
}

struct Watch {
    root: Arc<Inode>,
    tree: bool,
    changes: Vec<LocalChange>,
    overflow: bool,
    gone: bool,
    waiting: Option<Completion>,
}

/// A request under way that does not know of any watch.
struct Unaware<'a>(&'a Watching);

impl Drop for Unaware<'_> {
    fn drop(&mut self) {
        self.0.unaware.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Watching {
    /// Counts a request for which nothing is watched. Either the first watch sees it counted, or it sees the watch.
    fn begin_unaware(&self) -> Option<Unaware<'_>> {
        if self.count.load(Ordering::SeqCst) != 0 {
            return None;
        }
        self.unaware.fetch_add(1, Ordering::SeqCst);
        let unaware = Unaware(self);
        (self.count.load(Ordering::SeqCst) == 0).then_some(unaware)
    }

    /// A watch is about to begin: from now on requests are aware of it, and those that are not are done when this returns. They
    /// take no lock that is held here.
    fn announce(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        while self.unaware.load(Ordering::SeqCst) != 0 {
            std::thread::sleep(LOOK_FOR_UNAWARE);
        }
    }
}

/// Completions are called when nothing is locked: what they lead to may come back here.
type Answers = Vec<(Completion, StorageReply<Payload>)>;

struct Seen {
    directory: i32,
    events: ReadFlags,
    cookie: u32,
    name: Option<CString>,
}

fn answer(answers: Answers) {
    answers.into_iter().for_each(|(completion, reply)| completion.complete(reply));
}

/// Whether inotify works here.
pub(super) fn is_available() -> bool {
    inotify::init(CreateFlags::CLOEXEC).is_ok()
}

fn join(path: &[u8], name: &CStr) -> Vec<u8> {
    let mut joined = path.to_vec();
    if !joined.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name.to_bytes());
    joined
}

/// A path as clients see it; `None` if they can't.
fn wire(path: &[u8]) -> Option<Name> {
    let mut units = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        if !units.is_empty() {
            units.push(u16::from(b'\\'));
        }
        units.extend(names::visible(&CString::new(component).ok()?)?);
    }
    Some(Name::from_units(units))
}

fn is_at_or_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
}

impl Watch {
    fn push(&mut self, path: &[u8], action: Action, filter: CompletionFilter) {
        let Some(name) = wire(path).filter(|_| !self.overflow) else { return };
        let change = LocalChange { change: Change { action, name }, filter };
        if self.changes.last() == Some(&change) {
            return;
        }
        if self.changes.len() >= CHANGES_MAX {
            self.overflow = true;
            self.changes.clear();
            return;
        }
        self.changes.push(change);
    }

    fn answer(&mut self) -> Option<(Completion, StorageReply<Payload>)> {
        let has_news = self.gone || self.overflow || !self.changes.is_empty();
        let completion = self.waiting.take_if(|_| has_news)?;
        let changes = std::mem::take(&mut self.changes);
        let news = if self.gone {
            LocalNews::Gone
        } else if std::mem::take(&mut self.overflow) {
            LocalNews::Overflow
        } else {
            LocalNews::Changes(changes)
        };
        Some((completion, StorageReply::Changed(news)))
    }
}

impl State {
    /// Reads what is queued. What came under one of the names in `own` is kept quiet.
    fn drain(&mut self, own: &[CString]) -> Answers {
        let Some(queue) = self.queue.clone() else { return Vec::new() };
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut reader = inotify::Reader::new(queue.as_fd(), &mut buffer);
        let mut seen = Vec::new();
        while let Ok(event) = reader.next() {
            seen.push(Seen {
                directory: event.wd(),
                events: event.events(),
                cookie: event.cookie(),
                name: event.file_name().map(CStr::to_owned),
            });
        }
        for event in &seen {
            self.on_event(event, &seen, own);
        }
        self.watches.values_mut().filter_map(Watch::answer).collect()
    }

    fn on_event(&mut self, event: &Seen, all: &[Seen], own: &[CString]) {
        let events = event.events;
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.watches.values_mut().for_each(|watch| watch.overflow = true);
        }
        if events.contains(ReadFlags::IGNORED) {
            self.directories.remove(&event.directory);
            return;
        }
        let spots = self.directories.get(&event.directory).cloned().unwrap_or_default();
        let Some(name) = &event.name else { return };
        let is_own = own.iter().any(|own| own.to_bytes().eq_ignore_ascii_case(name.to_bytes()));
        let told = told_as(event, all);
        for spot in spots {
            let path = join(&spot.path, name);
            let Some(watch) = self.watches.get_mut(&spot.watch) else { continue };
            if let Some((action, filter)) = told.filter(|_| !is_own) {
                watch.push(&path, action, filter);
            }
            if watch.tree && events.contains(ReadFlags::ISDIR) {
                if events.contains(ReadFlags::MOVED_FROM) {
                    self.forget_below(spot.watch, &path);
                } else if events.intersects(ReadFlags::MOVED_TO.union(ReadFlags::CREATE)) {
                    // What was made in it before it was watched is new too.
                    let is_new = events.contains(ReadFlags::CREATE) && !is_own;
                    self.add_below(spot.watch, path, is_new);
                }
            }
        }
    }

    fn look_for_gone(&mut self) {
        for watch in self.watches.values_mut() {
            watch.gone = watch.root.stat().is_ok_and(|stat| stat.links == 0);
        }
    }

    /// Watches a directory below a watched one, and all below it.
    fn add_below(&mut self, handle: Handle, path: Vec<u8>, is_new: bool) {
        let Some(root) = self.watches.get(&handle).map(|watch| Arc::clone(&watch.root)) else { return };
        let mut left = vec![path];
        while let Some(path) = left.pop() {
            let Ok(local) = CString::new(if path.is_empty() { b"." } else { path.as_slice() }) else {
                continue;
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let Ok(base) = root.reopen(OFlags::PATH | OFlags::DIRECTORY) else { return };
            let Ok(directory) = open_beneath(&base, &local, flags) else { continue };
            if !self.add(directory.as_fd(), Spot { watch: handle, path: path.clone() }) {
                return;
            }
            let Ok(entries) = Dir::read_from(&directory) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                let is_directory = match entry.file_type() {
                    FileType::Unknown => Stat::of_name(&directory, name)
                        .is_ok_and(|stat| stat.file_type == FileType::Directory),
                    known => known == FileType::Directory,
                };
                let below = join(&path, name);
                if is_new && let Some(watch) = self.watches.get_mut(&handle) {
                    watch.push(&below, Action::ADDED, name_of(is_directory));
                }
                if is_directory {
                    left.push(below);
                }
            }
        }
    }

    /// Watches a directory; `false` when there are too many.
    fn add(&mut self, directory: BorrowedFd<'_>, spot: Spot) -> bool {
        let Some(queue) = &self.queue else { return false };
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        if self.directories.len() >= DIRECTORIES_MAX {
            return false;
        }
        match inotify::add_watch(queue, path.as_str(), EVENTS) {
            Ok(number) => {
                let spots = self.directories.entry(number).or_default();
                if !spots.contains(&spot) {
                    spots.push(spot);
                }
                true
            }
            Err(errno) => errno != Errno::NOSPC,
        }
    }

    fn forget_below(&mut self, handle: Handle, path: &[u8]) {
        let queue = self.queue.clone();
        self.directories.retain(|number, spots| {
            spots.retain(|spot| spot.watch != handle || !is_at_or_below(&spot.path, path));
            if spots.is_empty()
                && let Some(queue) = &queue
            {
                // It may be gone by itself.
                let _ = inotify::remove_watch(queue, *number);
            }
            !spots.is_empty()
        });
    }

    fn begin(&mut self, handle: Handle, root: &Arc<Inode>, tree: bool) -> Outcome<()> {
        if self.queue.is_none() {
            let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
            self.queue = Some(Arc::new(inotify::init(flags).map_err(|_| NtStatus::NOT_SUPPORTED)?));
        }
        let watch = Watch {
            root: Arc::clone(root),
            tree,
            changes: Vec::new(),
            overflow: false,
            gone: false,
            waiting: None,
        };
        self.watches.insert(handle, watch);
        let spot = Spot { watch: handle, path: Vec::new() };
        let pin = root.reopen(OFlags::PATH | OFlags::DIRECTORY);
        if !pin.is_ok_and(|pin| self.add(pin.as_fd(), spot)) {
            self.watches.remove(&handle);
            return Err(NtStatus::INSUFFICIENT_RESOURCES.into());
        }
        if tree {
            self.add_below(handle, Vec::new(), false);
        }
        Ok(())
    }

    fn end(&mut self, handle: Handle) -> Option<(Completion, StorageReply<Payload>)> {
        let watch = self.watches.remove(&handle)?;
        self.forget_below(handle, b"");
        Some((watch.waiting?, StorageReply::Done))
    }
}

fn name_of(is_directory: bool) -> CompletionFilter {
    if is_directory { CompletionFilter::DIR_NAME } else { CompletionFilter::FILE_NAME }
}

/// What clients are told of an event.
fn told_as(event: &Seen, all: &[Seen]) -> Option<(Action, CompletionFilter)> {
    let events = event.events;
    let name = name_of(events.contains(ReadFlags::ISDIR));
    // Both halves of a rename are queued together.
    let both = ReadFlags::MOVED_FROM.union(ReadFlags::MOVED_TO);
    let within = events.intersects(both)
        && all.iter().any(|other| {
            other.cookie == event.cookie
                && other.directory == event.directory
                && other.events.intersects(both.difference(events))
        });
    if events.contains(ReadFlags::CREATE) {
        Some((Action::ADDED, name))
    } else if events.contains(ReadFlags::DELETE) {
        Some((Action::REMOVED, name))
    } else if events.contains(ReadFlags::MOVED_FROM) {
        Some((if within { Action::RENAMED_OLD_NAME } else { Action::REMOVED }, name))
    } else if events.contains(ReadFlags::MOVED_TO) {
        Some((if within { Action::RENAMED_NEW_NAME } else { Action::ADDED }, name))
    } else if events.contains(ReadFlags::CLOSE_WRITE) {
        Some((Action::MODIFIED, DATA))
    } else if events.contains(ReadFlags::ATTRIB) {
        Some((Action::MODIFIED, METADATA))
    } else {
        None
    }
}

impl Volume {
    /// Carries a request out, and keeps quiet about what it changes itself.
    pub(super) fn run_quietly(&self, op: &StorageOp<Bytes>, place: Place) -> Outcome<StorageReply<Payload>> {
        if self.watching.count.load(Ordering::Acquire) == 0 {
            // Data goes the short way. What the first watch may see of it is a time that a handle keeps or a stream's data.
            let is_data =
                matches!(op, StorageOp::Read { .. } | StorageOp::Write { .. } | StorageOp::Copy { .. });
            if is_data || !self.makes_events(op) {
                return self.run(op, place);
            }
            if let Some(_unaware) = self.watching.begin_unaware() {
                return self.run(op, place);
            }
        }
        if !self.makes_events(op) {
            return self.run(op, place);
        }
        let mut state = match (place, self.watching.state.try_lock()) {
            (_, Ok(state)) => state,
            (_, Err(TryLockError::Poisoned(poisoned))) => poisoned.into_inner(),
            (Place::Inline, Err(TryLockError::WouldBlock)) => return Err(Fault::Offload),
            (Place::Offloaded, Err(TryLockError::WouldBlock)) => lock(&self.watching.state),
        };
        let mut answers = state.drain(&[]);
        // Only now that no other request gives the object another name.
        let own = self.own_names(op);
        let outcome = self.run(op, place);
        answers.extend(state.drain(&own));
        if let (StorageOp::Close { handle }, Ok(_)) = (op, &outcome) {
            state.ended.remove(handle);
            answers.extend(state.end(*handle));
            self.count_watches(&state);
        }
        drop(state);
        answer(answers);
        outcome
    }

    /// Whether a request leads to events that are read here. Data of files does not, unless the handle keeps times and puts
    /// them back; streams' data does, being in attributes.
    fn makes_events(&self, op: &StorageOp<Bytes>) -> bool {
        match op {
            StorageOp::Write { handle, .. }
            | StorageOp::Read { handle, .. }
            | StorageOp::Copy { target: handle, .. } => {
                self.handles.get(*handle).is_ok_and(|node| node.stream.is_some() || !node.kept().is_nothing())
            }
            StorageOp::Close { .. } | StorageOp::SettleTimes { .. } => true,
            other => super::changes(other),
        }
    }

    /// Names under which a request's own events come.
    fn own_names(&self, op: &StorageOp<Bytes>) -> Vec<CString> {
        let of = |handle: Handle| self.handles.get(handle).ok().map(|node| node.link.now().name);
        let (first, second) = match op {
            StorageOp::Create { name, .. } => (None, names::to_local(name).ok()),
            StorageOp::Rename { handle, name, .. } | StorageOp::Link { handle, name, .. } => {
                (of(*handle), names::to_local(name).ok())
            }
            StorageOp::CreateStream { file: handle, .. }
            | StorageOp::Copy { target: handle, .. }
            | StorageOp::CloneExtents { target: handle, .. }
            | StorageOp::Trim { handle, .. }
            | StorageOp::Overwrite { handle, .. }
            | StorageOp::Close { handle }
            | StorageOp::Write { handle, .. }
            | StorageOp::Read { handle, .. }
            | StorageOp::SetAttributes { handle, .. }
            | StorageOp::SetEndOfFile { handle, .. }
            | StorageOp::SetAllocation { handle, .. }
            | StorageOp::SetEas { handle, .. }
            | StorageOp::SetSecurity { handle, .. }
            | StorageOp::RenameStream { handle, .. }
            | StorageOp::Unlink { handle }
            | StorageOp::SetLinkTarget { handle, .. }
            | StorageOp::UnlinkStream { handle }
            | StorageOp::SettleTimes { handle, .. }
            | StorageOp::SetSparse { handle, .. }
            | StorageOp::Zero { handle, .. } => (of(*handle), None),
            _ => (None, None),
        };
        first.into_iter().chain(second).collect()
    }

    fn count_watches(&self, state: &State) {
        self.watching.count.store(state.watches.len() + state.ended.len(), Ordering::SeqCst);
    }

    /// Answers when something changes; on a thread that may wait.
    pub(super) fn watch(self: &Arc<Self>, handle: Handle, tree: bool, completion: Completion) {
        let mut state = lock(&self.watching.state);
        let outcome = self.watch_in(&mut state, handle, tree);
        let mut answers = Vec::new();
        match (outcome, state.watches.get_mut(&handle)) {
            (Ok(true), _) => {
                answers.push((completion, StorageReply::Changed(LocalNews::Changes(Vec::new()))));
            }
            (Ok(false), Some(watch)) => {
                watch.waiting = Some(completion);
                answers.extend(watch.answer());
            }
            (Ok(false), None) => answers.push((completion, StorageReply::Done)),
            (Err(fault), _) => answers.push((completion, reply(Err(fault)))),
        }
        self.count_watches(&state);
        drop(state);
        answer(answers);
    }

    /// Whether the watch is new.
    fn watch_in(self: &Arc<Self>, state: &mut State, handle: Handle, tree: bool) -> Outcome<bool> {
        if state.ended.contains(&handle) {
            return Ok(false);
        }
        match state.watches.get(&handle) {
            Some(watch) if watch.waiting.is_some() => return Err(NtStatus::INVALID_PARAMETER.into()),
            Some(_) => return Ok(false),
            None => {}
        }
        let node = self.handles.get(handle)?;
        let directory = node.directory()?;
        self.watching.announce();
        state.begin(handle, directory, tree)?;
        if !state.listens
            && let Some(queue) = state.queue.clone()
        {
            let volume = Arc::downgrade(self);
            let thread = std::thread::Builder::new().name("local-changes".to_owned());
            state.listens = thread.spawn(move || listen(&volume, &queue)).is_ok();
        }
        Ok(true)
    }

    /// Ends a watch; on a thread that may wait.
    pub(super) fn unwatch(&self, handle: Handle) -> Outcome<StorageReply<Payload>> {
        let mut state = lock(&self.watching.state);
        if self.handles.get(handle).is_ok() {
            state.ended.insert(handle);
        }
        let ended = state.end(handle);
        self.count_watches(&state);
        drop(state);
        answer(ended.into_iter().collect());
        Ok(StorageReply::Done)
    }
}

/// Waits for events for as long as anybody watches.
fn listen(volume: &Weak<Volume>, queue: &OwnedFd) {
    let mut looked = Instant::now();
    loop {
        // Whatever it says, there may be something to read.
        let _ = poll(&mut [PollFd::new(queue, PollFlags::IN)], Some(&LOOK_AGAIN));
        let Some(volume) = volume.upgrade() else { return };
        let mut state = lock(&volume.watching.state);
        if state.watches.is_empty() {
            state.listens = false;
            return;
        }
        if looked.elapsed() >= LOOK_FOR_GONE {
            looked = Instant::now();
            state.look_for_gone();
        }
        let answers = state.drain(&[]);
        drop(state);
        answer(answers);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use smb_state::storage::Resolved;

    use super::*;
    use crate::offload::Inline;
    use crate::posix::{Posix, PosixOptions};

    fn root_handle(volume: &Volume) -> Handle {
        match volume.resolve(&[], None, Place::Offloaded) {
            Ok(Resolved::Found(object)) => object.handle,
            _ => panic!("the root is there"),
        }
    }

    /// A request that began before the first watch is not told as a local process's, however late it does its work.
    #[test]
    fn the_first_watch_lets_requests_end_that_do_not_know_of_it() {
        let root = tempfile::tempdir().unwrap();
        let driver = Posix::new(root.path(), PosixOptions::default(), Arc::new(Inline)).unwrap();
        let volume = &driver.volume;
        let handle = root_handle(volume);
        let (sender, receiver) = channel();
        let completion = Completion::new(move |reply| sender.send(reply).unwrap());

        // It has looked, and nothing was watched.
        let unaware = volume.watching.begin_unaware().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| volume.watch(handle, false, completion));
            while volume.watching.count.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            assert!(volume.watching.begin_unaware().is_none(), "who comes now knows of the watch");
            // Here the machine was busy with something else.
            std::thread::sleep(Duration::from_millis(20));
            std::fs::write(root.path().join("f"), "data").unwrap();
            drop(unaware);
        });
        let first = receiver.recv().unwrap();
        assert_eq!(first, StorageReply::Changed(LocalNews::Changes(Vec::new())));
        let mut state = lock(&volume.watching.state);
        assert!(state.drain(&[]).is_empty());
        assert!(state.watches.values().all(|watch| watch.changes.is_empty()), "told twice");
        drop(state);
        assert!(matches!(volume.unwatch(handle), Ok(StorageReply::Done)));
    }

    #[test]
    fn a_watch_that_can_not_begin_counts_no_longer() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("f"), "data").unwrap();
        let driver = Posix::new(root.path(), PosixOptions::default(), Arc::new(Inline)).unwrap();
        let volume = &driver.volume;
        let Ok(Resolved::Found(file)) = volume.resolve(&[Name::from("f")], None, Place::Offloaded) else {
            panic!("the file is there")
        };
        let (sender, receiver) = channel();
        volume.watch(file.handle, false, Completion::new(move |reply| sender.send(reply).unwrap()));
        assert_eq!(receiver.recv().unwrap(), StorageReply::Failed(NtStatus::NOT_A_DIRECTORY));
        assert!(volume.watching.begin_unaware().is_some());
    }
}
