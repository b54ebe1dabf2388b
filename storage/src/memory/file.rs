//! Files, directories, links, streams.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use smb_proto::fscc::ea::{FullEa, packed_size};
use smb_proto::security::{SecurityDescriptor, Sid};
use smb_proto::{FileAttributes, FileTime, Name};
use smb_state::ids::FileNumber;
use smb_state::security::default_descriptor;
use smb_state::storage::{Attributes, Kept, Kind};

use super::list::Cursor;
use super::pages::{PAGE, Pages};
use crate::handles::lock;

/// A file or directory; lives as long as a name or a handle leads to it. Its number is never given again.
#[derive(Debug)]
pub(super) struct File {
    pub(super) number: FileNumber,
    pub(super) kind: Kind,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) dos: FileAttributes,
    pub(super) creation: FileTime,
    pub(super) last_access: FileTime,
    pub(super) last_write: FileTime,
    pub(super) change: FileTime,
    pub(super) links: u32,
    pub(super) data: Pages,
    /// Bytes set aside.
    pub(super) reserved: u64,
    pub(super) streams: Vec<Arc<Stream>>,
    pub(super) eas: Vec<FullEa>,
    /// As set, if it was.
    pub(super) security: Option<SecurityDescriptor>,
    /// Who made the file.
    pub(super) owner: Option<Sid>,
    /// Entries of a directory by folded name.
    pub(super) children: BTreeMap<Name, Child>,
    /// The directory that a directory is in.
    pub(super) parent: Weak<File>,
}

#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) name: Name,
    pub(super) file: Arc<File>,
    pub(super) link: Arc<Link>,
}

/// A name in a directory; handles that were opened by it follow its renames.
#[derive(Debug)]
pub(super) struct Link(Mutex<Option<Place>>);

#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) parent: Weak<File>,
    pub(super) parent_number: FileNumber,
    /// As stored; empty for the root.
    pub(super) name: Name,
}

impl Link {
    pub(super) fn new(parent: &Arc<File>, name: Name) -> Self {
        let link = Self(Mutex::new(None));
        link.put(parent, name);
        link
    }

    /// Where the name is; `None` once it was removed.
    pub(super) fn place(&self) -> Option<Place> {
        lock(&self.0).clone()
    }

    pub(super) fn put(&self, parent: &Arc<File>, name: Name) {
        let place = Place { parent: Arc::downgrade(parent), parent_number: parent.number, name };
        *lock(&self.0) = Some(place);
    }

    pub(super) fn remove(&self) {
        *lock(&self.0) = None;
    }
}

/// A named stream.
#[derive(Debug)]
pub(super) struct Stream(Mutex<StreamState>);

#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) name: Name,
    pub(super) data: Pages,
    /// Whether the file still has it.
    pub(super) is_linked: bool,
}

impl Stream {
    pub(super) fn new(name: Name, data: Pages) -> Self {
        Self(Mutex::new(StreamState { name, data, is_linked: true }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, StreamState> {
        lock(&self.0)
    }
}

/// What a handle stands for.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) file: Arc<File>,
    pub(super) link: Arc<Link>,
    pub(super) stream: Option<Arc<Stream>>,
    pub(super) cursor: Mutex<Option<Cursor>>,
    /// Times that it keeps.
    pub(super) kept: Mutex<Kept>,
}

impl File {
    pub(super) fn new(number: u64, kind: Kind, state: State) -> Self {
        Self { number: FileNumber(number), kind, state: Mutex::new(state) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// The descriptor as set, or the default one.
    pub(super) fn security(&self) -> SecurityDescriptor {
        let state = self.state();
        state.security.clone().unwrap_or_else(|| {
            let owner = state.owner.unwrap_or(Sid::BUILTIN_ADMINISTRATORS);
            default_descriptor(owner, Sid::BUILTIN_USERS, self.kind)
        })
    }

    pub(super) fn attributes(&self) -> Attributes {
        let state = self.state();
        let mut dos = state.dos.0;
        if self.is_directory() {
            dos |= FileAttributes::DIRECTORY.0;
        }
        let is_sparse = state.dos.contains(FileAttributes::SPARSE_FILE);
        let (size, stored) = (state.data.size(), state.data.stored());
        let allocation = match (size, is_sparse) {
            (0, _) => 0,
            (_, true) => stored,
            (_, false) => size.next_multiple_of(PAGE).max(state.reserved),
        };
        Attributes {
            number: self.number,
            kind: self.kind,
            dos: if dos == 0 { FileAttributes::NORMAL } else { FileAttributes(dos) },
            creation: state.creation,
            last_access: state.last_access,
            last_write: state.last_write,
            change: state.change,
            end_of_file: size,
            allocation,
            links: state.links,
            ea_size: packed_size(&state.eas),
            reparse_tag: 0,
        }
    }
}

impl Node {
    pub(super) fn attributes(&self) -> Attributes {
        let mut attributes = self.file.attributes();
        if let Some(stream) = &self.stream {
            let size = stream.state().data.size();
            attributes.kind = Kind::File;
            attributes.dos.0 &= !(FileAttributes::DIRECTORY.0 | FileAttributes::SPARSE_FILE.0);
            if attributes.dos.0 == 0 {
                attributes.dos = FileAttributes::NORMAL;
            }
            attributes.end_of_file = size;
            attributes.allocation = size.next_multiple_of(PAGE);
        }
        attributes
    }

    /// Uses the data that the handle leads to.
    pub(super) fn with_data<R>(&self, act: impl FnOnce(&mut Pages) -> R) -> R {
        match &self.stream {
            Some(stream) => act(&mut stream.state().data),
            None => act(&mut self.file.state().data),
        }
    }
}
