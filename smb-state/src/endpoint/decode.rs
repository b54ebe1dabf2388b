//! Messages to typed requests: every body is read here, payloads go to the adapter's buffers.

use bytes::Bytes;
use smb_proto::Malformed;
use smb_proto::command::ioctl::{self, CopyChunkRequest, FsctlCode, IoctlFlags, ValidateNegotiateRequest};
use smb_proto::command::negotiate::SecurityMode;
use smb_proto::command::query_info::{self, InfoType, QueryFlags};
use smb_proto::command::write::WriteFlags;
use smb_proto::command::{Request as WireRequest, read, session_setup, set_info, smb1, write};
use smb_proto::fscc::class::{FileInfoClass, FsInfoClass};
use smb_proto::fscc::ea::{self, EaError};
use smb_proto::fscc::file_info::SetFileInformation;
use smb_proto::fscc::reparse::ReparseData;
use smb_proto::fscc::{InformationError, fsctl};
use smb_proto::header::{CommandCode, Flags, Header, Routing};
use smb_proto::security::descriptor::SecurityDescriptor;

use super::Buffers;
use crate::ids::{MessageId, SessionId, TreeId};
use crate::request::{
    Asked, Chain, Command, Ioctl, IoctlInput, Protection, QueryInfo, Request, SessionSetup, SetInfo, Setting,
    Write,
};

/// An SMB1 NEGOTIATE. It has message id 0 and pays one credit (MS-SMB2 3.3.5.2.3).
pub(super) fn smb1_negotiate(frame: &Bytes) -> Result<Chain, Malformed> {
    let negotiate = smb1::NegotiateRequest::parse(frame)?;
    let first = Request {
        message: MessageId(0),
        credit_charge: 0,
        credits: 1,
        session: SessionId(0),
        tree: TreeId(0),
        async_id: None,
        related: false,
        replay: false,
        channel_sequence: 0,
        protection: Protection::None,
        size: u32::try_from(frame.len()).unwrap_or(u32::MAX),
        command: Command::MultiProtocolNegotiate(negotiate),
    };
    Ok(Chain { first, rest: Vec::new() })
}

/// One message. A command code without a command ends the connection (3.3.5.2.6); a body that can't be read does not.
pub(super) fn request(
    header: &Header,
    message: &Bytes,
    protection: Protection,
    buffers: &dyn Buffers,
) -> Result<Request, Malformed> {
    let code = CommandCode::from_code(header.command).ok_or(Malformed("unknown command"))?;
    let command = match WireRequest::parse(header, message) {
        Ok(parsed) => command(parsed, buffers),
        Err(_) => Command::Unreadable(code),
    };
    let (tree, async_id) = match header.routing {
        Routing::Sync { tree_id, .. } => (tree_id, None),
        Routing::Async { async_id } => (0, Some(async_id)),
    };
    Ok(Request {
        message: MessageId(header.message_id),
        credit_charge: header.credit_charge,
        credits: header.credits,
        session: SessionId(header.session_id),
        tree: TreeId(tree),
        async_id,
        related: header.flags.contains(Flags::RELATED_OPERATIONS),
        replay: header.flags.contains(Flags::REPLAY_OPERATION),
        channel_sequence: header.channel_sequence(),
        protection,
        size: u32::try_from(message.len()).unwrap_or(u32::MAX),
        command,
    })
}

fn length(bytes: &Bytes) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn command(request: WireRequest, buffers: &dyn Buffers) -> Command {
    match request {
        WireRequest::Negotiate(negotiate) => Command::Negotiate(Box::new(negotiate)),
        WireRequest::SessionSetup(setup) => Command::SessionSetup(session_setup(setup, buffers)),
        WireRequest::Logoff(_) => Command::Logoff,
        WireRequest::TreeConnect(connect) => Command::TreeConnect(connect),
        WireRequest::TreeDisconnect(_) => Command::TreeDisconnect,
        WireRequest::Create(create) => Command::Create(Box::new(create)),
        WireRequest::Close(close) => Command::Close(close),
        WireRequest::Flush(flush) => Command::Flush(flush),
        WireRequest::Read(read) => Command::Read(read),
        WireRequest::Write(write) => Command::Write(write_request(write, buffers)),
        WireRequest::Lock(lock) => Command::Lock(lock),
        WireRequest::Ioctl(ioctl) => Command::Ioctl(Box::new(ioctl_request(ioctl, buffers))),
        WireRequest::Cancel(_) => Command::Cancel,
        WireRequest::Echo(_) => Command::Echo,
        WireRequest::QueryDirectory(query) => Command::QueryDirectory(Box::new(query)),
        WireRequest::ChangeNotify(notify) => Command::ChangeNotify(notify),
        WireRequest::QueryInfo(query) => Command::QueryInfo(Box::new(query_info(query))),
        WireRequest::SetInfo(set) => Command::SetInfo(Box::new(set_info(set))),
        WireRequest::OplockBreak(acknowledgment) => Command::OplockBreak(acknowledgment),
    }
}

fn session_setup(setup: session_setup::Request, buffers: &dyn Buffers) -> SessionSetup {
    SessionSetup {
        binding: setup.flags.contains(session_setup::Flags::BINDING),
        signing_required: setup.security_mode.contains(SecurityMode::SIGNING_REQUIRED),
        previous_session: SessionId(setup.previous_session_id),
        token: buffers.insert(setup.security_buffer),
    }
}

fn write_request(write: write::Request, buffers: &dyn Buffers) -> Write {
    Write {
        file_id: write.file_id,
        offset: write.offset,
        length: length(&write.data),
        write_through: write.flags.contains(WriteFlags::WRITE_THROUGH),
        unbuffered: write.flags.contains(WriteFlags::WRITE_UNBUFFERED),
        by_rdma: write.channel != read::Channel::NONE,
        buffer: buffers.insert(write.data),
    }
}

fn ioctl_request(request: ioctl::Request, buffers: &dyn Buffers) -> Ioctl {
    Ioctl {
        code: request.ctl_code,
        file_id: request.file_id,
        is_fsctl: request.flags.contains(IoctlFlags::IS_FSCTL),
        input_length: length(&request.input).max(request.output_count),
        input_max: request.max_input_response,
        output_max: request.max_output_response,
        input: ioctl_input(request.ctl_code, request.input, buffers).unwrap_or(IoctlInput::Unreadable),
    }
}

fn ioctl_input(code: FsctlCode, input: Bytes, buffers: &dyn Buffers) -> Result<IoctlInput, Malformed> {
    Ok(match code {
        FsctlCode::VALIDATE_NEGOTIATE_INFO => {
            IoctlInput::ValidateNegotiate(ValidateNegotiateRequest::parse(&input)?)
        }
        FsctlCode::PIPE_TRANSCEIVE => IoctlInput::Transceive(buffers.insert(input)),
        FsctlCode::SRV_COPYCHUNK | FsctlCode::SRV_COPYCHUNK_WRITE => {
            IoctlInput::CopyChunk(CopyChunkRequest::parse(&input)?)
        }
        FsctlCode::SET_SPARSE => IoctlInput::SetSparse(fsctl::SetSparse::parse(&input).0),
        FsctlCode::SET_ZERO_DATA => {
            let zero = fsctl::ZeroData::parse(&input)?;
            IoctlInput::ZeroData(zero.file_offset, zero.beyond_final_zero)
        }
        FsctlCode::QUERY_ALLOCATED_RANGES => {
            let range = fsctl::Range::parse(&input)?;
            IoctlInput::AllocatedRanges(range.file_offset, range.length)
        }
        FsctlCode::DUPLICATE_EXTENTS_TO_FILE => {
            IoctlInput::DuplicateExtents(fsctl::DuplicateExtents::parse(&input)?)
        }
        FsctlCode::DUPLICATE_EXTENTS_TO_FILE_EX => {
            let duplicate = fsctl::DuplicateExtentsEx::parse(&input)?;
            if duplicate.flags.contains(fsctl::DuplicateExtentsFlags::SOURCE_ATOMIC) {
                IoctlInput::DuplicateAtOnce
            } else {
                IoctlInput::DuplicateExtents(duplicate.extents)
            }
        }
        FsctlCode::FILE_LEVEL_TRIM => IoctlInput::Trim(fsctl::FileLevelTrim::parse(&input)?.ranges),
        FsctlCode::SET_COMPRESSION => IoctlInput::SetCompression(fsctl::CompressionState::parse(&input)?.0),
        FsctlCode::SET_REPARSE_POINT => IoctlInput::SetReparsePoint(Box::new(ReparseData::parse(&input)?)),
        FsctlCode::DELETE_REPARSE_POINT => {
            IoctlInput::DeleteReparsePoint(ReparseData::parse_removal(&input)?)
        }
        _ => IoctlInput::Nothing,
    })
}

fn query_info(query: query_info::Request) -> QueryInfo {
    let class = query.file_info_class;
    let asked = match query.info_type {
        InfoType::FILE if FileInfoClass(class) == FileInfoClass::FULL_EA => {
            let indexed = query.flags.contains(QueryFlags::INDEX_SPECIFIED);
            let names = if query.input.is_empty() { Ok(Vec::new()) } else { ea::parse_get(&query.input) };
            match names {
                Ok(names) => Asked::Eas {
                    restart: query.flags.contains(QueryFlags::RESTART_SCAN),
                    single: query.flags.contains(QueryFlags::RETURN_SINGLE_ENTRY),
                    index: indexed.then_some(query.additional_information),
                    names,
                },
                Err(_) => Asked::Unreadable,
            }
        }
        InfoType::FILE => Asked::File(FileInfoClass(class)),
        InfoType::FILESYSTEM => Asked::Volume(FsInfoClass(class)),
        InfoType::SECURITY => Asked::Security(query.security_information()),
        InfoType::QUOTA => Asked::Quota,
        _ => Asked::Unreadable,
    };
    QueryInfo {
        file_id: query.file_id,
        output_max: query.output_buffer_length,
        input_length: length(&query.input),
        asked,
    }
}

fn set_info(set: set_info::Request) -> SetInfo {
    let what = match set.info_type {
        InfoType::FILE => match SetFileInformation::parse(FileInfoClass(set.file_info_class), &set.buffer) {
            Ok(information) => Setting::File(information),
            Err(InformationError::Class) => Setting::InvalidClass,
            Err(InformationError::Length) => Setting::TooShort,
            Err(InformationError::Ea(EaError::Name(_))) => Setting::InvalidEaName,
            Err(InformationError::Ea(_) | InformationError::Malformed(_)) => Setting::Invalid,
        },
        InfoType::SECURITY => match SecurityDescriptor::parse(&set.buffer) {
            Ok(descriptor) => {
                Setting::Security { parts: set.security_information(), descriptor: Box::new(descriptor) }
            }
            Err(_) => Setting::Invalid,
        },
        InfoType::FILESYSTEM => Setting::Volume(FsInfoClass(set.file_info_class)),
        InfoType::QUOTA => Setting::Quota,
        _ => Setting::Invalid,
    };
    SetInfo { file_id: set.file_id, length: length(&set.buffer), what }
}
