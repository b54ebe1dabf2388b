//! Connections that are cut at any moment, under clients that come back for their durable opens (MS-SMB2 3.3.7.1, 3.3.5.9.12).
//!
//! Each client has a file of its own under a handle lease, locks its first record, and writes the others over and over, several at a
//! time. Then its connection is gone, with requests under way, and it comes back on another one. What must hold:
//!
//! * the open is there again, once; under its old name in no session it is of no use any more
//! * every write that was acknowledged is there, and nothing that was not written
//! * the lock is held all the time: somebody who reads all along is refused the record, whether the owner is there or not
//! * neither another user nor another client gets the open

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use smb_proto::command::create::{self, CreateDisposition, CreateOptions};
use smb_proto::command::lock::{self, LockElement, LockFlags, LockSequence};
use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::command::write::{WriteFlags, WriteHead};
use smb_proto::command::{FileId, Request};
use smb_proto::create_context::{
    DurableFlags, DurableReconnectV2, DurableRequestV2, LeaseFlags, LeaseKey, LeaseState, LeaseV2,
    RequestContext, ResponseContext,
};
use smb_proto::{AccessMask, NtStatus};

use crate::client::{Error, Link, open};
use crate::kernel_client::random::Random;
use crate::peer::{Peer, PeerKind, Site};
use crate::report::Totals;

/// Clients at once.
const CLIENTS: usize = 4;
/// Records of a file; the first one is the locked one.
const RECORDS: usize = 16;
const RECORD: usize = 512;
/// Writes under way at once.
const UNDER_WAY: usize = 8;

/// What to run.
#[derive(Debug)]
pub struct Options {
    /// The server under test.
    pub peer: PeerKind,
    /// How often connections are cut, all clients together.
    pub count: usize,
    /// Where all random parts start; None takes it from the clock.
    pub seed: Option<u64>,
}

/// Cuts connections.
pub fn run(options: &Options) -> Result<Totals> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let seed = options.seed.unwrap_or(now);
    println!("seed: --seed {seed}");
    let peer = Peer::start(options.peer, Site::new(1)?)?;
    let mut totals = Totals::default();
    let (left, under_way) = (AtomicUsize::new(options.count), AtomicUsize::new(0));
    let started = Instant::now();
    let site = peer.site();
    let results: Vec<Result<usize>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let random = Random::new(seed.wrapping_add(number as u64));
                let (left, under_way) = (&left, &under_way);
                scope.spawn(move || Client::new(site, number, random)?.work(left, under_way))
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| bail!("a client panicked")))
            .collect()
    });
    for (number, result) in results.into_iter().enumerate() {
        let result = result.map(|cuts| println!("        client {number}: {cuts} cuts"));
        let result = result.with_context(|| peer.log_tail());
        totals.record(&format!("cuts: client {number} lost nothing"), result);
    }
    let seconds = started.elapsed().as_secs_f64();
    let under_way = under_way.into_inner();
    println!("        {} cuts in {seconds:.0} s, with {under_way} writes under way", options.count);
    totals.record("cuts: the server ran through and ends when asked", peer.stop());
    Ok(totals)
}

/// The share that the clients work on.
fn share(site: &Site) -> Result<&str> {
    Ok(&site.shares.first().context("a site without shares")?.name)
}

fn status_of(result: Result<impl Sized, Error>) -> Result<Option<NtStatus>> {
    match result {
        Ok(_) => Ok(None),
        Err(error) => match error.status() {
            Some(status) => Ok(Some(status)),
            None => Err(error.into()),
        },
    }
}

/// What may be in a record: what was acknowledged last, or any of what was sent since.
#[derive(Clone, Default)]
struct Record {
    acknowledged: u64,
    sent: Vec<u64>,
}

struct Client<'a> {
    site: &'a Site,
    number: usize,
    guid: [u8; 16],
    random: Random,
    records: Vec<Record>,
    next: u64,
    /// Its CREATE's name, new with each open.
    create_guid: [u8; 16],
}

fn record(stamp: u64) -> Vec<u8> {
    stamp.to_le_bytes().repeat(RECORD / 8)
}

impl<'a> Client<'a> {
    fn new(site: &'a Site, number: usize, mut random: Random) -> Result<Self> {
        let mut guid = [0; 16];
        let (head, tail) = guid.split_at_mut(8);
        head.copy_from_slice(&random.next().to_le_bytes());
        tail.copy_from_slice(&(number as u64 + 1).to_le_bytes());
        let records = vec![Record::default(); RECORDS];
        Ok(Self { site, number, guid, random, records, next: 1, create_guid: guid })
    }

    fn name(&self) -> String {
        format!("file-{}", self.number)
    }

    fn lease(&self) -> RequestContext {
        RequestContext::LeaseV2(LeaseV2 {
            key: LeaseKey(self.guid),
            state: LeaseState::READ_HANDLE,
            flags: LeaseFlags::EMPTY,
            parent_key: LeaseKey::default(),
            epoch: 0,
        })
    }

    fn request(&self, context: RequestContext) -> create::Request {
        let access = AccessMask::READ_DATA.with(AccessMask::WRITE_DATA);
        let request = open(&self.name(), access, CreateDisposition::OPEN_IF, CreateOptions::EMPTY);
        create::Request { oplock_level: OplockLevel::LEASE, contexts: vec![context, self.lease()], ..request }
    }

    fn reconnect(&self, file_id: FileId) -> create::Request {
        let (create_guid, flags) = (self.create_guid, DurableFlags::EMPTY);
        let back = DurableReconnectV2 { file_id, create_guid, flags };
        self.request(RequestContext::DurableHandleReconnectV2(back))
    }

    fn work(mut self, left: &AtomicUsize, under_way: &AtomicUsize) -> Result<usize> {
        let user = &self.site.users[0];
        let mut link = Link::new(self.site, user, share(self.site)?, self.guid)?;
        let mut file_id = self.open(&mut link)?;
        for number in 0..RECORDS {
            let data = record(0);
            link.connection.write(link.tree, file_id, (number * RECORD) as u64, &data)?;
        }
        let element = LockElement {
            offset: 0,
            length: RECORD as u64,
            flags: LockFlags::EXCLUSIVE_LOCK.with(LockFlags::FAIL_IMMEDIATELY),
        };
        let lock = lock::Request { lock_sequence: LockSequence::new(1, 1), file_id, locks: vec![element] };
        link.connection.call(link.tree, &Request::Lock(lock))?;
        let (site, name, stop) = (self.site, self.name(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| read_all_along(site, &name, &stop));
            let cuts: Result<usize> = (|| {
                let mut cuts = 0;
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    under_way.fetch_add(self.write_until_cut(link, file_id)?, Ordering::Relaxed);
                    (link, file_id) = self.come_back(file_id).with_context(|| format!("after cut {cuts}"))?;
                    self.check(&mut link, file_id).with_context(|| format!("after cut {cuts}"))?;
                    cuts += 1;
                }
                link.connection.close(link.tree, file_id)?;
                Ok(cuts)
            })();
            stop.store(true, Ordering::Relaxed);
            let refused = reader.join().unwrap_or_else(|_| bail!("the reader panicked"));
            let cuts = cuts?;
            ensure!(refused? > cuts, "the reader hardly tried");
            Ok(cuts)
        })
    }

    fn open(&mut self, link: &mut Link) -> Result<FileId> {
        let (create_guid, flags) = (self.create_guid, DurableFlags::EMPTY);
        let wish = DurableRequestV2 { timeout_ms: 60_000, flags, create_guid };
        let request = self.request(RequestContext::DurableHandleRequestV2(wish));
        let created = link.connection.create(link.tree, request)?;
        let durable = |context: &ResponseContext| matches!(context, ResponseContext::DurableHandleV2(_));
        ensure!(created.contexts.iter().any(durable), "the open is not durable");
        Ok(created.file_id)
    }

    /// Writes, and loses the connection. Returns how many writes were under way.
    fn write_until_cut(&mut self, mut link: Link, file_id: FileId) -> Result<usize> {
        let writes = 1 + self.random.below(40);
        let mut waiting: VecDeque<(u64, usize, u64)> = VecDeque::new();
        for _ in 0..writes {
            if waiting.len() == UNDER_WAY
                && let Some((id, number, stamp)) = waiting.pop_front()
            {
                link.connection.wait(id)?.success()?;
                let record = &mut self.records[number];
                record.acknowledged = record.acknowledged.max(stamp);
            }
            let number = 1 + self.random.below(RECORDS - 1);
            let stamp = self.next;
            self.next += 1;
            let head = WriteHead { offset: (number * RECORD) as u64, file_id, flags: WriteFlags::default() };
            self.records[number].sent.push(stamp);
            let id = link.connection.submit_write(link.tree, &head, &record(stamp))?;
            waiting.push_back((id, number, stamp));
        }
        // Its end of the connection is gone, with all that is under way.
        drop(link);
        Ok(waiting.len())
    }

    fn come_back(&mut self, old: FileId) -> Result<(Link, FileId)> {
        let [user, other] = &self.site.users;
        if self.random.below(4) == 0 {
            let mut thief = Link::new(self.site, other, share(self.site)?, self.guid)?;
            let status = status_of(thief.connection.create(thief.tree, self.reconnect(old)))?;
            ensure!(status.is_some(), "another user got the open");
            let mut stranger = Link::new(self.site, user, share(self.site)?, [0x55; 16])?;
            let status = status_of(stranger.connection.create(stranger.tree, self.reconnect(old)))?;
            ensure!(status == Some(NtStatus::OBJECT_NAME_NOT_FOUND), "another client: {status:?}");
        }
        let mut link = Link::new(self.site, user, share(self.site)?, self.guid)?;
        let created = link.connection.create(link.tree, self.reconnect(old)).context("coming back")?;
        ensure!(created.file_id.persistent == old.persistent, "another open");
        let held = created.contexts.iter().find_map(|context| match context {
            ResponseContext::LeaseV2(lease) => Some(lease.state),
            _ => None,
        });
        ensure!(held == Some(LeaseState::READ_HANDLE), "the lease is {held:?}");
        let again = status_of(link.connection.create(link.tree, self.reconnect(old)))?;
        ensure!(again == Some(NtStatus::OBJECT_NAME_NOT_FOUND), "the open can be had twice: {again:?}");
        let old_name = status_of(link.connection.read(link.tree, old, RECORD as u64, 8))?;
        ensure!(old_name == Some(NtStatus::FILE_CLOSED), "the old FileId: {old_name:?}");
        Ok((link, created.file_id))
    }

    /// Every record is what was acknowledged last, or something that was sent since.
    fn check(&mut self, link: &mut Link, file_id: FileId) -> Result<()> {
        let data = link.connection.read(link.tree, file_id, 0, (RECORDS * RECORD) as u32)?;
        ensure!(data.len() == RECORDS * RECORD, "the file has {} bytes", data.len());
        for (number, (found, expected)) in data.chunks_exact(RECORD).zip(&mut self.records).enumerate() {
            let stamp = found.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
            ensure!(found == record(stamp), "record {number} is torn");
            // Writes that are under way at once are carried out in any order.
            let recent = stamp + UNDER_WAY as u64 > expected.acknowledged;
            let possible = stamp == expected.acknowledged || (recent && expected.sent.contains(&stamp));
            ensure!(
                possible,
                "record {number} is {stamp}; {} was acknowledged, {:?} sent",
                expected.acknowledged,
                expected.sent
            );
            *expected = Record { acknowledged: stamp, sent: Vec::new() };
        }
        Ok(())
    }
}

/// Reads the locked record over and over, as somebody else. Returns how often it was refused.
fn read_all_along(site: &Site, name: &str, stop: &AtomicBool) -> Result<usize> {
    let [_, other] = &site.users;
    let mut link = Link::new(site, other, share(site)?, [0xAA; 16])?;
    let mut refused = 0;
    while !stop.load(Ordering::Relaxed) {
        let request = open(name, AccessMask::READ_DATA, CreateDisposition::OPEN, CreateOptions::EMPTY);
        let file_id = link.connection.create(link.tree, request)?.file_id;
        let status = status_of(link.connection.read(link.tree, file_id, 0, 8))?;
        link.connection.close(link.tree, file_id)?;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        ensure!(status == Some(NtStatus::FILE_LOCK_CONFLICT), "a locked record was read: {status:?}");
        refused += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(refused)
}
