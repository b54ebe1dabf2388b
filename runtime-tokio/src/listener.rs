//! Listening sockets, one per core and address, and what accepts from them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::driver::Hub;
use crate::server::Phase;

const BACKLOG: i32 = 1024;
/// Pause after an accept that failed for want of something (file descriptors, memory).
const PAUSE: Duration = Duration::from_millis(50);
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// An accepted connection on its way to the core that will serve it.
pub(crate) type Arrival = (std::net::TcpStream, SocketAddr);

/// Listening sockets for one address, `count` of them, between which the kernel spreads connections.
pub(crate) fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
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

/// Accepts until the server stops, and gives each connection to the core that has the fewest.
pub(crate) async fn accept(
    hub: Arc<Hub>,
    listener: std::net::TcpListener,
    cores: Arc<[mpsc::UnboundedSender<Arrival>]>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "can't accept connections"),
    };
    let mut phase = hub.phase.subscribe();
    let mut complained = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
        };
        match accepted.and_then(|(stream, address)| Ok((prepare(&hub, stream)?, address))) {
            Ok(arrival) => {
                complained = false;
                dispatch(&hub, &cores, arrival);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!(%error, "can't accept connections for now");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn prepare(hub: &Hub, stream: tokio::net::TcpStream) -> io::Result<std::net::TcpStream> {
    let stream = stream.into_std()?;
    stream.set_nodelay(true)?;
    let keep_alive = TcpKeepalive::new()
        .with_time(hub.bounds.keep_alive)
        .with_interval(PROBE_INTERVAL)
        .with_retries(PROBES);
    SockRef::from(&stream).set_tcp_keepalive(&keep_alive)?;
    Ok(stream)
}

/// The kernel's spreading goes by a hash: of few connections, all may land on one core.
fn dispatch(hub: &Hub, cores: &[mpsc::UnboundedSender<Arrival>], arrival: Arrival) {
    let fewest = (0..cores.len()).min_by_key(|core| hub.cores[*core].open.get()).unwrap_or(0);
    hub.cores[fewest].accepted.add(1);
    hub.cores[fewest].open.add(1);
    if cores[fewest].send(arrival).is_err() {
        hub.cores[fewest].open.take_one();
    }
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
