//! What every task of a server shares, whatever runs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use ::storage::table::VolumeTable;
use smb_proto::crypto::Provider;
use smb_state::action::Output;
use smb_state::config::Config;
use smb_state::endpoint::surroundings::{Buffers, Users};
use smb_state::endpoint::{EndpointOptions, KeyRing};
use smb_state::event::Event;
use smb_state::storage::StorageReply;

use crate::config::{Bounds, ServerConfig};
use crate::metrics::{self, CoreCounters, Metrics};
use crate::payloads::Payloads;
use crate::records::Records;
use crate::running::Leftovers;

/// The part of a server that is the same under every runtime.
pub struct Common {
    /// Payloads that the core knows by number.
    pub buffers: Payloads,
    /// The drivers.
    pub volumes: Arc<VolumeTable>,
    /// Who may log on.
    pub users: Arc<dyn Users + Send + Sync>,
    /// The keys of all sessions, for their further connections.
    pub keys: KeyRing,
    /// Signing and encryption.
    pub provider: Arc<dyn Provider>,
    /// What endpoints are made with.
    pub endpoint_options: EndpointOptions,
    /// What connections may cost.
    pub bounds: Bounds,
    /// Each core's counters.
    pub cores: Box<[CoreCounters]>,
    /// How many shards there are; at least one.
    pub shards: u16,
    /// The number of the next connection.
    pub next_connection: AtomicU64,
    /// Memory of unfinished frames of unauthenticated connections.
    pub unauthenticated_bytes: AtomicUsize,
    /// Storage requests under way.
    pub submitted: AtomicUsize,
    /// A step panicked.
    pub failed: AtomicBool,
    /// Records of persistent opens.
    pub records: Records,
}

impl Common {
    /// The common part of a server on `cores` threads, and the core's configuration.
    #[must_use]
    pub fn new(mut config: ServerConfig, cores: usize) -> (Self, Config) {
        if config.store.is_none() {
            // What has no store is not offered.
            for share in &mut config.core.shares {
                share.continuous_availability = None;
            }
        }
        let endpoint_options = EndpointOptions {
            names: config.names,
            unauthenticated_frame_max: config.core.limits.unauthenticated_frame_max,
        };
        let common = Self {
            buffers: Payloads::default(),
            volumes: config.volumes,
            users: config.users,
            keys: KeyRing::default(),
            provider: config.provider,
            endpoint_options,
            bounds: config.bounds,
            cores: (0..cores).map(|_| CoreCounters::default()).collect(),
            shards: config.core.shards.max(1),
            next_connection: AtomicU64::new(1),
            unauthenticated_bytes: AtomicUsize::new(0),
            submitted: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            records: Records::new(config.store, config.core.shards),
        };
        (common, config.core)
    }

    /// The counters' sums.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        metrics::sum(&self.cores)
    }

    /// Whether a step panicked.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// What is left of a server that has stopped and had `connections` to cut off.
    #[must_use]
    pub fn leftovers(&self, connections: u64) -> Leftovers {
        let leftovers = Leftovers {
            connections,
            storage_requests: self.submitted.load(Ordering::Acquire),
            buffers: self.buffers.outstanding(),
        };
        debug_assert!(
            self.has_failed() || leftovers.storage_requests > 0 || leftovers.buffers == 0,
            "payloads leaked: {leftovers:?}"
        );
        leftovers
    }

    /// The core with the fewest connections; `here`, if it has no more than any other.
    #[must_use]
    pub fn idlest_core(&self, here: usize) -> usize {
        (0..self.cores.len()).min_by_key(|core| (self.cores[*core].open.get(), *core != here)).unwrap_or(here)
    }

    /// Gives up an output that nobody will send.
    pub fn discard(&self, output: Output) {
        match output {
            Output::Respond(responses) => {
                for buffer in responses.iter().filter_map(|response| response.body.buffer()) {
                    self.buffers.release(buffer);
                }
            }
            Output::Authenticate { token, .. } | Output::Bind { token, .. } => self.buffers.release(token),
            Output::Notify(_)
            | Output::Negotiated(_)
            | Output::ContinueHash { .. }
            | Output::VerifyBind { .. }
            | Output::DropAuthentication { .. }
            | Output::InstallKeys { .. }
            | Output::DropKeys { .. }
            | Output::Disconnect => {}
        }
    }

    /// Gives up an event that no shard will take any more, which happens only to answers of storage after the end.
    pub fn discard_event(&self, event: Event) {
        if let Event::Completed { reply, .. } = event {
            let _: StorageReply<()> = reply.map_buffer(|buffer| self.buffers.release(buffer));
        }
    }
}
