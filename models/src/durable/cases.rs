//! Who comes and goes, and what they ask for.

/// What a durable open asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ask {
    /// A batch oplock, DHnQ.
    BatchV1,
    /// A batch oplock, DH2Q.
    BatchV2,
    /// The same, sharing nothing.
    AloneV2,
    /// A lease of version 2 with R and H, DH2Q.
    LeaseRh,
    /// The same with W.
    LeaseRwh,
}

impl Ask {
    pub(super) fn is_lease(self) -> bool {
        match self {
            Self::LeaseRh | Self::LeaseRwh => true,
            Self::BatchV1 | Self::BatchV2 | Self::AloneV2 => false,
        }
    }
}

/// What a client that comes back shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Show {
    /// What it had.
    Right,
    /// Another CreateGuid.
    OtherGuid,
    /// Another lease key.
    OtherKey,
    /// No lease.
    NoLease,
    /// Another name.
    OtherName,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    /// CREATE of the durable open.
    Open,
    /// The same CREATE is sent again, with the replay flag or without.
    Again { replay: bool },
    /// CREATE that comes back for the open.
    Reclaim(Show),
    /// CREATE under the same lease, not durable.
    Join,
    /// CREATE of READ_ATTRIBUTES, in nobody's way.
    Look,
    /// CREATE to read, sharing everything.
    Read,
    /// CREATE to read and write, sharing everything.
    Share,
    /// CREATE to read and write, sharing nothing.
    Alone,
    /// CLOSE.
    Close,
    /// LOGOFF.
    Logoff,
    /// The connection ends.
    Leave,
}

/// A connection with its session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    /// Where; modulo the number of shards.
    pub(super) shard: u16,
    /// Its ClientGuid.
    pub(super) client: u8,
    pub(super) user: u32,
    pub(super) script: &'static [Op],
}

/// A set of scripts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) shards: u16,
    pub(super) ask: Ask,
    pub(super) lanes: &'static [Lane],
    /// Breaks time out at any moment.
    pub(super) timeouts: bool,
    /// Only for the deep bound.
    pub(super) deep: bool,
}

const OWNER: Lane = Lane { shard: 0, client: 1, user: 1, script: &[Op::Open, Op::Leave] };
const BACK: Lane = Lane { shard: 1, script: &[Op::Reclaim(Show::Right), Op::Close, Op::Leave], ..OWNER };
const BACK_AND_AWAY: Lane = Lane { script: &[Op::Reclaim(Show::Right), Op::Leave], ..BACK };
const RIVAL: Lane = Lane { shard: 1, client: 2, user: 2, script: &[Op::Share, Op::Close, Op::Leave] };
const THIEF: Lane = Lane { shard: 1, client: 3, user: 2, script: &[Op::Reclaim(Show::Right), Op::Leave] };

const fn rival(script: &'static [Op]) -> Lane {
    Lane { script, ..RIVAL }
}

const fn case(name: &'static str, shards: u16, ask: Ask, lanes: &'static [Lane]) -> Case {
    Case { name, shards, ask, lanes, timeouts: false, deep: false }
}

pub(super) const CASES: &[Case] = &[
    case("a batch oplock, and its client comes back", 1, Ask::BatchV1, &[OWNER, BACK]),
    case("the same on two shards", 2, Ask::BatchV2, &[OWNER, BACK]),
    case("twice, from shard to shard", 2, Ask::BatchV2, &[OWNER, BACK_AND_AWAY, Lane { shard: 0, ..BACK }]),
    case("a lease, and its client comes back", 2, Ask::LeaseRh, &[OWNER, BACK]),
    case(
        "after a LOGOFF",
        2,
        Ask::BatchV2,
        &[Lane { script: &[Op::Open, Op::Logoff, Op::Leave], ..OWNER }, BACK],
    ),
    case("somebody wants the file", 1, Ask::BatchV1, &[OWNER, BACK, RIVAL]),
    case("somebody wants the file, on two shards", 2, Ask::BatchV2, &[OWNER, BACK, RIVAL]),
    case(
        "the owner's file is elsewhere",
        2,
        Ask::BatchV2,
        &[Lane { shard: 1, ..OWNER }, Lane { shard: 0, ..BACK }, Lane { shard: 0, ..RIVAL }],
    ),
    case("shared by nobody", 2, Ask::AloneV2, &[OWNER, BACK, RIVAL]),
    case(
        "a lease against who shares nothing",
        2,
        Ask::LeaseRh,
        &[OWNER, BACK, rival(&[Op::Alone, Op::Close, Op::Leave])],
    ),
    case(
        "a lease, and who is not in its way",
        2,
        Ask::LeaseRh,
        &[OWNER, BACK, rival(&[Op::Read, Op::Close, Op::Leave])],
    ),
    case(
        "a batch oplock, and who is not in its way",
        2,
        Ask::BatchV2,
        &[OWNER, BACK, rival(&[Op::Look, Op::Close, Op::Leave])],
    ),
    case("another user", 2, Ask::BatchV2, &[OWNER, BACK, THIEF]),
    case("another user, of the same client", 1, Ask::BatchV1, &[OWNER, Lane { client: 1, ..THIEF }, BACK]),
    case("another client with the lease's key", 2, Ask::LeaseRh, &[OWNER, Lane { user: 1, ..THIEF }, BACK]),
    case(
        "another CreateGuid",
        2,
        Ask::BatchV2,
        &[OWNER, Lane { script: &[Op::Reclaim(Show::OtherGuid), Op::Leave], ..BACK }],
    ),
    case(
        "another lease, name, none",
        1,
        Ask::LeaseRh,
        &[
            OWNER,
            Lane {
                script: &[
                    Op::Reclaim(Show::OtherKey),
                    Op::Reclaim(Show::NoLease),
                    Op::Reclaim(Show::OtherName),
                    Op::Leave,
                ],
                ..BACK
            },
        ],
    ),
    case(
        "sent twice",
        2,
        Ask::BatchV2,
        &[Lane { script: &[Op::Open, Op::Again { replay: true }, Op::Close, Op::Leave], ..OWNER }],
    ),
    case(
        "sent twice, by a client of the other shard",
        2,
        Ask::BatchV2,
        &[Lane { client: 2, script: &[Op::Open, Op::Again { replay: true }, Op::Close, Op::Leave], ..OWNER }],
    ),
    case(
        "sent twice, and not said so",
        1,
        Ask::BatchV2,
        &[Lane { script: &[Op::Open, Op::Again { replay: false }, Op::Close, Op::Leave], ..OWNER }],
    ),
    case(
        "sent twice while somebody wants the file",
        2,
        Ask::BatchV2,
        &[
            Lane { script: &[Op::Open, Op::Again { replay: true }, Op::Close, Op::Leave], ..OWNER },
            rival(&[Op::Share, Op::Leave]),
        ],
    ),
    case(
        "sent twice after it came back",
        2,
        Ask::BatchV2,
        &[
            OWNER,
            Lane {
                script: &[Op::Reclaim(Show::Right), Op::Again { replay: true }, Op::Close, Op::Leave],
                ..BACK
            },
        ],
    ),
    case("a lease with W, and somebody wants the file", 2, Ask::LeaseRwh, &[OWNER, BACK, RIVAL]),
    case(
        "one under the lease stays",
        1,
        Ask::LeaseRh,
        &[
            OWNER,
            Lane { script: &[Op::Join, Op::Close, Op::Leave], ..BACK },
            rival(&[Op::Alone, Op::Close, Op::Leave]),
        ],
    ),
    case(
        "one under the lease stays and takes up the other",
        2,
        Ask::LeaseRh,
        &[OWNER, Lane { script: &[Op::Join, Op::Leave], ..BACK }, Lane { shard: 0, ..BACK }],
    ),
    Case {
        timeouts: true,
        ..case("a break times out", 1, Ask::BatchV2, &[OWNER, BACK, rival(&[Op::Share, Op::Leave])])
    },
    Case {
        deep: true,
        timeouts: true,
        ..case("everybody at once", 2, Ask::BatchV2, &[OWNER, BACK_AND_AWAY, RIVAL, THIEF])
    },
    Case {
        deep: true,
        timeouts: true,
        ..case(
            "a lease, and everybody at once",
            2,
            Ask::LeaseRh,
            &[OWNER, BACK_AND_AWAY, rival(&[Op::Alone, Op::Close, Op::Leave]), THIEF],
        )
    },
];
