//! From one open to many, on ten connections that have the same files open: a server that keeps a descriptor for each file
//! then needs a tenth as many as there are opens.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use smb_proto::AccessMask;
use smb_proto::command::create::{CreateDisposition, CreateOptions};
use smb_proto::command::{FileId, Request, Response};

use super::super::bed::Bed;
use super::super::sample::Sample;
use super::super::workload::{FILES, SMALL, close_request, file_name, make_files};
use super::drive::{self, Client, DEPTH, Ring, Rings, lock};
use super::{Axis, Growth};
use crate::client::{Protection, open, read_request};
use crate::peer::make_open_directory;

const DIRECTORY: &str = "held";
/// The first files, which are read from, have a block each.
const READ_FROM: u32 = 100;
/// Opens that are under way on each connection while they are made.
const WINDOW: usize = 32;

/// Opens on connections, one for each thread.
pub(super) struct Opens {
    rings: Rings,
    /// Opens that there are to be.
    size: u32,
}

impl Growth for Opens {
    const AXIS: Axis = Axis::Opens;
    const OPERATIONS: &'static [&'static str] = &["read 4 KiB from one", "open, close beside them"];

    fn begin(bed: &Bed) -> Result<Self> {
        make_open_directory(&bed.share_path().join(DIRECTORY))?;
        let (mut connection, tree) = bed.connect_tree(Protection::Plain)?;
        make_files(&mut connection, tree, "open", FILES)?;
        let rings = drive::rings();
        for ring in &rings {
            lock(ring).clients.push(Client::connect(bed)?);
        }
        Ok(Self { rings, size: 0 })
    }

    fn lay_out(&mut self, bed: &Bed, size: u32) -> Result<()> {
        let directory = bed.share_path().join(DIRECTORY);
        for number in files(self.size)..files(size) {
            let content = if number < READ_FROM { &[0x5A; SMALL as usize][..] } else { &[] };
            fs::write(directory.join(name(number)), content)?;
        }
        self.size = size;
        Ok(())
    }

    fn grow(&mut self, _: &Bed, size: u32, until: Instant) -> Result<()> {
        let held = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..)
                .zip(&self.rings)
                .map(|(place, ring)| scope.spawn(move || open_up_to(&mut lock(ring), place, size, until)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("opening panicked"))?)
                .sum::<Result<usize>>()
        })?;
        if held < size as usize {
            bail!("{held} of {size} opens in the time that there was");
        }
        Ok(())
    }

    fn measure(&self, bed: &Bed, operation: usize, duration: Duration) -> Result<Sample> {
        // Reads need connections that have an open.
        let with_opens = DEPTH.min(self.size as usize);
        let rings = if operation == 0 { &self.rings[..with_opens] } else { &self.rings[..] };
        drive::run(rings, bed, duration, |client, number| match operation {
            0 => {
                let count = client.opens.len().min(READ_FROM as usize);
                let file_id = client.opens[number as usize / DEPTH % count];
                Ok(client.connection.submit(client.tree, &read_request(file_id, 0, SMALL))?)
            }
            _ => {
                let access = AccessMask::READ_ATTRIBUTES.with(AccessMask::READ_DATA);
                let name = file_name("open", number % FILES);
                let options = CreateOptions::NON_DIRECTORY_FILE;
                let requests = [
                    Request::Create(open(&name, access, CreateDisposition::OPEN, options)),
                    close_request(FileId::ALL_ONES),
                ];
                let ids = client.connection.submit_compound(client.tree, &requests, true)?;
                Ok(ids.last().copied().unwrap_or_default())
            }
        })
    }
}

/// Files of which there are so many opens.
fn files(opens: u32) -> u32 {
    opens.div_ceil(DEPTH as u32)
}

/// Opens a client's part of so many opens, as far as time allows. Returns how many are held. Clients with a smaller place have
/// one more where the number can't be divided.
fn open_up_to(ring: &mut Ring, place: u32, size: u32, until: Instant) -> Result<usize> {
    let Client { connection, tree, opens } = ring.clients.first_mut().context("a connection")?;
    let mut numbers = (0..files(size.saturating_sub(place))).skip(opens.len());
    let mut under_way = BTreeMap::new();
    let mut made = BTreeMap::new();
    loop {
        while under_way.len() < WINDOW
            && Instant::now() < until
            && let Some(number) = numbers.next()
        {
            let name = format!(r"{DIRECTORY}\{}", name(number));
            let options = CreateOptions::NON_DIRECTORY_FILE;
            let request = open(&name, AccessMask::FILE_GENERIC_READ, CreateDisposition::OPEN, options);
            under_way.insert(connection.submit(*tree, &Request::Create(request))?, number);
        }
        if under_way.is_empty() {
            break;
        }
        let reply = connection.receive()?;
        let number = under_way.remove(&reply.header.message_id).context("an answer to nothing")?;
        let Response::Create(response) = reply.success()? else { bail!("an answer to another request") };
        made.insert(number, response.file_id);
    }
    opens.extend(made.into_values());
    Ok(opens.len())
}

fn name(number: u32) -> String {
    format!("held file {number:07}.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_together_as_many_opens_as_there_are_to_be() {
        for size in [1_u32, 9, 10, 11, 99, 100_000] {
            let parts: Vec<u32> = (0..DEPTH as u32).map(|place| files(size.saturating_sub(place))).collect();
            assert_eq!(parts.iter().sum::<u32>(), size);
            assert!(parts.iter().all(|part| *part <= files(size)));
        }
    }
}
