//! How a file answers what it is asked: what is judged, in which order, and what that leads to.

use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::{Name, NtStatus};

use super::ask::{Behind, Effect, FileAsk, Verdict, Waiting};
use super::caching::{BadAck, Breaks, CacheRequest, Cause, Want, is_look};
use super::lock::Access;
use super::permit::Permit;
use super::{File, Grant, Removal, share_mode};
use crate::ids::OpenId;
use crate::message::{Answer, Asker};

pub(super) fn push_breaks(breaks: Breaks, effects: &mut Vec<Effect>) {
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
    pub(super) fn reconsider(&mut self, effects: &mut Vec<Effect>) {
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
