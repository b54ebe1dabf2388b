//! What cores share: the common part of the server, and an inlet for each core, where others leave what is for it.
//!
//! A shard's messages to another shard take one way only, the queue of their own core or the other's inlet, and both are
//! first in, first out: so messages of one pair keep their order (R10).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use runtime::Common;
use runtime::running::Phase;
use smb_state::action::Output;
use smb_state::event::{Admin, Event};
use smb_state::ids::{ConnectionId, ShardId};

/// What one core is left by another, or by a thread that is none.
#[derive(Debug)]
pub(crate) enum Foreign {
    /// Something for one of its shards, perhaps on a connection's errand.
    Event(ShardId, Event, Option<Errand>),
    /// Something for one of its connections, perhaps on a connection's errand.
    Output(ConnectionId, Output, Option<Errand>),
    /// A connection to serve.
    Arrival(std::net::TcpStream, SocketAddr),
    /// An operator's order to one of its shards; the sender is dropped when it is carried out.
    Order(ShardId, Admin, Sender<()>),
    /// Every connection is to go at once.
    Kill,
    /// Nothing more will come.
    End,
}

/// What cores still have to do for the requests of one connection.
#[derive(Debug, Default)]
pub(crate) struct Errands(Arc<Mutex<Under>>);

#[derive(Debug, Default)]
struct Under {
    way: usize,
    /// Set while the connection waits for the last.
    waker: Option<Waker>,
}

/// One of them. It goes along with everything that comes of a request on any core, and is over when the last copy is gone.
#[derive(Debug)]
pub(crate) struct Errand(Arc<Mutex<Under>>);

fn under(errands: &Mutex<Under>) -> MutexGuard<'_, Under> {
    errands.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Errands {
    pub(crate) fn begin(&self) -> Errand {
        under(&self.0).way += 1;
        Errand(Arc::clone(&self.0))
    }

    /// Ready when none is under way.
    pub(crate) fn poll_done(&self, context: &Context<'_>) -> Poll<()> {
        let mut under = under(&self.0);
        if under.way == 0 {
            return Poll::Ready(());
        }
        under.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Clone for Errand {
    fn clone(&self) -> Self {
        under(&self.0).way += 1;
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        let mut under = under(&self.0);
        under.way -= 1;
        let waker = if under.way == 0 { under.waker.take() } else { None };
        drop(under);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What a core is left by others.
#[derive(Default)]
pub(crate) struct Inlet(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    queue: VecDeque<Foreign>,
    /// Set while the core waits.
    waker: Option<Waker>,
    closed: bool,
}

impl Inlet {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(
        clippy::result_large_err,
        reason = "what could not be posted goes back whole, and is dealt with at once"
    )]
    fn post(&self, item: Foreign) -> Result<Option<Waker>, Foreign> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(item);
        }
        inner.queue.push_back(item);
        Ok(inner.waker.take())
    }

    /// Moves at most `most` items to `into`. Pending, and the task will be woken, when there are none.
    pub(crate) fn poll_take(&self, context: &Context<'_>, into: &mut Vec<Foreign>, most: usize) -> Poll<()> {
        let mut inner = self.lock();
        if inner.queue.is_empty() {
            inner.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = inner.queue.len().min(most);
        into.extend(inner.queue.drain(..count));
        Poll::Ready(())
    }

    /// Refuses everything from now on and returns what is left.
    fn close(&self) -> VecDeque<Foreign> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.waker = None;
        std::mem::take(&mut inner.queue)
    }
}

/// What all cores of a server share.
pub(crate) struct Hub {
    pub(crate) common: Common,
    inlets: Box<[Inlet]>,
    life: Mutex<Life>,
    /// Items left in inlets and not dealt with yet.
    unfinished: AtomicUsize,
    /// Items ever left in inlets.
    posted: AtomicU64,
}

struct Life {
    phase: Phase,
    /// Those who wait for the end.
    wakers: Vec<Waker>,
    /// Second handles of the listening sockets, to end what accepts from them.
    listeners: Vec<std::net::TcpListener>,
}

impl Hub {
    pub(crate) fn new(common: Common, listeners: Vec<std::net::TcpListener>) -> Self {
        Self {
            inlets: common.cores.iter().map(|_| Inlet::default()).collect(),
            life: Mutex::new(Life { phase: Phase::Serving, wakers: Vec::new(), listeners }),
            unfinished: AtomicUsize::new(0),
            posted: AtomicU64::new(0),
            common,
        }
    }

    pub(crate) fn core_of(&self, shard: ShardId) -> usize {
        usize::from(shard.0) % self.inlets.len()
    }

    pub(crate) fn inlet(&self, core: usize) -> &Inlet {
        &self.inlets[core]
    }

    /// Leaves something for a core. What comes too late is given up.
    pub(crate) fn post(&self, core: usize, item: Foreign) {
        self.posted.fetch_add(1, Ordering::SeqCst);
        self.unfinished.fetch_add(1, Ordering::SeqCst);
        match self.inlets[core].post(item) {
            Ok(Some(waker)) => waker.wake(),
            Ok(None) => {}
            Err(late) => {
                self.give_up(core, late);
                self.finished(1);
            }
        }
    }

    /// Items that a core took from its inlet are dealt with.
    pub(crate) fn finished(&self, count: usize) {
        self.unfinished.fetch_sub(count, Ordering::SeqCst);
    }

    /// Whether nothing moves any more: no connection, no storage request, nothing between cores.
    pub(crate) fn is_quiet(&self) -> bool {
        let before = self.posted.load(Ordering::SeqCst);
        // A request's answer is posted before the request is counted as over. So whatever was under way while the inlets
        // were looked at and is over now shows in `posted`.
        let none_submitted = || self.common.submitted.load(Ordering::Acquire) == 0;
        self.common.metrics().connections_open == 0
            && none_submitted()
            && self.unfinished.load(Ordering::SeqCst) == 0
            && none_submitted()
            && self.posted.load(Ordering::SeqCst) == before
    }

    /// A core ends: nothing is left for it any more.
    pub(crate) fn close(&self, core: usize) {
        let left = self.inlets[core].close();
        let count = left.len();
        left.into_iter().for_each(|item| self.give_up(core, item));
        self.finished(count);
    }

    fn give_up(&self, core: usize, item: Foreign) {
        match item {
            Foreign::Event(_, event, _) => self.common.discard_event(event),
            Foreign::Output(_, output, _) => self.common.discard(output),
            Foreign::Arrival(..) => self.common.cores[core].open.take_one(),
            Foreign::Order(..) | Foreign::Kill | Foreign::End => {}
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.life().phase
    }

    /// Goes on to a later phase; going back is not possible.
    pub(crate) fn advance(&self, phase: Phase) {
        let mut life = self.life();
        if life.phase >= phase {
            return;
        }
        life.phase = phase;
        let listeners = std::mem::take(&mut life.listeners);
        let wakers = if phase == Phase::Killed { std::mem::take(&mut life.wakers) } else { Vec::new() };
        drop(life);
        // A ring keeps a socket that it waits for open, whoever closes it; being shut down ends the waiting.
        for listener in listeners {
            if let Err(error) = socket2::SockRef::from(&listener).shutdown(std::net::Shutdown::Both) {
                tracing::debug!(%error, "a listening socket was closed already");
            }
        }
        wakers.into_iter().for_each(Waker::wake);
        if phase == Phase::Killed {
            self.tell_all(|| Foreign::Kill);
        }
    }

    pub(crate) fn tell_all(&self, item: impl Fn() -> Foreign) {
        (0..self.inlets.len()).for_each(|core| self.post(core, item()));
    }

    /// Ready when the server is in its last phase.
    pub(crate) fn poll_killed(&self, context: &Context<'_>) -> Poll<()> {
        let mut life = self.life();
        if life.phase == Phase::Killed {
            return Poll::Ready(());
        }
        if !life.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            life.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// A step panicked: its shard's state can't be trusted, so nothing more is served.
    pub(crate) fn fail(self: &Arc<Self>) {
        if !self.common.failed.swap(true, Ordering::Relaxed) {
            tracing::error!("a shard failed; the server stops");
        }
        self.advance(Phase::Killed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inlet_is_first_in_first_out_and_bounded_per_turn() {
        let inlet = Inlet::default();
        for number in 0..5 {
            let event = Event::Disconnected { connection: ConnectionId::new(ShardId(0), number) };
            assert!(inlet.post(Foreign::Event(ShardId(0), event, None)).unwrap().is_none());
        }
        let context = Context::from_waker(Waker::noop());
        let mut taken = Vec::new();
        assert!(inlet.poll_take(&context, &mut taken, 3).is_ready());
        assert!(inlet.poll_take(&context, &mut taken, 3).is_ready());
        assert!(inlet.poll_take(&context, &mut taken, 3).is_pending());
        let numbers: Vec<u64> = taken
            .iter()
            .map(|item| match item {
                Foreign::Event(_, Event::Disconnected { connection }, _) => connection.0,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        assert!(inlet.post(Foreign::Kill).unwrap().is_some(), "the core waits and is woken");
        assert_eq!(inlet.close().len(), 1);
        assert!(inlet.post(Foreign::Kill).is_err());
    }

    #[test]
    fn errands_are_done_when_the_last_copy_is_gone() {
        let errands = Errands::default();
        let context = Context::from_waker(Waker::noop());
        assert!(errands.poll_done(&context).is_ready());
        let errand = errands.begin();
        let copy = errand.clone();
        drop(errand);
        assert!(errands.poll_done(&context).is_pending());
        drop(copy);
        assert!(errands.poll_done(&context).is_ready());
    }
}
