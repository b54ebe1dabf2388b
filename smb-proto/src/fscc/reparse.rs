//! Reparse point data (MS-FSCC 2.1.2): what makes a file a symbolic link, a mount point, or something else.
//!
//! Deliberately not taken apart: the forms of NFS and of the Windows subsystem for Linux; they are kept as
//! data.

use bytes::Bytes;

use super::{length_at, u32_at};
use crate::error::Malformed;
use crate::name::Name;
use crate::wire;

/// Most bytes of a whole buffer.
pub const REPARSE_DATA_MAX: usize = 16 * 1024;

/// What kind of reparse point; undefined values are kept (MS-FSCC 2.1.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReparseTag(pub u32);

impl ReparseTag {
    /// A mount point or junction.
    pub const MOUNT_POINT: Self = Self(0xA000_0003);
    /// A symbolic link.
    pub const SYMLINK: Self = Self(0xA000_000C);
    /// Deduplicated data.
    pub const DEDUP: Self = Self(0x8000_0013);
    /// A special file of NFS.
    pub const NFS: Self = Self(0x8000_0014);
    /// A socket of the Windows subsystem for Linux.
    pub const AF_UNIX: Self = Self(0x8000_0023);
    /// A symbolic link of the Windows subsystem for Linux.
    pub const LX_SYMLINK: Self = Self(0xA000_001D);
    /// A named pipe of the Windows subsystem for Linux.
    pub const LX_FIFO: Self = Self(0x8000_0024);
    /// A character device of the Windows subsystem for Linux.
    pub const LX_CHR: Self = Self(0x8000_0025);
    /// A block device of the Windows subsystem for Linux.
    pub const LX_BLK: Self = Self(0x8000_0026);

    /// Whether the tag is Microsoft's. Others have a GUID in their data.
    #[must_use]
    pub const fn is_microsoft(self) -> bool {
        self.0 & 0x8000_0000 != 0
    }

    /// Whether the tag stands for another name (a link of some kind).
    #[must_use]
    pub const fn is_name_surrogate(self) -> bool {
        self.0 & 0x2000_0000 != 0
    }
}

/// The data of a reparse point.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReparseData {
    /// A symbolic link (2.1.2.4).
    Symlink {
        /// Where it leads.
        substitute: Name,
        /// The same for people to read.
        print: Name,
        /// Undefined bits are kept; see [`ReparseData::SYMLINK_RELATIVE`].
        flags: u32,
    },
    /// A mount point or junction (2.1.2.5).
    MountPoint {
        /// Where it leads.
        substitute: Name,
        /// The same for people to read.
        print: Name,
    },
    /// Another of Microsoft's tags (2.1.2.2).
    Other {
        /// The tag.
        tag: ReparseTag,
        /// The data.
        data: Bytes,
    },
    /// A tag that is not Microsoft's (2.1.2.3).
    Guid {
        /// The tag.
        tag: ReparseTag,
        /// Whose the tag is.
        guid: [u8; 16],
        /// The data.
        data: Bytes,
    },
}

/// Size of what is in front of the data of all forms.
const HEADER: usize = 8;
/// Where the GUID of the last form ends.
const GUID_END: usize = 24;
const WHAT: &str = "reparse data";

impl ReparseData {
    /// Flag of a symbolic link: relative to the directory that holds it.
    pub const SYMLINK_RELATIVE: u32 = 0x0000_0001;

    /// The tag.
    #[must_use]
    pub const fn tag(&self) -> ReparseTag {
        match self {
            Self::Symlink { .. } => ReparseTag::SYMLINK,
            Self::MountPoint { .. } => ReparseTag::MOUNT_POINT,
            Self::Other { tag, .. } | Self::Guid { tag, .. } => *tag,
        }
    }

    /// Reads a whole buffer, as it is sent to set a reparse point and answered when one is asked for.
    ///
    /// # Errors
    /// [`Malformed`] (`STATUS_IO_REPARSE_DATA_INVALID` on the wire) when the length does not fit, the buffer
    /// is longer than [`REPARSE_DATA_MAX`], or a name lies outside it.
    pub fn parse(bytes: &Bytes) -> Result<Self, Malformed> {
        if bytes.len() > REPARSE_DATA_MAX {
            return Err(Malformed("reparse data: too long"));
        }
        let tag = ReparseTag(u32_at(bytes, 0, WHAT)?);
        // The upper half is reserved.
        let length = length_at(bytes, 4, WHAT)? & 0xFFFF;
        let start = if tag.is_microsoft() { HEADER } else { GUID_END };
        if start.saturating_add(length) != bytes.len() {
            return Err(Malformed("reparse data: length"));
        }
        let data = bytes.slice(start..);
        if !tag.is_microsoft() {
            return Ok(Self::Guid { tag, guid: super::field(bytes, HEADER, WHAT)?, data });
        }
        match tag {
            ReparseTag::SYMLINK => {
                let (substitute, print) = parse_names(&data, 12)?;
                Ok(Self::Symlink { substitute, print, flags: u32_at(&data, 8, WHAT)? })
            }
            ReparseTag::MOUNT_POINT => {
                let (substitute, print) = parse_names(&data, 8)?;
                Ok(Self::MountPoint { substitute, print })
            }
            _ => Ok(Self::Other { tag, data }),
        }
    }

    /// Reads the buffer that names the reparse point to remove: a tag without data (MS-FSCC 2.3.5).
    ///
    /// # Errors
    /// [`Malformed`] (`STATUS_IO_REPARSE_DATA_INVALID` on the wire) when there is data, or less than a header.
    pub fn parse_removal(bytes: &[u8]) -> Result<ReparseTag, Malformed> {
        let tag = ReparseTag(u32_at(bytes, 0, WHAT)?);
        let expected = if tag.is_microsoft() { HEADER } else { GUID_END };
        if bytes.len() != expected || length_at(bytes, 4, WHAT)? & 0xFFFF != 0 {
            return Err(Malformed("reparse data: length"));
        }
        Ok(tag)
    }

    /// Appends a whole buffer.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let mut data = Vec::new();
        let mut guid = None;
        match self {
            Self::Symlink { substitute, print, flags } => {
                emit_names(substitute, print, Some(*flags), &mut data);
            }
            Self::MountPoint { substitute, print } => emit_names(substitute, print, None, &mut data),
            Self::Other { data: held, .. } => data.extend_from_slice(held),
            Self::Guid { guid: held, data: behind, .. } => {
                guid = Some(held);
                data.extend_from_slice(behind);
            }
        }
        out.extend_from_slice(&self.tag().0.to_le_bytes());
        out.extend_from_slice(&wire::length_u16(data.len()).to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        if let Some(guid) = guid {
            out.extend_from_slice(guid);
        }
        out.extend_from_slice(&data);
    }
}

/// The two names, given by offsets from `buffer` on.
fn parse_names(data: &Bytes, buffer: usize) -> Result<(Name, Name), Malformed> {
    let short = |offset| super::field(data, offset, WHAT).map(|field| usize::from(u16::from_le_bytes(field)));
    let path = data.get(buffer..).ok_or(Malformed(WHAT))?;
    let name = |offset: usize, length: usize| {
        let bytes =
            path.get(offset..).and_then(|tail| tail.get(..length)).ok_or(Malformed("reparse data: name"))?;
        Name::from_wire(bytes)
    };
    Ok((name(short(0)?, short(2)?)?, name(short(4)?, short(6)?)?))
}

fn emit_names(substitute: &Name, print: &Name, flags: Option<u32>, data: &mut Vec<u8>) {
    // A mount point's names are terminated: some readers count on it, though the lengths do not include it.
    let terminator = if flags.is_some() { 0 } else { 2 };
    let print_offset = substitute.wire_len().saturating_add(terminator);
    for field in [0, substitute.wire_len(), print_offset, print.wire_len()] {
        data.extend_from_slice(&wire::length_u16(field).to_le_bytes());
    }
    if let Some(flags) = flags {
        data.extend_from_slice(&flags.to_le_bytes());
    }
    for name in [substitute, print] {
        wire::put_utf16(data, name.units());
        data.resize(data.len().saturating_add(terminator), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::round_trip;
    use super::*;

    fn samples() -> [ReparseData; 4] {
        [
            ReparseData::Symlink {
                substitute: Name::from("..\\target"),
                print: Name::from("shown"),
                flags: ReparseData::SYMLINK_RELATIVE,
            },
            ReparseData::MountPoint { substitute: Name::from("\\??\\C:\\x"), print: Name::default() },
            ReparseData::Other { tag: ReparseTag::NFS, data: Bytes::from_static(b"LNK") },
            ReparseData::Guid {
                tag: ReparseTag(0x0000_0042),
                guid: [3; 16],
                data: Bytes::from_static(b"own"),
            },
        ]
    }

    #[test]
    fn every_form_round_trips() {
        for data in samples() {
            let bytes = round_trip(&data, ReparseData::emit, ReparseData::parse);
            for length in 0..bytes.len() {
                assert!(ReparseData::parse(&bytes.slice(..length)).is_err());
            }
        }
    }

    #[test]
    fn known_bytes() {
        let mut out = Vec::new();
        ReparseData::Symlink { substitute: Name::from("a"), print: Name::from("b"), flags: 1 }.emit(&mut out);
        let expected = [0x0C, 0, 0, 0xA0, 16, 0, 0, 0, 0, 0, 2, 0, 2, 0, 2, 0, 1, 0, 0, 0, b'a', 0, b'b', 0];
        assert_eq!(out, expected);
    }

    #[test]
    fn hostile_lengths_are_refused() {
        let mut out = Vec::new();
        samples()[0].emit(&mut out);
        for (position, value) in [(4, 0), (4, 0xFF), (8, 0xFE), (10, 0xFF), (12, 0xFE), (14, 0xFE), (10, 3)] {
            let mut wrong = out.clone();
            wrong[position] = value;
            assert!(ReparseData::parse(&wrong.into()).is_err(), "{position} {value}");
        }
        let long = ReparseData::Other { tag: ReparseTag::NFS, data: Bytes::from(vec![0; REPARSE_DATA_MAX]) };
        let mut out = Vec::new();
        long.emit(&mut out);
        assert!(ReparseData::parse(&out.into()).is_err());
    }

    #[test]
    fn a_removal_is_a_tag_without_data() {
        let bytes = [0x0C, 0, 0, 0xA0, 0, 0, 0, 0];
        assert_eq!(ReparseData::parse_removal(&bytes), Ok(ReparseTag::SYMLINK));
        assert!(ReparseData::parse_removal(&bytes[..7]).is_err());
        assert!(ReparseData::parse_removal(&[0x0C, 0, 0, 0xA0, 1, 0, 0, 0, 0]).is_err());
        let mut other = vec![0x42, 0, 0, 0, 0, 0, 0, 0];
        assert!(ReparseData::parse_removal(&other).is_err());
        other.resize(24, 7);
        assert_eq!(ReparseData::parse_removal(&other), Ok(ReparseTag(0x42)));
    }

    #[test]
    fn tags_say_what_they_are() {
        assert!(ReparseTag::SYMLINK.is_microsoft() && ReparseTag::SYMLINK.is_name_surrogate());
        assert!(!ReparseTag::NFS.is_name_surrogate());
        assert!(!ReparseTag(0x42).is_microsoft());
    }
}
