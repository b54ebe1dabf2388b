//! READ, WRITE, FLUSH and QUERY_DIRECTORY (MS-SMB2 3.3.5.12, .13, .11, .18): one request to storage each.

use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::command::change_notify::CompletionFilter;
use smb_proto::command::query_directory::{self, QueryDirectoryFlags};
use smb_proto::command::read;
use smb_proto::fscc::class::FileInfoClass;

use super::OpenRequest;
use super::checked::Way;
use crate::file::caching::Cause;
use crate::file::lock::Access;
use crate::ids::BufferId;
use crate::message::{Finished, Origin};
use crate::request::Write;
use crate::response::Body;
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Kind, Listing, StorageOp, StorageReply};
use crate::watch::report::changes_of;

/// A request of an open that is with storage; what becomes of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pending {
    pub open: crate::ids::OpenId,
    pub origin: Origin,
    /// The request's own payload.
    pub spent: Option<BufferId>,
    /// It was answered already (CANCEL, or its open closes): the answer only ends the wait.
    pub abandoned: bool,
    pub way: Way,
    /// What it changes when it succeeds.
    pub changes: CompletionFilter,
    pub then: Then,
}

/// What becomes of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Then {
    /// READ: fewer bytes than this are the end of the file.
    Read {
        minimum: u32,
        wanted: u32,
        offset: u64,
        pipe: bool,
    },
    Write,
    Flush,
    Listing,
    Query(super::query::Query),
    Set(super::set::Set),
    Ioctl(super::ioctl::Control),
}

impl Shard {
    /// Hands a request of an open to storage.
    pub(crate) fn submit_for(
        &mut self,
        request: &OpenRequest,
        op: StorageOp,
        then: Then,
        turn: &mut Turn<'_>,
    ) {
        let Some(open) = self.opens.get_mut(&request.open) else { return };
        open.outstanding.begin(request.origin.ticket);
        let requester = open.requester(&request.origin);
        let pending = Pending {
            open: request.open,
            origin: request.origin,
            spent: request.execution.request.command.buffer(),
            abandoned: false,
            way: Way::Free,
            changes: changes_of(&op, !open.stream.is_empty()),
            then,
        };
        self.submit(requester, op, Wait::Request(Box::new(pending)), turn);
    }

    /// Storage answered a request of an open.
    pub(crate) fn on_request_reply(&mut self, pending: Pending, reply: StorageReply, turn: &mut Turn<'_>) {
        if pending.then == Then::Set(super::set::Set::Disposition) {
            return self.on_dispose_reply(pending, reply, turn);
        }
        let generation = pending.then == Then::Set(super::set::Set::Creation);
        let Pending { open, origin, spent, abandoned, changes, way, then } = pending;
        if !matches!(reply, StorageReply::Failed(_)) {
            self.report_modified(open, changes, turn);
            self.entry_of_open_changed(open, changes, then == Then::Write, turn);
        }
        if abandoned {
            turn.release(spent);
            turn.release(payload_of(&reply));
        } else {
            let file_id = self.opens.get(&open).map(|state| state.file_id(open));
            let (status, body) = self.outcome(open, then, reply, turn);
            if generation {
                return self.generation_is_set(
                    open,
                    Finished { origin, status, body, open: file_id, spent },
                    turn,
                );
            }
            turn.finish(Finished { origin, status, body, open: file_id, spent });
        }
        self.way_is_done(open, way, turn);
        self.outstanding_done(open, origin.ticket, turn);
    }

    fn outcome(
        &mut self,
        open: crate::ids::OpenId,
        then: Then,
        reply: StorageReply,
        turn: &mut Turn<'_>,
    ) -> (NtStatus, Body) {
        if let StorageReply::Failed(status) = reply {
            return (status, Body::Error);
        }
        match (then, reply) {
            (Then::Read { minimum, wanted, offset, .. }, StorageReply::Read { buffer, length }) => {
                if (length == 0 && wanted > 0) || length < minimum {
                    turn.release(Some(buffer));
                    (NtStatus::END_OF_FILE, Body::Error)
                } else {
                    if let Some(open) = self.opens.get_mut(&open) {
                        open.position = offset.saturating_add(u64::from(length));
                    }
                    (NtStatus::SUCCESS, Body::Read { buffer, length })
                }
            }
            (Then::Read { .. }, StorageReply::ReadPartly { buffer, length }) => {
                (NtStatus::BUFFER_OVERFLOW, Body::Read { buffer, length })
            }
            (Then::Write, StorageReply::Written { length }) => {
                (NtStatus::SUCCESS, Body::Write { count: length })
            }
            (Then::Flush, StorageReply::Done) => (NtStatus::SUCCESS, Body::Empty),
            (Then::Listing, StorageReply::Listed { buffer, length }) => {
                (NtStatus::SUCCESS, Body::QueryDirectory { buffer, length })
            }
            (Then::Query(query), reply) => self.query_outcome(open, query, reply),
            (Then::Set(set), reply) => self.set_outcome(open, &set, reply, turn),
            (Then::Ioctl(control), reply) => super::ioctl::control_outcome(control, reply, turn),
            (_, reply) => {
                turn.release(payload_of(&reply));
                (NtStatus::INTERNAL_ERROR, Body::Error)
            }
        }
    }

    pub(crate) fn on_read(
        &mut self,
        request: &OpenRequest,
        read: &read::Request,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        if read.length > request.execution.terms.io_size_max {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if read.channel != read::Channel::NONE {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let open = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        if open.is_directory() {
            return Err(NtStatus::INVALID_DEVICE_REQUEST);
        }
        // A client that may execute a file reads it for that (MS-SMB2 3.3.5.12, footnote on FILE_EXECUTE).
        open.check_any(AccessMask::READ_DATA.with(AccessMask::EXECUTE))?;
        let pipe = open.kind == Kind::Pipe;
        if !pipe {
            check_range(read.offset, read.length)?;
        }
        let op = StorageOp::Read { handle: open.handle, offset: read.offset, length: read.length };
        let then = Then::Read { minimum: read.minimum_count, wanted: read.length, offset: read.offset, pipe };
        self.submit_checked(request, Cause::Read, op, then, turn);
        Ok(())
    }

    pub(crate) fn on_write(
        &mut self,
        request: &OpenRequest,
        write: &Write,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        if write.length > request.execution.terms.io_size_max || write.by_rdma {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let open = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        if open.is_directory() {
            return Err(NtStatus::INVALID_DEVICE_REQUEST);
        }
        let data = open.access.intersects(AccessMask::WRITE_DATA);
        let append = open.access.intersects(AccessMask::APPEND_DATA);
        if !data && !append {
            return Err(NtStatus::ACCESS_DENIED);
        }
        if open.kind != Kind::Pipe {
            check_range(write.offset, write.length)?;
            let end = write.offset.saturating_add(u64::from(write.length));
            if write.length > 0 && end > self.limits.file_size_max {
                return Err(NtStatus::INVALID_PARAMETER);
            }
        }
        // An open that may only append does so wherever the client aims (MS-FSA 2.1.5.4).
        let offset = if !data { None } else { Some(write.offset) };
        let write_through = write.write_through
            || write.unbuffered
            || open.options.contains(smb_proto::command::create::CreateOptions::WRITE_THROUGH);
        let op = StorageOp::Write {
            handle: open.handle,
            offset,
            buffer: write.buffer,
            length: write.length,
            write_through,
        };
        // Where an append goes is known only to storage: locks are respected where the client aims.
        let access = Access::new(write.offset, u64::from(write.length), true);
        self.submit_access(request, Cause::Write, access, op, Then::Write, turn);
        self.note_write(request.open, turn);
        Ok(())
    }

    pub(crate) fn on_flush(&mut self, request: &OpenRequest, turn: &mut Turn<'_>) -> Result<(), NtStatus> {
        let open = self.opens.get_mut(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        open.check_any(AccessMask::WRITE_DATA.with(AccessMask::APPEND_DATA))?;
        open.writes_are_told();
        let op = StorageOp::Flush { handle: open.handle };
        self.submit_checked(request, Cause::Read, op, Then::Flush, turn);
        Ok(())
    }

    pub(crate) fn on_query_directory(
        &mut self,
        request: &OpenRequest,
        query: &query_directory::Request,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let open = self.opens.get_mut(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        if !open.is_directory() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        open.check_any(AccessMask::LIST_DIRECTORY)?;
        if query.output_buffer_length > request.execution.terms.io_size_max {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let class = FileInfoClass(query.file_information_class);
        if !class.is_directory() {
            return Err(NtStatus::INVALID_INFO_CLASS);
        }
        let reopen = query.flags.contains(QueryDirectoryFlags::REOPEN);
        let first = reopen || !open.listing;
        if first && query.file_name.is_empty() {
            // The first listing of an open says what it lists (MS-FSA 2.1.5.6.3).
            return Err(NtStatus::OBJECT_NAME_INVALID);
        }
        open.listing = true;
        let handle = open.handle;
        let visible_to = self.trims_listings(&request.origin)?.map(Box::new);
        let listing = Listing {
            class,
            pattern: (!query.file_name.is_empty()).then(|| query.file_name.clone()),
            restart: reopen || query.flags.contains(QueryDirectoryFlags::RESTART_SCANS),
            single: query.flags.contains(QueryDirectoryFlags::RETURN_SINGLE_ENTRY),
            length_max: query.output_buffer_length,
            visible_to,
        };
        let op = StorageOp::List { handle, listing: Box::new(listing) };
        self.submit_for(request, op, Then::Listing, turn);
        Ok(())
    }
}

/// A file's offsets are signed 64-bit numbers (MS-FSA 2.1.5.3, 2.1.5.4).
fn check_range(offset: u64, length: u32) -> Result<(), NtStatus> {
    let end = offset.checked_add(u64::from(length)).ok_or(NtStatus::INVALID_PARAMETER)?;
    if i64::try_from(end).is_err() { Err(NtStatus::INVALID_PARAMETER) } else { Ok(()) }
}

/// The payload of an answer that nobody will send.
pub(crate) fn payload_of(reply: &StorageReply) -> Option<BufferId> {
    match reply {
        StorageReply::Read { buffer, .. }
        | StorageReply::ReadPartly { buffer, .. }
        | StorageReply::Listed { buffer, .. } => Some(*buffer),
        StorageReply::Failed(_)
        | StorageReply::Stale
        | StorageReply::Done
        | StorageReply::Resolved(_)
        | StorageReply::Opened(_)
        | StorageReply::Attributes(_)
        | StorageReply::Written { .. }
        | StorageReply::Streams(_)
        | StorageReply::Path(_)
        | StorageReply::Eas(_)
        | StorageReply::Security(_)
        | StorageReply::Volume(_)
        | StorageReply::Ranges(_)
        | StorageReply::Changed(_)
        | StorageReply::Pipe(_)
        | StorageReply::Target(_) => None,
    }
}
