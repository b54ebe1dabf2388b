//! Extents of files: blocks that two files share (FSCTL_DUPLICATE_EXTENTS_TO_FILE and its extended form, MS-FSA 2.1.5.10.4, .5)
//! and ranges whose contents nobody needs any more (FSCTL_FILE_LEVEL_TRIM, MS-FSA 2.1.5.10.6).
//!
//! Not done: duplication that is atomic for the source, which would have to be undone.

use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::fscc::fsctl::{self, DuplicateExtents, FileLevelTrimOutput};

use super::copy::{Chunk, How};
use super::io::Then;
use super::ioctl::Control;
use super::{OpenRequest, State};
use crate::file::caching::Cause;
use crate::ids::OpenId;
use crate::request::Ioctl;
use crate::shard::{Shard, Turn};
use crate::storage::{Kind, Range, StorageOp};

/// Only whole pages are trimmed.
const PAGE: u64 = 4096;

impl Shard {
    pub(crate) fn on_duplicate_extents(
        &mut self,
        request: &OpenRequest,
        ioctl: &Ioctl,
        extents: &DuplicateExtents,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let target = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        target.check_any(AccessMask::WRITE_DATA)?;
        if target.caps.read_only {
            return Err(NtStatus::MEDIA_WRITE_PROTECTED);
        }
        for start in [extents.source_offset, extents.target_offset] {
            let end = start.checked_add(extents.byte_count).ok_or(NtStatus::INVALID_PARAMETER)?;
            if i64::try_from(end).is_err() {
                return Err(NtStatus::INVALID_PARAMETER);
            }
        }
        if extents.byte_count == 0 {
            return self.answer_ioctl(request, ioctl, Vec::new(), turn);
        }
        if target.kind != Kind::File {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let source = OpenId(extents.source.persistent);
        let found = self.opens.get(&source).filter(|open| {
            open.state == State::Ready
                && open.session == request.origin.session
                && open.volatile == extents.source.volatile
        });
        let source_open = found.ok_or(NtStatus::INVALID_HANDLE)?;
        if source_open.kind != Kind::File
            || !source_open.access.contains(AccessMask::READ_DATA)
            || source_open.volume() != target.volume()
        {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let chunk = Chunk {
            source_offset: extents.source_offset,
            target_offset: extents.target_offset,
            length: extents.byte_count,
        };
        self.begin_copy(request, source, ioctl.code, How::Share, vec![chunk], turn);
        Ok(())
    }

    pub(crate) fn on_trim(
        &mut self,
        request: &OpenRequest,
        ioctl: &Ioctl,
        ranges: &[fsctl::Range],
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let open = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        open.check_any(AccessMask::WRITE_DATA)?;
        let room = ioctl.output_max as usize;
        if open.kind != Kind::File || ranges.is_empty() || (1..4).contains(&room) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let mut whole = Vec::new();
        for range in ranges {
            whole.extend(whole_pages(range)?);
        }
        let handle = open.handle;
        let mut output = Vec::new();
        if room > 0 {
            let ranges_processed = u32::try_from(whole.len()).unwrap_or(u32::MAX);
            FileLevelTrimOutput { ranges_processed }.emit(&mut output);
        }
        if whole.is_empty() {
            return self.answer_ioctl(request, ioctl, output, turn);
        }
        let op = StorageOp::Trim { handle, ranges: whole };
        let control = Control { output, ..Control::new(ioctl, request.file_id) };
        self.submit_checked(request, Cause::Write, op, Then::Ioctl(control), turn);
        Ok(())
    }
}

/// The whole pages of a range, if there are any.
fn whole_pages(range: &fsctl::Range) -> Result<Option<Range>, NtStatus> {
    let end = range.file_offset.checked_add(range.length).ok_or(NtStatus::INTEGER_OVERFLOW)?;
    let start = range.file_offset.checked_next_multiple_of(PAGE).ok_or(NtStatus::INTEGER_OVERFLOW)?;
    let length = end.saturating_sub(start) / PAGE * PAGE;
    Ok((length > 0).then_some(Range { offset: start, length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pages_are_trimmed() {
        let pages = |file_offset, length| whole_pages(&fsctl::Range { file_offset, length });
        assert_eq!(pages(0, 8192), Ok(Some(Range { offset: 0, length: 8192 })));
        assert_eq!(pages(1, 8192), Ok(Some(Range { offset: 4096, length: 4096 })));
        assert_eq!(pages(1, 4096), Ok(None));
        assert_eq!(pages(4096, 0), Ok(None));
        assert_eq!(pages(u64::MAX, 1), Err(NtStatus::INTEGER_OVERFLOW));
        assert_eq!(pages(u64::MAX - 1, 1), Err(NtStatus::INTEGER_OVERFLOW));
    }
}
