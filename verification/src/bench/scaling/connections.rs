//! From one connection to many. Each has a session, a tree connect and an open; the same number of operations is under way
//! whatever the number of connections, which take turns, so that each is used.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use smb_proto::AccessMask;
use smb_proto::command::create::{CreateDisposition, CreateOptions};

use super::super::bed::Bed;
use super::super::sample::Sample;
use super::super::workload::{FILES, SMALL, fill, make_files, open_query_close_requests};
use super::drive::{self, Client, DEPTH, Rings, lock};
use super::{Axis, Growth};
use crate::client::{Protection, open, read_request};

const FILE: &str = "read";
const FILE_SIZE: u64 = 1 << 20;
/// Connections that are made at once.
const CONNECTORS: usize = 4;

/// Connections of all threads.
pub(super) struct Connections(Rings);

impl Growth for Connections {
    const AXIS: Axis = Axis::Connections;
    const OPERATIONS: &'static [&'static str] = &["read 4 KiB", "open, query, close"];
    const DESCRIPTORS: u64 = 1;

    fn begin(bed: &Bed) -> Result<Self> {
        let (mut connection, tree) = bed.connect_tree(Protection::Plain)?;
        fill(&mut connection, tree, FILE, FILE_SIZE, SMALL)?;
        make_files(&mut connection, tree, "open", FILES)?;
        Ok(Self(drive::rings()))
    }

    fn lay_out(&mut self, _: &Bed, _: u32) -> Result<()> {
        Ok(())
    }

    fn grow(&mut self, bed: &Bed, size: u32, until: Instant) -> Result<()> {
        let there: usize = self.0.iter().map(|ring| lock(ring).clients.len()).sum();
        let (next, made) = (AtomicU32::new(there as u32), AtomicU32::new(there as u32));
        let failed = AtomicBool::new(false);
        let connect = || -> Result<()> {
            while Instant::now() < until && !failed.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= size {
                    break;
                }
                let client = ready_client(bed).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
                made.fetch_add(1, Ordering::Relaxed);
                let ring: &Mutex<_> = &self.0[number as usize % DEPTH];
                lock(ring).clients.push(client);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CONNECTORS).map(|_| scope.spawn(connect)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("connecting panicked"))?)
        })?;
        let made = made.into_inner();
        if made < size {
            bail!("{made} of {size} connections in the time that there was");
        }
        Ok(())
    }

    fn release(&mut self) {
        self.0 = drive::rings();
    }

    fn measure(&self, bed: &Bed, operation: usize, duration: Duration) -> Result<Sample> {
        let blocks = FILE_SIZE / u64::from(SMALL);
        drive::run(&self.0, bed, duration, |client, number| match operation {
            0 => {
                let request = read_request(client.opens[0], number % blocks * u64::from(SMALL), SMALL);
                Ok(client.connection.submit(client.tree, &request)?)
            }
            _ => {
                let requests = open_query_close_requests(number % FILES);
                let ids = client.connection.submit_compound(client.tree, &requests, true)?;
                Ok(ids.last().copied().unwrap_or_default())
            }
        })
    }
}

/// A connection with a session, a tree connect and an open.
fn ready_client(bed: &Bed) -> Result<Client> {
    let mut client = Client::connect(bed)?;
    let options = CreateOptions::NON_DIRECTORY_FILE;
    let request = open(FILE, AccessMask::FILE_GENERIC_READ, CreateDisposition::OPEN, options);
    client.opens.push(client.connection.create(client.tree, request)?.file_id);
    Ok(client)
}
