//! What accepts connections from the listening sockets, one per core and address.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::Rc;
use std::time::Duration;

use glommio::GlommioError;
use glommio::net::{TcpListener, TcpStream};
use glommio::timer::Timer;
use runtime::listen::PAUSE;
use runtime::running::Phase;

use crate::connection::{self, Tcp};
use crate::driver::Core;
use crate::mesh::Foreign;

/// How often to look whether connections may be accepted.
const RECOVERY_LOOK: Duration = Duration::from_millis(1);

/// Accepts until the server stops, which shuts the socket down, and gives each connection to the core that has the fewest.
pub(crate) async fn accept(core: Rc<Core>, listener: std::net::TcpListener) {
    // SAFETY: `into_raw_fd` gives up ownership of an open descriptor, which has this owner alone from here on.
    let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
    // What persistent opens hold must be there before anybody comes.
    while !core.hub.common.records.is_recovered() && core.hub.phase() == Phase::Serving {
        Timer::new(RECOVERY_LOOK).await;
    }
    let mut complained = false;
    loop {
        let accepted = accept_one(&listener).await;
        if core.hub.phase() != Phase::Serving {
            return;
        }
        match accepted {
            Ok((stream, address)) => {
                complained = false;
                dispatch(&core, stream, address);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!(%error, "can't accept connections for now");
                }
                Timer::new(PAUSE).await;
            }
        }
    }
}

async fn accept_one(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let stream = listener.accept().await.map_err(io_error)?;
    // A peer that is gone already is nobody's fault and no reason to pause.
    let gone = |error: GlommioError<()>| io::Error::new(io::ErrorKind::ConnectionAborted, io_error(error));
    let address = stream.peer_addr().map_err(gone)?;
    Ok((stream, address))
}

pub(crate) fn io_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// The kernel's spreading goes by a hash: of few connections, all may land on one core.
fn dispatch(core: &Rc<Core>, stream: TcpStream, address: SocketAddr) {
    let common = &core.hub.common;
    let fewest = common.idlest_core(core.index);
    let stream = Tcp::of(stream);
    if let Err(error) = stream.prepare(&common.bounds) {
        return tracing::debug!(%error, %address, "a connection was gone before it was served");
    }
    let count = || {
        common.cores[fewest].accepted.add(1);
        common.cores[fewest].open.add(1);
    };
    if fewest == core.index {
        count();
        return start(core, stream, address);
    }
    match stream.leave() {
        Ok(stream) => {
            count();
            core.hub.post(fewest, Foreign::Arrival(stream, address));
        }
        Err(error) => tracing::warn!(%error, %address, "can't hand over a connection"),
    }
}

/// Serves a connection on this core. The caller has counted it as open.
pub(crate) fn start(core: &Rc<Core>, stream: Tcp, address: SocketAddr) {
    glommio::spawn_local(connection::serve(Rc::clone(core), stream, address)).detach();
}
