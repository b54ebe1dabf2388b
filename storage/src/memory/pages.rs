//! Data as pages, of which only those that were written exist.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smb_proto::NtStatus;
use smb_state::storage::Range;

use crate::fault::Outcome;

/// Bytes of a page.
pub(super) const PAGE: u64 = 4096;
/// Largest offset, as on disks.
const OFFSET_MAX: u64 = i64::MAX as u64;

/// Pages that a volume may have, and has.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) total: u64,
    used: AtomicU64,
}

impl Budget {
    pub(super) fn new(total: u64) -> Self {
        Self { total, used: AtomicU64::new(0) }
    }

    pub(super) fn free(&self) -> u64 {
        self.total.saturating_sub(self.used.load(Ordering::Relaxed))
    }
}

/// The data of a file or stream. All requests of a volume run one after the other, so the budget has no races.
#[derive(Debug)]
pub(super) struct Pages {
    size: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
    budget: Arc<Budget>,
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.pages.len() as u64, Ordering::Relaxed);
    }
}

/// The part of page `number` within `start..end`, as offsets in the page.
fn within(number: u64, start: u64, end: u64) -> (usize, usize) {
    let base = number * PAGE;
    // Both are at most a page.
    ((start.max(base) - base) as usize, (end.min(base + PAGE) - base) as usize)
}

impl Pages {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { size: 0, pages: BTreeMap::new(), budget: Arc::clone(budget) }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of storage.
    pub(super) fn stored(&self) -> u64 {
        self.pages.len() as u64 * PAGE
    }

    /// Appends to `out` what is at `offset`, up to `length` bytes or the end.
    pub(super) fn read(&self, offset: u64, length: u64, out: &mut Vec<u8>) {
        let end = offset.saturating_add(length).min(self.size);
        let mut at = offset;
        while at < end {
            let number = at / PAGE;
            let (from, to) = within(number, at, end);
            match self.pages.get(&number) {
                Some(page) => out.extend_from_slice(&page[from..to]),
                None => out.resize(out.len() + (to - from), 0),
            }
            at += (to - from) as u64;
        }
    }

    /// Writes all of `bytes` or nothing.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Outcome<()> {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= OFFSET_MAX);
        let end = end.ok_or(NtStatus::INVALID_PARAMETER)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let numbers = offset / PAGE..=(end - 1) / PAGE;
        let held = self.pages.range(numbers.clone()).count() as u64;
        let wanted = numbers.end() - numbers.start() + 1 - held;
        if wanted > self.budget.free() {
            return Err(NtStatus::DISK_FULL.into());
        }
        self.budget.used.fetch_add(wanted, Ordering::Relaxed);
        let mut rest = bytes;
        for number in numbers {
            let (from, to) = within(number, offset, end);
            let (piece, tail) = rest.split_at(to - from);
            let page = self.pages.entry(number).or_insert_with(|| vec![0; PAGE as usize].into());
            page[from..to].copy_from_slice(piece);
            rest = tail;
        }
        self.size = self.size.max(end);
        Ok(())
    }

    pub(super) fn resize(&mut self, size: u64) -> Outcome<()> {
        if size > OFFSET_MAX {
            return Err(NtStatus::INVALID_PARAMETER.into());
        }
        if size < self.size {
            self.zero(size, self.size);
        }
        self.size = size;
        Ok(())
    }

    /// Zeroes up to the end of the data; whole pages are given back, a last one that the end cuts too.
    pub(super) fn zero(&mut self, offset: u64, beyond: u64) {
        let end = beyond.min(self.size);
        if offset >= end {
            return;
        }
        let mut emptied = Vec::new();
        for (number, page) in self.pages.range_mut(offset / PAGE..=(end - 1) / PAGE) {
            let (from, to) = within(*number, offset, end);
            let is_rest = to as u64 == PAGE || number * PAGE + to as u64 == self.size;
            if from == 0 && is_rest {
                emptied.push(*number);
            } else {
                page[from..to].fill(0);
            }
        }
        for number in emptied {
            self.pages.remove(&number);
            self.budget.used.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ranges with pages, clipped, `count_max` at most.
    pub(super) fn ranges(&self, offset: u64, beyond: u64, count_max: usize) -> Vec<Range> {
        let end = beyond.min(self.size);
        let mut ranges: Vec<Range> = Vec::new();
        if offset >= end {
            return ranges;
        }
        for number in self.pages.range(offset / PAGE..=(end - 1) / PAGE).map(|(number, _)| *number) {
            let (from, to) = (offset.max(number * PAGE), end.min((number + 1) * PAGE));
            if let Some(last) = ranges.last_mut()
                && last.offset + last.length == from
            {
                last.length += to - from;
                continue;
            }
            if ranges.len() == count_max {
                break;
            }
            ranges.push(Range { offset: from, length: to - from });
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_and_given_back() {
        let budget = Arc::new(Budget::new(3));
        let mut pages = Pages::new(&budget);
        pages.write(PAGE - 1, b"ab").unwrap();
        assert_eq!((pages.size(), pages.stored(), budget.free()), (PAGE + 1, 2 * PAGE, 1));
        assert!(pages.write(2 * PAGE, &[1; 2 * PAGE as usize]).is_err());
        assert_eq!(pages.size(), PAGE + 1, "all or nothing");
        pages.zero(PAGE, 2 * PAGE);
        assert_eq!(budget.free(), 2);
        pages.resize(10 * PAGE).unwrap();
        assert_eq!(pages.ranges(0, u64::MAX, 9), [Range { offset: 0, length: PAGE }]);
        pages.resize(PAGE - 1).unwrap();
        pages.resize(PAGE).unwrap();
        let mut out = Vec::new();
        pages.read(PAGE - 1, 10, &mut out);
        assert_eq!(out, [0], "what was cut off does not come back");
        drop(pages);
        assert_eq!(budget.free(), 3);
    }
}
