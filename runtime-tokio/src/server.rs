//! Starting and stopping a server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use smb_state::Shard;
use smb_state::config::Shared;
use smb_state::endpoint::{EndpointOptions, KeyRing};
use smb_state::event::Admin;
use smb_state::ids::ShardId;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use crate::config::ServerConfig;
use crate::driver::Hub;
use crate::listener::{self, Arrival};
use crate::mailbox::Mailboxes;
use crate::mesh::ShardCell;
use crate::metrics::{self, CoreCounters, Metrics};
use crate::payloads::Payloads;
use crate::{admin, connection, timers};

/// Pause between two looks at what a shutdown still waits for.
const SHUTDOWN_LOOK: Duration = Duration::from_millis(5);
/// What a shutdown still waits for after its timeout, when connections have been told to go at once.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// How far a server's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It accepts and serves.
    Serving,
    /// It accepts no more and lets connections end.
    Draining,
    /// Everything ends now.
    Killed,
}

/// Starts servers.
pub struct Server;

impl Server {
    /// Binds every address and serves on threads of its own until the handle is shut down or dropped.
    ///
    /// # Errors
    /// When an address can't be bound (nothing is left running then), or the system gives no thread or reactor.
    pub fn start(config: ServerConfig) -> io::Result<ServerHandle> {
        let cores = config.cores.max(1);
        let listeners: Vec<Vec<std::net::TcpListener>> =
            config.listen.iter().map(|address| listener::bind(*address, cores)).collect::<io::Result<_>>()?;
        let addresses = listeners
            .iter()
            .flat_map(|of| of.first())
            .map(|one| one.local_addr())
            .collect::<io::Result<_>>()?;
        let runtimes: Vec<Runtime> = (0..cores)
            .map(|_| Builder::new_current_thread().enable_io().enable_time().build())
            .collect::<io::Result<_>>()?;
        let hub = Arc::new(hub(config, cores));
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..cores).map(|_| mpsc::unbounded_channel()).unzip();
        let senders: Arc<[_]> = senders.into();
        let mut per_core: Vec<Vec<std::net::TcpListener>> = (0..cores).map(|_| Vec::new()).collect();
        for of_address in listeners {
            for (core, listener) in of_address.into_iter().enumerate() {
                per_core[core].push(listener);
            }
        }
        let mut handle = ServerHandle { hub, addresses, threads: Vec::new() };
        for (index, ((runtime, arrivals), listeners)) in
            runtimes.into_iter().zip(receivers).zip(per_core).enumerate()
        {
            let core = Core {
                hub: Arc::clone(&handle.hub),
                index,
                listeners,
                arrivals,
                senders: Arc::clone(&senders),
            };
            let thread = std::thread::Builder::new()
                .name(format!("leasehold-{index}"))
                .spawn(move || runtime.block_on(core.run()))?;
            handle.threads.push(thread);
        }
        Ok(handle)
    }
}

fn hub(config: ServerConfig, cores: usize) -> Hub {
    let shards = config.core.shards.max(1);
    let endpoint_options = EndpointOptions {
        names: config.names,
        unauthenticated_frame_max: config.core.limits.unauthenticated_frame_max,
    };
    let core = Shared::new(config.core);
    Hub {
        shards: (0..shards).map(|id| ShardCell::new(Shard::new(ShardId(id), core.clone()))).collect(),
        mailboxes: Mailboxes::new(),
        buffers: Payloads::default(),
        volumes: config.volumes,
        users: config.users,
        keys: KeyRing::default(),
        provider: config.provider,
        endpoint_options,
        bounds: config.bounds,
        cores: (0..cores).map(|_| CoreCounters::default()).collect(),
        phase: watch::Sender::new(Phase::Serving),
        next_connection: AtomicU64::new(1),
        unauthenticated_bytes: AtomicUsize::new(0),
        submitted: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
    }
}

/// One core's thread.
struct Core {
    hub: Arc<Hub>,
    index: usize,
    listeners: Vec<std::net::TcpListener>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    senders: Arc<[mpsc::UnboundedSender<Arrival>]>,
}

impl Core {
    async fn run(mut self) {
        for listener in self.listeners.drain(..) {
            tokio::spawn(listener::accept(Arc::clone(&self.hub), listener, Arc::clone(&self.senders)));
        }
        for shard in (self.index..self.hub.shards.len()).step_by(self.hub.cores.len()) {
            tokio::spawn(timers::run(
                Arc::clone(&self.hub),
                ShardId(u16::try_from(shard).unwrap_or(u16::MAX)),
            ));
        }
        let mut phase = self.hub.phase.subscribe();
        loop {
            tokio::select! {
                Some((stream, address)) = self.arrivals.recv() => {
                    let open = Open { hub: Arc::clone(&self.hub), core: self.index };
                    match TcpStream::from_std(stream) {
                        Ok(stream) => drop(tokio::spawn(async move {
                            connection::serve(Arc::clone(&open.hub), open.core, stream, address).await;
                            drop(open);
                        })),
                        Err(error) => tracing::warn!(%error, "can't serve a connection"),
                    }
                }
                // Connections that are still there are dropped with the runtime and tell the core so.
                _ = phase.wait_for(|phase| *phase == Phase::Killed) => return,
            }
        }
    }
}

/// Counts a connection as open.
struct Open {
    hub: Arc<Hub>,
    core: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.hub.cores[self.core].open.take_one();
    }
}

/// A running server. Dropping it stops the server without waiting for its clients.
pub struct ServerHandle {
    hub: Arc<Hub>,
    addresses: Vec<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
}

/// What was left when a server stopped. All zero unless the timeout was too short or something is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Connections that were cut off.
    pub connections: u64,
    /// Storage requests that were not answered.
    pub storage_requests: usize,
    /// Payloads that nobody gave back.
    pub buffers: usize,
}

impl ServerHandle {
    /// The addresses that are listened on, with real ports, in the order of [`ServerConfig::listen`].
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Gives an order to every shard: new shares, new limits, end a session. Returns when all have carried it out.
    pub fn reload(&self, order: &Admin) {
        admin::order(&self.hub, order);
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        metrics::sum(&self.hub.cores)
    }

    /// Waits until the server can't go on because a step panicked; then only shutting down is left.
    pub async fn failed(&self) {
        let mut phase = self.hub.phase.subscribe();
        // The sender is in the hub, which this handle keeps.
        let _ = phase.wait_for(|phase| *phase == Phase::Killed).await;
    }

    /// Whether [`Self::failed`] would return.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.hub.failed.load(Ordering::Relaxed)
    }

    /// Stops accepting, lets every connection send its responses and end, and cuts off what is left after `timeout`.
    pub fn shutdown(mut self, timeout: Duration) -> Leftovers {
        self.hub.phase.send_if_modified(|phase| {
            let serving = *phase == Phase::Serving;
            if serving {
                *phase = Phase::Draining;
            }
            serving
        });
        if !self.has_failed() {
            admin::order(&self.hub, &Admin::Shutdown);
            self.wait(timeout, |hub| metrics::sum(&hub.cores).connections_open == 0);
        }
        let connections = self.metrics().connections_open;
        self.stop();
        self.wait(KILL_GRACE, |hub| hub.submitted.load(Ordering::Acquire) == 0);
        let leftovers = Leftovers {
            connections,
            storage_requests: self.hub.submitted.load(Ordering::Acquire),
            buffers: self.hub.buffers.outstanding(),
        };
        debug_assert!(
            self.has_failed() || leftovers.storage_requests > 0 || leftovers.buffers == 0,
            "payloads leaked: {leftovers:?}"
        );
        leftovers
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&Hub) -> bool) {
        let deadline = Instant::now() + timeout;
        while !done(&self.hub) && Instant::now() < deadline {
            std::thread::sleep(SHUTDOWN_LOOK);
        }
    }

    /// Ends every connection and thread now.
    fn stop(&mut self) {
        self.hub.phase.send_replace(Phase::Killed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a server thread panicked");
            }
        }
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
pub(crate) fn hub_for_tests() -> Arc<Hub> {
    use smb_proto::auth::AcceptorConfig;
    use smb_proto::command::negotiate::Dialect;
    use smb_state::endpoint::surroundings::{Lookup, Users};
    use smb_state::event::{Identity, Peer};

    struct Nobody;

    impl Users for Nobody {
        fn look_up(&self, _: &str, _: &str, _: Peer) -> Lookup {
            Lookup::Unknown
        }

        fn record(&self, _: &str, _: Peer, _: bool) {}

        fn anonymous(&self) -> Option<Identity> {
            None
        }
    }

    let config = ServerConfig {
        listen: Vec::new(),
        core: smb_state::config::Config {
            server_guid: [1; 16],
            incarnation: 1,
            shards: 1,
            dialects: (Dialect::SMB_2_0_2, Dialect::SMB_3_1_1),
            signers: Vec::new(),
            ciphers: Vec::new(),
            signing_required: true,
            encryption: smb_state::config::Encryption::Possible,
            limits: smb_state::config::Limits::default(),
            shares: Vec::new(),
            interfaces: Vec::new(),
        },
        names: AcceptorConfig {
            netbios_computer: "TEST".into(),
            netbios_domain: "TEST".into(),
            dns_computer: "test".into(),
            dns_domain: "test".into(),
        },
        volumes: Arc::new(storage::table::VolumeTable::new()),
        users: Arc::new(Nobody),
        provider: Arc::new(smb_proto::crypto::Portable),
        cores: 1,
        bounds: crate::config::Bounds::default(),
    };
    Arc::new(hub(config, 1))
}
