//! The structures of file information that have names of their own.

use binrw::binrw;

use crate::access::AccessMask;
use crate::attributes::FileAttributes;
use crate::flags::flags;
use crate::name::Name;
use crate::time::FileTime;

fn time(time: &FileTime) -> u64 {
    time.0
}

fn boolean(byte: u8) -> bool {
    byte != 0
}

fn byte(boolean: &bool) -> u8 {
    u8::from(*boolean)
}

/// FILE_BASIC_INFORMATION (MS-FSCC 2.4.7).
///
/// When set, a time of zero or empty attributes leave the old; -1 (`u64::MAX`) also stops the open from
/// changing that time by itself, and -2 lets it do so again.
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BasicInformation {
    /// When the file was created.
    #[br(map = FileTime)]
    #[bw(map = time)]
    pub creation_time: FileTime,
    /// When it was last read.
    #[br(map = FileTime)]
    #[bw(map = time)]
    pub last_access_time: FileTime,
    /// When its data last changed.
    #[br(map = FileTime)]
    #[bw(map = time)]
    pub last_write_time: FileTime,
    /// When anything of it last changed.
    #[br(map = FileTime)]
    #[bw(map = time)]
    pub change_time: FileTime,
    /// Attributes.
    pub attributes: FileAttributes,
    #[br(temp)]
    #[bw(calc = 0)]
    _reserved: u32,
}

/// FILE_STANDARD_INFORMATION (MS-FSCC 2.4.47).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StandardInformation {
    /// Bytes allocated.
    pub allocation_size: u64,
    /// Bytes of data.
    pub end_of_file: u64,
    /// Hard links that are not deleted.
    pub number_of_links: u32,
    /// Whether the file goes away with its last open.
    #[br(map = boolean)]
    #[bw(map = byte)]
    pub delete_pending: bool,
    /// Whether it is a directory.
    #[br(map = boolean)]
    #[bw(map = byte)]
    pub directory: bool,
    #[br(temp)]
    #[bw(calc = 0)]
    _reserved: u16,
}

/// FILE_STANDARD_LINK_INFORMATION (MS-FSCC 2.4.48).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StandardLinkInformation {
    /// Hard links that are not deleted.
    pub accessible_links: u32,
    /// Hard links with those that are marked for deletion.
    pub total_links: u32,
    /// Whether the file goes away with its last open.
    #[br(map = boolean)]
    #[bw(map = byte)]
    pub delete_pending: bool,
    /// Whether it is a directory.
    #[br(map = boolean)]
    #[bw(map = byte)]
    pub directory: bool,
    #[br(temp)]
    #[bw(calc = 0)]
    _reserved: u16,
}

/// FILE_NETWORK_OPEN_INFORMATION (MS-FSCC 2.4.34).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NetworkOpenInformation {
    /// When the file was created.
    #[br(map = FileTime)]
    #[bw(map = time)]
    pub creation_time: FileTime,
    /// When it was last read.
    #[br(map = FileTime)]
    #[bw(map = time)]
    pub last_access_time: FileTime,
    /// When its data last changed.
    #[br(map = FileTime)]
    #[bw(map = time)]
    pub last_write_time: FileTime,
    /// When anything of it last changed.
    #[br(map = FileTime)]
    #[bw(map = time)]
    pub change_time: FileTime,
    /// Bytes allocated.
    pub allocation_size: u64,
    /// Bytes of data.
    pub end_of_file: u64,
    /// Attributes.
    pub attributes: FileAttributes,
    #[br(temp)]
    #[bw(calc = 0)]
    _reserved: u32,
}

/// FILE_ATTRIBUTE_TAG_INFORMATION (MS-FSCC 2.4.6).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AttributeTagInformation {
    /// Attributes.
    pub attributes: FileAttributes,
    /// The reparse tag; zero if the file is no reparse point.
    pub reparse_tag: u32,
}

/// FILE_COMPRESSION_INFORMATION (MS-FSCC 2.4.9).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CompressionInformation {
    /// Bytes that the compressed file takes.
    pub compressed_size: u64,
    /// How it is compressed; zero for not at all.
    pub format: u16,
    /// Binary logarithm of the unit of compression in bytes.
    pub unit_shift: u8,
    /// Binary logarithm of the chunk in bytes.
    pub chunk_shift: u8,
    /// Binary logarithm of the cluster in bytes.
    pub cluster_shift: u8,
    #[br(temp)]
    #[bw(calc = [0; 3])]
    _reserved: [u8; 3],
}

/// FILE_ID_INFORMATION (MS-FSCC 2.4.26).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IdInformation {
    /// Serial number of the volume.
    pub volume_serial_number: u64,
    /// 128-bit file id.
    pub file_id: [u8; 16],
}

/// FILE_PIPE_INFORMATION (MS-FSCC 2.4.37).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PipeInformation {
    /// 0: as a stream of bytes; 1: as messages.
    pub read_mode: u32,
    /// 0: operations wait; 1: they do not.
    pub completion_mode: u32,
}

/// FILE_PIPE_LOCAL_INFORMATION (MS-FSCC 2.4.38).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PipeLocalInformation {
    /// 0: a stream of bytes; 1: messages.
    pub pipe_type: u32,
    /// 0: to the server; 1: to the client; 2: both.
    pub configuration: u32,
    /// Most instances that may exist.
    pub maximum_instances: u32,
    /// Instances that exist.
    pub current_instances: u32,
    /// Bytes reserved towards the server.
    pub inbound_quota: u32,
    /// Bytes that can be read now.
    pub read_data_available: u32,
    /// Bytes reserved towards the client.
    pub outbound_quota: u32,
    /// Bytes that can be written now.
    pub write_quota_available: u32,
    /// 1: disconnected; 2: listening; 3: connected; 4: closing.
    pub state: u32,
    /// 0: the client's end; 1: the server's.
    pub end: u32,
}

/// FILE_PIPE_REMOTE_INFORMATION (MS-FSCC 2.4.39).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PipeRemoteInformation {
    /// Longest that a client collects data before it sends, in 100 ns.
    pub collect_data_time: u64,
    /// Most bytes that it collects.
    pub maximum_collection_count: u32,
}

flags! {
    /// Mode of an open (MS-FSCC 2.4.31); the bits are those of the create options.
    pub struct Mode(u32);
    /// Writes reach the file before they are answered.
    WRITE_THROUGH = 0x0000_0002;
    /// Reads are in order.
    SEQUENTIAL_ONLY = 0x0000_0004;
    /// Nothing is cached.
    NO_INTERMEDIATE_BUFFERING = 0x0000_0008;
    /// Operations are synchronous, and waits can be alerted.
    SYNCHRONOUS_IO_ALERT = 0x0000_0010;
    /// Operations are synchronous.
    SYNCHRONOUS_IO_NONALERT = 0x0000_0020;
    /// The file goes away with its last open; never set in answers.
    DELETE_ON_CLOSE = 0x0000_1000;
}

/// FILE_ALL_INFORMATION (MS-FSCC 2.4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AllInformation {
    /// Times and attributes.
    pub basic: BasicInformation,
    /// Sizes, links, pending deletion.
    pub standard: StandardInformation,
    /// The 64-bit file id.
    pub index_number: u64,
    /// Size of the extended attributes.
    pub ea_size: u32,
    /// Access granted to the open.
    pub access: AccessMask,
    /// Position of the open.
    pub current_byte_offset: u64,
    /// Mode of the open.
    pub mode: Mode,
    /// Alignment that the device needs, less one.
    pub alignment: u32,
    /// The path, with a leading backslash.
    pub name: Name,
}
