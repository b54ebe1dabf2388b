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
    bounds: &Bounds,
) -> io::Result<(Vec<Vec<std::net::TcpListener>>, Vec<SocketAddr>)> {
    let mut per_core: Vec<Vec<std::net::TcpListener>> = (0..cores).map(|_| Vec::new()).collect();
    let mut bound = Vec::new();
    for address in addresses {
        let sockets = bind(*address, cores, bounds)?;
        bound.extend(sockets.first().map(std::net::TcpListener::local_addr).transpose()?);
        for (core, socket) in per_core.iter_mut().zip(sockets) {
            core.push(socket);
        }
    }
    Ok((per_core, bound))
}

/// Listening sockets for one address, `count` of them, between which the kernel spreads connections.
fn bind(address: SocketAddr, count: usize, bounds: &Bounds) -> io::Result<Vec<std::net::TcpListener>> {
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
            set_options(&SockRef::from(&socket), bounds)?;
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

/// Sets what an accepted connection has not taken over from its listening socket.
///
/// # Errors
/// When the connection is gone already.
pub fn prepare(stream: &impl AsFd, bounds: &Bounds) -> io::Result<()> {
    // Linux copies all of it, which saves six system calls for each connection.
    if cfg!(target_os = "linux") { Ok(()) } else { set_options(&SockRef::from(stream), bounds) }
}

fn set_options(socket: &SockRef<'_>, bounds: &Bounds) -> io::Result<()> {
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
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 3, &Bounds::default()).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
        assert_eq!(bind(address, 1, &Bounds::default()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(sockets);
        assert!(bind(address, 2, &Bounds::default()).is_ok());
    }

    #[test]
    fn accepted_connections_have_the_options() {
        let bounds = Bounds::default();
        let listener = bind("127.0.0.1:0".parse().unwrap(), 1, &bounds).unwrap().remove(0);
        listener.set_nonblocking(false).unwrap();
        let _peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        prepare(&stream, &bounds).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNANSWERED));
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), bounds.keep_alive);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
    }
}
