//! A server without sockets (endpoint, shard, memory volume) and the client that talks to it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smb_proto::auth::initiator::{Credentials, InitiatorInputs, Next, NtlmInitiator, Wrapping};
use smb_proto::command::negotiate::{self, Capabilities, Dialect, SecurityMode};
use smb_proto::command::negotiate_context::{
    Cipher as CipherCode, HashAlgorithm, NegotiateContext, SigningAlgorithm as SigningCode,
};
use smb_proto::command::{Request, Response, session_setup, tree_connect};
use smb_proto::crypto::seal::{self, nonce_from_counter};
use smb_proto::crypto::signing::sign_message;
use smb_proto::crypto::{
    Cipher, CipherAlgorithm, KeySchedule, PreauthHash, Provider, Secret, SessionKeys, Signer,
    SigningAlgorithm,
};
use smb_proto::frame::Kind;
use smb_proto::header::{Flags, Header, Routing};
use smb_proto::{FileTime, Name, NtStatus, Payload};
use smb_state::action::Output;
use smb_state::config::{Config, Share, Shared};
use smb_state::endpoint::{Buffers, Endpoint, EndpointOptions, KeyRing, OneUser, Outbox, Surroundings};
use smb_state::event::Peer;
use smb_state::ids::{ConnectionId, ShardId, ShareId, VolumeId};
use smb_state::{Action, Actions, Event, Shard};
use storage::driver::Driver;
use storage::memory::Memory;
use storage::table::BufferTable;

use crate::meter::{Meter, Part};

const CONNECTION: ConnectionId = ConnectionId::new(ShardId(0), 1);
const NOW: FileTime = FileTime(0x01DB_0000_0000_0000);
const USER: (&str, &str) = ("user", "password");

/// How the client protects what it sends once it can; the server answers in kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    Signed(SigningAlgorithm),
    Sealed(CipherAlgorithm),
}

struct Keys {
    signer: Arc<dyn Signer>,
    outgoing: Arc<dyn Cipher>,
    incoming: Arc<dyn Cipher>,
}

/// One connection with a valid session and a tree connect.
pub(crate) struct World {
    pub(crate) meter: Meter,
    shard: Shard,
    endpoint: Endpoint,
    buffers: Arc<BufferTable>,
    volume: Memory,
    user: OneUser,
    ring: KeyRing,
    outbox: Outbox,
    protection: Protection,
    keys: Option<Keys>,
    next_message: u64,
    session: u64,
    tree: u32,
    nonce: u64,
}

impl World {
    pub(crate) fn new(protection: Protection, provider: Arc<dyn Provider>) -> Self {
        let volume = Memory::new(64 << 20, Name::from("volume"));
        let share = Share::new(ShareId(1), "share", VolumeId(1), volume.caps());
        let options = EndpointOptions::standalone("server");
        let mut world = Self {
            meter: Meter { part: Part::Nothing, elapsed: None },
            shard: Shard::new(ShardId(0), Shared::new(Config::new([9; 16], 1, vec![share]))),
            endpoint: Endpoint::new(CONNECTION, Peer(1), options, Arc::clone(&provider)),
            buffers: Arc::default(),
            volume,
            user: OneUser::new(USER.0, USER.1),
            ring: KeyRing::default(),
            outbox: Outbox::default(),
            protection,
            keys: None,
            next_message: 0,
            session: 0,
            tree: 0,
            nonce: 0,
        };
        world.run(Event::Accepted { connection: CONNECTION, peer: Peer(1) });
        world.log_on(&*provider);
        world
    }

    fn log_on(&mut self, provider: &dyn Provider) {
        let (signing, cipher) = match self.protection {
            Protection::Signed(signing) => (signing, CipherAlgorithm::Aes128Gcm),
            Protection::Sealed(cipher) => (SigningAlgorithm::AesGmac, cipher),
        };
        let mut hash = PreauthHash::default();
        self.hashed(&Request::Negotiate(negotiate_request(signing, cipher)), &mut hash);
        let credentials = Credentials::password(USER.0, "", USER.1);
        let (mut initiator, mut token) =
            NtlmInitiator::begin(credentials, Wrapping::Spnego, "CLIENT", "cifs/server");
        loop {
            let security_buffer = token.into();
            let request = session_setup::Request { security_buffer, ..Default::default() };
            let sent = self.frame(&Request::SessionSetup(request));
            hash.update(&sent);
            let answer = self.answer(sent);
            let (header, response) = parsed(&answer);
            self.session = header.session_id;
            if header.status == NtStatus::SUCCESS {
                break;
            }
            hash.update(&answer);
            let Response::SessionSetup(setup) = response else { panic!("{response:?}") };
            let inputs =
                InitiatorInputs { client_challenge: [2; 8], session_key: Secret::new([3; 16]), now: NOW };
            let Ok(Next::Send(next)) = initiator.step(&setup.security_buffer, inputs) else {
                panic!("the server's token leads nowhere")
            };
            token = next;
        }
        let session_key = initiator.session_key().expect("a session key");
        let schedule = KeySchedule::Smb311 { preauth: &hash };
        let derived = SessionKeys::derive(schedule, session_key.expose(), Some(cipher));
        let cipher = |key| provider.cipher(cipher, key).expect("a key of its length");
        self.keys = Some(Keys {
            signer: provider.signer(signing, derived.signing.expose()),
            outgoing: cipher(derived.client_to_server.expose()),
            incoming: cipher(derived.server_to_client.expose()),
        });
        let path = Name::from(r"\\server\share");
        let connect = tree_connect::Request { flags: tree_connect::Flags::EMPTY, path, contexts: Vec::new() };
        let (header, _) = self.ask(&Request::TreeConnect(connect));
        assert_eq!(header.status, NtStatus::SUCCESS);
        self.tree = header.tree_id().expect("a tree");
    }

    fn hashed(&mut self, request: &Request, hash: &mut PreauthHash) {
        let sent = self.frame(request);
        hash.update(&sent);
        hash.update(&self.answer(sent));
    }

    /// Sends a request and reads its answer, which must not be an error.
    pub(crate) fn ask(&mut self, request: &Request) -> (Header, Response) {
        let frame = self.frame(request);
        let answer = self.answer(frame);
        let (header, response) = parsed(&answer);
        assert_eq!(header.status, NtStatus::SUCCESS, "{request:?}: {response:?}");
        (header, response)
    }

    /// A request as it goes over the wire, without its length prefix.
    fn frame(&mut self, request: &Request) -> BytesMut {
        let credit_charge = match request {
            Request::Read(read) => read.length.div_ceil(65_536).max(1),
            Request::Write(write) => u32::try_from(write.data.len()).unwrap_or(0).div_ceil(65_536).max(1),
            _ => 1,
        };
        let header = Header {
            credit_charge: u16::try_from(credit_charge).unwrap_or(1),
            status: NtStatus(0),
            command: request.command().code(),
            credits: 128,
            flags: Flags::default(),
            next_command: 0,
            message_id: self.next_message,
            routing: Routing::Sync { process_id: 0, tree_id: self.tree },
            session_id: self.session,
            signature: [0; 16],
        };
        self.next_message += u64::from(credit_charge);
        let mut bytes = Vec::new();
        header.emit(&mut bytes);
        request.emit(&mut bytes);
        match (&self.keys, self.protection) {
            (Some(keys), Protection::Signed(_)) => sign_message(&*keys.signer, &mut bytes),
            (Some(keys), Protection::Sealed(_)) => {
                self.nonce += 1;
                let nonce = nonce_from_counter(self.nonce);
                let payload = Payload::copy_from(&bytes);
                let sealed = seal::seal(&*keys.outgoing, self.session, &nonce, payload);
                return BytesMut::from(sealed.data());
            }
            (None, _) => {}
        }
        BytesMut::from(&bytes[..])
    }

    /// Lets the server handle a frame and returns the message that it answers with.
    fn answer(&mut self, frame: BytesMut) -> Bytes {
        let event = self.meter.run(Part::Receive, || self.endpoint.receive_event(frame, &*self.buffers));
        self.run(event);
        let sent = self.outbox.frames.pop().expect("an answer");
        assert!(self.outbox.frames.is_empty() && !self.outbox.disconnect, "one answer");
        let message = sent.slice(4..);
        match (Kind::of(&message), &self.keys) {
            (Ok(Kind::Transform), Some(keys)) => {
                let mut sealed = message.to_vec();
                let plain = seal::open(&*keys.incoming, &mut sealed).expect("sealed for this client");
                Bytes::copy_from_slice(plain)
            }
            _ => message,
        }
    }

    fn run(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = Actions::with_capacity(8);
            self.meter.run(Part::Step, || self.shard.step(event, &mut actions));
            for action in actions {
                events.extend(self.carry_out(action));
                events.extend(self.outbox.events.drain(..));
            }
        }
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Output(_, output) => self.output(output),
            Action::Submit { token, requester, op } => {
                let late = |event| panic!("memory answers at once: {event:?}");
                return storage::submit(&self.volume, &self.buffers, token, &requester, op, late);
            }
            Action::Release(buffer) => self.buffers.release(buffer),
            Action::Arm { .. } | Action::Disarm(_) | Action::Abandon { .. } | Action::Record(_) => {}
            Action::Store { .. } | Action::Recovered { .. } => unreachable!("there is no persistent open"),
            Action::ToShard(..) => unreachable!("there is one shard"),
        }
        None
    }

    fn output(&mut self, output: Output) {
        let mut random = |bytes: &mut [u8]| bytes.fill(5);
        let (buffers, users, keys) = (&*self.buffers, &self.user, &self.ring);
        let mut around = Surroundings { buffers, users, keys, random: &mut random, now: NOW };
        self.meter.run(Part::Send, || self.endpoint.carry_out(output, &mut around, &mut self.outbox));
    }
}

fn parsed(message: &Bytes) -> (Header, Response) {
    let header = Header::parse(message).expect("a header");
    let response = Response::parse(&header, message).expect("a response");
    (header, response)
}

fn negotiate_request(signing: SigningAlgorithm, cipher: CipherAlgorithm) -> negotiate::Request {
    negotiate::Request {
        security_mode: SecurityMode::SIGNING_ENABLED,
        capabilities: Capabilities::LEASING
            .with(Capabilities::LARGE_MTU)
            .with(Capabilities::ENCRYPTION)
            .with(Capabilities::DIRECTORY_LEASING),
        client_guid: [1; 16],
        dialects: vec![Dialect::SMB_3_1_1],
        contexts: vec![
            NegotiateContext::PreauthIntegrity {
                algorithms: vec![HashAlgorithm::SHA_512],
                salt: Bytes::new(),
            },
            NegotiateContext::Encryption { ciphers: vec![CipherCode(cipher.code())] },
            NegotiateContext::Signing { algorithms: vec![SigningCode(signing.code())] },
        ],
    }
}
