//! The cases: who does what.

use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::create_context::LeaseState;

/// A request of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    /// CREATE, into this place.
    Open(usize, How, Asks),
    /// The same with a READ in one frame.
    OpenAndRead(usize, How, Asks),
    /// READ, or from the cache.
    Read(usize),
    /// WRITE, or to the cache.
    Write(usize),
    /// SET_INFO: delete disposition.
    Delete(usize),
    /// CLOSE.
    Close(usize),
    /// CANCEL of the request before it, if that is not answered yet.
    Cancel,
    /// The connection goes away, whatever is under way.
    Leave,
    /// What only the client has is written before its CLOSE; in no script.
    Flush,
}

impl Op {
    /// Whether it opens the file.
    pub(super) fn opens(self) -> bool {
        matches!(self, Self::Open(..) | Self::OpenAndRead(..))
    }
}

/// Access and sharing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum How {
    /// Reads and writes, shares everything.
    Shared,
    /// Reads and writes, shares nothing.
    Alone,
    /// Reads, shares all but deletion.
    Careful,
    /// Deletes, shares everything.
    Deleting,
}

/// What is to be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asks {
    Nothing,
    Oplock(OplockLevel),
    Lease(LeaseState),
    LeaseV2(LeaseState),
}

/// What a client does about a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Manners {
    /// Acknowledges, at any time.
    Obeys,
    /// Claims more than it may, then obeys.
    Greedy,
    /// Acknowledges only when it is too late.
    Ignores,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub name: &'static str,
    pub shards: u16,
    /// Only in the deep run.
    pub deep: bool,
    pub scripts: &'static [&'static [Op]],
    pub manners: &'static [Manners],
}

use Asks::{Lease, LeaseV2, Nothing, Oplock};
use How::{Alone, Careful, Deleting, Shared};
use Manners::{Greedy, Ignores, Obeys};
use Op::{Cancel, Close, Delete, Leave, Open, OpenAndRead, Read, Write};

const R: LeaseState = LeaseState::READ_CACHING;
const RW: LeaseState = LeaseState::READ_WRITE;
const RH: LeaseState = LeaseState::READ_HANDLE;
const RWH: LeaseState = LeaseState::READ_HANDLE_WRITE;
const II: OplockLevel = OplockLevel::II;
const EXCLUSIVE: OplockLevel = OplockLevel::EXCLUSIVE;
const BATCH: OplockLevel = OplockLevel::BATCH;

const fn case(
    name: &'static str,
    shards: u16,
    scripts: &'static [&'static [Op]],
    manners: &'static [Manners],
) -> Case {
    Case { name, shards, deep: false, scripts, manners }
}

const fn deep(case: Case) -> Case {
    Case { deep: true, ..case }
}

// Those on two shards come first: the faults of messages show there. The longest come last: no fault needs them.
pub(super) const CASES: &[Case] = &[
    case(
        "two shards: a lease against a writer",
        2,
        &[
            &[Open(0, Shared, LeaseV2(RWH)), Read(0), Read(0), Leave],
            &[Open(0, Shared, Nothing), Write(0), Write(0), Leave],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "two shards: a writer in its cache against a reader",
        2,
        &[
            &[Open(0, Shared, LeaseV2(RW)), Write(0), Close(0)],
            &[Open(0, Shared, LeaseV2(R)), Cancel, Read(0), Read(0), Close(0)],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "two shards: each in the other's way",
        2,
        &[
            &[Open(0, Careful, LeaseV2(RH)), Open(1, Deleting, LeaseV2(RH)), Leave],
            &[Open(0, Careful, LeaseV2(RH)), Open(1, Deleting, LeaseV2(RH)), Leave],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "two shards: oplocks never acknowledged",
        2,
        &[&[Open(0, Shared, Oplock(BATCH)), Write(0), Leave], &[Open(0, Shared, Oplock(II)), Read(0), Leave]],
        &[Ignores, Obeys],
    ),
    case(
        "two shards: opened and read in one frame",
        2,
        &[
            &[OpenAndRead(0, Shared, LeaseV2(RWH)), Write(0), Close(0)],
            &[OpenAndRead(0, Shared, LeaseV2(RWH)), Write(0), Close(0)],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "leases: one writes in its cache, the other reads",
        1,
        &[
            &[Open(0, Shared, LeaseV2(RWH)), Write(0), Read(0), Close(0)],
            &[Open(0, Shared, Nothing), Read(0), Close(0)],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "leases: both read in their caches, one writes",
        1,
        &[
            &[Open(0, Shared, LeaseV2(RH)), Read(0), Read(0), Close(0)],
            &[Open(0, Shared, Lease(R)), Read(0), Write(0), Close(0)],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "leases: both write",
        1,
        &[
            &[Open(0, Shared, LeaseV2(RWH)), Write(0), Close(0)],
            &[Open(0, Shared, LeaseV2(RWH)), Write(0), Read(0), Close(0)],
        ],
        &[Greedy, Obeys],
    ),
    case(
        "leases: one key, two opens, against a writer",
        1,
        &[
            &[Open(0, Shared, LeaseV2(R)), Open(1, Shared, LeaseV2(RWH)), Read(1), Close(1), Leave],
            &[Open(0, Shared, Nothing), Write(0), Leave],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "leases: one key, another open amid a break",
        1,
        &[
            &[Open(0, Shared, LeaseV2(RWH)), Open(1, Shared, LeaseV2(RWH)), Read(1), Leave],
            &[Open(0, Shared, Nothing), Write(0), Leave],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "leases: a chain, for a reader, a deleter and a writer",
        1,
        &[
            &[Open(0, Careful, LeaseV2(RWH)), Close(0)],
            &[Open(0, Shared, Nothing), Write(0), Close(0)],
            &[Open(0, Deleting, Nothing), Close(0)],
        ],
        &[Obeys, Obeys, Obeys],
    ),
    case(
        "leases: each in the other's way",
        1,
        &[
            &[Open(0, Careful, LeaseV2(RH)), Open(1, Deleting, LeaseV2(RH)), Leave],
            &[Open(0, Careful, LeaseV2(RH)), Open(1, Deleting, LeaseV2(RH)), Leave],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "leases: one who waits is in another's way",
        1,
        &[
            &[Open(0, Careful, LeaseV2(RH)), Open(1, Deleting, LeaseV2(RH))],
            &[Open(0, Careful, Lease(RH))],
            &[Open(0, Deleting, Nothing)],
        ],
        &[Obeys, Obeys, Obeys],
    ),
    case(
        "leases: never acknowledged",
        1,
        &[&[Open(0, Shared, LeaseV2(RWH)), Write(0), Leave], &[Open(0, Shared, Lease(RWH)), Read(0), Leave]],
        &[Ignores, Obeys],
    ),
    case(
        "leases: an open that waits is cancelled",
        1,
        &[
            &[Open(0, Alone, Lease(RWH)), Close(0), Leave],
            &[Open(0, Shared, LeaseV2(R)), Cancel, Close(0), Leave],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "leases: deleted under a handle",
        1,
        &[
            &[Open(0, Shared, LeaseV2(RH)), Read(0), Leave],
            &[Open(0, Deleting, Nothing), Delete(0), Cancel, Leave],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "leases: those who wait go away",
        1,
        &[&[Open(0, Shared, LeaseV2(RW)), Write(0), Leave], &[Open(0, Shared, LeaseV2(RW)), Leave]],
        &[Obeys, Obeys],
    ),
    case(
        "oplocks: batch against an open that conflicts",
        1,
        &[
            &[Open(0, Alone, Oplock(BATCH)), Write(0), Close(0)],
            &[Open(0, Shared, Oplock(BATCH)), Read(0), Close(0)],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "leases: opened and read in one frame",
        1,
        &[
            &[OpenAndRead(0, Shared, LeaseV2(RWH)), Read(0), Leave],
            &[OpenAndRead(0, Shared, Lease(R)), Write(0), Leave],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "oplocks: opened and read in one frame",
        1,
        &[
            &[OpenAndRead(0, Shared, Oplock(BATCH)), Write(0), Leave],
            &[Open(0, Shared, Nothing), Read(0), Leave],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "oplocks: exclusive and level II, two writers",
        1,
        &[
            &[Open(0, Shared, Oplock(EXCLUSIVE)), Write(0), Read(0), Close(0)],
            &[Open(0, Shared, Oplock(II)), Read(0), Write(0), Read(0), Close(0)],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "oplocks: a bad acknowledgment",
        1,
        &[&[Open(0, Shared, Oplock(BATCH)), Leave], &[Open(0, Shared, Nothing), Write(0), Leave]],
        &[Greedy, Obeys],
    ),
    case(
        "mixed: a batch oplock and a lease",
        1,
        &[
            &[Open(0, Shared, Oplock(BATCH)), Write(0), Close(0)],
            &[Open(0, Shared, LeaseV2(RWH)), Read(0), Write(0), Close(0)],
        ],
        &[Obeys, Obeys],
    ),
    case(
        "oplocks: bad acknowledgments and none",
        1,
        &[
            &[Open(0, Shared, Oplock(BATCH))],
            &[Open(0, Shared, Oplock(EXCLUSIVE)), Leave],
            &[Open(0, Shared, Nothing), Write(0)],
        ],
        &[Greedy, Ignores, Obeys],
    ),
    deep(case(
        "mixed: a batch oplock, a lease, and neither",
        1,
        &[
            &[Open(0, Shared, Oplock(BATCH)), Write(0)],
            &[Open(0, Shared, LeaseV2(RWH)), Read(0)],
            &[Open(0, Shared, Nothing), Write(0)],
        ],
        &[Obeys, Obeys, Obeys],
    )),
    deep(case(
        "two shards: three kinds",
        2,
        &[
            &[Open(0, Shared, Oplock(BATCH)), Write(0), Close(0)],
            &[Open(0, Shared, LeaseV2(RWH)), Read(0), Write(0), Close(0)],
            &[Open(0, Shared, Nothing), Write(0), Close(0)],
        ],
        &[Obeys, Obeys, Obeys],
    )),
];
