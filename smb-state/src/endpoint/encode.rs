//! Responses to frames: encode, compound, sign, encrypt, in the buffer that the data was read into.

use bytes::Bytes;
use smb_proto::Payload;
use smb_proto::auth::acceptor::NtlmAcceptor;
use smb_proto::command::error::{self, ErrorData};
use smb_proto::command::negotiate::Dialect;
use smb_proto::command::negotiate_context::{HashAlgorithm, NegotiateContext};
use smb_proto::command::{
    change_notify, echo, flush, ioctl, lock, logoff, query_directory, query_info, read, session_setup,
    set_info, tree_disconnect, write,
};
use smb_proto::compound::Builder;
use smb_proto::crypto::seal;
use smb_proto::crypto::signing::sign_message;
use smb_proto::frame;
use smb_proto::header::{CommandCode, Flags, Header, Routing};
use smb_proto::{NtStatus, header};

use super::{Endpoint, Keys, Outbox, Surroundings};
use crate::ids::SessionId;
use crate::response::{Body, IoctlOutput, NegotiateAnswer, Notification, Protect, Response};

/// Bytes of salt in a NEGOTIATE answer.
const SALT_SIZE: usize = 32;
/// What the header has beside TreeId (2.2.1.2). The crate smb verifies signatures over a header with 0 here.
const RESERVED: u32 = 0;

/// How a response is to be protected, of which session it is, and whether that is still being set up.
type Signing = (Protect, SessionId, bool);

fn signing(response: &Response) -> Signing {
    let setting_up = response.command == CommandCode::SessionSetup && response.status != NtStatus::SUCCESS;
    (response.protect, response.session, setting_up)
}

impl Endpoint {
    /// Sends one frame of responses.
    pub(super) fn respond(
        &mut self,
        responses: Vec<Response>,
        around: &mut Surroundings<'_>,
        out: &mut Outbox,
    ) {
        let sealed = responses.iter().find_map(|response| match response.protect {
            Protect::Seal(session) => Some(session),
            Protect::Plain | Protect::Sign => None,
        });
        for response in &responses {
            self.raw_requests.remove(&response.message);
        }
        let single = responses.len() == 1;
        let message = if single {
            let Some(response) = responses.into_iter().next() else { return };
            self.encode_one(response, sealed.is_some(), around)
        } else {
            self.encode_compound(responses, sealed.is_some(), around)
        };
        let Some(message) = self.seal(message, sealed, out) else { return };
        let Ok(prefix) = frame::prefix(message.len()) else { return };
        out.frames.push(message.prepend(&prefix).into_bytes());
    }

    /// Sends a message that answers nothing: MessageId all ones, no tree connect, unsigned (3.3.4.6, 3.3.4.7).
    pub(super) fn notify(&mut self, notification: &Notification, out: &mut Outbox) {
        let header = Header {
            credit_charge: 0,
            status: NtStatus::SUCCESS,
            command: CommandCode::OplockBreak.code(),
            credits: 0,
            flags: Flags::SERVER_TO_REDIR,
            next_command: 0,
            message_id: u64::MAX,
            routing: Routing::Sync { process_id: RESERVED, tree_id: 0 },
            session_id: notification.session.0,
            signature: [0; 16],
        };
        let mut bytes = Vec::with_capacity(header::SIZE + 44);
        header.emit(&mut bytes);
        notification.body.emit(&mut bytes);
        let Some(message) = self.seal(Payload::copy_from(&bytes), notification.sealed, out) else { return };
        let Ok(prefix) = frame::prefix(message.len()) else { return };
        out.frames.push(message.prepend(&prefix).into_bytes());
    }

    fn encode_one(&mut self, response: Response, sealed: bool, around: &mut Surroundings<'_>) -> Payload {
        let signing = signing(&response);
        let session = response.session;
        let (command, status) = (response.command, response.status);
        let mut message = self.encode(response, around);
        if !sealed {
            self.sign(signing, message.data_mut());
        }
        self.update_hashes(command, status, session, message.data());
        if command == CommandCode::SessionSetup && status == NtStatus::SUCCESS {
            self.authenticated = true;
        }
        message
    }

    fn encode_compound(
        &mut self,
        responses: Vec<Response>,
        sealed: bool,
        around: &mut Surroundings<'_>,
    ) -> Payload {
        let mut builder = Builder::new();
        let mut protections = Vec::with_capacity(responses.len());
        for response in responses {
            protections.push(signing(&response));
            builder.push(self.encode(response, around).data());
        }
        let (mut bytes, parts) = builder.finish();
        if !sealed {
            for (part, signing) in parts.into_iter().zip(protections) {
                if let Some(message) = bytes.get_mut(part) {
                    self.sign(signing, message);
                }
            }
        }
        Payload::copy_from(&bytes)
    }

    /// The preauthentication hash runs over what is sent, as it is sent, but for the last SESSION_SETUP response.
    fn update_hashes(&mut self, command: CommandCode, status: NtStatus, session: SessionId, message: &[u8]) {
        let dialect = self.dialect();
        if command == CommandCode::Negotiate
            && dialect == Some(Dialect::SMB_3_1_1)
            && status == NtStatus::SUCCESS
        {
            self.connection_hash.update(message);
        }
        if command == CommandCode::SessionSetup
            && status == NtStatus::MORE_PROCESSING_REQUIRED
            && let Some(hash) = self.session_hashes.get_mut(&session)
        {
            hash.update(message);
        }
    }

    fn sign(&self, (protect, session, setting_up): Signing, message: &mut [u8]) {
        if protect != Protect::Sign {
            return;
        }
        let signer = match self.keys.get(&session) {
            // Setting up goes on under the session's own key, on every channel (3.3.4.1.1).
            Some(keys) if setting_up => Some(&keys.session.signer),
            Some(keys) => Some(&keys.signer),
            None => self.binds.get(&session).map(|keys| &keys.signer),
        };
        if let Some(signer) = signer {
            sign_message(signer.as_ref(), message);
        }
    }

    fn seal(&mut self, message: Payload, sealed: Option<SessionId>, out: &mut Outbox) -> Option<Payload> {
        let Some(session) = sealed else { return Some(message) };
        let ciphers = self.keys.get_mut(&session).and_then(|keys| keys.ciphers.as_mut());
        let sealed = ciphers.and_then(|ciphers| {
            let nonce = Keys::nonce(ciphers)?;
            Some(seal::seal(ciphers.outgoing.as_ref(), session.0, &nonce, message))
        });
        if sealed.is_none() {
            // Nothing that was to be encrypted ever leaves in the clear.
            out.disconnect = true;
        }
        sealed
    }

    /// A whole message with room in front of it.
    fn encode(&self, response: Response, around: &mut Surroundings<'_>) -> Payload {
        let header = response_header(&response);
        let mut out = Vec::with_capacity(header::SIZE + 64);
        header.emit(&mut out);
        let payload = match &response.body {
            Body::Read { buffer, .. } => around.buffers.take(*buffer),
            Body::QueryDirectory { buffer, .. } => around.buffers.take(*buffer),
            Body::Ioctl { output: IoctlOutput::Buffer { buffer, .. }, .. } => around.buffers.take(*buffer),
            Body::Error
            | Body::BytesNeeded(_)
            | Body::StoppedOnLink(_)
            | Body::Negotiate(_)
            | Body::SessionSetup { .. }
            | Body::Empty
            | Body::TreeConnect(_)
            | Body::Create(_)
            | Body::Close(_)
            | Body::Write { .. }
            | Body::Ioctl { .. }
            | Body::Info(_)
            | Body::SetInfo
            | Body::OplockBreak(_)
            | Body::Notify(_) => None,
        };
        if let Some(payload) = payload {
            let length = payload.len();
            match &response.body {
                Body::Read { .. } => read::Response::emit_fixed(&mut out, length, 0),
                Body::QueryDirectory { .. } => query_directory::Response::emit_fixed(&mut out, length),
                Body::Ioctl { code, file_id, .. } => {
                    ioctl::Response::emit_fixed(&mut out, *code, *file_id, length);
                }
                Body::Error
                | Body::BytesNeeded(_)
                | Body::StoppedOnLink(_)
                | Body::Negotiate(_)
                | Body::SessionSetup { .. }
                | Body::Empty
                | Body::TreeConnect(_)
                | Body::Create(_)
                | Body::Close(_)
                | Body::Write { .. }
                | Body::Info(_)
                | Body::SetInfo
                | Body::OplockBreak(_)
                | Body::Notify(_) => {}
            }
            return payload.prepend(&out);
        }
        self.encode_body(response, &mut out, around);
        Payload::copy_from(&out)
    }

    fn encode_body(&self, response: Response, out: &mut Vec<u8>, around: &mut Surroundings<'_>) {
        let in_context = self.dialect() == Some(Dialect::SMB_3_1_1);
        match response.body {
            Body::Error => error::Response { data: ErrorData::Plain(Bytes::new()) }.emit(out),
            Body::BytesNeeded(needed) => {
                error::Response { data: ErrorData::required_length(needed, in_context) }.emit(out);
            }
            Body::Negotiate(answer) => negotiate(*answer, around).emit(out),
            Body::StoppedOnLink(link) => {
                error::Response { data: ErrorData::new(link.to_bytes(), in_context) }.emit(out);
            }
            Body::SessionSetup { flags, token } => {
                let security_buffer = token
                    .and_then(|token| around.buffers.take(token))
                    .map(Payload::into_bytes)
                    .unwrap_or_default();
                let session_flags = session_setup::SessionFlags(flags);
                session_setup::Response { session_flags, security_buffer }.emit(out);
            }
            Body::Empty => emit_empty(response.command, out),
            Body::TreeConnect(connect) => connect.emit(out),
            Body::Create(create) => create.emit(out),
            Body::Close(close) => close.emit(out),
            Body::Read { .. } => read::Response::emit_fixed(out, 0, 0),
            Body::Write { count } => write::Response { count }.emit(out),
            Body::Ioctl { code, file_id, output } => {
                let output = match output {
                    IoctlOutput::Bytes(bytes) => Bytes::from(bytes),
                    IoctlOutput::Nothing | IoctlOutput::Buffer { .. } => Bytes::new(),
                };
                ioctl::Response { ctl_code: code, file_id, input: Bytes::new(), output }.emit(out);
            }
            Body::QueryDirectory { .. } => query_directory::Response::emit_fixed(out, 0),
            Body::Info(bytes) => query_info::Response { output: Bytes::from(bytes) }.emit(out),
            Body::SetInfo => set_info::Response.emit(out),
            Body::OplockBreak(response) => response.emit(out),
            Body::Notify(bytes) => change_notify::Response { output: Bytes::from(bytes) }.emit(out),
        }
    }
}

fn emit_empty(command: CommandCode, out: &mut Vec<u8>) {
    match command {
        CommandCode::Logoff => logoff::Response.emit(out),
        CommandCode::TreeDisconnect => tree_disconnect::Response.emit(out),
        CommandCode::Flush => flush::Response.emit(out),
        CommandCode::Lock => lock::Response.emit(out),
        CommandCode::Echo => echo::Response.emit(out),
        CommandCode::SetInfo => set_info::Response.emit(out),
        CommandCode::Negotiate
        | CommandCode::SessionSetup
        | CommandCode::TreeConnect
        | CommandCode::Create
        | CommandCode::Close
        | CommandCode::Read
        | CommandCode::Write
        | CommandCode::Ioctl
        | CommandCode::Cancel
        | CommandCode::QueryDirectory
        | CommandCode::ChangeNotify
        | CommandCode::QueryInfo
        | CommandCode::OplockBreak => error::Response { data: ErrorData::Plain(Bytes::new()) }.emit(out),
    }
}

fn response_header(response: &Response) -> Header {
    let mut flags = Flags::SERVER_TO_REDIR;
    if response.related {
        flags = flags.with(Flags::RELATED_OPERATIONS);
    }
    let routing = match response.async_id {
        Some(async_id) => {
            flags = flags.with(Flags::ASYNC_COMMAND);
            Routing::Async { async_id: async_id.0 }
        }
        None => Routing::Sync { process_id: RESERVED, tree_id: response.tree.0 },
    };
    Header {
        credit_charge: response.credit_charge,
        status: response.status,
        command: response.command.code(),
        credits: response.credits,
        flags,
        next_command: 0,
        message_id: response.message.0,
        routing,
        session_id: response.session.0,
        signature: [0; 16],
    }
}

/// Adds what needs a clock, randomness or the list of mechanisms.
fn negotiate(
    answer: NegotiateAnswer,
    around: &mut Surroundings<'_>,
) -> smb_proto::command::negotiate::Response {
    let mut response = answer.response;
    response.system_time = around.now;
    response.security_buffer = Bytes::from(NtlmAcceptor::server_hint());
    if answer.preauth {
        let mut salt = vec![0; SALT_SIZE];
        (around.random)(&mut salt);
        let context = NegotiateContext::PreauthIntegrity {
            algorithms: vec![HashAlgorithm::SHA_512],
            salt: Bytes::from(salt),
        };
        response.contexts.insert(0, context);
    }
    response
}
