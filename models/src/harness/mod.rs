//! What a shard needs around it, in a form that can be explored: shards, the messages between them, a volume, clients'
//! wires, authentications, timers. One [`Move`] is one event for one shard; any move that is possible may come next.
//!
//! The [`World`] watches what goes over its boundary and notes the first [`rule::Rule`] that a step breaks. It never looks
//! into a machine: what it knows is what an adapter knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use smb_proto::NtStatus;
use smb_proto::command::oplock_break::{self, Acknowledgment, OplockLevel};
use smb_proto::create_context::{LeaseState, RequestContext, ResponseContext};
use smb_state::action::{Action, Audit, Output};
use smb_state::config::{Config, Shared};
use smb_state::event::{Admin, AuthOutcome, Peer};
use smb_state::file::FileAsk;
use smb_state::file::caching::Cached;
use smb_state::file::permit::Permit;
use smb_state::ids::{
    BufferId, Channel, ConnectionId, FileKey, MessageId, OpenId, SessionId, ShardId, Token, VolumeId,
};
use smb_state::message::{Address, Answer, Asker, ClientAsk, Envelope, Message};
use smb_state::namespace::NamespaceAsk;
use smb_state::request::{Chain, Command, Protection};
use smb_state::response::{Body, Notification, Protect, Response};
use smb_state::storage::{StorageOp, StorageReply};
use smb_state::timer::{Armed, Timer};
use smb_state::{Event, Shard};

pub mod client;
pub mod fault;
mod rest;
pub mod rule;
pub mod run;
pub mod volume;

use fault::Fault;
use rule::{Broken, Rule};
use volume::Volume;

/// How fine the steps are that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grain {
    /// Answers between shards may be late. If not, they arrive at once: asks are late still.
    pub late_answers: bool,
    /// Storage may be late in closing a handle.
    pub late_closes: bool,
    /// A change of names may be visible before whoever asked for it hears of it.
    pub split_changes: bool,
}

impl Grain {
    /// The steps of a bound that takes seconds.
    pub const COARSE: Self = Self { late_answers: false, late_closes: false, split_changes: false };
    /// Everything.
    pub const FINE: Self = Self { late_answers: true, late_closes: true, split_changes: true };
}

/// Shards and what is around them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    shards: Vec<Shard>,
    /// Messages between shards, in order for each pair.
    mail: BTreeMap<(ShardId, ShardId), VecDeque<Envelope>>,
    /// Requests that storage has not answered.
    asked: BTreeMap<(ShardId, Token), Asked>,
    /// What is on disk.
    pub volume: Volume,
    /// Authentication steps in progress.
    proofs: BTreeMap<(ConnectionId, MessageId), SessionId>,
    timers: BTreeMap<Timer, (ShardId, Armed)>,
    /// Connections, also those that are gone.
    pub wires: BTreeMap<ConnectionId, Wire>,
    /// Payloads that the adapter holds.
    buffers: BTreeSet<BufferId>,
    channels: BTreeSet<(SessionId, Channel)>,
    /// The first rule that was broken.
    pub broken: Option<Broken>,
    grain: Grain,
    fault: Option<Fault>,
    /// What acknowledgments claimed, for a fault that grants it.
    greed: BTreeMap<(ConnectionId, MessageId), LeaseState>,
    /// Who asked a file for a preserved open, for a fault that grants it.
    claimants: BTreeSet<Asker>,
    /// How long a durable open is kept, as its client was told.
    told_ms: BTreeMap<OpenId, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    op: StorageOp,
    connection: ConnectionId,
    made_by: u64,
    /// The change is made; whoever asked does not know yet.
    performed: Option<StorageReply>,
    abandoned: bool,
}

/// A connection as its adapter sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Wire {
    /// The peer is gone.
    pub gone: bool,
    /// The core wants it closed.
    pub closing: bool,
    /// Requests without a final response.
    pub pending: BTreeSet<MessageId>,
    /// Requests that had an interim response.
    pub interim: BTreeSet<MessageId>,
    /// Requests of compounds that are not answered, with the one before each.
    after: BTreeMap<MessageId, MessageId>,
    /// Requests that a CANCEL named.
    cancelled: BTreeSet<MessageId>,
    /// Credits that responses granted.
    pub granted: u64,
    /// Sessions whose keys the endpoint has.
    keys: BTreeSet<SessionId>,
    /// Sessions whose own key the endpoint has while a bind is asked for.
    binds: BTreeSet<SessionId>,
}

impl Wire {
    /// Whether a request waits for something that may never come, or for one of its compound that does.
    fn waits(&self, message: &MessageId) -> bool {
        let before = self.after.get(message).filter(|before| self.pending.contains(before));
        self.interim.contains(message) && !self.cancelled.contains(message)
            || before.is_some_and(|before| self.waits(before))
    }
}

/// Something that can happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Move {
    /// Storage makes a change that it has been asked for, and says nothing yet.
    Perform(ShardId, Token),
    /// Storage answers.
    Complete(ShardId, Token),
    /// The oldest message from one shard to another arrives.
    Deliver(ShardId, ShardId),
    /// A timer runs out.
    Expire(Timer),
    /// A frame arrives.
    Send(ConnectionId, Box<Chain>),
    /// The peer goes away.
    Disconnect(ConnectionId),
    /// A step of an authentication ends.
    Prove(ConnectionId, MessageId, Proof),
}

/// How a step of an authentication ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// Another leg is needed.
    Continue,
    /// This user, for ever or until a timer.
    User(u32, Option<u64>),
    /// Refused.
    Denied,
    /// Of a bind: the request is not signed with the session's key.
    Forged,
}

/// What a move led to, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// A response went out.
    Response(ConnectionId, Response),
    /// A notification went out.
    Notification(ConnectionId, Notification),
    /// An event for the log.
    Audit(Audit),
}

impl World {
    /// Shards with nothing in them.
    #[must_use]
    pub fn new(config: Config, volume: Volume, grain: Grain) -> Self {
        let shards = config.shards;
        let config = Shared::new(config);
        Self {
            shards: (0..shards).map(|shard| Shard::new(ShardId(shard), config.clone())).collect(),
            mail: BTreeMap::new(),
            asked: BTreeMap::new(),
            volume,
            proofs: BTreeMap::new(),
            timers: BTreeMap::new(),
            wires: BTreeMap::new(),
            buffers: BTreeSet::new(),
            channels: BTreeSet::new(),
            broken: None,
            grain,
            fault: None,
            greed: BTreeMap::new(),
            claimants: BTreeSet::new(),
            told_ms: BTreeMap::new(),
        }
    }

    /// From now on the world has this fault.
    pub fn seed(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    /// A peer connects.
    pub fn accept(&mut self, connection: ConnectionId) {
        self.wires.insert(connection, Wire::default());
        let peer = Peer(u128::from(connection.0));
        self.step(connection.shard(), Event::Accepted { connection, peer }, &mut Vec::new());
    }

    /// Whether no step has broken this rule.
    #[must_use]
    pub fn keeps(&self, rule: Rule) -> bool {
        self.broken.as_ref().is_none_or(|broken| broken.rule != rule)
    }

    /// Notes a rule that is broken; the first one counts.
    pub fn breaks(&mut self, rule: Rule, what: impl Into<String>) {
        if self.broken.is_none() {
            self.broken = Some(Broken { rule, what: what.into() });
        }
    }

    /// What can happen without a client: storage, messages, timers if asked for.
    pub fn moves(&self, timers: bool, moves: &mut Vec<Move>) {
        for ((shard, token), asked) in &self.asked {
            if self.grain.split_changes && asked.performed.is_none() && changes_names(&asked.op) {
                moves.push(Move::Perform(*shard, *token));
            }
            moves.push(Move::Complete(*shard, *token));
        }
        moves.extend(self.mail.keys().map(|(from, to)| Move::Deliver(*from, *to)));
        if timers {
            moves.extend(self.timers.keys().map(|timer| Move::Expire(*timer)));
        }
    }

    /// Authentication steps in progress, with their session.
    pub fn proofs(&self) -> impl Iterator<Item = (ConnectionId, MessageId, SessionId)> {
        self.proofs.iter().map(|((connection, message), session)| (*connection, *message, *session))
    }

    /// Whether a timer of this name is armed.
    #[must_use]
    pub fn is_armed(&self, timer: Timer) -> bool {
        self.timers.contains_key(&timer)
    }

    /// Nothing is under way: no message, no request of storage, no authentication.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.mail.is_empty() && self.asked.is_empty() && self.proofs.is_empty()
    }

    /// Whether storage still works on something that nobody waits for any more.
    #[must_use]
    pub fn has_abandoned(&self) -> bool {
        self.asked.values().any(|asked| asked.abandoned)
    }

    /// Whether a request had an interim response.
    #[must_use]
    pub fn has_interim(&self, connection: ConnectionId, message: MessageId) -> bool {
        self.wires.get(&connection).is_some_and(|wire| wire.interim.contains(&message))
    }

    /// What storage carries out in this move, and for which connection.
    #[must_use]
    pub fn asked_by(&self, next: &Move) -> Option<(ConnectionId, &StorageOp)> {
        let (Move::Perform(shard, token) | Move::Complete(shard, token)) = next else { return None };
        let asked = self.asked.get(&(*shard, *token)).filter(|asked| asked.performed.is_none())?;
        Some((asked.connection, &asked.op))
    }

    /// Makes a move.
    pub fn apply(&mut self, next: Move) -> Vec<Seen> {
        let mut seen = Vec::new();
        match next {
            Move::Perform(shard, token) => self.perform(shard, token),
            Move::Complete(shard, token) => self.complete(shard, token, &mut seen),
            Move::Deliver(from, to) => self.deliver(from, to, &mut seen),
            Move::Expire(timer) => {
                if let Some((shard, armed)) = self.timers.remove(&timer)
                    && !(self.fault == Some(Fault::NeverExpire)
                        && matches!(
                            timer,
                            Timer::SessionExpiry(_) | Timer::BreakAcknowledgment(..) | Timer::Scavenger(_)
                        ))
                {
                    self.step(shard, Event::Expired(timer, armed), &mut seen);
                }
            }
            Move::Send(connection, chain) => self.send(connection, *chain, &mut seen),
            Move::Disconnect(connection) => self.disconnect(connection, &mut seen),
            Move::Prove(connection, message, proof) => self.prove(connection, message, proof, &mut seen),
        }
        self.settle(&mut seen);
        self.check_rest();
        seen
    }

    /// Lets everything that is under way come to an end, in one order.
    pub fn run(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            let mut moves = Vec::new();
            self.moves(false, &mut moves);
            let next = moves.into_iter().find(|next| !matches!(next, Move::Perform(..)));
            let Some(next) = next.filter(|_| self.broken.is_none()) else { return seen };
            seen.extend(self.apply(next));
        }
    }

    /// What the grain says comes at once.
    fn settle(&mut self, seen: &mut Vec<Seen>) {
        while self.broken.is_none() {
            let close = self
                .asked
                .iter()
                .find(|(_, asked)| !self.grain.late_closes && matches!(asked.op, StorageOp::Close { .. }));
            if let Some((&(shard, token), _)) = close {
                self.complete(shard, token, seen);
                continue;
            }
            let answer = self.mail.iter().find(|(_, queue)| {
                !self.grain.late_answers
                    && queue.front().is_some_and(|mail| matches!(mail.message, Message::Answer(..)))
            });
            let Some((&(from, to), _)) = answer else { return };
            self.deliver(from, to, seen);
        }
    }

    fn deliver(&mut self, from: ShardId, to: ShardId, seen: &mut Vec<Seen>) {
        let Some(queue) = self.mail.get_mut(&(from, to)) else { return };
        let Some(envelope) = queue.pop_front() else { return };
        if queue.is_empty() {
            self.mail.remove(&(from, to));
        }
        self.step(to, Event::FromShard { from, envelope }, seen);
    }

    fn send(&mut self, connection: ConnectionId, mut chain: Chain, seen: &mut Vec<Seen>) {
        let Some(wire) = self.wires.get_mut(&connection).filter(|wire| !wire.gone) else { return };
        let mut before = None;
        for request in std::iter::once(&chain.first).chain(&chain.rest) {
            if request.command == Command::Cancel {
                wire.cancelled.insert(request.message);
            } else if !wire.closing {
                wire.pending.insert(request.message);
                wire.after.extend(before.replace(request.message).map(|before| (request.message, before)));
            }
        }
        for request in std::iter::once(&chain.first).chain(&chain.rest) {
            if let Some(buffer) = request.command.buffer()
                && !self.buffers.insert(buffer)
            {
                self.breaks(Rule::Buffers, format!("{buffer:?} is in use: the model names it twice"));
            }
        }
        // The endpoint verifies what it has keys for.
        for request in std::iter::once(&mut chain.first).chain(&mut chain.rest) {
            if request.protection == Protection::Signed && !self.has_keys(connection, request.session) {
                request.protection = Protection::Unverified;
            }
        }
        if self.fault == Some(Fault::SkipSessionCheck)
            && matches!(chain.first.command, Command::TreeConnect(_))
            && let Some(any) = self.wires.get(&connection).and_then(|wire| wire.keys.first())
        {
            chain.first.session = *any;
            chain.first.protection = Protection::Signed;
        }
        if self.fault == Some(Fault::AcceptAnyAck)
            && let Command::OplockBreak(Acknowledgment::Lease(lease)) = &mut chain.first.command
        {
            self.greed.insert((connection, chain.first.message), lease.lease_state);
            lease.lease_state = LeaseState::EMPTY;
        }
        if self.fault == Some(Fault::TrustCreateGuid)
            && let Command::Create(create) = &mut chain.first.command
        {
            for context in &mut create.contexts {
                if let RequestContext::DurableHandleReconnectV2(back) = context {
                    back.create_guid = client::CREATE_GUID;
                }
            }
        }
        self.step(connection.shard(), Event::Request { connection, chain }, seen);
    }

    fn disconnect(&mut self, connection: ConnectionId, seen: &mut Vec<Seen>) {
        let Some(wire) = self.wires.get_mut(&connection).filter(|wire| !wire.gone) else { return };
        *wire = Wire { gone: true, ..Wire::default() };
        self.step(connection.shard(), Event::Disconnected { connection }, seen);
    }

    fn prove(&mut self, connection: ConnectionId, message: MessageId, proof: Proof, seen: &mut Vec<Seen>) {
        let Some(session) = self.proofs.remove(&(connection, message)) else { return };
        let proof = match (self.fault, proof) {
            (Some(Fault::KeepAfterFailure), Proof::Denied) if self.has_keys(connection, session) => {
                Proof::User(1, None)
            }
            (Some(Fault::OneUserForAll), Proof::User(_, valid)) => Proof::User(1, valid),
            (Some(Fault::TrustForgery), Proof::Forged) => Proof::User(1, None),
            (_, proof) => proof,
        };
        let outcome = match proof {
            Proof::Continue => AuthOutcome::Continue { reply: self.payload(connection, message) },
            Proof::User(number, valid_for_ms) => AuthOutcome::Accepted {
                reply: Some(self.payload(connection, message)),
                identity: client::user(number),
                keyed: true,
                valid_for_ms,
            },
            Proof::Denied => AuthOutcome::Denied { status: NtStatus::LOGON_FAILURE },
            Proof::Forged => AuthOutcome::Unverified,
        };
        let binding = self.wires.get(&connection).is_some_and(|wire| wire.binds.contains(&session));
        let failed = matches!(proof, Proof::Denied | Proof::Forged);
        self.step(connection.shard(), Event::Authenticated { connection, session, message, outcome }, seen);
        if self.fault == Some(Fault::EndVictim) && binding && failed {
            for shard in 0..self.shards.len() {
                let shard = ShardId(u16::try_from(shard).unwrap_or(0));
                self.step(shard, Event::Admin(Admin::EndSession(session)), seen);
            }
        }
    }

    /// Whether the endpoint has this session's keys on this connection.
    #[must_use]
    pub fn has_keys(&self, connection: ConnectionId, session: SessionId) -> bool {
        self.wires.get(&connection).is_some_and(|wire| wire.keys.contains(&session))
    }

    /// A payload that the adapter makes in answer to a request.
    fn payload(&mut self, connection: ConnectionId, message: MessageId) -> BufferId {
        let mut buffer = BufferId(1 << 63 | (connection.0 & 0xFF) << 32 | message.0 << 8);
        while !self.buffers.insert(buffer) {
            buffer.0 += 1;
        }
        buffer
    }

    fn perform(&mut self, shard: ShardId, token: Token) {
        let Some(mut asked) = self.asked.remove(&(shard, token)) else { return };
        asked.performed = Some(self.carry_out(&asked));
        self.asked.insert((shard, token), asked);
    }

    fn carry_out(&mut self, asked: &Asked) -> StorageReply {
        if asked.abandoned {
            return StorageReply::Failed(NtStatus::CANCELLED);
        }
        let buffer = match asked.op {
            StorageOp::Read { handle, .. } => {
                let content = self.volume.content(handle);
                self.payload(ConnectionId(content >> 32), MessageId(content & 0xFF_FFFF))
            }
            StorageOp::List { handle, .. } => {
                let shown = self.volume.shown_by(handle);
                self.payload(ConnectionId(0), MessageId(shown))
            }
            _ => BufferId(0),
        };
        match self.volume.perform(&asked.op, asked.made_by, buffer) {
            Ok(reply) => reply,
            Err(what) => {
                self.breaks(Rule::Storage, what);
                StorageReply::Failed(NtStatus::INTERNAL_ERROR)
            }
        }
    }

    fn complete(&mut self, shard: ShardId, token: Token, seen: &mut Vec<Seen>) {
        let Some(asked) = self.asked.remove(&(shard, token)) else { return };
        let reply = match asked.performed {
            Some(reply) => reply,
            None => self.carry_out(&asked),
        };
        self.step(shard, Event::Completed { token, reply }, seen);
    }

    fn step(&mut self, shard: ShardId, event: Event, seen: &mut Vec<Seen>) {
        let Some(machine) = self.shards.get_mut(usize::from(shard.0)) else { return };
        let mut actions = Vec::new();
        let ran = catch_unwind(AssertUnwindSafe(|| {
            machine.step(event, &mut actions);
            machine.check_invariants();
        }));
        if let Err(panic) = ran {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|what| (*what).to_string()));
            return self.breaks(Rule::Machines, what.unwrap_or_default());
        }
        if self.fault == Some(Fault::LateKeys) {
            // What was to be installed first comes last.
            actions.sort_by_key(|action| matches!(action, Action::Output(_, Output::InstallKeys { .. })));
        }
        if self.fault == Some(Fault::BreakOvertakes) {
            actions.sort_by_key(|action| !matches!(action, Action::Output(_, Output::Notify(_))));
        }
        for action in actions {
            self.carry(shard, action, seen);
        }
    }

    fn carry(&mut self, shard: ShardId, action: Action, seen: &mut Vec<Seen>) {
        match action {
            Action::Output(connection, output) => self.output(connection, output, seen),
            Action::Submit { token, requester, op } => {
                let (connection, made_by) = (requester.connection, self.makes(requester.connection));
                let asked = Asked { op, connection, made_by, performed: None, abandoned: false };
                if self.asked.insert((shard, token), asked).is_some() {
                    self.breaks(Rule::Storage, "a token names two requests");
                }
            }
            Action::Abandon { token } => match self.asked.get_mut(&(shard, token)) {
                Some(asked) => asked.abandoned = true,
                None => self.breaks(Rule::Storage, "nothing to abandon"),
            },
            Action::Release(buffer) => self.release(buffer),
            Action::Arm { timer, armed, after_ms } => {
                if let Timer::Scavenger(open) = timer
                    && self.told_ms.get(&open).is_some_and(|told| u64::from(*told) > after_ms)
                {
                    self.breaks(Rule::Kept, "an open is kept for less than its client was told");
                }
                self.timers.insert(timer, (shard, armed));
            }
            Action::Disarm(timer) => {
                self.timers.remove(&timer);
            }
            Action::ToShard(to, envelope) => self.post(shard, to, envelope),
            Action::Record(Audit::AdapterMisuse { what }) => self.breaks(Rule::Machines, what),
            Action::Store { .. } | Action::Recovered { .. } => {
                self.breaks(Rule::Machines, "there is no persistent open");
            }
            Action::Record(audit) => seen.push(Seen::Audit(audit)),
        }
    }

    /// What the next file that a connection makes is marked with: who, and at which of its requests.
    fn makes(&self, connection: ConnectionId) -> u64 {
        let last = self.wires.get(&connection).and_then(|wire| wire.pending.last()).map_or(0, |m| m.0);
        ((connection.0 & 0xFFFF) + 1) << 32 | last
    }

    fn release(&mut self, buffer: BufferId) {
        let after_cancel = self.wires.values().any(|wire| !wire.cancelled.is_empty());
        if self.fault == Some(Fault::LeakOnCancel) && after_cancel {
            return;
        }
        if !self.buffers.remove(&buffer) {
            self.breaks(Rule::Buffers, format!("{buffer:?} is released twice"));
        }
    }

    fn post(&mut self, from: ShardId, to: ShardId, mut envelope: Envelope) {
        if self.fault == Some(Fault::ForgetParentKey)
            && let Message::AskFile(FileAsk::EntryChanged { by }, _) = &mut envelope.message
        {
            *by = None;
        }
        match (self.fault, &envelope.message) {
            (Some(Fault::SkipFreeze), Message::Freeze { asker, .. }) => {
                return self.mail_answer(to, *asker, Answer::Granted);
            }
            (Some(Fault::SkipThaw), Message::Thaw { .. }) => return,
            (Some(Fault::SkipFileAsk), Message::AskFile(FileAsk::Open { .. }, asker)) => {
                let opened =
                    Answer::Opened { cached: Cached::Oplock(OplockLevel::NONE), permit: Permit::ALL };
                return self.mail_answer(to, *asker, opened);
            }
            (Some(Fault::SkipReplaceAsk), Message::AskFile(FileAsk::Replace { .. }, asker)) => {
                return self.mail_answer(to, *asker, Answer::Granted);
            }
            (Some(Fault::LoseFree), Message::AskNamespace(NamespaceAsk::Free(_), _)) => return,
            (Some(Fault::LoseNews), Message::News { .. }) => return,
            (Some(Fault::SkipWatch), Message::Watch { asker, .. }) => {
                return self.mail_answer(to, *asker, Answer::Granted);
            }
            (Some(Fault::LoseEntryChanged), Message::AskFile(FileAsk::EntryChanged { .. }, _)) => return,
            (Some(Fault::SkipDirectoryCached), Message::DirectoryCached { asker, .. }) => {
                return self.mail_answer(to, *asker, Answer::Granted);
            }
            (Some(Fault::LoseLost), Message::Lost { .. }) => return,
            (Some(Fault::SkipPreserve), Message::AskFile(FileAsk::Preserve { .. }, asker))
            | (Some(Fault::SkipBeginCreate), Message::AskClient(ClientAsk::BeginCreate { .. }, asker)) => {
                return self.mail_answer(to, *asker, Answer::Granted);
            }
            (Some(Fault::ReclaimAnyway), Message::AskFile(FileAsk::Reclaim { .. }, asker)) => {
                self.claimants.insert(*asker);
            }
            (Some(Fault::ReclaimAnyway), Message::Answer(token, Answer::Refused(_)))
                if self.claimants.remove(&Asker { shard: to, token: *token }) =>
            {
                envelope.message = Message::Answer(*token, Answer::Granted);
            }
            (Some(fault), _) if self.post_of_locks(fault, from, to, &envelope) => return,
            _ => {}
        }
        self.mail.entry((from, to)).or_default().push_back(envelope);
    }

    /// Faults about locks. Returns whether the message is not delivered.
    fn post_of_locks(&mut self, fault: Fault, from: ShardId, to: ShardId, envelope: &Envelope) -> bool {
        match (fault, &envelope.message) {
            (Fault::SkipRestrict | Fault::EarlyDrained, Message::Permit { open, .. }) => {
                let asker = Asker { shard: to, token: Token { slot: u32::MAX, generation: u32::MAX } };
                let file = FileKey { volume: VolumeId(1), number: volume::FIRST };
                let message = Message::AskFile(FileAsk::Drained { open: *open }, asker);
                let drained = Envelope { to: Address::File(file), message };
                self.mail.entry((to, from)).or_default().push_back(drained);
                fault == Fault::SkipRestrict
            }
            (Fault::LoseDrained, Message::AskFile(FileAsk::Drained { .. }, _))
            | (Fault::LoseWithdraw, Message::AskFile(FileAsk::Withdraw { .. }, _)) => true,
            (Fault::SkipLockAsk, Message::AskFile(FileAsk::Lock { .. }, asker))
            | (Fault::SkipUnlockAsk, Message::AskFile(FileAsk::Unlock { .. }, asker)) => {
                self.mail_answer(to, *asker, Answer::Granted);
                true
            }
            (Fault::SkipCheck, Message::AskFile(FileAsk::Check { .. }, asker)) => {
                self.mail_answer(to, *asker, Answer::Checked { permit: Permit::ALL });
                true
            }
            _ => false,
        }
    }

    fn mail_answer(&mut self, from: ShardId, asker: Asker, answer: Answer) {
        let envelope =
            Envelope { to: Address::Shard(asker.shard), message: Message::Answer(asker.token, answer) };
        self.mail.entry((from, asker.shard)).or_default().push_back(envelope);
    }

    fn output(&mut self, connection: ConnectionId, output: Output, seen: &mut Vec<Seen>) {
        let Some(wire) = self.wires.get_mut(&connection) else {
            return self.breaks(Rule::Machines, "output for a connection that never was");
        };
        match output {
            Output::Respond(responses) => {
                let twice = self.fault == Some(Fault::AnswerTwice);
                for response in responses {
                    if twice {
                        self.respond(connection, response.clone(), seen);
                    }
                    self.respond(connection, response, seen);
                }
            }
            Output::Bind { session, message, token } => {
                wire.binds.insert(session);
                self.proofs.insert((connection, message), session);
                self.release(token);
            }
            Output::VerifyBind { session, .. } => {
                wire.binds.insert(session);
            }
            Output::Authenticate { session, message, token } => {
                self.proofs.insert((connection, message), session);
                self.release(token);
            }
            Output::InstallKeys { session, channel } => {
                let over = !wire.gone && !wire.keys.insert(session);
                wire.binds.remove(&session);
                if over {
                    self.breaks(Rule::Keys, "keys are installed over keys");
                }
                if !self.channels.insert((session, channel)) {
                    self.breaks(Rule::Keys, "a channel's ordinal is used twice");
                }
            }
            Output::DropKeys { session } => {
                wire.keys.remove(&session);
                wire.binds.remove(&session);
            }
            Output::Disconnect => wire.closing = true,
            Output::Notify(notification) => {
                let keyed = notification.sealed.is_none_or(|session| wire.keys.contains(&session));
                if wire.gone || !keyed {
                    self.breaks(Rule::Keys, format!("nobody can read {notification:?}"));
                }
                if self.fault != Some(Fault::ForgetBreak) {
                    seen.push(Seen::Notification(connection, notification));
                }
            }
            Output::Negotiated(_) | Output::ContinueHash { .. } | Output::DropAuthentication { .. } => {}
        }
    }

    fn respond(&mut self, connection: ConnectionId, mut response: Response, seen: &mut Vec<Seen>) {
        let Some(wire) = self.wires.get_mut(&connection) else { return };
        let message = response.message;
        let interim = response.status == NtStatus::PENDING && response.async_id.is_some();
        let wrong = if wire.gone {
            Some((Rule::OneAnswer, "an answer to a peer that is gone"))
        } else if interim && (!wire.interim.insert(message) || !wire.pending.contains(&message)) {
            Some((Rule::OneAnswer, "an interim response too many"))
        } else if !interim && !wire.pending.remove(&message) {
            Some((Rule::OneAnswer, "an answer to nothing"))
        } else {
            None
        };
        if !interim {
            wire.after.remove(&message);
        }
        let keyed = match response.protect {
            Protect::Plain => true,
            Protect::Sign => wire.keys.contains(&response.session) || wire.binds.contains(&response.session),
            Protect::Seal(session) => wire.keys.contains(&session),
        };
        match self.fault {
            Some(Fault::GrantTwice) => response.credits = response.credits.saturating_mul(2),
            Some(Fault::Starve) => response.credits = 0,
            _ => {}
        }
        if let Some(state) = self.greed.remove(&(connection, message))
            && let Body::OplockBreak(oplock_break::Response::Lease(lease)) = &mut response.body
        {
            lease.lease_state = state;
        }
        wire.granted += u64::from(response.credits);
        if let Some((rule, what)) = wrong {
            self.breaks(rule, format!("{what}: {response:?}"));
        }
        if !keyed {
            self.breaks(Rule::Keys, format!("no keys for {response:?}"));
        }
        if let Some(buffer) = response.body.buffer() {
            self.release(buffer);
        }
        if let Body::Create(create) = &response.body {
            self.told_ms.extend(create.contexts.iter().find_map(|context| match context {
                ResponseContext::DurableHandleV2(granted) => {
                    Some((OpenId(create.file_id.persistent), granted.timeout_ms))
                }
                _ => None,
            }));
        }
        seen.push(Seen::Response(connection, response));
    }

    /// Whether there is only one shard.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.shards.len() == 1
    }

    /// Whether a break may be on its way between shards to a client of that connection.
    #[must_use]
    pub fn break_is_under_way_to(&self, connection: ConnectionId) -> bool {
        let under_way = |(queue, home): (&VecDeque<Envelope>, ShardId)| {
            home == connection.shard()
                && queue.iter().any(|mail| matches!(mail.message, Message::Break { .. } | Message::Notify(_)))
        };
        self.mail.iter().any(|((_, to), queue)| under_way((queue, *to)))
    }

    /// How many breaks wait for their clients' acknowledgment.
    #[must_use]
    pub fn breaks_under_way(&self) -> usize {
        self.timers.keys().filter(|timer| matches!(timer, Timer::BreakAcknowledgment(..))).count()
    }
}

fn changes_names(op: &StorageOp) -> bool {
    matches!(
        op,
        StorageOp::Create { .. }
            | StorageOp::Rename { .. }
            | StorageOp::Link { .. }
            | StorageOp::Unlink { .. }
    )
}
