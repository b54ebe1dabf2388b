//! How long operations took.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Durations of single operations, in tenths of a microsecond.
#[derive(Debug, Clone, Default)]
pub(super) struct Latencies(Vec<u32>);

/// What is told of them, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Percentiles {
    /// Half of the operations took no longer.
    pub(super) p50: f64,
    /// 99 of 100 took no longer.
    pub(super) p99: f64,
    /// 999 of 1000 took no longer.
    pub(super) p99_9: f64,
}

impl Latencies {
    /// One more.
    pub(super) fn add(&mut self, duration: Duration) {
        self.0.push(u32::try_from(duration.as_nanos() / 100).unwrap_or(u32::MAX));
    }

    /// Those of others too.
    pub(super) fn extend(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    /// None if there was no operation.
    pub(super) fn percentiles(mut self) -> Option<Percentiles> {
        self.0.sort_unstable();
        let at = |share: f64| {
            let rank = (self.0.len() as f64 * share).ceil() as usize;
            self.0.get(rank.max(1) - 1).map(|tenths| f64::from(*tenths) / 10.0)
        };
        Some(Percentiles { p50: at(0.5)?, p99: at(0.99)?, p99_9: at(0.999)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_operations() {
        assert_eq!(Latencies::default().percentiles(), None);
        let mut all = Latencies::default();
        all.add(Duration::from_micros(7));
        assert_eq!(all.clone().percentiles(), Some(Percentiles { p50: 7.0, p99: 7.0, p99_9: 7.0 }));
        let mut others = Latencies::default();
        (1..=999).rev().for_each(|micros| others.add(Duration::from_micros(1000 + micros)));
        all.extend(&others);
        let expected = Percentiles { p50: 1499.0, p99: 1989.0, p99_9: 1998.0 };
        assert_eq!(all.percentiles(), Some(expected));
    }
}
