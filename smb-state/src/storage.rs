//! The storage vocabulary: what the core asks of a volume and what it may hear back. Drivers are elsewhere; share
//! modes, locks, leases and pending deletes are decided in the core, never in a driver.

use smb_proto::attributes::FileAttributes;
use smb_proto::command::change_notify::CompletionFilter;
use smb_proto::fscc::class::FileInfoClass;
use smb_proto::fscc::ea::FullEa;
use smb_proto::fscc::notify::Change;
use smb_proto::security::descriptor::{SecurityDescriptor, SecurityInformation};
use smb_proto::security::sid::Sid;
use smb_proto::{FileTime, Name, NtStatus};

use crate::ids::{BufferId, FileNumber, Handle, VolumeId};

/// What a volume can do. A capability is advertised to clients only when its volume has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct VolumeCaps {
    /// Named streams.
    pub streams: bool,
    /// Extended attributes.
    pub extended_attributes: bool,
    /// Sparse files: zeroed ranges give their space back, allocated ranges can be asked for.
    pub sparse: bool,
    /// Security descriptors are stored as set.
    pub security: bool,
    /// Hard links.
    pub hard_links: bool,
    /// Symbolic links are shown as what they are, and clients follow them (MS-SMB2 2.2.2.2.1). If not, the driver follows those
    /// that it has.
    pub symbolic_links: bool,
    /// Data can be copied between files of the volume without passing through the server's memory.
    pub server_copy: bool,
    /// Files of the volume can share blocks.
    pub block_clone: bool,
    /// Nothing on the volume can be changed.
    pub read_only: bool,
    /// What local processes change in a directory can be watched.
    pub local_changes: bool,
    /// The volume holds named pipes, not files.
    pub pipes: bool,
}

/// What kind of object a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A file, or a named stream of a file or directory.
    File,
    /// A directory.
    Directory,
    /// A named pipe of the server.
    Pipe,
}

/// Metadata of an object. Times and sizes of a named stream: times are its file's, sizes its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// The file's number.
    pub number: FileNumber,
    /// File or directory.
    pub kind: Kind,
    /// DOS attributes as stored; [`FileAttributes::DIRECTORY`] agrees with `kind`. Never empty: a plain file has NORMAL
    /// only when no other is set.
    pub dos: FileAttributes,
    /// Creation time.
    pub creation: FileTime,
    /// Last access time.
    pub last_access: FileTime,
    /// Last write time.
    pub last_write: FileTime,
    /// Time of the last change to data or metadata.
    pub change: FileTime,
    /// Bytes of data.
    pub end_of_file: u64,
    /// Bytes of storage; 0 for an empty file.
    pub allocation: u64,
    /// Hard links.
    pub links: u32,
    /// Size of the extended attributes as FileEaInformation counts them; 0 if none.
    pub ea_size: u32,
    /// Reparse tag, 0 if none.
    pub reparse_tag: u32,
}

/// A pinned object: while the handle is open the file's number is not reused, whatever happens to its names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    /// The pin. Closed with [`StorageOp::Close`].
    pub handle: Handle,
    /// Its metadata.
    pub attributes: Attributes,
    /// The directory that the name was found in (its own number for the root).
    pub parent: FileNumber,
    /// The last component as the volume stores it; empty for the root.
    pub name: Name,
    /// The stream as the volume stores it; empty for the unnamed stream.
    pub stream: Name,
    /// The security descriptor, where one is stored. What has none grants everything to everybody who comes through the
    /// share ([`crate::security::default_descriptor`]).
    pub security: Option<Box<SecurityDescriptor>>,
}

/// Where a name led.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resolved {
    /// To an object.
    Found(Object),
    /// The directory is there, the last component is not.
    NoName {
        /// The directory, pinned.
        parent: Object,
    },
    /// The file is there, its stream is not.
    NoStream {
        /// The file, pinned (its unnamed stream).
        file: Object,
    },
    /// A component before the last is missing.
    NoPath,
    /// A component before the last is not a directory.
    NotADirectory,
    /// A component before the last is a symbolic link.
    Link {
        /// Which component, counted from 1.
        component: u32,
        /// Where it leads, from the directory that it is in; components separated by `\`.
        target: Name,
    },
}

/// What an open wants to do with the data; the driver refuses now rather than at the first read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Intent {
    /// Read data.
    pub read: bool,
    /// Write or append data, change sizes.
    pub write: bool,
}

/// A change of times and attributes (FileBasicInformation). Absent parts stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct SetAttributes {
    /// Creation time.
    pub creation: Option<FileTime>,
    /// Last access time.
    pub last_access: Option<FileTime>,
    /// Last write time.
    pub last_write: Option<FileTime>,
    /// Change time.
    pub change: Option<FileTime>,
    /// DOS attributes (DIRECTORY and the like, which say what an object is, are ignored).
    pub dos: Option<FileAttributes>,
    /// From now on, and for this change itself where it does not name the time.
    pub kept: Kept,
}

impl SetAttributes {
    /// Whether anything changes for an object that has these DOS attributes; if not, the change time stays as well.
    #[must_use]
    pub fn changes(&self, dos: FileAttributes) -> bool {
        // What an object is can't be set, and NORMAL only says that nothing is.
        let settable = |dos: FileAttributes| {
            dos.without(FileAttributes::DIRECTORY)
                .without(FileAttributes::NORMAL)
                .without(FileAttributes::SPARSE_FILE)
        };
        self.creation.or(self.last_access).or(self.last_write).or(self.change).is_some()
            || self.dos.is_some_and(|wanted| settable(wanted) != settable(dos))
    }
}

/// Times that stay as they are whatever is done through a handle (MS-FSA 2.1.1.6: UserSetAccessTime and its siblings). Only
/// what names such a time itself moves it; what is done through other handles does as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Kept {
    /// Last access time.
    pub access: bool,
    /// Last write time.
    pub write: bool,
    /// Change time.
    pub change: bool,
}

impl Kept {
    /// Whether everything moves as usual.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// What a new object starts with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Initial {
    /// DOS attributes.
    pub dos: FileAttributes,
    /// Extended attributes.
    pub eas: Vec<FullEa>,
    /// Bytes to set aside.
    pub allocation: u64,
    /// Security descriptor, where the volume stores them: owner, group and lists.
    pub security: Option<Box<SecurityDescriptor>>,
    /// Who makes it: the owner that [`StorageOp::Security`] tells of while no descriptor is stored.
    pub owner: Option<Sid>,
}

/// A listing's request (MS-SMB2 2.2.33). The driver encodes the entries itself, in the class asked for, so that names
/// of a large directory never pass through the core.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listing {
    /// One of the directory information classes.
    pub class: FileInfoClass,
    /// Name expression; the first one after a restart stays in force when `None`.
    pub pattern: Option<Name>,
    /// Start from the first entry again.
    pub restart: bool,
    /// One entry only.
    pub single: bool,
    /// Bytes that the answer may have.
    pub length_max: u32,
    /// Leave out what this user may not read ([`crate::security::may_see`]).
    pub visible_to: Option<Box<smb_proto::security::Token>>,
}

/// One request to a volume's driver. The core names payloads by number (`B = BufferId`); a driver is handed the bytes
/// themselves (`B = Bytes`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StorageOp<B = BufferId> {
    /// Follow a path from the root, without regard to case, to a pinned object. Answer: [`StorageReply::Resolved`].
    Resolve {
        /// Components; none for the root itself.
        path: Vec<Name>,
        /// A named stream of the last component.
        stream: Option<Name>,
    },
    /// Make a new file or directory in a pinned directory. Answer: [`StorageReply::Opened`], ready for every I/O;
    /// OBJECT_NAME_COLLISION when the name exists after all.
    Create {
        /// The directory.
        parent: Handle,
        /// The new name, stored as given.
        name: Name,
        /// File or directory.
        kind: Kind,
        /// What it starts with.
        initial: Box<Initial>,
    },
    /// Make a new named stream. Answer: [`StorageReply::Opened`]; FILE_SYSTEM_LIMITATION when the file has as many as it may.
    CreateStream {
        /// The file or directory.
        file: Handle,
        /// The stream's name.
        stream: Name,
        /// What it starts with (only the allocation counts).
        initial: Box<Initial>,
        /// Named streams that the file may have.
        most: u32,
    },
    /// Make a pinned object ready for data. Answer: [`StorageReply::Attributes`] as they are now;
    /// [`StorageReply::Stale`] when the name that led to the object no longer does.
    Open {
        /// The object.
        handle: Handle,
        /// What for.
        intent: Intent,
    },
    /// Empty the object and give it new attributes (overwrite and supersede). Answer: [`StorageReply::Attributes`].
    Overwrite {
        /// The object.
        handle: Handle,
        /// Attributes and extended attributes, replacing the old ones.
        initial: Box<Initial>,
        /// Supersede: creation time and named streams go too.
        supersede: bool,
    },
    /// Give a handle back. Answer: [`StorageReply::Done`].
    Close {
        /// The handle.
        handle: Handle,
    },
    /// Read data. Answer: [`StorageReply::Read`]; a read at or beyond the end answers with no bytes.
    Read {
        /// The object.
        handle: Handle,
        /// Where.
        offset: u64,
        /// Bytes at most.
        length: u32,
    },
    /// Write data. Whoever asks for the last write time may be told of the one before until the handle is closed, flushed,
    /// changed in another way, or its times are settled ([`StorageOp::SettleTimes`]). Answer: [`StorageReply::Written`].
    Write {
        /// The object.
        handle: Handle,
        /// Where; `None` appends.
        offset: Option<u64>,
        /// The data.
        buffer: B,
        /// Bytes of data.
        length: u32,
        /// Answer only when the data would survive a power cut.
        write_through: bool,
    },
    /// Make everything written so far survive a power cut. Answer: [`StorageReply::Done`].
    Flush {
        /// The object.
        handle: Handle,
    },
    /// From now on tell the last write time that the writes so far have left. Answer: [`StorageReply::Attributes`].
    SettleTimes {
        /// The object.
        handle: Handle,
        /// The last write time is that of now, unless the handle keeps it.
        now: bool,
    },
    /// Metadata. Answer: [`StorageReply::Attributes`].
    Attributes {
        /// The object.
        handle: Handle,
    },
    /// Change times and attributes, and say which times the handle keeps. Answer: [`StorageReply::Done`].
    SetAttributes {
        /// The object.
        handle: Handle,
        /// The change.
        set: SetAttributes,
    },
    /// Move the end of the file. Answer: [`StorageReply::Done`].
    SetEndOfFile {
        /// The object.
        handle: Handle,
        /// New size in bytes.
        size: u64,
    },
    /// Set storage aside; a size below the end of the file truncates it. Answer: [`StorageReply::Done`].
    SetAllocation {
        /// The object.
        handle: Handle,
        /// Bytes.
        size: u64,
    },
    /// List a directory, from where the handle's last listing ended. Answer: [`StorageReply::Listed`]; NO_SUCH_FILE
    /// when nothing ever matched, NO_MORE_FILES at the end, BUFFER_OVERFLOW or INFO_LENGTH_MISMATCH when not even one
    /// entry fits.
    List {
        /// The directory.
        handle: Handle,
        /// What to list.
        listing: Box<Listing>,
    },
    /// Names and sizes of all streams. Answer: [`StorageReply::Streams`].
    Streams {
        /// Any stream of the file.
        handle: Handle,
    },
    /// The path from the root by which the object was opened, as the volume spells it now, with `:` and its name
    /// for a named stream. Answer:
    /// [`StorageReply::Path`].
    Path {
        /// The object.
        handle: Handle,
    },
    /// All extended attributes. Answer: [`StorageReply::Eas`].
    Eas {
        /// The object.
        handle: Handle,
    },
    /// Set extended attributes; one with an empty value is removed. Answer: [`StorageReply::Done`].
    SetEas {
        /// The object.
        handle: Handle,
        /// Which.
        eas: Vec<FullEa>,
    },
    /// The security descriptor; the default one, with the owner, where none is stored. Answer:
    /// [`StorageReply::Security`].
    Security {
        /// The object.
        handle: Handle,
    },
    /// Replace parts of the security descriptor, as [`SecurityDescriptor::apply`] does. Answer: [`StorageReply::Done`].
    SetSecurity {
        /// The object.
        handle: Handle,
        /// Which.
        parts: SecurityInformation,
        /// The new parts.
        descriptor: Box<SecurityDescriptor>,
    },
    /// Whether a directory has no entries. Answer: [`StorageReply::Done`] or DIRECTORY_NOT_EMPTY.
    CheckEmpty {
        /// The directory.
        handle: Handle,
    },
    /// Give the link by which the object was opened another name. Every handle of the same link follows it. Answer:
    /// [`StorageReply::Done`]; OBJECT_NAME_COLLISION if the name exists and `replace` is off.
    Rename {
        /// The object.
        handle: Handle,
        /// The target directory, pinned.
        parent: Handle,
        /// The new name.
        name: Name,
        /// Replace a file of that name.
        replace: bool,
    },
    /// Rename a stream. One that is replaced must be empty, else INVALID_PARAMETER. Answer: [`StorageReply::Done`].
    RenameStream {
        /// The stream.
        handle: Handle,
        /// Its new name.
        stream: Name,
        /// Replace a stream of that name.
        replace: bool,
    },
    /// Give the object one more name. Answer: [`StorageReply::Done`].
    Link {
        /// The object.
        handle: Handle,
        /// The directory of the new name, pinned.
        parent: Handle,
        /// The new name.
        name: Name,
        /// Replace a file of that name.
        replace: bool,
    },
    /// Remove the link by which the object was opened, whichever stream of it. Handles stay usable. Answer:
    /// [`StorageReply::Done`]; DIRECTORY_NOT_EMPTY.
    Unlink {
        /// The object.
        handle: Handle,
    },
    /// Where a symbolic link leads. Answer: [`StorageReply::Target`]; ACCESS_DENIED when that is not in the volume,
    /// NOT_A_REPARSE_POINT for anything else than a link.
    LinkTarget {
        /// The link.
        handle: Handle,
    },
    /// Make a file without data, an empty directory or a symbolic link a symbolic link; or a link a file without data. The
    /// handle stands for that from then on, and the number stays while it is open. Answer: [`StorageReply::Done`]; ACCESS_DENIED
    /// for a target that may lead out of the volume.
    SetLinkTarget {
        /// The object.
        handle: Handle,
        /// Where the link leads, from the directory that it is in; components separated by `\`. `None` makes it a file.
        target: Option<Name>,
        /// What the file starts with, as one that is made.
        initial: Box<Initial>,
    },
    /// Remove a named stream. Handles stay usable. Answer: [`StorageReply::Done`].
    UnlinkStream {
        /// The stream.
        handle: Handle,
    },
    /// Wait until something other than this driver's own requests changes what is in a directory. Answer, the first time
    /// that a handle watches, at once: [`StorageReply::Changed`] with no changes; from then on what happens is kept. After
    /// that, as soon as there is something: the same with it, however late that is; or, after [`StorageOp::Unwatch`]:
    /// [`StorageReply::Done`].
    Watch {
        /// The directory; it watches at most once at a time.
        handle: Handle,
        /// And everything below it.
        tree: bool,
    },
    /// Wait no longer. Answer: [`StorageReply::Done`], here and to [`StorageOp::Watch`].
    Unwatch {
        /// The directory.
        handle: Handle,
    },
    /// Size and free space. Answer: [`StorageReply::Volume`].
    Volume,
    /// Ranges with data. Answer: [`StorageReply::Ranges`], clipped to the request, ascending.
    AllocatedRanges {
        /// The object.
        handle: Handle,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Ranges at most; one more than asked tells that there are more.
        count_max: u32,
    },
    /// Mark the file sparse or not. Answer: [`StorageReply::Done`].
    SetSparse {
        /// The object.
        handle: Handle,
        /// The mark.
        sparse: bool,
    },
    /// Zero a range without moving the end of the file; a sparse file gives the space back. Answer:
    /// [`StorageReply::Done`].
    Zero {
        /// The object.
        handle: Handle,
        /// First byte.
        offset: u64,
        /// Byte after the last.
        beyond: u64,
    },
    /// Copy within the volume. Answer: [`StorageReply::Written`] with the bytes copied, fewer only at the source's end.
    Copy {
        /// From.
        source: Handle,
        /// Where in the source.
        source_offset: u64,
        /// To.
        target: Handle,
        /// Where in the target.
        target_offset: u64,
        /// Bytes.
        length: u32,
    },
    /// Let the target share blocks with the source, as if the range had been copied, without moving its end. Answer: [`StorageReply::Done`];
    /// INVALID_PARAMETER for what is not aligned to allocation units, NOT_SUPPORTED for a range that reaches past the source's
    /// end or a sparse source of a file that is not (MS-FSA 2.1.5.10.4).
    CloneExtents {
        /// From.
        source: Handle,
        /// Where in the source.
        source_offset: u64,
        /// To.
        target: Handle,
        /// Where in the target.
        target_offset: u64,
        /// Bytes.
        length: u64,
    },
    /// Nobody needs what is in these ranges any more: the volume may have their space back. What is read there afterwards is
    /// zero or as it was. Answer: [`StorageReply::Done`].
    Trim {
        /// The object.
        handle: Handle,
        /// Whole pages.
        ranges: Vec<Range>,
    },
    /// What waits in a pipe, and what it has room for. Answer: [`StorageReply::Pipe`].
    PipeState {
        /// The pipe.
        handle: Handle,
    },
    /// Write one message to a pipe and read the answer. Answer: [`StorageReply::Read`], or BUFFER_OVERFLOW with
    /// [`StorageReply::ReadPartly`].
    Transceive {
        /// The pipe.
        handle: Handle,
        /// The message.
        buffer: B,
        /// Its bytes.
        length: u32,
        /// Bytes of answer at most.
        length_max: u32,
    },
}

/// What a driver answers, with payloads as bytes (`B = Payload`); the core hears of them by number. Any request may be answered by [`StorageReply::Failed`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StorageReply<B = BufferId> {
    /// It didn't work; the status goes to the client.
    Failed(NtStatus),
    /// The name that led to the object no longer does: resolve it again.
    Stale,
    /// It is done.
    Done,
    /// Where the name led.
    Resolved(Resolved),
    /// A new object, made by this request.
    Opened(Object),
    /// Metadata.
    Attributes(Attributes),
    /// Data.
    Read {
        /// Where it is.
        buffer: B,
        /// Bytes.
        length: u32,
    },
    /// Data, with more left in the same message (pipes).
    ReadPartly {
        /// Where it is.
        buffer: B,
        /// Bytes.
        length: u32,
    },
    /// Bytes written or copied.
    Written {
        /// How many.
        length: u32,
    },
    /// An encoded listing.
    Listed {
        /// Where it is.
        buffer: B,
        /// Bytes.
        length: u32,
    },
    /// Streams.
    Streams(Vec<StreamEntry>),
    /// A path from the root, components separated by `\`.
    Path(Name),
    /// Extended attributes.
    Eas(Vec<FullEa>),
    /// A security descriptor.
    Security(Box<SecurityDescriptor>),
    /// Size and free space.
    Volume(VolumeInfo),
    /// Ranges with data.
    Ranges(Vec<Range>),
    /// What happened in a directory that is watched.
    Changed(LocalNews),
    /// The state of a pipe.
    Pipe(PipeState),
    /// Where a symbolic link leads, from the directory that it is in; components separated by `\`.
    Target(Name),
}

/// The state of a pipe, seen from the client's end (MS-FSCC 2.4.38).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PipeState {
    /// Bytes that can be read now.
    pub readable: u32,
    /// Bytes that can be written and wait for the server's side at most.
    pub inbound_quota: u32,
    /// Bytes of these that are free.
    pub writable: u32,
    /// Bytes that can wait to be read at most.
    pub outbound_quota: u32,
    /// Nothing more will come: the server's side has given the pipe up.
    pub is_broken: bool,
}

/// What local processes did in a directory that is watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LocalNews {
    /// These changes.
    Changes(Vec<LocalChange>),
    /// More than could be kept.
    Overflow,
    /// The directory itself is gone.
    Gone,
}

/// Something that a local process did.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalChange {
    /// What happened, to which path below the directory.
    pub change: Change,
    /// Who wants to hear of it.
    pub filter: CompletionFilter,
}

/// A stream of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamEntry {
    /// Its name; empty for the unnamed stream.
    pub name: Name,
    /// Bytes of data.
    pub size: u64,
    /// Bytes of storage.
    pub allocation: u64,
}

/// A range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// A volume's facts (MS-FSCC 2.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VolumeInfo {
    /// When the volume was made.
    pub creation: FileTime,
    /// Serial number.
    pub serial: u32,
    /// Label.
    pub label: Name,
    /// Bytes of one allocation unit (a multiple of `sector_size`).
    pub unit_size: u32,
    /// Bytes of a sector.
    pub sector_size: u32,
    /// Allocation units in all.
    pub units_total: u64,
    /// Free allocation units.
    pub units_free: u64,
    /// Free allocation units that this user may take.
    pub units_available: u64,
    /// Longest component in bytes of the volume's own encoding.
    pub component_max: u32,
}

/// Who asks; a driver may use it for placement or checks of its own, the core has checked access already.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requester {
    /// The volume that is asked.
    pub volume: VolumeId,
    /// The session, 0 for the server's own work.
    pub session: crate::ids::SessionId,
    /// The connection it came on.
    pub connection: crate::ids::ConnectionId,
    /// The share.
    pub share: crate::ids::ShareId,
}

impl<B> StorageOp<B> {
    /// The same request with its payload, if it has one, named in another way.
    pub fn map_buffer<C>(self, name: impl FnOnce(B) -> C) -> StorageOp<C> {
        match self {
            Self::Write { handle, offset, buffer, length, write_through } => {
                StorageOp::Write { handle, offset, buffer: name(buffer), length, write_through }
            }
            Self::Transceive { handle, buffer, length, length_max } => {
                StorageOp::Transceive { handle, buffer: name(buffer), length, length_max }
            }
            Self::Resolve { path, stream } => StorageOp::Resolve { path, stream },
            Self::Create { parent, name, kind, initial } => StorageOp::Create { parent, name, kind, initial },
            Self::CreateStream { file, stream, initial, most } => {
                StorageOp::CreateStream { file, stream, initial, most }
            }
            Self::Open { handle, intent } => StorageOp::Open { handle, intent },
            Self::Overwrite { handle, initial, supersede } => {
                StorageOp::Overwrite { handle, initial, supersede }
            }
            Self::Close { handle } => StorageOp::Close { handle },
            Self::Read { handle, offset, length } => StorageOp::Read { handle, offset, length },
            Self::Flush { handle } => StorageOp::Flush { handle },
            Self::SettleTimes { handle, now } => StorageOp::SettleTimes { handle, now },
            Self::Attributes { handle } => StorageOp::Attributes { handle },
            Self::SetAttributes { handle, set } => StorageOp::SetAttributes { handle, set },
            Self::SetEndOfFile { handle, size } => StorageOp::SetEndOfFile { handle, size },
            Self::SetAllocation { handle, size } => StorageOp::SetAllocation { handle, size },
            Self::List { handle, listing } => StorageOp::List { handle, listing },
            Self::Streams { handle } => StorageOp::Streams { handle },
            Self::Path { handle } => StorageOp::Path { handle },
            Self::Eas { handle } => StorageOp::Eas { handle },
            Self::SetEas { handle, eas } => StorageOp::SetEas { handle, eas },
            Self::Security { handle } => StorageOp::Security { handle },
            Self::SetSecurity { handle, parts, descriptor } => {
                StorageOp::SetSecurity { handle, parts, descriptor }
            }
            Self::CheckEmpty { handle } => StorageOp::CheckEmpty { handle },
            Self::Rename { handle, parent, name, replace } => {
                StorageOp::Rename { handle, parent, name, replace }
            }
            Self::RenameStream { handle, stream, replace } => {
                StorageOp::RenameStream { handle, stream, replace }
            }
            Self::Link { handle, parent, name, replace } => StorageOp::Link { handle, parent, name, replace },
            Self::Unlink { handle } => StorageOp::Unlink { handle },
            Self::UnlinkStream { handle } => StorageOp::UnlinkStream { handle },
            Self::Volume => StorageOp::Volume,
            Self::PipeState { handle } => StorageOp::PipeState { handle },
            Self::CloneExtents { source, source_offset, target, target_offset, length } => {
                StorageOp::CloneExtents { source, source_offset, target, target_offset, length }
            }
            Self::Trim { handle, ranges } => StorageOp::Trim { handle, ranges },
            Self::AllocatedRanges { handle, offset, length, count_max } => {
                StorageOp::AllocatedRanges { handle, offset, length, count_max }
            }
            Self::SetSparse { handle, sparse } => StorageOp::SetSparse { handle, sparse },
            Self::Zero { handle, offset, beyond } => StorageOp::Zero { handle, offset, beyond },
            Self::LinkTarget { handle } => StorageOp::LinkTarget { handle },
            Self::SetLinkTarget { handle, target, initial } => {
                StorageOp::SetLinkTarget { handle, target, initial }
            }
            Self::Watch { handle, tree } => StorageOp::Watch { handle, tree },
            Self::Unwatch { handle } => StorageOp::Unwatch { handle },
            Self::Copy { source, source_offset, target, target_offset, length } => {
                StorageOp::Copy { source, source_offset, target, target_offset, length }
            }
        }
    }
}

impl<B> StorageReply<B> {
    /// The same answer with its payload, if it has one, named in another way.
    pub fn map_buffer<C>(self, name: impl FnOnce(B) -> C) -> StorageReply<C> {
        match self {
            Self::Read { buffer, length } => StorageReply::Read { buffer: name(buffer), length },
            Self::ReadPartly { buffer, length } => StorageReply::ReadPartly { buffer: name(buffer), length },
            Self::Listed { buffer, length } => StorageReply::Listed { buffer: name(buffer), length },
            Self::Failed(status) => StorageReply::Failed(status),
            Self::Stale => StorageReply::Stale,
            Self::Done => StorageReply::Done,
            Self::Resolved(resolved) => StorageReply::Resolved(resolved),
            Self::Opened(object) => StorageReply::Opened(object),
            Self::Attributes(attributes) => StorageReply::Attributes(attributes),
            Self::Written { length } => StorageReply::Written { length },
            Self::Streams(streams) => StorageReply::Streams(streams),
            Self::Path(path) => StorageReply::Path(path),
            Self::Eas(eas) => StorageReply::Eas(eas),
            Self::Security(descriptor) => StorageReply::Security(descriptor),
            Self::Volume(info) => StorageReply::Volume(info),
            Self::Ranges(ranges) => StorageReply::Ranges(ranges),
            Self::Changed(news) => StorageReply::Changed(news),
            Self::Pipe(state) => StorageReply::Pipe(state),
            Self::Target(target) => StorageReply::Target(target),
        }
    }
}
