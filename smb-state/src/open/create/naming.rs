//! CREATEs with a CreateGuid, and what makes an open durable (MS-SMB2 3.3.5.9.6, 3.3.5.9.10).

use smb_proto::NtStatus;
use smb_proto::access::AccessMask;

use super::super::durable::persistent::Persistent;
use super::super::durable::reclaim::Asks;
use super::super::durable::replay::{Known, is_replayable};
use super::super::durable::{Created, Durable, Wish};
use super::{Creating, Stage, TRIES_MAX};
use crate::file::caching::Want;
use crate::ids::OpenId;
use crate::message::{Address, ClientAsk, KnownCreate, Message};
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Attributes, Kind};

impl Shard {
    /// Takes the CreateGuid, if there is one.
    pub(super) fn name_create(&mut self, mut creating: Box<Creating>, turn: &mut Turn<'_>) {
        let session = creating.origin.session;
        if creating.wish.create_guid().is_none() {
            return self.resolve(creating, turn);
        }
        let of_session = self.sessions.get(&session).and_then(|it| Some((it.client?, it.identity.clone()?)));
        match (creating.wish.create_guid(), of_session) {
            (Some(guid), Some((client, owner))) if !creating.caps.pipes => {
                creating.tries += 1;
                creating.stage = Stage::Naming;
                let created = Box::new(KnownCreate { open: creating.open, session, owner });
                let asker = self.wait(Wait::Create(creating));
                let ask = ClientAsk::BeginCreate { guid, created };
                turn.post(Address::Client(client), Message::AskClient(ask, asker));
            }
            _ => self.resolve(creating, turn),
        }
    }

    /// The CreateGuid is taken.
    pub(super) fn on_create_known(
        &mut self,
        creating: Box<Creating>,
        known: &KnownCreate,
        turn: &mut Turn<'_>,
    ) {
        let Creating { origin, wish, is_replay, .. } = *creating;
        let lease = creating.lease.map(|(_, key)| key);
        let tree = self.sessions.get(&origin.session).and_then(|session| session.trees.get(&origin.tree));
        let available = tree.is_some_and(|tree| tree.continuous_availability.is_some());
        match self.judge_known(known, is_replay, origin.session, lease, available && wish.is_persistent()) {
            Known::Refused(status) => self.fail_create(creating, status, turn),
            Known::Again if creating.tries < TRIES_MAX => self.name_create(creating, turn),
            Known::Again => self.fail_create(creating, NtStatus::FILE_NOT_AVAILABLE, turn),
            Known::Reclaim(open) => self.reclaim_known(creating, open, turn),
            Known::Replay(open) => {
                self.forget_create(creating, turn);
                self.replay_create(open, origin, wish, turn);
            }
        }
    }

    /// The open that it made before goes to its client's new session.
    fn reclaim_known(&mut self, creating: Box<Creating>, open: OpenId, turn: &mut Turn<'_>) {
        let Wish::V2(wish) = creating.wish else { return };
        let origin = creating.origin;
        let asks = Asks {
            desired: creating.request.desired_access,
            share_access: creating.request.share_access,
            options: creating.request.create_options,
        };
        let v2 = matches!(creating.want, Want::Lease { v2: Some(_), .. });
        let lease = creating.lease.map(|(_, key)| (key, v2));
        let sequence = self.opens.get(&creating.open).map_or(0, |open| open.outstanding.sequence());
        self.forget_create(creating, turn);
        self.reclaim_created((open, origin, sequence), wish, lease, asks, turn);
    }

    /// What lets the open outlive its connection. Directories do not (3.3.5.9.6, 3.3.5.9.10).
    pub(super) fn durable_of(&self, creating: &Creating, attributes: &Attributes) -> Option<Durable> {
        if creating.wish == Wish::Nothing {
            return None;
        }
        let session = self.sessions.get(&creating.origin.session)?;
        let owner = session.identity.as_ref().filter(|_| attributes.kind == Kind::File)?;
        let tree = session.trees.get(&creating.origin.tree)?;
        let available = tree.continuous_availability.is_some() && creating.wish.is_persistent();
        let persistent = (available && self.may_persist(owner)).then_some(Persistent {
            desired: creating.request.desired_access,
            share_access: creating.request.share_access,
            generation: attributes.creation,
            generation_to_be: None,
            recorded: false,
            deletes: false,
            going: false,
            remembered: false,
        });
        creating.wish.grant(creating.cached, persistent, owner, &self.limits)
    }

    /// The CREATE can't be replayed, or not any more.
    pub(super) fn end_naming(&self, creating: &Creating, turn: &mut Turn<'_>) {
        if let (Some(client), Some(guid)) = (creating.known_by, creating.wish.create_guid()) {
            let ask = ClientAsk::EndCreate { guid, open: creating.open };
            turn.post(Address::Client(client), Message::AskClient(ask, self.nobody()));
        }
    }
}

impl Creating {
    /// Its open, if its client may send it again on another channel.
    pub(crate) fn to_be_replayed(&self) -> Option<OpenId> {
        self.known_by.map(|_| self.open)
    }

    /// What is kept of it, if it has a CreateGuid (3.3.5.9.10).
    pub(super) fn created(&self, access: AccessMask, kind: Kind) -> Option<Created> {
        let guid = self.wish.create_guid()?;
        let replayable = self.known_by.is_some() && kind == Kind::File && is_replayable(access);
        Some(Created { guid, action: self.action, replayable })
    }
}
