//! Pure state machines of an SMB 2/3 server: events in, actions out.
//!
//! [`Shard::step`] consumes one [`Event`] and pushes [`Action`]s; an adapter carries them out and brings back what they
//! lead to. There is no clock, no randomness, no I/O and no payload in here, so what stateright explores is what ships.
//!
//! ```text
//! frames -> Endpoint -> Event::Request -> Shard { Connection -> Session -> Open -> File, Namespace, Client } -> Action
//!                                            Output -> Endpoint -> frames          Submit -> storage -> Event::Completed
//! ```
//!
//! * [`event`], [`action`], [`request`], [`response`], [`storage`], [`timer`], [`ids`], [`config`]: what passes in and out
//! * [`endpoint`]: a connection's keys, hashes and codec; shares no state with the shard
//! * [`security`]: who asks, and what security descriptors grant
//! * [`message`]: what machines say to each other, within a shard and between shards
//! * [`connection`], [`session`], [`open`], [`mod@file`], [`namespace`], [`client`]: the machines
//! * [`record`]: what outlives the server of a persistent open
//! * [`watch`]: change notification, which every shard takes part in

pub mod action;
pub mod client;
pub mod config;
pub mod connection;
pub mod endpoint;
pub mod event;
pub mod file;
pub mod ids;
pub mod message;
pub mod namespace;
pub mod open;
pub mod record;
pub mod request;
pub mod response;
pub mod security;
pub mod session;
pub mod shard;
pub mod slots;
pub mod storage;
pub mod timer;
pub mod watch;

pub use action::{Action, Actions};
pub use event::Event;
pub use shard::Shard;
