//! Persistent opens, the store of their records, and crashes (MS-SMB2 3.3.5.9, 3.3.5.9.10, 3.3.5.9.12; S44, S46 to S49, S53).
//!
//! **Modelled.** The production shard; one file; an owner that makes a persistent open, locks, unlocks, closes, loses its
//! connection and comes back; a stranger that opens the same file; a store that makes queued changes durable later, in order;
//! a server that is killed at any moment with any part of the queue written, and started again with its records restored. The
//! time of what nobody reclaims may be over at any moment.
//!
//! **Left out.** Storage answers in the order in which it was asked. Negotiation, session setup and tree connects are one
//! move. The owner has one request under way. Records are restored in one move, since nobody may connect before. One shard.
//! A store that fails, what an open caches, a second persistent open of the file and records that follow what others do
//! (`file::following`): those are unit tests of smb-state.
//!
//! **Bounds.** Small: 4 requests of the owner, 1 of the stranger, 1 loss of the owner's connection, 1 crash. Deep: 5, 2, 2, 2.
//!
//! **Size at the last run.** 340,772 states, 23 s.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use smb_proto::access::AccessMask;
use smb_proto::attributes::FileAttributes;
use smb_proto::command::FileId;
use smb_proto::command::create::{CreateDisposition, CreateOptions, ShareAccess};
use smb_proto::command::lock::{self, LockElement, LockFlags, LockSequence};
use smb_proto::command::negotiate::Capabilities;
use smb_proto::create_context::{DurableFlags, DurableReconnectV2, DurableRequestV2, RequestContext};
use smb_proto::{FileTime, Name, NtStatus};
use smb_state::Shard;
use smb_state::action::{Action as Effect, Actions, Output, StoreChange};
use smb_state::config::{Limits, Shared, Survives};
use smb_state::event::{AuthOutcome, Event, Peer};
use smb_state::ids::{BufferId, ConnectionId, FileNumber, Handle, MessageId, OpenId, ShardId, Token};
use smb_state::record::Record;
use smb_state::request::{Chain, Command};
use smb_state::response::{Body, Response};
use smb_state::storage::{Attributes, Kind, Object, Resolved, StorageOp, StorageReply};
use smb_state::timer::{Armed, Timer};
use stateright::{Model, Property};

use crate::harness::client::{self, CREATE_GUID, Client};
use crate::harness::fault::Fault;
use crate::harness::run::{Bound, Entry, Report};

/// The model.
pub const ENTRY: Entry = Entry {
    name: "persistent",
    about: "persistent opens, their records, and crashes",
    faults: &[Fault::AnswerBeforeDurable, Fault::LoseRecords],
    explore,
};

const HOME: ShardId = ShardId(0);
const DATA: AccessMask = AccessMask(AccessMask::READ_DATA.0 | AccessMask::WRITE_DATA.0);

fn explore(bound: Bound) -> Report {
    let (owner, stranger, losses, crashes) = if bound.deep { (5, 2, 2, 2) } else { (4, 1, 1, 1) };
    let model = Persistent { owner, stranger, losses, crashes, fault: bound.fault };
    Report::of_cases(bound, [("one file", model)])
}

/// Bounds and a fault.
#[derive(Clone, Debug)]
struct Persistent {
    owner: u8,
    stranger: u8,
    losses: u8,
    crashes: u8,
    fault: Option<Fault>,
}

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Ask {
    Create,
    Lock,
    Unlock,
    Close,
    ComeBack,
    /// The stranger's CREATE.
    Look,
}

/// A move.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// A client connects, up to its tree connect.
    Connect(usize),
    Disconnect(usize),
    Ask(usize, Ask),
    /// Storage answers what it was asked first.
    Storage,
    /// The store makes everything durable that it was asked.
    Flush,
    /// The server is killed when so many queued changes are on the disk, and started again.
    Crash(usize),
    /// The time of what nobody reclaims is over.
    Scavenge,
}

/// What a client knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Party {
    client: Option<Client>,
    /// What is not answered.
    waiting: Option<(MessageId, Ask)>,
    /// The open, as it was told.
    open: Option<FileId>,
    /// It has the open in its session.
    here: bool,
    /// What it asks for was to be had by nobody but the owner, from when it asked.
    kept_from: bool,
    /// It was told that its lock is held.
    locked: bool,
    left: u8,
    /// Losses of its connection that are left.
    losses: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    broken: Option<&'static str>,
    shard: Shard,
    asked: Vec<(Token, StorageOp)>,
    queued: Vec<(Token, StoreChange)>,
    disk: Vec<Record>,
    scavenger: Option<(Timer, Armed)>,
    parties: [Party; 2],
    /// What of the owner's a crash or a loss of its connection left unanswered.
    uncertain: Option<Ask>,
    /// Whether the lock is held was left unanswered.
    unsure_of_lock: bool,
    /// The time was over: the open may be gone.
    scavenged: bool,
    next_handle: u64,
    connections: u64,
    starts: u16,
    came_back: bool,
    refused: bool,
}

fn shard(starts: u16) -> Shard {
    let mut config = client::config(1, Limits::default(), false);
    config.incarnation = starts;
    for share in &mut config.shares {
        share.continuous_availability = Some(Survives::PowerCut);
    }
    Shard::new(HOME, Shared::new(config))
}

fn attributes() -> Attributes {
    Attributes {
        number: FileNumber(5),
        kind: Kind::File,
        dos: FileAttributes::ARCHIVE,
        creation: FileTime(1),
        last_access: FileTime(1),
        last_write: FileTime(1),
        change: FileTime(1),
        end_of_file: 0,
        allocation: 0,
        links: 1,
        ea_size: 0,
        reparse_tag: 0,
    }
}

impl State {
    fn breaks(&mut self, what: &'static str) {
        self.broken = self.broken.or(Some(what));
    }

    /// One event, and what follows from it at once.
    fn step(&mut self, model: &Persistent, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut effects = Actions::new();
            let shard = &mut self.shard;
            let stepped = catch_unwind(AssertUnwindSafe(|| {
                shard.step(event, &mut effects);
                shard.check_invariants();
            }));
            if stepped.is_err() {
                return self.breaks("an invariant of the machines");
            }
            for effect in effects {
                match effect {
                    Effect::Submit { token, op, .. } => self.asked.push((token, op)),
                    Effect::Store { token, change, .. }
                        if model.fault == Some(Fault::AnswerBeforeDurable) =>
                    {
                        self.queued.push((Token::default(), change));
                        events.push_back(Event::Stored { token, durable: true });
                    }
                    Effect::Store { token, change, .. } => self.queued.push((token, change)),
                    Effect::Arm { timer: timer @ Timer::Scavenger(_), armed, .. } => {
                        self.scavenger = Some((timer, armed));
                    }
                    Effect::Disarm(Timer::Scavenger(_)) => self.scavenger = None,
                    Effect::Output(connection, Output::Authenticate { session, message, .. }) => {
                        let identity = client::user(if self.party_of(connection) == 0 { 1 } else { 2 });
                        let outcome =
                            AuthOutcome::Accepted { reply: None, identity, keyed: true, valid_for_ms: None };
                        events.push_back(Event::Authenticated { connection, session, message, outcome });
                    }
                    Effect::Output(connection, Output::Respond(responses)) => {
                        for response in responses {
                            self.hear(connection, &response);
                        }
                    }
                    Effect::Output(..)
                    | Effect::Abandon { .. }
                    | Effect::Recovered { .. }
                    | Effect::Release(_)
                    | Effect::Arm { .. }
                    | Effect::Disarm(_)
                    | Effect::ToShard(..)
                    | Effect::Record(_) => {}
                }
            }
        }
    }

    fn party_of(&self, connection: ConnectionId) -> usize {
        let has = |party: &Party| party.client.as_ref().is_some_and(|client| client.connection == connection);
        usize::from(!has(&self.parties[0]))
    }

    /// Whether the owner is away from an open that it was told of and that must be there.
    fn is_promised(&self) -> bool {
        let away = !self.parties[0].here && self.parties[0].open.is_some() && !self.scavenged;
        away && self.uncertain != Some(Ask::Close)
    }

    fn hear(&mut self, connection: ConnectionId, response: &Response) {
        let number = self.party_of(connection);
        let promised = self.is_promised();
        let party = &mut self.parties[number];
        let Some(client) = &mut party.client else { return };
        if let Body::TreeConnect(_) = response.body {
            client.tree = response.tree;
        }
        if client.session.0 == 0 {
            client.session = response.session;
        }
        let Some((_, ask)) = party.waiting.take_if(|(message, _)| *message == response.message) else {
            return;
        };
        let success = response.status == NtStatus::SUCCESS;
        match ask {
            Ask::Create if success => {
                (party.open, party.here) = (client::opened(&response.body), true);
            }
            Ask::Lock | Ask::Unlock if success => {
                party.locked = ask == Ask::Lock;
                self.unsure_of_lock = false;
            }
            Ask::Close if success => {
                (party.open, party.here, party.locked) = (None, false, false);
                self.unsure_of_lock = false;
            }
            Ask::ComeBack if success => {
                let new = client::opened(&response.body);
                let same = new.map(|id| id.persistent) == party.open.map(|id| id.persistent);
                (party.open, party.here) = (new, true);
                self.came_back = true;
                self.parties[1].kept_from = false;
                self.uncertain = None;
                if !same {
                    self.breaks("a client got an open that is not its own (S43)");
                }
            }
            Ask::ComeBack if promised => self.breaks("an acknowledged open is not there any more (S49)"),
            Ask::Look if success && promised && party.kept_from => {
                self.breaks("a conflicting open while the owner is away (S46, S53)")
            }
            Ask::Look if response.status == NtStatus::FILE_NOT_AVAILABLE => self.refused = true,
            Ask::Create | Ask::Lock | Ask::Unlock | Ask::Close | Ask::ComeBack | Ask::Look => {}
        }
    }

    fn connect(&mut self, model: &Persistent, number: usize) {
        self.connections += 1;
        let connection = ConnectionId::new(HOME, self.connections);
        self.parties[number].client = Some(Client { credits: 16, ..Client::new(connection) });
        self.step(model, Event::Accepted { connection, peer: Peer(number as u128) });
        let Command::Negotiate(mut negotiate) = client::negotiate(connection) else { return };
        negotiate.client_guid = [number as u8 + 1; 16];
        negotiate.capabilities = Capabilities::PERSISTENT_HANDLES;
        self.send(model, number, Command::Negotiate(negotiate));
        self.send(model, number, client::session_setup(BufferId(1), smb_state::ids::SessionId(0)));
        self.send(model, number, client::tree_connect());
    }

    fn send(&mut self, model: &Persistent, number: usize, command: Command) -> Option<MessageId> {
        let client = self.parties[number].client.as_mut()?;
        let (connection, first) = (client.connection, client.request(command));
        let message = first.message;
        self.step(model, Event::Request { connection, chain: Chain { first, rest: Vec::new() } });
        Some(message)
    }

    fn ask(&mut self, model: &Persistent, number: usize, ask: Ask) {
        // While something of the owner's is under way its file does not know yet that it is away: who comes then comes before.
        let settled = self.queued.is_empty() && self.asked.is_empty();
        self.parties[number].kept_from = settled && self.is_promised();
        if ask == Ask::ComeBack {
            // The owner may be back before it is told so.
            self.parties[1].kept_from = false;
        }
        let party = &mut self.parties[number];
        let open = party.open.unwrap_or_default();
        let context = |context: RequestContext| {
            let share = ShareAccess(7);
            let create = client::create("a", CreateDisposition::OPEN, DATA, share, CreateOptions::EMPTY);
            let Command::Create(mut request) = create else { unreachable!() };
            request.contexts = vec![context];
            Command::Create(request)
        };
        let lock = |flags| {
            let locks = vec![LockElement { offset: 0, length: 1, flags }];
            Command::Lock(lock::Request { lock_sequence: LockSequence::default(), file_id: open, locks })
        };
        let (create_guid, flags) = (CREATE_GUID, DurableFlags::PERSISTENT);
        let command = match ask {
            Ask::Create => {
                let wish = DurableRequestV2 { timeout_ms: 1000, flags, create_guid };
                context(RequestContext::DurableHandleRequestV2(wish))
            }
            Ask::ComeBack => {
                let back = DurableReconnectV2 { file_id: open, create_guid, flags };
                context(RequestContext::DurableHandleReconnectV2(back))
            }
            Ask::Lock => lock(LockFlags::EXCLUSIVE_LOCK.with(LockFlags::FAIL_IMMEDIATELY)),
            Ask::Unlock => lock(LockFlags::UNLOCK),
            Ask::Close => client::close(open),
            Ask::Look => context(RequestContext::QueryOnDiskId),
        };
        party.left -= 1;
        // The answer may come within the step.
        let next = party.client.as_ref().map_or(0, |client| client.next);
        party.waiting = Some((MessageId(next), ask));
        self.send(model, number, command);
    }

    fn storage(&mut self, model: &Persistent) {
        let (token, op) = self.asked.remove(0);
        let reply = match op {
            StorageOp::Resolve { .. } => {
                self.next_handle += 1;
                StorageReply::Resolved(Resolved::Found(Object {
                    handle: Handle(self.next_handle),
                    attributes: attributes(),
                    parent: FileNumber(1),
                    name: Name::from("a"),
                    stream: Name::default(),
                    security: None,
                }))
            }
            StorageOp::Open { .. } | StorageOp::Attributes { .. } => StorageReply::Attributes(attributes()),
            _ => StorageReply::Done,
        };
        self.step(model, Event::Completed { token, reply });
    }

    fn write(&mut self, count: usize) -> Vec<Token> {
        let written: Vec<_> = self.queued.drain(..count).collect();
        let mut tokens = Vec::new();
        for (token, change) in written {
            let id = match &change {
                StoreChange::Put(record) => record.open,
                StoreChange::Delete(open) => *open,
            };
            self.disk.retain(|record| record.open != id);
            if let StoreChange::Put(record) = change {
                self.disk.push(*record);
            }
            tokens.push(token);
        }
        tokens
    }

    fn flush(&mut self, model: &Persistent) {
        let count = self.queued.len();
        for token in self.write(count) {
            if model.fault != Some(Fault::AnswerBeforeDurable) {
                self.step(model, Event::Stored { token, durable: true });
            }
        }
    }

    /// The owner's connection is gone: what was under way may be done or not.
    fn leave(&mut self, number: usize) {
        let party = &mut self.parties[number];
        party.client = None;
        party.here = false;
        let waiting = party.waiting.take().map(|(_, ask)| ask);
        if number == 0 {
            match waiting {
                Some(Ask::Lock | Ask::Unlock) => self.unsure_of_lock = true,
                Some(Ask::Create | Ask::Close) => self.uncertain = waiting,
                Some(Ask::ComeBack | Ask::Look) | None => {}
            }
        }
    }

    fn crash(&mut self, model: &Persistent, written: usize) {
        self.write(written);
        self.queued.clear();
        self.asked.clear();
        self.scavenger = None;
        self.leave(0);
        self.leave(1);
        if model.fault == Some(Fault::LoseRecords) {
            self.disk.clear();
        }
        self.check_disk();
        self.starts += 1;
        self.shard = shard(self.starts);
        for record in self.disk.clone() {
            self.step(model, Event::Restored { record: Box::new(record) });
            while !self.asked.is_empty() {
                self.storage(model);
            }
        }
    }

    /// What is on the disk is what was acknowledged, give or take what was under way (S48, S49).
    fn check_disk(&mut self) {
        let owner = &self.parties[0];
        let record = self.disk.first().cloned();
        let known = owner.open.map(|id| OpenId(id.persistent));
        let uncertain = self.uncertain;
        let fits = match (known, &record) {
            (Some(id), Some(record)) => {
                let locked = !record.held.locks.is_empty();
                record.open == id && (locked == owner.locked || self.unsure_of_lock)
            }
            (Some(_), None) => uncertain == Some(Ask::Close) || self.scavenged,
            (None, Some(_)) => uncertain == Some(Ask::Create),
            (None, None) => true,
        };
        if !fits || self.disk.len() > 1 {
            self.breaks("what survived is not what was acknowledged (S48, S49)");
        }
        // What is known of the lock from now on.
        if let (Some(_), Some(record)) = (known, &record) {
            self.parties[0].locked = !record.held.locks.is_empty();
            self.unsure_of_lock = false;
        }
    }
}

impl Model for Persistent {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let party = |left| Party { left, losses: self.losses, ..Party::default() };
        vec![State {
            broken: None,
            shard: shard(1),
            asked: Vec::new(),
            queued: Vec::new(),
            disk: Vec::new(),
            scavenger: None,
            parties: [party(self.owner), party(self.stranger)],
            uncertain: None,
            unsure_of_lock: false,
            scavenged: false,
            next_handle: 10,
            connections: 0,
            starts: 1,
            came_back: false,
            refused: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        if state.broken.is_some() {
            return;
        }
        for (number, party) in state.parties.iter().enumerate() {
            let Some(_) = &party.client else {
                if party.left > 0 {
                    actions.push(Step::Connect(number));
                }
                continue;
            };
            // Whoever lost its connection has a reason to come back; only the owner has.
            if number == 0 && party.losses > 0 && (party.open.is_some() || party.waiting.is_some()) {
                actions.push(Step::Disconnect(number));
            }
            if party.left == 0 || party.waiting.is_some() {
                continue;
            }
            let asks: &[Ask] = match (number, party.open, party.here) {
                (0, None, _) if state.uncertain != Some(Ask::Create) => &[Ask::Create],
                (0, None, _) => &[],
                (0, Some(_), false) => &[Ask::ComeBack],
                (0, Some(_), true) if party.locked => &[Ask::Unlock, Ask::Close],
                (0, Some(_), true) => &[Ask::Lock, Ask::Close],
                _ => &[Ask::Look],
            };
            actions.extend(asks.iter().map(|ask| Step::Ask(number, *ask)));
        }
        if !state.asked.is_empty() {
            actions.push(Step::Storage);
        }
        if !state.queued.is_empty() {
            actions.push(Step::Flush);
        }
        if state.scavenger.is_some() {
            actions.push(Step::Scavenge);
        }
        if state.starts <= u16::from(self.crashes) {
            actions.extend((0..=state.queued.len()).map(Step::Crash));
        }
    }

    fn next_state(&self, state: &State, action: Step) -> Option<State> {
        let mut next = state.clone();
        match action {
            Step::Connect(number) => next.connect(self, number),
            Step::Disconnect(number) => {
                let connection = next.parties[number].client.as_ref()?.connection;
                next.parties[number].losses -= 1;
                next.leave(number);
                next.step(self, Event::Disconnected { connection });
            }
            Step::Ask(number, ask) => next.ask(self, number, ask),
            Step::Storage => next.storage(self),
            Step::Flush => next.flush(self),
            Step::Crash(written) => next.crash(self, written),
            Step::Scavenge => {
                let (timer, armed) = next.scavenger.take()?;
                next.scavenged = true;
                next.step(self, Event::Expired(timer, armed));
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing that was acknowledged is lost, or stolen", |_, state: &State| {
                state.broken.is_none()
            }),
            Property::sometimes("a client comes back after a crash", |_, state: &State| {
                state.came_back && state.starts > 1 && state.parties[0].here
            }),
            Property::sometimes("a conflicting open is refused", |_, state: &State| state.refused),
            Property::sometimes("a lock survives a crash", |_, state: &State| {
                state.starts > 1 && state.parties[0].here && state.parties[0].locked
            }),
            Property::sometimes("what nobody reclaims goes with its record", |_, state: &State| {
                state.scavenged && state.disk.is_empty() && state.queued.is_empty()
            }),
        ]
    }
}
