//! Opens that outlive their connection: what keeps them, who gets them back, what they lose to.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind among many")]

use smb_proto::command::lock::{self, LockElement, LockFlags, LockSequence};
use smb_proto::create_context::{
    DurableFlags, DurableReconnectV2, DurableRequestV2, LeaseFlags, LeaseKey, LeaseState, LeaseV1,
    RequestContext, ResponseContext,
};
use smb_proto::fscc::file_info::{RenameFlags, RenameInformation, SetFileInformation};

use super::breaks::{
    Net, Party, acknowledge_lease, but, close_of, notifications, open, opened, plain, statuses, with_lease,
    with_oplock,
};
use super::*;
use crate::ids::OpenId;
use crate::open::State;
use crate::shard::Holdings;
use crate::timer::Timer;

const DATA: AccessMask = AccessMask(AccessMask::READ_DATA.0 | AccessMask::WRITE_DATA.0);
const KEY: LeaseKey = LeaseKey([7; 16]);
const GUID: [u8; 16] = [0xC6; 16];

fn with(command: Command, contexts: Vec<RequestContext>) -> Command {
    let Command::Create(mut request) = command else { unreachable!() };
    request.contexts.extend(contexts);
    Command::Create(request)
}

/// A batch oplock, durable.
fn durable_v1() -> Command {
    with(with_oplock(OplockLevel::BATCH), vec![RequestContext::DurableHandleRequest])
}

fn wish(timeout_ms: u32) -> RequestContext {
    RequestContext::DurableHandleRequestV2(DurableRequestV2 {
        timeout_ms,
        flags: DurableFlags::EMPTY,
        create_guid: GUID,
    })
}

fn durable_v2() -> Command {
    with(with_oplock(OplockLevel::BATCH), vec![wish(5000)])
}

fn reconnect_v1(file_id: FileId) -> Command {
    with(plain(), vec![RequestContext::DurableHandleReconnect(file_id)])
}

fn reconnect_v2(file_id: FileId, create_guid: [u8; 16]) -> Command {
    let flags = DurableFlags::EMPTY;
    let back = DurableReconnectV2 { file_id, create_guid, flags };
    with(plain(), vec![RequestContext::DurableHandleReconnectV2(back)])
}

/// Whether a CREATE was answered with a context that makes the open durable; of version 2 with its time.
fn durability(actions: &Actions) -> Option<Option<u32>> {
    let created = responses(actions).into_iter().find_map(|response| match &response.body {
        Body::Create(create) => Some(create.clone()),
        _ => None,
    });
    created?.contexts.iter().find_map(|context| match context {
        ResponseContext::DurableHandle => Some(None),
        ResponseContext::DurableHandleV2(granted) => Some(Some(granted.timeout_ms)),
        _ => None,
    })
}

fn id(file_id: FileId) -> OpenId {
    OpenId(file_id.persistent)
}

impl Net {
    /// The n-th connection of a shard; clients have numbers of their own.
    fn client(&mut self, shard: u16, number: u64, client: u8) -> Party {
        self.party(ConnectionId::new(ShardId(shard), number), [client; 16])
    }

    fn lose(&mut self, party: &Party) -> Actions {
        let connection = party.connection;
        let mut seen = self.step(connection.shard(), Event::Disconnected { connection });
        seen.extend(self.run());
        seen
    }

    fn preserved(&self) -> usize {
        self.shards
            .iter()
            .flat_map(|shard| shard.opens.values())
            .filter(|open| open.state == State::Preserved)
            .count()
    }

    /// Fires the timers that end what is preserved.
    fn scavenge(&mut self) -> Actions {
        let mut seen = Actions::new();
        let armed = self.shards.iter().flat_map(|shard| {
            let timers = shard.timers.iter().filter(|(timer, _)| matches!(timer, Timer::Scavenger(_)));
            timers.map(|(timer, armed)| (shard.id, *timer, *armed)).collect::<Vec<_>>()
        });
        for (shard, timer, armed) in armed.collect::<Vec<_>>() {
            seen.extend(self.step(shard, Event::Expired(timer, armed)));
        }
        seen.extend(self.run());
        seen
    }
}

/// The same on one shard and on three, where the client comes back to another one than it left.
fn anywhere(scenario: impl Fn(&mut Net, u16)) {
    for shards in [1, 3] {
        let mut net = Net::with(Config { shards, ..config() });
        scenario(&mut net, shards - 1);
        for shard in &net.shards {
            assert_eq!(shard.holdings(), Holdings::default());
        }
    }
}

#[test]
fn a_client_that_comes_back_has_its_open_again() {
    anywhere(|net, other| {
        for (number, ask) in [(1, durable_v1()), (3, durable_v2())] {
            let mut party = net.client(0, number, 1);
            let actions = net.ask(&mut party, ask);
            let (file_id, level, _) = opened(&actions);
            assert_eq!(level, OplockLevel::BATCH);
            assert_eq!(durability(&actions), Some((number == 3).then_some(5000)));
            net.lose(&party);
            assert_eq!(net.preserved(), 1);
            // Another ClientGuid may do it: no lease is involved.
            let mut again = net.client(other, number + 1, 9);
            let back = if number == 1 { reconnect_v1(file_id) } else { reconnect_v2(file_id, GUID) };
            let actions = net.ask(&mut again, back);
            let (new, level, _) = opened(&actions);
            assert_eq!((new.persistent, level), (file_id.persistent, OplockLevel::BATCH));
            assert_ne!(new.volatile, file_id.volatile);
            assert_eq!(durability(&actions), None, "that it is durable was said before");
            assert_eq!(net.preserved(), 0);
            // It works, its old name does not.
            assert_eq!(statuses(&net.ask(&mut again, read_request(new)), &again), [NtStatus::SUCCESS]);
            assert_eq!(
                statuses(&net.ask(&mut again, read_request(file_id)), &again),
                [NtStatus::FILE_CLOSED]
            );
            assert_eq!(statuses(&net.ask(&mut again, close_of(new)), &again), [NtStatus::SUCCESS]);
            net.lose(&again);
        }
    });
}

/// What becomes of a CREATE that has nothing to do with what is preserved, when its access and sharing are these; and whether
/// the preserved open is still there.
fn meets(keep: Command, access: AccessMask, share: u32) -> (NtStatus, bool) {
    let mut net = Net::new();
    let mut party = net.client(0, 1, 1);
    let (file_id, ..) = opened(&net.ask(&mut party, keep));
    net.lose(&party);
    assert_eq!(net.preserved(), 1);
    let mut other = net.client(0, 2, 2);
    let actions = net.ask(&mut other, but(plain(), access, share));
    let status = statuses(&actions, &other).last().copied().unwrap();
    let kept = net.preserved() == 1;
    assert_eq!(net.shards[0].opens.contains_key(&id(file_id)), kept);
    net.scavenge();
    assert_eq!(net.preserved(), 0);
    net.end(&[other]);
    (status, kept)
}

fn leased(state: LeaseState) -> Command {
    with(with_lease(state), vec![wish(0)])
}

#[test]
fn what_is_preserved_gives_way_to_whoever_would_break_it() {
    let (rh, rwh) = (LeaseState::READ_HANDLE, LeaseState::READ_HANDLE_WRITE);
    // Nothing of theirs is broken.
    assert_eq!(meets(durable_v1(), AccessMask::READ_ATTRIBUTES, 7), (NtStatus::SUCCESS, true));
    assert_eq!(meets(leased(rwh), AccessMask::READ_ATTRIBUTES, 7), (NtStatus::SUCCESS, true));
    assert_eq!(meets(leased(rh), DATA, 7), (NtStatus::SUCCESS, true));
    // W, H, or the share mode is in the way: nobody can be asked, so it goes.
    assert_eq!(meets(durable_v1(), DATA, 7), (NtStatus::SUCCESS, false));
    assert_eq!(meets(leased(rwh), DATA, 7), (NtStatus::SUCCESS, false));
    assert_eq!(meets(leased(rh), DATA, 0), (NtStatus::SUCCESS, false));
    assert_eq!(meets(but(durable_v1(), DATA, 0), DATA, 7), (NtStatus::SUCCESS, false));
}

#[test]
fn a_look_at_the_attributes_may_come_before_the_oplock() {
    anywhere(|net, other| {
        let mut looks = net.client(other, 1, 2);
        let (look, ..) = opened(&net.ask(&mut looks, but(plain(), AccessMask::READ_ATTRIBUTES, 7)));
        let mut party = net.client(0, 2, 1);
        let (file_id, level, _) = opened(&net.ask(&mut party, durable_v1()));
        assert_eq!(level, OplockLevel::BATCH);
        net.lose(&party);
        let mut again = net.client(other, 3, 1);
        let (new, ..) = opened(&net.ask(&mut again, reconnect_v1(file_id)));
        for (party, open) in [(&mut again, new), (&mut looks, look)] {
            assert_eq!(statuses(&net.ask(party, close_of(open)), party), [NtStatus::SUCCESS]);
            net.lose(party);
        }
    });
}

#[test]
fn whoever_waits_for_its_end_goes_on_after_its_close() {
    let mut net = Net::new();
    let mut party = net.client(0, 1, 1);
    opened(&net.ask(&mut party, durable_v1()));
    net.lose(&party);
    let mut other = net.client(0, 2, 2);
    net.send(&mut other, plain());
    let actions = net.answer();
    assert_eq!(statuses(&actions, &other), [NtStatus::PENDING]);
    assert!(matches!(net.asked.front(), Some((_, _, StorageOp::Close { .. }))), "{:?}", net.asked);
    assert_eq!(statuses(&net.run(), &other), [NtStatus::SUCCESS]);
    net.end(&[other]);
}

#[test]
fn what_is_not_durable_ends_with_its_session() {
    let guest_and_others: [(Identity, Command, u32); 5] = [
        (Identity::Guest, durable_v1(), 10),
        (user(), with(with_oplock(OplockLevel::EXCLUSIVE), vec![RequestContext::DurableHandleRequest]), 10),
        (user(), with(with_lease(LeaseState::READ_WRITE), vec![wish(0)]), 10),
        (user(), with_oplock(OplockLevel::BATCH), 10),
        (user(), durable_v1(), 0),
    ];
    for (who, ask, most) in guest_and_others {
        let mut limits = config().limits;
        limits.preserved_opens_max = most;
        let mut net = Net::with(Config { limits, ..config() });
        net.shards[0].shares[0].allowed = Allowed::Everyone;
        net.who = who;
        let mut party = net.client(0, 1, 1);
        let actions = net.ask(&mut party, ask);
        assert_eq!(durability(&actions).is_some(), most == 0);
        net.lose(&party);
        net.end(&[]);
    }
}

#[test]
fn a_break_under_way_is_not_survived() {
    let mut net = Net::new();
    let (mut party, mut other) = (net.client(0, 1, 1), net.client(0, 2, 2));
    let (file_id, ..) = opened(&net.ask(&mut party, durable_v1()));
    let actions = net.ask(&mut other, plain());
    assert_eq!(notifications(&actions).len(), 1);
    let actions = net.lose(&party);
    assert_eq!(statuses(&actions, &other), [NtStatus::SUCCESS]);
    let mut again = net.client(0, 3, 1);
    let actions = net.ask(&mut again, reconnect_v1(file_id));
    assert_eq!(statuses(&actions, &again), [NtStatus::OBJECT_NAME_NOT_FOUND]);
    net.end(&[other, again]);
}

#[test]
fn nobody_reclaims_and_the_time_is_over() {
    anywhere(|net, other| {
        let mut party = net.client(other, 1, 1);
        let (file_id, ..) = opened(&net.ask(&mut party, durable_v2()));
        net.lose(&party);
        let home = &net.shards[usize::from(other)];
        assert_eq!(home.timers.keys().copied().collect::<Vec<_>>(), [Timer::Scavenger(id(file_id))]);
        net.scavenge();
        let mut again = net.client(0, 2, 1);
        let actions = net.ask(&mut again, reconnect_v2(file_id, GUID));
        assert_eq!(statuses(&actions, &again), [NtStatus::OBJECT_NAME_NOT_FOUND]);
        net.lose(&again);
    });
}

#[test]
fn only_who_lost_it_gets_it() {
    let lease = |key, state| RequestContext::Lease(LeaseV1 { key, state, flags: LeaseFlags::EMPTY });
    let (rh, not_found) = (LeaseState::READ_HANDLE, NtStatus::OBJECT_NAME_NOT_FOUND);
    let mallory = Identity::User { name: "mallory".into(), number: 1001 };
    let named = |name, contexts| with(open(name, OplockLevel::LEASE, None), contexts);
    // Who comes, from which client, with what: how it ends.
    type Attempt = (Identity, u8, Box<dyn Fn(FileId) -> Command>, NtStatus);
    let back = |file_id| RequestContext::DurableHandleReconnect(file_id);
    let attempts: Vec<Attempt> = vec![
        (mallory, 1, Box::new(move |id| named("a", vec![back(id), lease(KEY, rh)])), NtStatus::ACCESS_DENIED),
        (user(), 2, Box::new(move |id| named("a", vec![back(id), lease(KEY, rh)])), not_found),
        (user(), 1, Box::new(move |id| named("a", vec![back(id)])), not_found),
        (user(), 1, Box::new(move |id| named("a", vec![back(id), lease(LeaseKey([8; 16]), rh)])), not_found),
        (
            user(),
            1,
            Box::new(move |id| named("b", vec![back(id), lease(KEY, rh)])),
            NtStatus::INVALID_PARAMETER,
        ),
        (
            user(),
            1,
            Box::new(move |id| {
                let guess = FileId { persistent: id.persistent + 1, ..id };
                named("a", vec![back(guess), lease(KEY, rh)])
            }),
            not_found,
        ),
        (
            user(),
            1,
            Box::new(move |id| {
                let wrong = DurableReconnectV2 { file_id: id, create_guid: GUID, flags: DurableFlags::EMPTY };
                named("a", vec![RequestContext::DurableHandleReconnectV2(wrong), lease(KEY, rh)])
            }),
            not_found,
        ),
        (user(), 1, Box::new(move |id| named("A", vec![back(id), lease(KEY, rh)])), NtStatus::SUCCESS),
    ];
    let mut net = Net::new();
    let mut party = net.client(0, 1, 1);
    let ask = with(with_lease(rh), vec![RequestContext::DurableHandleRequest]);
    let (file_id, ..) = opened(&net.ask(&mut party, ask));
    net.ask(&mut party, reconnect_of(file_id, lease(KEY, rh)));
    net.lose(&party);
    for (index, (who, client, attempt, expected)) in attempts.into_iter().enumerate() {
        net.who = who;
        let mut again = net.client(0, 10 + index as u64, client);
        let actions = net.ask(&mut again, attempt(file_id));
        assert_eq!(statuses(&actions, &again), [expected], "attempt {index}");
        let left = usize::from(expected != NtStatus::SUCCESS);
        assert_eq!(net.preserved(), left, "attempt {index}");
        if left == 0 {
            let (new, _, state) = opened(&actions);
            assert_eq!(state, rh);
            net.ask(&mut again, close_of(new));
        }
        net.lose(&again);
    }
    net.end(&[]);
}

fn reconnect_of(file_id: FileId, lease: RequestContext) -> Command {
    with(open("a", OplockLevel::LEASE, None), vec![RequestContext::DurableHandleReconnect(file_id), lease])
}

#[test]
fn an_open_in_a_session_is_nobody_elses() {
    let mut net = Net::new();
    let (mut party, mut other) = (net.client(0, 1, 1), net.client(0, 2, 1));
    let (file_id, ..) = opened(&net.ask(&mut party, durable_v2()));
    let actions = net.ask(&mut other, reconnect_v2(file_id, GUID));
    assert_eq!(statuses(&actions, &other), [], "its old session may be about to end");
    assert_eq!(statuses(&net.ask(&mut party, read_request(file_id)), &party), [NtStatus::SUCCESS]);
    let (timer, armed) =
        net.shards[0].timers.first_key_value().map(|(timer, armed)| (*timer, *armed)).unwrap();
    assert_eq!(timer, Timer::Claim(id(file_id)));
    let actions = net.step(ShardId(0), Event::Expired(timer, armed));
    assert_eq!(statuses(&actions, &other), [NtStatus::OBJECT_NAME_NOT_FOUND]);
    net.lose(&party);
    net.scavenge();
    net.end(&[other]);
}

#[test]
fn a_client_may_be_back_before_anybody_noticed_that_it_was_gone() {
    anywhere(|net, shard| {
        let mut party = net.client(0, 1, 1);
        let (file_id, ..) = opened(&net.ask(&mut party, durable_v2()));
        let mut again = net.client(shard, 2, 1);
        net.send(&mut again, reconnect_v2(file_id, GUID));
        // Only who may have it waits, and where it came last.
        let mut third = net.client(0, 3, 1);
        let actions = net.ask(&mut third, reconnect_v2(file_id, [0; 16]));
        assert_eq!(statuses(&actions, &third), [NtStatus::OBJECT_NAME_NOT_FOUND]);
        let mut late = net.client(shard, 5, 1);
        let actions = net.send(&mut late, reconnect_v2(file_id, GUID));
        assert_eq!(statuses(&actions, &again), [NtStatus::OBJECT_NAME_NOT_FOUND]);
        net.lose(&again);
        let again = late;
        let (file_id, ..) = opened(&net.lose(&party));
        // Nor is anybody else let wait while it is elsewhere.
        net.who = Identity::User { name: "mallory".into(), number: 1001 };
        let mut mallory = net.client(0, 6, 1);
        net.who = user();
        let actions = net.ask(&mut mallory, reconnect_v2(file_id, GUID));
        assert_eq!(statuses(&actions, &mallory).len(), 1);
        net.lose(&mallory);
        // Once more, from where it is now.
        net.send(&mut third, reconnect_v2(file_id, GUID));
        let (file_id, ..) = opened(&net.lose(&again));
        // And then it is closed while somebody waits.
        let mut fourth = net.client(shard, 4, 1);
        net.send(&mut fourth, reconnect_v2(file_id, GUID));
        let actions = net.ask(&mut third, close_of(file_id));
        assert_eq!(statuses(&actions, &fourth), [NtStatus::OBJECT_NAME_NOT_FOUND]);
        net.lose(&third);
        net.lose(&fourth);
    });
}

#[test]
fn locks_and_lock_sequences_are_kept() {
    let mut net = Net::new();
    let mut party = net.client(0, 1, 1);
    let (file_id, ..) = opened(&net.ask(&mut party, durable_v2()));
    let lock = |file_id, number, flags| {
        let locks = vec![LockElement { offset: 0, length: 10, flags }];
        Command::Lock(lock::Request { lock_sequence: LockSequence::new(number, 3), file_id, locks })
    };
    let exclusive = LockFlags::EXCLUSIVE_LOCK.with(LockFlags::FAIL_IMMEDIATELY);
    let actions = net.ask(&mut party, lock(file_id, 1, exclusive));
    assert_eq!(statuses(&actions, &party), [NtStatus::SUCCESS]);
    net.lose(&party);
    let mut again = net.client(0, 2, 1);
    let (new, ..) = opened(&net.ask(&mut again, reconnect_v2(file_id, GUID)));
    // The LOCK is sent again, since its answer may have been lost; it is not carried out again.
    let actions = net.ask(&mut again, lock(new, 1, exclusive));
    assert_eq!(statuses(&actions, &again), [NtStatus::SUCCESS]);
    let actions = net.ask(&mut again, lock(new, 2, exclusive));
    assert_eq!(statuses(&actions, &again), [NtStatus::LOCK_NOT_GRANTED]);
    net.ask(&mut again, close_of(new));
    net.end(&[again]);
}

#[test]
fn a_logoff_leaves_it_and_the_operator_does_not() {
    let mut net = Net::new();
    let mut party = net.client(0, 1, 1);
    opened(&net.ask(&mut party, durable_v1()));
    let actions = net.ask(&mut party, Command::Logoff);
    assert_eq!(statuses(&actions, &party), [NtStatus::SUCCESS]);
    assert_eq!(net.preserved(), 1);
    net.scavenge();
    net.lose(&party);
    let mut party = net.client(0, 2, 1);
    opened(&net.ask(&mut party, durable_v1()));
    net.step(ShardId(0), Event::Admin(crate::event::Admin::EndSession(party.session)));
    net.run();
    assert_eq!(net.preserved(), 0);
    net.end(&[party]);
}

#[test]
fn a_session_that_is_gone_meanwhile_leaves_it_where_it_was() {
    anywhere(|net, other| {
        let mut party = net.client(0, 1, 1);
        let (file_id, ..) = opened(&net.ask(&mut party, durable_v2()));
        net.lose(&party);
        let mut again = net.client(other, 2, 1);
        // Storage has not told the attributes yet.
        net.send(&mut again, reconnect_v2(file_id, GUID));
        assert_eq!((net.preserved(), net.asked.len()), (0, 1));
        net.lose(&again);
        assert_eq!(net.preserved(), 1);
        let mut last = net.client(other, 3, 1);
        let (new, ..) = opened(&net.ask(&mut last, reconnect_v2(file_id, GUID)));
        net.ask(&mut last, close_of(new));
        net.lose(&last);
    });
}

impl Net {
    /// Sends a CREATE again, with or without saying so.
    fn again(&mut self, party: &mut Party, command: Command, replay: bool) -> Actions {
        let request = Request { replay, ..party.request(command) };
        let mut seen = self.send_request(party, request);
        seen.extend(self.run());
        seen
    }
}

#[test]
fn a_replayed_create_is_answered_from_its_open_until_that_is_used() {
    anywhere(|net, shard| {
        let mut party = net.client(shard, 1, 1);
        let (first, ..) = opened(&net.ask(&mut party, durable_v2()));
        let actions = net.again(&mut party, durable_v2(), false);
        assert_eq!(statuses(&actions, &party), [NtStatus::DUPLICATE_OBJECTID]);
        let actions = net.again(&mut party, durable_v2(), true);
        assert_eq!(opened(&actions), (first, OplockLevel::BATCH, LeaseState::EMPTY));
        assert_eq!(durability(&actions), Some(Some(5000)));
        // Another session of the client, and another user's.
        let mut other = net.client(shard, 2, 1);
        let actions = net.again(&mut other, durable_v2(), true);
        assert_eq!(statuses(&actions, &other), [NtStatus::DUPLICATE_OBJECTID]);
        net.who = Identity::User { name: "mallory".into(), number: 1001 };
        let mut mallory = net.client(0, 3, 1);
        net.who = user();
        let actions = net.again(&mut mallory, durable_v2(), true);
        assert_eq!(statuses(&actions, &mallory), [NtStatus::ACCESS_DENIED]);
        // Used: the client had its answer, so this is another CREATE.
        net.ask(&mut party, read_request(first));
        net.ask(&mut party, close_of(first));
        let (second, ..) = opened(&net.again(&mut party, durable_v2(), true));
        assert_ne!(first, second);
        net.ask(&mut party, close_of(second));
        for party in [party, other, mallory] {
            net.lose(&party);
        }
    });
}

#[test]
fn a_create_that_is_not_done_is_not_done_twice() {
    let mut net = Net::new();
    let mut party = net.client(0, 1, 1);
    net.send(&mut party, durable_v2());
    let request = Request { replay: true, ..party.request(durable_v2()) };
    let actions = net.send_request(&party, request);
    assert_eq!(statuses(&actions, &party), [NtStatus::FILE_NOT_AVAILABLE]);
    let (file_id, ..) = opened(&net.run());
    net.ask(&mut party, close_of(file_id));
    net.end(&[party]);
}

#[test]
fn contexts_that_do_not_go_together_are_refused() {
    let mut net = Net::new();
    let mut party = net.client(0, 1, 1);
    let id = FileId { persistent: 1, volatile: 1 };
    let v1 = [RequestContext::DurableHandleRequest, RequestContext::DurableHandleReconnect(id)];
    let back = DurableReconnectV2 { file_id: id, create_guid: GUID, flags: DurableFlags::EMPTY };
    let v2 = [wish(0), RequestContext::DurableHandleReconnectV2(back)];
    for one in &v1 {
        for other in &v2 {
            let actions = net.ask(&mut party, with(plain(), vec![one.clone(), other.clone()]));
            assert_eq!(statuses(&actions, &party), [NtStatus::INVALID_PARAMETER]);
        }
    }
    let actions = net.ask(&mut party, with(plain(), v2.to_vec()));
    assert_eq!(statuses(&actions, &party), [NtStatus::INVALID_PARAMETER]);
    // The reconnect counts, the request is ignored.
    let actions = net.ask(&mut party, with(plain(), v1.to_vec()));
    assert_eq!(statuses(&actions, &party), [NtStatus::OBJECT_NAME_NOT_FOUND]);
    net.end(&[party]);
}

/// Opens a directory and gives it another name.
fn rename_directory(net: &mut Net, party: &mut Party) -> Actions {
    let Command::Create(mut request) = open("dir", OplockLevel::NONE, None) else { unreachable!() };
    (request.desired_access, request.create_options) = (AccessMask::DELETE, CreateOptions::DIRECTORY_FILE);
    let (file_id, ..) = opened(&net.ask(party, Command::Create(request)));
    let rename = RenameInformation { flags: RenameFlags::EMPTY, root_directory: 0, name: Name::from("free") };
    let what = Setting::File(SetFileInformation::Rename(rename));
    net.ask(party, Command::SetInfo(Box::new(SetInfo { file_id, length: 100, what })))
}

fn below(keep: Command) -> Command {
    let Command::Create(mut request) = keep else { unreachable!() };
    request.name = Name::from(r"dir\a");
    Command::Create(request)
}

#[test]
fn a_directory_is_renamed_once_nobody_keeps_handles_below() {
    for close in [true, false] {
        anywhere(|net, other| {
            let (mut party, mut renamer) = (net.client(0, 1, 1), net.client(other, 2, 2));
            let keeps = below(with_lease(LeaseState::READ_HANDLE));
            let (file_id, ..) = opened(&net.ask(&mut party, keeps));
            let actions = rename_directory(net, &mut renamer);
            assert_eq!(notifications(&actions).len(), 1);
            assert_eq!(statuses(&actions, &renamer), [NtStatus::PENDING]);
            // Its client closes the file, or uses it and gives up no more than what it caches.
            let lets_go = if close { close_of(file_id) } else { acknowledge_lease(LeaseState::READ_CACHING) };
            let actions = net.ask(&mut party, lets_go);
            let expected = if close { NtStatus::SUCCESS } else { NtStatus::ACCESS_DENIED };
            assert_eq!(statuses(&actions, &renamer), [expected]);
            net.lose(&party);
            net.lose(&renamer);
        });
    }
}

#[test]
fn what_is_preserved_below_a_directory_gives_way_to_its_rename_and_what_is_used_does_not() {
    anywhere(|net, other| {
        let (mut party, mut renamer) = (net.client(0, 1, 1), net.client(other, 2, 2));
        opened(&net.ask(&mut party, below(durable_v1())));
        net.lose(&party);
        let actions = rename_directory(net, &mut renamer);
        assert_eq!(statuses(&actions, &renamer), [NtStatus::PENDING, NtStatus::SUCCESS]);
        assert_eq!(net.preserved(), 0);
        let mut user = net.client(0, 3, 3);
        opened(&net.ask(&mut user, below(plain())));
        let actions = rename_directory(net, &mut renamer);
        assert_eq!(statuses(&actions, &renamer), [NtStatus::ACCESS_DENIED]);
        net.lose(&user);
        net.lose(&renamer);
    });
}

#[test]
fn a_replayed_create_tells_of_the_break_that_its_client_did_not_understand() {
    let mut net = Net::new();
    let (mut party, mut other) = (net.client(0, 1, 1), net.client(0, 2, 2));
    let (file_id, ..) = opened(&net.ask(&mut party, durable_v2()));
    // The answer is lost, as far as the client knows. The break comes for an open that it never heard of.
    assert_eq!(notifications(&net.ask(&mut other, plain())).len(), 1);
    let actions = net.again(&mut party, durable_v2(), true);
    assert_eq!(opened(&actions).0, file_id);
    let answered = actions.iter().position(|action| matches!(action, Action::Output(_, Output::Respond(_))));
    let told = actions.iter().position(|action| matches!(action, Action::Output(_, Output::Notify(_))));
    assert!(answered.is_some() && answered < told, "{actions:?}");
    net.lose(&party);
    net.end(&[other]);
}

#[test]
fn an_open_that_is_taken_up_again_tells_what_its_lease_has_kept() {
    let lease = || {
        RequestContext::Lease(LeaseV1 {
            key: KEY,
            state: LeaseState::READ_HANDLE_WRITE,
            flags: LeaseFlags::EMPTY,
        })
    };
    let v1 = |command| with(command, vec![RequestContext::DurableHandleRequest]);
    let mut net = Net::new();
    let mut party = net.client(0, 1, 1);
    let (first, ..) = opened(&net.ask(&mut party, v1(with_lease(LeaseState::READ_HANDLE_WRITE))));
    let (second, ..) = opened(&net.ask(&mut party, v1(with_lease(LeaseState::READ_HANDLE_WRITE))));
    net.lose(&party);
    let (mut again, mut other) = (net.client(0, 2, 1), net.client(0, 3, 2));
    opened(&net.ask(&mut again, reconnect_of(first, lease())));
    // While the second one is on its way back, W is broken and given up.
    net.send(&mut again, reconnect_of(second, lease()));
    let attributes = net.asked.pop_front().unwrap();
    let actions = net.ask(&mut other, plain());
    assert_eq!(statuses(&actions, &other), [NtStatus::PENDING]);
    net.ask(&mut again, acknowledge_lease(LeaseState::READ_HANDLE));
    net.asked.push_back(attributes);
    let (_, _, state) = opened(&net.run());
    assert_eq!(state, LeaseState::READ_HANDLE);
    net.lose(&again);
    net.scavenge();
    net.end(&[other]);
}

#[test]
fn an_open_that_fails_to_come_back_leaves_the_break_of_its_lease_to_the_others() {
    let lease = || {
        RequestContext::Lease(LeaseV1 { key: KEY, state: LeaseState::READ_HANDLE, flags: LeaseFlags::EMPTY })
    };
    let v1 = |command| with(command, vec![RequestContext::DurableHandleRequest]);
    let mut net = Net::new();
    let mut party = net.client(0, 1, 1);
    let (first, ..) = opened(&net.ask(&mut party, v1(with_lease(LeaseState::READ_HANDLE))));
    let (second, ..) = opened(&net.ask(&mut party, v1(with_lease(LeaseState::READ_HANDLE))));
    net.lose(&party);
    let (mut again, mut other) = (net.client(0, 2, 1), net.client(0, 3, 2));
    opened(&net.ask(&mut again, reconnect_of(first, lease())));
    net.send(&mut again, reconnect_of(second, lease()));
    let attributes = net.asked.pop_front().unwrap();
    assert_eq!(
        notifications(&net.ask(&mut other, but(plain(), DATA, 0))),
        [],
        "an answer that tells of the lease is due"
    );
    net.asked.push_front(attributes);
    let actions = net.fail(NtStatus::IO_DEVICE_ERROR);
    assert_eq!(notifications(&actions).len(), 1);
    net.lose(&again);
    net.scavenge();
    net.end(&[other]);
}

#[test]
fn a_break_whose_session_ends_untold_is_told_in_the_clients_other_session() {
    anywhere(|net, shard| {
        let rh = LeaseState::READ_HANDLE;
        let (mut party, mut stays) = (net.client(0, 1, 1), net.client(shard, 2, 1));
        opened(&net.ask(&mut stays, with_lease(rh)));
        opened(&net.ask(&mut party, leased(rh)));
        let mut other = net.client(0, 3, 2);
        let actions = net.ask(&mut other, but(plain(), DATA, 0));
        let told = notifications(&actions);
        assert_eq!(told.len(), 1, "a client is told once");
        // It may be gone with what was told there.
        let again = notifications(&net.lose(&party));
        assert_eq!(again, [(stays.connection, told[0].1)]);
        let actions = net.ask(&mut stays, acknowledge_lease(LeaseState::READ_CACHING));
        assert_eq!(statuses(&actions, &other), [NtStatus::SHARING_VIOLATION]);
        net.lose(&stays);
        net.lose(&other);
    });
}

#[test]
fn the_operator_ends_what_is_preserved_too() {
    use crate::event::Admin;
    type End = fn(&Party) -> Admin;
    let ends: [End; 3] =
        [|_| Admin::Shutdown, |_| Admin::EndShare(ShareId(1)), |_| Admin::Shares(Vec::new())];
    for end in ends {
        let mut net = Net::new();
        let mut party = net.client(0, 1, 1);
        opened(&net.ask(&mut party, durable_v1()));
        net.lose(&party);
        net.step(ShardId(0), Event::Admin(end(&party)));
        net.run();
        net.end(&[]);
    }
    // And what is on its way out.
    let mut net = Net::new();
    let mut party = net.client(0, 1, 1);
    let (file_id, ..) = opened(&net.ask(&mut party, durable_v1()));
    net.send(&mut party, read_request(file_id));
    net.step(ShardId(0), Event::Disconnected { connection: party.connection });
    net.step(ShardId(0), Event::Admin(Admin::EndSession(party.session)));
    net.run();
    net.end(&[]);
}

#[test]
fn nobody_has_more_than_half_of_the_places() {
    let mut limits = config().limits;
    limits.preserved_opens_max = 3;
    let mut net = Net::with(Config { limits, ..config() });
    for number in 1..=3 {
        let mut party = net.client(0, number, 1);
        net.file = 10 + number;
        opened(&net.ask(&mut party, durable_v1()));
        net.lose(&party);
    }
    assert_eq!(net.preserved(), 2);
    net.who = Identity::User { name: "bob".into(), number: 1001 };
    let mut party = net.client(0, 4, 1);
    net.file = 20;
    opened(&net.ask(&mut party, durable_v1()));
    net.lose(&party);
    assert_eq!(net.preserved(), 3);
    net.scavenge();
    net.end(&[]);
}
