//! What the disk, and clients, can do to a log: pages that a crash loses, records that look like frames, disks that are full or fail.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};

use super::super::directory::{Directory, Fault, Step};
use super::*;

const PAGE: usize = 4096;
const ENOSPC: i32 = 28;
const EIO: i32 = 5;

fn store_with(path: &Path, fault: Fault) -> io::Result<LogStore> {
    let mut directory = Directory::open(path).unwrap();
    directory.fault = Some(fault);
    LogStore::open_in(directory, SMALL)
}

fn all_files(path: &Path) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

/// Records that take several segments, those segments, and the one of the checkpoint that follows.
fn checkpointed() -> (Model, Files, (String, Vec<u8>), TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = LogStore::open(directory.path(), SMALL).unwrap();
    let mut model = Model::new();
    for key in 0..90_u8 {
        let change = put(key.into(), &[key; 300]);
        apply(&mut model, &change);
        durable(&store, change).unwrap();
    }
    drop(store);
    let before = files(directory.path());
    assert_eq!(contents(directory.path()), model);
    let after = files(directory.path());
    assert_eq!(after.len(), 1);
    (model, before, after[0].clone(), directory)
}

#[test]
fn a_checkpoint_counts_only_with_all_of_its_pages() {
    let (model, before, (name, bytes), _directory) = checkpointed();
    let pages = bytes.iter().rposition(|byte| *byte != 0).unwrap() / PAGE + 1;
    assert!(pages > 5);
    let mut random = Random(99);
    for round in 0..200 {
        let mut holed = bytes.clone();
        let missing: Vec<usize> = (0..pages).filter(|_| random.next(4) == 0).collect();
        for page in &missing {
            let end = holed.len().min((page + 1) * PAGE);
            holed[page * PAGE..end].fill(0);
        }
        let mut files = before.clone();
        files.push((name.clone(), holed));
        let directory = directory_of(&files);
        let store = LogStore::open(directory.path(), SMALL).unwrap();
        let replayed: Model =
            store.replay().into_iter().map(|(key, value)| (key, value.into_vec())).collect();
        assert_eq!(replayed, model, "round {round}, without {missing:?}");
        let ended = !missing.contains(&(pages - 1));
        assert!(!ended || store.damage().iter().all(|damage| damage.torn), "a crash is told as one");
        drop(store);
        assert_eq!(contents(directory.path()), model, "and it can be read again");
    }
}

#[test]
fn a_checkpoint_that_was_flushed_voids_what_is_older_also_when_it_is_damaged() {
    let (mut model, before, _, directory) = checkpointed();
    let store = LogStore::open(directory.path(), SMALL).unwrap();
    durable(&store, Change::Delete { key: 7 }).unwrap();
    drop(store);
    model.remove(&7);
    let mut files = files(directory.path());
    assert_eq!(files.len(), 1);
    files[0].1[2 * PAGE..3 * PAGE].fill(0);
    // Removing the older ones need not have survived the crash.
    files.extend(before);
    let directory = directory_of(&files);
    let store = LogStore::open(directory.path(), SMALL).unwrap();
    assert!(store.damage().iter().any(|damage| !damage.torn));
    let replayed: Model = store.replay().into_iter().map(|(key, value)| (key, value.into_vec())).collect();
    assert!(!replayed.contains_key(&7), "what was deleted is back");
    assert!(replayed.len() > 70 && replayed.iter().all(|(key, value)| model.get(key) == Some(value)));
}

#[test]
fn what_looks_like_a_frame_in_a_damaged_record_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let store = LogStore::open(directory.path(), SMALL).unwrap();
    durable(&store, put(1, b"somebody else's")).unwrap();
    // All that a client can know or guess; the marker of version 1 among it.
    let mut forged = Vec::new();
    for marker in (0..50).chain([u64::from(u32::from_le_bytes(*b"LHfr"))]) {
        segment::emit(Name { number: 1, marker }, 1000, &Entry::Delete { key: 1 }, &mut forged);
    }
    durable(&store, put(2, &forged)).unwrap();
    durable(&store, put(3, b"later")).unwrap();
    drop(store);
    let mut files = files(directory.path());
    let bytes = &mut files[0].1;
    let at = bytes.windows(forged.len()).position(|window| window == forged).unwrap();
    bytes[at - 20..at].fill(0);
    let read = contents(directory_of(&files).path());
    assert_eq!(read.keys().copied().collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn markers_are_random() {
    let markers: std::collections::BTreeSet<u64> = (0..20)
        .map(|_| {
            let directory = tempfile::tempdir().unwrap();
            drop(LogStore::open(directory.path(), SMALL).unwrap());
            parse(&files(directory.path())[0].0).unwrap().marker
        })
        .collect();
    assert_eq!(markers.len(), 20);
}

#[test]
fn frames_that_were_written_before_the_last_one_do_not_count() {
    let segment = Name { number: 1, marker: 0x0123_4567_89AB_CDEF };
    let mut bytes = Vec::new();
    segment::emit(segment, 1, &Entry::Header { version: 2, incarnation: 1 }, &mut bytes);
    segment::emit(segment, 5, &Entry::Put { key: u64::MAX, value: b"new" }, &mut bytes);
    let end = bytes.len();
    segment::emit(segment, 3, &Entry::Delete { key: u64::MAX }, &mut bytes);
    let read = segment::read(segment, &bytes);
    assert_eq!(read.entries.len(), 2);
    assert_eq!(read.damage, [Damage { segment: 1, bytes: end as u64..bytes.len() as u64, torn: true }]);
}

#[test]
fn a_full_disk_fails_changes_only_while_it_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let fault = || -> Fault {
        let full = Arc::clone(&full);
        Box::new(move |step, bytes| match step {
            Step::Fill if full.load(Ordering::Relaxed) => Err(io::Error::from_raw_os_error(ENOSPC)),
            _ => Ok(bytes),
        })
    };
    let store = store_with(directory.path(), fault()).unwrap();
    let mut model = Model::new();
    let mut more = |store: &LogStore, keys: std::ops::Range<u64>| {
        let mut failures = 0;
        for key in keys {
            let change = put(key, &[1; 500]);
            match durable(store, change.clone()) {
                Ok(()) => apply(&mut model, &change),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                    failures += 1;
                }
            }
        }
        (failures, model.clone())
    };
    assert_eq!(more(&store, 0..20).0, 0);
    full.store(true, Ordering::Relaxed);
    let (failures, _) = more(&store, 100..140);
    assert!((1..40).contains(&failures), "what has room is taken, {failures} failed");
    let there = all_files(directory.path());
    more(&store, 200..210);
    assert_eq!(all_files(directory.path()), there, "nothing is left of what failed");
    full.store(false, Ordering::Relaxed);
    let (failures, model) = more(&store, 300..320);
    assert_eq!(failures, 0, "the disk has room again");
    drop(store);
    assert_eq!(contents(directory.path()), model);
}

#[test]
fn a_start_on_a_full_disk_takes_what_lies_ready_or_leaves_nothing() {
    let (model, _, _, directory) = checkpointed();
    let full = || -> Fault {
        Box::new(|step, bytes| match step {
            Step::Fill => Err(io::Error::from_raw_os_error(ENOSPC)),
            Step::Write | Step::Sync => Ok(bytes),
        })
    };
    let there = all_files(directory.path());
    for _ in 0..3 {
        let error = store_with(directory.path(), full()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(all_files(directory.path()), there, "a smaller one that is ready stays");
    }
    let store = LogStore::open(directory.path(), SMALL).unwrap();
    for key in model.keys().copied().filter(|key| *key > 0) {
        durable(&store, Change::Delete { key }).unwrap();
    }
    drop(store);
    let store = store_with(directory.path(), full()).unwrap();
    assert_eq!(store.replay().len(), 1);
    drop(store);
    // Also one that begins and then can't be written.
    let there = all_files(directory.path());
    for _ in 0..3 {
        let error = store_with(
            directory.path(),
            Box::new(|step, bytes| match step {
                Step::Write => Err(io::Error::from_raw_os_error(ENOSPC)),
                Step::Fill | Step::Sync => Ok(bytes),
            }),
        );
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(all_files(directory.path()), there);
    }
    assert_eq!(contents(directory.path()).len(), 1);
}

/// Which step fails, with which error, and how many bytes it takes before.
type Next = Arc<Mutex<Vec<(Step, i32, usize)>>>;

/// A store whose next step of a kind fails as it is told.
fn failing(path: &Path) -> (LogStore, Next) {
    let faults = Next::default();
    let shared = Arc::clone(&faults);
    let fault: Fault = Box::new(move |step, bytes| {
        let mut faults = shared.lock().unwrap();
        match faults.first().copied() {
            Some((at, _, most)) if at == step && most > 0 => {
                faults[0].2 = 0;
                Ok(most.min(bytes))
            }
            Some((at, code, _)) if at == step => {
                faults.clear();
                Err(io::Error::from_raw_os_error(code))
            }
            _ => Ok(bytes),
        }
    });
    (store_with(path, fault).unwrap(), faults)
}

#[test]
fn only_a_write_without_room_for_its_first_byte_can_be_tried_again() {
    for (step, code, bytes, again) in [
        (Step::Write, ENOSPC, 0, true),
        (Step::Write, ENOSPC, 10, false),
        (Step::Write, EIO, 0, false),
        (Step::Sync, EIO, 0, false),
        (Step::Sync, ENOSPC, 0, false),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (store, faults) = failing(directory.path());
        durable(&store, put(1, b"one")).unwrap();
        faults.lock().unwrap().push((step, code, bytes));
        let error = durable(&store, put(2, b"two")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(code));
        let next = durable(&store, put(3, b"three"));
        assert_eq!(next.is_ok(), again, "{step:?} failed with {code} after {bytes} bytes");
        assert_eq!(durable(&store, put(4, b"four")).is_ok(), again, "and it stays so");
        drop(store);
        let read = contents(directory.path());
        assert!(read.contains_key(&1));
        assert!(!again || read.keys().copied().eq([1, 3, 4]));
    }
}

/// A store that stops at its next write: says so, and goes on when told how.
fn halting(path: &Path) -> (LogStore, Receiver<()>, Sender<bool>) {
    let (halted, halts) = channel::<()>();
    let (go, gone) = channel::<bool>();
    let mut writes = 0;
    let fault: Fault = Box::new(move |step, bytes| {
        if step == Step::Write {
            writes += 1;
            // The first one is the start's.
            if writes == 2 {
                halted.send(()).unwrap();
                assert!(gone.recv().unwrap(), "expected in this test");
            }
        }
        Ok(bytes)
    });
    (store_with(path, fault).unwrap(), halts, go)
}

#[test]
fn changes_of_one_record_share_a_write_and_all_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    let (store, halts, go) = halting(directory.path());
    let (sender, answers) = channel();
    let send = |change: Change, number: u32| {
        let sender = sender.clone();
        store.change(change, Done::new(move |outcome| sender.send((number, outcome)).unwrap()));
    };
    send(put(1, b"before"), 0);
    halts.recv().unwrap();
    // 800 MB by themselves; two of them don't fit into the queue.
    let mut value = vec![7; 600_000];
    for number in 1..=1400_u32 {
        value[..4].copy_from_slice(&number.to_le_bytes());
        send(put(1, &value), number);
    }
    send(put(2, b"deleted at once"), 1401);
    send(Change::Delete { key: 2 }, 1402);
    send(put(3, &value), 1403);
    let (refused, error) = answers.recv().unwrap();
    assert_eq!((refused, error.unwrap_err().kind()), (1403, io::ErrorKind::QuotaExceeded));
    send(put(3, b"small"), 1404);
    go.send(true).unwrap();
    let told: Vec<u32> = (0..1404)
        .map(|_| answers.recv().unwrap())
        .map(|(number, outcome)| outcome.map(|()| number).unwrap())
        .collect();
    assert_eq!(told, (0..=1402).chain([1404]).collect::<Vec<_>>());
    drop(store);
    let written: usize = files(directory.path()).iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(written < 700_000, "{written} bytes are written");
    assert_eq!(contents(directory.path()), Model::from([(1, value), (3, b"small".to_vec())]));
}

#[test]
fn a_flusher_that_panics_answers_whoever_waits_and_whoever_comes() {
    let directory = tempfile::tempdir().unwrap();
    let (store, halts, go) = halting(directory.path());
    let (sender, answers) = channel();
    for key in 0..10 {
        let sender = sender.clone();
        store.change(put(key, b"value"), Done::new(move |outcome| sender.send(outcome.is_err()).unwrap()));
        if key == 0 {
            halts.recv().unwrap();
        }
    }
    go.send(false).unwrap();
    let patience = std::time::Duration::from_secs(20);
    for _ in 0..10 {
        assert!(answers.recv_timeout(patience).unwrap());
    }
    let late = sender.clone();
    store.change(put(11, b"value"), Done::new(move |outcome| late.send(outcome.is_err()).unwrap()));
    assert!(answers.recv_timeout(patience).unwrap());
}

#[test]
fn a_directory_that_others_can_enter_is_closed_to_them() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    drop(LogStore::open(directory.path(), SMALL).unwrap());
    assert_eq!(std::fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, 0o700);
}
