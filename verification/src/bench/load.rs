//! Loads a server with several connections at once for a given time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use smb_proto::command::{FileId, Request};

use super::bed::Bed;
use super::sample::{Link, Sample};
use super::workload::Case;
use crate::client::{Connection, Protection, Reply, Tree};

/// What a worker did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    operations: u64,
    bytes: u64,
}

impl Count {
    /// One more operation, which moved `bytes`.
    pub(super) fn add(&mut self, bytes: u64) {
        self.operations += 1;
        self.bytes += bytes;
    }

    /// Several operations more.
    pub(super) fn add_many(&mut self, operations: u64) {
        self.operations += operations;
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
        self.wait();
        for _ in 0..depth {
            submit(connection)?;
        }
        while connection.outstanding() > 0 {
            count.add(complete(connection.receive()?)?);
            if self.is_open() {
                submit(connection)?;
            }
        }
        Ok(count)
    }
}

/// Requests and compounds under way, for workers whose operations take several.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// By the message id of the last request of each.
    under_way: BTreeMap<u64, Option<FileId>>,
    last_file_id: FileId,
}

impl Slots {
    /// None.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// A request is under way.
    pub(super) fn begin(&mut self, message_id: u64) {
        self.under_way.insert(message_id, None);
    }

    /// A request on this open is under way.
    pub(super) fn begin_with(&mut self, message_id: u64, file_id: FileId) {
        self.under_way.insert(message_id, Some(file_id));
    }

    /// A request was answered.
    pub(super) fn end(&mut self, message_id: u64) {
        if let Some(Some(file_id)) = self.under_way.remove(&message_id) {
            self.last_file_id = file_id;
        }
    }

    /// The open of the request on an open that was answered last.
    pub(super) fn file_id(&self) -> FileId {
        self.last_file_id
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
    let workers = case.workload.connections();
    let gate = Gate::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                let gate = &gate;
                scope.spawn(move || case.work(bed, worker, gate).inspect_err(|_| gate.fail()))
            })
            .collect();
        gate.wait_for_workers(workers);
        let (server, client, started) = (bed.accounting.processor_time(), client_time(), Instant::now());
        gate.open();
        std::thread::sleep(duration);
        gate.close();
        let mut total = Count::default();
        for thread in threads {
            let count = thread.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
            total.operations += count.operations;
            total.bytes += count.bytes;
        }
        Ok(Sample {
            elapsed: started.elapsed(),
            operations: total.operations,
            bytes: total.bytes,
            server: bed.accounting.processor_time()?.saturating_sub(server?),
            client: client_time().saturating_sub(client),
            link,
        })
    })
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
        slots.begin_with(9, file_id);
        slots.end(8);
        assert_eq!(slots.len(), 2);
        slots.end(9);
        slots.end(7);
        assert_eq!((slots.len(), slots.file_id()), (0, file_id));
    }
}
