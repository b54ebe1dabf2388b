//! What the ring is worth beside threads, from the core's view. Not a test: run it alone, on a quiet machine, and look.
//!
//!     cargo test --release -p runtime-glommio -- --ignored --nocapture measure
//!
//! The file is in `TMPDIR`, which has to be on a disk.

use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;
use std::time::Instant;

use std::fs::OpenOptions;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

use bytes::Bytes;
use glommio::{LocalExecutorBuilder, Placement};
use io_uring::{IoUring, opcode, types};
use runtime::BlockingPool;
use rustix::fs::OFlags;
use rustix::fs::{Advice, fadvise};
use rustix::time::{ClockId, clock_gettime};

use super::*;

const SIZE: u64 = 512 << 20;
const RUNS: usize = 5;

#[derive(Clone, Copy)]
enum Kind {
    Read,
    WriteThrough,
}

/// Kind, bytes, how many at a time, how many in all.
const ROWS: [(&str, Kind, usize, usize, usize); 4] = [
    ("4 KiB cold reads, 1 at a time", Kind::Read, 4 << 10, 1, 1_000),
    ("4 KiB cold reads, 16 at a time", Kind::Read, 4 << 10, 16, 8_000),
    ("1 MiB cold reads, 4 at a time", Kind::Read, 1 << 20, 4, 300),
    ("4 KiB write-through, 16 at a time", Kind::WriteThrough, 4 << 10, 16, 1_000),
];

/// How a core is told, as in `mesh`.
#[derive(Default)]
struct Inlet(Mutex<(usize, Option<Waker>)>);

impl Inlet {
    fn post(&self) {
        let mut inner = self.0.lock().unwrap();
        inner.0 += 1;
        if let Some(waker) = inner.1.take() {
            waker.wake();
        }
    }

    async fn take(&self) -> usize {
        poll_fn(|context| {
            let mut inner = self.0.lock().unwrap();
            if inner.0 > 0 {
                return Poll::Ready(std::mem::take(&mut inner.0));
            }
            inner.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// Microseconds of processor time and of time for each operation.
async fn run(
    offload: &dyn Offload,
    file: &File,
    (kind, length, depth, count): (Kind, usize, usize, usize),
) -> (f64, f64) {
    fadvise(&**file, 0, None, Advice::DontNeed).unwrap();
    let inlet = Arc::new(Inlet::default());
    let blocks = SIZE / length as u64;
    // Each block once, in an order that no reading ahead foresees.
    let place = |number: usize| (number as u64 * 40_503 + 7) % blocks * length as u64;
    let bytes = Bytes::from(vec![1; length]);
    let start = |number: usize| {
        let (inlet, offset, file) = (Arc::clone(&inlet), place(number), Arc::clone(file));
        match kind {
            Kind::Read => offload.read(
                Read { file, offset, length },
                Box::new(move |result| {
                    assert_eq!(result.unwrap().len(), length);
                    inlet.post();
                }),
            ),
            Kind::WriteThrough => offload.write(
                Write { file, offset: Some(offset), bytes: bytes.clone(), write_through: true },
                Box::new(move |result| {
                    assert_eq!(result.unwrap(), length);
                    inlet.post();
                }),
            ),
        }
    };
    let (before, begun) = (cpu(), Instant::now());
    (0..depth).for_each(start);
    let (mut started, mut done) = (depth, 0);
    while done < count {
        let more = inlet.take().await;
        done += more;
        let next = (started + more).min(count);
        (started..next).for_each(start);
        started = next;
    }
    let per = |total: f64| total / count as f64;
    (per(cpu() - before), per(begun.elapsed().as_micros() as f64) * depth as f64)
}

#[test]
#[ignore = "a measurement"]
fn measure() {
    let file = tempfile::tempfile().unwrap();
    for at in 0..SIZE >> 20 {
        file.write_all_at(&vec![at as u8; 1 << 20], at << 20).unwrap();
    }
    file.sync_all().unwrap();
    let file: File = Arc::new(file);
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(64 << 10).make().unwrap();
    let attached = attach();
    executor.run(async {
        attached.serve().unwrap();
        let threads: Arc<dyn Offload> = Arc::new(BlockingPool::new(64));
        let ring: Arc<dyn Offload> = Arc::new(RingOffload::new(Arc::clone(&threads)));
        for (name, kind, length, depth, count) in ROWS {
            let mut results = [Vec::new(), Vec::new()];
            for _ in 0..RUNS {
                for (offload, results) in [&threads, &ring].into_iter().zip(&mut results) {
                    results.push(run(&**offload, &file, (kind, length, depth, count)).await);
                }
            }
            for (who, mut results) in ["threads", "ring"].into_iter().zip(results) {
                results.sort_by(|one, other| one.0.total_cmp(&other.0));
                let (least, most) = (results[0].0, results[RUNS - 1].0);
                let cpu = results[RUNS / 2].0;
                results.sort_by(|one, other| one.1.total_cmp(&other.1));
                let latency = results[RUNS / 2].1;
                println!("{name}: {who}: {cpu:.1} us CPU ({least:.1}-{most:.1}), {latency:.0} us latency");
            }
        }
        attached.close();
    });
}

/// Ways of reading by a ring: through the page cache or past it, and with file and memory known to the ring beforehand.
const WAYS: [(&str, bool, bool); 4] = [
    ("buffered", false, false),
    ("buffered, registered", false, true),
    ("direct", true, false),
    ("direct, registered", true, true),
];

#[test]
#[ignore = "a measurement"]
fn measure_ways() {
    let named = tempfile::NamedTempFile::new().unwrap();
    for at in 0..SIZE >> 20 {
        named.as_file().write_all_at(&vec![at as u8; 1 << 20], at << 20).unwrap();
    }
    named.as_file().sync_all().unwrap();
    for (length, depth, count) in [(4 << 10, 16, 8_000), (1 << 20, 4, 300)] {
        let mut results: [Vec<(f64, f64)>; WAYS.len()] = Default::default();
        for _ in 0..RUNS {
            for ((_, direct, registered), results) in WAYS.into_iter().zip(&mut results) {
                fadvise(named.as_file(), 0, None, Advice::DontNeed).unwrap();
                let flags = if direct { OFlags::DIRECT.bits().cast_signed() } else { 0 };
                let file = OpenOptions::new().read(true).custom_flags(flags).open(named.path()).unwrap();
                results.push(read_by_ring(&file, registered, (length, depth, count)));
            }
        }
        for ((way, ..), mut results) in WAYS.into_iter().zip(results) {
            results.sort_by(|one, other| one.0.total_cmp(&other.0));
            let (cpu, time) = results[RUNS / 2];
            println!("{length} bytes, {depth} at a time: {way}: {cpu:.1} us CPU, {time:.0} us latency");
        }
    }
}

fn read_by_ring(
    file: &std::fs::File,
    registered: bool,
    (length, depth, count): (usize, usize, usize),
) -> (f64, f64) {
    let mut uring = IoUring::new(64).unwrap();
    let mut memory = vec![0_u8; length * depth + 4096];
    let start = memory.as_ptr().align_offset(4096);
    let places: Vec<*mut u8> = (0..depth).map(|slot| memory[start + slot * length..].as_mut_ptr()).collect();
    if registered {
        uring.submitter().register_files(&[file.as_raw_fd()]).unwrap();
        let vectors: Vec<libc::iovec> =
            places.iter().map(|place| libc::iovec { iov_base: place.cast(), iov_len: length }).collect();
        // SAFETY: the memory outlives the ring's last operation.
        unsafe { uring.submitter().register_buffers(&vectors).unwrap() };
    }
    let blocks = SIZE / length as u64;
    let push = |uring: &mut IoUring, number: usize, slot: usize| {
        let at = (number as u64 * 40_503 + 7) % blocks * length as u64;
        let (place, length) = (places[slot], length as u32);
        let entry = if registered {
            opcode::ReadFixed::new(types::Fixed(0), place, length, slot as u16).offset(at).build()
        } else {
            opcode::Read::new(types::Fd(file.as_raw_fd()), place, length).offset(at).build()
        };
        // SAFETY: each slot has memory of its own and one operation at a time, and all are waited for below.
        unsafe { uring.submission().push(&entry.user_data(slot as u64)).unwrap() };
    };
    let (before, begun) = (cpu(), Instant::now());
    (0..depth).for_each(|slot| push(&mut uring, slot, slot));
    let (mut started, mut done) = (depth, 0);
    while done < count {
        uring.submit_and_wait(1).unwrap();
        let complete: Vec<_> = uring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
        for (slot, result) in complete {
            assert_eq!(result, length as i32);
            done += 1;
            if started < count {
                push(&mut uring, started, slot as usize);
                started += 1;
            }
        }
    }
    let per = |total: f64| total / count as f64;
    (per(cpu() - before), per(begun.elapsed().as_micros() as f64) * depth as f64)
}
