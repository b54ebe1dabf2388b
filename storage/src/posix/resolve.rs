//! From a path to a pinned object. Nothing outside the root can be reached: the kernel follows the path with
//! `RESOLVE_BENEATH`, and with `RESOLVE_NO_SYMLINKS` unless links are followed here; single names never contain a separator, and
//! directories are descriptors, not paths.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use smb_proto::{Name, NtStatus};
use smb_state::ids::FileNumber;
use smb_state::storage::{Intent, Object, Resolved, StorageReply};

use super::Volume;
use super::handle::{Inode, InodeKey, Link, LinkState, Node, Stat, StreamLink, StreamState};
use super::record::Record;
use super::{directories, names};
use crate::fault::{Fault, Outcome, Place};
use crate::handles::lock;

/// The kernel gives up on paths under concurrent renames; each try is a new chance.
const TRIES: usize = 16;

/// Opens a path below `root`; symbolic links are followed as long as they stay below it.
pub(super) fn open_beneath(root: impl AsFd, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_resolving(root, path, flags, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
}

fn open_resolving(
    root: impl AsFd,
    path: &CStr,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let mut tries = TRIES;
    loop {
        match openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries > 0 => tries -= 1,
            result => return result,
        }
    }
}

/// Pins what a single name stands for, be it a symbolic link.
pub(super) fn pin_name(directory: &Inode, name: &CStr) -> Result<(OwnedFd, Stat), Errno> {
    pin_name_at(directory.fd(), name)
}

/// The same, below a descriptor.
pub(super) fn pin_name_at(directory: impl AsFd, name: &CStr) -> Result<(OwnedFd, Stat), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let pin = openat(directory, name, flags, Mode::empty())?;
    let stat = Stat::of_fd(&pin)?;
    Ok((pin, stat))
}

/// A directory on the way, with its path from the root as the disk has it.
struct Reached {
    directory: Arc<Inode>,
    path: Vec<u8>,
    /// The directory above it, if this one was found there by its own name.
    above: Option<Arc<Inode>>,
    stat: Stat,
}

enum Way {
    To(Reached),
    NoPath,
    NotADirectory,
    /// This many names led to a symbolic link in a directory.
    Link(usize, Arc<Inode>, CString),
}

fn join(path: &[u8], name: &CStr) -> CString {
    let mut joined = Vec::with_capacity(path.len() + 1 + name.count_bytes());
    joined.extend_from_slice(path);
    if !path.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name.to_bytes());
    // No zero byte in a path that came from C strings.
    CString::new(joined).unwrap_or_default()
}

impl Volume {
    /// The file's number: its inode number, mixed with the device where the tree goes on to another file system.
    pub(super) fn number(&self, key: InodeKey) -> FileNumber {
        let number = if key.device == self.root.key.device {
            key.number
        } else {
            (key.number ^ key.device.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1 << 63
        };
        FileNumber(number.max(1))
    }

    /// The number that an inode goes by.
    pub(super) fn number_of(&self, inode: &Inode) -> FileNumber {
        inode.precursor.get().map_or_else(|| self.number(inode.key), |precursor| precursor.number)
    }

    /// The one [`Inode`] for what `pin` pins.
    pub(super) fn inode(&self, pin: OwnedFd, pin_has_data: bool, stat: &Stat) -> Arc<Inode> {
        self.inodes.intern(stat.key, |_| true, || Inode::new(pin, pin_has_data, stat))
    }

    /// The one [`Link`] for a name.
    pub(super) fn link(&self, parent: &Arc<Inode>, name: CString, entry: InodeKey) -> Arc<Link> {
        let state = LinkState { parent: Arc::clone(parent), name, entry, gone: false };
        let keep = |link: &Link| {
            let state = lock(&link.state);
            state.entry == entry && !state.gone
        };
        self.links.intern(state.key(), keep, || Link { state: state.clone().into() })
    }

    /// A new handle, and what the core is told of it.
    pub(super) fn object(&self, node: Node) -> Outcome<Object> {
        let stat = node.inode.stat()?;
        self.object_like(node, &stat)
    }

    /// The same for an inode that was seen to be like `stat` just now.
    pub(super) fn object_like(&self, node: Node, stat: &Stat) -> Outcome<Object> {
        let record = self.record_of(&node.inode, stat)?;
        self.object_with(node, stat, &record)
    }

    /// The same with the record, too.
    pub(super) fn object_with(&self, node: Node, stat: &Stat, record: &Record) -> Outcome<Object> {
        let attributes = self.attributes_from(&node, stat, record)?;
        let link = node.link.now();
        let security = match node.inode.is_symlink {
            // It has no room for one of its own.
            true => {
                let record = self.record_of(&link.parent, &link.parent.stat()?)?;
                self.stored_security(&link.parent, &record)?
            }
            false => self.stored_security(&node.inode, record)?,
        };
        let security = security.map(Box::new);
        let stream = node.stream.as_ref().map(|stream| lock(&stream.state).name.clone()).unwrap_or_default();
        let parent = self.number(link.parent.key);
        let name = link.wire_name();
        let handle = self.handles.insert(Arc::new(node));
        Ok(Object { handle, attributes, parent, name, stream, security })
    }

    pub(super) fn node(&self, inode: Arc<Inode>, link: Arc<Link>, stream: Option<Arc<StreamLink>>) -> Node {
        Node::new(inode, link, stream)
    }

    pub(super) fn resolve(&self, path: &[Name], stream: Option<&Name>, place: Place) -> Outcome<Resolved> {
        let Some((last, directories)) = path.split_last() else {
            let stat = self.root.stat()?;
            return self.found(Arc::clone(&self.root), &stat, Arc::clone(&self.root_link), stream);
        };
        let directories = directories.iter().map(names::to_local).collect::<Outcome<Vec<CString>>>()?;
        let name = names::to_local(last)?;
        let reached = match self.reach(&directories, place)? {
            Way::To(reached) => reached,
            Way::NoPath => return Ok(Resolved::NoPath),
            Way::NotADirectory => return Ok(Resolved::NotADirectory),
            Way::Link(component, directory, name) => {
                let target = self.target_of_name(&directory, &name)?;
                let component = u32::try_from(component).unwrap_or(u32::MAX);
                return Ok(Resolved::Link { component, target });
            }
        };
        let Some((name, pin, stat)) = self.look_up(&reached.directory, name, last.units(), place)? else {
            let link = self.directory_link(&reached)?;
            let parent = self.object_like(self.node(reached.directory, link, None), &reached.stat)?;
            return Ok(Resolved::NoName { parent });
        };
        let entry = stat.key;
        let (pin, stat) = if stat.file_type == FileType::Symlink && self.options.follows_links {
            let target = open_beneath(self.root.fd(), &join(&reached.path, &name), OFlags::PATH)?;
            let stat = Stat::of_fd(&target)?;
            (target, stat)
        } else {
            (pin, stat)
        };
        let inode = self.inode(pin, false, &stat);
        let link = self.link(&reached.directory, name, entry);
        self.found(inode, &stat, link, stream)
    }

    fn found(
        &self,
        inode: Arc<Inode>,
        stat: &Stat,
        link: Arc<Link>,
        stream: Option<&Name>,
    ) -> Outcome<Resolved> {
        let Some(stream) = stream.filter(|stream| !stream.is_empty()) else {
            return Ok(Resolved::Found(self.object_like(self.node(inode, link, None), stat)?));
        };
        if !self.caps.streams {
            return Err(NtStatus::OBJECT_NAME_INVALID.into());
        }
        if inode.is_symlink {
            return Ok(Resolved::NoStream { file: self.object(self.node(inode, link, None))? });
        }
        match super::streams::find(&inode, stream)? {
            Some(name) => {
                let stream = stream_link(&inode, name);
                Ok(Resolved::Found(self.object_like(self.node(inode, link, Some(stream)), stat)?))
            }
            None => Ok(Resolved::NoStream { file: self.object_like(self.node(inode, link, None), stat)? }),
        }
    }

    /// The link by which a directory on the way was reached. It is only asked for when a name is to be created.
    fn directory_link(&self, reached: &Reached) -> Outcome<Arc<Link>> {
        if reached.directory.key == self.root.key {
            return Ok(Arc::clone(&self.root_link));
        }
        let name = CString::new(&reached.path[directories::last_name(&reached.path)..])
            .map_err(|_| NtStatus::OBJECT_NAME_INVALID)?;
        if let Some(above) = &reached.above {
            return Ok(self.link(above, name, reached.directory.key));
        }
        let above = self.directory_at(directories::above(&reached.path))?.directory;
        let entry = Stat::of_name(above.fd(), &name)?;
        Ok(self.link(&above, name, entry.key))
    }

    /// The directory at a path that is spelled as the disk has it.
    fn directory_at(&self, path: &[u8]) -> Result<Reached, Errno> {
        if path.is_empty() {
            let (directory, stat) = (Arc::clone(&self.root), self.root.stat()?);
            return Ok(Reached { directory, path: Vec::new(), above: None, stat });
        }
        if let Some(directories::Found { above, inode, stat }) = self.directories.get(path) {
            return Ok(Reached { directory: inode, path: path.to_vec(), above: Some(above), stat });
        }
        let local = CString::new(path).map_err(|_| Errno::INVAL)?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let resolve = if self.options.follows_links { resolve } else { resolve | ResolveFlags::NO_SYMLINKS };
        let pin = open_resolving(self.root.fd(), &local, OFlags::PATH | OFlags::DIRECTORY, resolve)?;
        let stat = Stat::of_fd(&pin)?;
        let directory = self.inode(pin, false, &stat);
        if directories::is_near(path) {
            let above = self.directory_at(directories::above(path))?.directory;
            self.directories.keep(path, &above, &directory);
        }
        Ok(Reached { directory, path: path.to_vec(), above: None, stat })
    }

    /// Follows the directories of a path: all at once as they are written, one by one without regard to case if that
    /// leads nowhere.
    fn reach(&self, names: &[CString], place: Place) -> Outcome<Way> {
        let path = names.iter().fold(CString::default(), |path, name| join(path.to_bytes(), name));
        match self.directory_at(path.to_bytes()) {
            Ok(reached) => return Ok(Way::To(reached)),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(Errno::LOOP) if !self.options.follows_links => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut reached = self.directory_at(&[])?;
        for (index, name) in names.iter().enumerate() {
            let units = names::decode(name.to_bytes()).unwrap_or_default();
            let Some((name, pin, stat)) = self.look_up(&reached.directory, name.clone(), &units, place)?
            else {
                return Ok(Way::NoPath);
            };
            let path = join(&reached.path, &name).into_bytes();
            reached = match stat.file_type {
                FileType::Directory => {
                    let directory = self.inode(pin, false, &stat);
                    Reached { directory, path, above: Some(reached.directory), stat }
                }
                FileType::Symlink if !self.options.follows_links => {
                    return Ok(Way::Link(index + 1, reached.directory, name));
                }
                FileType::Symlink => match self.directory_at(&path) {
                    Ok(directory) => directory,
                    Err(Errno::NOENT) => return Ok(Way::NoPath),
                    Err(Errno::NOTDIR) => return Ok(Way::NotADirectory),
                    Err(errno) => return Err(errno.into()),
                },
                _ => return Ok(Way::NotADirectory),
            };
        }
        Ok(Way::To(reached))
    }

    /// Pins the entry of a directory that has this name, or else one that is the same but for case.
    pub(super) fn look_up(
        &self,
        directory: &Inode,
        name: CString,
        units: &[u16],
        place: Place,
    ) -> Outcome<Option<(CString, OwnedFd, Stat)>> {
        match pin_name(directory, &name) {
            Ok((pin, stat)) => return Ok(Some((name, pin, stat))),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let found = self.indexes.find(directory, units, place, |name| pin_name(directory, name))?;
        Ok(found.map(|(name, (pin, stat))| (name, pin, stat)))
    }

    /// The path of a handle's link from the root, as the disk spells it now.
    pub(super) fn path_of(&self, node: &Node) -> Outcome<Name> {
        let link = node.link.now();
        let mut path = Vec::new();
        if !link.is_root() {
            let below = self.path_below_root(&link.parent)?;
            for component in below.split(|byte| *byte == b'/').filter(|component| !component.is_empty()) {
                path.extend(names::decode(component).ok_or(NtStatus::OBJECT_NAME_INVALID)?);
                path.push(u16::from(b'\\'));
            }
            path.extend_from_slice(link.wire_name().units());
        }
        if let Some(stream) = &node.stream {
            path.push(u16::from(b':'));
            path.extend_from_slice(lock(&stream.state).name.units());
        }
        Ok(Name::from_units(path))
    }

    pub(super) fn open(&self, node: &Node, intent: Intent) -> Outcome<StorageReply<smb_proto::Payload>> {
        if intent.write {
            self.check_writable()?;
        }
        let stat = match self.open_data(node, intent) {
            Some(stat) => stat,
            None => node.inode.stat()?,
        };
        let is_stale = {
            let link = lock(&node.link.state);
            let has_others = stat.links > 1 && !node.inode.is_directory();
            !link.is_root() && (stat.links == 0 || link.gone || has_others && !link.holds())
        };
        if is_stale || node.stream.as_ref().is_some_and(|stream| lock(&stream.state).orphan.is_some()) {
            return Err(Fault::Stale);
        }
        if !node.inode.is_directory() {
            match stat.file_type {
                FileType::RegularFile => {}
                FileType::Symlink => return Ok(StorageReply::Attributes(self.attributes_of(node)?)),
                _ => return Err(NtStatus::ACCESS_DENIED.into()),
            }
            if intent.write {
                node.inode.regular_writer()?;
            } else if intent.read {
                node.inode.regular_reader()?;
            }
        }
        let record = self.record_of(&node.inode, &stat)?;
        Ok(StorageReply::Attributes(self.attributes_from(node, &stat, &record)?))
    }
}

impl Volume {
    /// Opens a file for data by the name that leads to it, if that is what the handle is opened for.
    fn open_data(&self, node: &Node, intent: Intent) -> Option<Stat> {
        if !intent.read && !intent.write {
            return None;
        }
        let (parent, name) = {
            let link = lock(&node.link.state);
            let is_own = !link.is_root() && !link.gone && link.entry == node.inode.key;
            is_own.then(|| (Arc::clone(&link.parent), link.name.clone()))?
        };
        node.inode.open_by_name(&parent, &name, intent.write)
    }
}

/// The one [`StreamLink`] for a stream of an inode.
pub(super) fn stream_link(inode: &Inode, name: Name) -> Arc<StreamLink> {
    let mut streams = lock(&inode.streams);
    streams.retain(|stream| stream.strong_count() > 0);
    let folded = name.folded();
    for stream in streams.iter().filter_map(std::sync::Weak::upgrade) {
        let state = lock(&stream.state);
        if state.orphan.is_none() && state.name.folded() == folded {
            drop(state);
            return stream;
        }
    }
    let stream = Arc::new(StreamLink { state: StreamState { name, orphan: None }.into() });
    streams.push(Arc::downgrade(&stream));
    stream
}
