//! The core's timers: one table per shard, one task that waits for the earliest.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::future::{or, yield_now};
use glommio::timer::Timer as Pause;
use runtime::timers::Table;
use smb_state::event::Event;
use smb_state::timer::{Armed, Timer};

use crate::driver::Core;

/// The longest single wait.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// A shard's timers.
#[derive(Default)]
pub(crate) struct Timers {
    table: RefCell<Table>,
    earlier: Notify,
}

impl Timers {
    /// Starts or moves a timer.
    pub(crate) fn arm(&self, timer: Timer, armed: Armed, after: Duration) {
        if self.table.borrow_mut().arm(timer, armed, after) {
            self.earlier.notify();
        }
    }

    /// Stops a timer.
    pub(crate) fn disarm(&self, timer: Timer) {
        self.table.borrow_mut().disarm(timer);
    }
}

/// Wakes one task of the same core; a notification that nobody waits for is kept.
#[derive(Default)]
struct Notify {
    notified: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Notify {
    fn notify(&self) {
        self.notified.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn notified(&self) {
        poll_fn(|context| {
            if self.notified.take() {
                return Poll::Ready(());
            }
            self.waker.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Steps one of a core's shards whenever one of its timers runs out.
pub(crate) async fn run(core: Rc<Core>, index: usize) {
    let Some(cell) = core.shards().get(index) else { return };
    loop {
        let now = Instant::now();
        let (expired, next) = cell.timers.table.borrow_mut().expired(now);
        if !expired.is_empty() {
            core.run(expired.into_iter().map(|(timer, armed)| (cell.id, Event::Expired(timer, armed))));
            yield_now().await;
            continue;
        }
        let wait = next.map_or(WAIT_MAX, |deadline| deadline.saturating_duration_since(now).min(WAIT_MAX));
        or(cell.timers.earlier.notified(), async {
            Pause::new(wait).await;
        })
        .await;
    }
}
