//! What a handle stands for: an inode that is pinned, and the link by which it was found.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::ffi::{CStr, CString};
use std::hash::{BuildHasher, Hash};
use std::os::fd::AsFd;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, StatxTimestamp, openat, statx};
use rustix::io::Errno;
use smb_proto::{FileTime, Name, NtStatus};
use smb_state::ids::FileNumber;
use smb_state::storage::Kind;

use super::list::Cursor;
use super::times::Told;
use crate::fault::{Fault, Outcome};
use crate::handles::lock;

/// An inode, on any file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct InodeKey {
    /// Device, major number in the upper half.
    pub(super) device: u64,
    /// Inode number there.
    pub(super) number: u64,
}

/// What `statx` says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stat {
    pub(super) key: InodeKey,
    pub(super) file_type: FileType,
    pub(super) mode: u16,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Units of 512 bytes.
    pub(super) blocks: u64,
    pub(super) accessed: FileTime,
    pub(super) modified: FileTime,
    pub(super) changed: FileTime,
    pub(super) born: Option<FileTime>,
    /// Times of data and metadata to the nanosecond, for telling whether a directory has changed.
    pub(super) stamp: Stamp,
}

/// Seconds and nanoseconds, as the file system has them.
pub(super) type Time = (i64, u32);

/// Modification and change time.
pub(super) type Stamp = [Time; 2];

/// Changes within this time may carry the same time (a kernel tick, or the two seconds of FAT for those that say so by
/// whole seconds).
const TICK: Duration = Duration::from_millis(20);
const COARSE_TICK: Duration = Duration::from_secs(2);

/// Whether a change that comes now could leave one of these times as it is.
pub(super) fn is_recent(times: &[Time]) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    times.iter().any(|(seconds, nanoseconds)| {
        let time = Duration::new(u64::try_from(*seconds).unwrap_or(0), *nanoseconds);
        let tick = if *nanoseconds == 0 { COARSE_TICK } else { TICK };
        time + tick > now
    })
}

fn file_time(time: StatxTimestamp) -> FileTime {
    FileTime::from_unix(time.tv_sec, time.tv_nsec)
}

impl Stat {
    /// Of a name in a directory, symbolic links not followed.
    pub(super) fn of_name(directory: impl AsFd, name: &CStr) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        statx(directory, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME).map(|raw| Self::new(&raw))
    }

    /// Of what a descriptor stands for.
    pub(super) fn of_fd(fd: impl AsFd) -> Result<Self, Errno> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        statx(fd, c"", AtFlags::EMPTY_PATH, wanted).map(|raw| Self::new(&raw))
    }

    fn new(raw: &Statx) -> Self {
        let has_birth = raw.stx_mask & StatxFlags::BTIME.bits() != 0;
        Self {
            key: InodeKey {
                device: u64::from(raw.stx_dev_major) << 32 | u64::from(raw.stx_dev_minor),
                number: raw.stx_ino,
            },
            file_type: FileType::from_raw_mode(raw.stx_mode.into()),
            mode: raw.stx_mode,
            links: raw.stx_nlink,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            size: raw.stx_size,
            blocks: raw.stx_blocks,
            accessed: file_time(raw.stx_atime),
            modified: file_time(raw.stx_mtime),
            changed: file_time(raw.stx_ctime),
            born: has_birth.then(|| file_time(raw.stx_btime)),
            stamp: [
                (raw.stx_mtime.tv_sec, raw.stx_mtime.tv_nsec),
                (raw.stx_ctime.tv_sec, raw.stx_ctime.tv_nsec),
            ],
        }
    }

    /// Time of the last change of anything, as the file system has it.
    pub(super) fn changed_at(&self) -> Time {
        self.stamp[1]
    }

    #[cfg(test)]
    pub(super) fn of_nothing(key: InodeKey) -> Self {
        let time = FileTime(0);
        Self {
            key,
            file_type: FileType::RegularFile,
            mode: 0o644,
            links: 1,
            uid: 0,
            gid: 0,
            size: 0,
            blocks: 0,
            accessed: time,
            modified: time,
            changed: time,
            born: None,
            stamp: [(0, 0); 2],
        }
    }

    /// File or directory; what is neither is a file that cannot be opened.
    pub(super) fn kind(&self) -> Kind {
        if self.file_type == FileType::Directory { Kind::Directory } else { Kind::File }
    }
}

/// A pinned inode. There is one of these per inode however many handles lead to it, so that descriptors are shared and
/// what has to be read, changed and written back has one lock.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) key: InodeKey,
    pub(super) kind: Kind,
    /// A symbolic link, which is a file without data that clients can open as such.
    pub(super) is_symlink: bool,
    /// Keeps the inode and its number; opened with `O_PATH`, or for reading and writing if this driver made the file.
    pin: OwnedFd,
    pin_has_data: bool,
    is_regular: bool,
    /// Leads to the inode whatever becomes of its names.
    path: CString,
    reader: OnceLock<OwnedFd>,
    writer: OnceLock<OwnedFd>,
    /// Leads to a directory's extended attributes, which `pin` does not; only for directories that are kept.
    kept: OnceLock<OwnedFd>,
    /// Held while extended attributes are read, changed and written back.
    pub(super) edit: Mutex<()>,
    /// Named streams that handles lead to.
    pub(super) streams: Mutex<Vec<Weak<StreamLink>>>,
    /// Bytes set aside for the data while the file is empty; how many of an empty file's blocks are for data, the file system
    /// does not tell.
    pub(super) reserved: AtomicU64,
    /// The last write time that is told while handles write.
    pub(super) told: Mutex<Option<Told>>,
    /// What it replaced while a handle stood for that.
    pub(super) precursor: OnceLock<Precursor>,
}

/// An inode that another one replaced under its name, and under its number for as long as that one is known.
#[derive(Debug)]
pub(super) struct Precursor {
    /// The number.
    pub(super) number: FileNumber,
    /// Whose number it is, so that no other file gets it.
    pub(super) pin: Arc<Inode>,
}

impl Inode {
    pub(super) fn new(pin: OwnedFd, pin_has_data: bool, stat: &Stat) -> Self {
        let path = format!("/proc/self/fd/{}", pin.as_raw_fd());
        Self {
            key: stat.key,
            kind: stat.kind(),
            is_symlink: stat.file_type == FileType::Symlink,
            path: CString::new(path).unwrap_or_default(),
            pin,
            pin_has_data,
            is_regular: stat.file_type == FileType::RegularFile,
            reader: OnceLock::new(),
            writer: OnceLock::new(),
            kept: OnceLock::new(),
            edit: Mutex::new(()),
            streams: Mutex::new(Vec::new()),
            reserved: AtomicU64::new(0),
            told: Mutex::new(None),
            precursor: OnceLock::new(),
        }
    }

    /// For `*at` calls and `statx`.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.pin.as_fd()
    }

    /// A path that leads to this inode.
    pub(super) fn path(&self) -> &CStr {
        &self.path
    }

    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        Stat::of_fd(&self.pin)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// A new descriptor of this inode.
    pub(super) fn reopen(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat(rustix::fs::CWD, self.path(), flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
    }

    /// A descriptor that is open for data, if there is one.
    pub(super) fn data_fd(&self) -> Option<BorrowedFd<'_>> {
        if self.pin_has_data {
            return Some(self.pin.as_fd());
        }
        self.writer.get().or_else(|| self.reader.get()).map(|fd| fd.as_fd())
    }

    /// The directory is going to be used often: its extended attributes get a way that is shorter than the path, if it can be
    /// opened.
    pub(super) fn prepare(&self) {
        if self.is_directory()
            && self.kept.get().is_none()
            && let Ok(fd) = self.reopen(OFlags::RDONLY | OFlags::DIRECTORY)
        {
            let _ = self.kept.set(fd);
        }
    }

    /// A descriptor that leads to extended attributes, if there is one.
    pub(super) fn attributes_fd(&self) -> Option<BorrowedFd<'_>> {
        self.data_fd().or_else(|| self.kept.get().map(|fd| fd.as_fd()))
    }

    fn check_regular(&self) -> Outcome<()> {
        // Opening a FIFO waits and opening a device does things.
        match self.stat()?.file_type {
            FileType::RegularFile => Ok(()),
            FileType::Directory => Err(NtStatus::INVALID_DEVICE_REQUEST.into()),
            _ => Err(NtStatus::ACCESS_DENIED.into()),
        }
    }

    /// A descriptor for reading.
    pub(super) fn reader(&self) -> Outcome<BorrowedFd<'_>> {
        if let Some(fd) = self.data_fd() {
            return Ok(fd);
        }
        self.check_regular()?;
        self.regular_reader()
    }

    /// The same of an inode that is known to be a regular file.
    pub(super) fn regular_reader(&self) -> Outcome<BorrowedFd<'_>> {
        if let Some(fd) = self.data_fd() {
            return Ok(fd);
        }
        let fd = self.reopen(OFlags::RDONLY)?;
        Ok(self.reader.get_or_init(|| fd).as_fd())
    }

    /// Opens a regular file for data by its name in a directory, which is shorter than the path, if it has not been opened so
    /// and the name stands for it. Tells how the file is then.
    pub(super) fn open_by_name(&self, directory: &Inode, name: &CStr, writing: bool) -> Option<Stat> {
        let is_open =
            if writing { self.pin_has_data || self.writer.get().is_some() } else { self.data_fd().is_some() };
        if is_open || !self.is_regular {
            return None;
        }
        // What replaced the file a moment ago may be anything: it is not to be waited for, nor to become our terminal.
        let mode = if writing { OFlags::RDWR } else { OFlags::RDONLY };
        let flags = mode | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = openat(directory.fd(), name, flags, Mode::empty()).ok()?;
        let stat = Stat::of_fd(&fd).ok().filter(|stat| stat.key == self.key)?;
        let _ = if writing { self.writer.set(fd) } else { self.reader.set(fd) };
        Some(stat)
    }

    /// A descriptor for reading and writing.
    pub(super) fn writer(&self) -> Outcome<BorrowedFd<'_>> {
        if self.pin_has_data {
            return Ok(self.pin.as_fd());
        }
        if let Some(fd) = self.writer.get() {
            return Ok(fd.as_fd());
        }
        self.check_regular()?;
        self.regular_writer()
    }

    /// The same of an inode that is known to be a regular file.
    pub(super) fn regular_writer(&self) -> Outcome<BorrowedFd<'_>> {
        if self.pin_has_data {
            return Ok(self.pin.as_fd());
        }
        if let Some(fd) = self.writer.get() {
            return Ok(fd.as_fd());
        }
        let fd = self.reopen(OFlags::RDWR)?;
        Ok(self.writer.get_or_init(|| fd).as_fd())
    }
}

/// The descriptor that is open for data, and before there is one (`reader`, `writer`) one that can't be read or written.
impl AsFd for Inode {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.data_fd().unwrap_or_else(|| self.pin.as_fd())
    }
}

/// A name in a directory by which handles were opened. All handles of the same link share one, so that a rename through
/// one of them is followed by the others.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) state: Mutex<LinkState>,
}

#[derive(Clone, Debug)]
pub(super) struct LinkState {
    /// The directory; the root is in itself.
    pub(super) parent: Arc<Inode>,
    /// The name there; empty for the root.
    pub(super) name: CString,
    /// What the name stands for: the object itself, or the symbolic link that leads to it.
    pub(super) entry: InodeKey,
    /// Removed or replaced by this driver.
    pub(super) gone: bool,
}

impl LinkState {
    pub(super) fn is_root(&self) -> bool {
        self.name.is_empty()
    }

    pub(super) fn key(&self) -> LinkKey {
        (self.parent.key, self.name.clone())
    }

    /// The name as clients see it.
    pub(super) fn wire_name(&self) -> Name {
        Name::from_units(super::names::decode(self.name.to_bytes()).unwrap_or_default())
    }

    /// Whether the name still stands for what it stood for.
    pub(super) fn holds(&self) -> bool {
        !self.gone && (self.is_root() || self.stat().is_some())
    }

    /// What the name stands for, if it is what it stood for.
    pub(super) fn stat(&self) -> Option<Stat> {
        let stat = Stat::of_name(self.parent.fd(), &self.name).ok()?;
        (!self.gone && stat.key == self.entry).then_some(stat)
    }
}

impl Link {
    pub(super) fn now(&self) -> LinkState {
        lock(&self.state).clone()
    }
}

/// Directory and name.
pub(super) type LinkKey = (InodeKey, CString);

/// A named stream that handles lead to.
#[derive(Debug)]
pub(super) struct StreamLink {
    pub(super) state: Mutex<StreamState>,
}

#[derive(Clone, Debug)]
pub(super) struct StreamState {
    /// As stored.
    pub(super) name: Name,
    /// The data, once the stream was removed while handles are open.
    pub(super) orphan: Option<Vec<u8>>,
}

/// An open handle.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) inode: Arc<Inode>,
    pub(super) link: Arc<Link>,
    /// The named stream; `None` for the unnamed one.
    pub(super) stream: Option<Arc<StreamLink>>,
    /// Where the listing is.
    pub(super) cursor: Mutex<Option<Cursor>>,
    /// Times that it keeps, one bit each.
    pub(super) kept: AtomicU8,
    /// It wrote, and counts among those whose writes are told of late.
    pub(super) writes_late: AtomicBool,
}

impl Node {
    pub(super) fn new(inode: Arc<Inode>, link: Arc<Link>, stream: Option<Arc<StreamLink>>) -> Self {
        let (kept, writes_late) = (AtomicU8::new(0), AtomicBool::new(false));
        Self { inode, link, stream, cursor: None.into(), kept, writes_late }
    }

    /// The inode of a directory; NOT_A_DIRECTORY for anything else.
    pub(super) fn directory(&self) -> Outcome<&Arc<Inode>> {
        if self.inode.is_directory() && self.stream.is_none() {
            Ok(&self.inode)
        } else {
            Err(Fault::Status(NtStatus::NOT_A_DIRECTORY))
        }
    }
}

/// Values that exist once per key for as long as somebody uses them.
pub(super) struct Interner<K, V> {
    shards: [Mutex<InternerShard<K, V>>; SHARDS],
    hasher: RandomState,
}

const SHARDS: usize = 16;

struct InternerShard<K, V> {
    values: HashMap<K, Weak<V>>,
    /// Dead entries are swept when there are this many: at least half of them were then added since the last time.
    sweep_at: usize,
}

impl<K: Eq + Hash, V> Default for Interner<K, V> {
    fn default() -> Self {
        let shards =
            std::array::from_fn(|_| Mutex::new(InternerShard { values: HashMap::new(), sweep_at: 64 }));
        Self { shards, hasher: RandomState::new() }
    }
}

impl<K: Eq + Hash, V> Interner<K, V> {
    fn shard(&self, key: &K) -> &Mutex<InternerShard<K, V>> {
        let at = (self.hasher.hash_one(key) >> 32) as usize % SHARDS;
        &self.shards[at]
    }

    /// The value in use for `key` if `keep` accepts it, else the one that `make` gives.
    pub(super) fn intern(&self, key: K, keep: impl FnOnce(&V) -> bool, make: impl FnOnce() -> V) -> Arc<V> {
        let mut shard = lock(self.shard(&key));
        if let Some(value) = shard.values.get(&key).and_then(Weak::upgrade)
            && keep(&value)
        {
            return value;
        }
        let value = Arc::new(make());
        shard.put(key, &value);
        value
    }

    /// The value in use for `key`.
    pub(super) fn get(&self, key: &K) -> Option<Arc<V>> {
        lock(self.shard(key)).values.get(key).and_then(Weak::upgrade)
    }

    /// Makes `value` the one for `key`.
    pub(super) fn put(&self, key: K, value: &Arc<V>) {
        lock(self.shard(&key)).put(key, value);
    }

    /// Forgets the key.
    pub(super) fn forget(&self, key: &K) {
        lock(self.shard(key)).values.remove(key);
    }
}

impl<K: Eq + Hash, V> InternerShard<K, V> {
    fn put(&mut self, key: K, value: &Arc<V>) {
        if self.values.len() >= self.sweep_at {
            self.values.retain(|_, value| value.strong_count() > 0);
            self.sweep_at = (self.values.len() * 2).max(64);
        }
        self.values.insert(key, Arc::downgrade(value));
    }
}
