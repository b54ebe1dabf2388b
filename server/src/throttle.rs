//! Slows down those who guess passwords: after some failures, each further one doubles the time in which no attempt is
//! even looked at. Failures are counted for a user from an address, and for an address whatever the user.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use smb_state::event::Peer;

/// Failures without consequence, of a user from an address.
const FREE_USER: u32 = 5;
/// Failures without consequence, of an address. More, because many users may share one.
const FREE_PEER: u32 = 30;
const FIRST_DELAY: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_secs(15 * 60);
/// Failures this old are forgotten.
const MEMORY: Duration = Duration::from_secs(30 * 60);
/// Entries kept. When there are more, the oldest failure is forgotten.
const ENTRIES_MAX: usize = 16_384;

type Key = (Option<Box<str>>, Peer);

/// Failures so far.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    entries: HashMap<Key, Failures>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    fn delay(&self, free: u32) -> Duration {
        match self.count.checked_sub(free) {
            None | Some(0) => Duration::ZERO,
            Some(over) => {
                FIRST_DELAY.saturating_mul(1_u32.checked_shl(over - 1).unwrap_or(u32::MAX)).min(DELAY_MAX)
            }
        }
    }
}

impl Throttle {
    /// Whether an attempt is refused without being looked at. `name` is folded.
    pub(crate) fn refuses(&self, name: &str, peer: Peer, now: Instant) -> bool {
        let refused = |key: &Key, free| {
            self.entries
                .get(key)
                .is_some_and(|failures| now.duration_since(failures.last) < failures.delay(free))
        };
        refused(&(Some(name.into()), peer), FREE_USER) || refused(&(None, peer), FREE_PEER)
    }

    /// Counts an attempt that was looked at. A success says nothing about other users from the same address.
    pub(crate) fn record(&mut self, name: &str, peer: Peer, accepted: bool, now: Instant) {
        if accepted {
            self.entries.remove(&(Some(name.into()), peer));
            return;
        }
        self.count((Some(name.into()), peer), now);
        self.count((None, peer), now);
    }

    fn count(&mut self, key: Key, now: Instant) {
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&key) {
            self.forget(now);
        }
        let failures = self.entries.entry(key).or_insert(Failures { count: 0, last: now });
        if now.duration_since(failures.last) > MEMORY {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
    }

    /// Makes room: everything old, or else the older half, so that a flood of names doesn't pay for a search each.
    fn forget(&mut self, now: Instant) {
        self.entries.retain(|_, failures| now.duration_since(failures.last) <= MEMORY);
        if self.entries.len() < ENTRIES_MAX {
            return;
        }
        let mut times: Vec<Instant> = self.entries.values().map(|failures| failures.last).collect();
        let middle = times.len() / 2;
        let median = *times.select_nth_unstable(middle).1;
        self.entries.retain(|_, failures| failures.last > median || failures.count > FREE_PEER);
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Peer = Peer(1);
    const THERE: Peer = Peer(2);

    fn fail(throttle: &mut Throttle, name: &str, times: u32, now: Instant) {
        for _ in 0..times {
            throttle.record(name, HERE, false, now);
        }
    }

    #[test]
    fn some_failures_are_free_then_the_delay_doubles() {
        let (mut throttle, mut now) = (Throttle::default(), Instant::now());
        fail(&mut throttle, "ann", FREE_USER, now);
        assert!(!throttle.refuses("ann", HERE, now));
        for delay_s in [1, 2, 4, 8, 16] {
            throttle.record("ann", HERE, false, now);
            assert!(throttle.refuses(
                "ann",
                HERE,
                now + Duration::from_secs(delay_s) - Duration::from_millis(1)
            ));
            now += Duration::from_secs(delay_s);
            assert!(!throttle.refuses("ann", HERE, now));
        }
        fail(&mut throttle, "ann", 100, now);
        assert!(throttle.refuses("ann", HERE, now + DELAY_MAX - Duration::from_secs(1)));
        assert!(!throttle.refuses("ann", HERE, now + DELAY_MAX));
    }

    #[test]
    fn nobody_else_suffers() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        fail(&mut throttle, "ann", FREE_USER + 3, now);
        assert!(!throttle.refuses("ann", THERE, now), "the same user from elsewhere");
        assert!(!throttle.refuses("bob", HERE, now), "another user from there");
    }

    #[test]
    fn trying_many_names_slows_the_address() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..=FREE_PEER {
            throttle.record(&format!("user{number}"), HERE, false, now);
        }
        assert!(throttle.refuses("never tried", HERE, now));
        assert!(!throttle.refuses("never tried", THERE, now));
    }

    #[test]
    fn a_success_clears_the_user_but_not_the_address() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        fail(&mut throttle, "ann", FREE_USER + 1, now);
        throttle.record("ann", HERE, true, now);
        assert!(!throttle.refuses("ann", HERE, now));
        fail(&mut throttle, "bob", FREE_PEER - FREE_USER, now);
        assert!(throttle.refuses("ann", HERE, now), "failures of the address are still counted");
    }

    #[test]
    fn old_failures_are_forgotten() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        fail(&mut throttle, "ann", FREE_USER + 1, now);
        let later = now + MEMORY + Duration::from_secs(1);
        throttle.record("ann", HERE, false, later);
        assert!(!throttle.refuses("ann", HERE, later));
    }

    #[test]
    fn the_table_stays_bounded_and_keeps_what_is_recent() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..3 * ENTRIES_MAX as u32 {
            let peer = Peer(1000 + u128::from(number));
            throttle.record("ann", peer, false, now + Duration::from_millis(number.into()));
            assert!(throttle.entries.len() <= ENTRIES_MAX + 1);
        }
        let end = now + Duration::from_millis(3 * ENTRIES_MAX as u64);
        fail(&mut throttle, "ann", FREE_USER + 1, end);
        assert!(throttle.refuses("ann", HERE, end));
    }
}
