//! A connection that sends whatever it is told to, with just enough of a client to come to any point of a session.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use smb_proto::auth::initiator::{Credentials, InitiatorInputs, Next, NtlmInitiator, Wrapping};
use smb_proto::command::negotiate::{self, Capabilities, Dialect, SecurityMode};
use smb_proto::command::{FileId, Request, Response, create, session_setup, tree_connect};
use smb_proto::crypto::portable::Portable;
use smb_proto::crypto::signing::sign_message;
use smb_proto::crypto::{KeySchedule, Provider, Secret, SessionKeys, Signer, SigningAlgorithm};
use smb_proto::frame;
use smb_proto::header::{self, Flags, Header, Routing};
use smb_proto::{AccessMask, FileAttributes, FileTime, NtStatus};

use crate::peer::User;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// A ClientGuid for each dialect, since a client has only one (MS-SMB2 3.3.5.5.3).
pub(super) fn guid(dialect: Dialect) -> [u8; 16] {
    let [low, high] = dialect.0.to_le_bytes();
    let mut guid = *b"hostile peer ...";
    (guid[14], guid[15]) = (low, high);
    guid
}

/// A connection to the server.
pub(super) struct Wire {
    stream: TcpStream,
    next_message: u64,
    pub(super) session: u64,
    pub(super) tree: u32,
    signer: Option<Arc<dyn Signer>>,
    dialect: Option<Dialect>,
    /// What the server offered.
    pub(super) capabilities: Capabilities,
}

impl Wire {
    pub(super) fn connect(address: SocketAddr) -> Result<Wire> {
        let stream = TcpStream::connect_timeout(&address, ANSWER)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        Ok(Wire {
            stream,
            next_message: 0,
            session: 0,
            tree: 0,
            signer: None,
            dialect: None,
            capabilities: Capabilities::default(),
        })
    }

    /// A connection with a session on a share.
    pub(super) fn ready(address: SocketAddr, dialect: Dialect, user: &User, share: &str) -> Result<Wire> {
        let mut wire = Wire::connect(address)?;
        wire.negotiate(dialect)?;
        let status = wire.log_on(user.name, user.password)?;
        ensure!(status == NtStatus::SUCCESS, "no session: {status}");
        wire.tree_connect(share)?;
        Ok(wire)
    }

    /// Bytes as they are.
    pub(super) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// How long a write may take from now on.
    pub(super) fn write_within(&self, limit: Duration) -> Result<()> {
        Ok(self.stream.set_write_timeout(Some(limit))?)
    }

    /// Another handle of the same socket.
    pub(super) fn try_clone(&self) -> Result<TcpStream> {
        Ok(self.stream.try_clone()?)
    }

    /// A header for the next message, which asks for as many credits as there could be.
    pub(super) fn header(&mut self, code: u16, charge: u16) -> Header {
        let message_id = self.next_message;
        self.next_message += u64::from(charge.max(1));
        Header {
            credit_charge: charge,
            status: NtStatus::SUCCESS,
            command: code,
            credits: 8192,
            flags: Flags(0),
            next_command: 0,
            message_id,
            routing: Routing::Sync { process_id: 0xFEFF, tree_id: self.tree },
            session_id: self.session,
            signature: [0; 16],
        }
    }

    /// A message, signed if there is a key.
    pub(super) fn message(&mut self, request: &Request, charge: u16) -> Vec<u8> {
        let header = self.header(request.command().code(), charge);
        let mut message = Vec::new();
        header.emit(&mut message);
        request.emit(&mut message);
        if let Some(signer) = &self.signer {
            sign_message(signer.as_ref(), &mut message);
        }
        message
    }

    /// Sends one message with its prefix.
    pub(super) fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.write(&framed(message)?)?)
    }

    /// The next message of the server; `None` when it closed the connection.
    pub(super) fn receive(&mut self) -> Result<Option<(Header, Bytes)>> {
        let Some(prefix) = read_all(&mut self.stream, 4)? else { return Ok(None) };
        let prefix: [u8; 4] = prefix[..].try_into()?;
        let length = frame::length(prefix, frame::LENGTH_MAX)?;
        let Some(message) = read_all(&mut self.stream, length)? else { return Ok(None) };
        let message = Bytes::from(message);
        ensure!(message.len() >= header::SIZE, "a message without a header");
        Ok(Some((Header::parse(&message)?, message)))
    }

    /// Sends a request and waits for its final answer.
    pub(super) fn ask(&mut self, request: &Request) -> Result<(NtStatus, Response, Bytes)> {
        let message = self.message(request, 1);
        self.send(&message)?;
        self.answer()
    }

    /// The next final answer.
    pub(super) fn answer(&mut self) -> Result<(NtStatus, Response, Bytes)> {
        loop {
            let (header, message) = self.receive()?.context("disconnected instead of an answer")?;
            if header.status != NtStatus::PENDING {
                return Ok((header.status, Response::parse(&header, &message)?, message));
            }
        }
    }

    /// NEGOTIATE of one dialect (not 3.1.1, whose contexts nothing here needs).
    pub(super) fn negotiate(&mut self, dialect: Dialect) -> Result<()> {
        let request = Request::Negotiate(negotiate::Request {
            security_mode: SecurityMode::SIGNING_ENABLED,
            capabilities: client_capabilities(),
            client_guid: guid(dialect),
            dialects: vec![dialect],
            contexts: Vec::new(),
        });
        let (status, response, _) = self.ask(&request)?;
        let Response::Negotiate(answer) = response else { bail!("NEGOTIATE: {status}") };
        ensure!(answer.dialect == dialect, "{:?} was agreed", answer.dialect);
        self.dialect = Some(dialect);
        self.capabilities = answer.capabilities;
        Ok(())
    }

    /// The first half of a logon.
    pub(super) fn begin_log_on(&mut self, user: &str, password: &str) -> Result<(NtlmInitiator, Bytes)> {
        let credentials = Credentials::password(user, "", password);
        let (initiator, token) =
            NtlmInitiator::begin(credentials, Wrapping::Spnego, "HOSTILE", "cifs/server");
        let (status, response, message) = self.ask(&session_setup(token))?;
        self.session = Header::parse(&message)?.session_id;
        ensure!(status == NtStatus::MORE_PROCESSING_REQUIRED, "the first SESSION_SETUP: {status}");
        let Response::SessionSetup(answer) = response else { bail!("not an answer to SESSION_SETUP") };
        Ok((initiator, answer.security_buffer))
    }

    /// SESSION_SETUP to its end; the keys are those of the dialects before 3.1.1.
    pub(super) fn log_on(&mut self, user: &str, password: &str) -> Result<NtStatus> {
        let (mut initiator, token) = self.begin_log_on(user, password)?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        let inputs = InitiatorInputs {
            client_challenge: *b"unguess.",
            session_key: Secret::new(*b"a session's key."),
            now: FileTime::from_unix(i64::try_from(now)?, 0),
        };
        let Next::Send(token) = initiator.step(&token, inputs)? else { bail!("no second token") };
        let message = self.message(&session_setup(token), 1);
        self.send(&message)?;
        let (header, _) = self.receive()?.context("disconnected during the logon")?;
        if header.status == NtStatus::SUCCESS {
            let key = initiator.session_key().context("no session key")?;
            let smb3 = self.dialect.is_some_and(Dialect::is_smb3);
            let (schedule, algorithm) = match smb3 {
                true => (KeySchedule::Smb30, SigningAlgorithm::AesCmac),
                false => (KeySchedule::Smb2, SigningAlgorithm::HmacSha256),
            };
            let keys = SessionKeys::derive(schedule, key.expose(), None);
            self.signer = Some(Portable.signer(algorithm, keys.signing.expose()));
        }
        Ok(header.status)
    }

    pub(super) fn tree_connect(&mut self, share: &str) -> Result<()> {
        let path = format!("\\\\server\\{share}");
        let request = tree_connect::Request { path: path.as_str().into(), ..Default::default() };
        let (status, _, message) = self.ask(&Request::TreeConnect(request))?;
        ensure!(status == NtStatus::SUCCESS, "TREE_CONNECT: {status}");
        self.tree = Header::parse(&message)?.tree_id().context("no tree")?;
        Ok(())
    }

    /// Opens a file that is there, to read it.
    pub(super) fn open(&mut self, name: &str) -> Result<FileId> {
        let request = create::Request {
            oplock_level: smb_proto::command::oplock_break::OplockLevel(0),
            impersonation_level: create::ImpersonationLevel(2),
            desired_access: AccessMask(0x0012_0089),
            file_attributes: FileAttributes::EMPTY,
            share_access: create::ShareAccess(7),
            create_disposition: create::CreateDisposition(1),
            create_options: create::CreateOptions(0),
            name: name.into(),
            contexts: Vec::new(),
        };
        let (status, response, _) = self.ask(&Request::Create(request))?;
        let Response::Create(answer) = response else { bail!("CREATE: {status}") };
        Ok(answer.file_id)
    }

    /// The server closes the connection, whatever it sends before.
    pub(super) fn expect_disconnect(&mut self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        let mut scratch = [0; 16 << 10];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "still connected after {within:?}");
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut scratch) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if is_disconnect(error.kind()) => return Ok(()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends what has to lead to a disconnect. It may come before everything is sent.
    pub(super) fn offend(&mut self, bytes: &[u8]) -> Result<()> {
        match self.write(bytes) {
            Err(error) if !is_disconnect(error.kind()) => Err(error.into()),
            _ => self.expect_disconnect(super::SOON),
        }
    }
}

/// What every client here says that it can do.
pub(super) fn client_capabilities() -> Capabilities {
    Capabilities::DFS.with(Capabilities::LARGE_MTU)
}

/// A message behind its prefix.
pub(super) fn framed(message: &[u8]) -> Result<Vec<u8>> {
    Ok([&frame::prefix(message.len())?[..], message].concat())
}

pub(super) fn session_setup(token: Vec<u8>) -> Request {
    Request::SessionSetup(session_setup::Request { security_buffer: token.into(), ..Default::default() })
}

/// Whether an error of a socket says that the other side is gone.
pub(super) fn is_disconnect(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}

fn read_all(stream: &mut TcpStream, length: usize) -> Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; length];
    match stream.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof || is_disconnect(error.kind()) => Ok(None),
        Err(error) => Err(error).context("no answer in time"),
    }
}
