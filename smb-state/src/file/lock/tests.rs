//! The table of locks against the algorithm of MS-FSA 2.1.4.10 as it is written, and the rules of its own.

use super::*;

const OWN: OpenId = OpenId(1);
const OTHER: OpenId = OpenId(2);

fn range(offset: u64, length: u64) -> Range {
    Range::new(offset, length).expect("a range")
}

fn lock(offset: u64, length: u64, exclusive: bool) -> Lock {
    Lock { range: range(offset, length), exclusive }
}

/// Small ranges, those of length zero included, and some at the end of all offsets.
fn ranges() -> Vec<Range> {
    let mut ranges = Vec::new();
    for offset in 0..5 {
        ranges.extend((0..4).map(|length| range(offset, length)));
    }
    for before in 0..3 {
        ranges.extend((0..=before + 1).map(|length| range(u64::MAX - before, length)));
    }
    ranges.push(range(0, u64::MAX));
    ranges.push(range(1, u64::MAX));
    ranges
}

/// A list of locks and the pseudocode of 2.1.4.10 and 2.1.5.9, word by word.
#[derive(Clone, Default)]
struct Naive(Vec<(OpenId, Lock)>);

impl Naive {
    fn conflicts(&self, open: OpenId, wanted: Range, exclusive: bool, lock_intent: bool) -> bool {
        if wanted.offset == 0 && wanted.length == 0 {
            return false;
        }
        let last = |range: Range| i128::from(range.offset) + i128::from(range.length) - 1;
        for (owner, lock) in &self.0 {
            if lock.range.offset == 0 && lock.range.length == 0 {
                continue;
            }
            let overlap = i128::from(wanted.offset) <= last(lock.range)
                && last(wanted) >= i128::from(lock.range.offset);
            if !overlap {
                continue;
            }
            if lock.exclusive {
                if *owner != open || (exclusive && lock_intent) {
                    return true;
                }
            } else if exclusive {
                return true;
            }
        }
        false
    }

    fn lock(&mut self, open: OpenId, lock: Lock) -> bool {
        let free = !self.conflicts(open, lock.range, lock.exclusive, true);
        if free {
            self.0.push((open, lock));
        }
        free
    }

    fn unlock(&mut self, open: OpenId, range: Range) -> bool {
        let matching = |exclusive| {
            self.0.iter().position(|(owner, lock)| {
                *owner == open && lock.range == range && lock.exclusive == exclusive
            })
        };
        let found = matching(true).or_else(|| matching(false));
        found.map(|index| self.0.remove(index)).is_some()
    }

    fn permit(&self, open: OpenId) -> Permit {
        let others = self.0.iter().any(|(owner, lock)| *owner != open && lock.exclusive);
        let shared = self.0.iter().any(|(_, lock)| !lock.exclusive);
        Permit { read: !others, write: !others && !shared }
    }
}

fn agree(table: &Table, naive: &Naive) {
    table.check_invariants();
    for open in [OWN, OTHER] {
        assert_eq!(table.permit(open), naive.permit(open), "{:?}", naive.0);
        for range in ranges() {
            for write in [false, true] {
                let Some(access) = Access::new(range.offset, range.length, write) else { continue };
                assert_eq!(
                    table.blocks(open, access),
                    naive.conflicts(open, range, write, false),
                    "{access:?} of {open:?} against {:?}",
                    naive.0
                );
            }
        }
    }
}

#[test]
fn a_range_ends_with_the_last_offset() {
    assert!(Range::new(u64::MAX, 1).is_some());
    assert!(Range::new(u64::MAX, 0).is_some());
    assert!(Range::new(1, u64::MAX).is_some());
    assert!(Range::new(2, u64::MAX).is_none());
    assert!(Range::new(u64::MAX, 2).is_none());
}

#[test]
fn two_ranges_overlap_as_the_algorithm_says() {
    for one in ranges() {
        for other in ranges() {
            let naive = Naive(vec![(OTHER, Lock { range: one, exclusive: true })]);
            assert_eq!(one.overlaps(other), naive.conflicts(OWN, other, true, true), "{one:?} {other:?}");
            assert_eq!(one.overlaps(other), other.overlaps(one));
        }
    }
}

#[test]
fn all_pairs_of_locks_are_decided_as_by_the_algorithm() {
    for first in ranges() {
        for second in ranges() {
            for flags in 0..8 {
                let open = if flags & 4 == 0 { OWN } else { OTHER };
                let first = Lock { range: first, exclusive: flags & 1 == 0 };
                let second = Lock { range: second, exclusive: flags & 2 == 0 };
                let (mut table, mut naive) = (Table::default(), Naive::default());
                assert_eq!(table.lock(OWN, &[first], 9).is_ok(), naive.lock(OWN, first));
                assert_eq!(
                    table.lock(open, &[second], 9).is_ok(),
                    naive.lock(open, second),
                    "{second:?} of {open:?} after {first:?}"
                );
                agree(&table, &naive);
            }
        }
    }
}

#[test]
fn many_locks_and_unlocks_are_decided_as_by_the_algorithm() {
    let ranges = ranges();
    for seed in 0..40_u64 {
        let (mut table, mut naive) = (Table::default(), Naive::default());
        let mut number = seed;
        for _ in 0..120 {
            // A linear congruential generator: the same numbers every time.
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let range = ranges[(number >> 33) as usize % ranges.len()];
            let open = if number >> 62 & 1 == 0 { OWN } else { OTHER };
            let lock = Lock { range, exclusive: number >> 61 & 1 == 0 };
            match number >> 58 & 7 {
                0..=4 => assert_eq!(table.lock(open, &[lock], 99).is_ok(), naive.lock(open, lock)),
                5 | 6 => assert_eq!(table.unlock(open, range), naive.unlock(open, range)),
                _ => {
                    if number >> 55 & 7 == 0 {
                        table.close(open);
                        naive.0.retain(|(owner, _)| *owner != open);
                    }
                }
            }
            agree(&table, &naive);
        }
        table.close(OWN);
        table.close(OTHER);
        assert_eq!(table, Table::default(), "nothing is left");
    }
}

#[test]
fn what_is_left_does_not_show_what_was() {
    let locks = [lock(0, 10, false), lock(5, 10, false), lock(5, 10, false), lock(3, 0, false)];
    let mut table = Table::default();
    table.lock(OWN, &locks, 9).unwrap();
    assert!(table.unlock(OWN, range(5, 10)));
    assert!(table.unlock(OWN, range(0, 10)));
    let mut straight = Table::default();
    straight.lock(OWN, &[lock(3, 0, false), lock(5, 10, false)], 9).unwrap();
    assert_eq!(table, straight);
}

#[test]
fn an_array_is_locked_as_a_whole_or_not_at_all() {
    let mut table = Table::default();
    table.lock(OTHER, &[lock(20, 1, true)], 9).unwrap();
    let before = table.clone();
    let wanted = [lock(0, 5, true), lock(5, 0, false), lock(10, 20, false)];
    assert_eq!(table.lock(OWN, &wanted, 9), Err(Refusal::Conflict));
    assert_eq!(table, before);
    // Exclusive ranges of one array conflict with each other.
    assert_eq!(table.lock(OWN, &[lock(0, 5, true), lock(4, 2, true)], 9), Err(Refusal::Conflict));
    assert_eq!(table, before);
    assert_eq!(table.lock(OWN, &[lock(0, 1, false), lock(2, 1, false)], 1), Err(Refusal::TooMany));
    assert_eq!(table, before);
}

#[test]
fn of_two_locks_of_a_range_the_exclusive_one_goes_first() {
    let mut table = Table::default();
    table.lock(OWN, &[lock(0, 10, true), lock(0, 10, false)], 9).unwrap();
    assert!(!table.unlock(OWN, range(0, 9)), "the range must be the same");
    assert!(!table.unlock(OTHER, range(0, 10)), "and the open");
    assert!(table.unlock(OWN, range(0, 10)));
    assert!(!table.blocks(OTHER, Access::new(0, 1, false).unwrap()), "the shared one is left");
    assert!(table.blocks(OTHER, Access::new(0, 1, true).unwrap()));
    assert!(table.unlock(OWN, range(0, 10)));
    assert!(!table.unlock(OWN, range(0, 10)));
    assert!(table.is_empty());
}

#[test]
fn thousands_of_locks_are_found_without_a_scan() {
    // A scan of all for each would take minutes.
    const COUNT: u64 = 100_000;
    let mut table = Table::default();
    for number in 0..COUNT {
        table.lock(OWN, &[lock(number * 4, 2, number % 2 == 0)], u32::MAX).unwrap();
    }
    for number in 0..COUNT {
        let here = number * 4;
        assert!(table.blocks(OTHER, Access::new(here, 1, true).unwrap()));
        assert!(!table.blocks(OTHER, Access::new(here + 2, 2, true).unwrap()));
        assert!(table.lock(OTHER, &[lock(here + 1, 1, true)], 1).is_err());
    }
    for number in 0..COUNT {
        assert!(table.unlock(OWN, range(number * 4, 2)));
    }
    assert!(table.is_empty());
}
