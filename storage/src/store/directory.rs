//! The directory of a log: its lock and its segments' files.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The directory, held by one process.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    handle: File,
    _lock: File,
}

impl Directory {
    /// Makes it, unless it is there, and locks it.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process has it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::WouldBlock, "another server uses this store")
            }
            TryLockError::Error(error) => error,
        })?;
        Ok(Self { path: path.into(), handle: File::open(path)?, _lock: lock })
    }

    /// Numbers of the segments, ascending.
    pub(super) fn segments(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix("segment-")?.strip_suffix(".log"))
                .and_then(|digits| u64::from_str_radix(digits, 16).ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.path.join(format!("segment-{number:016x}.log"))
    }

    /// A segment's bytes.
    pub(super) fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        std::fs::read(self.segment(number))
    }

    /// Makes a segment of zeros, so that a later flush has no metadata to write; it is there after a crash.
    pub(super) fn create(&self, number: u64, size: usize) -> io::Result<File> {
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(self.segment(number))?;
        let zeros = vec![0; size.min(1 << 20)];
        let mut at = 0;
        while at < size {
            let part = zeros.len().min(size - at);
            file.write_all_at(&zeros[..part], at as u64)?;
            at += part;
        }
        file.sync_all()?;
        self.handle.sync_all()?;
        Ok(file)
    }

    /// Removes a segment. That it is gone need not survive a crash: a checkpoint in a later one makes it void.
    pub(super) fn remove(&self, number: u64) -> io::Result<()> {
        std::fs::remove_file(self.segment(number))
    }
}
