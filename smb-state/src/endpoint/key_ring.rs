//! The keys of sessions, for the endpoints of a server to share: a connection that is to carry a session too needs the
//! session's signing key, to verify that the session's own client asks, and its encryption keys (MS-SMB2 3.3.5.5).
//!
//! Endpoints keep the keys alive, the ring only finds them: with the last connection of a session its keys are gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use smb_proto::crypto::{Cipher, Signer};

use crate::ids::SessionId;

/// Entries that are never worth a look for dead ones.
const SWEEP_MIN: usize = 64;

/// The keys that all channels of a session share.
#[derive(Debug)]
pub(super) struct SharedKeys {
    /// Session.SigningKey: the first channel's, and every bind's.
    pub(super) signer: Arc<dyn Signer>,
    /// Session.EncryptionKey and Session.DecryptionKey.
    pub(super) ciphers: Option<(Arc<dyn Cipher>, Arc<dyn Cipher>)>,
}

/// Finds the keys of a server's sessions. One for all endpoints of a server.
#[derive(Debug, Default)]
pub struct KeyRing(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    sessions: BTreeMap<SessionId, Weak<SharedKeys>>,
    /// Entries at which the dead ones are looked for.
    sweep_at: usize,
}

impl KeyRing {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys of a session, while some endpoint has them.
    pub(super) fn find(&self, session: SessionId) -> Option<Arc<SharedKeys>> {
        self.lock().sessions.get(&session)?.upgrade()
    }

    pub(super) fn insert(&self, session: SessionId, keys: &Arc<SharedKeys>) {
        let mut entries = self.lock();
        entries.sessions.insert(session, Arc::downgrade(keys));
        // Sweeping when there are twice as many as were alive the last time costs a constant for each session.
        if entries.sessions.len() >= entries.sweep_at.max(SWEEP_MIN) {
            entries.sessions.retain(|_, keys| keys.strong_count() > 0);
            entries.sweep_at = entries.sessions.len().saturating_mul(2);
        }
    }

    pub(super) fn forget(&self, session: SessionId) {
        self.lock().sessions.remove(&session);
    }
}

#[cfg(test)]
mod tests {
    use smb_proto::crypto::{Portable, Provider, SigningAlgorithm};

    use super::*;

    fn keys() -> Arc<SharedKeys> {
        Arc::new(SharedKeys { signer: Portable.signer(SigningAlgorithm::AesCmac, &[1; 16]), ciphers: None })
    }

    #[test]
    fn keys_are_gone_with_the_last_endpoint_that_has_them() {
        let ring = KeyRing::default();
        let first = keys();
        ring.insert(SessionId(1), &first);
        let second = ring.find(SessionId(1)).unwrap();
        drop(first);
        assert!(ring.find(SessionId(1)).is_some());
        drop(second);
        assert!(ring.find(SessionId(1)).is_none());
    }

    #[test]
    fn the_ring_does_not_grow_with_sessions_that_are_gone() {
        let ring = KeyRing::default();
        let kept: Vec<_> = (0..100).map(|_| keys()).collect();
        for (number, keys) in (0..).zip(&kept) {
            ring.insert(SessionId(number), keys);
        }
        for number in 1000..100_000 {
            ring.insert(SessionId(number), &keys());
        }
        assert!(ring.lock().sessions.len() <= 300, "{}", ring.lock().sessions.len());
        assert!((0..100).all(|number| ring.find(SessionId(number)).is_some()));
    }
}
