//! Timers. The core names a timer and how long; the adapter keeps the clock (R3).

use crate::ids::{ConnectionId, FileKey, OpenId, SessionId};

/// What a timer is for; also its name: arming one that is armed moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A peer that connected must have a valid session before this.
    Authentication(ConnectionId),
    /// The proof of a session's user holds until this.
    SessionExpiry(SessionId),
    /// A break of a file's oplocks and leases, by its number there, must be acknowledged before this.
    BreakAcknowledgment(FileKey, u32),
    /// A preserved open is kept at least until this (3.3.2.2, 3.3.2.4).
    Scavenger(OpenId),
    /// A client that comes back for an open waits until this for the old session to end.
    Claim(OpenId),
    /// Until this nobody need be told that an open wrote.
    WriteTime(OpenId),
}

/// How often a timer's name was armed before; tells a stale expiry from a real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Armed(pub u32);
