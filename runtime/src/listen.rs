//! Listening sockets, one per core and address, and how accepted ones are set.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::config::Bounds;

const BACKLOG: i32 = 1024;
/// Pause after an accept that failed for want of something (file descriptors, memory).
pub const PAUSE: Duration = Duration::from_millis(50);
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// Binds every address once for each core. Returns each core's sockets, and the addresses with real ports.
///
/// # Errors
/// When one can't be bound.
pub fn bind_all(
    addresses: &[SocketAddr],
    cores: usize,
) -> io::Result<(Vec<Vec<std::net::TcpListener>>, Vec<SocketAddr>)> {
    let mut per_core: Vec<Vec<std::net::TcpListener>> = (0..cores).map(|_| Vec::new()).collect();
    let mut bound = Vec::new();
    for address in addresses {
        let sockets = bind(*address, cores)?;
        bound.extend(sockets.first().map(std::net::TcpListener::local_addr).transpose()?);
        for (core, socket) in per_core.iter_mut().zip(sockets) {
            core.push(socket);
        }
    }
    Ok((per_core, bound))
}

/// Listening sockets for one address, `count` of them, between which the kernel spreads connections.
fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    // Sockets that share a port share it with every process of the same user, so a second server would quietly take a
    // part of the first one's connections. A socket that doesn't share finds that out.
    let probe = socket(address)?;
    probe.bind(&address.into())?;
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    (0..count)
        .map(|_| {
            let socket = socket(address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        })
        .collect()
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// How long what was sent may stay unacknowledged by the peer's TCP. Less than a client has to acknowledge a break, so that one
/// that was sent into a dead path is told again on another channel in time.
const UNANSWERED: Duration = Duration::from_secs(30);

/// Sets an accepted connection's options.
///
/// # Errors
/// When the connection is gone already.
pub fn prepare(stream: &impl AsFd, bounds: &Bounds) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(UNANSWERED))?;
    let keep_alive =
        TcpKeepalive::new().with_time(bounds.keep_alive).with_interval(PROBE_INTERVAL).with_retries(PROBES);
    socket.set_tcp_keepalive(&keep_alive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_share_a_port_that_nobody_else_gets() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
        assert_eq!(bind(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(sockets);
        assert!(bind(address, 2).is_ok());
    }
}
