//! The users of a running server.

use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Instant;

use smb_state::endpoint::surroundings::{Lookup, Users};
use smb_state::event::{Identity, Peer};

use crate::throttle::Throttle;
use crate::users::{UserTable, fold};

/// Who may log on, and how often who has failed to. Guests and anonymous clients are let in only where the configuration says so.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    users: RwLock<UserTable>,
    throttle: Mutex<Throttle>,
    strangers: Strangers,
}

/// Who is let in without proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strangers {
    /// Clients that give no name.
    pub(crate) anonymous: bool,
    /// Clients whose name is not known.
    pub(crate) guests: bool,
}

impl Directory {
    pub(crate) fn new(users: UserTable, strangers: Strangers) -> Self {
        Self { users: RwLock::new(users), throttle: Mutex::default(), strangers }
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
        self.strangers.anonymous.then_some(Identity::Anonymous)
    }

    fn guest(&self) -> Option<Identity> {
        self.strangers.guests.then_some(Identity::Guest)
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
        let directory = Directory::new(table, Strangers::default());
        for (name, domain) in [("Ann", ""), ("ANN", "WORKGROUP"), ("ann", "example.org")] {
            let Lookup::Known { identity, .. } = directory.look_up(name, domain, PEER) else {
                panic!("{name}")
            };
            assert_eq!(identity, Identity::User { name: "Ann".into(), number: 1000 });
        }
        assert_eq!(directory.look_up("bob", "", PEER), Lookup::Unknown);
        assert_eq!((directory.anonymous(), directory.guest()), (None, None));
        directory.replace(UserTable::default());
        assert_eq!(directory.look_up("Ann", "", PEER), Lookup::Unknown);
    }

    #[test]
    fn strangers_are_let_in_only_where_it_is_configured() {
        for (anonymous, guests) in [(true, false), (false, true)] {
            let directory = Directory::new(UserTable::default(), Strangers { anonymous, guests });
            assert_eq!(directory.anonymous(), anonymous.then_some(Identity::Anonymous));
            assert_eq!(directory.guest(), guests.then_some(Identity::Guest));
        }
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
