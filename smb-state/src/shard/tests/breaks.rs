//! Breaks of oplocks and leases: who waits, who is told, who goes on, and what is left.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind among many")]

use std::collections::VecDeque;

use smb_proto::command::oplock_break::{
    Acknowledgment, LeaseBreak, LeaseBreakFlags, LeaseBreakNotification, Notification as Told, OplockBreak,
};
use smb_proto::create_context::{LeaseFlags, LeaseKey, LeaseState, LeaseV1, RequestContext, ResponseContext};

use super::*;
use crate::action::StoreChange;
use crate::ids::{FileKey, OpenId, Partition};
use crate::request::Write;
use crate::response::{Notification, Protect};
use crate::shard::Holdings;
use crate::timer::{Armed, Timer};

mod copy;
mod order;
#[cfg(feature = "seeded-faults")]
mod seeded;
mod sessions;
mod streams;
mod waiting;

const R: LeaseState = LeaseState::READ_CACHING;
const RH: LeaseState = LeaseState::READ_HANDLE;
const RW: LeaseState = LeaseState::READ_WRITE;
const RWH: LeaseState = LeaseState::READ_HANDLE_WRITE;
const KEY: LeaseKey = LeaseKey([7; 16]);
const DATA: AccessMask = AccessMask(AccessMask::READ_DATA.0 | AccessMask::WRITE_DATA.0);

/// A client with a session and a tree connect.
pub(super) struct Party {
    pub(super) connection: ConnectionId,
    next: u64,
    pub(super) session: SessionId,
    pub(super) tree: TreeId,
    sealed: bool,
}

/// Shards, storage with a file of this number behind every name, and what storage has not answered.
pub(super) struct Net {
    pub(super) shards: Vec<Shard>,
    pub(super) asked: VecDeque<(ShardId, Token, StorageOp)>,
    /// Handles that are open.
    handles: Vec<u64>,
    /// Handles of the directory.
    directories: Vec<u64>,
    next_handle: u64,
    pub(super) file: u64,
    /// Clients encrypt.
    sealed: bool,
    /// Whom clients prove to be.
    pub(super) who: Identity,
    /// What the store was asked, as far as a test does not answer it itself.
    pub(super) changes: VecDeque<(ShardId, Token, StoreChange)>,
    /// Clients know persistent handles.
    pub(super) persists: bool,
}

impl Net {
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: Config) -> Self {
        let config = Shared::new(config);
        let shards = (0..config.shards).map(|id| Shard::new(ShardId(id), config.clone())).collect();
        Self {
            shards,
            asked: VecDeque::new(),
            handles: Vec::new(),
            directories: Vec::new(),
            next_handle: 50,
            file: 5,
            sealed: false,
            who: user(),
            changes: VecDeque::new(),
            persists: false,
        }
    }

    /// One event and the messages that follow from it; what storage is asked is kept, the rest comes back.
    pub(super) fn step(&mut self, shard: ShardId, event: Event) -> Actions {
        let mut events = VecDeque::from([(shard, event)]);
        let mut seen = Actions::new();
        while let Some((shard, event)) = events.pop_front() {
            let mut actions = Actions::new();
            let machine = &mut self.shards[usize::from(shard.0)];
            machine.step(event, &mut actions);
            machine.check_invariants();
            for action in actions {
                match action {
                    Action::ToShard(to, envelope) => {
                        events.push_back((to, Event::FromShard { from: shard, envelope }));
                    }
                    Action::Submit { token, op, .. } => self.asked.push_back((shard, token, op)),
                    other => {
                        if let Action::Store { token, change, .. } = &other {
                            self.changes.push_back((shard, *token, change.clone()));
                        }
                        seen.push(other);
                    }
                }
            }
        }
        seen
    }

    /// Storage answers what it was asked first.
    pub(super) fn answer(&mut self) -> Actions {
        let (shard, token, op) = self.asked.pop_front().expect("something to answer");
        let reply = match op {
            StorageOp::Resolve { path, stream } => {
                let name = path.first().cloned().unwrap_or_default();
                self.handles.push(self.next_handle);
                self.next_handle += 1;
                let handle = self.next_handle - 1;
                let stream = stream.unwrap_or_default();
                let found = Object { name, stream, ..object("a", self.file, handle) };
                // The root, a directory in it, a name that is free; everything else is the file.
                StorageReply::Resolved(if path.is_empty() {
                    Resolved::Found(directory(handle))
                } else if path == [Name::from("dir")] {
                    let attributes = Attributes { number: FileNumber(7), ..directory(handle).attributes };
                    self.directories.push(handle);
                    Resolved::Found(Object { attributes, ..found })
                } else if path == [Name::from("free")] {
                    Resolved::NoName { parent: directory(handle) }
                } else {
                    Resolved::Found(found)
                })
            }
            StorageOp::Open { handle, .. } if self.directories.contains(&handle.0) => {
                let found = Attributes { number: FileNumber(7), ..directory(handle.0).attributes };
                StorageReply::Attributes(found)
            }
            StorageOp::Open { .. } | StorageOp::Attributes { .. } => {
                StorageReply::Attributes(attributes(self.file))
            }
            StorageOp::RenameStream { .. } | StorageOp::Rename { .. } | StorageOp::SetAttributes { .. } => {
                StorageReply::Done
            }
            StorageOp::Close { handle } => {
                let before = self.handles.len();
                self.handles.retain(|other| *other != handle.0);
                assert_eq!(self.handles.len(), before - 1, "a handle is closed that is not open");
                StorageReply::Done
            }
            StorageOp::Read { .. } => StorageReply::Read { buffer: BufferId(900), length: 1 },
            StorageOp::Write { length, .. } | StorageOp::Copy { length, .. } => {
                StorageReply::Written { length }
            }
            other => panic!("nobody asks for {other:?}"),
        };
        self.step(shard, Event::Completed { token, reply })
    }

    pub(super) fn fail(&mut self, status: NtStatus) -> Actions {
        let (shard, token, _) = self.asked.pop_front().expect("something to answer");
        self.step(shard, Event::Completed { token, reply: StorageReply::Failed(status) })
    }

    /// Storage answers everything.
    pub(super) fn run(&mut self) -> Actions {
        let mut seen = Actions::new();
        while !self.asked.is_empty() {
            seen.extend(self.answer());
        }
        seen
    }

    pub(super) fn send(&mut self, party: &mut Party, command: Command) -> Actions {
        let request = party.request(command);
        self.send_request(party, request)
    }

    pub(super) fn send_request(&mut self, party: &Party, first: Request) -> Actions {
        let chain = Chain { first, rest: Vec::new() };
        self.step(party.connection.shard(), Event::Request { connection: party.connection, chain })
    }

    /// Sends and lets storage answer.
    pub(super) fn ask(&mut self, party: &mut Party, command: Command) -> Actions {
        let mut seen = self.send(party, command);
        seen.extend(self.run());
        seen
    }

    pub(super) fn party(&mut self, connection: ConnectionId, guid: [u8; 16]) -> Party {
        let mut party = Party { connection, next: 0, session: SessionId(0), tree: TreeId(0), sealed: false };
        self.step(connection.shard(), Event::Accepted { connection, peer: Peer(u128::from(guid[0])) });
        let mut negotiate = negotiate_request();
        negotiate.client_guid = guid;
        negotiate.dialects = vec![Dialect::SMB_3_0];
        negotiate.capabilities = Capabilities::ENCRYPTION;
        if self.persists {
            negotiate.capabilities = negotiate.capabilities.with(Capabilities::PERSISTENT_HANDLES);
        }
        negotiate.contexts = Vec::new();
        self.send(&mut party, Command::Negotiate(Box::new(negotiate)));
        let setup = SessionSetup {
            binding: false,
            signing_required: false,
            previous_session: SessionId(0),
            token: BufferId(7),
        };
        let actions = self.send(&mut party, Command::SessionSetup(setup));
        let session = actions.iter().find_map(|action| match action {
            Action::Output(_, Output::Authenticate { session, message, .. }) => Some((*session, *message)),
            _ => None,
        });
        let (session, message) = session.expect("an authentication");
        let identity = self.who.clone();
        let outcome = AuthOutcome::Accepted { reply: None, identity, keyed: true, valid_for_ms: None };
        self.step(connection.shard(), Event::Authenticated { connection, session, message, outcome });
        (party.session, party.sealed) = (session, self.sealed);
        let connect = tree_connect::Request {
            flags: tree_connect::Flags::EMPTY,
            path: Name::from(r"\\server\SHARE"),
            contexts: Vec::new(),
        };
        party.tree = response(&self.send(&mut party, Command::TreeConnect(connect))).tree;
        party
    }

    /// Three clients on as many connections.
    fn three(&mut self) -> [Party; 3] {
        let shards = u64::try_from(self.shards.len()).unwrap();
        [1, 2, 3].map(|number: u64| {
            let shard = ShardId(u16::try_from((number - 1) % shards).unwrap());
            self.party(ConnectionId::new(shard, number), [u8::try_from(number).unwrap(); 16])
        })
    }

    /// Fires the only timer of a break.
    pub(super) fn expire(&mut self) -> Actions {
        let mut armed = Vec::new();
        for shard in &self.shards {
            let breaks =
                shard.timers.iter().filter(|(timer, _)| matches!(timer, Timer::BreakAcknowledgment(..)));
            armed.extend(breaks.map(|(timer, armed)| (shard.id, *timer, *armed)));
        }
        let [(shard, timer, armed)] = armed[..] else { panic!("{armed:?}") };
        self.step(shard, Event::Expired(timer, armed))
    }

    /// Everybody goes; nothing is left.
    pub(super) fn end(mut self, parties: &[Party]) {
        for party in parties {
            let connection = party.connection;
            if self.shards[usize::from(connection.shard().0)].connections.contains_key(&connection) {
                self.step(connection.shard(), Event::Disconnected { connection });
            }
        }
        self.run();
        for shard in &self.shards {
            assert_eq!(shard.holdings(), Holdings::default());
        }
        assert_eq!(self.handles, [0; 0], "handles are open");
    }
}

impl Party {
    pub(super) fn request(&mut self, command: Command) -> Request {
        let message = MessageId(self.next);
        self.next += 1;
        let protection = match (self.session, self.sealed) {
            (SessionId(0), _) => Protection::None,
            (session, true) => Protection::Sealed(session),
            (_, false) => Protection::Signed,
        };
        Request {
            message,
            credit_charge: 1,
            credits: 16,
            session: self.session,
            tree: self.tree,
            async_id: None,
            related: false,
            replay: false,
            channel_sequence: 0,
            protection,
            size: 100,
            command,
        }
    }

    /// CANCEL of its last request.
    fn cancel(&self) -> Request {
        let mut copy = Self { next: self.next - 1, ..*self };
        Request { credit_charge: 0, ..copy.request(Command::Cancel) }
    }
}

pub(super) fn open(name: &str, level: OplockLevel, lease: Option<(LeaseKey, LeaseState)>) -> Command {
    let Command::Create(mut request) = create(name, CreateDisposition::OPEN) else { unreachable!() };
    request.desired_access = DATA;
    request.oplock_level = level;
    if let Some((key, state)) = lease {
        request.contexts = vec![RequestContext::Lease(LeaseV1 { key, state, flags: LeaseFlags::EMPTY })];
    }
    Command::Create(request)
}

pub(super) fn with_oplock(level: OplockLevel) -> Command {
    open("a", level, None)
}

pub(super) fn with_lease(state: LeaseState) -> Command {
    open("a", OplockLevel::LEASE, Some((KEY, state)))
}

/// As another command, but for these rights and with this sharing.
pub(super) fn but(command: Command, access: AccessMask, share: u32) -> Command {
    let Command::Create(mut request) = command else { unreachable!() };
    (request.desired_access, request.share_access) = (access, ShareAccess(share));
    Command::Create(request)
}

pub(super) fn plain() -> Command {
    with_oplock(OplockLevel::NONE)
}

pub(super) fn write(file_id: FileId) -> Command {
    let (offset, buffer, length) = (0, BufferId(800), 1);
    Command::Write(Write {
        file_id,
        offset,
        buffer,
        length,
        write_through: false,
        unbuffered: false,
        by_rdma: false,
    })
}

pub(super) fn close_of(file_id: FileId) -> Command {
    Command::Close(close::Request { flags: close::Flags::EMPTY, file_id })
}

fn acknowledge(file_id: FileId, oplock_level: OplockLevel) -> Command {
    Command::OplockBreak(Acknowledgment::Oplock(OplockBreak { oplock_level, file_id }))
}

pub(super) fn acknowledge_lease(lease_state: LeaseState) -> Command {
    Command::OplockBreak(Acknowledgment::Lease(LeaseBreak { lease_key: KEY, lease_state }))
}

/// What a CREATE was answered: its open and what it may cache.
#[track_caller]
pub(super) fn opened(actions: &Actions) -> (FileId, OplockLevel, LeaseState) {
    let created = responses(actions).into_iter().find_map(|response| match &response.body {
        Body::Create(create) => Some(create.clone()),
        _ => None,
    });
    let created = created.unwrap_or_else(|| panic!("{actions:?}"));
    let lease = created.contexts.iter().find_map(|context| match context {
        ResponseContext::Lease(lease) => Some(lease.state),
        _ => None,
    });
    (created.file_id, created.oplock_level, lease.unwrap_or_default())
}

pub(super) fn notifications(actions: &Actions) -> Vec<(ConnectionId, Notification)> {
    let notification = |action: &Action| match action {
        Action::Output(connection, Output::Notify(notification)) => Some((*connection, *notification)),
        _ => None,
    };
    actions.iter().filter_map(notification).collect()
}

/// Statuses of responses on a connection, in order.
pub(super) fn statuses(actions: &Actions, party: &Party) -> Vec<NtStatus> {
    let of = |action: &Action| match action {
        Action::Output(connection, Output::Respond(all)) if *connection == party.connection => {
            Some(all.iter().map(|response| response.status).collect::<Vec<_>>())
        }
        _ => None,
    };
    actions.iter().filter_map(of).flatten().collect()
}

fn timer(number: u32) -> Timer {
    Timer::BreakAcknowledgment(FileKey { volume: VolumeId(1), number: FileNumber(5) }, number)
}

#[test]
fn an_open_that_waits_is_said_to_and_runs_again_from_its_name() {
    let mut net = Net::new();
    let [mut holder, mut opener, other] = net.three();
    let (id, level, _) = opened(&net.ask(&mut holder, with_oplock(OplockLevel::BATCH)));
    assert_eq!(level, OplockLevel::BATCH);
    let actions = net.ask(&mut opener, with_oplock(OplockLevel::EXCLUSIVE));
    let [
        Action::Arm { timer: armed, armed: Armed(_), after_ms: 35_000 },
        Action::Output(waits, Output::Respond(interim)),
        Action::Output(told, Output::Notify(notification)),
    ] = actions.as_slice()
    else {
        panic!("{actions:?}")
    };
    assert_eq!((*armed, *told, *waits), (timer(0), holder.connection, opener.connection));
    let body = Told::Oplock(OplockBreak { oplock_level: OplockLevel::II, file_id: id });
    assert_eq!(*notification, Notification { session: holder.session, sealed: None, body });
    assert_eq!((interim[0].status, interim[0].protect), (NtStatus::PENDING, Protect::Plain));
    assert!(interim[0].async_id.is_some());
    assert!(net.asked.is_empty(), "nothing happens before the acknowledgment");

    let actions = net.send(&mut holder, acknowledge(id, OplockLevel::II));
    let [Action::Disarm(disarmed), Action::Output(answered, Output::Respond(answer))] = actions.as_slice()
    else {
        panic!("{actions:?}")
    };
    assert_eq!((*disarmed, *answered), (timer(0), holder.connection));
    assert_eq!(answer[0].status, NtStatus::SUCCESS);
    let asked: Vec<&StorageOp> = net.asked.iter().map(|(_, _, op)| op).collect();
    assert!(
        matches!(asked[..], [StorageOp::Close { handle: Handle(51) }, StorageOp::Resolve { .. }]),
        "{asked:?}"
    );
    let actions = net.run();
    let (_, level, _) = opened(&actions);
    assert_eq!(level, OplockLevel::II, "beside level II there is no more");
    assert_eq!(response(&actions).async_id, interim[0].async_id);
    assert_eq!(response(&actions).credits, 0, "they came with the interim response (S16)");
    net.end(&[holder, opener, other]);
}

#[test]
fn a_sealed_session_is_told_under_seal() {
    let mut config = config();
    config.shares[0].encrypted = true;
    let mut net = Net { sealed: true, ..Net::with(config) };
    let mut holder = net.party(ConnectionId::new(ShardId(0), 1), [1; 16]);
    let mut opener = net.party(ConnectionId::new(ShardId(0), 2), [2; 16]);
    let (_, _, state) = opened(&net.ask(&mut holder, with_lease(RWH)));
    assert_eq!(state, RWH);
    let actions = net.ask(&mut opener, plain());
    let body = Told::Lease(LeaseBreakNotification {
        new_epoch: 0,
        flags: LeaseBreakFlags::ACK_REQUIRED,
        lease_key: KEY,
        current_state: RWH,
        new_state: RH,
    });
    let notification = Notification { session: SessionId(0), sealed: Some(holder.session), body };
    assert_eq!(notifications(&actions), [(holder.connection, notification)]);
    assert_eq!(response(&actions).protect, Protect::Seal(opener.session));
    let actions = net.ask(&mut holder, acknowledge_lease(RH));
    assert_eq!(statuses(&actions, &opener), [NtStatus::SUCCESS]);
    net.end(&[holder, opener]);
}

#[test]
fn a_key_does_not_break_itself() {
    let mut net = Net::new();
    let [mut holder, two, three] = net.three();
    let (first, _, state) = opened(&net.ask(&mut holder, with_lease(RW)));
    assert_eq!(state, RW);
    let actions = net.ask(&mut holder, with_lease(RWH));
    let (second, _, state) = opened(&actions);
    assert_eq!(state, RWH, "promoted");
    for (command, expected) in
        [(write(first), NtStatus::SUCCESS), (read_request(second), NtStatus::END_OF_FILE)]
    {
        let actions = net.ask(&mut holder, command);
        let status = response(&actions).status;
        assert!(status == NtStatus::SUCCESS || status == expected);
        assert_eq!(notifications(&actions), []);
    }
    net.end(&[holder, two, three]);
}

#[test]
fn a_close_acknowledges() {
    let mut net = Net::new();
    let [mut holder, mut opener, other] = net.three();
    let (id, ..) = opened(&net.ask(&mut holder, with_oplock(OplockLevel::BATCH)));
    net.ask(&mut opener, plain());
    let actions = net.ask(&mut holder, close_of(id));
    assert!(actions.contains(&Action::Disarm(timer(0))), "{actions:?}");
    assert_eq!(statuses(&actions, &holder), [NtStatus::SUCCESS]);
    assert_eq!(statuses(&actions, &opener), [NtStatus::SUCCESS]);
    let late = net.ask(&mut holder, acknowledge(id, OplockLevel::NONE));
    assert_eq!(response(&late).status, NtStatus::FILE_CLOSED);
    net.end(&[holder, opener, other]);
}

#[test]
fn a_break_that_nobody_acknowledges_times_out() {
    let mut net = Net::new();
    let [mut holder, mut opener, mut third] = net.three();
    net.ask(&mut holder, with_lease(RWH));
    net.ask(&mut opener, plain());
    let early = net.step(ShardId(0), Event::Expired(timer(0), Armed(9999)));
    assert!(early.is_empty(), "of a timer that was armed again: {early:?}");
    let mut actions = net.expire();
    actions.extend(net.run());
    assert_eq!(statuses(&actions, &opener), [NtStatus::SUCCESS]);
    assert_eq!(notifications(&actions), []);
    let late = net.ask(&mut holder, acknowledge_lease(RH));
    assert_eq!(response(&late).status, NtStatus::UNSUCCESSFUL, "there is no break any more (3.3.5.22.2)");
    // Nothing of the lease is left that could be in anybody's way.
    let actions = net.ask(&mut third, but(plain(), AccessMask::DELETE, 7));
    assert_eq!(response(&actions).status, NtStatus::SUCCESS);
    net.end(&[holder, opener, third]);
}

#[test]
fn acknowledgments_are_refused_for_what_is_wrong_with_them() {
    let mut net = Net::new();
    let [mut holder, mut opener, mut third] = net.three();
    let unknown = net.ask(&mut holder, acknowledge_lease(R));
    assert_eq!(response(&unknown).status, NtStatus::OBJECT_NAME_NOT_FOUND);
    let (leased, ..) = opened(&net.ask(&mut holder, with_lease(RWH)));
    let quiet = net.ask(&mut holder, acknowledge_lease(RH));
    assert_eq!(response(&quiet).status, NtStatus::UNSUCCESSFUL);
    let form = net.ask(&mut holder, acknowledge(leased, OplockLevel::NONE));
    assert_eq!(response(&form).status, NtStatus::INVALID_DEVICE_STATE, "a lease is no oplock");
    net.ask(&mut opener, plain());
    let greedy = net.ask(&mut holder, acknowledge_lease(RWH));
    assert_eq!(response(&greedy).status, NtStatus::REQUEST_NOT_ACCEPTED);
    let not_its_own = net.ask(&mut third, acknowledge_lease(R));
    assert_eq!(response(&not_its_own).status, NtStatus::OBJECT_NAME_NOT_FOUND, "another client's key");
    let right = net.ask(&mut holder, acknowledge_lease(R));
    assert_eq!(statuses(&right, &holder), [NtStatus::SUCCESS]);
    assert_eq!(statuses(&right, &opener), [NtStatus::SUCCESS]);
    net.end(&[holder, opener, third]);
}

#[test]
fn a_batch_oplock_acknowledged_with_exclusive_is_gone_without_an_error() {
    let mut net = Net::new();
    let [mut holder, mut opener, other] = net.three();
    let (id, ..) = opened(&net.ask(&mut holder, with_oplock(OplockLevel::BATCH)));
    net.ask(&mut opener, plain());
    let actions = net.ask(&mut holder, acknowledge(id, OplockLevel::EXCLUSIVE));
    let answer = responses(&actions)[0];
    let none = OplockBreak { oplock_level: OplockLevel::NONE, file_id: id };
    assert_eq!(answer.status, NtStatus::SUCCESS);
    assert_eq!(answer.body, Body::OplockBreak(smb_proto::command::oplock_break::Response::Oplock(none)));
    net.end(&[holder, opener, other]);
}

#[test]
fn a_write_under_way_is_done_before_reads_are_cached() {
    let mut net = Net::new();
    let [mut writer, mut reader, other] = net.three();
    let (id, ..) = opened(&net.ask(&mut writer, plain()));
    net.send(&mut writer, write(id));
    let writing = net.asked.pop_front().expect("a write");
    assert!(matches!(writing.2, StorageOp::Write { .. }), "it has a permit");
    let actions = net.ask(&mut reader, with_lease(R));
    assert_eq!(actions, [], "it waits for storage, not for a client: no interim response (R1)");
    net.asked.push_back(writing);
    let actions = net.run();
    assert_eq!(statuses(&actions, &writer), [NtStatus::SUCCESS]);
    assert_eq!(opened(&actions).2, R);
    // From now on each write is asked about, and tells the reader first.
    let actions = net.send(&mut writer, write(id));
    assert_eq!(notifications(&actions).len(), 1);
    assert!(matches!(net.asked.front(), Some((_, _, StorageOp::Write { .. }))), "R is not waited for (S30)");
    net.run();
    net.end(&[writer, reader, other]);
}

#[test]
fn a_lease_key_is_for_one_file() {
    let mut net = Net::new();
    let [mut client, two, three] = net.three();
    opened(&net.ask(&mut client, with_lease(R)));
    net.file = 6;
    let actions = net.ask(&mut client, open("b", OplockLevel::LEASE, Some((KEY, R))));
    assert_eq!(response(&actions).status, NtStatus::INVALID_PARAMETER);
    assert_eq!(net.handles, [50]);
    // Of a name that is not there nothing is made: it is looked for once more, in case that another CREATE of the client made it.
    let Command::Create(mut request) = open("new", OplockLevel::LEASE, Some((KEY, R))) else {
        unreachable!()
    };
    request.create_disposition = CreateDisposition::OPEN_IF;
    net.send(&mut client, Command::Create(request));
    let mut seen = Actions::new();
    let mut asked = Vec::new();
    while let Some((shard, token, op)) = net.asked.pop_front() {
        let reply = match op {
            StorageOp::Resolve { .. } => {
                StorageReply::Resolved(Resolved::NoName { parent: directory(90 + asked.len() as u64) })
            }
            StorageOp::Close { .. } => StorageReply::Done,
            ref other => panic!("{other:?}"),
        };
        asked.push(op);
        seen.extend(net.step(shard, Event::Completed { token, reply }));
    }
    assert_eq!(response(&seen).status, NtStatus::INVALID_PARAMETER);
    assert_eq!(asked.iter().filter(|op| matches!(op, StorageOp::Resolve { .. })).count(), 2);
    net.end(&[client, two, three]);
}

#[test]
fn two_creators_under_one_key_make_one_file() {
    let mut net = Net::new();
    let [mut client, two, three] = net.three();
    let Command::Create(mut request) = with_lease(R) else { unreachable!() };
    request.create_disposition = CreateDisposition::OPEN_IF;
    net.send(&mut client, Command::Create(request.clone()));
    net.send(&mut client, Command::Create(request));
    let first = net.asked.pop_front().expect("a CREATE");
    let second = net.asked.pop_front().expect("another one");
    let missing = |handle| StorageReply::Resolved(Resolved::NoName { parent: directory(handle) });
    net.step(first.0, Event::Completed { token: first.1, reply: missing(90) });
    let make = net.asked.pop_front().expect("the file is made");
    net.handles.extend([90, 55]);
    let made = StorageReply::Opened(object("a", 5, 55));
    let actions = net.step(make.0, Event::Completed { token: make.1, reply: made });
    assert_eq!(opened(&actions).2, R);
    // The other one did not see the file yet, and finds its key in use.
    net.handles.push(91);
    let mut actions = net.step(second.0, Event::Completed { token: second.1, reply: missing(91) });
    actions.extend(net.run());
    assert_eq!(opened(&actions).2, R);
    net.end(&[client, two, three]);
}

#[test]
fn everything_may_live_elsewhere() {
    const SHARDS: u16 = 4;
    let at = |partition: Partition| partition.shard(SHARDS).0;
    let mut config = config();
    config.shards = SHARDS;
    let mut net = Net::with(config);
    // Connections and sessions on 0 and 1, the file on 2, the first client's machine on 3.
    let key = |number| FileKey { volume: VolumeId(1), number: FileNumber(number) };
    net.file = (5..).find(|number| at(key(*number).partition()) == 2).expect("a number");
    let guid = |first: u8| {
        let number = u64::from_le_bytes([first; 8]);
        at(Partition::of_number(number))
    };
    let first = (1..=u8::MAX).find(|byte| guid(*byte) == 3).expect("a guid");
    let mut holder = net.party(ConnectionId::new(ShardId(0), 1), [first; 16]);
    let mut opener = net.party(ConnectionId::new(ShardId(1), 2), [first.wrapping_add(1); 16]);
    let (id, _, state) = opened(&net.ask(&mut holder, with_lease(RWH)));
    assert_eq!(state, RWH);
    assert_eq!(OpenId(id.persistent).partition(), holder.session.partition());
    assert_eq!(
        net.shards.iter().map(|shard| (shard.opens.len(), shard.files.len())).collect::<Vec<_>>(),
        [(1, 0), (0, 0), (0, 1), (0, 0)]
    );
    let actions = net.ask(&mut opener, with_lease(R));
    assert_eq!(notifications(&actions)[0].0, holder.connection);
    assert_eq!(statuses(&actions, &opener), [NtStatus::PENDING]);
    let actions = net.ask(&mut holder, acknowledge_lease(RH));
    assert_eq!(statuses(&actions, &holder), [NtStatus::SUCCESS]);
    assert_eq!(opened(&actions).2, R);
    // A write goes to the reader's session on another shard, and is not waited for.
    let actions = net.ask(&mut holder, write(id));
    let told: Vec<ConnectionId> = notifications(&actions).into_iter().map(|(to, _)| to).collect();
    assert_eq!(told, [opener.connection]);
    assert_eq!(statuses(&actions, &holder), [NtStatus::SUCCESS]);
    net.end(&[holder, opener]);
}
