//! Listings of the posix driver: what is kept between them, and that nothing stale is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{XattrFlags, setxattr};
use smb_proto::fscc::class::FileInfoClass;
use smb_proto::fscc::directory::DirectoryEntry;
use smb_proto::{FileAttributes, FileTime, Name, NtStatus};
use smb_state::ids::Handle;
use smb_state::storage::{Listing, SetAttributes, StorageOp};
use storage::conformance::Client;
use storage::offload::Inline;
use storage::posix::{Posix, PosixOptions};

/// Longer than any tick of a file system's clock: what is older is kept.
const SETTLED: Duration = Duration::from_millis(40);

fn volume(root: &Path, options: PosixOptions) -> (Arc<Posix>, Client) {
    let driver = Arc::new(Posix::new(root, options, Arc::new(Inline)).unwrap());
    (Arc::clone(&driver), Client::new(driver))
}

fn ask(restart: bool, length_max: u32) -> Listing {
    Listing {
        class: FileInfoClass::ID_BOTH_DIRECTORY,
        pattern: Some(Name::from("*")),
        restart,
        single: false,
        length_max,
        visible_to: None,
    }
}

/// A whole listing but for the dots, sorted by name.
fn list(client: &Client, handle: Handle, length_max: u32) -> Vec<DirectoryEntry> {
    let mut all = Vec::new();
    let mut restart = true;
    loop {
        match client.list_once(handle, ask(restart, length_max)) {
            Ok(entries) => all.extend(entries),
            Err(NtStatus::NO_MORE_FILES) => break,
            Err(status) => panic!("{status}"),
        }
        restart = false;
    }
    all.retain(|entry| !matches!(entry.name.to_string().as_str(), "." | ".."));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn entry(client: &Client, handle: Handle, name: &str) -> DirectoryEntry {
    list(client, handle, 65536).into_iter().find(|entry| entry.name == Name::from(name)).unwrap()
}

fn make_files(root: &Path, count: usize) {
    for number in 0..count {
        fs::write(root.join(format!("file{number:04}")), "data").unwrap();
    }
}

#[test]
fn a_listing_again_asks_for_no_record_and_reads_no_directory() {
    const FILES: usize = 500;
    let root = tempfile::tempdir().unwrap();
    make_files(root.path(), FILES);
    std::thread::sleep(SETTLED);
    let (driver, client) = volume(root.path(), PosixOptions::default());
    let directory = client.find("");
    let first = list(&client, directory.handle, 4096);
    assert_eq!((first.len(), driver.directory_reads()), (FILES, 1));
    assert!(driver.record_reads() >= FILES as u64);
    let before = driver.record_reads();
    let again = list(&client, directory.handle, 65536);
    assert_eq!(first, again);
    assert_eq!((driver.record_reads() - before, driver.directory_reads()), (0, 1));
    // Another handle has what this one has read.
    let other = client.find("");
    assert_eq!(list(&client, other.handle, 10_000), first);
    assert_eq!((driver.record_reads() - before, driver.directory_reads()), (0, 1));
    // One file changed, so one record is asked for, and asked for again as long as it may change under the same time.
    fs::set_permissions(root.path().join("file0007"), fs::Permissions::from_mode(0o444)).unwrap();
    let changed = list(&client, directory.handle, 65536);
    assert!(changed[7].attributes.contains(FileAttributes::READONLY));
    assert_eq!((driver.record_reads() - before, driver.directory_reads()), (1, 1));
    client.close(other.handle);
    client.close(directory.handle);
}

/// What a local program does to a file that was listed is in the very next listing, however soon it comes.
#[test]
fn local_changes_are_in_the_next_listing() {
    for wait in [Duration::ZERO, SETTLED] {
        let root = tempfile::tempdir().unwrap();
        make_files(root.path(), 20);
        let (_, client) = volume(root.path(), PosixOptions::default());
        let directory = client.find("");
        let path = root.path().join("file0003");
        let told = || {
            std::thread::sleep(wait);
            list(&client, directory.handle, 65536);
            entry(&client, directory.handle, "file0003")
        };
        let before = told();
        assert_eq!(before.attributes, FileAttributes::ARCHIVE);
        // As `setfattr` sets a record: HIDDEN, a creation time, a size of extended attributes.
        for round in 1..4_u8 {
            let mut record = [0_u8; 40];
            (record[0], record[1], record[4], record[8], record[32]) = (2, 3, 2, round, round);
            setxattr(&path, "user.leasehold.dos", &record, XattrFlags::empty()).unwrap();
            let after = entry(&client, directory.handle, "file0003");
            assert_eq!((after.attributes, after.ea_size), (FileAttributes::HIDDEN, u32::from(round)));
            assert_eq!(after.creation_time, FileTime(u64::from(round)));
            assert_eq!(told(), after);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        assert!(entry(&client, directory.handle, "file0003").attributes.contains(FileAttributes::READONLY));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
        assert_eq!(told().last_write_time, FileTime::from(time));
        fs::write(root.path().join("file0004"), "longer data").unwrap();
        assert_eq!(entry(&client, directory.handle, "file0004").end_of_file, 11);
        // Another file under the same name, by a local program and by renaming.
        fs::write(root.path().join("new"), "another").unwrap();
        assert_eq!(entry(&client, directory.handle, "new").end_of_file, 7);
        fs::rename(root.path().join("new"), &path).unwrap();
        let after = told();
        assert_eq!((after.attributes, after.end_of_file), (FileAttributes::ARCHIVE, 7));
        assert_ne!(after.file_id, before.file_id);
        fs::remove_file(&path).unwrap();
        assert_eq!(list(&client, directory.handle, 65536).len(), 19);
        fs::write(&path, "").unwrap();
        assert_eq!(list(&client, directory.handle, 65536).len(), 20);
        client.close(directory.handle);
    }
}

#[test]
fn what_clients_set_is_in_the_next_listing() {
    let root = tempfile::tempdir().unwrap();
    make_files(root.path(), 3);
    std::thread::sleep(SETTLED);
    let (_, client) = volume(root.path(), PosixOptions::default());
    let directory = client.find("");
    let file = client.find("file0001");
    for dos in [FileAttributes::HIDDEN, FileAttributes::SYSTEM, FileAttributes::ARCHIVE] {
        list(&client, directory.handle, 65536);
        let set = SetAttributes { dos: Some(dos), ..Default::default() };
        assert_eq!(client.done(StorageOp::SetAttributes { handle: file.handle, set }), Ok(()));
        assert_eq!(entry(&client, directory.handle, "file0001").attributes, dos);
        assert_eq!(client.attributes(file.handle).dos, dos);
        std::thread::sleep(SETTLED);
        assert_eq!(client.attributes(file.handle).dos, dos);
    }
    client.close(file.handle);
    client.close(directory.handle);
}

/// A directory that is too large to be kept does not drive the records of others out.
#[test]
fn a_large_directory_leaves_records_of_others_alone() {
    let root = tempfile::tempdir().unwrap();
    for (name, count) in [("small", 100), ("large", 3000)] {
        fs::create_dir(root.path().join(name)).unwrap();
        make_files(&root.path().join(name), count);
    }
    std::thread::sleep(SETTLED);
    let options =
        PosixOptions { record_memory_max: 200_000, listing_memory_max: 100_000, ..Default::default() };
    let (driver, client) = volume(root.path(), options);
    let (small, large) = (client.find("small"), client.find("large"));
    let listed = list(&client, small.handle, 65536);
    for _ in 0..2 {
        assert_eq!(list(&client, large.handle, 65536).len(), 3000);
    }
    let before = (driver.record_reads(), driver.directory_reads());
    assert_eq!(list(&client, small.handle, 65536), listed);
    assert_eq!((driver.record_reads(), driver.directory_reads()), before);
    client.close(small.handle);
    client.close(large.handle);
}

/// With little memory everything is read again, and nothing is left out or told twice.
#[test]
fn listings_need_no_memory() {
    let root = tempfile::tempdir().unwrap();
    make_files(root.path(), 1500);
    std::thread::sleep(SETTLED);
    for memory in [0, 40_000] {
        let options =
            PosixOptions { record_memory_max: memory, listing_memory_max: memory, ..Default::default() };
        let (_, client) = volume(root.path(), options);
        let handles: Vec<Handle> = (0..4).map(|_| client.find("").handle).collect();
        let mut seen: Vec<Vec<String>> = vec![Vec::new(); handles.len()];
        let mut ended = 0;
        // All of them at once, by a few entries each.
        while ended < handles.len() {
            for (handle, seen) in handles.iter().zip(&mut seen) {
                match client.list_once(*handle, ask(false, 600)) {
                    Ok(entries) => seen.extend(entries.iter().map(|entry| entry.name.to_string())),
                    Err(NtStatus::NO_MORE_FILES) => ended += 1,
                    Err(status) => panic!("{status}"),
                }
            }
        }
        for mut names in seen {
            names.sort();
            names.dedup();
            assert_eq!(names.len(), 1502);
        }
        handles.into_iter().for_each(|handle| client.close(handle));
    }
}
