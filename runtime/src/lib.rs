//! What every runtime adapter needs alike, written once and for no runtime.
//!
//! An adapter supplies a [`connection::Host`]: how events reach shards, how a connection gets its mail, what a stream and
//! a pause are. Everything that a client could notice comes from here, so that it cannot tell the adapters apart.
//!
//! * [`config`], [`running`]: what an embedder starts a server with, and what it gets
//! * [`common`]: what all tasks of a server share; [`metrics`], [`payloads`]
//! * [`connection`], [`frame`], [`auth`]: a connection's life, over any stream; `room`: memory for its large frames
//! * [`storage`], [`offload`]: requests to drivers, and threads for those that block
//! * [`records`]: what outlives the server of persistent opens
//! * [`listen`], [`timers`], [`audit`]: sockets, the table of timers, the audit log

pub mod audit;
pub mod auth;
pub mod common;
pub mod config;
pub mod connection;
pub mod frame;
pub mod listen;
pub mod metrics;
pub mod offload;
pub mod payloads;
pub mod records;
mod room;
pub mod running;
pub mod storage;
pub mod timers;

pub use common::Common;
pub use config::{Bounds, Cores, ServerConfig};
pub use metrics::Metrics;
pub use offload::BlockingPool;
pub use records::Recovery;
pub use running::{Leftovers, Running};
