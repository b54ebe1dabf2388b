//! What one run of a workload against one server came to.

use std::time::Duration;

use serde::Serialize;

use super::latency::Latencies;
use crate::client::{Negotiated, Protection};

/// Bytes of a GiB.
pub(super) const GIB: f64 = (1_u64 << 30) as f64;
/// Bytes of a MiB.
const MIB: f64 = (1_u64 << 20) as f64;

/// Counted in one run.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// From the first request to the last response.
    pub(super) elapsed: Duration,
    /// Operations done.
    pub(super) operations: u64,
    /// Bytes of files moved.
    pub(super) bytes: u64,
    /// Processor time of the server's processes.
    pub(super) server: Duration,
    /// Processor time of the client: when it comes near `elapsed` times the processors left, it is the bottleneck.
    pub(super) client: Duration,
    /// How long each operation took.
    pub(super) latencies: Latencies,
    /// What client and server agreed on.
    pub(super) link: Link,
}

impl Sample {
    /// MiB per second, or operations per second.
    pub(super) fn rate(&self, counts_bytes: bool) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if counts_bytes { self.bytes as f64 / MIB / seconds } else { self.operations as f64 / seconds }
    }

    /// Processor seconds of the server per GiB, or per 100 000 operations.
    pub(super) fn cost(&self, counts_bytes: bool) -> f64 {
        let amount = if counts_bytes { self.bytes as f64 / GIB } else { self.operations as f64 / 100_000.0 };
        self.server.as_secs_f64() / amount
    }
}

/// How a connection speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Link {
    /// The dialect.
    pub(super) dialect: String,
    /// The signer negotiated.
    pub(super) signer: String,
    /// The cipher negotiated.
    pub(super) cipher: Option<String>,
}

impl Link {
    /// What was negotiated.
    pub(super) fn of(negotiated: &Negotiated) -> Self {
        Self {
            dialect: negotiated.dialect.to_string(),
            signer: format!("{:?}", negotiated.signer),
            cipher: negotiated.cipher.map(|cipher| format!("{cipher:?}")),
        }
    }

    /// What of it protects the requests.
    pub(super) fn describe(&self, protection: Protection) -> String {
        let with = match protection {
            Protection::Plain => "plain",
            Protection::Signed => &self.signer,
            Protection::Encrypted => self.cipher.as_deref().unwrap_or("no cipher"),
        };
        format!("{}, {with}", self.dialect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_costs_are_per_time_and_per_amount() {
        let sample = Sample {
            elapsed: Duration::from_millis(500),
            operations: 50_000,
            bytes: 2 << 30,
            server: Duration::from_secs(1),
            client: Duration::ZERO,
            latencies: Latencies::default(),
            link: Link { dialect: "3.1.1".into(), signer: "AesGmac".into(), cipher: None },
        };
        assert_eq!(sample.rate(true), 4096.0);
        assert_eq!(sample.cost(true), 0.5);
        assert_eq!(sample.rate(false), 100_000.0);
        assert_eq!(sample.cost(false), 2.0);
        assert_eq!(sample.link.describe(Protection::Signed), "3.1.1, AesGmac");
        assert_eq!(sample.link.describe(Protection::Encrypted), "3.1.1, no cipher");
    }
}
