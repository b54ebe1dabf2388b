//! The File machine (MS-FSA 2.1.1.3): who has a file open, and how. Share modes and pending deletes are decided here.
//!
//! A file has state only while it is open or a delete is under way; it is made by the first ask and forgotten after the
//! last close. Deletes are pending for a link (the name that an open came by), or for a named stream.
//!
//! * [`share_mode`]: who may open beside whom
//! * [`caching`]: oplocks and leases, and what breaks them
//! * [`lock`]: byte-range locks
//! * [`away`]: opens that are kept for a client that is gone
//! * [`following`]: records of persistent opens that follow what others do
//! * [`permit`]: reads and writes that need not ask first
//! * [`ask`], [`judge`]: what a file is asked, who waits, and in which order they are answered

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use smb_proto::access::AccessMask;
use smb_proto::command::create::ShareAccess;
use smb_proto::{Name, NtStatus};

use crate::ids::{FileNumber, OpenId, SessionId};

pub mod ask;
mod away;
pub mod caching;
mod following;
mod judge;
pub mod lock;
pub mod permit;
#[cfg(feature = "seeded-faults")]
mod seeded;
pub mod share_mode;
mod streams;

pub use ask::FileAsk;
use ask::Waiting;
use caching::{CacheKey, Caching};
pub use following::Follow;
use following::Following;
use lock::{Access, Locks};
use permit::Permit;

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
    /// Links being replaced by a rename: whoever opens through them waits for its end.
    replacing: BTreeSet<Link>,
    /// By this open another object takes the place of this one: whoever opens it waits for the end.
    exchanging: Option<OpenId>,
    /// Oplocks and leases.
    caching: Caching,
    /// Byte-range locks.
    locks: Locks,
    /// Asks that wait for a break or for I/O under way, oldest first.
    waiting: VecDeque<Waiting>,
    /// Names that streams are getting, folded: nothing opens a stream of that name meanwhile.
    replacing_streams: BTreeSet<Name>,
    /// Once it has persistent opens.
    following: Option<Box<Following>>,
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
    /// Its session, which is told of breaks.
    pub session: SessionId,
    /// It is kept whatever others do while its client is away (Open.IsPersistent).
    pub persistent: bool,
    /// Its client is away.
    pub away: bool,
    /// The key that its caching rights have, and under which it works.
    pub key: CacheKey,
    /// What it may do without asking.
    pub(crate) permit: Permit,
    /// How often some of its permit was taken back while I/O under it may still be under way.
    pub(crate) draining: u32,
    /// What is under way that the file let through one by one, with how often; locks are in the way of some of it.
    pub(crate) in_flight: BTreeMap<Option<Access>, u32>,
}

impl File {
    fn is_idle(&self) -> bool {
        self.grants.is_empty()
            && self.waiting.is_empty()
            && self.replacing.is_empty()
            && self.replacing_streams.is_empty()
            && self.exchanging.is_none()
            && !self.is_followed()
            && !self
                .deletes
                .values()
                .chain(self.stream_deletes.values())
                .any(|delete| *delete == Delete::Removing)
    }

    fn check_deletes(&self, grant: &Grant) -> Result<(), NtStatus> {
        if self.deletes.contains_key(&grant.link) {
            return Err(NtStatus::DELETE_PENDING);
        }
        if !grant.stream.is_empty() && self.stream_deletes.contains_key(&grant.stream) {
            return Err(NtStatus::DELETE_PENDING);
        }
        if !grant.stream.is_empty() && self.replacing_streams.contains(&grant.stream) {
            return Err(NtStatus::SHARING_VIOLATION);
        }
        Ok(())
    }

    fn check_share_modes(&self, grant: &Grant) -> Result<(), NtStatus> {
        if self.grants.values().all(|other| share_mode::compatible(other, grant)) {
            Ok(())
        } else {
            Err(NtStatus::SHARING_VIOLATION)
        }
    }

    /// Another object is about to take the place of this one: only its opener may have it open, once.
    fn begin_exchange(&mut self, open: OpenId) -> Result<(), NtStatus> {
        if !self.grants.contains_key(&open) {
            return Err(NtStatus::FILE_CLOSED);
        }
        if self.grants.len() > 1 || self.exchanging.is_some() {
            return Err(NtStatus::SHARING_VIOLATION);
        }
        self.exchanging = Some(open);
        Ok(())
    }

    fn close(&mut self, open: OpenId) -> Option<Removal> {
        let grant = self.grants.remove(&open)?;
        self.locks.close(open, &grant.stream);
        if grant.delete_on_close {
            self.dispose_by(open, &grant, true);
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

    /// An open does that: the records of others say it too.
    fn dispose_by(&mut self, open: OpenId, grant: &Grant, delete: bool) {
        let before = self.is_pending(grant);
        self.dispose(grant, delete);
        if self.is_pending(grant) != before {
            let stream = &grant.stream;
            self.fall_behind(open, |other| {
                other.link == grant.link && (stream.is_empty() || other.stream == *stream)
            });
        }
    }

    /// Whether the last close is removing the name: for a client it is gone with the last open (MS-FSA 2.1.5.5).
    fn is_being_removed(&self, grant: &Grant) -> bool {
        self.deletes.get(&grant.link) == Some(&Delete::Removing)
            || self.stream_deletes.get(&grant.stream) == Some(&Delete::Removing)
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
        self.caching.check_invariants();
        self.locks.check_invariants();
        for (open, grant) in &self.grants {
            assert!(
                self.permit_for(*open, grant).covers(grant.permit),
                "{open:?} may do unasked what must be asked for"
            );
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

/// The name that a link has from now on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewName {
    /// The link, folded.
    pub link: Link,
    /// Its path from the share's root, as the client spelled it.
    pub path: Name,
    /// The last component as the volume stores it.
    pub spelled: Name,
}

impl File {
    /// Every open that came by the same name follows it, and is told.
    fn rename(&mut self, open: OpenId, name: &NewName, effects: &mut Vec<ask::Effect>) {
        let link = &name.link;
        let Some(old) = self.grants.get(&open).map(|grant| grant.link.clone()) else { return };
        for (other, grant) in self.grants.iter_mut().filter(|(_, grant)| grant.link == old) {
            grant.link = link.clone();
            if *other != open {
                let session = (!self.caching.is_kept(grant.key, *other)).then_some(grant.session);
                effects.push(ask::Effect::Follow(*other, session, Box::new(name.clone())));
            }
        }
        if let Some(delete) = self.deletes.remove(&old) {
            self.deletes.insert(link.clone(), delete);
        }
        self.fall_behind(open, |other| other.link == *link);
    }
}

#[cfg(test)]
mod tests;
