//! The File machine (MS-FSA 2.1.1.3): who has a file open, and how. Share modes and pending deletes are decided here.
//!
//! A file has state only while it is open or a delete is under way; it is made by the first ask and forgotten after the
//! last close. Deletes are pending for a link (the name that an open came by), or for a named stream.
//!
//! Rooms for what comes: leases and oplocks, byte-range locks, watchers.

use std::collections::{BTreeMap, BTreeSet};

use smb_proto::access::AccessMask;
use smb_proto::command::create::ShareAccess;
use smb_proto::{Name, NtStatus};

use crate::ids::{FileKey, FileNumber, OpenId};
use crate::message::{Answer, Asker};
use crate::shard::{Shard, Turn};

pub mod share_mode;
mod streams;

/// A name of a file: directory and folded last component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// The directory.
    pub parent: FileNumber,
    /// The name there, folded.
    pub name: Name,
}

/// A file with state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct File {
    /// Opens.
    pub(crate) grants: BTreeMap<OpenId, Grant>,
    /// Links whose delete is pending, and those being removed.
    deletes: BTreeMap<Link, Delete>,
    /// Named streams whose delete is pending, folded.
    stream_deletes: BTreeMap<Name, Delete>,
    /// Links being replaced by a rename: nothing opens through them meanwhile.
    replacing: BTreeSet<Link>,
    /// Names that streams are getting, folded: nothing opens a stream of that name meanwhile.
    replacing_streams: BTreeSet<Name>,
}

/// What a last close has to remove, by the names that the file knows it by: they may have changed since the open was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Removal {
    /// The link.
    pub link: Link,
    /// The named stream; empty when the link itself goes, and with the last one the file.
    pub stream: Name,
}

/// How far a delete is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Delete {
    /// It happens at the last close.
    Pending,
    /// The last close is removing the name.
    Removing,
}

/// An open's hold on a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The stream, folded; empty for the unnamed one.
    pub stream: Name,
    /// What it may do.
    pub access: AccessMask,
    /// What others may do meanwhile.
    pub share: ShareAccess,
    /// The name it came by.
    pub link: Link,
    /// FILE_DELETE_ON_CLOSE: the delete becomes pending when this open closes.
    pub delete_on_close: bool,
}

/// What a file is asked. Each is answered at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FileAsk {
    /// Open it. Granted, or refused with SHARING_VIOLATION or DELETE_PENDING.
    Open {
        /// The open.
        open: OpenId,
        /// What it wants.
        grant: Grant,
    },
    /// Close an open. [`Answer::Closed`]; when it says to remove, tell the file [`FileAsk::Removed`] afterwards.
    Close {
        /// The open.
        open: OpenId,
    },
    /// An open that deletes on close does not, after all: the directory has entries. Granted.
    KeepOnClose {
        /// The open.
        open: OpenId,
    },
    /// An open that was granted is not made after all: forgotten, without what a close would lead to.
    Abandon {
        /// The open.
        open: OpenId,
    },
    /// What the last close had to remove is removed, or could not be. [`Answer::Closed`]: with a stream gone, it may be the
    /// link's turn.
    Removed(Removal),
    /// Set or clear the delete disposition of an open's link or stream. Granted.
    Dispose {
        /// The open.
        open: OpenId,
        /// Whether to delete.
        delete: bool,
    },
    /// Whether the delete of an open's link or stream is pending. [`Answer::Pending`].
    IsPending {
        /// The open.
        open: OpenId,
    },
    /// The link of an open is about to get another name. Granted, or refused while its delete is pending.
    CheckRename {
        /// The open.
        open: OpenId,
    },
    /// The link of an open has another name now. Granted.
    Renamed {
        /// The open.
        open: OpenId,
        /// The name.
        link: Link,
    },
    /// The stream of an open is about to get another name, folded. Granted, or refused; when granted, the end is told.
    BeginStreamRename {
        /// The open.
        open: OpenId,
        /// The name.
        stream: Name,
    },
    /// The stream of an open has another name now, or could not get it. Granted.
    EndStreamRename {
        /// The open.
        open: OpenId,
        /// The name.
        stream: Name,
        /// It has it.
        done: bool,
    },
    /// A name is about to come into this directory by a rename, which uses it as an open of it would. Granted, or refused
    /// with SHARING_VIOLATION.
    CheckEntry,
    /// A link is to be replaced by another file. Granted when nobody has it open; undone by [`FileAsk::Replaced`].
    Replace {
        /// The link.
        link: Link,
    },
    /// The replacement is done or was given up.
    Replaced {
        /// The link.
        link: Link,
    },
}

impl File {
    fn is_idle(&self) -> bool {
        self.grants.is_empty()
            && self.replacing.is_empty()
            && self.replacing_streams.is_empty()
            && !self
                .deletes
                .values()
                .chain(self.stream_deletes.values())
                .any(|delete| *delete == Delete::Removing)
    }

    fn check_open(&self, grant: &Grant) -> Result<(), NtStatus> {
        if self.deletes.contains_key(&grant.link) || self.replacing.contains(&grant.link) {
            return Err(NtStatus::DELETE_PENDING);
        }
        if !grant.stream.is_empty() && self.stream_deletes.contains_key(&grant.stream) {
            return Err(NtStatus::DELETE_PENDING);
        }
        if !grant.stream.is_empty() && self.replacing_streams.contains(&grant.stream) {
            return Err(NtStatus::SHARING_VIOLATION);
        }
        if self.grants.values().all(|other| share_mode::compatible(other, grant)) {
            Ok(())
        } else {
            Err(NtStatus::SHARING_VIOLATION)
        }
    }

    fn close(&mut self, open: OpenId) -> Option<Removal> {
        let grant = self.grants.remove(&open)?;
        if grant.delete_on_close {
            self.dispose(&grant, true);
        }
        let stream_is_last = !self.grants.values().any(|other| other.stream == grant.stream);
        if !grant.stream.is_empty()
            && stream_is_last
            && let Some(delete @ Delete::Pending) = self.stream_deletes.get_mut(&grant.stream)
        {
            *delete = Delete::Removing;
            return Some(Removal { link: grant.link, stream: grant.stream });
        }
        self.begin_link_removal(&grant.link)
    }

    fn dispose(&mut self, grant: &Grant, delete: bool) {
        if grant.stream.is_empty() {
            set(&mut self.deletes, grant.link.clone(), delete);
        } else {
            set(&mut self.stream_deletes, grant.stream.clone(), delete);
        }
    }

    fn is_pending(&self, grant: &Grant) -> bool {
        self.deletes.contains_key(&grant.link)
            || (!grant.stream.is_empty() && self.stream_deletes.contains_key(&grant.stream))
    }

    /// No two opens of one stream contradict each other (S36).
    pub(crate) fn check_invariants(&self) {
        let grants: Vec<&Grant> = self.grants.values().collect();
        for (index, one) in grants.iter().enumerate() {
            for other in grants.iter().skip(index + 1) {
                assert!(
                    share_mode::compatible(one, other),
                    "share modes are violated: {one:?} and {other:?}"
                );
            }
        }
    }
}

fn set<K: Ord>(deletes: &mut BTreeMap<K, Delete>, key: K, delete: bool) {
    if delete {
        deletes.entry(key).or_insert(Delete::Pending);
    } else if deletes.get(&key) == Some(&Delete::Pending) {
        deletes.remove(&key);
    }
}

impl Shard {
    /// A file is asked.
    pub(crate) fn on_ask_file(&mut self, key: FileKey, ask: FileAsk, asker: Asker, turn: &mut Turn<'_>) {
        let file = self.files.entry(key).or_default();
        let answer = match ask {
            FileAsk::Open { open, grant } => match file.check_open(&grant) {
                Ok(()) => {
                    file.grants.insert(open, grant);
                    Answer::Granted
                }
                Err(status) => Answer::Refused(status),
            },
            FileAsk::Close { open } => Answer::Closed { remove: file.close(open) },
            FileAsk::KeepOnClose { open } => {
                if let Some(grant) = file.grants.get_mut(&open) {
                    grant.delete_on_close = false;
                }
                Answer::Granted
            }
            FileAsk::Abandon { open } => {
                file.grants.remove(&open);
                Answer::Granted
            }
            FileAsk::Removed(Removal { link, stream }) => {
                if stream.is_empty() {
                    file.deletes.remove(&link);
                    Answer::Closed { remove: None }
                } else {
                    file.stream_deletes.remove(&stream);
                    Answer::Closed { remove: file.begin_link_removal(&link) }
                }
            }
            FileAsk::Dispose { open, delete } => {
                if let Some(grant) = file.grants.get(&open).cloned() {
                    file.dispose(&grant, delete);
                }
                Answer::Granted
            }
            FileAsk::IsPending { open } => {
                Answer::Pending(file.grants.get(&open).is_some_and(|grant| file.is_pending(grant)))
            }
            FileAsk::CheckRename { open } => match file.grants.get(&open) {
                Some(grant) if file.is_pending(grant) => Answer::Refused(NtStatus::DELETE_PENDING),
                Some(_) | None => Answer::Granted,
            },
            FileAsk::CheckEntry => {
                if file.grants.values().all(share_mode::lets_names_in) {
                    Answer::Granted
                } else {
                    Answer::Refused(NtStatus::SHARING_VIOLATION)
                }
            }
            FileAsk::Renamed { open, link } => {
                file.rename(open, &link);
                Answer::Granted
            }
            FileAsk::BeginStreamRename { open, stream } => match file.begin_stream_rename(open, &stream) {
                Ok(()) => Answer::Granted,
                Err(status) => Answer::Refused(status),
            },
            FileAsk::EndStreamRename { open, stream, done } => {
                file.end_stream_rename(open, &stream, done);
                Answer::Granted
            }
            FileAsk::Replace { link } => {
                let open = file.grants.values().any(|grant| grant.link == link);
                if open || file.deletes.contains_key(&link) {
                    Answer::Refused(NtStatus::ACCESS_DENIED)
                } else if file.replacing.insert(link) {
                    Answer::Granted
                } else {
                    Answer::Again
                }
            }
            FileAsk::Replaced { link } => {
                file.replacing.remove(&link);
                Answer::Granted
            }
        };
        if file.is_idle() {
            self.files.remove(&key);
        }
        turn.answer(asker, answer);
    }
}

impl File {
    /// Every open that came by the same name follows it.
    fn rename(&mut self, open: OpenId, link: &Link) {
        let Some(old) = self.grants.get(&open).map(|grant| grant.link.clone()) else { return };
        for grant in self.grants.values_mut().filter(|grant| grant.link == old) {
            grant.link = link.clone();
        }
        if let Some(delete) = self.deletes.remove(&old) {
            self.deletes.insert(link.clone(), delete);
        }
    }
}

#[cfg(test)]
mod tests;
