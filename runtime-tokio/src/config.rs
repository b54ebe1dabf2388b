//! What a server is started with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use smb_proto::auth::AcceptorConfig;
use smb_proto::crypto::Provider;
use smb_state::config::Config;
use smb_state::endpoint::surroundings::Users;
use storage::table::VolumeTable;

/// Everything that [`crate::Server::start`] needs.
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
    /// Threads that serve connections; at least one.
    pub cores: usize,
    /// What one connection may cost.
    pub bounds: Bounds,
}

/// What connections may cost in memory and time, beyond the core's own limits.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// A connection with more bytes than this waiting to be sent is not read from.
    pub unsent_max: usize,
    /// Bytes that all connections together may hold of unfinished frames before they are authenticated. A connection
    /// that would need more is closed.
    pub unauthenticated_bytes_max: usize,
    /// Frames of one connection before the others get their turn.
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
