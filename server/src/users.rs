//! The users file: a line `leasehold-users 1 NEXT` and then one line `name:number:nt-hash` for each user.
//!
//! The NT hash (MD4 of the password, MS-NLMP 3.3.2) is all that is needed to log on as the user, so a file that others
//! can read is refused. A number is part of its user's SID; `NEXT` is the number of the next user, so that a removed
//! user's is not given again.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use smb_proto::auth::ntlm::compute::nt_hash;
use smb_proto::crypto::secret::Secret;
use zeroize::Zeroizing;

use crate::failure::{About, Failure, Outcome};

const HEADER: &str = "leasehold-users 1";
/// Numbers below belong to well-known accounts (MS-DTYP 2.4.2.4).
const FIRST_NUMBER: u32 = 1000;
const NAME_MAX: usize = 64;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: Box<str>,
    pub(crate) number: u32,
    pub(crate) nt_hash: Secret<16>,
}

/// Users by folded name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserTable {
    users: BTreeMap<String, User>,
    next: u32,
}

impl Default for UserTable {
    fn default() -> Self {
        Self { users: BTreeMap::new(), next: FIRST_NUMBER }
    }
}

/// Names are the same whatever their case.
pub(crate) fn fold(name: &str) -> String {
    name.to_uppercase()
}

/// Whether a name can be a user's.
pub(crate) fn check_name(name: &str) -> Outcome<()> {
    let bad = |character: char| character.is_control() || ":\\/@\"[];|=,+*?<>%".contains(character);
    if name.is_empty() || name.len() > NAME_MAX || name.trim() != name || name.contains(bad) {
        return Err(Failure::new(format!(
            "{name:?} can't be a user's name: it needs 1 to {NAME_MAX} bytes without any of :\\/@\"[];|=,+*?<>%"
        )));
    }
    Ok(())
}

impl UserTable {
    pub(crate) fn get(&self, name: &str) -> Option<&User> {
        self.users.get(&fold(name))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }

    /// Adds a user or changes a user's password. True for a new user.
    pub(crate) fn set(&mut self, name: &str, password: &str) -> Outcome<bool> {
        check_name(name)?;
        let nt_hash = nt_hash(password);
        if let Some(user) = self.users.get_mut(&fold(name)) {
            user.nt_hash = nt_hash;
            return Ok(false);
        }
        let number = self.next;
        self.next = number.checked_add(1).ok_or(Failure::new("the numbers of users are used up"))?;
        self.users.insert(fold(name), User { name: name.into(), number, nt_hash });
        Ok(true)
    }

    /// Removes a user. False if there is none.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        self.users.remove(&fold(name)).is_some()
    }

    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut lines = text.lines().zip(1..);
        let header = lines
            .next()
            .and_then(|(line, _)| line.strip_prefix(HEADER))
            .ok_or((1, "no users file of version 1"))?;
        let next = header.trim().parse().map_err(|_| (1, "the next number is not a number"))?;
        let mut table = Self { users: BTreeMap::new(), next };
        for (line, at) in lines {
            if line.trim().is_empty() {
                continue;
            }
            let user = parse_user(line).map_err(|cause| (at, cause))?;
            if user.number >= next {
                return Err((at, "the user's number is not below the next one in the first line"));
            }
            if table.iter().any(|other| other.number == user.number) {
                return Err((at, "another user has this number"));
            }
            if table.users.insert(fold(&user.name), user).is_some() {
                return Err((at, "another user has this name"));
            }
        }
        Ok(table)
    }

    fn emit(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(format!("{HEADER} {}\n", self.next));
        for user in self.iter() {
            text.push_str(&format!("{}:{}:", user.name, user.number));
            for byte in user.nt_hash.expose() {
                text.push_str(&format!("{byte:02x}"));
            }
            text.push('\n');
        }
        text
    }
}

fn parse_user(line: &str) -> Result<User, &'static str> {
    let mut parts = line.split(':');
    let (Some(name), Some(number), Some(hash), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("not name:number:hash");
    };
    check_name(name).map_err(|_| "this can't be a user's name")?;
    let number = number.parse().map_err(|_| "the user's number is not a number")?;
    let nt_hash = parse_hash(hash).ok_or("the hash does not have 32 hexadecimal digits")?;
    Ok(User { name: name.into(), number, nt_hash })
}

fn parse_hash(text: &str) -> Option<Secret<16>> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = Secret::new([0; 16]);
    for (byte, digits) in hash.expose_mut().iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// Why a users file can't be used.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// There is none.
    Missing(PathBuf),
    /// Anything else.
    Bad(Failure),
}

impl Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "{}: there is no such users file", path.display()),
            Self::Bad(failure) => failure.fmt(f),
        }
    }
}

impl From<Failure> for LoadError {
    fn from(failure: Failure) -> Self {
        Self::Bad(failure)
    }
}

/// Reads a users file.
pub(crate) fn load(path: &Path) -> Result<UserTable, LoadError> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(LoadError::Missing(path.into())),
        other => other.about_path(path)?,
    };
    // Of the open file, not of the path: it can't be exchanged in between.
    let metadata = file.metadata().about_path(path)?;
    if metadata.mode() & 0o077 != 0 {
        let what = format!("{}: others than its owner have rights to it; chmod 600 it", path.display());
        return Err(Failure::new(what).into());
    }
    if ![0, rustix::process::geteuid().as_raw()].contains(&metadata.uid()) {
        return Err(Failure::new(format!("{}: it belongs to another user", path.display())).into());
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).about_path(path)?;
    UserTable::parse(&text)
        .map_err(|(line, cause)| Failure::new(format!("{}:{line}: {cause}", path.display())).into())
}

/// Changes a users file, or makes one. Whoever reads it sees it before or after the change, also after a power cut.
pub(crate) fn change<T>(path: &Path, change: impl FnOnce(&mut UserTable) -> Outcome<T>) -> Outcome<T> {
    // A lock file, because the users file itself is replaced.
    let lock_path = beside(path, "lock");
    let lock = private().create(true).truncate(false).write(true).open(&lock_path).about_path(&lock_path)?;
    lock.lock().about_path(&lock_path)?;
    let mut table = match load(path) {
        Ok(table) => table,
        Err(LoadError::Missing(_)) => UserTable::default(),
        Err(LoadError::Bad(failure)) => return Err(failure),
    };
    let result = change(&mut table)?;
    replace(path, table.emit().as_bytes())?;
    Ok(result)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// The path of a file that belongs to `path`: its name with one more ending.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Replaces a file by one that only its owner can read, as a whole or not at all.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Outcome<()> {
    let new = beside(path, "new");
    // What a killed process left may have any mode.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).about_path(&new),
        _ => {}
    }
    let mut file = private().create_new(true).write(true).open(&new).about_path(&new)?;
    file.write_all(content).and_then(|()| file.sync_all()).about_path(&new)?;
    std::fs::rename(&new, path).about_path(path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).about_path(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_users_file_survives_the_round_trip() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        assert!(matches!(load(&path), Err(LoadError::Missing(_))));
        assert!(change(&path, |table| table.set("Ann", "Password")).unwrap());
        assert!(change(&path, |table| table.set("bob", "secret")).unwrap());
        let table = load(&path).unwrap();
        let ann = table.get("aNN").unwrap();
        assert_eq!((&*ann.name, ann.number), ("Ann", 1000));
        // The example of MS-NLMP 4.2.2.1.2.
        assert_eq!(ann.nt_hash.expose()[..4], [0xa4, 0xf4, 0x9c, 0x40]);
        assert_eq!(table.iter().map(|user| &*user.name).collect::<Vec<_>>(), ["Ann", "bob"]);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(UserTable::parse(&table.emit()), Ok(table));
    }

    #[test]
    fn a_new_password_keeps_the_number_and_a_removed_number_stays_unused() {
        let mut table = UserTable::default();
        assert_eq!(table.set("ann", "one"), Ok(true));
        let old = table.get("ann").unwrap().clone();
        assert_eq!(table.set("ANN", "two"), Ok(false));
        let new = table.get("ann").unwrap().clone();
        assert_eq!((&new.name, new.number), (&old.name, old.number));
        assert_ne!(new.nt_hash.expose(), old.nt_hash.expose());
        assert!(table.remove("Ann") && !table.remove("ann"));
        let mut table = UserTable::parse(&table.emit()).unwrap();
        table.set("ann", "three").unwrap();
        assert_eq!(table.get("ann").unwrap().number, 1001);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        change(&path, |table| table.set("ann", "one")).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert!(load(&path).unwrap_err().to_string().contains("chmod 600"), "{mode:o}");
            assert!(change(&path, |table| table.set("bob", "two")).is_err(), "{mode:o}");
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(load(&path).unwrap().get("bob").is_none());
    }

    #[test]
    fn a_failed_change_leaves_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        change(&path, |table| table.set("ann", "one")).unwrap();
        let before = std::fs::read(&path).unwrap();
        assert!(change(&path, |table| table.set("b:b", "two")).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named_with_its_line() {
        let hash = "0123456789abcdef0123456789ABCDEF";
        let line = |text: &str| UserTable::parse(text).unwrap_err();
        assert_eq!(line("").0, 1);
        assert_eq!(line("leasehold-users 2 1000\n").0, 1);
        assert_eq!(line("leasehold-users 1 x\n").0, 1);
        let header = "leasehold-users 1 1002";
        for wrong in [
            "ann",
            "ann:1000",
            "ann:x:0123456789abcdef0123456789abcdef",
            "ann:1000:0123",
            "ann:1000:0123456789abcdef0123456789abcdeg",
            "ann:1000:0123456789abcdef0123456789abcdef:",
            "ann:1002:0123456789abcdef0123456789abcdef",
            ":1000:0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(line(&format!("{header}\n\n{wrong}\n")).0, 3, "{wrong}");
        }
        assert_eq!(
            line(&format!("{header}\nann:1000:{hash}\nANN:1001:{hash}\n")),
            (3, "another user has this name")
        );
        assert_eq!(
            line(&format!("{header}\nann:1000:{hash}\nbob:1000:{hash}\n")),
            (3, "another user has this number")
        );
    }

    #[test]
    fn names_that_would_be_mistaken_are_refused() {
        for bad in ["", " ann", "ann ", "a:b", "a\\b", "a\nb", "dom/ann", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        for good in ["ann", "Ann Smith", "jörg", "a.b-c_d", "svc$"] {
            assert!(check_name(good).is_ok(), "{good:?}");
        }
    }
}
