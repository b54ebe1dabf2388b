//! Listings: names from where they are kept, or else a buffer of them from the kernel at a time, encoded as they are looked
//! at. Of a name that was read and had no room, the next request is told, whatever was added or removed meanwhile.
//!
//! What an entry costs is asking for its metadata by name. Its record is asked for only if it is not kept ([`super::records`]),
//! and the directory is read only if it is not as it was when somebody listed it last ([`super::rolls`]).

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, RawDir, SeekFrom, readlinkat, seek};
use rustix::io::Errno;
use smb_proto::fscc::class::FileInfoClass;
use smb_proto::fscc::directory::{self, DirectoryEntry, DirectoryWriter};
use smb_proto::fscc::expression::Expression;
use smb_proto::security::Token;
use smb_proto::{Name, NtStatus, Payload};
use smb_state::storage::{Attributes, Listing, StorageReply};

use super::Volume;
use super::handle::{Node, Stat};
use super::index::INLINE_DIRECTORY_MAX;
use super::names;
use super::record::{self, Record};
use super::rolls::{Claim, Making, Names, Roll};
use crate::fault::{Outcome, Place};
use crate::handles::lock;
use crate::listing::entry;

const GETDENTS_BUFFER: usize = 32 * 1024;
/// Room for entries that is taken at once; more as it is needed.
const OUTPUT_ROOM: usize = 64 * 1024;

/// Where a handle's listing is.
#[derive(Debug)]
pub(super) struct Cursor {
    pattern: Name,
    expression: Expression,
    phase: Phase,
    /// Where names come from, once the first one was asked for.
    source: Option<Source>,
    /// Whether anything matched since the start.
    any: bool,
}

/// Where names come from.
#[derive(Debug)]
enum Source {
    /// The directory as it was when it was listed last, where the next name is, and which it is.
    Kept(Arc<Roll>, usize, usize),
    Kernel(Box<Reader>),
}

/// A directory that is being read.
#[derive(Debug)]
struct Reader {
    /// The directory, with a position of its own.
    fd: OwnedFd,
    /// Read last.
    names: Names,
    /// Where in the directory what follows each name is.
    cookies: Vec<u64>,
    /// Where in the directory the first of them is.
    before: u64,
    /// Names that were told, and where the next one is.
    told: (usize, usize),
    /// Memory for what is read and not told between two requests.
    ahead: Option<Claim>,
    /// Everything from the beginning on, if it is to be kept.
    making: Option<Making>,
    /// There is too much of it: records of all of it would only drive others out.
    is_large: bool,
}

impl Reader {
    fn new(fd: OwnedFd, making: Option<Making>) -> Self {
        Self {
            fd,
            names: Names::default(),
            cookies: Vec::new(),
            before: 0,
            told: (0, 0),
            ahead: None,
            making,
            is_large: false,
        }
    }

    /// Reads on when everything was told; `false` at the end of the directory.
    fn read_on(&mut self) -> Result<bool, Errno> {
        self.forget(self.cookies.len());
        let mut buffer = Vec::with_capacity(GETDENTS_BUFFER);
        let mut entries = RawDir::new(&self.fd, buffer.spare_capacity_mut());
        while let Some(raw) = entries.next() {
            let raw = raw?;
            if !matches!(raw.file_name().to_bytes(), b"." | b"..") {
                self.names.push(raw.file_type(), raw.file_name());
                self.cookies.push(raw.next_entry_cookie());
            }
            if entries.is_buffer_empty() && !self.cookies.is_empty() {
                break;
            }
        }
        if let Some(making) = self.making.take() {
            self.making = making.with(&self.names, self.cookies.len());
            self.is_large = self.making.is_none();
        }
        Ok(!self.cookies.is_empty())
    }

    /// A name was told, of which this was seen.
    fn tell(&mut self, next: usize, seen: Option<(Stat, Record)>) {
        if let (Some(making), Some((stat, record))) = (&mut self.making, seen) {
            making.note(self.cookies.len() - self.told.0, &stat, record);
        }
        self.told = (self.told.0 + 1, next);
    }

    /// Forgets what was read, of which that many names are not to be read again.
    fn forget(&mut self, told: usize) {
        if let Some(last) = told.checked_sub(1) {
            self.before = self.cookies.get(last).copied().unwrap_or(self.before);
        }
        self.names.clear();
        self.cookies.clear();
        self.told = (0, 0);
    }

    /// There may be a long time before the next request: nothing stays in memory but what there is memory for.
    fn rest(&mut self, claim: impl FnOnce(&Names) -> Option<Claim>) -> Result<(), Errno> {
        if self.names.at(self.told.1).is_some() {
            self.ahead = self.ahead.take().or_else(|| claim(&self.names));
            if self.ahead.is_some() {
                return Ok(());
            }
            self.forget(self.told.0);
            self.making = None;
            seek(&self.fd, SeekFrom::Start(self.before))?;
        }
        self.forget(self.cookies.len());
        (self.names, self.cookies, self.ahead) = Default::default();
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Dot,
    DotDot,
    /// From where the kernel's position is.
    Names,
    End,
}

/// What came of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pushed {
    Yes,
    /// There is no room for it.
    Full,
    /// It does not match, or is gone.
    Skipped,
}

/// What one request fills.
struct Filling<'a> {
    volume: &'a Volume,
    node: &'a Node,
    listing: &'a Listing,
    writer: DirectoryWriter,
    /// A name's units.
    units: Vec<u16>,
    /// The path that leads to a name through the directory's descriptor.
    path: Vec<u8>,
    /// Bytes of it that lead to the directory.
    directory: usize,
    /// What the last name was seen to stand for, with a record that holds for as long as it is so.
    seen: Option<(Stat, Record)>,
    /// Records that are read are kept.
    keeps: bool,
}

impl<'a> Filling<'a> {
    fn new(volume: &'a Volume, node: &'a Node, listing: &'a Listing, writer: DirectoryWriter) -> Self {
        let path = format!("/proc/self/fd/{}/", node.inode.fd().as_raw_fd()).into_bytes();
        Self {
            volume,
            node,
            listing,
            writer,
            units: Vec::new(),
            directory: path.len(),
            path,
            seen: None,
            keeps: true,
        }
    }

    /// Whether one entry was asked for, and there is one.
    fn is_done(&self) -> bool {
        self.listing.single && !self.writer.is_empty()
    }

    fn push(
        &mut self,
        file_type: Option<FileType>,
        name: &CStr,
        known: Option<(&Roll, usize)>,
        matches: impl FnOnce(&[u16]) -> bool,
    ) -> Pushed {
        self.seen = None;
        if !names::visible_in(name, &mut self.units) || !matches(&self.units) {
            return Pushed::Skipped;
        }
        let is_plain = matches!(file_type, Some(FileType::RegularFile | FileType::Directory));
        let class = self.listing.class;
        let entry = if class == FileInfoClass::NAMES && is_plain && self.listing.visible_to.is_none() {
            DirectoryEntry::default()
        } else {
            match self.attributes(name, known) {
                Some(attributes) => entry(class, &attributes, Name::default()),
                None => return Pushed::Skipped,
            }
        };
        if self.writer.push_named(&entry, &self.units) { Pushed::Yes } else { Pushed::Full }
    }

    /// Metadata of a name; `None` if it is gone, a symbolic link that leads nowhere or out of the root, or not to be seen.
    fn attributes(&mut self, name: &CStr, known: Option<(&Roll, usize)>) -> Option<Attributes> {
        let (volume, directory) = (self.volume, self.node.inode.fd());
        let visible_to = self.listing.visible_to.as_deref();
        let stat = Stat::of_name(directory, name).ok()?;
        if stat.file_type == FileType::Symlink && !volume.options.follows_links {
            return Some(volume.assemble(&stat, &Record::default()));
        }
        if stat.file_type == FileType::Symlink {
            return volume.attributes_of_symlink(directory, name, visible_to).ok();
        }
        let record = match known.and_then(|(roll, at)| roll.record(at, &stat)) {
            Some(record) => record,
            None if volume.caps.extended_attributes => self.record(name, &stat),
            None => Record::default(),
        };
        if let Some(token) = visible_to.filter(|_| record.has_descriptor) {
            let (pin, stat) = super::resolve::pin_name_at(directory, name).ok()?;
            volume.check_visible(&volume.inode(pin, false, &stat), &record, token).ok()?;
        }
        Some(volume.assemble(&stat, &record))
    }

    /// The record of a name, which was just looked at. If the name came to stand for another file since, what is kept is not
    /// found again: a file that loses a name gets a new change time.
    fn record(&mut self, name: &CStr, stat: &Stat) -> Record {
        let read = || {
            self.path.truncate(self.directory);
            self.path.extend_from_slice(name.to_bytes_with_nul());
            let mut buffer = [0; record::LENGTH];
            let path = CStr::from_bytes_with_nul(&self.path).ok();
            let value = path.and_then(|path| super::xattr::get_short(path, record::NAME, &mut buffer));
            Ok(value.and_then(Record::parse).unwrap_or_default())
        };
        let Ok((record, settled)) =
            self.volume.records.get_or_read_settled::<Infallible>(stat, self.keeps, read);
        self.seen = settled.then_some((*stat, record));
        record
    }
}

impl Volume {
    pub(super) fn list(
        &self,
        node: &Node,
        listing: &Listing,
        place: Place,
    ) -> Outcome<StorageReply<Payload>> {
        let directory = node.directory()?;
        let fixed = directory::name_offset(listing.class).ok_or(NtStatus::INVALID_INFO_CLASS)?;
        if (listing.length_max as usize) < fixed {
            return Err(NtStatus::INFO_LENGTH_MISMATCH.into());
        }
        let mut held = lock(&node.cursor);
        let cursor = self.cursor(&mut held, listing)?;
        if cursor.expression.literal().is_none() && directory.stat()?.size > INLINE_DIRECTORY_MAX {
            place.may_wait()?;
        }
        let mut out = Payload::with_capacity((listing.length_max as usize).min(OUTPUT_ROOM));
        let headroom = std::mem::take(out.buffer());
        let writer = DirectoryWriter::in_buffer(listing.class, listing.length_max as usize, headroom)
            .ok_or(NtStatus::INVALID_INFO_CLASS)?;
        let mut filling = Filling::new(self, node, listing, writer);
        let full = self.fill(cursor, &mut filling, place)?;
        let writer = filling.writer;
        cursor.any |= !writer.is_empty();
        if writer.is_empty() {
            return Err(match (full, cursor.any) {
                (true, _) => NtStatus::BUFFER_OVERFLOW,
                (false, true) => NtStatus::NO_MORE_FILES,
                (false, false) => NtStatus::NO_SUCH_FILE,
            }
            .into());
        }
        *out.buffer() = writer.finish();
        let length = u32::try_from(out.len()).map_err(|_| NtStatus::INTERNAL_ERROR)?;
        Ok(StorageReply::Listed { buffer: out, length })
    }

    /// The handle's cursor, made or set back as the request wants it.
    fn cursor<'c>(&self, held: &'c mut Option<Cursor>, listing: &Listing) -> Outcome<&'c mut Cursor> {
        let expression = |pattern: &Name| {
            Expression::new(pattern.units(), true)
                .map_err(|error| crate::fault::Fault::Status(error.status()))
        };
        if held.is_none() {
            let pattern = listing.pattern.clone().unwrap_or_default();
            let expression = expression(&pattern)?;
            let cursor = Cursor { pattern, expression, phase: Phase::Dot, source: None, any: false };
            return Ok(held.insert(cursor));
        }
        let cursor = held.as_mut().ok_or(NtStatus::INTERNAL_ERROR)?;
        if let Some(pattern) = listing.pattern.as_ref().filter(|pattern| **pattern != cursor.pattern) {
            cursor.expression = expression(pattern)?;
            cursor.pattern = pattern.clone();
        }
        if listing.restart {
            cursor.source = None;
            cursor.phase = Phase::Dot;
            cursor.any = false;
        }
        Ok(cursor)
    }

    /// Writes entries until there is no room, or one if only one is asked for. `true` if there was no room for the next.
    fn fill(&self, cursor: &mut Cursor, filling: &mut Filling<'_>, place: Place) -> Outcome<bool> {
        while cursor.phase == Phase::Dot || cursor.phase == Phase::DotDot {
            let (name, next) = match cursor.phase {
                Phase::Dot => (".", Phase::DotDot),
                _ => ("..", Phase::Names),
            };
            let name = Name::from(name);
            if cursor.expression.matches(name.units()) {
                let attributes = self.attributes_of_dots(filling.node, cursor.phase)?;
                if !filling.writer.push(&entry(filling.listing.class, &attributes, name)) {
                    return Ok(true);
                }
            }
            cursor.phase = next;
            if filling.is_done() {
                return Ok(false);
            }
        }
        if cursor.phase == Phase::End {
            return Ok(false);
        }
        if cursor.expression.literal().is_some() {
            return self.fill_literal(cursor, filling, place);
        }
        let full = self.fill_names(cursor, filling)?;
        match &mut cursor.source {
            Some(_) if cursor.phase == Phase::End => cursor.source = None,
            Some(Source::Kernel(reader)) => reader.rest(|names| self.rolls.ahead(names))?,
            Some(Source::Kept(..)) | None => {}
        }
        Ok(full)
    }

    fn attributes_of_dots(&self, node: &Node, phase: Phase) -> Outcome<Attributes> {
        let parent = node.link.now().parent;
        let inode = if phase == Phase::Dot { &node.inode } else { &parent };
        let stat = inode.stat()?;
        Ok(self.assemble(&stat, &self.record_of(inode, &stat)?))
    }

    /// A pattern without wildcards: at most one name, which need not be searched for.
    fn fill_literal(&self, cursor: &mut Cursor, filling: &mut Filling<'_>, place: Place) -> Outcome<bool> {
        let units = cursor.pattern.units();
        let found = match names::to_local(&cursor.pattern) {
            Ok(name) => self.look_up(&filling.node.inode, name, units, place)?,
            Err(_) => None,
        };
        let pushed = match found {
            Some((name, _, _)) => filling.push(None, &name, None, |_| true),
            None => Pushed::Skipped,
        };
        if pushed != Pushed::Full {
            cursor.phase = Phase::End;
        }
        Ok(pushed == Pushed::Full)
    }

    /// Names from where the listing is.
    fn fill_names(&self, cursor: &mut Cursor, filling: &mut Filling<'_>) -> Outcome<bool> {
        let source = match &mut cursor.source {
            Some(source) => source,
            None => cursor.source.insert(self.source(filling.node)?),
        };
        loop {
            let (names, at, known) = match &*source {
                Source::Kept(roll, at, name) => (&roll.names, *at, Some((&**roll, *name))),
                Source::Kernel(reader) => (&reader.names, reader.told.1, None),
            };
            let Some((file_type, name, next)) = names.at(at) else {
                if let Source::Kernel(reader) = source {
                    if reader.read_on()? {
                        continue;
                    }
                    if let Some(made) = reader.making.take() {
                        self.rolls.keep(filling.node.inode.key, made);
                    }
                }
                cursor.phase = Phase::End;
                return Ok(false);
            };
            filling.keeps = !matches!(&*source, Source::Kernel(reader) if reader.is_large);
            let matches = |units: &[u16]| cursor.expression.matches(units);
            let pushed = filling.push(Some(file_type), name, known, matches);
            if pushed == Pushed::Full {
                return Ok(true);
            }
            match source {
                Source::Kept(_, at, name) => (*at, *name) = (next, *name + 1),
                Source::Kernel(reader) => reader.tell(next, filling.seen.take()),
            }
            if pushed == Pushed::Yes && filling.is_done() {
                return Ok(false);
            }
        }
    }

    /// Where a listing that begins gets its names from.
    fn source(&self, node: &Node) -> Outcome<Source> {
        let stamp = node.inode.stat()?.stamp;
        if let Some(roll) = self.rolls.get(node.inode.key, stamp) {
            return Ok(Source::Kept(roll, 0, 0));
        }
        let fd = node.inode.reopen(OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Source::Kernel(Box::new(Reader::new(fd, self.rolls.make(node.inode.key, stamp)))))
    }
    /// A symbolic link is listed as what it leads to, which the kernel finds from the root, as for any path.
    fn attributes_of_symlink(
        &self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        visible_to: Option<&Token>,
    ) -> Outcome<Attributes> {
        let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let here = readlinkat(rustix::fs::CWD, link, Vec::new())?;
        let root = readlinkat(rustix::fs::CWD, self.root.path(), Vec::new())?;
        let root = root.to_bytes().strip_suffix(b"/").unwrap_or(root.to_bytes());
        let below = here.to_bytes().strip_prefix(root).ok_or(Errno::NOENT)?;
        let mut path = below.strip_prefix(b"/").unwrap_or(below).to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        let path = CString::new(path).map_err(|_| Errno::INVAL)?;
        let pin = super::resolve::open_beneath(self.root.fd(), &path, OFlags::PATH)?;
        let stat = Stat::of_fd(&pin)?;
        let inode = self.inode(pin, false, &stat);
        let record = self.record_of(&inode, &stat)?;
        if let Some(token) = visible_to {
            self.check_visible(&inode, &record, token)?;
        }
        Ok(self.assemble(&stat, &record))
    }

    pub(super) fn check_empty(&self, node: &Node) -> Outcome<()> {
        let fd = node.directory()?.reopen(OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut buffer = Vec::with_capacity(4096);
        let mut entries = RawDir::new(&fd, buffer.spare_capacity_mut());
        while let Some(raw) = entries.next() {
            if !matches!(raw?.file_name().to_bytes(), b"." | b"..") {
                return Err(NtStatus::DIRECTORY_NOT_EMPTY.into());
            }
        }
        Ok(())
    }
}
