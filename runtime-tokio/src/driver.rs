//! The step loop: events in, actions carried out, until nothing is left to do.
//!
//! What must keep the order in which shards emitted it (outputs, messages, timers) is handed on while the shard is
//! locked; what may wait (storage, releases, the log) is done after that.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use runtime::Common;
use runtime::running::Phase;
use smb_state::action::{Action, Actions, Audit, Output};
use smb_state::endpoint::surroundings::Buffers;
use smb_state::event::Event;
use smb_state::ids::{BufferId, ShardId, Token};
use smb_state::storage::{Requester, StorageOp};
use tokio::sync::watch;

use crate::mailbox::Mailboxes;
use crate::mesh::ShardCell;

/// What a shard is to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// Step with this event.
    Event(ShardId, Event),
    /// Step with what other shards sent.
    Inbox(ShardId),
}

/// What every task of a server shares.
pub(crate) struct Hub {
    pub(crate) common: Common,
    pub(crate) shards: Box<[ShardCell]>,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) phase: watch::Sender<Phase>,
}

impl Hub {
    pub(crate) fn shard(&self, shard: ShardId) -> Option<&ShardCell> {
        self.shards.get(usize::from(shard.0))
    }

    /// Does `work` and everything that follows from it without waiting.
    pub(crate) fn run(self: &Arc<Self>, work: impl IntoIterator<Item = Work>) {
        // Taken out, not borrowed: a driver may complete a request while it is being submitted, which comes back here.
        let mut pump = PUMP.take();
        pump.queue.extend(work);
        pump.run(self);
        PUMP.set(pump);
    }

    /// A step panicked: its shard's state can't be trusted, so nothing more is served.
    pub(crate) fn fail(&self) {
        if !self.common.failed.swap(true, Ordering::Relaxed) {
            tracing::error!("a shard failed; the server stops");
        }
        self.phase.send_replace(Phase::Killed);
        self.mailboxes.kill_all();
    }
}

thread_local! {
    static PUMP: RefCell<Pump> = RefCell::default();
}

/// One thread's step loop; kept between runs for its memory.
#[derive(Default)]
struct Pump {
    queue: VecDeque<Work>,
    actions: Actions,
    later: Vec<Later>,
    wakers: Vec<Waker>,
}

/// What is done after a shard was unlocked.
enum Later {
    Submit { token: Token, requester: Requester, op: StorageOp<Option<Bytes>> },
    Release(BufferId),
    Discard(Output),
    Record(Audit),
}

impl Pump {
    fn run(&mut self, hub: &Arc<Hub>) {
        while let Some(work) = self.queue.pop_front() {
            let (Work::Event(id, _) | Work::Inbox(id)) = work;
            let Some(cell) = hub.shard(id) else {
                tracing::error!(shard = id.0, "work for a shard that does not exist");
                continue;
            };
            self.step(hub, cell, id, work);
            for waker in self.wakers.drain(..) {
                waker.wake();
            }
            self.carry_out(hub, id);
        }
    }

    /// Steps a shard and hands on what must keep its order, all under the shard's lock.
    fn step(&mut self, hub: &Arc<Hub>, cell: &ShardCell, id: ShardId, work: Work) {
        let Ok(mut shard) = cell.shard.lock() else { return hub.fail() };
        match work {
            Work::Event(_, event) => shard.step(event, &mut self.actions),
            Work::Inbox(_) => {
                while let Some((from, envelope)) = cell.next_message() {
                    shard.step(Event::FromShard { from, envelope }, &mut self.actions);
                }
            }
        }
        #[cfg(debug_assertions)]
        shard.check_invariants();
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            self.hand_on(hub, cell, id, action);
        }
        self.actions = actions;
    }

    fn hand_on(&mut self, hub: &Arc<Hub>, cell: &ShardCell, id: ShardId, action: Action) {
        match action {
            Action::Output(connection, output) => match hub.mailboxes.post_output(connection, output) {
                Ok(waker) => self.wakers.extend(waker),
                Err(output) => self.later.push(Later::Discard(output)),
            },
            // The payload is looked up here: once the shard is unlocked, another thread may carry out its release.
            Action::Submit { token, requester, op } => {
                let op = op.map_buffer(|buffer| hub.common.buffers.get(buffer));
                self.later.push(Later::Submit { token, requester, op });
            }
            // Drivers need no hurry: none of ours could use the hint.
            Action::Abandon { token } => tracing::trace!(?token, "abandoned"),
            // Under the shard's lock: the store keeps the order in which it is asked.
            Action::Store { token, connection, change } => {
                let answer = runtime::records::change(hub, id, (token, connection), change);
                self.queue.extend(answer.map(|answer| Work::Event(id, answer)));
            }
            Action::Recovered { restored, .. } => {
                let next = hub.common.records.recovered(restored);
                self.queue.extend(next.map(|(shard, event)| Work::Event(shard, event)));
            }
            Action::Release(buffer) => self.later.push(Later::Release(buffer)),
            Action::Arm { timer, armed, after_ms } => {
                cell.timers.arm(timer, armed, Duration::from_millis(after_ms));
            }
            Action::Disarm(timer) => cell.timers.disarm(timer),
            Action::ToShard(target, envelope) => match hub.shard(target) {
                Some(receiver) => {
                    receiver.post(id, envelope);
                    self.queue.push_back(Work::Inbox(target));
                }
                None => tracing::error!(shard = target.0, "message for a shard that does not exist"),
            },
            Action::Record(audit) => self.later.push(Later::Record(audit)),
        }
    }

    fn carry_out(&mut self, hub: &Arc<Hub>, id: ShardId) {
        let mut later = std::mem::take(&mut self.later);
        for task in later.drain(..) {
            match task {
                Later::Submit { token, requester, op } => {
                    let answer = runtime::storage::submit(hub, id, token, requester, op);
                    self.queue.extend(answer.map(|answer| Work::Event(id, answer)));
                }
                Later::Release(buffer) => hub.common.buffers.release(buffer),
                Later::Discard(output) => hub.common.discard(output),
                Later::Record(audit) => {
                    runtime::audit::record(&audit, |connection| hub.mailboxes.peer(connection))
                }
            }
        }
        self.later = later;
    }
}
