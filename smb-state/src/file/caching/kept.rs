//! What persistent opens cache while their clients are away, and after a start of the server (MS-SMB2 3.3.4.7, 3.3.7.1).

use smb_proto::Name;
use smb_proto::create_context::LeaseState;

use super::{CacheKey, Caching, Form, Holder, LeaseV2, W, legal, level, rights};
use crate::ids::OpenId;
use crate::record::HeldCache;

/// How far a start moves a lease's epoch on: beyond what a break may have told its client that no record says, since it was told
/// while the server went down.
const EPOCH_GAP: u16 = 16;

/// What is sure of recorded rights without an epoch: R may have been taken while the server went down, and nothing would tell the
/// client that comes back. Not beside W, which nobody takes unrecorded.
fn sure(state: LeaseState) -> LeaseState {
    if state.contains(W) { state } else { LeaseState::EMPTY }
}

impl Caching {
    /// The client of a persistent open is away: the open is kept, with whatever it caches (3.3.7.1). A break under way waits for
    /// the client, or for its timer (3.3.4.7).
    pub(crate) fn keep(&mut self, key: CacheKey, open: OpenId) {
        let Some(holder) = self.holders.get_mut(&key) else { return };
        holder.joined.retain(|(other, _)| *other != open);
        if let Some((_, session)) = holder.opens.iter_mut().find(|(other, _)| *other == open) {
            *session = None;
            holder.firm.push(open);
        }
    }

    /// What the record of an open says of what it caches: during a break what will be left.
    pub(crate) fn held(&self, key: CacheKey, open: OpenId) -> HeldCache {
        let holder = self.holders.get(&key);
        let Some(holder) = holder.filter(|holder| holder.opens.iter().any(|(other, _)| *other == open))
        else {
            return HeldCache::Nothing;
        };
        let state = holder.breaking.map_or(holder.state, |breaking| breaking.then);
        match (key, holder.form) {
            (CacheKey::Lease(_, key), Form::LeaseV2 { parent }) => {
                HeldCache::Lease { key, state, v2: Some(LeaseV2 { parent, epoch: holder.epoch }) }
            }
            (CacheKey::Lease(_, key), Form::LeaseV1 | Form::Oplock) => {
                HeldCache::Lease { key, state, v2: None }
            }
            (CacheKey::Open(_), _) => HeldCache::Oplock(level(state)),
        }
    }

    /// A persistent open caches again what its record says. Records are restored in the order in which they were written: what
    /// contradicts an earlier one was granted after that had been broken.
    pub(crate) fn restore(&mut self, key: CacheKey, open: OpenId, stream: &Name, held: HeldCache) {
        let (form, state, epoch) = match held {
            HeldCache::Nothing => return,
            HeldCache::Oplock(level) => (Form::Oplock, sure(rights(level)), 0),
            HeldCache::Lease { state, v2: None, .. } => (Form::LeaseV1, sure(legal(state)), 0),
            HeldCache::Lease { state, v2: Some(LeaseV2 { parent, epoch }), .. } => {
                (Form::LeaseV2 { parent }, legal(state), epoch.wrapping_add(EPOCH_GAP))
            }
        };
        let contradicted = if state.contains(W) { LeaseState::READ_HANDLE_WRITE } else { W };
        for (other, holder) in &mut self.holders {
            if *other != key && holder.stream == *stream && !state.is_empty() {
                holder.state = legal(holder.state.without(contradicted));
            }
        }
        let holder = self.holders.entry(key).or_insert_with(|| Holder {
            stream: stream.clone(),
            form,
            state,
            breaking: None,
            epoch,
            told: None,
            opens: Vec::new(),
            firm: Vec::new(),
            lost: false,
            joined: Vec::new(),
            recorded: true,
        });
        // The latest of several opens under one lease knows.
        (holder.state, holder.epoch) = (state, epoch);
        holder.opens.push((open, None));
        holder.firm.push(open);
    }

    /// A record says what is held under this key.
    pub(crate) fn is_recorded(&mut self, key: CacheKey) {
        if let Some(holder) = self.holders.get_mut(&key) {
            holder.recorded = true;
        }
    }

    /// Whether an open is preserved.
    pub(crate) fn is_kept(&self, key: CacheKey, open: OpenId) -> bool {
        let holder = self.holders.get(&key);
        holder.is_some_and(|holder| holder.opens.contains(&(open, None)))
    }
}
