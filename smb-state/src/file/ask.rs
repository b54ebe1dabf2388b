//! What a file is asked. An ask is answered once: at once, or when what it waits for has happened (a break was acknowledged, I/O
//! under way is done). Whoever waits holds no reservation, and can be withdrawn.

use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::create_context::{LeaseKey, LeaseState};
use smb_proto::{Name, NtStatus};

use super::caching::{Breaks, CacheKey, Cause, Notice, Want};
use super::judge::push_breaks;
use super::lock::{Access, Lock, OnConflict, Range};
use super::permit::Permit;
use super::{File, Grant, Link, NewName, Removal};
use crate::ids::{ConnectionId, FileKey, MessageId, OpenId, SessionId};
use crate::message::{Address, Answer, Asker, ClientAsk, Message};
use crate::record::Held;
use crate::shard::{Shard, Turn};
use crate::timer::Timer;

/// The request behind an ask: who is told when it waits, and who may withdraw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Behind {
    /// Where it came from.
    pub connection: ConnectionId,
    /// Which it is.
    pub message: MessageId,
}

/// What a file is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FileAsk {
    /// Open it. [`Answer::Opened`]; refused with SHARING_VIOLATION or DELETE_PENDING; [`Answer::Again`] after a break, and
    /// after a rename that gave its name to another file.
    Open {
        /// The open.
        open: OpenId,
        /// What it wants to do.
        grant: Box<Grant>,
        /// What it wants to cache.
        want: Want,
        /// What its CREATE does.
        cause: Cause,
        /// The CREATE.
        behind: Behind,
    },
    /// Close an open. [`Answer::Closed`]; when it says to remove, tell the file [`FileAsk::Removed`] afterwards.
    Close {
        /// The open.
        open: OpenId,
    },
    /// An open that was granted is not made after all: forgotten, without what a close would lead to.
    Abandon {
        /// The open.
        open: OpenId,
    },
    /// An open that deletes on close does not, after all: the directory has entries. Granted.
    KeepOnClose {
        /// The open.
        open: OpenId,
    },
    /// What the last close had to remove is removed, or could not be. [`Answer::Closed`]: with a stream gone, it may be the
    /// link's turn.
    Removed(Removal),
    /// Set or clear the delete disposition of an open's link or stream. Granted.
    Dispose {
        /// The open.
        open: OpenId,
        /// Whether to delete.
        delete: bool,
        /// The request.
        behind: Behind,
    },
    /// Whether the delete of an open's link or stream is pending. [`Answer::Pending`].
    IsPending {
        /// The open.
        open: OpenId,
    },
    /// The link of an open is about to get another name. Granted, or refused while its delete is pending. `behind` is absent
    /// from whoever holds something and must not wait: it is answered [`Answer::Again`].
    CheckRename {
        /// The open.
        open: OpenId,
        /// The request.
        behind: Option<Behind>,
    },
    /// The link of an open has another name now. Granted.
    Renamed {
        /// The open.
        open: OpenId,
        /// The name.
        name: Box<NewName>,
    },
    /// The stream of an open is about to get another name, folded. Granted, or refused; when granted, the end is told.
    BeginStreamRename {
        /// The open.
        open: OpenId,
        /// The name.
        stream: Name,
    },
    /// The stream of an open has another name now, or could not get it. Granted, when the client of its lease knows.
    EndStreamRename {
        /// The open.
        open: OpenId,
        /// The name.
        stream: Name,
        /// It has it.
        done: bool,
    },
    /// A name is about to come into this directory by a rename, which uses it as an open of it would. Granted, or refused
    /// with SHARING_VIOLATION.
    CheckEntry {
        /// That open shares deletion.
        shares_delete: bool,
    },
    /// A link is to be replaced by another file. Granted when nobody has it open; undone by [`FileAsk::Replaced`].
    Replace {
        /// The link.
        link: Link,
    },
    /// The replacement is done or was given up.
    Replaced {
        /// The link.
        link: Link,
    },
    /// Another object is about to take the place of this one. Granted when no other open has it, whatever for, else refused with
    /// SHARING_VIOLATION; undone by [`FileAsk::Exchanged`]. Whoever opens it meanwhile waits.
    Exchange {
        /// The open.
        open: OpenId,
    },
    /// It took the place, or could not.
    Exchanged {
        /// The open.
        open: OpenId,
    },
    /// An open without a permit wants to do this. [`Answer::Checked`], and the file is told [`FileAsk::Done`] afterwards; or
    /// refused with FILE_LOCK_CONFLICT; or [`Answer::Again`] if it would have to wait for a client and must not.
    Check {
        /// The open.
        open: OpenId,
        /// What it does.
        cause: Cause,
        /// The bytes, where locks may be in the way.
        access: Option<Access>,
        /// The request has something else under way that was checked: it must not wait for what may wait for that, nor for a
        /// client (S63).
        holds: bool,
        /// The request.
        behind: Behind,
    },
    /// What was checked is done.
    Done {
        /// The open.
        open: OpenId,
        /// As it was checked.
        access: Option<Access>,
    },
    /// Lock ranges of an open's stream: all or none. Granted, or refused: as said on a conflict, or with
    /// INSUFFICIENT_RESOURCES.
    Lock {
        /// The open.
        open: OpenId,
        /// In this order.
        locks: Vec<Lock>,
        /// What to do about a conflict.
        on_conflict: OnConflict,
        /// Locks that an open may have.
        most: u32,
        /// The request.
        behind: Behind,
    },
    /// Unlock ranges of an open's stream. Granted, or refused with RANGE_NOT_LOCKED at the first that is not locked.
    Unlock {
        /// The open.
        open: OpenId,
        /// In this order.
        ranges: Vec<Range>,
    },
    /// Locks that an open was granted it is not to have after all. Granted.
    GiveBack {
        /// The open.
        open: OpenId,
        /// The locks.
        locks: Vec<Lock>,
    },
    /// Nothing is under way any more under the permit that was taken back.
    Drained {
        /// The open.
        open: OpenId,
    },
    /// The client acknowledges the break of an open's oplock. [`Answer::Acknowledged`] or refused.
    AcknowledgeOplock {
        /// The open.
        open: OpenId,
        /// The level that it keeps.
        level: OplockLevel,
    },
    /// The client acknowledges the break of a lease. [`Answer::Kept`] or refused.
    AcknowledgeLease {
        /// The lease.
        key: CacheKey,
        /// The rights that it keeps.
        state: LeaseState,
    },
    /// What this directory shows of its entries is another now. Not answered; breaks every lease of it but this key's.
    EntryChanged {
        /// The lease that whoever changed it holds.
        by: Option<CacheKey>,
    },
    /// A directory above is to be renamed: whoever keeps handles of this file, whatever stream, is asked to let go. Granted when
    /// nobody caches handles.
    Clear {
        /// The request.
        behind: Behind,
    },
    /// The client of an open is gone, and nothing of the open is under way: keep it for the client's return. Granted, or refused
    /// when what it caches does not allow that.
    Preserve {
        /// The open.
        open: OpenId,
    },
    /// The client of a preserved open is back. Granted; refused when the open was lost meanwhile.
    Reclaim {
        /// The open.
        open: OpenId,
        /// The session that has it from now on.
        session: SessionId,
    },
    /// What an open caches. [`Answer::Opened`].
    Cached {
        /// The open.
        open: OpenId,
    },
    /// What the record of a persistent open is to say. [`Answer::Held`].
    Hold {
        /// The open.
        open: OpenId,
    },
    /// A persistent open is there again after a start of the server. Granted, or refused if an earlier one is in its way.
    Restore {
        /// The open.
        open: OpenId,
        /// What it may do.
        grant: Box<Grant>,
        /// What its record says that the file kept of it.
        held: Box<Held>,
    },
    /// The session of an open has another channel: what it was told of a break may not have arrived (S35).
    SayAgain {
        /// The open.
        open: OpenId,
    },
    /// The break of a lease that is not acknowledged could not be told to the session of this open, which ends. Not answered; told to
    /// another session of the client, if it has one there.
    NotTold {
        /// The open.
        open: OpenId,
        /// Its session.
        session: SessionId,
        /// The lease.
        key: LeaseKey,
    },
    /// A request that may wait here is given up: if it waits, it is refused with this status.
    Withdraw {
        /// The request.
        behind: Behind,
        /// The status.
        status: NtStatus,
    },
}

impl FileAsk {
    pub(super) fn behind(&self) -> Option<Behind> {
        match self {
            Self::Open { behind, .. }
            | Self::Check { behind, .. }
            | Self::Dispose { behind, .. }
            | Self::Clear { behind }
            | Self::Lock { behind, .. } => Some(*behind),
            Self::CheckRename { behind, .. } => *behind,
            Self::Close { .. }
            | Self::Abandon { .. }
            | Self::KeepOnClose { .. }
            | Self::Removed(_)
            | Self::BeginStreamRename { .. }
            | Self::EndStreamRename { .. }
            | Self::IsPending { .. }
            | Self::Renamed { .. }
            | Self::CheckEntry { .. }
            | Self::Replace { .. }
            | Self::Replaced { .. }
            | Self::Exchange { .. }
            | Self::Exchanged { .. }
            | Self::Done { .. }
            | Self::Drained { .. }
            | Self::Unlock { .. }
            | Self::GiveBack { .. }
            | Self::AcknowledgeOplock { .. }
            | Self::AcknowledgeLease { .. }
            | Self::EntryChanged { .. }
            | Self::Preserve { .. }
            | Self::Reclaim { .. }
            | Self::Cached { .. }
            | Self::Hold { .. }
            | Self::Restore { .. }
            | Self::SayAgain { .. }
            | Self::NotTold { .. }
            | Self::Withdraw { .. } => None,
        }
    }

    /// Whether it may let go on what waits.
    pub(super) fn releases(&self) -> bool {
        match self {
            Self::Close { .. }
            | Self::Abandon { .. }
            | Self::KeepOnClose { .. }
            | Self::Removed(_)
            | Self::BeginStreamRename { .. }
            | Self::EndStreamRename { .. }
            | Self::Renamed { .. }
            | Self::Replaced { .. }
            | Self::Exchanged { .. }
            | Self::Done { .. }
            | Self::Drained { .. }
            | Self::Preserve { .. }
            | Self::Unlock { .. }
            | Self::GiveBack { .. }
            | Self::AcknowledgeOplock { .. }
            | Self::AcknowledgeLease { .. }
            | Self::Withdraw { .. } => true,
            Self::Open { .. }
            | Self::Dispose { .. }
            | Self::IsPending { .. }
            | Self::CheckRename { .. }
            | Self::CheckEntry { .. }
            | Self::Replace { .. }
            | Self::Exchange { .. }
            | Self::Check { .. }
            | Self::EntryChanged { .. }
            | Self::Lock { .. }
            | Self::Clear { .. }
            | Self::Reclaim { .. }
            | Self::Cached { .. }
            | Self::NotTold { .. }
            | Self::Hold { .. }
            | Self::Restore { .. }
            | Self::SayAgain { .. } => false,
        }
    }
}

/// An ask that waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    pub(super) ask: FileAsk,
    pub(super) asker: Asker,
    /// It waits, or waited, for a client: its request has an interim response, and an open starts again from its name.
    pub(super) for_client: bool,
    /// It waits for I/O under way, and for nothing else.
    pub(super) draining: bool,
    /// It waits, or waited, for a rename that gives the open's name to another file; it starts again from its name.
    pub(super) renaming: bool,
}

/// What an ask leads to, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    Answer(Asker, Answer),
    Tell(SessionId, OpenId, Notice),
    Settled(SessionId, OpenId, LeaseState),
    Restrict(SessionId, OpenId, Permit),
    Interim(Behind),
    Arm(u32),
    Disarm(u32),
    /// The stream of a client's lease has another name; whoever waits for that is answered.
    Renamed {
        client: [u8; 16],
        lease: LeaseKey,
        stream: Name,
        asker: Option<Asker>,
    },
    Lose(OpenId),
    /// An open's record is behind.
    Behind(OpenId),
    /// It is to be stored.
    Record(Box<super::Follow>),
    /// An open's name has changed by another open. Its session; none if it is preserved.
    Follow(OpenId, Option<SessionId>, Box<NewName>),
}

/// What becomes of an ask.
pub(super) enum Verdict {
    Answer(Answer),
    /// Its answer is among the effects already.
    Answered,
    /// It waits for a client.
    Break,
    /// It waits for I/O under way.
    Drain,
    /// It waits until a name is replaced, exchanged or removed.
    Rename,
}

impl Shard {
    /// A file is asked.
    pub(crate) fn on_ask_file(&mut self, key: FileKey, ask: FileAsk, asker: Asker, turn: &mut Turn<'_>) {
        let mut effects = Vec::new();
        self.files.entry(key).or_default().take(ask, asker, &mut effects);
        self.carry_out(key, effects, turn);
    }

    /// The time for an acknowledgment is over.
    pub(crate) fn on_break_timeout(&mut self, key: FileKey, number: u32, turn: &mut Turn<'_>) {
        let Some(file) = self.files.get_mut(&key) else { return };
        let (mut breaks, mut effects) = (Breaks::default(), Vec::new());
        file.caching.time_out(number, &mut breaks);
        push_breaks(breaks, &mut effects);
        file.reconsider(&mut effects);
        file.follow(&mut effects);
        self.carry_out(key, effects, turn);
    }

    pub(super) fn carry_out(&mut self, key: FileKey, effects: Vec<Effect>, turn: &mut Turn<'_>) {
        if self.files.get(&key).is_some_and(File::is_idle) {
            self.files.remove(&key);
        }
        for effect in effects {
            match effect {
                Effect::Answer(asker, answer) => turn.answer(asker, answer),
                #[cfg(feature = "seeded-faults")]
                Effect::Tell(_, open, notice) if self.forget_break(key, open, notice, turn) => {}
                Effect::Tell(session, open, notice) => {
                    turn.post(Address::Session(session), Message::Break { open, file: key, notice });
                }
                Effect::Settled(session, open, state) => {
                    turn.post(Address::Session(session), Message::Settled { open, state });
                }
                Effect::Restrict(session, open, permit) => {
                    turn.post(Address::Session(session), Message::Permit { open, permit });
                }
                Effect::Interim(Behind { connection, message }) => {
                    turn.post(Address::Connection(connection), Message::Interim { message });
                }
                Effect::Arm(number) => {
                    self.arm(Timer::BreakAcknowledgment(key, number), self.limits.break_timeout_ms, turn);
                }
                Effect::Disarm(number) => self.disarm(Timer::BreakAcknowledgment(key, number), turn),
                Effect::Renamed { client, lease, stream, asker } => {
                    let ask = ClientAsk::Renamed { key: lease, file: key, stream };
                    let asker = asker.unwrap_or_else(|| self.nobody());
                    turn.post(Address::Client(client), Message::AskClient(ask, asker));
                }
                Effect::Behind(_) => {}
                Effect::Record(follow) => self.have_followed(key, follow, turn),
                Effect::Lose(open) => turn.post(Address::Open(open), Message::Lost { open }),
                Effect::Follow(open, session, name) => {
                    let to = session.map_or(Address::Open(open), Address::Session);
                    turn.post(to, Message::Moved { open, name });
                }
            }
        }
    }
}
