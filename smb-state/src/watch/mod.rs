//! Change notification (MS-SMB2 3.3.5.19; MS-FSA 2.1.4.1, 2.1.5.11).
//!
//! ```text
//! first CHANGE_NOTIFY --> Telling each shard --> AskingFile --> [Listening] --> Watching --> gone with the open
//!                            | Refused               | delete pending             '-- directory deleted --> gone
//! ```
//! A watch belongs to an open of a directory and lives where the open does. Its first request fixes what is watched; from
//! then on changes are kept for the open, also while no request is pending, up to a bound. Beyond it they are forgotten and
//! the next request is answered NOTIFY_ENUM_DIR. Requests of one open are answered in order, each at most once.
//!
//! Every shard has a copy of the table of watchers ([`table`]): an operation knows without a message whether anybody wants
//! to hear of it, and tells the watcher's session directly. A watch is told to all shards before its client is told that the
//! request waits: whatever the client does after that is seen. What operations report is in [`report`].
//!
//! Where the volume can see what local processes change, storage is asked to wait for that ([`local`]).
//!
//! Not done: changes of the time of last access by reads, object ids and other view indexes (MS-FSA 2.1.4.1, NotifyData).

use std::collections::{BTreeMap, VecDeque};

use smb_proto::access::AccessMask;
use smb_proto::command::change_notify::{self, ChangeNotifyFlags, CompletionFilter};
use smb_proto::command::create::CreateOptions;
use smb_proto::fscc::notify::{Action, Change, NotifyWriter};
use smb_proto::{Name, NtStatus};

use crate::file::FileAsk;
use crate::ids::{ConnectionId, FileNumber, MessageId, OpenId, ShardId, VolumeId};
use crate::message::{Address, Answer, Asker, Finished, Message, Origin};
use crate::open::OpenRequest;
use crate::open::channel_sequence::Ticket;
use crate::response::Body;
use crate::shard::{Shard, Turn, Wait};

pub mod local;
pub mod report;
pub mod table;

use table::{Watcher, Watchers};

/// What a shard knows of watches.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Watching {
    /// Watches of this shard's opens.
    watches: BTreeMap<OpenId, Watch>,
    /// Everybody's, by volume.
    volumes: BTreeMap<VolumeId, Watchers>,
}

/// One thing that happened on a volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Happening {
    /// The directory in which it happened.
    pub directory: FileNumber,
    /// The path from the root of what it happened to.
    pub path: Name,
    /// What happened.
    pub action: Action,
    /// Who wants to hear of it.
    pub filter: CompletionFilter,
}

/// What a watch is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum News {
    /// These things happened, together and in this order.
    Changed(Vec<Change>),
    /// The delete of the directory is pending.
    Deleted,
}

/// An open's watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Watch {
    watcher: Watcher,
    volume: VolumeId,
    stage: Stage,
    /// Bytes of changes that are kept while no request is pending.
    bytes_max: usize,
    /// Requests in the order of their arrival.
    requests: VecDeque<Pending>,
    /// Changes that no request was answered with yet.
    changes: VecDeque<Change>,
    bytes: usize,
    /// Changes were forgotten.
    overflowed: bool,
    /// Storage waits for local changes; the open counts that as outstanding.
    listening: bool,
}

/// How far a watch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// Shards are being told; the open counts it as outstanding.
    Registering,
    /// It ended, with this status, before every shard knew of it.
    Ended(NtStatus),
    /// Every shard knows.
    Watching,
}

/// A CHANGE_NOTIFY that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pending {
    origin: Origin,
    length: usize,
}

/// A watch that is being made known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Registering {
    open: OpenId,
    /// Shards that know it.
    told: u16,
}

/// Bytes of a change in an answer, but for the padding of the last (MS-FSCC 2.7.1).
fn size_of(change: &Change) -> usize {
    change.name.wire_len().saturating_add(12).next_multiple_of(4)
}

impl Watch {
    fn has_news(&self) -> bool {
        self.overflowed || !self.changes.is_empty()
    }

    /// Keeps what happened, or forgets everything when that is too much.
    fn keep(&mut self, changes: Vec<Change>, kept_max: usize) {
        // A pending request's buffer is there for the answer, however small the first one's was.
        let pending = self.requests.front().map_or(0, |request| request.length.min(kept_max));
        let room = self.bytes_max.max(pending);
        for change in changes {
            let repeats = matches!(change.action, Action::MODIFIED | Action::MODIFIED_STREAM)
                && self.changes.back() == Some(&change);
            if self.overflowed || repeats {
                continue;
            }
            self.bytes = self.bytes.saturating_add(size_of(&change));
            self.changes.push_back(change);
            // The last entry is not padded.
            if self.bytes.saturating_sub(3) > room {
                self.forget();
            }
        }
    }

    fn forget(&mut self) {
        self.overflowed = true;
        self.changes.clear();
        self.bytes = 0;
    }

    /// Everything that happened, for a request with this much room.
    fn take(&mut self, length: usize) -> (NtStatus, Body) {
        let changes = std::mem::take(&mut self.changes);
        self.bytes = 0;
        let mut writer = NotifyWriter::new(length);
        let whole = !std::mem::take(&mut self.overflowed)
            && changes.iter().all(|change| writer.push(change.action, change.name.units()));
        if whole {
            (NtStatus::SUCCESS, Body::Notify(writer.finish()))
        } else {
            (NtStatus::NOTIFY_ENUM_DIR, Body::Notify(Vec::new()))
        }
    }
}

/// How a request ends when its watch does.
fn ended(status: NtStatus) -> Body {
    if status.is_error() { Body::Error } else { Body::Notify(Vec::new()) }
}

impl Shard {
    /// CHANGE_NOTIFY.
    pub(crate) fn on_change_notify(
        &mut self,
        request: &OpenRequest,
        notify: &change_notify::Request,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        if notify.output_buffer_length > request.execution.terms.io_size_max {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let open = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        if !open.is_directory() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        open.check_any(AccessMask::LIST_DIRECTORY)?;
        // Open.ChangeNotifyDirectoryMarkedDeleted is set from the start (MS-FSA 2.1.5.1.1, 2.1.5.1.2).
        if open.options.contains(CreateOptions::DELETE_ON_CLOSE) {
            return Err(NtStatus::DELETE_PENDING);
        }
        let pending = Pending { origin: request.origin, length: notify.output_buffer_length as usize };
        let last = request.execution.last;
        match self.watching.watches.get_mut(&request.open) {
            Some(watch) => {
                if let Stage::Ended(status) = watch.stage {
                    return Err(status);
                }
                if !last && !watch.has_news() {
                    // It may not wait in the middle of a compound (3.3.5.2.7).
                    return Err(NtStatus::INTERNAL_ERROR);
                }
                watch.requests.push_back(pending);
                let waits = watch.stage == Stage::Watching && !watch.has_news();
                if waits {
                    tell_waiting(&pending, turn);
                } else {
                    self.answer_notifies(request.open, turn);
                }
            }
            None if last => self.begin_watch(request, notify, pending, turn)?,
            None => return Err(NtStatus::INTERNAL_ERROR),
        }
        Ok(())
    }

    fn begin_watch(
        &mut self,
        request: &OpenRequest,
        notify: &change_notify::Request,
        pending: Pending,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let limits = self.limits;
        let watches = &mut self.watching.watches;
        let session = request.origin.session;
        let of_session = watches.values().filter(|watch| watch.watcher.session == session).count();
        if of_session >= limits.watches_per_session_max as usize {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        let open = self.opens.get_mut(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        // Making it known is not the request: the next CHANGE_NOTIFY may be another's.
        open.outstanding.begin(Ticket::UNCOUNTED);
        let tree = notify.flags.contains(ChangeNotifyFlags::WATCH_TREE).then(|| open.path.folded());
        let filter = notify.completion_filter.masked(CompletionFilter::VALID_MASK);
        let directory = open.file.number;
        let watch = Watch {
            watcher: Watcher { open: request.open, session, directory, tree, filter },
            volume: open.volume(),
            stage: Stage::Registering,
            bytes_max: pending.length.min(limits.notify_bytes_max as usize),
            requests: VecDeque::from([pending]),
            changes: VecDeque::new(),
            bytes: 0,
            overflowed: false,
            listening: false,
        };
        watches.insert(request.open, watch);
        self.tell_next_shard(Registering { open: request.open, told: 0 }, turn);
        Ok(())
    }

    fn tell_next_shard(&mut self, registering: Registering, turn: &mut Turn<'_>) {
        let Some(watch) = self.watching.watches.get(&registering.open) else { return };
        let (watcher, volume) = (watch.watcher.clone(), watch.volume);
        if registering.told < self.config.shards.max(1) {
            let asker = self.wait(Wait::Watch(registering));
            let message = Message::Watch { volume, watcher, asker };
            return turn.post(Address::Shard(ShardId(registering.told)), message);
        }
        // Asked last: a delete that became pending before this was not told to this watch.
        let Some(file) = self.opens.get(&registering.open).map(|open| open.file) else { return };
        let asker = self.wait(Wait::Watch(registering));
        let ask = FileAsk::IsPending { open: registering.open };
        turn.post(Address::File(file), Message::AskFile(ask, asker));
    }

    /// A shard, or at last the file, answered a watch that is being made known.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an answer to another question is a bug, whichever it is"
    )]
    pub(crate) fn on_watch_answer(
        &mut self,
        mut registering: Registering,
        answer: &Answer,
        turn: &mut Turn<'_>,
    ) {
        let open = registering.open;
        let end = match answer {
            Answer::Granted => {
                registering.told += 1;
                None
            }
            Answer::Pending(false) => {
                return self.watch_is_known(registering, turn);
            }
            Answer::Pending(true) => Some(NtStatus::DELETE_PENDING),
            Answer::Refused(status) => Some(*status),
            _ => Some(NtStatus::INTERNAL_ERROR),
        };
        if let Some(status) = end {
            self.end_watch(open, status, turn);
        }
        let over =
            self.watching.watches.get(&open).is_none_or(|watch| matches!(watch.stage, Stage::Ended(_)));
        if over {
            self.forget_watch(registering, turn);
        } else {
            self.tell_next_shard(registering, turn);
        }
    }

    fn watch_is_known(&mut self, registering: Registering, turn: &mut Turn<'_>) {
        let Some(watch) = self.watching.watches.get_mut(&registering.open) else { return };
        if matches!(watch.stage, Stage::Ended(_)) {
            return self.forget_watch(registering, turn);
        }
        let first = watch.requests.front().map(|pending| pending.origin);
        if !self.begin_listening(registering.open, first, turn) {
            self.watch_is_heard(registering.open, turn);
        }
    }

    /// Nothing is missed any more: whoever waits is told that he does.
    fn watch_is_heard(&mut self, open: OpenId, turn: &mut Turn<'_>) {
        let Some(watch) = self.watching.watches.get_mut(&open) else { return };
        match watch.stage {
            Stage::Registering => {
                watch.stage = Stage::Watching;
                watch.requests.iter().for_each(|pending| tell_waiting(pending, turn));
                self.outstanding_done(open, Ticket::UNCOUNTED, turn);
            }
            Stage::Ended(_) => {
                self.end_listening(open, turn);
                let told = self.config.shards.max(1);
                self.forget_watch(Registering { open, told }, turn);
            }
            Stage::Watching => {}
        }
    }

    /// A watch ended before every shard knew of it.
    fn forget_watch(&mut self, registering: Registering, turn: &mut Turn<'_>) {
        if let Some(watch) = self.watching.watches.remove(&registering.open) {
            debug_assert!(watch.requests.is_empty(), "its requests were answered when it ended");
            let (volume, open) = (watch.volume, registering.open);
            for shard in 0..registering.told {
                turn.post(Address::Shard(ShardId(shard)), Message::Unwatch { volume, open });
            }
        }
        self.outstanding_done(registering.open, Ticket::UNCOUNTED, turn);
    }

    /// An open's watch ends: its open closes (NOTIFY_CLEANUP), or its directory is deleted (DELETE_PENDING).
    pub(crate) fn end_watch(&mut self, open: OpenId, status: NtStatus, turn: &mut Turn<'_>) {
        let Some(watch) = self.watching.watches.get_mut(&open) else { return };
        let (requests, volume, stage) = (std::mem::take(&mut watch.requests), watch.volume, watch.stage);
        let file_id = self.opens.get(&open).map(|state| state.file_id(open));
        for Pending { origin, .. } in requests {
            turn.finish(Finished { origin, status, body: ended(status), open: file_id, spent: None });
        }
        match stage {
            Stage::Registering => watch.stage = Stage::Ended(status),
            Stage::Ended(_) => {}
            Stage::Watching => {
                self.end_listening(open, turn);
                self.watching.watches.remove(&open);
                for shard in 0..self.config.shards.max(1) {
                    turn.post(Address::Shard(ShardId(shard)), Message::Unwatch { volume, open });
                }
            }
        }
    }

    /// Something happened that an open watches.
    pub(crate) fn on_news(&mut self, open: OpenId, news: News, turn: &mut Turn<'_>) {
        let kept_max = self.limits.notify_bytes_max as usize;
        let Some(watch) = self.watching.watches.get_mut(&open) else { return };
        if matches!(watch.stage, Stage::Ended(_)) {
            return;
        }
        match news {
            News::Changed(changes) => {
                watch.keep(changes, kept_max);
                self.answer_notifies(open, turn);
            }
            News::Deleted => self.end_watch(open, NtStatus::DELETE_PENDING, turn),
        }
    }

    /// Answers the oldest request with everything that happened.
    fn answer_notifies(&mut self, open: OpenId, turn: &mut Turn<'_>) {
        let Some(watch) = self.watching.watches.get_mut(&open) else { return };
        if !watch.has_news() {
            return;
        }
        if let Some(Pending { origin, length }) = watch.requests.pop_front() {
            let (status, body) = watch.take(length);
            let file_id = self.opens.get(&open).map(|state| state.file_id(open));
            turn.finish(Finished { origin, status, body, open: file_id, spent: None });
        }
    }

    /// Gives up a request; the watch goes on.
    pub(crate) fn cancel_notify(
        &mut self,
        connection: ConnectionId,
        message: MessageId,
        status: NtStatus,
        turn: &mut Turn<'_>,
    ) {
        for (open, watch) in &mut self.watching.watches {
            let found = watch.requests.iter().position(|pending| {
                pending.origin.connection == connection && pending.origin.message == message
            });
            if let Some(Pending { origin, .. }) = found.and_then(|index| watch.requests.remove(index)) {
                let file_id = self.opens.get(open).map(|state| state.file_id(*open));
                turn.finish(Finished { origin, status, body: ended(status), open: file_id, spent: None });
            }
        }
    }

    /// A connection is gone: its requests must not take what the next ones are to be told.
    pub(crate) fn drop_notifies_of(&mut self, connection: ConnectionId) {
        for watch in self.watching.watches.values_mut() {
            watch.requests.retain(|pending| pending.origin.connection != connection);
        }
    }

    /// Another shard's open, or one of this shard's, watches a directory.
    pub(crate) fn on_watch(&mut self, volume: VolumeId, watcher: Watcher, asker: Asker, turn: &mut Turn<'_>) {
        let watchers = self.watching.volumes.entry(volume).or_default();
        if watchers.len() >= self.limits.watches_per_volume_max as usize {
            if watchers.is_empty() {
                self.watching.volumes.remove(&volume);
            }
            return turn.answer(asker, Answer::Refused(NtStatus::INSUFFICIENT_RESOURCES));
        }
        watchers.insert(watcher);
        turn.answer(asker, Answer::Granted);
    }

    /// An open watches no longer.
    pub(crate) fn on_unwatch(&mut self, volume: VolumeId, open: OpenId) {
        if let Some(watchers) = self.watching.volumes.get_mut(&volume) {
            watchers.remove(open);
            if watchers.is_empty() {
                self.watching.volumes.remove(&volume);
            }
        }
    }

    /// A directory has another path; both are folded.
    pub(crate) fn watched_directory_moved(&mut self, volume: VolumeId, old: &Name, new: &Name) {
        if let Some(watchers) = self.watching.volumes.get_mut(&volume) {
            watchers.moved(old, new);
        }
        for watch in self.watching.watches.values_mut().filter(|watch| watch.volume == volume) {
            if let Some(tree) = &mut watch.watcher.tree
                && tree == old
            {
                *tree = new.clone();
            }
        }
    }
}

fn tell_waiting(pending: &Pending, turn: &mut Turn<'_>) {
    let Origin { connection, message, .. } = pending.origin;
    turn.post(Address::Connection(connection), Message::Interim { message });
}

impl Watching {
    /// Watches of this shard's opens, and what it knows of everybody's.
    pub(crate) fn holdings(&self) -> (usize, usize) {
        (self.watches.len(), self.volumes.values().map(Watchers::len).sum())
    }

    /// What must hold between any two steps.
    pub(crate) fn check_invariants(&self, opens: &BTreeMap<OpenId, crate::open::Open>) {
        for (id, watch) in &self.watches {
            assert!(opens.contains_key(id), "a watch without its open");
            assert!(
                watch.requests.is_empty() || !watch.has_news(),
                "a request waits for what is there already"
            );
            assert!(!watch.overflowed || watch.changes.is_empty(), "what was forgotten is told nevertheless");
            let bytes: usize = watch.changes.iter().map(size_of).sum();
            assert_eq!(watch.bytes, bytes, "the bound counts what is kept");
        }
        for watchers in self.volumes.values() {
            assert!(!watchers.is_empty(), "a volume that nobody watches is kept");
            watchers.check_invariants();
        }
    }
}
