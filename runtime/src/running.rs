//! A server that runs, whatever runs it.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

use smb_state::event::Admin;

use crate::metrics::Metrics;
use crate::records::Recovery;

/// Pause between two looks at what a shutdown still waits for.
const SHUTDOWN_LOOK: Duration = Duration::from_millis(5);
/// What a shutdown still waits for after its timeout, when connections have been told to go at once.
pub const KILL_GRACE: Duration = Duration::from_secs(2);

/// How far a server's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It accepts and serves.
    Serving,
    /// It accepts no more and lets connections end.
    Draining,
    /// Everything ends now.
    Killed,
}

/// A running server. Dropping it stops the server without waiting for its clients.
pub trait Running: Send + Sync {
    /// The addresses that are listened on, with real ports, in the order of [`crate::ServerConfig::listen`].
    fn addresses(&self) -> &[SocketAddr];

    /// Gives an order to every shard: new shares, new limits, end a session. Returns when all have carried it out.
    fn reload(&self, order: &Admin);

    /// What became of persistent opens at the start, if there is a store for them.
    fn recovery(&self) -> Option<Recovery>;

    /// The counters.
    fn metrics(&self) -> Metrics;

    /// Waits until the server can't go on because a step panicked; then only shutting down is left. The future may be
    /// polled on any runtime.
    fn failed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Whether [`Self::failed`] would return.
    fn has_failed(&self) -> bool;

    /// Stops accepting, lets every connection send its responses and end, and cuts off what is left after `timeout`.
    fn shutdown(self: Box<Self>, timeout: Duration) -> Leftovers;
}

/// What was left when a server stopped. All zero unless the timeout was too short or something is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Connections that were cut off.
    pub connections: u64,
    /// Storage requests that were not answered.
    pub storage_requests: usize,
    /// Payloads that nobody gave back.
    pub buffers: usize,
}

/// Looks again and again, for at most `timeout`, whether something is `done`.
pub fn wait(timeout: Duration, done: impl Fn() -> bool) {
    let deadline = Instant::now() + timeout;
    while !done() && Instant::now() < deadline {
        std::thread::sleep(SHUTDOWN_LOOK);
    }
}
