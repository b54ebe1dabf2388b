//! Framing over TCP: the Direct TCP prefix and what kind of message follows it (MS-SMB2 2.1).
//!
//! A frame is a zero byte, a length of 24 bits in network order, and that many bytes of payload. The payload's first
//! four bytes say what it is. NetBIOS session services (port 139) are not spoken.

use crate::error::Malformed;
use crate::header;
use crate::transform;

/// Size of the prefix.
pub const PREFIX_SIZE: usize = 4;
/// Longest payload that a prefix can announce.
pub const LENGTH_MAX: usize = 0x00FF_FFFF;
/// First four bytes of every SMB1 message.
pub const SMB1_PROTOCOL_ID: [u8; 4] = [0xFF, b'S', b'M', b'B'];

/// The prefix of a payload of `length` bytes.
///
/// # Errors
/// [`Malformed`] when the length does not fit in 24 bits.
pub fn prefix(length: usize) -> Result<[u8; PREFIX_SIZE], Malformed> {
    const TOO_LONG: Malformed = Malformed("frame: longer than its prefix can say");
    if length > LENGTH_MAX {
        return Err(TOO_LONG);
    }
    // The first byte of the big-endian number is the zero that the prefix wants.
    u32::try_from(length).map(u32::to_be_bytes).map_err(|_| TOO_LONG)
}

/// Length in bytes of the payload behind `prefix`, of which at most `length_max` are acceptable. Zero is a length:
/// what to make of an empty payload is decided above.
///
/// # Errors
/// [`Malformed`] when the first byte is not zero or the payload would be longer than `length_max`. There is no
/// finding the next frame after that.
pub fn length(prefix: [u8; PREFIX_SIZE], length_max: usize) -> Result<usize, Malformed> {
    let [zero, rest @ ..] = prefix;
    if zero != 0 {
        return Err(Malformed("frame: first byte is not zero"));
    }
    let [a, b, c] = rest;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).map_err(|_| Malformed("frame: length"))?;
    if length > length_max {
        return Err(Malformed("frame: longer than accepted"));
    }
    Ok(length)
}

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A message of SMB1: the NEGOTIATE of a client that also speaks SMB 2, or of one that does not.
    Smb1,
    /// One SMB2 message or a compound.
    Smb2,
    /// An encrypted message (2.2.41).
    Transform,
    /// A compressed message (2.2.42).
    Compressed,
}

impl Kind {
    /// The kind of a payload, from its first four bytes.
    ///
    /// # Errors
    /// [`Malformed`] when there are fewer than four or they belong to no protocol that is known here.
    pub fn of(payload: &[u8]) -> Result<Self, Malformed> {
        let id = payload.first_chunk::<4>().ok_or(Malformed("frame: no room for a protocol identifier"))?;
        match *id {
            SMB1_PROTOCOL_ID => Ok(Self::Smb1),
            header::PROTOCOL_ID => Ok(Self::Smb2),
            transform::PROTOCOL_ID => Ok(Self::Transform),
            transform::COMPRESSION_PROTOCOL_ID => Ok(Self::Compressed),
            _ => Err(Malformed("frame: unknown protocol identifier")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_make_the_round_trip() {
        for size in [0, 1, 0x1234, 0x01_0000, LENGTH_MAX] {
            assert_eq!(length(prefix(size).unwrap(), LENGTH_MAX), Ok(size));
        }
        assert_eq!(prefix(0x0001_0203), Ok([0, 1, 2, 3]));
        assert!(prefix(LENGTH_MAX + 1).is_err());
    }

    #[test]
    fn foreign_and_oversized_prefixes_are_refused() {
        assert!(length([0x85, 0, 0, 0], LENGTH_MAX).is_err());
        assert_eq!(length([0, 0, 1, 0], 256), Ok(256));
        assert!(length([0, 0, 1, 1], 256).is_err());
    }

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(Kind::of(b"\xFFSMBr"), Ok(Kind::Smb1));
        assert_eq!(Kind::of(b"\xFESMB@"), Ok(Kind::Smb2));
        assert_eq!(Kind::of(b"\xFDSMB"), Ok(Kind::Transform));
        assert_eq!(Kind::of(b"\xFCSMB"), Ok(Kind::Compressed));
        assert!(Kind::of(b"\xFESM").is_err());
        assert!(Kind::of(b"GET /").is_err());
    }
}
