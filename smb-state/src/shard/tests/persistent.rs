//! Persistent opens: what is stored before whom, who gets them back after a start, what others are told meanwhile.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind among many")]

use smb_proto::command::ioctl::FsctlCode;
use smb_proto::command::lock::{self, LockElement, LockFlags, LockSequence};
use smb_proto::command::tree_connect::ShareCapabilities;
use smb_proto::create_context::{
    DurableFlags, DurableReconnectV2, DurableRequestV2, LeaseKey, LeaseState, LeaseV2, RequestContext,
    ResponseContext,
};
use smb_proto::fscc::file_info::{BasicInformation, SetFileInformation};
use smb_proto::fscc::reparse::ReparseData;

use super::breaks::{
    Net, Party, acknowledge_lease, but, close_of, notifications, opened, plain, statuses, with_lease,
    with_oplock,
};
use super::*;
use crate::action::{Audit, StoreChange};
use crate::config::Survives;
use crate::ids::OpenId;
use crate::open::State;
use crate::record::{HeldCache, Record};
use crate::request::{Ioctl, IoctlInput};
use crate::shard::Holdings;
use crate::timer::Timer;

const DATA: AccessMask = AccessMask(AccessMask::READ_DATA.0 | AccessMask::WRITE_DATA.0);
const GUID: [u8; 16] = [0xC6; 16];

fn available(shards: u16, incarnation: u16) -> Config {
    let mut config = Config { shards, incarnation, ..config() };
    config.shares[0].continuous_availability = Some(Survives::PowerCut);
    config
}

fn with(command: Command, contexts: Vec<RequestContext>) -> Command {
    let Command::Create(mut request) = command else { unreachable!() };
    request.contexts.extend(contexts);
    Command::Create(request)
}

fn wish(create_guid: [u8; 16]) -> RequestContext {
    let flags = DurableFlags::PERSISTENT;
    RequestContext::DurableHandleRequestV2(DurableRequestV2 { timeout_ms: 7000, flags, create_guid })
}

fn persistent() -> Command {
    with(plain(), vec![wish(GUID)])
}

fn reconnect(file_id: FileId, create_guid: [u8; 16], flags: DurableFlags) -> RequestContext {
    RequestContext::DurableHandleReconnectV2(DurableReconnectV2 { file_id, create_guid, flags })
}

fn back(file_id: FileId) -> Command {
    with(plain(), vec![reconnect(file_id, GUID, DurableFlags::PERSISTENT)])
}

/// The flags of the context that tells of durability.
fn granted(actions: &Actions) -> Option<DurableFlags> {
    responses(actions).into_iter().find_map(|response| match &response.body {
        Body::Create(create) => create.contexts.iter().find_map(|context| match context {
            ResponseContext::DurableHandleV2(granted) => Some(granted.flags),
            _ => None,
        }),
        _ => None,
    })
}

impl Net {
    /// The time of clients that wait for an open is over.
    fn expire_claims(&mut self, shard: ShardId) -> Actions {
        let timers = &self.shards[usize::from(shard.0)].timers;
        let claims = timers.iter().filter(|(timer, _)| matches!(timer, Timer::Claim(_)));
        let claims: Vec<_> = claims.map(|(timer, armed)| (*timer, *armed)).collect();
        claims.into_iter().flat_map(|(timer, armed)| self.step(shard, Event::Expired(timer, armed))).collect()
    }
}

/// What the store holds, in the order of the last puts.
#[derive(Default)]
struct Store(Vec<Record>);

impl Store {
    fn change(&mut self, change: &StoreChange) {
        let id = match change {
            StoreChange::Put(record) => record.open,
            StoreChange::Delete(open) => *open,
        };
        self.0.retain(|record| record.open != id);
        if let StoreChange::Put(record) = change {
            self.0.push(Record::decode(&record.encode()).unwrap());
        }
    }
}

fn asked(actions: &Actions) -> Vec<(Token, StoreChange)> {
    let changes = actions.iter().filter_map(|action| match action {
        Action::Store { token, change, .. } => Some((*token, change.clone())),
        _ => None,
    });
    changes.collect()
}

/// A net whose store says that everything is durable.
struct Durable {
    net: Net,
    store: Store,
    shards: u16,
    incarnation: u16,
}

impl Durable {
    fn new(shards: u16) -> Self {
        Self { net: Net::with(available(shards, 1)), store: Store::default(), shards, incarnation: 1 }
    }

    /// Lets storage and the store answer until nothing is left to do.
    fn settle(&mut self, mut seen: Actions) -> Actions {
        let mut all = Actions::new();
        loop {
            seen.extend(self.net.run());
            all.append(&mut seen);
            let Some((shard, token, change)) = self.net.changes.pop_front() else { return all };
            self.store.change(&change);
            seen.extend(self.net.step(shard, Event::Stored { token, durable: true }));
        }
    }

    fn ask(&mut self, party: &mut Party, command: Command) -> Actions {
        let seen = self.net.send(party, command);
        self.settle(seen)
    }

    fn status(&mut self, party: &mut Party, command: Command) -> NtStatus {
        let seen = self.ask(party, command);
        statuses(&seen, party).last().copied().unwrap()
    }

    fn client(&mut self, number: u64, client: u8) -> Party {
        let shard = ShardId(u16::try_from(number % u64::from(self.shards)).unwrap());
        self.net.persists = true;
        self.net.party(ConnectionId::new(shard, number), [client; 16])
    }

    fn lose(&mut self, party: &Party) {
        let connection = party.connection;
        let seen = self.net.step(connection.shard(), Event::Disconnected { connection });
        self.settle(seen);
    }

    /// The server is killed and started again.
    fn restart(&mut self) -> Actions {
        self.incarnation += 1;
        self.net = Net::with(available(self.shards, self.incarnation));
        let mut all = Actions::new();
        for record in std::mem::take(&mut self.store.0) {
            self.store.0.push(record.clone());
            let home = record.open.partition().shard(self.shards);
            let seen = self.net.step(home, Event::Restored { record: Box::new(record) });
            let seen = self.settle(seen);
            let recovered = seen.iter().filter(|action| matches!(action, Action::Recovered { .. }));
            assert_eq!(recovered.count(), 1, "each record is answered once");
            all.extend(seen);
        }
        all
    }

    fn scavenge(&mut self) {
        let mut armed = Vec::new();
        for shard in &self.net.shards {
            let timers = shard.timers.iter().filter(|(timer, _)| matches!(timer, Timer::Scavenger(_)));
            armed.extend(timers.map(|(timer, armed)| (shard.id, *timer, *armed)));
        }
        for (shard, timer, armed) in armed {
            let seen = self.net.step(shard, Event::Expired(timer, armed));
            self.settle(seen);
        }
    }

    /// Everybody goes; nothing is left anywhere.
    fn end(mut self, parties: &[Party]) {
        for party in parties {
            self.lose(party);
        }
        self.scavenge();
        assert_eq!(self.store.0, []);
        for shard in &self.net.shards {
            assert_eq!(shard.holdings(), Holdings::default());
        }
        self.net.end(&[]);
    }
}

fn anywhere(scenario: impl Fn(Durable)) {
    for shards in [1, 3] {
        scenario(Durable::new(shards));
    }
}

fn lock_of(file_id: FileId, offset: u64, flags: LockFlags, sequence: u32) -> Command {
    Command::Lock(lock::Request {
        lock_sequence: LockSequence(sequence),
        file_id,
        locks: vec![LockElement { offset, length: 10, flags }],
    })
}

fn exclusive(file_id: FileId, offset: u64) -> Command {
    lock_of(file_id, offset, LockFlags::EXCLUSIVE_LOCK.with(LockFlags::FAIL_IMMEDIATELY), 0x12)
}

#[test]
fn nothing_is_offered_without_a_continuously_available_share() {
    let mut net = Net::new();
    net.persists = true;
    let mut party = net.party(CONNECTION, [1; 16]);
    let actions = net.ask(&mut party, with(with_oplock(OplockLevel::BATCH), vec![wish(GUID)]));
    assert_eq!(granted(&actions), Some(DurableFlags::EMPTY));
    let (file_id, ..) = opened(&actions);
    net.ask(&mut party, close_of(file_id));
    net.end(&[party]);
}

#[test]
fn a_client_that_does_not_know_persistent_handles_gets_none() {
    let mut net = Net::with(available(1, 1));
    let mut party = net.party(CONNECTION, [1; 16]);
    let actions = net.ask(&mut party, persistent());
    assert_eq!((granted(&actions), asked(&actions)), (None, Vec::new()));
    net.end(&[party]);
}

#[test]
fn shares_and_connections_say_so() {
    let mut net = Net::with(available(1, 1));
    net.persists = true;
    let mut party = net.party(CONNECTION, [1; 16]);
    let connect = tree_connect::Request {
        flags: tree_connect::Flags::EMPTY,
        path: Name::from(r"\\server\share"),
        contexts: Vec::new(),
    };
    let actions = net.send(&mut party, Command::TreeConnect(connect));
    let Body::TreeConnect(answer) = &response(&actions).body else { panic!("{actions:?}") };
    assert_eq!(answer.capabilities, ShareCapabilities::CONTINUOUS_AVAILABILITY);
    net.end(&[party]);
}

#[test]
fn a_create_is_answered_once_its_record_is_durable() {
    let mut world = Durable::new(1);
    let mut party = world.client(1, 1);
    world.net.send(&mut party, persistent());
    let seen = world.net.run();
    assert!(statuses(&seen, &party).is_empty(), "the record comes first (R8): {seen:?}");
    let [(_, StoreChange::Put(record))] = &asked(&seen)[..] else { panic!("{seen:?}") };
    assert_eq!((record.create_guid, record.timeout_ms, record.file.0), (GUID, 7000, 5));
    assert!(
        record.options.contains(CreateOptions::WRITE_THROUGH),
        "the share survives a power cut (3.3.5.9)"
    );
    let answer = world.settle(seen);
    assert_eq!(granted(&answer), Some(DurableFlags::PERSISTENT));
    let (file_id, ..) = opened(&answer);
    assert_eq!(world.status(&mut party, close_of(file_id)), NtStatus::SUCCESS);
    world.end(&[party]);
}

#[test]
fn a_create_fails_with_its_record() {
    let mut world = Durable::new(1);
    let mut party = world.client(1, 1);
    world.net.send(&mut party, persistent());
    let seen = world.net.run();
    let (shard, token, _) = world.net.changes.pop_front().unwrap();
    let seen = [seen, world.net.step(shard, Event::Stored { token, durable: false })].concat();
    assert_eq!(statuses(&seen, &party), [NtStatus::UNEXPECTED_IO_ERROR]);
    world.net.run();
    world.end(&[party]);
}

#[test]
fn a_close_is_answered_once_its_record_is_gone() {
    let mut world = Durable::new(1);
    let mut party = world.client(1, 1);
    let (file_id, ..) = opened(&world.ask(&mut party, persistent()));
    world.net.send(&mut party, close_of(file_id));
    assert!(world.net.asked.is_empty(), "nobody else gets at the file before");
    let [record] = &world.store.0[..] else { panic!() };
    assert_eq!(record.open, OpenId(file_id.persistent));
    let (shard, token, change) = world.net.changes.pop_front().unwrap();
    world.store.change(&change);
    let seen = world.net.step(shard, Event::Stored { token, durable: true });
    assert!(statuses(&seen, &party).is_empty());
    assert_eq!(statuses(&world.net.run(), &party), [NtStatus::SUCCESS]);
    world.end(&[party]);
}

#[test]
fn an_open_is_there_again_after_a_kill_with_its_locks() {
    anywhere(|mut world| {
        let mut party = world.client(1, 1);
        let (file_id, ..) = opened(&world.ask(&mut party, persistent()));
        assert_eq!(world.status(&mut party, exclusive(file_id, 100)), NtStatus::SUCCESS);
        world.restart();
        // Nobody else gets at it, and a stranger does not get it.
        let mut other = world.client(2, 2);
        assert_eq!(world.status(&mut other, but(plain(), DATA, 7)), NtStatus::FILE_NOT_AVAILABLE);
        for (guid, flags) in [([9; 16], DurableFlags::PERSISTENT), (GUID, DurableFlags::EMPTY)] {
            let wrong = with(plain(), vec![reconnect(file_id, guid, flags)]);
            assert_eq!(world.status(&mut other, wrong), NtStatus::OBJECT_NAME_NOT_FOUND);
        }
        let mut again = world.client(3, 1);
        let actions = world.ask(&mut again, back(file_id));
        let (new, ..) = opened(&actions);
        assert_eq!(new.persistent, file_id.persistent);
        // The lock is held, and its sequence is known.
        let (theirs, ..) = opened(&world.ask(&mut other, but(plain(), DATA, 7)));
        assert_eq!(world.status(&mut other, exclusive(theirs, 105)), NtStatus::LOCK_NOT_GRANTED);
        assert_eq!(world.status(&mut again, exclusive(new, 100)), NtStatus::SUCCESS, "it was carried out");
        let unlock = lock_of(new, 100, LockFlags::UNLOCK, 0x13);
        assert_eq!(world.status(&mut again, unlock), NtStatus::SUCCESS);
        assert_eq!(world.store.0[0].held.locks, []);
        assert_eq!(world.status(&mut other, exclusive(theirs, 105)), NtStatus::SUCCESS);
        // A second kill while it is used.
        world.restart();
        let mut again = world.client(4, 1);
        let (new, ..) = opened(&world.ask(&mut again, back(file_id)));
        assert_eq!(world.status(&mut again, close_of(new)), NtStatus::SUCCESS);
        world.end(&[again]);
    });
}

#[test]
fn no_id_is_given_twice() {
    let mut world = Durable::new(1);
    let mut party = world.client(1, 1);
    let (file_id, ..) = opened(&world.ask(&mut party, persistent()));
    world.restart();
    world.net.file = 6;
    let mut other = world.client(2, 2);
    let (new, ..) = opened(&world.ask(&mut other, with(plain(), vec![wish([2; 16])])));
    assert_ne!(new.persistent, file_id.persistent);
    world.end(&[other]);
}

#[test]
fn a_lock_is_answered_once_it_is_recorded() {
    let mut world = Durable::new(1);
    let mut party = world.client(1, 1);
    let (file_id, ..) = opened(&world.ask(&mut party, persistent()));
    let seen = world.net.send(&mut party, exclusive(file_id, 0));
    assert!(statuses(&seen, &party).is_empty());
    let [(token, StoreChange::Put(record))] = &asked(&seen)[..] else { panic!("{seen:?}") };
    assert_eq!((record.held.locks.len(), &record.lock_sequences[..]), (1, &[(1, 2)][..]));
    // The same LOCK, sent again meanwhile, is not answered before either.
    let replay = world.net.send(&mut party, exclusive(file_id, 0));
    assert_eq!(statuses(&replay, &party), [NtStatus::FILE_NOT_AVAILABLE]);
    assert_eq!(world.net.changes.pop_front().unwrap().1, *token);
    let seen = world.net.step(ShardId(0), Event::Stored { token: *token, durable: true });
    assert_eq!(statuses(&seen, &party), [NtStatus::SUCCESS]);
    // What is refused changes nothing.
    let refused = world.net.send(
        &mut party,
        lock_of(file_id, 5, LockFlags::EXCLUSIVE_LOCK.with(LockFlags::FAIL_IMMEDIATELY), 0x24),
    );
    assert_eq!((statuses(&refused, &party), asked(&refused).len()), (vec![NtStatus::LOCK_NOT_GRANTED], 0));
    world.end(&[party]);
}

#[test]
fn no_more_locks_are_granted_than_a_record_takes() {
    let mut world = Durable::new(1);
    let mut party = world.client(1, 1);
    let (file_id, ..) = opened(&world.ask(&mut party, persistent()));
    let flags = LockFlags::EXCLUSIVE_LOCK.with(LockFlags::FAIL_IMMEDIATELY);
    let locks = (0..=u64::from(crate::record::LOCKS_MAX)).map(|number| LockElement {
        offset: 10 * number,
        length: 10,
        flags,
    });
    let lock_sequence = LockSequence(0);
    let request = lock::Request { lock_sequence, file_id, locks: locks.collect() };
    assert!(request.locks.len() < 65_536, "an open that is not persistent may");
    assert_eq!(world.status(&mut party, Command::Lock(request)), NtStatus::INSUFFICIENT_RESOURCES);
    world.end(&[party]);
}

fn lease_v2(state: LeaseState, epoch: u16) -> Command {
    let Command::Create(mut request) = with_lease(state) else { unreachable!() };
    let key = LeaseKey([7; 16]);
    request.contexts = vec![RequestContext::LeaseV2(LeaseV2 {
        key,
        state,
        flags: smb_proto::create_context::LeaseFlags::EMPTY,
        parent_key: LeaseKey::default(),
        epoch,
    })];
    Command::Create(request)
}

fn lease_told(actions: &Actions) -> (LeaseState, u16) {
    let told = responses(actions).into_iter().find_map(|response| match &response.body {
        Body::Create(create) => create.contexts.iter().find_map(|context| match context {
            ResponseContext::LeaseV2(lease) => Some((lease.state, lease.epoch)),
            _ => None,
        }),
        _ => None,
    });
    told.unwrap()
}

#[test]
fn a_lease_is_there_again_and_its_epoch_is_newer() {
    anywhere(|mut world| {
        let rwh = LeaseState::READ_HANDLE_WRITE;
        let mut party = world.client(1, 1);
        let actions = world.ask(&mut party, with(lease_v2(rwh, 40), vec![wish(GUID)]));
        let (file_id, ..) = opened(&actions);
        let (state, epoch) = lease_told(&actions);
        assert_eq!(state, rwh);
        // Its break to RH is acknowledged, and recorded before the acknowledgment is answered.
        let mut other = world.client(2, 2);
        let seen = world.ask(&mut other, but(plain(), DATA, 7));
        assert_eq!(notifications(&seen).len(), 1);
        let seen = world.net.send(&mut party, acknowledge_lease(LeaseState::READ_HANDLE));
        assert!(statuses(&seen, &party).is_empty(), "{seen:?}");
        let seen = world.settle(seen);
        assert_eq!(statuses(&seen, &party), [NtStatus::SUCCESS]);
        let HeldCache::Lease { state, .. } = world.store.0[0].held.cached else { panic!() };
        assert_eq!(state, LeaseState::READ_HANDLE);
        world.restart();
        let mut again = world.client(3, 1);
        let ask = with(lease_v2(rwh, epoch), vec![reconnect(file_id, GUID, DurableFlags::PERSISTENT)]);
        let actions = world.ask(&mut again, ask);
        let (state, new) = lease_told(&actions);
        assert_eq!(state, LeaseState::READ_HANDLE);
        assert!(new.wrapping_sub(epoch) < 0x8000 && new != epoch, "the client takes it for newer (S29)");
        // A break after that is told.
        let mut third = world.client(4, 3);
        let (theirs, ..) = opened(&world.ask(&mut third, but(plain(), DATA, 7)));
        let seen = world.ask(&mut third, super::breaks::write(theirs));
        assert_eq!(notifications(&seen).len(), 1);
        world.end(&[again, third]);
    });
}

#[test]
fn what_others_break_meanwhile_the_client_hears_when_it_is_back() {
    let mut world = Durable::new(1);
    let (mut party, mut other) = (world.client(1, 1), world.client(2, 2));
    let (theirs, ..) = opened(&world.ask(&mut other, but(plain(), DATA, 7)));
    let ask = with(lease_v2(LeaseState::READ_HANDLE, 3), vec![wish(GUID)]);
    let actions = world.ask(&mut party, ask);
    let ((file_id, ..), (_, epoch)) = (opened(&actions), lease_told(&actions));
    world.lose(&party);
    assert_eq!(world.status(&mut other, super::breaks::write(theirs)), NtStatus::SUCCESS, "nobody waits");
    assert!(world.net.shards[0].opens.contains_key(&OpenId(file_id.persistent)));
    let mut again = world.client(3, 1);
    let ask = with(
        lease_v2(LeaseState::READ_HANDLE, epoch),
        vec![reconnect(file_id, GUID, DurableFlags::PERSISTENT)],
    );
    let (state, new) = lease_told(&world.ask(&mut again, ask));
    assert_eq!((state, new), (LeaseState::EMPTY, epoch + 1));
    world.end(&[again, other]);
}

#[test]
fn a_later_record_is_right_about_what_an_earlier_one_contradicts() {
    let mut world = Durable::new(1);
    let mut party = world.client(1, 1);
    let ask = with(lease_v2(LeaseState::READ_HANDLE_WRITE, 1), vec![wish(GUID)]);
    opened(&world.ask(&mut party, ask));
    let early = world.store.0[0].clone();
    let mut late = early.clone();
    late.open = OpenId(early.open.0 + 1000);
    late.client = Some([2; 16]);
    late.create_guid = [2; 16];
    late.held.cached = HeldCache::Oplock(OplockLevel::II);
    world.store.0 = vec![early, late];
    world.restart();
    // The invariants of caching hold (S25); both are there.
    let preserved = world.net.shards[0].opens.values().filter(|open| open.state == State::Preserved);
    assert_eq!(preserved.count(), 2);
    world.end(&[]);
}

#[test]
fn a_record_of_a_file_that_is_gone_goes_too() {
    type Spoil = fn(&mut Record);
    let spoils: [Spoil; 4] = [
        |record| record.path = Name::from("free"),
        |record| record.file = FileNumber(77),
        |record| record.generation = FileTime(77),
        |record| record.share = Name::from("elsewhere"),
    ];
    for spoil in spoils {
        let mut world = Durable::new(1);
        let mut party = world.client(1, 1);
        opened(&world.ask(&mut party, persistent()));
        spoil(&mut world.store.0[0]);
        let seen = world.restart();
        assert!(seen.iter().any(|action| matches!(action, Action::Record(Audit::NotRestored { .. }))));
        assert!(seen.iter().any(|action| matches!(action, Action::Recovered { restored: false, .. })));
        world.end(&[]);
    }
}

#[test]
fn a_create_whose_answer_was_lost_with_the_server_is_answered_when_it_is_sent_again() {
    anywhere(|mut world| {
        let mut party = world.client(1, 1);
        let (file_id, ..) = opened(&world.ask(&mut party, persistent()));
        world.restart();
        let mut again = world.client(3, 1);
        // Not marked as a replay; of somebody who asks for something else; then as it was.
        assert_eq!(world.status(&mut again, persistent()), NtStatus::DUPLICATE_OBJECTID);
        for (access, expected) in
            [(AccessMask::READ_DATA, NtStatus::CONTEXT_MISMATCH), (DATA, NtStatus::SUCCESS)]
        {
            let mut request = again.request(but(persistent(), access, 7));
            request.replay = true;
            let seen = world.net.send_request(&again, request);
            let seen = world.settle(seen);
            assert_eq!(statuses(&seen, &again), [expected]);
            if expected == NtStatus::SUCCESS {
                let (new, ..) = opened(&seen);
                assert_eq!(new.persistent, file_id.persistent);
                assert_eq!(granted(&seen), Some(DurableFlags::PERSISTENT));
            }
        }
        // Another session of the client can't have it now.
        let mut other = world.client(6, 1);
        let mut request = other.request(persistent());
        request.replay = true;
        let mut seen = world.net.send_request(&other, request);
        for shard in 0..world.shards {
            seen.extend(world.net.expire_claims(ShardId(shard)));
        }
        assert_eq!(statuses(&world.settle(seen), &other), [NtStatus::FILE_NOT_AVAILABLE]);
        world.end(&[again, other]);
    });
}

#[test]
fn what_nobody_reclaims_is_scavenged_with_its_record() {
    anywhere(|mut world| {
        let mut party = world.client(1, 1);
        opened(&world.ask(&mut party, persistent()));
        let seen = world.restart();
        let after = seen.iter().find_map(|action| match action {
            Action::Arm { timer: Timer::Scavenger(_), after_ms, .. } => Some(*after_ms),
            _ => None,
        });
        assert_eq!(after, Some(7000));
        world.scavenge();
        assert_eq!(world.store.0, []);
        world.end(&[]);
    });
}

#[test]
fn an_orderly_stop_keeps_them() {
    let mut world = Durable::new(1);
    let mut party = world.client(1, 1);
    let (file_id, ..) = opened(&world.ask(&mut party, persistent()));
    let seen = world.net.step(ShardId(0), Event::Admin(crate::event::Admin::Shutdown));
    world.settle(seen);
    world.lose(&party);
    assert_eq!(world.store.0.len(), 1);
    world.restart();
    let mut again = world.client(2, 1);
    opened(&world.ask(&mut again, back(file_id)));
    world.end(&[again]);
}

#[test]
fn a_file_is_known_again_by_the_creation_time_that_its_client_gave_it() {
    let mut world = Durable::new(1);
    let mut party = world.client(1, 1);
    let Command::Create(request) = persistent() else { unreachable!() };
    let ask = but(Command::Create(request), DATA.with(AccessMask::WRITE_ATTRIBUTES), 7);
    let (file_id, ..) = opened(&world.ask(&mut party, ask));
    let basic = BasicInformation {
        creation_time: FileTime(4242),
        last_access_time: FileTime(0),
        last_write_time: FileTime(0),
        change_time: FileTime(0),
        attributes: FileAttributes::EMPTY,
    };
    let what = Setting::File(SetFileInformation::Basic(basic));
    let set = Command::SetInfo(Box::new(SetInfo { file_id, length: 40, what }));
    assert_eq!(world.status(&mut party, set), NtStatus::SUCCESS);
    assert_eq!(world.store.0[0].generation, FileTime(4242));
    world.end(&[party]);
}

/// A scenario that crashes after so many answers of storage and store, and what its client knows then.
struct Crash {
    world: Durable,
    /// Answers that are left.
    left: usize,
    /// The store says that a change is durable before it is.
    lies: bool,
    file_id: Option<FileId>,
    locks: Vec<u64>,
    closed: bool,
    /// What was sent and not answered.
    under_way: Option<&'static str>,
}

impl Crash {
    /// Sends a request and lets it go as far as it comes. Returns whether it was answered with success.
    fn ask(&mut self, party: &mut Party, what: &'static str, command: Command) -> Option<Actions> {
        self.under_way = Some(what);
        let mut seen = self.world.net.send(party, command);
        while self.world.net.asked.front().is_some() || self.world.net.changes.front().is_some() {
            self.left = self.left.checked_sub(1)?;
            if self.world.net.asked.front().is_some() {
                seen.extend(self.world.net.answer());
            } else if let Some((shard, token, change)) = self.world.net.changes.pop_front() {
                if !self.lies {
                    self.world.store.change(&change);
                }
                seen.extend(self.world.net.step(shard, Event::Stored { token, durable: true }));
            }
        }
        assert_eq!(statuses(&seen, party).last(), Some(&NtStatus::SUCCESS), "{what}");
        self.under_way = None;
        Some(seen)
    }

    fn play(&mut self) -> Option<()> {
        let mut party = self.world.client(1, 1);
        let (file_id, ..) = opened(&self.ask(&mut party, "create", persistent())?);
        self.file_id = Some(file_id);
        let waits = LockFlags::EXCLUSIVE_LOCK.with(LockFlags::FAIL_IMMEDIATELY);
        for (offset, flags) in [(0, waits), (100, waits), (0, LockFlags::UNLOCK), (200, waits)] {
            self.ask(&mut party, "lock", lock_of(file_id, offset, flags, 0))?;
            self.locks.retain(|locked| *locked != offset);
            if flags != LockFlags::UNLOCK {
                self.locks.push(offset);
            }
        }
        self.ask(&mut party, "close", close_of(file_id))?;
        self.closed = true;
        Some(())
    }

    /// Whether what the start finds is what was acknowledged, give or take what was under way (S48, S49).
    fn keeps_its_word(mut self) -> bool {
        self.world.restart();
        let there: Vec<Record> = self.world.store.0.clone();
        let preserved: usize = self
            .world
            .net
            .shards
            .iter()
            .map(|shard| shard.opens.values().filter(|open| open.state == State::Preserved).count())
            .sum();
        assert_eq!(preserved, there.len(), "every record is an open again");
        match (self.file_id, there.first()) {
            (None, None) => true,
            (None, Some(_)) => self.under_way == Some("create"),
            (Some(_), None) => self.closed || self.under_way == Some("close"),
            (Some(file_id), Some(record)) => {
                let mut locked: Vec<u64> =
                    record.held.locks.iter().map(|(lock, _)| lock.range.parts().0).collect();
                let changes = |offset: &u64| self.locks.contains(offset) != locked.contains(offset);
                let changed = [0, 100, 200].iter().filter(|offset| changes(offset)).count();
                locked.sort_unstable();
                let as_told = changed <= usize::from(self.under_way == Some("lock"));
                record.open.0 == file_id.persistent && !self.closed && as_told
            }
        }
    }
}

/// Crashes after each answer. Returns how many of the crashes broke a promise.
fn crashes(shards: u16, lies: bool) -> usize {
    let mut broken = 0;
    for answers in 0.. {
        let world = Durable::new(shards);
        let (file_id, under_way, locks) = (None, None, Vec::new());
        let mut crash = Crash { world, left: answers, lies, file_id, locks, closed: false, under_way };
        let played = crash.play();
        broken += usize::from(!crash.keeps_its_word());
        if played.is_some() {
            assert!(answers >= 9, "every answer was a chance to crash");
            return broken;
        }
    }
    unreachable!()
}

#[test]
fn no_crash_breaks_a_promise() {
    for shards in [1, 3] {
        assert_eq!(crashes(shards, false), 0);
    }
}

#[test]
fn a_store_that_lies_is_caught() {
    assert!(crashes(1, true) > 3, "the scenario sees nothing");
}

#[test]
fn what_a_persistent_open_is_of_becomes_no_link() {
    anywhere(|mut durable| {
        durable.net.shards.iter_mut().for_each(|shard| shard.shares[0].caps.symbolic_links = true);
        let mut party = durable.client(1, 1);
        let actions = durable.ask(&mut party, persistent());
        let (file_id, ..) = opened(&actions);
        let data = ReparseData::Symlink { substitute: Name::from("x"), print: Name::default(), flags: 1 };
        let control = Command::Ioctl(Box::new(Ioctl {
            code: FsctlCode::SET_REPARSE_POINT,
            file_id,
            is_fsctl: true,
            input_length: 0,
            input_max: 0,
            output_max: 0,
            input: IoctlInput::SetReparsePoint(Box::new(data)),
        }));
        assert_eq!(durable.status(&mut party, control), NtStatus::NOT_SUPPORTED);
        durable.end(&[party]);
    });
}

mod broken;
mod following;
mod restored;
