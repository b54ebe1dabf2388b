//! What must hold, as the harness finds it broken.

/// A rule of `smb-state` that some step broke. The numbers are those of the design's rules (R) and invariants (S).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// R1, S19: exactly one final response for each accepted request, or the connection dies.
    OneAnswer,
    /// R2, S61: what was submitted is answered once; nothing names a handle that is closed.
    Storage,
    /// R5, S61: every buffer is released exactly once.
    Buffers,
    /// R6: keys come before the response that lets the client use them and go after the last response under them.
    Keys,
    /// R10: a message went to a machine that does not take it, or a machine panicked.
    Machines,
    /// S1: nothing executes without a valid session.
    NoSession,
    /// S3: a failed authentication ends exactly its own session.
    FailedAuthentication,
    /// S4: an expired session executes little.
    Expired,
    /// S5: PreviousSessionId ends only a session of the same user, before the answer.
    Previous,
    /// S6: what is gone is not reachable.
    Gone,
    /// S15: a message id is accepted once, and only inside the window.
    Window,
    /// S16: outstanding grants are bounded.
    Grants,
    /// S17: an idle client holds a credit.
    Starved,
    /// S25: while one caches writes, nobody else caches anything.
    Exclusive,
    /// S26: what is read is what was written last, also from a cache.
    Coherent,
    /// S27: only legal states.
    LegalState,
    /// S28: a break takes from what is held, and is acknowledged by what was asked for or less.
    Breaks,
    /// S29: the epoch counts the changes that the client is told of.
    Epoch,
    /// S30, L5: somebody waits for what nobody was asked to give up.
    Waits,
    /// S31: operations under the same key break nothing and wait for nothing.
    OwnKey,
    /// S32: a break came before the grant that it takes from.
    Order,
    /// S36: no two opens violate each other's share modes.
    ShareModes,
    /// S37: no two locks that are held conflict.
    Locks,
    /// S37: I/O honours locks.
    LockedIo,
    /// L7: a lock waits only while something is in its way.
    Blocked,
    /// S40: nothing opens through a link whose delete is pending.
    DeletePending,
    /// Every client-visible history is one of a server with a single shard that runs one request at a time.
    Linearizable,
    /// S42: changes are told in order, and none is lost.
    Notify,
    /// S43: nobody but who lost a durable open gets it back.
    Owner,
    /// S44: an open is in one session at most.
    OneSession,
    /// S33, S45, S46: what is preserved keeps what it has, and loses it to a conflict for good.
    Preserved,
    /// S47, L8: only its client, a conflict, a close or its timer end what is preserved, and the timer is not early.
    Kept,
    /// S22, S24: one CreateGuid makes one open.
    CreateOnce,
    /// S63: at rest, nothing is held that nobody has.
    Residue,
}

/// A rule that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broken {
    /// Which.
    pub rule: Rule,
    /// How.
    pub what: String,
}
