//! Whether the page cache takes writes at once at the moment.
//!
//! A write to the page cache is a copy, until the kernel holds a process back that makes pages dirty faster than the disk
//! takes them, or memory has to be found first. That can't be asked beforehand, but it lasts: after a write that took
//! long, others are expected to.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Shorter writes take their chance: to look at the clock would cost more than they do.
const SHORT_MAX: usize = 64 << 10;
/// A copy of the longest write that is made inline takes a small part of this. Other programs may take the processor
/// away for nearly as long.
const LONG: Duration = Duration::from_millis(20);
/// Writes after a slow one that are made where waiting is allowed.
const WARY: u32 = 32;

/// How writes went lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    wary: AtomicU32,
}

impl Pace {
    /// Whether a write of that many bytes is expected to wait. Each time that it is brings the next trial nearer.
    pub(super) fn is_slow(&self, length: usize) -> bool {
        length > SHORT_MAX
            && self
                .wary
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |wary| wary.checked_sub(1))
                .is_ok()
    }

    /// Makes a write, and remembers if it took long.
    pub(super) fn keep<R>(&self, length: usize, write: impl FnOnce() -> R) -> R {
        if length <= SHORT_MAX {
            return write();
        }
        let begun = Instant::now();
        let result = write();
        self.note(length, begun.elapsed());
        result
    }

    /// Remembers a write that was made elsewhere if it took long.
    pub(super) fn note(&self, length: usize, took: Duration) {
        if length > SHORT_MAX && took >= LONG {
            self.wary.store(WARY, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_slow_write_others_are_made_elsewhere_for_a_while() {
        let pace = Pace::default();
        let long = SHORT_MAX + 1;
        pace.keep(long, || ());
        assert!(!pace.is_slow(long));
        pace.keep(long, || std::thread::sleep(LONG));
        for _ in 0..WARY {
            assert!(!pace.is_slow(SHORT_MAX), "short ones are made at once");
            assert!(pace.is_slow(long));
        }
        assert!(!pace.is_slow(long), "the next trial");
    }
}
