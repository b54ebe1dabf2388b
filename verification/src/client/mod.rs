//! An SMB 2 and 3 client on the codec's client direction, for load and for tests: it says what it is told to say, and
//! checks what comes back (signatures, encryption, message ids, commands).
//!
//! Sockets are blocking, and a [`Connection`] belongs to one thread. Requests are [submitted](Connection::submit) and
//! responses [received](Connection::receive) separately, so that as many are under way as credits allow;
//! [`Connection::call`] and the operations on files do one after the other.
//!
//! A session can be carried by several connections ([`Connection::bind`]).
//!
//! Deliberately not done: compression, reconnecting. Leases can be asked for with create contexts; their
//! breaks are handed out by [`Connection::take_break`].

mod connection;
mod error;
mod link;
mod operations;
mod options;
mod session;
mod transport;

#[cfg(test)]
mod tests;

pub use connection::{Connection, Protection, Reply, Session, Target, Tree};
pub use error::{Error, Result};
pub use link::Link;
pub use operations::{directory_request, info_request, open, read_request};
pub use options::{Negotiated, Options};
pub use transport::Transport;

/// Random bytes from the system.
fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(std::io::Error::from)?;
    }
    Ok(bytes)
}
