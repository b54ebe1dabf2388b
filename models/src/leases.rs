//! Oplocks and leases of two or three clients that cache one file.
//!
//! * Modelled: scripts of CREATE with and without oplock or lease, READ (with the CREATE in one frame, too), WRITE, CLOSE,
//!   delete disposition, CANCEL and a connection's end. A client has a cache: while it may, it reads and writes there; when it is told of a break it stops,
//!   writes back what only it has, and acknowledges, at any time later; or claims too much first; or never does. Timers run
//!   out at any moment in the cases that have clients who never acknowledge.
//! * Left out: ranges (a file is one value), locks, overwriting opens and renames (`file::caching` has tests over all causes),
//!   directories, durable opens, several channels. What a client is sent it has at once.
//! * Bounds: one set of scripts a case, on one shard, or on two with each client's connection, session and machine on its own.
//!   Small: answers between shards and closes of handles come at once. Deep: late too, and more cases on two shards.
//! * Last run: 400 156 different states at the small bound, 30 s to 60 s on two busy cores; the deep bound has not been run.
//! * Always: S25, S26, S27, S28, S29, S30, S31, S32, L4, L5, R1/S19, R2/S61, S63. S26 is stated over clients without a close
//!   outstanding and as long as no break has timed out; while a client has a break to acknowledge its cache is not looked at.
//! * Sometimes: a break is acknowledged, a break times out, an open waits, a delete waits, breaks are chained, a client reads
//!   from its cache, a request is cancelled.
//! * MS-SMB2: 3.3.1.4, 3.3.4.6, 3.3.4.7, 3.3.5.9.8, 3.3.5.9.11, 3.3.5.16, 3.3.5.22, 3.3.6.1; MS-FSA: 2.1.4.12, 2.1.5.18, 2.1.5.19.

use std::collections::{BTreeMap, BTreeSet};

use smb_proto::create_context::{LeaseKey, LeaseState};
use smb_state::config::Limits;
use smb_state::ids::{BufferId, ConnectionId, MessageId, ShardId};
use smb_state::timer::Timer;
use stateright::{Model, Property};

use crate::harness::client::{self, Client};
use crate::harness::fault::Fault;
use crate::harness::rule::Rule;
use crate::harness::run::{Bound, Entry, Report};
use crate::harness::volume::Volume;
use crate::harness::{Grain, Move, World};

mod cases;
mod observe;
mod player;

use cases::{CASES, Case, Manners, Op};
use player::{Cache, Outstanding, Player, Reaction, Stage, Version, create};

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
    let cases = CASES.iter().filter(|case| bound.deep || !case.deep);
    Report::of_cases(bound, cases.map(|case| (case.name, Leases { case: *case, bound })))
}

#[derive(Clone, Copy, Debug)]
struct Leases {
    case: Case,
    bound: Bound,
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
            Op::OpenAndRead(_, how, asks) => {
                let epoch = player.cache.epoch.unwrap_or(40);
                let next = player.open_and_read(create(how, asks, epoch));
                let versions = self.writes.possible.clone();
                return self.send(index, op, next, versions);
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
        let last = MessageId(player.client.next - 1);
        let message = if matches!(op, Op::OpenAndRead(..)) { MessageId(last.0 - 1) } else { last };
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
            if let Some(Outstanding { op: Op::Read(_) | Op::OpenAndRead(..), versions, .. }) =
                &mut other.outstanding
            {
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

    fn expire(&mut self, timer: Timer) {
        if matches!(timer, Timer::BreakAcknowledgment(..)) {
            self.timed_out = true;
            // Which of them it is, is the server's to know.
            let concerned = |player: &Player| player.cache.breaking.is_some() || player.is_opening();
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
            Property::sometimes("an open waits", |_, s: &State| s.waits(Op::opens)),
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
