//! Faults that can be seeded. Each is at the boundary of the machines, where a fault inside them would show: an ask that
//! is answered without the one who should answer it, an effect that is lost, doubled or late. A model that does not catch
//! its faults proves nothing.

/// A seeded fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Each response grants twice the credits.
    GrantTwice,
    /// Responses grant nothing.
    Starve,
    /// Buffers are not released any more once there was a CANCEL.
    LeakOnCancel,
    /// A message id that was used is taken for a fresh one: the window is not asked.
    SkipWindow,
    /// Each response goes out twice.
    AnswerTwice,
    /// TREE_CONNECT is carried out for any session that the connection has.
    SkipSessionCheck,
    /// A failed reauthentication is taken for a good one.
    KeepAfterFailure,
    /// Every user is taken for the same.
    OneUserForAll,
    /// A session's expiry, the time-out of a break, or the end of what is preserved, is lost.
    NeverExpire,
    /// Keys are installed after the response that needs them.
    LateKeys,
    /// A bind that fails ends the session that it asked for.
    EndVictim,
    /// A bind is not verified with the session's key.
    TrustForgery,
    /// A directory's rename does not hold back opens in the other shard.
    SkipFreeze,
    /// Opens that a directory's rename held back stay so.
    SkipThaw,
    /// A file of another shard is not asked whether it may be opened.
    SkipFileAsk,
    /// A file of another shard is not asked whether it may be replaced.
    SkipReplaceAsk,
    /// A reservation of a name of another shard is not given back.
    LoseFree,
    /// News of a change does not reach another shard.
    LoseNews,
    /// A watch is not told to the other shard.
    SkipWatch,
    /// A permit is not taken back, and the file is told that nothing is under way under it.
    SkipRestrict,
    /// The file is told too early that nothing is under way under a permit that was taken back.
    EarlyDrained,
    /// The file is not told that nothing is under way any more.
    LoseDrained,
    /// A file of another shard is not asked for a lock.
    SkipLockAsk,
    /// A file of another shard is not told to unlock.
    SkipUnlockAsk,
    /// A file of another shard is not asked about I/O without a permit.
    SkipCheck,
    /// A file of another shard is not told that what waits there is given up.
    LoseWithdraw,
    /// Notifications of breaks do not go out.
    ForgetBreak,
    /// A notification goes out before the response that the same step sends.
    BreakOvertakes,
    /// A lease's acknowledgment is accepted whatever it claims.
    AcceptAnyAck,
    /// A directory of another shard is not told that its entries changed.
    LoseEntryChanged,
    /// It is told, but not under which lease they were changed.
    ForgetParentKey,
    /// Another shard does not hear that a directory may be cached.
    SkipDirectoryCached,
    /// The CreateGuid of a client that comes back is taken for the right one.
    TrustCreateGuid,
    /// The home of a preserved open does not hear that the open gives way.
    LoseLost,
    /// A client gets an open back though its file said no.
    ReclaimAnyway,
    /// A file of another shard does not hear that an open's client is gone.
    SkipPreserve,
    /// A client's machine of another shard is not asked whether it knows a CreateGuid.
    SkipBeginCreate,
    /// The store says that a record is durable before it is.
    AnswerBeforeDurable,
    /// The store is empty after a crash.
    LoseRecords,
}

impl Fault {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GrantTwice => "grant-twice",
            Self::Starve => "starve",
            Self::LeakOnCancel => "leak-on-cancel",
            Self::SkipWindow => "skip-window",
            Self::AnswerTwice => "answer-twice",
            Self::SkipSessionCheck => "skip-session-check",
            Self::KeepAfterFailure => "keep-after-failure",
            Self::OneUserForAll => "one-user-for-all",
            Self::NeverExpire => "never-expire",
            Self::LateKeys => "late-keys",
            Self::EndVictim => "end-victim",
            Self::TrustForgery => "trust-forgery",
            Self::SkipFreeze => "skip-freeze",
            Self::SkipThaw => "skip-thaw",
            Self::SkipFileAsk => "skip-file-ask",
            Self::SkipReplaceAsk => "skip-replace-ask",
            Self::LoseFree => "lose-free",
            Self::LoseNews => "lose-news",
            Self::SkipWatch => "skip-watch",
            Self::SkipRestrict => "skip-restrict",
            Self::EarlyDrained => "early-drained",
            Self::LoseDrained => "lose-drained",
            Self::SkipLockAsk => "skip-lock-ask",
            Self::SkipUnlockAsk => "skip-unlock-ask",
            Self::SkipCheck => "skip-check",
            Self::LoseWithdraw => "lose-withdraw",
            Self::ForgetBreak => "forget-break",
            Self::BreakOvertakes => "break-overtakes",
            Self::AcceptAnyAck => "accept-any-ack",
            Self::LoseEntryChanged => "lose-entry-changed",
            Self::ForgetParentKey => "forget-parent-key",
            Self::SkipDirectoryCached => "skip-directory-cached",
            Self::TrustCreateGuid => "trust-create-guid",
            Self::LoseLost => "lose-lost",
            Self::ReclaimAnyway => "reclaim-anyway",
            Self::SkipPreserve => "skip-preserve",
            Self::SkipBeginCreate => "skip-begin-create",
            Self::AnswerBeforeDurable => "answer-before-durable",
            Self::LoseRecords => "lose-records",
        }
    }
}
