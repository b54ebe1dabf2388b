//! Symbolic links as reparse points: where they lead, and how a client makes one.
//!
//! The driver follows none of them (`PosixOptions::follows_links` is the other way): it says where a link leads, and the client
//! comes with a path of its own. What it says is relative to the link's directory and, taken by its words, does not climb out
//! of the root. A local program's absolute link into the root is told as a relative one; where any other leads is not told.
//!
//! Local programs do follow links, so what a client may set is narrower: `..` comes only first, where it cannot be a way back
//! from somewhere else that another link leads to, and not more often than there are directories above. That is looked at
//! again when a link is renamed, or gets another name, in a directory nearer to the root. It is not when a directory above the
//! link moves: whoever moves one nearer to the root through the server, or anything by other means, may leave links below it
//! that lead local programs out of the root. The server itself follows none of them.
//!
//! A link is a link of the file system, so an object that becomes one is replaced under its name, in one step: attributes that
//! clients set are not kept, and who may do what with it the directory's security descriptor says. A file that a link becomes
//! has a descriptor of its own from the start. The core sees to it that nobody else has the object open meanwhile; what a local
//! program does that has it open meets what it was, but data that it wrote before the exchange lets the object stay.
//!
//! While a handle stands for the new object, it goes by the number of the old one, whose inode stays pinned for as long: the core
//! knows a file that is open by its number, and everybody who opens the name meanwhile meets the share modes, locks and leases of
//! who has it open; and the number of the old inode can't become that of another file. With the last handle this ends, and the
//! object has the number of its own that listings show all along.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, openat, readlink, readlinkat, renameat_with, symlinkat,
    unlinkat,
};
use rustix::io::Errno;
use smb_proto::{Name, NtStatus};
use smb_state::ids::Handle;
use smb_state::storage::{Initial, Kind};

use super::Volume;
use super::handle::{Inode, LinkState, Node, Precursor, Stat};
use super::names;
use super::resolve::pin_name;
use crate::fault::{Outcome, Place};
use crate::handles::lock;

const BACKSLASH: u16 = b'\\' as u16;
/// Longest target in bytes (Linux's PATH_MAX, with the zero byte).
const TARGET_MAX: usize = 4095;

/// The parts of a link's target, relative to a directory that is `depth` directories below the root.
fn check_inside<'p>(parts: impl Iterator<Item = &'p [u8]>, mut depth: usize) -> Outcome<()> {
    for part in parts {
        match part {
            b"." => {}
            b".." => depth = depth.checked_sub(1).ok_or(NtStatus::ACCESS_DENIED)?,
            _ => depth += 1,
        }
    }
    Ok(())
}

/// The same for what clients set: `..` comes before anything else.
fn check_settable<'p>(parts: impl Iterator<Item = &'p [u8]>, depth: usize) -> Outcome<()> {
    let (mut up, mut has_name) = (0, false);
    for part in parts {
        match part {
            b"." => {}
            b".." if has_name || up == depth => return Err(NtStatus::ACCESS_DENIED.into()),
            b".." => up += 1,
            _ => has_name = true,
        }
    }
    Ok(())
}

/// What is left of a path below `root`, which has no separator at its end.
fn below<'p>(path: &'p [u8], root: &[u8]) -> Option<&'p [u8]> {
    let below = path.strip_prefix(root)?;
    if below.is_empty() { Some(below) } else { below.strip_prefix(b"/") }
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
}

/// A target as clients are told of it.
fn told<'p>(parts: impl Iterator<Item = &'p [u8]>) -> Outcome<Name> {
    let mut units = Vec::new();
    for part in parts {
        if !units.is_empty() {
            units.push(BACKSLASH);
        }
        let part = CString::new(part).map_err(|_| NtStatus::ACCESS_DENIED)?;
        units.extend(names::visible(&part).ok_or(NtStatus::ACCESS_DENIED)?);
    }
    if units.is_empty() {
        units.push(u16::from(b'.'));
    }
    Ok(Name::from_units(units))
}

/// A target as the disk has it.
fn to_local(target: &Name) -> Outcome<CString> {
    let mut local = Vec::new();
    for part in target.units().split(|unit| *unit == BACKSLASH) {
        if !local.is_empty() {
            local.push(b'/');
        }
        match names::encode(part).as_slice() {
            dots @ (b"." | b"..") => local.extend_from_slice(dots),
            _ => {
                let name = names::to_local(&Name::from_units(part.to_vec()));
                local.extend_from_slice(name.map_err(|_| NtStatus::IO_REPARSE_DATA_INVALID)?.to_bytes());
            }
        }
    }
    if local.len() > TARGET_MAX {
        return Err(NtStatus::IO_REPARSE_DATA_INVALID.into());
    }
    Ok(CString::new(local).map_err(|_| NtStatus::IO_REPARSE_DATA_INVALID)?)
}

impl Volume {
    /// The path of a directory from the root, as the disk has it now.
    pub(super) fn path_below_root(&self, directory: &Inode) -> Outcome<Vec<u8>> {
        let root = readlink(self.root.path(), Vec::new())?;
        let path = readlink(directory.path(), Vec::new())?;
        let root = root.to_bytes().strip_suffix(b"/").unwrap_or(root.to_bytes());
        Ok(below(path.to_bytes(), root).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?.to_vec())
    }

    fn depth_of(&self, directory: &Inode) -> Outcome<usize> {
        Ok(parts(&self.path_below_root(directory)?).count())
    }

    /// Whether the link of this name may be put into another directory: not if it then leads out of the root, unless that is no
    /// nearer to it, so that the link leads no further than it did.
    pub(super) fn check_moves(&self, from: &Inode, name: &CStr, to: &Inode) -> Outcome<()> {
        let (was, depth) = (self.depth_of(from)?, self.depth_of(to)?);
        let text = readlinkat(from.fd(), name, Vec::new())?;
        if depth >= was || text.to_bytes().starts_with(b"/") {
            return Ok(());
        }
        check_settable(parts(text.to_bytes()), depth)
    }

    /// Where a link leads, from its directory; `text` is what the link says.
    fn told_target(&self, directory: &Inode, text: &[u8]) -> Outcome<Name> {
        let here = self.path_below_root(directory)?;
        let depth = parts(&here).count();
        let Some(absolute) = text.strip_prefix(b"/") else {
            check_inside(parts(text), depth)?;
            return told(parts(text));
        };
        let root = readlink(self.root.path(), Vec::new())?;
        let mut wanted = parts(absolute);
        if !parts(root.to_bytes()).all(|part| wanted.next() == Some(part)) {
            return Err(NtStatus::ACCESS_DENIED.into());
        }
        let below: Vec<&[u8]> = wanted.collect();
        check_inside(below.iter().copied(), 0)?;
        told(std::iter::repeat_n(&b".."[..], depth).chain(below))
    }

    /// Where the link of this name leads.
    pub(super) fn target_of_name(&self, directory: &Inode, name: &CStr) -> Outcome<Name> {
        let text = readlinkat(directory.fd(), name, Vec::new())?;
        self.told_target(directory, text.to_bytes())
    }

    /// Where a link leads.
    pub(super) fn link_target(&self, node: &Node) -> Outcome<Name> {
        if node.stream.is_some() || !node.inode.is_symlink {
            return Err(NtStatus::NOT_A_REPARSE_POINT.into());
        }
        let text = readlinkat(node.inode.fd(), c"", Vec::new())?;
        self.told_target(&node.link.now().parent, text.to_bytes())
    }

    /// Makes an object a link, or a link a file without data.
    pub(super) fn set_link_target(
        &self,
        handle: Handle,
        node: &Arc<Node>,
        target: Option<&Name>,
        initial: &Initial,
        place: Place,
    ) -> Outcome<()> {
        if !self.caps.symbolic_links {
            return Err(NtStatus::INVALID_DEVICE_REQUEST.into());
        }
        if node.stream.is_some() {
            return Err(NtStatus::INVALID_PARAMETER.into());
        }
        let _naming = self.hold_naming(place)?;
        let (link, _) = self.current_link(node)?;
        let new = match target {
            Some(target) => {
                self.check_can_be_link(node)?;
                let local = to_local(target)?;
                check_settable(parts(local.to_bytes()), self.depth_of(&link.parent)?)?;
                Some(local)
            }
            None if node.inode.is_symlink => None,
            None => return Err(NtStatus::NOT_A_REPARSE_POINT.into()),
        };
        let slot = self.indexes.slot(&link.parent);
        let mut held = self.indexes.hold(&slot, &link.parent, place)?;
        let inode = held.change(&[], || self.replace(node, &link, new.as_deref(), initial))?;
        drop(held);
        let mut state = lock(&node.link.state);
        state.entry = inode.key;
        self.links.put(state.key(), &node.link);
        drop(state);
        self.forget_times(node);
        if node.inode.is_directory() {
            self.directories.forget(node.inode.key);
        }
        self.handles.replace(handle, Arc::new(self.node(inode, Arc::clone(&node.link), None)))
    }

    fn check_can_be_link(&self, node: &Node) -> Outcome<()> {
        let stat = node.inode.stat()?;
        check_can_go(&stat)?;
        if stat.file_type == FileType::Directory { self.check_empty(node) } else { Ok(()) }
    }

    /// Puts a link, or a file, where an object is.
    fn replace(
        &self,
        node: &Node,
        link: &LinkState,
        target: Option<&CStr>,
        initial: &Initial,
    ) -> Outcome<Arc<Inode>> {
        let directory = link.parent.fd();
        // A name that cannot be a client's.
        let passing =
            CString::new(format!(".leasehold:{:x}", node.inode.key.number)).map_err(|_| Errno::INVAL)?;
        let make = || match target {
            Some(target) => symlinkat(target, directory, &passing),
            None => {
                let flags =
                    OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(self.options.file_mode & 0o7777);
                openat(directory, &passing, flags, mode).map(drop)
            }
        };
        match make() {
            // Left over from a server that was killed.
            Err(Errno::EXIST) => {
                unlinkat(directory, &passing, AtFlags::empty())?;
                make()?;
            }
            made => made?,
        }
        let swap = || renameat_with(directory, &passing, directory, &link.name, RenameFlags::EXCHANGE);
        let remove = || unlinkat(directory, &passing, AtFlags::empty());
        let made = self.successor(node, &link.parent, &passing, target.is_none().then_some(initial));
        let made = made.and_then(|made| {
            swap()?;
            Ok(made)
        });
        if made.is_err() {
            let _ = remove();
            return made;
        }
        if let Err(fault) = remove_replaced(link, &passing) {
            // A local program was faster.
            swap()?;
            let _ = remove();
            return Err(fault);
        }
        made
    }

    /// What is about to take an object's place, known by its inode before anybody can find it there. A file gets what it starts
    /// with.
    fn successor(
        &self,
        node: &Node,
        directory: &Inode,
        name: &CStr,
        initial: Option<&Initial>,
    ) -> Outcome<Arc<Inode>> {
        let (pin, stat) = pin_name(directory, name)?;
        let inode = self.inode(pin, false, &stat);
        let pin = node.inode.precursor.get().map_or(&node.inode, |precursor| &precursor.pin);
        let precursor = Precursor { number: self.number_of(&node.inode), pin: Arc::clone(pin) };
        inode.precursor.set(precursor).map_err(|_| NtStatus::INTERNAL_ERROR)?;
        if let Some(initial) = initial {
            let record = self.initial_record(Kind::File, initial);
            let new = self.node(Arc::clone(&inode), Arc::clone(&node.link), None);
            self.give_initial(&new, initial, record)?;
        }
        Ok(inode)
    }
}

/// Removes what was replaced, under its passing name, if it still is what was to be replaced and may be.
fn remove_replaced(link: &LinkState, passing: &CStr) -> Outcome<()> {
    let directory = link.parent.fd();
    let was = Stat::of_name(directory, passing)?;
    if was.key != link.entry {
        return Err(Errno::NOENT.into());
    }
    check_can_go(&was)?;
    let flags = if was.file_type == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    match unlinkat(directory, passing, flags) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Err(NtStatus::DIRECTORY_NOT_EMPTY.into()),
        removed => Ok(removed?),
    }
}

/// Whether nothing is lost with an object.
fn check_can_go(stat: &Stat) -> Outcome<()> {
    match stat.file_type {
        FileType::RegularFile if stat.size > 0 => Err(NtStatus::IO_REPARSE_DATA_INVALID.into()),
        // What takes the place has one name, and the number, which is still that of the other names.
        FileType::RegularFile | FileType::Symlink if stat.links > 1 => Err(NtStatus::NOT_SUPPORTED.into()),
        FileType::RegularFile | FileType::Symlink | FileType::Directory => Ok(()),
        _ => Err(NtStatus::ACCESS_DENIED.into()),
    }
}

#[cfg(test)]
mod tests {
    use smb_state::storage::Resolved;

    use super::*;
    use crate::fault::Fault;
    use crate::offload::Inline;
    use crate::posix::{Posix, PosixOptions};

    #[test]
    fn targets_stay_inside() {
        let check = |target: &str, depth| check_inside(parts(target.as_bytes()), depth).is_ok();
        assert!(check("a/b", 0) && check("../a", 1) && check("a/../..", 1) && check(".", 0));
        assert!(!check("..", 0) && !check("a/../../b", 0) && !check("../../a", 1));
    }

    #[test]
    fn data_that_came_just_before_the_exchange_stays() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("f"), "").unwrap();
        let driver = Posix::new(root.path(), PosixOptions::default(), Arc::new(Inline)).unwrap();
        let volume = &driver.volume;
        let Ok(Resolved::Found(file)) = volume.resolve(&[Name::from("f")], None, Place::Offloaded) else {
            panic!("the file is there")
        };
        let node = volume.handles.get(file.handle).unwrap();
        let link = node.link.now();
        // It was looked at and found empty; then a local program writes.
        std::fs::write(root.path().join("f"), "data").unwrap();
        let replaced = volume.replace(&node, &link, Some(c"x"), &Initial::default());
        assert!(matches!(replaced, Err(Fault::Status(NtStatus::IO_REPARSE_DATA_INVALID))));
        assert_eq!(std::fs::read(root.path().join("f")).unwrap(), b"data");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn what_clients_set_climbs_only_first() {
        let check = |target: &str, depth| check_settable(parts(target.as_bytes()), depth).is_ok();
        assert!(check("a/b", 0) && check("../a", 1) && check("./.././../a/./b", 2) && check(".", 0));
        assert!(!check("..", 0) && !check("../../a", 1) && !check("a/../b", 5) && !check("../a/..", 5));
    }

    #[test]
    fn a_sibling_of_the_root_is_not_below_it() {
        assert_eq!(below(b"/srv/a/b/c", b"/srv/a"), Some(&b"b/c"[..]));
        assert_eq!(below(b"/srv/a", b"/srv/a"), Some(&b""[..]));
        assert_eq!(below(b"/b", b""), Some(&b"b"[..]));
        assert_eq!(below(b"/srv/ab", b"/srv/a"), None);
    }

    #[test]
    fn targets_come_back_as_they_went_in() {
        for target in ["a", r"..\a\b", r".\x", ".."] {
            let local = to_local(&Name::from(target)).unwrap();
            assert_eq!(told(parts(local.to_bytes())).unwrap(), Name::from(target));
        }
        for target in ["", r"\a", r"a\\b", "a/b", r"a\", "a:b\0"] {
            assert!(to_local(&Name::from(target)).is_err(), "{target}");
        }
        assert_eq!(told(parts(b"")).unwrap(), Name::from("."));
    }
}
