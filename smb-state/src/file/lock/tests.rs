//! The table of locks against the algorithm of MS-FSA 2.1.4.10 as it is written, and the rules of its own.

use smb_proto::command::create::ShareAccess;

use super::*;
use crate::file::Link;
use crate::file::ask::Behind;
use crate::file::caching::CacheKey;
use crate::file::permit::UnderPermit;
use crate::ids::{ConnectionId, FileNumber, MessageId, SessionId, ShardId, Token};
use crate::message::Asker;

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

/// A file with these opens, which may read and write unasked.
fn file_with(opens: &[OpenId]) -> File {
    let mut file = File::default();
    for open in opens {
        let grant = Grant {
            stream: Name::default(),
            access: smb_proto::access::AccessMask::READ_DATA,
            share: ShareAccess::ALL,
            link: Link { parent: FileNumber(1), name: Name::from("A") },
            delete_on_close: false,
            session: SessionId(open.0),
            persistent: false,
            away: false,
            key: CacheKey::Open(*open),
            permit: Permit::ALL,
            draining: 0,
            in_flight: BTreeMap::new(),
        };
        file.grants.insert(*open, grant);
    }
    file
}

fn asker(number: u32) -> Asker {
    Asker { shard: ShardId(0), token: Token { slot: number, generation: 0 } }
}

fn behind(number: u64) -> Behind {
    Behind { connection: ConnectionId::new(ShardId(0), 1), message: MessageId(number) }
}

/// Asks; what that leads to.
fn ask(file: &mut File, number: u32, ask: FileAsk) -> Vec<Effect> {
    let mut effects = Vec::new();
    file.take(ask, asker(number), &mut effects);
    file.check_invariants();
    effects
}

fn ask_lock(open: OpenId, number: u32, lock: Lock) -> FileAsk {
    let (locks, behind) = (vec![lock], behind(number.into()));
    FileAsk::Lock { open, locks, on_conflict: OnConflict::Wait, most: 9, behind }
}

fn ask_read(open: OpenId, number: u32, offset: u64, holds: bool) -> FileAsk {
    let access = Access::new(offset, 1, false);
    FileAsk::Check { open, cause: Cause::Read, access, holds, behind: behind(number.into()) }
}

fn granted(number: u32) -> Effect {
    Effect::Answer(asker(number), Answer::Granted)
}

const THIRD: OpenId = OpenId(3);

#[test]
fn each_permit_taken_back_is_confirmed_for_itself() {
    let mut file = file_with(&[OWN, OTHER, THIRD]);
    let restrict = |permit| Effect::Restrict(SessionId(3), THIRD, permit);
    let first = ask(&mut file, 1, ask_lock(OWN, 1, lock(0, 1, false)));
    assert!(first.contains(&restrict(Permit::READ)), "{first:?}");
    let second = ask(&mut file, 2, ask_lock(OTHER, 2, lock(8, 1, true)));
    assert!(second.contains(&restrict(Permit::default())), "{second:?}");
    for open in [OWN, OTHER] {
        ask(&mut file, 9, FileAsk::Drained { open });
    }
    ask(&mut file, 9, FileAsk::Drained { open: OWN });
    // The third confirms that it writes no more. That it reads no more it has not said.
    let effects = ask(&mut file, 9, FileAsk::Drained { open: THIRD });
    assert!(!effects.contains(&granted(2)), "{effects:?}");
    let effects = ask(&mut file, 9, FileAsk::Drained { open: THIRD });
    assert!(effects.contains(&granted(1)) && effects.contains(&granted(2)), "{effects:?}");
}

#[test]
fn a_permit_that_is_taken_back_is_not_given_before_the_lock_is_granted() {
    let mut file = file_with(&[OWN, OTHER]);
    ask(&mut file, 1, ask_lock(OWN, 1, lock(0, 10, true)));
    ask(&mut file, 9, FileAsk::Drained { open: OTHER });
    assert!(file.waiting.is_empty(), "it is granted");
    let effects = ask(&mut file, 2, ask_read(OTHER, 2, 50, false));
    assert_eq!(effects, [Effect::Answer(asker(2), Answer::Checked { permit: Permit::default() })]);
    // The next lock waits for that read.
    assert!(ask(&mut file, 3, ask_lock(OWN, 3, lock(50, 10, true))).is_empty());
    ask(&mut file, 9, FileAsk::Unlock { open: OWN, ranges: vec![range(0, 10)] });
    let effects = ask(&mut file, 4, ask_read(OTHER, 4, 90, false));
    assert_eq!(effects, [Effect::Answer(asker(4), Answer::Checked { permit: Permit::default() })]);
    let effects = ask(&mut file, 9, FileAsk::Done { open: OTHER, access: Access::new(50, 1, false) });
    assert!(effects.contains(&granted(3)), "it does not wait for the other read: {effects:?}");
}

#[test]
fn a_request_that_holds_something_does_not_wait_for_a_lock_that_waits_for_it() {
    let mut file = file_with(&[OWN, OTHER]);
    ask(&mut file, 1, ask_lock(OWN, 1, lock(0, 1, true)));
    ask(&mut file, 9, FileAsk::Drained { open: OTHER });
    ask(&mut file, 2, ask_read(OTHER, 2, 50, false));
    ask(&mut file, 3, ask_lock(OWN, 3, lock(50, 10, true)));
    assert!(ask(&mut file, 4, ask_read(OTHER, 4, 55, false)).is_empty(), "this one has nothing to lose");
    let effects = ask(&mut file, 5, ask_read(OTHER, 5, 55, true));
    assert_eq!(effects, [Effect::Answer(asker(5), Answer::Checked { permit: Permit::default() })]);
    for offset in [50, 55] {
        ask(&mut file, 9, FileAsk::Done { open: OTHER, access: Access::new(offset, 1, false) });
    }
    assert!(file.waiting.is_empty() && file.locks.any(&Name::default()));
}

#[test]
fn a_lock_that_is_given_up_lets_go_of_what_waits_for_it() {
    let mut file = file_with(&[OWN, OTHER]);
    ask(&mut file, 1, ask_lock(OWN, 1, lock(0, 10, true)));
    assert!(ask(&mut file, 2, ask_read(OTHER, 2, 5, false)).is_empty());
    let effects = ask(&mut file, 9, FileAsk::Withdraw { behind: behind(1), status: NtStatus::CANCELLED });
    assert!(effects.contains(&Effect::Answer(asker(1), Answer::Refused(NtStatus::CANCELLED))));
    let let_through =
        |effect: &Effect| matches!(effect, Effect::Answer(to, Answer::Checked { .. }) if *to == asker(2));
    assert!(effects.iter().any(let_through), "{effects:?}");
}

#[test]
fn a_stream_that_is_renamed_keeps_its_locks() {
    let mut file = file_with(&[OWN, OTHER]);
    for grant in file.grants.values_mut() {
        grant.stream = Name::from("S");
    }
    ask(&mut file, 1, ask_lock(OWN, 1, lock(0, 10, true)));
    ask(&mut file, 9, FileAsk::Drained { open: OTHER });
    let stream = Name::from("T");
    ask(&mut file, 9, FileAsk::BeginStreamRename { open: OWN, stream: stream.clone() });
    ask(&mut file, 9, FileAsk::EndStreamRename { open: OWN, stream, done: true });
    let effects = ask(&mut file, 2, ask_read(OTHER, 2, 5, false));
    assert_eq!(effects, [Effect::Answer(asker(2), Answer::Refused(NtStatus::FILE_LOCK_CONFLICT))]);
    ask(&mut file, 9, FileAsk::Close { open: OWN });
    assert!(!file.locks.any(&Name::from("T")));
}

#[test]
fn only_io_of_the_kind_that_is_taken_back_is_waited_for() {
    let mut under = UnderPermit::default();
    under.begin(false);
    under.begin(true);
    under.restricted();
    assert_eq!(under.drained(Permit::READ), 0, "a write is under way");
    under.end(true);
    assert_eq!(under.drained(Permit::READ), 1, "reads may go on for ever");
    under.restricted();
    under.restricted();
    assert_eq!(under.drained(Permit::default()), 0);
    under.end(false);
    assert_eq!(under.drained(Permit::default()), 2);
}
