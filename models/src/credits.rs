//! Message ids, credits, compounds, CANCEL and payloads of one connection.
//!
//! * Modelled: a client that sends any message id in and around its window, any charge, duplicates, compounds, CANCEL of
//!   anything; a peer that authenticates, or not, or too late; a peer that goes away at any moment. Pipe reads wait until
//!   storage answers or somebody cancels them.
//! * Left out: what the requests do (that is `session` and `two_shards`), bytes and signatures (the endpoint's), interim
//!   responses (the core sends none yet), several connections.
//! * Bounds: `authenticated` starts with a session, a pipe and a full window of 4 credits and sends 3 frames (deep: 4);
//!   `stranger` starts with a new connection and sends 5 frames (deep: 6).
//! * Last run: 84 401 different states, depth 11, 2 s.
//! * Always: S15, S16, S17, S19/R1, S61/R2/R5, R6, S63. Sometimes: a refused id, a full window, an abandoned request,
//!   a peer that goes away with requests under way, a compound that waits.
//! * MS-SMB2: 3.3.1.1, 3.3.1.2, 3.3.5.2.3, 3.3.5.2.5, 3.3.5.2.7, 3.3.5.16, 3.3.7.1.

use std::collections::BTreeSet;

use bytes::Bytes;
use smb_proto::access::AccessMask;
use smb_proto::command::create::{CreateDisposition, CreateOptions, ShareAccess};
use smb_proto::command::{FileId, read};
use smb_state::config::Limits;
use smb_state::ids::{BufferId, ConnectionId, MessageId, SessionId, ShardId};
use smb_state::request::{Chain, Command, Protection, Request, Write};
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
    name: "credits",
    about: "message ids, credits, compounds, CANCEL and payloads of one connection",
    faults: &[Fault::GrantTwice, Fault::Starve, Fault::LeakOnCancel, Fault::SkipWindow, Fault::AnswerTwice],
    explore,
};

const CREDITS_MAX: u16 = 4;
const CONNECTION: ConnectionId = ConnectionId::new(ShardId(0), 1);

fn explore(bound: Bound) -> Report {
    let mut report = Report::default();
    for authenticated in [true, false] {
        let frames = if authenticated { 3 } else { 5 } + u8::from(bound.deep);
        let case = if authenticated { "authenticated" } else { "stranger" };
        report.explore(case, Credits { authenticated, frames, fault: bound.fault });
    }
    report
}

/// The model's parameters.
#[derive(Clone, Copy, Debug)]
struct Credits {
    authenticated: bool,
    frames: u8,
    fault: Option<Fault>,
}

/// The server, and what the client knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    world: World,
    client: Client,
    pipe: FileId,
    /// Frames that may still be sent.
    frames: u8,
    /// Lowest message id that was not used.
    low: u64,
    /// Ids above it that were.
    used: BTreeSet<u64>,
    /// Message ids of the last elements of compounds whose first element may have ended: its credits are granted, and
    /// the client is told with the last element's response.
    compounds: BTreeSet<u64>,
    /// An id was refused.
    refused: bool,
}

/// What the client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Frame {
    /// ECHO that asks for so many credits.
    Echo { charge: u16, credits: u16 },
    /// A read that waits.
    Read,
    /// A write.
    Write,
    /// A write of more than its charge pays for.
    LargeWrite,
    /// A read that waits and a related write.
    ReadThenWrite,
    /// ECHO and another request with the same id.
    EchoTwice,
    /// CANCEL, which has no id of its own.
    Cancel,
    /// CANCEL and a write.
    CancelThenWrite,
    /// NEGOTIATE.
    Negotiate,
    /// SESSION_SETUP; of the latest session or a new one.
    Setup { again: bool },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Send(Frame, u64),
    Move(Move),
}

impl State {
    /// Message ids that the client may use, as far as it knows.
    fn held(&self) -> u64 {
        self.end().saturating_sub(self.low).saturating_sub(self.used.len() as u64)
    }

    fn end(&self) -> u64 {
        1 + self.wire().granted
    }

    fn wire(&self) -> &crate::harness::Wire {
        &self.world.wires[&CONNECTION]
    }

    /// Whether the client may use these ids of a window that ends here; then they are used.
    fn take(&mut self, ids: std::ops::Range<u64>, end: u64) -> bool {
        let fine = ids.start >= self.low && ids.end <= end && self.used.range(ids.clone()).next().is_none();
        if fine {
            self.used.extend(ids);
            while self.used.remove(&self.low) {
                self.low += 1;
            }
        }
        fine
    }

    /// The same for all requests of a frame: all of them or none.
    fn take_all(&mut self, chain: &Chain, end: u64) -> bool {
        let before = (self.low, self.used.clone());
        let negotiated = self.low > 0;
        let mut fits = true;
        for request in std::iter::once(&chain.first).chain(&chain.rest) {
            if request.command != Command::Cancel {
                let charge = if negotiated { u64::from(request.credit_charge.max(1)) } else { 1 };
                let first = request.message.0;
                fits &= self.take(first..first.saturating_add(charge), end);
            }
        }
        if !fits {
            (self.low, self.used) = before;
        }
        fits
    }

    fn write(&self, length: u32) -> Command {
        Command::Write(Write {
            file_id: self.pipe,
            offset: 0,
            // Unique while the model runs: each frame has one payload at most.
            buffer: BufferId(0x1_0000 + u64::from(self.frames)),
            length,
            write_through: false,
            unbuffered: false,
            by_rdma: false,
        })
    }

    fn read(&self) -> Command {
        Command::Read(read::Request {
            padding: 0,
            flags: read::Flags(0),
            length: 1,
            offset: 0,
            file_id: self.pipe,
            minimum_count: 0,
            channel: read::Channel::NONE,
            remaining_bytes: 0,
            channel_info: Bytes::new(),
        })
    }

    fn chain(&mut self, frame: Frame, id: u64) -> Chain {
        let request = |state: &mut Self, id: u64, command: Command| Request {
            message: MessageId(id),
            ..state.client.request(command)
        };
        let token = BufferId(0x1_0000 + u64::from(self.frames));
        let (write, read) = (self.write(1), self.read());
        let mut rest = Vec::new();
        let first = match frame {
            Frame::Echo { charge, credits } => {
                let echo = request(self, id, Command::Echo);
                Request { credit_charge: charge, credits, ..echo }
            }
            Frame::Read => request(self, id, read),
            Frame::Write => request(self, id, write),
            Frame::LargeWrite => {
                let write = self.write(65_537);
                request(self, id, write)
            }
            Frame::ReadThenWrite => {
                let second = request(self, id + 1, write);
                rest.push(Request { related: true, ..second });
                request(self, id, read)
            }
            Frame::EchoTwice => {
                rest.push(request(self, id, Command::Echo));
                request(self, id, Command::Echo)
            }
            Frame::Cancel => request(self, id, Command::Cancel),
            Frame::CancelThenWrite => {
                let fresh = self.low;
                rest.push(request(self, fresh, write));
                request(self, id, Command::Cancel)
            }
            Frame::Negotiate => request(self, id, client::negotiate(CONNECTION)),
            Frame::Setup { again } => {
                let setup = request(self, id, client::session_setup(token, SessionId(0)));
                let session = if again { setup.session } else { SessionId(0) };
                let keyed = self.world.has_keys(CONNECTION, session);
                let protection = if keyed { Protection::Signed } else { Protection::None };
                Request { session, protection, ..setup }
            }
        };
        Chain { first, rest }
    }

    fn send(&mut self, frame: Frame, id: u64, fault: Option<Fault>) {
        let mut chain = self.chain(frame, id);
        self.frames -= 1;
        let negotiated = self.low > 0;
        let told = self.end();
        let promised = told + u64::from(self.client.credits) * self.compounds.len() as u64;
        let fits = self.take_all(&chain, told);
        let may_fit = fits || self.take_all(&chain, promised);
        if !may_fit && fault == Some(Fault::SkipWindow) && chain.rest.is_empty() && self.held() > 0 {
            chain.first.message = MessageId(self.low);
            chain.first.credit_charge = 1;
        }
        let before_negotiate = !negotiated && !matches!(chain.first.command, Command::Negotiate(_));
        let again = negotiated && matches!(chain.first.command, Command::Negotiate(_));
        let was_closing = self.wire().closing;
        let seen = self.world.apply(Move::Send(CONNECTION, Box::new(chain)));
        self.observe(seen);
        if was_closing || before_negotiate || again {
            return;
        }
        let accepted = !self.wire().closing;
        if frame == Frame::ReadThenWrite && accepted {
            self.compounds.insert(id + 1);
        }
        if accepted && !may_fit || !accepted && fits {
            let what = format!("{frame:?} with id {id}: accepted {accepted}, ids inside the window {fits}");
            self.world.breaks(Rule::Window, what);
        }
        self.refused |= !accepted;
    }

    fn observe(&mut self, seen: Vec<Seen>) {
        for seen in seen {
            if let Seen::Response(_, response) = seen
                && response.session != SessionId(0)
            {
                self.client.session = response.session;
            }
        }
        let pending = &self.world.wires[&CONNECTION].pending;
        self.compounds.retain(|last| pending.contains(&MessageId(*last)));
        if self.held() > u64::from(CREDITS_MAX) && !self.wire().closing {
            let what = format!("the client holds {} credits", self.held());
            self.world.breaks(Rule::Grants, what);
        }
        let idle = self.world.is_quiet() && self.wire().pending.is_empty();
        if idle && !self.wire().closing && !self.wire().gone && self.held() == 0 {
            self.world.breaks(Rule::Starved, "an idle client holds no credit");
        }
    }
}

impl Model for Credits {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let limits = Limits { credits_max: CREDITS_MAX, compound_max: 3, ..Limits::default() };
        let config = client::config(1, limits, true);
        // Faults are seeded after the start.
        let mut world = World::new(config, Volume::pipes(), Grain::COARSE);
        let mut pipe = FileId::default();
        let client = if self.authenticated {
            let mut client = Client::establish(CONNECTION, 1, 2, &mut world);
            let access = AccessMask::READ_DATA.with(AccessMask::WRITE_DATA);
            let options = CreateOptions::EMPTY;
            let create = client::create("srvsvc", CreateDisposition::OPEN, access, ShareAccess::ALL, options);
            let mut seen = world.apply(client.send(create));
            seen.extend(world.run());
            for seen in seen {
                if let Seen::Response(_, response) = seen {
                    pipe = client::opened(&response.body).unwrap_or_default();
                }
            }
            client
        } else {
            world.accept(CONNECTION);
            Client { credits: 2, ..Client::new(CONNECTION) }
        };
        world.seed(self.fault);
        let low = client.next;
        let used = BTreeSet::new();
        vec![State {
            world,
            client,
            pipe,
            frames: self.frames,
            low,
            used,
            compounds: BTreeSet::new(),
            refused: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        if state.world.broken.is_some() {
            return;
        }
        let mut moves = Vec::new();
        state.world.moves(false, &mut moves);
        if !self.authenticated {
            for (connection, message, session) in state.world.proofs() {
                let again = state.world.has_keys(connection, session);
                let proofs: &[Proof] = if again {
                    &[Proof::Denied]
                } else {
                    &[Proof::Continue, Proof::User(1, None), Proof::Denied]
                };
                moves.extend(proofs.iter().map(|proof| Move::Prove(connection, message, *proof)));
            }
            if state.world.is_armed(Timer::Authentication(CONNECTION)) {
                moves.push(Move::Expire(Timer::Authentication(CONNECTION)));
            }
        }
        if !state.wire().gone {
            moves.push(Move::Disconnect(CONNECTION));
        }
        actions.extend(moves.into_iter().map(Step::Move));
        if state.frames == 0 || state.wire().gone || state.wire().closing {
            return;
        }
        let end = state.end();
        let ids: BTreeSet<u64> =
            [state.low.saturating_sub(1), state.low, state.low + 1, end.saturating_sub(1), end].into();
        let frames: &[Frame] = if self.authenticated {
            &[
                Frame::Echo { charge: 0, credits: 0 },
                Frame::Echo { charge: 1, credits: 8 },
                Frame::Echo { charge: 2, credits: 2 },
                Frame::Read,
                Frame::Write,
                Frame::LargeWrite,
                Frame::ReadThenWrite,
                Frame::EchoTwice,
            ]
        } else {
            &[
                Frame::Echo { charge: 1, credits: 8 },
                Frame::Negotiate,
                Frame::Setup { again: false },
                Frame::Setup { again: true },
            ]
        };
        for frame in frames {
            actions.extend(ids.iter().map(|id| Step::Send(*frame, *id)));
        }
        if self.authenticated {
            let targets: BTreeSet<u64> =
                state.wire().pending.iter().map(|message| message.0).chain([end]).collect();
            for frame in [Frame::Cancel, Frame::CancelThenWrite] {
                actions.extend(targets.iter().map(|id| Step::Send(frame, *id)));
            }
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut state = state.clone();
        match step {
            Step::Send(frame, id) => state.send(frame, id, self.fault),
            Step::Move(next) => {
                let seen = state.world.apply(next);
                state.observe(seen);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("S15 an id is accepted once, inside the window", |_, s: &State| {
                s.world.keeps(Rule::Window)
            }),
            Property::always("S16 grants are bounded", |_, s: &State| s.world.keeps(Rule::Grants)),
            Property::always("S17 an idle client holds a credit", |_, s: &State| {
                s.world.keeps(Rule::Starved)
            }),
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
            Property::sometimes("an id is refused", |_, s: &State| s.refused),
            Property::sometimes("the window is full", |_, s: &State| s.held() == u64::from(CREDITS_MAX)),
            Property::sometimes("a peer leaves a request behind", |_, s: &State| {
                s.wire().gone && !s.world.is_quiet()
            }),
        ];
        if self.authenticated {
            properties.extend([
                Property::sometimes("a request is abandoned", |_, s: &State| s.world.has_abandoned()),
                Property::sometimes("a client waits for a compound and more", |_, s: &State| {
                    s.wire().pending.len() > 2
                }),
            ]);
        } else {
            properties.extend([
                Property::sometimes("a stranger runs out of time", |_, s: &State| {
                    s.low == 0 && s.wire().closing && !s.refused
                }),
                Property::sometimes("a user is let in", |_, s: &State| {
                    s.world.has_keys(CONNECTION, s.client.session)
                }),
            ]);
        }
        properties
    }
}
