//! Opens that are kept while their client is away (MS-SMB2 3.3.7.1). Such an open keeps its share mode, its locks and what it
//! caches (S45); nothing of it is under way, and it does nothing until its client is back.
//!
//! It is kept for what it caches: when that is to be broken, nobody can be asked, and the open goes (S46). Whoever broke it waits
//! for its close, as for an acknowledgment.
//!
//! Not so a persistent open: nobody else opens the stream while its client is away (3.3.5.9), and what others break that had the
//! stream open before, the client is told when it is back. Such an open also comes back after a start of the server, from its
//! record.

use smb_proto::NtStatus;

use super::permit::Permit;
use super::{File, Grant};
use crate::ids::{OpenId, SessionId};
use crate::message::Answer;
use crate::record::Held;

impl File {
    pub(super) fn preserve(&mut self, open: OpenId) -> Answer {
        let Some(grant) = self.grants.get_mut(&open) else { return Answer::Refused(NtStatus::FILE_CLOSED) };
        if grant.persistent {
            self.caching.keep(grant.key, open);
            grant.away = true;
        } else if !self.caching.preserve(grant.key, open) {
            return Answer::Refused(NtStatus::OBJECT_NAME_NOT_FOUND);
        }
        debug_assert!(grant.in_flight.is_empty(), "something of a preserved open is under way");
        // What its shard was told before it hears of this it answers still, so `draining` goes on counting.
        grant.permit = Permit::default();
        Answer::Granted
    }

    pub(super) fn reclaim(&mut self, open: OpenId, session: SessionId) -> Answer {
        let Some(grant) = self.grants.get_mut(&open) else { return Answer::Refused(NtStatus::FILE_CLOSED) };
        if !self.caching.reclaim(grant.key, open, session) && !grant.persistent {
            return Answer::Refused(NtStatus::OBJECT_NAME_NOT_FOUND);
        }
        (grant.session, grant.away) = (session, false);
        Answer::Granted
    }

    /// Whether somebody has this stream open whose client is away, and nobody else may open it.
    pub(super) fn is_kept_from(&self, grant: &Grant) -> bool {
        self.grants.values().any(|other| other.away && other.persistent && other.stream == grant.stream)
    }

    /// What is recorded of an open that is kept; from now on its client relies on it.
    pub(super) fn hold(&mut self, open: OpenId) -> Answer {
        let Some(grant) = self.grants.get_mut(&open) else { return Answer::Refused(NtStatus::FILE_CLOSED) };
        grant.persistent = true;
        self.caching.is_recorded(grant.key);
        self.catch_up(open);
        let Some(grant) = self.grants.get(&open) else { return Answer::Refused(NtStatus::FILE_CLOSED) };
        Answer::Held(Box::new(self.held(open, grant)))
    }

    pub(super) fn held(&self, open: OpenId, grant: &Grant) -> Held {
        Held {
            cached: self.caching.held(grant.key, open),
            locks: self.locks.held(open, &grant.stream),
            delete_on_close: grant.delete_on_close,
            delete_pending: self.is_pending(grant),
        }
    }

    /// An open is there again as its record says, its client away.
    pub(super) fn restore(&mut self, open: OpenId, grant: &Grant, held: &Held) -> Answer {
        if let Err(status) = self.check_share_modes(grant) {
            return Answer::Refused(status);
        }
        if !self.locks.restore(open, &grant.stream, &held.locks) {
            return Answer::Refused(NtStatus::FILE_LOCK_CONFLICT);
        }
        self.caching.restore(grant.key, open, &grant.stream, held.cached);
        self.catch_up(open);
        self.dispose(grant, held.delete_pending);
        self.grants.insert(open, grant.clone());
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
