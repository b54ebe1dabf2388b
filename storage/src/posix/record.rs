//! The attribute `user.leasehold.dos`: what Windows keeps of a file and POSIX does not.
//!
//! Layout, little-endian, 40 bytes: version (1), flags (1), zero (2), DOS attributes (4), creation time (8), change time
//! as set (8), when it was set (8), size of the extended attributes (4), number of the user who made it (4). Flags: 1
//! attributes, 2 creation time, 4 change time, 8 the user's number are there, 16 a security descriptor is stored. A record of
//! another version is treated as absent.
//!
//! Linux sets the change time itself. One that a client sets is kept here and told for as long as the file's own change
//! time is that of the moment at which it was set; the next change of anything outdates it.

use std::ffi::CStr;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use smb_proto::{FileAttributes, FileTime};

use super::handle::Inode;
use super::xattr;
use crate::handles::lock;

/// The attribute's name.
pub(super) const NAME: &CStr = c"user.leasehold.dos";
/// Bytes of a record.
pub(super) const LENGTH: usize = 40;
const VERSION: u8 = 2;
/// How far the kernel's clock for file times may be from the one that is read (100 ns units): it ticks slower.
const CLOCK_SLACK: u64 = 300_000;

/// What is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// DOS attributes, without those that say what the object is.
    pub(super) dos: Option<FileAttributes>,
    /// Creation time, if it is not the file system's.
    pub(super) creation: Option<FileTime>,
    /// Change time, and when it was set.
    pub(super) change: Option<(FileTime, FileTime)>,
    /// Size of the extended attributes.
    pub(super) ea_size: u32,
    /// Number of the user who made the file.
    pub(super) owner: Option<u32>,
    /// A security descriptor is stored. Said here so that most files need not be asked for one.
    pub(super) has_descriptor: bool,
}

/// The time now.
pub(super) fn now() -> FileTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    FileTime::from_unix(i64::try_from(now.as_secs()).unwrap_or(i64::MAX), now.subsec_nanos())
}

impl Record {
    /// From the attribute's value.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        let number = |at: usize, length: usize| {
            bytes[at..at + length].iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
        };
        let flags = bytes[1];
        if bytes[0] != VERSION {
            return None;
        }
        Some(Self {
            dos: (flags & 1 != 0).then(|| FileAttributes(number(4, 4) as u32)),
            creation: (flags & 2 != 0).then(|| FileTime(number(8, 8))),
            change: (flags & 4 != 0).then(|| (FileTime(number(16, 8)), FileTime(number(24, 8)))),
            ea_size: number(32, 4) as u32,
            owner: (flags & 8 != 0).then(|| number(36, 4) as u32),
            has_descriptor: flags & 16 != 0,
        })
    }

    /// The attribute's value.
    pub(super) fn emit(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let (change, set_at) = self.change.unwrap_or_default();
        bytes[0] = VERSION;
        bytes[1] = u8::from(self.dos.is_some())
            | u8::from(self.creation.is_some()) << 1
            | u8::from(self.change.is_some()) << 2
            | u8::from(self.owner.is_some()) << 3
            | u8::from(self.has_descriptor) << 4;
        bytes[4..8].copy_from_slice(&self.dos.unwrap_or_default().0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.creation.unwrap_or_default().0.to_le_bytes());
        bytes[16..24].copy_from_slice(&change.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&set_at.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.ea_size.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.owner.unwrap_or_default().to_le_bytes());
        bytes
    }

    /// The record of an inode; an empty one if there is none.
    pub(super) fn of(inode: &Inode) -> Result<Self, Errno> {
        let mut buffer = [0; LENGTH + 1];
        let got = match inode.attributes_fd() {
            Some(fd) => rustix::fs::fgetxattr(fd, NAME, &mut buffer[..]),
            None => rustix::fs::getxattr(inode.path(), NAME, &mut buffer[..]),
        };
        Ok(match got {
            Ok(length) => buffer.get(..length).and_then(Self::parse).unwrap_or_default(),
            Err(_) => Self::default(),
        })
    }

    /// Changes the record of an inode. A change time that was set is outdated by this, unless `change` sets it.
    pub(super) fn update(inode: &Inode, change: impl FnOnce(&mut Self)) -> Result<(), Errno> {
        let _held = lock(&inode.edit);
        Self::update_held(inode, change)
    }

    /// The same for who holds the inode's `edit` already.
    pub(super) fn update_held(inode: &Inode, change: impl FnOnce(&mut Self)) -> Result<(), Errno> {
        let before = Self::of(inode)?;
        let mut after = Self { change: None, ..before };
        change(&mut after);
        if after == before {
            return Ok(());
        }
        let set = match inode.attributes_fd() {
            Some(fd) => xattr::set_through(fd, NAME, &after.emit()),
            None => xattr::set(inode.path(), NAME, &after.emit()),
        };
        match set {
            // Where attributes cannot be kept, what depends on them is not kept: caps say so.
            Err(Errno::OPNOTSUPP) => Ok(()),
            result => result,
        }
    }

    /// The change time to tell, given the file's own.
    pub(super) fn change_time(&self, own: FileTime) -> FileTime {
        match self.change {
            Some((told, set_at)) if own.0.abs_diff(set_at.0) <= CLOCK_SLACK => told,
            _ => own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let full = Record {
            dos: Some(FileAttributes::HIDDEN),
            creation: Some(FileTime(u64::MAX)),
            change: Some((FileTime(5), FileTime(6))),
            ea_size: 77,
            owner: Some(1001),
            has_descriptor: true,
        };
        for record in
            [full, Record::default(), Record { change: None, ..full }, Record { owner: None, ..full }]
        {
            assert_eq!(Record::parse(&record.emit()), Some(record));
        }
        let mut other = full.emit();
        other[0] = 1;
        assert_eq!(Record::parse(&other), None);
        assert_eq!(Record::parse(&full.emit()[1..]), None);
    }
}
