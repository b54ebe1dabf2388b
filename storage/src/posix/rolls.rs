//! Names of directories as the kernel gave them: what a listing has read ahead, and whole directories for the next listing.
//!
//! A whole directory holds as long as its modification and change time are the ones from before the reading, provided that they
//! were older than a tick of the file system's clock then. Entries are always looked at one by one when they are
//! listed, so that a name that is gone meanwhile is left out, and only that of a file made meanwhile can be missing.
//!
//! Beside each name there is what was seen of it and the record that it had, so that a listing finds records in the order in which
//! it asks for them: one in a large table costs as much as a tenth of asking for everything else of the entry.
//!
//! Memory is bounded ([`super::PosixOptions::listing_memory_max`]) over everything, listings under way included. A listing that
//! gets none goes back to where it was in the directory, and reads on from there the next time.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::FileType;

use super::handle::{InodeKey, Stamp, Stat, Time};
use super::record::Record;
use crate::handles::lock;

/// The part of the memory that one directory may have.
const DIRECTORY_SHARE: usize = 8;
/// What a directory takes besides its names.
const OVERHEAD: usize = 256;

/// Bytes that are spent.
#[derive(Debug)]
pub(super) struct Memory {
    spent: AtomicUsize,
    max: usize,
}

/// A part of the memory, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Claim {
    fn new(memory: &Arc<Memory>) -> Self {
        Self { memory: Arc::clone(memory), bytes: 0 }
    }

    /// Makes it that many bytes; `false`, with nothing changed, if there are not so many.
    fn resize(&mut self, bytes: usize) -> bool {
        let (more, max) = (bytes.saturating_sub(self.bytes), self.memory.max);
        let taken = self.memory.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spent| {
            spent.checked_add(more).filter(|spent| *spent <= max)
        });
        if more > 0 && taken.is_err() {
            return false;
        }
        self.memory.spent.fetch_sub(self.bytes.saturating_sub(bytes), Ordering::Relaxed);
        self.bytes = bytes;
        true
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.memory.spent.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Names one after the other: type, name, zero byte.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<u8>);

const TYPES: [FileType; 4] =
    [FileType::Unknown, FileType::RegularFile, FileType::Directory, FileType::Symlink];

impl Names {
    pub(super) fn push(&mut self, file_type: FileType, name: &CStr) {
        // What is none of these has to be asked for its type, as where the file system doesn't tell.
        let code = TYPES.iter().position(|known| *known == file_type).unwrap_or(0);
        self.0.push(code as u8);
        self.0.extend_from_slice(name.to_bytes_with_nul());
    }

    /// The entry at a position, and the position of the next.
    pub(super) fn at(&self, position: usize) -> Option<(FileType, &CStr, usize)> {
        let (code, rest) = self.0.get(position..)?.split_first()?;
        let name = CStr::from_bytes_until_nul(rest).ok()?;
        Some((*TYPES.get(usize::from(*code))?, name, position + 1 + name.count_bytes() + 1))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// An inode as it was when a record was read of it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    number: u64,
    seconds: i64,
    nanoseconds: u32,
    /// Which of the records.
    record: u32,
}

/// Nothing was seen: there is no inode of that number.
const UNSEEN: Seen = Seen { number: 0, seconds: 0, nanoseconds: 0, record: 0 };
/// Records that are looked through before another one is taken for new: most files of a directory have the same.
const ALIKE_MAX: usize = 4;

/// Records in the order of their names.
#[derive(Debug, Default)]
struct Records {
    device: u64,
    seen: Vec<Seen>,
    distinct: Vec<Record>,
}

impl Records {
    fn bytes(&self) -> usize {
        self.seen.len() * size_of::<Seen>() + self.distinct.len() * size_of::<Record>()
    }

    fn get(&self, name: usize, stat: &Stat) -> Option<Record> {
        let seen = self.seen.get(name)?;
        let is_as_it_was = (stat.key.device, stat.key.number) == (self.device, seen.number)
            && stat.changed_at() == (seen.seconds, seen.nanoseconds);
        if is_as_it_was { self.distinct.get(seen.record as usize).copied() } else { None }
    }

    fn set(&mut self, name: usize, (number, changed): (u64, Time), record: Record) {
        let alike = self.distinct.iter().rev().take(ALIKE_MAX).position(|known| *known == record);
        let place = match alike {
            Some(before) => self.distinct.len() - 1 - before,
            None => {
                self.distinct.push(record);
                self.distinct.len() - 1
            }
        };
        let Ok(record) = u32::try_from(place) else { return };
        if let Some(seen) = self.seen.get_mut(name) {
            *seen = Seen { number, seconds: changed.0, nanoseconds: changed.1, record };
        }
    }
}

/// A directory that is being read from its beginning on, to be kept.
#[derive(Debug)]
pub(super) struct Making {
    stamp: Stamp,
    names: Names,
    records: Records,
    claim: Claim,
}

impl Making {
    /// Takes `count` more names; `None` if there are too many.
    pub(super) fn with(mut self, more: &Names, count: usize) -> Option<Self> {
        let bytes = self.names.0.len() + more.0.len() + self.records.bytes() + OVERHEAD;
        // Each of them may get a record of its own. Twice, as a vector that grows may have twice its length.
        let bytes = bytes + count * (size_of::<Seen>() + size_of::<Record>());
        if bytes > self.claim.memory.max / DIRECTORY_SHARE || !self.claim.resize(bytes * 2) {
            return None;
        }
        self.names.0.extend_from_slice(&more.0);
        self.records.seen.resize(self.records.seen.len() + count, UNSEEN);
        Some(self)
    }

    /// An inode of the directory's device had this record for certain when it was as `stat` says; it is `back` names from the
    /// end.
    pub(super) fn note(&mut self, back: usize, stat: &Stat, record: Record) {
        if stat.key.device == self.records.device
            && let Some(name) = self.records.seen.len().checked_sub(back)
        {
            self.records.set(name, (stat.key.number, stat.changed_at()), record);
        }
    }
}

/// The names of a whole directory.
#[derive(Debug)]
pub(super) struct Roll {
    stamp: Stamp,
    pub(super) names: Names,
    records: Records,
    _claim: Claim,
}

impl Roll {
    /// The record of the inode that a name stands for, if it is as it was when it was read.
    pub(super) fn record(&self, name: usize, stat: &Stat) -> Option<Record> {
        self.records.get(name, stat)
    }
}

/// The directories that are kept.
pub(super) struct RollCache {
    memory: Arc<Memory>,
    state: Mutex<Kept>,
    /// Listings that read the directory.
    reads: AtomicU64,
}

#[derive(Default)]
struct Kept {
    rolls: HashMap<InodeKey, (u64, Arc<Roll>)>,
    clock: u64,
}

impl Kept {
    fn drop_oldest(&mut self) -> bool {
        let oldest = self.rolls.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
        oldest.is_some_and(|key| self.rolls.remove(&key).is_some())
    }
}

impl RollCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        let memory = Arc::new(Memory { spent: AtomicUsize::new(0), max: bytes_max });
        Self { memory, state: Mutex::default(), reads: AtomicU64::new(0) }
    }

    /// The names of a directory that is as it was.
    pub(super) fn get(&self, key: InodeKey, stamp: Stamp) -> Option<Arc<Roll>> {
        let kept = &mut *lock(&self.state);
        kept.clock += 1;
        let (used, roll) = kept.rolls.get_mut(&key)?;
        if roll.stamp != stamp {
            kept.rolls.remove(&key);
            return None;
        }
        *used = kept.clock;
        Some(Arc::clone(roll))
    }

    /// Begins to read a directory, whose stamp was just asked for; `None` if it cannot be kept.
    pub(super) fn make(&self, key: InodeKey, stamp: Stamp) -> Option<Making> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let claim = Claim::new(&self.memory);
        let records = Records { device: key.device, ..Records::default() };
        (!super::handle::is_recent(&stamp)).then(|| Making { stamp, names: Names::default(), records, claim })
    }

    /// The directory was read to its end.
    pub(super) fn keep(&self, key: InodeKey, mut made: Making) {
        made.names.0.shrink_to_fit();
        made.records.seen.shrink_to_fit();
        made.records.distinct.shrink_to_fit();
        made.claim.resize(made.names.0.len() + made.records.bytes() + OVERHEAD);
        let roll = Roll { stamp: made.stamp, names: made.names, records: made.records, _claim: made.claim };
        let kept = &mut *lock(&self.state);
        kept.clock += 1;
        kept.rolls.insert(key, (kept.clock, Arc::new(roll)));
        // The next one needs room too.
        while self.memory.spent.load(Ordering::Relaxed) > self.memory.max / 2 && kept.drop_oldest() {}
    }

    /// Memory for names that were read ahead; `None` if there is none left.
    pub(super) fn ahead(&self, names: &Names) -> Option<Claim> {
        let mut claim = Claim::new(&self.memory);
        claim.resize(names.0.capacity()).then_some(claim)
    }

    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    fn spent(&self) -> usize {
        self.memory.spent.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;

    const STAMP: Stamp = [(1, 1), (1, 1)];

    fn key(number: u64) -> InodeKey {
        InodeKey { device: 1, number }
    }

    fn names(count: usize) -> Names {
        let mut names = Names::default();
        for number in 0..count {
            names.push(FileType::RegularFile, &CString::new(format!("name{number}")).unwrap());
        }
        names
    }

    fn list(names: &Names) -> Vec<String> {
        let mut position = 0;
        std::iter::from_fn(|| {
            let (file_type, name, next) = names.at(position)?;
            assert_eq!(file_type, FileType::RegularFile);
            position = next;
            Some(name.to_str().unwrap().to_owned())
        })
        .collect()
    }

    #[test]
    fn a_directory_is_kept_until_it_changes() {
        let cache = RollCache::new(1 << 20);
        let making = cache.make(key(1), STAMP).unwrap().with(&names(3), 3).unwrap();
        cache.keep(key(1), making);
        assert_eq!(list(&cache.get(key(1), STAMP).unwrap().names), ["name0", "name1", "name2"]);
        assert!(cache.get(key(2), STAMP).is_none());
        assert!(cache.get(key(1), [(1, 1), (1, 2)]).is_none());
        assert!(cache.get(key(1), STAMP).is_none(), "forgotten");
        assert_eq!(cache.spent(), 0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = (now.as_secs() as i64, now.subsec_nanos().max(1));
        assert!(cache.make(key(1), [STAMP[0], now]).is_none(), "it may change under the same time");
    }

    #[test]
    fn records_are_those_of_inodes_that_are_as_they_were() {
        let stat = |number, changed| Stat { stamp: [(0, 0), changed], ..Stat::of_nothing(key(number)) };
        let record = |owner| Record { owner: Some(owner), ..Record::default() };
        let cache = RollCache::new(1 << 20);
        let mut making = cache.make(key(1), STAMP).unwrap().with(&names(20), 20).unwrap();
        for number in 0..20 {
            making.note(20 - number as usize, &stat(100 + number, (5, 5)), record(number as u32 % 7));
        }
        making.note(1, &Stat { key: InodeKey { device: 2, number: 300 }, ..stat(300, (5, 5)) }, record(9));
        cache.keep(key(1), making);
        let roll = cache.get(key(1), STAMP).unwrap();
        for number in 0..20 {
            let told = |stat: Stat| roll.record(number as usize, &stat);
            assert_eq!(told(stat(100 + number, (5, 5))), Some(record(number as u32 % 7)));
            assert_eq!(told(stat(100 + number, (5, 6))), None, "changed");
            assert_eq!(told(stat(101 + number, (5, 5))), None, "another file");
            let elsewhere = InodeKey { device: 2, number: 100 + number };
            assert_eq!(told(Stat { key: elsewhere, ..stat(0, (5, 5)) }), None, "another file system");
        }
        assert_eq!(roll.record(20, &stat(120, (5, 5))), None);
    }

    #[test]
    fn memory_is_bounded_over_all_directories_and_listings() {
        let cache = RollCache::new(64 << 10);
        for number in 0..100 {
            let making = cache.make(key(number), STAMP).unwrap().with(&names(20), 20).unwrap();
            cache.keep(key(number), making);
            assert!(cache.spent() <= 32 << 10);
        }
        assert!(cache.get(key(0), STAMP).is_none() && cache.get(key(99), STAMP).is_some());
        assert!(
            cache.make(key(0), STAMP).unwrap().with(&names(1000), 1000).is_none(),
            "too large a directory"
        );
        let ahead = names(3000);
        let claims: Vec<_> = std::iter::from_fn(|| cache.ahead(&ahead)).collect();
        assert!(!claims.is_empty() && claims.len() < 10 && cache.spent() <= 64 << 10);
        drop(claims);
        assert!(cache.spent() <= 32 << 10);
    }
}
