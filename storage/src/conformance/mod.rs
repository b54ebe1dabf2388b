//! One suite that every driver passes. Each case gets a volume of its own; what a volume cannot do ([`VolumeCaps`]) is not
//! asked of it.
//!
//! [`VolumeCaps`]: smb_state::storage::VolumeCaps

mod client;
mod data;
mod extents;
mod extras;
mod listing;
mod metadata;
mod names;

use std::sync::Arc;

pub use client::{Answer, Client};

use crate::driver::Driver;

/// A case: its name, and what it does with a fresh volume. It panics when the driver fails.
pub type Case = (&'static str, fn(&Client));

/// All cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    [names::CASES, data::CASES, metadata::CASES, listing::CASES, extras::CASES, extents::CASES].concat()
}

/// Runs all cases, each on a volume that `make` makes, and checks that every handle was given back. The driver that `make`
/// gives is kept until the case ends.
///
/// # Panics
/// When the driver fails a case; the message names the cases.
pub fn run(make: impl Fn() -> Arc<dyn Driver>) {
    let mut failed = Vec::new();
    for (name, case) in cases() {
        let client = Client::new(make());
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&client))).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "the driver fails {failed:?}");
}
