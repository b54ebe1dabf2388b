//! Responses as the core hands them to the endpoint.

use smb_proto::NtStatus;
use smb_proto::command::ioctl::FsctlCode;
use smb_proto::command::{FileId, close, create, negotiate, oplock_break, tree_connect};
use smb_proto::header::CommandCode;

use crate::ids::{AsyncId, BufferId, MessageId, SessionId, TreeId};

/// How a response is to be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Protect {
    /// Not at all.
    #[default]
    Plain,
    /// Sign under the session's key on this connection.
    Sign,
    /// Encrypt under this session's key.
    Seal(SessionId),
}

/// One response, final or interim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Response {
    /// MessageId of the request.
    pub message: MessageId,
    /// Command of the request.
    pub command: CommandCode,
    /// CreditCharge of the request, echoed.
    pub credit_charge: u16,
    /// Credits granted.
    pub credits: u16,
    /// Status.
    pub status: NtStatus,
    /// SessionId.
    pub session: SessionId,
    /// TreeId of a synchronous response.
    pub tree: TreeId,
    /// AsyncId, if the request has one: in its interim response and in its final one.
    pub async_id: Option<AsyncId>,
    /// Answers a related request of a compound.
    pub related: bool,
    /// How it goes out.
    pub protect: Protect,
    /// What it says.
    pub body: Body,
}

/// What a response says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Nothing but the status.
    Error,
    /// The buffer that was offered is too small: this many bytes are needed.
    BytesNeeded(u32),
    /// A symbolic link is in the way of a CREATE: where it leads.
    StoppedOnLink(Box<smb_proto::command::error::SymbolicLink>),
    /// NEGOTIATE.
    Negotiate(Box<NegotiateAnswer>),
    /// SESSION_SETUP.
    SessionSetup {
        /// SessionFlags.
        flags: u16,
        /// The security token.
        token: Option<BufferId>,
    },
    /// LOGOFF, TREE_DISCONNECT, FLUSH, LOCK, ECHO: nothing but a body of the right shape.
    Empty,
    /// TREE_CONNECT.
    TreeConnect(tree_connect::Response),
    /// CREATE.
    Create(Box<create::Response>),
    /// CLOSE.
    Close(close::Response),
    /// READ.
    Read {
        /// The data.
        buffer: BufferId,
        /// Bytes.
        length: u32,
    },
    /// WRITE.
    Write {
        /// Bytes written.
        count: u32,
    },
    /// IOCTL.
    Ioctl {
        /// CtlCode of the request.
        code: FsctlCode,
        /// The open.
        file_id: FileId,
        /// Output.
        output: IoctlOutput,
    },
    /// QUERY_DIRECTORY.
    QueryDirectory {
        /// The encoded entries.
        buffer: BufferId,
        /// Bytes.
        length: u32,
    },
    /// QUERY_INFO, encoded and cut to what the client has room for.
    Info(Vec<u8>),
    /// SET_INFO.
    SetInfo,
    /// OPLOCK_BREAK, to an acknowledgment.
    OplockBreak(oplock_break::Response),
    /// CHANGE_NOTIFY, encoded; empty when the client has to look for itself, or when its watch ended.
    Notify(Vec<u8>),
}

/// A message that answers no request (3.3.4.6, 3.3.4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Notification {
    /// SessionId of its header.
    pub session: SessionId,
    /// Encrypt under this session's key. It is never signed (S10).
    pub sealed: Option<SessionId>,
    /// What it says.
    pub body: oplock_break::Notification,
}

/// A NEGOTIATE answer; the endpoint adds what needs randomness (the salt) and the security mechanisms it can accept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NegotiateAnswer {
    /// The message but for security buffer, times and salt.
    pub response: negotiate::Response,
    /// The dialect is 3.1.1: a preauthentication context with a fresh salt belongs in front of the others.
    pub preauth: bool,
}

/// An IOCTL's output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IoctlOutput {
    /// None.
    Nothing,
    /// A pipe's answer.
    Buffer {
        /// Where it is.
        buffer: BufferId,
        /// Bytes.
        length: u32,
    },
    /// A small structure, encoded.
    Bytes(Vec<u8>),
}

impl Body {
    /// The payload that the adapter holds for this response.
    #[must_use]
    pub fn buffer(&self) -> Option<BufferId> {
        match self {
            Self::SessionSetup { token, .. } => *token,
            Self::Read { buffer, .. }
            | Self::QueryDirectory { buffer, .. }
            | Self::Ioctl { output: IoctlOutput::Buffer { buffer, .. }, .. } => Some(*buffer),
            Self::Error
            | Self::BytesNeeded(_)
            | Self::StoppedOnLink(_)
            | Self::Negotiate(_)
            | Self::Empty
            | Self::TreeConnect(_)
            | Self::Create(_)
            | Self::Close(_)
            | Self::Write { .. }
            | Self::Ioctl { .. }
            | Self::Info(_)
            | Self::SetInfo
            | Self::OplockBreak(_)
            | Self::Notify(_) => None,
        }
    }
}
