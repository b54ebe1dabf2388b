//! File attributes (MS-FSCC 2.6).

use crate::flags::flags;

flags! {
    /// Attributes of a file or directory. The names are the specification's without `FILE_ATTRIBUTE_`.
    pub struct FileAttributes(u32);
    /// Not to be written or, for a directory, deleted.
    READONLY = 0x0000_0001;
    /// Left out of ordinary listings.
    HIDDEN = 0x0000_0002;
    /// Belongs to the operating system.
    SYSTEM = 0x0000_0004;
    /// Is a directory.
    DIRECTORY = 0x0000_0010;
    /// Changed since the last backup.
    ARCHIVE = 0x0000_0020;
    /// No other attribute: sent because zero means "leave as it is". Ignored beside other attributes.
    NORMAL = 0x0000_0080;
    /// Need not reach the disk.
    TEMPORARY = 0x0000_0100;
    /// Has holes.
    SPARSE_FILE = 0x0000_0200;
    /// Carries a reparse point.
    REPARSE_POINT = 0x0000_0400;
    /// Compressed; for a directory: what is created in it will be.
    COMPRESSED = 0x0000_0800;
    /// Data is in slow storage.
    OFFLINE = 0x0000_1000;
    /// Left out of the content index.
    NOT_CONTENT_INDEXED = 0x0000_2000;
    /// Encrypted; for a directory: what is created in it will be.
    ENCRYPTED = 0x0000_4000;
    /// Has integrity support.
    INTEGRITY_STREAM = 0x0000_8000;
    /// Left out of integrity scans.
    NO_SCRUB_DATA = 0x0002_0000;
    /// Only in listings: nothing of it is on this system until it is opened.
    RECALL_ON_OPEN = 0x0004_0000;
    /// Wanted wholly on this system.
    PINNED = 0x0008_0000;
    /// Not wanted on this system.
    UNPINNED = 0x0010_0000;
    /// Not wholly on this system; reading fetches it.
    RECALL_ON_DATA_ACCESS = 0x0040_0000;
    /// Every attribute that MS-FSCC 2.6 defines.
    VALID_MASK = 0x005E_FFB7;
}
