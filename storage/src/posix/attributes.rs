//! Metadata: what the file system says, together with what is kept in the record.

use std::sync::atomic::Ordering;

use rustix::fs::{
    AtFlags, FileType, Mode, RawMode, Timespec, Timestamps, UTIME_OMIT, chmodat, fstatvfs, utimensat,
};
use smb_proto::fscc::reparse::ReparseTag;
use smb_proto::{FileAttributes, FileTime, NtStatus};
use smb_state::storage::{Attributes, Kind, SetAttributes, VolumeInfo};

use super::Volume;
use super::handle::{Inode, Node, Stat};
use super::record::{self, Record};
use crate::fault::Outcome;
use crate::handles::lock;

/// Unit in which space is given.
pub(super) const UNIT: u64 = 4096;
/// Blocks above the size that are put down to metadata (extent trees, extended attributes), not to space set aside.
const METADATA_MAX: u64 = 64 * 1024;
const WRITE_BITS: u16 = 0o222;

/// Attributes that are stored as set. The others say what an object is.
pub(super) const STORED: u32 = FileAttributes::READONLY.0
    | FileAttributes::HIDDEN.0
    | FileAttributes::SYSTEM.0
    | FileAttributes::ARCHIVE.0
    | FileAttributes::TEMPORARY.0
    | FileAttributes::OFFLINE.0
    | FileAttributes::NOT_CONTENT_INDEXED.0
    | FileAttributes::NO_SCRUB_DATA.0
    | FileAttributes::PINNED.0
    | FileAttributes::UNPINNED.0;

/// What an object without a record has: files count as changed since the last backup, as Windows has it for new ones.
pub(super) fn unrecorded(kind: Kind) -> FileAttributes {
    if kind == Kind::File { FileAttributes::ARCHIVE } else { FileAttributes(0) }
}

/// The bits of a record for attributes that a client sends: NORMAL and what says what an object is are left out.
pub(super) fn stored(dos: FileAttributes) -> FileAttributes {
    FileAttributes(dos.0 & STORED)
}

fn dos(stat: &Stat, record: &Record) -> FileAttributes {
    let mut dos = record.dos.unwrap_or_else(|| unrecorded(stat.kind())).0;
    match stat.kind() {
        Kind::Directory => dos = dos & !FileAttributes::SPARSE_FILE.0 | FileAttributes::DIRECTORY.0,
        Kind::File | Kind::Pipe => {
            if stat.mode & WRITE_BITS == 0 {
                dos |= FileAttributes::READONLY.0;
            }
        }
    }
    if stat.file_type == FileType::Symlink {
        dos |= FileAttributes::REPARSE_POINT.0;
    }
    FileAttributes(if dos == 0 { FileAttributes::NORMAL.0 } else { dos })
}

/// Bytes of storage. Not simply the blocks: those not yet given (delayed allocation) count, those of metadata don't.
fn allocation(stat: &Stat, is_sparse: bool) -> u64 {
    let blocks = stat.blocks.saturating_mul(512);
    let rounded = stat.size.checked_next_multiple_of(UNIT).unwrap_or(stat.size);
    if stat.size == 0 {
        0
    } else if is_sparse {
        blocks.min(rounded)
    } else if blocks > rounded.saturating_add(METADATA_MAX) {
        blocks
    } else {
        rounded
    }
}

impl Volume {
    /// Metadata from its two sources.
    pub(super) fn assemble(&self, stat: &Stat, record: &Record) -> Attributes {
        let kind = stat.kind();
        let dos = dos(stat, record);
        let is_symlink = stat.file_type == FileType::Symlink;
        let has_data = kind == Kind::File && !is_symlink;
        let creation = record.creation.or(stat.born).unwrap_or_else(|| stat.modified.min(stat.changed));
        Attributes {
            number: self.number(stat.key),
            kind,
            dos,
            creation,
            last_access: stat.accessed,
            last_write: self.last_write(stat),
            change: record.change_time(stat.changed),
            end_of_file: if has_data { stat.size } else { 0 },
            allocation: if has_data {
                allocation(stat, dos.contains(FileAttributes::SPARSE_FILE))
            } else {
                0
            },
            // A directory's count is that of its subdirectories on many file systems.
            links: if kind == Kind::File { stat.links } else { 1 },
            ea_size: record.ea_size,
            reparse_tag: if is_symlink { ReparseTag::SYMLINK.0 } else { 0 },
        }
    }

    pub(super) fn attributes_of(&self, node: &Node) -> Outcome<Attributes> {
        Ok(self.attributes_and_record(node)?.0)
    }

    /// The record of an inode that was seen to be like `stat` just now; a symbolic link has no room for one.
    pub(super) fn record_of(&self, inode: &Inode, stat: &Stat) -> Outcome<Record> {
        if !self.caps.extended_attributes || inode.is_symlink {
            return Ok(Record::default());
        }
        Ok(self.records.get_or_read(stat, || Record::of(inode))?)
    }

    pub(super) fn attributes_and_record(&self, node: &Node) -> Outcome<(Attributes, Record)> {
        let stat = node.inode.stat()?;
        let record = self.record_of(&node.inode, &stat)?;
        Ok((self.attributes_from(node, &stat, &record)?, record))
    }

    /// Metadata of what a handle stands for, from what was asked of its inode.
    pub(super) fn attributes_from(&self, node: &Node, stat: &Stat, record: &Record) -> Outcome<Attributes> {
        let mut attributes = self.assemble(stat, record);
        attributes.number = self.number_of(&node.inode);
        if let Some(stream) = &node.stream {
            let size = super::streams::size(&node.inode, &lock(&stream.state))?;
            attributes.kind = Kind::File;
            attributes.dos.0 &= !(FileAttributes::DIRECTORY.0 | FileAttributes::SPARSE_FILE.0);
            if attributes.dos.0 == 0 {
                attributes.dos = FileAttributes::NORMAL;
            }
            attributes.end_of_file = size;
            attributes.allocation = size.next_multiple_of(8);
        } else if attributes.kind == Kind::File && attributes.end_of_file == 0 {
            attributes.allocation = node.inode.reserved.load(Ordering::Relaxed);
        }
        Ok(attributes)
    }

    pub(super) fn set_attributes(&self, node: &Node, set: &SetAttributes) -> Outcome<()> {
        if set.last_access.is_some() || set.last_write.is_some() {
            let times = Timestamps {
                last_access: timespec(set.last_access),
                last_modification: timespec(set.last_write),
            };
            utimensat(rustix::fs::CWD, node.inode.path(), &times, AtFlags::empty())?;
        }
        if node.inode.is_symlink {
            return Ok(());
        }
        if let Some(dos) = set.dos {
            self.match_mode(node, dos)?;
        }
        if self.caps.extended_attributes {
            Record::update(&node.inode, |record| {
                if let Some(dos) = set.dos {
                    let sparse = record.dos.unwrap_or_default().0 & FileAttributes::SPARSE_FILE.0;
                    record.dos = Some(FileAttributes(stored(dos).0 | sparse));
                }
                record.creation = set.creation.or(record.creation);
                record.change = set.change.map(|change| (change, record::now()));
            })?;
        }
        Ok(())
    }

    /// A file whose mode lets nobody write is read-only. A client that takes the mark away gets the owner's bit back; one
    /// that sets it changes the mode only where there is no better place for it.
    fn match_mode(&self, node: &Node, dos: FileAttributes) -> Outcome<()> {
        let stat = node.inode.stat()?;
        if stat.kind() == Kind::Directory {
            return Ok(());
        }
        let is_read_only = stat.mode & WRITE_BITS == 0;
        let wants_read_only = dos.contains(FileAttributes::READONLY);
        let mode = match (is_read_only, wants_read_only) {
            (true, false) => stat.mode | 0o200,
            (false, true) if !self.caps.extended_attributes => stat.mode & !WRITE_BITS,
            _ => return Ok(()),
        };
        let mode = Mode::from_raw_mode(RawMode::from(mode & 0o7777));
        Ok(chmodat(rustix::fs::CWD, node.inode.path(), mode, AtFlags::empty())?)
    }

    pub(super) fn volume_info(&self) -> Outcome<VolumeInfo> {
        let fs = fstatvfs(self.root.fd())?;
        let root = self.root.stat()?;
        let unit = fs.f_frsize.clamp(512, 1 << 30);
        let unit = if unit % 512 == 0 { unit } else { 512 };
        let units = |blocks: u64| blocks.saturating_mul(fs.f_frsize) / unit;
        Ok(VolumeInfo {
            creation: root.born.unwrap_or(root.modified),
            serial: self.serial(fs.f_fsid, root.key.number),
            label: self.options.label.clone(),
            unit_size: u32::try_from(unit).map_err(|_| NtStatus::INTERNAL_ERROR)?,
            sector_size: 512,
            units_total: units(fs.f_blocks),
            units_free: units(fs.f_bfree),
            units_available: units(fs.f_bavail),
            component_max: u32::try_from(fs.f_namemax.clamp(1, 255)).unwrap_or(255),
        })
    }

    /// The same for every start of the server: the file system's id, and the root so that two trees of one file system
    /// are two volumes.
    fn serial(&self, file_system: u64, root: u64) -> u32 {
        let mixed = (file_system ^ root.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed >> 32) as u32).max(1)
    }
}

pub(super) fn timespec(time: Option<FileTime>) -> Timespec {
    match time.map(FileTime::to_unix) {
        Some((seconds, nanoseconds)) => Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posix::handle::InodeKey;

    #[test]
    fn allocation_shows_data_and_what_was_set_aside() {
        let key = InodeKey { device: 1, number: 2 };
        let stat = |size, blocks| Stat { size, blocks, ..Stat::of_nothing(key) };
        assert_eq!(allocation(&stat(0, 8), false), 0, "an attribute block is not data");
        assert_eq!(allocation(&stat(1, 0), false), 4096, "delayed allocation");
        assert_eq!(allocation(&stat(4097, 24), false), 8192);
        assert_eq!(allocation(&stat(1, 2048), false), 1 << 20, "set aside");
        assert_eq!(allocation(&stat(1 << 20, 8), true), 4096, "holes");
    }
}
