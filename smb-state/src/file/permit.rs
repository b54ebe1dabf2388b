//! Permits: an open reads and writes without asking its file while there is nothing to ask for. A file takes a permit back, and
//! waits until the I/O under it is done, before it grants what such I/O would have to respect (a lease, a lock).

use smb_proto::create_context::LeaseState;

use super::ask::{Effect, FileAsk};
use super::caching::{Want, is_look};
use super::{File, Grant};
use crate::ids::OpenId;

/// What an open may do without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Permit {
    /// Read.
    pub read: bool,
    /// Write.
    pub write: bool,
}

impl Permit {
    /// Everything.
    pub const ALL: Self = Self { read: true, write: true };

    /// Whether `other` is no more than this.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        (self.read || !other.read) && (self.write || !other.write)
    }

    /// Reading alone.
    pub(super) const READ: Self = Self { read: true, write: false };

    /// What both allow.
    pub(super) fn within(self, other: Self) -> Self {
        Self { read: self.read && other.read, write: self.write && other.write }
    }
}

/// Reads and writes of an open that are under way under its permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct UnderPermit {
    reads: u32,
    writes: u32,
    /// How often the file waits to hear that nothing is under way under what it took back.
    owed: u32,
}

impl UnderPermit {
    fn of(&mut self, write: bool) -> &mut u32 {
        if write { &mut self.writes } else { &mut self.reads }
    }

    /// One begins.
    pub(crate) fn begin(&mut self, write: bool) {
        *self.of(write) += 1;
    }

    /// One is done.
    pub(crate) fn end(&mut self, write: bool) {
        let count = self.of(write);
        *count = count.saturating_sub(1);
    }

    /// The file took something back.
    pub(crate) fn restricted(&mut self) {
        self.owed += 1;
    }

    /// How often to tell the file that nothing is under way any more that is not permitted now.
    pub(crate) fn drained(&mut self, permit: Permit) -> u32 {
        let quiet = (permit.read || self.reads == 0) && (permit.write || self.writes == 0);
        if quiet { std::mem::take(&mut self.owed) } else { 0 }
    }
}

impl File {
    /// What an open may do without asking, as things are. A write must break what others cache for reading; locks are in the
    /// way of others, and of all writers. A look reads and writes nothing; whoever caches beside it need not wait for it.
    pub(super) fn permit_for(&self, open: OpenId, grant: &Grant) -> Permit {
        if is_look(grant.access) {
            return Permit::default();
        }
        let others = |rights| self.caching.others_hold(grant.key, &grant.stream, rights);
        let cached = Permit {
            read: !others(LeaseState::WRITE_CACHING),
            write: !self.caching.write_breaks(grant.key, &grant.stream),
        };
        cached.within(self.locks.permit(open, &grant.stream))
    }

    /// An open's own rights changed: level II goes with its own writes, so they have to ask.
    pub(super) fn match_permit(&mut self, open: OpenId, effects: &mut Vec<Effect>) {
        if let Some(permit) = self.grants.get(&open).map(|grant| self.permit_for(open, grant)) {
            self.restrict(|other, _| if other == open { permit } else { Permit::ALL }, effects);
        }
    }

    /// What an open may get: what was taken back stays so until whoever waits for that has what it asked for.
    pub(super) fn permit_to_give(&self, open: OpenId, grant: &Grant) -> Permit {
        let left = self.left_by_locks_to_come(open, grant);
        let left = if self.is_about_to_be_cached(grant) { left.within(Permit::READ) } else { left };
        self.permit_for(open, grant).within(left)
    }

    /// Whether an open with another key waits for I/O alone before it may cache.
    pub(super) fn is_about_to_be_cached(&self, grant: &Grant) -> bool {
        self.draining().any(|ask| {
            matches!(ask, FileAsk::Open { grant: other, want, .. }
                if *want != Want::Nothing && other.key != grant.key && other.stream == grant.stream)
        })
    }

    /// Leaves opens no more than this. Returns whether nothing is under way any more that needs more; what the file let
    /// through itself does not count.
    pub(super) fn restrict(
        &mut self,
        allowed: impl Fn(OpenId, &Grant) -> Permit,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let mut quiet = true;
        for (open, grant) in &mut self.grants {
            let allowed = allowed(*open, grant);
            if !allowed.covers(grant.permit) {
                grant.permit = grant.permit.within(allowed);
                grant.draining += 1;
                effects.push(Effect::Restrict(grant.session, *open, grant.permit));
            }
            quiet &= allowed == Permit::ALL || grant.draining == 0;
        }
        quiet
    }
}
