//! From a script's decisions to events: clients that connect, negotiate, log on and send requests.

use bytes::Bytes;
use smb_proto::attributes::FileAttributes;
use smb_proto::auth::initiator::Wrapping;
use smb_proto::command::change_notify::{self, ChangeNotifyFlags, CompletionFilter};
use smb_proto::command::create::{CreateDisposition, CreateOptions, ImpersonationLevel, ShareAccess};
use smb_proto::command::ioctl::{self, FsctlCode, IoctlFlags};
use smb_proto::command::lock::{LockElement, LockFlags, LockSequence};
use smb_proto::command::negotiate::{self, Capabilities, Dialect, SecurityMode};
use smb_proto::command::oplock_break::{Acknowledgment, LeaseBreak, OplockBreak, OplockLevel};
use smb_proto::command::query_directory::QueryDirectoryFlags;
use smb_proto::command::query_info::{InfoType, QueryFlags};
use smb_proto::command::write::WriteFlags;
use smb_proto::command::{
    FileId, Request, cancel, close, create, echo, flush, lock, logoff, query_directory, query_info, read,
    set_info, tree_disconnect, write,
};
use smb_proto::create_context::{LeaseKey, LeaseState, RequestContext};
use smb_proto::header::{Flags, Header, Routing};
use smb_proto::{AccessMask, NtStatus};
use smb_state::config::Limits;
use smb_state::event::Admin;
use smb_state::ids::{SessionId, ShareId};

use super::client::{Client, Logon, Protection};
use super::samples;
use super::world::{PASSWORD, USERS, World};
use crate::script::Script;

/// Most connections at a time.
const CLIENTS_MAX: usize = 4;

/// A server and its clients.
#[derive(Debug)]
pub struct Driver {
    world: World,
    clients: Vec<Client>,
}

impl Driver {
    /// A server; see [`super::world::config`] for the options.
    #[must_use]
    pub fn new(options: u8) -> Self {
        Self { world: World::new(options), clients: Vec::new() }
    }

    /// One client more, unless there are too many. Returns its place.
    pub fn connect(&mut self) -> usize {
        if self.clients.len() >= CLIENTS_MAX {
            let oldest = self.clients.remove(0);
            self.world.disconnect(oldest.connection);
        }
        let connection = self.world.connect();
        self.clients.push(Client::new(connection));
        self.deliver();
        self.clients.len() - 1
    }

    /// Ends everything.
    ///
    /// # Panics
    /// When something is left.
    pub fn finish(mut self) {
        self.world.finish();
        self.deliver();
    }

    fn deliver(&mut self) {
        for (connection, frame) in self.world.take_sent() {
            if let Some(client) = self.clients.iter_mut().find(|client| client.connection == connection) {
                client.receive(&frame);
            }
        }
    }

    fn send(&mut self, at: usize, messages: &[(Header, Vec<u8>)], protection: Protection) -> Vec<u8> {
        let client = &mut self.clients[at];
        let frame = client.frame(messages, protection);
        self.world.receive(client.connection, &frame);
        self.deliver();
        frame
    }

    fn send_raw(&mut self, at: usize, frame: &[u8]) {
        let client = &mut self.clients[at];
        client.note(frame);
        self.world.receive(client.connection, frame);
        self.deliver();
    }

    /// A header for the next message, which takes as many ids as its charge.
    fn header(&mut self, at: usize, code: u16, charge: u16, session: u64, tree: u32) -> Header {
        let client = &mut self.clients[at];
        let message_id = client.next_message;
        client.next_message += u64::from(charge.max(1));
        Header {
            credit_charge: charge,
            credits: 64,
            message_id,
            session_id: session,
            routing: Routing::Sync { process_id: 0xFEFF, tree_id: tree },
            ..crate::messages::plain_header(code)
        }
    }

    fn encode(&mut self, at: usize, request: &Request, session: u64, tree: u32) -> (Header, Vec<u8>) {
        let header = self.header(at, request.command().code(), 1, session, tree);
        let mut message = vec![0; 64];
        request.emit(&mut message);
        (header, message.split_off(64))
    }

    /// NEGOTIATE; the choice is the highest dialect, from 3.1.1 down, or SMB1's way.
    pub fn negotiate(&mut self, at: usize, choice: u8) {
        let dialects = match choice % 7 {
            0 | 1 => &samples::DIALECTS[..],
            2 => &[Dialect::SMB_3_0_2, Dialect::SMB_3_0][..],
            3 => &[Dialect::SMB_3_0, Dialect::SMB_2_1][..],
            4 => &[Dialect::SMB_2_1][..],
            5 => &[Dialect::SMB_2_0_2][..],
            _ => {
                let mut frame = Vec::new();
                samples::smb1_negotiate().emit(&mut frame);
                self.send_raw(at, &frame);
                self.clients[at].next_message = 1;
                return;
            }
        };
        let request = samples::negotiate(dialects, choice & 0x80 == 0);
        let message = self.encode(at, &Request::Negotiate(request), 0, 0);
        self.send(at, &[message], Protection::Plain);
    }

    /// SESSION_SETUP to its end.
    ///
    /// # Panics
    /// When a wrong password is let in.
    pub fn log_on(&mut self, at: usize, user: &str, password: &str, wrapping: Wrapping, previous: u64) {
        let before = self.clients[at].sessions.len();
        let mut logon = Logon::begin(&self.clients[at], user, password, wrapping, previous);
        for _ in 0..4 {
            let (request, session) = logon.request();
            let message = self.encode(at, &request, session, 0);
            let sent = self.send(at, &[message], Protection::Plain);
            if !logon.advance(&mut self.clients[at], &sent) {
                break;
            }
        }
        let wrong = password != PASSWORD || !USERS.contains(&user);
        assert!(!wrong || self.clients[at].sessions.len() <= before, "{user} got in with {password}");
    }

    /// NEGOTIATE, SESSION_SETUP, two TREE_CONNECTs and a CREATE.
    pub fn prepare(&mut self, at: usize, choice: u8) {
        self.negotiate(at, choice);
        self.log_on(at, USERS[usize::from(choice & 0x40 != 0)], PASSWORD, Wrapping::Spnego, 0);
        let late = std::mem::replace(&mut self.world.late, false);
        for share in ["\\\\server\\data", "\\\\server\\IPC$"] {
            self.usual(at, &Request::TreeConnect(samples::tree_connect(share)));
        }
        self.usual(at, &Request::Create(samples::create("file")));
        self.usual(at, &Request::Create(samples::create_directory("dir")));
        self.world.late = late;
    }

    fn usual(&mut self, at: usize, request: &Request) {
        let Some(session) = self.clients[at].sessions.last() else { return };
        let (id, tree) = (session.id, session.trees.first().copied().unwrap_or(0));
        let message = self.encode(at, request, id, tree);
        self.send(at, &[message], Protection::Signed);
    }

    /// Bytes as a frame, or as a body behind a header that fits in.
    pub fn arbitrary(&mut self, at: usize, kind: u8, bytes: &[u8]) {
        let protection = match kind {
            0..=63 => return self.send_raw(at, bytes),
            64..=127 => Protection::Plain,
            128..=191 => Protection::Signed,
            192..=255 => Protection::Sealed,
        };
        let session = self.clients[at].sessions.last();
        let (id, tree) =
            session.map_or((0, 0), |session| (session.id, session.trees.first().copied().unwrap_or(0)));
        let header = self.header(at, u16::from(kind % 64 % 20), 1, id, tree);
        self.send(at, &[(header, bytes.to_vec())], protection);
    }

    /// One operation of a script.
    pub fn operation(&mut self, script: &mut Script<'_>) {
        let operation = script.u8();
        if self.clients.is_empty() {
            let at = self.connect();
            return self.prepare(at, operation);
        }
        let at = usize::from(script.u8()) % self.clients.len();
        match operation % 32 {
            0 => {
                let at = self.connect();
                self.prepare(at, script.u8());
            }
            1 => drop(self.connect()),
            2 => {
                let client = self.clients.remove(at);
                self.world.disconnect(client.connection);
            }
            3 => self.negotiate(at, script.u8()),
            4 => {
                let wrapping = script.of(&[Wrapping::Spnego, Wrapping::Raw, Wrapping::SpnegoKerberosFirst]);
                let user = script.of(&["alice", "bob", "carol", ""]);
                let password = if script.chance(16) { "wrong" } else { PASSWORD };
                let previous = if script.chance(64) { self.any_session(script) } else { 0 };
                self.log_on(at, user, password, wrapping, previous);
            }
            5 => self.interfere(script),
            6 => self.world.late = script.u8() & 1 != 0,
            7..=10 => {
                let failure = script.chance(48).then(|| {
                    script.of(&[
                        NtStatus::DISK_FULL,
                        NtStatus::ACCESS_DENIED,
                        NtStatus::OBJECT_NAME_NOT_FOUND,
                        NtStatus::OBJECT_NAME_COLLISION,
                        NtStatus::UNEXPECTED_IO_ERROR,
                    ])
                });
                self.world.complete(usize::from(script.u8()), failure);
            }
            11 => self.spoil(at, script),
            12..=14 => {
                let count = 2 + script.u8() % 3;
                let related = script.chance(192);
                self.requests(at, count, related, script);
            }
            _ => self.requests(at, 1, false, script),
        }
        self.deliver();
        let world = &self.world;
        self.clients.retain(|client| world.is_open(client.connection));
    }

    /// Somebody else than a client does something.
    fn interfere(&mut self, script: &mut Script<'_>) {
        match script.u8() % 8 {
            0..=2 => self.world.expire(usize::from(script.u8()), false),
            3 => self.world.expire(usize::from(script.u8()), true),
            4 => {
                let session = SessionId(self.any_session(script));
                self.world.administer(&Admin::EndSession(session));
            }
            5 => self.world.administer(&Admin::EndShare(ShareId(u32::from(script.u8() % 5)))),
            6 => {
                let limits = Limits { opens_per_session_max: u32::from(script.u8()), ..Limits::default() };
                self.world.administer(&Admin::Limits(limits));
            }
            _ => {
                let mut shares = super::world::config(0).shares;
                shares.truncate(usize::from(script.u8() % 5));
                self.world.administer(&Admin::Shares(shares));
            }
        }
    }

    /// The last frame once more, or with some bytes changed, or cut.
    fn spoil(&mut self, at: usize, script: &mut Script<'_>) {
        let mut frame = self.clients[at].last_frame.clone();
        for _ in 0..script.u8() % 4 {
            let position = usize::from(script.u16());
            let value = script.u8();
            let length = frame.len().max(1);
            if let Some(byte) = frame.get_mut(position % length) {
                *byte = value;
            }
        }
        if script.chance(64) {
            frame.truncate(usize::from(script.u16()));
        }
        self.send_raw(at, &frame);
    }

    fn any_session(&self, script: &mut Script<'_>) -> u64 {
        let all: Vec<_> =
            self.clients.iter().flat_map(|client| &client.sessions).map(|session| session.id).collect();
        if all.is_empty() || script.chance(8) { script.number() } else { script.of(&all) }
    }

    /// One frame of requests.
    fn requests(&mut self, at: usize, count: u8, related: bool, script: &mut Script<'_>) {
        let sessions = &self.clients[at].sessions;
        let (mut session, mut tree) = (0, 0);
        if !sessions.is_empty() {
            let known = &sessions[usize::from(script.u8()) % sessions.len()];
            session = known.id;
            if !known.trees.is_empty() {
                tree = script.of(&known.trees);
            }
        }
        if script.chance(4) {
            session = self.any_session(script);
        }
        if script.chance(4) {
            tree = script.u32();
        }
        let mut messages = Vec::new();
        for index in 0..count {
            let request = self.request(at, session, related && index > 0, script);
            let (mut header, body) = self.encode(at, &request, session, tree);
            let odd = script.u8();
            if odd >= 250 {
                match odd {
                    250 => header.message_id = script.number(),
                    251 => header.credit_charge = script.u16(),
                    252 => header.flags = Flags(script.u32()),
                    253 => header.credits = script.u16(),
                    254 => header.status = NtStatus(script.u32()),
                    _ => header.flags = header.flags.with(Flags::REPLAY_OPERATION),
                }
                // The two ways to route a message differ by a flag.
                if header.flags.contains(Flags::ASYNC_COMMAND) {
                    header.routing = Routing::Async { async_id: script.number() };
                }
            }
            if let Request::Cancel(_) = request {
                self.clients[at].next_message -= 1;
                header.message_id = self.clients[at].next_message.saturating_sub(u64::from(script.u8() % 8));
                if script.chance(64) {
                    header.flags = header.flags.with(Flags::ASYNC_COMMAND);
                    header.routing = Routing::Async { async_id: script.number() };
                }
            }
            if related && index > 0 {
                header.flags = header.flags.with(Flags::RELATED_OPERATIONS);
                if script.chance(128) {
                    header.session_id = u64::MAX;
                    header.routing = Routing::Sync { process_id: 0, tree_id: u32::MAX };
                }
            }
            messages.push((header, body));
        }
        let protection = match script.u8() {
            0..=191 => Protection::Signed,
            192..=223 => Protection::Sealed,
            224..=249 => Protection::Plain,
            _ => Protection::Forged,
        };
        self.send(at, &messages, protection);
    }

    fn file(&self, at: usize, session: u64, related: bool, script: &mut Script<'_>) -> FileId {
        if related && !script.chance(64) {
            return FileId::ALL_ONES;
        }
        let sessions = &self.clients[at].sessions;
        let files = sessions.iter().find(|known| known.id == session).map_or(&[][..], |known| &known.files);
        match script.u8() {
            0..=249 if !files.is_empty() => script.of(files),
            0..=252 => FileId::ALL_ONES,
            _ => FileId { persistent: script.number(), volatile: script.number() },
        }
    }

    fn request(&self, at: usize, session: u64, related: bool, script: &mut Script<'_>) -> Request {
        let kind = script.u8();
        let file_id = self.file(at, session, related, script);
        match kind % 24 {
            0 => Request::Logoff(logoff::Request),
            1 => Request::TreeConnect(samples::tree_connect(script.of(&[
                "\\\\server\\data",
                "\\\\server\\IPC$",
                "\\\\s\\secret",
                "\\\\s\\fixed",
                "\\\\s\\none",
                "nonsense",
            ]))),
            2 => Request::TreeDisconnect(tree_disconnect::Request),
            3..=7 => Request::Create(self.create(script)),
            8 | 9 => {
                Request::Close(close::Request { flags: close::Flags(u16::from(script.u8() & 1)), file_id })
            }
            10 => Request::Flush(flush::Request { file_id }),
            11 => Request::Read(read::Request {
                padding: 0x50,
                flags: read::Flags(script.u8() & 3),
                length: u32::try_from(script.number() & 0xFFFF_FFFF).unwrap_or(0),
                offset: script.number(),
                file_id,
                minimum_count: u32::from(script.u8()),
                channel: read::Channel(u32::from(script.chance(4))),
                remaining_bytes: 0,
                channel_info: Bytes::new(),
            }),
            12 => Request::Write(write::Request {
                offset: script.number(),
                file_id,
                flags: WriteFlags(u32::from(script.u8() & 3)),
                channel: read::Channel(u32::from(script.chance(4))),
                remaining_bytes: 0,
                channel_info: Bytes::new(),
                data: Bytes::copy_from_slice(script.bytes()),
            }),
            13 => Request::Lock(self.lock(file_id, script)),
            14 => Request::Ioctl(self.control(file_id, script)),
            15 => Request::Cancel(cancel::Request),
            16 => Request::Echo(echo::Request),
            17 => Request::QueryDirectory(query_directory::Request {
                file_information_class: script.of(&[1, 2, 3, 12, 37, 38, 60, 0, 4, 78]),
                flags: QueryDirectoryFlags(script.u8() & 0x17),
                file_index: 0,
                file_id,
                file_name: script.of(&["*", "", "f*", "none", "a?", "<", "\u{ffff}"]).into(),
                output_buffer_length: u32::try_from(script.number() & 0xFFFF_FFFF).unwrap_or(0),
            }),
            18 => Request::ChangeNotify(change_notify::Request {
                flags: ChangeNotifyFlags(u16::from(script.u8() & 1)),
                output_buffer_length: u32::try_from(script.number() & 0xFFFF_FFFF).unwrap_or(0),
                file_id,
                completion_filter: CompletionFilter(u32::from(script.u16() & 0xFFF)),
            }),
            19 => Request::QueryInfo(query_info::Request {
                info_type: InfoType(1 + script.u8() % 5),
                file_info_class: script.u8() % 82,
                output_buffer_length: u32::try_from(script.number() & 0xFFFF_FFFF).unwrap_or(0),
                additional_information: u32::from(script.u8()),
                flags: QueryFlags(u32::from(script.u8() & 7)),
                file_id,
                input: Bytes::copy_from_slice(script.bytes()),
            }),
            20..=22 => Request::SetInfo(self.set(file_id, script)),
            _ => Request::OplockBreak(match script.u8() & 1 {
                0 => Acknowledgment::Oplock(OplockBreak { oplock_level: OplockLevel(script.u8()), file_id }),
                _ => Acknowledgment::Lease(LeaseBreak {
                    lease_key: LeaseKey([script.u8() % 4; 16]),
                    lease_state: LeaseState(u32::from(script.u8() % 8)),
                }),
            }),
        }
    }

    fn name(script: &mut Script<'_>) -> &'static str {
        script.of(&[
            "file",
            "FILE",
            "dir",
            "dir\\a",
            "dir\\b",
            "",
            "new",
            "file:s",
            "dir:s",
            "srvsvc",
            "none\\x",
            "dir\\sub",
            "dir\\sub\\deep",
            "file\\x",
            "*",
            "a:b:c",
            "file::$DATA",
            "..\\x",
            "dir\\",
            "\\file",
        ])
    }

    fn create(&self, script: &mut Script<'_>) -> create::Request {
        let name = Self::name(script);
        let mut contexts = Vec::new();
        let wanted = if script.chance(96) { script.u16() } else { 0 };
        for (bit, context) in samples::create_contexts().into_iter().enumerate() {
            if wanted & 1 << bit != 0 {
                contexts.push(context);
            }
        }
        if script.chance(32) {
            contexts.push(RequestContext::EaBuffer(Bytes::copy_from_slice(script.bytes())));
        }
        if script.chance(32) {
            contexts.push(RequestContext::SdBuffer(Bytes::copy_from_slice(script.bytes())));
        }
        create::Request {
            oplock_level: OplockLevel(script.of(&[0, 0, 1, 8, 9, 0xFF, 3])),
            impersonation_level: ImpersonationLevel(script.of(&[2, 2, 2, 0, 1, 3, 9])),
            desired_access: AccessMask(script.of(&[
                0x0012_0089,
                0x001F_01FF,
                0x0200_0000,
                0x1000_0000,
                0x8000_0000,
                0x0001_0080,
                0x0000_0001,
                0x0000_0002,
                0x0100_0000,
                0,
            ])),
            file_attributes: FileAttributes(script.of(&[0, 0x80, 0x20, 1, 0x10, 0x100, 0xFFFF_FFFF])),
            share_access: ShareAccess(script.of(&[7, 7, 7, 0, 1, 3, 9])),
            create_disposition: CreateDisposition(script.of(&[3, 3, 1, 2, 0, 4, 5, 6])),
            create_options: CreateOptions(script.of(&[
                0,
                0,
                1,
                0x40,
                0x1000,
                0x1001,
                0x1040,
                0x10,
                0x41,
                0xFFFF_FFFF,
            ])),
            name: name.into(),
            contexts,
        }
    }

    fn lock(&self, file_id: FileId, script: &mut Script<'_>) -> lock::Request {
        let count = script.u8() % 4;
        let element = |script: &mut Script<'_>| LockElement {
            offset: script.number(),
            length: script.number(),
            flags: LockFlags(script.of(&[0x11, 0x12, 0x01, 0x02, 0x04, 0, 0xFF])),
        };
        let locks = (0..count).map(|_| element(script)).collect();
        lock::Request { lock_sequence: LockSequence(u32::from(script.u8())), file_id, locks }
    }

    fn control(&self, file_id: FileId, script: &mut Script<'_>) -> ioctl::Request {
        const CODES: [FsctlCode; 12] = [
            FsctlCode::PIPE_TRANSCEIVE,
            FsctlCode::SRV_REQUEST_RESUME_KEY,
            FsctlCode::SRV_COPYCHUNK,
            FsctlCode::SRV_COPYCHUNK_WRITE,
            FsctlCode::SET_SPARSE,
            FsctlCode::SET_ZERO_DATA,
            FsctlCode::QUERY_ALLOCATED_RANGES,
            FsctlCode::VALIDATE_NEGOTIATE_INFO,
            FsctlCode::QUERY_NETWORK_INTERFACE_INFO,
            FsctlCode::SET_COMPRESSION,
            FsctlCode::GET_REPARSE_POINT,
            FsctlCode::DFS_GET_REFERRALS,
        ];
        let ctl_code = if script.chance(8) { FsctlCode(script.u32()) } else { script.of(&CODES) };
        let mut input = script.bytes().to_vec();
        if ctl_code == FsctlCode::PIPE_TRANSCEIVE && script.chance(128) {
            input = samples::rpc_bind();
        }
        let copy = ctl_code == FsctlCode::SRV_COPYCHUNK || ctl_code == FsctlCode::SRV_COPYCHUNK_WRITE;
        if copy && script.chance(192) {
            input = samples::copy_chunks(file_id, script.number());
        }
        ioctl::Request {
            ctl_code,
            file_id,
            input: input.into(),
            max_input_response: u32::from(script.chance(16)),
            output_count: 0,
            max_output_response: u32::try_from(script.number() & 0xFFFF_FFFF).unwrap_or(0),
            flags: IoctlFlags(u32::from(!script.chance(8))),
        }
    }

    fn set(&self, file_id: FileId, script: &mut Script<'_>) -> set_info::Request {
        let class = script.of(&[4, 10, 11, 13, 14, 15, 19, 20, 64, 65, 72, 16, 40, 39]);
        let buffer: Vec<u8> = match class {
            10 | 11 | 65 | 72 => {
                let name: Vec<u8> = Self::name(script).encode_utf16().flat_map(u16::to_le_bytes).collect();
                let length = u32::try_from(name.len()).unwrap_or(0);
                let head = [script.u8() & 3, 0, 0, 0, 0, 0, 0, 0];
                [&head[..], &[0; 8], &length.to_le_bytes(), &name, &[0; 4]].concat()
            }
            13 | 64 => vec![script.u8() & 0x1F, 0, 0, 0],
            14 | 19 | 20 | 39 => script.number().to_le_bytes().into(),
            4 => [&script.number().to_le_bytes().repeat(4)[..], &[script.u8(), 0, 0, 0, 0, 0, 0, 0]].concat(),
            _ => script.bytes().to_vec(),
        };
        let security = script.chance(24);
        set_info::Request {
            info_type: if security { InfoType::SECURITY } else { InfoType(1 + u8::from(script.chance(8))) },
            file_info_class: if security { 0 } else { class },
            additional_information: u32::from(script.u8()),
            file_id,
            buffer: if security { samples::descriptor() } else { buffer.into() },
        }
    }
}

/// Capabilities and modes that every NEGOTIATE here has.
pub(super) fn client_negotiate(dialects: &[Dialect]) -> negotiate::Request {
    negotiate::Request {
        security_mode: SecurityMode::SIGNING_ENABLED,
        capabilities: Capabilities(0x7F),
        client_guid: [9; 16],
        dialects: dialects.to_vec(),
        contexts: Vec::new(),
    }
}

/// One request of each kind that a session can send.
pub(super) fn one_of_each() -> Vec<Request> {
    let mut driver = Driver::new(0);
    driver.connect();
    (0..24)
        .map(|kind| driver.request(0, 0, false, &mut Script::new(&[kind, 255, 7, 0, 0, 0, 0, 0, 0, 0, 8])))
        .collect()
}
