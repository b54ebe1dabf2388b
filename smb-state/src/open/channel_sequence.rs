//! The requests of an open that are under way, and its channel sequence (MS-SMB2 3.3.1.10, 3.3.4.1, 3.3.5.2.10).
//!
//! A client that lost a channel counts its channel sequence up and sends again, elsewhere, what may have been lost with the
//! channel. What it sent before may still be on its way to storage: so a stale request must change nothing any more, and a
//! replayed one must wait until no older request is under way. The client's number wraps at 16 bits; what is newer
//! is told by the distance.
//!
//! A request counts from when it is handed on, to storage or another machine, until that has answered, whether or not
//! anybody is left to hear of it (S23). Requests that end at once are never under way: between their beginning and
//! their end nothing else happens to the open.

/// Distances up to this one lead forward.
const FORWARD_MAX: u16 = 0x7FFF;

/// The requests of an open that are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Outstanding {
    /// Open.ChannelSequence.
    sequence: u16,
    /// How often it changed. Unlike the sequence this never comes again, so that it tells for ever which requests are older.
    changes: u64,
    /// Open.OutstandingRequestCount.
    current: u32,
    /// Open.OutstandingPreRequestCount.
    before: u32,
    /// Requests that the sequence does not count: stale ones, of older dialects, and of other opens that use this one.
    uncounted: u32,
}

/// What a request counts as, from its beginning to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Ticket(Option<u64>);

impl Ticket {
    /// Of a request that the sequence does not count.
    pub(crate) const UNCOUNTED: Self = Self(None);
}

/// The request must not change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stale;

impl Outstanding {
    /// Of an open that a CREATE with this sequence makes.
    pub(crate) fn new(sequence: u16) -> Self {
        Self { sequence, ..Self::default() }
    }

    /// Checks a request's sequence. [`Stale`] refuses what would change something; anything else goes on uncounted.
    pub(crate) fn check(&mut self, sequence: u16, is_replay: bool) -> Result<Ticket, Stale> {
        let distance = sequence.wrapping_sub(self.sequence);
        if distance > FORWARD_MAX {
            return Err(Stale);
        }
        if distance > 0 {
            self.before = self.before.saturating_add(self.current);
            self.current = 0;
            self.sequence = sequence;
            self.changes = self.changes.wrapping_add(1);
        }
        if is_replay && self.before > 0 { Err(Stale) } else { Ok(Ticket(Some(self.changes))) }
    }

    /// A request is under way.
    pub(crate) fn begin(&mut self, ticket: Ticket) {
        let count = self.count(ticket);
        *count = count.saturating_add(1);
    }

    /// A request was answered by whoever carried it out.
    pub(crate) fn end(&mut self, ticket: Ticket) {
        let count = self.count(ticket);
        debug_assert!(*count > 0, "more answers than requests");
        *count = count.saturating_sub(1);
    }

    /// The channel sequence.
    pub(crate) fn sequence(&self) -> u16 {
        self.sequence
    }

    /// Nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.current == 0 && self.before == 0 && self.uncounted == 0
    }

    fn count(&mut self, ticket: Ticket) -> &mut u32 {
        match ticket.0 {
            None => &mut self.uncounted,
            Some(changes) if changes == self.changes => &mut self.current,
            Some(_) => &mut self.before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules, said with the requests themselves.
    #[derive(Clone, Default)]
    struct Reference {
        sequence: u16,
        /// Whether each request under way is of the current sequence.
        under_way: Vec<Option<bool>>,
    }

    impl Reference {
        fn before(&self) -> bool {
            self.under_way.contains(&Some(false))
        }

        /// Whether the request may change something, and is counted.
        fn check(&mut self, sequence: u16, is_replay: bool) -> bool {
            let newer = (1..=0x7FFF_u32).any(|step| u32::from(self.sequence) + step == u32::from(sequence))
                || (1..=0x7FFF_u32)
                    .any(|step| u32::from(self.sequence) + step == u32::from(sequence) + 0x1_0000);
            if newer {
                self.sequence = sequence;
                for of_current in self.under_way.iter_mut().flatten() {
                    *of_current = false;
                }
            }
            (newer || sequence == self.sequence) && !(is_replay && self.before())
        }
    }

    fn agree(real: Outstanding, reference: &Reference) {
        let count = |wanted| reference.under_way.iter().filter(|of| **of == wanted).count();
        assert_eq!(real.sequence, reference.sequence);
        assert_eq!(real.current as usize, count(Some(true)));
        assert_eq!(real.before as usize, count(Some(false)));
        assert_eq!(real.uncounted as usize, count(None));
        assert_eq!(real.is_empty(), reference.under_way.is_empty());
    }

    /// Every order of beginnings and ends, with sequences around the edges of what is newer.
    fn explore(real: Outstanding, tickets: &[Ticket], reference: &Reference, depth: u32, seen: &mut u64) {
        agree(real, reference);
        *seen += 1;
        if depth == 0 {
            return;
        }
        for sequence in [0, 1, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF] {
            for is_replay in [false, true] {
                let (mut real, mut reference) = (real, reference.clone());
                let ticket = real.check(sequence, is_replay);
                let counted = reference.check(sequence, is_replay);
                assert_eq!(ticket.is_ok(), counted, "{sequence:x} {is_replay} at {real:?}");
                // It is refused, or ends at once.
                agree(real, &reference);
                let ticket = ticket.unwrap_or(Ticket::UNCOUNTED);
                real.begin(ticket);
                reference.under_way.push(counted.then_some(true));
                let tickets: Vec<_> = tickets.iter().copied().chain([ticket]).collect();
                explore(real, &tickets, &reference, depth - 1, seen);
            }
        }
        for index in 0..tickets.len() {
            let (mut real, mut reference) = (real, reference.clone());
            let mut tickets = tickets.to_vec();
            real.end(tickets.remove(index));
            reference.under_way.remove(index);
            explore(real, &tickets, &reference, depth - 1, seen);
        }
    }

    #[test]
    fn every_short_history_counts_as_the_rules_say() {
        let mut seen = 0;
        explore(Outstanding::new(0), &[], &Reference::default(), 4, &mut seen);
        assert!(seen > 20_000, "{seen}");
    }

    #[test]
    fn every_distance_is_newer_equal_or_stale() {
        for start in [0, 1, 0x7FFF, 0x8000, 0xFFFF] {
            for sequence in 0..=u16::MAX {
                let mut outstanding = Outstanding::new(start);
                let distance = (i32::from(sequence) - i32::from(start)).rem_euclid(0x1_0000);
                assert_eq!(outstanding.check(sequence, false).is_ok(), distance < 0x8000);
            }
        }
    }

    #[test]
    fn a_request_is_older_also_when_the_sequence_comes_round() {
        let mut outstanding = Outstanding::new(0);
        let old = outstanding.check(0, false).unwrap();
        outstanding.begin(old);
        for sequence in [0x7FFF, 0xFFFE, 0] {
            outstanding.check(sequence, false).unwrap();
        }
        assert_eq!(
            outstanding.check(0, true),
            Err(Stale),
            "the request of the first round is still under way"
        );
        outstanding.end(old);
        assert!(outstanding.is_empty());
        assert!(outstanding.check(0, true).is_ok());
    }
}
