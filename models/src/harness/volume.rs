//! A volume as small as it gets: names, file numbers, and handles that pin them. A file's data is the number of the buffer
//! that was written last.
//!
//! File numbers and handles are used again as soon as nothing pins or names them, lowest first: the contract that the core
//! relies on is that a pinned number is not reused, so a model should reuse it the moment it may.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use smb_proto::attributes::FileAttributes;
use smb_proto::{FileTime, Name, NtStatus};
use smb_state::ids::{BufferId, FileNumber, Handle};
use smb_state::storage::{Attributes, Kind, Object, Resolved, StorageOp, StorageReply};

/// The root directory.
pub const ROOT: FileNumber = FileNumber(1);
/// The first file that is made.
pub const FIRST: FileNumber = FileNumber(2);

/// A name in a directory, folded.
type Entry = (FileNumber, Name);

/// The volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Volume {
    files: BTreeMap<FileNumber, File>,
    entries: BTreeMap<Entry, FileNumber>,
    pins: BTreeMap<Handle, Pin>,
    /// The volume holds pipes: every name leads to one.
    pipes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct File {
    kind: Kind,
    /// Who made it: tells files apart that had the same name or number one after the other.
    made_by: u64,
    /// Pinned, but no name leads to it any more.
    removed: bool,
    /// The buffer that was written last.
    content: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pin {
    number: FileNumber,
    link: Entry,
}

/// Why a path leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// There is no such name.
    Name,
    /// What should be a directory is not.
    NotADirectory,
}

impl Volume {
    /// A volume with these paths; one that ends in a backslash is a directory. Made by 1, 2, and so on.
    #[must_use]
    pub fn with(paths: &[&str]) -> Self {
        let mut volume = Self::empty(false);
        for (index, path) in paths.iter().enumerate() {
            let (path, kind) = path.strip_suffix('\\').map_or((*path, Kind::File), |p| (p, Kind::Directory));
            let (directory, name) = path.rsplit_once('\\').unwrap_or(("", path));
            let directory: Vec<Name> =
                directory.split('\\').filter(|part| !part.is_empty()).map(Name::from).collect();
            let parent = volume.walk(&directory).map_or(ROOT, |(number, _)| number);
            volume.make(parent, &Name::from(name), kind, index as u64 + 1);
        }
        volume
    }

    /// A volume of pipes.
    #[must_use]
    pub fn pipes() -> Self {
        Self::empty(true)
    }

    fn empty(pipes: bool) -> Self {
        let root = File { kind: Kind::Directory, made_by: 0, removed: false, content: 0 };
        Self { files: BTreeMap::from([(ROOT, root)]), entries: BTreeMap::new(), pins: BTreeMap::new(), pipes }
    }

    /// Handles that are open.
    #[must_use]
    pub fn handles(&self) -> usize {
        self.pins.len()
    }

    /// What a handle's file holds.
    #[must_use]
    pub fn content(&self, handle: Handle) -> u64 {
        self.pins.get(&handle).and_then(|pin| self.files.get(&pin.number)).map_or(0, |file| file.content)
    }

    /// What a directory shows of its entries, as a number of 24 bits.
    #[must_use]
    pub fn shown(&self, directory: FileNumber) -> u64 {
        let mut hasher = DefaultHasher::new();
        for ((_, name), number) in self.entries.iter().filter(|((parent, _), _)| *parent == directory) {
            let content = self.files.get(number).map(|file| (file.made_by, file.content));
            (name, content).hash(&mut hasher);
        }
        hasher.finish() & 0xFF_FFFF
    }

    /// What the directory shows that a handle pins.
    #[must_use]
    pub fn shown_by(&self, handle: Handle) -> u64 {
        self.pins.get(&handle).map_or(0, |pin| self.shown(pin.number))
    }

    /// Who made the file that this handle pins.
    #[must_use]
    pub fn made_by(&self, number: FileNumber) -> Option<u64> {
        self.files.get(&number).map(|file| file.made_by)
    }

    /// Every path with who made what it leads to.
    #[must_use]
    pub fn tree(&self) -> Vec<(String, u64)> {
        let mut tree = Vec::new();
        self.list(ROOT, "", &mut tree);
        tree
    }

    fn list(&self, directory: FileNumber, above: &str, tree: &mut Vec<(String, u64)>) {
        for ((parent, name), number) in &self.entries {
            if *parent == directory {
                let path = format!("{above}{name}");
                tree.push((path.clone(), self.made_by(*number).unwrap_or(0)));
                self.list(*number, &format!("{path}\\"), tree);
            }
        }
    }

    fn make(&mut self, parent: FileNumber, name: &Name, kind: Kind, made_by: u64) -> FileNumber {
        let mut number = FileNumber(ROOT.0 + 1);
        while self.files.contains_key(&number) {
            number.0 += 1;
        }
        self.files.insert(number, File { kind, made_by, removed: false, content: 0 });
        self.entries.insert((parent, name.folded()), number);
        number
    }

    fn pin(&mut self, number: FileNumber, link: Entry) -> Object {
        let mut handle = Handle(1);
        while self.pins.contains_key(&handle) {
            handle.0 += 1;
        }
        let object = Object {
            handle,
            attributes: self.attributes(number),
            parent: link.0,
            name: link.1.clone(),
            stream: Name::default(),
            security: None,
        };
        self.pins.insert(handle, Pin { number, link });
        object
    }

    fn attributes(&self, number: FileNumber) -> Attributes {
        let kind = self.files.get(&number).map_or(Kind::File, |file| file.kind);
        let links = self.entries.values().filter(|other| **other == number).count();
        Attributes {
            number,
            kind,
            dos: if kind == Kind::Directory { FileAttributes::DIRECTORY } else { FileAttributes::NORMAL },
            creation: FileTime(0),
            last_access: FileTime(0),
            last_write: FileTime(0),
            change: FileTime(0),
            end_of_file: 0,
            allocation: 0,
            links: u32::try_from(links).unwrap_or(u32::MAX),
            ea_size: 0,
            reparse_tag: 0,
        }
    }

    /// The object at a path, and the link that led there.
    fn walk(&self, path: &[Name]) -> Result<(FileNumber, Entry), Missing> {
        let mut here = ROOT;
        let mut link = (ROOT, Name::default());
        for component in path {
            if self.files.get(&here).is_some_and(|file| file.kind != Kind::Directory) {
                return Err(Missing::NotADirectory);
            }
            link = (here, component.folded());
            here = *self.entries.get(&link).ok_or(Missing::Name)?;
        }
        Ok((here, link))
    }

    fn resolve(&mut self, path: &[Name]) -> Resolved {
        if self.pipes {
            let link = (ROOT, path.last().cloned().unwrap_or_default().folded());
            let number = match self.entries.get(&link) {
                Some(number) => *number,
                None => self.make(ROOT, &link.1, Kind::Pipe, 0),
            };
            return Resolved::Found(self.pin(number, link));
        }
        match self.walk(path) {
            Ok((number, link)) => Resolved::Found(self.pin(number, link)),
            Err(Missing::NotADirectory) => Resolved::NotADirectory,
            Err(Missing::Name) => {
                let Some((_, above)) = path.split_last() else { return Resolved::NoPath };
                match self.walk(above) {
                    Ok((number, link)) if self.attributes(number).kind == Kind::Directory => {
                        Resolved::NoName { parent: self.pin(number, link) }
                    }
                    Ok(_) => Resolved::NotADirectory,
                    Err(Missing::NotADirectory) => Resolved::NotADirectory,
                    Err(Missing::Name) => Resolved::NoPath,
                }
            }
        }
    }

    /// Carries a request out; `made_by` marks what it makes. `Err` for a handle that is not open: the core's fault.
    pub fn perform(
        &mut self,
        op: &StorageOp,
        made_by: u64,
        buffer: BufferId,
    ) -> Result<StorageReply, String> {
        Ok(match op {
            StorageOp::Resolve { path, .. } => StorageReply::Resolved(self.resolve(path)),
            StorageOp::Create { parent, name, kind, .. } => {
                let parent = self.pinned(*parent)?.number;
                if self.files.get(&parent).is_none_or(|file| file.removed) {
                    return Ok(StorageReply::Failed(NtStatus::OBJECT_PATH_NOT_FOUND));
                }
                if self.entries.contains_key(&(parent, name.folded())) {
                    return Ok(StorageReply::Failed(NtStatus::OBJECT_NAME_COLLISION));
                }
                let number = self.make(parent, name, *kind, made_by);
                StorageReply::Opened(self.pin(number, (parent, name.folded())))
            }
            StorageOp::Open { handle, .. } => {
                let pin = self.pinned(*handle)?;
                let (number, link) = (pin.number, pin.link.clone());
                let leads = link.1.is_empty() || self.entries.get(&link) == Some(&number);
                if leads { StorageReply::Attributes(self.attributes(number)) } else { StorageReply::Stale }
            }
            StorageOp::Overwrite { handle, .. } | StorageOp::Attributes { handle } => {
                let number = self.pinned(*handle)?.number;
                StorageReply::Attributes(self.attributes(number))
            }
            StorageOp::Close { handle } => {
                let number = self.pinned(*handle)?.number;
                self.pins.remove(handle);
                self.forget(number);
                StorageReply::Done
            }
            StorageOp::CheckEmpty { handle } => {
                let number = self.pinned(*handle)?.number;
                if self.is_empty(number) {
                    StorageReply::Done
                } else {
                    StorageReply::Failed(NtStatus::DIRECTORY_NOT_EMPTY)
                }
            }
            StorageOp::Rename { handle, parent, name, replace } => {
                self.rename(*handle, *parent, name, *replace)?
            }
            StorageOp::Link { handle, parent, name, replace } => {
                let number = self.pinned(*handle)?.number;
                let parent = self.pinned(*parent)?.number;
                let new = (parent, name.folded());
                if self.entries.contains_key(&new) && !replace {
                    return Ok(StorageReply::Failed(NtStatus::OBJECT_NAME_COLLISION));
                }
                let replaced = self.entries.insert(new, number);
                replaced.into_iter().for_each(|number| self.forget(number));
                StorageReply::Done
            }
            StorageOp::Unlink { handle } => {
                let pin = self.pinned(*handle)?;
                let (number, link) = (pin.number, pin.link.clone());
                if !self.is_empty(number) {
                    return Ok(StorageReply::Failed(NtStatus::DIRECTORY_NOT_EMPTY));
                }
                if self.entries.get(&link) != Some(&number) {
                    return Ok(StorageReply::Failed(NtStatus::OBJECT_NAME_NOT_FOUND));
                }
                self.entries.remove(&link);
                self.forget(number);
                StorageReply::Done
            }
            StorageOp::Read { handle, .. } => {
                self.pinned(*handle)?;
                StorageReply::Read { buffer, length: 1 }
            }
            StorageOp::List { handle, .. } => {
                self.pinned(*handle)?;
                StorageReply::Listed { buffer, length: 1 }
            }
            StorageOp::Write { handle, length, buffer, .. } => {
                let number = self.pinned(*handle)?.number;
                if let Some(file) = self.files.get_mut(&number).filter(|file| file.kind == Kind::File) {
                    file.content = buffer.0;
                }
                StorageReply::Written { length: *length }
            }
            other => return Err(format!("no model asks for {other:?}")),
        })
    }

    fn rename(
        &mut self,
        handle: Handle,
        parent: Handle,
        name: &Name,
        replace: bool,
    ) -> Result<StorageReply, String> {
        let Pin { number, link: old } = self.pinned(handle)?.clone();
        let parent = self.pinned(parent)?.number;
        let new = (parent, name.folded());
        if self.entries.get(&old) != Some(&number) {
            return Ok(StorageReply::Failed(NtStatus::OBJECT_NAME_NOT_FOUND));
        }
        if self.files.get(&parent).is_none_or(|file| file.removed) {
            return Ok(StorageReply::Failed(NtStatus::OBJECT_PATH_NOT_FOUND));
        }
        if new != old && self.entries.contains_key(&new) && !replace {
            return Ok(StorageReply::Failed(NtStatus::OBJECT_NAME_COLLISION));
        }
        self.entries.remove(&old);
        let replaced = self.entries.insert(new.clone(), number);
        // Every handle of the same link follows it.
        for pin in self.pins.values_mut().filter(|pin| pin.number == number && pin.link == old) {
            pin.link = new.clone();
        }
        replaced.into_iter().for_each(|number| self.forget(number));
        Ok(StorageReply::Done)
    }

    fn pinned(&self, handle: Handle) -> Result<&Pin, String> {
        self.pins.get(&handle).ok_or_else(|| format!("{handle:?} is not open"))
    }

    fn is_empty(&self, directory: FileNumber) -> bool {
        !self.entries.keys().any(|(parent, _)| *parent == directory)
    }

    /// A name or a pin of a file went: without either its number is free again.
    fn forget(&mut self, number: FileNumber) {
        let named = number == ROOT || self.entries.values().any(|other| *other == number);
        if let Some(file) = self.files.get_mut(&number) {
            file.removed = !named;
        }
        if !named && !self.pins.values().any(|pin| pin.number == number) {
            self.files.remove(&number);
        }
    }
}
