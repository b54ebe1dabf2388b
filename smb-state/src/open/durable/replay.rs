//! CREATE that is sent again, because its answer was lost with a channel (MS-SMB2 3.3.5.9, 3.3.5.9.10).
//!
//! The client's machine knows which CreateGuids are taken, from the first request on (S24). A replay finds the open that the
//! first one made and is answered from it. While the first one still waits, for a break perhaps, the replay is told that the file is
//! not available: the client tries again, as it does with any request that is replayed too early (3.3.5.2.10). The specification
//! says nothing of that moment: it looks among opens, and there is none yet.
//!
//! So a CREATE with a CreateGuid goes on waiting when its channel is lost and its session is not.
//!
//! The open can be had this way until its client uses it: then the client has the answer.

use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::create_context::{LeaseKey, ResponseContext};

use super::super::State;
use super::Wish;
use super::reclaim::{finish_create, lease_context, response};
use crate::file::FileAsk;
use crate::ids::{OpenId, SessionId};
use crate::message::{Address, Answer, ClientAsk, KnownCreate, Message, Origin};
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Attributes, StorageOp, StorageReply};

/// A CREATE that is answered from the open that it made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Replaying {
    pub(crate) open: OpenId,
    pub(crate) origin: Origin,
    wish: Wish,
    attributes: Option<Attributes>,
}

/// What becomes of a CREATE whose CreateGuid is known.
pub(crate) enum Known {
    /// It is refused.
    Refused(NtStatus),
    /// The open is there to answer it.
    Replay(OpenId),
    /// The open is persistent, and its session gone: the client may have it.
    Reclaim(OpenId),
    /// The open can't be had this way any more; the client's machine knows that by now.
    Again,
}

impl Shard {
    /// Judges a CREATE whose CreateGuid is known.
    pub(crate) fn judge_known(
        &self,
        known: &KnownCreate,
        is_replay: bool,
        session: SessionId,
        lease: Option<LeaseKey>,
        persistent: bool,
    ) -> Known {
        if !is_replay {
            return Known::Refused(NtStatus::DUPLICATE_OBJECTID);
        }
        let who = self.sessions.get(&session).and_then(|session| session.identity.as_ref());
        if who != Some(&known.owner) {
            return Known::Refused(NtStatus::ACCESS_DENIED);
        }
        if known.session != session && persistent {
            return Known::Reclaim(known.open);
        }
        if known.session != session {
            return Known::Refused(NtStatus::DUPLICATE_OBJECTID);
        }
        match self.opens.get(&known.open) {
            Some(open) if open.state == State::Creating => Known::Refused(NtStatus::FILE_NOT_AVAILABLE),
            Some(open)
                if open.state == State::Ready && open.created.is_some_and(|created| created.replayable) =>
            {
                // The specification speaks of an open with a lease alone. One without has no lease to tell of either.
                if open.lease != lease {
                    Known::Refused(NtStatus::ACCESS_DENIED)
                } else {
                    Known::Replay(known.open)
                }
            }
            Some(_) | None => Known::Again,
        }
    }

    /// Answers a CREATE from the open that it made before. What the open caches the file tells last: breaks that came before are in
    /// that, and are said again, since the client did not know what they were about.
    pub(crate) fn replay_create(&mut self, id: OpenId, origin: Origin, wish: Wish, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get_mut(&id) else { return };
        open.outstanding.begin(origin.ticket);
        let (handle, requester) = (open.handle, open.requester(&origin));
        let replaying = Replaying { open: id, origin, wish, attributes: None };
        self.submit(requester, StorageOp::Attributes { handle }, Wait::Replay(Box::new(replaying)), turn);
    }

    /// Storage told the attributes.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an answer to another question is a bug, whichever it is"
    )]
    pub(crate) fn on_replay_attributes(
        &mut self,
        replaying: Replaying,
        reply: StorageReply,
        turn: &mut Turn<'_>,
    ) {
        let Replaying { open: id, origin, .. } = replaying;
        let status = match reply {
            StorageReply::Attributes(attributes) => {
                let Some(open) = self.opens.get(&id) else { return };
                let file = open.file;
                let asker = self
                    .wait(Wait::Replay(Box::new(Replaying { attributes: Some(attributes), ..replaying })));
                return turn.post(Address::File(file), Message::AskFile(FileAsk::Cached { open: id }, asker));
            }
            StorageReply::Failed(status) => status,
            _ => NtStatus::INTERNAL_ERROR,
        };
        self.refuse_create(origin, status, turn);
        self.outstanding_done(id, origin.ticket, turn);
    }

    /// The file told what the open caches: the client is answered.
    pub(crate) fn on_replayed(&mut self, replaying: Replaying, answer: &Answer, turn: &mut Turn<'_>) {
        let Replaying { open: id, origin, wish, attributes } = replaying;
        let Some(open) = self.opens.get(&id) else { return };
        if let (Some(attributes), Answer::Opened { cached, .. }, Some(created)) =
            (attributes, answer, open.created)
        {
            let (file, file_id) = (open.file, open.file_id(id));
            let mut contexts: Vec<ResponseContext> = lease_context(open.lease, *cached).into_iter().collect();
            contexts.extend(wish.response(open.durable.as_deref()));
            let response = response(file_id, created.action, *cached, contexts, &attributes);
            finish_create(origin, file_id, response, turn);
            turn.post(Address::File(file), Message::AskFile(FileAsk::SayAgain { open: id }, self.nobody()));
        } else {
            self.refuse_create(origin, NtStatus::FILE_CLOSED, turn);
        }
        self.outstanding_done(id, origin.ticket, turn);
    }

    /// An open is used, or goes: its CREATE can't be replayed any more.
    pub(crate) fn end_replay(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get_mut(&id) else { return };
        let (Some(client), Some(created)) = (open.client, open.created.as_mut()) else { return };
        if std::mem::take(&mut created.replayable) {
            let ask = ClientAsk::EndCreate { guid: created.guid, open: id };
            turn.post(Address::Client(client), Message::AskClient(ask, self.nobody()));
        }
    }
}

/// Whether a CREATE with these rights is worth knowing (3.3.5.9.10).
pub(crate) fn is_replayable(access: AccessMask) -> bool {
    access.intersects(
        AccessMask::READ_DATA
            .with(AccessMask::EXECUTE)
            .with(AccessMask::WRITE_DATA)
            .with(AccessMask::APPEND_DATA)
            .with(AccessMask::DELETE),
    )
}
