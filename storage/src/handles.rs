//! Handles: numbers for what a driver opened or pinned.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smb_proto::NtStatus;
use smb_state::ids::Handle;

use crate::fault::Outcome;

const SHARDS: usize = 16;

/// Locks; data behind a lock stays consistent between statements that can panic, so a poisoned lock is used on.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Values by number. A number is `generation (32 bits) | slot (28 bits) | shard (4 bits)`, so that one that was taken out
/// is not taken for a later one.
pub(crate) struct Slab<T> {
    shards: [Mutex<Shard<T>>; SHARDS],
    next_shard: AtomicUsize,
}

struct Shard<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(Shard { slots: Vec::new(), free: Vec::new() }));
        Self { shards, next_shard: AtomicUsize::new(0) }
    }
}

fn split(number: u64) -> (usize, usize, u32) {
    let shard = (number & 0xF) as usize;
    let slot = ((number >> 4) & 0x0FFF_FFFF) as usize;
    (shard, slot, (number >> 32) as u32)
}

impl<T> Slab<T> {
    /// A number for `value`, never 0.
    pub(crate) fn insert(&self, value: T) -> u64 {
        let at = self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let mut shard = lock(&self.shards[at]);
        let slot = shard.free.pop().unwrap_or_else(|| {
            shard.slots.push(Slot { generation: 1, value: None });
            u32::try_from(shard.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let entry = &mut shard.slots[slot as usize];
        entry.value = Some(value);
        u64::from(entry.generation) << 32 | u64::from(slot) << 4 | at as u64
    }

    /// What `look` makes of the value; it may change it.
    pub(crate) fn with<R>(&self, number: u64, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        let (at, slot, generation) = split(number);
        let mut shard = lock(&self.shards[at]);
        let found = shard.slots.get_mut(slot).filter(|slot| slot.generation == generation)?;
        found.value.as_mut().map(look)
    }

    /// Takes the value out; the number is not valid any more.
    pub(crate) fn remove(&self, number: u64) -> Option<T> {
        let (at, slot, generation) = split(number);
        let mut shard = lock(&self.shards[at]);
        let shard = &mut *shard;
        let found = shard.slots.get_mut(slot).filter(|slot| slot.generation == generation)?;
        let value = found.value.take()?;
        found.generation = found.generation.wrapping_add(1).max(1);
        shard.free.push(slot as u32);
        Some(value)
    }

    /// Values that are in.
    pub(crate) fn len(&self) -> usize {
        let held = |shard: &Mutex<Shard<T>>| {
            let shard = lock(shard);
            shard.slots.len() - shard.free.len()
        };
        self.shards.iter().map(held).sum()
    }
}

/// Objects by handle.
pub(crate) struct HandleTable<T>(Slab<Arc<T>>);

impl<T> Default for HandleTable<T> {
    fn default() -> Self {
        Self(Slab::default())
    }
}

impl<T> HandleTable<T> {
    /// A handle for `value`.
    pub(crate) fn insert(&self, value: Arc<T>) -> Handle {
        Handle(self.0.insert(value))
    }

    /// The object behind a handle; INVALID_HANDLE if it was closed or never given.
    pub(crate) fn get(&self, handle: Handle) -> Outcome<Arc<T>> {
        Ok(self.0.with(handle.0, |value| Arc::clone(value)).ok_or(NtStatus::INVALID_HANDLE)?)
    }

    /// Puts another object behind a handle.
    pub(crate) fn replace(&self, handle: Handle, value: Arc<T>) -> Outcome<()> {
        Ok(self.0.with(handle.0, |held| *held = value).ok_or(NtStatus::INVALID_HANDLE)?)
    }

    /// Takes the object out; the handle is not valid any more.
    pub(crate) fn remove(&self, handle: Handle) -> Outcome<Arc<T>> {
        Ok(self.0.remove(handle.0).ok_or(NtStatus::INVALID_HANDLE)?)
    }

    /// Handles that are open.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_handle_is_not_taken_for_a_later_one() {
        let table = HandleTable::default();
        let first: Vec<Handle> = (0..40).map(|value| table.insert(Arc::new(value))).collect();
        assert_eq!(table.len(), 40);
        for (value, handle) in first.iter().enumerate() {
            assert_eq!(*table.get(*handle).unwrap(), value);
            assert_eq!(*table.remove(*handle).unwrap(), value);
            assert!(table.get(*handle).is_err());
            assert!(table.remove(*handle).is_err());
        }
        assert_eq!(table.len(), 0);
        let second: Vec<Handle> = (0..40).map(|value| table.insert(Arc::new(value))).collect();
        assert!(second.iter().all(|handle| !first.contains(handle) && handle.0 != 0));
        assert!(first.iter().all(|handle| table.get(*handle).is_err()));
        assert!(table.get(Handle(0)).is_err());
    }
}
