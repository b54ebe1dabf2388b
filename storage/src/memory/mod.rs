//! A volume in memory, with everything that a volume can have: for tests, models of other drivers, and demonstrations.
//! Requests run one at a time and are answered at once.

mod file;
mod list;
mod names;
mod pages;
mod times;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use smb_proto::{FileAttributes, FileTime, Name, NtStatus, Payload};
use smb_state::storage::{
    Initial, Intent, Range, Requester, SetAttributes, StorageOp, StorageReply, StreamEntry, VolumeCaps,
    VolumeInfo,
};

use self::file::{File, Link, Node};
use self::pages::{Budget, PAGE};
use crate::driver::{Completion, Driver};
use crate::fault::{Fault, Outcome, reply};
use crate::handles::{HandleTable, lock};

/// Bytes that one copy moves at a time.
const COPY_PIECE: u64 = 256 * 1024;

/// The driver.
pub struct Memory {
    root: Arc<File>,
    root_link: Arc<Link>,
    handles: HandleTable<Node>,
    budget: Arc<Budget>,
    numbers: AtomicU64,
    label: Name,
    /// Held for each request.
    turn: Mutex<()>,
}

fn now() -> FileTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    FileTime::from_unix(i64::try_from(now.as_secs()).unwrap_or(i64::MAX), now.subsec_nanos())
}

/// The attributes that are stored as set.
fn stored(dos: FileAttributes) -> FileAttributes {
    let told = FileAttributes::NORMAL.0
        | FileAttributes::DIRECTORY.0
        | FileAttributes::REPARSE_POINT.0
        | FileAttributes::SPARSE_FILE.0
        | FileAttributes::COMPRESSED.0
        | FileAttributes::ENCRYPTED.0;
    FileAttributes(dos.0 & FileAttributes::VALID_MASK.0 & !told)
}

impl Memory {
    /// An empty volume for at most `capacity` bytes of data.
    #[must_use]
    pub fn new(capacity: u64, label: Name) -> Self {
        let budget = Arc::new(Budget::new(capacity.div_ceil(PAGE)));
        let empty = file::State {
            dos: FileAttributes(0),
            creation: now(),
            last_access: now(),
            last_write: now(),
            change: now(),
            links: 1,
            data: pages::Pages::new(&budget),
            reserved: 0,
            streams: Vec::new(),
            eas: Vec::new(),
            security: None,
            owner: None,
            children: Default::default(),
            parent: Weak::new(),
        };
        let root = Arc::new(File::new(1, smb_state::storage::Kind::Directory, empty));
        let root_link = Arc::new(Link::new(&root, Name::default()));
        let handles = HandleTable::default();
        Self { root, root_link, handles, budget, numbers: AtomicU64::new(2), label, turn: Mutex::new(()) }
    }

    /// Handles that are open, so that leaks can be found.
    #[must_use]
    pub fn handles_open(&self) -> usize {
        self.handles.len()
    }

    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn run(&self, op: StorageOp<Bytes>) -> Outcome<StorageReply<Payload>> {
        let node = |handle| self.handles.get(handle);
        match op {
            StorageOp::Resolve { path, stream } => {
                Ok(StorageReply::Resolved(self.resolve(&path, stream.as_ref())?))
            }
            StorageOp::Create { parent, name, kind, initial } => {
                Ok(StorageReply::Opened(self.create(&*node(parent)?, &name, kind, &initial)?))
            }
            StorageOp::CreateStream { file, stream, most, .. } => {
                Ok(StorageReply::Opened(self.create_stream(&*node(file)?, &stream, most)?))
            }
            StorageOp::Rename { handle, parent, name, replace } => {
                done(self.rename(&*node(handle)?, &*node(parent)?, &name, replace))
            }
            StorageOp::Link { handle, parent, name, replace } => {
                done(self.add_link(&*node(handle)?, &*node(parent)?, &name, replace))
            }
            StorageOp::RenameStream { handle, stream, replace } => {
                done(self.rename_stream(&*node(handle)?, &stream, replace))
            }
            StorageOp::Path { handle } => Ok(StorageReply::Path(self.path_of(&*node(handle)?)?)),
            StorageOp::UnlinkStream { handle } => done(self.unlink_stream(&*node(handle)?)),
            StorageOp::Unlink { handle } => done(self.unlink(&*node(handle)?)),
            StorageOp::Open { handle, intent } => open(&*node(handle)?, intent),
            StorageOp::Overwrite { handle, initial, supersede } => {
                self.overwrite(&*node(handle)?, &initial, supersede)
            }
            StorageOp::Close { handle } => {
                self.handles.remove(handle)?;
                Ok(StorageReply::Done)
            }
            StorageOp::List { handle, listing } => list::list(&*node(handle)?, &listing),
            StorageOp::CheckEmpty { handle } => done(check_empty(&*node(handle)?)),
            StorageOp::Volume => Ok(StorageReply::Volume(self.volume_info())),
            StorageOp::Copy { source, source_offset, target, target_offset, length } => {
                let (source, target) = (node(source)?, node(target)?);
                copy((&source, source_offset), (&target, target_offset), length)
            }
            // Nobody else can change it, so nobody watches it.
            StorageOp::LinkTarget { .. }
            | StorageOp::SetLinkTarget { .. }
            | StorageOp::CloneExtents { .. }
            | StorageOp::Transceive { .. }
            | StorageOp::PipeState { .. }
            | StorageOp::Watch { .. }
            | StorageOp::Unwatch { .. } => Err(NtStatus::INVALID_DEVICE_REQUEST.into()),
            StorageOp::Read { .. }
            | StorageOp::Write { .. }
            | StorageOp::Flush { .. }
            | StorageOp::SetEndOfFile { .. }
            | StorageOp::SetAllocation { .. }
            | StorageOp::AllocatedRanges { .. }
            | StorageOp::SetSparse { .. }
            | StorageOp::Trim { .. }
            | StorageOp::Zero { .. } => self.run_on_data(op),
            StorageOp::Attributes { .. }
            | StorageOp::SettleTimes { .. }
            | StorageOp::SetAttributes { .. }
            | StorageOp::Streams { .. }
            | StorageOp::Eas { .. }
            | StorageOp::SetEas { .. }
            | StorageOp::Security { .. }
            | StorageOp::SetSecurity { .. } => self.run_on_metadata(op),
        }
    }

    fn run_on_data(&self, op: StorageOp<Bytes>) -> Outcome<StorageReply<Payload>> {
        match op {
            StorageOp::Read { handle, offset, length } => {
                let node = self.handles.get(handle)?;
                check_data(&node)?;
                let mut buffer = Payload::with_capacity(0);
                node.with_data(|data| data.read(offset, length.into(), buffer.buffer()));
                let length = u32::try_from(buffer.len()).map_err(|_| NtStatus::INTERNAL_ERROR)?;
                Ok(StorageReply::Read { buffer, length })
            }
            StorageOp::Write { handle, offset, buffer, length, .. } => {
                let bytes = buffer.get(..length as usize).ok_or(NtStatus::INVALID_PARAMETER)?;
                changed(&*self.handles.get(handle)?, |data| {
                    let offset = offset.unwrap_or(data.size());
                    data.write(offset, bytes)
                })?;
                Ok(StorageReply::Written { length })
            }
            StorageOp::Flush { handle } => done(self.handles.get(handle).map(drop)),
            StorageOp::SetEndOfFile { handle, size } => {
                done(changed(&*self.handles.get(handle)?, |data| data.resize(size)))
            }
            StorageOp::SetAllocation { handle, size } => {
                let node = self.handles.get(handle)?;
                changed(&node, |data| if size < data.size() { data.resize(size) } else { Ok(()) })?;
                if node.stream.is_none() {
                    node.file.state().reserved = size.next_multiple_of(PAGE).min(self.budget.total * PAGE);
                }
                Ok(StorageReply::Done)
            }
            StorageOp::AllocatedRanges { handle, offset, length, count_max } => {
                let node = self.handles.get(handle)?;
                Ok(StorageReply::Ranges(allocated_ranges(&node, offset, length, count_max)?))
            }
            StorageOp::SetSparse { handle, sparse } => {
                let node = self.handles.get(handle)?;
                if node.file.is_directory() {
                    return Err(NtStatus::INVALID_PARAMETER.into());
                }
                let bit = FileAttributes::SPARSE_FILE.0;
                let dos = &mut node.file.state().dos;
                dos.0 = if sparse { dos.0 | bit } else { dos.0 & !bit };
                Ok(StorageReply::Done)
            }
            StorageOp::Trim { handle, ranges } => done(changed(&*self.handles.get(handle)?, |data| {
                for Range { offset, length } in ranges {
                    data.zero(offset, offset.saturating_add(length));
                }
                Ok(())
            })),
            StorageOp::Zero { handle, offset, beyond } => {
                if beyond < offset {
                    return Err(NtStatus::INVALID_PARAMETER.into());
                }
                done(changed(&*self.handles.get(handle)?, |data| {
                    data.zero(offset, beyond);
                    Ok(())
                }))
            }
            _ => Err(NtStatus::INTERNAL_ERROR.into()),
        }
    }

    fn run_on_metadata(&self, op: StorageOp<Bytes>) -> Outcome<StorageReply<Payload>> {
        match op {
            StorageOp::SettleTimes { handle, now: is_now } => {
                let node = self.handles.get(handle)?;
                if is_now {
                    let mut state = node.file.state();
                    state.last_write = now();
                    state.change = state.last_write;
                }
                Ok(StorageReply::Attributes(node.attributes()))
            }
            StorageOp::Attributes { handle } => {
                Ok(StorageReply::Attributes(self.handles.get(handle)?.attributes()))
            }
            StorageOp::SetAttributes { handle, set } => {
                let node = self.handles.get(handle)?;
                *lock(&node.kept) = set.kept;
                set_attributes(&node, &set);
                Ok(StorageReply::Done)
            }
            StorageOp::Streams { handle } => Ok(StorageReply::Streams(streams(&*self.handles.get(handle)?))),
            StorageOp::Eas { handle } => {
                Ok(StorageReply::Eas(self.handles.get(handle)?.file.state().eas.clone()))
            }
            StorageOp::SetEas { handle, eas } => {
                let node = self.handles.get(handle)?;
                let mut state = node.file.state();
                state.eas = crate::ea::merge(state.eas.clone(), &eas)?;
                state.change = now();
                Ok(StorageReply::Done)
            }
            StorageOp::Security { handle } => {
                let descriptor = self.handles.get(handle)?.file.security();
                Ok(StorageReply::Security(Box::new(descriptor)))
            }
            StorageOp::SetSecurity { handle, parts, descriptor } => {
                let node = self.handles.get(handle)?;
                let security = node.file.security().apply(parts, &descriptor);
                let mut state = node.file.state();
                state.security = Some(security);
                state.change = now();
                Ok(StorageReply::Done)
            }
            _ => Err(NtStatus::INTERNAL_ERROR.into()),
        }
    }

    fn overwrite(&self, node: &Node, initial: &Initial, supersede: bool) -> Outcome<StorageReply<Payload>> {
        if node.stream.is_some() {
            changed(node, |data| data.resize(0))?;
            return Ok(StorageReply::Attributes(node.attributes()));
        }
        let eas = crate::ea::merge(Vec::new(), &initial.eas)?;
        changed(node, |data| data.resize(0))?;
        let mut state = node.file.state();
        state.eas = eas;
        state.dos = stored(initial.dos);
        state.reserved = initial.allocation;
        if supersede {
            state.creation = now();
            for stream in state.streams.drain(..) {
                stream.state().is_linked = false;
            }
        }
        state.security = initial.security.as_deref().cloned().or(state.security.take());
        drop(state);
        Ok(StorageReply::Attributes(node.attributes()))
    }

    fn volume_info(&self) -> VolumeInfo {
        let free = self.budget.free();
        VolumeInfo {
            creation: self.root.attributes().creation,
            serial: 0x4C45_4153,
            label: self.label.clone(),
            unit_size: PAGE as u32,
            sector_size: 512,
            units_total: self.budget.total,
            units_free: free,
            units_available: free,
            component_max: 255,
        }
    }
}

fn done(outcome: Outcome<()>) -> Outcome<StorageReply<Payload>> {
    outcome.map(|()| StorageReply::Done)
}

fn check_data(node: &Node) -> Outcome<()> {
    if node.file.is_directory() && node.stream.is_none() {
        return Err(NtStatus::INVALID_DEVICE_REQUEST.into());
    }
    Ok(())
}

/// Changes data, and the times with it.
fn changed(node: &Node, act: impl FnOnce(&mut pages::Pages) -> Outcome<()>) -> Outcome<()> {
    check_data(node)?;
    node.with_data(act)?;
    let mut state = node.file.state();
    state.last_write = now();
    state.change = state.last_write;
    Ok(())
}

fn open(node: &Node, _intent: Intent) -> Outcome<StorageReply<Payload>> {
    let is_removed = node.stream.as_ref().is_some_and(|stream| !stream.state().is_linked);
    if node.link.place().is_none() || is_removed {
        return Err(Fault::Stale);
    }
    Ok(StorageReply::Attributes(node.attributes()))
}

fn check_empty(node: &Node) -> Outcome<()> {
    if !node.file.is_directory() {
        return Err(NtStatus::NOT_A_DIRECTORY.into());
    }
    if node.file.state().children.is_empty() { Ok(()) } else { Err(NtStatus::DIRECTORY_NOT_EMPTY.into()) }
}

fn set_attributes(node: &Node, set: &SetAttributes) {
    let mut state = node.file.state();
    if !set.changes(state.dos) {
        return;
    }
    if let Some(dos) = set.dos {
        let sparse = state.dos.0 & FileAttributes::SPARSE_FILE.0;
        state.dos = FileAttributes(stored(dos).0 | sparse);
    }
    state.creation = set.creation.unwrap_or(state.creation);
    state.last_access = set.last_access.unwrap_or(state.last_access);
    state.last_write = set.last_write.unwrap_or(state.last_write);
    state.change = set.change.unwrap_or_else(now);
}

fn streams(node: &Node) -> Vec<StreamEntry> {
    let mut entries = Vec::new();
    if !node.file.is_directory() {
        let Node { file, .. } = node;
        let attributes = file.attributes();
        let (size, allocation) = (attributes.end_of_file, attributes.allocation);
        entries.push(StreamEntry { name: Name::default(), size, allocation });
    }
    entries.extend(node.file.state().streams.iter().map(|stream| {
        let state = stream.state();
        let size = state.data.size();
        StreamEntry { name: state.name.clone(), size, allocation: size.next_multiple_of(PAGE) }
    }));
    entries
}

fn allocated_ranges(node: &Node, offset: u64, length: u64, count_max: u32) -> Outcome<Vec<Range>> {
    check_data(node)?;
    let beyond = offset.checked_add(length).ok_or(NtStatus::INVALID_PARAMETER)?;
    let is_sparse = node.stream.is_none() && node.file.attributes().dos.contains(FileAttributes::SPARSE_FILE);
    // One more than asked tells that there are more.
    let count_max = (count_max as usize).saturating_add(1);
    Ok(node.with_data(|data| {
        let end = beyond.min(data.size());
        if is_sparse {
            data.ranges(offset, beyond, count_max)
        } else if offset < end {
            vec![Range { offset, length: end - offset }]
        } else {
            Vec::new()
        }
    }))
}

fn copy(
    (source, source_offset): (&Node, u64),
    (target, target_offset): (&Node, u64),
    length: u32,
) -> Outcome<StorageReply<Payload>> {
    check_data(source)?;
    source_offset.checked_add(length.into()).ok_or(NtStatus::INVALID_PARAMETER)?;
    target_offset.checked_add(length.into()).ok_or(NtStatus::INVALID_PARAMETER)?;
    // Ranges of one file may overlap: the source's end is that of before.
    let end = source.with_data(|data| data.size());
    let length = u64::from(length).min(end.saturating_sub(source_offset));
    let mut done = 0;
    let mut piece = Vec::new();
    while done < length {
        piece.clear();
        source.with_data(|data| data.read(source_offset + done, COPY_PIECE.min(length - done), &mut piece));
        changed(target, |data| data.write(target_offset + done, &piece))?;
        done += piece.len() as u64;
    }
    Ok(StorageReply::Written { length: u32::try_from(length).map_err(|_| NtStatus::INTERNAL_ERROR)? })
}

impl Driver for Memory {
    fn caps(&self) -> VolumeCaps {
        VolumeCaps {
            streams: true,
            extended_attributes: true,
            sparse: true,
            security: true,
            hard_links: true,
            symbolic_links: false,
            server_copy: true,
            block_clone: false,
            read_only: false,
            local_changes: false,
            pipes: false,
        }
    }

    fn submit(
        &self,
        _requester: &Requester,
        op: StorageOp<Bytes>,
        _later: &mut dyn FnMut() -> Completion,
    ) -> Poll<StorageReply<Payload>> {
        let _turn = lock(&self.turn);
        Poll::Ready(reply(self.run_keeping(op)))
    }
}
