//! What a connection's task is left by its own core: outputs of shards. Nothing here is shared with other threads.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Waker};

use runtime::connection::{self, Mail};
use smb_state::action::Output;
use smb_state::ids::ConnectionId;

use crate::mesh::Errands;

/// One connection's mailbox.
pub(crate) struct Mailbox {
    inner: RefCell<Inner>,
    /// Whose connection it is, for the log.
    peer: SocketAddr,
}

#[derive(Default)]
struct Inner {
    mail: Mail,
    /// Set while the owner waits.
    waker: Option<Waker>,
    closed: bool,
}

/// The owner's end of a mailbox.
pub(crate) struct Owned(Rc<Mailbox>, Errands);

impl Owned {
    /// What other cores still have to do for the connection.
    pub(crate) fn errands(&self) -> &Errands {
        &self.1
    }
}

impl connection::Mailbox for Owned {
    fn take(&self, mail: &mut Mail, context: &Context<'_>) -> bool {
        let mut inner = self.0.inner.borrow_mut();
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
        let mut inner = self.0.inner.borrow_mut();
        inner.closed = true;
        inner.waker = None;
        std::mem::take(&mut inner.mail)
    }
}

/// The mailboxes of a core's connections.
#[derive(Default)]
pub(crate) struct Mailboxes(RefCell<HashMap<ConnectionId, Rc<Mailbox>>>);

impl Mailboxes {
    fn get(&self, connection: ConnectionId) -> Option<Rc<Mailbox>> {
        self.0.borrow().get(&connection).cloned()
    }

    /// A new connection's mailbox.
    pub(crate) fn open(&self, connection: ConnectionId, peer: SocketAddr) -> Owned {
        let mailbox = Rc::new(Mailbox { inner: RefCell::default(), peer });
        self.0.borrow_mut().insert(connection, Rc::clone(&mailbox));
        Owned(mailbox, Errands::default())
    }

    /// The peer of an open connection.
    pub(crate) fn peer(&self, connection: ConnectionId) -> Option<SocketAddr> {
        self.get(connection).map(|mailbox| mailbox.peer)
    }

    /// Forgets a mailbox, which must be closed.
    pub(crate) fn remove(&self, connection: ConnectionId) {
        self.0.borrow_mut().remove(&connection);
    }

    /// Leaves an output and wakes the connection, or returns the output if nobody will take it.
    pub(crate) fn post_output(&self, connection: ConnectionId, output: Output) -> Result<(), Output> {
        let Some(mailbox) = self.get(connection) else { return Err(output) };
        let mut inner = mailbox.inner.borrow_mut();
        if inner.closed {
            return Err(output);
        }
        inner.mail.outputs.push_back(output);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Tells every connection to go at once.
    pub(crate) fn kill_all(&self) {
        let mailboxes: Vec<_> = self.0.borrow().values().cloned().collect();
        for mailbox in mailboxes {
            let mut inner = mailbox.inner.borrow_mut();
            inner.mail.kill = true;
            let waker = inner.waker.take();
            drop(inner);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use runtime::connection::Mailbox as _;

    use super::*;

    const ONE: ConnectionId = ConnectionId(1);

    #[test]
    fn mail_is_taken_in_order_and_refused_when_closed() {
        let boxes = Mailboxes::default();
        let mailbox = boxes.open(ONE, ([192, 0, 2, 1], 50_000).into());
        let context = Context::from_waker(Waker::noop());
        let mut mail = Mail::default();
        assert!(!mailbox.take(&mut mail, &context));
        boxes.post_output(ONE, Output::Disconnect).unwrap();
        assert!(mailbox.take(&mut mail, &context));
        assert_eq!(mail.outputs.pop_front(), Some(Output::Disconnect));
        boxes.kill_all();
        assert!(mailbox.take(&mut mail, &context) && mail.kill);
        boxes.post_output(ONE, Output::Disconnect).unwrap();
        assert_eq!(mailbox.close().outputs.len(), 1);
        assert_eq!(boxes.post_output(ONE, Output::Disconnect), Err(Output::Disconnect));
        assert!(boxes.peer(ONE).is_some());
        boxes.remove(ONE);
        assert!(boxes.peer(ONE).is_none());
    }
}
