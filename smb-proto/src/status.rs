//! NTSTATUS (MS-ERREF 2.3).

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
    NOTIFY_CLEANUP = 0x0000_010B,
    NOTIFY_ENUM_DIR = 0x0000_010C,
    BUFFER_OVERFLOW = 0x8000_0005,
    NO_MORE_FILES = 0x8000_0006,
    NO_MORE_ENTRIES = 0x8000_001A,
    STOPPED_ON_SYMLINK = 0x8000_002D,
    INVALID_EA_NAME = 0x8000_0013,
    EA_LIST_INCONSISTENT = 0x8000_0014,
    NO_EAS_ON_FILE = 0xC000_0052,
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
    MORE_PROCESSING_REQUIRED = 0xC000_0016,
    NO_MEMORY = 0xC000_0017,
    ACCESS_DENIED = 0xC000_0022,
    BUFFER_TOO_SMALL = 0xC000_0023,
    OBJECT_TYPE_MISMATCH = 0xC000_0024,
    OBJECT_NAME_INVALID = 0xC000_0033,
    OBJECT_NAME_NOT_FOUND = 0xC000_0034,
    OBJECT_NAME_COLLISION = 0xC000_0035,
    OBJECT_PATH_INVALID = 0xC000_0039,
    OBJECT_PATH_NOT_FOUND = 0xC000_003A,
    OBJECT_PATH_SYNTAX_BAD = 0xC000_003B,
    DATA_ERROR = 0xC000_003E,
    SHARING_VIOLATION = 0xC000_0043,
    EA_TOO_LARGE = 0xC000_0050,
    NONEXISTENT_EA_ENTRY = 0xC000_0051,
    EA_CORRUPT_ERROR = 0xC000_0053,
    FILE_LOCK_CONFLICT = 0xC000_0054,
    LOCK_NOT_GRANTED = 0xC000_0055,
    DELETE_PENDING = 0xC000_0056,
    PRIVILEGE_NOT_HELD = 0xC000_0061,
    LOGON_FAILURE = 0xC000_006D,
    ACCOUNT_RESTRICTION = 0xC000_006E,
    PASSWORD_EXPIRED = 0xC000_0071,
    ACCOUNT_DISABLED = 0xC000_0072,
    INVALID_ACL = 0xC000_0077,
    INVALID_SID = 0xC000_0078,
    INVALID_SECURITY_DESCR = 0xC000_0079,
    INVALID_OWNER = 0xC000_005A,
    RANGE_NOT_LOCKED = 0xC000_007E,
    DISK_FULL = 0xC000_007F,
    INSUFFICIENT_RESOURCES = 0xC000_009A,
    MEDIA_WRITE_PROTECTED = 0xC000_00A2,
    PIPE_NOT_AVAILABLE = 0xC000_00AC,
    PIPE_BUSY = 0xC000_00AE,
    INVALID_PIPE_STATE = 0xC000_00AD,
    PIPE_DISCONNECTED = 0xC000_00B0,
    PIPE_CLOSING = 0xC000_00B1,
    PIPE_EMPTY = 0xC000_00D9,
    IO_TIMEOUT = 0xC000_00B5,
    FILE_IS_A_DIRECTORY = 0xC000_00BA,
    NOT_SUPPORTED = 0xC000_00BB,
    BAD_NETWORK_PATH = 0xC000_00BE,
    NETWORK_NAME_DELETED = 0xC000_00C9,
    NETWORK_ACCESS_DENIED = 0xC000_00CA,
    BAD_DEVICE_TYPE = 0xC000_00CB,
    BAD_NETWORK_NAME = 0xC000_00CC,
    TOO_MANY_SESSIONS = 0xC000_00CE,
    REQUEST_NOT_ACCEPTED = 0xC000_00D0,
    NOT_SAME_DEVICE = 0xC000_00D4,
    INTERNAL_ERROR = 0xC000_00E5,
    UNEXPECTED_IO_ERROR = 0xC000_00E9,
    DIRECTORY_NOT_EMPTY = 0xC000_0101,
    NOT_A_DIRECTORY = 0xC000_0103,
    NAME_TOO_LONG = 0xC000_0106,
    TOO_MANY_OPENED_FILES = 0xC000_011F,
    CANCELLED = 0xC000_0120,
    CANNOT_DELETE = 0xC000_0121,
    FILE_DELETED = 0xC000_0123,
    FILE_CLOSED = 0xC000_0128,
    USER_SESSION_DELETED = 0xC000_0203,
    NOT_FOUND = 0xC000_0225,
    DUPLICATE_OBJECTID = 0xC000_022A,
    INVALID_BUFFER_SIZE = 0xC000_0206,
    CONNECTION_DISCONNECTED = 0xC000_020C,
    NOT_A_REPARSE_POINT = 0xC000_0275,
    IO_REPARSE_TAG_MISMATCH = 0xC000_0277,
    IO_REPARSE_DATA_INVALID = 0xC000_0278,
    NETWORK_SESSION_EXPIRED = 0xC000_035C,
    FILE_NOT_AVAILABLE = 0xC000_0467,
    INVALID_TOKEN = 0xC000_0465,
    HASH_NOT_PRESENT = 0xC000_A101,
    REQUEST_OUT_OF_SEQUENCE = 0xC000_042A,
    INVALID_SIGNATURE = 0xC000_A000,
    SERVER_UNAVAILABLE = 0xC000_0466,
    NO_PREAUTH_INTEGRITY_HASH_OVERLAP = 0xC05D_0000,
    FS_DRIVER_REQUIRED = 0xC000_019C,
    INVALID_LOCK_RANGE = 0xC000_01A1,
    INVALID_OPLOCK_PROTOCOL = 0xC000_00E3,
    INVALID_DEVICE_STATE = 0xC000_0184,
    TRUSTED_RELATIONSHIP_FAILURE = 0xC000_018D,
    INVALID_LEVEL = 0xC000_0148,
    WRONG_VOLUME = 0xC000_0012,
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
