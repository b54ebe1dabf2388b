//! Requests as the endpoint hands them to the core: typed, decrypted, verified, payloads replaced by buffer numbers.

use bytes::Bytes;
use smb_proto::command::ioctl::FsctlCode;
use smb_proto::command::query_info::SecurityInformation;
use smb_proto::command::{
    FileId, change_notify, close, create, flush, lock, negotiate, oplock_break, query_directory, read, smb1,
    tree_connect,
};
use smb_proto::fscc::class::{FileInfoClass, FsInfoClass};
use smb_proto::fscc::file_info::SetFileInformation;
use smb_proto::header::CommandCode;
use smb_proto::security::descriptor::SecurityDescriptor;

use crate::ids::{BufferId, MessageId, SessionId, TreeId};

/// The requests of one frame. Almost always one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chain {
    /// The first.
    pub first: Request,
    /// What follows it in the compound.
    pub rest: Vec<Request>,
}

/// How a request was protected on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Protection {
    /// Not at all.
    #[default]
    None,
    /// Signed, with a valid signature under the key that the session has on this connection.
    Signed,
    /// Signed, and the signature is wrong.
    BadSignature,
    /// Signed for a session whose key this endpoint does not have.
    Unverified,
    /// Encrypted under this session's key.
    Sealed(SessionId),
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// MessageId.
    pub message: MessageId,
    /// CreditCharge as sent.
    pub credit_charge: u16,
    /// Credits asked for.
    pub credits: u16,
    /// SessionId as sent.
    pub session: SessionId,
    /// TreeId as sent; 0 with an asynchronous header.
    pub tree: TreeId,
    /// AsyncId, if the header is asynchronous (CANCEL).
    pub async_id: Option<u64>,
    /// SMB2_FLAGS_RELATED_OPERATIONS.
    pub related: bool,
    /// SMB2_FLAGS_REPLAY_OPERATION.
    pub replay: bool,
    /// ChannelSequence (3.x).
    pub channel_sequence: u16,
    /// How it was protected.
    pub protection: Protection,
    /// Bytes of the message.
    pub size: u32,
    /// What it asks.
    pub command: Command,
}

/// What a request asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// An SMB1 NEGOTIATE that may lead to SMB2.
    MultiProtocolNegotiate(smb1::NegotiateRequest),
    /// NEGOTIATE.
    Negotiate(Box<negotiate::Request>),
    /// SESSION_SETUP.
    SessionSetup(SessionSetup),
    /// LOGOFF.
    Logoff,
    /// TREE_CONNECT.
    TreeConnect(tree_connect::Request),
    /// TREE_DISCONNECT.
    TreeDisconnect,
    /// CREATE.
    Create(Box<create::Request>),
    /// CLOSE.
    Close(close::Request),
    /// FLUSH.
    Flush(flush::Request),
    /// READ.
    Read(read::Request),
    /// WRITE.
    Write(Write),
    /// LOCK.
    Lock(lock::Request),
    /// IOCTL.
    Ioctl(Box<Ioctl>),
    /// CANCEL.
    Cancel,
    /// ECHO.
    Echo,
    /// QUERY_DIRECTORY.
    QueryDirectory(Box<query_directory::Request>),
    /// CHANGE_NOTIFY.
    ChangeNotify(change_notify::Request),
    /// QUERY_INFO.
    QueryInfo(Box<QueryInfo>),
    /// SET_INFO.
    SetInfo(Box<SetInfo>),
    /// OPLOCK_BREAK acknowledgement, of an oplock or a lease.
    OplockBreak(oplock_break::Acknowledgment),
    /// The header could be read, the body could not (3.3.5.2.6).
    Unreadable(CommandCode),
}

impl Command {
    /// The command's code.
    #[must_use]
    pub fn code(&self) -> CommandCode {
        match self {
            Self::MultiProtocolNegotiate(_) | Self::Negotiate(_) => CommandCode::Negotiate,
            Self::SessionSetup(_) => CommandCode::SessionSetup,
            Self::Logoff => CommandCode::Logoff,
            Self::TreeConnect(_) => CommandCode::TreeConnect,
            Self::TreeDisconnect => CommandCode::TreeDisconnect,
            Self::Create(_) => CommandCode::Create,
            Self::Close(_) => CommandCode::Close,
            Self::Flush(_) => CommandCode::Flush,
            Self::Read(_) => CommandCode::Read,
            Self::Write(_) => CommandCode::Write,
            Self::Lock(_) => CommandCode::Lock,
            Self::Ioctl(_) => CommandCode::Ioctl,
            Self::Cancel => CommandCode::Cancel,
            Self::Echo => CommandCode::Echo,
            Self::QueryDirectory(_) => CommandCode::QueryDirectory,
            Self::ChangeNotify(_) => CommandCode::ChangeNotify,
            Self::QueryInfo(_) => CommandCode::QueryInfo,
            Self::SetInfo(_) => CommandCode::SetInfo,
            Self::OplockBreak(_) => CommandCode::OplockBreak,
            Self::Unreadable(code) => *code,
        }
    }

    /// The payload that came with the request, if it has one that the adapter holds.
    #[must_use]
    pub fn buffer(&self) -> Option<BufferId> {
        match self {
            Self::SessionSetup(setup) => Some(setup.token),
            Self::Write(write) => Some(write.buffer),
            Self::Ioctl(ioctl) => ioctl.input.buffer(),
            Self::MultiProtocolNegotiate(_)
            | Self::Negotiate(_)
            | Self::Logoff
            | Self::TreeConnect(_)
            | Self::TreeDisconnect
            | Self::Create(_)
            | Self::Close(_)
            | Self::Flush(_)
            | Self::Read(_)
            | Self::Lock(_)
            | Self::Cancel
            | Self::Echo
            | Self::QueryDirectory(_)
            | Self::ChangeNotify(_)
            | Self::QueryInfo(_)
            | Self::SetInfo(_)
            | Self::OplockBreak(_)
            | Self::Unreadable(_) => None,
        }
    }
}

/// SESSION_SETUP (MS-SMB2 2.2.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionSetup {
    /// SMB2_SESSION_FLAG_BINDING.
    pub binding: bool,
    /// SMB2_NEGOTIATE_SIGNING_REQUIRED of the client.
    pub signing_required: bool,
    /// PreviousSessionId, 0 if none.
    pub previous_session: SessionId,
    /// The security token.
    pub token: BufferId,
}

/// WRITE (MS-SMB2 2.2.21), its data in a buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// The open.
    pub file_id: FileId,
    /// Where in the file.
    pub offset: u64,
    /// The data.
    pub buffer: BufferId,
    /// Its bytes.
    pub length: u32,
    /// SMB2_WRITEFLAG_WRITE_THROUGH.
    pub write_through: bool,
    /// SMB2_WRITEFLAG_WRITE_UNBUFFERED.
    pub unbuffered: bool,
    /// The channel is not SMB2_CHANNEL_NONE: the data would come by RDMA.
    pub by_rdma: bool,
}

/// IOCTL (MS-SMB2 2.2.31).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ioctl {
    /// CtlCode.
    pub code: FsctlCode,
    /// The open; all ones where the code has none.
    pub file_id: FileId,
    /// SMB2_0_IOCTL_IS_FSCTL is set.
    pub is_fsctl: bool,
    /// Bytes of input.
    pub input_length: u32,
    /// MaxInputResponse.
    pub input_max: u32,
    /// MaxOutputResponse.
    pub output_max: u32,
    /// The input, read as the code says.
    pub input: IoctlInput,
}

/// An IOCTL's input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IoctlInput {
    /// FSCTL_VALIDATE_NEGOTIATE_INFO.
    ValidateNegotiate(smb_proto::command::ioctl::ValidateNegotiateRequest),
    /// FSCTL_PIPE_TRANSCEIVE: a message for the pipe.
    Transceive(BufferId),
    /// FSCTL_SRV_COPYCHUNK and FSCTL_SRV_COPYCHUNK_WRITE.
    CopyChunk(smb_proto::command::ioctl::CopyChunkRequest),
    /// FSCTL_SET_SPARSE.
    SetSparse(bool),
    /// FSCTL_SET_ZERO_DATA: first byte, byte after the last.
    ZeroData(u64, u64),
    /// FSCTL_QUERY_ALLOCATED_RANGES: first byte, bytes.
    AllocatedRanges(u64, u64),
    /// FSCTL_SET_COMPRESSION: the format asked for.
    SetCompression(u16),
    /// FSCTL_DUPLICATE_EXTENTS_TO_FILE, and its extended form without anything that it adds.
    DuplicateExtents(smb_proto::fscc::fsctl::DuplicateExtents),
    /// FSCTL_DUPLICATE_EXTENTS_TO_FILE_EX, all of the source at one moment.
    DuplicateAtOnce,
    /// FSCTL_SET_REPARSE_POINT.
    SetReparsePoint(Box<smb_proto::fscc::reparse::ReparseData>),
    /// FSCTL_DELETE_REPARSE_POINT.
    DeleteReparsePoint(smb_proto::fscc::reparse::ReparseTag),
    /// FSCTL_FILE_LEVEL_TRIM.
    Trim(Vec<smb_proto::fscc::fsctl::Range>),
    /// The code's input has no meaning for the core, or there is none.
    Nothing,
    /// The input is not what the code needs.
    Unreadable,
}

impl IoctlInput {
    fn buffer(&self) -> Option<BufferId> {
        match self {
            Self::Transceive(buffer) => Some(*buffer),
            Self::ValidateNegotiate(_)
            | Self::CopyChunk(_)
            | Self::SetSparse(_)
            | Self::ZeroData(..)
            | Self::AllocatedRanges(..)
            | Self::SetCompression(_)
            | Self::DuplicateExtents(_)
            | Self::DuplicateAtOnce
            | Self::Trim(_)
            | Self::SetReparsePoint(_)
            | Self::DeleteReparsePoint(_)
            | Self::Nothing
            | Self::Unreadable => None,
        }
    }
}

/// QUERY_INFO (MS-SMB2 2.2.37).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueryInfo {
    /// The open.
    pub file_id: FileId,
    /// OutputBufferLength.
    pub output_max: u32,
    /// Bytes of input, which count for the credit charge.
    pub input_length: u32,
    /// What is asked.
    pub asked: Asked,
}

/// What a QUERY_INFO asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// File information.
    File(FileInfoClass),
    /// Extended attributes.
    Eas {
        /// SL_RESTART_SCAN.
        restart: bool,
        /// SL_RETURN_SINGLE_ENTRY.
        single: bool,
        /// SL_INDEX_SPECIFIED: where to start, from 1.
        index: Option<u32>,
        /// Only these; empty asks for all.
        names: Vec<Bytes>,
    },
    /// Volume information.
    Volume(FsInfoClass),
    /// The security descriptor's parts (SECURITY_INFORMATION).
    Security(SecurityInformation),
    /// Quota information.
    Quota,
    /// An info type that does not exist, or input that can't be read.
    Unreadable,
}

/// SET_INFO (MS-SMB2 2.2.39).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SetInfo {
    /// The open.
    pub file_id: FileId,
    /// Bytes of the buffer.
    pub length: u32,
    /// What is set.
    pub what: Setting,
}

/// What a SET_INFO sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Setting {
    /// File information.
    File(SetFileInformation),
    /// Parts of the security descriptor.
    Security {
        /// Which (SECURITY_INFORMATION).
        parts: SecurityInformation,
        /// The descriptor that holds them.
        descriptor: Box<SecurityDescriptor>,
    },
    /// Volume information.
    Volume(FsInfoClass),
    /// Quota information.
    Quota,
    /// A class that can't be set.
    InvalidClass,
    /// The buffer can't be read or is too short for its class.
    TooShort,
    /// The buffer can be read but makes no sense.
    Invalid,
    /// An extended attribute's name is not allowed.
    InvalidEaName,
}
