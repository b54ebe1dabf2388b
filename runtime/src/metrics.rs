//! Counters. Each core counts for itself, so that counting moves no cache line between cores.

use std::sync::atomic::{AtomicU64, Ordering};

/// The sums at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Connections accepted since the start.
    pub connections_accepted: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Requests received, each one of a compound.
    pub requests: u64,
    /// Bytes received in frames, prefixes included.
    pub bytes_received: u64,
    /// Bytes sent, prefixes included.
    pub bytes_sent: u64,
    /// Connections closed because their peer took nothing for too long.
    pub write_timeouts: u64,
    /// Connections closed because unauthenticated peers held too much memory.
    pub unauthenticated_overflows: u64,
}

/// One core's counters, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CoreCounters {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections open.
    pub open: Counter,
    /// Requests received.
    pub requests: Counter,
    /// Bytes received.
    pub received: Counter,
    /// Bytes sent.
    pub sent: Counter,
    /// Connections closed for taking nothing.
    pub write_timeouts: Counter,
    /// Connections closed for want of memory for strangers.
    pub unauthenticated_overflows: Counter,
}

/// A number that only informs: no other memory is ordered by it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, amount: usize) {
        self.0.fetch_add(amount as u64, Ordering::Relaxed);
    }

    /// Takes one away.
    pub fn take_one(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The sums over all cores.
#[must_use]
pub fn sum(cores: &[CoreCounters]) -> Metrics {
    let mut sum = Metrics::default();
    for core in cores {
        sum.connections_accepted += core.accepted.get();
        sum.connections_open += core.open.get();
        sum.requests += core.requests.get();
        sum.bytes_received += core.received.get();
        sum.bytes_sent += core.sent.get();
        sum.write_timeouts += core.write_timeouts.get();
        sum.unauthenticated_overflows += core.unauthenticated_overflows.get();
    }
    sum
}
