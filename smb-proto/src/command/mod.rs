//! The commands (MS-SMB2 2.2.3 to 2.2.40), one file each: request and response, what they hold, how they are read and
//! written.
//!
//! A `parse` takes the whole message, header included, because the offsets in a body count from the header's start; an
//! `emit` appends the body to a buffer that already holds the header, so that the body starts at [`BODY_OFFSET`].

use binrw::binrw;
use bytes::Bytes;

use crate::error::Malformed;
use crate::header::{self, CommandCode, Header};
use crate::status::NtStatus;
use crate::wire;

pub mod cancel;
pub mod change_notify;
pub mod close;
pub mod create;
pub mod echo;
pub mod error;
pub mod flush;
pub mod ioctl;
pub mod lock;
pub mod logoff;
pub mod negotiate;
pub mod negotiate_context;
pub mod oplock_break;
pub mod query_directory;
pub mod query_info;
pub mod read;
pub mod session_setup;
pub mod set_info;
pub mod smb1;
pub mod tree_connect;
pub mod tree_disconnect;
pub mod write;

/// Where a body starts in its message.
pub const BODY_OFFSET: usize = header::SIZE;

/// SMB2_FILEID (MS-SMB2 2.2.14.1).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The half that survives a reconnect.
    pub persistent: u64,
    /// The half that is new with each reconnect.
    pub volatile: u64,
}

impl FileId {
    /// In a related compound: the open of the predecessor.
    pub const ALL_ONES: Self = Self { persistent: u64::MAX, volatile: u64::MAX };
}

/// A request of any command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Request {
    Negotiate(negotiate::Request),
    SessionSetup(session_setup::Request),
    Logoff(logoff::Request),
    TreeConnect(tree_connect::Request),
    TreeDisconnect(tree_disconnect::Request),
    Create(create::Request),
    Close(close::Request),
    Flush(flush::Request),
    Read(read::Request),
    Write(write::Request),
    Lock(lock::Request),
    Ioctl(ioctl::Request),
    Cancel(cancel::Request),
    Echo(echo::Request),
    QueryDirectory(query_directory::Request),
    ChangeNotify(change_notify::Request),
    QueryInfo(query_info::Request),
    SetInfo(set_info::Request),
    OplockBreak(oplock_break::Acknowledgment),
}

impl Request {
    /// Reads the request in `message`, whose header is `header`.
    ///
    /// # Errors
    /// [`Malformed`] when the command is unknown or its body cannot be read.
    pub fn parse(header: &Header, message: &Bytes) -> Result<Self, Malformed> {
        match command_of(header)? {
            CommandCode::Negotiate => negotiate::Request::parse(message).map(Self::Negotiate),
            CommandCode::SessionSetup => session_setup::Request::parse(message).map(Self::SessionSetup),
            CommandCode::Logoff => logoff::Request::parse(message).map(Self::Logoff),
            CommandCode::TreeConnect => tree_connect::Request::parse(message).map(Self::TreeConnect),
            CommandCode::TreeDisconnect => tree_disconnect::Request::parse(message).map(Self::TreeDisconnect),
            CommandCode::Create => create::Request::parse(message).map(Self::Create),
            CommandCode::Close => close::Request::parse(message).map(Self::Close),
            CommandCode::Flush => flush::Request::parse(message).map(Self::Flush),
            CommandCode::Read => read::Request::parse(message).map(Self::Read),
            CommandCode::Write => write::Request::parse(message).map(Self::Write),
            CommandCode::Lock => lock::Request::parse(message).map(Self::Lock),
            CommandCode::Ioctl => ioctl::Request::parse(message).map(Self::Ioctl),
            CommandCode::Cancel => cancel::Request::parse(message).map(Self::Cancel),
            CommandCode::Echo => echo::Request::parse(message).map(Self::Echo),
            CommandCode::QueryDirectory => query_directory::Request::parse(message).map(Self::QueryDirectory),
            CommandCode::ChangeNotify => change_notify::Request::parse(message).map(Self::ChangeNotify),
            CommandCode::QueryInfo => query_info::Request::parse(message).map(Self::QueryInfo),
            CommandCode::SetInfo => set_info::Request::parse(message).map(Self::SetInfo),
            CommandCode::OplockBreak => oplock_break::Acknowledgment::parse(message).map(Self::OplockBreak),
        }
    }

    /// The command.
    #[must_use]
    pub fn command(&self) -> CommandCode {
        match self {
            Self::Negotiate(_) => CommandCode::Negotiate,
            Self::SessionSetup(_) => CommandCode::SessionSetup,
            Self::Logoff(_) => CommandCode::Logoff,
            Self::TreeConnect(_) => CommandCode::TreeConnect,
            Self::TreeDisconnect(_) => CommandCode::TreeDisconnect,
            Self::Create(_) => CommandCode::Create,
            Self::Close(_) => CommandCode::Close,
            Self::Flush(_) => CommandCode::Flush,
            Self::Read(_) => CommandCode::Read,
            Self::Write(_) => CommandCode::Write,
            Self::Lock(_) => CommandCode::Lock,
            Self::Ioctl(_) => CommandCode::Ioctl,
            Self::Cancel(_) => CommandCode::Cancel,
            Self::Echo(_) => CommandCode::Echo,
            Self::QueryDirectory(_) => CommandCode::QueryDirectory,
            Self::ChangeNotify(_) => CommandCode::ChangeNotify,
            Self::QueryInfo(_) => CommandCode::QueryInfo,
            Self::SetInfo(_) => CommandCode::SetInfo,
            Self::OplockBreak(_) => CommandCode::OplockBreak,
        }
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Negotiate(request) => request.emit(out),
            Self::SessionSetup(request) => request.emit(out),
            Self::Logoff(request) => request.emit(out),
            Self::TreeConnect(request) => request.emit(out),
            Self::TreeDisconnect(request) => request.emit(out),
            Self::Create(request) => request.emit(out),
            Self::Close(request) => request.emit(out),
            Self::Flush(request) => request.emit(out),
            Self::Read(request) => request.emit(out),
            Self::Write(request) => request.emit(out),
            Self::Lock(request) => request.emit(out),
            Self::Ioctl(request) => request.emit(out),
            Self::Cancel(request) => request.emit(out),
            Self::Echo(request) => request.emit(out),
            Self::QueryDirectory(request) => request.emit(out),
            Self::ChangeNotify(request) => request.emit(out),
            Self::QueryInfo(request) => request.emit(out),
            Self::SetInfo(request) => request.emit(out),
            Self::OplockBreak(request) => request.emit(out),
        }
    }
}

/// A response to any command, or a notification that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Response {
    /// The answer to whatever failed, and the interim answer to what takes longer.
    Error(error::Response),
    Negotiate(negotiate::Response),
    SessionSetup(session_setup::Response),
    Logoff(logoff::Response),
    TreeConnect(tree_connect::Response),
    TreeDisconnect(tree_disconnect::Response),
    Create(create::Response),
    Close(close::Response),
    Flush(flush::Response),
    Read(read::Response),
    Write(write::Response),
    Lock(lock::Response),
    Ioctl(ioctl::Response),
    Echo(echo::Response),
    QueryDirectory(query_directory::Response),
    ChangeNotify(change_notify::Response),
    QueryInfo(query_info::Response),
    SetInfo(set_info::Response),
    OplockBreak(oplock_break::Response),
    /// The server breaks an oplock or lease: an OPLOCK_BREAK that answers nothing.
    Break(oplock_break::Notification),
}

/// Message id of what the server sends unasked (3.3.4.6, 3.3.4.7).
pub const UNSOLICITED_MESSAGE_ID: u64 = u64::MAX;

impl Response {
    /// Reads the response in `message`, whose header is `header`.
    ///
    /// # Errors
    /// [`Malformed`] when the command is unknown, has no response, or its body cannot be read.
    pub fn parse(header: &Header, message: &Bytes) -> Result<Self, Malformed> {
        let command = command_of(header)?;
        if is_error(command, header.status, message) {
            return error::Response::parse(message).map(Self::Error);
        }
        match command {
            CommandCode::Cancel => Err(Malformed("CANCEL has no response")),
            CommandCode::OplockBreak if header.message_id == UNSOLICITED_MESSAGE_ID => {
                oplock_break::Notification::parse(message).map(Self::Break)
            }
            CommandCode::Negotiate => negotiate::Response::parse(message).map(Self::Negotiate),
            CommandCode::SessionSetup => session_setup::Response::parse(message).map(Self::SessionSetup),
            CommandCode::Logoff => logoff::Response::parse(message).map(Self::Logoff),
            CommandCode::TreeConnect => tree_connect::Response::parse(message).map(Self::TreeConnect),
            CommandCode::TreeDisconnect => {
                tree_disconnect::Response::parse(message).map(Self::TreeDisconnect)
            }
            CommandCode::Create => create::Response::parse(message).map(Self::Create),
            CommandCode::Close => close::Response::parse(message).map(Self::Close),
            CommandCode::Flush => flush::Response::parse(message).map(Self::Flush),
            CommandCode::Read => read::Response::parse(message).map(Self::Read),
            CommandCode::Write => write::Response::parse(message).map(Self::Write),
            CommandCode::Lock => lock::Response::parse(message).map(Self::Lock),
            CommandCode::Ioctl => ioctl::Response::parse(message).map(Self::Ioctl),
            CommandCode::Echo => echo::Response::parse(message).map(Self::Echo),
            CommandCode::QueryDirectory => {
                query_directory::Response::parse(message).map(Self::QueryDirectory)
            }
            CommandCode::ChangeNotify => change_notify::Response::parse(message).map(Self::ChangeNotify),
            CommandCode::QueryInfo => query_info::Response::parse(message).map(Self::QueryInfo),
            CommandCode::SetInfo => set_info::Response::parse(message).map(Self::SetInfo),
            CommandCode::OplockBreak => oplock_break::Response::parse(message).map(Self::OplockBreak),
        }
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Error(response) => response.emit(out),
            Self::Negotiate(response) => response.emit(out),
            Self::SessionSetup(response) => response.emit(out),
            Self::Logoff(response) => response.emit(out),
            Self::TreeConnect(response) => response.emit(out),
            Self::TreeDisconnect(response) => response.emit(out),
            Self::Create(response) => response.emit(out),
            Self::Close(response) => response.emit(out),
            Self::Flush(response) => response.emit(out),
            Self::Read(response) => response.emit(out),
            Self::Write(response) => response.emit(out),
            Self::Lock(response) => response.emit(out),
            Self::Ioctl(response) => response.emit(out),
            Self::Echo(response) => response.emit(out),
            Self::QueryDirectory(response) => response.emit(out),
            Self::ChangeNotify(response) => response.emit(out),
            Self::QueryInfo(response) => response.emit(out),
            Self::SetInfo(response) => response.emit(out),
            Self::OplockBreak(response) => response.emit(out),
            Self::Break(notification) => notification.emit(out),
        }
    }
}

fn command_of(header: &Header) -> Result<CommandCode, Malformed> {
    CommandCode::from_code(header.command).ok_or(Malformed("unknown command"))
}

/// Whether a response is ERROR (2.2.2) in place of the command's own. The size at the start of the body says so, but
/// for the commands whose own responses have the same one; there the status does, with the exceptions of 3.3.4.4.
fn is_error(command: CommandCode, status: NtStatus, message: &Bytes) -> bool {
    const ERROR_SIZE: [u8; 2] = [9, 0];
    if status == NtStatus::PENDING {
        return true;
    }
    match command {
        CommandCode::SessionSetup => !status.is_success() && status != NtStatus::MORE_PROCESSING_REQUIRED,
        CommandCode::QueryInfo => !status.is_success() && status != NtStatus::BUFFER_OVERFLOW,
        CommandCode::QueryDirectory | CommandCode::ChangeNotify => !status.is_success(),
        _ => message.get(BODY_OFFSET..).is_some_and(|body| body.starts_with(&ERROR_SIZE)),
    }
}

/// Bodies that say nothing but their size.
#[binrw]
#[brw(little)]
struct Bare {
    #[br(assert(structure_size == 4))]
    structure_size: u16,
    reserved: u16,
}

/// Reads a body that says nothing but its size.
fn parse_bare(message: &Bytes, what: &'static str) -> Result<(), Malformed> {
    wire::fixed::<Bare>(message, BODY_OFFSET, what).map(|_| ())
}

/// Appends a body that says nothing but its size.
fn emit_bare(out: &mut Vec<u8>) {
    wire::put(out, &Bare { structure_size: 4, reserved: 0 });
}

/// Appends the variable part of a body. StructureSize counts one byte of it, and some peers insist that this byte is
/// there even if there is nothing to say.
fn put_buffer(out: &mut Vec<u8>, buffer: &[u8]) {
    if buffer.is_empty() {
        out.push(0);
    }
    out.extend_from_slice(buffer);
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;

    use super::*;

    /// A message whose header is zero and whose body is written by `emit`.
    pub(crate) fn message(emit: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut out = vec![0; BODY_OFFSET];
        emit(&mut out);
        out.into()
    }

    /// Bytes from hexadecimal digits; what is not a digit is left out.
    pub(crate) fn from_hex(text: &str) -> Bytes {
        let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
    }

    /// Emits, parses back, compares; then checks that every truncation is answered without a panic.
    pub(crate) fn round_trip<T: PartialEq + std::fmt::Debug>(
        value: &T,
        emit: impl Fn(&T, &mut Vec<u8>),
        parse: impl Fn(&Bytes) -> Result<T, Malformed>,
    ) {
        let bytes = message(|out| emit(value, out));
        assert_eq!(parse(&bytes).as_ref(), Ok(value));
        for length in 0..bytes.len() {
            let _ = parse(&bytes.slice(..length));
        }
    }

    fn header(command: CommandCode, status: NtStatus, message_id: u64) -> Header {
        Header {
            credit_charge: 0,
            status,
            command: command.code(),
            credits: 1,
            flags: header::Flags(0),
            next_command: 0,
            message_id,
            routing: header::Routing::Sync { process_id: 0, tree_id: 0 },
            session_id: 0,
            signature: [0; 16],
        }
    }

    #[test]
    fn requests_are_read_as_the_header_says() {
        let requests = [
            Request::Echo(echo::Request),
            Request::Cancel(cancel::Request),
            Request::Logoff(logoff::Request),
            Request::TreeDisconnect(tree_disconnect::Request),
            Request::Close(close::Request::default()),
            Request::Flush(flush::Request::default()),
            Request::SessionSetup(session_setup::Request::default()),
            Request::TreeConnect(tree_connect::Request::default()),
        ];
        for request in requests {
            let bytes = message(|out| request.emit(out));
            let header = header(request.command(), NtStatus::SUCCESS, 1);
            assert_eq!(Request::parse(&header, &bytes), Ok(request));
        }
        let mut unknown = header(CommandCode::Echo, NtStatus::SUCCESS, 1);
        unknown.command = 19;
        assert!(Request::parse(&unknown, &message(emit_bare)).is_err());
    }

    #[test]
    fn every_command_refuses_an_empty_body() {
        for command in CommandCode::ALL {
            let header = header(command, NtStatus::SUCCESS, 1);
            assert!(Request::parse(&header, &message(|_| ())).is_err(), "{command:?}");
            assert!(Response::parse(&header, &message(|_| ())).is_err(), "{command:?}");
        }
    }

    #[test]
    fn errors_are_told_from_responses_of_the_same_size() {
        let error = message(|out| error::Response::default().emit(out));
        for command in CommandCode::ALL {
            for status in [NtStatus::ACCESS_DENIED, NtStatus::NO_MORE_FILES, NtStatus::PENDING] {
                let read = Response::parse(&header(command, status, 1), &error);
                assert_eq!(read, Ok(Response::Error(error::Response::default())), "{command:?} {status}");
            }
        }
        let setup = session_setup::Response {
            session_flags: session_setup::SessionFlags::IS_GUEST,
            security_buffer: Bytes::from_static(b"token"),
        };
        let bytes = message(|out| setup.emit(out));
        for status in [NtStatus::SUCCESS, NtStatus::MORE_PROCESSING_REQUIRED] {
            let read = Response::parse(&header(CommandCode::SessionSetup, status, 1), &bytes);
            assert_eq!(read, Ok(Response::SessionSetup(setup.clone())));
        }
        let overflow = header(CommandCode::QueryInfo, NtStatus::BUFFER_OVERFLOW, 1);
        assert!(matches!(Response::parse(&overflow, &error), Ok(Response::QueryInfo(_))));
        // A copy that failed halfway says how far it came, with an error status and the command's own response.
        let read = read::Response { data: Bytes::from_static(b"part"), data_remaining: 0 };
        let bytes = message(|out| read.emit(out));
        let overflow = header(CommandCode::Read, NtStatus::BUFFER_OVERFLOW, 1);
        assert_eq!(Response::parse(&overflow, &bytes), Ok(Response::Read(read)));
    }

    #[test]
    fn notifications_are_told_from_answers() {
        let mut oplock = vec![24, 0, 1, 0, 0, 0, 0, 0];
        oplock.extend_from_slice(&[7; 16]);
        let bytes = message(|out| out.extend_from_slice(&oplock));
        let answer = header(CommandCode::OplockBreak, NtStatus::SUCCESS, 5);
        assert!(matches!(Response::parse(&answer, &bytes), Ok(Response::OplockBreak(_))));
        let unasked = header(CommandCode::OplockBreak, NtStatus::SUCCESS, UNSOLICITED_MESSAGE_ID);
        let Ok(notification @ Response::Break(_)) = Response::parse(&unasked, &bytes) else { panic!() };
        assert_eq!(message(|out| notification.emit(out)), bytes);
    }

    /// StructureSize of each command's request and response.
    const SIZES: [(CommandCode, u8, u8); 19] = [
        (CommandCode::Negotiate, 36, 65),
        (CommandCode::SessionSetup, 25, 9),
        (CommandCode::Logoff, 4, 4),
        (CommandCode::TreeConnect, 9, 16),
        (CommandCode::TreeDisconnect, 4, 4),
        (CommandCode::Create, 57, 89),
        (CommandCode::Close, 24, 60),
        (CommandCode::Flush, 24, 4),
        (CommandCode::Read, 49, 17),
        (CommandCode::Write, 49, 17),
        (CommandCode::Lock, 48, 4),
        (CommandCode::Ioctl, 57, 49),
        (CommandCode::Cancel, 4, 9),
        (CommandCode::Echo, 4, 4),
        (CommandCode::QueryDirectory, 33, 9),
        (CommandCode::ChangeNotify, 32, 9),
        (CommandCode::QueryInfo, 41, 9),
        (CommandCode::SetInfo, 33, 2),
        (CommandCode::OplockBreak, 36, 24),
    ];

    /// A body of the right size at its start, and of bytes behind it that are zero, small or anything, so that some
    /// offsets and lengths point into the message.
    fn noise(state: &mut u64, structure_size: u8) -> Bytes {
        let mut next = || {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            state.to_le_bytes()
        };
        message(|out| {
            out.extend_from_slice(&[structure_size, 0]);
            for _ in 0..next()[0] {
                let [kind, value, ..] = next();
                out.push(match kind % 4 {
                    0 | 1 => 0,
                    2 => value & 0x78,
                    _ => value,
                });
            }
        })
    }

    #[test]
    fn whatever_can_be_read_can_be_written_and_read_again() {
        let mut state = 0x9E37_79B9_7F4A_7C15;
        let mut read = 0;
        for (command, request_size, response_size) in SIZES {
            let header = header(command, NtStatus::SUCCESS, 1);
            for _ in 0..2000 {
                if let Ok(request) = Request::parse(&header, &noise(&mut state, request_size)) {
                    let written = message(|out| request.emit(out));
                    assert_eq!(Request::parse(&header, &written), Ok(request));
                    read += 1;
                }
                if let Ok(response) = Response::parse(&header, &noise(&mut state, response_size)) {
                    let written = message(|out| response.emit(out));
                    assert_eq!(Response::parse(&header, &written), Ok(response));
                    read += 1;
                }
            }
        }
        assert!(read > 10_000, "the noise is too wild: only {read} messages could be read");
    }
}
