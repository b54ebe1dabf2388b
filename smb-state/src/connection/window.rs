//! Which MessageIds a client may use, and credits (MS-SMB2 3.3.1.1, 3.3.1.2, 3.3.1.7, 3.3.5.2.3).

use std::collections::BTreeSet;

/// Connection.CommandSequenceWindow: the ids `low..high` minus those used. Every id is accepted at most once, and ids
/// in use plus credits granted are bounded by the width.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Lowest id not used yet.
    low: u64,
    /// First id not granted yet.
    high: u64,
    /// Ids above `low` that are used.
    used: BTreeSet<u64>,
}

impl Default for Window {
    fn default() -> Self {
        Self { low: 0, high: 1, used: BTreeSet::new() }
    }
}

impl Window {
    /// Takes `charge` consecutive ids. Returns whether all of them were granted and unused; if not, none is taken.
    #[must_use]
    pub fn take(&mut self, message: u64, charge: u16) -> bool {
        let Some(end) = message.checked_add(u64::from(charge.max(1))) else { return false };
        if message < self.low || end > self.high || self.used.range(message..end).next().is_some() {
            return false;
        }
        if message == self.low && self.used.is_empty() {
            self.low = end;
            return true;
        }
        self.used.extend(message..end);
        while self.used.remove(&self.low) {
            self.low += 1;
        }
        true
    }

    /// Grants `credits` more ids.
    pub fn grant(&mut self, credits: u16) {
        self.high = self.high.saturating_add(u64::from(credits));
    }

    /// Ids that the client may still use.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.high - self.low - self.used.len() as u64
    }

    /// Span between the lowest unused id and the end: bounds what the window remembers.
    #[must_use]
    pub fn width(&self) -> u64 {
        self.high - self.low
    }
}

/// Credits to grant with a response: what was asked for, at least one so that no client starves (S17), at most what keeps
/// the window within `credits_max`.
#[must_use]
pub fn to_grant(window: &Window, asked: u16, credits_max: u16) -> u16 {
    let room = u64::from(credits_max).saturating_sub(window.width());
    let grant = u64::from(asked.max(1)).min(room);
    if grant == 0 && window.available() == 0 { 1 } else { u16::try_from(grant).unwrap_or(u16::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_accepted_once_and_only_when_granted() {
        let mut window = Window::default();
        assert!(!window.take(1, 1), "not granted");
        assert!(window.take(0, 1));
        assert!(!window.take(0, 1), "used");
        window.grant(10);
        assert!(window.take(5, 3));
        assert!(!window.take(7, 1), "inside a range that was taken");
        assert!(!window.take(4, 2), "overlaps a range that was taken");
        assert!(!window.take(9, 3), "beyond the end");
        assert!(window.take(1, 4));
        assert_eq!(window.available(), 3);
        assert!(window.used.is_empty(), "the gap is closed");
        assert!(!window.take(u64::MAX, 1));
    }

    #[test]
    fn grants_stay_inside_the_bound_and_never_starve() {
        let mut window = Window::default();
        assert!(window.take(0, 1));
        assert_eq!(to_grant(&window, 0, 8), 1);
        assert_eq!(to_grant(&window, 100, 8), 8);
        window.grant(8);
        assert_eq!(to_grant(&window, 1, 8), 0, "full, and the client has credits");
        for id in 2..9 {
            assert!(window.take(id, 1));
        }
        // Id 1 is a hole: the window can't move, but one id is still there.
        assert_eq!(to_grant(&window, 1, 8), 0);
        assert!(window.take(1, 1));
        assert_eq!(to_grant(&window, 1, 8), 1);
    }
}
