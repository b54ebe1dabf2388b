//! Records of persistent opens: from shards to the store, and at the start back from the store to shards.
//!
//! Recovery drives itself: each record that was restored brings the next one into the step loop, until none is left. Nothing is
//! accepted before.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::storage::store::{Change, Done, HandleStore};
use smb_state::action::StoreChange;
use smb_state::event::Event;
use smb_state::ids::{ConnectionId, ShardId, Token};
use smb_state::record::Record;

use crate::storage::Answers;

/// How often a start looks whether recovery failed.
const LOOK: Duration = Duration::from_millis(20);

/// What a start found and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Opens that are there again.
    pub restored: usize,
    /// Records whose opens could not be restored.
    pub given_up: usize,
    /// Records that are none, or of a later version; they stay in the store.
    pub unreadable: usize,
    /// How long it took.
    pub took: Duration,
}

/// The store, and what of it is still to be restored.
pub struct Records {
    store: Option<Arc<dyn HandleStore>>,
    shards: u16,
    progress: Mutex<Progress>,
    ended: Condvar,
}

struct Progress {
    left: VecDeque<Record>,
    recovery: Recovery,
    begun: Instant,
    done: bool,
}

impl Records {
    /// What there is to restore in `store`.
    #[must_use]
    pub fn new(store: Option<Arc<dyn HandleStore>>, shards: u16) -> Self {
        let begun = Instant::now();
        let mut recovery = Recovery::default();
        let mut left = VecDeque::new();
        for (key, bytes) in store.iter().flat_map(|store| store.replay()) {
            match Record::decode(&bytes) {
                Ok(record) if record.open.0 == key => left.push_back(record),
                other => {
                    tracing::error!(open = key, problem = ?other.err(), "a record of a persistent open can't be read");
                    recovery.unreadable += 1;
                }
            }
        }
        let progress = Progress { done: left.is_empty(), left, recovery, begun };
        Self { store, shards: shards.max(1), progress: Mutex::new(progress), ended: Condvar::new() }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        // Nothing that can panic runs under this lock.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first record, for its shard. [`Records::recovered`] has the others.
    pub fn begin(&self) -> Option<(ShardId, Event)> {
        self.next(&mut self.progress())
    }

    /// One is done; the next, for its shard.
    pub fn recovered(&self, restored: bool) -> Option<(ShardId, Event)> {
        let mut progress = self.progress();
        let count = if restored { &mut progress.recovery.restored } else { &mut progress.recovery.given_up };
        *count += 1;
        self.next(&mut progress)
    }

    fn next(&self, progress: &mut Progress) -> Option<(ShardId, Event)> {
        let Some(record) = progress.left.pop_front() else {
            progress.done = true;
            progress.recovery.took = progress.begun.elapsed();
            self.ended.notify_all();
            return None;
        };
        let shard = record.open.partition().shard(self.shards);
        Some((shard, Event::Restored { record: Box::new(record) }))
    }

    /// Whether connections may be accepted.
    #[must_use]
    pub fn is_recovered(&self) -> bool {
        self.progress().done
    }

    /// Waits until connections may be accepted, or `failed`.
    pub fn wait(&self, failed: impl Fn() -> bool) {
        let mut progress = self.progress();
        while !progress.done && !failed() {
            let waited = self.ended.wait_timeout(progress, LOOK);
            progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What became of what was there at the start; nothing without a store.
    #[must_use]
    pub fn recovery(&self) -> Option<Recovery> {
        self.store.as_ref().map(|_| self.progress().recovery)
    }
}

/// Hands a change to the store. To be called in the order in which the shard emitted them. Returns what the shard is to be stepped
/// with, if that is known already.
pub fn change<A: Answers>(
    hub: &Arc<A>,
    shard: ShardId,
    (token, connection): (Token, ConnectionId),
    change: StoreChange,
) -> Option<Event> {
    let common = hub.common();
    let Some(store) = &common.records.store else {
        tracing::error!("there is no store for persistent opens");
        return Some(Event::Stored { token, durable: false });
    };
    let change = match change {
        StoreChange::Put(record) => Change::Put { key: record.open.0, value: record.encode().into() },
        StoreChange::Delete(open) => Change::Delete { key: open.0 },
    };
    common.submitted.fetch_add(1, Ordering::Relaxed);
    let hub = Arc::clone(hub);
    store.change(
        change,
        Done::new(move |outcome| {
            if let Err(error) = &outcome {
                tracing::error!(%error, "the store of persistent opens failed");
            }
            hub.deliver(connection, shard, Event::Stored { token, durable: outcome.is_ok() });
            hub.common().submitted.fetch_sub(1, Ordering::Release);
        }),
    );
    None
}
