//! What connections need of glommio: a stream, a pause, mail.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use glommio::timer::Timer;
use runtime::config::Bounds;
use runtime::connection::{Host, Stream};
use runtime::{Common, listen};
use rustix::net::{RecvFlags, SendFlags};
use smb_state::event::Event;
use smb_state::ids::{ConnectionId, ShardId};
use socket2::SockRef;

use crate::driver::Core;
use crate::mailbox::Owned;

/// A pause that is over as soon as glommio gets to look at timers, and not yet when it is begun.
const BREATH: Duration = Duration::from_micros(2);
const RECEIVE: i32 = RecvFlags::DONTWAIT.bits() as i32;
/// A peer that is gone is an error, not a signal.
const SEND: i32 = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL).bits() as i32;

/// Serves a connection to its end, on its own core. The caller has counted it as open.
pub(crate) async fn serve(core: Rc<Core>, stream: Tcp, address: SocketAddr) {
    let _open = Open(Rc::clone(&core));
    let mut connection =
        pin!(runtime::connection::serve(Here(Rc::clone(&core)), core.index, stream, address));
    // glommio lets a panic of one task end the executor, and with it everybody's connections.
    let ended =
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| connection.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(true),
            Err(_) => Poll::Ready(false),
        });
    if !ended.await {
        tracing::error!(%address, "serving a connection panicked");
    }
}

/// Counts a connection as open.
struct Open(Rc<Core>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.hub.common.cores[self.0.index].open.take_one();
    }
}

/// The core, as a connection sees it.
struct Here(Rc<Core>);

impl Host for Here {
    type Stream = Tcp;
    type Sleep = Sleep;
    type Mailbox = Owned;

    fn common(&self) -> &Common {
        &self.0.hub.common
    }

    fn run(&self, work: impl IntoIterator<Item = (ShardId, Event)>) {
        self.0.run(work);
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Sleep(Timer::new(duration))
    }

    /// As long as a task is ready to run, glommio does not look at sockets for a long time (`LOOK_AFTER`). It looks at them
    /// before it looks at timers.
    fn after_others(&self, context: &mut Context<'_>) -> Option<Pin<Box<Sleep>>> {
        let mut pause = Box::pin(self.sleep(BREATH));
        match pause.as_mut().poll(context) {
            Poll::Pending => Some(pause),
            Poll::Ready(()) => {
                context.waker().wake_by_ref();
                None
            }
        }
    }

    fn open_mailbox(&self, connection: ConnectionId, peer: SocketAddr) -> Owned {
        self.0.mailboxes.open(connection, peer)
    }

    fn remove_mailbox(&self, connection: ConnectionId) {
        self.0.mailboxes.remove(connection);
    }

    fn run_request(&self, mailbox: &Owned, work: (ShardId, Event)) {
        self.0.run_for(Some(mailbox.errands().begin()), [work]);
    }

    fn poll_settled(&self, mailbox: &Owned, context: &Context<'_>) -> Poll<()> {
        mailbox.errands().poll_done(context)
    }
}

/// A pause.
struct Sleep(Timer);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(drop)
    }
}

/// A connection's socket. Reading and writing are tried at once; where that would wait, the ring tells when to try again.
pub(crate) struct Tcp {
    stream: TcpStream,
    /// It is served here.
    stays: bool,
}

impl Tcp {
    /// A connection that was accepted on this executor.
    pub(crate) fn of(stream: TcpStream) -> Self {
        Self { stream, stays: true }
    }

    /// Takes over a connection, on the executor that will serve it.
    pub(crate) fn new(stream: std::net::TcpStream) -> Self {
        // SAFETY: `into_raw_fd` gives up ownership of an open descriptor, which has this owner alone from here on.
        Self::of(unsafe { TcpStream::from_raw_fd(stream.into_raw_fd()) })
    }

    /// Sets its options.
    pub(crate) fn prepare(&self, bounds: &Bounds) -> io::Result<()> {
        listen::prepare(&self.descriptor(), bounds)
    }

    /// Gives it up to another core: glommio's own stream is bound to this one, so it goes on as a plain one.
    pub(crate) fn leave(mut self) -> io::Result<std::net::TcpStream> {
        let owned: OwnedFd = self.descriptor().try_clone_to_owned()?;
        self.stays = false;
        Ok(owned.into())
    }

    /// The socket, for what glommio has no call for.
    fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream owns the descriptor and is borrowed for as long as the result is.
        unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) }
    }
}

impl Stream for Tcp {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }

    fn poll_extend(
        &mut self,
        context: &mut Context<'_>,
        frame: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let room = frame.spare_capacity_mut();
        let limit = limit.min(room.len());
        match SockRef::from(&self.descriptor()).recv_with_flags(&mut room[..limit], RECEIVE) {
            Ok(length) => {
                // SAFETY: the kernel has written `length` bytes, no more than `limit`, to the start of the spare capacity.
                unsafe { frame.advance_mut(length) };
                return Poll::Ready(Ok(length));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        // glommio leaves the waker only where it has found nothing itself.
        let mut byte = [0];
        match Pin::new(&mut self.stream).poll_read(context, &mut byte) {
            Poll::Ready(Ok(length)) => {
                frame.extend_from_slice(&byte[..length]);
                Poll::Ready(Ok(length))
            }
            other => other,
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        // glommio would copy nothing either, but write one slice at a time.
        if slices.len() > 1 {
            match SockRef::from(&self.descriptor()).send_vectored_with_flags(slices, SEND) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        Pin::new(&mut self.stream).poll_write(context, first)
    }

    fn acknowledge(&self) -> io::Result<()> {
        Ok(rustix::net::sockopt::set_tcp_quickack(self.descriptor(), true)?)
    }
}

impl Drop for Tcp {
    /// The ring may still wait for the socket, which keeps it open after it is closed: the peer shall see the end now.
    fn drop(&mut self) {
        if !self.stays {
            return;
        }
        // The peer may be gone already, and nobody is left to tell.
        let _ = SockRef::from(&self.descriptor()).shutdown(Shutdown::Both);
    }
}
