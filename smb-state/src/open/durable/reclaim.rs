//! A client comes back for a preserved open (MS-SMB2 3.3.5.9.7, 3.3.5.9.12).
//!
//! The open's home checks what the client shows, then asks the file; then the open moves to the client's new session. Breaks that
//! reach the session before the open does are dropped there, and said again once the open has arrived.

use smb_proto::access::AccessMask;
use smb_proto::command::FileId;
use smb_proto::command::create::{CreateAction, CreateOptions, Response, ResponseFlags, ShareAccess};
use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::create_context::{
    DurableFlags, DurableReconnectV2, DurableRequestV2, LeaseFlags, LeaseKey, LeaseV1,
    LeaseV2 as WireLeaseV2, ResponseContext,
};
use smb_proto::fscc::name::StreamPath;
use smb_proto::{Name, NtStatus};

use super::super::channel_sequence::Outstanding;
use super::super::create::shown_path;
use super::super::{Open, State};
use super::{Reconnect, Wish, lease_of};
use crate::event::Identity;
use crate::file::FileAsk;
use crate::file::caching::{Cached, LeaseV2};
use crate::ids::{OpenId, SessionId, ShareId};
use crate::message::{Address, Answer, Asker, ClientAsk, Execution, Finished, Message, Origin};
use crate::request::Command;
use crate::response::Body;
use crate::session::Leaves;
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Attributes, StorageOp, StorageReply};
use crate::timer::Timer;

/// How long a client that comes back waits for its old session to end. Its old connection was closed before it made the new one;
/// another core may be about to read that.
const CLAIM_WAITS_MS: u64 = 500;

/// What a client shows that comes back for an open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    open: OpenId,
    who: Identity,
    client: Option<[u8; 16]>,
    session: SessionId,
    share: ShareId,
    /// The path, folded, if it is one.
    path: Option<Name>,
    /// The lease's key; whether it is of version 2.
    lease: Option<(LeaseKey, bool)>,
    reconnect: Reconnect,
    /// It is the CREATE of a persistent open, sent again: it must ask for the same.
    asks: Option<Asks>,
}

/// What a CREATE asks for, as far as one that is sent again must ask for the same (3.3.5.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asks {
    pub(crate) desired: AccessMask,
    pub(crate) share_access: ShareAccess,
    pub(crate) options: CreateOptions,
}

/// A CREATE that takes up an open again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Returning {
    pub(crate) open: OpenId,
    pub(crate) origin: Origin,
    attributes: Option<Attributes>,
    /// What it asks of durability: it is answered that too if it is the CREATE that made the open, sent again.
    wish: Wish,
}

impl Shard {
    /// CREATE that names an open to take up again.
    pub(crate) fn begin_reclaim(
        &mut self,
        origin: Origin,
        execution: &Execution,
        reconnect: Reconnect,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let Command::Create(request) = &execution.request.command else {
            return Err(NtStatus::INVALID_PARAMETER);
        };
        let session = self.sessions.get(&origin.session).ok_or(NtStatus::USER_SESSION_DELETED)?;
        let tree = session.trees.get(&origin.tree).ok_or(NtStatus::NETWORK_NAME_DELETED)?;
        let who = session.identity.clone().ok_or(NtStatus::ACCESS_DENIED)?;
        if tree.caps.pipes {
            return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
        }
        if session.opens.len() >= self.limits.opens_per_session_max as usize {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        let id = match reconnect {
            Reconnect::V1(file_id) => file_id.persistent,
            Reconnect::V2(wish) => wish.file_id.persistent,
        };
        let claim = Claim {
            open: OpenId(id),
            who,
            client: session.client,
            session: origin.session,
            share: tree.share,
            path: StreamPath::parse(request.name.units()).ok().map(|path| shown_path(&path).folded()),
            lease: lease_of(request, session.terms.dialect),
            reconnect,
            asks: None,
        };
        let sequence = execution.request.channel_sequence;
        let asker = self.wait(Wait::Reclaim(Box::new((claim.open, origin, sequence, Wish::Nothing))));
        turn.post(Address::Open(claim.open), Message::Reclaim { claim: Box::new(claim), asker });
        Ok(())
    }

    /// CREATE of a persistent open whose session is gone, sent again: its client never had the answer.
    pub(crate) fn reclaim_created(
        &mut self,
        (id, origin, sequence): (OpenId, Origin, u16),
        wish: DurableRequestV2,
        lease: Option<(LeaseKey, bool)>,
        asks: Asks,
        turn: &mut Turn<'_>,
    ) {
        let session = self.sessions.get(&origin.session);
        let known =
            session.and_then(|it| Some((it.client, it.identity.clone()?, it.trees.get(&origin.tree)?.share)));
        let Some((client, who, share)) = known else {
            return self.refuse_create(origin, NtStatus::USER_SESSION_DELETED, turn);
        };
        let file_id = FileId { persistent: id.0, volatile: u64::MAX };
        let reconnect = DurableReconnectV2 { file_id, create_guid: wish.create_guid, flags: wish.flags };
        let claim = Claim {
            open: id,
            who,
            client,
            session: origin.session,
            share,
            path: None,
            lease,
            reconnect: Reconnect::V2(reconnect),
            asks: Some(asks),
        };
        let asker = self.wait(Wait::Reclaim(Box::new((id, origin, sequence, Wish::V2(wish)))));
        turn.post(Address::Open(id), Message::Reclaim { claim: Box::new(claim), asker });
    }

    /// At the open's home: is it this client's? A client may come back before the server has noticed that it was gone: then it
    /// waits a moment.
    pub(crate) fn on_reclaim(&mut self, claim: Claim, asker: Asker, turn: &mut Turn<'_>) {
        if self.may_wait(&claim) {
            // One waits for an open: a client that came back twice is where it came last.
            self.end_claim(claim.open, turn);
            self.arm(Timer::Claim(claim.open), CLAIM_WAITS_MS, turn);
            self.claims.insert(claim.open, (claim, asker));
            return;
        }
        let found = self.opens.get_mut(&claim.open).filter(|open| open.state == State::Preserved);
        let verdict = found.ok_or(NtStatus::OBJECT_NAME_NOT_FOUND).and_then(|open| {
            claim.check(&Shown::of(open))?;
            open.state = State::Reclaiming;
            Ok(open.file)
        });
        match verdict {
            Ok(file) => {
                let ask = FileAsk::Reclaim { open: claim.open, session: claim.session };
                let wait = self.wait(Wait::Reclaiming(claim.open, asker));
                turn.post(Address::File(file), Message::AskFile(ask, wait));
            }
            Err(status) => turn.answer(asker, Answer::Refused(status)),
        }
    }

    /// Whether the open is this client's as far as can be told, but has a session still.
    fn may_wait(&self, claim: &Claim) -> bool {
        match self.opens.get(&claim.open) {
            Some(open) => match open.state {
                State::Creating | State::Ready | State::Leaving | State::Reclaiming => {
                    claim.check(&Shown::of(open)).is_ok()
                }
                State::Preserved | State::Closing(_) => false,
            },
            None => self.abroad.get(&claim.open).is_some_and(|shown| claim.check(shown).is_ok()),
        }
    }

    /// The old session goes on, or the open is closed: there is nothing to come back for.
    pub(crate) fn end_claim(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        if let Some((_, asker)) = self.claims.remove(&id) {
            self.disarm(Timer::Claim(id), turn);
            turn.answer(asker, Answer::Refused(NtStatus::OBJECT_NAME_NOT_FOUND));
        }
    }

    /// An open that may have been taken up again elsewhere is closed.
    pub(crate) fn open_is_gone_abroad(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        self.abroad.remove(&id);
        self.lost_early.remove(&id);
        self.end_claim(id, turn);
    }

    /// At the open's home: the file has answered.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an answer to another question is a bug, whichever it is"
    )]
    pub(crate) fn on_reclaim_checked(
        &mut self,
        id: OpenId,
        asker: Asker,
        answer: Answer,
        turn: &mut Turn<'_>,
    ) {
        let reclaiming = self.opens.get(&id).is_some_and(|open| open.state == State::Reclaiming);
        match answer {
            Answer::Granted if reclaiming => {
                if let Some(mut open) = self.opens.remove(&id) {
                    self.preserved_is_gone(id, open.durable.as_ref().map(|durable| &durable.owner), turn);
                    open.kept = false;
                    if asker.shard != self.id {
                        self.abroad.insert(id, Shown::of(&open));
                    }
                    turn.answer(asker, Answer::Reclaimed { open: Box::new(open) });
                }
            }
            _ => {
                // It was lost while the client came back, or closed by the operator.
                if let Some(open) = self.opens.get_mut(&id).filter(|open| open.state == State::Reclaiming) {
                    open.state = State::Preserved;
                    self.close_unasked(id, turn);
                }
                self.end_claim(id, turn);
                turn.answer(asker, Answer::Refused(NtStatus::OBJECT_NAME_NOT_FOUND));
            }
        }
    }

    /// The open arrives at its new session, or does not.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an answer to another question is a bug, whichever it is"
    )]
    pub(crate) fn on_reclaimed(
        &mut self,
        (id, origin, sequence, wish): (OpenId, Origin, u16, Wish),
        answer: Answer,
        turn: &mut Turn<'_>,
    ) {
        let mut open = match answer {
            Answer::Reclaimed { open } => *open,
            // Somebody is connected to it (3.3.5.9).
            Answer::Refused(NtStatus::OBJECT_NAME_NOT_FOUND) if wish.is_persistent() => {
                return self.refuse_create(origin, NtStatus::FILE_NOT_AVAILABLE, turn);
            }
            Answer::Refused(status) => return self.refuse_create(origin, status, turn),
            _ => return self.refuse_create(origin, NtStatus::INTERNAL_ERROR, turn),
        };
        let Some(session) = self.sessions.get_mut(&origin.session) else {
            // Back to where it came from: the file is asked again, since it thinks that the client is there.
            open.state = State::Leaving;
            self.opens.insert(id, open);
            self.ask_to_preserve(id, turn);
            return self.refuse_create(origin, NtStatus::USER_SESSION_DELETED, turn);
        };
        session.opens.insert(id);
        (open.session, open.tree) = (origin.session, origin.tree);
        open.volatile = self.open_ids.issue();
        open.state = State::Creating;
        open.granted = true;
        // Nothing is under way; its client counts from where it says.
        open.outstanding = Outstanding::new(sequence);
        let (handle, requester) = (open.handle, open.requester(&origin));
        if let (Some(client), Some(created)) =
            (open.client, open.created.filter(|created| created.replayable))
        {
            let ask = ClientAsk::MoveCreate { guid: created.guid, open: id, session: origin.session };
            turn.post(Address::Client(client), Message::AskClient(ask, self.nobody()));
        }
        self.opens.insert(id, open);
        let returning = Returning { open: id, origin, attributes: None, wish };
        self.submit(requester, StorageOp::Attributes { handle }, Wait::Returning(Box::new(returning)), turn);
    }

    /// Storage told the attributes. What the open caches the file tells last: breaks that came before are in that, and later ones
    /// come after the answer.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an answer to another question is a bug, whichever it is"
    )]
    pub(crate) fn on_returning(&mut self, returning: Returning, reply: StorageReply, turn: &mut Turn<'_>) {
        let Some(file) = self.opens.get(&returning.open).map(|open| open.file) else { return };
        let attributes = match reply {
            StorageReply::Attributes(attributes) => Some(attributes),
            StorageReply::Failed(status) => return self.fail_return(&returning, status, turn),
            _ => return self.fail_return(&returning, NtStatus::INTERNAL_ERROR, turn),
        };
        let ask = FileAsk::Cached { open: returning.open };
        let asker = self.wait(Wait::Returning(Box::new(Returning { attributes, ..returning })));
        turn.post(Address::File(file), Message::AskFile(ask, asker));
    }

    /// The file told what the open caches: the client is answered.
    pub(crate) fn on_returned(&mut self, returning: Returning, answer: &Answer, turn: &mut Turn<'_>) {
        let Returning { open: id, origin, .. } = returning;
        let Some(session) = self.sessions.get(&origin.session) else { return };
        if session.is_ending() {
            let leaves = session.leaves();
            self.refuse_create(origin, NtStatus::USER_SESSION_DELETED, turn);
            if let Some(open) = self.opens.get_mut(&id) {
                open.state = State::Ready;
            }
            return match leaves {
                Leaves::DurableOpens => self.leave_open(id, turn),
                Leaves::Nothing => self.close_unasked(id, turn),
            };
        }
        if session.tree_is_gone(origin.tree) {
            return self.fail_return(&returning, NtStatus::NETWORK_NAME_DELETED, turn);
        }
        let (Answer::Opened { cached, .. }, Some(attributes)) = (answer, returning.attributes) else {
            return self.fail_return(&returning, NtStatus::INTERNAL_ERROR, turn);
        };
        let Some(open) = self.opens.get_mut(&id) else { return };
        open.state = State::Ready;
        // The answer tells of them, or the file says them again.
        (open.held_breaks, open.settled) = (Vec::new(), None);
        let (file, file_id, key) = (open.file, open.file_id(id), open.lease);
        let mut contexts: Vec<ResponseContext> = lease_context(key, *cached).into_iter().collect();
        contexts.extend(returning.wish.response(open.durable.as_deref()));
        let made = open.created.filter(|_| returning.wish != Wish::Nothing);
        let action = made.map_or(CreateAction::OPENED, |created| created.action);
        let response = response(file_id, action, *cached, contexts, &attributes);
        finish_create(origin, file_id, response, turn);
        turn.post(Address::File(file), Message::AskFile(FileAsk::SayAgain { open: id }, self.nobody()));
    }

    /// The open can't be had after all, and goes. Breaks that came meanwhile concern others under its lease.
    fn fail_return(&mut self, returning: &Returning, status: NtStatus, turn: &mut Turn<'_>) {
        let Returning { open: id, origin, .. } = *returning;
        self.refuse_create(origin, status, turn);
        let Some(open) = self.opens.get_mut(&id) else { return };
        open.state = State::Ready;
        let held = std::mem::take(&mut open.held_breaks);
        self.close_unasked(id, turn);
        self.tell_held_breaks(origin.session, held, turn);
    }

    pub(crate) fn refuse_create(&self, origin: Origin, status: NtStatus, turn: &mut Turn<'_>) {
        turn.finish(Finished { origin, status, body: Body::Error, open: None, spent: None });
    }
}

/// Answers a CREATE.
pub(super) fn finish_create(origin: Origin, file_id: FileId, response: Response, turn: &mut Turn<'_>) {
    let (status, body) = (NtStatus::SUCCESS, Body::Create(Box::new(response)));
    turn.finish(Finished { origin, status, body, open: Some(file_id), spent: None });
}

/// The answer to a CREATE that made no open.
pub(super) fn response(
    file_id: FileId,
    create_action: CreateAction,
    cached: Cached,
    contexts: Vec<ResponseContext>,
    attributes: &Attributes,
) -> Response {
    Response {
        oplock_level: match cached {
            Cached::Oplock(level) => level,
            Cached::Lease { .. } => OplockLevel::LEASE,
        },
        flags: ResponseFlags::EMPTY,
        create_action,
        creation_time: attributes.creation,
        last_access_time: attributes.last_access,
        last_write_time: attributes.last_write,
        change_time: attributes.change,
        allocation_size: attributes.allocation,
        end_of_file: attributes.end_of_file,
        file_attributes: attributes.dos,
        file_id,
        contexts,
    }
}

/// The context that tells of a lease.
pub(crate) fn lease_context(key: Option<LeaseKey>, cached: Cached) -> Option<ResponseContext> {
    let key = key.unwrap_or_default();
    let Cached::Lease { state, breaking, v2 } = cached else { return None };
    let mut flags = if breaking { LeaseFlags::BREAK_IN_PROGRESS } else { LeaseFlags::EMPTY };
    Some(match v2 {
        None => ResponseContext::Lease(LeaseV1 { key, state, flags }),
        Some(LeaseV2 { parent, epoch }) => {
            if parent.is_some() {
                flags = flags.with(LeaseFlags::PARENT_LEASE_KEY_SET);
            }
            let parent_key = parent.unwrap_or_default();
            ResponseContext::LeaseV2(WireLeaseV2 { key, state, flags, parent_key, epoch })
        }
    })
}

/// What an open has that a claim must show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shown {
    owner: Option<Identity>,
    client: Option<[u8; 16]>,
    create_guid: [u8; 16],
    lease: Option<(LeaseKey, bool)>,
    /// The path that a client under a lease must name, folded; not so where the file is deleted at its close.
    path: Option<Name>,
    share: ShareId,
    /// If it is persistent, what its CREATE asked for.
    persistent: Option<Asks>,
}

impl Shown {
    pub(crate) fn of(open: &Open) -> Self {
        let named = open.lease.is_some() && !open.options.contains(CreateOptions::DELETE_ON_CLOSE);
        Self {
            owner: open.durable.as_ref().map(|durable| durable.owner.clone()),
            client: open.client,
            // An open without a CreateGuid has NULL, which a client may send (wire).
            create_guid: open.created.map_or([0; 16], |created| created.guid),
            lease: open.lease.map(|key| (key, open.lease_v2)),
            path: named.then(|| open.path.folded()),
            share: open.share,
            persistent: open.persistent().map(|persistent| Asks {
                desired: persistent.desired,
                share_access: persistent.share_access,
                options: open.options,
            }),
        }
    }
}

impl Claim {
    /// All that 3.3.5.9.7 and 3.3.5.9.12 compare (S43). That it still holds H is the file's to say. What is not found comes before
    /// what is wrong with the name, as 3.3.5.9.12 has it; 3.3.5.9.7 has it the other way, but no server is known to (wire).
    fn check(&self, open: &Shown) -> Result<(), NtStatus> {
        let not_found = NtStatus::OBJECT_NAME_NOT_FOUND;
        if open.lease.is_some() && open.client != self.client || open.lease != self.lease {
            return Err(not_found);
        }
        let persistent = match self.reconnect {
            Reconnect::V1(_) => false,
            Reconnect::V2(wish) if open.create_guid == wish.create_guid => {
                wish.flags.contains(DurableFlags::PERSISTENT)
            }
            Reconnect::V2(_) => return Err(not_found),
        };
        if open.persistent.is_some() && !persistent {
            return Err(not_found);
        }
        let misnamed = self.asks.is_none() && open.path.is_some() && open.path != self.path;
        if misnamed || persistent && open.persistent.is_none() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if open.owner.as_ref() != Some(&self.who) {
            return Err(NtStatus::ACCESS_DENIED);
        }
        if self.asks.is_some() && self.asks != open.persistent {
            return Err(NtStatus::CONTEXT_MISMATCH);
        }
        // The specification does not look at the share. Another one may let its users do less.
        if open.share == self.share { Ok(()) } else { Err(not_found) }
    }
}
