//! The core's timers: one table per shard, one task that waits for the earliest.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runtime::timers::Table;
use smb_state::event::Event;
use smb_state::ids::ShardId;
use smb_state::timer::{Armed, Timer};
use tokio::sync::Notify;

use crate::driver::{Hub, Work};

/// A shard's timers.
#[derive(Default)]
pub(crate) struct Timers {
    table: Mutex<Table>,
    earlier: Notify,
}

impl Timers {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts or moves a timer.
    pub(crate) fn arm(&self, timer: Timer, armed: Armed, after: Duration) {
        let first = self.lock().arm(timer, armed, after);
        if first {
            self.earlier.notify_one();
        }
    }

    /// Stops a timer.
    pub(crate) fn disarm(&self, timer: Timer) {
        self.lock().disarm(timer);
    }
}

/// Steps a shard whenever one of its timers runs out.
pub(crate) async fn run(hub: Arc<Hub>, shard: ShardId) {
    let Some(cell) = hub.shard(shard) else { return };
    loop {
        let (expired, next) = cell.timers.lock().expired(Instant::now());
        if !expired.is_empty() {
            hub.run(
                expired.into_iter().map(|(timer, armed)| Work::Event(shard, Event::Expired(timer, armed))),
            );
            tokio::task::yield_now().await;
            continue;
        }
        let earlier = cell.timers.earlier.notified();
        match next {
            Some(deadline) => drop(tokio::time::timeout_at(deadline.into(), earlier).await),
            None => earlier.await,
        }
    }
}
