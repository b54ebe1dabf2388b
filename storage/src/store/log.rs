//! The embedded store: a log that is written ahead, and one thread that writes and flushes it.
//!
//! ```text
//! change() --> queue --flusher: takes all of it, one write, one fdatasync--> done()
//! ```
//! A segment has its full size from the start, so that flushing it writes data alone. When one is full the next begins: with a
//! checkpoint of all records, if most of what the segments hold is void, which makes the older ones void too. A start begins
//! with a checkpoint. A segment counts as soon as its first frame is whole, its checkpoint as soon as the frame that ends it is:
//! a crash between any two steps leaves what was there before, or the same again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::directory::Directory;
use super::segment::{self, Damage, Entry, VERSION};
use super::{Change, Done, HandleStore, VALUE_MAX};

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of a segment.
    pub segment_size: usize,
    /// A start has at least this number.
    pub incarnation_min: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_size: 8 << 20, incarnation_min: 1 }
    }
}

/// A log in a directory of its own.
#[derive(Debug)]
pub struct LogStore {
    shared: Arc<Shared>,
    flusher: Option<JoinHandle<()>>,
    replay: Mutex<Vec<(u64, Box<[u8]>)>>,
    incarnation: u16,
    damage: Vec<Damage>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

#[derive(Default)]
struct Queue {
    changes: Vec<(Change, Done)>,
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("changes", &self.changes.len()).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogStore {
    /// Takes the directory, reads what is there, and starts anew from a checkpoint of it.
    ///
    /// # Errors
    /// When another process has the directory ([`io::ErrorKind::WouldBlock`]), a newer version wrote it
    /// ([`io::ErrorKind::Unsupported`]), or the file system says no. Damage is no error: see [`LogStore::damage`].
    pub fn open(path: &Path, options: Options) -> io::Result<Self> {
        let directory = Directory::open(path)?;
        let found = Found::read(&directory)?;
        let incarnation = found.incarnation.wrapping_add(1).max(1).max(options.incarnation_min);
        let replay = found.live.in_order().map(|(key, value)| (key, value.into())).collect();
        let damage = found.damage;
        let mut log = Log {
            directory,
            options,
            incarnation,
            live: found.live,
            sequence: found.sequence,
            segments: found.segments,
            file: None,
            at: 0,
            buffer: Vec::new(),
            held: 0,
        };
        log.checkpoint(log.options.segment_size)?;
        let shared = Arc::<Shared>::default();
        let inbox = Arc::clone(&shared);
        let flusher = std::thread::Builder::new()
            .name("leasehold-store".into())
            .spawn(move || log.flush_until_closed(&inbox))?;
        Ok(Self { shared, flusher: Some(flusher), replay: Mutex::new(replay), incarnation, damage })
    }

    /// Number of this start, greater than those of all starts before.
    #[must_use]
    pub fn incarnation(&self) -> u16 {
        self.incarnation
    }

    /// What could not be read of what was there. Torn ends are what crashes leave; anything else is a fault of the disk.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }
}

impl HandleStore for LogStore {
    fn change(&self, change: Change, done: Done) {
        if let Change::Put { value, .. } = &change
            && value.len() > VALUE_MAX
        {
            return done.call(Err(io::ErrorKind::InvalidInput.into()));
        }
        self.shared.lock().changes.push((change, done));
        self.shared.arrived.notify_one();
    }

    fn replay(&self) -> Vec<(u64, Box<[u8]>)> {
        std::mem::take(&mut *self.replay.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.arrived.notify_one();
        // Whoever is told last may drop the store, on the flusher's own thread.
        let here = std::thread::current().id();
        let flusher = self.flusher.take().filter(|flusher| flusher.thread().id() != here);
        // A flusher that panicked has dropped its changes, which told whoever waited.
        let _ = flusher.map(JoinHandle::join);
    }
}

/// The records that there are.
#[derive(Debug, Default)]
struct Live {
    /// With the sequence numbers of their last puts.
    records: BTreeMap<u64, (u64, Box<[u8]>)>,
    /// Bytes of their frames.
    bytes: usize,
}

impl Live {
    fn put(&mut self, key: u64, sequence: u64, value: Box<[u8]>) {
        self.delete(key);
        self.bytes += frame_size(&value);
        self.records.insert(key, (sequence, value));
    }

    fn delete(&mut self, key: u64) {
        if let Some((_, value)) = self.records.remove(&key) {
            self.bytes -= frame_size(&value);
        }
    }

    fn in_order(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut keys: Vec<(u64, u64)> =
            self.records.iter().map(|(key, (sequence, _))| (*sequence, *key)).collect();
        keys.sort_unstable();
        keys.into_iter().filter_map(|(_, key)| Some((key, &*self.records.get(&key)?.1)))
    }
}

fn frame_size(value: &[u8]) -> usize {
    segment::size(&Entry::Put { key: 0, value })
}

/// What is in the directory.
#[derive(Debug, Default)]
struct Found {
    live: Live,
    incarnation: u16,
    sequence: u64,
    segments: Vec<u64>,
    damage: Vec<Damage>,
}

impl Found {
    fn read(directory: &Directory) -> io::Result<Self> {
        let mut found = Self { segments: directory.segments()?, ..Self::default() };
        let last = found.segments.last().copied();
        for number in found.segments.clone() {
            let bytes = directory.read(number)?;
            let mut read = segment::read(number, &bytes);
            for damage in &mut read.damage {
                // A later segment was begun only once this one was written.
                damage.torn &= Some(number) == last;
            }
            found.take(read)?;
        }
        Ok(found)
    }

    fn take(&mut self, read: segment::Read<'_>) -> io::Result<()> {
        // A checkpoint voids what came before its segment.
        let complete = read.entries.iter().any(|(_, entry)| *entry == Entry::Checkpoint);
        if complete {
            self.live = Live::default();
        }
        for (sequence, entry) in read.entries {
            self.sequence = self.sequence.max(sequence);
            match entry {
                Entry::Header { version, .. } if version > VERSION => {
                    return Err(io::Error::new(
                        io::ErrorKind::Unsupported,
                        format!("the store has version {version}; this server knows {VERSION}"),
                    ));
                }
                Entry::Header { incarnation, .. } => self.incarnation = self.incarnation.max(incarnation),
                Entry::Put { key, value } => self.live.put(key, sequence, value.into()),
                Entry::Delete { key } => self.live.delete(key),
                Entry::Checkpoint => {}
            }
        }
        self.damage.extend(read.damage);
        Ok(())
    }
}

/// The flusher's end.
struct Log {
    directory: Directory,
    options: Options,
    incarnation: u16,
    live: Live,
    /// Of the last frame.
    sequence: u64,
    /// Numbers of those that count, the current one last.
    segments: Vec<u64>,
    file: Option<File>,
    /// Where the next frame goes.
    at: usize,
    buffer: Vec<u8>,
    /// Bytes of frames in all segments.
    held: usize,
}

impl Log {
    fn flush_until_closed(mut self, shared: &Shared) {
        let mut failed = None;
        loop {
            let batch = {
                let mut queue = shared.lock();
                while queue.changes.is_empty() && !queue.closed {
                    queue = shared.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                if queue.changes.is_empty() {
                    return;
                }
                std::mem::take(&mut queue.changes)
            };
            let (changes, waiting): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            if failed.is_none() {
                failed = self.write(changes).err();
            }
            for done in waiting {
                let outcome = failed.as_ref().map_or(Ok(()), |error: &io::Error| Err(again(error)));
                // Whoever waits must not take the others' answers along.
                let _ = catch_unwind(AssertUnwindSafe(|| done.call(outcome)));
            }
        }
    }

    /// Makes changes durable, all with one flush.
    fn write(&mut self, changes: Vec<Change>) -> io::Result<()> {
        let size: usize = changes.iter().map(|change| segment::size(&entry(change))).sum();
        if self.at + size > self.options.segment_size {
            let void = self.held.saturating_sub(self.live.bytes);
            if void * 2 > self.held { self.checkpoint(size)? } else { self.begin(size)? }
        }
        for change in changes {
            self.append(&entry(&change));
            match change {
                Change::Put { key, value } => self.live.put(key, self.sequence, value),
                Change::Delete { key } => self.live.delete(key),
            }
        }
        self.flush()
    }

    /// A new segment that starts with all records; what is before it goes.
    fn checkpoint(&mut self, size: usize) -> io::Result<()> {
        self.begin(size + self.live.bytes)?;
        let live = std::mem::take(&mut self.live);
        let mut renewed = Live::default();
        for (key, value) in live.in_order() {
            self.append(&Entry::Put { key, value });
            renewed.put(key, self.sequence, value.into());
        }
        self.live = renewed;
        self.append(&Entry::Checkpoint);
        self.held = self.buffer.len();
        self.flush()?;
        let current = self.segments.pop();
        for old in self.segments.drain(..) {
            self.directory.remove(old)?;
        }
        self.segments.extend(current);
        Ok(())
    }

    /// A new segment that takes at least so many bytes.
    fn begin(&mut self, size: usize) -> io::Result<()> {
        let number = self.segments.last().map_or(1, |last| last + 1);
        let header = Entry::Header { version: VERSION, incarnation: self.incarnation };
        let around = segment::size(&header) + segment::size(&Entry::Checkpoint);
        let file = self.directory.create(number, self.options.segment_size.max(size + around))?;
        (self.file, self.at) = (Some(file), 0);
        self.segments.push(number);
        self.append(&header);
        Ok(())
    }

    fn append(&mut self, entry: &Entry<'_>) {
        self.sequence += 1;
        let segment = self.segments.last().copied().unwrap_or_default();
        let before = self.buffer.len();
        segment::emit(segment, self.sequence, entry, &mut self.buffer);
        self.held += self.buffer.len() - before;
    }

    fn flush(&mut self) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        file.write_all_at(&self.buffer, self.at as u64)?;
        file.sync_data()?;
        self.at += self.buffer.len();
        self.buffer.clear();
        Ok(())
    }
}

fn entry(change: &Change) -> Entry<'_> {
    match change {
        Change::Put { key, value } => Entry::Put { key: *key, value },
        Change::Delete { key } => Entry::Delete { key: *key },
    }
}

/// An error for one more who waits.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
