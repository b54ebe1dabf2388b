//! The adapter's table of payloads (R5), as endpoints see it.

use bytes::Bytes;
use smb_proto::Payload;
use smb_state::endpoint::surroundings::Buffers;
use smb_state::ids::BufferId;
use storage::table::{Buffer, BufferTable};

/// Every payload that the core knows by number.
#[derive(Debug, Default)]
pub struct Payloads(BufferTable);

impl Payloads {
    /// A number for what a driver answered with.
    pub fn insert_payload(&self, payload: Payload) -> BufferId {
        self.0.insert(payload)
    }

    /// Payloads that were not given back.
    pub fn outstanding(&self) -> usize {
        self.0.outstanding()
    }
}

impl Buffers for Payloads {
    fn insert(&self, bytes: Bytes) -> BufferId {
        self.0.insert(bytes)
    }

    fn get(&self, buffer: BufferId) -> Option<Bytes> {
        self.0.get(buffer)
    }

    fn take(&self, buffer: BufferId) -> Option<Payload> {
        self.0.take(buffer).map(Buffer::into_payload)
    }

    fn release(&self, buffer: BufferId) {
        drop(self.0.take(buffer));
    }
}
