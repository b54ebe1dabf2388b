//! What an endpoint needs of the adapter around it.

use bytes::Bytes;
use smb_proto::auth::ntlm::compute::nt_hash;
use smb_proto::crypto::Secret;
use smb_proto::{FileTime, Payload};

use crate::event::Identity;
use crate::ids::BufferId;

/// The adapter's table of payloads (R5). Shared by every thread that handles connections and storage.
pub trait Buffers {
    /// Keeps bytes that came in.
    fn insert(&self, bytes: Bytes) -> BufferId;

    /// The bytes of a buffer, which stays. `None` for a number that is not in use.
    fn get(&self, buffer: BufferId) -> Option<Bytes>;

    /// Takes a buffer out, to be sent. `None` for a number that is not in use.
    fn take(&self, buffer: BufferId) -> Option<Payload>;

    /// Forgets a buffer. A number that is not in use is ignored.
    fn release(&self, buffer: BufferId);
}

/// Who may log on. Looked up in memory; a slow directory needs an authenticator of its own.
pub trait Users {
    /// The NT hash of a user's password, or why there is none. `peer` is what throttling counts together with the name.
    fn look_up(&self, name: &str, domain: &str, peer: crate::event::Peer) -> Lookup;

    /// What became of the logon that was looked up before.
    fn record(&self, name: &str, peer: crate::event::Peer, accepted: bool);

    /// Whether a client that gives no name at all is let in.
    fn anonymous(&self) -> Option<Identity>;

    /// Whether somebody whose name is not known is let in, as a guest.
    fn guest(&self) -> Option<Identity> {
        None
    }
}

/// The only user there is, for examples and tests: failures are not counted, as a server has to that strangers can reach.
#[derive(Clone, Debug)]
pub struct OneUser {
    name: Box<str>,
    nt_hash: Secret<16>,
}

impl OneUser {
    /// The user with this name, which is compared without regard to the case of ASCII letters.
    #[must_use]
    pub fn new(name: &str, password: &str) -> Self {
        Self { name: name.into(), nt_hash: nt_hash(password) }
    }
}

impl Users for OneUser {
    fn look_up(&self, name: &str, _domain: &str, _peer: crate::event::Peer) -> Lookup {
        if !name.eq_ignore_ascii_case(&self.name) {
            return Lookup::Unknown;
        }
        let identity = Identity::User { name: self.name.clone(), number: 1000 };
        Lookup::Known { nt_hash: *self.nt_hash.expose(), identity }
    }

    fn record(&self, _name: &str, _peer: crate::event::Peer, _accepted: bool) {}

    fn anonymous(&self) -> Option<Identity> {
        None
    }
}

/// What a user database knows of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The user's NT hash (password-equivalent) and identity.
    Known {
        /// MD4 of the password in UTF-16.
        nt_hash: [u8; 16],
        /// Who it is.
        identity: Identity,
    },
    /// No such user.
    Unknown,
    /// Too many failures: refuse without looking at the proof.
    Throttled,
}

/// What one call of the endpoint may use.
pub struct Surroundings<'a> {
    /// Payloads.
    pub buffers: &'a dyn Buffers,
    /// Users.
    pub users: &'a dyn Users,
    /// The keys of all sessions of the server.
    pub keys: &'a super::KeyRing,
    /// Fills its argument with bytes that nobody can guess.
    pub random: &'a mut dyn FnMut(&mut [u8]),
    /// Now, for challenges and NEGOTIATE's SystemTime.
    pub now: FileTime,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Peer;

    #[test]
    fn there_is_one_user() {
        let users = OneUser::new("Ann", "secret");
        let Lookup::Known { nt_hash, identity } = users.look_up("aNN", "", Peer(1)) else { panic!() };
        assert_eq!(Secret::new(nt_hash), super::nt_hash("secret"));
        assert_eq!(identity, Identity::User { name: "Ann".into(), number: 1000 });
        assert_eq!(users.look_up("ann2", "", Peer(1)), Lookup::Unknown);
        assert_eq!(users.anonymous(), None);
    }
}
