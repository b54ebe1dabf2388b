//! The embedded store: a log that is written ahead, and one thread that writes and flushes it.
//!
//! ```text
//! change() --> queue --flusher: takes all of it, one write, one fdatasync--> done()
//! ```
//! Of several changes of a record that wait in the queue only the last is written, and answers for all of them: a client that sends
//! thousands of requests for one open costs one record in memory. The queue has a bound of its own beside that.
//!
//! A segment has its full size from the start, so that flushing it writes data alone. When one is full the next begins: with a
//! checkpoint of all records, if most of what the segments hold is void, which makes the older ones void too. A start begins
//! with a checkpoint. A segment counts as soon as its first frame is whole, its checkpoint once all of its frames are:
//! a crash between any two steps leaves what was there before, or the same again, whichever pages of the last write the disk has.
//!
//! A disk that is full fails the changes that it had no room for, and no later ones. Any other failure is for good: nobody can tell
//! then what the disk has.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::rand::{GetRandomFlags, getrandom};

use super::directory::{Directory, Failure};
use super::queue::{Batch, Queue};
use super::segment::{self, Damage, Entry, Name, VERSION};
use super::{Change, Done, HandleStore, VALUE_MAX};

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of a segment.
    pub segment_size: usize,
    /// A start has at least this number.
    pub incarnation_min: u16,
    /// Bytes of records that wait for being written; what is beyond that is refused.
    pub queue_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_size: 8 << 20, incarnation_min: 1, queue_max: 64 << 20 }
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

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
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
        Self::open_in(Directory::open(path)?, options)
    }

    /// Voids all records: those of opens that a start without persistent opens has nothing to do with, and that would be stale at the
    /// next start with them. Returns how many there were, and the number of this start.
    ///
    /// # Errors
    /// As [`LogStore::open`].
    pub fn clear(path: &Path, options: Options) -> io::Result<(usize, u16)> {
        let directory = Directory::open(path)?;
        let mut found = Found::read(&directory)?;
        let records = std::mem::take(&mut found.live).records.len();
        let mut log = Log::new(directory, options, found);
        log.start()?;
        Ok((records, log.incarnation))
    }

    pub(super) fn open_in(directory: Directory, options: Options) -> io::Result<Self> {
        let found = Found::read(&directory)?;
        let replay = found.live.in_order().map(|(key, value)| (key, value.into())).collect();
        let damage = found.damage.clone();
        let mut log = Log::new(directory, options, found);
        let incarnation = log.incarnation;
        log.start()?;
        let queue = Mutex::new(Queue::new(options.queue_max));
        let shared = Arc::new(Shared { queue, arrived: Condvar::new() });
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
        let refused = self.shared.lock().push(change, done);
        if let Some(done) = refused {
            return done
                .call(Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too much waits for the store")));
        }
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
    segments: Vec<Name>,
    damage: Vec<Damage>,
}

impl Found {
    fn read(directory: &Directory) -> io::Result<Self> {
        let mut found = Self { segments: directory.segments()?, ..Self::default() };
        let last = found.segments.last().copied();
        for name in found.segments.clone() {
            let bytes = directory.read(name)?;
            let mut read = segment::read(name, &bytes);
            for damage in &mut read.damage {
                // A later segment was begun only once this one was written.
                damage.torn &= Some(name) == last;
            }
            found.take(read)?;
        }
        Ok(found)
    }

    fn take(&mut self, read: segment::Read<'_>) -> io::Result<()> {
        if read.voids_older {
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
    /// Of the last frame. One that failed keeps its number.
    sequence: u64,
    /// Those that count, the current one last.
    segments: Vec<Name>,
    file: Option<File>,
    /// Bytes that the current one has from its start.
    size: usize,
    /// Where the next frame goes.
    at: usize,
    buffer: Vec<u8>,
    /// Bytes of frames in all segments.
    held: usize,
    /// Why nothing is written any more.
    failed: Option<io::Error>,
}

impl Log {
    fn new(directory: Directory, options: Options, found: Found) -> Self {
        Self {
            directory,
            options,
            incarnation: found.incarnation.wrapping_add(1).max(1).max(options.incarnation_min),
            live: found.live,
            sequence: found.sequence,
            segments: found.segments,
            file: None,
            size: 0,
            at: 0,
            buffer: Vec::new(),
            held: 0,
            failed: None,
        }
    }

    /// The checkpoint that a start begins with. Without it nothing is left of this start.
    fn start(&mut self) -> io::Result<()> {
        let before = self.segments.len();
        // With room for changes behind it: the first one tells later starts that it was flushed.
        self.checkpoint(self.options.segment_size / 2).map_err(|failure| {
            for begun in self.segments.drain(before..) {
                let _ = self.directory.remove(begun);
            }
            failure.error
        })
    }

    fn flush_until_closed(mut self, shared: &Shared) {
        // A disk without room for it has none for the next segment either, which is when it is told.
        let _ = self.directory.lay_ready(self.options.segment_size);
        loop {
            let Batch { changes, waiting } = {
                let mut queue = shared.lock();
                while queue.is_empty() && !queue.closed {
                    queue = shared.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                if queue.is_empty() {
                    return;
                }
                queue.take()
            };
            let segment = self.segments.last().copied();
            let outcome = self.write_unless_failed(changes);
            for done in waiting {
                let outcome = outcome.as_ref().copied().map_err(again);
                // Whoever waits must not take the others' answers along.
                let _ = catch_unwind(AssertUnwindSafe(|| done.call(outcome)));
            }
            if segment != self.segments.last().copied() {
                let _ = self.directory.lay_ready(self.options.segment_size);
            }
        }
    }

    fn write_unless_failed(&mut self, changes: Vec<Change>) -> io::Result<()> {
        if let Some(error) = &self.failed {
            return Err(again(error));
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| self.write(changes)));
        let outcome = outcome.unwrap_or_else(|_| Err(io::Error::other("the store panicked").into()));
        outcome.map_err(|Failure { error, untouched }| {
            self.buffer.clear();
            if !untouched {
                self.failed = Some(again(&error));
            }
            error
        })
    }

    /// Makes changes durable, all with one flush.
    fn write(&mut self, changes: Vec<Change>) -> Result<(), Failure> {
        let size: usize = changes.iter().map(|change| segment::size(&entry(change))).sum();
        if self.at + size > self.size {
            let void = self.held.saturating_sub(self.live.bytes);
            if void * 2 > self.held { self.checkpoint(size)? } else { self.begin(size)? }
        }
        let mut sequences = Vec::with_capacity(changes.len());
        for change in &changes {
            self.append(&entry(change));
            sequences.push(self.sequence);
        }
        self.flush()?;
        for (change, sequence) in changes.into_iter().zip(sequences) {
            match change {
                Change::Put { key, value } => self.live.put(key, sequence, value),
                Change::Delete { key } => self.live.delete(key),
            }
        }
        Ok(())
    }

    /// A new segment that starts with all records; what is before it goes.
    fn checkpoint(&mut self, size: usize) -> Result<(), Failure> {
        self.begin(size + self.live.bytes)?;
        let live = std::mem::take(&mut self.live);
        let mut numbers = Vec::with_capacity(live.records.len());
        for (key, value) in live.in_order() {
            self.append(&Entry::Put { key, value });
            numbers.push((key, self.sequence));
        }
        self.live = live;
        self.append(&Entry::Checkpoint);
        self.flush()?;
        for (key, sequence) in numbers {
            if let Some(record) = self.live.records.get_mut(&key) {
                record.0 = sequence;
            }
        }
        self.held = self.at;
        let current = self.segments.pop();
        // What can't be removed is void all the same, and is tried again with the next checkpoint.
        self.segments.retain(|old| self.directory.remove(*old).is_err());
        self.segments.extend(current);
        Ok(())
    }

    /// A new segment that takes at least so many bytes.
    fn begin(&mut self, size: usize) -> Result<(), Failure> {
        let around = segment::size(&self.header()) + segment::size(&Entry::Checkpoint);
        let number = self.segments.last().map_or(1, |last| last.number + 1);
        let marker = marker().map_err(|error| Failure { error, untouched: true })?;
        let name = Name { number, marker };
        let (file, size) = self.directory.create(name, self.options.segment_size.max(size + around))?;
        (self.file, self.size, self.at) = (Some(file), size, 0);
        self.segments.push(name);
        Ok(())
    }

    fn header(&self) -> Entry<'static> {
        Entry::Header { version: VERSION, incarnation: self.incarnation }
    }

    fn append(&mut self, entry: &Entry<'_>) {
        if self.at == 0 && self.buffer.is_empty() {
            self.emit(&self.header());
        }
        self.emit(entry);
    }

    fn emit(&mut self, entry: &Entry<'_>) {
        let Some(segment) = self.segments.last() else { return };
        self.sequence += 1;
        segment::emit(*segment, self.sequence, entry, &mut self.buffer);
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let file = self.file.as_ref().ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        self.directory.write(file, &self.buffer, self.at)?;
        self.at += self.buffer.len();
        self.held += self.buffer.len();
        self.buffer.clear();
        Ok(())
    }
}

/// Random, and never zero, as what was not written is.
fn marker() -> io::Result<u64> {
    let mut bytes = [0; 8];
    // Up to 256 bytes come whole once the kernel has any.
    let length = getrandom(&mut bytes[..], GetRandomFlags::empty())?;
    if length < bytes.len() {
        return Err(io::Error::other("too few random bytes from the kernel"));
    }
    Ok(u64::from_le_bytes(bytes) | 1)
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
