//! The directory of a log: its lock and its segments' files.
//!
//! A segment has its full size before it has its name, so that none is ever there in part. One more than there are lies ready
//! (`spare`): a disk that is full then still takes the checkpoint that makes room.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::segment::Name;

/// The directory, held by one process.
pub(super) struct Directory {
    path: PathBuf,
    handle: File,
    _lock: File,
    #[cfg(test)]
    pub(super) fault: Option<Fault>,
}

/// What is asked of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To give a new segment its size.
    Fill,
    /// To write frames.
    Write,
    /// To flush them.
    Sync,
}

/// How many bytes of so many a step takes, or why none.
#[cfg(test)]
pub(super) type Fault = Box<dyn FnMut(Step, usize) -> io::Result<usize> + Send>;

/// A write that failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// Why.
    pub(super) error: io::Error,
    /// Nothing of it is in the log, which is as it was: the next one may succeed.
    pub(super) untouched: bool,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { error, untouched: false }
    }
}

impl Directory {
    /// Makes it, unless it is there, and locks it. Nobody but its owner gets at what is in it.
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
        let handle = File::open(path)?;
        if handle.metadata()?.permissions().mode() & 0o077 != 0 {
            handle.set_permissions(Permissions::from_mode(0o700))?;
        }
        Ok(Self {
            path: path.into(),
            handle,
            _lock: lock,
            #[cfg(test)]
            fault: None,
        })
    }

    /// The segments, ascending.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] when a version that names them in another way has been here.
    pub(super) fn segments(&self) -> io::Result<Vec<Name>> {
        let mut segments = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let file = entry?.file_name();
            let Some(name) = file.to_str().filter(|name| name.starts_with("segment-")) else { continue };
            segments.push(parse(name).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!("{name} is of a version that is not known"),
                )
            })?);
        }
        segments.sort_unstable();
        Ok(segments)
    }

    fn segment(&self, name: Name) -> PathBuf {
        self.path.join(format!("segment-{:016x}-{:016x}.log", name.number, name.marker))
    }

    /// A segment's bytes.
    pub(super) fn read(&self, name: Name) -> io::Result<Vec<u8>> {
        std::fs::read(self.segment(name))
    }

    /// Makes a segment of zeros, so that a later flush has no metadata to write; it is there after a crash. Returns its size too.
    pub(super) fn create(&mut self, name: Name, size: usize) -> Result<(File, usize), Failure> {
        let spare = self.path.join("spare");
        let made = self.lay_ready(size).and_then(|size| {
            let file = OpenOptions::new().write(true).open(&spare)?;
            std::fs::rename(&spare, self.segment(name))?;
            Ok((file, size))
        });
        let made = made.map_err(|error| Failure { error, untouched: true })?;
        self.handle.sync_all()?;
        Ok(made)
    }

    /// Sees to it that a segment of at least this size lies ready. Returns its size.
    pub(super) fn lay_ready(&mut self, size: usize) -> io::Result<usize> {
        let (spare, part) = (self.path.join("spare"), self.path.join("spare.part"));
        let there = std::fs::metadata(&spare).map_or(0, |spare| usize::try_from(spare.len()).unwrap_or(0));
        if there >= size {
            return Ok(there);
        }
        if there > 0 {
            std::fs::rename(&spare, &part)?;
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&part)?;
        file.set_len(there as u64)?;
        if let Err(error) = self.fill(&file, there, size) {
            // A smaller one that was ready stays so.
            if there == 0 || file.set_len(there as u64).and_then(|()| std::fs::rename(&part, &spare)).is_err()
            {
                let _ = std::fs::remove_file(&part);
            }
            return Err(error);
        }
        std::fs::rename(&part, &spare)?;
        Ok(size)
    }

    fn fill(&mut self, file: &File, mut at: usize, size: usize) -> io::Result<()> {
        let zeros = vec![0; size.min(1 << 20)];
        while at < size {
            let most = self.allowed(Step::Fill, zeros.len().min(size - at))?;
            at += file.write_at(&zeros[..most], at as u64)?;
        }
        file.sync_all()
    }

    /// Writes frames and flushes them.
    pub(super) fn write(&mut self, file: &File, bytes: &[u8], at: usize) -> Result<(), Failure> {
        let mut done = 0;
        while done < bytes.len() {
            let allowed = self.allowed(Step::Write, bytes.len() - done);
            let place = (at + done) as u64;
            match allowed.and_then(|most| file.write_at(&bytes[done..done + most], place)) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
                    let untouched = done == 0 && full.contains(&error.kind());
                    return Err(Failure { error, untouched });
                }
            }
        }
        self.allowed(Step::Sync, 0)?;
        Ok(file.sync_data()?)
    }

    /// Removes a segment. That it is gone need not survive a crash: a checkpoint in a later one makes it void.
    pub(super) fn remove(&self, name: Name) -> io::Result<()> {
        match std::fs::remove_file(self.segment(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    #[cfg(test)]
    fn allowed(&mut self, step: Step, bytes: usize) -> io::Result<usize> {
        self.fault.as_mut().map_or(Ok(bytes), |fault| fault(step, bytes))
    }

    #[cfg(not(test))]
    fn allowed(&mut self, _: Step, bytes: usize) -> io::Result<usize> {
        Ok(bytes)
    }
}

/// The segment that a file is, by its name.
pub(super) fn parse(file_name: &str) -> Option<Name> {
    let (number, marker) = file_name.strip_prefix("segment-")?.strip_suffix(".log")?.split_once('-')?;
    let digits = |digits: &str| u64::from_str_radix(digits, 16).ok();
    Some(Name { number: digits(number)?, marker: digits(marker)? })
}
