//! One connection's side of the wire: frames become requests, responses become frames. Holds keys, nonces, the
//! preauthentication hash and authentications in progress; shares no state with the shard. The keys of a session that several
//! connections carry are found through a [`KeyRing`].
//!
//! The adapter moves bytes and time, nothing else: it hands whole frames to [`Endpoint::receive`] and every
//! [`Output`] for the connection to [`Endpoint::carry_out`], in order, and writes what comes back.
//!
//! MS-SMB2 3.1.4.1 (signing), 3.1.4.3 (encryption), 3.3.5.2.1 (decryption), 3.3.5.4 and 3.3.5.5 (preauthentication hash).
//! Not done: compression.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smb_proto::Malformed;
use smb_proto::auth::acceptor::{AcceptorConfig, NtlmAcceptor};
use smb_proto::command::negotiate::Dialect;
use smb_proto::compound;
use smb_proto::crypto::seal::{self, nonce_from_counter};
use smb_proto::crypto::signing::{verify_in_place, verify_message};
use smb_proto::crypto::{Cipher, KeySchedule, PreauthHash, Provider, Secret, SessionKeys, Signer};
use smb_proto::frame::Kind;
use smb_proto::header::{Flags, Header};
use smb_proto::transform::TransformHeader;

use crate::action::{Agreed, Output};
use crate::config::Limits;
use crate::event::{AuthOutcome, Event, Peer};
use crate::ids::{Channel, ConnectionId, MessageId, SessionId};
use crate::request::{Chain, Protection};

mod authenticate;
mod decode;
mod encode;
mod key_ring;
pub mod surroundings;

use key_ring::SharedKeys;

pub use key_ring::KeyRing;
pub use surroundings::{Buffers, Lookup, OneUser, Surroundings, Users};

/// Bits of a nonce that count; the bits above them are the channel.
const NONCE_COUNTER_BITS: u32 = 48;

/// What an endpoint is told once.
#[derive(Clone, Debug)]
pub struct EndpointOptions {
    /// Names that NTLM tells the client.
    pub names: AcceptorConfig,
    /// Bytes that a frame may have before a session is valid.
    pub unauthenticated_frame_max: u32,
}

impl EndpointOptions {
    /// For a server that is in no domain, has one name, and the default limits.
    #[must_use]
    pub fn standalone(name: &str) -> Self {
        let unauthenticated_frame_max = Limits::default().unauthenticated_frame_max;
        Self { names: AcceptorConfig::standalone(name), unauthenticated_frame_max }
    }
}

/// What [`Endpoint::carry_out`] produces.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Complete frames, each with its length prefix, to write in this order.
    pub frames: Vec<Bytes>,
    /// To be stepped next.
    pub events: Vec<Event>,
    /// Close the connection once the frames are out.
    pub disconnect: bool,
}

/// One connection's side of the wire.
#[derive(Debug)]
pub struct Endpoint {
    connection: ConnectionId,
    peer: Peer,
    options: EndpointOptions,
    provider: Arc<dyn Provider>,
    agreed: Option<Agreed>,
    authenticated: bool,
    /// Connection.PreauthIntegrityHashValue.
    connection_hash: PreauthHash,
    /// Session.PreauthIntegrityHashValue of sessions being set up.
    session_hashes: BTreeMap<SessionId, PreauthHash>,
    /// NEGOTIATE and SESSION_SETUP requests as they came, until they are answered.
    raw_requests: BTreeMap<MessageId, Bytes>,
    acceptors: BTreeMap<SessionId, NtlmAcceptor>,
    /// Session keys of users who proved who they are, until their keys are installed.
    proofs: BTreeMap<SessionId, Secret<16>>,
    keys: BTreeMap<SessionId, Keys>,
    /// The keys of sessions that this connection asks to carry, until it does.
    binds: BTreeMap<SessionId, Arc<SharedKeys>>,
}

/// A session's keys on this connection.
#[derive(Debug)]
struct Keys {
    /// Channel.SigningKey.
    signer: Arc<dyn Signer>,
    ciphers: Option<Ciphers>,
    /// The session's own, which other connections find while this one is there.
    session: Arc<SharedKeys>,
}

#[derive(Debug)]
struct Ciphers {
    outgoing: Arc<dyn Cipher>,
    incoming: Arc<dyn Cipher>,
    /// The channel above a counter: no nonce is used twice under a session's key (R6, S10).
    next_nonce: u64,
}

impl Keys {
    /// A nonce for one more message; `None` when they are used up, which ends the connection (S11).
    fn nonce(ciphers: &mut Ciphers) -> Option<[u8; 16]> {
        let nonce = ciphers.next_nonce;
        let next = nonce.checked_add(1)?;
        if next.trailing_zeros() >= NONCE_COUNTER_BITS {
            return None;
        }
        ciphers.next_nonce = next;
        Some(nonce_from_counter(nonce))
    }
}

impl Endpoint {
    /// The endpoint of a connection that was just accepted.
    #[must_use]
    pub fn new(
        connection: ConnectionId,
        peer: Peer,
        options: EndpointOptions,
        provider: Arc<dyn Provider>,
    ) -> Self {
        Self {
            connection,
            peer,
            options,
            provider,
            agreed: None,
            authenticated: false,
            connection_hash: PreauthHash::default(),
            session_hashes: BTreeMap::new(),
            raw_requests: BTreeMap::new(),
            acceptors: BTreeMap::new(),
            proofs: BTreeMap::new(),
            keys: BTreeMap::new(),
            binds: BTreeMap::new(),
        }
    }

    /// Bytes that the next frame may have.
    #[must_use]
    pub fn frame_max(&self) -> usize {
        match self.agreed {
            Some(agreed) if self.authenticated => agreed.frame_max as usize,
            _ => self.options.unauthenticated_frame_max as usize,
        }
    }

    fn dialect(&self) -> Option<Dialect> {
        self.agreed.map(|agreed| agreed.dialect)
    }

    /// Reads a frame (without its length prefix).
    ///
    /// # Errors
    /// [`Malformed`] when the connection can't go on: hand [`Event::Malformed`] to the shard.
    pub fn receive(&mut self, frame: BytesMut, buffers: &dyn Buffers) -> Result<Chain, Malformed> {
        match Kind::of(&frame)? {
            Kind::Smb1 => decode::smb1_negotiate(&frame.freeze()),
            Kind::Smb2 => self.receive_messages(frame, None, buffers),
            Kind::Transform => {
                let header = TransformHeader::parse(&frame)?;
                let session = SessionId(header.session_id);
                let ciphers = self
                    .keys
                    .get(&session)
                    .and_then(|keys| keys.ciphers.as_ref())
                    .ok_or(Malformed("encrypted for a session without keys"))?;
                let plain = seal::open_buffer(ciphers.incoming.as_ref(), frame)
                    .map_err(|_| Malformed("decryption failed"))?;
                if Kind::of(&plain)? != Kind::Smb2 {
                    return Err(Malformed("encrypted message is not SMB2"));
                }
                self.receive_messages(plain, Some(session), buffers)
            }
            Kind::Compressed => Err(Malformed("compression was not negotiated")),
        }
    }

    /// [`Self::receive`] as the event to step.
    pub fn receive_event(&mut self, frame: BytesMut, buffers: &dyn Buffers) -> Event {
        let connection = self.connection;
        match self.receive(frame, buffers) {
            Ok(chain) => Event::Request { connection, chain },
            Err(_) => Event::Malformed { connection },
        }
    }

    fn receive_messages(
        &mut self,
        frame: BytesMut,
        sealed: Option<SessionId>,
        buffers: &dyn Buffers,
    ) -> Result<Chain, Malformed> {
        // Almost always there is one, which needs no list.
        let mut chain: Option<Chain> = None;
        let mut broken = None;
        let mut signer = SessionId(0);
        for message in compound::split_mut(frame) {
            let parsed = message.and_then(|mut message| {
                let header = Header::parse(&message)?;
                let first = chain.is_none();
                if first || !header.flags.contains(Flags::RELATED_OPERATIONS) {
                    // What relates to a predecessor is of its session, whatever its own header says (3.3.5.2.7.2).
                    signer = SessionId(header.session_id);
                }
                let protection = self.check_protection(&header, &mut message, signer, sealed, first)?;
                let message = message.freeze();
                self.keep_raw(&header, &message);
                decode::request(&header, &message, protection, buffers)
            });
            match (parsed, &mut chain) {
                (Ok(request), None) => chain = Some(Chain { first: request, rest: Vec::new() }),
                (Ok(request), Some(chain)) => chain.rest.push(request),
                (Err(malformed), _) => {
                    broken = Some(malformed);
                    break;
                }
            }
        }
        let Some(malformed) = broken else { return chain.ok_or(Malformed("empty frame")) };
        if let Some(Chain { first, rest }) = chain {
            for buffer in std::iter::once(&first).chain(&rest).filter_map(|request| request.command.buffer())
            {
                buffers.release(buffer);
            }
        }
        Err(malformed)
    }

    fn check_protection(
        &self,
        header: &Header,
        message: &mut [u8],
        signer: SessionId,
        sealed: Option<SessionId>,
        first: bool,
    ) -> Result<Protection, Malformed> {
        let related = header.flags.contains(Flags::RELATED_OPERATIONS);
        if header.flags.contains(Flags::SERVER_TO_REDIR) {
            return Err(Malformed("a response"));
        }
        if let Some(session) = sealed {
            // 3.3.5.2.1.1: what is inside belongs to the session whose key opened it.
            let foreign = header.session_id != session.0 && (first || !related);
            if foreign || (first && related) {
                return Err(Malformed("encrypted message names another session"));
            }
            return Ok(Protection::Sealed(session));
        }
        if !header.flags.contains(Flags::SIGNED) {
            return Ok(Protection::None);
        }
        Ok(match self.keys.get(&signer) {
            None => Protection::Unverified,
            Some(keys) if verify_in_place(keys.signer.as_ref(), message) => Protection::Signed,
            Some(_) => Protection::BadSignature,
        })
    }

    /// The preauthentication hash runs over the bytes of NEGOTIATE and SESSION_SETUP, once the core says which.
    fn keep_raw(&mut self, header: &Header, message: &Bytes) {
        use smb_proto::header::CommandCode;
        let counts = matches!(
            CommandCode::from_code(header.command),
            Some(CommandCode::Negotiate | CommandCode::SessionSetup)
        );
        if counts {
            self.raw_requests.insert(MessageId(header.message_id), message.clone());
        }
    }

    /// Carries out what the shard wants of this connection.
    pub fn carry_out(&mut self, output: Output, around: &mut Surroundings<'_>, out: &mut Outbox) {
        match output {
            Output::Respond(responses) => self.respond(responses, around, out),
            Output::Notify(notification) => self.notify(&notification, out),
            Output::Negotiated(agreed) => {
                self.agreed = Some(agreed);
                if agreed.dialect == Dialect::SMB_3_1_1
                    && let Some(request) = self.raw_requests.get(&agreed.message)
                {
                    self.connection_hash.update(request);
                }
            }
            Output::ContinueHash { session, message } => self.continue_hash(session, message),
            Output::Authenticate { session, message, token } => {
                let token = around.buffers.take(token);
                let token = token.as_ref().map_or(&[][..], smb_proto::Payload::data);
                let outcome = self.authenticate(session, token, around);
                out.events.push(Event::Authenticated {
                    connection: self.connection,
                    session,
                    message,
                    outcome,
                });
            }
            Output::Bind { session, message, token } => {
                let token = around.buffers.take(token);
                let token = token.as_ref().map_or(&[][..], smb_proto::Payload::data);
                let outcome = self.bind(session, message, token, around);
                out.events.push(Event::Authenticated {
                    connection: self.connection,
                    session,
                    message,
                    outcome,
                });
            }
            Output::VerifyBind { session, message } => {
                self.verify_bind(session, message, around.keys);
            }
            Output::DropAuthentication { session } => self.drop_authentication(session),
            Output::InstallKeys { session, channel } => self.install_keys(session, channel, around.keys),
            Output::DropKeys { session } => {
                if self.keys.remove(&session).is_some() {
                    around.keys.forget(session);
                }
                self.binds.remove(&session);
                self.drop_authentication(session);
            }
            Output::Disconnect => out.disconnect = true,
        }
    }

    fn drop_authentication(&mut self, session: SessionId) {
        self.acceptors.remove(&session);
        self.proofs.remove(&session);
        self.session_hashes.remove(&session);
    }

    fn continue_hash(&mut self, session: SessionId, message: MessageId) {
        let hash = self.session_hashes.entry(session).or_insert(self.connection_hash);
        if let Some(request) = self.raw_requests.get(&message) {
            hash.update(request);
        }
    }

    /// Whether a bind is signed with the session's own key. Only then its answers are too: nobody else is given messages
    /// under that key.
    fn verify_bind(&mut self, session: SessionId, message: MessageId, ring: &KeyRing) -> bool {
        let Some(request) = self.raw_requests.get(&message) else { return false };
        let known = self.binds.get(&session).cloned().or_else(|| ring.find(session));
        match known.filter(|keys| verify_message(&*keys.signer, request)) {
            Some(keys) => {
                self.binds.insert(session, keys);
                true
            }
            None => {
                self.binds.remove(&session);
                false
            }
        }
    }

    /// One leg of a bind: whoever asks must have the session's signing key, and prove the user again.
    fn bind(
        &mut self,
        session: SessionId,
        message: MessageId,
        token: &[u8],
        around: &mut Surroundings<'_>,
    ) -> AuthOutcome {
        if !self.verify_bind(session, message, around.keys) {
            return AuthOutcome::Unverified;
        }
        if self.dialect() == Some(Dialect::SMB_3_1_1) {
            self.continue_hash(session, message);
        }
        self.authenticate(session, token, around)
    }

    fn install_keys(&mut self, session: SessionId, channel: Channel, ring: &KeyRing) {
        let proof = self.proofs.remove(&session);
        let hash = self.session_hashes.remove(&session).unwrap_or_default();
        self.acceptors.remove(&session);
        let bound = self.binds.remove(&session);
        let (Some(proof), Some(agreed)) = (proof, self.agreed) else { return };
        let schedule = match agreed.dialect {
            Dialect::SMB_3_1_1 => KeySchedule::Smb311 { preauth: &hash },
            dialect if dialect.is_smb3() => KeySchedule::Smb30,
            _ => KeySchedule::Smb2,
        };
        let derived = SessionKeys::derive(schedule, proof.expose(), agreed.cipher);
        let signer = self.provider.signer(agreed.signing, derived.signing.expose());
        // A channel has a signing key of its own, and the session's encryption keys (3.3.5.5.3).
        let shared = bound.unwrap_or_else(|| {
            let ciphers = agreed.cipher.and_then(|algorithm| {
                let outgoing = self.provider.cipher(algorithm, derived.server_to_client.expose()).ok()?;
                let incoming = self.provider.cipher(algorithm, derived.client_to_server.expose()).ok()?;
                Some((outgoing, incoming))
            });
            let shared = Arc::new(SharedKeys { signer: Arc::clone(&signer), ciphers });
            ring.insert(session, &shared);
            shared
        });
        let ciphers = shared.ciphers.as_ref().map(|(outgoing, incoming)| Ciphers {
            outgoing: Arc::clone(outgoing),
            incoming: Arc::clone(incoming),
            next_nonce: (u64::from(channel.0) << NONCE_COUNTER_BITS) + 1,
        });
        self.keys.insert(session, Keys { signer, ciphers, session: shared });
    }
}

#[cfg(test)]
mod tests;
