//! Two clients on one file: what one writes, the other reads; what one locks, the other can't.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result, bail, ensure};

use super::super::tree::{content, first_difference};
use super::{Mounted, Outcome, is_absent, settle};

const ROUNDS: u64 = 12;

pub(super) fn two_clients(mounted: &Mounted<'_>) -> Result<Outcome> {
    let paths = [mounted.first.join("shared"), mounted.second.join("shared")];
    // Each round the other one writes the whole file, and both read it, each having it cached from before.
    for round in 0..ROUNDS {
        let bytes = content(10_000 + round as usize * 7_001, mounted.seed + round);
        fs::write(&paths[(round % 2) as usize], &bytes).context("writing")?;
        for (number, path) in (1..).zip(&paths) {
            let found = fs::read(path).with_context(|| format!("client {number} reading"))?;
            if let Some(difference) = first_difference(&bytes, &found) {
                bail!("round {round}, client {number}: {difference}");
            }
        }
    }
    // Both keep the file open: what one has flushed, the other sees.
    let open = |path| OpenOptions::new().read(true).write(true).open(path);
    let mut files = [open(&paths[0])?, open(&paths[1])?];
    for round in 0..ROUNDS {
        let bytes = content(20_000, mounted.seed + 100 + round);
        let (writer, reader) = ((round % 2) as usize, (1 - round % 2) as usize);
        files[writer].seek(SeekFrom::Start(0))?;
        files[writer].write_all(&bytes)?;
        files[writer].sync_all()?;
        let mut found = vec![0; bytes.len()];
        files[reader].seek(SeekFrom::Start(0))?;
        files[reader].read_exact(&mut found)?;
        if let Some(difference) = first_difference(&bytes, &found) {
            bail!("both open, round {round}, client {}: {difference}", reader + 1);
        }
    }
    drop(files);
    fs::remove_file(&paths[0])?;
    settle()?;
    ensure!(!paths[1].try_exists()?, "the second client still sees the removed file");
    Ok(Outcome::Done(format!("{ROUNDS} rounds closed, {ROUNDS} open")))
}

pub(super) fn locks(mounted: &Mounted<'_>) -> Result<Outcome> {
    let (path, other) = (mounted.first.join("locked"), mounted.second.join("locked"));
    fs::write(&path, b"x")?;
    let open = |path| -> Result<File> { Ok(OpenOptions::new().read(true).write(true).open(path)?) };
    let (first, second) = (open(&path)?, open(&other)?);
    match first.try_lock() {
        Err(TryLockError::Error(error)) if is_absent(&error) => {
            drop((first, second));
            fs::remove_file(&path)?;
            return Ok(Outcome::Absent(format!("locking: {error}")));
        }
        result => result.context("locking")?,
    }
    ensure!(is_refused(second.try_lock())?, "both have an exclusive lock");
    ensure!(is_refused(second.try_lock_shared())?, "a shared lock beside an exclusive one");
    first.unlock().context("unlocking")?;
    second.try_lock_shared().context("a shared lock")?;
    first.try_lock_shared().context("a shared lock beside a shared one")?;
    second.unlock()?;
    ensure!(is_refused(second.try_lock())?, "an exclusive lock beside a shared one");
    // Closing unlocks.
    drop(first);
    let mut attempts = 0;
    while is_refused(second.try_lock())? {
        attempts += 1;
        ensure!(attempts < 50, "closing the file hasn't unlocked it");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    drop(second);
    fs::remove_file(&path)?;
    Ok(Outcome::Done(String::new()))
}

fn is_refused(result: Result<(), TryLockError>) -> Result<bool> {
    match result {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(true),
        Err(TryLockError::Error(error)) => Err(error).context("trying to lock"),
    }
}
