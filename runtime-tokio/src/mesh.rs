//! The shards, each behind its lock, and the messages between them.
//!
//! A message is put into the receiver's inbox while its sender is still locked, and taken out while the receiver is:
//! so messages of one pair keep their order (R10), whichever threads carry them. No thread ever holds two shards.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use smb_state::Shard;
use smb_state::ids::ShardId;
use smb_state::message::Envelope;

use crate::timers::Timers;

/// A shard and what belongs to it.
pub(crate) struct ShardCell {
    /// The machines. Poisoned when a step panicked; then the server stops.
    pub(crate) shard: Mutex<Shard>,
    /// Its timers, changed under the shard's lock so that arming and disarming keep their order.
    pub(crate) timers: Timers,
    inbox: Mutex<VecDeque<(ShardId, Envelope)>>,
}

impl ShardCell {
    pub(crate) fn new(shard: Shard) -> Self {
        Self { shard: Mutex::new(shard), timers: Timers::default(), inbox: Mutex::default() }
    }

    /// Leaves a message of `from`, whose lock the caller holds.
    pub(crate) fn post(&self, from: ShardId, envelope: Envelope) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).push_back((from, envelope));
    }

    /// The oldest message; the caller holds this shard's lock and steps it before asking for the next.
    pub(crate) fn next_message(&self) -> Option<(ShardId, Envelope)> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}
