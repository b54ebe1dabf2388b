//! What must hold between any two steps.

use super::Shard;
use crate::open::State;

/// How much a shard holds of each kind: at rest, what nobody has must not be held (S63).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Holdings {
    /// Connections.
    pub connections: usize,
    /// Sessions, those being set up included.
    pub sessions: usize,
    /// Clients with a session.
    pub clients: usize,
    /// Opens, those being made included.
    pub opens: usize,
    /// Files with state.
    pub files: usize,
    /// Names that are reserved.
    pub reservations: usize,
    /// Directories whose delete is pending.
    pub doomed: usize,
    /// Directories that are being renamed.
    pub frozen: usize,
    /// Watches of opens, and what the shard knows of those of all shards.
    pub watches: (usize, usize),
    /// Directories that somebody may cache.
    pub cached_directories: usize,
    /// Opens that are kept for clients, those that are elsewhere or on their way, and clients that wait for them.
    pub preserved: (usize, usize, usize, usize),
    /// Those who have persistent opens.
    pub persistent: usize,
    /// Waits for storage or for another machine.
    pub waits: usize,
    /// Timers that are armed.
    pub timers: usize,
}

impl Shard {
    /// Counts what the shard holds.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        let names = self.namespaces.values().map(crate::namespace::Namespace::holdings);
        let (reservations, doomed) = names.fold((0, 0), |sum, names| (sum.0 + names.0, sum.1 + names.1));
        Holdings {
            connections: self.connections.len(),
            sessions: self.sessions.len(),
            clients: self.clients.len(),
            opens: self.opens.len(),
            files: self.files.len(),
            reservations,
            doomed,
            frozen: self.frozen.len(),
            watches: self.watching.holdings(),
            cached_directories: self.cached_directories.len(),
            preserved: (self.preserved_of.len(), self.abroad.len(), self.lost_early.len(), self.claims.len()),
            persistent: self.persistent_of.len(),
            waits: self.waits.len(),
            timers: self.timers.len(),
        }
    }

    /// Checks what must hold between any two steps; for debug builds, models and simulations.
    ///
    /// # Panics
    /// When it does not hold: a bug of this crate.
    pub fn check_invariants(&self) {
        for (id, session) in &self.sessions {
            for open in &session.opens {
                let state = self.opens.get(open);
                assert!(
                    state.is_some_and(|open| open.session == *id),
                    "a session lists an open that is not its own"
                );
            }
            for connection in session.channels.keys().chain(session.binds.keys()) {
                assert!(
                    self.connections.contains_key(connection) || connection.shard() != self.id,
                    "a session has a channel on a connection that is gone"
                );
            }
            assert!(
                session.binds.keys().all(|connection| !session.channels.contains_key(connection)),
                "a channel asks to become one"
            );
            let mut places: Vec<_> = session.channels.values().map(|channel| channel.0).collect();
            places.sort_unstable();
            places.dedup();
            let all = places.len() == session.channels.len();
            let old = places.last().is_none_or(|last| *last < session.next_channel);
            assert!(all && old, "a channel's place is not its own");
        }
        for (id, open) in &self.opens {
            let session = self.sessions.get(&open.session);
            let has_session = session.is_some_and(|session| session.opens.contains(id));
            let home = id.partition().shard(self.config.shards.max(1)) == self.id;
            let leaves = open.state == State::Leaving || open.is_closing();
            assert!(has_session || (open.kept && home) || leaves, "an open without its session");
            let outstanding = !open.outstanding.is_empty() || open.state != State::Ready;
            assert!(outstanding || !self.waits_for(*id), "a request is under way that is not counted");
        }
        let kept = self.opens.values().filter(|open| open.kept).count();
        assert_eq!(kept, self.preserved as usize, "preserved opens are counted wrongly");
        for (id, connection) in &self.connections {
            for session in connection.sessions.keys() {
                let here = session.partition().shard(self.config.shards.max(1)) == self.id;
                assert!(!here || self.sessions.contains_key(session), "{id:?} lists a session that is gone");
            }
            let credits = u64::from(self.limits.credits_max).max(1);
            assert!(connection.window.width() <= credits.saturating_add(1), "more credits than the bound");
        }
        for file in self.files.values() {
            file.check_invariants();
        }
        self.watching.check_invariants(&self.opens);
    }

    fn waits_for(&self, open: crate::ids::OpenId) -> bool {
        self.waits
            .iter()
            .any(|(_, wait)| matches!(wait, super::Wait::Request(pending) if pending.open == open))
    }
}
