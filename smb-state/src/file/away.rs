//! Opens that are kept while their client is away (MS-SMB2 3.3.7.1). Such an open keeps its share mode, its locks and what it
//! caches (S45); nothing of it is under way, and it does nothing until its client is back.
//!
//! It is kept for what it caches: when that is to be broken, nobody can be asked, and the open goes (S46). Whoever broke it waits
//! for its close, as for an acknowledgment.

use smb_proto::NtStatus;

use super::File;
use super::permit::Permit;
use crate::ids::{OpenId, SessionId};
use crate::message::Answer;

impl File {
    pub(super) fn preserve(&mut self, open: OpenId) -> Answer {
        let Some(grant) = self.grants.get_mut(&open) else { return Answer::Refused(NtStatus::FILE_CLOSED) };
        if !self.caching.preserve(grant.key, open) {
            return Answer::Refused(NtStatus::OBJECT_NAME_NOT_FOUND);
        }
        debug_assert!(grant.in_flight.is_empty(), "something of a preserved open is under way");
        // What its shard was told before it hears of this it answers still, so `draining` goes on counting.
        grant.permit = Permit::default();
        Answer::Granted
    }

    pub(super) fn reclaim(&mut self, open: OpenId, session: SessionId) -> Answer {
        let Some(grant) = self.grants.get_mut(&open) else { return Answer::Refused(NtStatus::FILE_CLOSED) };
        if !self.caching.reclaim(grant.key, open, session) {
            return Answer::Refused(NtStatus::OBJECT_NAME_NOT_FOUND);
        }
        grant.session = session;
        Answer::Granted
    }

    pub(super) fn cached(&self, open: OpenId) -> Answer {
        match self.grants.get(&open) {
            Some(grant) => {
                Answer::Opened { cached: self.caching.cached(grant.key, open), permit: grant.permit }
            }
            None => Answer::Refused(NtStatus::FILE_CLOSED),
        }
    }
}
