//! Streams of a file that are renamed (MS-FSA 2.1.5.15.12.1).

use smb_proto::{Name, NtStatus};

use super::{Delete, File, Link, Removal};
use crate::ids::OpenId;

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

    /// It has the name, or could not get it. Every open of the stream follows.
    pub(super) fn end_stream_rename(&mut self, open: OpenId, name: &Name, done: bool) {
        self.replacing_streams.remove(name);
        let Some(old) = self.grants.get(&open).map(|grant| grant.stream.clone()) else { return };
        if !done || old == *name {
            return;
        }
        for grant in self.grants.values_mut().filter(|grant| grant.stream == old) {
            grant.stream = name.clone();
        }
        self.locks.rename(&old, name);
        if let Some(delete) = self.stream_deletes.remove(&old) {
            self.stream_deletes.insert(name.clone(), delete);
        }
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
