//! Large directories: names without regard to case, while clients and local programs make and remove files.
//!
//! What is asserted is work, not time: how often a directory was read in whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use smb_proto::NtStatus;
use smb_state::storage::Kind;
use storage::conformance::Client;
use storage::offload::Inline;
use storage::posix::{Posix, PosixOptions};
use tempfile::TempDir;

/// Enough for a directory that is followed.
const FILES: usize = 6000;

/// A volume on tmpfs, where every kernel tells of changes, with a directory `d` of [`FILES`] files.
fn volume() -> (TempDir, PathBuf, Arc<Posix>, Client) {
    let root = tempfile::tempdir_in("/dev/shm").expect("this test needs tmpfs at /dev/shm");
    let directory = root.path().join("d");
    fs::create_dir(&directory).unwrap();
    for number in 0..FILES {
        touch(&directory, &format!("File{number}"));
    }
    let driver = Arc::new(Posix::new(root.path(), PosixOptions::default(), Arc::new(Inline)).unwrap());
    let client = Client::new(Arc::clone(&driver) as _);
    (root, directory, driver, client)
}

fn touch(directory: &Path, name: &str) {
    fs::write(directory.join(name), "").unwrap();
}

#[test]
fn a_large_directory_is_read_once_whatever_happens_in_it() {
    let (_root, directory, driver, client) = volume();
    assert!(client.exists("d\\FILE7") && !client.exists("d\\none"));
    assert_eq!(driver.index_scans(), 1);
    for number in 0..300 {
        // A local program's names are found at once, in any case, and are gone at once.
        touch(&directory, &format!("Theirs{number}"));
        assert!(client.exists(&format!("d\\tHEIRS{number}")));
        assert_eq!(
            client.create(&format!("d\\THEIRS{number}"), Kind::File),
            Err(NtStatus::OBJECT_NAME_COLLISION)
        );
        fs::rename(directory.join(format!("Theirs{number}")), directory.join(format!("Moved{number}")))
            .unwrap();
        assert!(!client.exists(&format!("d\\tHEIRS{number}")) && client.exists(&format!("d\\mOVED{number}")));
        fs::remove_file(directory.join(format!("Moved{number}"))).unwrap();
        assert!(!client.exists(&format!("d\\mOVED{number}")));
        // Our own, too.
        client.put(&format!("d\\Ours{number}"), b"");
        assert!(client.exists(&format!("d\\OURS{number}")));
        let ours = client.find(&format!("d\\ours{number}"));
        assert_eq!(client.rename(ours.handle, &format!("d\\Renamed{number}"), false), Ok(()));
        client.close(ours.handle);
        assert!(!client.exists(&format!("d\\OURS{number}")) && client.exists(&format!("d\\RENAMED{number}")));
        client.remove(&format!("d\\renamed{number}"));
        assert!(!client.exists(&format!("d\\RENAMED{number}")));
        // One name that goes and comes back, by both.
        client.remove(&format!("d\\fILE{number}"));
        touch(&directory, &format!("fiLE{number}"));
        assert!(client.exists(&format!("d\\FILe{number}")));
    }
    assert_eq!(driver.index_scans(), 1);
}

#[test]
fn more_changes_than_the_kernel_keeps_are_read_again() {
    let (_root, directory, driver, client) = volume();
    assert!(client.exists("d\\FILE7"));
    let queue_max = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let queue_max: usize = queue_max.trim().parse().unwrap();
    fs::remove_file(directory.join("File7")).unwrap();
    for number in 0..=queue_max {
        touch(&directory, &format!("More{number}"));
    }
    touch(&directory, "FiLE7");
    assert!(client.exists("d\\fILE7"), "what was forgotten is not taken for the last word");
    assert!(client.exists(&format!("d\\mORE{queue_max}")));
    assert_eq!(driver.index_scans(), 2);
    touch(&directory, "Last");
    assert!(client.exists("d\\lAST"));
    assert_eq!(driver.index_scans(), 2);
}

/// A directory that is removed takes what is known of it along, even if the next one has its inode.
#[test]
fn a_directory_made_anew_is_another() {
    let (_root, directory, _, client) = volume();
    for _ in 0..3 {
        assert!(client.exists("d\\FILE7") && client.exists("d\\fILE5999"));
        fs::remove_dir_all(&directory).unwrap();
        assert!(!client.exists("d\\FILE7"));
        fs::create_dir(&directory).unwrap();
        for number in 0..FILES {
            touch(&directory, &format!("File{number}"));
        }
    }
}

/// More directories than can be followed: all of them are right all the same.
#[test]
fn any_number_of_large_directories_is_served() {
    let (root, _, _, client) = volume();
    for number in 0..80 {
        let directory = root.path().join(format!("e{number}"));
        fs::create_dir(&directory).unwrap();
        for file in 0..4000 {
            touch(&directory, &format!("File{file}"));
        }
        assert!(client.exists(&format!("e{number}\\FILE0")));
    }
    std::thread::sleep(std::time::Duration::from_millis(40));
    for number in (0..80).step_by(7) {
        touch(&root.path().join(format!("e{number}")), "New");
        assert!(client.exists(&format!("e{number}\\nEW")) && client.exists(&format!("e{number}\\FILE3999")));
        assert!(!client.exists(&format!("e{number}\\nEWER")));
    }
}
