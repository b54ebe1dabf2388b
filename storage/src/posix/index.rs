//! Names without regard to case. A directory's folded names are indexed when a name is not found as it is; the index
//! lives as long as the directory is as it was, and follows the changes that this driver makes itself.
//!
//! Of a large directory everything that changes is followed ([`super::name_news`]), so that it is read once, whatever local
//! programs do in it.
//!
//! Whether another directory is as it was is told by its modification and change time. Two doubts remain: a file system
//! may give two changes the same time, and a local change can fall between this driver's change and its look at the new
//! time. An index with such a doubt still serves, but is made anew after a while; how soon depends on how long making
//! indexes takes, so that not more than a twentieth of the time is spent so, over all directories. A name that is found is always verified by
//! opening it, so that only a name that a local program created in that very moment is missed, and for a moment only.
//!
//! Memory is bounded ([`super::PosixOptions::index_memory_max`]) but for one directory: the one that was asked last always has its index.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, RawDir};
use rustix::io::Errno;
use smb_proto::NtStatus;

use super::handle::{Inode, InodeKey, Stamp, is_recent};
use super::name_news::{Change, Followed, News};
use super::name_table::NameTable;
use crate::fault::{Fault, Outcome, Place};
use crate::handles::lock;

/// Directories whose own size is larger are not indexed on a thread that serves connections.
pub(super) const INLINE_DIRECTORY_MAX: u64 = 64 * 1024;
/// An index in doubt is made anew not sooner than this.
const DOUBT_MIN: Duration = Duration::from_millis(100);
/// Between making indexes anew that are in doubt there is this many times the time that it takes.
const DOUBT_SHARE: u32 = 20;
/// What a directory takes besides its entries.
const SLOT_OVERHEAD: usize = 256;
const GETDENTS_BUFFER: usize = 64 * 1024;

/// Names of a directory.
#[derive(Debug)]
struct Index {
    stamp: Stamp,
    names: NameTable,
    made: Instant,
    took: Duration,
    in_doubt: bool,
    /// What is new is told.
    is_followed: bool,
}

/// The place of one directory.
#[derive(Debug, Default)]
pub(super) struct Slot {
    index: Mutex<Option<Index>>,
    /// What is new, if that is followed.
    news: Arc<News>,
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
    followed: Followed,
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
    /// What was just found out of the index.
    seen: Option<Currency>,
}

impl IndexCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            slots: Mutex::default(),
            followed: Followed::default(),
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
        Ok(Held { cache: self, directory, slot, index, seen: None })
    }

    /// The name that is the same but for case, as the directory has it, with what `look` finds there.
    pub(super) fn find<R>(
        &self,
        directory: &Inode,
        units: &[u16],
        place: Place,
        look: impl FnMut(&CStr) -> Result<R, Errno>,
    ) -> Outcome<Option<(CString, R)>> {
        let slot = self.slot(directory);
        let mut held = self.hold(&slot, directory, place)?;
        held.find(units, place, look)
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
            self.followed.end(&slot.news);
            total = total.saturating_sub(taken(&slot));
        }
    }
}

impl Held<'_> {
    /// The name that is the same but for case, as the directory has it, with what `look` finds there.
    pub(super) fn find<R>(
        &mut self,
        units: &[u16],
        place: Place,
        mut look: impl FnMut(&CStr) -> Result<R, Errno>,
    ) -> Outcome<Option<(CString, R)>> {
        let is_followed = self.refresh(place, false)?;
        while let Some(found) = self.candidate(units) {
            match look(&found) {
                Ok(seen) => return Ok(Some((found, seen))),
                // Gone since. If it comes back, that is told the next time.
                Err(Errno::NOENT) if is_followed => self.edit(&[Edit::Removed(&found)]),
                Err(Errno::NOENT) => return self.find_anew(units, place, look),
                Err(errno) => return Err(errno.into()),
            }
        }
        if self.index.as_ref().is_some_and(Index::is_overdue) && self.cache.may_doubt() {
            let found = self.find_anew(units, place, look);
            self.cache.doubted(self.index.as_ref().map_or(Duration::ZERO, |index| index.took));
            return found;
        }
        Ok(None)
    }

    fn find_anew<R>(
        &mut self,
        units: &[u16],
        place: Place,
        mut look: impl FnMut(&CStr) -> Result<R, Errno>,
    ) -> Outcome<Option<(CString, R)>> {
        self.refresh(place, true)?;
        let Some(found) = self.candidate(units) else { return Ok(None) };
        match look(&found) {
            Ok(seen) => Ok(Some((found, seen))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn candidate(&self, wanted: &[u16]) -> Option<CString> {
        let index = self.index.as_ref()?;
        index.names.find(wanted, &self.cache.hasher).next().map(CString::from)
    }

    /// Makes the index current, from the directory if need be. `true` if the directory is followed.
    fn refresh(&mut self, place: Place, anew: bool) -> Outcome<bool> {
        if !anew && self.catch_up() {
            self.seen = Some(Currency::Followed);
            return Ok(true);
        }
        let stat = self.directory.stat()?;
        let is_as_it_was = |index: &Index| !index.is_followed && index.stamp == stat.stamp;
        if !anew && self.index.as_ref().is_some_and(is_as_it_was) {
            self.seen = Some(Currency::Current);
            return Ok(false);
        }
        if stat.size > INLINE_DIRECTORY_MAX {
            place.may_wait()?;
        }
        *self.index = None;
        let is_followed =
            stat.size > INLINE_DIRECTORY_MAX && self.cache.followed.begin(self.directory, &self.slot.news);
        let index = self.scan(stat.stamp, is_followed)?;
        self.slot.bytes.store(index.names.bytes(), Ordering::Relaxed);
        *self.index = Some(index);
        // Otherwise it may have changed while it was read.
        self.seen = is_followed.then_some(Currency::Followed);
        self.cache.shrink(self.slot);
        Ok(is_followed)
    }

    /// Takes over what is new, if the directory is followed. `false` if the index may not be as the directory is.
    fn catch_up(&mut self) -> bool {
        if !self.index.as_ref().is_some_and(|index| index.is_followed) {
            return false;
        }
        let Some(changes) = self.cache.followed.take(&self.slot.news) else { return false };
        if changes.is_empty() {
            return true;
        }
        let edits = changes.iter().map(|change| match change {
            Change { came: true, name } => Edit::Added(name),
            Change { came: false, name } => Edit::Removed(name),
        });
        self.edit(&edits.collect::<Vec<_>>());
        true
    }

    fn edit(&mut self, edits: &[Edit<'_>]) {
        let Some(index) = self.index.as_mut() else { return };
        for edit in edits {
            match edit {
                Edit::Added(name) => {
                    if !index.add(name, &self.cache.hasher) {
                        *self.index = None;
                        return;
                    }
                }
                Edit::Removed(name) => index.names.remove(name, &self.cache.hasher),
            }
        }
        self.slot.bytes.store(index.names.bytes(), Ordering::Relaxed);
    }

    fn scan(&self, stamp: Stamp, is_followed: bool) -> Outcome<Index> {
        self.cache.scans.fetch_add(1, Ordering::Relaxed);
        let made = Instant::now();
        let fd = self.directory.reopen(OFlags::RDONLY | OFlags::DIRECTORY).map_err(removed)?;
        let mut index = Index {
            stamp,
            names: NameTable::default(),
            made,
            took: Duration::ZERO,
            in_doubt: !is_followed && is_recent(&stamp),
            is_followed,
        };
        let mut buffer = Vec::with_capacity(GETDENTS_BUFFER);
        let mut entries = RawDir::new(&fd, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            if !index.add(entry.map_err(removed)?.file_name(), &self.cache.hasher) {
                return Err(NtStatus::INSUFFICIENT_RESOURCES.into());
            }
        }
        index.took = made.elapsed();
        Ok(index)
    }

    /// Changes the directory by `act`. The index follows with `edits` if it was current before, which need not be asked again
    /// right after a name was looked up.
    pub(super) fn change<R>(&mut self, edits: &[Edit<'_>], act: impl FnOnce() -> Outcome<R>) -> Outcome<R> {
        let before = self.seen.take().unwrap_or_else(|| self.current());
        let result = act()?;
        self.follow(before, edits);
        Ok(result)
    }

    /// Whether there is an index and the directory is as it was.
    pub(super) fn current(&self) -> Currency {
        match self.index.as_ref() {
            Some(index) if index.is_followed => Currency::Followed,
            Some(index) if self.directory.stat().is_ok_and(|stat| stat.stamp == index.stamp) => {
                Currency::Current
            }
            _ => Currency::Outdated,
        }
    }

    /// Takes a change over that was just made, if the index was current before it.
    pub(super) fn follow(&mut self, before: Currency, edits: &[Edit<'_>]) {
        let stat = match before {
            // It will be told, in the order in which others changed the directory.
            Currency::Followed => return,
            Currency::Current => self.directory.stat().ok(),
            Currency::Outdated => None,
        };
        let (Some(index), Some(stat)) = (self.index.as_mut(), stat) else {
            *self.index = None;
            self.slot.bytes.store(0, Ordering::Relaxed);
            return;
        };
        index.stamp = stat.stamp;
        index.in_doubt = true;
        self.edit(edits);
    }
}

/// Whether an index says what is in its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Currency {
    /// As soon as it has taken over what is new.
    Followed,
    /// It does.
    Current,
    /// There is none, or it does not.
    Outdated,
}

/// A directory can be removed while a handle pins it.
fn removed(errno: Errno) -> Fault {
    match errno {
        Errno::NOENT => Fault::Status(NtStatus::OBJECT_PATH_NOT_FOUND),
        errno => errno.into(),
    }
}

impl Index {
    fn is_overdue(&self) -> bool {
        self.in_doubt && self.made.elapsed() > (self.took * DOUBT_SHARE).max(DOUBT_MIN)
    }

    fn add(&mut self, name: &CStr, hasher: &RandomState) -> bool {
        matches!(name.to_bytes(), b"." | b"..") || self.names.add(name, hasher)
    }
}
