//! The server is killed at any moment and started again, under clients that come back for their persistent opens (MS-SMB2
//! 3.3.5.9.10, 3.3.5.9.12).
//!
//! Each client has a file of its own on the continuously available share. It writes records, several at a time, and locks and
//! unlocks others. Then the server gets SIGKILL, with requests under way, and is started again. What must hold:
//!
//! * the open is there again, and nobody else gets it
//! * every write that was acknowledged is there, and nothing that was not written
//! * every lock that was acknowledged is held, every unlock that was acknowledged is done
//! * whoever else opens the file meanwhile is told that it is not available, and never reads what is locked

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use smb_proto::command::create::{self, CreateDisposition, CreateOptions};
use smb_proto::command::lock::{self, LockElement, LockFlags, LockSequence};
use smb_proto::command::write::{WriteFlags, WriteHead};
use smb_proto::command::{FileId, Request};
use smb_proto::create_context::{
    DurableFlags, DurableReconnectV2, DurableRequestV2, RequestContext, ResponseContext,
};
use smb_proto::{AccessMask, NtStatus};

use crate::client::{Error, Link, open};
use crate::kernel_client::random::Random;
use crate::peer::{CONTINUOUSLY_AVAILABLE, Peer, PeerKind, Site};
use crate::report::Totals;

/// Clients at once.
const CLIENTS: usize = 4;
/// Records of a file. The first one stays locked; the second half is locked and unlocked, not written.
const RECORDS: usize = 16;
const RECORD: usize = 512;
/// Writes under way at once.
const UNDER_WAY: usize = 8;
/// How long a client tries to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to run.
#[derive(Debug)]
pub struct Options {
    /// The server under test.
    pub peer: PeerKind,
    /// How often it is killed.
    pub count: usize,
    /// Where all random parts start; None takes it from the clock.
    pub seed: Option<u64>,
}

/// What clients and the killer share.
#[derive(Default)]
struct Shared {
    /// Requests that clients have sent and not yet seen answered.
    under_way: AtomicUsize,
    /// How often clients have come back, all together.
    returns: AtomicUsize,
    stop: AtomicBool,
}

/// Kills the server.
pub fn run(options: &Options) -> Result<Totals> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let seed = options.seed.unwrap_or(now);
    println!("seed: --seed {seed}");
    let mut site = Site::new(1)?;
    site.add_named_shares()?;
    let peer = Peer::start(options.peer, site)?;
    let mut totals = Totals::default();
    let started = Instant::now();
    let shared = Shared::default();
    let (killed, results) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let random = Random::new(seed.wrapping_add(number as u64));
                let (site, shared) = (peer.site(), &shared);
                scope.spawn(move || {
                    let result = Client::new(site, number, random).work(shared);
                    if result.is_err() {
                        shared.stop.store(true, Ordering::Relaxed);
                    }
                    result
                })
            })
            .collect();
        let killed = kill(&peer, options.count, Random::new(!seed), &shared);
        shared.stop.store(true, Ordering::Relaxed);
        let results: Vec<Result<usize>> = clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| bail!("a client panicked")))
            .collect();
        (killed, results)
    });
    for (number, result) in results.into_iter().enumerate() {
        let result = result.map(|returns| println!("        client {number}: came back {returns} times"));
        let result = result.with_context(|| peer.log_tail());
        totals.record(&format!("kills: client {number} lost nothing"), result);
    }
    let seconds = started.elapsed().as_secs_f64();
    let killed = killed.map(|under_way| {
        let least = under_way.iter().min().copied().unwrap_or_default();
        let all: usize = under_way.iter().sum();
        let kills = under_way.len();
        println!("        {kills} kills in {seconds:.0} s, with {all} requests under way, {least} at least");
    });
    totals.record("kills: each with a request under way", killed);
    totals.record("kills: the server ends when asked", peer.stop());
    Ok(totals)
}

/// Kills and starts the server again and again. Returns how many requests were under way each time.
fn kill(peer: &Peer, count: usize, mut random: Random, shared: &Shared) -> Result<Vec<usize>> {
    let mut under_way = Vec::new();
    for kill in 0..count {
        let deadline = Instant::now() + PATIENCE;
        while shared.returns.load(Ordering::Relaxed) < kill * CLIENTS + CLIENTS {
            ensure!(Instant::now() < deadline, "not every client came back after kill {kill}");
            if shared.stop.load(Ordering::Relaxed) {
                return Ok(under_way);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(random.below(150_000) as u64));
        let requests = loop {
            let requests = shared.under_way.load(Ordering::Relaxed);
            if requests > 0 || Instant::now() > deadline {
                break requests;
            }
        };
        peer.kill_and_restart()?;
        ensure!(requests > 0, "nothing was under way");
        under_way.push(requests);
    }
    Ok(under_way)
}

/// What becomes of a request when the server may be gone: `None` if it is.
fn unless_gone<T>(result: Result<T, Error>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.status().is_some() => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// What may be in a record: what was acknowledged last, or any of what was sent since.
#[derive(Clone, Default)]
struct Record {
    acknowledged: u64,
    sent: Vec<u64>,
}

/// Whether a record is locked, as far as the client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    Held,
    /// A LOCK or an unlock was not answered.
    Unknown,
}

struct Client<'a> {
    site: &'a Site,
    number: usize,
    guid: [u8; 16],
    random: Random,
    records: Vec<Record>,
    locks: BTreeMap<usize, Lock>,
    next: u64,
    lock_sequence: u32,
}

fn record(stamp: u64) -> Vec<u8> {
    stamp.to_le_bytes().repeat(RECORD / 8)
}

impl<'a> Client<'a> {
    fn new(site: &'a Site, number: usize, mut random: Random) -> Self {
        let mut guid = [0; 16];
        let (head, tail) = guid.split_at_mut(8);
        head.copy_from_slice(&random.next().to_le_bytes());
        tail.copy_from_slice(&(number as u64 + 1).to_le_bytes());
        let records = vec![Record::default(); RECORDS];
        Self { site, number, guid, random, records, locks: BTreeMap::new(), next: 1, lock_sequence: 0 }
    }

    fn name(&self) -> String {
        format!("file-{}", self.number)
    }

    fn request(&self, context: RequestContext) -> create::Request {
        let access = AccessMask::READ_DATA.with(AccessMask::WRITE_DATA);
        let request = open(&self.name(), access, CreateDisposition::OPEN_IF, CreateOptions::EMPTY);
        create::Request { contexts: vec![context], ..request }
    }

    fn reconnect(&self, file_id: FileId) -> create::Request {
        let (create_guid, flags) = (self.guid, DurableFlags::PERSISTENT);
        self.request(RequestContext::DurableHandleReconnectV2(DurableReconnectV2 {
            file_id,
            create_guid,
            flags,
        }))
    }

    /// Works until told to stop. Returns how often it came back.
    fn work(mut self, shared: &Shared) -> Result<usize> {
        let mut link = Link::new(self.site, &self.site.users[0], CONTINUOUSLY_AVAILABLE, self.guid)?;
        let mut file_id = self.open(&mut link)?;
        for number in 0..RECORDS {
            link.connection.write(link.tree, file_id, (number * RECORD) as u64, &record(0))?;
        }
        ensure!(self.lock(&mut link, file_id, 0, true)?, "the server is gone before it was killed");
        shared.returns.fetch_add(1, Ordering::Relaxed);
        let mut returns = 0;
        while !shared.stop.load(Ordering::Relaxed) {
            if self.work_a_while(&mut link, file_id, shared)? {
                continue;
            }
            // A kill may come while it comes back: then it has to again.
            let deadline = Instant::now() + PATIENCE;
            (link, file_id) = loop {
                let back = self.come_back(file_id).with_context(|| format!("return {returns}"))?;
                match back {
                    Some(back) => break back,
                    None => ensure!(Instant::now() < deadline, "the server does not come back"),
                }
                std::thread::sleep(Duration::from_millis(5));
            };
            returns += 1;
            shared.returns.fetch_add(1, Ordering::Relaxed);
        }
        link.connection.close(link.tree, file_id)?;
        Ok(returns)
    }

    fn open(&self, link: &mut Link) -> Result<FileId> {
        let (create_guid, flags) = (self.guid, DurableFlags::PERSISTENT);
        let wish = DurableRequestV2 { timeout_ms: 60_000, flags, create_guid };
        let created =
            link.connection.create(link.tree, self.request(RequestContext::DurableHandleRequestV2(wish)))?;
        let persistent = |context: &ResponseContext| matches!(context, ResponseContext::DurableHandleV2(granted) if granted.flags.contains(DurableFlags::PERSISTENT));
        ensure!(created.contexts.iter().any(persistent), "the open is not persistent");
        Ok(created.file_id)
    }

    /// Writes, locks and unlocks for a moment. Returns false if the server is gone.
    fn work_a_while(&mut self, link: &mut Link, file_id: FileId, shared: &Shared) -> Result<bool> {
        let mut waiting: VecDeque<(u64, usize, u64)> = VecDeque::new();
        let alive = self.write_a_while(link, file_id, &mut waiting, shared);
        shared.under_way.fetch_sub(waiting.len(), Ordering::Relaxed);
        if !alive? {
            return Ok(false);
        }
        let number = RECORDS / 2 + self.random.below(RECORDS / 2);
        let lock = !self.locks.contains_key(&number);
        shared.under_way.fetch_add(1, Ordering::Relaxed);
        let alive = self.lock(link, file_id, number, lock);
        shared.under_way.fetch_sub(1, Ordering::Relaxed);
        alive
    }

    fn write_a_while(
        &mut self,
        link: &mut Link,
        file_id: FileId,
        waiting: &mut VecDeque<(u64, usize, u64)>,
        shared: &Shared,
    ) -> Result<bool> {
        let mut left = 1 + self.random.below(20);
        while left > 0 || !waiting.is_empty() {
            if left > 0 && waiting.len() < UNDER_WAY {
                left -= 1;
                let number = 1 + self.random.below(RECORDS / 2 - 1);
                let stamp = self.next;
                self.next += 1;
                let offset = (number * RECORD) as u64;
                let head = WriteHead { offset, file_id, flags: WriteFlags::default() };
                self.records[number].sent.push(stamp);
                let sent = link.connection.submit_write(link.tree, &head, &record(stamp));
                let Some(id) = unless_gone(sent)? else { return Ok(false) };
                waiting.push_back((id, number, stamp));
                shared.under_way.fetch_add(1, Ordering::Relaxed);
            } else if let Some(&(id, number, stamp)) = waiting.front() {
                let Some(reply) = unless_gone(link.connection.wait(id))? else { return Ok(false) };
                if unless_gone(reply.success())?.is_none() {
                    return Ok(false);
                }
                waiting.pop_front();
                shared.under_way.fetch_sub(1, Ordering::Relaxed);
                let record = &mut self.records[number];
                record.acknowledged = record.acknowledged.max(stamp);
            }
        }
        Ok(true)
    }

    /// Locks or unlocks a record. Returns false if the server is gone.
    fn lock(&mut self, link: &mut Link, file_id: FileId, number: usize, lock: bool) -> Result<bool> {
        self.locks.insert(number, Lock::Unknown);
        self.lock_sequence += 1;
        let flags = match lock {
            true => LockFlags::EXCLUSIVE_LOCK.with(LockFlags::FAIL_IMMEDIATELY),
            false => LockFlags::UNLOCK,
        };
        let locks = vec![LockElement { offset: (number * RECORD) as u64, length: RECORD as u64, flags }];
        let lock_sequence = LockSequence::new((self.lock_sequence % 15 + 1) as u8, 1);
        let request = Request::Lock(lock::Request { lock_sequence, file_id, locks });
        if unless_gone(link.connection.call(link.tree, &request))?.is_none() {
            return Ok(false);
        }
        if lock {
            self.locks.insert(number, Lock::Held);
        } else {
            self.locks.remove(&number);
        }
        Ok(true)
    }

    /// Comes back and looks at everything. None if the server is gone (again).
    fn come_back(&mut self, old: FileId) -> Result<Option<(Link, FileId)>> {
        let [user, other] = &self.site.users;
        if self.random.below(2) == 0 {
            let Some(mut thief) =
                unless_gone(Link::new(self.site, other, CONTINUOUSLY_AVAILABLE, self.guid))?
            else {
                return Ok(None);
            };
            match thief.connection.create(thief.tree, self.reconnect(old)) {
                Ok(_) => bail!("another user got the open"),
                Err(error) if error.status().is_none() => return Ok(None),
                Err(error) => {
                    ensure!(error.status() == Some(NtStatus::ACCESS_DENIED), "another user: {error}");
                }
            }
            let conflicting =
                open(&self.name(), AccessMask::READ_DATA, CreateDisposition::OPEN, CreateOptions::EMPTY);
            match thief.connection.create(thief.tree, conflicting) {
                Ok(_) => bail!("somebody else opened the file while its owner was away"),
                Err(error) if error.status().is_none() => return Ok(None),
                Err(error) => ensure!(
                    error.status() == Some(NtStatus::FILE_NOT_AVAILABLE),
                    "a conflicting open: {error}"
                ),
            }
        }
        let Some(mut link) = unless_gone(Link::new(self.site, user, CONTINUOUSLY_AVAILABLE, self.guid))?
        else {
            return Ok(None);
        };
        let created = link.connection.create(link.tree, self.reconnect(old));
        let Some(created) = unless_gone(created).context("coming back")? else { return Ok(None) };
        ensure!(created.file_id.persistent == old.persistent, "another open");
        let file_id = created.file_id;
        if !self.check_data(&mut link, file_id)? || !self.check_locks(&mut link, file_id)? {
            return Ok(None);
        }
        Ok(Some((link, file_id)))
    }

    /// Every record is what was acknowledged last, or something that was sent since.
    fn check_data(&mut self, link: &mut Link, file_id: FileId) -> Result<bool> {
        let read = link.connection.read(link.tree, file_id, 0, (RECORDS * RECORD) as u32);
        let Some(data) = unless_gone(read)? else { return Ok(false) };
        ensure!(data.len() == RECORDS * RECORD, "the file has {} bytes", data.len());
        for (number, (found, expected)) in data.chunks_exact(RECORD).zip(&mut self.records).enumerate() {
            let stamp = found.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
            ensure!(found == record(stamp), "record {number} is torn");
            // Writes that are under way at once are carried out in any order.
            let recent = stamp + UNDER_WAY as u64 > expected.acknowledged;
            let possible = stamp == expected.acknowledged || (recent && expected.sent.contains(&stamp));
            let acknowledged = expected.acknowledged;
            ensure!(possible, "record {number} is {stamp}; {acknowledged} was acknowledged");
            *expected = Record { acknowledged: stamp, sent: Vec::new() };
        }
        Ok(true)
    }

    /// Every record that must be locked can be unlocked, and is locked again; what must not be can be locked.
    fn check_locks(&mut self, link: &mut Link, file_id: FileId) -> Result<bool> {
        for number in (0..RECORDS).filter(|number| *number == 0 || *number >= RECORDS / 2) {
            let known = self.locks.get(&number).copied();
            let held = match known {
                Some(Lock::Held) => true,
                None => false,
                // It was under way; whichever it is, it is so once from now on.
                Some(Lock::Unknown) => {
                    match self.lock(link, file_id, number, false) {
                        Ok(true) => {}
                        Ok(false) => return Ok(false),
                        Err(error) if error.to_string().contains("RANGE_NOT_LOCKED") => {
                            self.locks.remove(&number);
                        }
                        Err(error) => return Err(error),
                    }
                    if number == 0 && !self.lock(link, file_id, number, true)? {
                        return Ok(false);
                    }
                    continue;
                }
            };
            for lock in [!held, held] {
                let what = if held { "an acknowledged lock is lost" } else { "an unlocked record is locked" };
                let alive = self.lock(link, file_id, number, lock);
                if !alive.with_context(|| format!("record {number}: {what}"))? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
