//! A client with several sessions is told of a break in one of them, and of one that does not get there in another (3.3.4.7).

use super::*;

fn two_sessions_and_a_writer(shards: u16) -> (Net, [Party; 3]) {
    let mut net = Net::with(Config { shards, ..config() });
    let parties = [(1, [1; 16]), (2, [1; 16]), (3, [3; 16])].map(|(number, guid)| {
        let shard = ShardId(u16::try_from(number).unwrap() % shards);
        net.party(ConnectionId::new(shard, number), guid)
    });
    (net, parties)
}

#[test]
fn a_break_that_nobody_acknowledges_is_told_where_the_client_still_is() {
    for shards in [1, 2] {
        let (mut net, [mut stays, mut ends, mut writer]) = two_sessions_and_a_writer(shards);
        opened(&net.ask(&mut stays, with_lease(R)));
        let (id, ..) = opened(&net.ask(&mut ends, with_lease(R)));
        let (to_write, ..) = opened(&net.ask(&mut writer, plain()));
        // Its session ends, and its open waits for what is under way.
        net.send(&mut ends, read_request(id));
        let reading = net.asked.pop_front().expect("a read");
        net.step(ends.connection.shard(), Event::Disconnected { connection: ends.connection });
        let actions = net.ask(&mut writer, write(to_write));
        assert_eq!(statuses(&actions, &writer), [NtStatus::SUCCESS]);
        let [(told, notification)] = notifications(&actions)[..] else { panic!("{actions:?}") };
        assert_eq!(told, stays.connection);
        let Told::Lease(told) = notification.body else { panic!("{notification:?}") };
        assert_eq!((told.lease_key, told.current_state, told.new_state), (KEY, R, LeaseState::EMPTY));
        assert!(!told.flags.contains(LeaseBreakFlags::ACK_REQUIRED));
        net.asked.push_back(reading);
        assert_eq!(notifications(&net.run()), [], "once is enough");
        net.end(&[stays, writer]);
    }
}

#[test]
fn a_break_that_was_told_is_not_told_again() {
    let (mut net, [mut stays, mut ends, mut writer]) = two_sessions_and_a_writer(1);
    opened(&net.ask(&mut stays, with_lease(R)));
    opened(&net.ask(&mut ends, with_lease(R)));
    let (to_write, ..) = opened(&net.ask(&mut writer, plain()));
    let actions = net.ask(&mut writer, write(to_write));
    assert_eq!(notifications(&actions).len(), 1);
    net.step(ends.connection.shard(), Event::Disconnected { connection: ends.connection });
    assert_eq!(notifications(&net.run()), []);
    net.end(&[stays, writer]);
}

#[test]
fn nobody_is_told_when_all_sessions_end() {
    for shards in [1, 2] {
        let (mut net, [mut one, mut other, mut writer]) = two_sessions_and_a_writer(shards);
        let (first, ..) = opened(&net.ask(&mut one, with_lease(R)));
        let (second, ..) = opened(&net.ask(&mut other, with_lease(R)));
        let (to_write, ..) = opened(&net.ask(&mut writer, plain()));
        net.send(&mut one, read_request(first));
        net.send(&mut other, read_request(second));
        let reading = std::mem::take(&mut net.asked);
        for party in [&one, &other] {
            net.step(party.connection.shard(), Event::Disconnected { connection: party.connection });
        }
        let actions = net.ask(&mut writer, write(to_write));
        assert_eq!(statuses(&actions, &writer), [NtStatus::SUCCESS]);
        assert_eq!(notifications(&actions), []);
        net.asked.extend(reading);
        net.run();
        net.end(&[writer]);
    }
}
