//! Drives the core with tokio.
//!
//! One current-thread runtime per core, each with listeners of its own (SO_REUSEPORT). The task that read a request
//! locks the request's shard, steps it, unlocks, asks storage, and writes the response; another thread is woken only when
//! somebody else's connection is concerned or storage has to wait. A shard is behind a lock that any core may take,
//! so a connection whose work touches several shards still runs on one thread.
//!
//! * [`config`], [`server`]: what an embedder uses
//! * `listener`, `connection`, `frame`, `mailbox`: sockets, one task per connection
//! * `driver`: the step loop and the carrying out of actions
//! * `mesh`: shards, their locks and the messages between them
//! * `timers`, `storage`, `auth`, `admin`, `metrics`: the other ends of events and actions
//! * [`offload`]: threads for work that blocks

pub mod config;
pub mod metrics;
pub mod offload;
pub mod server;

mod admin;
mod auth;
mod connection;
mod driver;
mod frame;
mod listener;
mod mailbox;
mod mesh;
mod payloads;
mod storage;
mod timers;

pub use config::{Bounds, ServerConfig};
pub use offload::BlockingPool;
pub use server::{Server, ServerHandle};
