//! NTSTATUS (MS-ERREF 2.3).
//!
//! The codes that SMB2, its file systems, authentication and RPC can meet, in the order of their numbers. The others
//! are still carried and printed, only without a name.

use std::fmt;

/// A status code. An open set: unknown codes are kept and printed as numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NtStatus(pub u32);

macro_rules! statuses {
    ($($name:ident = $code:literal,)*) => {
        #[allow(missing_docs)]
        impl NtStatus {
            $(pub const $name: Self = Self($code);)*

            /// The symbolic name without its `STATUS_`, if the code is one that this crate knows.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    SUCCESS = 0x0000_0000,
    PENDING = 0x0000_0103,
    REPARSE = 0x0000_0104,
    SOME_NOT_MAPPED = 0x0000_0107,
    OPLOCK_BREAK_IN_PROGRESS = 0x0000_0108,
    NOTIFY_CLEANUP = 0x0000_010B,
    NOTIFY_ENUM_DIR = 0x0000_010C,
    BUFFER_OVERFLOW = 0x8000_0005,
    NO_MORE_FILES = 0x8000_0006,
    INVALID_EA_NAME = 0x8000_0013,
    EA_LIST_INCONSISTENT = 0x8000_0014,
    NO_MORE_ENTRIES = 0x8000_001A,
    STOPPED_ON_SYMLINK = 0x8000_002D,
    UNSUCCESSFUL = 0xC000_0001,
    NOT_IMPLEMENTED = 0xC000_0002,
    INVALID_INFO_CLASS = 0xC000_0003,
    INFO_LENGTH_MISMATCH = 0xC000_0004,
    INVALID_HANDLE = 0xC000_0008,
    INVALID_PARAMETER = 0xC000_000D,
    NO_SUCH_DEVICE = 0xC000_000E,
    NO_SUCH_FILE = 0xC000_000F,
    INVALID_DEVICE_REQUEST = 0xC000_0010,
    END_OF_FILE = 0xC000_0011,
    WRONG_VOLUME = 0xC000_0012,
    MORE_PROCESSING_REQUIRED = 0xC000_0016,
    NO_MEMORY = 0xC000_0017,
    ACCESS_DENIED = 0xC000_0022,
    BUFFER_TOO_SMALL = 0xC000_0023,
    OBJECT_TYPE_MISMATCH = 0xC000_0024,
    NOT_LOCKED = 0xC000_002A,
    OBJECT_NAME_INVALID = 0xC000_0033,
    OBJECT_NAME_NOT_FOUND = 0xC000_0034,
    OBJECT_NAME_COLLISION = 0xC000_0035,
    OBJECT_PATH_INVALID = 0xC000_0039,
    OBJECT_PATH_NOT_FOUND = 0xC000_003A,
    OBJECT_PATH_SYNTAX_BAD = 0xC000_003B,
    DATA_ERROR = 0xC000_003E,
    CRC_ERROR = 0xC000_003F,
    SECTION_TOO_BIG = 0xC000_0040,
    SHARING_VIOLATION = 0xC000_0043,
    QUOTA_EXCEEDED = 0xC000_0044,
    EAS_NOT_SUPPORTED = 0xC000_004F,
    EA_TOO_LARGE = 0xC000_0050,
    NONEXISTENT_EA_ENTRY = 0xC000_0051,
    NO_EAS_ON_FILE = 0xC000_0052,
    EA_CORRUPT_ERROR = 0xC000_0053,
    FILE_LOCK_CONFLICT = 0xC000_0054,
    LOCK_NOT_GRANTED = 0xC000_0055,
    DELETE_PENDING = 0xC000_0056,
    INVALID_OWNER = 0xC000_005A,
    NO_SUCH_LOGON_SESSION = 0xC000_005F,
    PRIVILEGE_NOT_HELD = 0xC000_0061,
    NO_SUCH_USER = 0xC000_0064,
    WRONG_PASSWORD = 0xC000_006A,
    LOGON_FAILURE = 0xC000_006D,
    ACCOUNT_RESTRICTION = 0xC000_006E,
    INVALID_LOGON_HOURS = 0xC000_006F,
    INVALID_WORKSTATION = 0xC000_0070,
    PASSWORD_EXPIRED = 0xC000_0071,
    ACCOUNT_DISABLED = 0xC000_0072,
    NONE_MAPPED = 0xC000_0073,
    INVALID_ACL = 0xC000_0077,
    INVALID_SID = 0xC000_0078,
    INVALID_SECURITY_DESCR = 0xC000_0079,
    NO_TOKEN = 0xC000_007C,
    RANGE_NOT_LOCKED = 0xC000_007E,
    DISK_FULL = 0xC000_007F,
    INTEGER_OVERFLOW = 0xC000_0095,
    FILE_INVALID = 0xC000_0098,
    INSUFFICIENT_RESOURCES = 0xC000_009A,
    DFS_EXIT_PATH_FOUND = 0xC000_009B,
    MEDIA_WRITE_PROTECTED = 0xC000_00A2,
    BAD_IMPERSONATION_LEVEL = 0xC000_00A5,
    INSTANCE_NOT_AVAILABLE = 0xC000_00AB,
    PIPE_NOT_AVAILABLE = 0xC000_00AC,
    INVALID_PIPE_STATE = 0xC000_00AD,
    PIPE_BUSY = 0xC000_00AE,
    PIPE_DISCONNECTED = 0xC000_00B0,
    PIPE_CLOSING = 0xC000_00B1,
    PIPE_CONNECTED = 0xC000_00B2,
    PIPE_LISTENING = 0xC000_00B3,
    IO_TIMEOUT = 0xC000_00B5,
    FILE_FORCED_CLOSED = 0xC000_00B6,
    FILE_IS_A_DIRECTORY = 0xC000_00BA,
    NOT_SUPPORTED = 0xC000_00BB,
    DUPLICATE_NAME = 0xC000_00BD,
    BAD_NETWORK_PATH = 0xC000_00BE,
    INVALID_NETWORK_RESPONSE = 0xC000_00C3,
    NETWORK_NAME_DELETED = 0xC000_00C9,
    NETWORK_ACCESS_DENIED = 0xC000_00CA,
    BAD_DEVICE_TYPE = 0xC000_00CB,
    BAD_NETWORK_NAME = 0xC000_00CC,
    TOO_MANY_SESSIONS = 0xC000_00CE,
    REQUEST_NOT_ACCEPTED = 0xC000_00D0,
    NOT_SAME_DEVICE = 0xC000_00D4,
    FILE_RENAMED = 0xC000_00D5,
    PIPE_EMPTY = 0xC000_00D9,
    NO_SUCH_DOMAIN = 0xC000_00DF,
    OPLOCK_NOT_GRANTED = 0xC000_00E2,
    INVALID_OPLOCK_PROTOCOL = 0xC000_00E3,
    INTERNAL_ERROR = 0xC000_00E5,
    INVALID_USER_BUFFER = 0xC000_00E8,
    UNEXPECTED_IO_ERROR = 0xC000_00E9,
    DIRECTORY_NOT_EMPTY = 0xC000_0101,
    FILE_CORRUPT_ERROR = 0xC000_0102,
    NOT_A_DIRECTORY = 0xC000_0103,
    NAME_TOO_LONG = 0xC000_0106,
    INVALID_LOGON_TYPE = 0xC000_010B,
    TOO_MANY_OPENED_FILES = 0xC000_011F,
    CANCELLED = 0xC000_0120,
    CANNOT_DELETE = 0xC000_0121,
    FILE_DELETED = 0xC000_0123,
    FILE_CLOSED = 0xC000_0128,
    TIME_DIFFERENCE_AT_DC = 0xC000_0133,
    INVALID_LEVEL = 0xC000_0148,
    PIPE_BROKEN = 0xC000_014B,
    LOGON_TYPE_NOT_GRANTED = 0xC000_015B,
    INVALID_DEVICE_STATE = 0xC000_0184,
    IO_DEVICE_ERROR = 0xC000_0185,
    TRUSTED_RELATIONSHIP_FAILURE = 0xC000_018D,
    ACCOUNT_EXPIRED = 0xC000_0193,
    NOLOGON_WORKSTATION_TRUST_ACCOUNT = 0xC000_0199,
    FS_DRIVER_REQUIRED = 0xC000_019C,
    INVALID_LOCK_RANGE = 0xC000_01A1,
    USER_SESSION_DELETED = 0xC000_0203,
    INVALID_BUFFER_SIZE = 0xC000_0206,
    CONNECTION_DISCONNECTED = 0xC000_020C,
    CONNECTION_RESET = 0xC000_020D,
    PASSWORD_MUST_CHANGE = 0xC000_0224,
    NOT_FOUND = 0xC000_0225,
    DUPLICATE_OBJECTID = 0xC000_022A,
    ACCOUNT_LOCKED_OUT = 0xC000_0234,
    CONNECTION_REFUSED = 0xC000_0236,
    NETWORK_UNREACHABLE = 0xC000_023C,
    USER_MAPPED_FILE = 0xC000_0243,
    PATH_NOT_COVERED = 0xC000_0257,
    TOO_MANY_LINKS = 0xC000_0265,
    DFS_UNAVAILABLE = 0xC000_026D,
    VOLUME_DISMOUNTED = 0xC000_026E,
    NO_MATCH = 0xC000_0272,
    NOT_A_REPARSE_POINT = 0xC000_0275,
    IO_REPARSE_TAG_INVALID = 0xC000_0276,
    IO_REPARSE_TAG_MISMATCH = 0xC000_0277,
    IO_REPARSE_DATA_INVALID = 0xC000_0278,
    IO_REPARSE_TAG_NOT_HANDLED = 0xC000_0279,
    DIRECTORY_IS_A_REPARSE_POINT = 0xC000_0281,
    REPARSE_ATTRIBUTE_CONFLICT = 0xC000_02B2,
    JOURNAL_NOT_ACTIVE = 0xC000_02B8,
    OBJECTID_NOT_FOUND = 0xC000_02F0,
    NETWORK_SESSION_EXPIRED = 0xC000_035C,
    DOWNGRADE_DETECTED = 0xC000_0388,
    COMPRESSION_DISABLED = 0xC000_0426,
    FILE_SYSTEM_LIMITATION = 0xC000_0427,
    REQUEST_OUT_OF_SEQUENCE = 0xC000_042A,
    DEVICE_FEATURE_NOT_SUPPORTED = 0xC000_0463,
    INVALID_TOKEN = 0xC000_0465,
    SERVER_UNAVAILABLE = 0xC000_0466,
    FILE_NOT_AVAILABLE = 0xC000_0467,
    SHARE_UNAVAILABLE = 0xC000_0480,
    CONTEXT_MISMATCH = 0xC000_0719,
    BAD_DATA = 0xC000_090B,
    INVALID_SIGNATURE = 0xC000_A000,
    AUTH_TAG_MISMATCH = 0xC000_A002,
    HASH_NOT_SUPPORTED = 0xC000_A100,
    HASH_NOT_PRESENT = 0xC000_A101,
    OFFLOAD_READ_FILE_NOT_SUPPORTED = 0xC000_A2A3,
    OFFLOAD_WRITE_FILE_NOT_SUPPORTED = 0xC000_A2A4,
    SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP = 0xC05D_0000,
    SMB_BAD_CLUSTER_DIALECT = 0xC05D_0001,
}

impl NtStatus {
    /// Whether the severity is success or informational.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 >> 30 <= 1
    }

    /// Whether the severity is error.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 >> 30 == 3
    }
}

impl fmt::Display for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "STATUS_{name}"),
            None => write!(f, "0x{:08X}", self.0),
        }
    }
}

impl fmt::Debug for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities() {
        for status in [NtStatus::SUCCESS, NtStatus::PENDING, NtStatus::NOTIFY_ENUM_DIR] {
            assert!(status.is_success() && !status.is_error());
        }
        for status in [NtStatus::BUFFER_OVERFLOW, NtStatus::NO_MORE_FILES, NtStatus::STOPPED_ON_SYMLINK] {
            assert!(!status.is_success() && !status.is_error());
        }
        for status in [NtStatus::ACCESS_DENIED, NtStatus::SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP] {
            assert!(!status.is_success() && status.is_error());
        }
    }

    #[test]
    fn known_codes_print_their_names_and_others_their_numbers() {
        assert_eq!(NtStatus(0xC000_0022).to_string(), "STATUS_ACCESS_DENIED");
        assert_eq!(NtStatus(0xC05D_0001).to_string(), "STATUS_SMB_BAD_CLUSTER_DIALECT");
        assert_eq!(NtStatus(0xC0DE_0001).to_string(), "0xC0DE0001");
    }
}
