//! File I/O that may have to wait for a disk, as values: a runtime can have a thread do it, or the kernel.
//!
//! Each operation owns what it needs until it is over: the file and the memory. What is short goes on where it stopped;
//! what a signal interrupts begins again.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, ReadWriteFlags, pread, pwrite, pwritev2};
use smb_proto::Payload;

/// What keeps a descriptor open. The same one, or one of the same file, is lent each time.
pub type File = Arc<dyn AsFd + Send + Sync>;

/// What is called, once, with an operation's outcome, on any thread. It must not wait.
pub type Done<R> = Box<dyn FnOnce(io::Result<R>) + Send>;

/// Reads from a place in a file. The outcome is shorter only where the file ends.
pub struct Read {
    /// The file, open for reading.
    pub file: File,
    /// Where, in bytes.
    pub offset: u64,
    /// How much, in bytes.
    pub length: usize,
}

impl Read {
    /// Reads; waits for the disk.
    ///
    /// # Errors
    /// The system's, whatever was read before.
    pub fn wait(&self) -> io::Result<Payload> {
        Ok(read(self.file.as_fd(), self.offset, self.length)?)
    }
}

/// Writes to a place in a file. The outcome is how much was written, in bytes.
pub struct Write {
    /// The file, open for writing.
    pub file: File,
    /// Where, in bytes; at its end when there is none.
    pub offset: Option<u64>,
    /// What.
    pub bytes: Bytes,
    /// The data is on the disk when the operation is over (`RWF_DSYNC`).
    pub write_through: bool,
}

impl Write {
    /// Writes; may wait for the disk.
    ///
    /// # Errors
    /// The system's if nothing was written, and ENOSPC when there is no room; else what was written counts.
    pub fn wait(&self) -> io::Result<usize> {
        Ok(write(self.file.as_fd(), self.offset, &self.bytes, self.write_through)?)
    }

    /// The flags for the system.
    #[must_use]
    pub fn flags(&self) -> ReadWriteFlags {
        flags(self.offset, self.write_through)
    }
}

fn flags(offset: Option<u64>, write_through: bool) -> ReadWriteFlags {
    let sync = if write_through { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
    let append = if offset.is_none() { ReadWriteFlags::APPEND } else { ReadWriteFlags::empty() };
    sync | append
}

pub(crate) fn read(fd: BorrowedFd<'_>, offset: u64, length: usize) -> Result<Payload, Errno> {
    let mut payload = Payload::with_capacity(length);
    while payload.len() < length {
        let at = offset + payload.len() as u64;
        match pread(fd, spare_capacity(payload.buffer()), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    // The buffer may have had more room than was asked for.
    payload.truncate(length);
    Ok(payload)
}

pub(crate) fn write(
    fd: BorrowedFd<'_>,
    offset: Option<u64>,
    bytes: &[u8],
    write_through: bool,
) -> Result<usize, Errno> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &bytes[done..];
        let written = match offset {
            Some(offset) if !write_through => pwrite(fd, rest, offset + done as u64),
            _ => {
                let at = offset.unwrap_or(0) + done as u64;
                pwritev2(fd, &[IoSlice::new(rest)], at, flags(offset, write_through))
            }
        };
        match written {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            // What went before counts: the client learns of the rest when it writes it.
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}
