//! Answers to queries.

use binrw::BinRead;
use binrw::meta::ReadEndian;
use bytes::Bytes;

use super::BasicInformation;
use super::structures::{
    AllInformation, AttributeTagInformation, CompressionInformation, IdInformation, Mode,
    NetworkOpenInformation, PipeInformation, PipeLocalInformation, PipeRemoteInformation,
    StandardInformation, StandardLinkInformation,
};
use crate::access::AccessMask;
use crate::fscc::class::FileInfoClass;
use crate::fscc::ea::{self, FullEa};
use crate::fscc::stream::{self, StreamEntry};
use crate::fscc::{Fit, InformationError, counted_name, put_counted_name, truncate_name, u32_at, u64_at};
use crate::name::Name;
use crate::wire;

/// What a query answers, one variant for each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileInformation {
    /// The access granted to the open (2.4.1).
    Access(AccessMask),
    /// Most of the others together (2.4.2).
    All(AllInformation),
    /// The alignment that the device needs, less one (2.4.3).
    Alignment(u32),
    /// The short name (2.4.5).
    AlternateName(Name),
    /// Attributes and the reparse tag (2.4.6).
    AttributeTag(AttributeTagInformation),
    /// Times and attributes (2.4.7).
    Basic(BasicInformation),
    /// Compression (2.4.9).
    Compression(CompressionInformation),
    /// The size of the extended attributes (2.4.13).
    Ea(u32),
    /// Extended attributes (2.4.16).
    FullEa(Vec<FullEa>),
    /// The 128-bit file id (2.4.26).
    Id(IdInformation),
    /// The 64-bit file id (2.4.27).
    Internal(u64),
    /// The mode of the open (2.4.31).
    Mode(Mode),
    /// The path, with a leading backslash (2.4.32).
    Name(Name),
    /// Times, sizes and attributes (2.4.34).
    NetworkOpen(NetworkOpenInformation),
    /// The path with long names, relative to the share, without a leading backslash (2.4.35).
    NormalizedName(Name),
    /// How a pipe is read and completes (2.4.37).
    Pipe(PipeInformation),
    /// One end of a pipe (2.4.38).
    PipeLocal(PipeLocalInformation),
    /// How a pipe is collected by a client (2.4.39).
    PipeRemote(PipeRemoteInformation),
    /// The position of the open (2.4.40).
    Position(u64),
    /// Sizes, links, pending deletion (2.4.47).
    Standard(StandardInformation),
    /// Numbers of links (2.4.48).
    StandardLink(StandardLinkInformation),
    /// The streams (2.4.49).
    Stream(Vec<StreamEntry>),
}

/// Where the name starts in FILE_ALL_INFORMATION.
const ALL_NAME: usize = 100;
/// Where the name starts behind its length.
const NAME: usize = 4;

impl FileInformation {
    /// The class that this is.
    #[must_use]
    pub const fn class(&self) -> FileInfoClass {
        match self {
            Self::Access(_) => FileInfoClass::ACCESS,
            Self::All(_) => FileInfoClass::ALL,
            Self::Alignment(_) => FileInfoClass::ALIGNMENT,
            Self::AlternateName(_) => FileInfoClass::ALTERNATE_NAME,
            Self::AttributeTag(_) => FileInfoClass::ATTRIBUTE_TAG,
            Self::Basic(_) => FileInfoClass::BASIC,
            Self::Compression(_) => FileInfoClass::COMPRESSION,
            Self::Ea(_) => FileInfoClass::EA,
            Self::FullEa(_) => FileInfoClass::FULL_EA,
            Self::Id(_) => FileInfoClass::ID,
            Self::Internal(_) => FileInfoClass::INTERNAL,
            Self::Mode(_) => FileInfoClass::MODE,
            Self::Name(_) => FileInfoClass::NAME,
            Self::NetworkOpen(_) => FileInfoClass::NETWORK_OPEN,
            Self::NormalizedName(_) => FileInfoClass::NORMALIZED_NAME,
            Self::Pipe(_) => FileInfoClass::PIPE,
            Self::PipeLocal(_) => FileInfoClass::PIPE_LOCAL,
            Self::PipeRemote(_) => FileInfoClass::PIPE_REMOTE,
            Self::Position(_) => FileInfoClass::POSITION,
            Self::Standard(_) => FileInfoClass::STANDARD,
            Self::StandardLink(_) => FileInfoClass::STANDARD_LINK,
            Self::Stream(_) => FileInfoClass::STREAM,
        }
    }

    /// Number of bytes that [`FileInformation::emit`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::All(all) => all.name.wire_len().saturating_add(ALL_NAME),
            Self::AlternateName(name) | Self::Name(name) | Self::NormalizedName(name) => {
                name.wire_len().saturating_add(NAME)
            }
            Self::FullEa(_) | Self::Stream(_) => {
                let mut scratch = Vec::new();
                self.emit(&mut scratch);
                scratch.len()
            }
            _ => self.class().fixed_len().unwrap_or(0),
        }
    }

    /// Appends the information.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Access(access) => wire::put(out, access),
            Self::All(all) => emit_all(all, out),
            Self::Alignment(number) | Self::Ea(number) => out.extend_from_slice(&number.to_le_bytes()),
            Self::AlternateName(name) | Self::Name(name) | Self::NormalizedName(name) => {
                put_counted_name(out, name)
            }
            Self::AttributeTag(information) => wire::put(out, information),
            Self::Basic(information) => wire::put(out, information),
            Self::Compression(information) => wire::put(out, information),
            Self::FullEa(list) => {
                ea::emit_full(list, out, usize::MAX);
            }
            Self::Id(information) => wire::put(out, information),
            Self::Internal(number) | Self::Position(number) => out.extend_from_slice(&number.to_le_bytes()),
            Self::Mode(mode) => wire::put(out, mode),
            Self::NetworkOpen(information) => wire::put(out, information),
            Self::Pipe(information) => wire::put(out, information),
            Self::PipeLocal(information) => wire::put(out, information),
            Self::PipeRemote(information) => wire::put(out, information),
            Self::Standard(information) => wire::put(out, information),
            Self::StandardLink(information) => wire::put(out, information),
            Self::Stream(streams) => {
                stream::emit(streams, out, usize::MAX);
            }
        }
    }

    /// Appends what fits into an output buffer of `limit` bytes: names are cut short, lists end early, the
    /// rest is whole or not there at all (MS-FSA 2.1.5.12).
    pub fn emit_within(&self, out: &mut Vec<u8>, limit: usize) -> Fit {
        if self.class().fixed_len().is_none_or(|fixed| limit < fixed) {
            return Fit::BelowFixed;
        }
        let start = out.len();
        match self {
            Self::FullEa(list) => return ea::emit_full(list, out, limit),
            Self::Stream(streams) => return stream::emit(streams, out, limit),
            _ => self.emit(out),
        }
        match self {
            Self::All(_) => truncate_name(out, start, ALL_NAME, limit),
            Self::AlternateName(_) | Self::Name(_) | Self::NormalizedName(_) => {
                truncate_name(out, start, NAME, limit)
            }
            _ => Fit::Whole,
        }
    }

    /// Reads information of a class (the client's direction).
    ///
    /// # Errors
    /// [`InformationError`]: not a class that is queried this way, too few bytes, or lengths that point
    /// outside them.
    pub fn parse(class: FileInfoClass, bytes: &Bytes) -> Result<Self, InformationError> {
        let number = || u32_at(bytes, 0, "").map_err(|_| InformationError::Length);
        let long = || u64_at(bytes, 0, "").map_err(|_| InformationError::Length);
        let name = || {
            if bytes.len() < NAME {
                return Err(InformationError::Length);
            }
            Ok(counted_name(bytes, 0, "file information: name")?)
        };
        Ok(match class {
            FileInfoClass::ACCESS => Self::Access(AccessMask(number()?)),
            FileInfoClass::ALL => Self::All(parse_all(bytes)?),
            FileInfoClass::ALIGNMENT => Self::Alignment(number()?),
            FileInfoClass::ALTERNATE_NAME => Self::AlternateName(name()?),
            FileInfoClass::ATTRIBUTE_TAG => Self::AttributeTag(fixed(bytes)?),
            FileInfoClass::BASIC => Self::Basic(fixed(bytes)?),
            FileInfoClass::COMPRESSION => Self::Compression(fixed(bytes)?),
            FileInfoClass::EA => Self::Ea(number()?),
            FileInfoClass::FULL_EA => Self::FullEa(ea::parse_full(bytes)?),
            FileInfoClass::ID => Self::Id(fixed(bytes)?),
            FileInfoClass::INTERNAL => Self::Internal(long()?),
            FileInfoClass::MODE => Self::Mode(Mode(number()?)),
            FileInfoClass::NAME => Self::Name(name()?),
            FileInfoClass::NETWORK_OPEN => Self::NetworkOpen(fixed(bytes)?),
            FileInfoClass::NORMALIZED_NAME => Self::NormalizedName(name()?),
            FileInfoClass::PIPE => Self::Pipe(fixed(bytes)?),
            FileInfoClass::PIPE_LOCAL => Self::PipeLocal(fixed(bytes)?),
            FileInfoClass::PIPE_REMOTE => Self::PipeRemote(fixed(bytes)?),
            FileInfoClass::POSITION => Self::Position(long()?),
            FileInfoClass::STANDARD => Self::Standard(fixed(bytes)?),
            FileInfoClass::STANDARD_LINK => Self::StandardLink(fixed(bytes)?),
            FileInfoClass::STREAM => Self::Stream(stream::parse(bytes)?),
            _ => return Err(InformationError::Class),
        })
    }
}

/// A structure that is the whole of a class.
pub(super) fn fixed<T>(bytes: &Bytes) -> Result<T, InformationError>
where
    T: BinRead + ReadEndian,
    for<'a> T::Args<'a>: Default,
{
    wire::fixed(bytes, 0, "").map_err(|_| InformationError::Length)
}

fn emit_all(all: &AllInformation, out: &mut Vec<u8>) {
    wire::put(out, &all.basic);
    wire::put(out, &all.standard);
    out.extend_from_slice(&all.index_number.to_le_bytes());
    out.extend_from_slice(&all.ea_size.to_le_bytes());
    out.extend_from_slice(&all.access.0.to_le_bytes());
    out.extend_from_slice(&all.current_byte_offset.to_le_bytes());
    out.extend_from_slice(&all.mode.0.to_le_bytes());
    out.extend_from_slice(&all.alignment.to_le_bytes());
    put_counted_name(out, &all.name);
}

fn parse_all(bytes: &Bytes) -> Result<AllInformation, InformationError> {
    const WHAT: &str = "file information: all";
    if bytes.len() < ALL_NAME {
        return Err(InformationError::Length);
    }
    Ok(AllInformation {
        basic: wire::fixed(bytes, 0, WHAT)?,
        standard: wire::fixed(bytes, 40, WHAT)?,
        index_number: u64_at(bytes, 64, WHAT)?,
        ea_size: u32_at(bytes, 72, WHAT)?,
        access: AccessMask(u32_at(bytes, 76, WHAT)?),
        current_byte_offset: u64_at(bytes, 80, WHAT)?,
        mode: Mode(u32_at(bytes, 88, WHAT)?),
        alignment: u32_at(bytes, 92, WHAT)?,
        name: counted_name(bytes, 96, WHAT)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::FileAttributes;
    use crate::fscc::tests::round_trip;
    use crate::time::FileTime;

    fn basic() -> BasicInformation {
        BasicInformation {
            creation_time: FileTime(1),
            last_access_time: FileTime(u64::MAX),
            last_write_time: FileTime(3 << 40),
            change_time: FileTime(4),
            attributes: FileAttributes::ARCHIVE,
        }
    }

    fn standard() -> StandardInformation {
        StandardInformation {
            allocation_size: 4096,
            end_of_file: 100,
            number_of_links: 2,
            delete_pending: true,
            directory: false,
        }
    }

    fn samples() -> Vec<FileInformation> {
        vec![
            FileInformation::Access(AccessMask::FILE_ALL_ACCESS),
            FileInformation::All(AllInformation {
                basic: basic(),
                standard: standard(),
                index_number: 7,
                ea_size: 8,
                access: AccessMask::DELETE,
                current_byte_offset: 9,
                mode: Mode::WRITE_THROUGH,
                alignment: 511,
                name: Name::from("\\dir\\file"),
            }),
            FileInformation::Alignment(7),
            FileInformation::AlternateName(Name::from("LEASED~1.TXT")),
            FileInformation::AttributeTag(AttributeTagInformation {
                attributes: FileAttributes::REPARSE_POINT,
                reparse_tag: 0xA000_000C,
            }),
            FileInformation::Basic(basic()),
            FileInformation::Compression(CompressionInformation {
                compressed_size: 1 << 33,
                format: 2,
                unit_shift: 16,
                chunk_shift: 12,
                cluster_shift: 12,
            }),
            FileInformation::Ea(44),
            FileInformation::FullEa(vec![FullEa {
                flags: 0,
                name: Bytes::from_static(b"A"),
                value: Bytes::from_static(b"1"),
            }]),
            FileInformation::Id(IdInformation { volume_serial_number: 5, file_id: [6; 16] }),
            FileInformation::Internal(1 << 50),
            FileInformation::Mode(Mode::SEQUENTIAL_ONLY),
            FileInformation::Name(Name::from("\\a")),
            FileInformation::NetworkOpen(NetworkOpenInformation {
                creation_time: FileTime(1),
                last_access_time: FileTime(2),
                last_write_time: FileTime(3),
                change_time: FileTime(4),
                allocation_size: 5,
                end_of_file: 6,
                attributes: FileAttributes::NORMAL,
            }),
            FileInformation::NormalizedName(Name::from("a\\b")),
            FileInformation::Pipe(PipeInformation { read_mode: 1, completion_mode: 0 }),
            FileInformation::PipeLocal(PipeLocalInformation {
                maximum_instances: 3,
                end: 1,
                ..Default::default()
            }),
            FileInformation::PipeRemote(PipeRemoteInformation {
                collect_data_time: 5,
                maximum_collection_count: 6,
            }),
            FileInformation::Position(1 << 60),
            FileInformation::Standard(standard()),
            FileInformation::StandardLink(StandardLinkInformation {
                accessible_links: 1,
                total_links: 2,
                delete_pending: false,
                directory: true,
            }),
            FileInformation::Stream(vec![StreamEntry {
                name: Name::from("::$DATA"),
                size: 1,
                allocation_size: 2,
            }]),
        ]
    }

    #[test]
    fn every_class_round_trips() {
        for information in samples() {
            let class = information.class();
            let bytes =
                round_trip(&information, FileInformation::emit, |bytes| FileInformation::parse(class, bytes));
            assert_eq!(bytes.len(), information.encoded_len(), "{class:?}");
            for length in 1..bytes.len() {
                assert!(FileInformation::parse(class, &bytes.slice(..length)).is_err(), "{class:?} {length}");
            }
        }
        assert_eq!(
            FileInformation::parse(FileInfoClass::RENAME, &Bytes::from_static(&[0; 100])),
            Err(InformationError::Class)
        );
    }

    #[test]
    fn fixed_classes_are_as_long_as_the_smallest_buffer() {
        for information in samples() {
            let fixed = information.class().fixed_len().unwrap();
            let mut out = Vec::new();
            if fixed > 0 {
                assert_eq!(information.emit_within(&mut out, fixed - 1), Fit::BelowFixed);
                assert!(out.is_empty());
            }
            let fit = information.emit_within(&mut out, 1000);
            assert_eq!((fit, out.len()), (Fit::Whole, information.encoded_len()));
        }
    }

    #[test]
    fn names_are_cut_to_whole_units() {
        let name = FileInformation::Name(Name::from("\\abc"));
        for (limit, written) in [(8, 8), (9, 8), (10, 10), (11, 10)] {
            let mut out = vec![0xEE];
            assert_eq!(name.emit_within(&mut out, limit), Fit::Partial);
            assert_eq!(out.len(), 1 + written);
            assert_eq!(out[1], 8, "the length is that of the whole name");
        }
        let mut out = Vec::new();
        assert_eq!(name.emit_within(&mut out, 12), Fit::Whole);
        let all = FileInformation::All(AllInformation { name: Name::from("\\abcdef"), ..Default::default() });
        let mut out = Vec::new();
        assert_eq!(all.emit_within(&mut out, 105), Fit::Partial);
        assert_eq!((out.len(), out[96]), (104, 14));
    }

    #[test]
    fn known_bytes() {
        let mut out = Vec::new();
        FileInformation::Standard(standard()).emit(&mut out);
        assert_eq!(out, [0, 16, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]);
    }
}
