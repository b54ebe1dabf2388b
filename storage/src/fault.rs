//! How the drivers' own functions fail.

use smb_proto::{NtStatus, Payload};
use smb_state::storage::StorageReply;

/// Why a request was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// With a status for the client.
    Status(NtStatus),
    /// The name that led to the object no longer does.
    Stale,
    /// Nothing was changed yet, and going on could wait: do it again where waiting is allowed.
    Offload,
}

pub(crate) type Outcome<T> = Result<T, Fault>;

impl From<NtStatus> for Fault {
    fn from(status: NtStatus) -> Self {
        Self::Status(status)
    }
}

/// Where a request runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the thread that serves connections: what could take long answers [`Fault::Offload`].
    Inline,
    /// On a thread that may wait.
    Offloaded,
}

impl Place {
    /// Refuses to go on inline.
    pub(crate) fn may_wait(self) -> Outcome<()> {
        match self {
            Self::Inline => Err(Fault::Offload),
            Self::Offloaded => Ok(()),
        }
    }
}

/// The reply that an outcome amounts to. [`Fault::Offload`] is handled before.
pub(crate) fn reply(outcome: Outcome<StorageReply<Payload>>) -> StorageReply<Payload> {
    match outcome {
        Ok(reply) => reply,
        Err(Fault::Status(status)) => StorageReply::Failed(status),
        Err(Fault::Stale) => StorageReply::Stale,
        Err(Fault::Offload) => StorageReply::Failed(NtStatus::INTERNAL_ERROR),
    }
}
