//! Asks a driver and waits for the answer.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::Poll;

use bytes::Bytes;
use smb_proto::fscc::class::FileInfoClass;
use smb_proto::fscc::directory::{self, DirectoryEntry};
use smb_proto::{FileAttributes, Name, NtStatus, Payload};
use smb_state::ids::{ConnectionId, Handle, SessionId, ShareId, VolumeId};
use smb_state::storage::{
    Attributes, Initial, Intent, Kind, Listing, Object, Requester, Resolved, StorageOp, StorageReply,
    VolumeCaps,
};

use crate::driver::{Completion, Driver};

/// A driver behind functions that wait.
pub struct Client {
    driver: Arc<dyn Driver>,
    requester: Requester,
}

/// A status instead of an answer.
pub type Answer<T> = Result<T, NtStatus>;

impl Client {
    /// Asks `driver`.
    #[must_use]
    pub fn new(driver: Arc<dyn Driver>) -> Self {
        let requester = Requester {
            volume: VolumeId(1),
            session: SessionId(1),
            connection: ConnectionId(1),
            share: ShareId(1),
        };
        Self { driver, requester }
    }

    /// What the volume can do.
    #[must_use]
    pub fn caps(&self) -> VolumeCaps {
        self.driver.caps()
    }

    /// One request.
    ///
    /// # Panics
    /// When the driver loses the request.
    #[must_use]
    pub fn call(&self, op: StorageOp<Bytes>) -> StorageReply<Payload> {
        let (sender, receiver) = channel();
        let mut later = || {
            let sender = sender.clone();
            Completion::new(move |reply| {
                let _ = sender.send(reply);
            })
        };
        match self.driver.submit(&self.requester, op, &mut later) {
            Poll::Ready(reply) => reply,
            Poll::Pending => receiver.recv().expect("the driver answers what it has taken"),
        }
    }

    /// One request that answers DONE or a status.
    ///
    /// # Errors
    /// The status.
    pub fn done(&self, op: StorageOp<Bytes>) -> Answer<()> {
        match self.call(op) {
            StorageReply::Done => Ok(()),
            StorageReply::Failed(status) => Err(status),
            other => panic!("expected DONE, got {other:?}"),
        }
    }

    /// Follows a path, components separated by `\`, with a stream behind a colon.
    ///
    /// # Errors
    /// The status.
    pub fn resolve(&self, path: &str) -> Answer<Resolved> {
        let (path, stream) = match path.split_once(':') {
            Some((path, stream)) => (path, Some(Name::from(stream))),
            None => (path, None),
        };
        let path = path.split('\\').filter(|component| !component.is_empty()).map(Name::from).collect();
        match self.call(StorageOp::Resolve { path, stream }) {
            StorageReply::Resolved(resolved) => Ok(resolved),
            StorageReply::Failed(status) => Err(status),
            other => panic!("expected where the path leads, got {other:?}"),
        }
    }

    /// The object at the end of a path.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn find(&self, path: &str) -> Object {
        match self.resolve(path) {
            Ok(Resolved::Found(object)) => object,
            other => panic!("{path}: expected an object, got {other:?}"),
        }
    }

    /// Whether a path leads to an object; gives every handle back.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        match self.resolve(path) {
            Ok(Resolved::Found(object)) => {
                self.close(object.handle);
                true
            }
            Ok(Resolved::NoName { parent }) => {
                self.close(parent.handle);
                false
            }
            Ok(Resolved::NoStream { file }) => {
                self.close(file.handle);
                false
            }
            _ => false,
        }
    }

    /// Makes a file or directory.
    ///
    /// # Errors
    /// The status.
    pub fn create_with(&self, parent: Handle, name: &Name, kind: Kind, initial: Initial) -> Answer<Object> {
        let initial = Box::new(initial);
        self.opened(StorageOp::Create { parent, name: name.clone(), kind, initial })
    }

    /// A request that answers with a new object.
    ///
    /// # Errors
    /// The status.
    pub fn opened(&self, op: StorageOp<Bytes>) -> Answer<Object> {
        match self.call(op) {
            StorageReply::Opened(object) => Ok(object),
            StorageReply::Failed(status) => Err(status),
            other => panic!("expected a new object, got {other:?}"),
        }
    }

    /// Makes what a path names, in a directory that is there.
    ///
    /// # Errors
    /// The status.
    pub fn create(&self, path: &str, kind: Kind) -> Answer<Object> {
        let (directory, name) = path.rsplit_once('\\').unwrap_or(("", path));
        let parent = self.find(directory);
        let dos = if kind == Kind::File { FileAttributes::ARCHIVE } else { FileAttributes(0) };
        let initial = Initial { dos, ..Initial::default() };
        let created = self.create_with(parent.handle, &Name::from(name), kind, initial);
        self.close(parent.handle);
        created
    }

    /// A new file with data; its handle is open.
    #[must_use]
    pub fn file(&self, path: &str, data: &[u8]) -> Object {
        let object = self.create(path, Kind::File).unwrap_or_else(|status| panic!("{path}: {status}"));
        assert_eq!(self.write(object.handle, 0, data), Ok(data.len()));
        object
    }

    /// A new file with data, closed.
    pub fn put(&self, path: &str, data: &[u8]) {
        self.close(self.file(path, data).handle);
    }

    /// A new directory, closed.
    pub fn directory(&self, path: &str) {
        let object = self.create(path, Kind::Directory).unwrap_or_else(|status| panic!("{path}: {status}"));
        self.close(object.handle);
    }

    /// Makes a pinned object ready.
    ///
    /// # Errors
    /// The status.
    pub fn open(&self, handle: Handle, read: bool, write: bool) -> Answer<Attributes> {
        match self.call(StorageOp::Open { handle, intent: Intent { read, write } }) {
            StorageReply::Attributes(attributes) => Ok(attributes),
            StorageReply::Failed(status) => Err(status),
            other => panic!("expected attributes, got {other:?}"),
        }
    }

    /// Gives a handle back.
    pub fn close(&self, handle: Handle) {
        assert_eq!(self.done(StorageOp::Close { handle }), Ok(()));
    }

    /// Reads.
    ///
    /// # Errors
    /// The status.
    pub fn read(&self, handle: Handle, offset: u64, length: u32) -> Answer<Vec<u8>> {
        match self.call(StorageOp::Read { handle, offset, length }) {
            StorageReply::Read { buffer, length } => {
                assert_eq!(buffer.len(), length as usize);
                Ok(buffer.data().to_vec())
            }
            StorageReply::Failed(status) => Err(status),
            other => panic!("expected data, got {other:?}"),
        }
    }

    /// Writes.
    ///
    /// # Errors
    /// The status.
    pub fn write(&self, handle: Handle, offset: impl Into<Option<u64>>, data: &[u8]) -> Answer<usize> {
        self.written(StorageOp::Write {
            handle,
            offset: offset.into(),
            buffer: Bytes::copy_from_slice(data),
            length: u32::try_from(data.len()).expect("short enough"),
            write_through: false,
        })
    }

    /// A request that answers with a number of bytes.
    ///
    /// # Errors
    /// The status.
    pub fn written(&self, op: StorageOp<Bytes>) -> Answer<usize> {
        match self.call(op) {
            StorageReply::Written { length } => Ok(length as usize),
            StorageReply::Failed(status) => Err(status),
            other => panic!("expected a number of bytes, got {other:?}"),
        }
    }

    /// Metadata.
    #[must_use]
    pub fn attributes(&self, handle: Handle) -> Attributes {
        match self.call(StorageOp::Attributes { handle }) {
            StorageReply::Attributes(attributes) => attributes,
            other => panic!("expected attributes, got {other:?}"),
        }
    }

    /// One answer of a listing.
    ///
    /// # Errors
    /// The status.
    pub fn list_once(&self, handle: Handle, listing: Listing) -> Answer<Vec<DirectoryEntry>> {
        let (class, length_max) = (listing.class, listing.length_max);
        match self.call(StorageOp::List { handle, listing: Box::new(listing) }) {
            StorageReply::Listed { buffer, length } => {
                assert_eq!(buffer.len(), length as usize);
                assert!(length <= length_max);
                let bytes = Bytes::copy_from_slice(buffer.data());
                Ok(directory::parse(class, &bytes).expect("a listing that can be read"))
            }
            StorageReply::Failed(status) => Err(status),
            other => panic!("expected a listing, got {other:?}"),
        }
    }

    /// Names of a whole listing without `.` and `..`, sorted.
    #[must_use]
    pub fn names(&self, handle: Handle, pattern: &str, length_max: u32) -> Vec<String> {
        let mut names = Vec::new();
        let mut listing = Listing {
            class: FileInfoClass::ID_BOTH_DIRECTORY,
            pattern: Some(Name::from(pattern)),
            restart: true,
            single: false,
            length_max,
            visible_to: None,
        };
        loop {
            match self.list_once(handle, listing.clone()) {
                Ok(entries) => names.extend(entries.iter().map(|entry| entry.name.to_string())),
                Err(NtStatus::NO_MORE_FILES | NtStatus::NO_SUCH_FILE) => break,
                Err(status) => panic!("listing {pattern}: {status}"),
            }
            listing.restart = false;
            listing.pattern = None;
        }
        names.retain(|name| name != "." && name != "..");
        names.sort();
        names
    }

    /// Removes what a handle leads to and closes it.
    pub fn remove(&self, path: &str) {
        let object = self.find(path);
        assert_eq!(self.done(StorageOp::Unlink { handle: object.handle }), Ok(()), "{path}");
        self.close(object.handle);
    }

    /// Renames what a handle leads to into a directory.
    ///
    /// # Errors
    /// The status.
    pub fn rename(&self, handle: Handle, path: &str, replace: bool) -> Answer<()> {
        let (directory, name) = path.rsplit_once('\\').unwrap_or(("", path));
        let parent = self.find(directory);
        let name = Name::from(name);
        let result = self.done(StorageOp::Rename { handle, parent: parent.handle, name, replace });
        self.close(parent.handle);
        result
    }

    /// Gives the object one more name.
    ///
    /// # Errors
    /// The status.
    pub fn link(&self, handle: Handle, path: &str, replace: bool) -> Answer<()> {
        let (directory, name) = path.rsplit_once('\\').unwrap_or(("", path));
        let parent = self.find(directory);
        let name = Name::from(name);
        let result = self.done(StorageOp::Link { handle, parent: parent.handle, name, replace });
        self.close(parent.handle);
        result
    }
}
