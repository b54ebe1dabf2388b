//! What the rows do.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use smb_proto::command::create::{self, CreateDisposition, CreateOptions};
use smb_proto::command::read::Channel;
use smb_proto::command::write::{self, WriteFlags, WriteHead};
use smb_proto::command::{FileId, Request, Response, close};
use smb_proto::fscc::FileInfoClass;
use smb_proto::{AccessMask, NtStatus};

use super::bed::Bed;
use super::floor::{Pattern, Way};
use super::load::{Count, Gate, Slots};
use super::uncontended;
use crate::client::{
    Connection, Protection, Reply, Tree, directory_request, info_request, open, read_request,
};

const LARGE: u32 = 1 << 20;
pub(super) const SMALL: u32 = 4096;
/// Bytes of the file that is read and written from end to end.
const SEQUENTIAL_SIZE: u64 = 256 << 20;
/// Bytes of each connection's file of the random rows.
const RANDOM_SIZE: u64 = 32 << 20;
/// Bytes written at once to lay these out. The page cache keeps longer writes in pieces as large as memory allows at that
/// moment, and a small write into one costs the kernel (ext4 of Linux 6.18) the more the larger it is, up to three times as
/// much: which server was prepared first would decide.
pub(super) const PIECE: u32 = 64 << 10;
/// Files to be opened.
pub(super) const FILES: u64 = 1000;
/// Files to be copied, again and again.
const SOURCES: u64 = 100;
/// Entries of the directory that is listed.
const ENTRIES: u64 = 10_000;
/// Bytes asked for at once when it is listed.
pub(super) const LISTING_SIZE: u32 = 65_536;
/// How many files are made at once while preparing.
const PREPARE_DEPTH: usize = 64;

/// A workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Workload {
    /// 1 MiB reads of one file from end to end.
    SequentialRead,
    /// 1 MiB writes over one file from end to end.
    SequentialWrite,
    /// 4 KiB reads anywhere in a file per connection.
    RandomRead,
    /// 4 KiB writes anywhere in a file per connection.
    RandomWrite,
    /// New files of 4 KiB: CREATE, WRITE and CLOSE, each after the response to the one before.
    CreateWriteClose,
    /// CREATE, QUERY_INFO and CLOSE of existing files in one compound.
    OpenQueryClose,
    /// Files of 4 KiB copied by the client: CREATE, READ and CLOSE in one compound, then CREATE, WRITE and CLOSE in another.
    Copy,
    /// A listing of 10,000 entries with 64 KiB buffers.
    List,
    /// TCP connection, NEGOTIATE, SESSION_SETUP, disconnection.
    SessionSetup,
    /// CREATE and CLOSE of existing files, one after the other.
    CreateClose,
    /// CREATE of a file on which another client holds a lease that has to break.
    LeaseBreak,
}

/// A workload under a protection: a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    /// The workload.
    pub(super) workload: Workload,
    /// How requests are protected.
    pub(super) protection: Protection,
    /// Connections that load the server at once.
    pub(super) connections: usize,
    /// Operations under way on each connection.
    pub(super) depth: usize,
}

impl Case {
    /// Every row, in the order of the table, with as many connections as each has by itself, or with the same number.
    pub(super) fn all(connections: Option<usize>) -> Vec<Self> {
        let case = |workload: Workload, protection| Self {
            workload,
            protection,
            connections: connections.unwrap_or_else(|| workload.connections()),
            depth: workload.depth(),
        };
        let mut cases = Vec::new();
        for workload in Workload::PROTECTED {
            for protection in [Protection::Plain, Protection::Signed, Protection::Encrypted] {
                cases.push(case(workload, protection));
            }
        }
        let plain = [Workload::SessionSetup, Workload::CreateClose, Workload::LeaseBreak];
        cases.extend(plain.map(|workload| case(workload, Protection::Plain)));
        cases
    }

    /// The row's name.
    pub(super) fn name(self) -> String {
        let protection = match self.protection {
            Protection::Plain => "plain",
            Protection::Signed => "signed",
            Protection::Encrypted => "encrypted",
        };
        match self.workload {
            Workload::SessionSetup | Workload::CreateClose | Workload::LeaseBreak => {
                self.workload.name().to_owned()
            }
            workload => format!("{}/{protection}", workload.name()),
        }
    }

    /// The same bytes moved by a program that does nothing else, where that is all that matters.
    pub(super) fn floor(self) -> Option<Pattern> {
        let pattern = |way, block, size| Pattern {
            way,
            block,
            size,
            in_order: block == LARGE,
            connections: self.connections,
            depth: self.depth,
        };
        match self.workload {
            Workload::SequentialRead => Some(pattern(Way::Read, LARGE, SEQUENTIAL_SIZE)),
            Workload::SequentialWrite => Some(pattern(Way::Write, LARGE, SEQUENTIAL_SIZE)),
            Workload::RandomRead => Some(pattern(Way::Read, SMALL, RANDOM_SIZE)),
            Workload::RandomWrite => Some(pattern(Way::Write, SMALL, RANDOM_SIZE)),
            Workload::CreateWriteClose
            | Workload::OpenQueryClose
            | Workload::Copy
            | Workload::List
            | Workload::SessionSetup
            | Workload::CreateClose
            | Workload::LeaseBreak => None,
        }
    }

    /// Loads one connection until the gate closes.
    pub(super) fn work(self, bed: &Bed, worker: usize, gate: &Gate) -> Result<Count> {
        match self.workload {
            Workload::SequentialRead => sequential_read(bed, self, gate),
            Workload::SequentialWrite => sequential_write(bed, self, gate),
            Workload::RandomRead => random_read(bed, self, worker, gate),
            Workload::RandomWrite => random_write(bed, self, worker, gate),
            Workload::CreateWriteClose => create_write_close(bed, self, worker, gate),
            Workload::OpenQueryClose => open_query_close(bed, self, worker, gate),
            Workload::Copy => copy(bed, self, worker, gate),
            Workload::List => list(bed, self, gate),
            Workload::SessionSetup => session_setup(bed, self, gate),
            Workload::CreateClose => uncontended::create_close(bed, self, worker, gate),
            Workload::LeaseBreak => uncontended::lease_break(bed, self, worker, gate),
        }
    }

    /// Whether the server has what the row is about.
    pub(super) fn is_possible(self, bed: &Bed) -> Result<bool> {
        match self.workload {
            Workload::LeaseBreak => uncontended::grants_leases(bed, self),
            _ => Ok(true),
        }
    }
}

impl Workload {
    /// Those that run under every protection.
    const PROTECTED: [Self; 8] = [
        Self::SequentialRead,
        Self::SequentialWrite,
        Self::RandomRead,
        Self::RandomWrite,
        Self::CreateWriteClose,
        Self::OpenQueryClose,
        Self::Copy,
        Self::List,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::SequentialRead => "sequential-read-1m",
            Self::SequentialWrite => "sequential-write-1m",
            Self::RandomRead => "random-read-4k",
            Self::RandomWrite => "random-write-4k",
            Self::CreateWriteClose => "create-write-close-4k",
            Self::OpenQueryClose => "open-query-close",
            Self::Copy => "copy-4k",
            Self::List => "list-10000",
            Self::SessionSetup => "session-setup",
            Self::CreateClose => "create-close",
            Self::LeaseBreak => "lease-break",
        }
    }

    /// Whether it is measured in bytes, not in operations.
    pub(super) fn counts_bytes(self) -> bool {
        matches!(self, Self::SequentialRead | Self::SequentialWrite)
    }

    /// The unit of its rate.
    pub(super) fn rate_unit(self) -> &'static str {
        match self {
            Self::SequentialRead | Self::SequentialWrite => "MiB/s",
            Self::CreateWriteClose | Self::OpenQueryClose | Self::Copy | Self::CreateClose => "files/s",
            Self::List => "entries/s",
            Self::SessionSetup => "sessions/s",
            Self::LeaseBreak => "breaks/s",
            Self::RandomRead | Self::RandomWrite => "operations/s",
        }
    }

    /// The unit of its cost.
    pub(super) fn cost_unit(self) -> &'static str {
        if self.counts_bytes() { "s/GiB" } else { "s/100 k" }
    }

    /// Connections that load the server at once, if nothing else is asked for.
    fn connections(self) -> usize {
        match self {
            Self::SequentialRead
            | Self::SequentialWrite
            | Self::List
            | Self::CreateClose
            | Self::LeaseBreak => 1,
            Self::SessionSetup => 4,
            _ => 8,
        }
    }

    /// Operations under way on each connection.
    pub(super) fn depth(self) -> usize {
        match self {
            Self::SequentialRead | Self::SequentialWrite => 8,
            Self::RandomRead | Self::RandomWrite => 16,
            Self::CreateWriteClose | Self::OpenQueryClose | Self::Copy => 8,
            Self::List | Self::SessionSetup | Self::CreateClose | Self::LeaseBreak => 1,
        }
    }
}

impl Case {
    /// Lays out the files over SMB, so that each server has them as it makes them.
    pub(super) fn prepare(self, bed: &Bed) -> Result<()> {
        let (mut connection, tree) = bed.connect_tree(Protection::Signed)?;
        let connection = &mut connection;
        let workers = 0..self.connections;
        match self.workload {
            Workload::SequentialRead | Workload::SequentialWrite => {
                fill(connection, tree, "sequential", SEQUENTIAL_SIZE, LARGE)
            }
            Workload::RandomRead | Workload::RandomWrite => workers
                .into_iter()
                .try_for_each(|worker| fill(connection, tree, &random_name(worker), RANDOM_SIZE, PIECE)),
            Workload::CreateWriteClose => make_directories(connection, tree, workers.map(new_directory)),
            Workload::OpenQueryClose | Workload::CreateClose | Workload::LeaseBreak => {
                make_files(connection, tree, "open", FILES)
            }
            Workload::Copy => {
                make_directories(connection, tree, workers.map(new_directory))?;
                make_files(connection, tree, "source", SOURCES)?;
                (0..SOURCES).try_for_each(|number| {
                    let file_id = open_file(connection, tree, &file_name("source", number))?;
                    let length = connection.write(tree, file_id, 0, &[0x5A; SMALL as usize])?;
                    ensure!(length == SMALL, "a short write");
                    connection.close(tree, file_id)?;
                    Ok(())
                })
            }
            Workload::List => make_files(connection, tree, "list", ENTRIES),
            Workload::SessionSetup => Ok(()),
        }
    }
}

fn random_name(worker: usize) -> String {
    format!("random{worker}")
}

fn new_directory(worker: usize) -> String {
    format!("new{worker}")
}

pub(super) fn file_name(directory: &str, number: u64) -> String {
    format!(r"{directory}\a file {number:05}.txt")
}

fn rights() -> AccessMask {
    AccessMask::FILE_GENERIC_READ.with(AccessMask::FILE_GENERIC_WRITE)
}

fn open_file(connection: &mut Connection, tree: Tree, name: &str) -> Result<FileId> {
    let request = open(name, rights(), CreateDisposition::OPEN_IF, CreateOptions::NON_DIRECTORY_FILE);
    Ok(connection.create(tree, request)?.file_id)
}

/// Makes a file of this size with data in every block.
pub(super) fn fill(connection: &mut Connection, tree: Tree, name: &str, size: u64, piece: u32) -> Result<()> {
    let file_id = open_file(connection, tree, name)?;
    let data: Vec<u8> = (0..piece).map(|position| (position % 253) as u8).collect();
    for offset in (0..size).step_by(data.len()) {
        ensure!(connection.write(tree, file_id, offset, &data)? == piece, "a short write");
    }
    connection.close(tree, file_id)?;
    Ok(())
}

fn make_directories(
    connection: &mut Connection,
    tree: Tree,
    names: impl Iterator<Item = String>,
) -> Result<()> {
    for name in names {
        let request = open(&name, rights(), CreateDisposition::OPEN_IF, CreateOptions::DIRECTORY_FILE);
        let file_id = connection.create(tree, request)?.file_id;
        connection.close(tree, file_id)?;
    }
    Ok(())
}

/// Makes a directory with that many empty files.
pub(super) fn make_files(connection: &mut Connection, tree: Tree, directory: &str, count: u64) -> Result<()> {
    make_directories(connection, tree, std::iter::once(directory.to_owned()))?;
    let mut slots = Slots::new();
    for number in 0..count {
        while slots.len() >= PREPARE_DEPTH {
            slots.finish_compound(connection)?;
        }
        let name = file_name(directory, number);
        let request = open(&name, rights(), CreateDisposition::OPEN_IF, CreateOptions::NON_DIRECTORY_FILE);
        let requests = [Request::Create(request), close_request(FileId::ALL_ONES)];
        slots.start_compound(connection, tree, &requests)?;
    }
    while slots.len() > 0 {
        slots.finish_compound(connection)?;
    }
    Ok(())
}

pub(super) fn close_request(file_id: FileId) -> Request {
    Request::Close(close::Request { flags: close::Flags::default(), file_id })
}

fn sequential_read(bed: &Bed, case: Case, gate: &Gate) -> Result<Count> {
    let (mut connection, tree) = bed.connect_tree(case.protection)?;
    let file_id = open_file(&mut connection, tree, "sequential")?;
    let mut offset = 0;
    gate.run(
        &mut connection,
        case.depth,
        |connection| {
            let id = connection.submit(tree, &read_request(file_id, offset, LARGE))?;
            offset = (offset + u64::from(LARGE)) % SEQUENTIAL_SIZE;
            Ok(id)
        },
        |reply| data_length(reply, LARGE),
    )
}

fn random_read(bed: &Bed, case: Case, worker: usize, gate: &Gate) -> Result<Count> {
    let (mut connection, tree) = bed.connect_tree(case.protection)?;
    let file_id = open_file(&mut connection, tree, &random_name(worker))?;
    let mut offsets = Offsets::new(worker, RANDOM_SIZE, SMALL, false);
    gate.run(
        &mut connection,
        case.depth,
        |connection| Ok(connection.submit(tree, &read_request(file_id, offsets.next(), SMALL))?),
        |reply| data_length(reply, SMALL),
    )
}

fn data_length(reply: Reply, expected: u32) -> Result<u64> {
    match reply.success()? {
        Response::Read(read) if read.data.len() as u64 == u64::from(expected) => Ok(u64::from(expected)),
        _ => anyhow::bail!("a short read"),
    }
}

fn sequential_write(bed: &Bed, case: Case, gate: &Gate) -> Result<Count> {
    let (mut connection, tree) = bed.connect_tree(case.protection)?;
    let file_id = open_file(&mut connection, tree, "sequential")?;
    let data = vec![0x5A; LARGE as usize];
    let mut offset = 0;
    gate.run(
        &mut connection,
        case.depth,
        |connection| {
            let head = WriteHead { offset, file_id, flags: WriteFlags::default() };
            offset = (offset + u64::from(LARGE)) % SEQUENTIAL_SIZE;
            Ok(connection.submit_write(tree, &head, &data)?)
        },
        |reply| written(reply, LARGE),
    )
}

fn random_write(bed: &Bed, case: Case, worker: usize, gate: &Gate) -> Result<Count> {
    let (mut connection, tree) = bed.connect_tree(case.protection)?;
    let file_id = open_file(&mut connection, tree, &random_name(worker))?;
    let data = vec![0x5A; SMALL as usize];
    let mut offsets = Offsets::new(worker, RANDOM_SIZE, SMALL, false);
    gate.run(
        &mut connection,
        case.depth,
        |connection| {
            let head = WriteHead { offset: offsets.next(), file_id, flags: WriteFlags::default() };
            Ok(connection.submit_write(tree, &head, &data)?)
        },
        |reply| written(reply, SMALL),
    )
}

fn written(reply: Reply, expected: u32) -> Result<u64> {
    match reply.success()? {
        Response::Write(write) if write.count == expected => Ok(u64::from(expected)),
        _ => anyhow::bail!("a short write"),
    }
}

/// Every file goes through three requests; the response to each tells what comes next.
fn create_write_close(bed: &Bed, case: Case, worker: usize, gate: &Gate) -> Result<Count> {
    let (mut connection, tree) = bed.connect_tree(case.protection)?;
    let directory = new_directory(worker);
    let data = vec![0x5A; SMALL as usize];
    // Names don't repeat in later rounds: the files of earlier ones are still there.
    let mut number = connection.list(tree, &directory, "*")?.len() as u64;
    let mut slots = Slots::new();
    let create = |connection: &mut Connection, slots: &mut Slots, number: &mut u64| -> Result<()> {
        let name = file_name(&directory, *number);
        let options = CreateOptions::NON_DIRECTORY_FILE;
        let request = open(&name, rights(), CreateDisposition::CREATE, options);
        *number += 1;
        slots.begin(connection.submit(tree, &Request::Create(request))?);
        Ok(())
    };
    gate.wait();
    for _ in 0..case.depth {
        create(&mut connection, &mut slots, &mut number)?;
    }
    let mut count = Count::default();
    while slots.len() > 0 {
        let reply = connection.receive()?;
        slots.end(reply.header.message_id);
        match reply.success()? {
            Response::Create(create::Response { file_id, .. }) => {
                let head = WriteHead { offset: 0, file_id, flags: WriteFlags::default() };
                slots.go_on(connection.submit_write(tree, &head, &data)?, file_id);
            }
            Response::Write(_) => {
                let file_id = slots.file_id();
                slots.go_on(connection.submit(tree, &close_request(file_id))?, file_id);
            }
            Response::Close(_) => {
                count.add(u64::from(SMALL), slots.begun());
                if gate.is_open() {
                    create(&mut connection, &mut slots, &mut number)?;
                }
            }
            _ => anyhow::bail!("an answer to another request"),
        }
    }
    Ok(count)
}

/// The compound that opens one of [`FILES`], queries it and closes it.
pub(super) fn open_query_close_requests(number: u64) -> [Request; 3] {
    let access = AccessMask::READ_ATTRIBUTES.with(AccessMask::READ_DATA);
    let options = CreateOptions::NON_DIRECTORY_FILE;
    let request = open(&file_name("open", number), access, CreateDisposition::OPEN, options);
    [
        Request::Create(request),
        info_request(FileId::ALL_ONES, FileInfoClass::NETWORK_OPEN),
        close_request(FileId::ALL_ONES),
    ]
}

fn open_query_close(bed: &Bed, case: Case, worker: usize, gate: &Gate) -> Result<Count> {
    let (mut connection, tree) = bed.connect_tree(case.protection)?;
    let mut slots = Slots::new();
    let mut number = worker as u64 * FILES / case.connections as u64;
    let mut count = Count::default();
    gate.wait();
    while gate.is_open() || slots.len() > 0 {
        while gate.is_open() && slots.len() < case.depth {
            number = (number + 1) % FILES;
            let requests = open_query_close_requests(number);
            slots.start_compound(&mut connection, tree, &requests)?;
        }
        if slots.len() > 0 {
            slots.finish_compound(&mut connection)?;
            count.add(0, slots.begun());
        }
    }
    Ok(count)
}

/// Every file goes through two compounds: what the first one read, the second one writes.
fn copy(bed: &Bed, case: Case, worker: usize, gate: &Gate) -> Result<Count> {
    let (mut connection, tree) = bed.connect_tree(case.protection)?;
    let directory = new_directory(worker);
    // Names don't repeat in later rounds: the files of earlier ones are still there.
    let mut number = connection.list(tree, &directory, "*")?.len() as u64;
    let options = CreateOptions::NON_DIRECTORY_FILE;
    let (mut sources, mut targets) = (Slots::new(), Slots::new());
    let mut source = worker as u64;
    let mut data = Bytes::new();
    let mut count = Count::default();
    gate.wait();
    while gate.is_open() || sources.len() + targets.len() > 0 {
        while gate.is_open() && sources.len() + targets.len() < case.depth {
            source = (source + 1) % SOURCES;
            let name = file_name("source", source);
            let request = open(&name, AccessMask::FILE_GENERIC_READ, CreateDisposition::OPEN, options);
            let read = read_request(FileId::ALL_ONES, 0, SMALL);
            let requests = [Request::Create(request), read, close_request(FileId::ALL_ONES)];
            sources.start_compound(&mut connection, tree, &requests)?;
        }
        if connection.outstanding() == 0 {
            break;
        }
        let reply = connection.receive()?;
        let message_id = reply.header.message_id;
        if let Response::Read(read) = reply.success()? {
            ensure!(read.data.len() == SMALL as usize, "a short read");
            data = read.data;
        }
        if sources.end(message_id) {
            targets.last_of(&sources);
            let request = open(
                &file_name(&directory, number),
                AccessMask::FILE_GENERIC_WRITE,
                CreateDisposition::CREATE,
                options,
            );
            let requests =
                [Request::Create(request), write_request(data.clone()), close_request(FileId::ALL_ONES)];
            let ids = connection.submit_compound(tree, &requests, true)?;
            targets.go_on(*ids.last().context("an empty compound")?, FileId::ALL_ONES);
            number += 1;
        } else if targets.end(message_id) {
            count.add(u64::from(SMALL), targets.begun());
        }
    }
    Ok(count)
}

fn write_request(data: Bytes) -> Request {
    Request::Write(write::Request {
        offset: 0,
        file_id: FileId::ALL_ONES,
        flags: WriteFlags::default(),
        channel: Channel::NONE,
        remaining_bytes: 0,
        channel_info: Bytes::new(),
        data,
    })
}

fn list(bed: &Bed, case: Case, gate: &Gate) -> Result<Count> {
    let (mut connection, tree) = bed.connect_tree(case.protection)?;
    let access = AccessMask::LIST_DIRECTORY.with(AccessMask::READ_ATTRIBUTES);
    let mut count = Count::default();
    gate.wait();
    while gate.is_open() {
        let begun = Instant::now();
        let request = open("list", access, CreateDisposition::OPEN, CreateOptions::DIRECTORY_FILE);
        let file_id = connection.create(tree, request)?.file_id;
        let query = directory_request(file_id, FileInfoClass::ID_BOTH_DIRECTORY, "*", LISTING_SIZE);
        let mut entries = 0;
        loop {
            let id = connection.submit(tree, &query)?;
            let reply = connection.wait(id)?;
            if reply.header.status == NtStatus::NO_MORE_FILES {
                break;
            }
            let Response::QueryDirectory(response) = reply.success()? else {
                anyhow::bail!("an answer to another request");
            };
            entries += entry_count(&response.output);
        }
        connection.close(tree, file_id)?;
        // Servers list `.` and `..` as well.
        ensure!(entries == ENTRIES + 2, "{entries} entries in place of {}", ENTRIES + 2);
        count.add_many(entries, begun);
    }
    Ok(count)
}

/// Number of entries in a chain, by their NextEntryOffset (MS-FSCC 2.4): the client is not to spend its time on names.
pub(super) fn entry_count(chain: &[u8]) -> u64 {
    let mut count = 0;
    let mut rest = chain;
    while let Some(next) = rest.first_chunk::<4>() {
        count += 1;
        let next = u32::from_le_bytes(*next) as usize;
        rest = if next == 0 { &[] } else { rest.get(next..).unwrap_or_default() };
    }
    count
}

fn session_setup(bed: &Bed, case: Case, gate: &Gate) -> Result<Count> {
    let mut count = Count::default();
    gate.wait();
    while gate.is_open() {
        let begun = Instant::now();
        bed.connect(case.protection)?;
        count.add(0, begun);
    }
    Ok(count)
}

/// Offsets of blocks in a file, from front to back and again, or in no order (xorshift).
#[derive(Debug)]
pub(super) struct Offsets {
    state: u64,
    block: u64,
    blocks: u64,
    in_order: bool,
}

impl Offsets {
    /// Of blocks of this size in a file of that size.
    pub(super) fn new(worker: usize, size: u64, block: u32, in_order: bool) -> Self {
        let seed = 0x9E37_79B9_7F4A_7C15 ^ (worker as u64 + 1) << 32;
        let block = u64::from(block);
        Self { state: if in_order { 0 } else { seed }, block, blocks: size / block, in_order }
    }

    /// The next.
    pub(super) fn next(&mut self) -> u64 {
        if self.in_order {
            self.state += 1;
            return (self.state - 1) % self.blocks * self.block;
        }
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % self.blocks * self.block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rows_are_all_different() {
        let names: std::collections::BTreeSet<_> = Case::all(None).into_iter().map(Case::name).collect();
        assert_eq!(names.len(), Case::all(None).len());
        assert!(names.contains("random-read-4k/encrypted") && names.contains("lease-break"));
    }

    #[test]
    fn offsets_are_blocks_all_over_the_file() {
        let mut offsets = Offsets::new(3, RANDOM_SIZE, SMALL, false);
        let seen: std::collections::BTreeSet<_> = (0..1000).map(|_| offsets.next()).collect();
        assert!(seen.iter().all(|offset| offset % 4096 == 0 && offset + 4096 <= RANDOM_SIZE));
        assert!(seen.len() > 900);
        assert!(
            seen.first().unwrap() < &(RANDOM_SIZE / 10) && seen.last().unwrap() > &(RANDOM_SIZE / 10 * 9)
        );
        let mut offsets = Offsets::new(3, 3 << 20, LARGE, true);
        assert_eq!([0; 4].map(|_| offsets.next() >> 20), [0, 1, 2, 0]);
    }

    #[test]
    fn entries_are_counted_along_their_chain() {
        let mut chain = vec![0; 40];
        chain[0] = 16;
        chain[16] = 8;
        assert_eq!(entry_count(&chain), 3);
        assert_eq!(entry_count(&[]), 0);
        chain[16] = 200;
        assert_eq!(entry_count(&chain), 2);
    }
}
