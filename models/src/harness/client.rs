//! Requests as a well-meaning client would send them, and the configuration that the models share.

use bytes::Bytes;
use smb_proto::access::AccessMask;
use smb_proto::attributes::FileAttributes;
use smb_proto::command::create::{CreateDisposition, CreateOptions, ImpersonationLevel, ShareAccess};
use smb_proto::command::negotiate::{Capabilities, Dialect, SecurityMode};
use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::command::query_directory::{self, QueryDirectoryFlags};
use smb_proto::command::{FileId, close, create, negotiate, read, tree_connect};
use smb_proto::create_context::RequestContext;
use smb_proto::crypto::SigningAlgorithm;
use smb_proto::fscc::class::FileInfoClass;
use smb_proto::fscc::file_info::{RenameFlags, RenameInformation, SetFileInformation};
use smb_proto::{Name, NtStatus};
use smb_state::config::{Allowed, Config, Encryption, Limits, Share};
use smb_state::event::Identity;
use smb_state::ids::{BufferId, ConnectionId, MessageId, SessionId, ShareId, TreeId, VolumeId};
use smb_state::request::{Chain, Command, Protection, Request, SessionSetup, SetInfo, Setting, Write};
use smb_state::response::Body;
use smb_state::storage::VolumeCaps;

use super::{Move, Proof, Seen, World};

/// A configuration with one share, `\\server\share`, on a volume with hard links or of pipes.
#[must_use]
pub fn config(shards: u16, limits: Limits, pipes: bool) -> Config {
    let caps = VolumeCaps { hard_links: !pipes, pipes, ..VolumeCaps::default() };
    Config {
        server_guid: [1; 16],
        incarnation: 1,
        shards,
        dialects: (Dialect::SMB_2_0_2, Dialect::SMB_3_1_1),
        signers: vec![SigningAlgorithm::AesCmac],
        ciphers: Vec::new(),
        signing_required: false,
        encryption: Encryption::Possible,
        limits,
        shares: vec![Share {
            id: ShareId(1),
            name: Name::from("share"),
            volume: VolumeId(1),
            caps,
            read_only: false,
            encrypted: false,
            access_based: false,
            continuous_availability: None,
            allowed: Allowed::Users,
        }],
        interfaces: Vec::new(),
    }
}

/// A user of the database.
#[must_use]
pub fn user(number: u32) -> Identity {
    Identity::User { name: format!("user{number}").into(), number }
}

/// The CreateGuid of the CREATEs that name one.
pub const CREATE_GUID: [u8; 16] = [0xC6; 16];

/// What a client knows of its connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// Where.
    pub connection: ConnectionId,
    /// The next message id.
    pub next: u64,
    /// Its session.
    pub session: SessionId,
    /// Its tree connect.
    pub tree: TreeId,
    /// Credits that each request asks for.
    pub credits: u16,
}

impl Client {
    /// A client that has said nothing yet.
    #[must_use]
    pub fn new(connection: ConnectionId) -> Self {
        Self { connection, next: 0, session: SessionId(0), tree: TreeId(0), credits: 1 }
    }

    /// A request with the next message id, signed if there is a session.
    pub fn request(&mut self, command: Command) -> Request {
        let message = MessageId(self.next);
        self.next += 1;
        let protection = if self.session == SessionId(0) { Protection::None } else { Protection::Signed };
        Request {
            message,
            credit_charge: 1,
            credits: self.credits,
            session: self.session,
            tree: self.tree,
            async_id: None,
            related: false,
            replay: false,
            channel_sequence: 0,
            protection,
            size: 100,
            command,
        }
    }

    /// The move that sends one request.
    pub fn send(&mut self, command: Command) -> Move {
        let first = self.request(command);
        Move::Send(self.connection, Box::new(Chain { first, rest: Vec::new() }))
    }

    /// The move that cancels a request. It has no message id of its own.
    #[must_use]
    pub fn cancel(&self, target: MessageId) -> Move {
        let mut client = self.clone();
        let first = Request { message: target, credit_charge: 0, ..client.request(Command::Cancel) };
        Move::Send(self.connection, Box::new(Chain { first, rest: Vec::new() }))
    }

    /// The buffer for the payload of the request with this message id.
    #[must_use]
    pub fn buffer(&self, message: u64) -> BufferId {
        BufferId((self.connection.0 & 0xFF) << 32 | message)
    }

    /// Connects, negotiates, authenticates and connects to the share, step by step; for the start of a model.
    ///
    /// # Panics
    /// When the server does not let it.
    #[must_use]
    pub fn establish(connection: ConnectionId, number: u32, credits: u16, world: &mut World) -> Self {
        let mut client = Self { credits, ..Self::new(connection) };
        world.accept(connection);
        let mut ask = |client: &mut Self, command: Command| {
            let next = client.send(command);
            let mut seen = world.apply(next);
            let proofs: Vec<_> = world.proofs().collect();
            for (connection, message, _) in proofs {
                seen.extend(world.apply(Move::Prove(connection, message, Proof::User(number, None))));
            }
            seen.extend(world.run());
            let answer = seen.into_iter().find_map(|seen| match seen {
                Seen::Response(to, response) if to == connection => Some(response),
                Seen::Response(..) | Seen::Notification(..) | Seen::Audit(_) => None,
            });
            let answer = answer.expect("an answer");
            assert_eq!(answer.status, NtStatus::SUCCESS);
            answer
        };
        ask(&mut client, negotiate(connection));
        let buffer = client.buffer(client.next);
        client.session = ask(&mut client, session_setup(buffer, SessionId(0))).session;
        client.tree = ask(&mut client, tree_connect()).tree;
        client
    }
}

/// NEGOTIATE of SMB 3.0, with a ClientGuid of the connection's own.
#[must_use]
pub fn negotiate(connection: ConnectionId) -> Command {
    Command::Negotiate(Box::new(negotiate::Request {
        security_mode: SecurityMode::SIGNING_ENABLED,
        capabilities: Capabilities::EMPTY,
        client_guid: [u8::try_from(connection.0 & 0x7F).unwrap_or(0) + 1; 16],
        dialects: vec![Dialect::SMB_3_0],
        contexts: Vec::new(),
    }))
}

/// SESSION_SETUP.
#[must_use]
pub fn session_setup(token: BufferId, previous_session: SessionId) -> Command {
    Command::SessionSetup(SessionSetup { binding: false, signing_required: false, previous_session, token })
}

/// The same SESSION_SETUP, to bind.
#[must_use]
pub fn binding(mut request: Request) -> Request {
    if let Command::SessionSetup(setup) = &mut request.command {
        setup.binding = true;
    }
    request
}

/// TREE_CONNECT to the share.
#[must_use]
pub fn tree_connect() -> Command {
    Command::TreeConnect(tree_connect::Request {
        flags: tree_connect::Flags::EMPTY,
        path: Name::from(r"\\server\share"),
        contexts: Vec::new(),
    })
}

/// CREATE.
#[must_use]
pub fn create(
    name: &str,
    disposition: CreateDisposition,
    access: AccessMask,
    share: ShareAccess,
    options: CreateOptions,
) -> Command {
    Command::Create(Box::new(create::Request {
        oplock_level: OplockLevel::NONE,
        impersonation_level: ImpersonationLevel::IMPERSONATION,
        desired_access: access,
        file_attributes: FileAttributes::EMPTY,
        share_access: share,
        create_disposition: disposition,
        create_options: options,
        name: Name::from(name),
        contexts: vec![RequestContext::QueryOnDiskId],
    }))
}

/// READ of one byte.
#[must_use]
pub fn read(file_id: FileId) -> Command {
    Command::Read(read::Request {
        padding: 80,
        flags: read::Flags::default(),
        length: 1,
        offset: 0,
        file_id,
        minimum_count: 0,
        channel: read::Channel::NONE,
        remaining_bytes: 0,
        channel_info: Bytes::new(),
    })
}

/// WRITE of one byte.
#[must_use]
pub fn write(file_id: FileId, buffer: BufferId) -> Command {
    Command::Write(Write {
        file_id,
        offset: 0,
        buffer,
        length: 1,
        write_through: false,
        unbuffered: false,
        by_rdma: false,
    })
}

/// QUERY_DIRECTORY of everything.
#[must_use]
pub fn list(file_id: FileId) -> Command {
    Command::QueryDirectory(Box::new(query_directory::Request {
        file_information_class: FileInfoClass::NAMES.0,
        flags: QueryDirectoryFlags::RESTART_SCANS,
        file_index: 0,
        file_id,
        file_name: Name::from("*"),
        output_buffer_length: 1000,
    }))
}

/// CLOSE.
#[must_use]
pub fn close(file_id: FileId) -> Command {
    Command::Close(close::Request { flags: close::Flags::EMPTY, file_id })
}

fn set_info(file_id: FileId, information: SetFileInformation) -> Command {
    Command::SetInfo(Box::new(SetInfo { file_id, length: 24, what: Setting::File(information) }))
}

/// SET_INFO with FileRenameInformation or FileLinkInformation.
#[must_use]
pub fn rename(file_id: FileId, to: &str, replace: bool, link: bool) -> Command {
    let flags = if replace { RenameFlags::REPLACE_IF_EXISTS } else { RenameFlags::EMPTY };
    let information = RenameInformation { flags, root_directory: 0, name: Name::from(to) };
    let setting = if link { SetFileInformation::Link } else { SetFileInformation::Rename };
    set_info(file_id, setting(information))
}

/// SET_INFO with FileDispositionInformation.
#[must_use]
pub fn dispose(file_id: FileId, delete: bool) -> Command {
    set_info(file_id, SetFileInformation::Disposition(delete))
}

/// The open that a CREATE's response names.
#[must_use]
pub fn opened(body: &Body) -> Option<FileId> {
    if let Body::Create(create) = body { Some(create.file_id) } else { None }
}
