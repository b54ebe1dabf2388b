//! File and volume information, FSCTL bodies, names and name expressions (MS-FSCC).
//!
//! * [`class`]: the numbers of information classes, and the smallest buffer each needs
//! * [`file_info`]: what is queried and set of a file (MS-FSCC 2.4)
//! * [`directory`]: entries of a directory listing (MS-FSCC 2.4)
//! * [`fs_info`]: what is queried and set of a volume (MS-FSCC 2.5)
//! * [`ea`], [`stream`], [`quota`], [`notify`]: chained lists
//! * [`fsctl`], [`reparse`]: bodies of file system controls (MS-FSCC 2.3, 2.1.2)
//! * [`name`], [`expression`]: which names are valid, and which match a search pattern (MS-FSCC 2.1.5, MS-FSA
//!   2.1.4.4)

use std::fmt;

use crate::error::Malformed;
use crate::status::NtStatus;
use crate::wire;

mod chain;
pub mod class;
pub mod directory;
pub mod ea;
pub mod expression;
pub mod file_info;
pub mod fs_info;
pub mod fsctl;
pub mod name;
pub mod notify;
pub mod quota;
pub mod reparse;
pub mod stream;

pub use class::{FileInfoClass, FsInfoClass};

/// Why information cannot be read from the bytes of a request or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InformationError {
    /// The class is unknown, or not one that is used this way (`STATUS_INVALID_INFO_CLASS`).
    Class,
    /// The bytes are fewer than the class needs (`STATUS_INFO_LENGTH_MISMATCH`).
    Length,
    /// A length or offset in the bytes points outside them (`STATUS_INVALID_PARAMETER`).
    Malformed(Malformed),
    /// A list of extended attributes is wrong.
    Ea(ea::EaError),
}

impl InformationError {
    /// The status that Windows answers with.
    #[must_use]
    pub const fn status(self) -> NtStatus {
        match self {
            Self::Class => NtStatus::INVALID_INFO_CLASS,
            Self::Length => NtStatus::INFO_LENGTH_MISMATCH,
            Self::Malformed(_) => NtStatus::INVALID_PARAMETER,
            Self::Ea(error) => error.status(),
        }
    }
}

impl fmt::Display for InformationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class => f.write_str("information class is not supported"),
            Self::Length => f.write_str("information is shorter than its class needs"),
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::Ea(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for InformationError {}

impl From<Malformed> for InformationError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<ea::EaError> for InformationError {
    fn from(error: ea::EaError) -> Self {
        Self::Ea(error)
    }
}

/// How information fits into an output buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// All of it (`STATUS_SUCCESS`).
    Whole,
    /// A name was cut short or entries were left out (`STATUS_BUFFER_OVERFLOW`, a warning: what fits is
    /// sent).
    Partial,
    /// Not even the first entry of a list (`STATUS_BUFFER_TOO_SMALL`); nothing was written.
    NoEntry,
    /// Not even the fixed part (`STATUS_INFO_LENGTH_MISMATCH`); nothing was written.
    BelowFixed,
}

impl Fit {
    /// The status that Windows answers with.
    #[must_use]
    pub const fn status(self) -> NtStatus {
        match self {
            Self::Whole => NtStatus::SUCCESS,
            Self::Partial => NtStatus::BUFFER_OVERFLOW,
            Self::NoEntry => NtStatus::BUFFER_TOO_SMALL,
            Self::BelowFixed => NtStatus::INFO_LENGTH_MISMATCH,
        }
    }
}

/// Cuts what was written from `start` on down to `limit` bytes, to a whole code unit when the name starts at
/// `name`.
fn truncate_name(out: &mut Vec<u8>, start: usize, name: usize, limit: usize) -> Fit {
    let written = out.len().saturating_sub(start);
    if written <= limit {
        return Fit::Whole;
    }
    let available = limit.saturating_sub(name) & !1;
    out.truncate(start.saturating_add(name).saturating_add(available));
    Fit::Partial
}

/// `N` bytes at `offset` of `bytes`.
fn field<const N: usize>(bytes: &[u8], offset: usize, what: &'static str) -> Result<[u8; N], Malformed> {
    bytes.get(offset..).and_then(|tail| tail.first_chunk()).copied().ok_or(Malformed(what))
}

/// A little-endian number at `offset` of `bytes`.
fn u32_at(bytes: &[u8], offset: usize, what: &'static str) -> Result<u32, Malformed> {
    field(bytes, offset, what).map(u32::from_le_bytes)
}

/// A little-endian number at `offset` of `bytes`.
fn u64_at(bytes: &[u8], offset: usize, what: &'static str) -> Result<u64, Malformed> {
    field(bytes, offset, what).map(u64::from_le_bytes)
}

/// A length or count at `offset` of `bytes`.
fn length_at(bytes: &[u8], offset: usize, what: &'static str) -> Result<usize, Malformed> {
    usize::try_from(u32_at(bytes, offset, what)?).map_err(|_| Malformed(what))
}

/// A name with its length in bytes in front (MS-FSCC 2.1.7), at `offset` of `bytes`.
fn counted_name(bytes: &[u8], offset: usize, what: &'static str) -> Result<crate::Name, Malformed> {
    let length = length_at(bytes, offset, what)?;
    let name =
        bytes.get(offset.saturating_add(4)..).and_then(|tail| tail.get(..length)).ok_or(Malformed(what))?;
    Ok(crate::Name::from_units(wire::utf16(name, what)?))
}

/// Appends a name with its length in bytes in front.
fn put_counted_name(out: &mut Vec<u8>, name: &crate::Name) {
    out.extend_from_slice(&wire::length_u32(name.wire_len()).to_le_bytes());
    wire::put_utf16(out, name.units());
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;

    /// Emits, parses back, compares; then checks that truncations do not panic, and flips each byte for the
    /// same.
    pub(crate) fn round_trip<T: PartialEq + std::fmt::Debug, E: PartialEq + std::fmt::Debug>(
        value: &T,
        emit: impl Fn(&T, &mut Vec<u8>),
        parse: impl Fn(&Bytes) -> Result<T, E>,
    ) -> Bytes {
        let mut out = Vec::new();
        emit(value, &mut out);
        let bytes = Bytes::from(out);
        assert_eq!(parse(&bytes).as_ref(), Ok(value));
        for length in 0..bytes.len() {
            let _ = parse(&bytes.slice(..length));
            for flip in [0x01, 0x80, 0xFF] {
                let mut hostile = bytes.to_vec();
                hostile[length] ^= flip;
                let _ = parse(&hostile.into());
            }
        }
        bytes
    }
}
