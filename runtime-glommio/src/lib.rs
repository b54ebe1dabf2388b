//! Drives the core with glommio: one executor per core, on io_uring.
//!
//! A shard belongs to a core and is stepped there only, without a lock. The task that read a request steps the shard, asks
//! storage and writes the response; what concerns another core's shard or connection goes through that core's inlet, as
//! do the answers of storage that had to wait. A connection's home is a shard of the core that serves it, so the
//! ordinary path never leaves the core.
//!
//! File I/O that the page cache can answer is done inline by the driver; the rest goes to the driver's threads, not to
//! io_uring: a driver hands over closures, not requests that a ring could carry out.
//!
//! * [`server`]: what an embedder uses
//! * `listener`, `connection`, `mailbox`: sockets, one task per connection
//! * `driver`: the step loop and the carrying out of actions
//! * `mesh`: what cores share, and the inlets between them
//! * `timers`, `storage`, `admin`: the other ends of events and actions
#![cfg(target_os = "linux")]

pub mod server;

mod admin;
mod connection;
mod driver;
mod listener;
mod mailbox;
mod mesh;
mod storage;
mod timers;

pub use server::{Server, ServerHandle, available};
