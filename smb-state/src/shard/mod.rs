//! One shard: the machines whose home it is, and the step that moves them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use smb_proto::Name;
use smb_proto::command::ioctl::NetworkInterface;

use crate::action::{Action, Actions, Audit, Output};
use crate::client::Client;
use crate::config::{Config, Limits, Share, Shared};
use crate::connection::Connection;
use crate::event::{Admin, Event, Identity};
use crate::file::File;
use crate::ids::{
    BufferId, ConnectionId, FileKey, IdSource, OpenId, Partition, SessionId, ShardId, Token, VolumeId,
};
use crate::message::{Address, Answer, Asker, Envelope, Finished, Message};
use crate::namespace::Namespace;
use crate::open::Open;
use crate::open::create::Creating;
use crate::open::durable::Claim;
use crate::open::durable::reclaim::Shown;
use crate::session::{Leaves, Session};
use crate::slots::Slots;
use crate::storage::{Requester, StorageOp, StorageReply};
use crate::timer::{Armed, Timer};
use crate::watch::Watching;

mod invariants;
#[cfg(test)]
mod tests;
mod wait;

pub use invariants::Holdings;
pub(crate) use wait::Wait;

/// One shard of a server. [`Shard::step`] is the whole interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    pub(crate) id: ShardId,
    pub(crate) config: Shared<Config>,
    pub(crate) limits: Limits,
    pub(crate) shares: Vec<Share>,
    pub(crate) interfaces: Vec<NetworkInterface>,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) clients: BTreeMap<[u8; 16], Client>,
    pub(crate) opens: BTreeMap<OpenId, Open>,
    /// How many of them are kept for clients that are gone.
    pub(crate) preserved: u32,
    /// And of whom.
    pub(crate) preserved_of: BTreeMap<Identity, u32>,
    /// Persistent opens of this shard's ids, wherever they are, by whose they are.
    pub(crate) persistent_of: BTreeMap<Identity, u32>,
    /// Opens of this shard's ids that clients took up again elsewhere, or that are on their way here.
    pub(crate) abroad: BTreeMap<OpenId, Shown>,
    /// Clients that came back for an open whose old session has not ended yet.
    pub(crate) claims: BTreeMap<OpenId, (Claim, Asker)>,
    /// Opens that are lost before they came here to be kept.
    pub(crate) lost_early: BTreeSet<OpenId>,
    pub(crate) files: BTreeMap<FileKey, File>,
    pub(crate) namespaces: BTreeMap<VolumeId, Namespace>,
    /// Directories being renamed, with the opens below them that wait for it.
    pub(crate) frozen: BTreeMap<(VolumeId, Name), Vec<Creating>>,
    pub(crate) watching: Watching,
    /// Directories that somebody may cache, with the opens under such leases.
    pub(crate) cached_directories: BTreeMap<FileKey, u32>,
    pub(crate) waits: Slots<Wait>,
    pub(crate) timers: BTreeMap<Timer, Armed>,
    armed: u32,
    pub(crate) session_ids: IdSource,
    pub(crate) open_ids: IdSource,
    pub(crate) shutting_down: bool,
    /// The next break that ends read caching is forgotten.
    #[cfg(feature = "seeded-faults")]
    pub(crate) forgets_break: bool,
}

/// What one step produces: effects for the adapter and messages that are still to be delivered in this shard.
pub(crate) struct Turn<'a> {
    out: &'a mut Actions,
    work: VecDeque<Envelope>,
    shard: ShardId,
    shards: u16,
}

impl Turn<'_> {
    pub(crate) fn push(&mut self, action: Action) {
        self.out.push(action);
    }

    pub(crate) fn output(&mut self, connection: ConnectionId, output: Output) {
        self.out.push(Action::Output(connection, output));
    }

    /// Tells a connection's endpoint something, by way of the connection's shard.
    pub(crate) fn tell(&mut self, connection: ConnectionId, output: Output) {
        self.post(Address::Connection(connection), Message::Endpoint(Box::new(output)));
    }

    pub(crate) fn release(&mut self, buffer: Option<BufferId>) {
        self.out.extend(buffer.map(Action::Release));
    }

    /// Sends a message to a machine, here or in another shard.
    pub(crate) fn post(&mut self, to: Address, message: Message) {
        let envelope = Envelope { to, message };
        let home = to.home(self.shards);
        if home == self.shard {
            self.work.push_back(envelope);
        } else {
            self.out.push(Action::ToShard(home, envelope));
        }
    }

    /// Ends a request.
    pub(crate) fn finish(&mut self, finished: Finished) {
        self.post(Address::Connection(finished.origin.connection), Message::Finish(Box::new(finished)));
    }

    /// Answers an ask.
    pub(crate) fn answer(&mut self, asker: Asker, answer: Answer) {
        self.post(Address::Shard(asker.shard), Message::Answer(asker.token, answer));
    }
}

impl Address {
    /// The shard where the machine lives.
    pub(crate) fn home(self, shards: u16) -> ShardId {
        match self {
            Self::Connection(connection) => connection.shard(),
            Self::Session(session) => session.partition().shard(shards),
            Self::Open(open) => open.partition().shard(shards),
            Self::File(file) => file.partition().shard(shards),
            Self::Namespace(volume) => Partition::of_number(u64::from(volume.0)).shard(shards),
            Self::Client(guid) => {
                let [a, b, c, d, e, f, g, h, ..] = guid;
                Partition::of_number(u64::from_le_bytes([a, b, c, d, e, f, g, h])).shard(shards)
            }
            Self::Shard(shard) => shard,
        }
    }
}

impl Shard {
    /// A shard with nothing in it.
    #[must_use]
    pub fn new(id: ShardId, config: Shared<Config>) -> Self {
        // Each shard makes ids in the first partition whose home it is.
        let partition = Partition(id.0);
        Self {
            id,
            limits: config.limits,
            shares: config.shares.clone(),
            interfaces: config.interfaces.clone(),
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            clients: BTreeMap::new(),
            opens: BTreeMap::new(),
            preserved: 0,
            preserved_of: BTreeMap::new(),
            persistent_of: BTreeMap::new(),
            abroad: BTreeMap::new(),
            claims: BTreeMap::new(),
            lost_early: BTreeSet::new(),
            files: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            frozen: BTreeMap::new(),
            watching: Watching::default(),
            cached_directories: BTreeMap::new(),
            waits: Slots::default(),
            timers: BTreeMap::new(),
            armed: 0,
            session_ids: IdSource::new(config.incarnation, partition),
            open_ids: IdSource::new(config.incarnation, partition),
            shutting_down: false,
            #[cfg(feature = "seeded-faults")]
            forgets_break: false,
            config,
        }
    }

    /// Consumes one event and pushes its effects, in the order in which they are to be carried out.
    pub fn step(&mut self, event: Event, out: &mut Actions) {
        let mut turn = Turn { out, work: VecDeque::new(), shard: self.id, shards: self.config.shards.max(1) };
        self.on_event(event, &mut turn);
        while let Some(envelope) = turn.work.pop_front() {
            self.deliver(envelope, &mut turn);
        }
    }

    fn on_event(&mut self, event: Event, turn: &mut Turn<'_>) {
        match event {
            Event::Accepted { connection, peer } => self.on_accepted(connection, peer, turn),
            Event::Request { connection, chain } => self.on_request(connection, chain, turn),
            Event::Malformed { connection } => self.on_malformed(connection, turn),
            Event::Disconnected { connection } => self.on_disconnected(connection, turn),
            Event::Completed { token, reply } => self.on_completed(token, reply, turn),
            Event::Stored { token, durable } => self.on_stored(token, durable, turn),
            Event::Restored { record } => self.on_restored(*record, turn),
            Event::Authenticated { connection, session, message, outcome } => {
                let outcome = Box::new(outcome);
                turn.post(Address::Session(session), Message::Authenticated { connection, message, outcome });
            }
            Event::Expired(timer, armed) => self.on_expired(timer, armed, turn),
            Event::FromShard { from: _, envelope } => self.deliver(envelope, turn),
            Event::Admin(admin) => self.on_admin(admin, turn),
        }
    }

    fn deliver(&mut self, envelope: Envelope, turn: &mut Turn<'_>) {
        match (envelope.to, envelope.message) {
            (Address::Session(session), Message::Execute(execution)) => {
                self.on_execute(session, *execution, turn)
            }
            (Address::Connection(_), Message::Finish(finished)) => self.on_finished(*finished, turn),
            (Address::Connection(connection), Message::SessionEnded { session }) => {
                self.session_is_gone(connection, session, turn);
            }
            (Address::Connection(connection), Message::SessionValid { session }) => {
                self.session_is_valid(connection, session, turn);
            }
            (Address::Connection(_), Message::BindEnded(finished)) => self.on_bind_ended(*finished, turn),
            (Address::Connection(connection), Message::Endpoint(output)) => {
                self.on_endpoint(connection, *output, turn);
            }
            (Address::Connection(connection), Message::Misbehaved { what }) => {
                self.misbehaved(connection, what, turn);
            }
            (Address::Session(session), Message::Setup(request)) => self.on_setup(session, *request, turn),
            (Address::Session(session), Message::Authenticated { connection, message, outcome }) => {
                self.on_authenticated(connection, session, message, *outcome, turn);
            }
            (Address::Session(_), Message::Cancel { connection, message, status }) => {
                self.cancel_wait(connection, message, status, turn);
            }
            (Address::Session(session), Message::Break { open, file, notice }) => {
                self.on_break(session, open, file, notice, turn);
            }
            (Address::Session(_) | Address::Open(_), Message::Follow { follow, asker }) => {
                self.on_follow(follow, asker, turn);
            }
            (Address::Session(_) | Address::Open(_), Message::Moved { open, name }) => {
                self.on_moved(open, name);
            }
            (Address::Session(_), Message::Settled { open, state }) => self.on_settled(open, state),
            (Address::Session(_), Message::Permit { open, permit }) => self.on_permit(open, permit, turn),
            (Address::Connection(connection), Message::Notify(notification)) => {
                self.on_notification(connection, notification, turn);
            }
            (Address::Connection(connection), Message::Interim { message }) => {
                self.on_interim(connection, message, turn);
            }
            (Address::Session(session), Message::ChannelLost { connection }) => {
                self.on_channel_lost(session, connection, turn);
            }
            (Address::Session(session), Message::EndPrevious { identity, asker }) => {
                self.on_end_previous(session, &identity, asker, turn);
            }
            (Address::File(file), Message::AskFile(ask, asker)) => self.on_ask_file(file, ask, asker, turn),
            (Address::Namespace(volume), Message::AskNamespace(ask, asker)) => {
                self.on_ask_namespace(volume, ask, asker, turn);
            }
            (Address::Client(guid), Message::AskClient(ask, asker)) => {
                self.on_ask_client(guid, ask, asker, turn)
            }
            (Address::Open(_), Message::Preserve { id, open, asker }) => {
                self.on_preserve(id, *open, asker, turn)
            }
            (Address::Open(_), Message::Reclaim { claim, asker }) => self.on_reclaim(*claim, asker, turn),
            (Address::Open(_), Message::Gone { open, persistent }) => {
                if let Some(owner) = persistent {
                    self.persists_no_more(&owner);
                }
                self.open_is_gone_abroad(open, turn);
            }
            (Address::Open(_), Message::Lost { open }) => self.on_lost(open, turn),
            (Address::Shard(_), Message::Freeze { volume, path, asker }) => {
                self.on_freeze(volume, path, asker, turn)
            }
            (Address::Shard(_), Message::Thaw { volume, path, moved }) => {
                self.on_thaw(volume, path, moved.as_ref(), turn);
            }
            (Address::Shard(_), Message::Watch { volume, watcher, asker }) => {
                self.on_watch(volume, watcher, asker, turn);
            }
            (Address::Shard(_), Message::DirectoryCached { directory, asker }) => {
                self.on_directory_cached(directory, asker, turn);
            }
            (Address::Shard(_), Message::DirectoryUncached { directory }) => {
                self.on_directory_uncached(directory)
            }
            (Address::Shard(_), Message::Unwatch { volume, open }) => self.on_unwatch(volume, open),
            (Address::Session(_), Message::News { open, news }) => self.on_news(open, news, turn),
            (Address::Shard(_), Message::Answer(token, answer)) => self.on_answer(token, answer, turn),
            (
                Address::Connection(_)
                | Address::Session(_)
                | Address::File(_)
                | Address::Namespace(_)
                | Address::Client(_)
                | Address::Open(_)
                | Address::Shard(_),
                _,
            ) => debug_assert!(false, "a message at a machine that does not take it"),
        }
    }

    fn on_accepted(&mut self, connection: ConnectionId, peer: crate::event::Peer, turn: &mut Turn<'_>) {
        if connection.shard() != self.id || self.connections.contains_key(&connection) {
            turn.push(Action::Record(Audit::AdapterMisuse {
                what: "connection id of another shard, or used twice",
            }));
            return turn.output(connection, Output::Disconnect);
        }
        let strangers_max = self.limits.unauthenticated_connections_max as usize;
        // Counted only when there can be that many.
        let full = self.connections.len() >= self.limits.connections_max as usize
            || (self.connections.len() >= strangers_max
                && self.connections.values().filter(|other| !other.is_authenticated()).count()
                    >= strangers_max);
        self.connections.insert(connection, Connection::new(peer));
        if full || self.shutting_down {
            return self.disconnect(connection, turn);
        }
        self.arm(Timer::Authentication(connection), self.limits.authentication_timeout_ms, turn);
    }

    fn on_expired(&mut self, timer: Timer, armed: Armed, turn: &mut Turn<'_>) {
        if self.timers.get(&timer) != Some(&armed) {
            return;
        }
        self.timers.remove(&timer);
        match timer {
            Timer::Authentication(connection) => {
                let late = self.connections.get(&connection).is_some_and(|state| !state.is_authenticated());
                if late {
                    self.misbehaved(connection, "no valid session in time", turn);
                }
            }
            Timer::SessionExpiry(session) => self.on_session_expired(session),
            Timer::BreakAcknowledgment(file, number) => self.on_break_timeout(file, number, turn),
            Timer::Claim(open) => self.end_claim(open, turn),
            Timer::Scavenger(open) => self.on_scavenger(open, turn),
            Timer::WriteTime(open) => self.on_write_time_due(open, turn),
        }
    }

    fn on_admin(&mut self, admin: Admin, turn: &mut Turn<'_>) {
        match admin {
            Admin::Shares(shares) => self.on_shares(shares, turn),
            Admin::Interfaces(interfaces) => self.interfaces = interfaces,
            Admin::Limits(limits) => self.limits = limits,
            Admin::EndSession(session) => self.end_session(session, Leaves::Nothing, None, turn),
            Admin::EndShare(share) => self.on_end_share(share, turn),
            Admin::Shutdown => {
                self.shutting_down = true;
                // What their opens were to delete at their close is deleted now.
                self.close_preserved(|_| true, turn);
                let all: Vec<ConnectionId> = self.connections.keys().copied().collect();
                for connection in all {
                    self.disconnect(connection, turn);
                }
            }
            #[cfg(feature = "seeded-faults")]
            Admin::ForgetBreak => self.forgets_break = true,
        }
    }

    /// Starts or moves a timer.
    pub(crate) fn arm(&mut self, timer: Timer, after_ms: u64, turn: &mut Turn<'_>) {
        self.armed = self.armed.wrapping_add(1);
        let armed = Armed(self.armed);
        self.timers.insert(timer, armed);
        turn.push(Action::Arm { timer, armed, after_ms });
    }

    /// Stops a timer.
    pub(crate) fn disarm(&mut self, timer: Timer, turn: &mut Turn<'_>) {
        if self.timers.remove(&timer).is_some() {
            turn.push(Action::Disarm(timer));
        }
    }

    /// Keeps a wait for an answer of another machine.
    pub(crate) fn wait(&mut self, wait: Wait) -> Asker {
        Asker { shard: self.id, token: self.waits.insert(wait) }
    }

    /// For asks whose answer nobody needs.
    pub(crate) fn nobody(&self) -> Asker {
        Asker { shard: self.id, token: Token { slot: u32::MAX, generation: u32::MAX } }
    }

    /// Asks storage and keeps the wait for its answer.
    pub(crate) fn submit(&mut self, requester: Requester, op: StorageOp, wait: Wait, turn: &mut Turn<'_>) {
        let token = self.waits.insert(wait);
        turn.push(Action::Submit { token, requester, op });
    }

    fn on_completed(&mut self, token: Token, reply: StorageReply, turn: &mut Turn<'_>) {
        match self.waits.remove(token) {
            Some(wait) => self.on_reply(wait, reply, turn),
            None => turn.push(Action::Record(Audit::AdapterMisuse { what: "an answer to nothing" })),
        }
    }

    fn on_answer(&mut self, token: Token, answer: Answer, turn: &mut Turn<'_>) {
        if let Some(wait) = self.waits.remove(token) {
            self.on_machine_answer(wait, answer, turn);
        }
    }
}
