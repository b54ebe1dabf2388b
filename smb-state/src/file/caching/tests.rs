//! Every form of caching rights against everything that can happen to them, and the diagram that is drawn from the machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;

const HOLDER: CacheKey = CacheKey::Lease([1; 16], LeaseKey([1; 16]));
const HOLDER_OPEN: OpenId = OpenId(1);
const OTHER: CacheKey = CacheKey::Lease([2; 16], LeaseKey([2; 16]));
const OTHER_OPEN: OpenId = OpenId(2);
const SESSION: SessionId = SessionId(1);

/// A form with rights that it can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    name: &'static str,
    version: u8,
    state: LeaseState,
}

const RW: LeaseState = LeaseState::READ_WRITE;
const RH: LeaseState = LeaseState(R.0 | H.0);
const RWH: LeaseState = LeaseState::READ_HANDLE_WRITE;
const LEGAL: [LeaseState; 5] = [NONE, R, RW, RH, RWH];

/// Version 0 is an oplock.
const fn held(name: &'static str, version: u8, state: LeaseState) -> Held {
    Held { name, version, state }
}

const FORMS: [Held; 7] = [
    held("II", 0, R),
    held("exclusive", 0, RW),
    held("batch", 0, RWH),
    held("R", 1, R),
    held("RW", 1, RW),
    held("RH", 1, RH),
    held("RWH", 1, RWH),
];

/// [`FORMS`], and each lease in its second version as well.
fn all_forms() -> Vec<Held> {
    let second = FORMS.iter().filter(|held| held.version == 1).map(|held| Held { version: 2, ..*held });
    FORMS.iter().copied().chain(second).collect()
}

const LOOK: AccessMask = AccessMask::READ_ATTRIBUTES;

fn open(access: AccessMask, overwrite: bool) -> Cause {
    Cause::Open { access, overwrite }
}

fn causes() -> [(&'static str, Cause); 10] {
    [
        ("open for attributes", open(LOOK, false)),
        ("open for the security descriptor", open(LOOK.with(AccessMask::READ_CONTROL), false)),
        ("open for data", open(AccessMask::READ_DATA, false)),
        ("open that overwrites", open(LOOK, true)),
        ("share conflict", Cause::ShareConflict),
        ("read, flush", Cause::Read),
        ("write, lock, size", Cause::Write),
        ("rename, link", Cause::Rename),
        ("delete, security", Cause::Delete),
        ("entry", Cause::Entry),
    ]
}

/// What each cause does to each of [`FORMS`], by MS-FSA 2.1.4.12 and MS-SMB2 3.3.1.4. `.`: nothing. Otherwise the rights that
/// are left; `?`: the client has to acknowledge; `!`: it has to, and the operation waits for it.
const EXPECTED: &str = "
    open for attributes              | .    | .     | .     | .    | .     | .     | .
    open for the security descriptor | .    | II!   | II!   | .    | .     | .     | .
    open for data                    | .    | II!   | II!   | .    | R!    | .     | RH!
    open that overwrites             | none | none! | none! | none | none! | none? | none!
    share conflict                   | .    | .     | .     | .    | .     | R!    | RW!
    read, flush                      | .    | II!   | II!   | .    | R!    | .     | RH!
    write, lock, size                | none | none! | none! | none | none! | none? | none!
    rename, link                     | .    | .     | none! | .    | .     | R!    | RW!
    delete, security                 | .    | .     | .     | .    | .     | R!    | RW!
    entry                            | .    | .     | .     | none | none? | none? | none?
";

fn key_of(held: Held) -> CacheKey {
    if held.version == 0 { CacheKey::Open(HOLDER_OPEN) } else { HOLDER }
}

fn want(version: u8, state: LeaseState, epoch: u16) -> Want {
    match version {
        0 => Want::Oplock(level(state)),
        1 => Want::Lease { state, v2: None },
        _ => Want::Lease { state, v2: Some(LeaseV2 { parent: None, epoch }) },
    }
}

fn request(open: OpenId, key: CacheKey, stream: &Name, want: Want) -> CacheRequest<'_> {
    CacheRequest { open, session: SESSION, key, stream, want, alone: true, deleted: false, locked: false }
}

fn granted(cached: Cached) -> LeaseState {
    match cached {
        Cached::Oplock(level) => rights(level),
        Cached::Lease { state, .. } => state,
    }
}

/// A file that is cached by one holder.
fn cached(held: Held, epoch: u16) -> Caching {
    let mut caching = Caching::default();
    let want = want(held.version, held.state, epoch);
    let answer = caching.grant(&request(HOLDER_OPEN, key_of(held), &Name::default(), want));
    assert_eq!(granted(answer), held.state, "nobody else is there: {held:?}");
    caching
}

impl Caching {
    fn only(&self) -> &Holder {
        assert_eq!(self.holders.len(), 1);
        self.holders.values().next().expect("a holder")
    }

    fn hit(&mut self, cause: Cause) -> (bool, Breaks) {
        let mut breaks = Breaks::default();
        let waits = self.check(Some(OTHER), &Name::default(), cause, &mut breaks);
        self.check_invariants();
        (waits, breaks)
    }

    /// Acknowledges what was asked for, in full.
    fn obey(&mut self, held: Held) -> Breaks {
        let to = self.only().breaking.expect("a break").to;
        let mut breaks = Breaks::default();
        self.acknowledge(held, to, &mut breaks).expect("what was asked for is accepted");
        self.check_invariants();
        breaks
    }

    fn acknowledge(
        &mut self,
        held: Held,
        state: LeaseState,
        breaks: &mut Breaks,
    ) -> Result<LeaseState, BadAck> {
        if held.version == 0 {
            self.acknowledge_oplock(key_of(held), level(state), breaks).map(rights)
        } else {
            self.acknowledge_lease(key_of(held), state, breaks)
        }
    }
}

/// What the only notice says: from, to, whether to acknowledge.
#[track_caller]
fn told(held: Held, breaks: &Breaks) -> (LeaseState, bool) {
    let [(session, open, notice)] = breaks.notices[..] else { panic!("{breaks:?}") };
    assert_eq!((session, open), (SESSION, HOLDER_OPEN));
    match notice {
        Notice::Oplock(level) => {
            assert_eq!(held.version, 0);
            (rights(level), !breaks.begun.is_empty())
        }
        Notice::Lease { key, from, to, acknowledge, epoch } => {
            assert_eq!(key, LeaseKey([1; 16]));
            assert_ne!(from, to);
            assert_eq!(acknowledge, !breaks.begun.is_empty(), "a timer runs if an acknowledgment is wanted");
            assert_eq!(epoch != 0, held.version == 2, "the epoch is version 2's");
            (to, acknowledge)
        }
    }
}

fn name(version: u8, state: LeaseState) -> String {
    if version == 0 {
        return match level(state) {
            OplockLevel::BATCH => "batch",
            OplockLevel::EXCLUSIVE => "exclusive",
            OplockLevel::II => "II",
            _ => "none",
        }
        .to_string();
    }
    let letters = [(R, 'R'), (W, 'W'), (H, 'H')];
    let name: String =
        letters.iter().filter(|(right, _)| state.contains(*right)).map(|(_, letter)| *letter).collect();
    if name.is_empty() { "none".to_string() } else { name }
}

/// A cell of the table: what the machine does.
fn outcome(held: Held, cause: Cause) -> String {
    let mut caching = cached(held, 7);
    let (waits, breaks) = caching.hit(cause);
    if breaks.notices.is_empty() {
        assert!(!waits && breaks.begun.is_empty() && caching.only().state == held.state);
        return ".".to_string();
    }
    let (to, acknowledge) = told(held, &breaks);
    assert!(acknowledge || !waits, "nobody waits for what never comes");
    assert!(held.state.contains(to) && to != held.state, "a break goes to less (S28)");
    assert!(LEGAL.contains(&to), "only legal states (S27)");
    if !acknowledge {
        assert_eq!(caching.only().state, to, "what needs no acknowledgment has happened");
    }
    format!(
        "{}{}",
        name(held.version, to),
        if waits {
            "!"
        } else if acknowledge {
            "?"
        } else {
            ""
        }
    )
}

fn expected() -> BTreeMap<&'static str, Vec<&'static str>> {
    let rows = EXPECTED.lines().filter(|line| !line.trim().is_empty());
    rows.map(|row| {
        let mut cells = row.split('|').map(str::trim);
        (cells.next().expect("a cause"), cells.collect())
    })
    .collect()
}

#[test]
fn each_cause_takes_from_each_form_what_it_must() {
    let expected = expected();
    for (cause_name, cause) in causes() {
        let row = &expected[cause_name];
        for held in all_forms() {
            let column = FORMS.iter().position(|form| form.name == held.name).expect("a column");
            assert_eq!(outcome(held, cause), row[column], "{cause_name} on {held:?}");
        }
    }
}

#[test]
fn operations_under_the_same_key_break_nothing_but_their_own_level_two() {
    for (cause_name, cause) in causes() {
        for held in all_forms() {
            let mut caching = cached(held, 7);
            let mut breaks = Breaks::default();
            let waits = caching.check(Some(key_of(held)), &Name::default(), cause, &mut breaks);
            assert!(!waits, "blocked by itself: {cause_name} on {held:?} (S31)");
            let goes = held.name == "II" && cause == Cause::Write;
            assert_eq!(!breaks.notices.is_empty(), goes, "{cause_name} on {held:?} (S31)");
            if goes {
                assert_eq!(told(held, &breaks), (NONE, false));
            }
        }
    }
}

#[test]
fn other_streams_are_another_matter() {
    for held in all_forms() {
        let mut caching = cached(held, 7);
        let mut breaks = Breaks::default();
        for (_, cause) in causes() {
            assert!(!caching.check(Some(OTHER), &Name::from("S"), cause, &mut breaks));
        }
        assert_eq!(breaks, Breaks::default());
    }
}

#[test]
fn only_batch_oplocks_go_before_share_modes_are_looked_at() {
    for held in all_forms() {
        let mut caching = cached(held, 7);
        let mut breaks = Breaks::default();
        let cause = open(AccessMask::READ_DATA, false);
        let waits = caching.check_batch(OTHER, &Name::default(), cause, &mut breaks);
        assert_eq!(waits, held.name == "batch", "{held:?}");
        assert_eq!(breaks.notices.is_empty(), !waits);
    }
}

#[test]
fn a_lease_keeps_any_part_of_what_was_asked_and_no_more() {
    for held in all_forms().into_iter().filter(|held| held.version > 0) {
        for (cause_name, cause) in causes() {
            for kept in (0..8).map(LeaseState) {
                let mut caching = cached(held, 7);
                let (_, begun) = caching.hit(cause);
                let mut breaks = Breaks::default();
                let verdict = caching.acknowledge_lease(HOLDER, kept, &mut breaks);
                caching.check_invariants();
                let context = format!("{cause_name} on {held:?}, kept {kept:?}");
                let [number] = begun.begun[..] else {
                    assert_eq!(verdict, Err(BadAck::NotBreaking), "{context}");
                    assert_eq!(breaks, Breaks::default(), "{context}");
                    continue;
                };
                let (to, _) = told(held, &begun);
                if to.contains(kept) {
                    let left = legal(kept);
                    assert_eq!(verdict, Ok(left), "{context}");
                    assert_eq!(breaks.ended, [number], "{context}");
                    assert!(breaks.notices.is_empty() && breaks.begun.is_empty(), "{context}");
                    assert_eq!((caching.only().state, caching.only().breaking), (left, None), "{context}");
                } else {
                    // The break stays pending, and the right acknowledgment still ends it (S28).
                    assert_eq!(verdict, Err(BadAck::TooMuch), "{context}");
                    assert_eq!(breaks, Breaks::default(), "{context}");
                    assert_eq!(caching.obey(held).ended, [number], "{context}");
                    assert_eq!(caching.only().state, to, "{context}");
                }
            }
        }
    }
}

#[test]
fn a_bad_acknowledgment_of_an_oplock_ends_it_at_none() {
    let levels =
        [OplockLevel::NONE, OplockLevel::II, OplockLevel::EXCLUSIVE, OplockLevel::BATCH, OplockLevel::LEASE];
    for held in all_forms().into_iter().filter(|held| held.version == 0) {
        for (cause_name, cause) in causes() {
            for kept in levels {
                let mut caching = cached(held, 7);
                let (_, begun) = caching.hit(cause);
                let mut breaks = Breaks::default();
                let verdict = caching.acknowledge_oplock(key_of(held), kept, &mut breaks);
                caching.check_invariants();
                let context = format!("{cause_name} on {held:?}, kept {kept:?}");
                let [number] = begun.begun[..] else {
                    let refused =
                        if begun.notices.is_empty() { BadAck::NotBreaking } else { BadAck::TooMuch };
                    assert_eq!(verdict, Err(refused), "{context}");
                    assert_eq!(breaks, Breaks::default(), "{context}");
                    continue;
                };
                let (to, _) = told(held, &begun);
                let expected = match kept {
                    OplockLevel::NONE => Ok(OplockLevel::NONE),
                    OplockLevel::II if to == R => Ok(OplockLevel::II),
                    // A batch oplock's holder may ask for exclusive, and gets none (3.3.5.22.1).
                    OplockLevel::EXCLUSIVE if held.name == "batch" => Ok(OplockLevel::NONE),
                    _ => Err(BadAck::TooMuch),
                };
                assert_eq!(verdict, expected, "{context}");
                assert_eq!(breaks.ended, [number], "{context}");
                let left = expected.map_or(NONE, rights);
                assert_eq!((caching.only().state, caching.only().breaking), (left, None), "{context}");
            }
        }
    }
}

#[test]
fn a_time_out_takes_everything_and_a_late_one_nothing() {
    for held in all_forms() {
        for (cause_name, cause) in causes() {
            let mut caching = cached(held, 7);
            let (_, begun) = caching.hit(cause);
            let [number] = begun.begun[..] else { continue };
            let before = caching.clone();
            let mut breaks = Breaks::default();
            caching.time_out(number.wrapping_add(1), &mut breaks);
            assert_eq!((&caching, &breaks), (&before, &Breaks::default()), "another break's timer");
            // Whatever else was to go is gone with it: there is nothing left to chain.
            caching.hit(Cause::Write);
            caching.time_out(number, &mut breaks);
            assert_eq!(breaks.ended, [number], "{cause_name} on {held:?}");
            assert!(breaks.notices.is_empty() && breaks.begun.is_empty());
            assert_eq!((caching.only().state, caching.only().breaking), (NONE, None));
            let after = caching.clone();
            caching.time_out(number, &mut breaks);
            assert_eq!(caching, after, "it runs out once");
            let late = caching.acknowledge(held, NONE, &mut breaks);
            assert!(late.is_err(), "an acknowledgment that comes too late is refused: {late:?}");
        }
    }
}

#[test]
fn a_close_under_a_break_ends_it_with_the_last_open() {
    for held in all_forms() {
        for (_, cause) in causes() {
            let mut caching = cached(held, 7);
            let stream = Name::default();
            if held.version > 0 {
                let second = request(OTHER_OPEN, HOLDER, &stream, want(held.version, held.state, 7));
                caching.grant(&second);
            }
            let mut begun = Breaks::default();
            caching.check(Some(OTHER), &stream, cause, &mut begun);
            let mut breaks = Breaks::default();
            if held.version > 0 {
                caching.close(HOLDER, OTHER_OPEN, &mut breaks);
                assert!(breaks.ended.is_empty(), "the first open still has the rights");
            }
            caching.close(key_of(held), HOLDER_OPEN, &mut breaks);
            assert_eq!(breaks.ended, begun.begun);
            assert!(caching.holders.is_empty());
        }
    }
}

/// A chain: what is told after each acknowledgment.
fn chain(held: Held, causes: &[Cause]) -> Vec<String> {
    let mut caching = cached(held, 7);
    let mut said = Vec::new();
    let mut say = |breaks: &Breaks| {
        if !breaks.notices.is_empty() {
            let (to, acknowledge) = told(held, breaks);
            said.push(format!("{}{}", name(held.version, to), if acknowledge { "?" } else { "" }));
        }
    };
    for cause in causes {
        let (_, breaks) = caching.hit(*cause);
        say(&breaks);
    }
    while caching.only().breaking.is_some() {
        let breaks = caching.obey(held);
        assert_eq!(breaks.ended.len(), 1);
        say(&breaks);
    }
    said
}

#[test]
fn what_else_must_go_is_broken_after_the_acknowledgment() {
    let data = open(AccessMask::READ_DATA, false);
    let overwrite = open(AccessMask::READ_DATA, true);
    let lease = |name| FORMS.into_iter().find(|held| held.name == name).expect("a form");
    assert_eq!(chain(lease("RWH"), &[data, overwrite]), ["RH?", "R?", "none"]);
    assert_eq!(chain(lease("RWH"), &[data, Cause::ShareConflict]), ["RH?", "R?"]);
    assert_eq!(chain(lease("RWH"), &[data, Cause::ShareConflict, Cause::Write]), ["RH?", "R?", "none"]);
    assert_eq!(chain(lease("RWH"), &[Cause::Rename, data]), ["RW?", "R?"]);
    assert_eq!(chain(lease("RWH"), &[data, data, data]), ["RH?"]);
    assert_eq!(chain(lease("RH"), &[Cause::ShareConflict, Cause::Write]), ["R?", "none"]);
    assert_eq!(chain(lease("RW"), &[data, Cause::Write]), ["R?", "none"]);
    assert_eq!(chain(lease("exclusive"), &[data, Cause::Write]), ["II?", "none"]);
    assert_eq!(chain(lease("batch"), &[Cause::Read, Cause::Rename]), ["II?", "none"]);
}

#[test]
fn every_chain_goes_down_to_its_end() {
    let causes = causes();
    for held in all_forms() {
        for (_, first) in causes {
            for (_, second) in causes {
                for (_, third) in causes {
                    let said = chain(held, &[first, second, third]);
                    assert!(said.len() <= 3, "{held:?} is told {said:?} (L6)");
                    let mut different = said.clone();
                    different.dedup();
                    assert_eq!(said, different, "the same is told twice");
                }
            }
        }
    }
}

#[test]
fn an_open_waits_for_a_chain_to_its_end_and_nobody_else_does() {
    let held = FORMS[6];
    let mut caching = cached(held, 7);
    let data = open(AccessMask::READ_DATA, false);
    assert!(caching.hit(data).0);
    assert!(caching.hit(Cause::Write).0, "W is still there");
    caching.obey(held);
    assert!(!caching.hit(Cause::Write).0, "R alone is not waited for (S30)");
    assert!(!caching.hit(Cause::Read).0);
    assert!(caching.hit(data).0);
    caching.obey(held);
    assert!(!caching.hit(data).0);
}

#[test]
fn the_epoch_counts_what_is_told_and_nothing_else() {
    let held = Held { version: 2, ..FORMS[6] };
    // The client counts from 65533: granting is the first change.
    let mut caching = cached(held, u16::MAX - 2);
    assert_eq!(caching.only().epoch, u16::MAX - 1);
    let told_epoch = |breaks: &Breaks| match breaks.notices[..] {
        [(_, _, Notice::Lease { epoch, .. })] => epoch,
        _ => panic!("{breaks:?}"),
    };
    let (_, breaks) = caching.hit(Cause::Rename);
    assert_eq!(told_epoch(&breaks), u16::MAX);
    caching.hit(open(AccessMask::READ_DATA, false));
    assert_eq!(caching.only().epoch, u16::MAX, "noted for later, not told");
    let breaks = caching.obey(held);
    assert_eq!(told_epoch(&breaks), 0, "it wraps (S29)");
    caching.obey(held);
    assert_eq!(caching.only().epoch, 0, "acknowledging changes nothing that the client does not know");
    let stream = Name::default();
    caching.grant(&request(OpenId(3), HOLDER, &stream, want(2, R, 9)));
    assert_eq!(caching.only().epoch, 0, "an open that changes nothing, whatever epoch it brings");
    caching.grant(&request(OpenId(4), HOLDER, &stream, want(2, RWH, 9)));
    assert_eq!((caching.only().state, caching.only().epoch), (RWH, 1), "a promotion is a change");
    let (_, breaks) = caching.hit_by(SESSION, OpenId(4), Cause::Write);
    let mut ended = Breaks::default();
    caching.time_out(breaks.begun[0], &mut ended);
    assert_eq!((caching.only().state, caching.only().epoch), (NONE, 2), "a time-out tells nothing");
}

impl Caching {
    /// As [`Caching::hit`], told to that open.
    fn hit_by(&mut self, session: SessionId, open: OpenId, cause: Cause) -> (bool, Breaks) {
        let (waits, breaks) = self.hit(cause);
        assert!(breaks.notices.iter().all(|notice| (notice.0, notice.1) == (session, open)));
        (waits, breaks)
    }
}

/// What is granted to an open (columns: [`FORMS`]) beside what another key holds, where that key's open is there for data.
const GRANTS: &str = "
    nothing   | II   | II   | II   | R    | R    | RH   | RH
    II        | II   | II   | II   | R    | R    | R    | R
    exclusive | none | none | none | none | none | none | none
    batch     | none | none | none | none | none | none | none
    R         | II   | II   | II   | R    | R    | RH   | RH
    RW        | none | none | none | none | none | none | none
    RH        | none | none | none | R    | R    | RH   | RH
    RWH       | none | none | none | none | none | none | none
";

#[test]
fn rights_are_granted_beside_what_others_hold() {
    for row in GRANTS.lines().filter(|line| !line.trim().is_empty()) {
        let mut cells = row.split('|').map(str::trim);
        let beside = cells.next().expect("a name");
        for (asked, expected) in FORMS.iter().zip(cells) {
            for version in [0, 1, 2] {
                if (version == 0) != (asked.version == 0) {
                    continue;
                }
                let holder = FORMS.into_iter().find(|held| held.name == beside);
                let mut caching = holder.map_or_else(Caching::default, |held| cached(held, 7));
                let stream = Name::default();
                let key = if version == 0 { CacheKey::Open(OTHER_OPEN) } else { OTHER };
                let want = want(version, asked.state, 7);
                let request = CacheRequest { alone: false, ..request(OTHER_OPEN, key, &stream, want) };
                let answer = granted(caching.grant(&request));
                caching.check_invariants();
                assert_eq!(name(version, answer), expected, "{asked:?} beside {beside}");
            }
        }
    }
}

#[test]
fn rights_are_granted_within_what_the_file_allows() {
    let stream = Name::default();
    for asked in all_forms() {
        let fresh = request(OTHER_OPEN, OTHER, &stream, want(asked.version, asked.state, 7));
        assert_eq!(granted(Caching::default().grant(&fresh)), asked.state, "an open that is alone");
        let deleted = granted(Caching::default().grant(&CacheRequest { deleted: true, ..fresh }));
        assert!(!deleted.contains(H), "no handle is kept of what is being deleted: {asked:?}");
        let locked = granted(Caching::default().grant(&CacheRequest { locked: true, ..fresh }));
        assert!(locked.is_empty() || locked.contains(W), "reading is not cached past locks: {asked:?}");
    }
    for illegal in [W, H, W.with(H)] {
        let fresh = request(OTHER_OPEN, OTHER, &stream, want(1, illegal, 7));
        assert_eq!(granted(Caching::default().grant(&fresh)), NONE, "{illegal:?} without R (S27)");
    }
}

#[test]
fn a_lease_that_is_held_is_promoted_or_stays() {
    let stream = Name::default();
    for first in LEGAL {
        for asked in LEGAL {
            for breaking in [false, true] {
                let mut caching = Caching::default();
                caching.grant(&request(HOLDER_OPEN, HOLDER, &stream, want(2, first, 7)));
                let begun = breaking && caching.hit(Cause::Rename).1.begun.len() == 1;
                let epoch = caching.only().epoch;
                let again = request(OTHER_OPEN, HOLDER, &stream, want(2, asked, 7));
                let Cached::Lease { state, breaking, .. } = caching.grant(&again) else { panic!("no lease") };
                assert_eq!(breaking, begun);
                let expected = if asked.contains(first) && !begun { asked } else { first };
                assert_eq!(state, expected, "{first:?}, then {asked:?}");
                assert_eq!(caching.only().epoch.wrapping_sub(epoch), u16::from(expected != first));
                assert_eq!(caching.holders.len(), 1);
            }
        }
    }
}

/// The diagram, drawn by asking the machine.
fn draw() -> String {
    let mut text = String::from(
        "# What breaks oplocks and leases\n\nGenerated from the machine by `caching::tests`; `UPDATE_DIAGRAMS=1 cargo test -p \
         smb-state diagram` writes it anew.\n\nColumns are what a client holds, rows what somebody with another key does. `.`: \
         nothing happens. Otherwise the rights\nthat are left: `?` means that the client has to acknowledge, `!` that the \
         operation waits for it.\n\n| |",
    );
    let _ = writeln!(text, " {} |", FORMS.map(|held| held.name).join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(FORMS.len()));
    for (cause_name, cause) in causes() {
        let cells = FORMS.map(|held| outcome(held, cause));
        let _ = writeln!(text, "| {cause_name} | {} |", cells.join(" | "));
    }
    for (title, oplocks) in [("Oplocks", true), ("Leases", false)] {
        let _ = write!(text, "\n## {title}\n\n```mermaid\nstateDiagram-v2\n");
        let mut edges: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for held in FORMS.into_iter().filter(|held| (held.version == 0) == oplocks) {
            let _ = writeln!(text, "    [*] --> {}", held.name);
            for (cause_name, cause) in causes() {
                draw_break(held, cause_name, cause, &mut edges);
            }
        }
        for ((from, to), labels) in edges {
            let mut labels = labels;
            labels.sort();
            labels.dedup();
            let _ = writeln!(text, "    {from} --> {to} : {}", labels.join("; "));
        }
        text.push_str("```\n");
    }
    text
}

fn draw_break(
    held: Held,
    cause_name: &str,
    cause: Cause,
    edges: &mut BTreeMap<(String, String), Vec<String>>,
) {
    let mut caching = cached(held, 7);
    let (waits, breaks) = caching.hit(cause);
    if breaks.notices.is_empty() {
        return;
    }
    let (to, acknowledge) = told(held, &breaks);
    let to = name(held.version, to);
    if !acknowledge {
        return edges.entry((held.name.to_string(), to)).or_default().push(cause_name.to_string());
    }
    let between = format!("{}_to_{to}", held.name);
    let label = if waits { format!("{cause_name} (waits)") } else { cause_name.to_string() };
    edges.entry((held.name.to_string(), between.clone())).or_default().push(label);
    // Every way out, as the machine takes it.
    for kept in LEGAL {
        let mut one = caching.clone();
        let mut breaks = Breaks::default();
        let verdict = one.acknowledge(held, kept, &mut breaks);
        if one.only().breaking.is_none() {
            let label = if verdict.is_ok() { "acknowledged" } else { "bad acknowledgment" };
            let left = name(held.version, one.only().state);
            edges.entry((between.clone(), left)).or_default().push(label.to_string());
        }
    }
    let mut late = Breaks::default();
    caching.time_out(breaks.begun[0], &mut late);
    let left = name(held.version, caching.only().state);
    edges.entry((between, left)).or_default().push("time-out".to_string());
}

#[test]
fn the_diagram_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/file/caching/transitions.md");
    let drawn = draw();
    if std::env::var_os("UPDATE_DIAGRAMS").is_some() {
        std::fs::write(path, &drawn).expect("the diagram can be written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(committed, drawn, "`UPDATE_DIAGRAMS=1 cargo test -p smb-state diagram` writes it anew");
}
