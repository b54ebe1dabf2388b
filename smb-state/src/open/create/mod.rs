//! CREATE (MS-SMB2 3.3.5.9, MS-FSA 2.1.5.1).
//!
//! ```text
//! Resolving --Found--> [ResolvingParent] --> AskingFile --Granted--> Opening | Overwriting --> open
//!     |  ^----------------------- Stale ----------'
//!     |--NoName--> Reserving --Granted--> Making --> AskingFile (first open) --> open, name freed
//!     |                |--Again--> Resolving          |--COLLISION--> Resolving
//!     '--NoStream--> MakingStream --> AskingFile --> open
//! open, persistent --> Recording --durable--> answered
//! ```
//! A symbolic link on the way, or at the end if it is not to be opened itself, ends it: [`link`].
//!
//! Every handle that a stage holds is given back when the CREATE fails. What runs again from the name does so a bounded
//! number of times.
//!
//! With a lease, its client is asked whether the key is this file's before the file is asked. A CREATE that has to wait for a
//! break is told `Again` after it.
//!
//! The directory is looked at only when what is there has a security descriptor that grants less than its directory might.
//!
//! With a CreateGuid, its client is asked first whether the guid is taken. A CREATE that takes up a preserved open again, or is
//! answered from the open that it made before, goes another way: see [`super::durable`].
//!
//! Not done yet: snapshots.

use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::command::create::{CreateAction, CreateDisposition, CreateOptions, Request};
use smb_proto::command::negotiate::Dialect;
use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::create_context::{LeaseKey, RequestContext};
use smb_proto::fscc::ea::{self, FullEa};
use smb_proto::fscc::name::{StreamPath, StreamType};
use smb_proto::security::descriptor::SecurityDescriptor;
use smb_proto::security::sid::Sid;
use smb_proto::{FileTime, Name};

use super::channel_sequence::Outstanding;
use super::durable::Wish;
use super::lock::LockSequences;
use super::{Open, State};
use crate::config::Survives;
use crate::file::caching::{CacheKey, Cached, LeaseV2, Want};
use crate::file::permit::{Permit, UnderPermit};
use crate::file::{FileAsk, Link};
use crate::ids::{FileKey, FileNumber, Handle, OpenId, ShardId};
use crate::message::{Address, Answer, ClientAsk, Execution, Message, Origin};
use crate::namespace::NamespaceAsk;
use crate::request::Command;
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Kind, Object, Requester, Resolved, StorageOp, StorageReply, VolumeCaps};

mod access;
mod answer;
mod cache;
mod check;
mod end;
mod link;
mod naming;
mod record;

use check::{check_access, check_parameters, parse_path};

/// How often a CREATE runs again from its name before it gives up.
const TRIES_MAX: u8 = 16;
/// A CREATE in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Creating {
    open: OpenId,
    origin: Origin,
    requester: Requester,
    caps: VolumeCaps,
    maximal: AccessMask,
    path: StreamPath,
    /// As sent, but for what is taken out of the contexts.
    request: Request,
    eas: Vec<FullEa>,
    allocation: u64,
    /// The descriptor of the context, if it came.
    security: Option<Box<SecurityDescriptor>>,
    /// The new object's, made of that and of what its directory hands down.
    initial_security: Option<Box<SecurityDescriptor>>,
    owner: Option<Sid>,
    /// What descriptors grant.
    rights: AccessMask,
    wants_maximal: Option<Option<FileTime>>,
    wants_disk_id: bool,
    /// What it asks to cache.
    want: Want,
    /// What it got.
    cached: Cached,
    /// Its lease, by client and key; and whether it has joined it.
    lease: Option<([u8; 16], LeaseKey)>,
    claimed: bool,
    /// The directory that it asks to cache, and the shards that know.
    caches: Option<(FileKey, u16)>,
    /// What it asks of durability.
    wish: Wish,
    /// Its client's machine knows its CreateGuid, under this client; and it came as a replay.
    known_by: Option<[u8; 16]>,
    is_replay: bool,
    tries: u8,
    /// Its lease's key was in use when its name was not: it looked for the name again.
    looked_again: bool,
    /// It was cancelled, or its session or tree connect ends: it does not wait for a client any more.
    given_up: Option<NtStatus>,
    /// Its record is stored.
    recorded: bool,
    action: CreateAction,
    stage: Stage,
}

/// Where a CREATE is; what it holds there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Resolving,
    /// The client is asked whether the CreateGuid is taken.
    Naming,
    /// The name leads to a symbolic link, and storage is asked where that leads.
    ReadingLink {
        object: Object,
    },
    /// The client is asked whether the lease's key is free for a new file.
    CheckingLease {
        parent: Object,
    },
    /// The client is asked whether the lease's key is this file's.
    ClaimingLease {
        object: Object,
        reserved: Option<Link>,
    },
    /// The object's directory is looked up, for the rights that it gives.
    ResolvingParent {
        object: Object,
    },
    /// Every shard is told that the directory may be cached.
    Announcing {
        object: Object,
        reserved: Option<Link>,
    },
    /// The file is asked; `reserved` is the name to free when it is the first open of a new file.
    AskingFile {
        object: Object,
        reserved: Option<Link>,
    },
    Reserving {
        parent: Object,
    },
    Making {
        parent: Object,
        reserved: Link,
    },
    MakingStream {
        file: Object,
    },
    /// The file granted the open; storage makes the object ready. `overwrite` if its data goes.
    Preparing {
        object: Object,
    },
    /// The open is persistent: its file is asked what it holds, then its record is stored.
    Recording {
        object: Object,
    },
}

impl Shard {
    /// CREATE.
    pub(crate) fn on_create(&mut self, origin: Origin, execution: Execution, turn: &mut Turn<'_>) {
        let Command::Create(request) = &execution.request.command else { return };
        let begun = match Wish::of(request, execution.terms.dialect) {
            Ok(Wish::Reconnect(reconnect)) => self.begin_reclaim(origin, &execution, reconnect, turn),
            Ok(wish) => self.start_create(origin, execution, wish, turn),
            Err(status) => Err(status),
        };
        if let Err(status) = begun {
            self.refuse_create(origin, status, turn);
        }
    }

    fn start_create(
        &mut self,
        origin: Origin,
        execution: Execution,
        wish: Wish,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let Command::Create(request) = execution.request.command else { return Ok(()) };
        let mut creating = self.begin_create(origin, *request)?;
        (creating.wish, creating.is_replay) = (wish, execution.request.replay);
        if let Some(open) = self.opens.get_mut(&creating.open) {
            // Where the dialect has no sequence the field is not looked at again.
            open.outstanding = Outstanding::new(execution.request.channel_sequence);
        }
        self.name_create(creating, turn);
        Ok(())
    }

    fn begin_create(&mut self, origin: Origin, mut request: Request) -> Result<Box<Creating>, NtStatus> {
        let opens_max = self.limits.opens_per_session_max as usize;
        let session = self.sessions.get_mut(&origin.session).ok_or(NtStatus::USER_SESSION_DELETED)?;
        let tree = session.trees.get(&origin.tree).ok_or(NtStatus::NETWORK_NAME_DELETED)?;
        if tree.continuous_availability == Some(Survives::PowerCut) {
            request.create_options = request.create_options.with(CreateOptions::WRITE_THROUGH);
        }
        let path = parse_path(&request, tree)?;
        check_parameters(&request, &path, tree.caps.pipes)?;
        check_access(&request, tree)?;
        if session.opens.len() >= opens_max {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        let mut creating = Creating {
            open: OpenId(0),
            origin,
            requester: Requester {
                volume: tree.volume,
                session: origin.session,
                connection: origin.connection,
                share: tree.share,
            },
            caps: tree.caps,
            maximal: tree.maximal_access,
            path,
            eas: Vec::new(),
            allocation: 0,
            security: None,
            initial_security: None,
            owner: None,
            rights: AccessMask::FILE_ALL_ACCESS,
            wants_maximal: None,
            wants_disk_id: false,
            want: Want::Nothing,
            cached: Cached::Oplock(OplockLevel::NONE),
            lease: None,
            claimed: false,
            caches: None,
            wish: Wish::Nothing,
            known_by: None,
            is_replay: false,
            tries: 0,
            looked_again: false,
            given_up: None,
            recorded: false,
            action: CreateAction::OPENED,
            stage: Stage::Resolving,
            request,
        };
        creating.take_oplock_level();
        creating.take_contexts(session.terms.dialect, session.client)?;
        creating.open = OpenId(self.open_ids.issue());
        session.opens.insert(creating.open);
        let client = session.client;
        self.opens.insert(creating.open, Open { client, ..creating.placeholder() });
        Ok(Box::new(creating))
    }

    /// Runs a CREATE from its name on; waits if a directory above it is being renamed.
    pub(crate) fn resolve(&mut self, mut creating: Box<Creating>, turn: &mut Turn<'_>) {
        if let Some(waiting) = self.frozen_above(creating.requester.volume, creating.path.path()) {
            waiting.push(*creating);
            return;
        }
        self.leave_lease(&mut creating, turn);
        creating.tries += 1;
        if creating.tries > TRIES_MAX {
            return self.fail_create(creating, NtStatus::SHARING_VIOLATION, turn);
        }
        creating.stage = Stage::Resolving;
        let op = StorageOp::Resolve {
            path: creating.path.components().map(Name::from_units).collect(),
            stream: creating.path.stream().cloned(),
        };
        self.submit(creating.requester.clone(), op, Wait::Create(creating), turn);
    }

    /// Storage answered a CREATE's stage.
    pub(crate) fn on_create_reply(
        &mut self,
        mut creating: Box<Creating>,
        reply: StorageReply,
        turn: &mut Turn<'_>,
    ) {
        match (std::mem::replace(&mut creating.stage, Stage::Resolving), reply) {
            (Stage::Resolving, StorageReply::Resolved(resolved)) => {
                self.on_resolved(creating, resolved, turn)
            }
            (Stage::ResolvingParent { object }, StorageReply::Resolved(resolved)) => {
                self.on_parent(creating, object, resolved, turn);
            }
            (Stage::ReadingLink { object }, StorageReply::Target(target)) => {
                self.forget_handle(object.handle, creating.requester.clone(), turn);
                let component = creating.path.components().count();
                self.stop_on_link(creating, component, target, turn);
            }
            (Stage::Making { parent, reserved }, StorageReply::Opened(object)) => {
                self.forget_handle(parent.handle, creating.requester.clone(), turn);
                creating.action = CreateAction::CREATED;
                self.report_created(creating.requester.volume, creating.path.parent(), &object, turn);
                let by = creating.parent_lease().map(|(client, key)| CacheKey::Lease(client, key));
                self.entry_changed(creating.requester.volume, object.parent, by, turn);
                self.ask_file(creating, object, Some(reserved), turn);
            }
            (Stage::Making { parent, reserved }, StorageReply::Failed(NtStatus::OBJECT_NAME_COLLISION)) => {
                // A local process was faster.
                self.forget_handle(parent.handle, creating.requester.clone(), turn);
                self.free_name(&creating, reserved, turn);
                self.resolve(creating, turn);
            }
            (Stage::MakingStream { file }, StorageReply::Opened(object)) => {
                self.forget_handle(file.handle, creating.requester.clone(), turn);
                creating.action = CreateAction::CREATED;
                self.ask_file(creating, object, None, turn);
            }
            (Stage::MakingStream { file }, StorageReply::Failed(NtStatus::OBJECT_NAME_COLLISION)) => {
                self.forget_handle(file.handle, creating.requester.clone(), turn);
                self.resolve(creating, turn);
            }
            (Stage::Preparing { object }, StorageReply::Attributes(_))
                if creating.overwrites() && creating.action == CreateAction::OPENED =>
            {
                self.overwrite(creating, object, turn);
            }
            (Stage::Preparing { object }, StorageReply::Attributes(attributes)) => {
                self.complete_create(creating, Object { attributes, ..object }, turn);
            }
            (Stage::Preparing { object }, StorageReply::Stale) => {
                self.undo_grant(&creating, &object, turn);
                self.forget_handle(object.handle, creating.requester.clone(), turn);
                self.resolve(creating, turn);
            }
            (stage, StorageReply::Failed(status)) => {
                creating.stage = stage;
                self.fail_create(creating, status, turn);
            }
            (stage, _) => {
                creating.stage = stage;
                self.fail_create(creating, NtStatus::INTERNAL_ERROR, turn);
            }
        }
    }

    fn on_resolved(&mut self, mut creating: Box<Creating>, resolved: Resolved, turn: &mut Turn<'_>) {
        match resolved {
            Resolved::Found(object) | Resolved::NoStream { file: object } if creating.stops_at(&object) => {
                self.read_link(creating, object, turn);
            }
            Resolved::Link { component, target } => {
                self.stop_on_link(creating, component as usize, target, turn);
            }
            Resolved::Found(object) => match creating.check_existing(&object.attributes) {
                Ok(()) => self.check_object(creating, object, turn),
                Err(status) => {
                    self.forget_handle(object.handle, creating.requester.clone(), turn);
                    self.fail_create(creating, status, turn);
                }
            },
            Resolved::NoName { parent } => match self.check_new(&mut creating, &parent) {
                Ok(()) => match creating.lease {
                    Some((client, key)) => {
                        creating.stage = Stage::CheckingLease { parent };
                        let asker = self.wait(Wait::Create(creating));
                        turn.post(Address::Client(client), Message::AskClient(ClientAsk::Leased(key), asker));
                    }
                    None => self.reserve(creating, parent, turn),
                },
                Err(status) => {
                    self.forget_handle(parent.handle, creating.requester.clone(), turn);
                    self.fail_create(creating, status, turn);
                }
            },
            Resolved::NoStream { file } => match creating.check_new_stream(&file.attributes) {
                Ok(()) => self.check_object(creating, file, turn),
                Err(status) => {
                    self.forget_handle(file.handle, creating.requester.clone(), turn);
                    self.fail_create(creating, status, turn);
                }
            },
            Resolved::NoPath | Resolved::NotADirectory => {
                self.fail_create(creating, NtStatus::OBJECT_PATH_NOT_FOUND, turn);
            }
        }
    }

    fn reserve(&mut self, mut creating: Box<Creating>, parent: Object, turn: &mut Turn<'_>) {
        let link = creating.new_link(&parent);
        let volume = creating.requester.volume;
        creating.stage = Stage::Reserving { parent };
        let asker = self.wait(Wait::Create(creating));
        turn.post(Address::Namespace(volume), Message::AskNamespace(NamespaceAsk::Reserve(link), asker));
    }

    fn ask_file(
        &mut self,
        mut creating: Box<Creating>,
        object: Object,
        reserved: Option<Link>,
        turn: &mut Turn<'_>,
    ) {
        let file = FileKey { volume: creating.requester.volume, number: object.attributes.number };
        if let Some((client, key)) = creating.lease_to_claim(&object) {
            let ask = ClientAsk::Claim { key, file, stream: object.stream.folded() };
            creating.stage = Stage::ClaimingLease { object, reserved };
            let asker = self.wait(Wait::Create(creating));
            return turn.post(Address::Client(client), Message::AskClient(ask, asker));
        }
        if let Some(directory) = creating.directory_to_cache(&object) {
            let told = creating.caches.map_or(0, |(_, told)| told);
            creating.caches = Some((directory, told));
            if told < self.config.shards.max(1) {
                creating.stage = Stage::Announcing { object, reserved };
                let asker = self.wait(Wait::Create(creating));
                return turn
                    .post(Address::Shard(ShardId(told)), Message::DirectoryCached { directory, asker });
            }
        }
        if let Some(open) = self.opens.get_mut(&creating.open) {
            open.file = file;
            open.parent_lease = creating.parent_lease();
            open.lease = creating.lease.filter(|_| creating.claimed).map(|(_, key)| key);
        }
        let ask = FileAsk::Open {
            open: creating.open,
            grant: Box::new(creating.grant(&object)),
            want: creating.want_of(&object),
            cause: creating.cause(),
            behind: creating.origin.behind(),
        };
        creating.stage = Stage::AskingFile { object, reserved };
        let (behind, given_up) = (creating.origin.behind(), creating.given_up);
        let asker = self.wait(Wait::Create(creating));
        turn.post(Address::File(file), Message::AskFile(ask, asker));
        if let Some(status) = given_up {
            let ask = FileAsk::Withdraw { behind, status };
            turn.post(Address::File(file), Message::AskFile(ask, self.nobody()));
        }
    }

    /// A machine answered a CREATE's stage.
    pub(crate) fn on_create_answer(
        &mut self,
        mut creating: Box<Creating>,
        answer: &Answer,
        turn: &mut Turn<'_>,
    ) {
        match (std::mem::replace(&mut creating.stage, Stage::Resolving), answer) {
            (Stage::Naming, Answer::CreateKnown(known)) => self.on_create_known(creating, known, turn),
            (Stage::Naming, Answer::Granted) => {
                creating.known_by = self.sessions.get(&creating.origin.session).and_then(|it| it.client);
                creating.tries = 0;
                self.resolve(creating, turn);
            }
            (Stage::Reserving { parent }, Answer::Granted) => {
                let reserved = creating.new_link(&parent);
                let kind = if creating.wants_directory() { Kind::Directory } else { Kind::File };
                let op = StorageOp::Create {
                    parent: parent.handle,
                    name: creating.last_component(),
                    kind,
                    initial: Box::new(creating.initial()),
                };
                creating.stage = Stage::Making { parent, reserved };
                self.submit(creating.requester.clone(), op, Wait::Create(creating), turn);
            }
            (Stage::Reserving { parent }, Answer::Again) => {
                self.forget_handle(parent.handle, creating.requester.clone(), turn);
                self.resolve(creating, turn);
            }
            (Stage::CheckingLease { parent }, Answer::LeasedFile(None)) => {
                self.reserve(creating, parent, turn);
            }
            (Stage::CheckingLease { parent }, Answer::LeasedFile(Some(_))) if !creating.looked_again => {
                // Another CREATE of the client under the same key may have made the file meanwhile.
                creating.looked_again = true;
                self.forget_handle(parent.handle, creating.requester.clone(), turn);
                self.resolve(creating, turn);
            }
            (Stage::CheckingLease { parent }, Answer::LeasedFile(Some(_))) => {
                creating.stage = Stage::CheckingLease { parent };
                self.fail_create(creating, NtStatus::INVALID_PARAMETER, turn);
            }
            (Stage::Announcing { object, reserved }, Answer::Granted) => {
                creating.caches = creating.caches.map(|(directory, told)| (directory, told + 1));
                self.ask_file(creating, object, reserved, turn);
            }
            (Stage::ClaimingLease { object, reserved }, Answer::Granted) => {
                creating.claimed = true;
                self.ask_file(creating, object, reserved, turn);
            }
            (Stage::ClaimingLease { object, reserved }, Answer::Refused(_))
                if creating.action == CreateAction::CREATED =>
            {
                // The file was made; its client took the key for another file meanwhile.
                (creating.lease, creating.want) = (None, Want::Nothing);
                self.ask_file(creating, object, reserved, turn);
            }
            (Stage::AskingFile { object, reserved }, Answer::Opened { cached, permit }) => {
                creating.cached = *cached;
                if let Some(open) = self.opens.get_mut(&creating.open) {
                    (open.permit, open.granted) = (*permit, true);
                }
                self.on_file_opened(creating, object, reserved, turn);
            }
            (Stage::AskingFile { object, reserved: None }, Answer::Again) => {
                // It waited for a break: what its name leads to may have changed.
                self.forget_handle(object.handle, creating.requester.clone(), turn);
                self.resolve(creating, turn);
            }
            (Stage::Recording { object }, Answer::Held(held)) => {
                self.store_created(creating, object, held, turn);
            }
            (stage, Answer::Refused(status)) => {
                creating.stage = stage;
                self.fail_create(creating, *status, turn);
            }
            (stage, _) => {
                creating.stage = stage;
                self.fail_create(creating, NtStatus::INTERNAL_ERROR, turn);
            }
        }
    }

    /// The file granted the open.
    fn on_file_opened(
        &mut self,
        creating: Box<Creating>,
        object: Object,
        reserved: Option<Link>,
        turn: &mut Turn<'_>,
    ) {
        match reserved {
            Some(link) => {
                self.free_name(&creating, link, turn);
                // A stream of a new file is made now that the file is there and held.
                match creating.path.stream().cloned() {
                    Some(stream) if object.stream.is_empty() => {
                        self.make_first_stream(creating, object, stream, turn)
                    }
                    Some(_) | None => self.complete_create(creating, object, turn),
                }
            }
            None => self.prepare(creating, object, turn),
        }
    }

    /// Leaves the lease that it joined.
    fn leave_lease(&self, creating: &mut Creating, turn: &mut Turn<'_>) {
        if let Some((directory, told)) = creating.caches.take() {
            self.uncache_directory(directory, told, turn);
        }
        if std::mem::take(&mut creating.claimed) {
            let (client, key) = creating.lease.unzip();
            self.unclaim_lease(client, key, turn);
        }
    }

    /// An open that joined a lease of this client is gone.
    pub(crate) fn unclaim_lease(
        &self,
        client: Option<[u8; 16]>,
        lease: Option<LeaseKey>,
        turn: &mut Turn<'_>,
    ) {
        if let (Some(client), Some(key)) = (client, lease) {
            turn.post(Address::Client(client), Message::AskClient(ClientAsk::Unclaim(key), self.nobody()));
        }
    }

    /// The new file is there; the stream that was asked for is not. Its hold on the file is the stream's from the start.
    fn make_first_stream(
        &mut self,
        creating: Box<Creating>,
        file: Object,
        stream: Name,
        turn: &mut Turn<'_>,
    ) {
        self.undo_grant(&creating, &file, turn);
        self.make_stream(creating, file, stream, turn);
    }

    fn make_stream(&mut self, mut creating: Box<Creating>, file: Object, stream: Name, turn: &mut Turn<'_>) {
        let (initial, most) = (Box::new(creating.initial()), self.limits.streams_per_file_max);
        let op = StorageOp::CreateStream { file: file.handle, stream, initial, most };
        creating.stage = Stage::MakingStream { file };
        self.submit(creating.requester.clone(), op, Wait::Create(creating), turn);
    }

    fn prepare(&mut self, mut creating: Box<Creating>, object: Object, turn: &mut Turn<'_>) {
        if creating.action == CreateAction::CREATED {
            return self.complete_create(creating, object, turn);
        }
        // Also before an overwrite: the name may have gone between its resolution and the grant. From now on it can't.
        let op = StorageOp::Open { handle: object.handle, intent: creating.intent(&object.attributes) };
        creating.stage = Stage::Preparing { object };
        self.submit(creating.requester.clone(), op, Wait::Create(creating), turn);
    }

    fn overwrite(&mut self, mut creating: Box<Creating>, object: Object, turn: &mut Turn<'_>) {
        let supersede = creating.request.create_disposition == CreateDisposition::SUPERSEDE;
        creating.action = if supersede { CreateAction::SUPERSEDED } else { CreateAction::OVERWRITTEN };
        let initial = Box::new(creating.initial());
        let op = StorageOp::Overwrite { handle: object.handle, initial, supersede };
        creating.stage = Stage::Preparing { object };
        self.submit(creating.requester.clone(), op, Wait::Create(creating), turn);
    }
}

impl Creating {
    /// Takes what the contexts ask for. Contexts of features that are not there are ignored (3.3.5.9).
    fn take_contexts(&mut self, dialect: Dialect, client: Option<[u8; 16]>) -> Result<(), NtStatus> {
        for context in std::mem::take(&mut self.request.contexts) {
            match context {
                RequestContext::EaBuffer(list) => {
                    if !self.caps.extended_attributes {
                        return Err(NtStatus::EAS_NOT_SUPPORTED);
                    }
                    self.eas = ea::parse_full(&list).map_err(ea::EaError::status)?;
                }
                RequestContext::SdBuffer(descriptor) => {
                    if self.caps.security {
                        let parsed = SecurityDescriptor::parse(&descriptor)
                            .map_err(|_| NtStatus::INVALID_SECURITY_DESCR)?;
                        self.security = Some(Box::new(parsed));
                    }
                }
                RequestContext::AllocationSize(size) => self.allocation = size,
                RequestContext::QueryMaximalAccess(since) => self.wants_maximal = Some(since),
                RequestContext::QueryOnDiskId => self.wants_disk_id = true,
                // There are no snapshots, so no older state of a file can be found (3.3.5.9.5).
                RequestContext::TimewarpToken(_) => return Err(NtStatus::OBJECT_NAME_NOT_FOUND),
                RequestContext::Lease(lease) => {
                    self.take_lease(dialect, client, lease.key, lease.state, None);
                }
                RequestContext::LeaseV2(lease) if dialect.is_smb3() => {
                    let v2 = LeaseV2 { parent: lease.parent(), epoch: lease.epoch };
                    self.take_lease(dialect, client, lease.key, lease.state, Some(v2));
                }
                // What asks for durability was read before.
                RequestContext::DurableHandleRequest
                | RequestContext::DurableHandleReconnect(_)
                | RequestContext::DurableHandleRequestV2(_)
                | RequestContext::DurableHandleReconnectV2(_)
                | RequestContext::LeaseV2(_)
                | RequestContext::AppInstanceId(_)
                | RequestContext::AppInstanceVersion(_)
                | RequestContext::SvhdxOpenDevice(_)
                | RequestContext::Unknown { .. } => {}
            }
        }
        Ok(())
    }

    fn placeholder(&self) -> Open {
        Open {
            volatile: self.open.0,
            session: self.origin.session,
            tree: self.origin.tree,
            share: self.requester.share,
            state: State::Creating,
            file: FileKey { volume: self.requester.volume, number: FileNumber(0) },
            handle: Handle(0),
            kind: Kind::File,
            caps: self.caps,
            access: AccessMask::EMPTY,
            options: self.request.create_options,
            path: shown_path(&self.path),
            stream: Name::default(),
            spelled: (Name::default(), Name::default()),
            moved: None,
            link: Link { parent: FileNumber(0), name: Name::default() },
            position: 0,
            ea_index: 1,
            listing: false,
            permit: Permit::default(),
            under_permit: UnderPermit::default(),
            lock_sequences: LockSequences::default(),
            client: None,
            durable: None,
            kept: false,
            created: None,
            lease: None,
            lease_v2: false,
            parent_lease: None,
            wrote: false,
            cached_in: 0,
            break_told: None,
            granted: false,
            held_breaks: Vec::new(),
            settled: None,
            outstanding: Outstanding::default(),
            doomed: false,
            times: super::times::Times::default(),
        }
    }

    fn wants_directory(&self) -> bool {
        self.request.create_options.contains(CreateOptions::DIRECTORY_FILE)
            || self.path.stream_type() == Some(StreamType::IndexAllocation)
    }

    fn last_component(&self) -> Name {
        self.path.file_name().map(Name::from_units).unwrap_or_default()
    }

    fn new_link(&self, parent: &Object) -> Link {
        Link { parent: parent.attributes.number, name: self.last_component().folded() }
    }

    fn overwrites(&self) -> bool {
        matches!(
            self.request.create_disposition,
            CreateDisposition::SUPERSEDE | CreateDisposition::OVERWRITE | CreateDisposition::OVERWRITE_IF
        )
    }

    fn makes(&self) -> bool {
        !matches!(self.request.create_disposition, CreateDisposition::OPEN | CreateDisposition::OVERWRITE)
    }
}

/// The path as FileNameInformation shows it, stream included.
pub(super) fn shown_path(path: &StreamPath) -> Name {
    let mut units = path.path().units().to_vec();
    if let Some(stream) = path.stream() {
        units.push(u16::from(b':'));
        units.extend_from_slice(stream.units());
    }
    Name::from_units(units)
}
