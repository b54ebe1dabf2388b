//! The driver in memory: the shared suite, and its limit.

use std::sync::{Arc, Mutex};

use smb_proto::{Name, NtStatus};
use storage::conformance::{self, Client};
use storage::memory::Memory;

#[test]
fn passes_the_suite() {
    let volumes = Mutex::new(Vec::new());
    conformance::run(|| {
        let driver = Arc::new(Memory::new(64 << 20, Name::from("memory")));
        volumes.lock().unwrap().push(Arc::clone(&driver));
        driver
    });
    assert!(volumes.lock().unwrap().iter().all(|volume| volume.handles_open() == 0));
}

#[test]
fn a_full_volume_says_so() {
    let client = Client::new(Arc::new(Memory::new(1 << 20, Name::default())));
    let file = client.file("f", &[1; 1 << 19]);
    assert_eq!(client.write(file.handle, 0, &[2; 1 << 21]), Err(NtStatus::DISK_FULL));
    assert_eq!(client.write(file.handle, 0, &[2; 1 << 20]), Ok(1 << 20));
    assert_eq!(client.write(file.handle, 1 << 20, b"x"), Err(NtStatus::DISK_FULL));
    client.remove("f");
    assert_eq!(client.write(file.handle, 1 << 20, b"x"), Err(NtStatus::DISK_FULL), "a handle still holds it");
    client.close(file.handle);
    client.put("g", &[3; 1 << 20]);
}
