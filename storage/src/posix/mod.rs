//! A directory tree of this machine as a volume.
//!
//! * [`resolve`], [`directories`]: from a path to a pinned object, never outside the root; [`handle`]: what a handle stands for
//! * [`names`], [`index`], [`name_table`], [`name_news`]: UTF-16 and case
//! * [`attributes`], [`record`], [`records`]: metadata; [`eas`], [`streams`], [`security`]: what POSIX has no place for
//! * [`io`], [`list`], [`rolls`], [`change`]: data, listings, names; [`pace`]: whether writes wait; [`waits`]: what does
//! * [`symlinks`]: symbolic links as reparse points
//! * [`watch`]: what other processes change
//! * [`errno`], [`xattr`]: the kernel's errors and attributes
//!
//! What is kept in extended attributes is kept under `user.leasehold.`. On a file system without them a volume has no
//! streams, extended attributes, security descriptors or sparse files; of the DOS attributes READONLY remains (the
//! mode), and creation times are the file system's own.
//!
//! File numbers are inode numbers. Where the tree goes on to other file systems, theirs are mixed with the device and
//! have the top bit set.
//!
//! Symbolic links are shown as reparse points, and never followed here. With [`PosixOptions::follows_links`] they are shown as
//! what they lead to, which the kernel finds as long as that is in the tree; one that leads out of it answers ACCESS_DENIED
//! and is left out of listings. What removes a name (unlink, rename) checks just before that the name still stands for the
//! object; POSIX has no way to do both in one step, so a local program that replaces a file in that moment loses it.
//!
//! Deliberately not done: short names, object ids, quotas, reparse points other than symbolic links.

mod attributes;
mod change;
mod directories;
mod eas;
mod errno;
mod extents;
mod handle;
mod index;
mod io;
mod list;
mod name_news;
mod name_table;
mod names;
mod pace;
mod record;
mod records;
mod resolve;
mod rolls;
mod security;
mod streams;
mod symlinks;
mod times;
mod waits;
mod watch;
mod xattr;

use std::ffi::CString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::task::Poll;

use bytes::Bytes;
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags, StatVfsMountFlags, fallocate, fstatvfs, open, openat};
use rustix::io::Errno;
use smb_proto::security::Sid;
use smb_proto::{Name, NtStatus, Payload};
use smb_state::storage::{Kept, Requester, StorageOp, StorageReply, VolumeCaps};

use self::handle::{Inode, InodeKey, Interner, Link, LinkKey, LinkState, Node, Stat};
use self::index::IndexCache;
use self::records::RecordCache;
use self::rolls::RollCache;
use crate::driver::{Completion, Driver, Offload};
use crate::fault::{Fault, Outcome, Place, reply};
use crate::handles::{HandleTable, lock};

/// Longest copy in bytes that is done on the thread that serves connections. What is copied may have to come from the disk.
const INLINE_COPY_MAX: usize = 256 << 10;

/// How a volume is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PosixOptions {
    /// Nothing may be changed.
    pub read_only: bool,
    /// Label of the volume.
    pub label: Name,
    /// Symbolic links are followed here, as long as they stay in the tree, and clients don't see them. If not, clients see and follow
    /// them.
    pub follows_links: bool,
    /// Mode of new files, less the process's umask.
    pub file_mode: u32,
    /// Mode of new directories, less the process's umask.
    pub directory_mode: u32,
    /// Longest read in bytes that is tried on the thread that serves connections: it succeeds if the page cache has it all.
    pub inline_read_max: u32,
    /// Longest write in bytes that is done on the thread that serves connections, as long as the page cache takes them at
    /// once.
    pub inline_write_max: usize,
    /// Bytes of memory for names without regard to case, over all directories.
    pub index_memory_max: usize,
    /// Bytes of memory for records, a file's attributes beside the file system's own: 100 bytes a file, for those that were
    /// listed or opened last.
    pub record_memory_max: usize,
    /// Bytes of memory for names of directories that are or were listed.
    pub listing_memory_max: usize,
    /// Largest named stream in bytes; the file system may have less room.
    pub stream_size_max: u64,
    /// The domain that users are in (`smb_state::security::account_domain`): of a new file's owner there only the number is
    /// kept. Without it owners are known only where a security descriptor is stored.
    pub account_domain: Option<Sid>,
}

impl Default for PosixOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            label: Name::default(),
            follows_links: false,
            file_mode: 0o666,
            directory_mode: 0o777,
            inline_read_max: u32::MAX,
            inline_write_max: 1 << 20,
            index_memory_max: 64 << 20,
            record_memory_max: 16 << 20,
            listing_memory_max: 16 << 20,
            stream_size_max: 1 << 20,
            account_domain: None,
        }
    }
}

/// Why a directory cannot be served.
#[derive(Debug)]
pub enum PosixError {
    /// The root cannot be opened, or is no directory.
    Root(std::io::Error),
    /// The kernel has no `openat2` (Linux 5.6 has it), or a sandbox denies it; without it nothing keeps paths below the
    /// root.
    Openat2(std::io::Error),
    /// `/proc` is not mounted: descriptors cannot be opened anew.
    Proc(std::io::Error),
}

impl fmt::Display for PosixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(error) => write!(f, "cannot open the directory: {error}"),
            Self::Openat2(error) => {
                write!(f, "openat2, which keeps paths inside the share, does not work: {error}")
            }
            Self::Proc(error) => write!(f, "cannot open descriptors through /proc/self/fd: {error}"),
        }
    }
}

impl std::error::Error for PosixError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Root(error) | Self::Openat2(error) | Self::Proc(error) => Some(error),
        }
    }
}

/// A driver for a directory tree.
pub struct Posix {
    volume: Arc<Volume>,
    offload: Arc<dyn Offload>,
}

struct Volume {
    root: Arc<Inode>,
    root_link: Arc<Link>,
    options: PosixOptions,
    caps: VolumeCaps,
    handles: HandleTable<Node>,
    inodes: Interner<InodeKey, Inode>,
    links: Interner<LinkKey, Link>,
    directories: directories::DirectoryCache,
    indexes: IndexCache,
    records: RecordCache,
    rolls: RollCache,
    watching: watch::Watching,
    /// Held while a link is renamed, replaced or removed, so that what is known of links follows in the same order.
    naming: Mutex<()>,
    /// The file system does not know reads that don't wait.
    without_nowait: AtomicBool,
    /// Files whose last write times are told of late.
    late: AtomicUsize,
    /// How writes to the page cache go.
    pace: pace::Pace,
}

impl Posix {
    /// Serves the tree below `root`.
    ///
    /// # Errors
    /// When the root is no directory, or the system lacks what keeps paths inside it.
    pub fn new(root: &Path, options: PosixOptions, offload: Arc<dyn Offload>) -> Result<Self, PosixError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let pin = open(root, flags, Mode::empty()).map_err(|errno| PosixError::Root(errno.into()))?;
        resolve::open_beneath(&pin, c".", OFlags::PATH).map_err(|errno| PosixError::Openat2(errno.into()))?;
        let stat = Stat::of_fd(&pin).map_err(|errno| PosixError::Root(errno.into()))?;
        let inodes = Interner::default();
        let root = inodes.intern(stat.key, |_| true, || Inode::new(pin, false, &stat));
        root.reopen(OFlags::RDONLY | OFlags::DIRECTORY).map_err(|errno| match errno {
            Errno::NOENT => PosixError::Proc(errno.into()),
            errno => PosixError::Root(errno.into()),
        })?;
        let state =
            LinkState { parent: Arc::clone(&root), name: CString::default(), entry: stat.key, gone: false };
        let volume = Volume {
            root_link: Arc::new(Link { state: state.into() }),
            caps: detect(&root, &options),
            directories: directories::DirectoryCache::default(),
            indexes: IndexCache::new(options.index_memory_max),
            records: RecordCache::new(options.record_memory_max),
            rolls: RollCache::new(options.listing_memory_max),
            root,
            options,
            handles: HandleTable::default(),
            inodes,
            links: Interner::default(),
            watching: watch::Watching::default(),
            naming: Mutex::new(()),
            without_nowait: AtomicBool::new(false),
            late: AtomicUsize::new(0),
            pace: pace::Pace::default(),
        };
        Ok(Self { volume: Arc::new(volume), offload })
    }

    /// Handles that are open, so that leaks can be found.
    #[must_use]
    pub fn handles_open(&self) -> usize {
        self.volume.handles.len()
    }

    /// Directories that were read in whole to find names without regard to case.
    #[must_use]
    pub fn index_scans(&self) -> u64 {
        self.volume.indexes.scans()
    }

    /// Listings that read the directory rather than what is kept of it.
    #[must_use]
    pub fn directory_reads(&self) -> u64 {
        self.volume.rolls.reads()
    }

    /// Records that the file system was asked for.
    #[must_use]
    pub fn record_reads(&self) -> u64 {
        self.volume.records.reads()
    }
}

/// What the file system of the root can do.
fn detect(root: &Inode, options: &PosixOptions) -> VolumeCaps {
    let has_attributes =
        !matches!(rustix::fs::getxattr(root.path(), record::NAME, &mut [0_u8; 1][..]), Err(Errno::OPNOTSUPP));
    let is_read_only = fstatvfs(root.fd()).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY))
        || options.read_only;
    VolumeCaps {
        streams: has_attributes,
        extended_attributes: has_attributes,
        sparse: has_attributes && !is_read_only && can_punch(root),
        security: has_attributes,
        hard_links: true,
        symbolic_links: !options.follows_links,
        server_copy: true,
        block_clone: !is_read_only && extents::can_clone(root),
        read_only: is_read_only,
        local_changes: watch::is_available(),
        pipes: false,
    }
}

/// Whether holes can be made, tried on a file without a name.
fn can_punch(root: &Inode) -> bool {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = openat(CWD, root.path(), flags, Mode::RUSR | Mode::WUSR);
    let punch =
        |file: OwnedFd| fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 4096);
    file.and_then(punch).is_ok()
}

impl Driver for Posix {
    fn caps(&self) -> VolumeCaps {
        self.volume.caps
    }

    fn submit(
        &self,
        _requester: &Requester,
        op: StorageOp<Bytes>,
        later: &mut dyn FnMut() -> Completion,
    ) -> Poll<StorageReply<Payload>> {
        match op {
            StorageOp::Watch { handle, tree } => {
                let (completion, volume) = (later(), Arc::clone(&self.volume));
                self.offload.run(Box::new(move || volume.watch(handle, tree, completion)));
                return Poll::Pending;
            }
            StorageOp::Unwatch { handle } => {
                let (completion, volume) = (later(), Arc::clone(&self.volume));
                self.offload.run(Box::new(move || completion.complete(reply(volume.unwatch(handle)))));
                return Poll::Pending;
            }
            _ => {}
        }
        match self.volume.run_quietly(&op, Place::Inline) {
            Err(Fault::Offload) => {
                self.volume.run_later(&*self.offload, op, later());
                Poll::Pending
            }
            outcome => Poll::Ready(reply(outcome)),
        }
    }
}

fn payload(buffer: &Bytes, length: u32) -> Outcome<&[u8]> {
    Ok(buffer.get(..length as usize).ok_or(NtStatus::INVALID_PARAMETER)?)
}

impl Volume {
    fn check_writable(&self) -> Outcome<()> {
        if self.caps.read_only { Err(NtStatus::MEDIA_WRITE_PROTECTED.into()) } else { Ok(()) }
    }

    fn check_eas(&self) -> Outcome<()> {
        if self.caps.extended_attributes { Ok(()) } else { Err(NtStatus::EAS_NOT_SUPPORTED.into()) }
    }

    fn hold_naming(&self, place: Place) -> Outcome<MutexGuard<'_, ()>> {
        match place {
            Place::Offloaded => Ok(lock(&self.naming)),
            Place::Inline => match self.naming.try_lock() {
                Ok(held) => Ok(held),
                Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => Err(Fault::Offload),
            },
        }
    }

    fn run(&self, op: &StorageOp<Bytes>, place: Place) -> Outcome<StorageReply<Payload>> {
        if changes(op) {
            self.check_writable()?;
        }
        match op {
            StorageOp::Resolve { path, stream } => {
                Ok(StorageReply::Resolved(self.resolve(path, stream.as_ref(), place)?))
            }
            StorageOp::Create { parent, name, kind, initial } => {
                let parent = self.handles.get(*parent)?;
                Ok(StorageReply::Opened(self.create(&parent, name, *kind, initial, place)?))
            }
            StorageOp::CreateStream { file, stream, most, .. } => {
                let file = self.handles.get(*file)?;
                Ok(StorageReply::Opened(self.create_stream(&file, stream, *most)?))
            }
            StorageOp::Rename { handle, parent, name, replace } => {
                let (node, parent) = (self.handles.get(*handle)?, self.handles.get(*parent)?);
                done(self.changing(&node, || self.rename(&node, &parent, name, *replace, place)))
            }
            StorageOp::Link { handle, parent, name, replace } => {
                let (node, parent) = (self.handles.get(*handle)?, self.handles.get(*parent)?);
                done(self.changing(&node, || self.add_link(&node, &parent, name, *replace, place)))
            }
            StorageOp::Copy { source, source_offset, target, target_offset, length } => {
                if *length as usize > INLINE_COPY_MAX {
                    place.may_wait()?;
                }
                let (source, target) = (self.handles.get(*source)?, self.handles.get(*target)?);
                self.changing(&target, || {
                    self.copy((&source, *source_offset), (&target, *target_offset), *length)
                })
            }
            StorageOp::CloneExtents { source, source_offset, target, target_offset, length } => {
                place.may_wait()?;
                let (source, target) = (self.handles.get(*source)?, self.handles.get(*target)?);
                done(self.changing(&target, || {
                    self.clone_extents((&source, *source_offset), (&target, *target_offset), *length)
                }))
            }
            StorageOp::SetLinkTarget { handle, target, initial } => {
                let node = self.handles.get(*handle)?;
                done(self.set_link_target(*handle, &node, target.as_ref(), initial, place))
            }
            StorageOp::Volume => Ok(StorageReply::Volume(self.volume_info()?)),
            StorageOp::Close { handle } => {
                self.forget_times(&*self.handles.remove(*handle)?);
                Ok(StorageReply::Done)
            }
            StorageOp::Transceive { .. } | StorageOp::PipeState { .. } => {
                Err(NtStatus::INVALID_DEVICE_REQUEST.into())
            }
            _ => self.run_on(op, place),
        }
    }

    /// Requests on one handle.
    fn run_on(&self, op: &StorageOp<Bytes>, place: Place) -> Outcome<StorageReply<Payload>> {
        let node = |handle| self.handles.get(handle);
        match op {
            StorageOp::Open { handle, intent } => self.open(&*node(*handle)?, *intent),
            StorageOp::Overwrite { handle, initial, supersede } => {
                let node = node(*handle)?;
                let reply = self.overwrite(&node, initial, *supersede)?;
                self.settle_times(&node)?;
                Ok(reply)
            }
            StorageOp::Read { handle, offset, length } => {
                let node = node(*handle)?;
                let kept = Kept { access: node.kept().access, ..Kept::default() };
                self.keeping(&node, kept, || self.read(&node, *offset, *length, place))
            }
            StorageOp::Write { handle, offset, buffer, length, write_through } => {
                let bytes = payload(buffer, *length)?;
                self.check_inline(bytes.len(), *write_through, place)?;
                let node = node(*handle)?;
                self.tell_late(&node)?;
                let write = || self.write(&node, *offset, bytes, *write_through);
                self.pace.keep(bytes.len(), || self.keeping(&node, node.kept(), write))
            }
            StorageOp::Flush { handle } => {
                place.may_wait()?;
                let node = node(*handle)?;
                self.flush(&node)?;
                done(self.settle_times(&node))
            }
            StorageOp::SettleTimes { handle, now } => {
                let node = node(*handle)?;
                if *now && !node.kept().write {
                    self.keeping(&node, node.kept(), || times::note_modified(&node.inode))?;
                }
                self.settle_times(&node)?;
                Ok(StorageReply::Attributes(self.attributes_of(&node)?))
            }
            StorageOp::Attributes { handle } => {
                Ok(StorageReply::Attributes(self.attributes_of(&*node(*handle)?)?))
            }
            StorageOp::SetAttributes { handle, set } => done(self.set_basic(&*node(*handle)?, set)),
            StorageOp::SetEndOfFile { handle, size } => {
                let node = node(*handle)?;
                done(self.changing(&node, || self.set_end_of_file(&node, *size)))
            }
            StorageOp::SetAllocation { handle, size } => {
                let node = node(*handle)?;
                done(self.changing(&node, || self.set_allocation(&node, *size)))
            }
            StorageOp::List { handle, listing } => self.list(&*node(*handle)?, listing, place),
            StorageOp::Streams { handle } => Ok(StorageReply::Streams(self.streams(&*node(*handle)?)?)),
            StorageOp::LinkTarget { handle } => Ok(StorageReply::Target(self.link_target(&*node(*handle)?)?)),
            StorageOp::Path { handle } => Ok(StorageReply::Path(self.path_of(&*node(*handle)?)?)),
            StorageOp::Eas { handle } => {
                self.check_eas()?;
                Ok(StorageReply::Eas(eas::load(&node(*handle)?.inode)?))
            }
            StorageOp::SetEas { handle, eas } => {
                self.check_eas()?;
                let node = node(*handle)?;
                if node.inode.is_symlink {
                    return Err(NtStatus::EAS_NOT_SUPPORTED.into());
                }
                done(self.changing(&node, || eas::set(&node.inode, eas)))
            }
            StorageOp::Security { handle } => {
                Ok(StorageReply::Security(Box::new(self.security(&*node(*handle)?)?)))
            }
            StorageOp::SetSecurity { handle, parts, descriptor } => {
                let node = node(*handle)?;
                done(self.changing(&node, || self.set_security(&node, *parts, descriptor)))
            }
            StorageOp::CheckEmpty { handle } => done(self.check_empty(&*node(*handle)?)),
            StorageOp::RenameStream { handle, stream, replace } => {
                let node = node(*handle)?;
                done(self.changing(&node, || self.rename_stream(&node, stream, *replace)))
            }
            StorageOp::UnlinkStream { handle } => {
                let node = node(*handle)?;
                let stream = node.stream.as_ref().ok_or(NtStatus::INVALID_PARAMETER)?;
                done(self.changing(&node, || self.unlink_stream(&node, stream)))
            }
            StorageOp::Unlink { handle } => done(self.unlink(&*node(*handle)?, place)),
            StorageOp::AllocatedRanges { handle, offset, length, count_max } => {
                let ranges = self.allocated_ranges(&*node(*handle)?, *offset, *length, *count_max)?;
                Ok(StorageReply::Ranges(ranges))
            }
            StorageOp::SetSparse { handle, sparse } => {
                let node = node(*handle)?;
                done(self.changing(&node, || self.set_sparse(&node, *sparse)))
            }
            StorageOp::Trim { handle, ranges } => {
                let node = node(*handle)?;
                done(self.changing(&node, || self.trim(&node, ranges)))
            }
            StorageOp::Zero { handle, offset, beyond } => {
                let node = node(*handle)?;
                done(self.changing(&node, || self.zero(&node, *offset, *beyond, place)))
            }
            _ => Err(NtStatus::INVALID_DEVICE_REQUEST.into()),
        }
    }
}

fn done(outcome: Outcome<()>) -> Outcome<StorageReply<Payload>> {
    outcome.map(|()| StorageReply::Done)
}

/// Whether a request changes anything on the volume.
fn changes<B>(op: &StorageOp<B>) -> bool {
    match op {
        StorageOp::Create { .. }
        | StorageOp::CreateStream { .. }
        | StorageOp::Overwrite { .. }
        | StorageOp::Write { .. }
        | StorageOp::SetAttributes { .. }
        | StorageOp::SetEndOfFile { .. }
        | StorageOp::SetAllocation { .. }
        | StorageOp::SetEas { .. }
        | StorageOp::SetSecurity { .. }
        | StorageOp::Rename { .. }
        | StorageOp::RenameStream { .. }
        | StorageOp::Link { .. }
        | StorageOp::Unlink { .. }
        | StorageOp::UnlinkStream { .. }
        | StorageOp::SetSparse { .. }
        | StorageOp::Zero { .. }
        | StorageOp::CloneExtents { .. }
        | StorageOp::Trim { .. }
        | StorageOp::SetLinkTarget { .. }
        | StorageOp::Copy { .. } => true,
        StorageOp::Resolve { .. }
        | StorageOp::Open { .. }
        | StorageOp::Close { .. }
        | StorageOp::Read { .. }
        | StorageOp::Flush { .. }
        | StorageOp::SettleTimes { .. }
        | StorageOp::Attributes { .. }
        | StorageOp::List { .. }
        | StorageOp::Streams { .. }
        | StorageOp::Path { .. }
        | StorageOp::LinkTarget { .. }
        | StorageOp::Eas { .. }
        | StorageOp::Security { .. }
        | StorageOp::CheckEmpty { .. }
        | StorageOp::Watch { .. }
        | StorageOp::Unwatch { .. }
        | StorageOp::Volume
        | StorageOp::AllocatedRanges { .. }
        | StorageOp::PipeState { .. }
        | StorageOp::Transceive { .. } => false,
    }
}
