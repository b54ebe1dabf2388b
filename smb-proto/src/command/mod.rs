//! The commands (MS-SMB2 2.2.3 to 2.2.40), one file each: request and response, what they hold, how they are read and
//! written.
//!
//! A `parse` takes the whole message, header included, because the offsets in a body count from the header's start; an
//! `emit` appends the body to a buffer that already holds the header, so that the body starts at [`BODY_OFFSET`].

use binrw::binrw;
use bytes::Bytes;

use crate::error::Malformed;
use crate::header;
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

    use super::BODY_OFFSET;
    use crate::error::Malformed;

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
}
