//! The core's timers: one table per shard, one task that waits for the earliest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use smb_state::event::Event;
use smb_state::ids::ShardId;
use smb_state::timer::{Armed, Timer};
use tokio::sync::Notify;

use crate::driver::{Hub, Work};

/// Expiries stepped before other tasks get their turn.
const BATCH: usize = 64;
/// Later than any timer; also keeps the deadline's arithmetic in range.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A shard's timers.
#[derive(Default)]
pub(crate) struct Timers {
    table: Mutex<Table>,
    earlier: Notify,
}

#[derive(Default)]
struct Table {
    armed: BTreeMap<Timer, (Instant, Armed)>,
    order: BTreeSet<(Instant, Timer)>,
    /// When the task looks again by itself. It may be woken for nothing then: many timers are stopped long before they run
    /// out, and the next ones need not wake it.
    looks_at: Option<Instant>,
}

impl Timers {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts or moves a timer.
    pub(crate) fn arm(&self, timer: Timer, armed: Armed, after: Duration) {
        let deadline = Instant::now() + after.min(FOREVER);
        let mut table = self.lock();
        let first = table.looks_at.is_none_or(|at| deadline < at);
        if let Some((old, _)) = table.armed.insert(timer, (deadline, armed)) {
            table.order.remove(&(old, timer));
        }
        table.order.insert((deadline, timer));
        drop(table);
        if first {
            self.earlier.notify_one();
        }
    }

    /// Stops a timer.
    pub(crate) fn disarm(&self, timer: Timer) {
        let mut table = self.lock();
        if let Some((deadline, _)) = table.armed.remove(&timer) {
            table.order.remove(&(deadline, timer));
        }
    }

    /// Takes out what ran out by `now`, at most a batch, and says when the next one will.
    fn expired(&self, now: Instant) -> (Vec<(Timer, Armed)>, Option<Instant>) {
        let mut table = self.lock();
        let mut expired = Vec::new();
        while let Some((deadline, timer)) = table.order.first().copied() {
            if deadline > now || expired.len() == BATCH {
                table.looks_at = Some(deadline);
                return (expired, Some(deadline));
            }
            table.order.remove(&(deadline, timer));
            if let Some((_, armed)) = table.armed.remove(&timer) {
                expired.push((timer, armed));
            }
        }
        table.looks_at = None;
        (expired, None)
    }
}

/// Steps a shard whenever one of its timers runs out.
pub(crate) async fn run(hub: Arc<Hub>, shard: ShardId) {
    let Some(cell) = hub.shard(shard) else { return };
    loop {
        let (expired, next) = cell.timers.expired(Instant::now());
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

#[cfg(test)]
mod tests {
    use smb_state::ids::{ConnectionId, SessionId};

    use super::*;

    #[test]
    fn timers_expire_in_order_with_their_last_arming() {
        let timers = Timers::default();
        let (slow, fast) = (Timer::Authentication(ConnectionId(1)), Timer::SessionExpiry(SessionId(2)));
        timers.arm(slow, Armed(1), Duration::from_secs(20));
        timers.arm(fast, Armed(1), Duration::from_secs(30));
        timers.arm(fast, Armed(2), Duration::from_secs(10));
        let now = Instant::now();
        let (expired, next) = timers.expired(now);
        assert!(expired.is_empty());
        assert!(next.is_some_and(|at| at <= now + Duration::from_secs(10)));
        let (expired, next) = timers.expired(now + Duration::from_secs(60));
        assert_eq!(expired, [(fast, Armed(2)), (slow, Armed(1))]);
        assert_eq!(next, None);
    }

    #[test]
    fn a_disarmed_timer_stays_silent() {
        let timers = Timers::default();
        let timer = Timer::SessionExpiry(SessionId(2));
        timers.arm(timer, Armed(1), Duration::ZERO);
        timers.disarm(timer);
        assert_eq!(timers.expired(Instant::now()), (Vec::new(), None));
    }

    #[test]
    fn the_task_is_woken_only_to_look_earlier() {
        let timers = Timers::default();
        let timer = |number| Timer::SessionExpiry(SessionId(number));
        let is_woken = || std::pin::pin!(timers.earlier.notified()).as_mut().enable();
        timers.arm(timer(1), Armed(1), Duration::from_secs(2));
        assert!(is_woken(), "it waits for nothing");
        let (_, next) = timers.expired(Instant::now());
        assert!(next.is_some());
        for number in 2..5 {
            timers.disarm(timer(number - 1));
            timers.arm(timer(number), Armed(1), Duration::from_secs(2));
            assert!(!is_woken(), "it looks soon enough");
        }
        timers.arm(timer(5), Armed(1), Duration::from_secs(1));
        assert!(is_woken());
        let (expired, next) = timers.expired(Instant::now() + Duration::from_secs(9));
        assert_eq!((expired.len(), next), (2, None));
        timers.arm(timer(6), Armed(1), Duration::from_secs(100));
        assert!(is_woken(), "it waits for nothing again");
    }

    #[test]
    fn the_longest_time_is_no_overflow() {
        let timers = Timers::default();
        timers.arm(Timer::SessionExpiry(SessionId(2)), Armed(1), Duration::from_millis(u64::MAX));
        assert!(timers.expired(Instant::now()).1.is_some());
    }
}
