//! Names, opens, deletes and renames of two clients on two shards.
//!
//! * Modelled: scripts of CREATE, CLOSE, delete disposition, rename (also over a file, also of a directory), hard link and
//!   a connection's end, run by two clients at once; each client's connection, session and opens live on their own shard,
//!   files and names on either. Storage answers in any order, messages between shards take any time.
//! * Left out: data, streams, attributes, leases and locks (not implemented yet), a second volume.
//! * Last run: 10 646 different states in the small bound, 1 s.
//! * Bounds: one pair of scripts a case. Small: answers between shards and closes of handles come at once. Deep: they may
//!   be late too, and a change of names may be seen before whoever made it hears of it.
//! * Always: every history that the clients see is one of a server with one shard that runs one request at a time, in an
//!   order that agrees with real time; a request that overlaps another client's may instead be refused without effect
//!   (SHARING_VIOLATION, ACCESS_DENIED, DELETE_PENDING), as a conflict with what was about to happen. The files that are
//!   left agree with the same order. S36 over what clients hold; S19/R1, R2/S61, R10, S63.
//!   That covers S40 and S41: two creators of one name, opens through a name whose delete is pending.
//! * Sometimes: both clients' requests overlap, a request is refused, a message is under way.
//! * MS-SMB2: 3.3.5.9, 3.3.5.10, 3.3.5.21.1; MS-FSA: 2.1.5.1, 2.1.5.5, 2.1.5.15.3, 2.1.5.15.11, 2.1.5.15.6.

use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::command::FileId;
use smb_proto::command::create::{CreateAction, CreateDisposition, CreateOptions, ShareAccess};
use smb_proto::create_context::ResponseContext;
use smb_state::config::Limits;
use smb_state::ids::{ConnectionId, FileNumber, ShardId};
use smb_state::request::Command;
use smb_state::response::{Body, Response};
use stateright::{Model, Property};

use crate::harness::client::{self, Client};
use crate::harness::fault::Fault;
use crate::harness::rule::Rule;
use crate::harness::run::{Bound, Entry, Report};
use crate::harness::volume::Volume;
use crate::harness::{Grain, Move, Seen, World};

/// The model.
pub const ENTRY: Entry = Entry {
    name: "two_shards",
    about: "names, opens, deletes and renames of two clients on two shards",
    faults: &[
        Fault::SkipFreeze,
        Fault::SkipThaw,
        Fault::SkipFileAsk,
        Fault::SkipReplaceAsk,
        Fault::LoseFree,
        Fault::AnswerTwice,
    ],
    explore,
};

/// A request of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    /// CREATE for reading and deleting, sharing everything.
    Open(&'static str, CreateDisposition),
    /// The same, sharing nothing.
    OpenAlone(&'static str, CreateDisposition),
    /// The same as `Open`, deleted on close.
    OpenToDelete(&'static str, CreateDisposition),
    Rename(&'static str),
    Link(&'static str),
    Dispose,
    Close,
    /// The connection goes away.
    Leave,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    paths: &'static [&'static str],
    scripts: [&'static [Op]; 2],
}

const OPEN: CreateDisposition = CreateDisposition::OPEN;
const OPEN_IF: CreateDisposition = CreateDisposition::OPEN_IF;
const CREATE: CreateDisposition = CreateDisposition::CREATE;
const OVERWRITE_IF: CreateDisposition = CreateDisposition::OVERWRITE_IF;

const CASES: &[Case] = &[
    Case {
        name: "two creators",
        paths: &[],
        scripts: [&[Op::Open("a", OPEN_IF), Op::Close], &[Op::Open("a", OPEN_IF), Op::Close]],
    },
    Case {
        name: "two creators, one alone",
        paths: &[],
        scripts: [&[Op::OpenAlone("a", CREATE), Op::Close], &[Op::Open("a", OPEN_IF), Op::Close]],
    },
    Case {
        name: "share modes",
        paths: &["a", "b"],
        scripts: [&[Op::OpenAlone("a", OPEN), Op::Close], &[Op::Open("a", OPEN), Op::Close]],
    },
    Case {
        name: "delete on close against open",
        paths: &["a"],
        scripts: [&[Op::OpenToDelete("a", OPEN), Op::Close], &[Op::Open("a", OPEN_IF), Op::Close]],
    },
    Case {
        name: "delete against overwrite",
        paths: &["a"],
        scripts: [&[Op::OpenToDelete("a", OPEN), Op::Close], &[Op::Open("a", OVERWRITE_IF), Op::Close]],
    },
    Case {
        name: "delete and create again against open",
        paths: &["a"],
        scripts: [
            &[Op::OpenToDelete("a", OPEN), Op::Close, Op::Open("a", OPEN_IF), Op::Close],
            &[Op::Open("a", OPEN_IF), Op::Close],
        ],
    },
    Case {
        name: "delete and create again against overwrite",
        paths: &["a"],
        scripts: [
            &[Op::OpenToDelete("a", OPEN), Op::Close, Op::Open("a", OPEN_IF), Op::Close],
            &[Op::Open("a", OVERWRITE_IF), Op::Close],
        ],
    },
    Case {
        name: "two deleters",
        paths: &["a"],
        scripts: [
            &[Op::Open("a", OPEN), Op::Dispose, Op::Close],
            &[Op::OpenToDelete("a", OPEN_IF), Op::Leave],
        ],
    },
    Case {
        name: "rename over a file against open",
        paths: &["a", "b"],
        scripts: [&[Op::Open("a", OPEN), Op::Rename("b"), Op::Close], &[Op::Open("b", OPEN_IF), Op::Close]],
    },
    Case {
        name: "rename over a file of the other shard",
        paths: &["a", "b", "c"],
        scripts: [&[Op::Open("a", OPEN), Op::Rename("c"), Op::Close], &[Op::Open("c", OPEN), Op::Close]],
    },
    Case {
        name: "rename against create",
        paths: &["a"],
        scripts: [&[Op::Open("a", OPEN), Op::Rename("b"), Op::Close], &[Op::Open("b", CREATE), Op::Close]],
    },
    Case {
        name: "delete a directory against create in it",
        paths: &["d\\"],
        scripts: [&[Op::Open("d", OPEN), Op::Dispose, Op::Close], &[Op::Open("d\\x", CREATE), Op::Close]],
    },
    Case {
        name: "a directory's delete on close against create in it",
        paths: &["d\\"],
        scripts: [&[Op::OpenToDelete("d", OPEN), Op::Close], &[Op::Open("d\\x", CREATE), Op::Close]],
    },
    Case {
        name: "a directory's delete on close against another open and create in it",
        paths: &["d\\"],
        scripts: [
            &[Op::OpenToDelete("d", OPEN), Op::Close],
            &[Op::Open("d", OPEN), Op::Close, Op::Open("d\\x", CREATE), Op::Close],
        ],
    },
    Case {
        name: "rename a directory against create in it",
        paths: &["d\\"],
        scripts: [&[Op::Open("d", OPEN), Op::Rename("e"), Op::Close], &[Op::Open("d\\x", CREATE), Op::Close]],
    },
    Case {
        name: "hard link against delete",
        paths: &["a"],
        scripts: [
            &[Op::Open("a", OPEN), Op::Link("b"), Op::Close],
            &[Op::OpenToDelete("a", OPEN), Op::Close],
        ],
    },
];

fn explore(bound: Bound) -> Report {
    let mut report = Report::default();
    for case in CASES {
        report.explore(case.name, TwoShards { case: *case, bound });
    }
    report
}

#[derive(Clone, Copy, Debug)]
struct TwoShards {
    case: Case,
    bound: Bound,
}

/// What a client sees of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Outcome {
    /// How it ended: status, whether a CREATE made the file, and who made the file that it leads to.
    Answered(NtStatus, Option<(CreateAction, u64)>),
    /// Nothing: the connection is gone.
    Silence,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Player {
    client: Client,
    open: Option<FileId>,
    /// Who made the file that it has open.
    file: u64,
    /// Requests begun.
    begun: usize,
    /// How they ended.
    ended: Vec<Outcome>,
    /// How many of the other client's had ended, and had begun, when each of this one's began and ended.
    before: Vec<usize>,
    overlapped: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    world: World,
    players: [Player; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Begin(usize),
    Move(Move),
}

fn command(op: Op, open: Option<FileId>) -> Option<Command> {
    let access = AccessMask::READ_DATA.with(AccessMask::DELETE);
    let all = ShareAccess::ALL;
    let none = ShareAccess::EMPTY;
    Some(match op {
        Op::Open(name, how) => client::create(name, how, access, all, CreateOptions::EMPTY),
        Op::OpenAlone(name, how) => client::create(name, how, access, none, CreateOptions::EMPTY),
        Op::OpenToDelete(name, how) => client::create(name, how, access, all, CreateOptions::DELETE_ON_CLOSE),
        Op::Rename(name) => client::rename(open?, name, true, false),
        Op::Link(name) => client::rename(open?, name, true, true),
        Op::Dispose => client::dispose(open?, true),
        Op::Close => client::close(open?),
        Op::Leave => return None,
    })
}

/// A world of this many shards with both clients in it.
fn start(case: &Case, shards: u16, grain: Grain) -> State {
    let config = client::config(shards, Limits::default(), false);
    let mut world = World::new(config, Volume::with(case.paths), grain);
    let players = [0, 1].map(|index: u16| {
        let connection = ConnectionId::new(ShardId(index % shards), u64::from(index) + 1);
        let client = Client::establish(connection, 1, 4, &mut world);
        Player {
            client,
            open: None,
            file: 0,
            begun: 0,
            ended: Vec::new(),
            before: Vec::new(),
            overlapped: Vec::new(),
        }
    });
    State { world, players }
}

impl State {
    fn begin(&mut self, index: usize, op: Op) {
        let others = self.players[1 - index].ended.len();
        let player = &mut self.players[index];
        player.before.push(others);
        player.begun += 1;
        let connection = player.client.connection;
        let next = match command(op, player.open) {
            Some(command) => player.client.send(command),
            None if op == Op::Leave => Move::Disconnect(connection),
            // The CREATE failed: there is nothing to do it with.
            None => return self.end(index, Outcome::Silence),
        };
        if op == Op::Leave {
            self.end(index, Outcome::Silence);
        }
        let seen = self.world.apply(next);
        self.observe(seen);
    }

    fn observe(&mut self, seen: Vec<Seen>) {
        for seen in seen {
            let Seen::Response(connection, response) = seen else { continue };
            let player = self.players.iter().position(|player| player.client.connection == connection);
            if let Some(index) = player {
                self.answered(index, &response);
            }
        }
    }

    fn answered(&mut self, index: usize, response: &Response) {
        if self.players[index].ended.len() >= self.players[index].begun {
            return;
        }
        let made = match &response.body {
            Body::Create(create) => {
                let number = create.contexts.iter().find_map(|context| match context {
                    ResponseContext::OnDiskId(id) => Some(FileNumber(id.disk_file_id)),
                    _ => None,
                });
                let made_by = number.and_then(|number| self.world.volume.made_by(number)).unwrap_or(u64::MAX);
                self.players[index].open = Some(create.file_id);
                self.players[index].file = made_by;
                Some((create.create_action, made_by))
            }
            Body::Close(_) => {
                self.players[index].open = None;
                None
            }
            _ => None,
        };
        self.end(index, Outcome::Answered(response.status, made));
    }

    fn end(&mut self, index: usize, outcome: Outcome) {
        let others = self.players[1 - index].begun;
        let player = &mut self.players[index];
        player.overlapped.push(others);
        player.ended.push(outcome);
    }

    /// Two clients that have the same file open, and are not about to close it, share it (S36).
    fn check_share_modes(&mut self, case: &Case) {
        let [one, other] = &self.players;
        if one.open.is_none() || other.open.is_none() || one.file != other.file {
            return;
        }
        let at_rest = |index: usize| {
            let player = &self.players[index];
            let closing =
                player.begun > 0 && matches!(case.scripts[index][player.begun - 1], Op::Close | Op::Leave);
            !closing
        };
        let alone = (0..2).any(|index| matches!(case.scripts[index][0], Op::OpenAlone(..)));
        if at_rest(0) && at_rest(1) && alone {
            self.world.breaks(Rule::ShareModes, "both clients have a file open that one has alone");
        }
    }

    /// The scripts are done and nothing is under way.
    fn is_over(&self, case: &Case) -> bool {
        let done = (0..2).all(|index| self.players[index].ended.len() == case.scripts[index].len());
        done && self.world.is_quiet()
    }
}

/// Whether some order of the requests, one at a time on one shard, shows both clients what they saw.
fn is_linearizable(case: &Case, seen: &State) -> bool {
    try_orders(case, seen, &start(case, 1, Grain::COARSE), [0, 0])
}

fn try_orders(case: &Case, seen: &State, so_far: &State, done: [usize; 2]) -> bool {
    if (0..2).all(|index| done[index] == case.scripts[index].len()) {
        return so_far.world.volume.tree() == seen.world.volume.tree();
    }
    (0..2).any(|index| {
        let next = done[index];
        let Some(op) = case.scripts[index].get(next) else { return false };
        let player = &seen.players[index];
        // Whatever ended before this began comes before it.
        if player.before[next] > done[1 - index] {
            let waits = (done[1 - index]..player.before[next])
                .any(|other| case.scripts[1 - index][other] != Op::Leave);
            if waits {
                return false;
            }
        }
        let mut then = done;
        then[index] += 1;
        let mut one = so_far.clone();
        one.begin(index, *op);
        let rest = one.world.run();
        one.observe(rest);
        let same = one.players[index].ended.last() == player.ended.get(next);
        if same && try_orders(case, seen, &one, then) {
            return true;
        }
        let refused = matches!(
            player.ended[next],
            Outcome::Answered(
                NtStatus::SHARING_VIOLATION | NtStatus::ACCESS_DENIED | NtStatus::DELETE_PENDING,
                None
            )
        );
        // A connection's end takes effect at any time after it.
        let begun = player.overlapped[next];
        let overlaps = begun > player.before[next] || case.scripts[1 - index][..begun].contains(&Op::Leave);
        if !refused || !overlaps {
            return false;
        }
        let mut skipped = so_far.clone();
        skipped.players[index].begun += 1;
        // It used its message id, though it had no effect.
        skipped.players[index].client.next += 1;
        skipped.players[index].ended.push(player.ended[next].clone());
        try_orders(case, seen, &skipped, then)
    })
}

impl Model for TwoShards {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let grain = if self.bound.deep { Grain::FINE } else { Grain::COARSE };
        let mut state = start(&self.case, 2, grain);
        state.world.seed(self.bound.fault);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        if state.world.broken.is_some() {
            return;
        }
        let mut moves = Vec::new();
        state.world.moves(false, &mut moves);
        actions.extend(moves.into_iter().map(Step::Move));
        for (index, player) in state.players.iter().enumerate() {
            if player.begun == player.ended.len() && player.begun < self.case.scripts[index].len() {
                actions.push(Step::Begin(index));
            }
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut state = state.clone();
        match step {
            Step::Begin(index) => {
                let op = self.case.scripts[index][state.players[index].begun];
                state.begin(index, op);
            }
            Step::Move(next) => {
                let seen = state.world.apply(next);
                state.observe(seen);
            }
        }
        state.check_share_modes(&self.case);
        if state.is_over(&self.case) && state.world.broken.is_none() && !is_linearizable(&self.case, &state) {
            let what = format!(
                "{:?} and {:?}, leaving {:?}",
                state.players[0].ended,
                state.players[1].ended,
                state.world.volume.tree()
            );
            state.world.breaks(Rule::Linearizable, what);
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("histories are those of one shard", |_, s: &State| {
                s.world.keeps(Rule::Linearizable)
            }),
            Property::always("S19 each request is answered once", |_, s: &State| {
                s.world.keeps(Rule::OneAnswer)
            }),
            Property::always("S36 opens share as they say", |_, s: &State| s.world.keeps(Rule::ShareModes)),
            Property::always("R2 storage is asked properly", |_, s: &State| s.world.keeps(Rule::Storage)),
            Property::always("S63 nothing is left", |_, s: &State| s.world.keeps(Rule::Residue)),
            Property::always("S61 each buffer is released once", |_, s: &State| s.world.keeps(Rule::Buffers)),
            Property::always("the machines keep their invariants", |_, s: &State| {
                s.world.keeps(Rule::Machines)
            }),
            Property::sometimes("requests of both clients overlap", |_, s: &State| {
                s.players.iter().all(|player| player.begun > player.ended.len())
            }),
            Property::sometimes("a script comes to its end", |m: &Self, s: &State| s.is_over(&m.case)),
            Property::sometimes("a request is refused", |_, s: &State| {
                let refused =
                    |end: &Outcome| matches!(end, Outcome::Answered(status, _) if status.is_error());
                s.players.iter().any(|player| player.ended.iter().any(refused))
            }),
        ]
    }
}
