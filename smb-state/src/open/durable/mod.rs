//! Opens that outlive their connection (MS-SMB2 3.3.5.9.6, 3.3.5.9.7, 3.3.5.9.10, 3.3.5.9.12, 3.3.7.1), and CREATEs that are sent
//! twice.
//!
//! ```text
//! Ready --session ends--> Leaving --nothing is under way, its file agrees--> Preserved
//!   ^                        '--its file does not: a break is under way, H is gone--> Closing
//!   |
//! Creating <--its file agrees-- Reclaiming <--the right client comes back-- Preserved --Lost, time is over--> Closing
//! ```
//! An open lives in the shard of its session; while it is preserved, in the shard that made its id, where a client that comes
//! back looks for it, whatever shard serves it now. Its file goes on holding share mode, locks and caching rights for it
//! (`file::away`), and is the one that decides: what it has given up can't be reclaimed.
//!
//! * [`preserve`]: on the way out, and the end of what nobody reclaims
//! * [`reclaim`]: on the way back
//! * [`replay`]: CREATEs that are sent again, by their CreateGuids
//! * [`persistent`]: opens that outlive the server too, and their records
//! * [`restore`]: how they come back after a start

use smb_proto::NtStatus;
use smb_proto::command::create::{CreateAction, Request};
use smb_proto::command::negotiate::Dialect;
use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::create_context::{
    DurableFlags, DurableReconnectV2, DurableRequestV2, DurableResponseV2, LeaseKey, LeaseState,
    RequestContext, ResponseContext,
};

use crate::config::Limits;
use crate::event::Identity;
use crate::file::caching::Cached;

pub mod persistent;
pub mod preserve;
pub mod reclaim;
pub mod replay;
pub mod restore;

use persistent::Persistent;
pub use reclaim::Claim;

/// What lets an open outlive its connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Durable {
    /// Open.DurableOwner.
    pub owner: Identity,
    /// Open.DurableOpenTimeout, in milliseconds.
    pub timeout_ms: u32,
    /// Open.IsPersistent, and what that needs.
    pub persistent: Option<Persistent>,
}

/// What is kept of a CREATE that came with a CreateGuid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Created {
    /// Open.CreateGuid.
    pub guid: [u8; 16],
    /// What it did.
    pub action: CreateAction,
    /// Open.IsReplayEligible: its client's machine knows it.
    pub replayable: bool,
}

/// What a CREATE asks of durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) enum Wish {
    #[default]
    Nothing,
    /// DHnQ.
    V1,
    /// DH2Q.
    V2(DurableRequestV2),
    /// DHnC, DH2C.
    Reconnect(Reconnect),
}

/// What a client that comes back names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reconnect {
    V1(smb_proto::command::FileId),
    V2(DurableReconnectV2),
}

impl Wish {
    /// Reads it from the contexts of a request; not all of them go together (3.3.5.9.6, .7, .10, .12).
    pub(crate) fn of(request: &Request, dialect: Dialect) -> Result<Self, NtStatus> {
        let (mut request_v1, mut reconnect_v1, mut request_v2, mut reconnect_v2) = (false, None, None, None);
        for context in &request.contexts {
            match context {
                RequestContext::DurableHandleRequest => request_v1 = true,
                RequestContext::DurableHandleReconnect(id) => reconnect_v1 = Some(*id),
                RequestContext::DurableHandleRequestV2(wish) if dialect.is_smb3() => request_v2 = Some(*wish),
                RequestContext::DurableHandleReconnectV2(wish) if dialect.is_smb3() => {
                    reconnect_v2 = Some(*wish)
                }
                RequestContext::EaBuffer(_)
                | RequestContext::SdBuffer(_)
                | RequestContext::DurableHandleRequestV2(_)
                | RequestContext::DurableHandleReconnectV2(_)
                | RequestContext::AllocationSize(_)
                | RequestContext::QueryMaximalAccess(_)
                | RequestContext::TimewarpToken(_)
                | RequestContext::QueryOnDiskId
                | RequestContext::Lease(_)
                | RequestContext::LeaseV2(_)
                | RequestContext::AppInstanceId(_)
                | RequestContext::AppInstanceVersion(_)
                | RequestContext::SvhdxOpenDevice(_)
                | RequestContext::Unknown { .. } => {}
            }
        }
        match (request_v1, reconnect_v1, request_v2, reconnect_v2) {
            (false, None, None, None) => Ok(Self::Nothing),
            (true, None, None, None) => Ok(Self::V1),
            (_, Some(id), None, None) => Ok(Self::Reconnect(Reconnect::V1(id))),
            (false, None, Some(wish), None) => Ok(Self::V2(wish)),
            (false, None, None, Some(wish)) => Ok(Self::Reconnect(Reconnect::V2(wish))),
            _ => Err(NtStatus::INVALID_PARAMETER),
        }
    }

    /// What is granted to an open that caches this: nothing unless its client would be asked before anybody else gets in its way,
    /// or nobody else gets in its way at all.
    pub(crate) fn grant(
        self,
        cached: Cached,
        persistent: Option<Persistent>,
        owner: &Identity,
        limits: &Limits,
    ) -> Option<Durable> {
        let timeout_ms = match self {
            Self::Nothing | Self::Reconnect(_) => return None,
            Self::V1 => limits.preserve_ms,
            Self::V2(DurableRequestV2 { timeout_ms: 0, .. }) => limits.preserve_ms,
            Self::V2(DurableRequestV2 { timeout_ms, .. }) => timeout_ms.min(limits.preserve_ms_max),
        };
        let keeps = match cached {
            Cached::Oplock(level) => level == OplockLevel::BATCH,
            Cached::Lease { state, .. } => state.contains(LeaseState::HANDLE_CACHING),
        };
        // Nobody could tell whether a guest that comes back is the same one.
        let granted = (keeps || persistent.is_some()) && owner.is_user();
        granted.then(|| Durable { owner: owner.clone(), timeout_ms, persistent })
    }

    /// The context of the answer.
    pub(crate) fn response(self, durable: Option<&Durable>) -> Option<ResponseContext> {
        let durable = durable?;
        match self {
            Self::Nothing | Self::Reconnect(_) => None,
            Self::V1 => Some(ResponseContext::DurableHandle),
            Self::V2(_) => Some(ResponseContext::DurableHandleV2(DurableResponseV2 {
                timeout_ms: durable.timeout_ms,
                flags: match durable.persistent {
                    Some(_) => DurableFlags::PERSISTENT,
                    None => DurableFlags::EMPTY,
                },
            })),
        }
    }

    /// Whether it asks for a persistent open.
    pub(crate) fn is_persistent(self) -> bool {
        match self {
            Self::V2(wish) => wish.flags.contains(DurableFlags::PERSISTENT),
            Self::Nothing | Self::V1 | Self::Reconnect(_) => false,
        }
    }

    pub(crate) fn create_guid(self) -> Option<[u8; 16]> {
        match self {
            Self::V2(wish) => Some(wish.create_guid),
            Self::Nothing | Self::V1 | Self::Reconnect(_) => None,
        }
    }
}

/// The lease that a request names; whether it is of version 2.
fn lease_of(request: &Request, dialect: Dialect) -> Option<(LeaseKey, bool)> {
    if dialect == Dialect::SMB_2_0_2 {
        return None;
    }
    request.contexts.iter().find_map(|context| match context {
        RequestContext::Lease(lease) => Some((lease.key, false)),
        RequestContext::LeaseV2(lease) if dialect.is_smb3() => Some((lease.key, true)),
        RequestContext::LeaseV2(_)
        | RequestContext::EaBuffer(_)
        | RequestContext::SdBuffer(_)
        | RequestContext::DurableHandleRequest
        | RequestContext::DurableHandleReconnect(_)
        | RequestContext::DurableHandleRequestV2(_)
        | RequestContext::DurableHandleReconnectV2(_)
        | RequestContext::AllocationSize(_)
        | RequestContext::QueryMaximalAccess(_)
        | RequestContext::TimewarpToken(_)
        | RequestContext::QueryOnDiskId
        | RequestContext::AppInstanceId(_)
        | RequestContext::AppInstanceVersion(_)
        | RequestContext::SvhdxOpenDevice(_)
        | RequestContext::Unknown { .. } => None,
    })
}
