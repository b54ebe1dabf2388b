//! The posix driver tells what other processes change, and nothing of what it does itself.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use smb_proto::fscc::notify::Action;
use smb_proto::{Name, NtStatus, Payload};
use smb_state::ids::{ConnectionId, Handle, SessionId, ShareId, VolumeId};
use smb_state::storage::{Initial, Kind, LocalNews, Requester, StorageOp, StorageReply};
use storage::conformance::Client;
use storage::driver::{Completion, Driver};
use storage::offload::Threads;
use storage::posix::{Posix, PosixOptions};

/// Far more than an event needs.
const LONG: Duration = Duration::from_secs(10);
/// Enough to see that nothing comes, most of the time.
const SHORT: Duration = Duration::from_millis(300);

struct World {
    root: tempfile::TempDir,
    driver: Arc<Posix>,
    client: Client,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("Dir")).unwrap();
        let threads = Arc::new(Threads::new(2).unwrap());
        let driver = Arc::new(Posix::new(root.path(), PosixOptions::default(), threads).unwrap());
        assert!(driver.caps().local_changes);
        let client = Client::new(Arc::clone(&driver) as Arc<dyn Driver>);
        Self { root, driver, client }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join("Dir").join(name)
    }

    /// Waits for what changes; a second request of the handle must come after the first was answered.
    fn watch(&self, handle: Handle, tree: bool) -> Receiver<StorageReply<Payload>> {
        let (sender, receiver) = channel();
        let mut later = || {
            let sender = sender.clone();
            Completion::new(move |reply| {
                let _ = sender.send(reply);
            })
        };
        let requester = Requester {
            volume: VolumeId(1),
            session: SessionId(1),
            connection: ConnectionId(1),
            share: ShareId(1),
        };
        assert!(self.driver.submit(&requester, StorageOp::Watch { handle, tree }, &mut later).is_pending());
        receiver
    }

    /// What is told, until all of `wanted` was.
    #[track_caller]
    fn expect(&self, handle: Handle, tree: bool, wanted: &[(Action, &str)]) {
        let mut told = Vec::new();
        while told.len() < wanted.len() {
            match self.watch(handle, tree).recv_timeout(LONG) {
                Ok(StorageReply::Changed(LocalNews::Changes(changes))) => {
                    let changes = changes.into_iter().map(|change| change.change);
                    told.extend(changes.map(|change| (change.action, change.name.to_string())));
                }
                other => panic!("{other:?} after {told:?}"),
            }
        }
        let told: Vec<(Action, &str)> = told.iter().map(|(action, name)| (*action, name.as_str())).collect();
        assert_eq!(told, wanted);
    }

    /// Begins to watch: from now on nothing is missed.
    fn begin(&self, tree: bool) -> Handle {
        let directory = self.client.find("Dir");
        let listens = self.watch(directory.handle, tree).recv_timeout(LONG).unwrap();
        assert_eq!(listens, StorageReply::Changed(LocalNews::Changes(Vec::new())));
        directory.handle
    }
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[test]
fn local_changes_are_told() {
    let world = World::new();
    let handle = world.begin(false);
    fs::create_dir(world.path("sub")).unwrap();
    world.expect(handle, false, &[(Action::ADDED, "sub")]);
    fs::write(world.path("sub/below"), "not watched").unwrap();
    fs::write(world.path("a"), "data").unwrap();
    world.expect(handle, false, &[(Action::ADDED, "a"), (Action::MODIFIED, "a")]);
    fs::rename(world.path("a"), world.path("b")).unwrap();
    world.expect(handle, false, &[(Action::RENAMED_OLD_NAME, "a"), (Action::RENAMED_NEW_NAME, "b")]);
    fs::rename(world.path("b"), world.root.path().join("elsewhere")).unwrap();
    world.expect(handle, false, &[(Action::REMOVED, "b")]);
    fs::rename(world.root.path().join("elsewhere"), world.path("c")).unwrap();
    world.expect(handle, false, &[(Action::ADDED, "c")]);
    fs::remove_file(world.path("c")).unwrap();
    world.expect(handle, false, &[(Action::REMOVED, "c")]);
}

#[test]
fn a_tree_is_watched_down_to_what_was_just_made() {
    let world = World::new();
    fs::create_dir(world.path("old")).unwrap();
    let handle = world.begin(true);
    fs::write(world.path("old/a"), "").unwrap();
    world.expect(handle, true, &[(Action::ADDED, "old\\a"), (Action::MODIFIED, "old\\a")]);
    fs::create_dir(world.path("new")).unwrap();
    world.expect(handle, true, &[(Action::ADDED, "new")]);
    fs::create_dir(world.path("new/deep")).unwrap();
    world.expect(handle, true, &[(Action::ADDED, "new\\deep")]);
    fs::rename(world.path("new"), world.path("moved")).unwrap();
    world.expect(handle, true, &[(Action::RENAMED_OLD_NAME, "new"), (Action::RENAMED_NEW_NAME, "moved")]);
    fs::create_dir(world.path("moved/deep/x")).unwrap();
    world.expect(handle, true, &[(Action::ADDED, "moved\\deep\\x")]);
}

#[test]
fn its_own_changes_are_not_told() {
    let world = World::new();
    let handle = world.begin(true);
    let directory = world.client.find("Dir");
    let create = StorageOp::Create {
        parent: directory.handle,
        name: Name::from("own"),
        kind: Kind::File,
        initial: Box::new(Initial::default()),
    };
    let StorageReply::Opened(own) = world.client.call(create) else { panic!() };
    let write = StorageOp::Write {
        handle: own.handle,
        offset: Some(0),
        buffer: bytes::Bytes::from_static(b"data"),
        length: 4,
        write_through: false,
    };
    assert_eq!(world.client.call(write), StorageReply::Written { length: 4 });
    let rename = StorageOp::Rename {
        handle: own.handle,
        parent: directory.handle,
        name: Name::from("renamed"),
        replace: false,
    };
    assert_eq!(world.client.done(rename), Ok(()));
    assert!(exists(&world.path("renamed")));
    assert_eq!(world.client.done(StorageOp::Unlink { handle: own.handle }), Ok(()));
    assert_eq!(world.client.done(StorageOp::Close { handle: own.handle }), Ok(()));
    fs::create_dir(world.path("foreign")).unwrap();
    world.expect(handle, true, &[(Action::ADDED, "foreign")]);
}

#[test]
fn a_watch_ends_with_an_answer() {
    let world = World::new();
    let handle = world.begin(false);
    let waiting = world.watch(handle, false);
    assert!(waiting.recv_timeout(SHORT).is_err());
    assert_eq!(world.client.done(StorageOp::Unwatch { handle }), Ok(()));
    assert_eq!(waiting.recv_timeout(LONG).unwrap(), StorageReply::Done);
    // One that was overtaken by its end.
    assert_eq!(world.watch(handle, false).recv_timeout(LONG).unwrap(), StorageReply::Done);
    let other = world.begin(true);
    let waiting = world.watch(other, true);
    fs::remove_dir(world.root.path().join("Dir")).unwrap();
    let reply = waiting.recv_timeout(LONG).unwrap();
    assert_eq!(reply, StorageReply::Changed(LocalNews::Gone));
    assert_eq!(world.client.done(StorageOp::Close { handle: other }), Ok(()));
    let file = world.client.call(StorageOp::Resolve { path: Vec::new(), stream: None });
    assert!(matches!(file, StorageReply::Resolved(_)));
    let reply = world.watch(other, true).recv_timeout(LONG).unwrap();
    assert!(matches!(reply, StorageReply::Failed(NtStatus::FILE_CLOSED | NtStatus::INVALID_HANDLE)));
}
