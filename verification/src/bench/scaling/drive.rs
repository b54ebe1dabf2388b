//! A few threads that keep a fixed number of requests under way, however many connections there are.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use smb_proto::command::FileId;

use super::super::bed::Bed;
use super::super::load::{Count, Gate, Load};
use super::super::sample::{Link, Sample};
use crate::client::{Connection, Protection, Tree};

/// Operations under way in all.
pub(super) const DEPTH: usize = 10;

/// A connection with what it has open.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) connection: Connection,
    pub(super) tree: Tree,
    pub(super) opens: Vec<FileId>,
}

impl Client {
    /// A new one, with nothing open.
    pub(super) fn connect(bed: &Bed) -> Result<Self> {
        let (connection, tree) = bed.connect_tree(Protection::Plain)?;
        Ok(Self { connection, tree, opens: Vec::new() })
    }
}

/// Clients that a thread goes through in turn.
#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) clients: Vec<Client>,
    /// Whose turn it is.
    next: usize,
    /// Operations begun so far.
    begun: u64,
}

/// Each thread's ring.
pub(super) type Rings = Vec<Mutex<Ring>>;

/// As many empty rings as operations are under way.
pub(super) fn rings() -> Rings {
    (0..DEPTH).map(|_| Mutex::default()).collect()
}

/// Runs operations on all rings that have clients. `submit` begins the operation with that number and returns the id of its
/// last message.
pub(super) fn run(
    rings: &[Mutex<Ring>],
    bed: &Bed,
    duration: Duration,
    submit: impl Fn(&mut Client, u64) -> Result<u64> + Sync,
) -> Result<Sample> {
    let link = Link::of(bed.connect(Protection::Plain)?.0.negotiated());
    let busy: Vec<_> = rings.iter().filter(|ring| !lock(ring).clients.is_empty()).collect();
    // Below so many clients some have more than one operation under way.
    let window = DEPTH / busy.len().max(1);
    let load = Load { workers: busy.len(), duration, accounting: &bed.accounting };
    load.measure(link, |worker, gate| turn(&mut lock(busy[worker]), window, worker as u64, gate, &submit))
}

/// A ring, for the one thread that goes through it.
pub(super) fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One thread's part.
fn turn(
    ring: &mut Ring,
    window: usize,
    worker: u64,
    gate: &Gate,
    submit: &impl Fn(&mut Client, u64) -> Result<u64>,
) -> Result<Count> {
    let mut count = Count::default();
    let mut under_way = BTreeMap::new();
    gate.wait();
    loop {
        let length = ring.clients.len();
        let client = &mut ring.clients[ring.next];
        while gate.is_open() && under_way.len() < window {
            let number = ring.begun * DEPTH as u64 + worker;
            under_way.insert(submit(client, number)?, Instant::now());
            ring.begun += 1;
        }
        if under_way.is_empty() {
            return Ok(count);
        }
        let reply = client.connection.receive()?;
        let id = reply.header.message_id;
        reply.success()?;
        if let Some(begun) = under_way.remove(&id) {
            count.add(0, begun);
        }
        if under_way.is_empty() {
            ring.next = (ring.next + 1) % length;
        }
    }
}
