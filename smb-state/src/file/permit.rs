//! Permits: an open reads and writes without asking its file while there is nothing to ask for. A file takes a permit back, and
//! waits until the I/O under it is done, before it grants what such I/O would have to respect (a lease, a lock).

use smb_proto::create_context::LeaseState;

use super::ask::Effect;
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

    fn within(self, other: Self) -> Self {
        Self { read: self.read && other.read, write: self.write && other.write }
    }
}

impl File {
    /// What an open may do without asking, as things are. A write must break what others cache for reading.
    pub(super) fn permit_for(&self, grant: &Grant) -> Permit {
        let others = |rights| self.caching.others_hold(grant.key, &grant.stream, rights);
        Permit {
            read: !others(LeaseState::WRITE_CACHING),
            write: !self.caching.write_breaks(grant.key, &grant.stream),
        }
    }

    /// An open's own rights changed: level II goes with its own writes, so they have to ask.
    pub(super) fn match_permit(&mut self, open: OpenId, effects: &mut Vec<Effect>) {
        if let Some(permit) = self.grants.get(&open).map(|grant| self.permit_for(grant)) {
            self.restrict(permit, |other, _| other == open, effects);
        }
    }

    /// Leaves the concerned opens no more than `allowed`. Returns whether nothing is under way any more that would need more.
    pub(super) fn restrict(
        &mut self,
        allowed: Permit,
        concerned: impl Fn(OpenId, &Grant) -> bool,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let mut quiet = true;
        for (open, grant) in self.grants.iter_mut().filter(|(open, grant)| concerned(**open, grant)) {
            if !allowed.covers(grant.permit) {
                grant.permit = grant.permit.within(allowed);
                grant.draining = true;
                effects.push(Effect::Restrict(grant.session, *open, grant.permit));
            }
            quiet &= !grant.draining && grant.in_flight == 0;
        }
        quiet
    }
}
