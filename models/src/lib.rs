//! Stateright models that run the production machines of `smb-state`.
//!
//! [`harness`] has what a shard needs around it and watches its boundary; each other module is one model and says what it
//! models, what it leaves out, its bounds, its properties and its size at the last run.

use harness::run::Entry;

pub mod credits;
pub mod directory_leases;
pub mod durable;
pub mod harness;
pub mod leases;
pub mod locks;
pub mod notify;
pub mod persistent;
pub mod session;
pub mod two_shards;

/// Every model.
pub const MODELS: &[Entry] = &[
    credits::ENTRY,
    directory_leases::ENTRY,
    durable::ENTRY,
    leases::ENTRY,
    locks::ENTRY,
    notify::ENTRY,
    persistent::ENTRY,
    session::ENTRY,
    two_shards::ENTRY,
];
