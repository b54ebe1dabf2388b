//! What connections need of tokio: a stream, a pause, mail.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use runtime::Common;
use runtime::connection::{Host, Stream};
use smb_state::event::Event;
use smb_state::ids::{ConnectionId, ShardId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::driver::{Hub, Work};
use crate::mailbox::Owned;

/// Serves a connection on this core, which is the thread's own. The caller has counted it as open.
pub(crate) fn start(hub: &Arc<Hub>, core: usize, stream: TcpStream, address: SocketAddr) {
    let open = Open { hub: Arc::clone(hub), core };
    tokio::spawn(async move {
        let here = Here(Arc::clone(&open.hub));
        runtime::connection::serve(here, open.core, Tcp(stream), address).await;
        drop(open);
    });
}

/// Counts a connection as open.
struct Open {
    hub: Arc<Hub>,
    core: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.hub.common.cores[self.core].open.take_one();
    }
}

/// The server, as a connection sees it.
pub(crate) struct Here(Arc<Hub>);

impl Host for Here {
    type Stream = Tcp;
    type Sleep = Sleep;
    type Mailbox = Owned;

    fn common(&self) -> &Common {
        &self.0.common
    }

    fn run(&self, work: impl IntoIterator<Item = (ShardId, Event)>) {
        self.0.run(work.into_iter().map(|(shard, event)| Work::Event(shard, event)));
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        tokio::time::sleep(duration)
    }

    /// What yields is woken after the driver was polled; what wakes itself, only after many other tasks.
    fn after_others(&self, context: &mut Context<'_>) -> Option<Pin<Box<Sleep>>> {
        if pin!(tokio::task::yield_now()).poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        None
    }

    fn open_mailbox(&self, connection: ConnectionId, peer: SocketAddr) -> Owned {
        self.0.mailboxes.open(connection, peer)
    }

    fn remove_mailbox(&self, connection: ConnectionId) {
        self.0.mailboxes.remove(connection);
    }

    fn run_request(&self, _: &Owned, work: (ShardId, Event)) {
        self.run([work]);
    }

    /// One thread does everything at once, whichever shards it takes.
    fn poll_settled(&self, _: &Owned, _: &Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// A connection's socket.
pub(crate) struct Tcp(TcpStream);

impl Stream for Tcp {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_extend(
        &mut self,
        context: &mut Context<'_>,
        frame: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let mut target = frame.limit(limit);
        pin!(self.0.read_buf(&mut target)).poll(context)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn acknowledge(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        self.0.set_quickack(true)?;
        Ok(())
    }
}
