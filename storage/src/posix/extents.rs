//! Blocks that files share, and blocks that nobody needs any more.

use rustix::fs::{
    CWD, FallocateFlags, Mode, OFlags, copy_file_range, fallocate, fstatvfs, ioctl_ficlone, openat,
};
use rustix::io::{Errno, pwrite};
use smb_proto::NtStatus;
use smb_state::storage::Range;

use super::Volume;
use super::handle::{Inode, Node};
use super::io::{check_range, file_size};
use crate::fault::Outcome;

/// Whether the file system shares blocks between files, tried on two files without names.
pub(super) fn can_clone(root: &Inode) -> bool {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = || openat(CWD, root.path(), flags, Mode::RUSR | Mode::WUSR);
    let (Ok(source), Ok(target)) = (file(), file()) else { return false };
    pwrite(&source, &[1; 4096], 0).is_ok() && ioctl_ficlone(&target, &source).is_ok()
}

impl Volume {
    /// A copy by the kernel, which shares the blocks where the file system can and the range is whole blocks: both are known
    /// here, so that what the client is told holds.
    pub(super) fn clone_extents(
        &self,
        (source, source_offset): (&Node, u64),
        (target, target_offset): (&Node, u64),
        length: u64,
    ) -> Outcome<()> {
        if !self.caps.block_clone || source.stream.is_some() || target.stream.is_some() {
            return Err(NtStatus::NOT_SUPPORTED.into());
        }
        check_range(source_offset, length)?;
        check_range(target_offset, length)?;
        let unit = fstatvfs(self.root.fd())?.f_frsize.max(1);
        if [source_offset, target_offset, length].iter().any(|number| number % unit != 0) {
            return Err(NtStatus::INVALID_PARAMETER.into());
        }
        let (from, to) = (source.inode.reader()?, target.inode.writer()?);
        let past_end = source_offset + length > file_size(from)?;
        let overlaps = source.inode.key == target.inode.key && source_offset.abs_diff(target_offset) < length;
        if past_end || overlaps || (self.is_sparse(source)? && !self.is_sparse(target)?) {
            return Err(NtStatus::NOT_SUPPORTED.into());
        }
        // The end of the target stays where it is; nobody sees blocks behind it.
        let length = length.min(file_size(to)?.saturating_sub(target_offset));
        let (mut from_offset, mut to_offset) = (source_offset, target_offset);
        while from_offset < source_offset + length {
            let rest = usize::try_from(source_offset + length - from_offset).unwrap_or(usize::MAX);
            match copy_file_range(from, Some(&mut from_offset), to, Some(&mut to_offset), rest) {
                // The source became shorter.
                Ok(0) => return Err(NtStatus::NOT_SUPPORTED.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    pub(super) fn trim(&self, node: &Node, ranges: &[Range]) -> Outcome<()> {
        if !self.caps.sparse {
            return Err(NtStatus::INVALID_DEVICE_REQUEST.into());
        }
        // A named stream is small, and what is in a trimmed range may stay.
        if node.stream.is_some() {
            return Ok(());
        }
        let fd = node.inode.writer()?;
        let size = file_size(fd)?;
        for Range { offset, length } in ranges {
            let length = (*length).min(size.saturating_sub(*offset));
            if length > 0 {
                fallocate(fd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, *offset, length)?;
            }
        }
        Ok(())
    }
}
