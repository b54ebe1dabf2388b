//! The users of a running server.

use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Instant;

use smb_state::endpoint::surroundings::{Lookup, Users};
use smb_state::event::{Identity, Peer};

use crate::throttle::Throttle;
use crate::users::{UserTable, fold};

/// Who may log on, and how often who has failed to. Guests and anonymous clients are not let in.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    users: RwLock<UserTable>,
    throttle: Mutex<Throttle>,
}

impl Directory {
    pub(crate) fn new(users: UserTable) -> Self {
        Self { users: RwLock::new(users), throttle: Mutex::default() }
    }

    /// These are the users from now on; who is logged on stays so.
    pub(crate) fn replace(&self, users: UserTable) {
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = users;
    }
}

impl Users for Directory {
    fn look_up(&self, name: &str, _domain: &str, peer: Peer) -> Lookup {
        if self.throttle.lock().unwrap_or_else(PoisonError::into_inner).refuses(
            &fold(name),
            peer,
            Instant::now(),
        ) {
            return Lookup::Throttled;
        }
        match self.users.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            Some(user) => Lookup::Known {
                nt_hash: *user.nt_hash.expose(),
                identity: Identity::User { name: user.name.clone(), number: user.number },
            },
            None => Lookup::Unknown,
        }
    }

    fn record(&self, name: &str, peer: Peer, accepted: bool) {
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        throttle.record(&fold(name), peer, accepted, Instant::now());
    }

    fn anonymous(&self) -> Option<Identity> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Peer = Peer(1);

    #[test]
    fn users_are_found_whatever_the_case_and_domain() {
        let mut table = UserTable::default();
        table.set("Ann", "Password").unwrap();
        let directory = Directory::new(table);
        for (name, domain) in [("Ann", ""), ("ANN", "WORKGROUP"), ("ann", "example.org")] {
            let Lookup::Known { identity, .. } = directory.look_up(name, domain, PEER) else {
                panic!("{name}")
            };
            assert_eq!(identity, Identity::User { name: "Ann".into(), number: 1000 });
        }
        assert_eq!(directory.look_up("bob", "", PEER), Lookup::Unknown);
        assert_eq!(directory.anonymous(), None);
        directory.replace(UserTable::default());
        assert_eq!(directory.look_up("Ann", "", PEER), Lookup::Unknown);
    }

    #[test]
    fn guessing_is_throttled_however_the_name_is_spelled() {
        let directory = Directory::default();
        for name in ["ann", "Ann", "ANN", "aNN", "anN", "AnN"] {
            assert_eq!(directory.look_up(name, "", PEER), Lookup::Unknown);
            directory.record(name, PEER, false);
        }
        assert_eq!(directory.look_up("ann", "", PEER), Lookup::Throttled);
    }
}
