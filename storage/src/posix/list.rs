//! Listings: a buffer of names from the kernel at a time, encoded as it is read. The position is the kernel's own, so
//! that a listing goes on after the last entry that fit, whatever was added or removed meanwhile.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

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
use crate::fault::{Outcome, Place};
use crate::handles::lock;
use crate::listing::entry;

const GETDENTS_BUFFER: usize = 32 * 1024;

/// Where a handle's listing is.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The directory, with a position of its own.
    fd: OwnedFd,
    pattern: Name,
    expression: Expression,
    phase: Phase,
    /// Whether anything matched since the start.
    any: bool,
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
        let cursor = self.cursor(node, &mut held, listing)?;
        if cursor.expression.literal().is_none() && directory.stat()?.size > INLINE_DIRECTORY_MAX {
            place.may_wait()?;
        }
        let mut out = Payload::with_capacity((listing.length_max as usize).min(GETDENTS_BUFFER * 2));
        let headroom = std::mem::take(out.buffer());
        let mut writer = DirectoryWriter::in_buffer(listing.class, listing.length_max as usize, headroom)
            .ok_or(NtStatus::INVALID_INFO_CLASS)?;
        let full = self.fill(node, cursor, listing, &mut writer, place)?;
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
    fn cursor<'c>(
        &self,
        node: &Node,
        held: &'c mut Option<Cursor>,
        listing: &Listing,
    ) -> Outcome<&'c mut Cursor> {
        let expression = |pattern: &Name| {
            Expression::new(pattern.units(), true)
                .map_err(|error| crate::fault::Fault::Status(error.status()))
        };
        if held.is_none() {
            let pattern = listing.pattern.clone().unwrap_or_default();
            let fd = node.inode.reopen(OFlags::RDONLY | OFlags::DIRECTORY)?;
            let expression = expression(&pattern)?;
            return Ok(held.insert(Cursor { fd, pattern, expression, phase: Phase::Dot, any: false }));
        }
        let cursor = held.as_mut().ok_or(NtStatus::INTERNAL_ERROR)?;
        if let Some(pattern) = listing.pattern.as_ref().filter(|pattern| **pattern != cursor.pattern) {
            cursor.expression = expression(pattern)?;
            cursor.pattern = pattern.clone();
        }
        if listing.restart {
            seek(&cursor.fd, SeekFrom::Start(0))?;
            cursor.phase = Phase::Dot;
            cursor.any = false;
        }
        Ok(cursor)
    }

    /// Writes entries until there is no room, or one if only one is asked for. `true` if there was no room for the next.
    fn fill(
        &self,
        node: &Node,
        cursor: &mut Cursor,
        listing: &Listing,
        writer: &mut DirectoryWriter,
        place: Place,
    ) -> Outcome<bool> {
        while cursor.phase == Phase::Dot || cursor.phase == Phase::DotDot {
            let (name, next) = match cursor.phase {
                Phase::Dot => (".", Phase::DotDot),
                _ => ("..", Phase::Names),
            };
            let name = Name::from(name);
            if cursor.expression.matches(name.units()) {
                let attributes = self.attributes_of_dots(node, cursor.phase)?;
                if !writer.push(&entry(listing.class, &attributes, name)) {
                    return Ok(true);
                }
            }
            cursor.phase = next;
            if listing.single && !writer.is_empty() {
                return Ok(false);
            }
        }
        if cursor.phase == Phase::End {
            return Ok(false);
        }
        if cursor.expression.literal().is_some() {
            return self.fill_literal(node, cursor, listing, writer, place);
        }
        self.fill_names(node, cursor, listing, writer)
    }

    fn attributes_of_dots(&self, node: &Node, phase: Phase) -> Outcome<Attributes> {
        let parent = node.link.now().parent;
        let inode = if phase == Phase::Dot { &node.inode } else { &parent };
        Ok(self.assemble(&inode.stat()?, &self.record_of(inode)?))
    }

    /// A pattern without wildcards: at most one name, which need not be searched for.
    fn fill_literal(
        &self,
        node: &Node,
        cursor: &mut Cursor,
        listing: &Listing,
        writer: &mut DirectoryWriter,
        place: Place,
    ) -> Outcome<bool> {
        let units = cursor.pattern.units();
        let found = match names::to_local(&cursor.pattern) {
            Ok(name) => self.look_up(&node.inode, name, units, place)?,
            Err(_) => None,
        };
        let mut pushed = Pushed::Skipped;
        if let Some((name, _, _)) = found
            && let Some(units) = names::visible(&name)
        {
            pushed = self.push(cursor, &name, units, None, listing, writer);
        }
        if pushed != Pushed::Full {
            cursor.phase = Phase::End;
        }
        Ok(pushed == Pushed::Full)
    }

    fn fill_names(
        &self,
        node: &Node,
        cursor: &mut Cursor,
        listing: &Listing,
        writer: &mut DirectoryWriter,
    ) -> Outcome<bool> {
        debug_assert!(node.inode.is_directory());
        let mut buffer = Vec::with_capacity(GETDENTS_BUFFER);
        let mut position = seek(&cursor.fd, SeekFrom::Current(0))?;
        let mut stopped = None;
        {
            let mut entries = RawDir::new(&cursor.fd, buffer.spare_capacity_mut());
            while let Some(raw) = entries.next() {
                let raw = raw?;
                let name = raw.file_name();
                let is_dots = matches!(name.to_bytes(), b"." | b"..");
                let units = names::visible(name).filter(|units| !is_dots && cursor.expression.matches(units));
                let pushed = match units {
                    Some(units) => self.push(cursor, name, units, Some(raw.file_type()), listing, writer),
                    None => Pushed::Skipped,
                };
                if pushed == Pushed::Full {
                    stopped = Some(true);
                    break;
                }
                position = raw.next_entry_cookie();
                if pushed == Pushed::Yes && listing.single {
                    stopped = Some(false);
                    break;
                }
            }
        }
        match stopped {
            // The kernel has read on to the end of its buffer.
            Some(full) => {
                seek(&cursor.fd, SeekFrom::Start(position))?;
                Ok(full)
            }
            None => {
                cursor.phase = Phase::End;
                Ok(false)
            }
        }
    }

    fn push(
        &self,
        cursor: &Cursor,
        name: &CStr,
        units: Vec<u16>,
        file_type: Option<FileType>,
        listing: &Listing,
        writer: &mut DirectoryWriter,
    ) -> Pushed {
        let wire_name = Name::from_units(units);
        let is_plain = matches!(file_type, Some(FileType::RegularFile | FileType::Directory));
        let class = listing.class;
        let entry = if class == FileInfoClass::NAMES && is_plain && listing.visible_to.is_none() {
            DirectoryEntry { name: wire_name, ..DirectoryEntry::default() }
        } else {
            match self.attributes_of_entry(&cursor.fd, name, listing.visible_to.as_deref()) {
                Some(attributes) => entry(class, &attributes, wire_name),
                None => return Pushed::Skipped,
            }
        };
        if writer.push(&entry) { Pushed::Yes } else { Pushed::Full }
    }

    /// Metadata of a name; `None` if it is gone, a symbolic link that leads nowhere or out of the root, or not to be seen.
    fn attributes_of_entry(
        &self,
        directory: &OwnedFd,
        name: &CStr,
        visible_to: Option<&Token>,
    ) -> Option<Attributes> {
        let stat = Stat::of_name(directory, name).ok()?;
        if stat.file_type == FileType::Symlink && !self.options.follows_links {
            return Some(self.assemble(&stat, &Record::default()));
        }
        if stat.file_type == FileType::Symlink {
            return self.attributes_of_symlink(directory, name, visible_to).ok();
        }
        let mut record = Record::default();
        if self.caps.extended_attributes {
            let mut path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
            path.push(OsStr::from_bytes(name.to_bytes()));
            let mut buffer = [0; record::LENGTH];
            let value = super::xattr::get_short(&path, record::NAME, &mut buffer);
            record = value.and_then(Record::parse).unwrap_or_default();
        }
        if let Some(token) = visible_to.filter(|_| record.has_descriptor) {
            let (pin, stat) = super::resolve::pin_name_at(directory, name).ok()?;
            self.check_visible(&self.inode(pin, false, &stat), &record, token).ok()?;
        }
        Some(self.assemble(&stat, &record))
    }

    /// A symbolic link is listed as what it leads to, which the kernel finds from the root, as for any path.
    fn attributes_of_symlink(
        &self,
        directory: &OwnedFd,
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
        let record = if self.caps.extended_attributes { Record::of(&inode)? } else { Record::default() };
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
