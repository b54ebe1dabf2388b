//! A payload with room in front of it, so that headers are written before it and the whole goes out as one piece.

use bytes::{Buf, Bytes};

use crate::spare;

/// Bytes kept free before a payload: frame prefix (4), transform header (52), SMB2 header (64), and the fixed part of
/// a READ response or WRITE request with its padding (16 or 48), rounded up.
pub const HEADROOM: usize = 192;

/// What data begins at a multiple of in memory, a cache line.
const ALIGNMENT: usize = 64;
/// Bytes of data from which that is worth the room.
const ALIGNED_MIN: usize = 2048;

/// An owned buffer whose first part is reserved for headers. The data of a READ response is read straight into it
/// and is signed, encrypted and sent from the same place. A large buffer is kept by its thread when it is done with.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    bytes: Room,
    start: usize,
}

/// A buffer that goes back to where it came from.
#[derive(Clone, Debug, Default)]
struct Room(Vec<u8>);

impl Room {
    fn into_bytes(mut self) -> Bytes {
        if spare::is_kept(self.0.capacity()) {
            Bytes::from_owner(self)
        } else {
            Bytes::from(std::mem::take(&mut self.0))
        }
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        spare::give_back(std::mem::take(&mut self.0));
    }
}

impl Payload {
    /// An empty payload with headroom and space for `capacity` bytes of data.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let (mut bytes, start) = take_aligned(capacity);
        bytes.resize(start, 0);
        Self { bytes: Room(bytes), start }
    }

    /// The data that `fill` puts into a buffer of `length` bytes; it returns how many of the first ones these are. What was
    /// in the buffer before is anything, and never gets into the payload.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn filled<E>(length: usize, fill: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<Self, E> {
        let (mut bytes, start) = take_aligned(length);
        bytes.resize(start.saturating_add(length), 0);
        let mut payload = Self { bytes: Room(bytes), start };
        let filled = fill(payload.data_mut())?;
        if filled <= length / 2 {
            // Much was asked for and little is there: the large buffer is soon of more use elsewhere.
            return Ok(Self::copy_from(payload.data().get(..filled).unwrap_or_default()));
        }
        payload.truncate(filled);
        Ok(payload)
    }

    /// A payload that holds a copy of `data`.
    #[must_use]
    pub fn copy_from(data: &[u8]) -> Self {
        let mut payload = Self::with_capacity(data.len());
        payload.bytes.0.extend_from_slice(data);
        payload
    }

    /// The buffer behind the data: append data to it, never touch or remove what it holds.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes.0
    }

    /// The data.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.bytes.0.get(self.start..).unwrap_or_default()
    }

    /// Number of bytes of data.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.0.len().saturating_sub(self.start)
    }

    /// Whether there is no data.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shortens the data to `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.bytes.0.truncate(self.start.saturating_add(length));
    }

    /// Puts `prefix` in front of the data, into the headroom when it fits (no copy of the data).
    #[must_use]
    pub fn prepend(mut self, prefix: &[u8]) -> Self {
        if let Some(start) = self.start.checked_sub(prefix.len())
            && let Some(room) = self.bytes.0.get_mut(start..self.start)
        {
            room.copy_from_slice(prefix);
            self.start = start;
            return self;
        }
        let mut moved = Self::with_capacity(prefix.len().saturating_add(self.len()));
        moved.bytes.0.extend_from_slice(prefix);
        moved.bytes.0.extend_from_slice(self.data());
        moved
    }

    /// The data, to be changed in place (signatures, encryption).
    pub fn data_mut(&mut self) -> &mut [u8] {
        self.bytes.0.get_mut(self.start..).unwrap_or_default()
    }

    /// The data as shared bytes, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        let mut bytes = self.bytes.into_bytes();
        bytes.advance(self.start.min(bytes.len()));
        bytes
    }
}

/// A buffer for that much data, and where in it the data is to begin. The kernel copies twice as fast to aligned memory, in
/// the worst case; for short data that makes no difference.
fn take_aligned(length: usize) -> (Vec<u8>, usize) {
    if length < ALIGNED_MIN {
        return (spare::take(HEADROOM.saturating_add(length)), HEADROOM);
    }
    let bytes = spare::take(HEADROOM.saturating_add(ALIGNMENT).saturating_add(length));
    let start = bytes.as_ptr().addr().saturating_add(HEADROOM);
    let pad = start.checked_next_multiple_of(ALIGNMENT).unwrap_or(start).saturating_sub(start);
    (bytes, HEADROOM.saturating_add(pad))
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.data() == other.data()
    }
}

impl Eq for Payload {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_go_in_front_whatever_the_size() {
        for length in [0, 10, 5000, 300_000] {
            let data = vec![7; length];
            let payload = Payload::copy_from(&data).prepend(b"header");
            let long = payload.clone().prepend(&[1; HEADROOM]);
            assert_eq!(payload.data().strip_prefix(b"header"), Some(&data[..]));
            assert_eq!(long.len(), HEADROOM + 6 + length);
            assert_eq!(long.data()[HEADROOM..], *payload.data());
            let bytes = payload.into_bytes();
            assert_eq!(bytes.len(), 6 + length);
            assert_eq!(bytes[6..], data);
        }
    }

    #[test]
    fn a_buffer_used_again_shows_nothing_of_before() {
        let length = 200_000;
        let before = Payload::copy_from(&vec![0xAA; length]);
        let place = before.data().as_ptr();
        drop(before.into_bytes());
        let payload = Payload::filled(length, |room| {
            room[..length - 1].fill(0xBB);
            Ok::<_, ()>(length - 1)
        });
        let mut payload = payload.unwrap();
        assert_eq!(payload.data(), vec![0xBB; length - 1]);
        assert_eq!(payload.data().as_ptr(), place, "the buffer is used again");
        assert_eq!(payload.data().as_ptr().addr() % ALIGNMENT, 0);
        payload.truncate(3);
        let end = payload.buffer().len() + 2;
        payload.buffer().resize(end, 0);
        assert_eq!(payload.into_bytes(), b"\xBB\xBB\xBB\0\0"[..]);
        let few = Payload::filled(length, |room| {
            room[..3].copy_from_slice(b"new");
            Ok::<_, ()>(3)
        });
        assert_eq!(few.unwrap().data(), b"new");
        assert!(Payload::filled(length, |_| Err::<usize, _>("failed")).is_err());
        assert!(Payload::with_capacity(length).is_empty());
    }
}
