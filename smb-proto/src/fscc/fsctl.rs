//! Bodies of file system controls (MS-FSCC 2.3), without the IOCTL around them (MS-SMB2 2.2.31).
//!
//! Deliberately not done: FSCTL_MARK_HANDLE, offloaded copies, statistics, and controls of one file system's
//! innards. Offsets and lengths are signed on the wire: a value above `i64::MAX` is negative, which is an
//! invalid parameter.

use binrw::binrw;
use bytes::Bytes;

use super::Fit;
use super::{length_at, u32_at, u64_at};
use crate::command::FileId;
use crate::error::Malformed;
use crate::flags::flags;
use crate::name::Name;
use crate::wire;

/// Gives a fixed structure its `parse` and `emit`.
macro_rules! body {
    ($type:ident, $what:literal) => {
        impl $type {
            /// Reads the body; bytes behind it are ignored.
            ///
            /// # Errors
            /// [`Malformed`] when it is short.
            pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
                wire::fixed(bytes, 0, $what)
            }

            /// Appends the body.
            pub fn emit(&self, out: &mut Vec<u8>) {
                wire::put(out, self);
            }
        }
    };
}

/// FILE_SET_SPARSE_BUFFER (2.3.83).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SetSparse(pub bool);

impl SetSparse {
    /// Reads the body; none at all means yes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        Self(bytes.first().is_none_or(|byte| *byte != 0))
    }

    /// Appends the body.
    pub fn emit(self, out: &mut Vec<u8>) {
        out.push(u8::from(self.0));
    }
}

/// FILE_ZERO_DATA_INFORMATION (2.3.85).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ZeroData {
    /// First byte to become zero.
    pub file_offset: u64,
    /// First byte behind those.
    pub beyond_final_zero: u64,
}
body!(ZeroData, "SET_ZERO_DATA");

/// A range of a file: FILE_ALLOCATED_RANGE_BUFFER (2.3.51, 2.3.52) and FILE_LEVEL_TRIM_RANGE (2.3.13.1).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Range {
    /// First byte.
    pub file_offset: u64,
    /// Number of bytes.
    pub length: u64,
}
body!(Range, "file range");

/// Size of a range.
const RANGE: usize = 16;

/// Appends as many ranges of QUERY_ALLOCATED_RANGES as fit into `limit` bytes. No ranges always fit.
pub fn emit_ranges(ranges: &[Range], out: &mut Vec<u8>, limit: usize) -> Fit {
    let room = limit / RANGE;
    for range in ranges.iter().take(room) {
        range.emit(out);
    }
    match ranges.len() {
        length if length <= room => Fit::Whole,
        _ if room == 0 => Fit::NoEntry,
        _ => Fit::Partial,
    }
}

/// Reads the ranges of an answer to QUERY_ALLOCATED_RANGES (the client's direction).
///
/// # Errors
/// [`Malformed`] when the last range is short.
pub fn parse_ranges(bytes: &[u8]) -> Result<Vec<Range>, Malformed> {
    let (ranges, rest) = bytes.as_chunks::<RANGE>();
    if !rest.is_empty() {
        return Err(Malformed("allocated ranges"));
    }
    ranges.iter().map(|range| Range::parse(range)).collect()
}

/// The format of GET_COMPRESSION and SET_COMPRESSION (2.3.18, 2.3.67); undefined values are kept.
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CompressionState(pub u16);
body!(CompressionState, "compression state");

impl CompressionState {
    /// Not compressed.
    pub const NONE: Self = Self(0);
    /// Compressed as the file system likes.
    pub const DEFAULT: Self = Self(1);
    /// Compressed with LZNT1.
    pub const LZNT1: Self = Self(2);
}

/// FILE_OBJECTID_BUFFER (2.1.3). The second form of the specification reads the last three as 48 bytes of the
/// application's own.
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObjectIdBuffer {
    /// The object id, unique on its volume.
    pub object_id: [u8; 16],
    /// The volume on which it was made.
    pub birth_volume_id: [u8; 16],
    /// The object id when it was made.
    pub birth_object_id: [u8; 16],
    /// Zero.
    pub domain_id: [u8; 16],
}
body!(ObjectIdBuffer, "object id");

/// How a file is protected against bit rot; undefined values are kept.
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChecksumAlgorithm(pub u16);

impl ChecksumAlgorithm {
    /// Not at all.
    pub const NONE: Self = Self(0x0000);
    /// CRC-32.
    pub const CRC32: Self = Self(0x0001);
    /// CRC-64.
    pub const CRC64: Self = Self(0x0002);
    /// When set: as before.
    pub const UNCHANGED: Self = Self(0xFFFF);
}

flags! {
    /// How strict the protection is (2.3.20).
    pub struct IntegrityFlags(u32);
    /// A wrong checksum does not fail a read.
    CHECKSUM_ENFORCEMENT_OFF = 0x0000_0001;
}

/// FSCTL_GET_INTEGRITY_INFORMATION_BUFFER (2.3.20).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GetIntegrity {
    /// How the file is protected.
    pub checksum_algorithm: ChecksumAlgorithm,
    #[br(temp)]
    #[bw(calc = 0)]
    _reserved: u16,
    /// How strictly.
    pub flags: IntegrityFlags,
    /// Bytes with a checksum of their own.
    pub checksum_chunk_size: u32,
    /// Bytes of a cluster.
    pub cluster_size: u32,
}
body!(GetIntegrity, "GET_INTEGRITY_INFORMATION");

/// FSCTL_SET_INTEGRITY_INFORMATION_BUFFER (2.3.73).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SetIntegrity {
    /// How the file is to be protected.
    pub checksum_algorithm: ChecksumAlgorithm,
    #[br(temp)]
    #[bw(calc = 0)]
    _reserved: u16,
    /// How strictly.
    pub flags: IntegrityFlags,
}
body!(SetIntegrity, "SET_INTEGRITY_INFORMATION");

/// SMB2_DUPLICATE_EXTENTS_DATA (2.3.7.2).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DuplicateExtents {
    /// The open of the source.
    pub source: FileId,
    /// Where in the source.
    pub source_offset: u64,
    /// Where in the target.
    pub target_offset: u64,
    /// How much.
    pub byte_count: u64,
}
body!(DuplicateExtents, "DUPLICATE_EXTENTS_TO_FILE");

flags! {
    /// How extents are duplicated (2.3.9.2).
    pub struct DuplicateExtentsFlags(u32);
    /// All of the source at one moment.
    SOURCE_ATOMIC = 0x0000_0001;
}

/// SMB2_DUPLICATE_EXTENTS_DATA_EX (2.3.9.2).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DuplicateExtentsEx {
    #[br(temp, assert(_structure_size == 0x30))]
    #[bw(calc = 0x30)]
    _structure_size: u64,
    /// What to duplicate.
    pub extents: DuplicateExtents,
    /// How.
    pub flags: DuplicateExtentsFlags,
    #[br(temp)]
    #[bw(calc = 0)]
    _reserved: u32,
}
body!(DuplicateExtentsEx, "DUPLICATE_EXTENTS_TO_FILE_EX");

/// FILE_LEVEL_TRIM (2.3.13).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileLevelTrim {
    /// Key of byte range locks.
    pub key: u32,
    /// What is not needed any more.
    pub ranges: Vec<Range>,
}

impl FileLevelTrim {
    /// Reads the body; bytes behind the ranges are ignored.
    ///
    /// # Errors
    /// [`Malformed`] when there are fewer ranges than announced.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "FILE_LEVEL_TRIM";
        let key = u32_at(bytes, 0, WHAT)?;
        let length = length_at(bytes, 4, WHAT)?.checked_mul(RANGE).ok_or(Malformed(WHAT))?;
        let ranges = bytes.get(8..).and_then(|tail| tail.get(..length)).ok_or(Malformed(WHAT))?;
        Ok(Self { key, ranges: parse_ranges(ranges)? })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.to_le_bytes());
        out.extend_from_slice(&wire::length_u32(self.ranges.len()).to_le_bytes());
        for range in &self.ranges {
            range.emit(out);
        }
    }
}

/// FILE_LEVEL_TRIM_OUTPUT (2.3.14).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileLevelTrimOutput {
    /// Ranges that were processed.
    pub ranges_processed: u32,
}
body!(FileLevelTrimOutput, "FILE_LEVEL_TRIM answer");

/// FSCTL_PIPE_WAIT request (2.3.49).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PipeWait {
    /// How long to wait for an instance, in units of 100 ms; `None` to wait as long as it takes.
    pub timeout: Option<u64>,
    /// Name of the pipe.
    pub name: Name,
}

impl PipeWait {
    /// Reads the body.
    ///
    /// # Errors
    /// [`Malformed`] when it is short or the name reaches past it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "PIPE_WAIT";
        let timeout = u64_at(bytes, 0, WHAT)?;
        let length = length_at(bytes, 8, WHAT)?;
        let specified = *bytes.get(12).ok_or(Malformed(WHAT))? != 0;
        let name = bytes.get(14..).and_then(|tail| tail.get(..length)).ok_or(Malformed(WHAT))?;
        Ok(Self { timeout: specified.then_some(timeout), name: Name::from_wire(name)? })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timeout.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&wire::length_u32(self.name.wire_len()).to_le_bytes());
        out.extend_from_slice(&[u8::from(self.timeout.is_some()), 0]);
        wire::put_utf16(out, self.name.units());
    }
}

/// FSCTL_PIPE_PEEK answer (2.3.46).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PipePeek {
    /// 3: connected; 4: closing, with data left.
    pub state: u32,
    /// Bytes that can be read.
    pub read_data_available: u32,
    /// Messages that can be read.
    pub number_of_messages: u32,
    /// Bytes of the first message.
    pub message_length: u32,
    /// The first of the data, not taken out of the pipe.
    pub data: Bytes,
}

/// Size of an answer to PIPE_PEEK without data.
pub const PIPE_PEEK_FIXED: usize = 16;

impl PipePeek {
    /// Reads the body.
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(bytes: &Bytes) -> Result<Self, Malformed> {
        const WHAT: &str = "PIPE_PEEK";
        Ok(Self {
            state: u32_at(bytes, 0, WHAT)?,
            read_data_available: u32_at(bytes, 4, WHAT)?,
            number_of_messages: u32_at(bytes, 8, WHAT)?,
            message_length: u32_at(bytes, 12, WHAT)?,
            data: bytes.slice(PIPE_PEEK_FIXED..),
        })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        for field in [self.state, self.read_data_available, self.number_of_messages, self.message_length] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.data);
    }
}

flags! {
    /// Which regions of a file are meant (2.3.55).
    pub struct RegionUsage(u32);
    /// Valid in the cache.
    VALID_CACHED_DATA = 0x0000_0001;
    /// Valid on disk.
    VALID_NONCACHED_DATA = 0x0000_0002;
}

/// A region of a file: FILE_REGION_INPUT (2.3.55) and FILE_REGION_INFO (2.3.56.1).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileRegion {
    /// First byte.
    pub file_offset: u64,
    /// Number of bytes.
    pub length: u64,
    /// Which regions are asked for, or what holds for this one.
    pub usage: RegionUsage,
    #[br(temp)]
    #[bw(calc = 0)]
    _reserved: u32,
}
body!(FileRegion, "file region");

/// Size of a region.
const REGION: usize = 24;
/// Size of FILE_REGION_OUTPUT without regions.
const REGIONS_FIXED: usize = 16;

/// FILE_REGION_OUTPUT (2.3.56).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileRegions {
    /// Undefined flags.
    pub flags: u32,
    /// Regions that there are.
    pub total: u32,
    /// Those that are returned.
    pub regions: Vec<FileRegion>,
}

impl FileRegions {
    /// Reads the body (the client's direction).
    ///
    /// # Errors
    /// [`Malformed`] when there are fewer regions than announced.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "QUERY_FILE_REGIONS";
        let length = length_at(bytes, 8, WHAT)?.checked_mul(REGION).ok_or(Malformed(WHAT))?;
        let tail = bytes.get(REGIONS_FIXED..).and_then(|tail| tail.get(..length)).ok_or(Malformed(WHAT))?;
        let (regions, _) = tail.as_chunks::<REGION>();
        Ok(Self {
            flags: u32_at(bytes, 0, WHAT)?,
            total: u32_at(bytes, 4, WHAT)?,
            regions: regions.iter().map(|region| FileRegion::parse(region)).collect::<Result<_, _>>()?,
        })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        self.emit_some(self.regions.len(), out);
    }

    /// Appends the body with as many regions as fit into `limit` bytes. Less room than for one is
    /// [`Fit::NoEntry`].
    pub fn emit_within(&self, out: &mut Vec<u8>, limit: usize) -> Fit {
        let room = limit.saturating_sub(REGIONS_FIXED) / REGION;
        if room == 0 {
            return Fit::NoEntry;
        }
        self.emit_some(room.min(self.regions.len()), out);
        if self.regions.len() <= room { Fit::Whole } else { Fit::Partial }
    }

    fn emit_some(&self, count: usize, out: &mut Vec<u8>) {
        for field in [self.flags, self.total, wire::length_u32(count), 0] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        for region in self.regions.iter().take(count) {
            region.emit(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::round_trip;
    use super::*;

    /// A fixed body comes back as it was and is refused when any byte is missing.
    macro_rules! check {
        ($value:expr, $type:ident, $length:literal) => {
            let bytes = round_trip(&$value, $type::emit, |bytes| $type::parse(bytes));
            assert_eq!(bytes.len(), $length);
            for length in 0..bytes.len() {
                assert!($type::parse(&bytes.slice(..length)).is_err(), "{length}");
            }
        };
    }

    #[test]
    fn bodies_round_trip() {
        let range = Range { file_offset: 1 << 40, length: 9 };
        let extents = DuplicateExtents {
            source: FileId { persistent: 1, volatile: 2 },
            source_offset: 3,
            target_offset: 4,
            byte_count: 5,
        };
        let region = FileRegion { file_offset: 1, length: 2, usage: RegionUsage::VALID_CACHED_DATA };
        let flags = IntegrityFlags::CHECKSUM_ENFORCEMENT_OFF;
        let checksum_algorithm = ChecksumAlgorithm::CRC64;
        check!(ZeroData { file_offset: 1, beyond_final_zero: u64::MAX }, ZeroData, 16);
        check!(range, Range, 16);
        check!(CompressionState::LZNT1, CompressionState, 2);
        check!(
            ObjectIdBuffer { object_id: [1; 16], domain_id: [4; 16], ..Default::default() },
            ObjectIdBuffer,
            64
        );
        let get = GetIntegrity { checksum_algorithm, flags, checksum_chunk_size: 4096, cluster_size: 65536 };
        check!(get, GetIntegrity, 16);
        check!(SetIntegrity { checksum_algorithm, flags }, SetIntegrity, 8);
        check!(extents, DuplicateExtents, 40);
        check!(
            DuplicateExtentsEx { extents, flags: DuplicateExtentsFlags::SOURCE_ATOMIC },
            DuplicateExtentsEx,
            56
        );
        check!(FileLevelTrim { key: 7, ranges: vec![range, range] }, FileLevelTrim, 40);
        check!(FileLevelTrimOutput { ranges_processed: 2 }, FileLevelTrimOutput, 4);
        check!(PipeWait { timeout: Some(50), name: Name::from("srvsvc") }, PipeWait, 26);
        check!(PipeWait { timeout: None, name: Name::default() }, PipeWait, 14);
        check!(region, FileRegion, 24);
        check!(FileRegions { flags: 0, total: 3, regions: vec![region] }, FileRegions, 40);
        let peek = PipePeek {
            state: 3,
            read_data_available: 4,
            number_of_messages: 1,
            message_length: 4,
            data: Bytes::from_static(b"data"),
        };
        round_trip(&peek, PipePeek::emit, PipePeek::parse);
    }

    #[test]
    fn sparse_is_the_default() {
        assert_eq!(SetSparse::parse(&[]), SetSparse(true));
        assert_eq!(SetSparse::parse(&[0]), SetSparse(false));
        let mut out = Vec::new();
        SetSparse(true).emit(&mut out);
        assert_eq!(SetSparse::parse(&out), SetSparse(true));
    }

    #[test]
    fn lists_respect_the_limit() {
        let ranges = [Range { file_offset: 0, length: 1 }, Range { file_offset: 4, length: 1 }];
        for (limit, fit, written) in [(15, Fit::NoEntry, 0), (31, Fit::Partial, 16), (32, Fit::Whole, 32)] {
            let mut out = Vec::new();
            assert_eq!((emit_ranges(&ranges, &mut out, limit), out.len()), (fit, written));
            assert_eq!(parse_ranges(&out).as_deref(), Ok(&ranges[..written / 16]));
        }
        assert_eq!(emit_ranges(&[], &mut Vec::new(), 0), Fit::Whole);
        assert!(parse_ranges(&[0; 17]).is_err());
        let regions = FileRegions { flags: 0, total: 2, regions: vec![FileRegion::default(); 2] };
        for (limit, fit, count) in
            [(39, Fit::NoEntry, None), (63, Fit::Partial, Some(1)), (64, Fit::Whole, Some(2))]
        {
            let mut out = Vec::new();
            assert_eq!(regions.emit_within(&mut out, limit), fit);
            assert_eq!(FileRegions::parse(&out).ok().map(|regions| regions.regions.len()), count);
        }
    }

    #[test]
    fn announced_counts_are_not_believed() {
        let mut trim = vec![0; 24];
        trim[4..8].copy_from_slice(&[0xFF; 4]);
        assert!(FileLevelTrim::parse(&trim).is_err());
        let mut regions = vec![0; 40];
        regions[8..12].copy_from_slice(&[0xFF; 4]);
        assert!(FileRegions::parse(&regions).is_err());
        let mut extents = Vec::new();
        DuplicateExtentsEx::default().emit(&mut extents);
        extents[0] = 0x31;
        assert!(DuplicateExtentsEx::parse(&extents).is_err());
    }
}
