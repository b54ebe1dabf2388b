//! A client that watches a directory, and another that changes it, on two shards.
//!
//! * Modelled: CHANGE_NOTIFY up to three times, CANCEL and CLOSE of the watcher at any moment; a file that comes into the
//!   directory and goes, or the directory's delete, by a client whose session lives on the other shard. Messages between
//!   shards take any time.
//! * Left out: local changes, renames, watched trees that move, several watchers, sessions that end (`session` has those).
//! * Bounds: one script of changes a case. Small: answers between shards come at once. Deep: they may be late.
//! * Last run: 9 567 different states in the small bound, 1 s.
//! * Always: S42: answers in order, nothing is lost without ENUM_DIR, that at most once for each time that it overflows, a
//!   close and a deleted directory answer what waits; S19/R1, R10, S63.
//! * Sometimes: a change answers a request that waits, a change is kept for the next, one is forgotten, a request is
//!   cancelled, a close cleans up, a deleted directory is told.
//! * MS-SMB2: 3.3.5.19, 3.3.5.16, 3.3.5.10; MS-FSA: 2.1.4.1, 2.1.5.11, 2.1.5.5, 2.1.5.15.3.

use bytes::Bytes;
use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::command::FileId;
use smb_proto::command::change_notify::{self, ChangeNotifyFlags, CompletionFilter};
use smb_proto::command::create::{CreateDisposition, CreateOptions, ShareAccess};
use smb_proto::fscc::notify::{self, Action};
use smb_state::config::Limits;
use smb_state::ids::{ConnectionId, MessageId, ShardId};
use smb_state::request::{Chain, Command, Request};
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
    name: "notify",
    about: "a client that watches a directory that another one changes",
    faults: &[Fault::LoseNews, Fault::SkipWatch, Fault::AnswerTwice],
    explore,
};

const WATCHER: ConnectionId = ConnectionId::new(ShardId(0), 1);
const CHANGER: ConnectionId = ConnectionId::new(ShardId(1), 2);
const REQUESTS_MAX: u8 = 3;

fn explore(bound: Bound) -> Report {
    let mut report = Report::default();
    for (name, length, deletes) in
        [("a file comes and goes", 1000, false), ("no room", 8, false), ("the directory goes", 1000, true)]
    {
        report.explore(name, Notify { length, deletes, bound });
    }
    report
}

#[derive(Clone, Copy, Debug)]
struct Notify {
    length: u32,
    /// The directory is deleted; else a file is made in it, and deleted.
    deletes: bool,
    bound: Bound,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    world: World,
    watcher: Client,
    directory: FileId,
    requests: u8,
    /// Requests without a final response, the oldest first.
    waiting: Vec<MessageId>,
    cancelled: Option<MessageId>,
    /// The close was sent; then it was answered.
    closing: bool,
    closed: bool,
    /// The watch is in force: an interim response said so.
    watches: bool,
    /// How requests ended.
    endings: Vec<NtStatus>,
    told: Vec<Action>,
    kept: bool,
    changer: Client,
    open: Option<FileId>,
    /// Steps of the script that were sent, and that were answered.
    sent: u8,
    done: u8,
    /// Steps that were sent when the watch was in force already.
    due: Vec<Action>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Watch,
    Cancel,
    Close,
    Change,
    Move(Move),
}

impl State {
    fn watch(&mut self, length: u32) {
        self.requests += 1;
        let request = self.watcher.request(Command::ChangeNotify(change_notify::Request {
            flags: ChangeNotifyFlags::EMPTY,
            output_buffer_length: length,
            file_id: self.directory,
            completion_filter: CompletionFilter::FILE_NAME,
        }));
        self.waiting.push(request.message);
        self.send(WATCHER, request);
    }

    fn send(&mut self, connection: ConnectionId, request: Request) {
        let chain = Chain { first: request, rest: Vec::new() };
        let seen = self.world.apply(Move::Send(connection, Box::new(chain)));
        self.observe(seen);
    }

    fn cancel(&mut self) {
        let Some(message) = self.waiting.last().copied() else { return };
        self.cancelled = Some(message);
        let request = Request { message, ..self.watcher.request(Command::Cancel) };
        self.watcher.next -= 1;
        self.send(WATCHER, request);
    }

    fn change(&mut self, deletes: bool) {
        let access = AccessMask::READ_DATA.with(AccessMask::DELETE);
        let (command, action) = match (self.sent, self.open) {
            (0, _) if deletes => {
                let how = CreateDisposition::OPEN;
                (client::create("d", how, access, ShareAccess::ALL, CreateOptions::EMPTY), None)
            }
            (0, _) => {
                let (how, options) = (CreateDisposition::CREATE, CreateOptions::DELETE_ON_CLOSE);
                (client::create("d\\x", how, access, ShareAccess::ALL, options), Some(Action::ADDED))
            }
            (1, Some(open)) if deletes => (client::dispose(open, true), None),
            (_, Some(open)) => (client::close(open), (!deletes).then_some(Action::REMOVED)),
            (_, None) => return,
        };
        self.sent += 1;
        if self.watches {
            self.due.extend(action);
        }
        let request = self.changer.request(command);
        self.send(CHANGER, request);
    }

    fn observe(&mut self, seen: Vec<Seen>) {
        for seen in seen {
            match seen {
                Seen::Response(CHANGER, response) => {
                    self.done += 1;
                    self.open = client::opened(&response.body).or(self.open);
                }
                Seen::Response(_, response) => self.hear(&response),
                Seen::Notification(..) | Seen::Audit(_) => {}
            }
        }
        self.check_rest();
    }

    fn hear(&mut self, response: &Response) {
        if let Body::Close(_) = response.body {
            self.closed = true;
            return;
        }
        if response.status == NtStatus::PENDING {
            self.watches = true;
            return;
        }
        let Some(place) = self.waiting.iter().position(|message| *message == response.message) else {
            return;
        };
        self.waiting.remove(place);
        self.endings.push(response.status);
        let told = match &response.body {
            Body::Notify(bytes) => notify::parse(&Bytes::from(bytes.clone())).unwrap_or_default(),
            _ => Vec::new(),
        };
        let news = response.status == NtStatus::NOTIFY_ENUM_DIR || !told.is_empty();
        if news && place > 0 {
            self.world.breaks(Rule::Notify, "a later request is answered before an earlier one");
        }
        if response.status == NtStatus::CANCELLED && self.cancelled != Some(response.message) {
            self.world.breaks(Rule::Notify, "a request is cancelled that nobody cancelled");
        }
        self.kept |= news && response.async_id.is_none();
        self.told.extend(told.into_iter().map(|change| change.action));
        let repeats = self.told.iter().filter(|action| **action == Action::ADDED).count() > 1;
        if repeats || self.told.last() == Some(&Action::ADDED) && self.told.len() > 1 {
            self.world.breaks(Rule::Notify, format!("told {:?}", self.told));
        }
    }

    /// What must hold when nothing is under way.
    fn check_rest(&mut self) {
        if !self.world.is_quiet() || self.world.broken.is_some() {
            return;
        }
        let forgotten = self.endings.contains(&NtStatus::NOTIFY_ENUM_DIR);
        let missing = self.due.iter().any(|action| !self.told.contains(action));
        if !self.waiting.is_empty() && missing && !forgotten {
            let what = format!("a request waits, though {:?} of {:?} was told", self.told, self.due);
            self.world.breaks(Rule::Notify, what);
        }
        if self.closed && !self.waiting.is_empty() {
            self.world.breaks(Rule::Notify, "a request waits for the changes of a directory that is closed");
        }
    }
}

impl Model for Notify {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let config = client::config(2, Limits::default(), false);
        let grain = Grain { late_answers: self.bound.deep, ..Grain::COARSE };
        let mut world = World::new(config, Volume::with(&["d\\"]), grain);
        let mut watcher = Client::establish(WATCHER, 1, 4, &mut world);
        let changer = Client::establish(CHANGER, 1, 4, &mut world);
        let access = AccessMask::LIST_DIRECTORY;
        let how = CreateDisposition::OPEN;
        let create = client::create("d", how, access, ShareAccess::ALL, CreateOptions::EMPTY);
        let mut seen = world.apply(watcher.send(create));
        seen.extend(world.run());
        let directory = seen.into_iter().find_map(|seen| match seen {
            Seen::Response(_, response) => client::opened(&response.body),
            Seen::Notification(..) | Seen::Audit(_) => None,
        });
        world.seed(self.bound.fault);
        vec![State {
            world,
            watcher,
            directory: directory.unwrap_or_default(),
            requests: 0,
            waiting: Vec::new(),
            cancelled: None,
            closing: false,
            closed: false,
            watches: false,
            endings: Vec::new(),
            told: Vec::new(),
            kept: false,
            changer,
            open: None,
            sent: 0,
            done: 0,
            due: Vec::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        if state.world.broken.is_some() {
            return;
        }
        let mut moves = Vec::new();
        state.world.moves(false, &mut moves);
        actions.extend(moves.into_iter().map(Step::Move));
        if state.requests < REQUESTS_MAX && !state.closing {
            actions.push(Step::Watch);
        }
        if state.cancelled.is_none() && !state.waiting.is_empty() {
            actions.push(Step::Cancel);
        }
        if !state.closing {
            actions.push(Step::Close);
        }
        let script = if self.deletes { 3 } else { 2 };
        if state.sent == state.done && state.sent < script {
            actions.push(Step::Change);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut state = state.clone();
        match step {
            Step::Watch => state.watch(self.length),
            Step::Cancel => state.cancel(),
            Step::Close => {
                state.closing = true;
                let request = state.watcher.request(client::close(state.directory));
                state.send(WATCHER, request);
            }
            Step::Change => state.change(self.deletes),
            Step::Move(next) => {
                let seen = state.world.apply(next);
                state.observe(seen);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("S42 changes are told in order, and none is lost", |_, s: &State| {
                s.world.keeps(Rule::Notify)
            }),
            Property::always("S19 each request is answered once", |_, s: &State| {
                s.world.keeps(Rule::OneAnswer)
            }),
            Property::always("R2 storage is asked properly", |_, s: &State| s.world.keeps(Rule::Storage)),
            Property::always("S63 nothing is left", |_, s: &State| s.world.keeps(Rule::Residue)),
            Property::always("the machines keep their invariants", |_, s: &State| {
                s.world.keeps(Rule::Machines)
            }),
            Property::sometimes("a request is cancelled", |_, s: &State| {
                s.endings.contains(&NtStatus::CANCELLED)
            }),
            Property::sometimes("a close cleans up", |_, s: &State| {
                s.endings.contains(&NtStatus::NOTIFY_CLEANUP)
            }),
        ];
        if self.deletes {
            properties.push(Property::sometimes("a deleted directory is told", |_, s: &State| {
                s.endings.contains(&NtStatus::DELETE_PENDING)
            }));
        } else if self.length < 100 {
            properties.push(Property::sometimes("a change is forgotten", |_, s: &State| {
                s.endings.contains(&NtStatus::NOTIFY_ENUM_DIR)
            }));
        } else {
            properties.push(Property::sometimes("both changes are told", |_, s: &State| s.told.len() == 2));
            properties.push(Property::sometimes("a change is kept for the next", |_, s: &State| s.kept));
        }
        properties
    }
}
