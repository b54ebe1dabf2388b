//! Names that come and go in large directories whose names are indexed, whoever makes them, by inotify. The kernel queues
//! what happened before the system call returns that made it happen, so an index that has taken over what is queued is as
//! the directory was in that moment.
//!
//! Only on file systems where every change is made by this kernel, and for a bounded number of directories; the bounds of
//! the kernel's own queue and of what is kept for each directory end in reading the directory again.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, Weak};

use rustix::fs::fstatfs;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::{Errno, read};

use super::handle::Inode;
use crate::handles::lock;

/// Directories of a volume that are followed.
const DIRECTORIES_MAX: usize = 64;
/// Changes that are kept for one directory while nobody looks a name up in it.
const CHANGES_MAX: usize = 16_384;

const BUFFER: usize = 8192;
/// Bytes of an event before its name.
const EVENT_HEAD: usize = 16;
/// Longest event: where there was room for one more, there was no more.
const EVENT_MAX: usize = EVENT_HEAD + 256;

const EVENTS: WatchFlags =
    WatchFlags::CREATE.union(WatchFlags::DELETE).union(WatchFlags::MOVE).union(WatchFlags::ONLYDIR);

/// File systems that no other machine changes: ext, XFS, Btrfs, F2FS, tmpfs.
const LOCAL: [u64; 5] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010, 0x0102_1994];

/// A name that came or went.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) came: bool,
    pub(super) name: CString,
}

/// What is new in one directory.
#[derive(Debug, Default)]
pub(super) struct News {
    state: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    /// inotify's number, if the directory is followed.
    number: Option<i32>,
    /// Something was not told.
    lost: bool,
    changes: Vec<Change>,
}

impl News {
    fn add(&self, change: Change) {
        let mut pending = lock(&self.state);
        if pending.changes.len() < CHANGES_MAX {
            pending.changes.push(change);
        } else {
            pending.lose();
        }
    }
}

impl Pending {
    fn lose(&mut self) {
        self.lost = true;
        self.changes = Vec::new();
    }
}

/// The directories of a volume that are followed.
#[derive(Debug, Default)]
pub(super) struct Followed {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: Option<OwnedFd>,
    /// The kernel has no queue for us.
    is_refused: bool,
    directories: HashMap<i32, Weak<News>>,
}

impl Followed {
    /// Begins to follow a directory, before it is read. What was new before is forgotten.
    pub(super) fn begin(&self, directory: &Inode, news: &Arc<News>) -> bool {
        let state = &mut *lock(&self.state);
        let number = state.watch(directory, news);
        // What is queued from before must not be taken for what happens after the reading; its end may have been lost.
        state.read();
        *lock(&news.state) = Pending { number, ..Pending::default() };
        number.is_some()
    }

    pub(super) fn end(&self, news: &News) {
        let state = &mut *lock(&self.state);
        let ended = std::mem::take(&mut *lock(&news.state));
        if let Some(number) = ended.number {
            state.directories.remove(&number);
            if let Some(queue) = &state.queue {
                // The directory may be gone, and its watch with it.
                let _ = inotify::remove_watch(queue, number);
            }
        }
    }

    /// What is new in a directory; `None` if it is not followed, or something was lost.
    pub(super) fn take(&self, news: &News) -> Option<Vec<Change>> {
        lock(&news.state).number?;
        lock(&self.state).read();
        let mut pending = lock(&news.state);
        (pending.number.is_some() && !pending.lost).then(|| std::mem::take(&mut pending.changes))
    }
}

impl State {
    fn watch(&mut self, directory: &Inode, news: &Arc<News>) -> Option<i32> {
        let is_local = fstatfs(directory.fd()).is_ok_and(|fs| LOCAL.contains(&(fs.f_type as u64)));
        if self.is_refused || !is_local {
            return None;
        }
        self.directories.retain(|_, news| news.strong_count() > 0);
        if self.queue.is_none() {
            self.queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
            self.is_refused = self.queue.is_none();
        }
        let queue = self.queue.as_ref()?;
        let number = inotify::add_watch(queue, directory.path(), EVENTS).ok()?;
        let is_known = self.directories.contains_key(&number);
        if !is_known && self.directories.len() >= DIRECTORIES_MAX {
            let _ = inotify::remove_watch(queue, number);
            return None;
        }
        let before = self.directories.insert(number, Arc::downgrade(news));
        // Of the same directory, by an index that is on its way out.
        if let Some(before) =
            before.and_then(|news| news.upgrade()).filter(|before| !Arc::ptr_eq(before, news))
        {
            *lock(&before.state) = Pending::default();
        }
        Some(number)
    }

    /// Hands what is queued to the directories that it is about.
    fn read(&mut self) {
        let Some(queue) = &self.queue else { return };
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        loop {
            match read(queue, &mut buffer[..]) {
                Ok((events, rest)) => {
                    let is_last = rest.len() >= EVENT_MAX;
                    tell_all(&mut self.directories, events);
                    if is_last {
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return,
                Err(_) => return lose_all(&self.directories),
            }
        }
    }
}

/// Events as the kernel gives them (inotify(7)): directory, what happened, a cookie, length of the name, name with zero bytes.
fn tell_all(directories: &mut HashMap<i32, Weak<News>>, mut events: &[u8]) {
    while let Some((head, rest)) = events.split_first_chunk::<EVENT_HEAD>() {
        let [number, happened, _, length] =
            [0, 4, 8, 12].map(|at| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        let Some((name, rest)) = rest.split_at_checked(length as usize) else { return lose_all(directories) };
        let name = CStr::from_bytes_until_nul(name).ok();
        tell(directories, number.cast_signed(), ReadFlags::from_bits_retain(happened), name);
        events = rest;
    }
}

fn tell(directories: &mut HashMap<i32, Weak<News>>, number: i32, events: ReadFlags, name: Option<&CStr>) {
    if events.contains(ReadFlags::QUEUE_OVERFLOW) {
        return lose_all(directories);
    }
    if events.contains(ReadFlags::IGNORED) {
        if let Some(news) = directories.remove(&number).and_then(|news| news.upgrade()) {
            *lock(&news.state) = Pending::default();
        }
        return;
    }
    let Some((news, name)) = directories.get(&number).and_then(Weak::upgrade).zip(name) else { return };
    if events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
        news.add(Change { came: true, name: name.into() });
    } else if events.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
        news.add(Change { came: false, name: name.into() });
    }
}

fn lose_all(directories: &HashMap<i32, Weak<News>>) {
    for news in directories.values().filter_map(Weak::upgrade) {
        lock(&news.state).lose();
    }
}
