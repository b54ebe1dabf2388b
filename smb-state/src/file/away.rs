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
        // Its shard has answered all that it was told before it asked this, and answers no more.
        (grant.permit, grant.draining) = (Permit::default(), 0);
        Answer::Granted
    }

    pub(super) fn reclaim(&mut self, open: OpenId, session: SessionId) -> Answer {
        let Some(grant) = self.grants.get_mut(&open) else { return Answer::Refused(NtStatus::FILE_CLOSED) };
        match self.caching.reclaim(grant.key, open, session) {
            Some(cached) => {
                grant.session = session;
                Answer::Opened { cached, permit: Permit::default() }
            }
            None => Answer::Refused(NtStatus::OBJECT_NAME_NOT_FOUND),
        }
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
