//! What connections cost that do nothing.

use std::time::{Duration, Instant};

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
pub(super) const OTHER_DESCRIPTORS: u64 = 256;

/// Memory of a server with idle connections. Each has a session and a tree connect.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Idle {
    /// Connections.
    pub(super) connections: u32,
    /// Connections that there should have been.
    pub(super) wanted: u32,
    /// Why there are fewer.
    pub(super) given_up: Option<String>,
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

/// Raises the limit of open files towards `wanted`, for this process and the servers that it starts. Returns how many may be
/// open then: only root, with the capability SYS_RESOURCE, may go above the hard limit.
pub(super) fn allow_files(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let allowed = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    if allowed(limit.current) >= wanted {
        return allowed(limit.current);
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    if setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok() {
        return wanted;
    }
    let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, most) {
        Ok(()) => allowed(limit.maximum),
        Err(_) => allowed(limit.current),
    }
}

/// Sees to it that so many connections can be open.
///
/// # Errors
/// The system does not let this process have as many.
pub(super) fn allow_connections(count: u32) -> Result<()> {
    let wanted = u64::from(count) + OTHER_DESCRIPTORS;
    let allowed = allow_files(wanted);
    ensure!(
        allowed >= wanted,
        "{count} connections need {wanted} open files and only {allowed} are allowed: raise the hard limit (`ulimit -Hn`, \
         limits.conf) or ask for fewer"
    );
    Ok(())
}

/// Holds connections open and looks at the server. It is content with those that there are when the server grants no more, or
/// has not granted them after `patience`.
pub(super) fn measure(bed: &Bed, connections: u32, patience: Duration) -> Result<Idle> {
    std::thread::sleep(SETTLE);
    let before = bed.accounting.memory()?;
    let until = Instant::now() + patience;
    let mut held = Vec::new();
    let mut given_up = None;
    while held.len() < connections as usize && given_up.is_none() {
        match bed.connect_tree(Protection::Signed) {
            Ok(connected) => held.push(connected),
            Err(error) if held.is_empty() => return Err(error),
            Err(error) => given_up = Some(format!("{error:#}")),
        }
        if Instant::now() > until && held.len() < connections as usize {
            given_up = Some(format!("no more in {patience:?}"));
        }
    }
    std::thread::sleep(SETTLE);
    let with = bed.accounting.memory()?;
    let processes = bed.accounting.process_count()?;
    Ok(Idle { connections: held.len() as u32, wanted: connections, given_up, before, with, processes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_per_connection_is_the_difference() {
        let idle = Idle {
            connections: 1000,
            wanted: 1000,
            given_up: None,
            before: 5_000_000,
            with: 25_000_000,
            processes: 1,
        };
        assert_eq!(idle.per_connection(), 20_000.0);
        assert_eq!(Idle { with: 4_000_000, ..idle.clone() }.per_connection(), 0.0);
    }
}
