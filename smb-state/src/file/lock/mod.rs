//! Byte-range locks (MS-FSA 2.1.4.10, 2.1.5.8, 2.1.5.9; MS-SMB2 3.3.5.14): who may lock what, and whose I/O a lock is in the way
//! of. An open owns its locks; they go with it.
//!
//! A lock counts from the moment that it is granted. Before that it takes back the permits under which others would not
//! notice it, and waits until the I/O that it forbids is done; what is asked for meanwhile and would be refused after it waits
//! for how that ends. So whatever happens unasked, or was let through, comes before the lock, and everything else after.
//!
//! A lock that conflicts waits until nothing that is locked conflicts any more, and holds nothing meanwhile; those that wait
//! are looked at in the order in which they came. A later lock that conflicts with nothing that is locked overtakes one that
//! waits, as MS-FSA 2.1.5.8 has it: to let it wait would make two clients wait for each other that need not.

use std::collections::BTreeMap;

use smb_proto::{Name, NtStatus};

use super::ask::{Effect, FileAsk, Verdict};
use super::caching::Cause;
use super::permit::Permit;
use super::{File, Grant};
use crate::ids::OpenId;
use crate::message::Answer;

mod table;
#[cfg(test)]
mod tests;

use table::{Refusal, Table};

/// A range of bytes; of length zero, the place before a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// The first byte.
    offset: u64,
    /// Bytes; they don't reach beyond the last 64-bit offset.
    length: u64,
}

impl Range {
    /// A range, unless it reaches beyond the last offset.
    #[must_use]
    pub fn new(offset: u64, length: u64) -> Option<Self> {
        let fits = length == 0 || offset.checked_add(length - 1).is_some();
        fits.then_some(Self { offset, length })
    }

    /// Its first byte and its length.
    #[must_use]
    pub fn parts(self) -> (u64, u64) {
        (self.offset, self.length)
    }

    /// The last byte, if there is one.
    fn last(self) -> Option<u64> {
        let further = self.length.checked_sub(1)?;
        self.offset.checked_add(further)
    }

    /// Whether two ranges overlap (MS-FSA 2.1.4.10). One of length zero overlaps what has the bytes on both sides of it.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        match (self.last(), other.last()) {
            (Some(last), Some(other_last)) => self.offset <= other_last && other.offset <= last,
            (Some(last), None) => self.offset < other.offset && other.offset <= last,
            (None, Some(other_last)) => other.offset < self.offset && self.offset <= other_last,
            (None, None) => false,
        }
    }
}

/// A lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lock {
    /// Of these bytes.
    pub range: Range,
    /// Against everybody else; if not, against writers.
    pub exclusive: bool,
}

/// I/O that locks may be in the way of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Access {
    /// Of these bytes; never none.
    pub range: Range,
    /// It writes.
    pub write: bool,
}

impl Access {
    /// Access to these bytes. None at all is not in the way of anything (MS-FSA 2.1.5.3, 2.1.5.4).
    #[must_use]
    pub fn new(offset: u64, length: u64, write: bool) -> Option<Self> {
        let range = Range::new(offset, length).filter(|range| range.length > 0)?;
        Some(Self { range, write })
    }
}

impl Lock {
    /// Whether it forbids this access, of its own open or another one.
    fn forbids(self, access: Access, own: bool) -> bool {
        let concerned = if self.exclusive { !own } else { access.write };
        concerned && self.range.overlaps(access.range)
    }

    /// Whether it matters which of two comes first.
    fn meets(self, other: Self) -> bool {
        (self.exclusive || other.exclusive) && self.range.overlaps(other.range)
    }

    /// What it leaves an open to do without asking.
    fn leaves(self, own: bool) -> Permit {
        match (self.exclusive, own) {
            (true, true) => Permit::ALL,
            (true, false) => Permit::default(),
            (false, _) => Permit::READ,
        }
    }
}

impl Grant {
    /// Something that the file let through is done.
    pub(super) fn is_done(&mut self, access: Option<Access>) {
        if let Some(count) = self.in_flight.get_mut(&access) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&access);
            }
        }
    }
}

/// The locks of a file, by stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Locks(BTreeMap<Name, Table>);

impl Locks {
    /// Whether anything of a stream is locked.
    pub(super) fn any(&self, stream: &Name) -> bool {
        self.0.contains_key(stream)
    }

    /// What an open may do without asking, as far as locks go.
    pub(super) fn permit(&self, open: OpenId, stream: &Name) -> Permit {
        self.0.get(stream).map_or(Permit::ALL, |table| table.permit(open))
    }

    /// What an open has locked, and how often.
    pub(super) fn held(&self, open: OpenId, stream: &Name) -> Vec<(Lock, u64)> {
        self.0.get(stream).map(|table| table.held(open)).unwrap_or_default()
    }

    /// An open has these locks again. Those of others that are in the way are of earlier records, and were unlocked before these
    /// were granted: they go. Returns false, and locks nothing, if its own contradict each other.
    pub(super) fn restore(&mut self, open: OpenId, stream: &Name, held: &[(Lock, u64)]) -> bool {
        let locks: Vec<Lock> = held
            .iter()
            .flat_map(|(lock, count)| {
                std::iter::repeat_n(*lock, usize::try_from(*count).unwrap_or(usize::MAX))
            })
            .collect();
        self.change(stream, |table| {
            table.displace(open, &locks);
            table.lock(open, &locks, u32::MAX)
        })
        .is_ok()
    }

    /// Whether a lock is in the way.
    pub(super) fn blocks(&self, open: OpenId, stream: &Name, access: Access) -> bool {
        self.0.get(stream).is_some_and(|table| table.blocks(open, access))
    }

    /// A stream has another name.
    pub(super) fn rename(&mut self, old: &Name, new: &Name) {
        if let Some(table) = self.0.remove(old) {
            self.0.insert(new.clone(), table);
        }
    }

    /// An open is gone.
    pub(super) fn close(&mut self, open: OpenId, stream: &Name) {
        self.change(stream, |table| table.close(open));
    }

    fn change<R>(&mut self, stream: &Name, change: impl FnOnce(&mut Table) -> R) -> R {
        if let Some(table) = self.0.get_mut(stream) {
            let result = change(table);
            if table.is_empty() {
                self.0.remove(stream);
            }
            return result;
        }
        let mut table = Table::default();
        let result = change(&mut table);
        if !table.is_empty() {
            self.0.insert(stream.clone(), table);
        }
        result
    }

    pub(super) fn check_invariants(&self) {
        for table in self.0.values() {
            assert!(!table.is_empty(), "a table of nothing");
            table.check_invariants();
        }
    }
}

/// What to do about a lock that conflicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnConflict {
    /// Wait for it.
    Wait,
    /// Refuse it.
    Refuse(NtStatus),
}

impl File {
    /// Locks: what others cache of the stream goes first (MS-FSA 2.1.4.12), then all of them are taken, or none (S38).
    pub(super) fn judge_lock(
        &mut self,
        open: OpenId,
        locks: &[Lock],
        on_conflict: OnConflict,
        most: u32,
        effects: &mut Vec<Effect>,
    ) -> Verdict {
        let Some(grant) = self.grants.get(&open).cloned() else {
            return Verdict::Answer(Answer::Refused(NtStatus::FILE_CLOSED));
        };
        // Not only below the allocation size, as NTFS up to Windows Server 2008 R2 (MS-FSA 2.1.5.8, note 81): what that is is
        // storage's to know, and a break too many costs a client no more than its cache.
        if self.breaks(&grant, Cause::Write, effects) {
            return Verdict::Break;
        }
        match (self.locks.change(&grant.stream, |table| table.lock(open, locks, most)), on_conflict) {
            (Ok(()), _) => {}
            (Err(Refusal::TooMany), _) => {
                return Verdict::Answer(Answer::Refused(NtStatus::INSUFFICIENT_RESOURCES));
            }
            (Err(Refusal::Conflict), OnConflict::Wait) => return Verdict::Break,
            (Err(Refusal::Conflict), OnConflict::Refuse(status)) => {
                return Verdict::Answer(Answer::Refused(status));
            }
        }
        let settled = self.settle_before(open, &grant, locks, effects);
        if settled && !self.waits_behind_lock(&grant, locks) {
            return Verdict::Answer(Answer::Granted);
        }
        self.locks.change(&grant.stream, |table| table.undo(open, locks));
        Verdict::Drain
    }

    /// Takes back permits under which these locks would go unnoticed. Returns whether no I/O is under way that they forbid.
    fn settle_before(
        &mut self,
        open: OpenId,
        grant: &Grant,
        locks: &[Lock],
        effects: &mut Vec<Effect>,
    ) -> bool {
        let allowed = |id: OpenId, other: &Grant| {
            if other.stream != grant.stream {
                return Permit::ALL;
            }
            locks.iter().fold(Permit::ALL, |permit, lock| permit.within(lock.leaves(id == open)))
        };
        let drained = self.restrict(allowed, effects);
        let forbidden =
            |id: OpenId, access: Access| locks.iter().any(|lock| lock.forbids(access, id == open));
        let under_way = self
            .grants
            .iter()
            .filter(|(_, other)| other.stream == grant.stream)
            .any(|(id, other)| other.in_flight.keys().flatten().any(|access| forbidden(*id, *access)));
        drained && !under_way
    }

    /// Whether locks must let others be granted first, which came before them.
    fn waits_behind_lock(&self, grant: &Grant, locks: &[Lock]) -> bool {
        self.about_to_lock(&grant.stream)
            .any(|(_, before)| before.iter().any(|one| locks.iter().any(|two| one.meets(*two))))
    }

    /// Locks of a stream that wait for I/O alone, by open.
    fn about_to_lock(&self, stream: &Name) -> impl Iterator<Item = (OpenId, &[Lock])> {
        self.draining().filter_map(|ask| {
            let FileAsk::Lock { open, locks, .. } = ask else { return None };
            let same = self.grants.get(open).is_some_and(|grant| grant.stream == *stream);
            same.then_some((*open, locks.as_slice()))
        })
    }

    /// Whether an access would be refused once what is about to be locked is locked.
    pub(super) fn is_about_to_be_refused(&self, open: OpenId, grant: &Grant, access: Access) -> bool {
        self.about_to_lock(&grant.stream)
            .any(|(other, locks)| locks.iter().any(|lock| lock.forbids(access, other == open)))
    }

    /// What those that are about to be granted leave an open to do without asking.
    pub(super) fn left_by_locks_to_come(&self, open: OpenId, grant: &Grant) -> Permit {
        self.about_to_lock(&grant.stream).fold(Permit::ALL, |permit, (other, locks)| {
            locks.iter().fold(permit, |permit, lock| permit.within(lock.leaves(other == open)))
        })
    }

    /// Unlocks one range after the other; what is unlocked stays so when one of them is not locked (3.3.5.14.1).
    pub(super) fn unlock(&mut self, open: OpenId, ranges: &[Range]) -> Answer {
        let Some(stream) = self.grants.get(&open).map(|grant| grant.stream.clone()) else {
            return Answer::Refused(NtStatus::FILE_CLOSED);
        };
        let all = self.locks.change(&stream, |table| ranges.iter().all(|range| table.unlock(open, *range)));
        if all { Answer::Granted } else { Answer::Refused(NtStatus::RANGE_NOT_LOCKED) }
    }

    /// An open does not have locks after all that it was granted.
    pub(super) fn give_back(&mut self, open: OpenId, locks: &[Lock]) {
        if let Some(grant) = self.grants.get(&open) {
            self.locks.change(&grant.stream, |table| table.undo(open, locks));
        }
    }
}
