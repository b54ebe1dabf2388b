//! Names without regard to case. A directory's folded names are indexed when a name is not found as it is; the index
//! lives as long as the directory is as it was, and follows the changes that this driver makes itself.
//!
//! Whether a directory is as it was is told by its modification and change time. Two doubts remain: a file system
//! may give two changes the same time, and a local change can fall between this driver's change and its look at the new
//! time. An index with such a doubt still serves, but is made anew after a while; how soon depends on how long making
//! indexes takes, so that not more than a twentieth of the time is spent so, over all directories. A name that is found is always verified by
//! opening it, so that only a name that a local program created in that very moment is missed, and for a moment only.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::ffi::{CStr, CString};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{OFlags, RawDir};
use rustix::io::Errno;
use smb_proto::NtStatus;
use smb_proto::name::fold_unit;

use super::handle::{Inode, InodeKey, Stamp};
use super::names;
use crate::fault::{Fault, Outcome, Place};
use crate::handles::lock;

/// Directories whose own size is larger are not indexed on a thread that serves connections.
pub(super) const INLINE_DIRECTORY_MAX: u64 = 64 * 1024;
/// Changes within this time may carry the same time (a kernel tick, or the two seconds of FAT for those that say so by
/// whole seconds).
const TICK: Duration = Duration::from_millis(20);
const COARSE_TICK: Duration = Duration::from_secs(2);
/// An index in doubt is made anew not sooner than this.
const DOUBT_MIN: Duration = Duration::from_millis(100);
/// Between making indexes anew that are in doubt there is this many times the time that it takes.
const DOUBT_SHARE: u32 = 20;
/// What an entry takes besides its name.
const ENTRY_OVERHEAD: usize = 64;
/// What a directory takes besides its entries.
const SLOT_OVERHEAD: usize = 256;
const GETDENTS_BUFFER: usize = 64 * 1024;

/// Names of a directory by the hash of their folded form.
#[derive(Debug)]
struct Index {
    stamp: Stamp,
    names: HashMap<u64, Names>,
    bytes: usize,
    made: Instant,
    took: Duration,
    in_doubt: bool,
}

#[derive(Debug)]
enum Names {
    One(Box<CStr>),
    /// Names that differ in case only, or whose hashes are the same.
    Many(Vec<Box<CStr>>),
}

impl Names {
    fn as_slice(&self) -> &[Box<CStr>] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

/// The place of one directory.
#[derive(Debug, Default)]
pub(super) struct Slot {
    index: Mutex<Option<Index>>,
    used: AtomicU64,
    bytes: AtomicUsize,
}

/// A change that this driver makes to a directory.
#[derive(Debug)]
pub(super) enum Edit<'a> {
    Added(&'a CStr),
    Removed(&'a CStr),
}

/// The indexes of a volume.
pub(super) struct IndexCache {
    slots: Mutex<HashMap<InodeKey, Arc<Slot>>>,
    clock: AtomicU64,
    bytes_max: usize,
    hasher: RandomState,
    /// When the next index may be made anew only because it is in doubt.
    doubts_from: Mutex<Option<Instant>>,
    /// Directories read in whole, for tests of how rarely that happens.
    scans: AtomicU64,
}

/// A directory whose index is held, so that what is looked up stays true until the change that depends on it.
pub(super) struct Held<'a> {
    cache: &'a IndexCache,
    directory: &'a Inode,
    slot: &'a Slot,
    index: MutexGuard<'a, Option<Index>>,
}

fn folded(units: &[u16]) -> Vec<u16> {
    units.iter().map(|unit| fold_unit(*unit)).collect()
}

impl IndexCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            slots: Mutex::default(),
            clock: AtomicU64::new(0),
            bytes_max,
            hasher: RandomState::new(),
            doubts_from: Mutex::new(None),
            scans: AtomicU64::new(0),
        }
    }

    pub(super) fn scans(&self) -> u64 {
        self.scans.load(Ordering::Relaxed)
    }

    /// The place of a directory; keep it alive while it is held.
    pub(super) fn slot(&self, directory: &Inode) -> Arc<Slot> {
        let slot = Arc::clone(lock(&self.slots).entry(directory.key).or_default());
        slot.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        slot
    }

    /// Holds a directory. Whoever holds two takes them in the order of their keys.
    pub(super) fn hold<'a>(
        &'a self,
        slot: &'a Slot,
        directory: &'a Inode,
        place: Place,
    ) -> Outcome<Held<'a>> {
        let index = match place {
            Place::Offloaded => lock(&slot.index),
            Place::Inline => match slot.index.try_lock() {
                Ok(index) => index,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Err(Fault::Offload),
            },
        };
        Ok(Held { cache: self, directory, slot, index })
    }

    /// The name that is the same but for case, as the directory has it.
    pub(super) fn find(&self, directory: &Inode, units: &[u16], place: Place) -> Outcome<Option<CString>> {
        let slot = self.slot(directory);
        let mut held = self.hold(&slot, directory, place)?;
        held.find(units, place)
    }

    /// Whether there is time to make an index anew that may be right.
    fn may_doubt(&self) -> bool {
        lock(&self.doubts_from).is_none_or(|from| from <= Instant::now())
    }

    /// Making an index anew took that long.
    fn doubted(&self, took: Duration) {
        *lock(&self.doubts_from) = Some(Instant::now() + took * DOUBT_SHARE);
    }

    /// Drops indexes, least recently used first, until the rest fits; the one of `keep` stays.
    fn shrink(&self, keep: &Slot) {
        let mut slots = lock(&self.slots);
        let taken = |slot: &Slot| slot.bytes.load(Ordering::Relaxed) + SLOT_OVERHEAD;
        let mut total: usize = slots.values().map(|slot| taken(slot)).sum();
        while total > self.bytes_max {
            let oldest = slots
                .iter()
                .filter(|(_, slot)| !std::ptr::eq(Arc::as_ptr(slot), keep))
                .min_by_key(|(_, slot)| slot.used.load(Ordering::Relaxed))
                .map(|(key, _)| *key);
            let Some(slot) = oldest.and_then(|key| slots.remove(&key)) else { return };
            total = total.saturating_sub(taken(&slot));
        }
    }
}

impl Held<'_> {
    /// The name that is the same but for case, as the directory has it.
    pub(super) fn find(&mut self, units: &[u16], place: Place) -> Outcome<Option<CString>> {
        self.refresh(place, false)?;
        let wanted = folded(units);
        if let Some(found) = self.candidate(&wanted) {
            if super::handle::Stat::of_name(self.directory.fd(), &found).is_ok() {
                return Ok(Some(found));
            }
            // Removed between our look at the time and now.
            self.refresh(place, true)?;
            return Ok(self.candidate(&wanted));
        }
        if self.index.as_ref().is_some_and(Index::is_overdue) && self.cache.may_doubt() {
            self.refresh(place, true)?;
            self.cache.doubted(self.index.as_ref().map_or(Duration::ZERO, |index| index.took));
            return Ok(self.candidate(&wanted));
        }
        Ok(None)
    }

    fn candidate(&self, wanted: &[u16]) -> Option<CString> {
        let index = self.index.as_ref()?;
        let names = index.names.get(&self.cache.hasher.hash_one(wanted))?;
        let fits = |name: &CStr| names::decode(name.to_bytes()).is_some_and(|units| folded(&units) == wanted);
        names.as_slice().iter().find(|name| fits(name)).map(|name| CString::from(name.as_ref()))
    }

    /// Makes the index current, from the directory if need be.
    fn refresh(&mut self, place: Place, anew: bool) -> Outcome<()> {
        let stat = self.directory.stat()?;
        if !anew && self.index.as_ref().is_some_and(|index| index.stamp == stat.stamp) {
            return Ok(());
        }
        if stat.size > INLINE_DIRECTORY_MAX {
            place.may_wait()?;
        }
        *self.index = None;
        let index = self.scan(stat.stamp)?;
        self.slot.bytes.store(index.bytes, Ordering::Relaxed);
        *self.index = Some(index);
        self.cache.shrink(self.slot);
        Ok(())
    }

    fn scan(&self, stamp: Stamp) -> Outcome<Index> {
        self.cache.scans.fetch_add(1, Ordering::Relaxed);
        let made = Instant::now();
        let fd = self.directory.reopen(OFlags::RDONLY | OFlags::DIRECTORY).map_err(removed)?;
        let mut index = Index {
            stamp,
            names: HashMap::new(),
            bytes: 0,
            made,
            took: Duration::ZERO,
            in_doubt: is_recent(stamp),
        };
        let mut buffer = Vec::with_capacity(GETDENTS_BUFFER);
        let mut entries = RawDir::new(&fd, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            index.add(&self.cache.hasher, entry.map_err(removed)?.file_name());
        }
        index.took = made.elapsed();
        Ok(index)
    }

    /// Changes the directory by `act`. The index follows with `edits` if it was current before.
    pub(super) fn change<R>(&mut self, edits: &[Edit<'_>], act: impl FnOnce() -> Outcome<R>) -> Outcome<R> {
        let was_current = self.is_current();
        let result = act()?;
        self.follow(was_current, edits);
        Ok(result)
    }

    /// Whether there is an index and the directory is as it was.
    pub(super) fn is_current(&self) -> bool {
        self.index
            .as_ref()
            .is_some_and(|index| self.directory.stat().is_ok_and(|stat| stat.stamp == index.stamp))
    }

    /// Takes a change over that was just made, if the index was current before it.
    pub(super) fn follow(&mut self, was_current: bool, edits: &[Edit<'_>]) {
        let stat = if was_current { self.directory.stat().ok() } else { None };
        let (Some(index), Some(stat)) = (self.index.as_mut(), stat) else {
            *self.index = None;
            self.slot.bytes.store(0, Ordering::Relaxed);
            return;
        };
        for edit in edits {
            match edit {
                Edit::Added(name) => index.add(&self.cache.hasher, name),
                Edit::Removed(name) => index.remove(&self.cache.hasher, name),
            }
        }
        index.stamp = stat.stamp;
        index.in_doubt = true;
        self.slot.bytes.store(index.bytes, Ordering::Relaxed);
    }
}

/// A directory can be removed while a handle pins it.
fn removed(errno: Errno) -> Fault {
    match errno {
        Errno::NOENT => Fault::Status(NtStatus::OBJECT_PATH_NOT_FOUND),
        errno => errno.into(),
    }
}

/// Whether a change that comes now could leave the times as they are.
fn is_recent(stamp: Stamp) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    stamp.iter().any(|(seconds, nanoseconds)| {
        let time = Duration::new(u64::try_from(*seconds).unwrap_or(0), *nanoseconds);
        let tick = if *nanoseconds == 0 { COARSE_TICK } else { TICK };
        time + tick > now
    })
}

impl Index {
    fn is_overdue(&self) -> bool {
        self.in_doubt && self.made.elapsed() > (self.took * DOUBT_SHARE).max(DOUBT_MIN)
    }

    fn add(&mut self, hasher: &RandomState, name: &CStr) {
        if matches!(name.to_bytes(), b"." | b"..") {
            return;
        }
        let Some(units) = names::decode(name.to_bytes()) else { return };
        self.bytes += name.count_bytes() + ENTRY_OVERHEAD;
        let name: Box<CStr> = name.into();
        match self.names.entry(hasher.hash_one(folded(&units).as_slice())) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Names::One(name));
            }
            std::collections::hash_map::Entry::Occupied(mut occupied) => {
                let mut names = occupied.get().as_slice().to_vec();
                if !names.contains(&name) {
                    names.push(name);
                }
                occupied.insert(Names::Many(names));
            }
        }
    }

    fn remove(&mut self, hasher: &RandomState, name: &CStr) {
        let Some(units) = names::decode(name.to_bytes()) else { return };
        let key = hasher.hash_one(folded(&units).as_slice());
        let Some(names) = self.names.get(&key) else { return };
        let rest: Vec<Box<CStr>> =
            names.as_slice().iter().filter(|known| known.as_ref() != name).cloned().collect();
        self.bytes = self.bytes.saturating_sub(name.count_bytes() + ENTRY_OVERHEAD);
        if rest.is_empty() {
            self.names.remove(&key);
        } else {
            self.names.insert(key, Names::Many(rest));
        }
    }
}
