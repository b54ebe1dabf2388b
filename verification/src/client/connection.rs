//! A connection: message ids, credits, signatures and encryption of what is under way on it (MS-SMB2 3.2.1.2).

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use smb_proto::NtStatus;
use smb_proto::command::write::{Request as WriteRequest, WriteHead};
use smb_proto::command::{BODY_OFFSET, Request, Response, UNSOLICITED_MESSAGE_ID, oplock_break};
use smb_proto::compound;
use smb_proto::crypto::{Cipher, PreauthHash, Signer, seal, signing};
use smb_proto::frame;
use smb_proto::header::{CommandCode, Flags, Header, Routing};
use smb_proto::transform::{self, TransformHeader};
use smb_proto::wire;

use super::error::{Error, Result};
use super::options::{Negotiated, Options};
use super::random;
use super::transport::Transport;

/// Bytes that one credit pays for (3.1.5.2).
const CREDIT_SIZE: usize = 65_536;

/// How a request is protected on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// Not at all.
    Plain,
    /// It is signed, and its response has to be.
    Signed,
    /// It is encrypted, and its response has to be.
    Encrypted,
}

/// A session on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// SessionId.
    pub id: u64,
    /// How its requests are protected.
    pub protection: Protection,
}

/// A tree connect of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The session.
    pub session: Session,
    /// TreeId.
    pub id: u32,
}

/// Where requests go and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// SessionId; zero for none.
    pub session_id: u64,
    /// TreeId; zero for none.
    pub tree_id: u32,
    /// How the request is protected.
    pub protection: Protection,
}

impl Target {
    /// No session and no tree connect.
    pub const NONE: Self = Self { session_id: 0, tree_id: 0, protection: Protection::Plain };
}

impl From<Session> for Target {
    fn from(session: Session) -> Self {
        Self { session_id: session.id, tree_id: 0, protection: session.protection }
    }
}

impl From<Tree> for Target {
    fn from(tree: Tree) -> Self {
        Self { tree_id: tree.id, ..tree.session.into() }
    }
}

/// A response to a request of ours.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its header.
    pub header: Header,
    /// What it says.
    pub response: Response,
    /// The whole message, as it came (or as it was decrypted).
    pub message: Bytes,
}

impl Reply {
    /// The response, unless it is an error.
    ///
    /// # Errors
    /// [`Error::Status`] when the response is ERROR.
    pub fn success(self) -> Result<Response> {
        match self.response {
            Response::Error(_) => {
                let command = CommandCode::from_code(self.header.command)
                    .ok_or(Error::Protocol("the server answers an unknown command"))?;
                Err(Error::Status { command, status: self.header.status })
            }
            response => Ok(response),
        }
    }
}

/// What is known about a request under way.
#[derive(Debug)]
struct Pending {
    command: CommandCode,
    protection: Protection,
    async_id: Option<u64>,
    target: Target,
}

/// The keys of a session, ready for use.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) signer: Arc<dyn Signer>,
    /// For what the client sends.
    pub(super) sealer: Option<Arc<dyn Cipher>>,
    /// For what the server sends.
    pub(super) opener: Option<Arc<dyn Cipher>>,
    /// The next nonce: messages encrypted so far, with the connection's place in the session above them.
    pub(super) sealed: u64,
    /// Session.SigningKey, of the session's first connection.
    pub(super) session_signer: Arc<dyn Signer>,
    /// Connections that were bound through this one, which is the session's first.
    pub(super) bound: u64,
}

/// A connection after NEGOTIATE.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    pub(super) negotiated: Negotiated,
    pub(super) offered: Options,
    pub(super) client_guid: [u8; 16],
    /// Of the NEGOTIATE messages.
    pub(super) preauth: PreauthHash,
    pub(super) keys: BTreeMap<u64, Keys>,
    next_message_id: u64,
    credits: u32,
    pending: BTreeMap<u64, Pending>,
    ready: VecDeque<Reply>,
    breaks: VecDeque<oplock_break::Notification>,
    /// The message being made; kept for its memory.
    scratch: Vec<u8>,
}

impl Connection {
    /// Connects and negotiates.
    ///
    /// # Errors
    /// The connection fails, or the server's answer is not one to what `options` offer.
    pub fn open(address: SocketAddr, options: &Options) -> Result<Self> {
        let transport = Transport::connect(address, options.limit, options.piece)?;
        let client_guid = match options.client_guid {
            Some(client_guid) => client_guid,
            None => random()?,
        };
        let request = options.request(client_guid, random()?);
        let mut connection = Self {
            transport,
            // Replaced by what the server says; until then nothing is signed, and a request costs one credit.
            negotiated: Negotiated {
                dialect: smb_proto::command::negotiate::Dialect::SMB_2_0_2,
                cipher: None,
                signer: smb_proto::crypto::SigningAlgorithm::HmacSha256,
                capabilities: Default::default(),
                security_mode: Default::default(),
                server_guid: [0; 16],
                max_transact_size: 0,
                max_read_size: 0,
                max_write_size: 0,
            },
            offered: options.clone(),
            client_guid,
            preauth: PreauthHash::default(),
            keys: BTreeMap::new(),
            next_message_id: 0,
            credits: 1,
            pending: BTreeMap::new(),
            ready: VecDeque::new(),
            breaks: VecDeque::new(),
            scratch: Vec::new(),
        };
        let id = connection.submit(Target::NONE, &Request::Negotiate(request))?;
        let mut preauth = PreauthHash::default();
        preauth.update(connection.last_message());
        let reply = connection.wait(id)?;
        preauth.update(&reply.message);
        connection.preauth = preauth;
        let Response::Negotiate(response) = reply.success()? else {
            return Err(Error::Protocol(WRONG_COMMAND));
        };
        connection.negotiated = Negotiated::from_response(options, &response)?;
        Ok(connection)
    }

    /// What was negotiated.
    pub fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// Credits that are left.
    pub fn credits(&self) -> u32 {
        self.credits
    }

    /// Requests under way.
    pub fn outstanding(&self) -> usize {
        self.pending.len()
    }

    /// The bytes below, for tests that send what a client shouldn't.
    pub fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// The message that the last `submit` sent, before encryption, without the data that [`Self::submit_write`] takes apart.
    pub fn last_message(&self) -> &[u8] {
        &self.scratch
    }

    /// The oldest oplock or lease break that came and wasn't taken yet. [`Self::receive`] and others receive them.
    pub fn take_break(&mut self) -> Option<oplock_break::Notification> {
        self.breaks.pop_front()
    }

    /// Queues a request, to be sent when something is awaited at the latest. Returns its message id.
    ///
    /// # Errors
    /// [`Error::NoCredits`], with nothing sent; anything else ends the connection.
    pub fn submit(&mut self, target: impl Into<Target>, request: &Request) -> Result<u64> {
        let target = target.into();
        let charge = self.charge(request);
        let message_id = self.register(&target, request.command(), charge)?;
        let header = self.header(&target, request.command(), message_id, charge);
        let mut message = std::mem::take(&mut self.scratch);
        message.clear();
        header.emit(&mut message);
        request.emit(&mut message);
        let end = message.len();
        let sent = self.protect_and_queue(&target, &mut message, std::slice::from_ref(&(0..end)), &[]);
        self.scratch = message;
        sent.map(|()| message_id)
    }

    /// Queues a WRITE without copying its data, unless the data has to be signed or encrypted.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn submit_write(&mut self, target: impl Into<Target>, head: &WriteHead, data: &[u8]) -> Result<u64> {
        let target = target.into();
        let charge = self.charge_of(data.len());
        let message_id = self.register(&target, CommandCode::Write, charge)?;
        let header = self.header(&target, CommandCode::Write, message_id, charge);
        let mut message = std::mem::take(&mut self.scratch);
        message.clear();
        header.emit(&mut message);
        WriteRequest::emit_fixed(&mut message, head, data.len());
        let plain = target.protection == Protection::Plain;
        if !plain {
            message.extend_from_slice(data);
        }
        let end = message.len();
        let apart = if plain { data } else { &[] };
        let sent = self.protect_and_queue(&target, &mut message, std::slice::from_ref(&(0..end)), apart);
        self.scratch = message;
        sent.map(|()| message_id)
    }

    /// Queues requests as one compound, of which all but the first are related to their predecessors if `related`
    /// (3.2.4.1.4). Returns their message ids.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn submit_compound(
        &mut self,
        target: impl Into<Target>,
        requests: &[Request],
        related: bool,
    ) -> Result<Vec<u64>> {
        let target = target.into();
        let charges: Vec<u16> = requests.iter().map(|request| self.charge(request)).collect();
        if charges.iter().map(|charge| u32::from(*charge)).sum::<u32>() > self.credits {
            return Err(Error::NoCredits);
        }
        let mut ids = Vec::with_capacity(requests.len());
        let mut builder = compound::Builder::new();
        let mut message = Vec::new();
        for (position, (request, charge)) in requests.iter().zip(charges).enumerate() {
            let message_id = self.register(&target, request.command(), charge)?;
            let mut header = self.header(&target, request.command(), message_id, charge);
            if related && position > 0 {
                header.flags = header.flags.with(Flags::RELATED_OPERATIONS);
            }
            message.clear();
            header.emit(&mut message);
            request.emit(&mut message);
            builder.push(&message);
            ids.push(message_id);
        }
        let (mut bytes, parts) = builder.finish();
        let sent = self.protect_and_queue(&target, &mut bytes, &parts, &[]);
        self.scratch = bytes;
        sent.map(|()| ids)
    }

    /// Queues a CANCEL for a request under way; it costs nothing and has no response (3.2.4.24).
    ///
    /// # Errors
    /// Sending fails.
    pub fn cancel(&mut self, message_id: u64) -> Result<()> {
        let Some(pending) = self.pending.get(&message_id) else { return Ok(()) };
        let target = pending.target;
        let mut header = self.header(&target, CommandCode::Cancel, message_id, 0);
        header.credits = 0;
        if let Some(async_id) = pending.async_id {
            header.routing = Routing::Async { async_id };
        }
        let mut message = Vec::new();
        header.emit(&mut message);
        Request::Cancel(smb_proto::command::cancel::Request).emit(&mut message);
        let end = message.len();
        self.protect_and_queue(&target, &mut message, std::slice::from_ref(&(0..end)), &[])
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// Sending fails.
    pub fn flush(&mut self) -> Result<()> {
        self.transport.flush()
    }

    /// The next response in the order of arrival. Interim responses are taken note of and not returned.
    ///
    /// # Errors
    /// Nothing is under way, the connection ended, or a message is wrong. An error status is none.
    pub fn receive(&mut self) -> Result<Reply> {
        loop {
            if let Some(reply) = self.ready.pop_front() {
                return Ok(reply);
            }
            if self.pending.is_empty() {
                return Err(Error::Protocol("waiting for a response with no request under way"));
            }
            self.receive_frame()?;
        }
    }

    /// The response to the request with this message id; others wait for their turn.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn wait(&mut self, message_id: u64) -> Result<Reply> {
        loop {
            let found = self.ready.iter().position(|reply| reply.header.message_id == message_id);
            if let Some(reply) = found.and_then(|position| self.ready.remove(position)) {
                return Ok(reply);
            }
            if !self.pending.contains_key(&message_id) {
                return Err(Error::Protocol("waiting for a response to no request under way"));
            }
            self.receive_frame()?;
        }
    }

    /// Receives one frame, waiting if need be, and takes note of everything in it. For waiting for breaks.
    ///
    /// # Errors
    /// The connection ended, or a message is wrong.
    pub fn receive_frame(&mut self) -> Result<()> {
        let mut payload = self.transport.receive()?;
        match frame::Kind::of(&payload)? {
            frame::Kind::Smb2 => self.on_frame(payload.into(), None),
            frame::Kind::Transform => {
                let session_id = TransformHeader::parse(&payload)?.session_id;
                let opener = self.keys.get(&session_id).and_then(|keys| keys.opener.as_deref());
                let opener = opener.ok_or(Error::Protocol("encrypted for a session without such keys"))?;
                seal::open(opener, &mut payload)?;
                self.on_frame(Bytes::from(payload).slice(transform::SIZE..), Some(session_id))
            }
            frame::Kind::Smb1 | frame::Kind::Compressed => {
                Err(Error::Protocol("the server sent a message of a kind that was not negotiated"))
            }
        }
    }

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// As [`Self::submit`] and [`Self::receive`], and [`Error::Status`].
    pub fn call(&mut self, target: impl Into<Target>, request: &Request) -> Result<Response> {
        let message_id = self.submit(target, request)?;
        self.wait(message_id)?.success()
    }

    /// Sends a related compound and waits for its responses.
    ///
    /// # Errors
    /// As [`Self::submit`] and [`Self::receive`]. An error status is none.
    pub fn call_compound(&mut self, target: impl Into<Target>, requests: &[Request]) -> Result<Vec<Reply>> {
        let ids = self.submit_compound(target, requests, true)?;
        ids.into_iter().map(|message_id| self.wait(message_id)).collect()
    }

    fn on_frame(&mut self, payload: Bytes, sealed_for: Option<u64>) -> Result<()> {
        for message in compound::split(&payload) {
            self.on_message(message?, sealed_for)?;
        }
        Ok(())
    }

    fn on_message(&mut self, message: Bytes, sealed_for: Option<u64>) -> Result<()> {
        let header = Header::parse(&message)?;
        if !header.flags.contains(Flags::SERVER_TO_REDIR) {
            return Err(Error::Protocol("the server sent a request"));
        }
        let response = Response::parse(&header, &message)?;
        self.credits = self.credits.saturating_add(u32::from(header.credits));
        if let Response::Break(notification) = response {
            self.breaks.push_back(notification);
            return Ok(());
        }
        if header.message_id == UNSOLICITED_MESSAGE_ID {
            return Err(Error::Protocol("the server sent an unknown notification"));
        }
        let pending = self
            .pending
            .get_mut(&header.message_id)
            .ok_or(Error::Protocol("a response to no request under way"))?;
        if pending.command.code() != header.command {
            return Err(Error::Protocol(WRONG_COMMAND));
        }
        let interim = header.status == NtStatus::PENDING && header.flags.contains(Flags::ASYNC_COMMAND);
        let signer = self.keys.get(&header.session_id).map(|keys| &*keys.signer);
        if pending.command == CommandCode::SessionSetup && header.status == NtStatus::SUCCESS {
            // Its key comes with it: whoever waits for it verifies.
            self.pending.remove(&header.message_id);
            self.ready.push_back(Reply { header, response, message });
            return Ok(());
        }
        check_protection(pending.protection, &header, &message, sealed_for, interim, signer)?;
        if interim {
            if let Routing::Async { async_id } = header.routing {
                pending.async_id = Some(async_id);
            }
            return Ok(());
        }
        self.pending.remove(&header.message_id);
        self.ready.push_back(Reply { header, response, message });
        Ok(())
    }

    /// Takes message ids and credits for a request.
    fn register(&mut self, target: &Target, command: CommandCode, charge: u16) -> Result<u64> {
        let cost = u32::from(charge.max(1));
        self.credits = self.credits.checked_sub(cost).ok_or(Error::NoCredits)?;
        let message_id = self.next_message_id;
        self.next_message_id += u64::from(cost);
        let pending = Pending { command, protection: target.protection, async_id: None, target: *target };
        self.pending.insert(message_id, pending);
        Ok(message_id)
    }

    fn header(&self, target: &Target, command: CommandCode, message_id: u64, charge: u16) -> Header {
        let missing = u32::from(self.offered.credits).saturating_sub(self.credits);
        Header {
            credit_charge: charge,
            status: NtStatus::SUCCESS,
            command: command.code(),
            credits: u16::try_from(missing).unwrap_or(u16::MAX).max(charge).max(1),
            flags: Flags(0),
            next_command: 0,
            message_id,
            routing: Routing::Sync { process_id: 0, tree_id: target.tree_id },
            session_id: target.session_id,
            signature: [0; 16],
        }
    }

    /// CreditCharge of a request (3.2.4.1.5); zero where the field has no meaning.
    fn charge(&self, request: &Request) -> u16 {
        let size = |length: u32| usize::try_from(length).unwrap_or(usize::MAX);
        self.charge_of(match request {
            Request::Read(read) => size(read.length),
            Request::Write(write) => write.data.len().max(size(write.remaining_bytes)),
            Request::QueryDirectory(query) => size(query.output_buffer_length),
            Request::QueryInfo(query) => query.input.len().max(size(query.output_buffer_length)),
            Request::SetInfo(set) => set.buffer.len(),
            Request::ChangeNotify(notify) => size(notify.output_buffer_length),
            Request::Ioctl(ioctl) => {
                let sent = ioctl.input.len().saturating_add(size(ioctl.output_count));
                let wanted = ioctl.max_input_response.saturating_add(ioctl.max_output_response);
                sent.max(size(wanted))
            }
            _ => 1,
        })
    }

    fn charge_of(&self, payload: usize) -> u16 {
        if !self.negotiated.counts_credits() {
            return 0;
        }
        u16::try_from(payload.div_ceil(CREDIT_SIZE).max(1)).unwrap_or(u16::MAX)
    }

    /// Signs or encrypts `message`, whose `parts` are the messages of a compound, and queues it with the data that is
    /// `apart` (of a plain message only).
    fn protect_and_queue(
        &mut self,
        target: &Target,
        message: &mut [u8],
        parts: &[std::ops::Range<usize>],
        apart: &[u8],
    ) -> Result<()> {
        debug_assert!(message.len() >= BODY_OFFSET, "a message without a header");
        if target.protection == Protection::Plain {
            return self.transport.queue(&[message, apart]);
        }
        let keys = self.keys.get_mut(&target.session_id);
        let keys = keys.ok_or(Error::Protocol("the session has no keys"))?;
        if target.protection == Protection::Signed {
            for part in parts {
                signing::sign_message(&*keys.signer, &mut message[part.clone()]);
            }
            return self.transport.queue(&[message]);
        }
        let sealer = keys.sealer.as_ref().ok_or(Error::Protocol("no cipher was negotiated"))?;
        let mut header = TransformHeader {
            signature: [0; 16],
            nonce: seal::nonce_from_counter(keys.sealed),
            original_message_size: wire::length_u32(message.len()),
            flags: TransformHeader::ENCRYPTED,
            session_id: target.session_id,
        };
        keys.sealed += 1;
        let mut head = Vec::with_capacity(transform::SIZE);
        header.emit(&mut head);
        header.signature = sealer.seal(&header.nonce, &head[transform::ASSOCIATED_DATA_RANGE], message);
        head.clear();
        header.emit(&mut head);
        self.transport.queue(&[&head, message])
    }
}

/// Whether a response is protected as its request was (3.2.5.1.1, 3.2.5.1.3).
fn check_protection(
    wanted: Protection,
    header: &Header,
    message: &[u8],
    sealed_for: Option<u64>,
    interim: bool,
    signer: Option<&dyn Signer>,
) -> Result<()> {
    if let Some(session_id) = sealed_for {
        let same = session_id == header.session_id;
        return if same { Ok(()) } else { Err(Error::Protocol("encrypted with the key of another session")) };
    }
    if wanted == Protection::Encrypted {
        return Err(Error::Protocol("the response to an encrypted request isn't encrypted"));
    }
    // Interim responses aren't signed: they would use the nonce of the response proper (3.3.4.1.1).
    if interim {
        return Ok(());
    }
    match signer {
        Some(signer) if header.flags.contains(Flags::SIGNED) => {
            let right = signing::verify_message(signer, message);
            if right { Ok(()) } else { Err(Error::Protocol("the signature of a response is wrong")) }
        }
        _ if wanted == Protection::Signed => {
            Err(Error::Protocol("the response to a signed request isn't signed"))
        }
        _ => Ok(()),
    }
}

pub(super) const WRONG_COMMAND: &str = "a response has another command than its request";
