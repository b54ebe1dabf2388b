//! Data from one open to another: FSCTL_SRV_COPYCHUNK and FSCTL_SRV_COPYCHUNK_WRITE (MS-SMB2 3.3.5.15.6), chunk after chunk, and
//! the blocks of `super::extents`. Caches and locks of both files are looked at before each chunk; whoever would have to wait
//! for a client at one of them gives the other back first (R10).

use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::command::FileId;
use smb_proto::command::ioctl::{CopyChunkRequest, CopyChunkResponse, FsctlCode};

use super::channel_sequence::Ticket;
use super::checked::{Way, permits};
use super::{OpenRequest, State};
use crate::file::FileAsk;
use crate::file::caching::Cause;
use crate::file::lock::Access;
use crate::ids::{FileKey, OpenId};
use crate::message::{Address, Answer, Finished, Message, Origin};
use crate::request::Ioctl;
use crate::response::{Body, IoctlOutput};
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Kind, StorageOp, StorageReply};

/// A copy in progress. Both opens count it as outstanding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Copying {
    source: OpenId,
    target: OpenId,
    origin: Origin,
    file_id: FileId,
    code: FsctlCode,
    how: How,
    chunks: Vec<Chunk>,
    next: usize,
    done: u32,
    /// How the target was let write, and the source read.
    ways: [Way; 2],
    stage: Stage,
}

/// How data gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum How {
    /// It is copied.
    Copy,
    /// The target shares the source's blocks.
    Share,
}

/// A range that goes from one file to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Chunk {
    pub source_offset: u64,
    pub target_offset: u64,
    pub length: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    CheckingTarget,
    CheckingSource,
    Copying,
}

impl Shard {
    pub(crate) fn on_copy_chunk(
        &mut self,
        request: &OpenRequest,
        ioctl: &Ioctl,
        copy: &CopyChunkRequest,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let limits = CopyChunkResponse {
            chunks_written: self.limits.copy_chunks_max,
            chunk_bytes_written: self.limits.copy_chunk_size_max,
            total_bytes_written: self.limits.copy_size_max,
        };
        if ioctl.output_max < 12 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let [key, ..] = copy.source_key.0.as_chunks::<8>().0 else { return Err(NtStatus::INTERNAL_ERROR) };
        let source = OpenId(u64::from_le_bytes(*key));
        let found = self.opens.get(&source).filter(|open| {
            open.state == State::Ready
                && open.session == request.origin.session
                && super::ioctl::resume_key(source, open.volatile) == copy.source_key
        });
        // A key that names none of the session's opens is not found, whoever else's it may be (3.3.5.15.6).
        let source_open = found.ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
        let target = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        if source_open.kind != Kind::File
            || target.kind != Kind::File
            || source_open.volume() != target.volume()
        {
            return Err(NtStatus::INVALID_DEVICE_REQUEST);
        }
        if !source_open.access.intersects(AccessMask::READ_DATA.with(AccessMask::EXECUTE)) {
            return Err(NtStatus::ACCESS_DENIED);
        }
        if !target.access.intersects(AccessMask::WRITE_DATA.with(AccessMask::APPEND_DATA)) {
            return Err(NtStatus::ACCESS_DENIED);
        }
        // Plain SRV_COPYCHUNK also wants to read what it writes.
        if ioctl.code == FsctlCode::SRV_COPYCHUNK && !target.access.intersects(AccessMask::READ_DATA) {
            return Err(NtStatus::ACCESS_DENIED);
        }
        let total: u64 = copy.chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
        let too_much = copy.chunks.len() > self.limits.copy_chunks_max as usize
            || copy
                .chunks
                .iter()
                .any(|chunk| chunk.length == 0 || chunk.length > self.limits.copy_chunk_size_max)
            || total > u64::from(self.limits.copy_size_max);
        if too_much {
            // The answer says what would have been accepted (3.3.5.15.6.2).
            answer_copy(
                request.origin,
                request.file_id,
                ioctl.code,
                NtStatus::INVALID_PARAMETER,
                limits,
                turn,
            );
            return Ok(());
        }
        let chunks = copy.chunks.iter().map(|chunk| Chunk {
            source_offset: chunk.source_offset,
            target_offset: chunk.target_offset,
            length: u64::from(chunk.length),
        });
        self.begin_copy(request, source, ioctl.code, How::Copy, chunks.collect(), turn);
        Ok(())
    }

    /// Everything about the request is checked.
    pub(super) fn begin_copy(
        &mut self,
        request: &OpenRequest,
        source: OpenId,
        code: FsctlCode,
        how: How,
        chunks: Vec<Chunk>,
        turn: &mut Turn<'_>,
    ) {
        // The request is the target's (3.3.5.15.6); the source only has to stay.
        for (id, ticket) in [(source, Ticket::UNCOUNTED), (request.open, request.origin.ticket)] {
            if let Some(open) = self.opens.get_mut(&id) {
                open.outstanding.begin(ticket);
            }
        }
        let copying = Copying {
            source,
            target: request.open,
            origin: request.origin,
            file_id: request.file_id,
            code,
            how,
            chunks,
            next: 0,
            done: 0,
            ways: [Way::Free; 2],
            stage: Stage::CheckingTarget,
        };
        self.copy_check(Box::new(copying), turn);
    }

    /// Nothing that a chunk would spoil may be cached, and no lock be in its way, of the target and of the source.
    fn copy_check(&mut self, mut copying: Box<Copying>, turn: &mut Turn<'_>) {
        if copying.next >= copying.chunks.len() {
            return self.end_copy(copying, NtStatus::SUCCESS, 0, turn);
        }
        let (id, cause) = match copying.stage {
            Stage::CheckingTarget => (copying.target, Cause::Write),
            Stage::CheckingSource => (copying.source, Cause::Read),
            Stage::Copying => return self.copy_next(copying, turn),
        };
        let (write, access) = (cause == Cause::Write, copying.access());
        let Some(open) = self.opens.get_mut(&id) else { return };
        if permits(open.permit, cause) {
            open.under_permit.begin(write);
            copying.let_through(Way::Permitted { write });
            return self.copy_check(copying, turn);
        }
        let (file, origin, holds) = (open.file, copying.origin, copying.ways != [Way::Free; 2]);
        let asker = self.wait(Wait::Copy(copying));
        let ask = FileAsk::Check { open: id, cause, access, holds, behind: origin.behind() };
        turn.post(Address::File(file), Message::AskFile(ask, asker));
        self.withdraw_if_closing(id, origin, turn);
    }

    /// A file answered whether the copy may go on.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an answer to another question is a bug, whichever it is"
    )]
    pub(crate) fn on_copy_answer(&mut self, mut copying: Box<Copying>, answer: &Answer, turn: &mut Turn<'_>) {
        match answer {
            Answer::Checked { permit } => {
                if let Some(open) = self.opens.get_mut(&copying.asking()) {
                    open.permit = *permit;
                }
                let way = Way::Checked(copying.access());
                copying.let_through(way);
                self.copy_check(copying, turn);
            }
            // It has to wait for a client here: with nothing that others wait for. The other file is asked afterwards.
            Answer::Again => {
                self.end_ways(&mut copying, turn);
                self.copy_check(copying, turn);
            }
            Answer::Refused(status) => self.end_copy(copying, *status, 0, turn),
            _ => self.end_copy(copying, NtStatus::INTERNAL_ERROR, 0, turn),
        }
    }

    fn copy_next(&mut self, copying: Box<Copying>, turn: &mut Turn<'_>) {
        let handles = self.opens.get(&copying.source).zip(self.opens.get(&copying.target));
        let Some(((source, target), chunk)) = handles.zip(copying.chunks.get(copying.next)) else { return };
        let Chunk { source_offset, target_offset, length } = *chunk;
        let (source, requester) = (source.handle, target.requester(&copying.origin));
        let target = target.handle;
        let op = match copying.how {
            How::Copy => {
                let length = u32::try_from(length).unwrap_or(u32::MAX);
                StorageOp::Copy { source, source_offset, target, target_offset, length }
            }
            How::Share => StorageOp::CloneExtents { source, source_offset, target, target_offset, length },
        };
        self.submit(requester, op, Wait::Copy(copying), turn);
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an answer of another kind is the driver's fault, whatever kind it is"
    )]
    pub(crate) fn on_copy_reply(
        &mut self,
        mut copying: Box<Copying>,
        reply: StorageReply,
        turn: &mut Turn<'_>,
    ) {
        let wanted = copying.chunks.get(copying.next).map_or(0, |chunk| chunk.length);
        match reply {
            StorageReply::Written { length } if u64::from(length) == wanted => {
                copying.done = copying.done.saturating_add(length);
                self.chunk_is_done(copying, turn);
            }
            StorageReply::Done if copying.how == How::Share => self.chunk_is_done(copying, turn),
            // The source ends inside the chunk: nothing of it counts (MS-SMB2 3.3.5.15.6).
            StorageReply::Written { .. } => self.end_copy(copying, NtStatus::INVALID_VIEW_SIZE, 0, turn),
            StorageReply::Failed(status) => self.end_copy(copying, status, 0, turn),
            _ => self.end_copy(copying, NtStatus::INTERNAL_ERROR, 0, turn),
        }
    }

    fn chunk_is_done(&mut self, mut copying: Box<Copying>, turn: &mut Turn<'_>) {
        self.end_ways(&mut copying, turn);
        copying.next += 1;
        copying.stage = Stage::CheckingTarget;
        self.copy_check(copying, turn);
    }

    fn end_copy(&mut self, mut copying: Box<Copying>, status: NtStatus, partial: u32, turn: &mut Turn<'_>) {
        let chunks_written = u32::try_from(copying.next).unwrap_or(u32::MAX);
        let response = CopyChunkResponse {
            chunks_written,
            chunk_bytes_written: partial,
            total_bytes_written: copying.done.saturating_add(partial),
        };
        let changed = copying.next > 0;
        self.report_copied(copying.target, changed, turn);
        if changed && let Some(open) = self.opens.get_mut(&copying.target) {
            open.wrote = true;
        }
        match copying.how {
            How::Copy => answer_copy(copying.origin, copying.file_id, copying.code, status, response, turn),
            How::Share => {
                let output = IoctlOutput::Nothing;
                let answer = Body::Ioctl { code: copying.code, file_id: copying.file_id, output };
                let body = if status.is_error() { Body::Error } else { answer };
                let open = Some(copying.file_id);
                turn.finish(Finished { origin: copying.origin, status, body, open, spent: None });
            }
        }
        self.end_ways(&mut copying, turn);
        self.outstanding_done(copying.source, Ticket::UNCOUNTED, turn);
        self.outstanding_done(copying.target, copying.origin.ticket, turn);
    }

    /// A chunk is done, or given up.
    fn end_ways(&mut self, copying: &mut Copying, turn: &mut Turn<'_>) {
        let [target_way, source_way] = std::mem::replace(&mut copying.ways, [Way::Free; 2]);
        self.way_is_done(copying.target, target_way, turn);
        self.way_is_done(copying.source, source_way, turn);
    }
}

impl Copying {
    /// The open whose file is asked.
    fn asking(&self) -> OpenId {
        if self.stage == Stage::CheckingTarget { self.target } else { self.source }
    }

    /// What is asked for.
    fn access(&self) -> Option<Access> {
        let chunk = self.chunks.get(self.next)?;
        let write = self.stage == Stage::CheckingTarget;
        let offset = if write { chunk.target_offset } else { chunk.source_offset };
        Access::new(offset, chunk.length, write)
    }

    fn let_through(&mut self, way: Way) {
        let [target, source] = &mut self.ways;
        *if self.stage == Stage::CheckingTarget { &mut *target } else { &mut *source } = way;
        self.stage = if *target == Way::Free {
            Stage::CheckingTarget
        } else if *source == Way::Free {
            Stage::CheckingSource
        } else {
            Stage::Copying
        };
    }

    /// The file where it may wait for a client, with the request and its open.
    pub(crate) fn at_file(&self, shard: &Shard) -> Option<(FileKey, Origin, OpenId)> {
        let waits = self.stage != Stage::Copying;
        let open = self.asking();
        waits.then(|| Some((shard.opens.get(&open)?.file, self.origin, open))).flatten()
    }
}

fn answer_copy(
    origin: Origin,
    file_id: FileId,
    code: FsctlCode,
    status: NtStatus,
    response: CopyChunkResponse,
    turn: &mut Turn<'_>,
) {
    let mut out = Vec::new();
    response.emit(&mut out);
    let body = Body::Ioctl { code, file_id, output: IoctlOutput::Bytes(out) };
    turn.finish(Finished { origin, status, body, open: Some(file_id), spent: None });
}
