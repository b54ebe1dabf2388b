//! The core's timers: a shard's table of them. Who waits for the earliest is the adapter's business.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use smb_state::timer::{Armed, Timer};

/// Expiries stepped before other tasks get their turn.
const BATCH: usize = 64;
/// Later than any timer; also keeps the deadline's arithmetic in range.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A shard's timers.
#[derive(Debug, Default)]
pub struct Table {
    armed: BTreeMap<Timer, (Instant, Armed)>,
    order: BTreeSet<(Instant, Timer)>,
    /// When the adapter looks again by itself. It may be woken for nothing then: many timers are stopped long before they run
    /// out, and the next ones need not wake it.
    looks_at: Option<Instant>,
}

impl Table {
    /// Starts or moves a timer. True when it runs out before the adapter looks again.
    pub fn arm(&mut self, timer: Timer, armed: Armed, after: Duration) -> bool {
        let deadline = Instant::now() + after.min(FOREVER);
        let first = self.looks_at.is_none_or(|at| deadline < at);
        if let Some((old, _)) = self.armed.insert(timer, (deadline, armed)) {
            self.order.remove(&(old, timer));
        }
        self.order.insert((deadline, timer));
        first
    }

    /// Stops a timer.
    pub fn disarm(&mut self, timer: Timer) {
        if let Some((deadline, _)) = self.armed.remove(&timer) {
            self.order.remove(&(deadline, timer));
        }
    }

    /// Takes out what ran out by `now`, at most a batch, and says when the next one will.
    pub fn expired(&mut self, now: Instant) -> (Vec<(Timer, Armed)>, Option<Instant>) {
        let mut expired = Vec::new();
        while let Some((deadline, timer)) = self.order.first().copied() {
            if deadline > now || expired.len() == BATCH {
                self.looks_at = Some(deadline);
                return (expired, Some(deadline));
            }
            self.order.remove(&(deadline, timer));
            if let Some((_, armed)) = self.armed.remove(&timer) {
                expired.push((timer, armed));
            }
        }
        self.looks_at = None;
        (expired, None)
    }
}

#[cfg(test)]
mod tests {
    use smb_state::ids::{ConnectionId, SessionId};

    use super::*;

    #[test]
    fn timers_expire_in_order_with_their_last_arming() {
        let mut timers = Table::default();
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
        let mut timers = Table::default();
        let timer = Timer::SessionExpiry(SessionId(2));
        timers.arm(timer, Armed(1), Duration::ZERO);
        timers.disarm(timer);
        assert_eq!(timers.expired(Instant::now()), (Vec::new(), None));
    }

    #[test]
    fn the_adapter_is_woken_only_to_look_earlier() {
        let mut timers = Table::default();
        let timer = |number| Timer::SessionExpiry(SessionId(number));
        assert!(timers.arm(timer(1), Armed(1), Duration::from_secs(2)), "it waits for nothing");
        assert!(timers.expired(Instant::now()).1.is_some());
        for number in 2..5 {
            timers.disarm(timer(number - 1));
            assert!(!timers.arm(timer(number), Armed(1), Duration::from_secs(2)), "it looks soon enough");
        }
        assert!(timers.arm(timer(5), Armed(1), Duration::from_secs(1)));
        let (expired, next) = timers.expired(Instant::now() + Duration::from_secs(9));
        assert_eq!((expired.len(), next), (2, None));
        assert!(timers.arm(timer(6), Armed(1), Duration::from_secs(100)), "it waits for nothing again");
    }

    #[test]
    fn the_longest_time_is_no_overflow() {
        let mut timers = Table::default();
        timers.arm(Timer::SessionExpiry(SessionId(2)), Armed(1), Duration::from_millis(u64::MAX));
        assert!(timers.expired(Instant::now()).1.is_some());
    }
}
