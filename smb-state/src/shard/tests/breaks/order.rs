//! On one connection a grant and its breaks come in their order (S32).

use super::*;

#[test]
fn a_grant_is_not_overtaken_by_its_break() {
    for lease in [false, true] {
        let mut net = Net::new();
        let [mut holder, mut opener, other] = net.three();
        let command = if lease { with_lease(RWH) } else { with_oplock(OplockLevel::BATCH) };
        net.send(&mut holder, command);
        net.answer();
        // The file granted it; storage is still busy with it when the next one comes.
        let preparing = net.asked.pop_front().expect("storage makes it ready");
        assert!(matches!(preparing.2, StorageOp::Open { .. }));
        let actions = net.ask(&mut opener, plain());
        assert_eq!(notifications(&actions), [], "the client does not know yet what it holds (S32)");
        assert_eq!(statuses(&actions, &opener), [NtStatus::PENDING]);
        net.asked.push_back(preparing);
        let actions = net.run();
        let [Action::Output(first, Output::Respond(_)), Action::Output(second, Output::Notify(_))] =
            actions.as_slice()
        else {
            panic!("{actions:?}")
        };
        assert_eq!((first, second), (&holder.connection, &holder.connection));
        net.end(&[holder, opener, other]);
    }
}

#[test]
fn a_break_is_told_while_another_create_under_the_key_waits() {
    let mut net = Net::new();
    let [mut one, mut other, mut third] = net.three();
    let careful = |command| but(command, AccessMask::READ_DATA, 3);
    let deleting = |command| but(command, AccessMask::DELETE, 7);
    opened(&net.ask(&mut one, careful(with_lease(RH))));
    opened(&net.ask(&mut other, careful(with_lease(RH))));
    // Waits for the other client; the third one's open needs what this one caches.
    let actions = net.ask(&mut one, deleting(with_lease(RH)));
    assert_eq!(notifications(&actions).len(), 1, "{actions:?}");
    let actions = net.ask(&mut third, deleting(plain()));
    let told: Vec<ConnectionId> = notifications(&actions).into_iter().map(|(to, _)| to).collect();
    assert_eq!(told, [one.connection], "told at once: it may be what the other one waits for (L5)");
    net.ask(&mut one, acknowledge_lease(R));
    let actions = net.ask(&mut other, acknowledge_lease(R));
    assert_eq!(statuses(&actions, &one), [NtStatus::SHARING_VIOLATION]);
    assert_eq!(statuses(&actions, &third), [NtStatus::SHARING_VIOLATION]);
    net.end(&[one, other, third]);
}

#[test]
fn a_create_that_fails_leaves_the_break_of_its_lease_to_the_others() {
    let mut net = Net::new();
    let [mut holder, mut opener, other] = net.three();
    opened(&net.ask(&mut holder, with_lease(RWH)));
    net.send(&mut holder, with_lease(RWH));
    net.answer();
    let preparing = net.asked.pop_front().expect("storage makes it ready");
    let actions = net.ask(&mut opener, plain());
    assert_eq!(notifications(&actions), [], "held: the second open is granted and not answered");
    net.asked.push_back(preparing);
    let actions = net.fail(NtStatus::ACCESS_DENIED);
    let told: Vec<ConnectionId> = notifications(&actions).into_iter().map(|(to, _)| to).collect();
    assert_eq!(told, [holder.connection], "the first open still has the lease");
    assert_eq!(statuses(&actions, &holder), [NtStatus::ACCESS_DENIED]);
    net.run();
    let actions = net.ask(&mut holder, acknowledge_lease(RH));
    assert_eq!(statuses(&actions, &opener), [NtStatus::SUCCESS]);
    net.end(&[holder, opener, other]);
}

/// CREATE with these READs of what it opens, in one frame.
fn send_with_reads(net: &mut Net, party: &mut Party, create: Command, reads: usize) {
    let first = party.request(create);
    let read = |party: &mut Party| Request { related: true, ..party.request(read_request(FileId::ALL_ONES)) };
    let rest = (0..reads).map(|_| read(party)).collect();
    let chain = Chain { first, rest };
    net.step(party.connection.shard(), Event::Request { connection: party.connection, chain });
    // The name is looked for, and the file made ready.
    net.answer();
    net.answer();
    let reading = net.asked.front().expect("a READ");
    assert!(matches!(reading.2, StorageOp::Read { .. }), "the CREATE is done");
}

/// What goes out on a connection, frame by frame: the statuses and whether each response is related to the one before it, or
/// nothing for a notification.
fn frames(actions: &Actions, party: &Party) -> Vec<Vec<(NtStatus, bool)>> {
    let frame = |action: &Action| match action {
        Action::Output(connection, output) if *connection == party.connection => match output {
            Output::Respond(all) => Some(all.iter().map(|one| (one.status, one.related)).collect()),
            Output::Notify(_) => Some(Vec::new()),
            other => panic!("{other:?}"),
        },
        _ => None,
    };
    actions.iter().filter_map(frame).collect()
}

const GRANT: (NtStatus, bool) = (NtStatus::SUCCESS, false);
const RELATED: (NtStatus, bool) = (NtStatus::SUCCESS, true);

#[test]
fn a_grant_in_a_compound_is_not_overtaken_either() {
    for lease in [false, true] {
        let mut net = Net::new();
        let [mut holder, mut opener, other] = net.three();
        let command = if lease { with_lease(RWH) } else { with_oplock(OplockLevel::BATCH) };
        send_with_reads(&mut net, &mut holder, command, 2);
        let reading = net.asked.pop_front().expect("a READ");
        let actions = net.ask(&mut opener, plain());
        assert_eq!(
            frames(&actions, &holder),
            [vec![GRANT], vec![]],
            "it is told what it holds, and of its break"
        );
        assert_eq!(statuses(&actions, &opener), [NtStatus::PENDING]);
        // The rest of the compound is a frame of its own.
        net.asked.push_back(reading);
        let actions = net.run();
        assert_eq!(frames(&actions, &holder), [vec![GRANT, RELATED]]);
        net.end(&[holder, opener, other]);
    }
}

#[test]
fn a_break_of_something_else_leaves_a_compound_in_one_frame() {
    let mut net = Net::new();
    let [mut holder, mut opener, other] = net.three();
    opened(&net.ask(&mut holder, with_oplock(OplockLevel::BATCH)));
    net.file = 6;
    send_with_reads(&mut net, &mut holder, with_lease(RWH), 1);
    let reading = net.asked.pop_front().expect("a READ");
    net.file = 5;
    let actions = net.ask(&mut opener, plain());
    assert_eq!(frames(&actions, &holder), [vec![]], "the notification alone");
    net.asked.push_back(reading);
    assert_eq!(frames(&net.run(), &holder), [vec![GRANT, RELATED]]);
    net.end(&[holder, opener, other]);
}

#[test]
fn whoever_goes_away_amid_a_compound_leaves_nothing() {
    for told in [false, true] {
        let mut net = Net::new();
        let [mut holder, mut opener, other] = net.three();
        send_with_reads(&mut net, &mut holder, with_lease(RWH), 2);
        let reading = net.asked.pop_front().expect("a READ");
        if told {
            net.ask(&mut opener, plain());
        }
        let connection = holder.connection;
        net.step(ShardId(0), Event::Disconnected { connection });
        net.asked.push_back(reading);
        let actions = net.run();
        assert!(frames(&actions, &holder).is_empty(), "nobody is left to tell");
        net.end(&[holder, opener, other]);
    }
}

#[test]
fn an_open_that_joins_amid_a_break_is_told_what_is_left() {
    let mut net = Net::new();
    let [mut holder, mut opener, other] = net.three();
    opened(&net.ask(&mut holder, with_lease(RWH)));
    assert_eq!(notifications(&net.ask(&mut opener, plain())).len(), 1);
    // Another open joins the lease, and storage is still busy with it when the break is acknowledged.
    net.send(&mut holder, with_lease(RWH));
    net.answer();
    let preparing = net.asked.pop_front().expect("storage makes it ready");
    assert!(matches!(preparing.2, StorageOp::Open { .. }));
    let mut actions = net.send(&mut holder, acknowledge_lease(RH));
    actions.extend(net.run());
    assert_eq!(statuses(&actions, &holder), [NtStatus::SUCCESS]);
    assert_eq!(statuses(&actions, &opener), [NtStatus::SUCCESS]);
    net.asked.push_back(preparing);
    let actions = net.run();
    let Body::Create(create) = &response(&actions).body else { panic!("{actions:?}") };
    let lease = LeaseV1 { key: KEY, state: RH, flags: LeaseFlags::EMPTY };
    assert!(create.contexts.contains(&ResponseContext::Lease(lease)), "{create:?}");
    net.end(&[holder, opener, other]);
}
