//! What accepts connections from the listening sockets, one per core and address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use runtime::listen::{PAUSE, prepare};
use runtime::running::Phase;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::connection::start;
use crate::driver::Hub;

/// An accepted connection on its way to the core that will serve it.
pub(crate) type Arrival = (std::net::TcpStream, SocketAddr);

/// Accepts until the server stops, and gives each connection to the core that has the fewest.
pub(crate) async fn accept(
    hub: Arc<Hub>,
    here: usize,
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
        let dispatched = accepted.and_then(|(stream, address)| {
            prepare(&stream, &hub.common.bounds)?;
            dispatch(&hub, here, &cores, stream, address)
        });
        match dispatched {
            Ok(()) => complained = false,
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

/// The kernel's spreading goes by a hash: of few connections, all may land on one core.
fn dispatch(
    hub: &Arc<Hub>,
    here: usize,
    cores: &[mpsc::UnboundedSender<Arrival>],
    stream: TcpStream,
    address: SocketAddr,
) -> io::Result<()> {
    let fewest = hub.common.idlest_core(here);
    let counters = &hub.common.cores[fewest];
    if fewest == here {
        counters.accepted.add(1);
        counters.open.add(1);
        start(hub, here, stream, address);
        return Ok(());
    }
    // Another core has a reactor of its own.
    let stream = stream.into_std()?;
    counters.accepted.add(1);
    counters.open.add(1);
    if cores[fewest].send((stream, address)).is_err() {
        counters.open.take_one();
    }
    Ok(())
}
