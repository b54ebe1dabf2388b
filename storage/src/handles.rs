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

/// Objects by handle. A handle is `generation (32 bits) | slot (28 bits) | shard (4 bits)`, so that one that was closed
/// is not taken for a later one.
pub(crate) struct HandleTable<T> {
    shards: [Mutex<Shard<T>>; SHARDS],
    next_shard: AtomicUsize,
}

struct Shard<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

struct Slot<T> {
    generation: u32,
    value: Option<Arc<T>>,
}

impl<T> Default for HandleTable<T> {
    fn default() -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(Shard { slots: Vec::new(), free: Vec::new() }));
        Self { shards, next_shard: AtomicUsize::new(0) }
    }
}

fn split(handle: Handle) -> (usize, usize, u32) {
    let shard = (handle.0 & 0xF) as usize;
    let slot = ((handle.0 >> 4) & 0x0FFF_FFFF) as usize;
    (shard, slot, (handle.0 >> 32) as u32)
}

impl<T> HandleTable<T> {
    /// A handle for `value`.
    pub(crate) fn insert(&self, value: Arc<T>) -> Handle {
        let at = self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let mut shard = lock(&self.shards[at]);
        let slot = shard.free.pop().unwrap_or_else(|| {
            // Generation 0 is never used: no handle is 0.
            shard.slots.push(Slot { generation: 1, value: None });
            u32::try_from(shard.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let entry = &mut shard.slots[slot as usize];
        entry.value = Some(value);
        Handle(u64::from(entry.generation) << 32 | u64::from(slot) << 4 | at as u64)
    }

    /// The object behind a handle; INVALID_HANDLE if it was closed or never given.
    pub(crate) fn get(&self, handle: Handle) -> Outcome<Arc<T>> {
        let (at, slot, generation) = split(handle);
        let shard = lock(&self.shards[at]);
        let found = shard.slots.get(slot).filter(|slot| slot.generation == generation);
        Ok(found.and_then(|slot| slot.value.clone()).ok_or(NtStatus::INVALID_HANDLE)?)
    }

    /// Takes the object out; the handle is not valid any more.
    pub(crate) fn remove(&self, handle: Handle) -> Outcome<Arc<T>> {
        let (at, slot, generation) = split(handle);
        let mut shard = lock(&self.shards[at]);
        let shard = &mut *shard;
        let found = shard.slots.get_mut(slot).filter(|slot| slot.generation == generation);
        let found = found.ok_or(NtStatus::INVALID_HANDLE)?;
        let value = found.value.take().ok_or(NtStatus::INVALID_HANDLE)?;
        found.generation = found.generation.wrapping_add(1).max(1);
        shard.free.push(slot as u32);
        Ok(value)
    }

    /// Handles that are open.
    pub(crate) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| {
                let shard = lock(shard);
                shard.slots.len() - shard.free.len()
            })
            .sum()
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
