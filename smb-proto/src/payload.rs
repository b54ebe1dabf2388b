//! A payload with room in front of it, so that headers are written before it and the whole goes out as one piece.

use bytes::{Buf, Bytes};

/// Bytes kept free before a payload: frame prefix (4), transform header (52), SMB2 header (64), and the fixed part of
/// a READ response or WRITE request with its padding (16 or 48), rounded up.
pub const HEADROOM: usize = 192;

/// An owned buffer whose first part is reserved for headers. The data of a READ response is read straight into it
/// and is signed, encrypted and sent from the same place.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    bytes: Vec<u8>,
    start: usize,
}

impl Payload {
    /// An empty payload with headroom and space for `capacity` bytes of data.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADROOM.saturating_add(capacity));
        bytes.resize(HEADROOM, 0);
        Self { bytes, start: HEADROOM }
    }

    /// A payload that holds a copy of `data`.
    #[must_use]
    pub fn copy_from(data: &[u8]) -> Self {
        let mut payload = Self::with_capacity(data.len());
        payload.bytes.extend_from_slice(data);
        payload
    }

    /// The buffer behind the data: append data to it, never touch or remove what it holds.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The data.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Number of bytes of data.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.start)
    }

    /// Whether there is no data.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shortens the data to `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.bytes.truncate(self.start.saturating_add(length));
    }

    /// Puts `prefix` in front of the data, into the headroom when it fits (no copy of the data).
    #[must_use]
    pub fn prepend(mut self, prefix: &[u8]) -> Self {
        if let Some(start) = self.start.checked_sub(prefix.len())
            && let Some(room) = self.bytes.get_mut(start..self.start)
        {
            room.copy_from_slice(prefix);
            self.start = start;
            return self;
        }
        let mut moved = Self::with_capacity(prefix.len().saturating_add(self.len()));
        moved.bytes.extend_from_slice(prefix);
        moved.bytes.extend_from_slice(self.data());
        moved
    }

    /// The data, to be changed in place (signatures, encryption).
    pub fn data_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    /// The data as shared bytes, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        let mut bytes = Bytes::from(self.bytes);
        bytes.advance(self.start.min(bytes.len()));
        bytes
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.data() == other.data()
    }
}

impl Eq for Payload {}
