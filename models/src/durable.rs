//! Durable opens: clients that go away and come back, others that want the file meanwhile, CREATEs that are sent twice.
//!
//! * Modelled: connections with a session each, of one client or several, of one user or two, on one shard or two. One makes a
//!   durable open (batch oplock with DHnQ or DH2Q, lease with R and H) and goes away at any moment, with its CREATE unanswered
//!   too; another comes back for it (DHnC, DH2C) as soon as anybody was told the open's name, whether the server has noticed
//!   that the first is gone or not, with what is right or with something else; a third one opens the file in its way or not,
//!   or under the same lease. The CREATE is sent again, as a replay or not. Timers run out at any moment: of what is preserved,
//!   of a client that waits for its old session, in some cases of breaks. A client acknowledges a break at any time.
//! * Left out: setup of the later sessions (all connections have theirs from the start: PreviousSessionId is `session`'s),
//!   channels (a replay comes on the session's one connection), persistent and resilient handles, locks, renames, limits, what
//!   a client has in its cache (`leases`).
//! * Bounds: one set of scripts a case. Small: answers between shards and closes of handles come at once. Deep: late too, and
//!   everybody at once.
//! * Last run: 169 876 different states at the small bound, depth 33, 8 s on two busy cores, 280 MB. The deep bound has not been run
//!   to its end: late answers and closes alone take more than 5 GB.
//! * Always: S24, S33, S36 and S45 (who has the file open shares it as all say, and nobody else does while one caches writes), S43,
//!   S44, S30 and S46 (who is away loses, and nobody waits for who was not told), S47/L8, R1/S19, R2/S61, S63. S47 is stated for
//!   clients that are right, come back once, and to an open that nobody wanted, closed, or let expire.
//! * Sometimes: an open is reclaimed, scavenged, lost to a conflict; a client waits for its old session; a replay is answered.
//! * MS-SMB2: 3.3.4.6, 3.3.4.7, 3.3.5.6, 3.3.5.9, 3.3.5.9.6, 3.3.5.9.7, 3.3.5.9.10, 3.3.5.9.12, 3.3.7.1.

use smb_proto::command::FileId;
use smb_proto::create_context::LeaseState;
use smb_state::config::Limits;
use smb_state::ids::{ConnectionId, MessageId, ShardId};
use smb_state::request::{Chain, Request};
use smb_state::timer::Timer;
use stateright::{Model, Property};

use crate::harness::client::{self, Client};
use crate::harness::fault::Fault;
use crate::harness::rule::Rule;
use crate::harness::run::{Bound, Entry, Report};
use crate::harness::volume::Volume;
use crate::harness::{Grain, Move, World};

mod cases;
mod lane;
mod observe;

use cases::{Ask, CASES, Case, Op, Show};
use lane::{Lane, Outstanding, command};

/// The model.
pub const ENTRY: Entry = Entry {
    name: "durable",
    about: "durable opens whose clients go away and come back, and CREATEs that are sent twice",
    faults: &[
        Fault::OneUserForAll,
        Fault::TrustCreateGuid,
        Fault::LoseLost,
        Fault::NeverExpire,
        Fault::ReclaimAnyway,
        Fault::SkipPreserve,
        Fault::SkipBeginCreate,
        Fault::AnswerTwice,
    ],
    explore,
};

fn explore(bound: Bound) -> Report {
    let cases = CASES.iter().filter(|case| bound.deep || !case.deep);
    Report::of_cases(bound, cases.map(|case| (case.name, Durable { case: *case, bound })))
}

#[derive(Clone, Copy, Debug)]
struct Durable {
    case: Case,
    bound: Bound,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Facts {
    /// Clients came back that may have the open: so often.
    claims: u8,
    /// Somebody wanted the file in a way that the open is in.
    contested: bool,
    /// A timer ran out.
    expired: bool,
    /// A break timed out: what a client believes to hold it may not hold.
    timed_out: bool,
    /// Its client began to close it.
    closed: bool,
    /// It went, while its client was away and had not come back.
    lost: bool,
    scavenged: bool,
    reclaimed: bool,
    waited: bool,
    replayed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    world: World,
    lanes: Vec<Lane>,
    /// The durable open's name, as it was told last.
    known: Option<FileId>,
    /// Who was told it last.
    holder: Option<usize>,
    facts: Facts,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Begin(usize),
    Acknowledge(usize),
    Move(Move),
}

fn start(case: &Case, grain: Grain, fault: Option<Fault>) -> State {
    let config = client::config(case.shards, Limits::default(), false);
    let mut world = World::new(config, Volume::with(&["a", "b"]), grain);
    if fault == Some(Fault::OneUserForAll) {
        world.seed(fault);
    }
    let lanes = case.lanes.iter().zip(0_u64..).map(|(lane, number)| {
        let shard = ShardId(lane.shard % case.shards);
        // The lowest bits are the client.
        let connection = ConnectionId::new(shard, number << 7 | u64::from(lane.client));
        Lane {
            client: Client::establish(connection, lane.user, 8, &mut world),
            step: 0,
            outstanding: Vec::new(),
            open: None,
            breaking: None,
            gone: false,
        }
    });
    let lanes = lanes.collect();
    world.seed(fault);
    State { world, lanes, known: None, holder: None, facts: Facts::default() }
}

/// Whether a client may have the open, by all that is compared (S43).
fn is_right(case: &Case, index: usize, show: Show) -> bool {
    let (owner, lane) = (case.lanes[0], case.lanes[index]);
    lane.user == owner.user && show == Show::Right && (!case.ask.is_lease() || lane.client == owner.client)
}

impl State {
    /// The open's client is gone, and is not back.
    fn is_away(&self, case: &Case) -> bool {
        let back = self.lanes.iter().enumerate().any(|(index, lane)| {
            let claims = |request: &Outstanding| {
                matches!(request.op, Op::Reclaim(show) if is_right(case, index, show))
            };
            !lane.gone && lane.outstanding.iter().any(claims)
        });
        !back && self.holder.is_some_and(|holder| self.lanes[holder].gone)
    }

    /// Nobody else has the file open, or is about to.
    fn is_alone(&self, index: usize) -> bool {
        let idle = |lane: &Lane| lane.gone || (lane.open.is_none() && lane.outstanding.is_empty());
        self.lanes.iter().enumerate().all(|(other, lane)| other == index || idle(lane))
    }

    fn begin(&mut self, case: &Case, index: usize, op: Op) {
        let away = self.is_away(case) && self.is_alone(index);
        let lane = &mut self.lanes[index];
        lane.step += 1;
        let open = lane.open.map(|held| held.file_id);
        if op == Op::Leave {
            lane.gone = true;
            lane.outstanding.clear();
            (lane.open, lane.breaking) = (None, None);
            let connection = lane.client.connection;
            let seen = self.world.apply(Move::Disconnect(connection));
            return self.observe(case, seen);
        }
        let Some(command) = command(case, op, open, self.known) else { return };
        let message = MessageId(lane.client.next);
        let replay = matches!(op, Op::Again { replay: true });
        let first = Request { replay, ..lane.client.request(command) };
        lane.outstanding.push(Outstanding { message, op, away, claims: self.facts.claims, open });
        match op {
            Op::Close => self.facts.closed |= self.holder == Some(index),
            Op::Logoff => {
                lane.gone = true;
                (lane.open, lane.breaking) = (None, None);
            }
            Op::Reclaim(show) => self.facts.claims += u8::from(is_right(case, index, show)),
            Op::Look | Op::Read | Op::Share | Op::Alone => self.facts.contested |= op.conflicts(case.ask),
            Op::Open | Op::Join | Op::Again { .. } | Op::Leave => {}
        }
        let next =
            Move::Send(self.lanes[index].client.connection, Box::new(Chain { first, rest: Vec::new() }));
        let seen = self.world.apply(next);
        self.observe(case, seen);
    }

    fn expire(&mut self, case: &Case, timer: Timer) {
        match timer {
            Timer::Scavenger(_) => {
                let away = self.is_away(case);
                self.facts.lost |= away;
                self.facts.scavenged |= away;
                self.facts.expired = true;
            }
            Timer::BreakAcknowledgment(..) => self.facts.timed_out = true,
            _ => self.facts.expired = true,
        }
    }

    fn is_over(&self, case: &Case) -> bool {
        let done = |(index, lane): (usize, &Lane)| lane.step == case.lanes[index].script.len();
        self.lanes.iter().enumerate().all(done) && self.world.is_at_rest()
    }
}

impl Model for Durable {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let grain =
            if self.bound.deep { Grain { split_changes: false, ..Grain::FINE } } else { Grain::COARSE };
        vec![start(&self.case, grain, self.bound.fault)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        if state.world.broken.is_some() {
            return;
        }
        let mut moves = Vec::new();
        state.world.moves(true, &mut moves);
        moves.retain(|next| match next {
            Move::Expire(Timer::BreakAcknowledgment(..)) => self.case.timeouts,
            Move::Expire(timer) => matches!(timer, Timer::Scavenger(_) | Timer::Claim(_)),
            _ => true,
        });
        actions.extend(moves.into_iter().map(Step::Move));
        for (index, lane) in state.lanes.iter().enumerate() {
            if lane.may_begin(self.case.lanes[index].script) {
                actions.push(Step::Begin(index));
            }
            let owes = lane.breaking.is_some_and(|breaking| breaking.acknowledging.is_none());
            if owes && lane.open.is_some() && !lane.is_closing() {
                actions.push(Step::Acknowledge(index));
            }
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut state = state.clone();
        match step {
            Step::Begin(index) => {
                let op = self.case.lanes[index].script[state.lanes[index].step];
                state.begin(&self.case, index, op);
            }
            Step::Acknowledge(index) => {
                let next = state.lanes[index].acknowledge(self.case.ask)?;
                let seen = state.world.apply(next);
                state.observe(&self.case, seen);
            }
            Step::Move(next) => {
                if let Move::Expire(timer) = next {
                    state.expire(&self.case, timer);
                }
                let seen = state.world.apply(next);
                state.observe(&self.case, seen);
            }
        }
        state.facts.waited |= state.world.has_claim();
        state.check_opens(&self.case);
        state.check_waits();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("S43 only its owner gets it back", |_, s: &State| s.world.keeps(Rule::Owner)),
            Property::always("S44 an open is in one session", |_, s: &State| s.world.keeps(Rule::OneSession)),
            Property::always("S45 opens share as they say", |_, s: &State| s.world.keeps(Rule::ShareModes)),
            Property::always("S25, S45 who caches writes is alone", |_, s: &State| {
                s.world.keeps(Rule::Exclusive)
            }),
            Property::always("S33, S46 what is away gives way, for good", |_, s: &State| {
                s.world.keeps(Rule::Preserved)
            }),
            Property::always("S30, S46 who waits is waited for", |_, s: &State| s.world.keeps(Rule::Waits)),
            Property::always("S47, L8 it is kept as long as it should", |_, s: &State| {
                s.world.keeps(Rule::Kept)
            }),
            Property::always("S24 a CreateGuid makes one open", |_, s: &State| {
                s.world.keeps(Rule::CreateOnce)
            }),
            Property::always("S28 breaks are acknowledged", |_, s: &State| s.world.keeps(Rule::Breaks)),
            Property::always("S32 no break comes before its grant", |_, s: &State| {
                s.world.keeps(Rule::Order)
            }),
            Property::always("S19, L3 each request is answered once", |_, s: &State| {
                s.world.keeps(Rule::OneAnswer)
            }),
            Property::always("R2 storage is asked properly", |_, s: &State| s.world.keeps(Rule::Storage)),
            Property::always("S61 each buffer is released once", |_, s: &State| s.world.keeps(Rule::Buffers)),
            Property::always("S63 nothing is left", |_, s: &State| s.world.keeps(Rule::Residue)),
            Property::always("the machines keep their invariants", |_, s: &State| {
                s.world.keeps(Rule::Machines)
            }),
            Property::always("R6 who is told can read it", |_, s: &State| s.world.keeps(Rule::Keys)),
            Property::sometimes("an open is reclaimed", |_, s: &State| s.facts.reclaimed),
            Property::sometimes("an open is scavenged", |_, s: &State| s.facts.scavenged),
            Property::sometimes("an open is lost to a conflict", |_, s: &State| {
                s.facts.lost && !s.facts.expired
            }),
            Property::sometimes("a client waits for its old session", |_, s: &State| s.facts.waited),
            Property::sometimes("a client gets an open for which it waited", |_, s: &State| {
                s.facts.waited && s.facts.reclaimed
            }),
            Property::sometimes("a replay is answered", |_, s: &State| s.facts.replayed),
            Property::sometimes("a break times out", |_, s: &State| s.facts.timed_out),
            Property::sometimes("the scripts come to their end", |m: &Self, s: &State| s.is_over(&m.case)),
        ]
    }
}

/// What is cached at least by an open that is kept for it.
fn kept_rights(ask: Ask) -> LeaseState {
    match ask {
        Ask::BatchV1 | Ask::BatchV2 | Ask::AloneV2 => LeaseState::READ_HANDLE_WRITE,
        Ask::LeaseRh | Ask::LeaseRwh => LeaseState::READ_HANDLE,
    }
}
