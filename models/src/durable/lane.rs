//! A connection, and what its client knows.

use smb_proto::access::AccessMask;
use smb_proto::command::FileId;
use smb_proto::command::create::{CreateDisposition, CreateOptions, ShareAccess};
use smb_proto::command::oplock_break::{Acknowledgment, LeaseBreak, OplockBreak, OplockLevel};
use smb_proto::create_context::{
    DurableFlags, DurableReconnectV2, DurableRequestV2, LeaseFlags, LeaseKey, LeaseState, LeaseV2,
    RequestContext,
};
use smb_state::ids::MessageId;
use smb_state::request::Command;

use super::cases::{Ask, Case, Op, Show};
use crate::harness::Move;
use crate::harness::client::{self, CREATE_GUID, Client};

const KEY: LeaseKey = LeaseKey([7; 16]);

/// A request that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outstanding {
    pub(super) message: MessageId,
    pub(super) op: Op,
    /// When it began, the open's client was away.
    pub(super) away: bool,
    /// How often a client had come back when it began.
    pub(super) claims: u8,
    /// When it began, its session had the open.
    pub(super) open: Option<FileId>,
}

/// An open that its client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Held {
    pub(super) file_id: FileId,
    pub(super) op: Op,
    pub(super) rights: LeaseState,
}

/// A break that the client was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Breaking {
    pub(super) to: LeaseState,
    pub(super) acknowledging: Option<MessageId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    pub(super) client: Client,
    /// Requests of the script that began.
    pub(super) step: usize,
    pub(super) outstanding: Vec<Outstanding>,
    pub(super) open: Option<Held>,
    pub(super) breaking: Option<Breaking>,
    /// It has no session any more.
    pub(super) gone: bool,
}

impl Op {
    /// Whether a durable open of this kind is in the way of that, or that in its way.
    pub(super) fn conflicts(self, ask: Ask) -> bool {
        match self {
            Self::Alone => true,
            Self::Share | Self::Read => ask != Ask::LeaseRh,
            Self::Look
            | Self::Open
            | Self::Join
            | Self::Again { .. }
            | Self::Reclaim(_)
            | Self::Close
            | Self::Logoff
            | Self::Leave => false,
        }
    }
}

fn lease(ask: Ask, key: LeaseKey) -> RequestContext {
    let write = ask == Ask::LeaseRwh;
    let state = if write { LeaseState::READ_HANDLE_WRITE } else { LeaseState::READ_HANDLE };
    let flags = LeaseFlags::EMPTY;
    RequestContext::LeaseV2(LeaseV2 { key, state, flags, parent_key: LeaseKey::default(), epoch: 1 })
}

fn create(name: &str, access: AccessMask, share: ShareAccess) -> Box<smb_proto::command::create::Request> {
    let command = client::create(name, CreateDisposition::OPEN, access, share, CreateOptions::EMPTY);
    let Command::Create(mut request) = command else { unreachable!("it makes a CREATE") };
    request.contexts.clear();
    request
}

fn data() -> AccessMask {
    AccessMask::READ_DATA.with(AccessMask::WRITE_DATA)
}

/// The CREATE of the durable open.
fn durable(ask: Ask) -> Command {
    let share = if ask == Ask::AloneV2 { ShareAccess::EMPTY } else { ShareAccess::ALL };
    let mut request = create("a", data(), share);
    let (timeout_ms, flags) = (5000, DurableFlags::EMPTY);
    let v2 = RequestContext::DurableHandleRequestV2(DurableRequestV2 {
        timeout_ms,
        flags,
        create_guid: CREATE_GUID,
    });
    (request.oplock_level, request.contexts) = match ask {
        Ask::BatchV1 => (OplockLevel::BATCH, vec![RequestContext::DurableHandleRequest]),
        Ask::BatchV2 | Ask::AloneV2 => (OplockLevel::BATCH, vec![v2]),
        Ask::LeaseRh | Ask::LeaseRwh => (OplockLevel::LEASE, vec![lease(ask, KEY), v2]),
    };
    Command::Create(request)
}

fn reclaim(ask: Ask, show: Show, file_id: FileId) -> Command {
    let mut request = create(if show == Show::OtherName { "b" } else { "a" }, data(), ShareAccess::ALL);
    let create_guid = if show == Show::OtherGuid { [0xBA; 16] } else { CREATE_GUID };
    let flags = DurableFlags::EMPTY;
    let v2 = DurableReconnectV2 { file_id, create_guid, flags };
    request.contexts.push(match ask {
        Ask::BatchV1 => RequestContext::DurableHandleReconnect(file_id),
        Ask::BatchV2 | Ask::AloneV2 | Ask::LeaseRh | Ask::LeaseRwh => {
            RequestContext::DurableHandleReconnectV2(v2)
        }
    });
    if ask.is_lease() && show != Show::NoLease {
        request.oplock_level = OplockLevel::LEASE;
        request.contexts.push(lease(ask, if show == Show::OtherKey { LeaseKey([8; 16]) } else { KEY }));
    }
    Command::Create(request)
}

/// The request that an operation sends; none if there is nothing to do it with.
pub(super) fn command(case: &Case, op: Op, open: Option<FileId>, known: Option<FileId>) -> Option<Command> {
    Some(match op {
        Op::Open | Op::Again { .. } => durable(case.ask),
        Op::Reclaim(show) => reclaim(case.ask, show, known?),
        Op::Join => {
            let mut request = create("a", data(), ShareAccess::ALL);
            (request.oplock_level, request.contexts) = (OplockLevel::LEASE, vec![lease(case.ask, KEY)]);
            Command::Create(request)
        }
        Op::Look => Command::Create(create("a", AccessMask::READ_ATTRIBUTES, ShareAccess::ALL)),
        Op::Read => Command::Create(create("a", AccessMask::READ_DATA, ShareAccess::ALL)),
        Op::Share => Command::Create(create("a", data(), ShareAccess::ALL)),
        Op::Alone => Command::Create(create("a", data(), ShareAccess::EMPTY)),
        Op::Close => client::close(open?),
        Op::Logoff => Command::Logoff,
        Op::Leave => return None,
    })
}

pub(super) fn rights_of(level: OplockLevel) -> LeaseState {
    match level {
        OplockLevel::BATCH => LeaseState::READ_HANDLE_WRITE,
        OplockLevel::EXCLUSIVE => LeaseState::READ_WRITE,
        OplockLevel::II => LeaseState::READ_CACHING,
        _ => LeaseState::EMPTY,
    }
}

impl Lane {
    /// The script's next request may begin: nothing is outstanding, or it does not wait for that.
    pub(super) fn may_begin(&self, script: &[Op]) -> bool {
        match script.get(self.step) {
            None => false,
            Some(Op::Leave) => true,
            Some(Op::Again { .. }) => self.outstanding.len() < 2,
            Some(_) => !self.gone && self.outstanding.is_empty(),
        }
    }

    /// It is about to close what it has.
    pub(super) fn is_closing(&self) -> bool {
        self.outstanding.iter().any(|request| matches!(request.op, Op::Close | Op::Logoff))
    }

    pub(super) fn acknowledge(&mut self, ask: Ask) -> Option<Move> {
        let held = self.open?;
        let breaking = self.breaking.as_mut()?;
        breaking.acknowledging = Some(MessageId(self.client.next));
        let acknowledgment = if ask.is_lease() {
            Acknowledgment::Lease(LeaseBreak { lease_key: KEY, lease_state: breaking.to })
        } else {
            let level = if breaking.to.is_empty() { OplockLevel::NONE } else { OplockLevel::II };
            Acknowledgment::Oplock(OplockBreak { oplock_level: level, file_id: held.file_id })
        };
        Some(self.client.send(Command::OplockBreak(acknowledgment)))
    }
}
