//! Byte-range locks of two clients, and their reads and writes.
//!
//! * Modelled: scripts of LOCK, unlocking, READ, WRITE, CANCEL, CLOSE and a connection's end, run by two clients that have the
//!   same file open; each client's connection, session and open live on their own shard, the file on one of them. Storage
//!   answers in any order, messages between shards take any time, so a permit that is taken back crosses I/O under it.
//! * Left out: CREATE (`two_shards`), caching rights, lock sequences, several ranges in one LOCK, copies.
//! * Bounds: one pair of scripts a case. Small: answers between shards and closes of handles come at once. Deep: they may
//!   be late too, and every script runs against every other one.
//! * Last run: 4 247 different states in the small bound, 1 s; 260 973 in the deep one, 42 s.
//! * Always: S37 over what clients know that they hold, and no READ or WRITE is carried out against it; L7: at rest a LOCK
//!   waits only for what is held; a refused READ or WRITE has a lock to be refused for; S19/R1, R2/S61, R10, S39, S63.
//! * Sometimes: a LOCK waits and is granted, is cancelled, ends with its open; I/O is refused; a LOCK waits for I/O.
//! * MS-SMB2: 3.3.5.14, 3.3.5.16; MS-FSA: 2.1.4.10, 2.1.5.3, 2.1.5.4, 2.1.5.8, 2.1.5.9.

use std::collections::BTreeMap;

use bytes::Bytes;
use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::command::create::{CreateDisposition, CreateOptions, ShareAccess};
use smb_proto::command::lock::{LockElement, LockFlags, LockSequence};
use smb_proto::command::{FileId, lock, read};
use smb_state::config::Limits;
use smb_state::ids::{ConnectionId, MessageId, ShardId};
use smb_state::request::{Chain, Command, Request, Write};
use smb_state::storage::StorageOp;
use stateright::{Model, Property};

use crate::harness::client::{self, Client};
use crate::harness::fault::Fault;
use crate::harness::rule::Rule;
use crate::harness::run::{Bound, Entry, Report};
use crate::harness::volume::Volume;
use crate::harness::{Grain, Move, Seen, World};

/// The model.
pub const ENTRY: Entry = Entry {
    name: "locks",
    about: "byte-range locks of two clients, and their reads and writes",
    faults: &[
        Fault::SkipRestrict,
        Fault::EarlyDrained,
        Fault::LoseDrained,
        Fault::SkipLockAsk,
        Fault::SkipUnlockAsk,
        Fault::SkipCheck,
        Fault::LoseWithdraw,
        Fault::AnswerTwice,
    ],
    explore,
};

/// A request of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    /// LOCK of these bytes, exclusive, that waits.
    Exclude(u64, u64),
    /// The same, that does not wait.
    TryExclude(u64, u64),
    /// LOCK, shared, that waits.
    Share(u64, u64),
    Unlock(u64, u64),
    /// READ of one byte.
    Read(u64),
    /// WRITE of one byte.
    Write(u64),
    /// CANCEL of the LOCK that waits.
    Cancel,
    Close,
    /// The connection goes away.
    Leave,
}

/// A script's next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Next {
    /// It begins when all before it are answered.
    After(Op),
    /// It may begin before.
    With(Op),
}

use Next::{After, With};
use Op::{Cancel, Close, Exclude, Leave, Read, Share, TryExclude, Unlock};

#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    scripts: [&'static [Next]; 2],
}

const CASES: &[Case] = &[
    Case {
        name: "exclusive lock against reads",
        scripts: [
            &[After(Exclude(0, 9)), After(Unlock(0, 9))],
            &[After(Read(5)), With(Read(6)), With(Read(20))],
        ],
    },
    Case {
        name: "shared lock against writes",
        scripts: [
            &[After(Share(0, 9)), After(Op::Write(1)), After(Unlock(0, 9))],
            &[After(Op::Write(5)), With(Op::Write(6)), After(Read(5))],
        ],
    },
    Case {
        name: "two lockers that wait",
        scripts: [
            &[After(Exclude(0, 9)), After(Unlock(0, 9)), After(Read(5))],
            &[After(Exclude(5, 9)), After(Read(5)), After(Unlock(5, 9))],
        ],
    },
    Case {
        name: "shared locks and one that wants more",
        scripts: [
            &[After(Share(0, 9)), After(Unlock(0, 9)), After(TryExclude(0, 9))],
            &[After(Share(0, 9)), After(Op::Write(20)), After(Unlock(0, 9)), After(Exclude(0, 5))],
        ],
    },
    Case {
        name: "a permit taken back twice",
        scripts: [
            &[After(Share(0, 9)), With(Exclude(20, 9)), After(Unlock(20, 9))],
            &[After(Op::Write(5)), With(Read(20)), After(Read(20))],
        ],
    },
    Case {
        name: "locks between bytes",
        scripts: [
            &[After(Exclude(5, 0)), After(Unlock(5, 0)), After(Exclude(0, 0))],
            &[After(TryExclude(0, 9)), After(Unlock(0, 9)), After(TryExclude(5, 9)), With(Read(5))],
        ],
    },
    Case {
        name: "cancel",
        scripts: [
            &[After(Exclude(0, 9)), After(Unlock(0, 9))],
            &[After(Exclude(5, 9)), With(Cancel), After(Exclude(5, 9))],
        ],
    },
    Case {
        name: "close under a lock that waits",
        scripts: [&[After(Exclude(0, 9)), After(Close)], &[After(Exclude(5, 9)), With(Read(5)), With(Close)]],
    },
    Case {
        name: "leave under locks",
        scripts: [&[After(Exclude(0, 9)), With(Leave)], &[After(Exclude(5, 9)), With(Read(5)), With(Leave)]],
    },
];

fn explore(bound: Bound) -> Report {
    let mut report = Report::default();
    for case in CASES {
        // The file is on one shard: which client is far from it makes a difference.
        let [one, other] = case.scripts;
        report.explore(case.name, Locks { scripts: [one, other], bound });
        report.explore(&format!("{}, swapped", case.name), Locks { scripts: [other, one], bound });
    }
    if bound.deep {
        // Every script against every other one.
        let scripts = || CASES.iter().flat_map(|case| case.scripts.map(|script| (case.name, script)));
        for (one_name, one) in scripts() {
            for (other_name, other) in scripts() {
                let name = format!("{one_name} and {other_name}");
                report.explore(&name, Locks { scripts: [one, other], bound });
            }
        }
    }
    report
}

#[derive(Clone, Copy, Debug)]
struct Locks {
    scripts: [&'static [Next]; 2],
    bound: Bound,
}

/// A lock as a client knows it: first byte, bytes, exclusive.
type Held = (u64, u64, bool);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Player {
    client: Client,
    open: FileId,
    begun: usize,
    /// Requests that are not answered.
    waiting: BTreeMap<MessageId, Op>,
    /// Locks that were granted, and that it has done nothing to lose.
    held: Vec<Held>,
    /// Locks that it has ever asked for.
    asked: Vec<Held>,
    /// It has begun to close.
    closing: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    world: World,
    players: [Player; 2],
    happened: Happened,
}

/// What has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Happened {
    waited: bool,
    granted_late: bool,
    cancelled: bool,
    ended: bool,
    io_refused: bool,
    refused: bool,
    drained: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Begin(usize),
    Move(Move),
}

/// Whether a lock overlaps a range (MS-FSA 2.1.4.10).
fn overlaps(one: (u64, u64), other: (u64, u64)) -> bool {
    let end = |range: (u64, u64)| i128::from(range.0) + i128::from(range.1) - 1;
    one != (0, 0) && other != (0, 0) && i128::from(one.0) <= end(other) && end(one) >= i128::from(other.0)
}

fn conflict(one: Held, other: Held) -> bool {
    (one.2 || other.2) && overlaps((one.0, one.1), (other.0, other.1))
}

/// Whether a lock forbids I/O on one byte.
fn forbids(lock: Held, own: bool, at: u64, write: bool) -> bool {
    (if lock.2 { !own } else { write }) && overlaps((lock.0, lock.1), (at, 1))
}

fn locked(op: Op) -> Option<Held> {
    match op {
        Exclude(offset, length) | TryExclude(offset, length) => Some((offset, length, true)),
        Share(offset, length) => Some((offset, length, false)),
        Unlock(..) | Read(_) | Op::Write(_) | Cancel | Close | Leave => None,
    }
}

impl Player {
    fn lock(&self, offset: u64, length: u64, flags: LockFlags) -> Command {
        Command::Lock(lock::Request {
            lock_sequence: LockSequence(0),
            file_id: self.open,
            locks: vec![LockElement { offset, length, flags }],
        })
    }

    fn command(&self, op: Op) -> Command {
        match op {
            Exclude(offset, length) => self.lock(offset, length, LockFlags::EXCLUSIVE_LOCK),
            TryExclude(offset, length) => {
                self.lock(offset, length, LockFlags::EXCLUSIVE_LOCK.with(LockFlags::FAIL_IMMEDIATELY))
            }
            Share(offset, length) => self.lock(offset, length, LockFlags::SHARED_LOCK),
            Unlock(offset, length) => self.lock(offset, length, LockFlags::UNLOCK),
            Read(offset) => Command::Read(read::Request {
                padding: 0,
                flags: read::Flags(0),
                length: 1,
                offset,
                file_id: self.open,
                minimum_count: 0,
                channel: read::Channel::NONE,
                remaining_bytes: 0,
                channel_info: Bytes::new(),
            }),
            Op::Write(offset) => Command::Write(Write {
                file_id: self.open,
                offset,
                buffer: self.client.buffer(self.client.next),
                length: 1,
                write_through: false,
                unbuffered: false,
                by_rdma: false,
            }),
            Close => client::close(self.open),
            Cancel | Leave => Command::Cancel,
        }
    }

    /// The LOCK that waits, if one does.
    fn waiting_lock(&self) -> Option<MessageId> {
        self.waiting.iter().find(|(_, op)| locked(**op).is_some()).map(|(message, _)| *message)
    }

    /// What the client does to a lock that it holds, from the moment that it asks.
    fn loses(&mut self, op: Op) {
        match op {
            Unlock(offset, length) => {
                if let Some(index) = self.held.iter().position(|held| (held.0, held.1) == (offset, length)) {
                    self.held.remove(index);
                }
            }
            Close | Leave => {
                self.held.clear();
                self.closing = true;
            }
            Exclude(..) | TryExclude(..) | Share(..) | Read(_) | Op::Write(_) | Cancel => {}
        }
    }
}

impl State {
    fn begin(&mut self, index: usize, op: Op) {
        let player = &mut self.players[index];
        player.begun += 1;
        player.loses(op);
        player.asked.extend(locked(op));
        let connection = player.client.connection;
        let next = match op {
            Leave => {
                player.waiting.clear();
                Move::Disconnect(connection)
            }
            Cancel => {
                let Some(message) = player.waiting_lock() else { return };
                let next = player.client.next;
                let first = Request { message, ..player.client.request(Command::Cancel) };
                // A CANCEL has no id of its own.
                player.client.next = next;
                Move::Send(connection, Box::new(Chain { first, rest: Vec::new() }))
            }
            Exclude(..) | TryExclude(..) | Share(..) | Unlock(..) | Read(_) | Op::Write(_) | Close => {
                let command = player.command(op);
                player.waiting.insert(MessageId(player.client.next), op);
                player.client.send(command)
            }
        };
        let seen = self.world.apply(next);
        self.observe(seen);
    }

    /// Storage is about to carry out I/O: no lock that its owner holds may forbid it.
    fn check_io(&mut self, next: &Move) {
        let Some((maker, op)) = self.world.asked_by(next) else { return };
        let (at, write) = match op {
            StorageOp::Read { offset, .. } => (*offset, false),
            StorageOp::Write { offset: Some(offset), .. } => (*offset, true),
            _ => return,
        };
        let what = self.players.iter().find_map(|player| {
            let own = player.client.connection == maker;
            player.held.iter().find(|held| forbids(**held, own, at, write)).map(|held| format!("{held:?}"))
        });
        if let Some(held) = what {
            self.world.breaks(Rule::LockedIo, format!("I/O at {at} is carried out against {held}"));
        }
    }

    fn observe(&mut self, seen: Vec<Seen>) {
        for seen in seen {
            let Seen::Response(connection, response) = seen else { continue };
            let Some(index) = self.players.iter().position(|player| player.client.connection == connection)
            else {
                continue;
            };
            if response.status == NtStatus::PENDING {
                self.happened.waited = true;
                continue;
            }
            if let Some(op) = self.players[index].waiting.remove(&response.message) {
                self.answered(index, op, response.status, response.async_id.is_some());
            }
        }
    }

    fn answered(&mut self, index: usize, op: Op, status: NtStatus, late: bool) {
        let granted = status == NtStatus::SUCCESS;
        if let Some(lock) = locked(op) {
            self.happened.granted_late |= granted && late;
            self.happened.cancelled |= status == NtStatus::CANCELLED;
            self.happened.ended |= status == NtStatus::RANGE_NOT_LOCKED;
            self.happened.refused |= status == NtStatus::LOCK_NOT_GRANTED;
            if granted {
                let held = &self.players[1 - index].held;
                if let Some(other) = held.iter().find(|other| conflict(lock, **other)) {
                    let what = format!("{lock:?} is granted beside {other:?}");
                    self.world.breaks(Rule::Locks, what);
                }
                if !self.players[index].closing {
                    self.players[index].held.push(lock);
                }
            }
            return;
        }
        if status == NtStatus::FILE_LOCK_CONFLICT {
            self.happened.io_refused = true;
            let (at, write) = match op {
                Read(at) => (at, false),
                Op::Write(at) => (at, true),
                Exclude(..) | TryExclude(..) | Share(..) | Unlock(..) | Cancel | Close | Leave => return,
            };
            let justified = self.players.iter().enumerate().any(|(other, player)| {
                player.asked.iter().any(|lock| forbids(*lock, other == index, at, write))
            });
            if !justified {
                self.world.breaks(Rule::LockedIo, format!("I/O at {at} is refused for nothing"));
            }
        }
    }

    /// At rest, whatever waits is a LOCK that something held is in the way of, and nobody has given it up (L7).
    fn check_waiting(&mut self) {
        let resting = self.world.is_quiet();
        for (index, player) in self.players.iter().enumerate() {
            for (message, op) in &player.waiting {
                let Some(lock) = locked(*op) else { continue };
                if !resting {
                    self.happened.drained |= !self.world.has_interim(player.client.connection, *message);
                    continue;
                }
                let blocked = self.players.iter().enumerate().any(|(other, player)| {
                    player
                        .held
                        .iter()
                        .any(|held| conflict(lock, *held) && (other != index || held.2 && lock.2))
                });
                if player.closing || !blocked {
                    let what = format!("{lock:?} of client {index} waits for nothing");
                    return self.world.breaks(Rule::Blocked, what);
                }
            }
        }
    }
}

impl Model for Locks {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let grain =
            if self.bound.deep { Grain { split_changes: false, ..Grain::FINE } } else { Grain::COARSE };
        let config = client::config(2, Limits::default(), false);
        let mut world = World::new(config, Volume::with(&["a"]), grain);
        let players = [0, 1].map(|index: u16| {
            let connection = ConnectionId::new(ShardId(index), u64::from(index) + 1);
            let mut client = Client::establish(connection, 1, 8, &mut world);
            let access = AccessMask::READ_DATA.with(AccessMask::WRITE_DATA);
            let how = CreateDisposition::OPEN;
            let create = client::create("a", how, access, ShareAccess::ALL, CreateOptions::EMPTY);
            let mut seen = world.apply(client.send(create));
            seen.extend(world.run());
            let open = seen.into_iter().find_map(|seen| match seen {
                Seen::Response(_, response) => client::opened(&response.body),
                Seen::Notification(..) | Seen::Audit(_) => None,
            });
            Player {
                client,
                open: open.expect("an open"),
                begun: 0,
                waiting: BTreeMap::new(),
                held: Vec::new(),
                asked: Vec::new(),
                closing: false,
            }
        });
        world.seed(self.bound.fault);
        vec![State { world, players, happened: Happened::default() }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        if state.world.broken.is_some() {
            return;
        }
        let mut moves = Vec::new();
        state.world.moves(false, &mut moves);
        actions.extend(moves.into_iter().map(Step::Move));
        for (index, player) in state.players.iter().enumerate() {
            let may = match self.scripts[index].get(player.begun) {
                Some(After(_)) => player.waiting.is_empty(),
                Some(With(_)) => true,
                None => false,
            };
            if may {
                actions.push(Step::Begin(index));
            }
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut state = state.clone();
        match step {
            Step::Begin(index) => {
                let (After(op) | With(op)) = *self.scripts[index].get(state.players[index].begun)?;
                state.begin(index, op);
            }
            Step::Move(next) => {
                state.check_io(&next);
                let seen = state.world.apply(next);
                state.observe(seen);
            }
        }
        state.check_waiting();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("S37 no two clients hold locks that conflict", |_, s: &State| {
                s.world.keeps(Rule::Locks)
            }),
            Property::always("S37 I/O honours locks", |_, s: &State| s.world.keeps(Rule::LockedIo)),
            Property::always("L7 a lock waits only for another", |_, s: &State| s.world.keeps(Rule::Blocked)),
            Property::always("S19 each request is answered once", |_, s: &State| {
                s.world.keeps(Rule::OneAnswer)
            }),
            Property::always("R2 storage is asked properly", |_, s: &State| s.world.keeps(Rule::Storage)),
            Property::always("S63 nothing is left", |_, s: &State| s.world.keeps(Rule::Residue)),
            Property::always("S61 each buffer is released once", |_, s: &State| s.world.keeps(Rule::Buffers)),
            Property::always("the machines keep their invariants", |_, s: &State| {
                s.world.keeps(Rule::Machines)
            }),
            Property::sometimes("a lock waits", |_, s: &State| s.happened.waited),
            Property::sometimes("a lock that waited is granted", |_, s: &State| s.happened.granted_late),
            Property::sometimes("a lock is cancelled", |_, s: &State| s.happened.cancelled),
            Property::sometimes("a lock ends with its open", |_, s: &State| s.happened.ended),
            Property::sometimes("a lock is refused", |_, s: &State| s.happened.refused),
            Property::sometimes("I/O is refused", |_, s: &State| s.happened.io_refused),
            Property::sometimes("a lock waits for I/O alone", |_, s: &State| s.happened.drained),
        ]
    }
}
