//! Requests that may have to break what others cache before they reach storage. While an open has a permit they go straight
//! there; without one the file is asked first, and told when they are done (see `file::permit`).

use smb_proto::NtStatus;

use super::OpenRequest;
use super::io::{Pending, Then};
use crate::file::FileAsk;
use crate::file::ask::Behind;
use crate::file::caching::Cause;
use crate::file::lock::Access;
use crate::file::permit::Permit;
use crate::ids::{FileKey, OpenId};
use crate::message::{Address, Answer, Finished, Message, Origin};
use crate::response::Body;
use crate::shard::{Shard, Turn, Wait};
use crate::storage::StorageOp;
use crate::watch::report::changes_of;

/// How a request came to storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) enum Way {
    /// It breaks nothing.
    #[default]
    Free,
    /// Under the open's permit.
    Permitted {
        /// To write; if not, to read.
        write: bool,
    },
    /// The file let it through, and waits to hear that this is done.
    Checked(Option<Access>),
}

/// A request that its file is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asking {
    pub pending: Pending,
    op: StorageOp,
    pub file: FileKey,
}

impl Origin {
    /// Who waits when a file is asked for this request.
    pub(crate) fn behind(&self) -> Behind {
        Behind { connection: self.connection, message: self.message }
    }
}

/// The bytes that a request to storage touches, where locks may be in the way (MS-FSA 2.1.5.3, 2.1.5.4, 2.1.5.10.6, 2.1.5.10.39). Changes of
/// size respect no lock (MS-FSA 2.1.5.15.4).
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "everything else leaves data alone, or is checked elsewhere"
)]
fn access_of(op: &StorageOp) -> Option<Access> {
    match op {
        StorageOp::Read { offset, length, .. } => Access::new(*offset, u64::from(*length), false),
        StorageOp::Write { offset: Some(offset), length, .. } => {
            Access::new(*offset, u64::from(*length), true)
        }
        StorageOp::Zero { offset, beyond, .. } => Access::new(*offset, beyond.saturating_sub(*offset), true),
        // From the first range to the last: what is refused for a lock in a gap loses no more than a hint.
        StorageOp::Trim { ranges, .. } => {
            let first = ranges.iter().map(|range| range.offset).min()?;
            let beyond = ranges.iter().map(|range| range.offset.saturating_add(range.length)).max()?;
            Access::new(first, beyond.saturating_sub(first), true)
        }
        _ => None,
    }
}

pub(super) fn permits(permit: Permit, cause: Cause) -> bool {
    match cause {
        Cause::Read => permit.read,
        Cause::Write => permit.write,
        Cause::Open { .. } | Cause::ShareConflict | Cause::Rename | Cause::Delete | Cause::Entry => false,
    }
}

impl Shard {
    /// Hands a request of an open to storage once nothing that it would spoil is cached.
    pub(crate) fn submit_checked(
        &mut self,
        request: &OpenRequest,
        cause: Cause,
        op: StorageOp,
        then: Then,
        turn: &mut Turn<'_>,
    ) {
        let access = access_of(&op);
        self.submit_access(request, cause, access, op, then, turn);
    }

    /// The same, with the bytes that it touches.
    pub(crate) fn submit_access(
        &mut self,
        request: &OpenRequest,
        cause: Cause,
        access: Option<Access>,
        op: StorageOp,
        then: Then,
        turn: &mut Turn<'_>,
    ) {
        let Some(open) = self.opens.get_mut(&request.open) else { return };
        open.outstanding.begin(request.origin.ticket);
        let mut pending = Pending {
            open: request.open,
            origin: request.origin,
            spent: request.execution.request.command.buffer(),
            abandoned: false,
            way: Way::Checked(access),
            changes: changes_of(&op, !open.stream.is_empty()),
            then,
        };
        if permits(open.permit, cause) {
            let write = cause == Cause::Write;
            open.under_permit.begin(write);
            pending.way = Way::Permitted { write };
            let requester = open.requester(&request.origin);
            return self.submit(requester, op, Wait::Request(Box::new(pending)), turn);
        }
        let file = open.file;
        let asker = self.wait(Wait::Asking(Box::new(Asking { pending, op, file })));
        let behind = request.origin.behind();
        let ask = FileAsk::Check { open: request.open, cause, access, holds: false, behind };
        turn.post(Address::File(file), Message::AskFile(ask, asker));
    }

    /// The file answered.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an answer to another question is a bug, whichever it is"
    )]
    pub(crate) fn on_checked(&mut self, asking: Asking, answer: &Answer, turn: &mut Turn<'_>) {
        let Asking { pending, op, .. } = asking;
        let Some(open) = self.opens.get_mut(&pending.open) else { return turn.release(pending.spent) };
        match answer {
            Answer::Checked { permit } => {
                open.permit = *permit;
                let requester = open.requester(&pending.origin);
                self.submit(requester, op, Wait::Request(Box::new(pending)), turn);
            }
            other => {
                let status = match other {
                    Answer::Refused(status) => *status,
                    _ => NtStatus::INTERNAL_ERROR,
                };
                let Pending { open: id, origin, spent, .. } = pending;
                let file_id = Some(open.file_id(id));
                turn.finish(Finished { origin, status, body: Body::Error, open: file_id, spent });
                self.outstanding_done(id, origin.ticket, turn);
            }
        }
    }

    /// A request that came to storage is done there.
    pub(crate) fn way_is_done(&mut self, id: OpenId, way: Way, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get_mut(&id) else { return };
        let file = open.file;
        match way {
            Way::Free => {}
            Way::Permitted { write } => {
                open.under_permit.end(write);
                self.tell_drained(id, turn);
            }
            Way::Checked(access) => {
                let ask = FileAsk::Done { open: id, access };
                turn.post(Address::File(file), Message::AskFile(ask, self.nobody()));
            }
        }
    }

    /// The file takes a permit back.
    pub(crate) fn on_permit(&mut self, id: OpenId, permit: Permit, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get_mut(&id) else { return };
        open.permit = permit;
        open.under_permit.restricted();
        self.tell_drained(id, turn);
    }

    /// Tells the file, as often as it wants to hear it, that nothing is under way that is not permitted any more.
    fn tell_drained(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get_mut(&id) else { return };
        let file = open.file;
        for _ in 0..open.under_permit.drained(open.permit) {
            let ask = FileAsk::Drained { open: id };
            turn.post(Address::File(file), Message::AskFile(ask, self.nobody()));
        }
    }
}
