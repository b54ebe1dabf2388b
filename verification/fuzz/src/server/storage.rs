//! Volumes in a few kilobytes: a tree of files for one share, pipes for another. Deterministic, and strict about what
//! the core owes a driver: no handle that isn't open, none closed twice.

use std::collections::BTreeMap;

use bytes::Bytes;
use smb_proto::attributes::FileAttributes;
use smb_proto::fscc::directory::{DirectoryEntry, DirectoryWriter};
use smb_proto::fscc::ea::FullEa;
use smb_proto::fscc::expression::Expression;
use smb_proto::rpc::server::PipeServer;
use smb_proto::security::descriptor::SecurityDescriptor;
use smb_proto::{FileTime, Name, NtStatus, Payload};
use smb_state::ids::{FileNumber, Handle, VolumeId};
use smb_state::storage::{
    Attributes, Initial, Kind, Object, Resolved, StorageOp, StorageReply, StreamEntry, VolumeCaps, VolumeInfo,
};

use crate::authentication::NOW;

/// The volume with files.
pub const FILES: VolumeId = VolumeId(1);
/// The volume with pipes.
pub const PIPES: VolumeId = VolumeId(2);

/// Most bytes of a stream.
const SIZE_MAX: u64 = 64 << 10;
/// Most files.
const FILES_MAX: usize = 200;
const ROOT: FileNumber = FileNumber(1);

/// What both volumes can do.
#[must_use]
pub fn caps(volume: VolumeId) -> VolumeCaps {
    if volume == PIPES {
        return VolumeCaps { pipes: true, ..VolumeCaps::default() };
    }
    VolumeCaps {
        streams: true,
        extended_attributes: true,
        sparse: true,
        security: true,
        hard_links: true,
        server_copy: true,
        block_clone: false,
        ..VolumeCaps::default()
    }
}

#[derive(Debug, Default)]
struct Node {
    directory: bool,
    dos: FileAttributes,
    links: u32,
    streams: BTreeMap<Name, (Name, Vec<u8>)>,
    eas: Vec<FullEa>,
    security: Option<Box<SecurityDescriptor>>,
}

#[derive(Debug)]
enum Pin {
    Node { number: FileNumber, parent: FileNumber, name: Name, stream: Name, listing: Option<(Name, usize)> },
    Pipe { server: Box<PipeServer>, answers: Vec<u8> },
}

/// Both volumes.
#[derive(Debug)]
pub struct Storage {
    nodes: BTreeMap<FileNumber, Node>,
    entries: BTreeMap<(FileNumber, Name), (Name, FileNumber)>,
    pins: BTreeMap<Handle, Pin>,
    numbers: u64,
    handles: u64,
}

type Reply = StorageReply<Payload>;

impl Default for Storage {
    fn default() -> Self {
        let root = Node { directory: true, links: 1, ..Node::default() };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            entries: BTreeMap::new(),
            pins: BTreeMap::new(),
            numbers: 1,
            handles: 0,
        }
    }
}

impl Storage {
    /// Handles that are open.
    #[must_use]
    pub fn open_handles(&self) -> usize {
        self.pins.len()
    }

    /// Carries out a request.
    pub fn submit(&mut self, volume: VolumeId, op: StorageOp<Bytes>) -> Reply {
        self.carry_out(volume, op).unwrap_or_else(StorageReply::Failed)
    }

    fn carry_out(&mut self, volume: VolumeId, op: StorageOp<Bytes>) -> Result<Reply, NtStatus> {
        match op {
            StorageOp::Resolve { path, stream } if volume == PIPES => self.resolve_pipe(&path, stream),
            StorageOp::Resolve { path, stream } => self.resolve(&path, stream),
            StorageOp::Create { parent, name, kind, initial } => self.create(parent, name, kind, *initial),
            StorageOp::CreateStream { file, stream, .. } => {
                let (number, parent, name, _) = self.node(file)?;
                let node = self.nodes.get_mut(&number).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
                if node.streams.insert(stream.folded(), (stream.clone(), Vec::new())).is_some() {
                    return Err(NtStatus::OBJECT_NAME_COLLISION);
                }
                Ok(StorageReply::Opened(self.pin(number, parent, name, stream)))
            }
            StorageOp::Open { handle, .. }
            | StorageOp::SettleTimes { handle, .. }
            | StorageOp::Attributes { handle } => {
                self.attributes(handle).map(StorageReply::Attributes)
            }
            StorageOp::Overwrite { handle, initial, supersede } => {
                let eas = initial.eas;
                let dos = initial.dos;
                let (number, ..) = self.node(handle)?;
                self.data(handle)?.clear();
                let node = self.nodes.get_mut(&number).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
                node.eas = eas;
                node.dos = dos;
                if supersede {
                    node.streams.retain(|name, _| name.is_empty());
                }
                self.attributes(handle).map(StorageReply::Attributes)
            }
            StorageOp::Close { handle } => {
                let pin = self.pins.remove(&handle);
                assert!(pin.is_some(), "a handle was closed that is not open: {handle:?}");
                Ok(StorageReply::Done)
            }
            StorageOp::Read { handle, offset, length } => self.read(handle, offset, length),
            StorageOp::Write { handle, offset, buffer, length, .. } => {
                assert_eq!(buffer.len(), length as usize, "a write's length is not its buffer's");
                self.write(handle, offset, &buffer)
            }
            StorageOp::Transceive { handle, buffer, length_max, .. } => {
                self.write(handle, None, &buffer)?;
                self.read(handle, 0, length_max)
            }
            StorageOp::Watch { handle, .. } | StorageOp::Unwatch { handle } => {
                self.pinned(handle)?;
                Err(NtStatus::INVALID_DEVICE_REQUEST)
            }
            StorageOp::Flush { handle } => self.pinned(handle).map(|_| StorageReply::Done),
            StorageOp::SetAttributes { handle, set } => {
                let (number, ..) = self.node(handle)?;
                if let (Some(node), Some(dos)) = (self.nodes.get_mut(&number), set.dos) {
                    node.dos = dos;
                }
                Ok(StorageReply::Done)
            }
            StorageOp::SetEndOfFile { handle, size } => {
                let size = usize::try_from(size.min(SIZE_MAX + 1)).unwrap_or(usize::MAX);
                if size as u64 > SIZE_MAX {
                    return Err(NtStatus::DISK_FULL);
                }
                self.data(handle)?.resize(size, 0);
                Ok(StorageReply::Done)
            }
            StorageOp::SetAllocation { handle, size } => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                self.data(handle)?.truncate(size);
                Ok(StorageReply::Done)
            }
            StorageOp::List { handle, listing } => self.list(
                handle,
                listing.class,
                listing.pattern,
                listing.restart,
                listing.single,
                listing.length_max,
            ),
            StorageOp::Streams { handle } => {
                let (number, ..) = self.node(handle)?;
                let node = self.nodes.get(&number).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
                let entry = |(name, data): &(Name, Vec<u8>)| StreamEntry {
                    name: name.clone(),
                    size: data.len() as u64,
                    allocation: allocation(data),
                };
                Ok(StorageReply::Streams(node.streams.values().map(entry).collect()))
            }
            StorageOp::Eas { handle } => {
                let (number, ..) = self.node(handle)?;
                Ok(StorageReply::Eas(
                    self.nodes.get(&number).map(|node| node.eas.clone()).unwrap_or_default(),
                ))
            }
            StorageOp::SetEas { handle, eas } => {
                let (number, ..) = self.node(handle)?;
                let node = self.nodes.get_mut(&number).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
                for ea in eas {
                    node.eas.retain(|old| !old.name.eq_ignore_ascii_case(&ea.name));
                    if !ea.value.is_empty() && node.eas.len() < 16 {
                        node.eas.push(ea);
                    }
                }
                Ok(StorageReply::Done)
            }
            StorageOp::Security { handle } => {
                let (number, ..) = self.node(handle)?;
                let security = self.nodes.get(&number).and_then(|node| node.security.clone());
                Ok(StorageReply::Security(security.unwrap_or_default()))
            }
            StorageOp::SetSecurity { handle, parts, descriptor } => {
                let (number, ..) = self.node(handle)?;
                let node = self.nodes.get_mut(&number).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
                let old = node.security.take().unwrap_or_default();
                node.security = Some(Box::new(old.apply(parts, &descriptor)));
                Ok(StorageReply::Done)
            }
            StorageOp::CheckEmpty { handle } => {
                let (number, ..) = self.node(handle)?;
                self.check_empty(number).map(|()| StorageReply::Done)
            }
            StorageOp::Rename { handle, parent, name, replace } => {
                let (number, old_parent, old_name, _) = self.node(handle)?;
                self.link(number, parent, name.clone(), replace)?;
                let (target, ..) = self.node(parent)?;
                if (old_parent, old_name.folded()) != (target, name.folded()) {
                    self.entries.remove(&(old_parent, old_name.folded()));
                }
                for pin in self.pins.values_mut() {
                    if let Pin::Node { number: pinned, parent, name: pinned_name, .. } = pin
                        && (*pinned, *parent, pinned_name.folded()) == (number, old_parent, old_name.folded())
                    {
                        (*parent, *pinned_name) = (target, name.clone());
                    }
                }
                Ok(StorageReply::Done)
            }
            StorageOp::Link { handle, parent, name, replace } => {
                let (number, ..) = self.node(handle)?;
                self.link(number, parent, name, replace)?;
                if let Some(node) = self.nodes.get_mut(&number) {
                    node.links += 1;
                }
                Ok(StorageReply::Done)
            }
            StorageOp::Unlink { handle } => self.unlink(handle),
            StorageOp::UnlinkStream { handle } => self.unlink_stream(handle),
            StorageOp::Volume => Ok(StorageReply::Volume(VolumeInfo {
                creation: NOW,
                serial: 7,
                label: "volume".into(),
                unit_size: 4096,
                sector_size: 512,
                units_total: 1000,
                units_free: 500,
                units_available: 500,
                component_max: 255,
            })),
            StorageOp::AllocatedRanges { handle, .. } => {
                self.pinned(handle)?;
                Ok(StorageReply::Ranges(Vec::new()))
            }
            StorageOp::SetSparse { handle, .. } | StorageOp::Zero { handle, .. } => {
                self.pinned(handle).map(|_| StorageReply::Done)
            }
            StorageOp::Copy { source, source_offset, target, target_offset, length } => {
                let data = self.data(source)?;
                let start = usize::try_from(source_offset).unwrap_or(usize::MAX).min(data.len());
                let end = start.saturating_add(length as usize).min(data.len());
                let copied = data[start..end].to_vec();
                self.write(target, Some(target_offset), &copied)
            }
            // The vocabulary may grow: a driver refuses what it doesn't know.
            _ => Err(NtStatus::NOT_SUPPORTED),
        }
    }

    fn pinned(&mut self, handle: Handle) -> Result<&mut Pin, NtStatus> {
        Ok(self
            .pins
            .get_mut(&handle)
            .unwrap_or_else(|| panic!("a handle is used that is not open: {handle:?}")))
    }

    fn node(&mut self, handle: Handle) -> Result<(FileNumber, FileNumber, Name, Name), NtStatus> {
        match self.pinned(handle)? {
            Pin::Node { number, parent, name, stream, .. } => {
                Ok((*number, *parent, name.clone(), stream.clone()))
            }
            Pin::Pipe { .. } => Err(NtStatus::INVALID_DEVICE_REQUEST),
        }
    }

    fn data(&mut self, handle: Handle) -> Result<&mut Vec<u8>, NtStatus> {
        let (number, _, _, stream) = self.node(handle)?;
        let node = self.nodes.get_mut(&number).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
        node.streams.get_mut(&stream.folded()).map(|(_, data)| data).ok_or(NtStatus::INVALID_DEVICE_REQUEST)
    }

    fn pin(&mut self, number: FileNumber, parent: FileNumber, name: Name, stream: Name) -> Object {
        self.handles += 1;
        let handle = Handle(self.handles);
        let attributes = self.attributes_of(number, &stream);
        let object = Object {
            handle,
            attributes,
            parent,
            name: name.clone(),
            stream: stream.clone(),
            security: self.nodes.get(&number).and_then(|node| node.security.clone()),
        };
        self.pins.insert(handle, Pin::Node { number, parent, name, stream, listing: None });
        object
    }

    fn attributes(&mut self, handle: Handle) -> Result<Attributes, NtStatus> {
        if let Pin::Pipe { .. } = self.pinned(handle)? {
            return Ok(pipe_attributes(handle));
        }
        let (number, _, _, stream) = self.node(handle)?;
        Ok(self.attributes_of(number, &stream))
    }

    fn attributes_of(&self, number: FileNumber, stream: &Name) -> Attributes {
        let gone = Node::default();
        let node = self.nodes.get(&number).unwrap_or(&gone);
        let data = node.streams.get(&stream.folded()).map_or(&[][..], |(_, data)| data);
        let shape = if node.directory { FileAttributes::DIRECTORY } else { FileAttributes::ARCHIVE };
        Attributes {
            number,
            kind: if node.directory && stream.is_empty() { Kind::Directory } else { Kind::File },
            dos: node.dos.without(FileAttributes::DIRECTORY.with(FileAttributes::NORMAL)).with(shape),
            creation: NOW,
            last_access: NOW,
            last_write: NOW,
            change: FileTime(NOW.0 + 1),
            end_of_file: data.len() as u64,
            allocation: allocation(data),
            links: node.links,
            ea_size: 0,
            reparse_tag: 0,
        }
    }

    fn resolve(&mut self, path: &[Name], stream: Option<Name>) -> Result<Reply, NtStatus> {
        let (mut number, mut parent, mut name) = (ROOT, ROOT, Name::from(""));
        for (index, component) in path.iter().enumerate() {
            if self.nodes.get(&number).is_some_and(|node| !node.directory) {
                return Ok(StorageReply::Resolved(Resolved::NotADirectory));
            }
            parent = number;
            match self.entries.get(&(number, component.folded())) {
                Some((stored, child)) => (number, name) = (*child, stored.clone()),
                None if index + 1 < path.len() => return Ok(StorageReply::Resolved(Resolved::NoPath)),
                None => {
                    let parent = self.pin(parent, parent, Name::from(""), Name::from(""));
                    return Ok(StorageReply::Resolved(Resolved::NoName { parent }));
                }
            }
        }
        let stream = stream.unwrap_or_else(|| Name::from(""));
        let has = self.nodes.get(&number).is_some_and(|node| node.streams.contains_key(&stream.folded()));
        if !stream.is_empty() && !has {
            let file = self.pin(number, parent, name, Name::from(""));
            return Ok(StorageReply::Resolved(Resolved::NoStream { file }));
        }
        Ok(StorageReply::Resolved(Resolved::Found(self.pin(number, parent, name, stream))))
    }

    fn resolve_pipe(&mut self, path: &[Name], stream: Option<Name>) -> Result<Reply, NtStatus> {
        let service = path.first().and_then(smb_proto::rpc::service);
        let (Some(service), [name], None) = (service, path, stream) else {
            return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
        };
        self.handles += 1;
        let handle = Handle(self.handles);
        let server = Box::new(PipeServer::new(service, 1));
        self.pins.insert(handle, Pin::Pipe { server, answers: Vec::new() });
        let object = Object {
            handle,
            attributes: pipe_attributes(handle),
            parent: ROOT,
            name: name.clone(),
            stream: Name::from(""),
            security: None,
        };
        Ok(StorageReply::Resolved(Resolved::Found(object)))
    }

    fn create(
        &mut self,
        parent: Handle,
        name: Name,
        kind: Kind,
        initial: Initial,
    ) -> Result<Reply, NtStatus> {
        let (parent, ..) = self.node(parent)?;
        assert!(!name.is_empty(), "a name without characters");
        if self.entries.contains_key(&(parent, name.folded())) {
            return Err(NtStatus::OBJECT_NAME_COLLISION);
        }
        if self.nodes.len() >= FILES_MAX {
            return Err(NtStatus::DISK_FULL);
        }
        self.numbers += 1;
        let number = FileNumber(self.numbers);
        let directory = kind == Kind::Directory;
        let mut streams = BTreeMap::new();
        if !directory {
            streams.insert(Name::from(""), (Name::from(""), Vec::new()));
        }
        let Initial { dos, eas, security, .. } = initial;
        self.nodes.insert(number, Node { directory, dos, links: 1, streams, eas, security });
        self.entries.insert((parent, name.folded()), (name.clone(), number));
        Ok(StorageReply::Opened(self.pin(number, parent, name, Name::from(""))))
    }

    fn read(&mut self, handle: Handle, offset: u64, length: u32) -> Result<Reply, NtStatus> {
        if let Pin::Pipe { answers, .. } = self.pinned(handle)? {
            if answers.is_empty() {
                return Err(NtStatus::PIPE_EMPTY);
            }
            let rest = answers.split_off(answers.len().min(length as usize));
            let read = std::mem::replace(answers, rest);
            let more = !answers.is_empty();
            let (buffer, length) = (Payload::copy_from(&read), u32::try_from(read.len()).unwrap_or(0));
            return Ok(match more {
                true => StorageReply::ReadPartly { buffer, length },
                false => StorageReply::Read { buffer, length },
            });
        }
        let data = self.data(handle)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
        let end = start.saturating_add(length as usize).min(data.len());
        let buffer = Payload::copy_from(&data[start..end]);
        Ok(StorageReply::Read { length: u32::try_from(buffer.len()).unwrap_or(0), buffer })
    }

    fn write(&mut self, handle: Handle, offset: Option<u64>, bytes: &[u8]) -> Result<Reply, NtStatus> {
        let length = u32::try_from(bytes.len()).unwrap_or(0);
        if let Pin::Pipe { server, answers, .. } = self.pinned(handle)? {
            return match server.input(bytes, &crate::rpc::description(), NOW, answers) {
                Ok(()) => Ok(StorageReply::Written { length }),
                Err(_) => Err(NtStatus::PIPE_DISCONNECTED),
            };
        }
        let data = self.data(handle)?;
        let offset = offset.unwrap_or(data.len() as u64);
        let end = offset.saturating_add(bytes.len() as u64);
        if end > SIZE_MAX {
            return Err(NtStatus::DISK_FULL);
        }
        let (offset, end) = (usize::try_from(offset).unwrap_or(0), usize::try_from(end).unwrap_or(0));
        if data.len() < end {
            data.resize(end, 0);
        }
        data[offset..end].copy_from_slice(bytes);
        Ok(StorageReply::Written { length })
    }

    fn list(
        &mut self,
        handle: Handle,
        class: smb_proto::fscc::class::FileInfoClass,
        pattern: Option<Name>,
        restart: bool,
        single: bool,
        length_max: u32,
    ) -> Result<Reply, NtStatus> {
        let (directory, ..) = self.node(handle)?;
        let Pin::Node { listing, .. } = self.pinned(handle)? else { return Err(NtStatus::INVALID_PARAMETER) };
        if restart || listing.is_none() {
            *listing = Some((pattern.unwrap_or_else(|| Name::from("*")), 0));
        }
        let Some((pattern, position)) = listing.clone() else { return Err(NtStatus::INVALID_PARAMETER) };
        let expression = Expression::new(pattern.units(), true).map_err(|error| error.status())?;
        let names: Vec<_> = self
            .entries
            .iter()
            .filter(|((parent, _), (name, _))| *parent == directory && expression.matches(name.units()))
            .map(|(_, (name, number))| (name.clone(), *number))
            .collect();
        let mut writer =
            DirectoryWriter::new(class, length_max as usize).ok_or(NtStatus::INVALID_INFO_CLASS)?;
        let mut next = position;
        for (name, number) in names.iter().skip(position).take(if single { 1 } else { usize::MAX }) {
            let file_id = number.0;
            if !writer.push(&DirectoryEntry { name: name.clone(), file_id, ..DirectoryEntry::default() }) {
                break;
            }
            next += 1;
        }
        if writer.is_empty() {
            return Err(match (position < names.len(), position) {
                (true, _) => NtStatus::BUFFER_OVERFLOW,
                (false, 0) => NtStatus::NO_SUCH_FILE,
                (false, _) => NtStatus::NO_MORE_FILES,
            });
        }
        if let Pin::Node { listing: Some((_, position)), .. } = self.pinned(handle)? {
            *position = next;
        }
        let listed = writer.finish();
        let length = u32::try_from(listed.len()).unwrap_or(0);
        Ok(StorageReply::Listed { buffer: Payload::copy_from(&listed), length })
    }

    fn check_empty(&self, number: FileNumber) -> Result<(), NtStatus> {
        match self.entries.keys().any(|(parent, _)| *parent == number) {
            true => Err(NtStatus::DIRECTORY_NOT_EMPTY),
            false => Ok(()),
        }
    }

    fn link(
        &mut self,
        number: FileNumber,
        parent: Handle,
        name: Name,
        replace: bool,
    ) -> Result<(), NtStatus> {
        let (parent, ..) = self.node(parent)?;
        let key = (parent, name.folded());
        match self.entries.get(&key) {
            Some((_, present)) if *present != number && !replace => {
                return Err(NtStatus::OBJECT_NAME_COLLISION);
            }
            _ => {}
        }
        self.entries.insert(key, (name, number));
        Ok(())
    }

    fn unlink_stream(&mut self, handle: Handle) -> Result<Reply, NtStatus> {
        let (number, _, _, stream) = self.node(handle)?;
        if let Some(node) = self.nodes.get_mut(&number) {
            node.streams.remove(&stream.folded());
        }
        Ok(StorageReply::Done)
    }

    fn unlink(&mut self, handle: Handle) -> Result<Reply, NtStatus> {
        let (number, parent, name, _) = self.node(handle)?;
        self.check_empty(number)?;
        if self.entries.get(&(parent, name.folded())).is_some_and(|(_, present)| *present == number) {
            self.entries.remove(&(parent, name.folded()));
        }
        Ok(StorageReply::Done)
    }
}

fn allocation(data: &[u8]) -> u64 {
    (data.len() as u64).next_multiple_of(4096)
}

fn pipe_attributes(handle: Handle) -> Attributes {
    Attributes {
        number: FileNumber(handle.0 | 1 << 63),
        kind: Kind::Pipe,
        dos: FileAttributes::NORMAL,
        creation: NOW,
        last_access: NOW,
        last_write: NOW,
        change: NOW,
        end_of_file: 0,
        allocation: 4096,
        links: 1,
        ea_size: 0,
        reparse_tag: 0,
    }
}
