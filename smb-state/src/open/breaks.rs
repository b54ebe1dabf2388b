//! Breaks of oplocks and leases on their way to the client, and their acknowledgments back (MS-SMB2 3.3.4.6, 3.3.4.7, 3.3.5.22).

use smb_proto::NtStatus;
use smb_proto::command::oplock_break::{
    Acknowledgment, LeaseBreak, LeaseBreakFlags, LeaseBreakNotification, Notification as Message223,
    OplockBreak, Response,
};
use smb_proto::create_context::{LeaseKey, LeaseState};

use super::State;
use crate::file::FileAsk;
use crate::file::caching::{CacheKey, Notice};
use crate::ids::{ConnectionId, FileKey, OpenId, SessionId};
use crate::message::{Address, Answer, ClientAsk, Execution, Finished, Message, Origin};
use crate::request::Command;
use crate::response::{Body, Notification};
use crate::shard::{Shard, Turn, Wait};

/// An acknowledgment that is with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Acknowledging {
    origin: Origin,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    Oplock(OpenId),
    /// The client's machine was asked for the file.
    FindLease([u8; 16], LeaseKey, LeaseState),
    Lease(LeaseKey),
}

impl Shard {
    /// A file breaks what an open caches. Held back while an answer to CREATE that carries the same grant is on its way (S32);
    /// but not while a CREATE only waits for its grant: it may wait for whoever waits for this break (L5).
    pub(crate) fn on_break(
        &mut self,
        session: SessionId,
        id: OpenId,
        file: FileKey,
        notice: Notice,
        turn: &mut Turn<'_>,
    ) {
        if !self.pass_break_on(session, id, file, notice, turn)
            && let Notice::Lease { key, acknowledge: false, .. } = notice
        {
            let ask = FileAsk::NotTold { open: id, session, key };
            turn.post(Address::File(file), Message::AskFile(ask, self.nobody()));
        }
    }

    /// Returns whether the client is told, or will be.
    fn pass_break_on(
        &mut self,
        session: SessionId,
        id: OpenId,
        file: FileKey,
        notice: Notice,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Some(session) = self.sessions.get(&session) else { return false };
        let granted = |id: &OpenId| self.opens.get(id).filter(|open| open.is_granted());
        let concerned = |other: &OpenId| match notice {
            Notice::Oplock(_) => *other == id && granted(other).is_some(),
            // The open that was named may be gone; the lease is that of all who share it.
            Notice::Lease { key, .. } => granted(other).is_some_and(|open| open.lease == Some(key)),
        };
        let concerned: Vec<OpenId> = session.opens.iter().copied().filter(concerned).collect();
        let named = concerned.iter().find(|other| **other == id).or(concerned.first()).copied();
        let unanswered = concerned
            .into_iter()
            .find(|other| self.opens.get(other).is_some_and(|open| open.state == State::Creating));
        if let Some(open) = unanswered.and_then(|other| self.opens.get_mut(&other)) {
            open.held_breaks.push((id, file, notice));
            true
        } else {
            named.is_some_and(|named| self.tell_break(named, notice, turn))
        }
    }

    /// The break of a lease has ended that an open joined meanwhile: what its CREATE is answered is what is held then, not what
    /// was held when the file granted it (S32).
    pub(crate) fn on_settled(&mut self, id: OpenId, state: LeaseState) {
        if let Some(open) =
            self.opens.get_mut(&id).filter(|open| open.state == State::Creating && open.granted)
        {
            open.settled = Some(state);
        }
    }

    /// A CREATE was answered: breaks that came meanwhile go out.
    pub(crate) fn tell_held_breaks(
        &mut self,
        session: SessionId,
        held: Vec<(OpenId, FileKey, Notice)>,
        turn: &mut Turn<'_>,
    ) {
        for (open, file, notice) in held {
            self.on_break(session, open, file, notice, turn);
        }
    }

    /// A CREATE that was granted ends without its client hearing of it: of the breaks that came meanwhile only those of a lease
    /// that other opens share concern anybody.
    pub(crate) fn lose_grant(&mut self, session: SessionId, id: OpenId, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get_mut(&id) else { return };
        (open.granted, open.settled) = (false, None);
        let held = std::mem::take(&mut open.held_breaks);
        self.tell_held_breaks(session, held, turn);
    }

    /// Returns whether there is a way to tell it.
    fn tell_break(&mut self, id: OpenId, notice: Notice, turn: &mut Turn<'_>) -> bool {
        let Some(open) = self.opens.get(&id) else { return false };
        let Some(session) = self.sessions.get(&open.session) else { return false };
        // Any channel will do (3.3.4.1.6).
        let Some(connection) = session.channels.keys().next().copied() else { return false };
        let encrypted = session.encrypt || session.trees.get(&open.tree).is_some_and(|tree| tree.encrypted);
        let sealed = encrypted.then_some(open.session);
        let notification = match notice {
            Notice::Oplock(oplock_level) => Notification {
                session: open.session,
                sealed,
                body: Message223::Oplock(OplockBreak { oplock_level, file_id: open.file_id(id) }),
            },
            Notice::Lease { key, from, to, acknowledge, epoch } => Notification {
                session: SessionId(0),
                sealed,
                body: Message223::Lease(LeaseBreakNotification {
                    new_epoch: epoch,
                    flags: if acknowledge { LeaseBreakFlags::ACK_REQUIRED } else { LeaseBreakFlags::EMPTY },
                    lease_key: key,
                    current_state: from,
                    new_state: to,
                }),
            },
        };
        if let Some(open) = self.opens.get_mut(&id) {
            open.break_told = Some(connection);
        }
        turn.post(Address::Connection(connection), Message::Notify(notification));
        true
    }

    /// A channel is lost while its session goes on: a break that was told there may not have arrived (S35). Its file knows
    /// whether it still waits for the acknowledgment.
    pub(crate) fn tell_breaks_again(&mut self, session: SessionId, lost: ConnectionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get(&session) else { return };
        for id in &session.opens {
            let told = self.opens.get(id).filter(|open| open.break_told == Some(lost));
            if let Some(open) = told {
                let ask = FileAsk::SayAgain { open: *id };
                turn.post(Address::File(open.file), Message::AskFile(ask, self.nobody()));
            }
        }
    }

    /// OPLOCK_BREAK: the client acknowledges.
    pub(crate) fn on_acknowledgment(&mut self, origin: Origin, execution: &Execution, turn: &mut Turn<'_>) {
        let Command::OplockBreak(acknowledgment) = &execution.request.command else { return };
        let verdict = match acknowledgment {
            Acknowledgment::Oplock(oplock) => self.acknowledge_oplock(origin, oplock, turn),
            Acknowledgment::Lease(lease) => self.acknowledge_lease(origin, lease, turn),
        };
        if let Err(status) = verdict {
            turn.finish(Finished { origin, status, body: Body::Error, open: None, spent: None });
        }
    }

    fn acknowledge_oplock(
        &mut self,
        origin: Origin,
        oplock: &OplockBreak,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let id = OpenId(oplock.file_id.persistent);
        let open = self
            .opens
            .get(&id)
            .filter(|open| {
                open.volatile == oplock.file_id.volatile
                    && open.session == origin.session
                    && open.state == State::Ready
            })
            .ok_or(NtStatus::FILE_CLOSED)?;
        if open.lease.is_some() {
            return Err(NtStatus::INVALID_DEVICE_STATE);
        }
        let ask = FileAsk::AcknowledgeOplock { open: id, level: oplock.oplock_level };
        let file = open.file;
        let asker = self.wait(Wait::Acknowledge(Acknowledging { origin, what: What::Oplock(id) }));
        turn.post(Address::File(file), Message::AskFile(ask, asker));
        Ok(())
    }

    /// The file of a lease is known to the client's machine (3.3.5.22.2).
    fn acknowledge_lease(
        &mut self,
        origin: Origin,
        lease: &LeaseBreak,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let session = self.sessions.get(&origin.session).ok_or(NtStatus::USER_SESSION_DELETED)?;
        let client = session.client.ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
        let (key, state) = (lease.lease_key, lease.lease_state);
        let what = What::FindLease(client, key, state);
        let asker = self.wait(Wait::Acknowledge(Acknowledging { origin, what }));
        turn.post(Address::Client(client), Message::AskClient(ClientAsk::Leased(key), asker));
        Ok(())
    }

    /// A machine answered an acknowledgment.
    pub(crate) fn on_acknowledgment_answer(
        &mut self,
        acknowledging: Acknowledging,
        answer: &Answer,
        turn: &mut Turn<'_>,
    ) {
        let Acknowledging { origin, what } = acknowledging;
        let (status, body) = match (what, answer) {
            (What::FindLease(client, key, state), Answer::LeasedFile(Some(file))) => {
                let ask = FileAsk::AcknowledgeLease { key: CacheKey::Lease(client, key), state };
                let asker = self.wait(Wait::Acknowledge(Acknowledging { origin, what: What::Lease(key) }));
                return turn.post(Address::File(*file), Message::AskFile(ask, asker));
            }
            (What::FindLease(..), Answer::LeasedFile(None)) => (NtStatus::OBJECT_NAME_NOT_FOUND, Body::Error),
            (What::Oplock(id), Answer::Acknowledged(oplock_level)) => {
                let file_id = self.opens.get(&id).map(|open| open.file_id(id)).unwrap_or_default();
                let response = Response::Oplock(OplockBreak { oplock_level: *oplock_level, file_id });
                (NtStatus::SUCCESS, Body::OplockBreak(response))
            }
            (What::Lease(lease_key), Answer::Kept(lease_state)) => {
                let response = Response::Lease(LeaseBreak { lease_key, lease_state: *lease_state });
                (NtStatus::SUCCESS, Body::OplockBreak(response))
            }
            (_, Answer::Refused(status)) => (*status, Body::Error),
            (_, _) => (NtStatus::INTERNAL_ERROR, Body::Error),
        };
        turn.finish(Finished { origin, status, body, open: None, spent: None });
    }
}
