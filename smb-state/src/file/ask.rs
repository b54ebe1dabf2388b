//! What a file is asked. An ask is answered once: at once, or when what it waits for has happened (a break was acknowledged, I/O
//! under way is done). Whoever waits holds no reservation, and can be withdrawn.

use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::create_context::{LeaseKey, LeaseState};
use smb_proto::{Name, NtStatus};

use super::caching::{BadAck, Breaks, CacheKey, CacheRequest, Cause, Notice, Want, is_look};
use super::lock::{Access, Lock, OnConflict, Range};
use super::permit::Permit;
use super::{File, Grant, Link, NewName, Removal, share_mode};
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
    fn behind(&self) -> Option<Behind> {
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
    fn releases(&self) -> bool {
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
    ask: FileAsk,
    asker: Asker,
    /// It waits, or waited, for a client: its request has an interim response, and an open starts again from its name.
    for_client: bool,
    /// It waits for I/O under way, and for nothing else.
    draining: bool,
    /// It waits, or waited, for a rename that gives the open's name to another file; it starts again from its name.
    renaming: bool,
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

fn push_breaks(breaks: Breaks, effects: &mut Vec<Effect>) {
    if breaks.is_empty() {
        return;
    }
    effects.extend(
        breaks.settled.into_iter().map(|(session, open, state)| Effect::Settled(session, open, state)),
    );
    effects.extend(breaks.ended.into_iter().map(Effect::Disarm));
    effects.extend(
        breaks.notices.into_iter().map(|(session, open, notice)| Effect::Tell(session, open, notice)),
    );
    effects.extend(breaks.begun.into_iter().map(Effect::Arm));
    effects.extend(breaks.lost.into_iter().map(Effect::Lose));
    effects.extend(breaks.behind.into_iter().map(Effect::Behind));
}

impl File {
    /// Takes an ask: answers it, or lets it wait.
    pub(super) fn take(&mut self, ask: FileAsk, asker: Asker, effects: &mut Vec<Effect>) {
        // The end of I/O lets go only on what waits for that.
        let io = matches!(ask, FileAsk::Done { .. } | FileAsk::Drained { .. });
        let releases = ask.releases() && (!io || self.draining().next().is_some());
        let waiting = Waiting { ask, asker, for_client: false, draining: false, renaming: false };
        if let Some(waiting) = self.consider(waiting, effects) {
            self.waiting.push_back(waiting);
        }
        if releases {
            self.reconsider(effects);
        }
        self.follow(effects);
    }

    /// Something happened that waiting asks may have waited for.
    fn reconsider(&mut self, effects: &mut Vec<Effect>) {
        for waiting in std::mem::take(&mut self.waiting) {
            if let Some(waiting) = self.consider(waiting, effects) {
                self.waiting.push_back(waiting);
            }
        }
    }

    /// Answers an ask; gives it back if it has to wait.
    fn consider(&mut self, mut waiting: Waiting, effects: &mut Vec<Effect>) -> Option<Waiting> {
        match self.judge(&waiting, effects) {
            Verdict::Answer(answer) => {
                effects.push(Effect::Answer(waiting.asker, answer));
                None
            }
            Verdict::Answered => None,
            Verdict::Break => {
                waiting.draining = false;
                if !std::mem::replace(&mut waiting.for_client, true) {
                    effects.extend(waiting.ask.behind().map(Effect::Interim));
                }
                Some(waiting)
            }
            Verdict::Drain => {
                waiting.draining = true;
                Some(waiting)
            }
            Verdict::Rename => {
                (waiting.draining, waiting.renaming) = (false, true);
                Some(waiting)
            }
        }
    }

    /// What waits for I/O under way alone, oldest first.
    pub(super) fn draining(&self) -> impl Iterator<Item = &FileAsk> {
        self.waiting.iter().filter(|waiting| waiting.draining).map(|waiting| &waiting.ask)
    }

    fn judge(&mut self, waiting: &Waiting, effects: &mut Vec<Effect>) -> Verdict {
        let Waiting { ask, for_client, renaming, .. } = waiting;
        match ask {
            // Nobody waits for a client while a name is replaced or removed, so this comes to an end.
            FileAsk::Open { grant, .. }
                if self.replacing.contains(&grant.link)
                    || self.exchanging.is_some()
                    || self.is_being_removed(grant) =>
            {
                Verdict::Rename
            }
            FileAsk::Open { .. } if *renaming => Verdict::Answer(Answer::Again),
            FileAsk::Open { open, grant, want, cause, .. } => {
                self.judge_open(*open, grant, *want, *cause, *for_client, effects)
            }
            FileAsk::Check { open, cause, access, holds, .. } => {
                self.judge_check(*open, *cause, *access, *holds, effects)
            }
            FileAsk::Lock { open, locks, on_conflict, most, .. } => {
                self.judge_lock(*open, locks, *on_conflict, *most, effects)
            }
            FileAsk::Dispose { open, delete, .. } => {
                let Some(grant) = self.grants.get(open).cloned() else {
                    return Verdict::Answer(Answer::Granted);
                };
                if *delete && self.breaks(&grant, Cause::Delete, effects) {
                    return Verdict::Break;
                }
                self.dispose_by(*open, &grant, *delete);
                Verdict::Answer(Answer::Granted)
            }
            FileAsk::Clear { .. } => {
                let mut breaks = Breaks::default();
                let waits = self.caching.clear(&mut breaks);
                push_breaks(breaks, effects);
                if waits { Verdict::Break } else { Verdict::Answer(Answer::Granted) }
            }
            FileAsk::CheckRename { open, behind } => self.judge_rename(*open, behind.is_some(), effects),
            FileAsk::AcknowledgeOplock { open, level } => {
                let Some(key) = self.grants.get(open).map(|grant| grant.key) else {
                    return Verdict::Answer(Answer::Refused(NtStatus::FILE_CLOSED));
                };
                let mut breaks = Breaks::default();
                let verdict = self.caching.acknowledge_oplock(key, *level, &mut breaks);
                let answer = match verdict {
                    Ok(level) => Answer::Acknowledged(level),
                    Err(BadAck::Unknown | BadAck::NotBreaking) => {
                        Answer::Refused(NtStatus::INVALID_DEVICE_STATE)
                    }
                    Err(BadAck::TooMuch) if *level == OplockLevel::LEASE => {
                        Answer::Refused(NtStatus::INVALID_PARAMETER)
                    }
                    Err(BadAck::TooMuch) => Answer::Refused(NtStatus::INVALID_OPLOCK_PROTOCOL),
                };
                let verdict = Self::acknowledged(waiting.asker, answer, breaks, effects);
                self.match_permit(*open, effects);
                verdict
            }
            FileAsk::AcknowledgeLease { key, state } => {
                let mut breaks = Breaks::default();
                let answer = match self.caching.acknowledge_lease(*key, *state, &mut breaks) {
                    Ok(state) => Answer::Kept(state),
                    Err(BadAck::Unknown) => Answer::Refused(NtStatus::OBJECT_NAME_NOT_FOUND),
                    Err(BadAck::NotBreaking) => Answer::Refused(NtStatus::UNSUCCESSFUL),
                    Err(BadAck::TooMuch) => Answer::Refused(NtStatus::REQUEST_NOT_ACCEPTED),
                };
                Self::acknowledged(waiting.asker, answer, breaks, effects)
            }
            FileAsk::EndStreamRename { open, stream, done } => {
                let keys = self.end_stream_rename(*open, stream, *done);
                self.tell_renamed(keys, *open, waiting.asker, effects)
            }
            FileAsk::Close { .. }
            | FileAsk::Abandon { .. }
            | FileAsk::KeepOnClose { .. }
            | FileAsk::Removed(_)
            | FileAsk::BeginStreamRename { .. }
            | FileAsk::IsPending { .. }
            | FileAsk::Renamed { .. }
            | FileAsk::CheckEntry { .. }
            | FileAsk::Replace { .. }
            | FileAsk::Replaced { .. }
            | FileAsk::Exchange { .. }
            | FileAsk::Exchanged { .. }
            | FileAsk::Done { .. }
            | FileAsk::Drained { .. }
            | FileAsk::EntryChanged { .. }
            | FileAsk::Unlock { .. }
            | FileAsk::GiveBack { .. }
            | FileAsk::Preserve { .. }
            | FileAsk::Reclaim { .. }
            | FileAsk::Cached { .. }
            | FileAsk::Hold { .. }
            | FileAsk::Restore { .. }
            | FileAsk::SayAgain { .. }
            | FileAsk::NotTold { .. }
            | FileAsk::Withdraw { .. } => Verdict::Answer(self.answer_at_once(ask, effects)),
        }
    }

    /// The acknowledgment's answer goes out before the next break of the same rights, and after opens that were granted
    /// meanwhile are known to have less.
    fn acknowledged(asker: Asker, answer: Answer, mut breaks: Breaks, effects: &mut Vec<Effect>) -> Verdict {
        let settled = std::mem::take(&mut breaks.settled);
        push_breaks(Breaks { settled, ..Breaks::default() }, effects);
        effects.push(Effect::Answer(asker, answer));
        push_breaks(breaks, effects);
        Verdict::Answered
    }

    fn answer_at_once(&mut self, ask: &FileAsk, effects: &mut Vec<Effect>) -> Answer {
        match ask {
            FileAsk::Close { open } => {
                self.release_caching(*open, effects);
                return Answer::Closed { remove: self.close(*open) };
            }
            FileAsk::Abandon { open } => {
                self.release_caching(*open, effects);
                self.grants.remove(open);
            }
            FileAsk::KeepOnClose { open } => {
                if let Some(grant) = self.grants.get_mut(open) {
                    grant.delete_on_close = false;
                }
            }
            FileAsk::Removed(Removal { link, stream }) => {
                if stream.is_empty() {
                    self.deletes.remove(link);
                    return Answer::Closed { remove: None };
                }
                self.stream_deletes.remove(stream);
                return Answer::Closed { remove: self.begin_link_removal(link) };
            }
            FileAsk::BeginStreamRename { open, stream } => {
                if let Err(status) = self.begin_stream_rename(*open, stream) {
                    return Answer::Refused(status);
                }
            }
            FileAsk::IsPending { open } => {
                return Answer::Pending(self.grants.get(open).is_some_and(|grant| self.is_pending(grant)));
            }
            FileAsk::CheckEntry { shares_delete } => {
                if !self.grants.values().all(|grant| share_mode::lets_names_in(grant, *shares_delete)) {
                    return Answer::Refused(NtStatus::SHARING_VIOLATION);
                }
            }
            FileAsk::Renamed { open, name } => self.rename(*open, name, effects),
            FileAsk::Replace { link } => {
                let open = self.grants.values().any(|grant| grant.link == *link);
                if open || self.deletes.contains_key(link) {
                    return Answer::Refused(NtStatus::ACCESS_DENIED);
                }
                if !self.replacing.insert(link.clone()) {
                    return Answer::Again;
                }
            }
            FileAsk::Replaced { link } => {
                self.replacing.remove(link);
            }
            FileAsk::Exchange { open } => {
                if let Err(status) = self.begin_exchange(*open) {
                    return Answer::Refused(status);
                }
            }
            FileAsk::Exchanged { open } => {
                self.exchanging.take_if(|by| by == open);
            }
            FileAsk::Done { open, access } => {
                if let Some(grant) = self.grants.get_mut(open) {
                    grant.is_done(*access);
                }
            }
            FileAsk::Drained { open } => {
                if let Some(grant) = self.grants.get_mut(open) {
                    grant.draining = grant.draining.saturating_sub(1);
                }
            }
            FileAsk::EntryChanged { by } => {
                let mut breaks = Breaks::default();
                self.caching.check(*by, &Name::default(), Cause::Entry, &mut breaks);
                push_breaks(breaks, effects);
            }
            FileAsk::Unlock { open, ranges } => return self.unlock(*open, ranges),
            FileAsk::GiveBack { open, locks } => self.give_back(*open, locks),
            FileAsk::Preserve { open } => return self.preserve(*open),
            FileAsk::Reclaim { open, session } => return self.reclaim(*open, *session),
            FileAsk::Cached { open } => return self.cached(*open),
            FileAsk::Hold { open } => return self.hold(*open),
            FileAsk::Restore { open, grant, held } => return self.restore(*open, grant, held),
            FileAsk::SayAgain { open } => {
                let notice = self.grants.get(open).and_then(|grant| self.caching.say_again(grant.key, *open));
                effects.extend(notice.map(|(session, open, notice)| Effect::Tell(session, open, notice)));
            }
            FileAsk::NotTold { open, session, key } => {
                let notice = self.caching.tell_another(*key, *open, *session);
                effects.extend(notice.map(|(session, open, notice)| Effect::Tell(session, open, notice)));
            }
            FileAsk::Withdraw { behind, status } => self.withdraw(*behind, *status, effects),
            FileAsk::Open { .. }
            | FileAsk::Check { .. }
            | FileAsk::Dispose { .. }
            | FileAsk::CheckRename { .. }
            | FileAsk::Clear { .. }
            | FileAsk::EndStreamRename { .. }
            | FileAsk::Lock { .. }
            | FileAsk::AcknowledgeOplock { .. }
            | FileAsk::AcknowledgeLease { .. } => {}
        }
        Answer::Granted
    }

    /// Breaks what others cache and `grant`'s open is about to spoil. Returns whether it has to wait.
    pub(super) fn breaks(&mut self, grant: &Grant, cause: Cause, effects: &mut Vec<Effect>) -> bool {
        let mut breaks = Breaks::default();
        let waits = self.caching.check(Some(grant.key), &grant.stream, cause, &mut breaks);
        push_breaks(breaks, effects);
        waits
    }

    /// An open: deletes, batch oplocks, share modes and what may ease them, oplocks and leases (MS-FSA 2.1.5.1.2), in this
    /// order. `again`: it has waited for a client, and starts again from its name.
    fn judge_open(
        &mut self,
        open: OpenId,
        grant: &Grant,
        want: Want,
        cause: Cause,
        again: bool,
        effects: &mut Vec<Effect>,
    ) -> Verdict {
        let mut breaks = Breaks::default();
        if self.is_kept_from(grant) {
            return Verdict::Answer(Answer::Refused(NtStatus::FILE_NOT_AVAILABLE));
        }
        let waits = match self.check_deletes(grant) {
            Err(status) => Err(status),
            Ok(()) if self.caching.check_batch(grant.key, &grant.stream, cause, &mut breaks) => Ok(true),
            Ok(()) => match self.check_share_modes(grant) {
                Ok(()) => {
                    let mut waits = self.caching.check(Some(grant.key), &grant.stream, cause, &mut breaks);
                    if grant.delete_on_close {
                        let key = Some(grant.key);
                        waits |= self.caching.check(key, &grant.stream, Cause::Delete, &mut breaks);
                    }
                    Ok(waits)
                }
                Err(status) => {
                    let eased =
                        self.caching.check(Some(grant.key), &grant.stream, Cause::ShareConflict, &mut breaks);
                    if eased { Ok(true) } else { Err(status) }
                }
            },
        };
        push_breaks(breaks, effects);
        match waits {
            Ok(true) => Verdict::Break,
            Ok(false) | Err(_) if again => Verdict::Answer(Answer::Again),
            Err(status) => Verdict::Answer(Answer::Refused(status)),
            Ok(false) => self.admit(open, grant, want, effects),
        }
    }

    /// Nothing is in an open's way but I/O that does not know of what it will cache.
    fn admit(&mut self, open: OpenId, grant: &Grant, want: Want, effects: &mut Vec<Effect>) -> Verdict {
        if want != Want::Nothing {
            let concerned = |other: &Grant| other.key != grant.key && other.stream == grant.stream;
            let allowed = |_: OpenId, other: &Grant| {
                if concerned(other) { Permit::READ } else { Permit::ALL }
            };
            let drained = self.restrict(allowed, effects);
            if !drained || self.grants.values().any(|other| concerned(other) && !other.in_flight.is_empty()) {
                return Verdict::Drain;
            }
        }
        let alone = !self
            .grants
            .values()
            .any(|other| other.key != grant.key && other.stream == grant.stream && !is_look(other.access));
        let request = CacheRequest {
            open,
            session: grant.session,
            key: grant.key,
            stream: &grant.stream,
            want,
            alone,
            deleted: self.is_pending(grant),
            locked: self.locks.any(&grant.stream),
        };
        let cached = self.caching.grant(&request);
        let permit = self.permit_to_give(open, grant);
        self.grants.insert(open, Grant { permit, ..grant.clone() });
        Verdict::Answer(Answer::Opened { cached, permit })
    }

    /// I/O without a permit: what others cache, then locks (MS-FSA 2.1.5.3, 2.1.5.4). It comes after what is about to be
    /// granted and waits only for I/O, which so comes to an end.
    fn judge_check(
        &mut self,
        open: OpenId,
        cause: Cause,
        access: Option<Access>,
        holds: bool,
        effects: &mut Vec<Effect>,
    ) -> Verdict {
        let Some(grant) = self.grants.get(&open).cloned() else {
            return Verdict::Answer(Answer::Refused(NtStatus::FILE_CLOSED));
        };
        if self.breaks(&grant, cause, effects) {
            return if holds { Verdict::Answer(Answer::Again) } else { Verdict::Break };
        }
        if access.is_some_and(|access| self.locks.blocks(open, &grant.stream, access)) {
            return Verdict::Answer(Answer::Refused(NtStatus::FILE_LOCK_CONFLICT));
        }
        let locked_soon = access.is_some_and(|access| self.is_about_to_be_refused(open, &grant, access));
        if !holds && (locked_soon || self.is_about_to_be_cached(&grant)) {
            return Verdict::Drain;
        }
        let give = self.permit_to_give(open, &grant);
        let Some(grant) = self.grants.get_mut(&open) else {
            return Verdict::Answer(Answer::Refused(NtStatus::FILE_CLOSED));
        };
        *grant.in_flight.entry(access).or_default() += 1;
        if grant.draining == 0 {
            grant.permit = give;
        }
        Verdict::Answer(Answer::Checked { permit: grant.permit })
    }

    fn judge_rename(&mut self, open: OpenId, may_wait: bool, effects: &mut Vec<Effect>) -> Verdict {
        let Some(grant) = self.grants.get(&open).cloned() else { return Verdict::Answer(Answer::Granted) };
        if self.is_pending(&grant) {
            return Verdict::Answer(Answer::Refused(NtStatus::DELETE_PENDING));
        }
        match self.breaks(&grant, Cause::Rename, effects) {
            true if may_wait => Verdict::Break,
            true => Verdict::Answer(Answer::Again),
            false => Verdict::Answer(Answer::Granted),
        }
    }

    fn release_caching(&mut self, open: OpenId, effects: &mut Vec<Effect>) {
        let Some(key) = self.grants.get(&open).map(|grant| grant.key) else { return };
        let mut breaks = Breaks::default();
        self.caching.close(key, open, &mut breaks);
        push_breaks(breaks, effects);
    }

    fn withdraw(&mut self, behind: Behind, status: NtStatus, effects: &mut Vec<Effect>) {
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.ask.behind() == Some(behind) {
                effects.push(Effect::Answer(waiting.asker, Answer::Refused(status)));
            } else {
                self.waiting.push_back(waiting);
            }
        }
    }
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
