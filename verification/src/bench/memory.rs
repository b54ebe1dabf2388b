//! What connections cost that do nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use super::bed::Bed;
use crate::client::Protection;

/// Name of the row.
pub(super) const ROW_NAME: &str = "idle-connections";
/// How long servers have to settle before they are measured.
const SETTLE: Duration = Duration::from_millis(1500);
/// Descriptors that are needed beside those of the connections.
const OTHER_DESCRIPTORS: u64 = 256;

/// Memory of a server with idle connections. Each has a session and a tree connect.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Idle {
    /// Connections.
    pub(super) connections: u32,
    /// Bytes without them.
    pub(super) before: u64,
    /// Bytes with them.
    pub(super) with: u64,
    /// Processes with them.
    pub(super) processes: usize,
}

impl Idle {
    /// Bytes of one connection.
    pub(super) fn per_connection(&self) -> f64 {
        self.with.saturating_sub(self.before) as f64 / f64::from(self.connections)
    }
}

/// Raises the limit of open files as far as it is needed, for this process and the servers that it starts.
pub(super) fn allow_connections(count: u64) -> Result<()> {
    let wanted = count * 2 + OTHER_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= wanted),
        "{count} connections need {wanted} open files, and the limit can't be raised that far"
    );
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })?)
}

/// Holds connections open and looks at the server.
pub(super) fn measure(bed: &Bed, connections: u32) -> Result<Idle> {
    std::thread::sleep(SETTLE);
    let before = bed.accounting.memory()?;
    let held = (0..connections).map(|_| bed.connect_tree(Protection::Signed)).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(SETTLE);
    let with = bed.accounting.memory()?;
    let processes = bed.accounting.process_count()?;
    drop(held);
    Ok(Idle { connections, before, with, processes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_per_connection_is_the_difference() {
        let idle = Idle { connections: 1000, before: 5_000_000, with: 25_000_000, processes: 1 };
        assert_eq!(idle.per_connection(), 20_000.0);
        assert_eq!(Idle { with: 4_000_000, ..idle }.per_connection(), 0.0);
    }
}
