//! A client and its cache.

use std::collections::BTreeSet;

use smb_proto::access::AccessMask;
use smb_proto::command::FileId;
use smb_proto::command::create::{CreateDisposition, CreateOptions, ShareAccess};
use smb_proto::command::oplock_break::{Acknowledgment, LeaseBreak, OplockBreak, OplockLevel};
use smb_proto::create_context::{LeaseFlags, LeaseKey, LeaseState, LeaseV1, LeaseV2, RequestContext};
use smb_state::ids::{BufferId, MessageId};
use smb_state::request::{Chain, Command, Request};

use super::cases::{Asks, How, Op};
use super::{H, KEY, NONE, R, W};
use crate::harness::Move;
use crate::harness::client::{self, Client};

/// Something that was written, in the order of the writes' beginnings; 0 is what the file had at first.
pub(super) type Version = u8;

/// What a client caches of the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Cache {
    /// What it may cache.
    pub(super) rights: LeaseState,
    /// The open of an oplock; absent for a lease.
    pub(super) oplock: Option<FileId>,
    /// Version 2's epoch.
    pub(super) epoch: Option<u16>,
    /// What it has read or written.
    pub(super) content: Option<Version>,
    /// What only it has.
    pub(super) dirty: Option<Version>,
    /// The break that it was told of and still has to acknowledge.
    pub(super) breaking: Option<Reaction>,
    /// Breaks that it was told of: what was read before may not be cached after.
    pub(super) told: u8,
}

/// A client's way from a break to its acknowledgment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reaction {
    pub(super) to: LeaseState,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// It knows.
    Told,
    /// It claims more than it may.
    Claiming(MessageId),
    /// Its claim was refused.
    Refused,
    /// It writes back.
    Flushing(MessageId),
    /// It acknowledges.
    Acknowledging(MessageId),
}

/// A request of the script that is not answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outstanding {
    pub(super) message: MessageId,
    pub(super) op: Op,
    /// What a READ may bring back; what a WRITE writes.
    pub(super) versions: BTreeSet<Version>,
    /// [`Cache::told`] when it began.
    pub(super) told: u8,
    /// It was said to wait.
    pub(super) waits: bool,
    pub(super) cancelled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Player {
    pub(super) client: Client,
    /// Requests of the script that began.
    pub(super) step: usize,
    pub(super) outstanding: Option<Outstanding>,
    pub(super) slots: [Option<FileId>; 2],
    pub(super) cache: Cache,
    /// A break of its timed out: what it believes to hold it may not hold.
    pub(super) late: bool,
    pub(super) gone: bool,
}

pub(super) fn create(how: How, asks: Asks, epoch: u16) -> Command {
    let data = AccessMask::READ_DATA.with(AccessMask::WRITE_DATA);
    let (access, share) = match how {
        How::Shared => (data, ShareAccess::ALL),
        How::Alone => (data, ShareAccess::EMPTY),
        How::Careful => (AccessMask::READ_DATA, ShareAccess::READ.with(ShareAccess::WRITE)),
        How::Deleting => (AccessMask::DELETE, ShareAccess::ALL),
    };
    let mut command = client::create("a", CreateDisposition::OPEN, access, share, CreateOptions::EMPTY);
    if let Command::Create(request) = &mut command {
        request.contexts.clear();
        (request.oplock_level, request.contexts) = match asks {
            Asks::Nothing => (OplockLevel::NONE, Vec::new()),
            Asks::Oplock(level) => (level, Vec::new()),
            Asks::Lease(state) => {
                let lease = LeaseV1 { key: KEY, state, flags: LeaseFlags::EMPTY };
                (OplockLevel::LEASE, vec![RequestContext::Lease(lease)])
            }
            Asks::LeaseV2(state) => {
                let parent_key = LeaseKey::default();
                let lease = LeaseV2 { key: KEY, state, flags: LeaseFlags::EMPTY, parent_key, epoch };
                (OplockLevel::LEASE, vec![RequestContext::LeaseV2(lease)])
            }
        };
    }
    command
}

pub(super) fn rights_of(level: OplockLevel) -> LeaseState {
    match level {
        OplockLevel::BATCH => LeaseState::READ_HANDLE_WRITE,
        OplockLevel::EXCLUSIVE => LeaseState::READ_WRITE,
        OplockLevel::II => R,
        _ => NONE,
    }
}

pub(super) fn level_of(state: LeaseState) -> OplockLevel {
    if state.contains(W.with(H)) {
        OplockLevel::BATCH
    } else if state.contains(R) {
        OplockLevel::II
    } else {
        OplockLevel::NONE
    }
}

/// The write that a READ's payload was filled from.
pub(super) fn content_of(buffer: BufferId) -> BufferId {
    BufferId((buffer.0 >> 32 & 0xFF) << 32 | buffer.0 >> 8 & 0xFF_FFFF)
}

impl Player {
    pub(super) fn open(&self, slot: usize) -> Option<FileId> {
        self.slots[slot]
    }

    /// A script's next request may begin: there is none before it, or it does not wait for the one before.
    pub(super) fn may_begin(&self, script: &[Op]) -> bool {
        if self.gone {
            return false;
        }
        match script.get(self.step) {
            None => false,
            Some(Op::Leave | Op::Cancel) => true,
            // What only it has goes to the server first.
            Some(Op::Write(_) | Op::Close(_)) => {
                self.outstanding.is_none() && (self.cache.breaking.is_none() || self.cache.dirty.is_none())
            }
            Some(_) => self.outstanding.is_none(),
        }
    }

    /// Whether its request is a CREATE.
    pub(super) fn is_opening(&self) -> bool {
        self.outstanding.as_ref().is_some_and(|request| request.op.opens())
    }

    /// CREATE, and in the same frame a READ of what it opens.
    pub(super) fn open_and_read(&mut self, create: Command) -> Move {
        let first = self.client.request(create);
        let read = client::read(FileId::ALL_ONES);
        let rest = vec![Request { related: true, ..self.client.request(read) }];
        Move::Send(self.client.connection, Box::new(Chain { first, rest }))
    }

    pub(super) fn write(&mut self, file_id: FileId) -> (Move, MessageId, BufferId) {
        let message = MessageId(self.client.next);
        let buffer = self.client.buffer(message.0);
        (self.client.send(client::write(file_id, buffer)), message, buffer)
    }

    pub(super) fn acknowledge(&mut self, state: LeaseState) -> (Move, MessageId) {
        let message = MessageId(self.client.next);
        let acknowledgment = match self.cache.oplock {
            Some(file_id) => Acknowledgment::Oplock(OplockBreak { oplock_level: level_of(state), file_id }),
            None => Acknowledgment::Lease(LeaseBreak { lease_key: KEY, lease_state: state }),
        };
        (self.client.send(Command::OplockBreak(acknowledgment)), message)
    }

    /// It stops caching because its last open goes.
    pub(super) fn forget_if_closed(&mut self) {
        let closed = self.cache.oplock.is_some_and(|open| !self.slots.contains(&Some(open)));
        if closed || self.slots == [None; 2] {
            let told = self.cache.told;
            self.cache = Cache { told, ..Cache::default() };
        }
    }
}
