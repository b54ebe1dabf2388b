//! LOCK (MS-SMB2 2.2.26, 2.2.27).

use binrw::binrw;
use bytes::Bytes;

use super::{BODY_OFFSET, FileId};
use crate::error::Malformed;
use crate::flags::flags;
use crate::wire;

flags! {
    /// What to do with a range.
    pub struct LockFlags(u32);
    /// Lock it; others may lock it shared too, and read.
    SHARED_LOCK = 0x0000_0001;
    /// Lock it against everyone else.
    EXCLUSIVE_LOCK = 0x0000_0002;
    /// Unlock it.
    UNLOCK = 0x0000_0004;
    /// Don't wait for a conflicting lock.
    FAIL_IMMEDIATELY = 0x0000_0010;
}

impl LockFlags {
    /// Whether the flags are one of the five combinations of 2.2.26.1.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        match self {
            Self::UNLOCK => true,
            _ => matches!(self.without(Self::FAIL_IMMEDIATELY), Self::SHARED_LOCK | Self::EXCLUSIVE_LOCK),
        }
    }
}

/// A number that makes a request that was sent twice recognizable (2.1 and later).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LockSequence(pub u32);

impl LockSequence {
    /// From the number (4 bits) and the index (28 bits; 1 to 64 are in use, 0 is none).
    #[must_use]
    pub const fn new(number: u8, index: u32) -> Self {
        Self(index << 4 | (number & 0xF) as u32)
    }

    /// The number, the low 4 bits.
    #[must_use]
    pub const fn number(self) -> u8 {
        (self.0 & 0xF) as u8
    }

    /// The index, the high 28 bits.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0 >> 4
    }
}

/// One range (2.2.26.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockElement {
    /// Where the range starts.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// What to do with it.
    pub flags: LockFlags,
}

/// A request to lock or unlock ranges.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Lock sequence.
    pub lock_sequence: LockSequence,
    /// The open.
    pub file_id: FileId,
    /// Ranges, in the order in which they are to be taken. None is an error that the server answers (3.3.5.14).
    pub locks: Vec<LockElement>,
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    #[br(assert(structure_size == 48))]
    structure_size: u16,
    lock_count: u16,
    lock_sequence: u32,
    file_id: FileId,
}

#[binrw]
#[brw(little)]
struct ElementFixed {
    offset: u64,
    length: u64,
    flags: LockFlags,
    reserved: u32,
}

/// Size of the fixed part of a request.
const REQUEST_FIXED: usize = 24;
/// Size of a range.
const ELEMENT: usize = 24;

impl Request {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is shorter than its fixed part and its ranges.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: RequestFixed = wire::fixed(message, BODY_OFFSET, "LOCK request")?;
        let size = usize::from(fixed.lock_count).saturating_mul(ELEMENT);
        let elements =
            wire::slice(message, BODY_OFFSET.saturating_add(REQUEST_FIXED), size, "LOCK request: ranges")?;
        let locks = elements
            .chunks_exact(ELEMENT)
            .map(|element| {
                let ElementFixed { offset, length, flags, .. } =
                    wire::fixed(element, 0, "LOCK request: range")?;
                Ok(LockElement { offset, length, flags })
            })
            .collect::<Result<_, Malformed>>()?;
        Ok(Self { lock_sequence: LockSequence(fixed.lock_sequence), file_id: fixed.file_id, locks })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(
            out,
            &RequestFixed {
                structure_size: 48,
                lock_count: wire::length_u16(self.locks.len()),
                lock_sequence: self.lock_sequence.0,
                file_id: self.file_id,
            },
        );
        for LockElement { offset, length, flags } in self.locks.iter().copied() {
            wire::put(out, &ElementFixed { offset, length, flags, reserved: 0 });
        }
    }
}

/// The answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Response;

#[binrw]
#[brw(little)]
struct ResponseFixed {
    #[br(assert(structure_size == 4))]
    structure_size: u16,
    reserved: u16,
}

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        wire::fixed::<ResponseFixed>(message, BODY_OFFSET, "LOCK response")?;
        Ok(Self)
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(out, &ResponseFixed { structure_size: 4, reserved: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, round_trip};
    use super::*;

    fn request(count: u64) -> Request {
        let flags = LockFlags::EXCLUSIVE_LOCK.with(LockFlags::FAIL_IMMEDIATELY);
        Request {
            lock_sequence: LockSequence::new(9, 64),
            file_id: FileId { persistent: 1, volatile: 2 },
            locks: (0..count).map(|at| LockElement { offset: at, length: u64::MAX, flags }).collect(),
        }
    }

    #[test]
    fn round_trips() {
        for count in [0, 1, 2, 70] {
            round_trip(&request(count), Request::emit, Request::parse);
        }
        round_trip(&Response, Response::emit, Response::parse);
        assert_eq!(message(|out| request(1).emit(out)).len(), 64 + 48);
    }

    #[test]
    fn ranges_outside_the_message_are_refused() {
        let mut bytes = message(|out| request(2).emit(out)).to_vec();
        bytes[66] = 3;
        assert!(Request::parse(&bytes.clone().into()).is_err());
        bytes[67] = 0xFF;
        assert!(Request::parse(&bytes.into()).is_err());
    }

    #[test]
    fn five_combinations_of_flags_are_valid() {
        let valid = (0..0x40).filter(|bits| LockFlags(*bits).is_valid()).collect::<Vec<_>>();
        assert_eq!(valid, [0x01, 0x02, 0x04, 0x11, 0x12]);
    }

    #[test]
    fn a_lock_sequence_has_two_parts() {
        let sequence = LockSequence(0x0000_0405);
        assert_eq!((sequence.number(), sequence.index()), (5, 64));
        assert_eq!(LockSequence::new(5, 64), sequence);
    }
}
