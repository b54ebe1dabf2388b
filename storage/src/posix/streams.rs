//! Named streams, kept in extended attributes of the file.
//!
//! The stream NAME is `user.leasehold.stream.NAME`: version (1), zero (7), size (8), and the first 12 KiB of data. What
//! follows is in `user.leasehold.part.KKKK.NAME`, 12 KiB each, numbered in hexadecimal from 0001 on. Parts that are
//! missing or short are zeros. How much fits is up to the file system: ext4 has about 4 KiB for all attributes of a
//! file, XFS and Btrfs have room for the volume's own limit.

use std::ffi::CString;
use std::sync::Arc;

use rustix::io::Errno;
use smb_proto::{Name, NtStatus};
use smb_state::storage::{Object, StreamEntry};

use super::Volume;
use super::handle::{Inode, Node, StreamState};
use super::{names, xattr};
use crate::fault::Outcome;
use crate::handles::lock;

const STREAM: &[u8] = b"user.leasehold.stream.";
const PART: &[u8] = b"user.leasehold.part.";
const VERSION: u8 = 1;
const HEADER: usize = 16;
/// Data of one attribute.
const CHUNK: usize = 12 * 1024;
/// Longest name of an attribute.
const NAME_MAX: usize = 255;

/// The attribute of chunk `number` of a stream.
fn attribute(name: &Name, number: usize) -> Outcome<CString> {
    let mut attribute = if number == 0 { STREAM.to_vec() } else { PART.to_vec() };
    if number > 0 {
        attribute.extend_from_slice(format!("{number:04X}.").as_bytes());
    }
    attribute.extend_from_slice(&names::encode(name.units()));
    if attribute.len() > NAME_MAX {
        return Err(NtStatus::OBJECT_NAME_INVALID.into());
    }
    Ok(CString::new(attribute).map_err(|_| NtStatus::OBJECT_NAME_INVALID)?)
}

/// Names of all streams, as stored.
fn list(inode: &Inode) -> Outcome<Vec<Name>> {
    let attributes = xattr::list(inode.path())?;
    let streams = attributes.split(|byte| *byte == 0).filter_map(|name| name.strip_prefix(STREAM));
    Ok(streams.filter_map(names::decode).map(Name::from_units).collect())
}

/// The stream of that name without regard to case, as stored.
pub(super) fn find(inode: &Inode, name: &Name) -> Outcome<Option<Name>> {
    let wanted = name.folded();
    Ok(list(inode)?.into_iter().find(|stream| stream.folded() == wanted))
}

fn header(inode: &Inode, name: &Name) -> Outcome<(usize, Vec<u8>)> {
    let mut value = xattr::get(inode.path(), &attribute(name, 0)?)?.ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
    let size = value.get(8..HEADER).and_then(|size| size.first_chunk()).copied().map(u64::from_le_bytes);
    let (Some(size), Some(&VERSION)) = (size, value.first()) else { return Err(NtStatus::DATA_ERROR.into()) };
    let size = usize::try_from(size).map_err(|_| NtStatus::DATA_ERROR)?;
    Ok((size, value.split_off(HEADER)))
}

/// Bytes of a stream.
pub(super) fn size(inode: &Inode, state: &StreamState) -> Outcome<u64> {
    match &state.orphan {
        Some(data) => Ok(data.len() as u64),
        None => Ok(header(inode, &state.name)?.0 as u64),
    }
}

/// All data of a stream. A damaged size is bounded by `size_max`.
pub(super) fn load(inode: &Inode, state: &StreamState, size_max: usize) -> Outcome<Vec<u8>> {
    if let Some(data) = &state.orphan {
        return Ok(data.clone());
    }
    let (size, mut data) = header(inode, &state.name)?;
    let size = size.min(size_max);
    data.resize(size.min(CHUNK), 0);
    let mut number = 1;
    while data.len() < size {
        let chunk = xattr::get(inode.path(), &attribute(&state.name, number)?)?.unwrap_or_default();
        data.extend_from_slice(&chunk);
        number += 1;
        data.resize(size.min(CHUNK * number), 0);
    }
    Ok(data)
}

/// Replaces the data of a stream, of which `before` is what is stored (`None`: there is no such stream).
fn store(inode: &Inode, name: &Name, before: Option<&[u8]>, data: &[u8]) -> Outcome<()> {
    let chunks = |data: &[u8]| data.len().div_ceil(CHUNK).max(1);
    let old = before.unwrap_or_default();
    for (number, chunk) in data.chunks(CHUNK).enumerate().skip(1) {
        if old.chunks(CHUNK).nth(number) != Some(chunk) {
            xattr::set(inode.path(), &attribute(name, number)?, chunk)?;
        }
    }
    // The header comes last when the stream grows, so that an error or a crash leaves the stream as it was.
    let mut value = vec![VERSION, 0, 0, 0, 0, 0, 0, 0];
    value.extend_from_slice(&(data.len() as u64).to_le_bytes());
    value.extend_from_slice(data.chunks(CHUNK).next().unwrap_or_default());
    xattr::set(inode.path(), &attribute(name, 0)?, &value)?;
    for number in chunks(data)..before.map_or(0, chunks) {
        xattr::remove(inode.path(), &attribute(name, number)?)?;
    }
    Ok(())
}

fn remove(inode: &Inode, name: &Name, data: &[u8]) -> Outcome<()> {
    for number in 0..data.len().div_ceil(CHUNK).max(1) {
        xattr::remove(inode.path(), &attribute(name, number)?)?;
    }
    Ok(())
}

/// Removes all streams of a file (supersede).
pub(super) fn remove_all(inode: &Inode) -> Outcome<()> {
    let _held = lock(&inode.edit);
    for attribute in xattr::list(inode.path())?.split(|byte| *byte == 0) {
        if attribute.starts_with(STREAM) || attribute.starts_with(PART) {
            xattr::remove(inode.path(), &CString::new(attribute).map_err(|_| Errno::INVAL)?)?;
        }
    }
    Ok(())
}

impl Volume {
    fn stream_size_max(&self) -> usize {
        // Four hexadecimal digits number the parts.
        usize::try_from(self.options.stream_size_max).unwrap_or(usize::MAX).min(0xFFFF * CHUNK)
    }

    /// All data of the stream that a handle leads to.
    pub(super) fn stream_data(&self, node: &Node) -> Outcome<Option<Vec<u8>>> {
        let Some(stream) = &node.stream else { return Ok(None) };
        let _held = lock(&node.inode.edit);
        load(&node.inode, &lock(&stream.state), self.stream_size_max()).map(Some)
    }

    /// Changes the data of the stream that a handle leads to.
    pub(super) fn edit_stream<R>(
        &self,
        inode: &Inode,
        stream: &super::handle::StreamLink,
        edit: impl FnOnce(&mut Stream) -> Outcome<R>,
    ) -> Outcome<R> {
        let _held = lock(&inode.edit);
        let mut state = lock(&stream.state);
        let before = load(inode, &state, self.stream_size_max())?;
        let mut data = Stream { data: before.clone(), size_max: self.stream_size_max() };
        let result = edit(&mut data)?;
        match &mut state.orphan {
            Some(orphan) => *orphan = data.data,
            None => {
                store(inode, &state.name, Some(&before), &data.data)?;
                super::times::note_modified(inode)?;
            }
        }
        Ok(result)
    }

    pub(super) fn create_stream(&self, node: &Node, name: &Name, most: u32) -> Outcome<Object> {
        if !self.caps.streams || name.is_empty() {
            return Err(NtStatus::OBJECT_NAME_INVALID.into());
        }
        {
            let _held = lock(&node.inode.edit);
            let (known, wanted) = (list(&node.inode)?, name.folded());
            if known.iter().any(|known| known.folded() == wanted) {
                return Err(NtStatus::OBJECT_NAME_COLLISION.into());
            }
            if known.len() >= most as usize {
                return Err(NtStatus::FILE_SYSTEM_LIMITATION.into());
            }
            store(&node.inode, name, None, &[])?;
        }
        let stream = super::resolve::stream_link(&node.inode, name.clone());
        self.object(self.node(Arc::clone(&node.inode), Arc::clone(&node.link), Some(stream)))
    }

    pub(super) fn streams(&self, node: &Node) -> Outcome<Vec<StreamEntry>> {
        let mut entries = Vec::new();
        if !node.inode.is_directory() {
            let unnamed = Node::new(Arc::clone(&node.inode), Arc::clone(&node.link), None);
            let attributes = self.attributes_of(&unnamed)?;
            let (size, allocation) = (attributes.end_of_file, attributes.allocation);
            entries.push(StreamEntry { name: Name::default(), size, allocation });
        }
        if self.caps.streams {
            let _held = lock(&node.inode.edit);
            for name in list(&node.inode)? {
                let size = header(&node.inode, &name)?.0 as u64;
                entries.push(StreamEntry { name, size, allocation: size.next_multiple_of(8) });
            }
        }
        Ok(entries)
    }

    pub(super) fn rename_stream(&self, node: &Node, name: &Name, replace: bool) -> Outcome<()> {
        let Some(stream) = &node.stream else { return Err(NtStatus::INVALID_PARAMETER.into()) };
        if name.is_empty() {
            return Err(NtStatus::OBJECT_NAME_INVALID.into());
        }
        let _held = lock(&node.inode.edit);
        let existing = find(&node.inode, name)?;
        let (old, data) = {
            let state = lock(&stream.state);
            if state.orphan.is_some() {
                return Err(NtStatus::FILE_DELETED.into());
            }
            (state.name.clone(), load(&node.inode, &state, self.stream_size_max())?)
        };
        if old == *name {
            return Ok(());
        }
        if let Some(existing) = existing.filter(|existing| *existing != old) {
            if !replace {
                return Err(NtStatus::OBJECT_NAME_COLLISION.into());
            }
            if header(&node.inode, &existing)?.0 > 0 {
                return Err(NtStatus::INVALID_PARAMETER.into());
            }
            self.orphan(node, &existing)?;
        }
        store(&node.inode, name, None, &data)?;
        remove(&node.inode, &old, &data)?;
        lock(&stream.state).name = name.clone();
        Ok(())
    }

    /// Removes a stream; handles that lead to it keep its data. The inode's `edit` is held.
    fn orphan(&self, node: &Node, name: &Name) -> Outcome<()> {
        let known = lock(&node.inode.streams).iter().filter_map(std::sync::Weak::upgrade).find(|stream| {
            let state = lock(&stream.state);
            state.orphan.is_none() && state.name == *name
        });
        let state = StreamState { name: name.clone(), orphan: None };
        let data = load(&node.inode, &state, self.stream_size_max())?;
        remove(&node.inode, name, &data)?;
        if let Some(known) = known {
            lock(&known.state).orphan = Some(data);
        }
        Ok(())
    }

    pub(super) fn unlink_stream(&self, node: &Node, stream: &super::handle::StreamLink) -> Outcome<()> {
        let _held = lock(&node.inode.edit);
        let name = {
            let state = lock(&stream.state);
            if state.orphan.is_some() {
                return Err(NtStatus::OBJECT_NAME_NOT_FOUND.into());
            }
            state.name.clone()
        };
        self.orphan(node, &name)
    }
}

/// The data of a stream while it is changed.
pub(super) struct Stream {
    pub(super) data: Vec<u8>,
    size_max: usize,
}

impl Stream {
    /// Sets the size; DISK_FULL above the limit.
    pub(super) fn resize(&mut self, size: u64) -> Outcome<()> {
        let size = usize::try_from(size).ok().filter(|size| *size <= self.size_max);
        self.data.resize(size.ok_or(NtStatus::DISK_FULL)?, 0);
        Ok(())
    }

    /// Writes at `offset`, or at the end.
    pub(super) fn write(&mut self, offset: Option<u64>, bytes: &[u8]) -> Outcome<()> {
        let start = offset.unwrap_or(self.data.len() as u64);
        let end = start.checked_add(bytes.len() as u64).ok_or(NtStatus::INVALID_PARAMETER)?;
        if end > self.data.len() as u64 && !bytes.is_empty() {
            self.resize(end)?;
        }
        if !bytes.is_empty() {
            let start = usize::try_from(start).map_err(|_| NtStatus::DISK_FULL)?;
            self.data[start..start + bytes.len()].copy_from_slice(bytes);
        }
        Ok(())
    }
}
