//! Drives the core with tokio.
//!
//! One current-thread runtime per core, each with listeners of its own (SO_REUSEPORT). The task that read a request
//! locks the request's shard, steps it, unlocks, asks storage, and writes the response; another thread is woken only when
//! somebody else's connection is concerned or storage has to wait. A shard is behind a lock that any core may take,
//! so a connection whose work touches several shards still runs on one thread.
//!
//! * [`server`]: what an embedder uses
//! * `listener`, `connection`, `mailbox`: sockets, one task per connection
//! * `driver`: the step loop and the carrying out of actions
//! * `mesh`: shards, their locks and the messages between them
//! * `timers`, `storage`, `admin`: the other ends of events and actions

pub mod server;

mod admin;
mod connection;
mod driver;
mod listener;
mod mailbox;
mod mesh;
mod storage;
mod timers;

pub use server::{Server, ServerHandle};
