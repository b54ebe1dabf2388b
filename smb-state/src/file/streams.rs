//! Streams of a file that are renamed (MS-FSA 2.1.5.15.12.1; MS-SMB2 3.3.5.21.1).

use std::collections::BTreeSet;

use smb_proto::{Name, NtStatus};

use super::ask::{Effect, Verdict};
use super::caching::CacheKey;
use super::{Delete, File, Grant, Link, Removal};
use crate::ids::OpenId;
use crate::message::{Answer, Asker};

impl File {
    /// A stream is about to get this name. While it does, nobody opens what had the name before.
    pub(super) fn begin_stream_rename(&mut self, open: OpenId, name: &Name) -> Result<(), NtStatus> {
        let Some(grant) = self.grants.get(&open) else { return Err(NtStatus::FILE_CLOSED) };
        if self.is_pending(grant) {
            return Err(NtStatus::DELETE_PENDING);
        }
        if grant.stream == *name {
            return Ok(());
        }
        // A stream that is open, or going, can't be replaced.
        let taken = self.grants.values().any(|other| other.stream == *name)
            || self.stream_deletes.contains_key(name)
            || !self.replacing_streams.insert(name.clone());
        if taken { Err(NtStatus::INVALID_PARAMETER) } else { Ok(()) }
    }

    /// It has the name, or could not get it. Every open of the stream follows, and what they cache. Returns the keys of those
    /// that followed.
    pub(super) fn end_stream_rename(&mut self, open: OpenId, name: &Name, done: bool) -> BTreeSet<CacheKey> {
        self.replacing_streams.remove(name);
        let mut keys = BTreeSet::new();
        let Some(old) = self.grants.get(&open).map(|grant| grant.stream.clone()) else { return keys };
        if !done || old == *name {
            return keys;
        }
        for grant in self.grants.values_mut().filter(|grant| grant.stream == old) {
            grant.stream = name.clone();
            keys.insert(grant.key);
        }
        self.locks.rename(&old, name);
        self.caching.rename(&old, name);
        if let Some(delete) = self.stream_deletes.remove(&old) {
            self.stream_deletes.insert(name.clone(), delete);
        }
        keys
    }

    /// The clients of leases know a lease's stream by name, and are told. The one that renamed it answers, if it has a lease.
    pub(super) fn tell_renamed(
        &self,
        keys: BTreeSet<CacheKey>,
        open: OpenId,
        asker: Asker,
        effects: &mut Vec<Effect>,
    ) -> Verdict {
        let mut verdict = Verdict::Answer(Answer::Granted);
        let Some(Grant { key: by, stream, .. }) = self.grants.get(&open) else { return verdict };
        for key in keys {
            let CacheKey::Lease(client, lease) = key else { continue };
            let asker = (key == *by).then_some(asker);
            if asker.is_some() {
                verdict = Verdict::Answered;
            }
            effects.push(Effect::Renamed { client, lease, stream: stream.clone(), asker });
        }
        verdict
    }

    /// When a link has no opens left and its delete is pending, it is being removed from now on.
    pub(super) fn begin_link_removal(&mut self, link: &Link) -> Option<Removal> {
        if self.grants.values().any(|other| other.link == *link) {
            return None;
        }
        match self.deletes.get_mut(link) {
            Some(delete @ Delete::Pending) => {
                *delete = Delete::Removing;
                Some(Removal { link: link.clone(), stream: Name::default() })
            }
            Some(Delete::Removing) | None => None,
        }
    }
}
