//! The ring without an executor, and a volume on it.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use storage::conformance;
use storage::driver::Offload;
use storage::posix::{Posix, PosixOptions};

use super::*;

fn open(path: &Path) -> File {
    Arc::new(OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap())
}

/// What an operation comes to, on a ring that is waited for.
fn outcome<R: Send + 'static>(ring: &Ring, make: impl FnOnce(Done<R>) -> Operation) -> io::Result<R> {
    let (sender, receiver) = channel();
    ring.push(make(Box::new(move |result| sender.send(result).unwrap())));
    ring.drain();
    receiver.try_recv().unwrap()
}

fn read(ring: &Ring, file: &File, offset: u64, length: usize) -> io::Result<Payload> {
    let read = Read { file: Arc::clone(file), offset, length };
    outcome(ring, |done| Operation::read(read, done))
}

fn write(ring: &Ring, file: &File, offset: Option<u64>, bytes: &[u8], through: bool) -> io::Result<usize> {
    let bytes = Bytes::copy_from_slice(bytes);
    let write = Write { file: Arc::clone(file), offset, bytes, write_through: through };
    outcome(ring, |done| Operation::write(write, done))
}

fn errno<R>(result: io::Result<R>) -> Option<Errno> {
    result.err().as_ref().and_then(Errno::from_io_error)
}

#[test]
fn what_is_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    let (ring, file) = (Ring::new().unwrap(), open(&path));
    let data: Vec<u8> = (0..3_000_000_u32).map(|at| at as u8 ^ (at >> 9) as u8).collect();
    assert_eq!(write(&ring, &file, Some(0), &data, false).unwrap(), data.len());
    outcome(&ring, |done| Operation::sync_data(Arc::clone(&file), done)).unwrap();
    forget_cached(&path);
    assert!(read(&ring, &file, 0, data.len()).unwrap().data() == data);
    assert!(read(&ring, &file, 4_097, 100_000).unwrap().data() == &data[4_097..104_097]);
    assert_eq!(write(&ring, &file, Some(10), b"through", true).unwrap(), 7);
    assert_eq!(read(&ring, &file, 10, 7).unwrap().data(), b"through");
    assert_eq!(write(&ring, &file, None, b"appended", true).unwrap(), 8);
    assert_eq!(write(&ring, &file, None, b"again", false).unwrap(), 5);
    assert_eq!(fs::read(&path).unwrap()[data.len()..], *b"appendedagain");
    assert_eq!(write(&ring, &file, Some(0), b"", false).unwrap(), 0);
}

/// Has the system forget what it has of a file, as far as the file system lets it.
fn forget_cached(path: &Path) {
    let file = fs::File::open(path).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

#[test]
fn a_read_ends_where_the_file_ends() {
    let directory = tempfile::tempdir().unwrap();
    let (ring, file) = (Ring::new().unwrap(), open(&directory.path().join("f")));
    assert!(read(&ring, &file, 0, 100).unwrap().is_empty());
    write(&ring, &file, Some(0), b"ten bytes.", false).unwrap();
    assert_eq!(read(&ring, &file, 0, 4096).unwrap().data(), b"ten bytes.");
    assert_eq!(read(&ring, &file, 4, 100_000).unwrap().data(), b"bytes.");
    assert!(read(&ring, &file, 10, 4096).unwrap().is_empty());
    assert!(read(&ring, &file, 1 << 40, 4096).unwrap().is_empty());
    assert!(read(&ring, &file, 0, 0).unwrap().is_empty());
    // A large buffer that was used before shows nothing of it.
    drop(Payload::copy_from(&vec![0xAA; 300_000]));
    assert_eq!(read(&ring, &file, 0, 300_000).unwrap().data(), b"ten bytes.");
}

#[test]
fn what_comes_in_pieces_is_put_together() {
    // A pipe gives what it has, however much was asked for.
    let (reader, mut writer) = io::pipe().unwrap();
    let ring = Ring::new().unwrap();
    let pieces = std::thread::spawn(move || {
        for piece in ["one ", "two ", "three"] {
            writer.write_all(piece.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    // Pipes have no offsets; the kernel does not look at them.
    assert_eq!(read(&ring, &(Arc::new(reader) as File), 0, 13).unwrap().data(), b"one two three");
    pieces.join().unwrap();
    // What a pipe has room for is written at once, the rest when there is room again.
    let (mut reader, writer) = io::pipe().unwrap();
    let data = vec![7; 300_000];
    let expected = data.clone();
    let all = std::thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(all == expected);
    });
    assert_eq!(write(&ring, &(Arc::new(writer) as File), Some(0), &data, false).unwrap(), data.len());
    all.join().unwrap();
}

#[test]
fn errors_are_the_systems() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    fs::write(&path, "data").unwrap();
    let ring = Ring::new().unwrap();
    let only_read: File = Arc::new(fs::File::open(&path).unwrap());
    let only_write: File = Arc::new(OpenOptions::new().write(true).open(&path).unwrap());
    let full: File = Arc::new(OpenOptions::new().write(true).open("/dev/full").unwrap());
    assert_eq!(errno(write(&ring, &only_read, Some(0), b"x", false)), Some(Errno::BADF));
    assert_eq!(errno(read(&ring, &only_write, 0, 4)), Some(Errno::BADF));
    assert_eq!(errno(write(&ring, &full, Some(0), b"x", false)), Some(Errno::NOSPC));
    let folder: File = Arc::new(fs::File::open(directory.path()).unwrap());
    assert_eq!(errno(read(&ring, &folder, 0, 4)), Some(Errno::ISDIR));
    assert_eq!(read(&ring, &only_read, 0, 4).unwrap().data(), b"data", "the ring goes on");
}

#[test]
fn what_counts_after_a_failure_is_what_went_before() {
    let file: File = Arc::new(fs::File::open("/dev/null").unwrap());
    let write =
        Write { file, offset: Some(0), bytes: Bytes::from_static(b"0123456789"), write_through: false };
    let (sender, receiver) = channel();
    let operation = Operation::write(write, Box::new(move |result| sender.send(result).unwrap()));
    let Err(rest) = operation.advance(4) else { panic!("six bytes are left") };
    let Err(rest) = rest.advance(-Errno::INTR.raw_os_error()) else { panic!("and are tried again") };
    rest.advance(-Errno::NOSPC.raw_os_error()).ok().unwrap().tell();
    assert_eq!(receiver.recv().unwrap().unwrap(), 4);
}

#[test]
fn more_than_the_kernel_gets_at_a_time_waits_its_turn() {
    const COUNT: usize = 3 * DEPTH as usize + 5;
    let directory = tempfile::tempdir().unwrap();
    let (ring, file) = (Ring::new().unwrap(), open(&directory.path().join("f")));
    let answered = Arc::new(AtomicUsize::new(0));
    for number in 0..COUNT {
        let bytes = Bytes::from(vec![number as u8; 100]);
        let write =
            Write { file: Arc::clone(&file), offset: Some(number as u64 * 100), bytes, write_through: false };
        let answered = Arc::clone(&answered);
        ring.push(Operation::write(
            write,
            Box::new(move |result| {
                assert_eq!(result.unwrap(), 100);
                answered.fetch_add(1, Ordering::Relaxed);
            }),
        ));
    }
    assert_eq!(ring.outstanding(), COUNT);
    assert_eq!(ring.inner.borrow_mut().uring.submission().len(), DEPTH as usize, "for one system call");
    ring.drain();
    assert_eq!((answered.load(Ordering::Relaxed), ring.outstanding()), (COUNT, 0));
    assert_eq!(ring.inner.borrow().slots.len(), DEPTH as usize);
    let all = read(&ring, &file, 0, COUNT * 100).unwrap();
    assert!((0..COUNT).all(|number| all.data()[number * 100..][..100] == [number as u8; 100]));
}

#[test]
fn a_ring_that_goes_waits_for_what_the_kernel_has() {
    let (reader, mut writer) = io::pipe().unwrap();
    let ring = Ring::new().unwrap();
    let (sender, receiver) = channel();
    let read = Read { file: Arc::new(reader), offset: 0, length: 100_000 };
    ring.push(Operation::read(read, Box::new(move |result| sender.send(result).unwrap())));
    ring.submit().unwrap();
    ring.reap();
    assert!(receiver.try_recv().is_err() && ring.outstanding() == 1);
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        writer.write_all(&[5; 100_000]).unwrap();
    });
    drop(ring);
    assert!(receiver.try_recv().unwrap().unwrap().data() == [5; 100_000]);
    late.join().unwrap();
}

#[test]
fn a_panic_of_what_follows_costs_one_answer() {
    let directory = tempfile::tempdir().unwrap();
    let (ring, file) = (Ring::new().unwrap(), open(&directory.path().join("f")));
    ring.push(Operation::sync_data(Arc::clone(&file), Box::new(|_| panic!("expected in this test"))));
    assert_eq!(write(&ring, &file, Some(0), b"next", false).unwrap(), 4);
}

#[test]
fn what_is_given_up_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let (ring, file) = (Ring::new().unwrap(), open(&directory.path().join("f")));
    let (sender, receiver) = channel();
    for _ in 0..DEPTH + 3 {
        let sender = sender.clone();
        let done = Box::new(move |result: io::Result<()>| sender.send(errno(result)).unwrap());
        ring.push(Operation::sync_data(Arc::clone(&file), done));
    }
    ring.give_up(&io::Error::other("expected in this test"));
    // What comes later is answered too, and outcomes of before are not taken for its own.
    ring.submit().unwrap();
    let last = sender.clone();
    ring.push(Operation::sync_data(file, Box::new(move |result| last.send(errno(result)).unwrap())));
    std::thread::sleep(Duration::from_millis(20));
    ring.reap();
    drop(sender);
    assert_eq!(receiver.iter().filter(|told| *told == Some(Errno::CANCELED)).count(), DEPTH as usize + 4);
    assert_eq!(ring.outstanding(), 0);
}

thread_local! {
    static RING: Ring = Ring::new().unwrap();
}

/// Has a ring of the calling thread's do it, and waits.
struct Waiting {
    operations: AtomicUsize,
    closures: AtomicUsize,
}

impl Waiting {
    fn wait_for(&self, operation: Operation) {
        self.operations.fetch_add(1, Ordering::Relaxed);
        RING.with(|ring| {
            ring.push(operation);
            ring.drain();
        });
    }
}

impl Offload for Waiting {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        self.closures.fetch_add(1, Ordering::Relaxed);
        std::thread::spawn(work);
    }

    fn read(&self, read: Read, done: Done<Payload>) {
        self.wait_for(Operation::read(read, done));
    }

    fn write(&self, write: Write, done: Done<usize>) {
        self.wait_for(Operation::write(write, done));
    }

    fn sync_data(&self, file: File, done: Done<()>) {
        self.wait_for(Operation::sync_data(file, done));
    }
}

#[test]
fn a_volume_whose_data_always_waits_passes_the_suite() {
    let roots = Mutex::new(Vec::new());
    let offload = Arc::new(Waiting { operations: AtomicUsize::new(0), closures: AtomicUsize::new(0) });
    conformance::run(|| {
        let root = tempfile::tempdir().unwrap();
        let options = PosixOptions { inline_read_max: 0, inline_write_max: 0, ..PosixOptions::default() };
        let driver = Posix::new(root.path(), options, Arc::clone(&offload) as _).unwrap();
        roots.lock().unwrap().push(root);
        Arc::new(driver)
    });
    assert!(offload.operations.load(Ordering::Relaxed) > 50, "data went to the ring");
    assert!(offload.closures.load(Ordering::Relaxed) > 0, "and what is more than data did not");
}
