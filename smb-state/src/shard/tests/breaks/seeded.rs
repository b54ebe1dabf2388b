//! A server that is built to fail does what it is told to do wrong, once.

use super::*;

#[test]
fn a_seeded_fault_forgets_one_break() {
    let mut net = Net::new();
    let [mut holder, mut writer, third] = net.three();
    net.ask(&mut holder, with_lease(RH));
    let (id, ..) = opened(&net.ask(&mut writer, plain()));
    net.step(ShardId(0), Event::Admin(crate::event::Admin::ForgetBreak));
    let actions = net.ask(&mut writer, write(id));
    assert_eq!(statuses(&actions, &writer), [NtStatus::SUCCESS]);
    assert_eq!(notifications(&actions), [], "the holder goes on reading what it has");
    assert_eq!(
        response(&net.ask(&mut holder, acknowledge_lease(LeaseState::EMPTY))).status,
        NtStatus::UNSUCCESSFUL
    );
    net.ask(&mut holder, with_lease(RH));
    let actions = net.ask(&mut writer, write(id));
    assert_eq!(notifications(&actions).len(), 1, "the next one is told");
    net.end(&[holder, writer, third]);
}
