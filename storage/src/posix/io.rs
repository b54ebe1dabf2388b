//! Data: reading, writing, sizes, holes, copies.

use std::io::IoSliceMut;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use rustix::fs::{FallocateFlags, SeekFrom, copy_file_range, fallocate, fdatasync, fstat, ftruncate, seek};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwrite};
use smb_proto::{FileAttributes, NtStatus, Payload};
use smb_state::storage::{Range, StorageReply};

use super::Volume;
use super::handle::Node;
use super::record::Record;
use crate::fault::{Fault, Outcome, Place};
use crate::file;

/// Buffer for copies that the kernel does not do.
const COPY_BUFFER: usize = 256 * 1024;
/// Largest offset that the kernel has.
pub(super) const OFFSET_MAX: u64 = i64::MAX as u64;

pub(super) fn read_reply(payload: Payload) -> Outcome<StorageReply<Payload>> {
    let length = u32::try_from(payload.len()).map_err(|_| NtStatus::INVALID_PARAMETER)?;
    Ok(StorageReply::Read { buffer: payload, length })
}

pub(super) fn check_range(offset: u64, length: u64) -> Outcome<()> {
    match offset.checked_add(length) {
        Some(end) if end <= OFFSET_MAX => Ok(()),
        _ => Err(NtStatus::INVALID_PARAMETER.into()),
    }
}

pub(super) fn file_size(fd: BorrowedFd<'_>) -> Outcome<u64> {
    Ok(u64::try_from(fstat(fd)?.st_size).unwrap_or(0))
}

impl Volume {
    pub(super) fn read(
        &self,
        node: &Node,
        offset: u64,
        length: u32,
        place: Place,
    ) -> Outcome<StorageReply<Payload>> {
        if let Some(data) = self.stream_data(node)? {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
            let end = start.saturating_add(length as usize).min(data.len());
            return read_reply(Payload::copy_from(&data[start..end]));
        }
        let fd = node.inode.reader()?;
        if offset >= OFFSET_MAX {
            return read_reply(Payload::default());
        }
        if length > self.options.inline_read_max {
            place.may_wait()?;
        }
        if place == Place::Inline && !self.without_nowait.load(Ordering::Relaxed) {
            match Payload::filled(length as usize, |room| read_cached(fd, offset, room)) {
                Ok(payload) => return read_reply(payload),
                Err(Errno::AGAIN) => return Err(Fault::Offload),
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.without_nowait.store(true, Ordering::Relaxed),
                Err(errno) => return Err(errno.into()),
            }
        }
        read_reply(file::read(fd, offset, length as usize)?)
    }

    /// Whether a write of that length may be done on a thread that serves connections: it goes to the page cache.
    pub(super) fn check_inline(&self, length: usize, write_through: bool, place: Place) -> Outcome<()> {
        let waits = write_through
            || length > self.options.inline_write_max
            || place == Place::Inline && self.pace.is_slow(length);
        if waits { place.may_wait() } else { Ok(()) }
    }

    pub(super) fn write(
        &self,
        node: &Node,
        offset: Option<u64>,
        bytes: &[u8],
        write_through: bool,
    ) -> Outcome<StorageReply<Payload>> {
        let length = u32::try_from(bytes.len()).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        check_range(offset.unwrap_or(0), bytes.len() as u64)?;
        if let Some(stream) = &node.stream {
            self.edit_stream(&node.inode, stream, |stream| stream.write(offset, bytes))?;
            if write_through {
                fdatasync(node.inode.reader()?)?;
            }
            return Ok(StorageReply::Written { length });
        }
        let fd = node.inode.writer()?;
        let done = file::write(fd, offset, bytes, write_through)?;
        Ok(StorageReply::Written { length: u32::try_from(done).unwrap_or(length) })
    }

    pub(super) fn flush(&self, node: &Node) -> Outcome<()> {
        if node.inode.is_directory() {
            let fd = node.inode.reopen(rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY)?;
            return Ok(fdatasync(fd)?);
        }
        Ok(fdatasync(node.inode.reader()?)?)
    }

    pub(super) fn set_end_of_file(&self, node: &Node, size: u64) -> Outcome<()> {
        if let Some(stream) = &node.stream {
            return self.edit_stream(&node.inode, stream, |stream| stream.resize(size));
        }
        check_range(0, size)?;
        ftruncate(node.inode.writer()?, size)?;
        node.inode.reserved.store(0, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn set_allocation(&self, node: &Node, size: u64) -> Outcome<()> {
        if let Some(stream) = &node.stream {
            return self.edit_stream(&node.inode, stream, |stream| {
                if size < stream.data.len() as u64 { stream.resize(size) } else { Ok(()) }
            });
        }
        check_range(0, size)?;
        let fd = node.inode.writer()?;
        if size < file_size(fd)? {
            return self.set_end_of_file(node, size);
        }
        if size == 0 {
            // What was set aside is given back.
            return self.set_end_of_file(node, 0);
        }
        match fallocate(fd, FallocateFlags::KEEP_SIZE, 0, size) {
            Ok(()) => {
                let units = size.checked_next_multiple_of(super::attributes::UNIT).unwrap_or(size);
                node.inode.reserved.store(units, Ordering::Relaxed);
                Ok(())
            }
            // Setting space aside is a promise about later writes, not about data: without it they may fail.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(super) fn set_sparse(&self, node: &Node, sparse: bool) -> Outcome<()> {
        if node.inode.is_directory() {
            return Err(NtStatus::INVALID_PARAMETER.into());
        }
        if !self.caps.sparse {
            return Err(NtStatus::INVALID_DEVICE_REQUEST.into());
        }
        Ok(Record::update(&node.inode, |record| {
            let bit = FileAttributes::SPARSE_FILE.0;
            let dos = record.dos.unwrap_or_else(|| super::attributes::unrecorded(node.inode.kind)).0;
            record.dos = Some(FileAttributes(if sparse { dos | bit } else { dos & !bit }));
        })?)
    }

    pub(super) fn is_sparse(&self, node: &Node) -> Outcome<bool> {
        let record = if self.caps.sparse { Record::of(&node.inode)? } else { Record::default() };
        Ok(record.dos.unwrap_or_default().contains(FileAttributes::SPARSE_FILE))
    }

    pub(super) fn zero(&self, node: &Node, offset: u64, beyond: u64, place: Place) -> Outcome<()> {
        if beyond < offset {
            return Err(NtStatus::INVALID_PARAMETER.into());
        }
        if let Some(stream) = &node.stream {
            return self.edit_stream(&node.inode, stream, |stream| {
                let end = usize::try_from(beyond).unwrap_or(usize::MAX).min(stream.data.len());
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(end);
                stream.data[start..end].fill(0);
                Ok(())
            });
        }
        let fd = node.inode.writer()?;
        let end = beyond.min(file_size(fd)?);
        let length = end.saturating_sub(offset);
        if length == 0 {
            return Ok(());
        }
        let way = if self.is_sparse(node)? { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
        match fallocate(fd, way | FallocateFlags::KEEP_SIZE, offset, length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                place.may_wait()?;
                write_zeros(fd, offset, end)
            }
            result => Ok(result?),
        }
    }

    pub(super) fn allocated_ranges(
        &self,
        node: &Node,
        offset: u64,
        length: u64,
        count_max: u32,
    ) -> Outcome<Vec<Range>> {
        let beyond = offset.checked_add(length).ok_or(NtStatus::INVALID_PARAMETER)?;
        // One more than asked tells that there are more.
        let count_max = (count_max as usize).saturating_add(1);
        let whole = |size: u64| {
            let end = beyond.min(size);
            if offset < end { vec![Range { offset, length: end - offset }] } else { Vec::new() }
        };
        if let Some(stream) = self.stream_data(node)? {
            return Ok(whole(stream.len() as u64));
        }
        let fd = node.inode.reader()?;
        let size = file_size(fd)?;
        if !self.is_sparse(node)? {
            return Ok(whole(size));
        }
        // The descriptor is shared, its position is used by nothing else, and each seek says where it starts.
        let mut ranges = Vec::new();
        let mut at = offset;
        while at < beyond.min(size) && ranges.len() < count_max {
            let start = match seek(fd, SeekFrom::Data(at)) {
                Ok(start) => start,
                Err(Errno::NXIO) => break,
                Err(_) => return Ok(whole(size)),
            };
            let end = seek(fd, SeekFrom::Hole(start)).unwrap_or(size).min(beyond);
            if start >= end {
                break;
            }
            ranges.push(Range { offset: start, length: end - start });
            at = end;
        }
        Ok(ranges)
    }

    pub(super) fn copy(
        &self,
        (source, source_offset): (&Node, u64),
        (target, target_offset): (&Node, u64),
        length: u32,
    ) -> Outcome<StorageReply<Payload>> {
        check_range(source_offset, length.into())?;
        check_range(target_offset, length.into())?;
        let done = if source.stream.is_some() || target.stream.is_some() {
            self.copy_through(source, source_offset, target, target_offset, length as usize)?
        } else {
            self.copy_in_kernel(source, source_offset, target, target_offset, length as usize)?
        };
        Ok(StorageReply::Written { length: u32::try_from(done).unwrap_or(length) })
    }

    fn copy_in_kernel(
        &self,
        source: &Node,
        source_offset: u64,
        target: &Node,
        target_offset: u64,
        length: usize,
    ) -> Outcome<usize> {
        let (from, to) = (source.inode.reader()?, target.inode.writer()?);
        let (mut from_offset, mut to_offset) = (source_offset, target_offset);
        let mut done = 0;
        while done < length {
            match copy_file_range(from, Some(&mut from_offset), to, Some(&mut to_offset), length - done) {
                Ok(0) => break,
                Ok(copied) => done += copied,
                Err(Errno::INTR) => {}
                // Another file system, none that can, or ranges that overlap.
                Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    let at = done as u64;
                    let rest = length - done;
                    let (from, to) = (source_offset + at, target_offset + at);
                    return Ok(done + self.copy_through(source, from, target, to, rest)?);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(done)
    }

    /// A copy through memory, piece by piece from front to back.
    fn copy_through(
        &self,
        source: &Node,
        source_offset: u64,
        target: &Node,
        target_offset: u64,
        length: usize,
    ) -> Outcome<usize> {
        let mut done = 0;
        while done < length {
            let piece = u32::try_from((length - done).min(COPY_BUFFER)).unwrap_or(u32::MAX);
            let at = done as u64;
            let StorageReply::Read { buffer, .. } =
                self.read(source, source_offset + at, piece, Place::Offloaded)?
            else {
                return Err(NtStatus::INTERNAL_ERROR.into());
            };
            if buffer.is_empty() {
                break;
            }
            self.write(target, Some(target_offset + at), buffer.data(), false)?;
            done += buffer.len();
        }
        Ok(done)
    }
}

/// Reads what is in the page cache and says how much of it is the file's. `AGAIN` if not all that is asked for is there.
fn read_cached(fd: BorrowedFd<'_>, offset: u64, room: &mut [u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while done < room.len() {
        let rest = &mut room[done..];
        match preadv2(fd, &mut [IoSliceMut::new(rest)], offset + done as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

fn write_zeros(fd: BorrowedFd<'_>, offset: u64, beyond: u64) -> Outcome<()> {
    let zeros = vec![0; COPY_BUFFER];
    let mut at = offset;
    while at < beyond {
        let piece = usize::try_from(beyond - at).unwrap_or(COPY_BUFFER).min(COPY_BUFFER);
        match pwrite(fd, &zeros[..piece], at) {
            Ok(0) => return Err(NtStatus::DISK_FULL.into()),
            Ok(written) => at += written as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
