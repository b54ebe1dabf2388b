//! An adapter in one thread: it carries out what shards want, as late and in as odd an order as the script says.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smb_proto::auth::acceptor::AcceptorConfig;
use smb_proto::auth::ntlm::compute;
use smb_proto::command::negotiate::Dialect;
use smb_proto::crypto::portable::Portable;
use smb_proto::crypto::{CipherAlgorithm, SigningAlgorithm};
use smb_proto::{NtStatus, Payload};
use smb_state::Shard;
use smb_state::action::{Action, Audit, Output};
use smb_state::config::{Allowed, Config, Encryption, Limits, Share, Shared};
use smb_state::endpoint::{Buffers, Endpoint, EndpointOptions, KeyRing, Lookup, Outbox, Surroundings, Users};
use smb_state::event::{Event, Identity, Peer};
use smb_state::ids::{BufferId, ConnectionId, ShardId, ShareId, Token};
use smb_state::storage::{Requester, StorageOp, StorageReply};
use smb_state::timer::{Armed, Timer};

use super::storage::{self, Storage};
use crate::authentication::NOW;

/// The password of every user.
pub const PASSWORD: &str = "password";
/// Users that there are.
pub const USERS: [&str; 2] = ["alice", "bob"];

/// The table of payloads, strict about numbers.
#[derive(Debug, Default)]
pub struct Table {
    inner: RefCell<(u64, BTreeMap<BufferId, Payload>)>,
}

impl Table {
    fn add(&self, payload: Payload) -> BufferId {
        let mut inner = self.inner.borrow_mut();
        inner.0 += 1;
        let id = BufferId(inner.0);
        inner.1.insert(id, payload);
        id
    }

    fn len(&self) -> usize {
        self.inner.borrow().1.len()
    }
}

impl Buffers for Table {
    fn insert(&self, bytes: Bytes) -> BufferId {
        self.add(Payload::copy_from(&bytes))
    }

    fn get(&self, buffer: BufferId) -> Option<Bytes> {
        self.inner.borrow().1.get(&buffer).map(|payload| Bytes::copy_from_slice(payload.data()))
    }

    fn take(&self, buffer: BufferId) -> Option<Payload> {
        let taken = self.inner.borrow_mut().1.remove(&buffer);
        assert!(taken.is_some(), "a buffer was taken that is not there: {buffer:?}");
        taken
    }

    fn release(&self, buffer: BufferId) {
        let released = self.inner.borrow_mut().1.remove(&buffer);
        assert!(released.is_some(), "a buffer was released that is not there: {buffer:?}");
    }
}

/// Who may log on.
#[derive(Debug, Default)]
struct Database;

impl Users for Database {
    fn look_up(&self, name: &str, _: &str, _: Peer) -> Lookup {
        let known = USERS.iter().zip(1..).find(|(user, _)| user.eq_ignore_ascii_case(name));
        known.map_or(Lookup::Unknown, |(user, number)| Lookup::Known {
            nt_hash: *compute::nt_hash(PASSWORD).expose(),
            identity: Identity::User { name: (*user).into(), number },
        })
    }

    fn record(&self, _: &str, _: Peer, _: bool) {}

    fn anonymous(&self) -> Option<Identity> {
        Some(Identity::Anonymous)
    }
}

/// A storage request that waits for its turn.
#[derive(Debug)]
struct Pending {
    shard: ShardId,
    token: Token,
    requester: Requester,
    op: StorageOp,
}

/// A server without sockets.
#[derive(Debug)]
pub struct World {
    shards: Vec<Shard>,
    endpoints: BTreeMap<ConnectionId, Endpoint>,
    /// Connections that the server gave up.
    ended: BTreeSet<ConnectionId>,
    buffers: Rc<Table>,
    keys: KeyRing,
    storage: Storage,
    pending: Vec<Pending>,
    timers: BTreeMap<(ShardId, Timer), Armed>,
    events: VecDeque<(ShardId, Event)>,
    sent: Vec<(ConnectionId, Bytes)>,
    connections: u64,
    random: u64,
    /// Storage requests wait until [`World::complete`] picks them.
    pub late: bool,
}

/// What one bit each of the options turns on.
#[must_use]
pub fn config(options: u8) -> Config {
    let share = |id, name: &str, volume, encrypted, read_only| Share {
        id: ShareId(id),
        name: name.into(),
        volume,
        caps: storage::caps(volume),
        read_only,
        encrypted,
        access_based: false,
        continuous_availability: None,
        allowed: Allowed::Users,
    };
    Config {
        server_guid: [5; 16],
        incarnation: 1,
        shards: if options & 1 == 0 { 1 } else { 2 },
        dialects: (Dialect::SMB_2_0_2, Dialect::SMB_3_1_1),
        signers: vec![SigningAlgorithm::AesGmac, SigningAlgorithm::AesCmac, SigningAlgorithm::HmacSha256],
        ciphers: vec![CipherAlgorithm::Aes128Gcm, CipherAlgorithm::Aes128Ccm],
        signing_required: options & 2 != 0,
        encryption: if options & 4 == 0 { Encryption::Possible } else { Encryption::Required },
        limits: match options & 8 {
            0 => Limits::default(),
            _ => Limits {
                sessions_per_connection_max: 2,
                tree_connects_per_session_max: 2,
                opens_per_session_max: 3,
                credits_max: 8,
                compound_max: 3,
                io_size_max: 65_536,
                unauthenticated_connections_max: 2,
                ..Limits::default()
            },
        },
        shares: vec![
            share(1, "data", storage::FILES, false, false),
            share(2, "IPC$", storage::PIPES, false, false),
            share(3, "secret", storage::FILES, true, false),
            share(4, "fixed", storage::FILES, false, true),
        ],
        interfaces: Vec::new(),
    }
}

impl World {
    /// A server that was just started.
    #[must_use]
    pub fn new(options: u8) -> Self {
        let config = Shared::new(config(options));
        let shards = (0..config.shards).map(|id| Shard::new(ShardId(id), config.clone())).collect();
        Self {
            shards,
            endpoints: BTreeMap::new(),
            ended: BTreeSet::new(),
            buffers: Rc::default(),
            keys: KeyRing::default(),
            storage: Storage::default(),
            pending: Vec::new(),
            timers: BTreeMap::new(),
            events: VecDeque::new(),
            sent: Vec::new(),
            connections: 0,
            random: 0,
            late: options & 16 != 0,
        }
    }

    /// A peer connects.
    pub fn connect(&mut self) -> ConnectionId {
        self.connections += 1;
        let shard = ShardId(u16::try_from(self.connections % self.shards.len() as u64).unwrap_or(0));
        let connection = ConnectionId::new(shard, self.connections);
        let options = EndpointOptions {
            names: AcceptorConfig {
                netbios_computer: "SERVER".into(),
                netbios_domain: "SERVER".into(),
                dns_computer: "server".into(),
                dns_domain: String::new(),
            },
            unauthenticated_frame_max: Limits::default().unauthenticated_frame_max,
        };
        let peer = Peer(1);
        let endpoint = Endpoint::new(connection, peer, options, Arc::new(Portable));
        self.endpoints.insert(connection, endpoint);
        self.event(shard, Event::Accepted { connection, peer });
        connection
    }

    /// Whether frames can still be sent to the server here.
    #[must_use]
    pub fn is_open(&self, connection: ConnectionId) -> bool {
        self.endpoints.contains_key(&connection) && !self.ended.contains(&connection)
    }

    /// A frame arrives. The adapter's own check of its length is made here too.
    pub fn receive(&mut self, connection: ConnectionId, frame: &[u8]) {
        if !self.is_open(connection) {
            return;
        }
        let Some(endpoint) = self.endpoints.get_mut(&connection) else { return };
        let event = if frame.len() > endpoint.frame_max() {
            Event::Malformed { connection }
        } else {
            match endpoint.receive(BytesMut::from(frame), self.buffers.as_ref()) {
                Ok(chain) => Event::Request { connection, chain },
                Err(_) => Event::Malformed { connection },
            }
        };
        self.event(connection.shard(), event);
    }

    /// The peer is gone.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        if self.endpoints.remove(&connection).is_some() {
            self.event(connection.shard(), Event::Disconnected { connection });
        }
    }

    /// What was sent since the last call.
    pub fn take_sent(&mut self) -> Vec<(ConnectionId, Bytes)> {
        std::mem::take(&mut self.sent)
    }

    /// Answers one storage request that waits, with an error if `failure` says so.
    pub fn complete(&mut self, index: usize, failure: Option<NtStatus>) {
        if self.pending.is_empty() {
            return;
        }
        let pending = self.pending.remove(index % self.pending.len());
        self.answer(pending, failure);
        self.run();
    }

    /// A timer expires, rightly or not.
    pub fn expire(&mut self, index: usize, stale: bool) {
        let Some(((shard, timer), armed)) = self.timers.iter().nth(index % self.timers.len().max(1)) else {
            return;
        };
        let (shard, timer, armed) = (*shard, *timer, *armed);
        let armed = if stale {
            Armed(armed.0.wrapping_sub(1))
        } else {
            self.timers.remove(&(shard, timer));
            armed
        };
        self.event(shard, Event::Expired(timer, armed));
    }

    /// The operator does something, to every shard.
    pub fn administer(&mut self, admin: &smb_state::event::Admin) {
        for shard in 0..self.shards.len() {
            let shard = ShardId(u16::try_from(shard).unwrap_or(0));
            self.events.push_back((shard, Event::Admin(admin.clone())));
        }
        self.run();
    }

    /// Ends every connection, answers everything.
    ///
    /// # Panics
    /// When something is left.
    pub fn finish(&mut self) {
        let all: Vec<_> = self.endpoints.keys().copied().collect();
        for connection in all {
            self.disconnect(connection);
        }
        while !self.pending.is_empty() {
            self.complete(0, None);
        }
        while !self.timers.is_empty() {
            self.expire(0, false);
            while !self.pending.is_empty() {
                self.complete(0, None);
            }
        }
        assert_eq!(self.buffers.len(), 0, "buffers are left: {:?}", self.buffers);
        assert_eq!(self.storage.open_handles(), 0, "handles are left: {:?}", self.storage);
    }

    fn event(&mut self, shard: ShardId, event: Event) {
        self.events.push_back((shard, event));
        self.run();
    }

    fn run(&mut self) {
        while let Some((id, event)) = self.events.pop_front() {
            let mut actions = Vec::new();
            let shard = &mut self.shards[usize::from(id.0)];
            shard.step(event, &mut actions);
            shard.check_invariants();
            for action in actions {
                self.carry_out(id, action);
            }
        }
    }

    fn carry_out(&mut self, shard: ShardId, action: Action) {
        match action {
            Action::Output(connection, output) => self.output(connection, output),
            Action::Submit { token, requester, op } => {
                let pending = Pending { shard, token, requester, op };
                if self.late { self.pending.push(pending) } else { self.answer(pending, None) }
            }
            // A read of a pipe may be given up; here storage answers it sooner or later all the same.
            Action::Abandon { .. } => {}
            Action::Release(buffer) => self.buffers.release(buffer),
            Action::Arm { timer, armed, .. } => {
                self.timers.insert((shard, timer), armed);
            }
            Action::Disarm(timer) => {
                self.timers.remove(&(shard, timer));
            }
            Action::ToShard(to, envelope) => {
                self.events.push_back((to, Event::FromShard { from: shard, envelope }));
            }
            Action::Record(Audit::AdapterMisuse { what }) => panic!("the adapter is blamed: {what}"),
            Action::Store { .. } | Action::Recovered { .. } => panic!("there is no persistent open"),
            Action::Record(_) => {}
        }
    }

    fn output(&mut self, connection: ConnectionId, output: Output) {
        let Some(endpoint) = self.endpoints.get_mut(&connection) else {
            assert!(matches!(output, Output::Disconnect), "told a connection that is gone: {output:?}");
            return;
        };
        let mut random = |bytes: &mut [u8]| {
            for byte in bytes {
                self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = self.random.to_be_bytes()[0];
            }
        };
        let mut around = Surroundings {
            buffers: self.buffers.as_ref(),
            users: &Database,
            keys: &self.keys,
            random: &mut random,
            now: NOW,
        };
        let mut outbox = Outbox::default();
        endpoint.carry_out(output, &mut around, &mut outbox);
        self.sent.extend(outbox.frames.into_iter().map(|frame| (connection, frame)));
        self.events.extend(outbox.events.into_iter().map(|event| (connection.shard(), event)));
        if outbox.disconnect {
            self.ended.insert(connection);
        }
    }

    fn answer(&mut self, pending: Pending, failure: Option<NtStatus>) {
        let Pending { shard, token, requester, op } = pending;
        let buffers = Rc::clone(&self.buffers);
        let op =
            op.map_buffer(|buffer| buffers.get(buffer).expect("a buffer that storage was asked to write"));
        let reply = match (failure, &op) {
            // Giving a handle back can't fail.
            (Some(status), op) if !matches!(op, StorageOp::Close { .. }) => StorageReply::Failed(status),
            _ => self.storage.submit(requester.volume, op),
        };
        let reply = reply.map_buffer(|payload| self.buffers.add(payload));
        self.events.push_back((shard, Event::Completed { token, reply }));
    }
}
