//! Starting and stopping a server.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use runtime::running::{KILL_GRACE, Phase, wait};
use runtime::{Common, Leftovers, Metrics, Recovery, Running, ServerConfig, listen};
use smb_state::Shard;
use smb_state::config::Shared;
use smb_state::event::Admin;
use smb_state::ids::ShardId;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use crate::connection::start;
use crate::driver::{Hub, Work};
use crate::listener::{self, Arrival};
use crate::mailbox::Mailboxes;
use crate::mesh::ShardCell;
use crate::{admin, timers};

/// Starts servers.
pub struct Server;

impl Server {
    /// Binds every address and serves on threads of its own until the handle is shut down or dropped.
    ///
    /// # Errors
    /// When an address can't be bound (nothing is left running then), or the system gives no thread or reactor.
    pub fn start(config: ServerConfig) -> io::Result<ServerHandle> {
        config.cores.check()?;
        let places = config.cores.clone();
        let cores = places.count();
        let (listeners, addresses) = listen::bind_all(&config.listen, cores, &config.bounds)?;
        let runtimes: Vec<Runtime> = (0..cores)
            .map(|_| Builder::new_current_thread().enable_io().enable_time().build())
            .collect::<io::Result<_>>()?;
        let hub = Arc::new(hub(config, cores));
        if let Some((shard, event)) = hub.common.records.begin() {
            hub.run([Work::Event(shard, event)]);
            hub.common.records.wait(|| hub.common.has_failed());
        }
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..cores).map(|_| mpsc::unbounded_channel()).unzip();
        let senders: Arc<[_]> = senders.into();
        let mut handle = ServerHandle { hub, addresses, threads: Vec::new() };
        for (index, ((runtime, arrivals), listeners)) in
            runtimes.into_iter().zip(receivers).zip(listeners).enumerate()
        {
            let core = Core {
                hub: Arc::clone(&handle.hub),
                index,
                listeners,
                arrivals,
                senders: Arc::clone(&senders),
            };
            let place = places.processor(index);
            let thread = std::thread::Builder::new().name(format!("leasehold-{index}")).spawn(move || {
                place.into_iter().for_each(bind_to_processor);
                runtime.block_on(core.run());
            })?;
            handle.threads.push(thread);
        }
        Ok(handle)
    }
}

/// A thread that can't be bound serves all the same, only not where it was wanted.
fn bind_to_processor(processor: usize) {
    let mut processors = rustix::thread::CpuSet::new();
    processors.set(processor);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &processors) {
        tracing::warn!(processor, %error, "a thread is not bound to its processor");
    }
}

fn hub(config: ServerConfig, cores: usize) -> Hub {
    let (common, core) = Common::new(config, cores);
    let core = Shared::new(core);
    Hub {
        shards: (0..common.shards).map(|id| ShardCell::new(Shard::new(ShardId(id), core.clone()))).collect(),
        mailboxes: Mailboxes::new(),
        phase: watch::Sender::new(Phase::Serving),
        common,
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
            let (hub, senders) = (Arc::clone(&self.hub), Arc::clone(&self.senders));
            tokio::spawn(listener::accept(hub, self.index, listener, senders));
        }
        for shard in (self.index..self.hub.shards.len()).step_by(self.hub.common.cores.len()) {
            tokio::spawn(timers::run(
                Arc::clone(&self.hub),
                ShardId(u16::try_from(shard).unwrap_or(u16::MAX)),
            ));
        }
        let mut phase = self.hub.phase.subscribe();
        loop {
            tokio::select! {
                Some((stream, address)) = self.arrivals.recv() => match TcpStream::from_std(stream) {
                    Ok(stream) => start(&self.hub, self.index, stream, address),
                    Err(error) => {
                        self.hub.common.cores[self.index].open.take_one();
                        tracing::warn!(%error, "can't serve a connection");
                    }
                },
                // Connections that are still there are dropped with the runtime and tell the core so.
                _ = phase.wait_for(|phase| *phase == Phase::Killed) => return,
            }
        }
    }
}

/// A running server.
pub struct ServerHandle {
    hub: Arc<Hub>,
    addresses: Vec<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
}

impl Running for ServerHandle {
    fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    fn reload(&self, order: &Admin) {
        admin::order(&self.hub, order);
    }

    fn recovery(&self) -> Option<Recovery> {
        self.hub.common.records.recovery()
    }

    fn metrics(&self) -> Metrics {
        self.hub.common.metrics()
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            let mut phase = self.hub.phase.subscribe();
            // The sender is in the hub, which this handle keeps.
            let _ = phase.wait_for(|phase| *phase == Phase::Killed).await;
        })
    }

    fn has_failed(&self) -> bool {
        self.hub.common.has_failed()
    }

    fn shutdown(mut self: Box<Self>, timeout: Duration) -> Leftovers {
        self.hub.phase.send_if_modified(|phase| {
            let serving = *phase == Phase::Serving;
            if serving {
                *phase = Phase::Draining;
            }
            serving
        });
        if !self.has_failed() {
            admin::order(&self.hub, &Admin::Shutdown);
            wait(timeout, || self.metrics().connections_open == 0);
        }
        let connections = self.metrics().connections_open;
        self.stop();
        wait(KILL_GRACE, || self.hub.common.submitted.load(Ordering::Acquire) == 0);
        self.hub.common.leftovers(connections)
    }
}

impl ServerHandle {
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
