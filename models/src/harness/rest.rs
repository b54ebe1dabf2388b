//! What must hold when nothing is under way.

use smb_state::Shard;
use smb_state::timer::Timer;

use super::rule::Rule;
use super::{Wire, World};

impl World {
    /// How many timers of opens that are kept, and of clients that wait for one, are armed.
    fn kept(&self) -> (usize, usize) {
        let count = |which: fn(&Timer) -> bool| self.timers.keys().filter(|timer| which(timer)).count();
        (count(|timer| matches!(timer, Timer::Scavenger(_))), count(|timer| matches!(timer, Timer::Claim(_))))
    }

    /// Nothing is under way, and nothing will happen by itself.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.is_quiet() && self.timers.is_empty()
    }

    /// Whether a client that came back for an open waits for its old session's end.
    #[must_use]
    pub fn has_claim(&self) -> bool {
        self.kept().1 > 0
    }

    /// What must hold when nothing is under way. A request that was said to wait may do so while a break is unacknowledged; one
    /// that comes back for an open, until a timer.
    pub(super) fn check_rest(&mut self) {
        if !self.is_quiet() || self.broken.is_some() {
            return;
        }
        let (scavengers, claims) = self.kept();
        let live = || self.wires.values().filter(|wire| !wire.gone && !wire.closing);
        // What waits for another client has an interim response, and no CANCEL.
        let silent = |wire: &Wire| wire.pending.iter().filter(|message| !wire.waits(message)).count();
        if live().map(silent).sum::<usize>() > claims {
            return self.breaks(Rule::OneAnswer, "a request is never answered");
        }
        // Who came back may be gone again.
        let mut waits = live().map(|wire| wire.pending.len()).sum::<usize>() + claims;
        if !self.buffers.is_empty() {
            return self.breaks(Rule::Buffers, format!("{:?} are never released", self.buffers));
        }
        let empty = self.wires.values().all(|wire| wire.gone);
        let (mut preserved, mut timers, mut clients, mut strays) = (0, 0, 0, 0);
        for index in 0..self.shards.len() {
            let held = self.shards[index].holdings();
            let transient = held.waits.saturating_sub(waits) + held.reservations + held.frozen;
            waits = waits.saturating_sub(held.waits);
            if transient > 0 || (empty && held.connections + held.sessions > 0) {
                return self.breaks(Rule::Residue, format!("shard {index} keeps {held:?}"));
            }
            preserved += held.preserved.0;
            timers += held.timers;
            clients += held.clients;
            strays += held.preserved.1 + held.preserved.2 + held.preserved.3;
        }
        if preserved != scavengers {
            let what = format!("{preserved} opens are kept, and {scavengers} timers are to end that");
            return self.breaks(Rule::Kept, what);
        }
        let (mut opens, mut files) = (0, 0);
        for held in self.shards.iter().map(Shard::holdings) {
            opens += held.opens;
            files += held.files + held.doomed;
        }
        // What is left then is kept, with what it needs.
        if empty && (opens + timers > 2 * scavengers || strays > 0 || (opens == 0 && clients > 0)) {
            let what = format!("{opens} opens, {timers} timers, {clients} clients, {strays} strays");
            return self.breaks(Rule::Residue, what);
        }
        let handles = self.volume.handles();
        if handles != opens || (opens == 0 && files > 0) {
            self.breaks(
                Rule::Residue,
                format!("{opens} opens have {handles} handles, {files} files have state"),
            );
        }
    }
}
