//! Starting and stopping a server.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_lite::future::yield_now;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use runtime::running::{KILL_GRACE, Phase, wait};
use runtime::{Common, Leftovers, Metrics, Recovery, Running, ServerConfig, listen};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use smb_state::Shard;
use smb_state::config::{Config, Shared};
use smb_state::event::{Admin, Event};
use smb_state::ids::ShardId;

use crate::connection::Tcp;
use crate::driver::Core;
use crate::listener::{self, io_error};
use crate::mesh::{Foreign, Hub};
use crate::{admin, files, timers};

/// Locked memory that glommio asks for, in bytes.
const MEMLOCK: u64 = 512 << 10;
/// Memory that glommio sets aside for direct file I/O, which is not used here: the least that it takes.
const IO_MEMORY: usize = 64 << 10;
/// How long tasks that always have something to do keep a core from looking at its sockets.
const LOOK_AFTER: Duration = Duration::from_millis(2);
/// glommio 0.9 can go to sleep with tasks that are ready to run: when the time of [`LOOK_AFTER`] has passed before the first
/// of them got its turn (`run_task_queues` then says that there was nothing to run, and nobody waits for that timer). A
/// timer that somebody waits for makes it look again, so this is about the longest that it oversleeps.
const HEARTBEAT: Duration = Duration::from_millis(10);
/// Tasks that take turns with the heartbeat. One that oversleeps itself can't set its next timer, so there are several.
const HEARTS: u32 = 8;
/// Items of an inlet before connections get their turn.
const BATCH: usize = 64;
/// Zero lets everybody use io_uring.
const DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";

/// Starts servers.
pub struct Server;

impl Server {
    /// Binds every address and serves on threads of its own, one executor each, until the handle is shut down or dropped.
    /// A thread without a shard would have nothing to do, so there are no more threads than shards.
    ///
    /// # Errors
    /// When an address can't be bound, io_uring or locked memory is not available (the error says which setting forbids
    /// it), or the system gives no thread. Nothing is left running then.
    pub fn start(config: ServerConfig) -> io::Result<ServerHandle> {
        allow_locked_memory()?;
        config.cores.check()?;
        let places = config.cores.clone();
        let cores = places.count().min(usize::from(config.core.shards.max(1)));
        let (listeners, addresses) = listen::bind_all(&config.listen, cores, &config.bounds)?;
        let seconds = listeners.iter().flatten().map(std::net::TcpListener::try_clone);
        let seconds = seconds.collect::<io::Result<Vec<_>>>()?;
        let (common, core) = Common::new(config, cores);
        let shared = Shared::new(core);
        let hub = Arc::new(Hub::new(common, seconds));
        let mut handle = ServerHandle { hub, addresses, threads: Vec::new() };
        let (ready, started) = channel();
        for (index, listeners) in listeners.into_iter().enumerate() {
            let (hub, shared, ready) = (Arc::clone(&handle.hub), shared.clone(), ready.clone());
            let place = places.processor(index).map_or(Placement::Unbound, Placement::Fixed);
            let thread = std::thread::Builder::new()
                .name(format!("leasehold-{index}"))
                .spawn(move || live(&hub, index, place, shared, listeners, ready))?;
            handle.threads.push(thread);
        }
        drop(ready);
        for _ in 0..cores {
            // A thread that ends without a word has panicked.
            started.recv().unwrap_or_else(|_| Err(io::Error::other("a core's thread failed")))?;
        }
        let hub = &handle.hub;
        if let Some((shard, event)) = hub.common.records.begin() {
            hub.post(hub.core_of(shard), Foreign::Event(shard, event, None));
            hub.common.records.wait(|| hub.common.has_failed());
        }
        Ok(handle)
    }
}

/// Whether the system lets glommio run, found out by starting an executor and ending it.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] and the setting that forbids it, as a sentence about glommio.
pub fn available() -> io::Result<()> {
    allow_locked_memory()?;
    let made = std::thread::Builder::new().name("leasehold-probe".into()).spawn(|| {
        let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(IO_MEMORY).make();
        executor.map(drop).map_err(|error| unavailable(io_error(error), io_uring_disabled()))
    })?;
    made.join().unwrap_or_else(|_| Err(io::Error::other("an executor of glommio panicked")))
}

/// The life of a core's thread.
fn live(
    hub: &Arc<Hub>,
    index: usize,
    place: Placement,
    shared: Shared<Config>,
    listeners: Vec<std::net::TcpListener>,
    ready: Sender<io::Result<()>>,
) {
    let executor = LocalExecutorBuilder::new(place)
        .name("leasehold")
        .io_memory(IO_MEMORY)
        .preempt_timer(LOOK_AFTER)
        .make();
    let _closing = Closing { hub, index };
    let executor = match executor {
        Ok(executor) => executor,
        Err(error) => {
            // The receiver waits for every core.
            let _ = ready.send(Err(unavailable(io_error(error), io_uring_disabled())));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    drop(ready);
    // Before the executor is gone, whatever happens, file I/O is over.
    let files = files::attach();
    executor.run(async {
        if let Err(error) = files.serve() {
            tracing::warn!(%error, "file I/O that has to wait goes to threads");
        }
        let shards = (index..usize::from(hub.common.shards))
            .step_by(hub.common.cores.len())
            .map(|id| ShardId(u16::try_from(id).unwrap_or(u16::MAX)))
            .map(|id| (id, Shard::new(id, shared.clone())))
            .collect();
        serve(Core::new(Arc::clone(hub), index, shards), listeners).await;
        files.close();
        // Those who served it have their last turn.
        yield_now().await;
    });
}

/// Closes a core's inlet when its thread ends, however it ends: nobody shall wait for it.
struct Closing<'a> {
    hub: &'a Arc<Hub>,
    index: usize,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.hub.fail();
        }
        self.hub.close(self.index);
    }
}

/// A core's main task: starts the others, and deals with what is left in the core's inlet.
async fn serve(core: Rc<Core>, listeners: Vec<std::net::TcpListener>) {
    for listener in listeners {
        glommio::spawn_local(listener::accept(Rc::clone(&core), listener)).detach();
    }
    let timers: Vec<_> = (0..core.shards().len())
        .map(|index| glommio::spawn_local(timers::run(Rc::clone(&core), index)))
        .collect();
    let hearts: Vec<_> = (1..=HEARTS).map(|number| glommio::spawn_local(beat(number))).collect();
    let mut items = Vec::new();
    let mut ended = false;
    while !ended {
        poll_fn(|context| core.hub.inlet(core.index).poll_take(context, &mut items, BATCH)).await;
        let count = items.len();
        for item in items.drain(..) {
            ended |= matches!(item, Foreign::End);
            on_foreign(&core, item);
        }
        core.hub.finished(count);
        yield_now().await;
    }
    for task in hearts.into_iter().chain(timers) {
        task.cancel().await;
    }
}

async fn beat(number: u32) {
    Timer::new(HEARTBEAT * number).await;
    loop {
        Timer::new(HEARTBEAT * HEARTS).await;
    }
}

fn on_foreign(core: &Rc<Core>, item: Foreign) {
    match item {
        Foreign::Event(shard, event, errand) => core.run_for(errand, [(shard, event)]),
        Foreign::Output(connection, output, errand) => core.post_output(connection, output, errand.as_ref()),
        Foreign::Order(shard, order, done) => {
            core.run([(shard, Event::Admin(order))]);
            drop(done);
        }
        Foreign::Arrival(stream, address) => match core.hub.phase() {
            Phase::Killed => core.hub.common.cores[core.index].open.take_one(),
            Phase::Serving | Phase::Draining => listener::start(core, Tcp::new(stream), address),
        },
        Foreign::Kill => core.mailboxes.kill_all(),
        Foreign::End => {}
    }
}

/// Takes as much locked memory as glommio wants, if the hard limit allows it.
fn allow_locked_memory() -> io::Result<()> {
    let limit = getrlimit(Resource::Memlock);
    let enough = |limit: Option<u64>| limit.is_none_or(|bytes| bytes >= MEMLOCK);
    if enough(limit.current) {
        return Ok(());
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if enough(limit.maximum) && setrlimit(Resource::Memlock, raised).is_ok() {
        return Ok(());
    }
    let allowed = limit.maximum.unwrap_or_default() >> 10;
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!(
            "it needs {} KiB of locked memory, and {allowed} KiB are allowed: raise the limit \"memlock\" (`ulimit -l`, \
             limits.conf, or LimitMEMLOCK= in a systemd unit)",
            MEMLOCK >> 10
        ),
    ))
}

/// Says why there is no ring. `disabled` is what [`DISABLED`] holds.
fn unavailable(error: io::Error, disabled: u32) -> io::Error {
    let cause = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::NOSYS) if disabled > 0 => {
            format!("the sysctl kernel.io_uring_disabled is {disabled}, and 0 would allow it")
        }
        Some(Errno::PERM) => {
            "a seccomp filter forbids it (a container's profile, or SystemCallFilter= in a systemd unit)"
                .into()
        }
        Some(Errno::NOSYS) => "the kernel has none, or a seccomp filter hides it".into(),
        Some(Errno::NOMEM) => {
            "there is too little locked memory for every core: raise the limit \"memlock\" (`ulimit -l`)"
                .into()
        }
        _ => return io::Error::new(error.kind(), format!("starting an executor of glommio: {error}")),
    };
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("it needs io_uring, which is not available ({error}): {cause}"),
    )
}

fn io_uring_disabled() -> u32 {
    std::fs::read_to_string(DISABLED).map_or(0, |text| text.trim().parse().unwrap_or(0))
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
        Box::pin(poll_fn(|context| self.hub.poll_killed(context)))
    }

    fn has_failed(&self) -> bool {
        self.hub.common.has_failed()
    }

    fn shutdown(mut self: Box<Self>, timeout: Duration) -> Leftovers {
        self.hub.advance(Phase::Draining);
        if !self.has_failed() {
            admin::order(&self.hub, &Admin::Shutdown);
            wait(timeout, || self.metrics().connections_open == 0);
        }
        let connections = self.metrics().connections_open;
        self.stop();
        self.hub.common.leftovers(connections)
    }
}

impl ServerHandle {
    /// Ends every connection now, and every thread as soon as nothing moves any more.
    fn stop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        self.hub.advance(Phase::Killed);
        wait(KILL_GRACE, || self.hub.is_quiet());
        self.hub.tell_all(|| Foreign::End);
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
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_setting() {
        let said = |code: Errno, disabled| unavailable(code.into(), disabled).to_string();
        assert!(said(Errno::PERM, 2).contains("kernel.io_uring_disabled is 2"));
        assert!(said(Errno::PERM, 0).contains("seccomp"));
        assert!(said(Errno::NOSYS, 0).contains("the kernel has none"));
        assert!(said(Errno::NOMEM, 0).contains("\"memlock\""));
        assert!(!said(Errno::MFILE, 0).contains("io_uring"));
    }

    #[test]
    fn this_machine_lets_it_run() {
        available().unwrap();
    }
}
