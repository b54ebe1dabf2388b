//! Drives the core with glommio: one executor per core, on io_uring.
//!
//! A shard belongs to a core and is stepped there only, without a lock. The task that read a request steps the shard, asks
//! storage and writes the response; what concerns another core's shard or connection goes through that core's inlet, as
//! do the answers of storage that had to wait. A connection's home is a shard of the core that serves it, so the
//! ordinary path never leaves the core.
//!
//! File I/O that the page cache can answer is done inline by the driver. What has to wait goes to a ring of the core's own,
//! if the driver was made with a [`RingOffload`].
//!
//! * [`server`]: what an embedder uses
//! * `listener`, `connection`, `mailbox`: sockets, one task per connection
//! * `driver`: the step loop and the carrying out of actions
//! * `mesh`: what cores share, and the inlets between them
//! * `files`, `ring`: file I/O that has to wait
//! * `timers`, `storage`, `admin`: the other ends of events and actions
#![cfg(target_os = "linux")]

pub mod server;

mod admin;
mod connection;
mod driver;
mod files;
mod listener;
mod mailbox;
mod mesh;
mod ring;
mod storage;
mod timers;

pub use files::RingOffload;
pub use server::{Server, ServerHandle, available};
