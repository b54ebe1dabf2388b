//! Why the client can't go on.

use std::fmt;
use std::io;

use smb_proto::auth::initiator::InitiatorError;
use smb_proto::crypto::seal::OpenError;
use smb_proto::fscc::InformationError;
use smb_proto::header::CommandCode;
use smb_proto::{Malformed, NtStatus};

/// Result of the client's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. After anything but [`Error::Status`] and [`Error::NoCredits`] the connection is of no more use.
#[derive(Debug)]
pub enum Error {
    /// The server answered with this status.
    Status {
        /// The request's command.
        command: CommandCode,
        /// The status.
        status: NtStatus,
    },
    /// The request costs more credits than are left: receive responses first.
    NoCredits,
    /// The connection failed, was closed, or took longer than the time limit.
    Io(io::Error),
    /// What the server sent can't be read.
    Malformed(Malformed),
    /// What the server sent can be read and shouldn't have been sent.
    Protocol(&'static str),
    /// The server's side of the authentication is wrong.
    Authentication(InitiatorError),
}

impl Error {
    /// The status, if that is what the error is.
    pub fn status(&self) -> Option<NtStatus> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { command, status } => write!(f, "{command:?} answered with {status}"),
            Self::NoCredits => f.write_str("no credits left"),
            Self::Io(error) => write!(f, "connection: {error}"),
            Self::Malformed(malformed) => write!(f, "the server sent a malformed message: {malformed}"),
            Self::Protocol(what) => f.write_str(what),
            Self::Authentication(error) => write!(f, "authentication: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<InitiatorError> for Error {
    fn from(error: InitiatorError) -> Self {
        Self::Authentication(error)
    }
}

impl From<InformationError> for Error {
    fn from(error: InformationError) -> Self {
        match error {
            InformationError::Malformed(malformed) => Self::Malformed(malformed),
            _ => Self::Protocol("the server sent information of another class than asked for"),
        }
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Malformed(malformed) => Self::Malformed(malformed),
            OpenError::BadTag => Self::Protocol("an encrypted message of the server's can't be opened"),
        }
    }
}
