//! The handle store: records of persistent opens that outlive the server (MS-SMB2 3.3.1.10, Open.IsPersistent).
//!
//! [`HandleStore`] is all that a server needs: changes that are durable when they are said to be done, in the order in which they
//! were handed over. Keys and values are the core's business (`smb_state::record`). A replicated engine may stand behind
//! it; the embedded one is [`LogStore`]: a write-ahead log and one thread that flushes it.
//!
//! # Why a log of our own
//!
//! Many clients must share a flush, and nothing else is asked of the store: no queries, no transactions, and all records fit in
//! memory. Durable puts of 200 bytes a second with 1, 16 and 64 writers, each engine behind the same group commit, on the machine
//! that the design was measured on (ratios hold better than figures; its `fdatasync` swings between 0.5 and 3.3 ms):
//!
//! | engine | 1 | 16 | 64 | p50 at 64 |
//! |---|---|---|---|---|
//! | preallocated log | 3 494 | 25 800 | 91 000 | 0.38 ms |
//! | redb 4 | 1 540 | 12 000 | 19 000 | 2.0 ms |
//! | fjall 3 | 6 026 | 18 000 | 18 000 | 0.66 ms |
//! | LMDB | 1 817 | 8 200 | 25 600 | 1.3 ms |
//! | SQLite, WAL, FULL | 264 | 37 000 | 17 500 | 1.5 ms |
//!
//! Without group commit none of them gets beyond 500 at 64 writers. Merging the changes of a record in the queue costs nothing that
//! can be told from the noise: 38 000 to 64 000 at 16 writers, 50 000 to 134 000 at 64, where the same log without it did 55 000 to
//! 61 000 and 53 000 to 140 000 at the same time.

use std::io;

mod directory;
mod log;
mod queue;
mod segment;
#[cfg(test)]
mod tests;

pub use log::{LogStore, Options};
pub use segment::Damage;

/// A change of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The record of this key is this one from now on.
    Put {
        /// The key.
        key: u64,
        /// The record; at most [`VALUE_MAX`] bytes.
        value: Box<[u8]>,
    },
    /// There is no record of this key any more.
    Delete {
        /// The key.
        key: u64,
    },
}

/// Bytes that a record may have (`smb_state::record::LOCKS_MAX`).
pub const VALUE_MAX: usize = 1 << 20;

/// Called once, when a change is durable or could not be made so. Dropping it without a call is a failure too.
pub struct Done(Option<Box<dyn FnOnce(io::Result<()>) + Send>>);

impl Done {
    /// Tells `deliver`.
    pub fn new(deliver: impl FnOnce(io::Result<()>) + Send + 'static) -> Self {
        Self(Some(Box::new(deliver)))
    }

    /// It is durable, or why it is not.
    pub fn call(mut self, outcome: io::Result<()>) {
        if let Some(deliver) = self.0.take() {
            deliver(outcome);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(deliver) = self.0.take() {
            deliver(Err(io::Error::other("the store dropped a change")));
        }
    }
}

/// Keeps records.
pub trait HandleStore: Send + Sync + 'static {
    /// Makes a change durable, soon, together with others, and calls `done` on any thread. Changes of a record become durable in the
    /// order in which they are handed over; a later one that is durable may answer for earlier ones, which are never seen then.
    ///
    /// A failed change is as if it had not been handed over, if there was no room for it ([`io::ErrorKind::StorageFull`],
    /// [`io::ErrorKind::QuotaExceeded`]). After any other failure of the disk every later change fails as well: nobody can tell then
    /// what it has.
    fn change(&self, change: Change, done: Done);

    /// The records that were there at the start, the one that was put last at the end. Handed over once.
    fn replay(&self) -> Vec<(u64, Box<[u8]>)>;
}
