//! Numbers of information classes (MS-FSCC 2.4, 2.5).

use std::fmt;

use super::directory;

macro_rules! classes {
    ($type:ident, $($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        impl $type {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// The name of the constant, if the class is a known one.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "{}({})", stringify!($type), self.0),
                }
            }
        }
    };
}

/// A class of file information; undefined values are kept.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileInfoClass(pub u8);

classes! {
    FileInfoClass,
    /// Directory listing: times, sizes, attributes.
    DIRECTORY = 1,
    /// Directory listing: the same with the size of extended attributes.
    FULL_DIRECTORY = 2,
    /// Directory listing: the same with short names.
    BOTH_DIRECTORY = 3,
    /// Times and attributes.
    BASIC = 4,
    /// Sizes, links, pending deletion.
    STANDARD = 5,
    /// The 64-bit file id.
    INTERNAL = 6,
    /// The size of extended attributes.
    EA = 7,
    /// The access granted to the open.
    ACCESS = 8,
    /// The path.
    NAME = 9,
    /// Renames.
    RENAME = 10,
    /// Adds a hard link.
    LINK = 11,
    /// Directory listing: names only.
    NAMES = 12,
    /// Marks for deletion.
    DISPOSITION = 13,
    /// The position of the open.
    POSITION = 14,
    /// Extended attributes.
    FULL_EA = 15,
    /// The mode of the open.
    MODE = 16,
    /// The alignment that the device needs.
    ALIGNMENT = 17,
    /// Most of the others together.
    ALL = 18,
    /// The space allocated.
    ALLOCATION = 19,
    /// The end of the file.
    END_OF_FILE = 20,
    /// The short name.
    ALTERNATE_NAME = 21,
    /// The streams.
    STREAM = 22,
    /// How a pipe is read and completes.
    PIPE = 23,
    /// One end of a pipe.
    PIPE_LOCAL = 24,
    /// How a pipe is collected by a client.
    PIPE_REMOTE = 25,
    /// A mailslot.
    MAILSLOT_QUERY = 26,
    /// The time-out of a mailslot.
    MAILSLOT_SET = 27,
    /// Compression.
    COMPRESSION = 28,
    /// Object ids of a volume.
    OBJECT_ID = 29,
    /// Used on the machine only.
    MOVE_CLUSTER = 31,
    /// Quotas of users.
    QUOTA = 32,
    /// Reparse points of a volume.
    REPARSE_POINT = 33,
    /// Times, sizes and attributes.
    NETWORK_OPEN = 34,
    /// Attributes and the reparse tag.
    ATTRIBUTE_TAG = 35,
    /// Used on the machine only.
    TRACKING = 36,
    /// Directory listing: short names and file ids.
    ID_BOTH_DIRECTORY = 37,
    /// Directory listing: file ids.
    ID_FULL_DIRECTORY = 38,
    /// The valid data length.
    VALID_DATA_LENGTH = 39,
    /// The short name, to be set.
    SHORT_NAME = 40,
    /// Reserved bandwidth.
    SFIO_RESERVE = 44,
    /// Bandwidth of the volume.
    SFIO_VOLUME = 45,
    /// Hard links of the file.
    HARD_LINK = 46,
    /// The path with long names.
    NORMALIZED_NAME = 48,
    /// Directory listing: file ids and transactions.
    ID_GLOBAL_TX_DIRECTORY = 50,
    /// Numbers of links.
    STANDARD_LINK = 54,
    /// The 128-bit file id with the volume's serial number.
    ID = 59,
    /// Directory listing: 128-bit file ids.
    ID_EXTD_DIRECTORY = 60,
    /// Directory listing: 128-bit file ids and short names.
    ID_EXTD_BOTH_DIRECTORY = 63,
    /// Marks for deletion, with flags.
    DISPOSITION_EX = 64,
    /// Renames, with flags.
    RENAME_EX = 65,
    /// Adds a hard link, with flags.
    LINK_EX = 72,
    /// Directory listing: 64-bit file ids and reparse tags.
    ID_64_EXTD_DIRECTORY = 78,
    /// Directory listing: 64-bit file ids, reparse tags and short names.
    ID_64_EXTD_BOTH_DIRECTORY = 79,
    /// Directory listing: file ids of both sizes.
    ID_ALL_EXTD_DIRECTORY = 80,
    /// Directory listing: file ids of both sizes and short names.
    ID_ALL_EXTD_BOTH_DIRECTORY = 81,
}

impl FileInfoClass {
    /// The smallest output buffer with which a query is answered; below it the answer is
    /// `STATUS_INFO_LENGTH_MISMATCH` (MS-FSA 2.1.5.6.3, 2.1.5.12). `None` for classes that are not queried.
    #[must_use]
    pub const fn fixed_len(self) -> Option<usize> {
        Some(match self {
            Self::EA | Self::ACCESS | Self::MODE | Self::ALIGNMENT => 4,
            Self::INTERNAL | Self::POSITION | Self::ATTRIBUTE_TAG | Self::PIPE => 8,
            // A length and room for at least one character.
            Self::NAME | Self::ALTERNATE_NAME | Self::NORMALIZED_NAME => 8,
            Self::STANDARD_LINK | Self::PIPE_REMOTE => 12,
            Self::COMPRESSION => 16,
            Self::STANDARD | Self::ID => 24,
            // The structure with its one character, rounded up to its alignment.
            Self::STREAM => 32,
            Self::BASIC | Self::PIPE_LOCAL => 40,
            Self::NETWORK_OPEN => 56,
            Self::ALL => 104,
            // Lists of extended attributes answer STATUS_BUFFER_TOO_SMALL instead.
            Self::FULL_EA => 0,
            _ => return directory::name_offset(self),
        })
    }

    /// Whether this is a class of directory listings that are sent over the network.
    #[must_use]
    pub const fn is_directory(self) -> bool {
        directory::name_offset(self).is_some()
    }
}

/// A class of volume information; undefined values are kept.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FsInfoClass(pub u8);

classes! {
    FsInfoClass,
    /// Label, serial number, time of creation.
    VOLUME = 1,
    /// The label, to be set.
    LABEL = 2,
    /// Sizes.
    SIZE = 3,
    /// The device.
    DEVICE = 4,
    /// What the file system can do.
    ATTRIBUTE = 5,
    /// Quota control.
    CONTROL = 6,
    /// Sizes, with quotas taken into account.
    FULL_SIZE = 7,
    /// The volume's object id.
    OBJECT_ID = 8,
    /// Used on the machine only.
    DRIVER_PATH = 9,
    /// Used on the machine only.
    VOLUME_FLAGS = 10,
    /// Sizes and alignment of sectors.
    SECTOR_SIZE = 11,
}

impl FsInfoClass {
    /// The smallest output buffer with which a query is answered; below it the answer is
    /// `STATUS_INFO_LENGTH_MISMATCH` (MS-FSA 2.1.5.13). `None` for classes that are not queried.
    #[must_use]
    pub const fn fixed_len(self) -> Option<usize> {
        Some(match self {
            Self::DEVICE => 8,
            // The structure with its one character, rounded up to its alignment.
            Self::ATTRIBUTE => 16,
            Self::VOLUME | Self::SIZE => 24,
            Self::SECTOR_SIZE => 28,
            Self::FULL_SIZE => 32,
            Self::CONTROL => 48,
            Self::OBJECT_ID => 64,
            _ => return None,
        })
    }
}
