//! Persistent opens after a start of the server: from their records back to what they were when their clients went away
//! (MS-SMB2 3.3.5.9.12).
//!
//! ```text
//! Resolving --the same file--> Opening --> [Claiming its lease] --> AskingFile --> Preserved
//! ```
//! The adapter restores one after the other, in the order in which their records were written, before anybody may connect. The
//! open's home does it. What is not there any more (the file is gone, or is another one; the share is no longer continuously
//! available; a later record says otherwise) is forgotten, its record too. Where nobody can tell, because storage failed, the record
//! stays for the next start, without what its client caches: others may use the file until then. How old a record is says nothing of when its client went: the scavenger's time begins
//! with the start.

use smb_proto::Name;
use smb_proto::access::AccessMask;
use smb_proto::create_context::{LeaseKey, LeaseState};
use smb_proto::fscc::name::StreamPath;

use super::super::channel_sequence::Outstanding;
use super::super::create::shown_path;
use super::super::lock::LockSequences;
use super::super::{Open, State};
use super::persistent::{NOWHERE, Persistent, share_of};
use super::replay::is_replayable;
use super::{Created, Durable};
use crate::action::{Action, Audit, StoreChange};
use crate::file::caching::{CacheKey, LeaseV2};
use crate::file::permit::{Permit, UnderPermit};
use crate::file::{FileAsk, Grant, Link};
use crate::ids::{ConnectionId, FileKey, OpenId, ShareId, TreeId};
use crate::message::{Address, Answer, ClientAsk, KnownCreate, Message};
use crate::record::{HeldCache, Record};
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Intent, Object, Requester, Resolved, StorageOp, StorageReply, VolumeCaps};

/// A record on its way to an open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Restoring {
    record: Record,
    share: ShareId,
    caps: VolumeCaps,
    requester: Requester,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Resolving,
    Opening(Object),
    Claiming(Object),
    AskingFile(Object),
}

impl Shard {
    /// A record that was there when the server started.
    pub(crate) fn on_restored(&mut self, mut record: Record, turn: &mut Turn<'_>) {
        let known = self.opens.contains_key(&record.open);
        let share =
            share_of(self, &record.share).filter(|(_, share)| share.continuous_availability.is_some());
        let (Some((id, share)), Ok(path), false) = (share, StreamPath::parse(record.path.units()), known)
        else {
            return self.give_up_record(record.open, turn);
        };
        let requester =
            Requester { volume: share.volume, session: NOWHERE, connection: ConnectionId(0), share: id };
        let op = StorageOp::Resolve {
            path: path.components().map(Name::from_units).collect(),
            stream: path.stream().cloned(),
        };
        // What the share lets nobody do any more it does not let this open do either.
        record.access = AccessMask(record.access.0 & share.maximal_access().0);
        let restoring = Restoring {
            record,
            share: id,
            caps: share.caps,
            requester: requester.clone(),
            stage: Stage::Resolving,
        };
        self.submit(requester, op, Wait::Restoring(Box::new(restoring)), turn);
    }

    /// Storage answered.
    pub(crate) fn on_restoring(
        &mut self,
        mut restoring: Box<Restoring>,
        reply: StorageReply,
        turn: &mut Turn<'_>,
    ) {
        match (std::mem::replace(&mut restoring.stage, Stage::Resolving), reply) {
            (Stage::Resolving, StorageReply::Resolved(Resolved::Found(object))) => {
                let attributes = &object.attributes;
                let same = attributes.number == restoring.record.file
                    && attributes.creation == restoring.record.generation;
                if !same {
                    return self.give_up_restoring(&restoring, Some(object), turn);
                }
                let intent = intent(&restoring.record);
                let op = StorageOp::Open { handle: object.handle, intent };
                restoring.stage = Stage::Opening(object);
                self.submit(restoring.requester.clone(), op, Wait::Restoring(restoring), turn);
            }
            (Stage::Resolving, StorageReply::Resolved(Resolved::NoPath | Resolved::NotADirectory)) => {
                self.give_up_restoring(&restoring, None, turn);
            }
            (Stage::Resolving, StorageReply::Resolved(Resolved::NoName { parent: object }))
            | (Stage::Resolving, StorageReply::Resolved(Resolved::NoStream { file: object })) => {
                self.give_up_restoring(&restoring, Some(object), turn);
            }
            (Stage::Opening(object), StorageReply::Attributes(_)) => {
                self.claim_restored(restoring, object, turn)
            }
            (Stage::Opening(object) | Stage::Claiming(object) | Stage::AskingFile(object), _) => {
                self.leave_record(*restoring, Some(object), turn);
            }
            (Stage::Resolving, _) => self.leave_record(*restoring, None, turn),
        }
    }

    /// The lease's key stands for its file again.
    fn claim_restored(&mut self, mut restoring: Box<Restoring>, object: Object, turn: &mut Turn<'_>) {
        let file = restoring.file();
        match (restoring.record.held.cached, restoring.record.client) {
            (HeldCache::Lease { key, .. }, Some(client)) => {
                let ask = ClientAsk::Claim { key, file, stream: object.stream.folded() };
                restoring.stage = Stage::Claiming(object);
                let asker = self.wait(Wait::Restoring(restoring));
                turn.post(Address::Client(client), Message::AskClient(ask, asker));
            }
            (HeldCache::Nothing | HeldCache::Oplock(_) | HeldCache::Lease { .. }, _) => {
                self.ask_file_to_restore(restoring, object, turn);
            }
        }
    }

    fn ask_file_to_restore(&mut self, mut restoring: Box<Restoring>, object: Object, turn: &mut Turn<'_>) {
        let (open, file) = (restoring.record.open, restoring.file());
        let grant = Box::new(restoring.grant(&object));
        let held = Box::new(restoring.record.held.clone());
        restoring.stage = Stage::AskingFile(object);
        let asker = self.wait(Wait::Restoring(restoring));
        turn.post(Address::File(file), Message::AskFile(FileAsk::Restore { open, grant, held }, asker));
    }

    /// A machine answered.
    pub(crate) fn on_restoring_answer(
        &mut self,
        mut restoring: Box<Restoring>,
        answer: &Answer,
        turn: &mut Turn<'_>,
    ) {
        match (std::mem::replace(&mut restoring.stage, Stage::Resolving), answer) {
            (Stage::Claiming(object), Answer::Granted) => self.ask_file_to_restore(restoring, object, turn),
            (Stage::AskingFile(object), Answer::Granted) => self.is_restored(*restoring, &object, turn),
            (Stage::AskingFile(object), _) => {
                let record = &restoring.record;
                self.unclaim_lease(record.client, record.lease().map(|(key, _)| key), turn);
                self.give_up_restoring(&restoring, Some(object), turn);
            }
            (Stage::Opening(object) | Stage::Claiming(object), _) => {
                self.give_up_restoring(&restoring, Some(object), turn);
            }
            (Stage::Resolving, _) => self.give_up_restoring(&restoring, None, turn),
        }
    }

    fn is_restored(&mut self, restoring: Restoring, object: &Object, turn: &mut Turn<'_>) {
        let id = restoring.record.open;
        let open = restoring.open(object);
        if let (Some(client), Some(created)) = (open.client, open.created.filter(|it| it.replayable)) {
            let owner = restoring.record.identity();
            let known = Box::new(KnownCreate { open: id, session: NOWHERE, owner });
            let ask = ClientAsk::BeginCreate { guid: created.guid, created: known };
            turn.post(Address::Client(client), Message::AskClient(ask, self.nobody()));
        }
        self.persists(&restoring.record.identity());
        self.keep(id, open, turn);
        turn.push(Action::Recovered { open: id, restored: true });
    }

    fn give_up_restoring(&mut self, restoring: &Restoring, object: Option<Object>, turn: &mut Turn<'_>) {
        if let Some(object) = object {
            self.forget_handle(object.handle, restoring.requester.clone(), turn);
        }
        self.give_up_record(restoring.record.open, turn);
    }

    /// Storage could not say whether the file is there.
    fn leave_record(&mut self, restoring: Restoring, object: Option<Object>, turn: &mut Turn<'_>) {
        let Restoring { mut record, requester, .. } = restoring;
        if let Some(object) = object {
            self.forget_handle(object.handle, requester, turn);
        }
        let open = record.open;
        record.held.cached = match record.held.cached {
            HeldCache::Lease { key, v2, .. } => HeldCache::Lease { key, state: LeaseState::EMPTY, v2 },
            HeldCache::Nothing | HeldCache::Oplock(_) => HeldCache::Nothing,
        };
        turn.push(Action::Record(Audit::NotRestored { open }));
        let (token, change) = (self.waits.insert(Wait::Nothing), StoreChange::Put(Box::new(record)));
        turn.push(Action::Store { token, connection: ConnectionId(0), change });
        turn.push(Action::Recovered { open, restored: false });
    }

    fn give_up_record(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        turn.push(Action::Record(Audit::NotRestored { open: id }));
        let token = self.waits.insert(Wait::Nothing);
        self.delete_record(id, token, turn);
        turn.push(Action::Recovered { open: id, restored: false });
    }
}

fn intent(record: &Record) -> Intent {
    let reads = AccessMask::READ_DATA.with(AccessMask::EXECUTE);
    let writes = AccessMask::WRITE_DATA.with(AccessMask::APPEND_DATA);
    Intent { read: record.access.intersects(reads), write: record.access.intersects(writes) }
}

impl Record {
    fn lease(&self) -> Option<(LeaseKey, Option<LeaseV2>)> {
        match self.held.cached {
            HeldCache::Lease { key, v2, .. } => Some((key, v2)),
            HeldCache::Nothing | HeldCache::Oplock(_) => None,
        }
    }
}

impl Restoring {
    fn file(&self) -> FileKey {
        FileKey { volume: self.requester.volume, number: self.record.file }
    }

    fn grant(&self, object: &Object) -> Grant {
        let key = match (self.record.lease(), self.record.client) {
            (Some((key, _)), Some(client)) => CacheKey::Lease(client, key),
            (Some(_) | None, _) => CacheKey::Open(self.record.open),
        };
        Grant {
            stream: object.stream.folded(),
            access: self.record.access,
            share: self.record.share_access,
            link: Link { parent: object.parent, name: object.name.folded() },
            delete_on_close: self.record.held.delete_on_close,
            session: NOWHERE,
            persistent: true,
            away: true,
            key,
            permit: Permit::default(),
            draining: 0,
            in_flight: std::collections::BTreeMap::new(),
        }
    }

    fn open(&self, object: &Object) -> Open {
        let record = &self.record;
        let lease = record.lease();
        let parent = lease.and_then(|(_, v2)| v2?.parent);
        let persistent = Persistent {
            desired: record.desired,
            share_access: record.share_access,
            generation: record.generation,
            generation_to_be: None,
            recorded: true,
            deletes: record.held.delete_on_close || record.held.delete_pending,
            going: false,
            remembered: false,
        };
        let durable =
            Durable { owner: record.identity(), timeout_ms: record.timeout_ms, persistent: Some(persistent) };
        let path =
            StreamPath::parse(record.path.units()).map_or_else(|_| record.path.clone(), |it| shown_path(&it));
        Open {
            volatile: record.open.0,
            session: NOWHERE,
            tree: TreeId(0),
            share: self.share,
            state: State::Preserved,
            file: self.file(),
            handle: object.handle,
            kind: object.attributes.kind,
            caps: self.caps,
            access: record.access,
            options: record.options,
            path,
            stream: object.stream.folded(),
            spelled: (object.name.clone(), object.stream.clone()),
            link: Link { parent: object.parent, name: object.name.folded() },
            position: 0,
            ea_index: 1,
            listing: false,
            outstanding: Outstanding::default(),
            permit: Permit::default(),
            under_permit: UnderPermit::default(),
            lock_sequences: LockSequences::of_record(&record.lock_sequences),
            client: record.client,
            durable: Some(Box::new(durable)),
            kept: true,
            created: Some(Created {
                guid: record.create_guid,
                action: record.action,
                replayable: record.client.is_some() && is_replayable(record.access),
            }),
            lease: lease.map(|(key, _)| key),
            lease_v2: lease.is_some_and(|(_, v2)| v2.is_some()),
            parent_lease: record.client.zip(parent),
            wrote: false,
            cached_in: 0,
            break_told: None,
            granted: false,
            held_breaks: Vec::new(),
            settled: None,
            moved: None,
            doomed: false,
            times: super::super::times::Times::default(),
        }
    }
}
