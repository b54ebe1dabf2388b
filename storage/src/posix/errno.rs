//! What the kernel's error numbers mean to a client.

use rustix::io::Errno;
use smb_proto::NtStatus;

use crate::fault::Fault;

/// The status for an error number.
pub(super) fn status(errno: Errno) -> NtStatus {
    match errno {
        Errno::NOENT => NtStatus::OBJECT_NAME_NOT_FOUND,
        Errno::EXIST => NtStatus::OBJECT_NAME_COLLISION,
        // EXDEV from openat2 is a path that would leave the root; rename handles its own.
        Errno::ACCESS | Errno::PERM | Errno::LOOP | Errno::XDEV | Errno::TXTBSY => NtStatus::ACCESS_DENIED,
        Errno::NOTDIR => NtStatus::NOT_A_DIRECTORY,
        Errno::ISDIR => NtStatus::FILE_IS_A_DIRECTORY,
        Errno::NOTEMPTY => NtStatus::DIRECTORY_NOT_EMPTY,
        Errno::NAMETOOLONG | Errno::ILSEQ => NtStatus::OBJECT_NAME_INVALID,
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => NtStatus::DISK_FULL,
        Errno::ROFS => NtStatus::MEDIA_WRITE_PROTECTED,
        Errno::INVAL | Errno::OVERFLOW => NtStatus::INVALID_PARAMETER,
        Errno::MFILE | Errno::NFILE => NtStatus::TOO_MANY_OPENED_FILES,
        Errno::NOMEM | Errno::NOBUFS => NtStatus::INSUFFICIENT_RESOURCES,
        Errno::BUSY => NtStatus::SHARING_VIOLATION,
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOTTY => NtStatus::NOT_SUPPORTED,
        Errno::BADF | Errno::STALE => NtStatus::FILE_CLOSED,
        Errno::MLINK => NtStatus::TOO_MANY_LINKS,
        Errno::NODEV | Errno::NXIO => NtStatus::NO_SUCH_DEVICE,
        Errno::TIMEDOUT => NtStatus::IO_TIMEOUT,
        _ => NtStatus::UNEXPECTED_IO_ERROR,
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Status(status(errno))
    }
}
