//! The locks of one stream, ordered so that what overlaps a range is found without a scan of the rest.
//!
//! Exclusive locks that cover bytes never overlap each other, so a map by their first byte is enough. Shared ones may overlap
//! at will; of them only matters which bytes are covered. Locks of length zero lie between two bytes, and conflict with what
//! has both of them (MS-FSA 2.1.4.10): they are kept apart.

use std::collections::{BTreeMap, BTreeSet};

use super::{Access, Lock, Range};
use crate::file::permit::Permit;
use crate::ids::OpenId;

/// The locks of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Table {
    owners: BTreeMap<OpenId, Owner>,
    /// Exclusive locks that cover bytes, by the first: the last, and whose.
    exclusive: BTreeMap<u64, (u64, OpenId)>,
    exclusive_points: BTreeSet<(u64, OpenId)>,
    shared: Coverage,
    shared_points: BTreeMap<u64, u64>,
    /// How many there are of each kind.
    exclusive_count: u64,
    shared_count: u64,
}

/// What one open has locked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Owner {
    /// Shared locks of the same range, and exclusive ones of length zero, may be held several times.
    held: BTreeMap<Lock, u64>,
    exclusive_count: u64,
    shared_count: u64,
}

/// Why locks are not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Refusal {
    /// One of them conflicts.
    Conflict,
    /// The open has as many as it may.
    TooMany,
}

impl Table {
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Whether a lock is in the way of an open's I/O (MS-FSA 2.1.4.10 without LockIntent).
    pub(super) fn blocks(&self, open: OpenId, access: Access) -> bool {
        self.exclusive_in(access.range, |owner| owner != open)
            || (access.write && self.shared.meets(access.range, &self.shared_points))
    }

    /// Whether a lock is in the way of another one (MS-FSA 2.1.4.10 with LockIntent).
    fn conflicts(&self, open: OpenId, lock: Lock) -> bool {
        self.exclusive_in(lock.range, |owner| lock.exclusive || owner != open)
            || (lock.exclusive && self.shared.meets(lock.range, &self.shared_points))
    }

    /// Whether an exclusive lock of an owner that counts overlaps a range.
    fn exclusive_in(&self, range: Range, counts: impl Fn(OpenId) -> bool) -> bool {
        let Some(last) = range.last() else {
            let before = self.exclusive.range(..range.offset).next_back();
            return before.is_some_and(|(_, (last, owner))| *last >= range.offset && counts(*owner));
        };
        // They don't overlap each other: the last that begins in time is the last that ends.
        let covered = self
            .exclusive
            .range(..=last)
            .rev()
            .take_while(|(_, (end, _))| *end >= range.offset)
            .any(|(_, (_, owner))| counts(*owner));
        covered
            || (range.offset < last
                && self
                    .exclusive_points
                    .range((range.offset + 1, OpenId(0))..=(last, OpenId(u64::MAX)))
                    .any(|(_, owner)| counts(*owner)))
    }

    /// Takes all of these locks for an open, or none.
    pub(super) fn lock(&mut self, open: OpenId, locks: &[Lock], most: u32) -> Result<(), Refusal> {
        for (done, lock) in locks.iter().enumerate() {
            let refusal = if self.count(open) >= u64::from(most) {
                Refusal::TooMany
            } else if self.conflicts(open, *lock) {
                Refusal::Conflict
            } else {
                self.insert(open, *lock);
                continue;
            };
            self.undo(open, locks.get(..done).unwrap_or_default());
            return Err(refusal);
        }
        Ok(())
    }

    /// Takes from others what is in the way of these locks of an open.
    pub(super) fn displace(&mut self, open: OpenId, locks: &[Lock]) {
        for other in self.owners.keys().copied().filter(|other| *other != open).collect::<Vec<_>>() {
            for (held, count) in self.held(other) {
                if locks.iter().any(|lock| lock.meets(held)) {
                    (0..count).for_each(|_| {
                        self.remove(other, held);
                    });
                }
            }
        }
    }

    /// Gives back what [`Table::lock`] took.
    pub(super) fn undo(&mut self, open: OpenId, locks: &[Lock]) {
        for lock in locks {
            self.remove(open, *lock);
        }
    }

    /// Unlocks one range of an open; of an exclusive and a shared lock the exclusive one goes (MS-FSA 2.1.5.9). Returns
    /// whether there was one.
    pub(super) fn unlock(&mut self, open: OpenId, range: Range) -> bool {
        self.remove(open, Lock { range, exclusive: true })
            || self.remove(open, Lock { range, exclusive: false })
    }

    /// An open is gone, and its locks with it.
    pub(super) fn close(&mut self, open: OpenId) {
        let held = self.owners.get(&open).map(|owner| owner.held.clone()).unwrap_or_default();
        for (lock, count) in held {
            for _ in 0..count {
                self.remove(open, lock);
            }
        }
    }

    /// What an open may do without asking, as far as locks go.
    pub(super) fn permit(&self, open: OpenId) -> Permit {
        let own = self.owners.get(&open).map_or(0, |owner| owner.exclusive_count);
        let others_exclude = self.exclusive_count > own;
        Permit { read: !others_exclude, write: !others_exclude && self.shared_count == 0 }
    }

    /// What an open has locked, and how often.
    pub(super) fn held(&self, open: OpenId) -> Vec<(Lock, u64)> {
        let held = self.owners.get(&open).into_iter().flat_map(|owner| &owner.held);
        held.map(|(lock, count)| (*lock, *count)).collect()
    }

    fn count(&self, open: OpenId) -> u64 {
        self.owners.get(&open).map_or(0, |owner| owner.exclusive_count + owner.shared_count)
    }

    fn insert(&mut self, open: OpenId, lock: Lock) {
        let owner = self.owners.entry(open).or_default();
        *owner.held.entry(lock).or_default() += 1;
        if lock.exclusive {
            owner.exclusive_count += 1;
            self.exclusive_count += 1;
        } else {
            owner.shared_count += 1;
            self.shared_count += 1;
        }
        match (lock.exclusive, lock.range.last()) {
            (true, Some(last)) => {
                self.exclusive.insert(lock.range.offset, (last, open));
            }
            (true, None) => {
                self.exclusive_points.insert((lock.range.offset, open));
            }
            (false, Some(last)) => self.shared.add(lock.range.offset, last),
            (false, None) => *self.shared_points.entry(lock.range.offset).or_default() += 1,
        }
    }

    fn remove(&mut self, open: OpenId, lock: Lock) -> bool {
        let Some(owner) = self.owners.get_mut(&open) else { return false };
        let Some(count) = owner.held.get_mut(&lock) else { return false };
        *count -= 1;
        let last_of_its_kind = *count == 0;
        if last_of_its_kind {
            owner.held.remove(&lock);
        }
        if lock.exclusive {
            owner.exclusive_count -= 1;
            self.exclusive_count -= 1;
        } else {
            owner.shared_count -= 1;
            self.shared_count -= 1;
        }
        if owner.held.is_empty() {
            self.owners.remove(&open);
        }
        match (lock.exclusive, lock.range.last()) {
            (true, Some(_)) => {
                self.exclusive.remove(&lock.range.offset);
            }
            (true, None) if last_of_its_kind => {
                self.exclusive_points.remove(&(lock.range.offset, open));
            }
            (true, None) => {}
            (false, Some(last)) => self.shared.take(lock.range.offset, last),
            (false, None) => less(&mut self.shared_points, lock.range.offset),
        }
        true
    }

    /// No two locks conflict (S37): with each taken out, it could be taken again.
    pub(super) fn check_invariants(&self) {
        let mut exclusive: Vec<(Range, OpenId)> = Vec::new();
        let mut shared = Table::default();
        for (open, owner) in &self.owners {
            for (lock, count) in &owner.held {
                assert!(*count > 0, "a lock that nobody holds");
                if lock.exclusive {
                    exclusive.push((lock.range, *open));
                } else {
                    shared.insert(*open, *lock);
                }
            }
        }
        exclusive.sort_unstable();
        let covering = exclusive.iter().filter(|(range, _)| range.length > 0);
        let after = covering.clone().skip(1);
        for (one, other) in covering.zip(after) {
            assert!(!one.0.overlaps(other.0), "exclusive locks overlap: {one:?} and {other:?} (S37)");
        }
        for (range, open) in exclusive.iter().filter(|(range, _)| range.length == 0) {
            let inside = self.exclusive_in(*range, |owner| owner != *open);
            assert!(!inside, "an exclusive lock of length zero lies in another one: {range:?} (S37)");
        }
        for (open, owner) in &shared.owners {
            for lock in owner.held.keys() {
                assert!(
                    !self.exclusive_in(lock.range, |owner| owner != *open),
                    "a shared lock overlaps another open's exclusive one: {lock:?} (S37)"
                );
            }
        }
    }
}

/// How many shared locks cover each byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Coverage {
    /// How many, from this byte to the next one that is named; none before the first. Neighbours differ.
    from: BTreeMap<u64, u64>,
    /// How many begin at a byte.
    starts: BTreeMap<u64, u64>,
}

impl Coverage {
    fn at(&self, byte: u64) -> u64 {
        self.from.range(..=byte).next_back().map_or(0, |(_, count)| *count)
    }

    /// Whether a range overlaps a shared lock, those of length zero included.
    fn meets(&self, range: Range, points: &BTreeMap<u64, u64>) -> bool {
        match range.last() {
            Some(last) => {
                self.at(range.offset) > 0
                    // Neighbours differ: of two, one is covered.
                    || self.from.range(range.offset..=last).any(|(_, count)| *count > 0)
                    || (range.offset < last && points.range(range.offset + 1..=last).next().is_some())
            }
            // Covered, and not only by what begins here.
            None => self.at(range.offset) > self.starts.get(&range.offset).copied().unwrap_or(0),
        }
    }

    fn add(&mut self, first: u64, last: u64) {
        *self.starts.entry(first).or_default() += 1;
        self.change(first, last, |count| *count += 1);
    }

    fn take(&mut self, first: u64, last: u64) {
        less(&mut self.starts, first);
        self.change(first, last, |count| *count -= 1);
    }

    fn change(&mut self, first: u64, last: u64, change: impl Fn(&mut u64)) {
        let edges = [Some(first), last.checked_add(1)];
        for edge in edges.into_iter().flatten() {
            let count = self.at(edge);
            self.from.entry(edge).or_insert(count);
        }
        self.from.range_mut(first..=last).for_each(|(_, count)| change(count));
        for edge in edges.into_iter().flatten() {
            let before = edge.checked_sub(1).map_or(0, |before| self.at(before));
            if self.at(edge) == before {
                self.from.remove(&edge);
            }
        }
    }
}

/// Counts one less; nothing stays of none.
fn less(counts: &mut BTreeMap<u64, u64>, key: u64) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}
