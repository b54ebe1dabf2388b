//! Who waits for a break, or is waited for: cancelled, gone, too many.

use super::*;

#[test]
fn a_cancelled_create_is_answered_once_and_gives_everything_back() {
    let mut net = Net::new();
    let [mut holder, mut opener, other] = net.three();
    let (id, ..) = opened(&net.ask(&mut holder, with_oplock(OplockLevel::BATCH)));
    net.ask(&mut opener, with_lease(R));
    assert_eq!(net.handles, [50, 51]);
    let cancel = opener.cancel();
    let mut actions = net.send_request(&opener, cancel.clone());
    actions.extend(net.run());
    assert_eq!(statuses(&actions, &opener), [NtStatus::CANCELLED]);
    assert_eq!((&net.handles[..], net.shards[0].opens.len()), (&[50][..], 1));
    assert!(net.send_request(&opener, cancel).is_empty(), "there is nothing left to cancel");
    let actions = net.ask(&mut holder, acknowledge(id, OplockLevel::II));
    assert_eq!(statuses(&actions, &opener), [], "answered already");
    // The lease's key is free for another file.
    net.file = 6;
    opened(&net.ask(&mut opener, with_lease(R)));
    net.end(&[holder, opener, other]);
}

#[test]
fn a_cancel_is_remembered_while_a_create_runs_again() {
    let mut net = Net::new();
    let [mut holder, mut opener, mut third] = net.three();
    let (id, ..) = opened(&net.ask(&mut holder, with_oplock(OplockLevel::BATCH)));
    net.ask(&mut opener, plain());
    net.send(&mut holder, close_of(id));
    net.answer();
    net.asked.rotate_left(1);
    // The name is looked up again; meanwhile somebody else came to hold the file.
    let resolve = net.asked.iter().position(|(_, _, op)| matches!(op, StorageOp::Resolve { .. }));
    let resolve = resolve.and_then(|index| net.asked.remove(index)).expect("the CREATE runs again");
    net.run();
    opened(&net.ask(&mut third, with_oplock(OplockLevel::BATCH)));
    let cancel = opener.cancel();
    assert_eq!(net.send_request(&opener, cancel), []);
    net.asked.push_back(resolve);
    let actions = net.run();
    assert_eq!(statuses(&actions, &opener), [NtStatus::CANCELLED], "it does not wait once more: {actions:?}");
    net.end(&[holder, opener, third]);
}

/// A delete disposition that storage is still asked about, and what happens meanwhile.
fn dispose_meanwhile(meanwhile: impl Fn(&mut Net, &mut Party) -> Actions) {
    let mut net = Net::new();
    let [mut holder, mut deleter, other] = net.three();
    opened(&net.ask(&mut holder, with_lease(RH)));
    let (id, ..) = opened(&net.ask(&mut deleter, but(plain(), AccessMask::DELETE, 7)));
    let what = Setting::File(smb_proto::fscc::file_info::SetFileInformation::Disposition(true));
    let set = SetInfo { file_id: id, length: 1, what };
    net.send(&mut deleter, Command::SetInfo(Box::new(set)));
    assert_eq!(net.asked.len(), 1, "storage is asked before the file");
    let mut actions = meanwhile(&mut net, &mut deleter);
    actions.extend(net.run());
    let finals: Vec<NtStatus> = statuses(&actions, &deleter);
    assert!(!finals.contains(&NtStatus::PENDING), "it does not wait any more: {actions:?}");
    assert_eq!(finals.first(), Some(&NtStatus::CANCELLED), "{actions:?}");
    net.end(&[holder, deleter, other]);
}

#[test]
fn a_cancel_before_the_wait_counts() {
    dispose_meanwhile(|net, deleter| {
        let cancel = deleter.cancel();
        net.send_request(deleter, cancel)
    });
}

#[test]
fn whoever_waits_may_go_away() {
    let mut net = Net::new();
    let [mut holder, mut opener, mut third] = net.three();
    let (id, ..) = opened(&net.ask(&mut holder, with_oplock(OplockLevel::BATCH)));
    net.ask(&mut opener, with_lease(RWH));
    let connection = opener.connection;
    net.step(ShardId(0), Event::Disconnected { connection });
    net.run();
    assert_eq!(
        (&net.handles[..], net.shards[0].opens.len(), net.shards[0].sessions.len()),
        (&[50][..], 1, 2)
    );
    // The break goes on, and is acknowledged as if nothing had happened.
    net.ask(&mut third, plain());
    let actions = net.ask(&mut holder, acknowledge(id, OplockLevel::II));
    assert_eq!(statuses(&actions, &third), [NtStatus::SUCCESS]);
    net.end(&[holder, opener, third]);
}

#[test]
fn a_holder_that_goes_away_or_logs_off_is_not_waited_for() {
    for logs_off in [false, true] {
        let mut net = Net::new();
        let [mut holder, mut opener, other] = net.three();
        net.ask(&mut holder, with_lease(RWH));
        net.ask(&mut opener, with_lease(RWH));
        let connection = holder.connection;
        let mut actions = match logs_off {
            true => net.send(&mut holder, Command::Logoff),
            false => net.step(ShardId(0), Event::Disconnected { connection }),
        };
        actions.extend(net.run());
        assert!(actions.contains(&Action::Disarm(timer(0))), "{actions:?}");
        assert_eq!(opened(&actions).2, RWH, "it is alone now");
        assert_eq!(statuses(&actions, &opener), [NtStatus::SUCCESS]);
        net.end(&[holder, opener, other]);
    }
}

#[test]
fn a_logoff_does_not_wait_for_another_client() {
    // Whether the CREATE waits already, or is about to.
    for resolved in [false, true] {
        let mut net = Net::new();
        let [mut holder, mut opener, other] = net.three();
        net.ask(&mut holder, with_oplock(OplockLevel::BATCH));
        net.send(&mut opener, plain());
        if resolved {
            net.run();
        }
        let mut actions = net.send(&mut opener, Command::Logoff);
        actions.extend(net.run());
        let last = statuses(&actions, &opener);
        assert_eq!(last.last(), Some(&NtStatus::SUCCESS), "the LOGOFF is answered: {actions:?}");
        assert_eq!(last.iter().filter(|status| **status == NtStatus::CANCELLED).count(), 1, "{last:?}");
        assert_eq!(net.handles, [50]);
        net.end(&[holder, opener, other]);
    }
}

#[test]
fn requests_that_wait_are_bounded() {
    let mut config = config();
    config.limits.async_requests_per_connection_max = 1;
    let mut net = Net::with(config);
    let [mut holder, mut opener, other] = net.three();
    net.ask(&mut holder, with_oplock(OplockLevel::BATCH));
    assert_eq!(statuses(&net.ask(&mut opener, plain()), &opener), [NtStatus::PENDING]);
    let actions = net.ask(&mut opener, plain());
    assert_eq!(statuses(&actions, &opener), [NtStatus::INSUFFICIENT_RESOURCES]);
    assert_eq!(net.handles, [50, 51], "the second one holds nothing");
    let mut actions = net.expire();
    actions.extend(net.run());
    assert_eq!(statuses(&actions, &opener), [NtStatus::SUCCESS]);
    net.end(&[holder, opener, other]);
}
