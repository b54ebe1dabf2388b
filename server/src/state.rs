//! The state directory: what must outlive a start. Its file `server` holds the server's GUID and the number of the last
//! start, which is the top of every id that the server gives (so none is given twice).

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::failure::{About, Failure, Outcome};
use crate::{random, users};

const HEADER: &str = "leasehold-state 1";

/// What a start of the server is known by.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) server_guid: [u8; 16],
    pub(crate) incarnation: u16,
    /// Where what outlives a start is kept, if it can be.
    pub(crate) directory: Option<PathBuf>,
    /// Held while the server runs: two servers can't share a directory.
    _lock: Option<File>,
}

/// `/var/lib/leasehold` for root, `leasehold` in the user's state directory for others.
pub(crate) fn default_directory() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some("/var/lib/leasehold".into());
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(base.join("leasehold"))
}

/// Closes a directory to others that is there already and open to them, if it is a state directory; another is not ours to change.
fn close_to_others(directory: &Path) -> Outcome<()> {
    let open = std::fs::metadata(directory).about_path(directory)?.permissions().mode() & 0o077 != 0;
    if !open {
        return Ok(());
    }
    let mut entries = std::fs::read_dir(directory).about_path(directory)?;
    if entries.next().is_some() && !directory.join("server").is_file() {
        let path = directory.display();
        return Err(Failure::new(format!("{path}: others can enter the state directory (chmod 700 {path})")));
    }
    std::fs::set_permissions(directory, Permissions::from_mode(0o700)).about_path(directory)
}

/// Makes a directory that only its owner can enter, unless it is there.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Begins a start. A directory that was asked for must work. Without one the default is used if it can be, and
/// otherwise random numbers; then the second value says why.
pub(crate) fn begin(asked: Option<&Path>) -> Outcome<(Start, Option<String>)> {
    if let Some(directory) = asked {
        return Ok((begin_in(directory)?, None));
    }
    let default = default_directory().ok_or(Failure::new("there is no home directory"));
    match default.and_then(|directory| begin_in(&directory)) {
        Ok(start) => Ok((start, None)),
        Err(failure) => {
            let [high, low] = random::bytes()?;
            let start = Start {
                server_guid: new_guid()?,
                incarnation: u16::from_be_bytes([high, low]).max(1),
                directory: None,
                _lock: None,
            };
            Ok((
                start,
                Some(format!("no state is kept, clients will see a new server at each start: {failure}")),
            ))
        }
    }
}

fn begin_in(directory: &Path) -> Outcome<Start> {
    make_directory(directory).about_path(directory)?;
    close_to_others(directory)?;
    let lock_path = directory.join("lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
    let lock = lock.about_path(&lock_path)?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Failure::new(format!("{}: another server uses it", directory.display())),
        TryLockError::Error(error) => Failure::new(format!("{}: {error}", lock_path.display())),
    })?;
    let path = directory.join("server");
    let (server_guid, last) = match std::fs::read_to_string(&path) {
        Ok(text) => {
            parse(&text).ok_or(Failure::new(format!("{}: not a state file of version 1", path.display())))?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (new_guid()?, 0),
        Err(error) => return Err(error).about_path(&path),
    };
    // Starting over is better than not starting: only what outlives a start could mistake an id, and 65 535 starts later.
    let incarnation = last.checked_add(1).unwrap_or(1);
    users::replace(&path, emit(&server_guid, incarnation).as_bytes())?;
    Ok(Start { server_guid, incarnation, directory: Some(directory.into()), _lock: Some(lock) })
}

/// A random GUID (RFC 9562 version 4) in the byte order of the wire.
fn new_guid() -> Outcome<[u8; 16]> {
    let mut guid: [u8; 16] = random::bytes()?;
    guid[7] = guid[7] & 0x0F | 0x40;
    guid[8] = guid[8] & 0x3F | 0x80;
    Ok(guid)
}

fn emit(guid: &[u8; 16], incarnation: u16) -> String {
    let guid: String = guid.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{HEADER}\nguid {guid}\nincarnation {incarnation}\n")
}

fn parse(text: &str) -> Option<([u8; 16], u16)> {
    let mut lines = text.lines();
    if lines.next()? != HEADER {
        return None;
    }
    let digits = lines.next()?.strip_prefix("guid ")?;
    if digits.len() != 32 || !digits.is_ascii() {
        return None;
    }
    let guid = u128::from_str_radix(digits, 16).ok()?.to_be_bytes();
    let incarnation = lines.next()?.strip_prefix("incarnation ")?.parse().ok()?;
    Some((guid, incarnation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_has_a_number_of_its_own_and_the_same_guid() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/state");
        let first = begin_in(&path).unwrap();
        assert!(begin_in(&path).unwrap_err().to_string().contains("another server"));
        let guid = first.server_guid;
        assert_eq!(first.incarnation, 1);
        drop(first);
        for number in 2..5 {
            let next = begin_in(&path).unwrap();
            assert_eq!((next.server_guid, next.incarnation), (guid, number));
        }
        let other = begin_in(&directory.path().join("other")).unwrap();
        assert_ne!(other.server_guid, guid);
    }

    #[test]
    fn a_directory_that_others_can_enter_is_closed_to_them_or_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mode = |mode| std::fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
        let is = || std::fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777;
        for loose in [0o755, 0o770, 0o701] {
            mode(loose);
            drop(begin_in(directory.path()).unwrap());
            assert_eq!(is(), 0o700);
        }
        std::fs::remove_file(directory.path().join("server")).unwrap();
        mode(0o755);
        let failure = begin_in(directory.path()).unwrap_err().to_string();
        assert!(failure.contains("chmod 700"), "{failure}");
        assert_eq!(is(), 0o755, "what is no state directory is left alone");
    }

    #[test]
    fn a_file_that_is_no_state_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server");
        std::fs::write(&path, "something else\n").unwrap();
        assert!(begin(Some(directory.path())).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "something else\n");
    }

    #[test]
    fn the_numbers_start_over_after_the_last() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("server"), emit(&[7; 16], u16::MAX)).unwrap();
        let start = begin_in(directory.path()).unwrap();
        assert_eq!((start.server_guid, start.incarnation), ([7; 16], 1));
    }

    #[test]
    fn a_guid_is_a_random_one() {
        let guid = new_guid().unwrap();
        assert_eq!((guid[7] >> 4, guid[8] >> 6), (4, 2));
        assert_eq!(parse(&emit(&guid, 9)), Some((guid, 9)));
    }
}
