//! The ring on an executor, and without one.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use bytes::Bytes;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::*;

/// Does work at once, and counts it.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Offload for Counted {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        work();
    }
}

fn executor() -> LocalExecutor {
    LocalExecutorBuilder::new(Placement::Unbound).io_memory(64 << 10).make().unwrap()
}

fn offload() -> (RingOffload, Arc<Counted>) {
    let counted = Arc::new(Counted::default());
    (RingOffload::new(Arc::clone(&counted) as _), counted)
}

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    Arc::new(file)
}

fn told<R: Send + 'static>(sender: &Sender<io::Result<R>>) -> Done<R> {
    let sender = sender.clone();
    Box::new(move |result| sender.send(result).unwrap())
}

/// On a thread of its own: an executor is one thread's for as long as that lives.
fn on_a_thread(test: impl FnOnce() + Send + 'static) {
    std::thread::spawn(test).join().unwrap();
}

#[test]
fn a_core_has_its_ring_do_it_and_sleeps_meanwhile() {
    on_a_thread(|| {
        let executor = executor();
        let files = attach();
        executor.run(async {
            files.serve().unwrap();
            let (offload, counted) = offload();
            let (sender, receiver) = channel();
            let data = b"0123456789".repeat(100);
            let file = file(&data);
            for number in 0..600_u64 {
                let read = Read { file: Arc::clone(&file), offset: number, length: 10 };
                offload.read(read, told(&sender));
            }
            let attached = files.0.as_ref().unwrap();
            assert_eq!(attached.ring.outstanding(), 600);
            assert!(attached.ring.has_unsubmitted(), "all of a turn goes in one submission, after it");
            let patience = Instant::now();
            while attached.ring.outstanding() > 0 {
                assert!(patience.elapsed() < Duration::from_secs(10));
                Timer::new(Duration::from_millis(1)).await;
            }
            drop(sender);
            let mut count = 0;
            for result in receiver.iter() {
                let payload = result.unwrap();
                assert_eq!(payload.len(), 10);
                count += 1;
            }
            assert_eq!(count, 600);
            let (sender, receiver) = channel();
            let bytes = Bytes::from_static(b"written");
            let write = Write { file: Arc::clone(&file), offset: None, bytes, write_through: true };
            offload.write(write, told(&sender));
            while attached.ring.outstanding() > 0 {
                Timer::new(Duration::from_millis(1)).await;
            }
            assert_eq!(receiver.try_recv().unwrap().unwrap(), 7);
            let (sender, receiver) = channel();
            offload.sync_data(file, told(&sender));
            while attached.ring.outstanding() > 0 {
                Timer::new(Duration::from_millis(1)).await;
            }
            receiver.try_recv().unwrap().unwrap();
            assert_eq!(counted.0.load(Ordering::Relaxed), 0);
            offload.run(Box::new(|| ()));
            assert_eq!(counted.0.load(Ordering::Relaxed), 1);
            files.close();
        });
    });
}

#[test]
fn an_executor_that_ends_waits_for_what_was_begun_and_then_leaves_it_to_threads() {
    for panics in [false, true] {
        on_a_thread(move || {
            let (offload, counted) = offload();
            let (sender, receiver) = channel();
            let (reader, mut writer) = io::pipe().unwrap();
            let late = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                writer.write_all(&[5; 60_000]).unwrap();
            });
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let executor = executor();
                let files = attach();
                executor.run(async {
                    files.serve().unwrap();
                    let read = Read { file: Arc::new(reader), offset: 0, length: 60_000 };
                    offload.read(read, told(&sender));
                    Timer::new(Duration::from_millis(1)).await;
                    assert!(!panics, "expected in this test");
                });
            }));
            assert_eq!(ended.is_err(), panics);
            assert!(receiver.try_recv().unwrap().unwrap().data() == [5; 60_000]);
            late.join().unwrap();
            offload.read(Read { file: file(b"later"), offset: 0, length: 5 }, told(&sender));
            assert_eq!(receiver.try_recv().unwrap().unwrap().data(), b"later");
            assert_eq!(counted.0.load(Ordering::Relaxed), 1);
        });
    }
}

#[test]
fn other_threads_leave_it_to_threads() {
    let (offload, counted) = offload();
    let file = file(b"data");
    let (sender, receiver) = channel();
    offload.read(Read { file: Arc::clone(&file), offset: 1, length: 10 }, told(&sender));
    assert_eq!(receiver.try_recv().unwrap().unwrap().data(), b"ata");
    let (sender, receiver) = channel();
    let bytes = Bytes::from_static(b"x");
    offload.write(
        Write { file: Arc::clone(&file), offset: Some(0), bytes, write_through: false },
        told(&sender),
    );
    assert_eq!(receiver.try_recv().unwrap().unwrap(), 1);
    let (sender, receiver) = channel();
    offload.sync_data(file, told(&sender));
    receiver.try_recv().unwrap().unwrap();
    assert_eq!(counted.0.load(Ordering::Relaxed), 3);
}
