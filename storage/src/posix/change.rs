//! What makes, renames and removes names.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, linkat, mkdirat, openat, renameat, renameat_with,
    unlinkat,
};
use rustix::io::Errno;
use smb_proto::{FileAttributes, Name, NtStatus, Payload};
use smb_state::storage::{Initial, Kind, Object, StorageReply};

use super::Volume;
use super::attributes::{stored, unrecorded};
use super::handle::{Inode, LinkState, Node, Stat};
use super::index::{Currency, Edit, Held, Slot};
use super::record::{self, Record};
use super::{eas, errno, names, streams, xattr};
use crate::fault::{Fault, Outcome, Place};
use crate::handles::lock;

/// A directory is gone while a handle still pins it.
fn missing_directory(errno: Errno) -> Fault {
    match errno {
        Errno::NOENT => Fault::Status(NtStatus::OBJECT_PATH_NOT_FOUND),
        errno => errno.into(),
    }
}

fn rename_fault(errno: Errno) -> Fault {
    match errno {
        Errno::XDEV => Fault::Status(NtStatus::NOT_SAME_DEVICE),
        // Replacing a directory, or a file by a directory; or moving a directory into itself.
        Errno::ISDIR | Errno::NOTDIR | Errno::NOTEMPTY | Errno::INVAL => {
            Fault::Status(NtStatus::ACCESS_DENIED)
        }
        errno => errno.into(),
    }
}

/// Two directories whose indexes are held, the one that names are added to first; the other only if it is another.
struct HeldPair<'a> {
    to: Held<'a>,
    from: Option<Held<'a>>,
}

impl Volume {
    pub(super) fn create(
        &self,
        parent: &Node,
        name: &Name,
        kind: Kind,
        initial: &Initial,
        place: Place,
    ) -> Outcome<Object> {
        let directory = parent.directory()?;
        let local = names::to_local(name)?;
        let (pin, has_data) = {
            let slot = self.indexes.slot(directory);
            let mut held = self.indexes.hold(&slot, directory, place)?;
            let look = |name: &CStr| Stat::of_name(directory.fd(), name);
            if held.find(name.units(), place, look)?.is_some() {
                return Err(NtStatus::OBJECT_NAME_COLLISION.into());
            }
            held.change(&[Edit::Added(&local)], || self.make(directory, &local, kind))?
        };
        let record = self.initial_record(kind, initial);
        // Nobody has the file yet, so there is nothing to read before, and no lock to take.
        let written = match record.filter(|_| has_data) {
            Some(record) => match xattr::set_through(pin.as_fd(), record::NAME, &record.emit()) {
                // On another file system than the root's.
                Err(Errno::OPNOTSUPP) => Ok(Record::default()),
                result => result.map(|()| record),
            },
            None => Ok(Record::default()),
        };
        let stat = Stat::of_fd(&pin)?;
        let inode = self.inode(pin, has_data, &stat);
        let link = self.link(directory, local, stat.key);
        let node = self.node(inode, link, None);
        let given = written.map_err(Fault::from).and_then(|written| {
            let given = self.give_initial(&node, initial, record.filter(|_| !has_data))?;
            Ok((given, written))
        });
        match given {
            Ok((true, _)) => self.object(node),
            // As it was made a moment ago.
            Ok((false, written)) => self.object_with(node, &stat, &written),
            Err(fault) => {
                // A file without what it should start with is no file.
                let _ = self.unlink(&node, Place::Offloaded);
                Err(fault)
            }
        }
    }

    /// The record that a new file starts with, if it needs one.
    pub(super) fn initial_record(&self, kind: Kind, initial: &Initial) -> Option<Record> {
        if !self.caps.extended_attributes {
            return None;
        }
        // A descriptor has its own owner.
        let owner = initial.owner.filter(|_| initial.security.is_none());
        let owner = owner.and_then(|owner| self.user_number(&owner));
        let dos = Some(stored(initial.dos)).filter(|dos| *dos != unrecorded(kind));
        (dos.is_some() || owner.is_some()).then(|| Record { dos, owner, ..Record::default() })
    }

    fn make(&self, directory: &Inode, name: &CStr, kind: Kind) -> Outcome<(OwnedFd, bool)> {
        let mode = |mode: u32| Mode::from_raw_mode(mode & 0o7777);
        match kind {
            Kind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(directory.fd(), name, flags, mode(self.options.file_mode));
                Ok((file.map_err(missing_directory)?, true))
            }
            Kind::Directory => {
                mkdirat(directory.fd(), name, mode(self.options.directory_mode))
                    .map_err(missing_directory)?;
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Ok((openat(directory.fd(), name, flags, Mode::empty())?, false))
            }
            Kind::Pipe => Err(NtStatus::INVALID_PARAMETER.into()),
        }
    }

    /// Gives a file what it starts with, besides its data. `true` if there was anything to give.
    pub(super) fn give_initial(
        &self,
        node: &Node,
        initial: &Initial,
        record: Option<Record>,
    ) -> Outcome<bool> {
        let mut given = false;
        if let Some(new) = record {
            Record::update(&node.inode, |record| {
                record.dos = new.dos.or(record.dos);
                record.owner = new.owner.or(record.owner);
            })?;
            given = true;
        }
        if !initial.eas.is_empty() {
            self.check_eas()?;
            eas::replace(&node.inode, &initial.eas)?;
            given = true;
        }
        let is_read_only = initial.dos.contains(FileAttributes::READONLY);
        if is_read_only && !self.caps.extended_attributes && node.inode.kind == Kind::File {
            let mode = Mode::from_raw_mode(self.options.file_mode & 0o555);
            rustix::fs::chmodat(CWD, node.inode.path(), mode, AtFlags::empty())?;
            given = true;
        }
        if initial.allocation > 0 && node.inode.kind == Kind::File {
            self.set_allocation(node, initial.allocation)?;
            given = true;
        }
        if let Some(security) = initial.security.as_ref().filter(|_| self.caps.security) {
            self.give_security(node, security)?;
            given = true;
        }
        Ok(given)
    }

    pub(super) fn overwrite(
        &self,
        node: &Node,
        initial: &Initial,
        supersede: bool,
    ) -> Outcome<StorageReply<Payload>> {
        if let Some(stream) = &node.stream {
            self.edit_stream(&node.inode, stream, |stream| stream.resize(0))?;
            return Ok(StorageReply::Attributes(self.attributes_of(node)?));
        }
        self.set_end_of_file(node, 0)?;
        if self.caps.extended_attributes {
            eas::replace(&node.inode, &initial.eas)?;
            if supersede {
                streams::remove_all(&node.inode)?;
            }
            Record::update(&node.inode, |record| {
                record.dos = Some(stored(initial.dos));
                record.creation = if supersede { Some(record::now()) } else { record.creation };
            })?;
        }
        // The record is written; what remains is space and descriptor.
        let rest = Initial { eas: Vec::new(), ..initial.clone() };
        self.give_initial(node, &rest, None)?;
        Ok(StorageReply::Attributes(self.attributes_of(node)?))
    }

    /// The name in a directory that is this one, or the same but for case, with what it stands for.
    fn existing(
        &self,
        held: &mut Held<'_>,
        directory: &Inode,
        local: &CStr,
        name: &Name,
        place: Place,
    ) -> Outcome<Option<(CString, Stat)>> {
        let look = |name: &CStr| Stat::of_name(directory.fd(), name);
        match look(local) {
            Ok(stat) => Ok(Some((local.into(), stat))),
            Err(Errno::NOENT) => held.find(name.units(), place, look),
            Err(errno) => Err(errno.into()),
        }
    }

    fn hold_pair<'a>(
        &'a self,
        (to, to_slot): (&'a Inode, &'a Slot),
        (from, from_slot): (&'a Inode, &'a Slot),
        place: Place,
    ) -> Outcome<HeldPair<'a>> {
        let hold = |slot, directory| self.indexes.hold(slot, directory, place);
        Ok(if from.key == to.key {
            HeldPair { to: hold(to_slot, to)?, from: None }
        } else if from.key < to.key {
            let from = hold(from_slot, from)?;
            HeldPair { to: hold(to_slot, to)?, from: Some(from) }
        } else {
            let to = hold(to_slot, to)?;
            HeldPair { to, from: Some(hold(from_slot, from)?) }
        })
    }

    pub(super) fn rename(
        &self,
        node: &Node,
        parent: &Node,
        name: &Name,
        replace: bool,
        place: Place,
    ) -> Outcome<()> {
        let to = parent.directory()?;
        let local = names::to_local(name)?;
        if node.stream.is_some() {
            return Err(NtStatus::INVALID_PARAMETER.into());
        }
        let _naming = self.hold_naming(place)?;
        let (source, entry) = self.current_link(node)?;
        if entry.file_type == FileType::Symlink {
            self.check_moves(&source.parent, &source.name, to)?;
        }
        let (to_slot, from_slot) = (self.indexes.slot(to), self.indexes.slot(&source.parent));
        let mut held = self.hold_pair((to, &to_slot), (&source.parent, &from_slot), place)?;
        let existing = self.existing(&mut held.to, to, &local, name, place)?;
        let is_same = |known: &CStr| source.parent.key == to.key && known == source.name.as_c_str();
        if is_same(&local) {
            return Ok(());
        }
        let existing = existing.filter(|(known, _)| !is_same(known));
        if let Some((_, stat)) = &existing {
            check_replace(replace, stat, node.inode.kind)?;
        }
        let before = (held.to.current(), held.from.as_ref().map_or(Currency::Outdated, Held::current));
        self.move_name(&source, to, &local, existing.as_ref())?;
        let mut edits = vec![Edit::Added(&local)];
        if let Some((known, _)) = existing.as_ref().filter(|(known, _)| **known != *local) {
            edits.push(Edit::Removed(known));
        }
        match &mut held.from {
            Some(from) => from.follow(before.1, &[Edit::Removed(&source.name)]),
            None => edits.insert(0, Edit::Removed(&source.name)),
        }
        held.to.follow(before.0, &edits);
        if let Some((known, _)) = existing {
            self.forget_link(to, known);
        }
        self.links.forget(&source.key());
        let mut state = lock(&node.link.state);
        state.parent = Arc::clone(to);
        state.name = local;
        self.links.put(state.key(), &node.link);
        Ok(())
    }

    /// The renames themselves. A file in the way is replaced in one step under its own name; only then the name gets the
    /// case that was asked for.
    fn move_name(
        &self,
        source: &LinkState,
        to: &Inode,
        local: &CStr,
        existing: Option<&(CString, Stat)>,
    ) -> Outcome<()> {
        let from = &source.parent;
        let Some((known, stat)) = existing else {
            return match renameat_with(from.fd(), &source.name, to.fd(), local, RenameFlags::NOREPLACE) {
                // A file system without the flag; the name was free a moment ago.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    renameat(from.fd(), &source.name, to.fd(), local).map_err(rename_fault)
                }
                result => result.map_err(rename_fault),
            };
        };
        if stat.key == source.entry {
            // Two links of one file: rename would leave both.
            unlinkat(from.fd(), &source.name, AtFlags::empty())?;
        } else {
            renameat(from.fd(), &source.name, to.fd(), known).map_err(rename_fault)?;
        }
        if known.as_c_str() != local {
            renameat(to.fd(), known, to.fd(), local).map_err(rename_fault)?;
        }
        Ok(())
    }

    /// The link of a handle as it is, if it still leads to the object, and what it stands for.
    pub(super) fn current_link(&self, node: &Node) -> Outcome<(LinkState, Stat)> {
        let link = node.link.now();
        if link.is_root() {
            return Err(NtStatus::ACCESS_DENIED.into());
        }
        let entry = link.stat().ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
        Ok((link, entry))
    }

    /// A name was removed or replaced: handles that it led to have no name any more.
    fn forget_link(&self, directory: &Inode, name: CString) {
        let key = (directory.key, name);
        if let Some(link) = self.links.get(&key) {
            lock(&link.state).gone = true;
            self.links.forget(&key);
        }
    }

    pub(super) fn add_link(
        &self,
        node: &Node,
        parent: &Node,
        name: &Name,
        replace: bool,
        place: Place,
    ) -> Outcome<()> {
        let to = parent.directory()?;
        let local = names::to_local(name)?;
        if node.inode.is_directory() {
            return Err(NtStatus::FILE_IS_A_DIRECTORY.into());
        }
        let _naming = self.hold_naming(place)?;
        if node.inode.is_symlink {
            let (link, _) = self.current_link(node)?;
            self.check_moves(&link.parent, &link.name, to)?;
        }
        let slot = self.indexes.slot(to);
        let mut held = self.indexes.hold(&slot, to, place)?;
        let existing = self.existing(&mut held, to, &local, name, place)?;
        let Some((known, stat)) = existing else {
            return held.change(&[Edit::Added(&local)], || link_fd(&node.inode, to, &local));
        };
        check_replace(replace, &stat, node.inode.kind)?;
        if stat.key == node.inode.key {
            return Ok(());
        }
        held.change(&[Edit::Added(&local), Edit::Removed(&known)], || {
            // Under a name that cannot be a client's, so that the file in the way is replaced in one step.
            let passing =
                CString::new(format!(".leasehold:{:x}", node.inode.key.number)).map_err(|_| Errno::INVAL)?;
            link_fd(&node.inode, to, &passing)?;
            let renamed = renameat(to.fd(), &passing, to.fd(), &known).and_then(|()| {
                if known == local { Ok(()) } else { renameat(to.fd(), &known, to.fd(), &local) }
            });
            if renamed.is_err() {
                let _ = unlinkat(to.fd(), &passing, AtFlags::empty());
            }
            Ok(renamed?)
        })?;
        self.forget_link(to, known);
        Ok(())
    }

    pub(super) fn unlink(&self, node: &Node, place: Place) -> Outcome<()> {
        let _naming = self.hold_naming(place)?;
        let (link, entry) = self.current_link(node)?;
        let flags =
            if entry.file_type == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let slot = self.indexes.slot(&link.parent);
        let mut held = self.indexes.hold(&slot, &link.parent, place)?;
        held.change(&[Edit::Removed(&link.name)], || match unlinkat(link.parent.fd(), &link.name, flags) {
            // POSIX lets a system say that a directory has entries by either.
            Err(Errno::EXIST) => Err(NtStatus::DIRECTORY_NOT_EMPTY.into()),
            result => result.map_err(|errno| Fault::Status(errno::status(errno))),
        })?;
        lock(&node.link.state).gone = true;
        self.links.forget(&link.key());
        if entry.file_type == FileType::Directory {
            self.directories.forget(entry.key);
        }
        Ok(())
    }
}

/// Whether what is in the way of a new name may be replaced.
fn check_replace(replace: bool, existing: &Stat, kind: Kind) -> Outcome<()> {
    if !replace {
        Err(NtStatus::OBJECT_NAME_COLLISION.into())
    } else if existing.file_type == FileType::Directory || kind == Kind::Directory {
        Err(NtStatus::ACCESS_DENIED.into())
    } else {
        Ok(())
    }
}

fn link_fd(inode: &Inode, directory: &Inode, name: &CStr) -> Outcome<()> {
    match linkat(CWD, inode.path(), directory.fd(), name, AtFlags::SYMLINK_FOLLOW) {
        // No name is left to link from.
        Err(Errno::NOENT) => Err(NtStatus::FILE_DELETED.into()),
        result => Ok(result?),
    }
}
