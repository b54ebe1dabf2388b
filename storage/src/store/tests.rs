//! What a log must survive: ends at every byte, flipped bits, crashes between the steps of a checkpoint.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::mpsc::channel;

use tempfile::TempDir;

use super::directory::parse;
use super::segment::{self, Entry, Name};
use super::*;

mod faults;

const SMALL: Options = Options { segment_size: 4096, incarnation_min: 1, queue_max: 1 << 20 };

type Model = BTreeMap<u64, Vec<u8>>;
/// Files of segments, with their contents.
type Files = Vec<(String, Vec<u8>)>;

fn put(key: u64, value: &[u8]) -> Change {
    Change::Put { key, value: value.into() }
}

/// Makes a change and waits for it.
fn durable(store: &LogStore, change: Change) -> io::Result<()> {
    let (sender, receiver) = channel();
    store.change(change, Done::new(move |outcome| sender.send(outcome).unwrap()));
    receiver.recv().unwrap()
}

fn apply(model: &mut Model, change: &Change) {
    match change {
        Change::Put { key, value } => drop(model.insert(*key, value.to_vec())),
        Change::Delete { key } => drop(model.remove(key)),
    }
}

fn contents(path: &Path) -> Model {
    let store = LogStore::open(path, SMALL).unwrap();
    store.replay().into_iter().map(|(key, value)| (key, value.into_vec())).collect()
}

/// Numbers without a pattern that a test could depend on.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn change(&mut self, keys: u64) -> Change {
        let key = self.next(keys);
        if self.next(4) == 0 {
            return Change::Delete { key };
        }
        let length = self.next(60);
        let value: Vec<u8> = (0..length).map(|_| u8::try_from(self.next(256)).unwrap()).collect();
        put(key, &value)
    }
}

fn files(path: &Path) -> Files {
    let mut files: Files = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| name.starts_with("segment-"))
        .collect();
    files.sort();
    files
}

fn directory_of(files: &[(String, Vec<u8>)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    directory
}

#[test]
fn what_is_replayed_is_what_was_changed() {
    for seed in 1..20 {
        let directory = tempfile::tempdir().unwrap();
        let (mut model, mut random) = (Model::new(), Random(seed));
        for start in 1..5 {
            let store = LogStore::open(directory.path(), SMALL).unwrap();
            assert_eq!(store.incarnation(), start);
            let replayed: Model =
                store.replay().into_iter().map(|(key, value)| (key, value.into_vec())).collect();
            assert_eq!(replayed, model, "seed {seed}");
            assert!(store.replay().is_empty(), "handed over once");
            assert_eq!(store.damage(), []);
            for _ in 0..random.next(300) {
                let change = random.change(40);
                apply(&mut model, &change);
                durable(&store, change).unwrap();
            }
        }
    }
}

#[test]
fn the_last_put_comes_last() {
    let directory = tempfile::tempdir().unwrap();
    let store = LogStore::open(directory.path(), SMALL).unwrap();
    for key in [3, 1, 2, 3] {
        durable(&store, put(key, b"value")).unwrap();
    }
    drop(store);
    for _ in 0..2 {
        let store = LogStore::open(directory.path(), SMALL).unwrap();
        let keys: Vec<u64> = store.replay().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [1, 2, 3], "also after a checkpoint");
    }
}

#[test]
fn segments_of_what_is_void_go() {
    let directory = tempfile::tempdir().unwrap();
    let store = LogStore::open(directory.path(), SMALL).unwrap();
    for round in 0..2_000_u64 {
        durable(&store, put(round % 5, &round.to_le_bytes())).unwrap();
        assert!(files(directory.path()).len() <= 2, "what is void is kept");
    }
    drop(store);
    let expected: Model = (1995..2000_u64).map(|round| (round % 5, round.to_le_bytes().to_vec())).collect();
    assert_eq!(contents(directory.path()), expected);
}

#[test]
fn more_records_than_a_segment_holds_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = LogStore::open(directory.path(), SMALL).unwrap();
    let mut model = Model::new();
    for key in 0..300 {
        let change = put(key, &[7; 100]);
        apply(&mut model, &change);
        durable(&store, change).unwrap();
    }
    durable(&store, put(1000, &[9; 10_000])).unwrap();
    model.insert(1000, vec![9; 10_000]);
    assert!(files(directory.path()).len() > 3);
    drop(store);
    assert_eq!(contents(directory.path()), model);
    assert_eq!(contents(directory.path()), model, "and out of one segment again");
}

/// A log of one segment, the models after each of its changes, and where each change's frame ends.
fn one_segment() -> (Files, Vec<Model>, Vec<usize>) {
    let directory = tempfile::tempdir().unwrap();
    let store = LogStore::open(directory.path(), SMALL).unwrap();
    let (mut model, mut random) = (Model::new(), Random(77));
    let (mut models, mut ends) = (vec![model.clone()], Vec::new());
    let header = Entry::Header { version: 1, incarnation: 1 };
    ends.push(segment::size(&header) + segment::size(&Entry::Checkpoint));
    for _ in 0..25 {
        let change = random.change(6);
        let size = match &change {
            Change::Put { key, value } => segment::size(&Entry::Put { key: *key, value }),
            Change::Delete { key } => segment::size(&Entry::Delete { key: *key }),
        };
        apply(&mut model, &change);
        durable(&store, change).unwrap();
        models.push(model.clone());
        ends.push(ends.last().unwrap() + size);
    }
    drop(store);
    let files = files(directory.path());
    assert_eq!(files.len(), 1);
    (files, models, ends)
}

#[test]
fn a_log_that_ends_at_any_byte_has_what_was_whole() {
    let (files, models, ends) = one_segment();
    let (name, bytes) = &files[0];
    for cut in 0..=*ends.last().unwrap() {
        // Cut off, and never written.
        let zeroed: Vec<u8> = bytes[..cut].iter().copied().chain(vec![0; bytes.len() - cut]).collect();
        for torn in [bytes[..cut].to_vec(), zeroed] {
            let files_of_one = [(name.clone(), torn)];
            let directory = directory_of(&files_of_one);
            let store = LogStore::open(directory.path(), SMALL).unwrap();
            let replayed: Model =
                store.replay().into_iter().map(|(key, value)| (key, value.into_vec())).collect();
            assert!(store.damage().iter().all(|damage| damage.torn), "a torn end is told as one");
            let torn = &files_of_one[0].1;
            // Zeros may be what was to be written.
            let whole = ends.iter().filter(|end| torn.get(..**end) == bytes.get(..**end)).count();
            let expected = whole.checked_sub(1).map(|changes| models[changes].clone()).unwrap_or_default();
            assert_eq!(replayed, expected, "cut at {cut}");
            let end = whole.checked_sub(1).map_or(0, |changes| ends[changes]);
            let more = torn.iter().skip(end).any(|byte| *byte != 0);
            assert!(!more || end == 0 || !store.damage().is_empty(), "cut at {cut} unnoticed");
        }
    }
}

#[test]
fn a_flipped_bit_costs_its_own_record_alone() {
    let (files, _, ends) = one_segment();
    let (name, bytes) = &files[0];
    let segment = parse(name).unwrap();
    let entries = segment::read(segment, bytes).entries.len();
    for place in 0..*ends.last().unwrap() {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1 << (place % 8);
        let read = segment::read(segment, &flipped);
        assert_eq!(read.entries.len(), entries - 1, "byte {place}");
        assert_eq!(read.damage.len(), 1, "byte {place}");
        let last = *ends.get(ends.len() - 2).unwrap();
        assert_eq!(read.damage[0].torn, place >= last, "byte {place}");
        let directory = directory_of(&[(name.clone(), flipped)]);
        let store = LogStore::open(directory.path(), SMALL).unwrap();
        assert_eq!(store.damage().len(), 1, "what was found is told");
    }
}

#[test]
fn later_segments_are_read_behind_damage() {
    let directory = tempfile::tempdir().unwrap();
    let store = LogStore::open(directory.path(), SMALL).unwrap();
    for key in 0..100 {
        durable(&store, put(key, &[1; 100])).unwrap();
    }
    drop(store);
    let mut files = files(directory.path());
    assert!(files.len() >= 3);
    // The middle of the first one.
    files[0].1[1000..1010].fill(0xEE);
    let broken = directory_of(&files);
    let store = LogStore::open(broken.path(), SMALL).unwrap();
    assert_eq!(store.replay().len(), 99, "one record is lost");
    assert_eq!(store.damage().len(), 1);
    assert!(!store.damage()[0].torn, "that was no crash");
    // Also when a segment begins with it.
    files[1].1[..40].fill(0);
    let broken = directory_of(&files);
    assert!(LogStore::open(broken.path(), SMALL).unwrap().replay().len() >= 97);
}

#[test]
fn a_crash_between_the_steps_of_a_checkpoint_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = LogStore::open(directory.path(), SMALL).unwrap();
    let (mut model, mut random) = (Model::new(), Random(5));
    for _ in 0..150 {
        let change = random.change(200);
        apply(&mut model, &change);
        durable(&store, change).unwrap();
    }
    drop(store);
    let before = files(directory.path());
    assert!(before.len() > 1);
    assert_eq!(contents(directory.path()), model);
    let after = files(directory.path());
    assert_eq!(after.len(), 1, "old segments are gone");
    let (name, bytes) = &after[0];
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for cut in (0..=written).step_by(23).chain([written - 1, written]) {
        let mut files = before.clone();
        let rest = vec![0; bytes.len() - cut];
        files.push((name.clone(), bytes[..cut].iter().copied().chain(rest).collect()));
        assert_eq!(contents(directory_of(&files).path()), model, "written up to {cut}");
    }
    // Old segments go in any order, as far as the disk is concerned.
    for gone in 0..1_u32 << before.len() {
        let mut files: Vec<_> = before
            .iter()
            .enumerate()
            .filter(|(index, _)| gone & (1 << index) == 0)
            .map(|(_, file)| file.clone())
            .collect();
        files.push(after[0].clone());
        assert_eq!(contents(directory_of(&files).path()), model, "gone: {gone:b}");
    }
}

#[test]
fn many_share_a_flush_and_keep_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let store = LogStore::open(directory.path(), Options::default()).unwrap();
    let (sender, receiver) = channel();
    for round in 0..500_u64 {
        let sender = sender.clone();
        let change = put(round % 3, &round.to_le_bytes());
        store.change(change, Done::new(move |outcome| sender.send((round, outcome.is_ok())).unwrap()));
    }
    let told: Vec<(u64, bool)> = receiver.iter().take(500).collect();
    assert_eq!(told, (0..500).map(|round| (round, true)).collect::<Vec<_>>());
    drop(store);
    let expected: Model = (497..500_u64).map(|round| (round % 3, round.to_le_bytes().to_vec())).collect();
    assert_eq!(contents(directory.path()), expected);
}

#[test]
fn a_directory_has_one_owner_and_its_starts_have_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let store = LogStore::open(directory.path(), SMALL).unwrap();
    let error = LogStore::open(directory.path(), SMALL).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop(store);
    let later = LogStore::open(directory.path(), Options { incarnation_min: 40, ..SMALL }).unwrap();
    assert_eq!(later.incarnation(), 40);
    drop(later);
    assert_eq!(LogStore::open(directory.path(), SMALL).unwrap().incarnation(), 41);
}

#[test]
fn another_version_is_left_alone() {
    let mut bytes = Vec::new();
    let segment = Name { number: 1, marker: 0xABCD };
    segment::emit(segment, 1, &Entry::Header { version: 3, incarnation: 1 }, &mut bytes);
    for name in ["segment-0000000000000001-000000000000abcd.log", "segment-0000000000000001.log"] {
        let directory = directory_of(&[(name.into(), bytes.clone())]);
        let error = LogStore::open(directory.path(), SMALL).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert_eq!(files(directory.path())[0].1, bytes);
    }
}

#[test]
fn every_record_of_the_core_fits() {
    use smb_state::file::lock::{Lock, Range};
    use smb_state::record::{Held, LOCKS_MAX, Record};

    let units = |count: usize| smb_proto::Name::from_units(vec![0xFFFF; count]);
    let lock = Lock { range: Range::new(0, 1).unwrap(), exclusive: true };
    let record = Record {
        open: smb_state::ids::OpenId(1),
        share: units(255),
        path: units(smb_proto::fscc::name::PATH_MAX),
        file: smb_state::ids::FileNumber(1),
        generation: smb_proto::FileTime(1),
        owner: ("x".repeat(100_000).into(), 1),
        client: Some([1; 16]),
        create_guid: [1; 16],
        timeout_ms: 1,
        action: smb_proto::command::create::CreateAction(1),
        desired: smb_proto::access::AccessMask(1),
        access: smb_proto::access::AccessMask(1),
        share_access: smb_proto::command::create::ShareAccess(1),
        options: smb_proto::command::create::CreateOptions(1),
        lock_sequences: vec![(1, 1); 64],
        held: Held { locks: vec![(lock, 1); LOCKS_MAX as usize], ..Held::default() },
    };
    assert!(record.encode().len() <= VALUE_MAX, "{} bytes", record.encode().len());
}

#[test]
fn what_does_not_fit_is_refused_and_a_panic_stays_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = LogStore::open(directory.path(), SMALL).unwrap();
    let huge = durable(&store, put(1, &vec![0; VALUE_MAX + 1])).unwrap_err();
    assert_eq!(huge.kind(), io::ErrorKind::InvalidInput);
    store.change(put(1, b"one"), Done::new(|_| panic!("expected in this test")));
    durable(&store, put(2, b"two")).unwrap();
    drop(store);
    assert_eq!(contents(directory.path()).len(), 2);
}

#[test]
fn whoever_is_told_last_may_drop_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(LogStore::open(directory.path(), SMALL).unwrap());
    let (sender, receiver) = channel();
    let (kept, gone) = (std::sync::Arc::clone(&store), channel());
    let done = Done::new(move |outcome| {
        gone.1.recv().unwrap();
        drop(kept);
        sender.send(outcome.is_ok()).unwrap();
    });
    store.change(put(1, b"one"), done);
    drop(store);
    gone.0.send(()).unwrap();
    assert!(receiver.recv().unwrap());
}
