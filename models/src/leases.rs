//! Oplocks and leases of two or three clients that cache one file.
//!
//! * Modelled: scripts of CREATE with and without oplock or lease, READ, WRITE, CLOSE, delete disposition, CANCEL and a
//!   connection's end. A client has a cache: while it may, it reads and writes there; when it is told of a break it stops,
//!   writes back what only it has, and acknowledges, at any time later; or claims too much first; or never does. Timers run
//!   out at any moment in the cases that have clients who never acknowledge.
//! * Left out: ranges (a file is one value), locks, overwriting opens and renames (`file::caching` has tests over all causes),
//!   directories, durable opens, several channels. What a client is sent it has at once.
//! * Bounds: one set of scripts a case, on one shard, or on two with each client's connection, session and machine on its own.
//!   Small: answers between shards and closes of handles come at once. Deep: late too, and more cases on two shards.
//! * Last run: see [`LAST_RUN`].
//! * Always: S25, S26, S27, S28, S29, S30, S31, S32, L4, L5, R1/S19, R2/S61, S63. S26 is stated over clients without a close
//!   outstanding and as long as no break has timed out; while a client has a break to acknowledge its cache is not looked at.
//! * Sometimes: a break is acknowledged, a break times out, an open waits, a delete waits, breaks are chained, a client reads
//!   from its cache, a request is cancelled.
//! * MS-SMB2: 3.3.1.4, 3.3.4.6, 3.3.4.7, 3.3.5.9.8, 3.3.5.9.11, 3.3.5.16, 3.3.5.22, 3.3.6.1; MS-FSA: 2.1.4.12, 2.1.5.18, 2.1.5.19.

use std::collections::{BTreeMap, BTreeSet};

use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::command::FileId;
use smb_proto::command::create::{CreateDisposition, CreateOptions, ShareAccess};
use smb_proto::command::oplock_break::{
    Acknowledgment, LeaseBreak, LeaseBreakFlags, Notification as Told, OplockBreak, OplockLevel,
};
use smb_proto::create_context::{
    LeaseFlags, LeaseKey, LeaseState, LeaseV1, LeaseV2, RequestContext, ResponseContext,
};
use smb_state::config::Limits;
use smb_state::ids::{BufferId, ConnectionId, MessageId, ShardId};
use smb_state::request::{Command, Write};
use smb_state::response::{Body, Response};
use smb_state::timer::Timer;
use stateright::{Model, Property};

use crate::harness::client::{self, Client};
use crate::harness::fault::Fault;
use crate::harness::rule::Rule;
use crate::harness::run::{Bound, Entry, Report};
use crate::harness::volume::Volume;
use crate::harness::{Grain, Move, Seen, World};

mod cases;

use cases::{Asks, CASES, Case, How, Manners, Op};

/// The model.
pub const ENTRY: Entry = Entry {
    name: "leases",
    about: "oplocks and leases of clients that cache one file",
    faults: &[
        Fault::ForgetBreak,
        Fault::BreakOvertakes,
        Fault::SkipCheck,
        Fault::SkipRestrict,
        Fault::AcceptAnyAck,
        Fault::NeverExpire,
        Fault::AnswerTwice,
    ],
    explore,
};

const NONE: LeaseState = LeaseState::EMPTY;
const R: LeaseState = LeaseState::READ_CACHING;
const W: LeaseState = LeaseState::WRITE_CACHING;
const H: LeaseState = LeaseState::HANDLE_CACHING;
/// Every client's lease key: what makes it its own is the ClientGuid.
const KEY: LeaseKey = LeaseKey([7; 16]);

fn explore(bound: Bound) -> Report {
    let mut report = Report::default();
    for case in CASES.iter().filter(|case| bound.deep || !case.deep) {
        report.explore(case.name, Leases { case: *case, bound });
        if bound.fault.is_some() && !report.counterexamples.is_empty() {
            break;
        }
    }
    report
}

#[derive(Clone, Copy, Debug)]
struct Leases {
    case: Case,
    bound: Bound,
}

/// Something that was written, in the order of the writes' beginnings; 0 is what the file had at first.
type Version = u8;

/// What a client caches of the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Cache {
    /// What it may cache.
    rights: LeaseState,
    /// The open of an oplock; absent for a lease.
    oplock: Option<FileId>,
    /// Version 2's epoch.
    epoch: Option<u16>,
    /// What it has read or written.
    content: Option<Version>,
    /// What only it has.
    dirty: Option<Version>,
    /// The break that it was told of and still has to acknowledge.
    breaking: Option<Reaction>,
    /// Breaks that it was told of: what was read before may not be cached after.
    told: u8,
}

/// A client's way from a break to its acknowledgment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Reaction {
    to: LeaseState,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// It knows.
    Told,
    /// It claims more than it may.
    Claiming(MessageId),
    /// Its claim was refused.
    Refused,
    /// It writes back.
    Flushing(MessageId),
    /// It acknowledges.
    Acknowledging(MessageId),
}

/// A request of the script that is not answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Outstanding {
    message: MessageId,
    op: Op,
    /// What a READ may bring back; what a WRITE writes.
    versions: BTreeSet<Version>,
    /// [`Cache::told`] when it began.
    told: u8,
    /// It was said to wait.
    waits: bool,
    cancelled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Player {
    client: Client,
    /// Requests of the script that began.
    step: usize,
    outstanding: Option<Outstanding>,
    slots: [Option<FileId>; 2],
    cache: Cache,
    /// A break of its timed out: what it believes to hold it may not hold.
    late: bool,
    gone: bool,
}

/// What has been written, by everybody.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Writes {
    /// Writes that began.
    begun: Version,
    /// What a read may find: the last write that is done, and those that are not.
    possible: BTreeSet<Version>,
    /// For each write under way, what was done before it began.
    before: BTreeMap<Version, BTreeSet<Version>>,
    /// Which write a payload carries.
    carried: BTreeMap<BufferId, Version>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    world: World,
    players: Vec<Player>,
    writes: Writes,
    /// What happened at least once.
    acknowledged: bool,
    timed_out: bool,
    chained: bool,
    /// A client went away with what only it had.
    lost: bool,
    hits: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Begin(usize),
    React(usize),
    Move(Move),
}

impl Writes {
    fn begin(&mut self) -> Version {
        self.begun += 1;
        let done = self.possible.iter().copied().filter(|version| !self.before.contains_key(version));
        self.before.insert(self.begun, done.collect());
        self.possible.insert(self.begun);
        self.begun
    }

    /// A write is done: what was done before it began is no longer to be read.
    fn end(&mut self, version: Version) {
        let older = self.before.remove(&version).unwrap_or_default();
        self.possible.retain(|other| !older.contains(other));
        self.before.values_mut().for_each(|done| done.retain(|other| !older.contains(other)));
    }
}

fn create(how: How, asks: Asks, epoch: u16) -> Command {
    let data = AccessMask::READ_DATA.with(AccessMask::WRITE_DATA);
    let (access, share) = match how {
        How::Shared => (data, ShareAccess::ALL),
        How::Alone => (data, ShareAccess::EMPTY),
        How::Careful => (AccessMask::READ_DATA, ShareAccess::READ.with(ShareAccess::WRITE)),
        How::Deleting => (AccessMask::DELETE, ShareAccess::ALL),
    };
    let mut command = client::create("a", CreateDisposition::OPEN, access, share, CreateOptions::EMPTY);
    if let Command::Create(request) = &mut command {
        request.contexts.clear();
        (request.oplock_level, request.contexts) = match asks {
            Asks::Nothing => (OplockLevel::NONE, Vec::new()),
            Asks::Oplock(level) => (level, Vec::new()),
            Asks::Lease(state) => {
                let lease = LeaseV1 { key: KEY, state, flags: LeaseFlags::EMPTY };
                (OplockLevel::LEASE, vec![RequestContext::Lease(lease)])
            }
            Asks::LeaseV2(state) => {
                let parent_key = LeaseKey::default();
                let lease = LeaseV2 { key: KEY, state, flags: LeaseFlags::EMPTY, parent_key, epoch };
                (OplockLevel::LEASE, vec![RequestContext::LeaseV2(lease)])
            }
        };
    }
    command
}

fn rights_of(level: OplockLevel) -> LeaseState {
    match level {
        OplockLevel::BATCH => LeaseState::READ_HANDLE_WRITE,
        OplockLevel::EXCLUSIVE => LeaseState::READ_WRITE,
        OplockLevel::II => R,
        _ => NONE,
    }
}

fn level_of(state: LeaseState) -> OplockLevel {
    if state.contains(W.with(H)) {
        OplockLevel::BATCH
    } else if state.contains(R) {
        OplockLevel::II
    } else {
        OplockLevel::NONE
    }
}

/// The write that a READ's payload was filled from.
fn content_of(buffer: BufferId) -> BufferId {
    BufferId((buffer.0 >> 32 & 0xFF) << 32 | buffer.0 >> 8 & 0xFF_FFFF)
}

impl Player {
    fn open(&self, slot: usize) -> Option<FileId> {
        self.slots[slot]
    }

    /// A script's next request may begin: there is none before it, or it does not wait for the one before.
    fn may_begin(&self, script: &[Op]) -> bool {
        if self.gone {
            return false;
        }
        match script.get(self.step) {
            None => false,
            Some(Op::Leave | Op::Cancel) => true,
            // What only it has goes to the server first.
            Some(Op::Write(_) | Op::Close(_)) => {
                self.outstanding.is_none() && (self.cache.breaking.is_none() || self.cache.dirty.is_none())
            }
            Some(_) => self.outstanding.is_none(),
        }
    }

    fn write(&mut self, file_id: FileId) -> (Move, MessageId, BufferId) {
        let message = MessageId(self.client.next);
        let buffer = self.client.buffer(message.0);
        let write = Write {
            file_id,
            offset: 0,
            buffer,
            length: 1,
            write_through: false,
            unbuffered: false,
            by_rdma: false,
        };
        (self.client.send(Command::Write(write)), message, buffer)
    }

    fn acknowledge(&mut self, state: LeaseState) -> (Move, MessageId) {
        let message = MessageId(self.client.next);
        let acknowledgment = match self.cache.oplock {
            Some(file_id) => Acknowledgment::Oplock(OplockBreak { oplock_level: level_of(state), file_id }),
            None => Acknowledgment::Lease(LeaseBreak { lease_key: KEY, lease_state: state }),
        };
        (self.client.send(Command::OplockBreak(acknowledgment)), message)
    }

    /// It stops caching because its last open goes.
    fn forget_if_closed(&mut self) {
        let closed = self.cache.oplock.is_some_and(|open| !self.slots.contains(&Some(open)));
        if closed || self.slots == [None; 2] {
            let told = self.cache.told;
            self.cache = Cache { told, ..Cache::default() };
        }
    }
}

fn start(case: &Case, grain: Grain) -> State {
    let config = client::config(case.shards, Limits::default(), false);
    let mut world = World::new(config, Volume::with(&["a"]), grain);
    let players = (0..case.scripts.len()).map(|index| {
        let number = u16::try_from(index).unwrap_or(0);
        let connection = ConnectionId::new(ShardId(number % case.shards), u64::from(number) + 1);
        Player {
            client: Client::establish(connection, 1, 8, &mut world),
            step: 0,
            outstanding: None,
            slots: [None; 2],
            cache: Cache::default(),
            late: false,
            gone: false,
        }
    });
    let players = players.collect();
    let writes = Writes { possible: BTreeSet::from([0]), ..Writes::default() };
    State {
        world,
        players,
        writes,
        acknowledged: false,
        timed_out: false,
        chained: false,
        lost: false,
        hits: 0,
    }
}

impl State {
    fn begin(&mut self, index: usize, op: Op) {
        let player = &mut self.players[index];
        player.step += 1;
        let next = match op {
            Op::Open(_, how, asks) => {
                let epoch = player.cache.epoch.unwrap_or(40);
                Some(player.client.send(create(how, asks, epoch)))
            }
            Op::Read(slot) => return self.begin_read(index, op, slot),
            Op::Write(slot) => return self.begin_write(index, op, slot),
            Op::Delete(slot) => player.open(slot).map(|open| player.client.send(client::dispose(open, true))),
            Op::Close(slot) => return self.begin_close(index, op, slot),
            Op::Cancel => return self.cancel(index),
            Op::Flush => None,
            Op::Leave => {
                player.gone = true;
                player.outstanding = None;
                // What only it had is lost.
                self.lost |= player.cache.dirty.is_some();
                player.slots = [None; 2];
                player.forget_if_closed();
                let connection = player.client.connection;
                let seen = self.world.apply(Move::Disconnect(connection));
                return self.observe(seen);
            }
        };
        if let Some(next) = next {
            self.send(index, op, next, BTreeSet::new());
        }
    }

    /// Sends a request of the script.
    fn send(&mut self, index: usize, op: Op, next: Move, versions: BTreeSet<Version>) {
        let player = &mut self.players[index];
        let message = MessageId(player.client.next - 1);
        let told = player.cache.told;
        player.outstanding =
            Some(Outstanding { message, op, versions, told, waits: false, cancelled: false });
        let seen = self.world.apply(next);
        self.observe(seen);
    }

    fn begin_read(&mut self, index: usize, op: Op, slot: usize) {
        let player = &mut self.players[index];
        let Some(open) = player.open(slot) else { return };
        if let Some(content) = player.cache.content.filter(|_| player.cache.rights.contains(R)) {
            let excused = player.cache.breaking.is_some()
                || self.timed_out
                || self.lost
                || self.world.break_is_under_way_to(player.client.connection);
            self.hits = self.hits.saturating_add(1);
            if !excused && !self.writes.possible.contains(&content) {
                let what = format!(
                    "player {index} reads write {content} from its cache, not one of {:?}",
                    self.writes.possible
                );
                self.world.breaks(Rule::Coherent, what);
            }
            return;
        }
        let next = player.client.send(client::read(open));
        let allowed = self.writes.possible.clone();
        self.send(index, op, next, allowed);
    }

    fn begin_write(&mut self, index: usize, op: Op, slot: usize) {
        let player = &mut self.players[index];
        let Some(open) = player.open(slot) else { return };
        let version = self.writes.begin();
        for other in &mut self.players {
            if let Some(Outstanding { op: Op::Read(_), versions, .. }) = &mut other.outstanding {
                versions.insert(version);
            }
        }
        let player = &mut self.players[index];
        if player.cache.rights.contains(W) && player.cache.breaking.is_none() {
            (player.cache.content, player.cache.dirty) = (Some(version), Some(version));
            return self.writes.end(version);
        }
        player.cache.content = None;
        let (next, _, buffer) = player.write(open);
        self.writes.carried.insert(buffer, version);
        self.send(index, op, next, BTreeSet::from([version]));
    }

    /// Closes; what only it has is written before, in a step of its own.
    fn begin_close(&mut self, index: usize, op: Op, slot: usize) {
        let player = &mut self.players[index];
        let Some(open) = player.open(slot) else { return };
        if let Some(version) = player.cache.dirty.take() {
            player.step -= 1;
            let (next, _, buffer) = player.write(open);
            self.writes.carried.insert(buffer, version);
            return self.send(index, Op::Flush, next, BTreeSet::new());
        }
        player.slots[slot] = None;
        player.forget_if_closed();
        let next = player.client.send(client::close(open));
        self.send(index, op, next, BTreeSet::new());
    }

    fn cancel(&mut self, index: usize) {
        let player = &mut self.players[index];
        let Some(outstanding) = &mut player.outstanding else { return };
        outstanding.cancelled = true;
        let next = player.client.cancel(outstanding.message);
        let seen = self.world.apply(next);
        self.observe(seen);
    }

    /// A client does what it owes after a break.
    fn react(&mut self, index: usize, manners: Manners) {
        let player = &mut self.players[index];
        let Some(reaction) = player.cache.breaking else { return };
        let open = player.slots.iter().copied().flatten().next();
        let (next, stage) = match (player.cache.dirty, open) {
            (Some(version), Some(open)) if !reaction.to.contains(W) => {
                let (next, message, buffer) = player.write(open);
                self.writes.carried.insert(buffer, version);
                (next, Stage::Flushing(message))
            }
            _ if manners == Manners::Greedy && reaction.stage == Stage::Told => {
                let (next, message) = player.acknowledge(LeaseState::READ_HANDLE_WRITE);
                (next, Stage::Claiming(message))
            }
            _ => {
                let (next, message) = player.acknowledge(reaction.to);
                (next, Stage::Acknowledging(message))
            }
        };
        player.cache.breaking = Some(Reaction { stage, ..reaction });
        let seen = self.world.apply(next);
        self.observe(seen);
    }

    fn observe(&mut self, seen: Vec<Seen>) {
        for seen in seen {
            let of = |connection: ConnectionId| {
                self.players.iter().position(|player| player.client.connection == connection && !player.gone)
            };
            match seen {
                Seen::Response(connection, response) => {
                    if let Some(index) = of(connection) {
                        self.on_response(index, &response);
                    }
                }
                Seen::Notification(connection, notification) => {
                    if let Some(index) = of(connection) {
                        self.on_notification(index, &notification.body);
                    }
                }
                Seen::Audit(_) => {}
            }
        }
    }

    fn on_response(&mut self, index: usize, response: &Response) {
        let player = &mut self.players[index];
        if let Some(outstanding) = &mut player.outstanding
            && outstanding.message == response.message
        {
            if response.status == NtStatus::PENDING {
                outstanding.waits = true;
                return self.check_may_wait(index);
            }
            if let Some(outstanding) = player.outstanding.take() {
                self.on_answer(index, outstanding, response);
            }
            return;
        }
        let Some(reaction) = player.cache.breaking else { return };
        match reaction.stage {
            Stage::Flushing(message) if message == response.message => {
                player.cache.dirty = None;
                player.cache.breaking = Some(Reaction { stage: Stage::Told, ..reaction });
            }
            Stage::Claiming(message) if message == response.message => {
                self.on_claim(index, reaction, response);
            }
            Stage::Acknowledging(message) if message == response.message => {
                self.on_acknowledged(index, reaction, response);
            }
            Stage::Told
            | Stage::Refused
            | Stage::Claiming(_)
            | Stage::Flushing(_)
            | Stage::Acknowledging(_) => {}
        }
    }

    /// A claim to more than was asked for must fail; a lease's break stays, an oplock is gone (S28).
    fn on_claim(&mut self, index: usize, reaction: Reaction, response: &Response) {
        let player = &mut self.players[index];
        if response.status == NtStatus::SUCCESS {
            return self.world.breaks(Rule::Breaks, format!("player {index} keeps more than it may"));
        }
        if player.cache.oplock.is_some() {
            player.cache.rights = NONE;
            player.cache.content = None;
            player.cache.breaking = None;
        } else {
            player.cache.breaking = Some(Reaction { stage: Stage::Refused, ..reaction });
        }
    }

    fn on_acknowledged(&mut self, index: usize, reaction: Reaction, response: &Response) {
        let player = &mut self.players[index];
        player.cache.breaking = None;
        if response.status == NtStatus::SUCCESS {
            player.cache.rights = reaction.to;
            self.acknowledged = true;
            return;
        }
        player.cache.rights = NONE;
        player.cache.content = None;
        if !player.late {
            let what = format!("player {index}'s acknowledgment is refused: {:?}", response.status);
            self.world.breaks(Rule::Breaks, what);
        }
    }

    fn on_answer(&mut self, index: usize, outstanding: Outstanding, response: &Response) {
        let Outstanding { op, versions, told, .. } = outstanding;
        match (op, &response.body) {
            (Op::Open(slot, _, asks), Body::Create(create)) => {
                self.players[index].slots[slot] = Some(create.file_id);
                self.on_grant(index, asks, create);
            }
            (Op::Read(_), Body::Read { buffer, .. }) => {
                let version = self.writes.carried.get(&content_of(*buffer)).copied().unwrap_or(0);
                if !versions.contains(&version) && !self.timed_out && !self.lost {
                    let what = format!("player {index} reads write {version}, not one of {versions:?}");
                    self.world.breaks(Rule::Coherent, what);
                }
                let cache = &mut self.players[index].cache;
                if cache.rights.contains(R) && cache.told == told && cache.breaking.is_none() {
                    cache.content = Some(version);
                }
            }
            (Op::Write(_), Body::Write { .. }) => {
                versions.into_iter().for_each(|version| self.writes.end(version));
            }
            _ => {}
        }
    }

    /// What a CREATE granted.
    fn on_grant(&mut self, index: usize, asks: Asks, create: &smb_proto::command::create::Response) {
        let player = &mut self.players[index];
        let before = (player.cache.rights, player.cache.epoch);
        match asks {
            Asks::Nothing => {}
            Asks::Oplock(_) => {
                player.cache.rights = rights_of(create.oplock_level);
                player.cache.oplock = Some(create.file_id);
            }
            Asks::Lease(_) | Asks::LeaseV2(_) => {
                let lease = create.contexts.iter().find_map(|context| match context {
                    ResponseContext::Lease(lease) => Some((lease.state, lease.flags, None)),
                    ResponseContext::LeaseV2(lease) => Some((lease.state, lease.flags, Some(lease.epoch))),
                    _ => None,
                });
                let Some((state, flags, epoch)) = lease else {
                    return self.world.breaks(Rule::LegalState, "a lease was asked for and not answered");
                };
                let breaking = player.cache.breaking.is_some();
                if !breaking && flags.contains(LeaseFlags::BREAK_IN_PROGRESS) && !player.late {
                    self.world.breaks(Rule::Order, format!("player {index} does not know of a break"));
                    return;
                }
                // During a break the answer says what was held before it.
                if !breaking {
                    player.cache.rights = state;
                }
                player.cache.epoch = epoch.or(player.cache.epoch);
            }
        }
        let cache = &self.players[index].cache;
        if let (Some(epoch), false) = (cache.epoch, self.players[index].late) {
            let changes = u16::from(cache.rights != before.0);
            if epoch != before.1.unwrap_or(40).wrapping_add(changes) {
                let what = format!("player {index}: {before:?} became {:?} at epoch {epoch}", cache.rights);
                self.world.breaks(Rule::Epoch, what);
            }
        }
    }

    fn on_notification(&mut self, index: usize, told: &Told) {
        let player = &mut self.players[index];
        let cache = &mut player.cache;
        let (from, to, acknowledge, epoch) = match told {
            Told::Oplock(OplockBreak { oplock_level, file_id }) => {
                if cache.oplock != Some(*file_id) {
                    // It may be about to close it.
                    let closing = matches!(player.outstanding, Some(Outstanding { op: Op::Close(_), .. }));
                    if !closing {
                        self.world.breaks(Rule::Order, format!("player {index} has no oplock to break"));
                    }
                    return;
                }
                (cache.rights, rights_of(*oplock_level), cache.rights.intersects(W.with(H)), None)
            }
            Told::Lease(lease) => {
                let acknowledge = lease.flags.contains(LeaseBreakFlags::ACK_REQUIRED);
                let epoch = (lease.new_epoch != 0).then_some(lease.new_epoch);
                (lease.current_state, lease.new_state, acknowledge, epoch)
            }
        };
        if player.slots == [None; 2] && player.outstanding.is_some() {
            // It is closing its last open.
            return;
        }
        let late = player.late;
        if late {
            cache.rights = from;
        }
        let wrong = if cache.rights != from {
            Some((Rule::Order, "is told of a break of what it does not hold"))
        } else if to == from || !from.contains(to) {
            Some((Rule::Breaks, "is told of a break to what it has already"))
        } else if cache.breaking.is_some_and(|reaction| !matches!(reaction.stage, Stage::Acknowledging(_))) {
            Some((Rule::Breaks, "is told of a break before it acknowledged another"))
        } else if acknowledge != from.intersects(W.with(H)) {
            Some((Rule::Breaks, "has to acknowledge what it need not, or the other way round"))
        } else if !late && cache.epoch.is_some() && epoch != cache.epoch.map(|epoch| epoch.wrapping_add(1)) {
            Some((Rule::Epoch, "sees an epoch jump"))
        } else if ![NONE, R, R.with(W), R.with(H)].contains(&to) {
            Some((Rule::LegalState, "is told of an illegal state"))
        } else {
            None
        };
        if let Some((rule, what)) = wrong {
            let what = format!("player {index} {what}: {told:?}, has {cache:?}");
            return self.world.breaks(rule, what);
        }
        cache.epoch = epoch.or(cache.epoch);
        cache.told += 1;
        self.chained |= cache.told > 1;
        if !to.contains(R) {
            cache.content = cache.dirty;
        }
        if acknowledge {
            cache.breaking = Some(Reaction { to, stage: Stage::Told });
        } else {
            cache.rights = to;
            cache.breaking = None;
        }
    }

    /// Somebody is said to wait: only for what another key has to give up (S30, S31).
    fn check_may_wait(&mut self, index: usize) {
        let hinders = |(other, player): (usize, &Player)| {
            let granted = matches!(player.outstanding, Some(Outstanding { op: Op::Open(..), .. }));
            let closing = matches!(player.outstanding, Some(Outstanding { op: Op::Close(_), .. }));
            let holds = player.cache.rights.intersects(W.with(H)) || player.cache.breaking.is_some();
            other != index && (granted || closing || holds || player.late || player.gone)
        };
        // From another shard the word may come after what it waited for has gone.
        if self.world.is_single() && !self.players.iter().enumerate().any(hinders) {
            self.world.breaks(Rule::OwnKey, format!("player {index} waits for nobody"));
        }
    }

    /// What must hold of what the clients believe to hold.
    fn check_caches(&mut self) {
        for (index, player) in self.players.iter().enumerate() {
            let rights = player.cache.rights;
            if ![NONE, R, R.with(W), R.with(H), R.with(W).with(H)].contains(&rights) {
                let what = format!("player {index} holds {rights:?}");
                return self.world.breaks(Rule::LegalState, what);
            }
            let settled = |player: &Player| player.cache.breaking.is_none() && !player.late;
            if !settled(player) || !rights.contains(W) {
                continue;
            }
            let beside = self.players.iter().enumerate().find(|(other, player)| {
                *other != index && settled(player) && !player.cache.rights.is_empty()
            });
            if let Some((other, _)) = beside {
                let what = format!("player {other} caches beside player {index}, who writes");
                return self.world.breaks(Rule::Exclusive, what);
            }
        }
        // Nobody waits but for a client that knows of it (L5).
        let waits = |player: &Player| player.outstanding.as_ref().is_some_and(|request| request.waits);
        let owes = |player: &Player| player.cache.breaking.is_some();
        let owing = self.players.iter().filter(|player| owes(player)).count();
        let waits = self.world.is_quiet() && self.players.iter().any(waits);
        if waits && (self.world.breaks_under_way() > owing || owing == 0) {
            self.world.breaks(Rule::Waits, "somebody waits for a client that was not asked");
        }
    }

    fn expire(&mut self, timer: Timer) {
        if matches!(timer, Timer::BreakAcknowledgment(..)) {
            self.timed_out = true;
            // Which of them it is, is the server's to know.
            let concerned = |player: &Player| {
                let opening = matches!(player.outstanding, Some(Outstanding { op: Op::Open(..), .. }));
                player.cache.breaking.is_some() || opening
            };
            for player in self.players.iter_mut().filter(|player| concerned(player)) {
                player.late = true;
            }
        }
    }

    fn is_over(&self, case: &Case) -> bool {
        let done = |(index, player): (usize, &Player)| {
            player.outstanding.is_none() && (player.gone || player.step == case.scripts[index].len())
        };
        self.players.iter().enumerate().all(done) && self.world.is_quiet()
    }
}

impl Model for Leases {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let grain =
            if self.bound.deep { Grain { split_changes: false, ..Grain::FINE } } else { Grain::COARSE };
        let mut state = start(&self.case, grain);
        state.world.seed(self.bound.fault);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        if state.world.broken.is_some() {
            return;
        }
        let ignores = |index: usize| self.case.manners[index] == Manners::Ignores;
        let mut moves = Vec::new();
        state.world.moves((0..state.players.len()).any(ignores), &mut moves);
        // Other timers than those of breaks are other models'.
        moves.retain(
            |next| !matches!(next, Move::Expire(timer) if !matches!(timer, Timer::BreakAcknowledgment(..))),
        );
        actions.extend(moves.into_iter().map(Step::Move));
        for (index, player) in state.players.iter().enumerate() {
            if player.may_begin(self.case.scripts[index]) {
                actions.push(Step::Begin(index));
            }
            let owes = player
                .cache
                .breaking
                .is_some_and(|reaction| matches!(reaction.stage, Stage::Told | Stage::Refused));
            // It acknowledges when what it writes back has arrived.
            let flushing = player.outstanding.as_ref().is_some_and(|request| request.op == Op::Flush);
            if owes && !flushing && !player.gone && (!ignores(index) || player.late) {
                actions.push(Step::React(index));
            }
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut state = state.clone();
        match step {
            Step::Begin(index) => {
                let op = self.case.scripts[index][state.players[index].step];
                state.begin(index, op);
            }
            Step::React(index) => state.react(index, self.case.manners[index]),
            Step::Move(next) => {
                if let Move::Expire(timer) = next {
                    state.expire(timer);
                }
                let seen = state.world.apply(next);
                state.observe(seen);
            }
        }
        state.check_caches();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("S25 who caches writes is alone", |_, s: &State| s.world.keeps(Rule::Exclusive)),
            Property::always("S26 reads see the last write", |_, s: &State| s.world.keeps(Rule::Coherent)),
            Property::always("S27 states are legal", |_, s: &State| s.world.keeps(Rule::LegalState)),
            Property::always("S28 breaks go to less", |_, s: &State| s.world.keeps(Rule::Breaks)),
            Property::always("S29 epochs count changes", |_, s: &State| s.world.keeps(Rule::Epoch)),
            Property::always("S30, L5 who waits is waited for", |_, s: &State| s.world.keeps(Rule::Waits)),
            Property::always("S31 no key hinders itself", |_, s: &State| s.world.keeps(Rule::OwnKey)),
            Property::always("S32 no break comes before its grant", |_, s: &State| {
                s.world.keeps(Rule::Order)
            }),
            Property::always("S19, L4 each request is answered once", |_, s: &State| {
                s.world.keeps(Rule::OneAnswer)
            }),
            Property::always("R2 storage is asked properly", |_, s: &State| s.world.keeps(Rule::Storage)),
            Property::always("S61 each buffer is released once", |_, s: &State| s.world.keeps(Rule::Buffers)),
            Property::always("S63 nothing is left", |_, s: &State| s.world.keeps(Rule::Residue)),
            Property::always("the machines keep their invariants", |_, s: &State| {
                s.world.keeps(Rule::Machines)
            }),
            Property::always("R6 who is told can read it", |_, s: &State| s.world.keeps(Rule::Keys)),
            Property::sometimes("a break is acknowledged", |_, s: &State| s.acknowledged),
            Property::sometimes("a break times out", |_, s: &State| s.timed_out),
            Property::sometimes("breaks are chained", |_, s: &State| s.chained),
            Property::sometimes("a client reads from its cache", |_, s: &State| s.hits > 0),
            Property::sometimes("an open waits", |_, s: &State| s.waits(|op| matches!(op, Op::Open(..)))),
            Property::sometimes("a delete waits", |_, s: &State| s.waits(|op| matches!(op, Op::Delete(_)))),
            Property::sometimes("a request that waits is cancelled", |_, s: &State| {
                s.players
                    .iter()
                    .any(|player| player.outstanding.as_ref().is_some_and(|request| request.cancelled))
            }),
            Property::sometimes("the scripts come to their end", |m: &Self, s: &State| s.is_over(&m.case)),
        ]
    }
}

impl State {
    fn waits(&self, which: impl Fn(Op) -> bool) -> bool {
        let waits = |request: &Outstanding| request.waits && which(request.op);
        self.players.iter().any(|player| player.outstanding.as_ref().is_some_and(waits))
    }
}
