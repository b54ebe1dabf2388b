//! Records that were read, kept so that listings and opens need not ask the file system for them again.
//!
//! A record is an extended attribute, and whoever sets one, this driver or a local program, gives the inode a new change time.
//! So what was read holds as long as the change time is still the one from before the reading. One doubt is excluded:
//! changes within a tick of the file system's clock may carry the same time, so a record is kept only if its inode's
//! change time was older than a tick when it was read.
//!
//! Memory is bounded ([`super::PosixOptions::record_memory_max`]): each part has two generations of equal size. New ones go to the
//! younger; when it is full, it becomes the older, whose records go unless they were asked for since.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::handle::{InodeKey, Stat, Time};
use super::record::Record;
use crate::handles::lock;

const SHARDS: usize = 16;
/// What the table spends on a record: itself, and a byte that says whether there is one.
const BUCKET: usize = size_of::<(InodeKey, Known)>() + 1;

#[derive(Clone, Copy, Debug)]
struct Known {
    changed: Time,
    record: Record,
}

type Generation = HashMap<InodeKey, Known, KeyHasherState>;

struct Shard {
    young: Generation,
    old: Generation,
}

/// The records of a volume.
pub(super) struct RecordCache {
    shards: [Mutex<Shard>; SHARDS],
    hasher: KeyHasherState,
    /// Records in one generation of a shard.
    generation_max: usize,
    /// Records that the file system was asked for.
    reads: AtomicU64,
}

impl RecordCache {
    /// With at most that many bytes, as far as tables can be that small.
    pub(super) fn new(bytes_max: usize) -> Self {
        let hasher = KeyHasherState(RandomState::new().hash_one(0));
        let generation = || HashMap::with_hasher(hasher);
        // A table has a power of two of places, and is enlarged when seven of eight are taken.
        let places = bytes_max / (BUCKET * SHARDS * 2);
        let generation_max = places.checked_ilog2().map_or(0, |power| (1_usize << power) / 8 * 7);
        let shards = std::array::from_fn(|_| Mutex::new(Shard { young: generation(), old: generation() }));
        Self { shards, hasher, generation_max, reads: AtomicU64::new(0) }
    }

    fn shard(&self, key: &InodeKey) -> &Mutex<Shard> {
        &self.shards[(self.hasher.hash_one(key) >> 32) as usize % SHARDS]
    }

    /// The record of an inode that was seen to be like `stat`.
    pub(super) fn get(&self, stat: &Stat) -> Option<Record> {
        let shard = &mut *lock(self.shard(&stat.key));
        let known = match shard.young.get(&stat.key) {
            Some(known) => *known,
            None => {
                let known = shard.old.remove(&stat.key)?;
                if known.changed == stat.changed_at() {
                    shard.put(stat.key, known, self.generation_max);
                }
                known
            }
        };
        (known.changed == stat.changed_at()).then_some(known.record)
    }

    /// The record of an inode that was like `stat`: what is kept, or what `read` gives, which is asked after `stat` was.
    pub(super) fn get_or_read<E>(
        &self,
        stat: &Stat,
        read: impl FnOnce() -> Result<Record, E>,
    ) -> Result<Record, E> {
        Ok(self.get_or_read_settled(stat, true, read)?.0)
    }

    /// The same, and whether it holds for as long as the inode is like `stat`. What is read is kept if `keep`.
    pub(super) fn get_or_read_settled<E>(
        &self,
        stat: &Stat,
        keep: bool,
        read: impl FnOnce() -> Result<Record, E>,
    ) -> Result<(Record, bool), E> {
        if let Some(record) = self.get(stat) {
            return Ok((record, true));
        }
        // Before the reading: a change after this moment has a later time.
        let is_settled = !super::handle::is_recent(&[stat.changed_at()]);
        self.reads.fetch_add(1, Ordering::Relaxed);
        let record = read()?;
        if keep && is_settled && self.generation_max > 0 {
            let known = Known { changed: stat.changed_at(), record };
            lock(self.shard(&stat.key)).put(stat.key, known, self.generation_max);
        }
        Ok((record, is_settled))
    }

    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        let taken = |generation: &Generation| generation.capacity() / 7 * 8 * BUCKET;
        let shard = |shard: &Mutex<Shard>| {
            let shard = lock(shard);
            taken(&shard.young) + taken(&shard.old)
        };
        self.shards.iter().map(shard).sum()
    }
}

impl Shard {
    fn put(&mut self, key: InodeKey, known: Known, generation_max: usize) {
        if self.young.len() >= generation_max && !self.young.contains_key(&key) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, known);
    }
}

/// Inode numbers need no hash that withstands an attacker, but they are all alike in their upper bits.
#[derive(Clone, Copy)]
struct KeyHasherState(u64);

struct KeyHasher(u64);

impl BuildHasher for KeyHasherState {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.0)
    }
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn stat(number: u64, changed: Time) -> Stat {
        Stat { stamp: [(0, 1), changed], ..Stat::of_nothing(InodeKey { device: 1, number }) }
    }

    fn record(number: u32) -> Record {
        Record { owner: Some(number), ..Record::default() }
    }

    #[test]
    fn what_was_read_holds_until_the_change_time_is_another() {
        let cache = RecordCache::new(1 << 20);
        let reads = Cell::new(0);
        let read = |stat: &Stat, number| {
            let read = || {
                reads.set(reads.get() + 1);
                Ok::<_, ()>(record(number))
            };
            cache.get_or_read(stat, read).unwrap().owner.unwrap()
        };
        assert_eq!((read(&stat(7, (5, 6)), 1), read(&stat(7, (5, 6)), 2)), (1, 1));
        assert_eq!((read(&stat(7, (5, 7)), 3), read(&stat(7, (5, 7)), 4)), (3, 3));
        assert_eq!(read(&stat(8, (5, 7)), 5), 5, "another inode");
        assert_eq!(reads.get(), 3);
    }

    #[test]
    fn what_may_still_change_under_the_same_time_is_not_kept() {
        let cache = RecordCache::new(1 << 20);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let recent = stat(7, (now.as_secs() as i64, now.subsec_nanos().max(1)));
        for number in 0..3 {
            assert_eq!(cache.get_or_read(&recent, || Ok::<_, ()>(record(number))), Ok(record(number)));
        }
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_stays() {
        for bytes_max in [0, 100_000, 1 << 20] {
            let cache = RecordCache::new(bytes_max);
            let read = |number: u64| {
                cache.get_or_read(&stat(number, (1, 1)), || Ok::<_, ()>(record(number as u32))).unwrap();
            };
            read(0);
            for number in 1..50_000 {
                read(number);
                read(0);
                assert!(cache.bytes() <= bytes_max);
            }
            assert_eq!(cache.get(&stat(0, (1, 1))).is_some(), bytes_max > 0);
            assert_eq!(cache.get(&stat(1, (1, 1))), None);
        }
    }
}
