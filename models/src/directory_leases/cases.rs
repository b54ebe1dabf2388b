//! The cases: who does what to directory `d`.

use smb_proto::create_context::LeaseState;

/// A request of a script. Each client has up to two opens of the directory, under one lease, and one of a file in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    /// CREATE of the directory, into this place, with a lease.
    Open(usize, How, LeaseState),
    /// QUERY_DIRECTORY, or from the cache.
    List(usize),
    /// CLOSE of an open of the directory.
    Leave(usize),
    /// CREATE of a file that is not there.
    Make(&'static str, Names),
    /// CREATE of a file that is there.
    Use(&'static str, Names),
    /// WRITE to the file.
    Write,
    /// SET_INFO: another name for it.
    Rename(&'static str),
    /// SET_INFO: delete disposition.
    Delete,
    /// CLOSE of the file.
    Close,
    /// The connection goes away, whatever is under way.
    Go,
}

/// Access to the directory, and sharing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum How {
    /// Lists, shares everything.
    Shared,
    /// Lists, shares all but deletion.
    Careful,
    /// Deletes, shares everything.
    Deleting,
}

/// What the CREATE of a file names as the lease of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Names {
    /// None.
    Nothing,
    /// The client's own. All clients have the same lease key: what makes it their own is the ClientGuid.
    Lease,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub name: &'static str,
    pub shards: u16,
    /// Only in the deep run.
    pub deep: bool,
    pub scripts: &'static [&'static [Op]],
    /// Clients never acknowledge.
    pub ignores: bool,
}

use How::{Careful, Deleting, Shared};
use Names::{Lease, Nothing};
use Op::{Close, Delete, Go, Leave, List, Make, Open, Rename, Use, Write};

const NONE: LeaseState = LeaseState::EMPTY;
const R: LeaseState = LeaseState::READ_CACHING;
const RH: LeaseState = LeaseState::READ_HANDLE;
const RWH: LeaseState = LeaseState::READ_HANDLE_WRITE;

const fn case(name: &'static str, shards: u16, scripts: &'static [&'static [Op]]) -> Case {
    Case { name, shards, deep: false, scripts, ignores: false }
}

const fn deep(case: Case) -> Case {
    Case { deep: true, ..case }
}

const fn ignored(case: Case) -> Case {
    Case { ignores: true, ..case }
}

/// `d\a` is there from the start.
pub(super) const CASES: &[Case] = &[
    case(
        "a file is made",
        2,
        &[&[Open(0, Shared, RH), List(0), List(0), Go], &[Make("d\\x", Nothing), Close]],
    ),
    case(
        "a file is made, by who lives elsewhere",
        2,
        &[&[Make("d\\x", Nothing), Close], &[Open(0, Shared, RH), List(0), List(0), Go]],
    ),
    case(
        "a file is made by who caches, under its lease",
        2,
        &[
            &[Open(0, Shared, RH), List(0), Make("d\\x", Lease), List(0), Close, Leave(0)],
            &[Open(0, Shared, RH), List(0), Leave(0)],
        ],
    ),
    case(
        "a file is made by who caches and lives elsewhere, under its lease",
        2,
        &[
            &[Open(0, Shared, RH), List(0), Go],
            &[Open(0, Shared, RH), List(0), Make("d\\x", Lease), List(0), Close, Leave(0)],
        ],
    ),
    case(
        "a file is made by who caches, under no lease",
        2,
        &[
            &[Open(0, Shared, RH), List(0), Make("d\\x", Nothing), List(0), Close, Leave(0)],
            &[Open(0, Shared, RWH), List(0), Go],
        ],
    ),
    case(
        "another client's lease has the same key",
        2,
        &[&[Open(0, Shared, RH), List(0), List(0), Leave(0)], &[Make("d\\x", Lease), Close]],
    ),
    case(
        "a file is deleted",
        2,
        &[&[Open(0, Shared, RH), List(0), List(0), Go], &[Use("d\\a", Nothing), Delete, Close]],
    ),
    case(
        "a file is deleted under a lease",
        2,
        &[
            &[Open(0, Shared, RH), List(0), Use("d\\a", Lease), Delete, Close, List(0), Go],
            &[Open(0, Shared, R), List(0), Go],
        ],
    ),
    case(
        "a file gets another name",
        2,
        &[&[Open(0, Shared, R), List(0), List(0), Leave(0)], &[Use("d\\a", Nothing), Rename("d\\b"), Close]],
    ),
    case(
        "a file goes elsewhere and comes back",
        2,
        &[
            &[Open(0, Shared, RH), List(0), List(0), Go],
            &[Use("d\\a", Nothing), Rename("b"), Rename("d\\c"), Close],
        ],
    ),
    case(
        "a file goes elsewhere under a lease",
        2,
        &[
            &[Open(0, Shared, RH), List(0), Use("d\\a", Lease), Rename("b"), List(0), Close],
            &[Open(0, Shared, RH), List(0), Go],
        ],
    ),
    case(
        "a file is written",
        2,
        &[&[Open(0, Shared, RH), List(0), List(0), Go], &[Use("d\\a", Nothing), Write, Close]],
    ),
    case(
        "a file is written under a lease",
        2,
        &[
            &[Open(0, Shared, RH), Use("d\\a", Lease), List(0), Write, Close, List(0), Leave(0)],
            &[Open(0, Shared, RH), List(0), Go],
        ],
    ),
    case(
        "a file is written by who lives elsewhere, under a lease",
        2,
        &[
            &[Open(0, Shared, R), List(0), Go],
            &[Open(0, Shared, RH), Use("d\\a", Lease), List(0), Write, Close, List(0), Leave(0)],
        ],
    ),
    case(
        "who wrote goes away",
        2,
        &[&[Open(0, Shared, RH), List(0), List(0), Leave(0)], &[Use("d\\a", Nothing), Write, Go]],
    ),
    case(
        "one lease, two opens",
        2,
        &[
            &[Open(0, Shared, R), Open(1, Shared, RH), List(1), Leave(1), List(0), Leave(0)],
            &[Make("d\\x", Nothing), Close],
        ],
    ),
    case(
        "one after the other",
        2,
        &[
            &[Open(0, Shared, RH), List(0), Leave(0), Open(0, Shared, RH), List(0), Leave(0)],
            &[Make("d\\x", Nothing), Close],
        ],
    ),
    case(
        "cached again after a break",
        2,
        &[
            &[Open(0, Shared, RH), List(0), Open(1, Shared, RH), List(0), Go],
            &[Make("d\\x", Nothing), Delete, Close],
        ],
    ),
    case(
        "an open that conflicts",
        1,
        &[
            &[Open(0, Careful, RH), List(0), Leave(0)],
            &[Open(0, Deleting, NONE), Leave(0), Make("d\\x", Nothing), Close],
        ],
    ),
    ignored(case(
        "never acknowledged",
        1,
        &[&[Open(0, Careful, RH), List(0), Go], &[Make("d\\x", Nothing), Close, Open(0, Deleting, NONE), Go]],
    )),
    ignored(case(
        "a conflict that is never acknowledged",
        1,
        &[&[Open(0, Careful, RH), List(0), Go], &[Open(0, Deleting, NONE), Leave(0), Go]],
    )),
    deep(case(
        "three clients",
        2,
        &[
            &[Open(0, Shared, RH), List(0), Make("d\\x", Lease), List(0), Close],
            &[Open(0, Shared, RH), List(0), Use("d\\a", Lease), Write, Close],
            &[Open(0, Shared, RH), List(0), List(0), Go],
        ],
    )),
    deep(case(
        "two who change",
        2,
        &[
            &[Open(0, Shared, RH), List(0), List(0), List(0), Go],
            &[Make("d\\x", Nothing), Delete, Close],
            &[Use("d\\a", Nothing), Rename("d\\b"), Write, Close],
        ],
    )),
];
