//! What a start makes of records: whose open is there again, with what, and which records stay.

use super::*;

impl Durable {
    /// The server is started again with another configuration.
    fn restart_with(&mut self, change: impl FnOnce(&mut Config)) -> Actions {
        self.incarnation += 1;
        let mut config = available(self.shards, self.incarnation);
        change(&mut config);
        self.net = Net::with(config);
        let mut seen = Actions::new();
        for record in std::mem::take(&mut self.store.0) {
            self.store.0.push(record.clone());
            let home = record.open.partition().shard(self.shards);
            let step = self.net.step(home, Event::Restored { record: Box::new(record) });
            seen.extend(self.settle(step));
        }
        seen
    }

    fn preserved(&self) -> usize {
        let opens = self.net.shards.iter().flat_map(|shard| shard.opens.values());
        opens.filter(|open| open.state == State::Preserved).count()
    }
}

/// A CREATE of another open.
fn numbered(number: u8) -> Command {
    with(plain(), vec![wish([number; 16])])
}

#[test]
fn no_bound_closes_what_is_restored() {
    anywhere(|mut world| {
        let mut party = world.client(1, 1);
        for number in 1..=3 {
            world.net.file = 10 + u64::from(number);
            opened(&world.ask(&mut party, numbered(number)));
        }
        let records = world.store.0.clone();
        world.incarnation += 1;
        let mut config = available(world.shards, world.incarnation);
        config.limits.preserved_opens_max = 1;
        world.net = Net::with(config);
        for record in records {
            world.net.file = record.file.0;
            let home = record.open.partition().shard(world.shards);
            let seen = world.net.step(home, Event::Restored { record: Box::new(record) });
            world.settle(seen);
        }
        assert_eq!((world.preserved(), world.store.0.len()), (3, 3));
        world.end(&[]);
    });
}

#[test]
fn more_than_the_bound_are_not_promised() {
    anywhere(|mut world| {
        for shard in &mut world.net.shards {
            shard.limits.preserved_opens_max = 2;
        }
        let mut party = world.client(1, 1);
        let (file_id, ..) = opened(&world.ask(&mut party, numbered(1)));
        let seen = world.ask(&mut party, numbered(2));
        let (second, ..) = opened(&seen);
        assert_eq!((granted(&seen), world.store.0.len()), (None, 1));
        // Once the first is gone there is room; also for one whose record fails.
        world.ask(&mut party, close_of(file_id));
        world.ask(&mut party, close_of(second));
        world.net.send(&mut party, numbered(3));
        world.net.run();
        let (shard, token, _) = world.net.changes.pop_front().unwrap();
        world.net.step(shard, Event::Stored { token, durable: false });
        world.net.run();
        let seen = world.ask(&mut party, numbered(4));
        assert_eq!(granted(&seen), Some(DurableFlags::PERSISTENT));
        world.end(&[party]);
    });
}

#[test]
fn a_record_stays_while_storage_can_not_tell() {
    let mut world = Durable::new(1);
    let mut party = world.client(1, 1);
    let ask = with(lease_v2(LeaseState::READ_HANDLE_WRITE, 1), vec![wish(GUID)]);
    let (file_id, ..) = opened(&world.ask(&mut party, ask));
    assert_eq!(world.status(&mut party, exclusive(file_id, 100)), NtStatus::SUCCESS);
    // The volume is not there; then the file can't be opened.
    for answers in 0..2 {
        world.incarnation += 1;
        world.net = Net::with(available(1, world.incarnation));
        let record = Box::new(world.store.0[0].clone());
        let mut seen = world.net.step(ShardId(0), Event::Restored { record });
        for _ in 0..answers {
            seen.extend(world.net.answer());
        }
        seen.extend(world.net.fail(NtStatus::ACCESS_DENIED));
        let seen = world.settle(seen);
        assert!(seen.iter().any(|action| matches!(action, Action::Recovered { restored: false, .. })));
        let [record] = &world.store.0[..] else { panic!("{seen:?}") };
        assert_eq!(record.held.locks.len(), 1);
        // Others may use the file meanwhile.
        let HeldCache::Lease { state, .. } = record.held.cached else { panic!() };
        assert_eq!(state, LeaseState::EMPTY);
    }
    world.restart();
    assert_eq!(world.preserved(), 1);
    world.end(&[]);
}

#[test]
fn a_lock_of_a_later_record_was_granted_after_an_earlier_one_was_unlocked() {
    anywhere(|mut world| {
        let mut party = world.client(1, 1);
        let (file_id, ..) = opened(&world.ask(&mut party, persistent()));
        assert_eq!(world.status(&mut party, exclusive(file_id, 100)), NtStatus::SUCCESS);
        let early = world.store.0[0].clone();
        let mut late = early.clone();
        (late.open, late.client, late.create_guid) = (OpenId(early.open.0 + 1000), Some([2; 16]), [2; 16]);
        world.store.0 = vec![early, late];
        world.restart();
        assert_eq!((world.preserved(), world.store.0.len()), (2, 2));
        // The lock is the later one's.
        let mut again = world.client(3, 1);
        let (new, ..) = opened(&world.ask(&mut again, back(file_id)));
        let unlock = lock_of(new, 100, LockFlags::UNLOCK, 0x13);
        assert_eq!(world.status(&mut again, unlock), NtStatus::RANGE_NOT_LOCKED);
        assert_eq!(world.status(&mut again, exclusive(new, 500)), NtStatus::SUCCESS);
        world.end(&[again]);
    });
}

#[test]
fn nobody_caches_reads_again_whom_nothing_tells_of_a_break() {
    let again = |command: fn() -> Command| {
        let mut world = Durable::new(1);
        let mut party = world.client(1, 1);
        let (file_id, before, lease) = opened(&world.ask(&mut party, with(command(), vec![wish(GUID)])));
        world.restart();
        let mut party = world.client(3, 1);
        let ask = with(command(), vec![reconnect(file_id, GUID, DurableFlags::PERSISTENT)]);
        let (_, after, lease_after) = opened(&world.ask(&mut party, ask));
        world.end(&[party]);
        ((before, lease), (after, lease_after))
    };
    let (before, after) = again(|| with_oplock(OplockLevel::II));
    assert_eq!((before.0, after.0), (OplockLevel::II, OplockLevel::NONE));
    let (before, after) = again(|| with_lease(LeaseState::READ_HANDLE));
    assert_eq!((before.1, after.1), (LeaseState::READ_HANDLE, LeaseState::EMPTY));
    for command in [|| with_oplock(OplockLevel::BATCH), || with_lease(LeaseState::READ_HANDLE_WRITE)] {
        let (before, after) = again(command);
        assert_eq!(before, after, "nobody takes W unrecorded");
    }
}

#[test]
fn a_share_that_lets_nobody_write_any_more_lets_no_old_open_either() {
    let mut world = Durable::new(1);
    let mut party = world.client(1, 1);
    let (file_id, ..) = opened(&world.ask(&mut party, persistent()));
    world.restart_with(|config| config.shares[0].read_only = true);
    let mut again = world.client(3, 1);
    let (new, ..) = opened(&world.ask(&mut again, back(file_id)));
    assert_eq!(world.status(&mut again, super::super::breaks::write(new)), NtStatus::ACCESS_DENIED);
    world.end(&[again]);
}
