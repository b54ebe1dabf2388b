//! A client's side of one connection: what it must know to send what the server takes, and to read what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use smb_proto::auth::initiator::{Credentials, InitiatorInputs, Next, NtlmInitiator, Wrapping};
use smb_proto::command::negotiate::Dialect;
use smb_proto::command::negotiate_context::NegotiateContext;
use smb_proto::command::{FileId, Request, Response, UNSOLICITED_MESSAGE_ID};
use smb_proto::compound::{self, Builder};
use smb_proto::crypto::portable::Portable;
use smb_proto::crypto::seal::{self, nonce_from_counter};
use smb_proto::crypto::signing::sign_message;
use smb_proto::crypto::{
    Cipher, CipherAlgorithm, KeySchedule, PreauthHash, Provider, Secret, SessionKeys, Signer,
    SigningAlgorithm,
};
use smb_proto::frame::{self, Kind};
use smb_proto::header::{CommandCode, Header};
use smb_proto::{NtStatus, Payload};
use smb_state::ids::ConnectionId;

use crate::authentication::NOW;

/// How a frame goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// As it is.
    Plain,
    /// Signed, where there is a key.
    Signed,
    /// Signed, and then changed.
    Forged,
    /// Encrypted, where there is a key.
    Sealed,
}

/// Keys of a session.
#[derive(Debug)]
pub struct Keys {
    signer: Arc<dyn Signer>,
    ciphers: Option<(Arc<dyn Cipher>, Arc<dyn Cipher>)>,
    nonce: u64,
}

/// A session, as the client sees it.
#[derive(Debug)]
pub struct Session {
    /// SessionId.
    pub id: u64,
    /// Keys, once it is valid.
    pub keys: Option<Keys>,
    /// TreeIds.
    pub trees: Vec<u32>,
    /// Opens.
    pub files: Vec<FileId>,
}

/// A client's connection.
#[derive(Debug)]
pub struct Client {
    /// The server's name for it.
    pub connection: ConnectionId,
    /// The next MessageId.
    pub next_message: u64,
    /// What NEGOTIATE settled.
    pub dialect: Option<Dialect>,
    /// Sessions.
    pub sessions: Vec<Session>,
    /// The last frame that was sent, before encryption.
    pub last_frame: Vec<u8>,
    /// SESSION_SETUP's last answer: status, session, token.
    setup: Option<(NtStatus, u64, Bytes)>,
    signing: SigningAlgorithm,
    cipher: Option<CipherAlgorithm>,
    hash: PreauthHash,
    /// The raw bytes of the last message of each command, for the hash.
    sent_negotiate: Bytes,
    answered_setup: Bytes,
    /// Requests that wait for an answer, and whether there was an interim one.
    outstanding: BTreeMap<u64, bool>,
}

impl Client {
    /// A connection that was just made.
    #[must_use]
    pub fn new(connection: ConnectionId) -> Self {
        Self {
            connection,
            next_message: 0,
            dialect: None,
            sessions: Vec::new(),
            last_frame: Vec::new(),
            setup: None,
            signing: SigningAlgorithm::HmacSha256,
            cipher: None,
            hash: PreauthHash::default(),
            sent_negotiate: Bytes::new(),
            answered_setup: Bytes::new(),
            outstanding: BTreeMap::new(),
        }
    }

    /// One frame of these messages, to be sent.
    pub fn frame(&mut self, messages: &[(Header, Vec<u8>)], protection: Protection) -> Vec<u8> {
        let mut builder = Builder::new();
        for (header, body) in messages {
            let mut message = Vec::new();
            header.emit(&mut message);
            message.extend_from_slice(body);
            builder.push(&message);
        }
        let (mut bytes, parts) = builder.finish();
        let session = messages.first().map_or(0, |(header, _)| header.session_id);
        let keys =
            self.sessions.iter_mut().find(|known| known.id == session).and_then(|known| known.keys.as_mut());
        match (protection, keys) {
            (Protection::Signed | Protection::Forged, Some(keys)) => {
                for part in parts {
                    sign_message(keys.signer.as_ref(), &mut bytes[part]);
                }
                if protection == Protection::Forged {
                    bytes[55] ^= 1;
                }
                self.note(&bytes);
            }
            (Protection::Sealed, Some(Keys { ciphers: Some((outgoing, _)), nonce, .. })) => {
                *nonce += 1;
                let nonce = nonce_from_counter(*nonce);
                let sealed = seal::seal(outgoing.as_ref(), session, &nonce, Payload::copy_from(&bytes));
                self.note(&bytes);
                bytes = sealed.data().to_vec();
            }
            _ => self.note(&bytes),
        }
        bytes
    }

    /// Keeps in mind what a plain frame asks.
    pub fn note(&mut self, frame: &[u8]) {
        if Kind::of(frame) == Ok(Kind::Smb1) {
            self.outstanding.insert(0, false);
        }
        for message in compound::split(&Bytes::copy_from_slice(frame)).flatten() {
            let Ok(header) = Header::parse(&message) else { continue };
            match CommandCode::from_code(header.command) {
                Some(CommandCode::Cancel) | None => continue,
                Some(CommandCode::Negotiate) => self.sent_negotiate = message.clone(),
                Some(_) => {}
            }
            self.outstanding.entry(header.message_id).or_insert(false);
        }
        self.last_frame = frame.to_vec();
    }

    /// Reads a frame that the server sent.
    ///
    /// # Panics
    /// When it can't be read, or answers nothing.
    pub fn receive(&mut self, sent: &Bytes) {
        let prefix = *sent.first_chunk::<4>().expect("a frame has a prefix");
        let length = frame::length(prefix, frame::LENGTH_MAX).expect("a good prefix");
        assert_eq!(length, sent.len() - 4, "a frame is not as long as it says");
        let payload = sent.slice(4..);
        match Kind::of(&payload).expect("a known kind of frame") {
            Kind::Smb2 => self.messages(&payload),
            Kind::Transform => {
                let header =
                    smb_proto::transform::TransformHeader::parse(&payload).expect("a transform header");
                let session = self.sessions.iter().find(|session| session.id == header.session_id);
                let Some(Keys { ciphers: Some((_, incoming)), .. }) =
                    session.and_then(|session| session.keys.as_ref())
                else {
                    // A session that the client gave up, or that arbitrary bytes made.
                    return;
                };
                let mut sealed = payload.to_vec();
                let plain =
                    seal::open(incoming.as_ref(), &mut sealed).expect("encrypted under the session's key");
                self.messages(&Bytes::copy_from_slice(plain));
            }
            kind => panic!("the server sent {kind:?}"),
        }
    }

    fn messages(&mut self, frame: &Bytes) {
        for message in compound::split(frame) {
            let message = message.expect("a compound of the server's own");
            let header = Header::parse(&message).expect("a header of the server's own");
            let response = match Response::parse(&header, &message) {
                Ok(response) => response,
                Err(error) => panic!("the server's own response {header:?}: {error}: {message:02x?}"),
            };
            if header.message_id == UNSOLICITED_MESSAGE_ID {
                assert!(matches!(response, Response::Break(_)), "unasked: {response:?}");
                continue;
            }
            let Some(interim) = self.outstanding.get_mut(&header.message_id) else {
                panic!("an answer to nothing, or a second one: {header:?} {response:?}")
            };
            if header.status == NtStatus::PENDING {
                assert!(!std::mem::replace(interim, true), "a second interim response: {header:?}");
            } else {
                self.outstanding.remove(&header.message_id);
            }
            self.learn(&header, response, &message);
        }
    }

    fn learn(&mut self, header: &Header, response: Response, message: &Bytes) {
        match response {
            Response::Negotiate(answer) => {
                self.dialect = Some(answer.dialect);
                self.signing = match answer.dialect {
                    dialect if dialect.is_smb3() => SigningAlgorithm::AesCmac,
                    _ => SigningAlgorithm::HmacSha256,
                };
                let sealing =
                    answer.capabilities.contains(smb_proto::command::negotiate::Capabilities::ENCRYPTION);
                self.cipher = sealing.then_some(CipherAlgorithm::Aes128Ccm);
                self.hash = PreauthHash::default();
                self.hash.update(&self.sent_negotiate);
                self.hash.update(message);
                for context in answer.contexts {
                    match context {
                        NegotiateContext::Encryption { ciphers } => {
                            let code = ciphers.first().map_or(0, |cipher| cipher.0);
                            self.cipher = CipherAlgorithm::from_code(code);
                        }
                        NegotiateContext::Signing { algorithms } => {
                            let code = algorithms.first().map_or(0, |algorithm| algorithm.0);
                            self.signing = SigningAlgorithm::from_code(code).unwrap_or(self.signing);
                        }
                        _ => {}
                    }
                }
            }
            Response::SessionSetup(answer) => {
                self.answered_setup = message.clone();
                self.setup = Some((header.status, header.session_id, answer.security_buffer));
            }
            Response::Error(_) if header.command == CommandCode::SessionSetup.code() => {
                self.setup = Some((header.status, header.session_id, Bytes::new()));
            }
            Response::TreeConnect(_) => {
                if let (Some(session), Some(tree)) = (self.session(header.session_id), header.tree_id()) {
                    session.trees.push(tree);
                }
            }
            Response::Create(create) => {
                if let Some(session) = self.session(header.session_id) {
                    session.files.push(create.file_id);
                }
            }
            _ => {}
        }
    }

    /// The session of this id.
    pub fn session(&mut self, id: u64) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.id == id)
    }

    /// Derives a session's keys, as the dialect wants.
    fn keys(&self, session_key: &Secret<16>, hash: &PreauthHash) -> Keys {
        let dialect = self.dialect.unwrap_or(Dialect::SMB_2_0_2);
        let schedule = match dialect {
            Dialect::SMB_3_1_1 => KeySchedule::Smb311 { preauth: hash },
            dialect if dialect.is_smb3() => KeySchedule::Smb30,
            _ => KeySchedule::Smb2,
        };
        let cipher = self.cipher.filter(|_| dialect.is_smb3());
        let derived = SessionKeys::derive(schedule, session_key.expose(), cipher);
        let ciphers = cipher.and_then(|algorithm| {
            let outgoing = Portable.cipher(algorithm, derived.client_to_server.expose()).ok()?;
            let incoming = Portable.cipher(algorithm, derived.server_to_client.expose()).ok()?;
            Some((outgoing, incoming))
        });
        Keys { signer: Portable.signer(self.signing, derived.signing.expose()), ciphers, nonce: 0 }
    }
}

/// A logon in progress.
#[derive(Debug)]
pub struct Logon {
    initiator: NtlmInitiator,
    token: Vec<u8>,
    hash: PreauthHash,
    session: u64,
    previous: u64,
}

impl Logon {
    /// The first step.
    #[must_use]
    pub fn begin(client: &Client, user: &str, password: &str, wrapping: Wrapping, previous: u64) -> Self {
        let credentials = Credentials::password(user, "", password);
        let (initiator, token) = NtlmInitiator::begin(credentials, wrapping, "CLIENT", "cifs/server");
        Self { initiator, token, hash: client.hash, session: 0, previous }
    }

    /// The next SESSION_SETUP to send.
    #[must_use]
    pub fn request(&self) -> (Request, u64) {
        let request = smb_proto::command::session_setup::Request {
            previous_session_id: self.previous,
            security_buffer: self.token.clone().into(),
            ..Default::default()
        };
        (Request::SessionSetup(request), self.session)
    }

    /// After the answer: whether there is more to send. When it is over and worked, the client has one session more.
    pub fn advance(&mut self, client: &mut Client, sent: &[u8]) -> bool {
        let Some((status, session, token)) = client.setup.take() else { return false };
        self.hash.update(sent);
        self.session = session;
        let inputs =
            InitiatorInputs { client_challenge: [2; 8], session_key: Secret::new([3; 16]), now: NOW };
        if status == NtStatus::MORE_PROCESSING_REQUIRED {
            self.hash.update(&client.answered_setup);
            match self.initiator.step(&token, inputs) {
                Ok(Next::Send(token)) => self.token = token,
                other => panic!("the server's own token leads to {other:?}"),
            }
            return true;
        }
        if status == NtStatus::SUCCESS {
            let keys = self.initiator.session_key().map(|key| client.keys(key, &self.hash));
            client.sessions.retain(|known| known.id != session);
            client.sessions.push(Session { id: session, keys, trees: Vec::new(), files: Vec::new() });
        }
        false
    }
}
