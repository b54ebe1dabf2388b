//! Extended attributes of the file system, in which everything is kept that POSIX has no place for.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::buffer::spare_capacity;
use rustix::fs::{
    XattrFlags, fsetxattr, getxattr, getxattr_query, lgetxattr, listxattr, listxattr_query, removexattr,
    setxattr,
};
use rustix::io::Errno;

/// Largest value and longest list that Linux has.
const LENGTH_MAX: usize = 64 * 1024;

/// Errors that mean that an object has no attributes at all, now or ever.
fn is_absent(errno: Errno) -> bool {
    // PERM and ACCESS: what is not a file or directory cannot have any, or a directory's permissions hide them.
    matches!(errno, Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS)
}

/// The value of an attribute, `None` if there is none.
pub(super) fn get(path: &CStr, name: &CStr) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = Vec::with_capacity(256);
    loop {
        match getxattr(path, name, spare_capacity(&mut value)) {
            Ok(_) => return Ok(Some(value)),
            Err(Errno::RANGE) if value.capacity() <= LENGTH_MAX => {
                let length = getxattr_query(path, name)?;
                value.reserve(length.max(value.capacity() * 2));
            }
            Err(errno) if is_absent(errno) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
}

/// A short value without following a symbolic link, `None` if there is none or it is longer than `buffer`.
pub(super) fn get_short<'b>(path: &CStr, name: &CStr, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let length = lgetxattr(path, name, &mut *buffer).ok()?;
    buffer.get(..length)
}

/// Sets an attribute.
pub(super) fn set(path: &CStr, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    no_room(setxattr(path, name, value, XattrFlags::empty()))
}

/// Sets an attribute of what is open.
pub(super) fn set_through(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    no_room(fsetxattr(fd, name, value, XattrFlags::empty()))
}

/// What the kernel refuses for its size and what the file system has no room for are the same to a client.
fn no_room(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::TOOBIG | Errno::RANGE) => Err(Errno::NOSPC),
        result => result,
    }
}

/// Removes an attribute if it is there.
pub(super) fn remove(path: &CStr, name: &CStr) -> Result<(), Errno> {
    match removexattr(path, name) {
        Err(errno) if is_absent(errno) => Ok(()),
        result => result,
    }
}

/// The names of all attributes, each ended by a zero byte.
pub(super) fn list(path: &CStr) -> Result<Vec<u8>, Errno> {
    let mut names = Vec::with_capacity(512);
    loop {
        match listxattr(path, spare_capacity(&mut names)) {
            Ok(_) => return Ok(names),
            Err(Errno::RANGE) if names.capacity() <= LENGTH_MAX => {
                let length = listxattr_query(path)?;
                names.reserve(length.max(names.capacity() * 2));
            }
            Err(errno) if is_absent(errno) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
    }
}
