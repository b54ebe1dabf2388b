//! From few files in a directory to many, by one client that does one thing after the other.
//!
//! The files are made in the file system, not by the servers: a million of them would take some servers an hour. So none has
//! what a server keeps beside a file that it made itself.

use std::fs::File;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use smb_proto::command::create::{CreateDisposition, CreateOptions};
use smb_proto::command::{FileId, Request, Response};
use smb_proto::fscc::FileInfoClass;
use smb_proto::{AccessMask, NtStatus};

use super::super::bed::Bed;
use super::super::load::{Count, Gate, Load};
use super::super::sample::{Link, Sample};
use super::super::workload::{LISTING_SIZE, close_request, entry_count};
use super::drive::Client;
use super::{Axis, Growth};
use crate::client::{directory_request, open};
use crate::peer::make_open_directory;

const DIRECTORY: &str = "many";
/// Names that are opened, spread over the directory.
const NAMES: u64 = 1000;
/// How long a listing may take. What is listed by then is counted.
const LISTING_LIMIT: Duration = Duration::from_secs(3);

/// A client and the directory that it looks at.
pub(super) struct Files {
    client: Mutex<Client>,
    size: u32,
}

impl Growth for Files {
    const AXIS: Axis = Axis::Files;
    const OPERATIONS: &'static [&'static str] = &[
        "open, close",
        "the same, name in the wrong case",
        "create, delete a new file",
        "first 64 KiB of a listing",
        "listing, one entry",
    ];

    fn begin(bed: &Bed) -> Result<Self> {
        make_open_directory(&bed.share_path().join(DIRECTORY))?;
        Ok(Self { client: Mutex::new(Client::connect(bed)?), size: 0 })
    }

    fn lay_out(&mut self, bed: &Bed, size: u32) -> Result<()> {
        let directory = bed.share_path().join(DIRECTORY);
        for number in self.size..size {
            File::create_new(directory.join(name(number.into())))?;
        }
        self.size = size;
        Ok(())
    }

    fn grow(&mut self, _: &Bed, _: u32, _: Instant) -> Result<()> {
        Ok(())
    }

    fn measure(&self, bed: &Bed, operation: usize, duration: Duration) -> Result<Sample> {
        let load = Load { workers: 1, duration, accounting: &bed.accounting };
        load.measure(self.link(), |_, gate| {
            let client = &mut *self.client.lock().unwrap_or_else(PoisonError::into_inner);
            match operation {
                0 => repeat(client, gate, |number| open_close(&self.nth(number))),
                1 => repeat(client, gate, |number| open_close(&self.nth(number).to_uppercase())),
                2 => repeat(client, gate, create_delete),
                3 => repeat(client, gate, |_| first_page()),
                _ => list(client, gate, self.size),
            }
        })
    }
}

impl Files {
    /// One of the names that are opened.
    fn nth(&self, number: u64) -> String {
        let size = u64::from(self.size);
        let names = NAMES.min(size);
        // 7 has no divisor in common with any round number: no two that follow each other are neighbours.
        name(number * 7 % names * (size / names))
    }

    fn link(&self) -> Link {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        Link::of(client.connection.negotiated())
    }
}

fn name(number: u64) -> String {
    format!("one of many {number:07}.txt")
}

/// One compound after the other.
fn repeat(client: &mut Client, gate: &Gate, requests: impl Fn(u64) -> Vec<Request>) -> Result<Count> {
    let mut count = Count::default();
    gate.wait();
    for number in 0.. {
        let begun = Instant::now();
        for reply in client.connection.call_compound(client.tree, &requests(number))? {
            reply.success()?;
        }
        count.add(0, begun);
        if !gate.is_open() {
            break;
        }
    }
    Ok(count)
}

fn path(name: &str) -> String {
    format!(r"{DIRECTORY}\{name}")
}

fn open_close(name: &str) -> Vec<Request> {
    let access = AccessMask::READ_ATTRIBUTES.with(AccessMask::READ_DATA);
    let options = CreateOptions::NON_DIRECTORY_FILE;
    let request = open(&path(name), access, CreateDisposition::OPEN, options);
    vec![Request::Create(request), close_request(FileId::ALL_ONES)]
}

/// The directory has as many files afterwards as before.
fn create_delete(number: u64) -> Vec<Request> {
    let options = CreateOptions::NON_DIRECTORY_FILE.with(CreateOptions::DELETE_ON_CLOSE);
    let access = AccessMask::FILE_GENERIC_WRITE.with(AccessMask::DELETE);
    let request = open(&path(&format!("new {number}.txt")), access, CreateDisposition::CREATE, options);
    vec![Request::Create(request), close_request(FileId::ALL_ONES)]
}

fn open_directory() -> Request {
    let access = AccessMask::LIST_DIRECTORY.with(AccessMask::READ_ATTRIBUTES);
    Request::Create(open(DIRECTORY, access, CreateDisposition::OPEN, CreateOptions::DIRECTORY_FILE))
}

fn first_page() -> Vec<Request> {
    let query = directory_request(FileId::ALL_ONES, FileInfoClass::ID_BOTH_DIRECTORY, "*", LISTING_SIZE);
    vec![open_directory(), query, close_request(FileId::ALL_ONES)]
}

/// One listing after the other, the last one up to its end or the time limit.
fn list(client: &mut Client, gate: &Gate, size: u32) -> Result<Count> {
    let Client { connection, tree, .. } = client;
    let mut count = Count::default();
    gate.wait();
    let limit = Instant::now() + LISTING_LIMIT;
    while gate.is_open() {
        let begun = Instant::now();
        let Response::Create(created) = connection.call(*tree, &open_directory())? else {
            bail!("an answer to another request");
        };
        let query = directory_request(created.file_id, FileInfoClass::ID_BOTH_DIRECTORY, "*", LISTING_SIZE);
        let mut entries = 0;
        let ended = loop {
            let id = connection.submit(*tree, &query)?;
            let reply = connection.wait(id)?;
            if reply.header.status == NtStatus::NO_MORE_FILES {
                break true;
            }
            let Response::QueryDirectory(response) = reply.success()? else {
                bail!("an answer to another request");
            };
            entries += entry_count(&response.output);
            if Instant::now() > limit {
                break false;
            }
        };
        connection.close(*tree, created.file_id)?;
        // Servers list `.` and `..` as well.
        ensure!(!ended || entries == u64::from(size) + 2, "{entries} entries in place of {}", size + 2);
        count.add_many(entries, begun);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn names_that_are_opened_are_all_over_the_directory() {
        for size in [10_u64, 100, 1000, 1_000_000] {
            let names = super::NAMES.min(size);
            let opened: BTreeSet<_> = (0..names).map(|number| number * 7 % names * (size / names)).collect();
            assert_eq!(opened.len() as u64, names);
            assert!(opened.last().unwrap() >= &(size / 10 * 9));
        }
    }
}
