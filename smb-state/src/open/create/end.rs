//! How a CREATE ends: with an open and its response, or with everything given back.

use smb_proto::NtStatus;
use smb_proto::command::create::CreateAction;

use super::{Cached, Creating, Stage};
use crate::file::{FileAsk, Link};
use crate::ids::FileKey;
use crate::message::{Address, Finished, Message};
use crate::namespace::NamespaceAsk;
use crate::open::State;
use crate::response::Body;
use crate::shard::{Shard, Turn};
use crate::storage::Object;

impl Shard {
    pub(super) fn complete_create(
        &mut self,
        mut creating: Box<Creating>,
        object: Object,
        turn: &mut Turn<'_>,
    ) {
        let alive = self.sessions.get(&creating.origin.session).is_some_and(|session| {
            session.state != crate::session::State::Ending
                && session.trees.get(&creating.origin.tree).is_some_and(|tree| !tree.is_ending())
        });
        if !alive {
            self.lose_grant(creating.origin.session, creating.open, turn);
        }
        if let Some(state) = self.opens.get_mut(&creating.open).and_then(|open| open.settled.take()) {
            creating.cached = creating.cached.settled(state);
        }
        let durable = self.durable_of(&creating, &object.attributes).map(Box::new);
        let created = creating.created(creating.granted(&object.attributes), object.attributes.kind);
        let Some(open) = self.opens.get_mut(&creating.open) else { return };
        open.file = FileKey { volume: creating.requester.volume, number: object.attributes.number };
        open.handle = object.handle;
        open.kind = object.attributes.kind;
        open.access = creating.granted(&object.attributes);
        open.stream = object.stream.folded();
        open.spelled = (object.name.clone(), object.stream.clone());
        open.link = Link { parent: object.parent, name: object.name.folded() };
        if let Some(name) = open.moved.clone() {
            open.follow(&name);
        }
        open.lease_v2 = matches!(creating.cached, Cached::Lease { v2: Some(_), .. });
        if !creating.recorded {
            if let Some(durable) = durable.as_ref().filter(|durable| durable.persistent.is_some()) {
                let owned = self.persistent_of.entry(durable.owner.clone()).or_default();
                *owned += 1;
            }
            (open.durable, open.created) = (durable, created);
            if alive && open.persistent().is_some() {
                return self.record_create(creating, object, turn);
            }
        }
        open.moved = None;
        open.state = if alive { State::Ready } else { State::Closing(crate::open::close::no_closers()) };
        let held = std::mem::take(&mut open.held_breaks);
        let file_id = open.file_id(creating.open);
        let durable = creating.wish.response(open.durable.as_deref());
        open.cached_in = creating.caches.map_or(0, |(_, told)| told);
        let overwrote = matches!(creating.action, CreateAction::OVERWRITTEN | CreateAction::SUPERSEDED);
        self.report_opened(creating.open, creating.action == CreateAction::CREATED, overwrote, turn);
        if overwrote {
            self.own_entry_changed(creating.open, turn);
        }
        if alive {
            let mut response = creating.response(file_id, &object.attributes);
            response.contexts.extend(durable);
            let body = Body::Create(Box::new(response));
            let origin = creating.origin;
            turn.finish(Finished {
                origin,
                status: NtStatus::SUCCESS,
                body,
                open: Some(file_id),
                spent: None,
            });
            self.tell_held_breaks(origin.session, held, turn);
        } else {
            let status = NtStatus::USER_SESSION_DELETED;
            let origin = creating.origin;
            turn.finish(Finished { origin, status, body: Body::Error, open: None, spent: None });
            self.begin_close(creating.open, turn);
        }
        if !created.is_some_and(|created| created.replayable) {
            self.end_naming(&creating, turn);
        }
    }

    pub(super) fn free_name(&mut self, creating: &Creating, link: Link, turn: &mut Turn<'_>) {
        let to = Address::Namespace(creating.requester.volume);
        turn.post(to, Message::AskNamespace(NamespaceAsk::Free(link), self.nobody()));
    }

    pub(super) fn undo_grant(&mut self, creating: &Creating, object: &Object, turn: &mut Turn<'_>) {
        let file = FileKey { volume: creating.requester.volume, number: object.attributes.number };
        let ask = FileAsk::Abandon { open: creating.open };
        turn.post(Address::File(file), Message::AskFile(ask, self.nobody()));
        self.lose_grant(creating.origin.session, creating.open, turn);
    }

    /// Ends a CREATE that failed: gives back what its stage holds, then answers.
    pub(super) fn fail_create(&mut self, mut creating: Box<Creating>, status: NtStatus, turn: &mut Turn<'_>) {
        let requester = creating.requester.clone();
        match std::mem::replace(&mut creating.stage, Stage::Resolving) {
            Stage::Resolving | Stage::Naming => {}
            Stage::ResolvingParent { object } | Stage::ReadingLink { object } => {
                self.forget_handle(object.handle, requester, turn);
            }
            Stage::AskingFile { object, reserved }
            | Stage::ClaimingLease { object, reserved }
            | Stage::Announcing { object, reserved } => {
                self.forget_handle(object.handle, requester, turn);
                if let Some(link) = reserved {
                    self.free_name(&creating, link, turn);
                }
            }
            Stage::Reserving { parent } | Stage::CheckingLease { parent } => {
                self.forget_handle(parent.handle, requester, turn);
            }
            Stage::Making { parent, reserved } => {
                self.forget_handle(parent.handle, requester, turn);
                self.free_name(&creating, reserved, turn);
            }
            Stage::MakingStream { file } => self.forget_handle(file.handle, requester, turn),
            Stage::Preparing { object } | Stage::Recording { object } => {
                self.undo_grant(&creating, &object, turn);
                self.forget_handle(object.handle, requester, turn);
            }
        }
        self.leave_lease(&mut creating, turn);
        self.end_naming(&creating, turn);
        self.refuse_create(creating.origin, status, turn);
        self.forget_create(creating, turn);
    }

    /// Nothing is made.
    pub(super) fn forget_create(&mut self, creating: Box<Creating>, turn: &mut Turn<'_>) {
        let open = self.opens.remove(&creating.open);
        let durable = open.and_then(|open| open.durable).filter(|durable| durable.persistent.is_some());
        if let Some(durable) = durable {
            self.persists_no_more(&durable.owner);
        }
        self.open_is_gone(creating.origin.session, creating.origin.tree, creating.open, turn);
    }
}
