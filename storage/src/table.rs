//! Tables that every runtime's adapter needs: payloads by number, drivers by volume.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use smb_proto::Payload;
use smb_state::endpoint::Buffers;
use smb_state::ids::{BufferId, VolumeId};

use crate::driver::Driver;
use crate::handles::Slab;

/// Bytes that the core knows by number only.
#[derive(Clone, Debug)]
pub enum Buffer {
    /// A part of a message that was received.
    Bytes(Bytes),
    /// Data with room for headers, to be sent.
    Payload(Payload),
}

impl Buffer {
    /// The data.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Payload(payload) => payload.data(),
        }
    }

    /// The data as shared bytes, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Payload(payload) => payload.into_bytes(),
        }
    }

    /// The data with room for headers; what was received is copied.
    #[must_use]
    pub fn into_payload(self) -> Payload {
        match self {
            Self::Bytes(bytes) => Payload::copy_from(&bytes),
            Self::Payload(payload) => payload,
        }
    }
}

impl From<Bytes> for Buffer {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Payload> for Buffer {
    fn from(payload: Payload) -> Self {
        Self::Payload(payload)
    }
}

/// Payloads by number. A number that was taken is not given again soon (2^32 times later), so that a stale one finds
/// nothing.
#[derive(Default)]
pub struct BufferTable(Slab<Buffer>);

impl BufferTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A number for `buffer`.
    pub fn insert(&self, buffer: impl Into<Buffer>) -> BufferId {
        BufferId(self.0.insert(buffer.into()))
    }

    /// The data as shared bytes, without a copy; the number stays valid. `None` if it is not.
    #[must_use]
    pub fn get(&self, id: BufferId) -> Option<Bytes> {
        self.0.with(id.0, |buffer| {
            let bytes = std::mem::replace(buffer, Buffer::Bytes(Bytes::new())).into_bytes();
            *buffer = Buffer::Bytes(bytes.clone());
            bytes
        })
    }

    /// Takes a payload out. `None` if the number is not valid.
    #[must_use]
    pub fn take(&self, id: BufferId) -> Option<Buffer> {
        self.0.remove(id.0)
    }

    /// Payloads that nobody has taken yet, so that leaks can be found.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.0.len()
    }
}

/// What endpoints need of the table.
impl Buffers for BufferTable {
    fn insert(&self, bytes: Bytes) -> BufferId {
        Self::insert(self, bytes)
    }

    fn get(&self, buffer: BufferId) -> Option<Bytes> {
        Self::get(self, buffer)
    }

    fn take(&self, buffer: BufferId) -> Option<Payload> {
        Self::take(self, buffer).map(Buffer::into_payload)
    }

    fn release(&self, buffer: BufferId) {
        drop(Self::take(self, buffer));
    }
}

impl fmt::Debug for BufferTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferTable").field("outstanding", &self.outstanding()).finish()
    }
}

/// Drivers by volume; may change while it is used (a reload of the configuration).
#[derive(Default)]
pub struct VolumeTable(RwLock<HashMap<VolumeId, Arc<dyn Driver>>>);

impl VolumeTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a volume its driver, and answers the one it had.
    pub fn insert(&self, volume: VolumeId, driver: Arc<dyn Driver>) -> Option<Arc<dyn Driver>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(volume, driver)
    }

    /// Takes a volume out. Requests that its driver has taken are still answered.
    pub fn remove(&self, volume: VolumeId) -> Option<Arc<dyn Driver>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&volume)
    }

    /// The driver of a volume.
    #[must_use]
    pub fn get(&self, volume: VolumeId) -> Option<Arc<dyn Driver>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&volume).cloned()
    }
}

impl fmt::Debug for VolumeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut volumes: Vec<VolumeId> =
            self.0.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        volumes.sort();
        f.debug_tuple("VolumeTable").field(&volumes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_once() {
        let table = BufferTable::new();
        let received = table.insert(Bytes::from_static(b"received"));
        let sent = table.insert(Payload::copy_from(b"sent"));
        assert_eq!(table.outstanding(), 2);
        assert_eq!(table.get(received).as_deref(), Some(&b"received"[..]));
        assert_eq!(table.take(received).map(Buffer::into_payload).unwrap().data(), b"received");
        assert!(table.get(received).is_none() && table.take(received).is_none());
        assert_eq!(table.take(sent).map(Buffer::into_bytes).as_deref(), Some(&b"sent"[..]));
        assert_eq!(table.outstanding(), 0);
        let later = table.insert(Payload::copy_from(b"later"));
        assert!(later != sent && later != received);
        assert_eq!(table.get(later).as_deref(), Some(&b"later"[..]));
        assert_eq!(table.take(later).unwrap().data(), b"later");
        let endpoints: &dyn Buffers = &table;
        let received = endpoints.insert(Bytes::from_static(b"received"));
        assert_eq!(endpoints.take(received).unwrap().data(), b"received");
        let unwanted = endpoints.insert(Bytes::new());
        endpoints.release(unwanted);
        assert_eq!(table.outstanding(), 0);
    }
}
