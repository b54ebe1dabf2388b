//! What is queried and set of a volume (MS-FSCC 2.5).
//!
//! Deliberately not done: the driver's path and the volume's flags, which are only used on one machine.

use binrw::binrw;
use bytes::Bytes;

use super::class::FsInfoClass;
use super::{Fit, InformationError, counted_name, put_counted_name, truncate_name, u32_at, u64_at};
use crate::error::Malformed;
use crate::flags::flags;
use crate::name::Name;
use crate::time::FileTime;
use crate::wire;

flags! {
    /// What a file system can do (MS-FSCC 2.5.1). The names are the specification's without `FILE_`.
    pub struct FsAttributes(u32);
    /// Names can be looked up with regard to case.
    CASE_SENSITIVE_SEARCH = 0x0000_0001;
    /// Names keep their case.
    CASE_PRESERVED_NAMES = 0x0000_0002;
    /// Names are Unicode.
    UNICODE_ON_DISK = 0x0000_0004;
    /// Access control lists are kept and enforced.
    PERSISTENT_ACLS = 0x0000_0008;
    /// Files can be compressed one by one.
    FILE_COMPRESSION = 0x0000_0010;
    /// There are quotas for users.
    VOLUME_QUOTAS = 0x0000_0020;
    /// Files can have holes.
    SUPPORTS_SPARSE_FILES = 0x0000_0040;
    /// There are reparse points.
    SUPPORTS_REPARSE_POINTS = 0x0000_0080;
    /// There is remote storage.
    SUPPORTS_REMOTE_STORAGE = 0x0000_0100;
    /// Cleanup says what else it did.
    RETURNS_CLEANUP_RESULT_INFO = 0x0000_0200;
    /// Deletes and renames can be as in POSIX.
    SUPPORTS_POSIX_UNLINK_RENAME = 0x0000_0400;
    /// The volume is compressed as a whole.
    VOLUME_IS_COMPRESSED = 0x0000_8000;
    /// There are object ids.
    SUPPORTS_OBJECT_IDS = 0x0001_0000;
    /// Files can be encrypted.
    SUPPORTS_ENCRYPTION = 0x0002_0000;
    /// There are named streams.
    NAMED_STREAMS = 0x0004_0000;
    /// The volume is read-only.
    READ_ONLY_VOLUME = 0x0008_0000;
    /// The volume can be written once.
    SEQUENTIAL_WRITE_ONCE = 0x0010_0000;
    /// There are transactions.
    SUPPORTS_TRANSACTIONS = 0x0020_0000;
    /// There are hard links.
    SUPPORTS_HARD_LINKS = 0x0040_0000;
    /// There are extended attributes.
    SUPPORTS_EXTENDED_ATTRIBUTES = 0x0080_0000;
    /// Files can be opened by their ids.
    SUPPORTS_OPEN_BY_FILE_ID = 0x0100_0000;
    /// There is a journal of changes.
    SUPPORTS_USN_JOURNAL = 0x0200_0000;
    /// There are streams with integrity.
    SUPPORT_INTEGRITY_STREAMS = 0x0400_0000;
    /// Files can share blocks.
    SUPPORTS_BLOCK_REFCOUNTING = 0x0800_0000;
    /// Validity is kept for each cluster.
    SUPPORTS_SPARSE_VDL = 0x1000_0000;
}

/// FILE_FS_VOLUME_INFORMATION (MS-FSCC 2.5.9).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VolumeInformation {
    /// When the volume was created.
    pub creation_time: FileTime,
    /// Its serial number.
    pub serial_number: u32,
    /// Whether the file system is object-oriented.
    pub supports_objects: bool,
    /// Its label, at most 32 code units.
    pub label: Name,
}

/// FILE_FS_SIZE_INFORMATION (MS-FSCC 2.5.8).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SizeInformation {
    /// Units in all that the caller may use.
    pub total_allocation_units: u64,
    /// Units that the caller may still use.
    pub available_allocation_units: u64,
    /// Sectors of a unit.
    pub sectors_per_allocation_unit: u32,
    /// Bytes of a sector.
    pub bytes_per_sector: u32,
}

/// FILE_FS_FULL_SIZE_INFORMATION (MS-FSCC 2.5.4).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FullSizeInformation {
    /// Units in all that the caller may use.
    pub total_allocation_units: u64,
    /// Units that the caller may still use.
    pub caller_available_allocation_units: u64,
    /// Units that are free.
    pub actual_available_allocation_units: u64,
    /// Sectors of a unit.
    pub sectors_per_allocation_unit: u32,
    /// Bytes of a sector.
    pub bytes_per_sector: u32,
}

flags! {
    /// What kind of device a volume is on (MS-FSCC 2.5.10). The names are the specification's without
    /// `FILE_`.
    pub struct Characteristics(u32);
    /// Its medium can be taken out.
    REMOVABLE_MEDIA = 0x0000_0001;
    /// It cannot be written.
    READ_ONLY_DEVICE = 0x0000_0002;
    /// It is a floppy disk.
    FLOPPY_DISKETTE = 0x0000_0004;
    /// It can be written once.
    WRITE_ONCE_MEDIA = 0x0000_0008;
    /// It is remote.
    REMOTE_DEVICE = 0x0000_0010;
    /// A file system is mounted on it.
    DEVICE_IS_MOUNTED = 0x0000_0020;
    /// It is not on a medium itself.
    VIRTUAL_VOLUME = 0x0000_0040;
    /// Its own descriptor is checked too.
    DEVICE_SECURE_OPEN = 0x0000_0100;
}

/// FILE_FS_DEVICE_INFORMATION (MS-FSCC 2.5.10).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeviceInformation {
    /// [`DeviceInformation::DISK`] or [`DeviceInformation::CD_ROM`].
    pub device_type: u32,
    /// What kind of device.
    pub characteristics: Characteristics,
}

impl DeviceInformation {
    /// A CD-ROM.
    pub const CD_ROM: u32 = 0x0000_0002;
    /// A disk.
    pub const DISK: u32 = 0x0000_0007;
    /// A pipe; what Windows answers on IPC$.
    pub const NAMED_PIPE: u32 = 0x0000_0011;
}

/// FILE_FS_ATTRIBUTE_INFORMATION (MS-FSCC 2.5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AttributeInformation {
    /// What the file system can do.
    pub attributes: FsAttributes,
    /// Most code units of a component of a path.
    pub maximum_component_length: u32,
    /// Name of the file system.
    pub name: Name,
}

flags! {
    /// How quotas are enforced (MS-FSCC 2.5.2).
    pub struct FsControlFlags(u32);
    /// Quotas are tracked, not enforced.
    QUOTA_TRACK = 0x0000_0001;
    /// Quotas are enforced.
    QUOTA_ENFORCE = 0x0000_0002;
    /// Content is not indexed.
    CONTENT_INDEX_DISABLED = 0x0000_0008;
    /// Crossing a threshold is logged.
    LOG_QUOTA_THRESHOLD = 0x0000_0010;
    /// Crossing a limit is logged.
    LOG_QUOTA_LIMIT = 0x0000_0020;
    /// Crossing the volume's threshold is logged.
    LOG_VOLUME_THRESHOLD = 0x0000_0040;
    /// Crossing the volume's limit is logged.
    LOG_VOLUME_LIMIT = 0x0000_0080;
    /// Quotas are incomplete.
    QUOTAS_INCOMPLETE = 0x0000_0100;
    /// Quotas are being rebuilt.
    QUOTAS_REBUILDING = 0x0000_0200;
}

/// FILE_FS_CONTROL_INFORMATION (MS-FSCC 2.5.2).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ControlInformation {
    /// Free bytes from which on content is indexed; zero, ignored.
    pub free_space_start_filtering: u64,
    /// Free bytes above which indexing goes on; zero, ignored.
    pub free_space_threshold: u64,
    /// Free bytes below which it stops; zero, ignored.
    pub free_space_stop_filtering: u64,
    /// Bytes above which a user is warned by default; `u64::MAX` for never.
    pub default_quota_threshold: u64,
    /// Bytes that a user may have by default; `u64::MAX` for any number.
    pub default_quota_limit: u64,
    /// How quotas are enforced.
    pub flags: FsControlFlags,
    #[br(temp)]
    #[bw(calc = 0)]
    _padding: u32,
}

/// FILE_FS_OBJECTID_INFORMATION (MS-FSCC 2.5.6).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectIdInformation {
    /// The volume's object id.
    pub object_id: [u8; 16],
    /// What was written with it; zero if nothing was.
    pub extended_info: [u8; 48],
}

/// FILE_FS_SECTOR_SIZE_INFORMATION (MS-FSCC 2.5.7).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SectorSizeInformation {
    /// Bytes of a logical sector.
    pub logical_bytes_per_sector: u32,
    /// Bytes of a physical sector, the unit of atomic writes.
    pub physical_bytes_per_sector_for_atomicity: u32,
    /// Bytes of a physical sector, the unit of good performance.
    pub physical_bytes_per_sector_for_performance: u32,
    /// Bytes of the unit that the file system itself uses.
    pub effective_physical_bytes_per_sector_for_atomicity: u32,
    /// How sectors are aligned, and whether there is a seek penalty and trimming.
    pub flags: SectorFlags,
    /// Where the first logical sector starts in its physical one; `u32::MAX` for unknown.
    pub byte_offset_for_sector_alignment: u32,
    /// Where the partition starts in its physical sector; `u32::MAX` for unknown.
    pub byte_offset_for_partition_alignment: u32,
}

flags! {
    /// Properties of sectors (MS-FSCC 2.5.7).
    pub struct SectorFlags(u32);
    /// The first physical sector is aligned with the first logical one.
    ALIGNED_DEVICE = 0x01;
    /// The partition is aligned with physical sectors.
    PARTITION_ALIGNED_ON_DEVICE = 0x02;
    /// Seeking costs nothing.
    NO_SEEK_PENALTY = 0x04;
    /// Space can be trimmed.
    TRIM_ENABLED = 0x08;
}

/// What is queried or set of a volume, one variant for each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FsInformation {
    /// Label, serial number, time of creation (2.5.9).
    Volume(VolumeInformation),
    /// The label, to be set (2.5.5).
    Label(Name),
    /// Sizes (2.5.8).
    Size(SizeInformation),
    /// The device (2.5.10).
    Device(DeviceInformation),
    /// What the file system can do (2.5.1).
    Attribute(AttributeInformation),
    /// Quota control; queried and set (2.5.2).
    Control(ControlInformation),
    /// Sizes, with quotas taken into account (2.5.4).
    FullSize(FullSizeInformation),
    /// The volume's object id; queried and set (2.5.6).
    ObjectId(ObjectIdInformation),
    /// Sizes and alignment of sectors (2.5.7).
    SectorSize(SectorSizeInformation),
}

/// Where the label starts in FILE_FS_VOLUME_INFORMATION.
const VOLUME_LABEL: usize = 18;
/// Where the name starts in FILE_FS_ATTRIBUTE_INFORMATION.
const ATTRIBUTE_NAME: usize = 12;

impl FsInformation {
    /// The class that this is.
    #[must_use]
    pub const fn class(&self) -> FsInfoClass {
        match self {
            Self::Volume(_) => FsInfoClass::VOLUME,
            Self::Label(_) => FsInfoClass::LABEL,
            Self::Size(_) => FsInfoClass::SIZE,
            Self::Device(_) => FsInfoClass::DEVICE,
            Self::Attribute(_) => FsInfoClass::ATTRIBUTE,
            Self::Control(_) => FsInfoClass::CONTROL,
            Self::FullSize(_) => FsInfoClass::FULL_SIZE,
            Self::ObjectId(_) => FsInfoClass::OBJECT_ID,
            Self::SectorSize(_) => FsInfoClass::SECTOR_SIZE,
        }
    }

    /// Number of bytes that [`FsInformation::emit`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Volume(volume) => volume.label.wire_len().saturating_add(VOLUME_LABEL),
            Self::Label(label) => label.wire_len().saturating_add(4),
            Self::Attribute(attribute) => attribute.name.wire_len().saturating_add(ATTRIBUTE_NAME),
            _ => self.class().fixed_len().unwrap_or(0),
        }
    }

    /// Appends the information.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Volume(volume) => {
                out.extend_from_slice(&volume.creation_time.0.to_le_bytes());
                out.extend_from_slice(&volume.serial_number.to_le_bytes());
                out.extend_from_slice(&wire::length_u32(volume.label.wire_len()).to_le_bytes());
                out.extend_from_slice(&[u8::from(volume.supports_objects), 0]);
                wire::put_utf16(out, volume.label.units());
            }
            Self::Label(label) => put_counted_name(out, label),
            Self::Size(information) => wire::put(out, information),
            Self::Device(information) => wire::put(out, information),
            Self::Attribute(attribute) => {
                out.extend_from_slice(&attribute.attributes.0.to_le_bytes());
                out.extend_from_slice(&attribute.maximum_component_length.to_le_bytes());
                put_counted_name(out, &attribute.name);
            }
            Self::Control(information) => wire::put(out, information),
            Self::FullSize(information) => wire::put(out, information),
            Self::ObjectId(information) => wire::put(out, information),
            Self::SectorSize(information) => wire::put(out, information),
        }
    }

    /// Appends what fits into an output buffer of `limit` bytes: labels and names are cut short, the rest is
    /// whole or not there at all (MS-FSA 2.1.5.13).
    pub fn emit_within(&self, out: &mut Vec<u8>, limit: usize) -> Fit {
        if self.class().fixed_len().is_none_or(|fixed| limit < fixed) {
            return Fit::BelowFixed;
        }
        let start = out.len();
        self.emit(out);
        match self {
            Self::Volume(_) => truncate_name(out, start, VOLUME_LABEL, limit),
            Self::Attribute(_) => truncate_name(out, start, ATTRIBUTE_NAME, limit),
            _ => Fit::Whole,
        }
    }

    /// Reads information of a class: of an answer, or of a request to set it.
    ///
    /// # Errors
    /// [`InformationError`]: not a class that is sent, too few bytes, or lengths that point outside them.
    pub fn parse(class: FsInfoClass, bytes: &Bytes) -> Result<Self, InformationError> {
        let length = |_: Malformed| InformationError::Length;
        Ok(match class {
            FsInfoClass::VOLUME => Self::Volume(parse_volume(bytes)?),
            FsInfoClass::LABEL => {
                u32_at(bytes, 0, "").map_err(length)?;
                Self::Label(counted_name(bytes, 0, "volume label")?)
            }
            FsInfoClass::SIZE => Self::Size(wire::fixed(bytes, 0, "").map_err(length)?),
            FsInfoClass::DEVICE => Self::Device(wire::fixed(bytes, 0, "").map_err(length)?),
            FsInfoClass::ATTRIBUTE => {
                if bytes.len() < ATTRIBUTE_NAME {
                    return Err(InformationError::Length);
                }
                Self::Attribute(AttributeInformation {
                    attributes: FsAttributes(u32_at(bytes, 0, "")?),
                    maximum_component_length: u32_at(bytes, 4, "")?,
                    name: counted_name(bytes, 8, "file system name")?,
                })
            }
            FsInfoClass::CONTROL => Self::Control(wire::fixed(bytes, 0, "").map_err(length)?),
            FsInfoClass::FULL_SIZE => Self::FullSize(wire::fixed(bytes, 0, "").map_err(length)?),
            FsInfoClass::OBJECT_ID => Self::ObjectId(wire::fixed(bytes, 0, "").map_err(length)?),
            FsInfoClass::SECTOR_SIZE => Self::SectorSize(wire::fixed(bytes, 0, "").map_err(length)?),
            _ => return Err(InformationError::Class),
        })
    }
}

fn parse_volume(bytes: &Bytes) -> Result<VolumeInformation, InformationError> {
    const WHAT: &str = "volume information";
    let &supports_objects = bytes.get(16).ok_or(InformationError::Length)?;
    if bytes.len() < VOLUME_LABEL {
        return Err(InformationError::Length);
    }
    let label = wire::slice(bytes, VOLUME_LABEL, super::length_at(bytes, 12, WHAT)?, WHAT)?;
    Ok(VolumeInformation {
        creation_time: FileTime(u64_at(bytes, 0, WHAT)?),
        serial_number: u32_at(bytes, 8, WHAT)?,
        supports_objects: supports_objects != 0,
        label: Name::from_wire(&label)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::round_trip;
    use super::*;

    fn samples() -> Vec<FsInformation> {
        vec![
            FsInformation::Volume(VolumeInformation {
                creation_time: FileTime(9),
                serial_number: 0xDEAD_BEEF,
                supports_objects: true,
                label: Name::from("Leasehold"),
            }),
            FsInformation::Size(SizeInformation { total_allocation_units: 1 << 40, ..Default::default() }),
            FsInformation::Device(DeviceInformation {
                device_type: DeviceInformation::DISK,
                characteristics: Characteristics::DEVICE_IS_MOUNTED,
            }),
            FsInformation::Attribute(AttributeInformation {
                attributes: FsAttributes::NAMED_STREAMS.with(FsAttributes::UNICODE_ON_DISK),
                maximum_component_length: 255,
                name: Name::from("NTFS"),
            }),
            FsInformation::Control(ControlInformation {
                default_quota_limit: u64::MAX,
                ..Default::default()
            }),
            FsInformation::FullSize(FullSizeInformation { bytes_per_sector: 512, ..Default::default() }),
            FsInformation::ObjectId(ObjectIdInformation { object_id: [1; 16], extended_info: [2; 48] }),
            FsInformation::SectorSize(SectorSizeInformation {
                flags: SectorFlags::NO_SEEK_PENALTY,
                byte_offset_for_partition_alignment: u32::MAX,
                ..Default::default()
            }),
        ]
    }

    #[test]
    fn every_class_round_trips() {
        let mut all = samples();
        all.push(FsInformation::Label(Name::from("new")));
        for information in all {
            let class = information.class();
            let bytes =
                round_trip(&information, FsInformation::emit, |bytes| FsInformation::parse(class, bytes));
            assert_eq!(bytes.len(), information.encoded_len());
            for length in 0..bytes.len() {
                assert!(FsInformation::parse(class, &bytes.slice(..length)).is_err(), "{class:?} {length}");
            }
        }
        let unsent = FsInformation::parse(FsInfoClass::DRIVER_PATH, &Bytes::from_static(&[0; 100]));
        assert_eq!(unsent, Err(InformationError::Class));
    }

    #[test]
    fn buffers_are_respected() {
        for information in samples() {
            let fixed = information.class().fixed_len().unwrap();
            let mut out = Vec::new();
            assert_eq!(information.emit_within(&mut out, fixed - 1), Fit::BelowFixed);
            assert!(out.is_empty());
            assert_eq!(information.emit_within(&mut out, 1000), Fit::Whole);
            assert_eq!(out.len(), information.encoded_len());
        }
        let mut out = Vec::new();
        let volume = &samples()[0];
        assert_eq!(volume.emit_within(&mut out, 25), Fit::Partial);
        assert_eq!((out.len(), out[12]), (24, 18));
    }
}
