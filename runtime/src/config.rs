//! What a server is started with.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::storage::store::HandleStore;
use ::storage::table::VolumeTable;
use rustix::thread::CpuSet;
use smb_proto::auth::AcceptorConfig;
use smb_proto::crypto::Provider;
use smb_state::config::Config;
use smb_state::endpoint::surroundings::Users;

/// Everything that starting a server needs.
pub struct ServerConfig {
    /// Addresses to listen on; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// The core's configuration.
    pub core: Config,
    /// The names that NTLM tells clients.
    pub names: AcceptorConfig,
    /// The volumes behind the shares. Volumes may be added while the server runs.
    pub volumes: Arc<VolumeTable>,
    /// Who may log on.
    pub users: Arc<dyn Users + Send + Sync>,
    /// Signing and encryption.
    pub provider: Arc<dyn Provider>,
    /// Threads that serve connections.
    pub cores: Cores,
    /// What one connection may cost.
    pub bounds: Bounds,
    /// Where records of persistent opens are kept; without it no share is continuously available.
    pub store: Option<Arc<dyn HandleStore>>,
}

/// The threads that serve connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// So many (at least one), wherever the system puts them.
    Count(usize),
    /// One on each of these processors, by the system's numbers.
    Pinned(Vec<usize>),
}

impl Cores {
    /// How many there are; at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Count(count) => *count,
            Self::Pinned(processors) => processors.len(),
        }
        .max(1)
    }

    /// Whether this process may run on all processors that are named.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] and the first that it may not run on.
    pub fn check(&self) -> io::Result<()> {
        let Self::Pinned(processors) = self else { return Ok(()) };
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let missing = |processor: &&usize| **processor >= CpuSet::MAX_CPU || !allowed.is_set(**processor);
        match processors.iter().find(missing) {
            None => Ok(()),
            Some(processor) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("there is no processor {processor} that this process may use"),
            )),
        }
    }

    /// The processor of the thread with this index, if it is bound to one.
    #[must_use]
    pub fn processor(&self, index: usize) -> Option<usize> {
        match self {
            Self::Count(_) => None,
            Self::Pinned(processors) => processors.get(index).copied(),
        }
    }
}

/// What connections may cost in memory and time, beyond the core's own limits.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// A connection with more bytes than this waiting to be sent is not read from.
    pub unsent_max: usize,
    /// Bytes that all connections together may hold of unfinished frames before they are authenticated. A connection
    /// that would need more is closed.
    pub unauthenticated_bytes_max: usize,
    /// Frames of one connection before the others get their turn; large ones, and those that move much, count as several.
    pub frames_per_turn: usize,
    /// How long a peer may take nothing of what is sent to it.
    pub write_timeout: Duration,
    /// How long a silent peer goes unprobed (TCP keep-alive).
    pub keep_alive: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            unsent_max: 16 << 20,
            unauthenticated_bytes_max: 32 << 20,
            frames_per_turn: 32,
            write_timeout: Duration::from_secs(60),
            keep_alive: Duration::from_secs(60),
        }
    }
}
