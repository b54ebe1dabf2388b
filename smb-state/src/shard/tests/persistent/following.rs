//! Records that follow what others do: who is answered before whom, and what a start finds.

use smb_proto::fscc::file_info::{RenameFlags, RenameInformation};

use super::super::breaks::write;
use super::*;

const ALL: AccessMask = AccessMask(DATA.0 | AccessMask::DELETE.0);

fn numbered(number: u8) -> Command {
    with(but(plain(), ALL, 7), vec![wish([number; 16])])
}

fn set(file_id: FileId, what: SetFileInformation) -> Command {
    Command::SetInfo(Box::new(SetInfo { file_id, length: 100, what: Setting::File(what) }))
}

impl Durable {
    fn record(&self, file_id: FileId) -> &Record {
        let of = |record: &&Record| record.open.0 == file_id.persistent;
        self.store.0.iter().find(of).expect("it has a record")
    }

    /// Storage answers; the store does not.
    fn sent(&mut self, party: &mut Party, command: Command) -> Actions {
        let mut seen = self.net.send(party, command);
        seen.extend(self.net.run());
        seen
    }

    fn lease_state(&self, file_id: FileId) -> LeaseState {
        match self.record(file_id).held.cached {
            HeldCache::Lease { state, .. } => state,
            HeldCache::Nothing | HeldCache::Oplock(_) => LeaseState::EMPTY,
        }
    }
}

#[test]
fn a_disposition_is_in_every_record_before_it_is_answered() {
    anywhere(|mut world| {
        let (mut one, mut two) = (world.client(1, 1), world.client(2, 2));
        let (first, ..) = opened(&world.ask(&mut one, numbered(1)));
        let (second, ..) = opened(&world.ask(&mut two, numbered(2)));
        let seen = world.sent(&mut two, set(second, SetFileInformation::Disposition(true)));
        assert!(statuses(&seen, &two).is_empty(), "{seen:?}");
        let [(_, StoreChange::Put(record))] = &asked(&seen)[..] else { panic!("{seen:?}") };
        assert!(record.open.0 == first.persistent && record.held.delete_pending);
        assert_eq!(statuses(&world.settle(seen), &two), [NtStatus::SUCCESS]);
        assert!(world.record(first).held.delete_pending && world.record(second).held.delete_pending);
        // The one that set it is closed; or the other one clears it.
        assert_eq!(world.status(&mut two, close_of(second)), NtStatus::SUCCESS);
        assert!(world.record(first).held.delete_pending);
        let (mut three, ask) = (world.client(3, 3), SetFileInformation::Disposition(false));
        assert_eq!(world.status(&mut three, numbered(3)), NtStatus::DELETE_PENDING);
        assert_eq!(world.status(&mut one, set(first, ask)), NtStatus::SUCCESS);
        let (third, ..) = opened(&world.ask(&mut three, numbered(3)));
        let ask = SetFileInformation::Disposition(true);
        assert_eq!(world.status(&mut one, set(first, ask)), NtStatus::SUCCESS);
        let ask = SetFileInformation::Disposition(false);
        assert_eq!(world.status(&mut three, set(third, ask)), NtStatus::SUCCESS);
        assert!(!world.record(first).held.delete_pending && !world.record(third).held.delete_pending);
        world.restart();
        world.end(&[]);
    });
}

#[test]
fn a_name_is_in_every_record_before_it_is_answered() {
    anywhere(|mut world| {
        let (mut one, mut two) = (world.client(1, 1), world.client(2, 2));
        let (first, ..) = opened(&world.ask(&mut one, numbered(1)));
        let (second, ..) = opened(&world.ask(&mut two, but(plain(), ALL, 7)));
        let (flags, name) = (RenameFlags::EMPTY, Name::from("free"));
        let rename = RenameInformation { flags, root_directory: 0, name };
        let seen = world.sent(&mut two, set(second, SetFileInformation::Rename(rename)));
        assert!(statuses(&seen, &two).is_empty(), "{seen:?}");
        assert_eq!(statuses(&world.settle(seen), &two), [NtStatus::SUCCESS]);
        assert_eq!(world.record(first).path, Name::from("free"));
        world.end(&[one, two]);
    });
}

#[test]
fn what_nobody_acknowledged_in_time_is_recorded_before_anybody_opens() {
    anywhere(|mut world| {
        let (mut party, mut other) = (world.client(1, 1), world.client(2, 2));
        let ask = with(lease_v2(LeaseState::READ_HANDLE_WRITE, 1), vec![wish(GUID)]);
        let (file_id, ..) = opened(&world.ask(&mut party, ask));
        let seen = world.sent(&mut other, but(plain(), DATA, 7));
        assert_eq!(notifications(&seen).len(), 1);
        let mut seen = world.net.expire();
        seen.extend(world.net.run());
        assert!(statuses(&seen, &other).iter().all(|status| *status == NtStatus::PENDING), "{seen:?}");
        assert_eq!(asked(&seen).len(), 1);
        let seen = world.settle(seen);
        assert_eq!(statuses(&seen, &other).last(), Some(&NtStatus::SUCCESS));
        assert_eq!(world.lease_state(file_id), LeaseState::EMPTY);
        let mut third = world.client(3, 3);
        assert_eq!(world.status(&mut third, but(plain(), DATA, 7)), NtStatus::SUCCESS);
        world.end(&[party, other, third]);
    });
}

#[test]
fn reads_that_are_broken_are_recorded_before_anybody_writes() {
    anywhere(|mut world| {
        for away in [false, true] {
            let (number, client) = if away { (11, 11) } else { (1, 1) };
            let (mut party, mut other) = (world.client(number, client), world.client(number + 1, 2));
            let (theirs, ..) = opened(&world.ask(&mut other, but(plain(), DATA, 7)));
            let ask = with(lease_v2(LeaseState::READ_HANDLE, 1), vec![wish(GUID)]);
            let (file_id, ..) = opened(&world.ask(&mut party, ask));
            if away {
                world.lose(&party);
            }
            let seen = world.sent(&mut other, write(theirs));
            assert!(statuses(&seen, &other).is_empty(), "{seen:?}");
            assert_eq!(statuses(&world.settle(seen), &other), [NtStatus::SUCCESS]);
            assert_eq!(world.lease_state(file_id), LeaseState::EMPTY);
            // The next one waits for nothing.
            let seen = world.sent(&mut other, write(theirs));
            assert_eq!((statuses(&seen, &other), asked(&seen).len()), (vec![NtStatus::SUCCESS], 0));
            world.lose(&other);
            if !away {
                world.lose(&party);
            }
            world.scavenge();
        }
        world.end(&[]);
    });
}

#[test]
fn an_acknowledgment_is_in_every_record_of_its_lease() {
    anywhere(|mut world| {
        let (mut party, mut other) = (world.client(1, 1), world.client(2, 2));
        let leased = |number| with(lease_v2(LeaseState::READ_HANDLE_WRITE, 1), vec![wish([number; 16])]);
        let (first, ..) = opened(&world.ask(&mut party, leased(1)));
        let (second, ..) = opened(&world.ask(&mut party, leased(2)));
        world.sent(&mut other, but(plain(), DATA, 7));
        let seen = world.net.send(&mut party, acknowledge_lease(LeaseState::READ_HANDLE));
        assert!(statuses(&seen, &party).is_empty() && asked(&seen).len() == 2, "{seen:?}");
        assert_eq!(statuses(&world.settle(seen), &party), [NtStatus::SUCCESS]);
        for file_id in [first, second] {
            assert_eq!(world.lease_state(file_id), LeaseState::READ_HANDLE);
        }
        world.end(&[party, other]);
    });
}

#[test]
fn an_acknowledgment_that_is_not_recorded_is_not_answered_as_done() {
    let mut world = Durable::new(1);
    let (mut party, mut other) = (world.client(1, 1), world.client(2, 2));
    let ask = with(lease_v2(LeaseState::READ_HANDLE_WRITE, 1), vec![wish(GUID)]);
    let (file_id, ..) = opened(&world.ask(&mut party, ask));
    world.sent(&mut other, but(plain(), DATA, 7));
    world.net.send(&mut party, acknowledge_lease(LeaseState::READ_HANDLE));
    let (shard, token, _) = world.net.changes.pop_front().unwrap();
    let seen = world.net.step(shard, Event::Stored { token, durable: false });
    assert_eq!(statuses(&seen, &party), [NtStatus::UNEXPECTED_IO_ERROR]);
    // It is tried again with what comes next.
    let seen = world.settle(seen);
    assert_eq!(statuses(&seen, &other).last(), Some(&NtStatus::SUCCESS));
    assert_eq!(world.lease_state(file_id), LeaseState::READ_HANDLE);
    world.end(&[party, other]);
}
