//! The life of sessions: setup in several legs, reauthentication, expiry, logoff, previous sessions, binds.
//!
//! * Modelled: `alone`, one client that sets sessions up, again, logs off, connects to a share, opens and closes, in
//!   compounds too, while its proofs are accepted, refused or need another leg, run out, or its connection goes away;
//!   `beside`, a second client on another shard, of the same user or another, that may name the first one's session as
//!   its previous one; `bind`, a second connection of a client on another shard that asks to carry its session, is refused,
//!   forged or accepted, while the first goes on with that session, ends it or goes away.
//! * Left out: what an authentication computes and what keys are (the endpoint's and the authenticator's), what a bind is
//!   refused for before its token is looked at (`smb-state` tests that), guests, encryption, durable opens.
//! * Bounds: from a connection that has negotiated, 4 frames `alone` (deep: 5), 2 `beside` a client with a session and a
//!   tree connect (deep: 3), 3 `bind` (deep: 4).
//! * Last run: 84 095 different states, depth 29, 3 s.
//! * Always: S1, S2 (but for what is left out), S3, S4, S5, S6, R6, S19/R1, S61/R5, S63. What comes from another shard is
//!   judged by what its sender could know. Sometimes: expiry, a refused reauthentication, a session that ends for its
//!   successor, one of another user that does not, a session that ends under an open, a bind that succeeds and one that fails,
//!   a session that outlives its first connection.
//! * MS-SMB2: 3.3.5.2.9, 3.3.5.5, 3.3.5.5.3, 3.3.5.6, 3.3.5.7, 3.3.5.8, 3.3.7.1.

use std::collections::{BTreeMap, BTreeSet};

use smb_proto::access::AccessMask;
use smb_proto::command::FileId;
use smb_proto::command::create::{CreateDisposition, CreateOptions, ShareAccess};
use smb_proto::header::CommandCode;
use smb_state::action::Audit;
use smb_state::config::Limits;
use smb_state::ids::{ConnectionId, MessageId, SessionId, ShardId, TreeId};
use smb_state::request::{Chain, Command, Protection, Request};
use smb_state::response::{Body, Response};
use smb_state::timer::Timer;
use stateright::{Model, Property};

use crate::harness::client::{self, Client};
use crate::harness::fault::Fault;
use crate::harness::rule::Rule;
use crate::harness::run::{Bound, Entry, Report};
use crate::harness::volume::Volume;
use crate::harness::{Grain, Move, Proof, Seen, World};

/// The model.
pub const ENTRY: Entry = Entry {
    name: "session",
    about: "setup, reauthentication, expiry, logoff, previous sessions and binds of two clients",
    faults: &[
        Fault::SkipSessionCheck,
        Fault::KeepAfterFailure,
        Fault::OneUserForAll,
        Fault::NeverExpire,
        Fault::LateKeys,
        Fault::EndVictim,
        Fault::TrustForgery,
    ],
    explore,
};

fn explore(bound: Bound) -> Report {
    let mut report = Report::default();
    let more = u8::from(bound.deep);
    let fault = bound.fault;
    report.explore("alone", Sessions { case: Case::Alone, frames: 4 + more, fault });
    report.explore("beside", Sessions { case: Case::Beside, frames: 2 + more, fault });
    report.explore("bind", Sessions { case: Case::Bind, frames: 3 + more, fault });
    report
}

/// The model's parameters.
#[derive(Clone, Copy, Debug)]
struct Sessions {
    case: Case,
    frames: u8,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Alone,
    Beside,
    Bind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    world: World,
    peers: Vec<Peer>,
    sessions: BTreeMap<SessionId, Known>,
    sent: BTreeMap<(ConnectionId, MessageId), Sent>,
    frames: u8,
    /// Things that should be possible, once they were seen.
    shown: Shown,
}

/// A client, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Peer {
    client: Client,
    open: Option<FileId>,
}

/// What is known of a session from outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Known {
    connection: ConnectionId,
    /// Connections that were bound to it.
    bound: BTreeSet<ConnectionId>,
    /// Those, and connections that proved its user for a bind: they may carry it before they hear of it.
    proved: BTreeSet<ConnectionId>,
    user: Option<u32>,
    /// A SESSION_SETUP was answered with success.
    valid: bool,
    expired: bool,
    /// SESSION_SETUP requests of its first connection that are not answered.
    setups: u8,
    /// Its last authentication was refused.
    failed: bool,
    /// Its end was asked for, by LOGOFF or its connection's end.
    may_end: bool,
    /// Users that proved themselves for a session that names this one as its previous one.
    successors: BTreeSet<u32>,
    /// LOGGED_OFF was recorded, or its setup failed.
    ended: bool,
}

/// A request, and whether it may be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sent {
    command: CommandCode,
    session: SessionId,
    previous: SessionId,
    /// It asks to bind.
    binding: bool,
    /// The rule that is broken if it succeeds.
    unfit: Option<Rule>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Shown {
    expired: bool,
    refused_again: bool,
    succeeded: bool,
    stranger: bool,
    ended_under_open: bool,
    bound: bool,
    bind_failed: bool,
    outlived: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Frame {
    /// A new session; `previous` names the other client's.
    SetupNew {
        previous: bool,
    },
    /// Another leg, or reauthentication.
    SetupAgain,
    /// A request to carry the other connection's session.
    Bind,
    Logoff,
    TreeConnect,
    /// TREE_CONNECT in a session that never was.
    TreeConnectNowhere,
    TreeDisconnect,
    Create,
    Close,
    /// LOGOFF and, in the same frame, a new session.
    LogoffAndSetup,
    /// CREATE and, in the same frame, LOGOFF.
    CreateAndLogoff,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Send(usize, Frame),
    Move(Move),
}

const NOWHERE: SessionId = SessionId(0xBAD);

impl State {
    fn other(&self, peer: usize) -> SessionId {
        self.peers.get(1 - peer.min(1)).map_or(SessionId(0), |other| other.client.session)
    }

    /// Whether a connection that carries the session is asked to prove its user again.
    fn is_proved_again(&self, session: SessionId) -> bool {
        self.world.proofs().any(|(connection, _, of)| of == session && !self.binds(connection, session))
    }

    /// Whether what a connection proves is for a bind.
    fn binds(&self, connection: ConnectionId, session: SessionId) -> bool {
        self.sessions
            .get(&session)
            .is_some_and(|known| known.connection != connection && !known.bound.contains(&connection))
    }

    /// Why a request of this session must not succeed.
    fn unfit(&self, connection: ConnectionId, session: SessionId, command: CommandCode) -> Option<Rule> {
        if command == CommandCode::SessionSetup {
            return None;
        }
        let Some(known) = self.sessions.get(&session) else { return Some(Rule::NoSession) };
        if known.connection != connection && !known.proved.contains(&connection) {
            return Some(Rule::NoSession);
        }
        let always = matches!(command, CommandCode::Logoff | CommandCode::Close);
        if known.failed {
            Some(Rule::FailedAuthentication)
        } else if known.ended {
            Some(Rule::Gone)
        } else if !known.valid {
            Some(Rule::NoSession)
        } else if (known.expired || known.setups > 0 || self.is_proved_again(session)) && !always {
            Some(Rule::Expired)
        } else {
            None
        }
    }

    fn send(&mut self, index: usize, frame: Frame) {
        self.frames -= 1;
        let previous = self.other(index);
        let peer = &mut self.peers[index];
        let client = &mut peer.client;
        let setup = |client: &mut Client, session: SessionId, previous: SessionId, world: &World| {
            let buffer = client.buffer(client.next);
            let keyed = world.has_keys(client.connection, session);
            let protection = if keyed { Protection::Signed } else { Protection::None };
            let request = client.request(client::session_setup(buffer, previous));
            Request { session, protection, ..request }
        };
        let create = || {
            let access = AccessMask::READ_DATA;
            client::create("srvsvc", CreateDisposition::OPEN, access, ShareAccess::ALL, CreateOptions::EMPTY)
        };
        let mut rest = Vec::new();
        let first = match frame {
            Frame::SetupNew { previous: named } => {
                let previous = if named { previous } else { SessionId(0) };
                setup(client, SessionId(0), previous, &self.world)
            }
            Frame::SetupAgain => setup(client, client.session, SessionId(0), &self.world),
            Frame::Bind => {
                client.session = previous;
                let request = setup(client, previous, SessionId(0), &self.world);
                Request { protection: Protection::Signed, ..client::binding(request) }
            }
            Frame::Logoff => client.request(Command::Logoff),
            Frame::TreeConnect => client.request(client::tree_connect()),
            Frame::TreeConnectNowhere => {
                let request = client.request(client::tree_connect());
                Request { session: NOWHERE, ..request }
            }
            Frame::TreeDisconnect => client.request(Command::TreeDisconnect),
            Frame::Create => client.request(create()),
            Frame::Close => {
                let open = peer.open.take().unwrap_or_default();
                client.request(client::close(open))
            }
            Frame::LogoffAndSetup => {
                let logoff = client.request(Command::Logoff);
                rest.push(setup(client, SessionId(0), SessionId(0), &self.world));
                logoff
            }
            Frame::CreateAndLogoff => {
                let create = client.request(create());
                rest.push(client.request(Command::Logoff));
                create
            }
        };
        let connection = client.connection;
        for request in std::iter::once(&first).chain(&rest) {
            let (command, session) = (request.command.code(), request.session);
            // Later elements of a compound run later: the first one's end decides.
            let unfit = self.unfit(connection, session, command).filter(|_| rest.is_empty());
            let binding = frame == Frame::Bind;
            let previous = match &request.command {
                Command::SessionSetup(setup) => setup.previous_session,
                _ => SessionId(0),
            };
            self.sent
                .insert((connection, request.message), Sent { command, session, previous, binding, unfit });
            if let Some(known) = self.sessions.get_mut(&session) {
                let carried = known.connection == connection || known.proved.contains(&connection);
                // One that comes by way of another shard counts when it is there: then somebody is to prove something.
                let home = known.connection == connection;
                known.setups += u8::from(command == CommandCode::SessionSetup && home);
                known.may_end |= command == CommandCode::Logoff && carried;
            }
        }
        let seen = self.world.apply(Move::Send(connection, Box::new(Chain { first, rest })));
        self.observe(seen);
    }

    fn make(&mut self, next: Move) {
        match next {
            Move::Prove(connection, message, proof) => {
                let session = self.world.proofs().find(|(c, m, _)| *c == connection && *m == message);
                if let Some((_, _, session)) = session {
                    self.prove(connection, message, session, proof);
                }
            }
            Move::Disconnect(connection) => {
                // What its last proof would have led to nobody will know: another connection has to prove the user again.
                let asked = self.world.proofs().filter(|(other, ..)| *other == connection);
                let abandoned: Vec<SessionId> =
                    asked.filter(|(_, _, of)| !self.binds(connection, *of)).map(|(_, _, of)| of).collect();
                for session in abandoned {
                    self.sessions.get_mut(&session).into_iter().for_each(|known| known.expired = true);
                }
                let wires = &self.world.wires;
                for known in self.sessions.values_mut() {
                    let gone = |other: ConnectionId| other == connection || wires[&other].gone;
                    let last = gone(known.connection) && known.bound.iter().all(|other| gone(*other));
                    known.may_end |= last;
                    self.shown.outlived |= known.connection == connection && !last;
                    if known.connection == connection {
                        known.setups = 0;
                    }
                }
                self.sent.retain(|(other, _), _| *other != connection);
            }
            Move::Expire(Timer::SessionExpiry(session)) => {
                if let Some(known) = self.sessions.get_mut(&session) {
                    known.expired = true;
                    self.shown.expired = true;
                }
            }
            _ => {}
        }
        let seen = self.world.apply(next);
        self.observe(seen);
    }

    fn prove(&mut self, connection: ConnectionId, message: MessageId, session: SessionId, proof: Proof) {
        if self.world.wires[&connection].gone {
            return;
        }
        if self.binds(connection, session) {
            let user = self.sessions.get(&session).and_then(|known| known.user);
            let right = matches!(proof, Proof::User(number, _) if Some(number) == user);
            if right && let Some(known) = self.sessions.get_mut(&session) {
                known.proved.insert(connection);
            }
            if !right && proof != Proof::Continue {
                self.shown.bind_failed = true;
                if let Some(sent) = self.sent.get_mut(&(connection, message)) {
                    sent.unfit = Some(Rule::FailedAuthentication);
                }
            }
            return;
        }
        let previous = self.sent.get(&(connection, message)).map_or(SessionId(0), |sent| sent.previous);
        let known = self.sessions.entry(session).or_insert(Known {
            connection,
            bound: BTreeSet::new(),
            proved: BTreeSet::new(),
            user: None,
            valid: false,
            expired: false,
            setups: 1,
            failed: false,
            may_end: false,
            successors: BTreeSet::new(),
            ended: false,
        });
        match proof {
            Proof::Continue | Proof::Forged => {}
            Proof::Denied => {
                self.shown.refused_again |= known.valid && !known.ended;
                // The session's shard may hear of it later.
                known.failed |= known.connection == connection;
                known.may_end = true;
                if let Some(sent) = self.sent.get_mut(&(connection, message)) {
                    sent.unfit = Some(Rule::FailedAuthentication);
                }
            }
            Proof::User(user, _) => {
                let again = known.valid;
                known.user = Some(user);
                let other = self.sessions.get_mut(&previous).filter(|_| !again);
                if let Some(other) = other {
                    other.successors.insert(user);
                    self.shown.stranger |= other.user != Some(user);
                }
            }
        }
    }

    fn observe(&mut self, seen: Vec<Seen>) {
        for seen in seen {
            match seen {
                Seen::Audit(Audit::LoggedOff { session }) => self.logged_off(session),
                Seen::Audit(_) | Seen::Notification(..) => {}
                Seen::Response(connection, response) => self.answered(connection, &response),
            }
        }
    }

    fn logged_off(&mut self, session: SessionId) {
        let Some(known) = self.sessions.get_mut(&session) else { return };
        known.ended = true;
        let succeeded = known.user.is_some_and(|user| known.successors.contains(&user));
        let (may_end, connection) = (known.may_end || succeeded, known.connection);
        self.shown.ended_under_open |=
            self.peers.iter().any(|peer| peer.client.connection == connection && peer.open.is_some());
        if !may_end {
            self.world
                .breaks(Rule::Previous, format!("{session:?} ended and nobody with a right to it asked"));
        }
    }

    fn answered(&mut self, connection: ConnectionId, response: &Response) {
        let Some(sent) = self.sent.remove(&(connection, response.message)) else { return };
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.client.connection == connection) else {
            return;
        };
        let success = !response.status.is_error();
        if let (true, Some(rule)) = (success, sent.unfit) {
            self.world.breaks(rule, format!("{:?} of {:?} succeeds", sent.command, sent.session));
        }
        match (&response.body, sent.command) {
            (Body::SessionSetup { .. }, _) if sent.binding => {
                if response.status == smb_proto::NtStatus::SUCCESS {
                    self.shown.bound = true;
                    if let Some(known) = self.sessions.get_mut(&response.session) {
                        known.bound.insert(connection);
                    }
                }
                return;
            }
            (Body::SessionSetup { .. }, _) => {
                peer.client.session = response.session;
                peer.client.tree = TreeId(0);
                peer.open = None;
                if response.status == smb_proto::NtStatus::SUCCESS {
                    self.set_up(response.session, sent.previous);
                }
            }
            (Body::TreeConnect(_), _) => peer.client.tree = response.tree,
            (Body::Create(create), _) => peer.open = Some(create.file_id),
            (_, CommandCode::SessionSetup) if sent.session == SessionId(0) => {
                if let Some(known) = self.sessions.get_mut(&response.session) {
                    known.ended = true;
                }
            }
            _ => {}
        }
        if sent.command == CommandCode::SessionSetup
            && let Some(known) = self.sessions.get_mut(&response.session)
        {
            let refused = response.status == smb_proto::NtStatus::LOGON_FAILURE;
            known.failed |= refused && !sent.binding && known.bound.contains(&connection);
            if known.connection == connection {
                known.setups = known.setups.saturating_sub(1);
            }
        }
    }

    /// A SESSION_SETUP succeeded.
    fn set_up(&mut self, session: SessionId, previous: SessionId) {
        let Some(known) = self.sessions.get_mut(&session) else { return };
        let (user, again) = (known.user, known.valid);
        known.valid = true;
        known.expired = false;
        let home = known.connection;
        // What is on its way from another shard may come after that.
        for ((connection, _), sent) in &mut self.sent {
            if *connection != home && sent.session == session && sent.unfit == Some(Rule::Expired) {
                sent.unfit = None;
            }
        }
        let Some(other) = self.sessions.get(&previous).filter(|other| other.valid && !again) else { return };
        if other.user == user {
            self.shown.succeeded = true;
            if !other.ended {
                self.world.breaks(Rule::Previous, "the previous session outlives the answer");
            }
        }
    }
}

impl Model for Sessions {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let shards = if self.case == Case::Alone { 1 } else { 2 };
        let config = client::config(shards, Limits::default(), true);
        let mut world = World::new(config, Volume::pipes(), Grain::COARSE);
        let mut peers = Vec::new();
        let mut sessions = BTreeMap::new();
        let other = ConnectionId::new(ShardId(1), 2);
        if self.case != Case::Alone {
            let connection = other;
            let client = Client::establish(connection, 1, 4, &mut world);
            let known = Known {
                connection,
                bound: BTreeSet::new(),
                proved: BTreeSet::new(),
                user: Some(1),
                valid: true,
                expired: false,
                setups: 0,
                failed: false,
                may_end: false,
                successors: BTreeSet::new(),
                ended: false,
            };
            sessions.insert(client.session, known);
            peers.push(Peer { client, open: None });
        }
        let connection = ConnectionId::new(ShardId(0), 1);
        world.accept(connection);
        let mut client = Client { credits: 4, ..Client::new(connection) };
        // The connections of one client have one ClientGuid.
        let same = if self.case == Case::Bind { other } else { connection };
        world.apply(client.send(client::negotiate(same)));
        peers.push(Peer { client, open: None });
        world.seed(self.fault);
        let sent = BTreeMap::new();
        vec![State { world, peers, sessions, sent, frames: self.frames, shown: Shown::default() }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        if state.world.broken.is_some() {
            return;
        }
        let mut moves = Vec::new();
        state.world.moves(false, &mut moves);
        for (connection, message, session) in state.world.proofs() {
            let user = state.sessions.get(&session).and_then(|known| known.user);
            let binds = state.binds(connection, session);
            if binds {
                moves.push(Move::Prove(connection, message, Proof::Forged));
            }
            let users: &[u32] = match user {
                Some(_) if binds => &[1, 2],
                Some(1) => &[1],
                Some(_) => &[2],
                None if self.case == Case::Beside => &[1, 2],
                None => &[1],
            };
            let proofs = users.iter().map(|user| Proof::User(*user, Some(1)));
            moves.extend(
                proofs.chain([Proof::Denied, Proof::Continue]).map(|p| Move::Prove(connection, message, p)),
            );
        }
        moves.extend(
            state
                .sessions
                .keys()
                .map(|session| Timer::SessionExpiry(*session))
                .filter(|timer| state.world.is_armed(*timer))
                .map(Move::Expire),
        );
        for peer in &state.peers {
            if !state.world.wires[&peer.client.connection].gone {
                moves.push(Move::Disconnect(peer.client.connection));
            }
        }
        actions.extend(moves.into_iter().map(Step::Move));
        if state.frames == 0 {
            return;
        }
        for (index, peer) in state.peers.iter().enumerate() {
            let wire = &state.world.wires[&peer.client.connection];
            if wire.gone || wire.closing {
                continue;
            }
            if self.case == Case::Bind {
                let mut frames = vec![Frame::SetupAgain, Frame::TreeConnect, Frame::Logoff];
                if index == 1 {
                    frames.retain(|_| peer.client.session != SessionId(0));
                    frames.push(Frame::Bind);
                }
                actions.extend(frames.into_iter().map(|frame| Step::Send(index, frame)));
                continue;
            }
            let mut frames = vec![Frame::SetupNew { previous: false }, Frame::TreeConnectNowhere];
            if state.other(index) != SessionId(0) && state.peers.len() > 1 {
                frames.push(Frame::SetupNew { previous: true });
            }
            if peer.client.session != SessionId(0) {
                frames.extend([
                    Frame::SetupAgain,
                    Frame::Logoff,
                    Frame::TreeConnect,
                    Frame::Create,
                    Frame::LogoffAndSetup,
                ]);
            }
            if peer.client.tree != TreeId(0) {
                frames.extend([Frame::TreeDisconnect, Frame::CreateAndLogoff]);
            }
            if peer.open.is_some() {
                frames.push(Frame::Close);
            }
            actions.extend(frames.into_iter().map(|frame| Step::Send(index, frame)));
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut state = state.clone();
        match step {
            Step::Send(peer, frame) => state.send(peer, frame),
            Step::Move(next) => state.make(next),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("S1 nothing executes without a session", |_, s: &State| {
                s.world.keeps(Rule::NoSession)
            }),
            Property::always("S3 a failed authentication ends its session", |_, s: &State| {
                s.world.keeps(Rule::FailedAuthentication)
            }),
            Property::always("S4 an expired session executes little", |_, s: &State| {
                s.world.keeps(Rule::Expired)
            }),
            Property::always("S5 only who may end a session ends it", |_, s: &State| {
                s.world.keeps(Rule::Previous)
            }),
            Property::always("S6 what is gone is not reachable", |_, s: &State| s.world.keeps(Rule::Gone)),
            Property::always("S19 each request is answered once", |_, s: &State| {
                s.world.keeps(Rule::OneAnswer)
            }),
            Property::always("S61 each buffer is released once", |_, s: &State| s.world.keeps(Rule::Buffers)),
            Property::always("R2 storage is asked properly", |_, s: &State| s.world.keeps(Rule::Storage)),
            Property::always("R6 keys are there when needed", |_, s: &State| s.world.keeps(Rule::Keys)),
            Property::always("S63 nothing is left", |_, s: &State| s.world.keeps(Rule::Residue)),
            Property::always("the machines keep their invariants", |_, s: &State| {
                s.world.keeps(Rule::Machines)
            }),
            Property::always("S3 a bind that fails changes nothing", |_, s: &State| {
                s.world.keeps(Rule::Previous)
            }),
            Property::sometimes("a session expires", |_, s: &State| s.shown.expired),
            Property::sometimes("a reauthentication is refused", |_, s: &State| s.shown.refused_again),
        ];
        if self.case != Case::Bind {
            let under_open = "a session ends under an open";
            properties.push(Property::sometimes(under_open, |_, s: &State| s.shown.ended_under_open));
        }
        if self.case == Case::Bind {
            properties.extend([
                Property::sometimes("a connection is bound", |_, s: &State| s.shown.bound),
                Property::sometimes("a bind fails", |_, s: &State| s.shown.bind_failed),
                Property::sometimes("a session outlives its first connection", |_, s: &State| {
                    s.shown.outlived
                }),
            ]);
        }
        if self.case == Case::Beside {
            properties.extend([
                Property::sometimes("a session ends for its successor", |_, s: &State| s.shown.succeeded),
                Property::sometimes("another user names a previous session", |_, s: &State| s.shown.stranger),
            ]);
        }
        properties
    }
}
