//! Scenarios: whole action lists, event by event.

use bytes::Bytes;
use smb_proto::access::AccessMask;
use smb_proto::attributes::FileAttributes;
use smb_proto::command::create::{self, CreateDisposition, CreateOptions, ImpersonationLevel, ShareAccess};
use smb_proto::command::negotiate::{self, Capabilities, Dialect, SecurityMode};
use smb_proto::command::negotiate_context::{HashAlgorithm, NegotiateContext};
use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::command::{FileId, close, read, tree_connect};
use smb_proto::crypto::{CipherAlgorithm, SigningAlgorithm};
use smb_proto::{FileTime, Name, NtStatus};

use crate::action::{Action, Actions, Output};
use crate::config::{Allowed, Config, Encryption, Limits, Share, Shared};
use crate::event::{AuthOutcome, Event, Identity, Peer};
use crate::ids::{
    BufferId, ConnectionId, FileNumber, Handle, MessageId, SessionId, ShardId, ShareId, Token, TreeId,
    VolumeId,
};
use crate::request::{Chain, Command, Protection, Request, SessionSetup, SetInfo, Setting};
use crate::response::{Body, Response};
use crate::shard::Shard;
use crate::storage::{Attributes, Kind, Object, Resolved, StorageOp, StorageReply, VolumeCaps};

mod access;
mod bind;
mod breaks;
mod channel_sequence;
mod directories;
mod durable;
mod extents;
mod limits;
mod links;
mod locks;
mod moved;
mod negotiate_answer;
mod notify;
mod persistent;
mod replace;
mod streams;
mod times;

const CONNECTION: ConnectionId = ConnectionId::new(ShardId(0), 1);

fn config() -> Config {
    Config {
        server_guid: [9; 16],
        incarnation: 1,
        shards: 1,
        dialects: (Dialect::SMB_2_0_2, Dialect::SMB_3_1_1),
        signers: vec![SigningAlgorithm::AesGmac, SigningAlgorithm::AesCmac],
        ciphers: vec![CipherAlgorithm::Aes128Gcm, CipherAlgorithm::Aes128Ccm],
        signing_required: false,
        encryption: Encryption::Possible,
        limits: Limits::default(),
        shares: vec![Share {
            id: ShareId(1),
            name: Name::from("share"),
            volume: VolumeId(1),
            caps: VolumeCaps { streams: true, hard_links: true, security: true, ..VolumeCaps::default() },
            read_only: false,
            encrypted: false,
            access_based: false,
            continuous_availability: None,
            allowed: Allowed::Users,
        }],
        interfaces: Vec::new(),
    }
}

/// A shard and one client that counts its message ids.
struct World {
    shard: Shard,
    next_message: u64,
    session: SessionId,
    tree: TreeId,
}

impl World {
    fn new() -> Self {
        Self::with(config())
    }

    fn with(config: Config) -> Self {
        let shard = Shard::new(ShardId(0), Shared::new(config));
        let mut world = Self { shard, next_message: 0, session: SessionId(0), tree: TreeId(0) };
        world.step(Event::Accepted { connection: CONNECTION, peer: Peer(1) });
        world
    }

    fn step(&mut self, event: Event) -> Actions {
        let mut actions = Actions::new();
        self.shard.step(event, &mut actions);
        self.shard.check_invariants();
        actions
    }

    fn request(&mut self, command: Command) -> Request {
        let message = MessageId(self.next_message);
        self.next_message += 1;
        Request {
            message,
            credit_charge: 1,
            credits: 16,
            session: self.session,
            tree: self.tree,
            async_id: None,
            related: false,
            replay: false,
            channel_sequence: 0,
            protection: if self.session == SessionId(0) { Protection::None } else { Protection::Signed },
            size: 100,
            command,
        }
    }

    fn send(&mut self, command: Command) -> Actions {
        let first = self.request(command);
        self.step(Event::Request { connection: CONNECTION, chain: Chain { first, rest: Vec::new() } })
    }

    fn answer(&mut self, token: Token, reply: StorageReply) -> Actions {
        self.step(Event::Completed { token, reply })
    }

    fn negotiated(mut self) -> Self {
        let request = negotiate_request();
        let actions = self.send(Command::Negotiate(Box::new(request)));
        assert_eq!(response(&actions).status, NtStatus::SUCCESS);
        self
    }

    fn setup(&mut self) -> (SessionId, MessageId) {
        let setup = SessionSetup {
            binding: false,
            signing_required: false,
            previous_session: SessionId(0),
            token: BufferId(7),
        };
        let actions = self.send(Command::SessionSetup(setup));
        let [
            Action::Output(_, Output::ContinueHash { session, message }),
            Action::Output(_, Output::Authenticate { session: same, message: also, token: BufferId(7) }),
        ] = actions.as_slice()
        else {
            panic!("{actions:?}")
        };
        assert_eq!((session, message), (same, also));
        (*session, *message)
    }

    fn authenticated(self) -> Self {
        let mut world = self;
        let (session, message) = world.setup();
        let actions = world.step(Event::Authenticated {
            connection: CONNECTION,
            session,
            message,
            outcome: AuthOutcome::Accepted { reply: None, identity: user(), keyed: true, valid_for_ms: None },
        });
        // R6: the keys are installed before the response that lets the client use them.
        let keys =
            actions.iter().position(|action| matches!(action, Action::Output(_, Output::InstallKeys { .. })));
        let respond =
            actions.iter().position(|action| matches!(action, Action::Output(_, Output::Respond(_))));
        assert!(keys.is_some() && keys < respond, "{actions:?}");
        world.session = session;
        world
    }

    fn connected(self) -> Self {
        self.negotiated().authenticated_and_connected()
    }

    fn authenticated_and_connected(self) -> Self {
        let mut world = self.authenticated();
        let connect = tree_connect::Request {
            flags: tree_connect::Flags::EMPTY,
            path: Name::from(r"\\server\SHARE"),
            contexts: Vec::new(),
        };
        let actions = world.send(Command::TreeConnect(connect));
        let answer = response(&actions);
        assert_eq!(answer.status, NtStatus::SUCCESS);
        world.tree = answer.tree;
        world
    }

    /// Opens an existing file.
    fn open(&mut self, name: &str, number: u64, handle: u64) -> FileId {
        let actions = self.send(create(name, CreateDisposition::OPEN));
        let (token, op) = submitted(&actions);
        assert!(matches!(op, StorageOp::Resolve { .. }));
        let actions =
            self.answer(token, StorageReply::Resolved(Resolved::Found(object(name, number, handle))));
        let (token, op) = submitted(&actions);
        assert!(matches!(op, StorageOp::Open { .. }), "{op:?}");
        let actions = self.answer(token, StorageReply::Attributes(attributes(number)));
        let Body::Create(create) = &response(&actions).body else { panic!("{actions:?}") };
        create.file_id
    }
}

fn user() -> Identity {
    Identity::User { name: "alice".into(), number: 1000 }
}

fn negotiate_request() -> negotiate::Request {
    negotiate::Request {
        security_mode: SecurityMode::SIGNING_ENABLED,
        capabilities: Capabilities::EMPTY,
        client_guid: [1; 16],
        dialects: vec![Dialect::SMB_2_1, Dialect::SMB_3_1_1],
        contexts: vec![NegotiateContext::PreauthIntegrity {
            algorithms: vec![HashAlgorithm::SHA_512],
            salt: Bytes::new(),
        }],
    }
}

fn create(name: &str, disposition: CreateDisposition) -> Command {
    Command::Create(Box::new(create::Request {
        oplock_level: OplockLevel::NONE,
        impersonation_level: ImpersonationLevel(2),
        desired_access: AccessMask::GENERIC_ALL,
        file_attributes: FileAttributes::EMPTY,
        share_access: ShareAccess(7),
        create_disposition: disposition,
        create_options: CreateOptions::EMPTY,
        name: Name::from(name),
        contexts: Vec::new(),
    }))
}

fn attributes(number: u64) -> Attributes {
    Attributes {
        number: FileNumber(number),
        kind: Kind::File,
        dos: FileAttributes::ARCHIVE,
        creation: FileTime(1),
        last_access: FileTime(2),
        last_write: FileTime(3),
        change: FileTime(4),
        end_of_file: 10,
        allocation: 4096,
        links: 1,
        ea_size: 0,
        reparse_tag: 0,
    }
}

fn object(name: &str, number: u64, handle: u64) -> Object {
    Object {
        handle: Handle(handle),
        attributes: attributes(number),
        parent: FileNumber(1),
        name: Name::from(name),
        stream: Name::default(),
        security: None,
    }
}

fn directory(handle: u64) -> Object {
    let root = Attributes { kind: Kind::Directory, dos: FileAttributes::DIRECTORY, ..attributes(1) };
    Object { attributes: root, ..object("", 1, handle) }
}

fn responses(actions: &Actions) -> Vec<&Response> {
    actions
        .iter()
        .filter_map(
            |action| if let Action::Output(_, Output::Respond(all)) = action { Some(all) } else { None },
        )
        .flatten()
        .collect()
}

#[track_caller]
fn response(actions: &Actions) -> &Response {
    let all = responses(actions);
    assert_eq!(all.len(), 1, "{actions:?}");
    all[0]
}

#[track_caller]
fn submitted(actions: &Actions) -> (Token, StorageOp) {
    let mut found = actions.iter().filter_map(|action| {
        if let Action::Submit { token, op, .. } = action { Some((*token, op.clone())) } else { None }
    });
    let first = found.next().unwrap_or_else(|| panic!("nothing was submitted: {actions:?}"));
    assert!(found.next().is_none(), "more than one submit: {actions:?}");
    first
}

fn submits(actions: &Actions) -> Vec<(Token, StorageOp)> {
    actions
        .iter()
        .filter_map(|action| {
            if let Action::Submit { token, op, .. } = action { Some((*token, op.clone())) } else { None }
        })
        .collect()
}

fn disconnects(actions: &Actions) -> bool {
    actions.iter().any(|action| matches!(action, Action::Output(_, Output::Disconnect)))
}

#[test]
fn nothing_is_answered_before_negotiate() {
    let mut world = World::new();
    let actions = world.send(Command::Echo);
    assert!(disconnects(&actions) && responses(&actions).is_empty(), "{actions:?}");
    assert!(
        world.send(Command::Negotiate(Box::new(negotiate_request()))).is_empty(),
        "the connection is closing"
    );
}

#[test]
fn negotiate_settles_the_best_dialect_once() {
    let mut world = World::new();
    let actions = world.send(Command::Negotiate(Box::new(negotiate_request())));
    let [Action::Output(_, Output::Negotiated(agreed)), Action::Output(_, Output::Respond(_))] =
        actions.as_slice()
    else {
        panic!("{actions:?}")
    };
    assert_eq!(agreed.dialect, Dialect::SMB_3_1_1);
    assert_eq!(agreed.cipher, None, "the client offered none");
    assert!(disconnects(&world.send(Command::Negotiate(Box::new(negotiate_request())))));
}

#[test]
fn a_message_id_is_accepted_once() {
    let mut world = World::new().negotiated();
    world.next_message = 0;
    let actions = world.send(Command::Echo);
    assert!(disconnects(&actions) && responses(&actions).is_empty(), "{actions:?}");
}

#[test]
fn a_denied_user_leaves_nothing_behind() {
    let mut world = World::new().negotiated();
    let (session, message) = world.setup();
    let outcome = AuthOutcome::Denied { status: NtStatus::LOGON_FAILURE };
    let actions = world.step(Event::Authenticated { connection: CONNECTION, session, message, outcome });
    assert_eq!(response(&actions).status, NtStatus::LOGON_FAILURE);
    assert!(world.shard.sessions.is_empty());
    assert!(world.shard.clients.is_empty());
}

#[test]
fn logoff_answers_under_the_keys_and_then_drops_them() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    let actions = world.send(Command::Logoff);
    assert!(responses(&actions).is_empty(), "the open closes first: {actions:?}");
    let (token, op) = submitted(&actions);
    assert_eq!(op, StorageOp::Close { handle: Handle(50) });
    let actions = world.answer(token, StorageReply::Done);
    let order: Vec<&Action> = actions
        .iter()
        .filter(|action| matches!(action, Action::Output(_, Output::Respond(_) | Output::DropKeys { .. })))
        .collect();
    assert!(
        matches!(
            order[..],
            [Action::Output(_, Output::Respond(_)), Action::Output(_, Output::DropKeys { .. })]
        ),
        "{actions:?}"
    );
    let read = read_request(id);
    assert_eq!(response(&world.send(read)).status, NtStatus::USER_SESSION_DELETED);
}

fn read_request(file_id: FileId) -> Command {
    Command::Read(read::Request {
        padding: 80,
        flags: read::Flags::default(),
        length: 10,
        offset: 0,
        file_id,
        minimum_count: 0,
        channel: read::Channel::NONE,
        remaining_bytes: 0,
        channel_info: Bytes::new(),
    })
}

#[test]
fn a_close_waits_for_the_read_under_it() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    let read = world.send(read_request(id));
    let (read_token, _) = submitted(&read);
    let actions = world.send(Command::Close(close::Request { flags: close::Flags::EMPTY, file_id: id }));
    assert!(actions.is_empty(), "nothing is released while storage works on it (S39): {actions:?}");
    let actions = world.answer(read_token, StorageReply::Read { buffer: BufferId(3), length: 10 });
    assert!(matches!(response(&actions).body, Body::Read { buffer: BufferId(3), length: 10 }));
    let (close_token, op) = submitted(&actions);
    assert_eq!(op, StorageOp::Close { handle: Handle(50) });
    let actions = world.answer(close_token, StorageReply::Done);
    assert_eq!(response(&actions).status, NtStatus::SUCCESS);
    assert!(world.shard.files.is_empty() && world.shard.opens.is_empty());
}

#[test]
fn a_disconnect_closes_what_the_session_had_open() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    let (read_token, _) = submitted(&world.send(read_request(id)));
    let actions = world.step(Event::Disconnected { connection: CONNECTION });
    assert!(submits(&actions).is_empty());
    let actions = world.answer(read_token, StorageReply::Read { buffer: BufferId(3), length: 10 });
    assert!(actions.contains(&Action::Release(BufferId(3))), "nobody is left to send it to: {actions:?}");
    let (close_token, _) = submitted(&actions);
    world.answer(close_token, StorageReply::Done);
    assert!(world.shard.sessions.is_empty() && world.shard.opens.is_empty() && world.shard.files.is_empty());
    assert!(world.shard.waits.is_empty());
}

#[test]
fn two_creators_of_one_name_see_one_created_and_one_opened() {
    let mut world = World::new().connected();
    let (first, _) = submitted(&world.send(create("New", CreateDisposition::OPEN_IF)));
    let (second, _) = submitted(&world.send(create("new", CreateDisposition::OPEN_IF)));
    let missing = |handle| StorageReply::Resolved(Resolved::NoName { parent: directory(handle) });
    let (make, op) = submitted(&world.answer(first, missing(10)));
    assert!(matches!(op, StorageOp::Create { .. }));
    let actions = world.answer(second, missing(11));
    assert!(submits(&actions).is_empty(), "the name is reserved: {actions:?}");
    let actions = world.answer(make, StorageReply::Opened(object("New", 5, 50)));
    let Body::Create(made) = &response(&actions).body else { panic!("{actions:?}") };
    assert_eq!(made.create_action, create::CreateAction::CREATED);
    let again: Vec<(Token, StorageOp)> =
        submits(&actions).into_iter().filter(|(_, op)| matches!(op, StorageOp::Resolve { .. })).collect();
    let [(resolve, _)] = again.as_slice() else { panic!("the other runs again from its name: {actions:?}") };
    let actions = world.answer(*resolve, StorageReply::Resolved(Resolved::Found(object("New", 5, 51))));
    let (open, _) = submitted(&actions);
    let actions = world.answer(open, StorageReply::Attributes(attributes(5)));
    let Body::Create(opened) = &response(&actions).body else { panic!("{actions:?}") };
    assert_eq!(opened.create_action, create::CreateAction::OPENED);
}

#[test]
fn a_related_compound_uses_the_open_that_it_made() {
    let mut world = World::new().connected();
    let first = world.request(create("a", CreateDisposition::OPEN));
    let mut close = world
        .request(Command::Close(close::Request { flags: close::Flags::EMPTY, file_id: FileId::ALL_ONES }));
    close.related = true;
    close.session = SessionId(u64::MAX);
    close.tree = TreeId(u32::MAX);
    let chain = Chain { first, rest: vec![close] };
    let (token, _) = submitted(&world.step(Event::Request { connection: CONNECTION, chain }));
    let (token, _) =
        submitted(&world.answer(token, StorageReply::Resolved(Resolved::Found(object("a", 5, 50)))));
    let actions = world.answer(token, StorageReply::Attributes(attributes(5)));
    assert!(responses(&actions).is_empty(), "both go out in one frame");
    let (token, _) = submitted(&actions);
    let actions = world.answer(token, StorageReply::Done);
    let statuses: Vec<(NtStatus, bool)> =
        responses(&actions).iter().map(|response| (response.status, response.related)).collect();
    assert_eq!(statuses, [(NtStatus::SUCCESS, false), (NtStatus::SUCCESS, true)]);
}

#[test]
fn a_related_close_closes_whatever_failed_before_it() {
    let mut world = World::new().connected();
    let first = world.request(create("a", CreateDisposition::OPEN));
    let failing = || {
        let set = SetInfo { file_id: FileId::ALL_ONES, length: 0, what: Setting::InvalidClass };
        Command::SetInfo(Box::new(set))
    };
    let rest = [
        failing(),
        failing(),
        Command::Close(close::Request { flags: close::Flags::EMPTY, file_id: FileId::ALL_ONES }),
    ];
    let rest = rest.map(|command| Request { related: true, ..world.request(command) }).to_vec();
    let chain = Chain { first, rest };
    let (token, _) = submitted(&world.step(Event::Request { connection: CONNECTION, chain }));
    let (token, _) =
        submitted(&world.answer(token, StorageReply::Resolved(Resolved::Found(object("a", 5, 50)))));
    let (token, op) = submitted(&world.answer(token, StorageReply::Attributes(attributes(5))));
    assert_eq!(op, StorageOp::Close { handle: Handle(50) });
    let actions = world.answer(token, StorageReply::Done);
    let statuses: Vec<NtStatus> = responses(&actions).iter().map(|response| response.status).collect();
    let refused = NtStatus::INVALID_INFO_CLASS;
    assert_eq!(statuses, [NtStatus::SUCCESS, refused, refused, NtStatus::SUCCESS]);
    assert!(world.shard.opens.is_empty());
}

#[test]
fn a_failed_create_fails_what_relates_to_it() {
    let mut world = World::new().connected();
    let first = world.request(create("a", CreateDisposition::OPEN));
    let mut close = world
        .request(Command::Close(close::Request { flags: close::Flags::EMPTY, file_id: FileId::ALL_ONES }));
    close.related = true;
    let chain = Chain { first, rest: vec![close] };
    let (token, _) = submitted(&world.step(Event::Request { connection: CONNECTION, chain }));
    let actions = world.answer(token, StorageReply::Resolved(Resolved::NoName { parent: directory(10) }));
    let statuses: Vec<NtStatus> = responses(&actions).iter().map(|response| response.status).collect();
    assert_eq!(statuses, [NtStatus::OBJECT_NAME_NOT_FOUND; 2]);
    assert_eq!(
        submitted(&actions).1,
        StorageOp::Close { handle: Handle(10) },
        "the pinned directory is given back"
    );
}
