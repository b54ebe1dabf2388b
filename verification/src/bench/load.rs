//! Loads a server with several connections at once for a given time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use smb_proto::command::{FileId, Request};

use super::accounting::Accounting;
use super::bed::Bed;
use super::latency::Latencies;
use super::sample::{Link, Sample};
use super::workload::Case;
use crate::client::{Connection, Protection, Reply, Tree};

/// What a worker did.
#[derive(Debug, Clone, Default)]
pub(super) struct Count {
    operations: u64,
    bytes: u64,
    latencies: Latencies,
}

impl Count {
    /// One more operation, which moved `bytes` and was begun at that time.
    pub(super) fn add(&mut self, bytes: u64, begun: Instant) {
        self.operations += 1;
        self.bytes += bytes;
        self.latencies.add(begun.elapsed());
    }

    /// Several operations more, which went together.
    pub(super) fn add_many(&mut self, operations: u64, begun: Instant) {
        self.operations += operations;
        self.latencies.add(begun.elapsed());
    }

    /// MiB that were moved.
    pub(super) fn mebibytes(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 20)
    }

    fn merge(&mut self, other: &Self) {
        self.operations += other.operations;
        self.bytes += other.bytes;
        self.latencies.extend(&other.latencies);
    }
}

/// Opens for all workers at once, when each is connected, and closes when time is over.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    failed: bool,
    opened: bool,
}

impl Gate {
    /// One that has been open and closed again.
    #[cfg(test)]
    pub(super) fn closed() -> Self {
        let gate = Self::default();
        gate.close();
        gate.open();
        gate
    }

    /// Waits until it opens. Every worker calls this once, when it has what it needs.
    pub(super) fn wait(&self) {
        let mut state = self.state();
        state.waiting += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.opened));
    }

    /// A worker can't go on. The others are let through a closed gate, so that all end.
    fn fail(&self) {
        self.close();
        self.state().failed = true;
        self.changed.notify_all();
    }

    /// Waits until all workers wait, or one failed; after that, [`Self::open`] lets them go.
    fn wait_for_workers(&self, count: usize) {
        drop(self.changed.wait_while(self.state(), |state| state.waiting < count && !state.failed));
    }

    fn open(&self) {
        self.state().opened = true;
        self.changed.notify_all();
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is time left.
    pub(super) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed)
    }

    /// Keeps `depth` requests under way until it closes, then waits for their responses. `complete` says how many bytes a
    /// response moved.
    pub(super) fn run(
        &self,
        connection: &mut Connection,
        depth: usize,
        mut submit: impl FnMut(&mut Connection) -> Result<u64>,
        mut complete: impl FnMut(Reply) -> Result<u64>,
    ) -> Result<Count> {
        let mut count = Count::default();
        let mut begun = BTreeMap::new();
        self.wait();
        for _ in 0..depth {
            let id = submit(connection)?;
            begun.insert(id, Instant::now());
        }
        while connection.outstanding() > 0 {
            let reply = connection.receive()?;
            let since = begun.remove(&reply.header.message_id).context("an answer to nothing")?;
            count.add(complete(reply)?, since);
            if self.is_open() {
                let id = submit(connection)?;
                begun.insert(id, Instant::now());
            }
        }
        Ok(count)
    }
}

/// Requests and compounds under way, for workers whose operations take several.
#[derive(Debug)]
pub(super) struct Slots {
    /// By the message id of the last request of each.
    under_way: BTreeMap<u64, Slot>,
    /// What was answered last.
    last: Slot,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    file_id: FileId,
    begun: Instant,
}

impl Slots {
    /// None.
    pub(super) fn new() -> Self {
        let last = Slot { file_id: FileId::default(), begun: Instant::now() };
        Self { under_way: BTreeMap::new(), last }
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// The first request of an operation is under way.
    pub(super) fn begin(&mut self, message_id: u64) {
        self.under_way.insert(message_id, Slot { file_id: FileId::default(), begun: Instant::now() });
    }

    /// A further request of the operation that was answered last is under way, on this open.
    pub(super) fn go_on(&mut self, message_id: u64, file_id: FileId) {
        self.under_way.insert(message_id, Slot { file_id, ..self.last });
    }

    /// A request was answered. False if no operation waited for it.
    pub(super) fn end(&mut self, message_id: u64) -> bool {
        match self.under_way.remove(&message_id) {
            Some(slot) => {
                self.last = slot;
                true
            }
            None => false,
        }
    }

    /// What was answered last among others goes on here.
    pub(super) fn last_of(&mut self, others: &Self) {
        self.last = others.last;
    }

    /// The open of the operation that was answered last.
    pub(super) fn file_id(&self) -> FileId {
        self.last.file_id
    }

    /// When the operation that was answered last began.
    pub(super) fn begun(&self) -> Instant {
        self.last.begun
    }

    /// Sends a related compound.
    pub(super) fn start_compound(
        &mut self,
        connection: &mut Connection,
        tree: Tree,
        requests: &[Request],
    ) -> Result<()> {
        let ids = connection.submit_compound(tree, requests, true)?;
        self.begin(*ids.last().context("an empty compound")?);
        Ok(())
    }

    /// Receives until a compound is answered, all of whose parts have to succeed.
    pub(super) fn finish_compound(&mut self, connection: &mut Connection) -> Result<()> {
        let before = self.len();
        while self.len() == before {
            let reply = connection.receive()?;
            self.end(reply.header.message_id);
            reply.success()?;
        }
        Ok(())
    }
}

/// Runs a row once against one server.
pub(super) fn run(case: Case, bed: &Bed, duration: Duration) -> Result<Sample> {
    measure(case, bed, duration)
        .with_context(|| format!("{} against {}\n{}", case.name(), bed.name(), bed.log_tail()))
}

fn measure(case: Case, bed: &Bed, duration: Duration) -> Result<Sample> {
    let link = Link::of(bed.connect(Protection::Plain)?.0.negotiated());
    let load = Load { workers: case.connections, duration, accounting: &bed.accounting };
    load.measure(link, |worker, gate| case.work(bed, worker, gate))
}

/// Workers that load a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load<'a> {
    /// How many.
    pub(super) workers: usize,
    /// For how long.
    pub(super) duration: Duration,
    /// Of the server.
    pub(super) accounting: &'a Accounting,
}

impl Load<'_> {
    /// Lets them work, each knowing its number, and counts.
    pub(super) fn measure(
        self,
        link: Link,
        work: impl Fn(usize, &Gate) -> Result<Count> + Sync,
    ) -> Result<Sample> {
        let gate = Gate::default();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.workers)
                .map(|worker| {
                    let (gate, work) = (&gate, &work);
                    scope.spawn(move || work(worker, gate).inspect_err(|_| gate.fail()))
                })
                .collect();
            gate.wait_for_workers(self.workers);
            let (server, client, started) = (self.accounting.processor_time(), client_time(), Instant::now());
            gate.open();
            std::thread::sleep(self.duration);
            gate.close();
            let mut total = Count::default();
            for thread in threads {
                total.merge(&thread.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??);
            }
            Ok(Sample {
                elapsed: started.elapsed(),
                operations: total.operations,
                bytes: total.bytes,
                server: self.accounting.processor_time()?.saturating_sub(server?),
                client: client_time().saturating_sub(client),
                latencies: total.latencies,
                link,
            })
        })
    }
}

/// Processor time of this process.
fn client_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_all_go_at_once_and_none_wait_for_one_that_failed() {
        let gate = Gate::default();
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        gate.wait();
                        gate.is_open()
                    })
                })
                .collect();
            gate.wait_for_workers(3);
            assert_eq!(gate.state().waiting, 3);
            gate.open();
            assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
        });
        let gate = Gate::default();
        gate.fail();
        gate.wait_for_workers(3);
        gate.open();
        gate.wait();
        assert!(!gate.is_open());
    }

    #[test]
    fn slots_are_freed_by_the_last_request_of_each() {
        let file_id = FileId { persistent: 1, volatile: 2 };
        let mut slots = Slots::new();
        slots.begin(7);
        slots.begin(8);
        assert!(!slots.end(9));
        assert_eq!(slots.len(), 2);
        assert!(slots.end(7));
        let begun = slots.begun();
        slots.go_on(9, file_id);
        assert!(slots.end(8) && slots.end(9));
        assert_eq!((slots.len(), slots.file_id(), slots.begun()), (0, file_id, begun));
    }
}
