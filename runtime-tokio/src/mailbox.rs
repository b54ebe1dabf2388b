//! What other threads leave for a connection's task: outputs of shards, and storage's answers to be stepped there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Waker};

use runtime::connection::{self, Mail};
use smb_state::action::Output;
use smb_state::event::Event;
use smb_state::ids::{ConnectionId, ShardId};

/// One connection's mailbox. Whoever holds a shard's lock posts into it, so outputs lie in the order in which the shard
/// emitted them.
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    /// Whose connection it is, for the log.
    peer: SocketAddr,
}

/// The owner's end of a mailbox.
pub(crate) struct Owned(Arc<Mailbox>);

/// An event for a shard.
type Work = (ShardId, Event);

#[derive(Default)]
struct Inner {
    mail: Mail,
    /// Set while the owner waits.
    waker: Option<Waker>,
    closed: bool,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that can panic runs under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post_output(&self, output: Output) -> Result<Option<Waker>, Output> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(output);
        }
        inner.mail.outputs.push_back(output);
        Ok(inner.waker.take())
    }

    fn post_work(&self, work: Work) -> Result<Option<Waker>, Box<Work>> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Box::new(work));
        }
        inner.mail.work.push_back(work);
        Ok(inner.waker.take())
    }

    fn kill(&self) -> Option<Waker> {
        let mut inner = self.lock();
        inner.mail.kill = true;
        inner.waker.take()
    }
}

impl connection::Mailbox for Owned {
    fn take(&self, mail: &mut Mail, context: &Context<'_>) -> bool {
        let mut inner = self.0.lock();
        if inner.mail.is_empty() {
            match &mut inner.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return false;
        }
        inner.waker = None;
        std::mem::swap(&mut inner.mail, mail);
        true
    }

    fn close(&self) -> Mail {
        let mut inner = self.0.lock();
        inner.closed = true;
        inner.waker = None;
        std::mem::take(&mut inner.mail)
    }
}

const STRIPES: usize = 64;
type Stripe = RwLock<HashMap<ConnectionId, Arc<Mailbox>>>;

/// Every connection's mailbox.
pub(crate) struct Mailboxes(Box<[Stripe]>);

impl Mailboxes {
    pub(crate) fn new() -> Self {
        Self((0..STRIPES).map(|_| Stripe::default()).collect())
    }

    fn stripe(&self, connection: ConnectionId) -> &Stripe {
        &self.0[connection.0 as usize % STRIPES]
    }

    fn get(&self, connection: ConnectionId) -> Option<Arc<Mailbox>> {
        let stripe = self.stripe(connection).read().unwrap_or_else(PoisonError::into_inner);
        stripe.get(&connection).cloned()
    }

    /// A new connection's mailbox.
    pub(crate) fn open(&self, connection: ConnectionId, peer: SocketAddr) -> Owned {
        let mailbox = Arc::new(Mailbox { inner: Mutex::default(), peer });
        let mut stripe = self.stripe(connection).write().unwrap_or_else(PoisonError::into_inner);
        stripe.insert(connection, Arc::clone(&mailbox));
        Owned(mailbox)
    }

    /// The peer of an open connection.
    pub(crate) fn peer(&self, connection: ConnectionId) -> Option<SocketAddr> {
        self.get(connection).map(|mailbox| mailbox.peer)
    }

    /// Forgets a mailbox, which must be closed.
    pub(crate) fn remove(&self, connection: ConnectionId) {
        self.stripe(connection).write().unwrap_or_else(PoisonError::into_inner).remove(&connection);
    }

    /// Leaves an output. Returns whom to wake once no shard is locked any more, or the output if nobody will take it.
    pub(crate) fn post_output(
        &self,
        connection: ConnectionId,
        output: Output,
    ) -> Result<Option<Waker>, Output> {
        match self.get(connection) {
            Some(mailbox) => mailbox.post_output(output),
            None => Err(output),
        }
    }

    /// Leaves work for the connection's own task. Returns the work if nobody will take it.
    pub(crate) fn post_work(&self, connection: ConnectionId, work: Work) -> Result<Option<Waker>, Box<Work>> {
        match self.get(connection) {
            Some(mailbox) => mailbox.post_work(work),
            None => Err(Box::new(work)),
        }
    }

    /// Tells every connection to go at once.
    pub(crate) fn kill_all(&self) {
        for stripe in &self.0 {
            let mailboxes: Vec<_> =
                stripe.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            for waker in mailboxes.iter().filter_map(|mailbox| mailbox.kill()) {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use runtime::connection::Mailbox as _;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn address() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 50_000))
    }

    fn work() -> Work {
        (ShardId(0), Event::Malformed { connection: ConnectionId(1) })
    }

    #[test]
    fn the_owner_is_woken_once_and_only_when_it_waits() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let context = Context::from_waker(&waker);
        let boxes = Mailboxes::new();
        let mailbox = boxes.open(ConnectionId(1), address());
        let mut mail = Mail::default();
        assert!(
            boxes.post_output(ConnectionId(1), Output::Disconnect).unwrap().is_none(),
            "nobody waits yet"
        );
        assert!(mailbox.take(&mut mail, &context));
        assert_eq!(mail.outputs.pop_front(), Some(Output::Disconnect));
        assert!(!mailbox.take(&mut mail, &context));
        boxes.post_work(ConnectionId(1), work()).unwrap().unwrap().wake();
        assert!(boxes.post_work(ConnectionId(1), work()).unwrap().is_none(), "woken already");
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(mailbox.take(&mut mail, &context));
        assert_eq!(mail.work.len(), 2);
    }

    #[test]
    fn a_closed_mailbox_gives_back_what_it_is_left() {
        let boxes = Mailboxes::new();
        let mailbox = boxes.open(ConnectionId(70), address());
        boxes.post_output(ConnectionId(70), Output::Disconnect).unwrap();
        assert_eq!(mailbox.close().outputs.len(), 1);
        assert_eq!(boxes.post_output(ConnectionId(70), Output::Disconnect).err(), Some(Output::Disconnect));
        assert_eq!(boxes.peer(ConnectionId(70)), Some(address()));
        boxes.remove(ConnectionId(70));
        assert_eq!(boxes.peer(ConnectionId(70)), None);
        assert!(boxes.post_work(ConnectionId(70), work()).is_err());
    }
}
