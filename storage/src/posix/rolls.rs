//! Names of directories as the kernel gave them: what a listing has read ahead, and whole directories for the next listing.
//!
//! A whole directory holds as long as its modification and change time are the ones from before the reading, provided that they
//! were older than a tick of the file system's clock then. Entries are always looked at one by one when they are
//! listed, so that a name that is gone meanwhile is left out, and only that of a file made meanwhile can be missing.
//!
//! Memory is bounded ([`super::PosixOptions::listing_memory_max`]) over everything, listings under way included. A listing that
//! gets none goes back to where it was in the directory, and reads on from there the next time.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::FileType;

use super::handle::{InodeKey, Stamp};
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

/// A directory that is being read from its beginning on, to be kept.
#[derive(Debug)]
pub(super) struct Making {
    stamp: Stamp,
    names: Names,
    claim: Claim,
}

impl Making {
    /// Takes more names; `None` if there are too many.
    pub(super) fn with(mut self, more: &Names) -> Option<Self> {
        let bytes = self.names.0.len() + more.0.len() + OVERHEAD;
        // Twice, as a vector that grows may have twice its length.
        if bytes > self.claim.memory.max / DIRECTORY_SHARE || !self.claim.resize(bytes * 2) {
            return None;
        }
        self.names.0.extend_from_slice(&more.0);
        Some(self)
    }
}

/// The names of a whole directory.
#[derive(Debug)]
pub(super) struct Roll {
    stamp: Stamp,
    pub(super) names: Names,
    _claim: Claim,
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
    pub(super) fn make(&self, stamp: Stamp) -> Option<Making> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let claim = Claim::new(&self.memory);
        (!super::handle::is_recent(&stamp)).then(|| Making { stamp, names: Names::default(), claim })
    }

    /// The directory was read to its end.
    pub(super) fn keep(&self, key: InodeKey, mut made: Making) {
        made.names.0.shrink_to_fit();
        made.claim.resize(made.names.0.len() + OVERHEAD);
        let roll = Roll { stamp: made.stamp, names: made.names, _claim: made.claim };
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
        let making = cache.make(STAMP).unwrap().with(&names(3)).unwrap();
        cache.keep(key(1), making);
        assert_eq!(list(&cache.get(key(1), STAMP).unwrap().names), ["name0", "name1", "name2"]);
        assert!(cache.get(key(2), STAMP).is_none());
        assert!(cache.get(key(1), [(1, 1), (1, 2)]).is_none());
        assert!(cache.get(key(1), STAMP).is_none(), "forgotten");
        assert_eq!(cache.spent(), 0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = (now.as_secs() as i64, now.subsec_nanos().max(1));
        assert!(cache.make([STAMP[0], now]).is_none(), "it may change under the same time");
    }

    #[test]
    fn memory_is_bounded_over_all_directories_and_listings() {
        let cache = RollCache::new(64 << 10);
        for number in 0..100 {
            cache.keep(key(number), cache.make(STAMP).unwrap().with(&names(100)).unwrap());
            assert!(cache.spent() <= 32 << 10);
        }
        assert!(cache.get(key(0), STAMP).is_none() && cache.get(key(99), STAMP).is_some());
        assert!(cache.make(STAMP).unwrap().with(&names(1000)).is_none(), "too large a directory");
        let ahead = names(3000);
        let claims: Vec<_> = std::iter::from_fn(|| cache.ahead(&ahead)).collect();
        assert!(!claims.is_empty() && claims.len() < 10 && cache.spent() <= 64 << 10);
        drop(claims);
        assert!(cache.spent() <= 32 << 10);
    }
}
