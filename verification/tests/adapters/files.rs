//! Files, through clients on every core.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use runtime::{BlockingPool, Running};
use smb_proto::auth::Credentials;
use smb_proto::command::create::{CreateDisposition, CreateOptions};
use smb_proto::command::negotiate::Dialect;
use smb_proto::command::query_info::InfoType;
use smb_proto::command::write::{WriteFlags, WriteHead};
use smb_proto::command::{FileId, Request, Response, set_info};
use smb_proto::fscc::file_info::{RenameFlags, RenameInformation, SetFileInformation};
use smb_proto::{AccessMask, Name, NtStatus, Payload};
use smb_state::config::{Allowed, Share};
use smb_state::event::Admin;
use smb_state::ids::{ShareId, VolumeId};
use smb_state::storage::{Requester, StorageOp, StorageReply, VolumeCaps};
use storage::driver::{Completion, Driver, Offload};
use storage::memory::Memory;
use storage::posix::{Posix, PosixOptions};
use storage::table::VolumeTable;
use verification::client::{Connection, Options, Protection, Session, Tree, open};

use crate::{CORES, PASSWORD, PATIENCE, Start, USER, config_with, wait_until};

const VOLUME: VolumeId = VolumeId(1);
const SHARE: &str = r"\\server\files";

fn memory() -> Arc<dyn Driver> {
    Arc::new(Memory::new(64 << 20, Name::from("TEST")))
}

/// A volume in a directory of its own.
fn posix(directory: &tempfile::TempDir) -> Arc<dyn Driver> {
    Arc::new(Posix::new(directory.path(), PosixOptions::default(), waiting()).unwrap())
}

/// As a server for either runtime has it: cores of glommio have rings, other threads have threads.
fn waiting() -> Arc<dyn Offload> {
    let threads = Arc::new(BlockingPool::new(4));
    #[cfg(target_os = "linux")]
    return Arc::new(runtime_glommio::RingOffload::new(threads));
    #[cfg(not(target_os = "linux"))]
    threads
}

/// Answers everything from other threads, after a while.
struct Late {
    inner: Arc<dyn Driver>,
    pool: BlockingPool,
    pause: Duration,
    answered: Arc<AtomicUsize>,
}

impl Late {
    fn over(inner: Arc<dyn Driver>, pause: Duration) -> Self {
        Self { inner, pool: BlockingPool::new(8), pause, answered: Arc::default() }
    }
}

impl Driver for Late {
    fn caps(&self) -> VolumeCaps {
        self.inner.caps()
    }

    fn submit(
        &self,
        requester: &Requester,
        op: StorageOp<Bytes>,
        later: &mut dyn FnMut() -> Completion,
    ) -> Poll<StorageReply<Payload>> {
        let completion = later();
        let (inner, requester, pause) = (Arc::clone(&self.inner), requester.clone(), self.pause);
        let answered = Arc::clone(&self.answered);
        self.pool.run(Box::new(move || {
            std::thread::sleep(pause);
            let mut completion = Some(completion);
            let reply =
                inner.submit(&requester, op, &mut || completion.take().expect("one completion is enough"));
            answered.fetch_add(1, Ordering::Relaxed);
            if let (Poll::Ready(reply), Some(completion)) = (reply, completion) {
                completion.complete(reply);
            }
        }));
        Poll::Pending
    }
}

fn share(caps: VolumeCaps) -> Share {
    Share {
        id: ShareId(1),
        name: Name::from("files"),
        volume: VOLUME,
        caps,
        read_only: false,
        encrypted: false,
        access_based: false,
        continuous_availability: None,
        allowed: Allowed::Users,
    }
}

fn serve(start: Start, driver: Arc<dyn Driver>) -> Box<dyn Running> {
    let volumes = Arc::new(VolumeTable::new());
    let shares = vec![share(driver.caps())];
    volumes.insert(VOLUME, driver);
    start(config_with(shares, volumes)).unwrap()
}

struct Client {
    connection: Connection,
    session: Session,
    tree: Tree,
}

impl Client {
    fn connect(address: SocketAddr, dialect: Dialect, protection: Protection) -> Self {
        let options = Options { limit: PATIENCE, ..Options::default() }.only(dialect);
        let mut connection = Connection::open(address, &options).unwrap();
        let session = connection.log_on(&Credentials::password(USER, "", PASSWORD), protection).unwrap();
        let tree = connection.connect_tree(session, SHARE).unwrap();
        Self { connection, session, tree }
    }

    fn signed(address: SocketAddr) -> Self {
        Self::connect(address, Dialect::SMB_3_1_1, Protection::Signed)
    }

    fn try_open(
        &mut self,
        name: &str,
        access: AccessMask,
        disposition: CreateDisposition,
    ) -> Result<FileId, NtStatus> {
        let request = open(name, access, disposition, CreateOptions::NON_DIRECTORY_FILE);
        match self.connection.create(self.tree, request) {
            Ok(response) => Ok(response.file_id),
            Err(error) => Err(error.status().unwrap_or_else(|| panic!("{name}: {error}"))),
        }
    }

    fn create(&mut self, name: &str) -> FileId {
        let access = AccessMask::READ_DATA.with(AccessMask::WRITE_DATA).with(AccessMask::DELETE);
        self.try_open(name, access, CreateDisposition::OPEN_IF).unwrap()
    }

    fn close(&mut self, file: FileId) {
        self.connection.close(self.tree, file).unwrap();
    }

    fn write_file(&mut self, name: &str, data: &[u8]) {
        let file = self.create(name);
        let mut offset = 0;
        for part in data.chunks(65_536 * 4) {
            self.connection.write(self.tree, file, offset, part).unwrap();
            offset += part.len() as u64;
        }
        self.connection.flush_file(self.tree, file).unwrap();
        self.close(file);
    }

    fn read_file(&mut self, name: &str, length: usize) -> Vec<u8> {
        let file = self.try_open(name, AccessMask::READ_DATA, CreateDisposition::OPEN).unwrap();
        let mut data = Vec::new();
        while data.len() < length {
            let part = (length - data.len()).min(65_536 * 4) as u32;
            let read = self.connection.read(self.tree, file, data.len() as u64, part).unwrap();
            assert!(!read.is_empty(), "the file ends after {} bytes", data.len());
            data.extend_from_slice(&read);
        }
        self.close(file);
        data
    }

    fn rename_over(&mut self, from: &str, to: &str) {
        let file = self.try_open(from, AccessMask::DELETE, CreateDisposition::OPEN).unwrap();
        let rename = RenameInformation {
            flags: RenameFlags::REPLACE_IF_EXISTS,
            root_directory: 0,
            name: Name::from(to),
        };
        self.connection.set_info(self.tree, file, &SetFileInformation::Rename(rename)).unwrap();
        self.close(file);
    }

    fn names(&mut self) -> Vec<String> {
        let entries = self.connection.list(self.tree, "", "*").unwrap();
        let mut names: Vec<String> = entries
            .iter()
            .map(|entry| entry.name.to_string())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort_unstable();
        names
    }
}

/// Bytes that show where they belong.
fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8).wrapping_add(seed))
        .collect()
}

/// Whatever a client wrote, under any dialect and protection, a client on another connection reads.
fn every_protection(start: Start, driver: Arc<dyn Driver>) {
    let server = serve(start, driver);
    let address = server.addresses()[0];
    let kinds = [
        (Dialect::SMB_2_0_2, Protection::Signed),
        (Dialect::SMB_2_1, Protection::Signed),
        (Dialect::SMB_3_0_2, Protection::Signed),
        (Dialect::SMB_3_1_1, Protection::Signed),
        (Dialect::SMB_3_1_1, Protection::Encrypted),
    ];
    let mut clients: Vec<Client> =
        kinds.iter().map(|(dialect, protection)| Client::connect(address, *dialect, *protection)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        // 2.0.2 moves 64 KiB at most, so its file is small.
        let length = if number == 0 { 50_000 } else { 1_000_000 };
        client.write_file(&format!("file{number}"), &pattern(number as u8, length));
    }
    for (reader, client) in clients.iter_mut().enumerate().skip(1) {
        for number in 0..kinds.len() {
            let length = if number == 0 { 50_000 } else { 1_000_000 };
            let data = client.read_file(&format!("file{number}"), length);
            assert!(data == pattern(number as u8, length), "{reader} reads what {number} wrote");
        }
        assert_eq!(client.names(), ["file0", "file1", "file2", "file3", "file4"]);
    }
    drop(clients);
    assert_eq!(server.shutdown(PATIENCE), Default::default());
}

pub(crate) fn memory_serves_every_protection(start: Start) {
    every_protection(start, memory());
}

pub(crate) fn posix_serves_every_protection(start: Start) {
    let directory = tempfile::tempdir().unwrap();
    every_protection(start, posix(&directory));
}

/// Nothing is taken from the page cache, or given to it, where it was asked for. Under glommio the cores' rings do it.
pub(crate) fn files_that_always_wait_serve_every_protection(start: Start) {
    let directory = tempfile::tempdir().unwrap();
    let options = PosixOptions { inline_read_max: 0, inline_write_max: 0, ..PosixOptions::default() };
    let driver = || Arc::new(Posix::new(directory.path(), options.clone(), waiting()).unwrap());
    every_protection(start, driver());
    vanishing(start, driver());
}

pub(crate) fn late_answers_serve_every_protection(start: Start) {
    let late = Late::over(memory(), Duration::from_millis(1));
    let answered = Arc::clone(&late.answered);
    every_protection(start, Arc::new(late));
    assert!(answered.load(Ordering::Relaxed) > 100);
}

/// Clients on all cores create, rename over each other's files and delete; in the end all see the same.
fn agreement(start: Start, driver: Arc<dyn Driver>) {
    const ROUNDS: usize = 20;
    let server = serve(start, driver);
    let address = server.addresses()[0];
    let workers: Vec<_> = (0..2 * CORES)
        .map(|worker| {
            std::thread::spawn(move || {
                let mut client = Client::signed(address);
                for round in 0..ROUNDS {
                    let own = format!("own{worker}-{round}");
                    client.write_file(&own, own.as_bytes());
                    // Somebody may have the common name open without sharing its deletion: then it is busy, and that is all.
                    client.rename_over(&own, &format!("last-of-{worker}"));
                }
                let common = client.create("common");
                client.connection.write(client.tree, common, 8 * worker as u64, b"was here").unwrap();
                client.close(common);
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    let mut expected: Vec<String> = (0..2 * CORES).map(|worker| format!("last-of-{worker}")).collect();
    expected.insert(0, "common".into());
    for _ in 0..CORES {
        let mut client = Client::signed(address);
        assert_eq!(client.names(), expected);
        assert_eq!(client.read_file("common", 16 * CORES), b"was here".repeat(2 * CORES));
        for worker in 0..2 * CORES {
            let text = format!("own{worker}-{}", ROUNDS - 1);
            assert_eq!(client.read_file(&format!("last-of-{worker}"), text.len()), text.as_bytes());
        }
    }
    assert_eq!(server.shutdown(PATIENCE), Default::default());
}

/// A request that was sent right behind a change finds the change done, whichever cores it took.
pub(crate) fn what_follows_a_change_builds_on_it(start: Start) {
    let server = serve(start, memory());
    let mut client = Client::signed(server.addresses()[0]);
    for round in 0..50 {
        let (before, after) = (format!("before{round}"), format!("after{round}"));
        let file = client.create(&before);
        let rename = RenameInformation {
            flags: RenameFlags::EMPTY,
            root_directory: 0,
            name: Name::from(after.as_str()),
        };
        let reopen = open(&after, AccessMask::DELETE, CreateDisposition::OPEN, CreateOptions::default());
        let (tree, connection) = (client.tree, &mut client.connection);
        let information = SetFileInformation::Rename(rename);
        let mut buffer = Vec::new();
        information.emit(&mut buffer);
        let rename = Request::SetInfo(set_info::Request {
            info_type: InfoType::FILE,
            file_info_class: information.class().0,
            additional_information: 0,
            file_id: file,
            buffer: buffer.into(),
        });
        let renamed = connection.submit(tree, &rename).unwrap();
        let reopened = connection.submit(tree, &Request::Create(reopen)).unwrap();
        connection.flush().unwrap();
        connection.wait(renamed).unwrap().success().unwrap();
        let Response::Create(found) = connection.wait(reopened).unwrap().success().unwrap() else { panic!() };
        client.close(found.file_id);
        client.close(file);
    }
    drop(client);
    assert_eq!(server.shutdown(PATIENCE), Default::default());
}

pub(crate) fn cores_agree_about_names_on_memory(start: Start) {
    agreement(start, memory());
}

pub(crate) fn cores_agree_about_names_on_posix(start: Start) {
    let directory = tempfile::tempdir().unwrap();
    agreement(start, posix(&directory));
}

/// Clients that go away with opens, and with requests under way, leave nothing behind, and their files can be opened.
fn vanishing(start: Start, driver: Arc<dyn Driver>) {
    let server = serve(start, driver);
    let address = server.addresses()[0];
    for round in 0..10 {
        let mut client = Client::signed(address);
        let file = client.create(&format!("left{round}"));
        let data = pattern(round, 200_000);
        let head = WriteHead { offset: 0, file_id: file, flags: WriteFlags::default() };
        client.connection.submit_write(client.tree, &head, &data).unwrap();
        client.connection.flush().unwrap();
    }
    wait_until("the end of every connection", || server.metrics().connections_open == 0);
    let mut client = Client::signed(address);
    for round in 0..10 {
        let file = client.try_open(&format!("left{round}"), AccessMask::DELETE, CreateDisposition::OPEN);
        client.close(file.unwrap());
    }
    drop(client);
    assert_eq!(server.shutdown(PATIENCE), Default::default());
}

pub(crate) fn clients_that_vanish_leave_nothing(start: Start) {
    vanishing(start, memory());
}

pub(crate) fn clients_that_vanish_from_a_slow_volume_leave_nothing(start: Start) {
    vanishing(start, Arc::new(Late::over(memory(), Duration::from_millis(5))));
}

/// Connections of every core see a change of the shares at once.
pub(crate) fn an_order_has_reached_every_shard_when_it_returns(start: Start) {
    let driver = memory();
    let caps = driver.caps();
    let server = serve(start, driver);
    let address = server.addresses()[0];
    let mut clients: Vec<Client> = (0..2 * CORES).map(|_| Client::signed(address)).collect();
    server.reload(&Admin::Shares(Vec::new()));
    for client in &mut clients {
        let refused = client.connection.connect_tree(client.session, SHARE).expect_err("the share is gone");
        assert_eq!(refused.status(), Some(NtStatus::BAD_NETWORK_NAME));
    }
    server.reload(&Admin::Shares(vec![share(caps)]));
    for (number, client) in clients.iter_mut().enumerate() {
        client.tree = client.connection.connect_tree(client.session, SHARE).unwrap();
        let file = client.create(&format!("new{number}"));
        client.close(file);
    }
    drop(clients);
    assert_eq!(server.shutdown(PATIENCE), Default::default());
}

/// Sessions with opens and with a request that waits don't hold up the end, and nothing of theirs is lost or leaked.
pub(crate) fn stopping_cuts_off_open_files(start: Start) {
    let server = serve(start, Arc::new(Late::over(memory(), Duration::from_millis(20))));
    let address = server.addresses()[0];
    let mut clients: Vec<Client> = (0..2 * CORES).map(|_| Client::signed(address)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let file = client.create(&format!("open{number}"));
        client.connection.submit(client.tree, &verification::client::read_request(file, 0, 100)).unwrap();
        client.connection.flush().unwrap();
    }
    let left = server.shutdown(PATIENCE);
    assert_eq!((left.storage_requests, left.buffers), (0, 0), "{left:?}");
}
