//! A store that fails: nobody is told that it did not.

use super::*;

impl Durable {
    /// The store fails once with what it was asked first.
    fn fail(&mut self) -> Actions {
        let (shard, token, _) = self.net.changes.pop_front().expect("the store was asked");
        self.net.step(shard, Event::Stored { token, durable: false })
    }
}

#[test]
fn a_close_whose_record_is_still_there_is_not_done() {
    anywhere(|mut world| {
        let mut party = world.client(1, 1);
        let (file_id, ..) = opened(&world.ask(&mut party, persistent()));
        world.net.send(&mut party, close_of(file_id));
        let mut seen = world.fail();
        seen.extend(world.net.run());
        assert_eq!(statuses(&seen, &party), [NtStatus::UNEXPECTED_IO_ERROR]);
        assert!(world.net.changes.is_empty(), "it is asked once");
        // Nobody has the open: what is left of it is the record.
        assert_eq!(world.status(&mut party, close_of(file_id)), NtStatus::FILE_CLOSED);
        assert_eq!(world.store.0.len(), 1);
        world.store.0.clear();
        world.end(&[party]);
    });
}

#[test]
fn a_close_that_deletes_fails_with_its_record_too() {
    let mut world = Durable::new(1);
    let mut party = world.client(1, 1);
    let ask = but(persistent(), DATA.with(AccessMask::DELETE), 7);
    let (file_id, ..) = opened(&world.ask(&mut party, ask));
    let disposition = SetFileInformation::Disposition(true);
    let what = Setting::File(disposition);
    let set = Command::SetInfo(Box::new(SetInfo { file_id, length: 1, what }));
    assert_eq!(world.status(&mut party, set), NtStatus::SUCCESS);
    assert!(world.store.0[0].held.delete_pending);
    let clear = Setting::File(SetFileInformation::Disposition(false));
    let clear = Command::SetInfo(Box::new(SetInfo { file_id, length: 1, what: clear }));
    world.net.send(&mut party, clear);
    let seen = world.fail();
    assert_eq!(statuses(&seen, &party), [NtStatus::UNEXPECTED_IO_ERROR]);
    let seen = world.net.send(&mut party, close_of(file_id));
    assert!(statuses(&seen, &party).is_empty());
    let mut seen = world.net.run();
    while !world.net.changes.is_empty() {
        seen.extend(world.fail());
        seen.extend(world.net.run());
    }
    assert_eq!(statuses(&seen, &party), [NtStatus::UNEXPECTED_IO_ERROR]);
    world.store.0.clear();
    world.end(&[party]);
}

#[test]
fn a_lock_that_is_not_recorded_is_not_held() {
    anywhere(|mut world| {
        let (mut party, mut other) = (world.client(1, 1), world.client(2, 2));
        let (file_id, ..) = opened(&world.ask(&mut party, persistent()));
        let (theirs, ..) = opened(&world.ask(&mut other, but(plain(), DATA, 7)));
        world.net.send(&mut party, exclusive(file_id, 100));
        let seen = world.fail();
        assert_eq!(statuses(&seen, &party), [NtStatus::UNEXPECTED_IO_ERROR]);
        assert_eq!(world.status(&mut other, exclusive(theirs, 105)), NtStatus::SUCCESS);
        // Sent again, it is carried out, and finds the other's.
        assert_eq!(world.status(&mut party, exclusive(file_id, 100)), NtStatus::LOCK_NOT_GRANTED);
        world.end(&[party, other]);
    });
}
