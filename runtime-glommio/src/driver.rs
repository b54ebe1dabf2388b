//! The step loop: events in, actions carried out, until nothing is left to do on this core.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smb_state::Shard;
use smb_state::action::{Action, Actions, Output};
use smb_state::endpoint::surroundings::Buffers;
use smb_state::event::Event;
use smb_state::ids::{ConnectionId, ShardId};

use crate::mailbox::Mailboxes;
use crate::mesh::{Errand, Foreign, Hub};
use crate::timers::Timers;

/// A core and what belongs to it. It never leaves its thread.
pub(crate) struct Core {
    pub(crate) hub: Arc<Hub>,
    pub(crate) index: usize,
    /// Its shards: every `n`th of the server's, where there are `n` cores.
    shards: Box<[ShardCell]>,
    pub(crate) mailboxes: Mailboxes,
    pump: RefCell<Pump>,
}

/// A shard and what belongs to it.
pub(crate) struct ShardCell {
    pub(crate) id: ShardId,
    /// None when a step panicked; then the server stops.
    shard: RefCell<Option<Box<Shard>>>,
    pub(crate) timers: Timers,
}

/// The step loop's memory, kept between runs.
#[derive(Default)]
struct Pump {
    queue: VecDeque<(ShardId, Event)>,
    actions: Actions,
}

impl Core {
    pub(crate) fn new(hub: Arc<Hub>, index: usize, shards: Vec<(ShardId, Shard)>) -> Rc<Self> {
        let shards = shards
            .into_iter()
            .map(|(id, shard)| ShardCell {
                id,
                shard: RefCell::new(Some(Box::new(shard))),
                timers: Timers::default(),
            })
            .collect();
        Rc::new(Self { hub, index, shards, mailboxes: Mailboxes::default(), pump: RefCell::default() })
    }

    pub(crate) fn shards(&self) -> &[ShardCell] {
        &self.shards
    }

    fn shard(&self, shard: ShardId) -> Option<&ShardCell> {
        self.shards.get(usize::from(shard.0) / self.hub.common.cores.len())
    }

    /// Does `work` and everything that follows from it without waiting. What is another core's is left there.
    pub(crate) fn run(&self, work: impl IntoIterator<Item = (ShardId, Event)>) {
        self.run_for(None, work);
    }

    /// As [`Self::run`], on the errand of a connection that wants to know when everything is done.
    pub(crate) fn run_for(&self, errand: Option<Errand>, work: impl IntoIterator<Item = (ShardId, Event)>) {
        // Taken out, not borrowed: nothing comes back here today, and if something ever does, it finds a loop of its own.
        let mut pump = self.pump.take();
        for (shard, event) in work {
            self.enqueue(&mut pump.queue, shard, event, errand.as_ref());
        }
        while let Some((id, event)) = pump.queue.pop_front() {
            let Some(cell) = self.shard(id) else { continue };
            self.step(cell, event, &mut pump.actions);
            let mut actions = std::mem::take(&mut pump.actions);
            for action in actions.drain(..) {
                self.carry_out(cell, action, &mut pump.queue, errand.as_ref());
            }
            pump.actions = actions;
        }
        *self.pump.borrow_mut() = pump;
    }

    fn enqueue(
        &self,
        queue: &mut VecDeque<(ShardId, Event)>,
        shard: ShardId,
        event: Event,
        errand: Option<&Errand>,
    ) {
        if shard.0 >= self.hub.common.shards {
            tracing::error!(shard = shard.0, "work for a shard that does not exist");
            return self.hub.common.discard_event(event);
        }
        match self.hub.core_of(shard) {
            core if core == self.index => queue.push_back((shard, event)),
            other => self.hub.post(other, Foreign::Event(shard, event, errand.cloned())),
        }
    }

    fn step(&self, cell: &ShardCell, event: Event, actions: &mut Actions) {
        let mut place = cell.shard.borrow_mut();
        let Some(shard) = place.as_mut() else { return self.hub.common.discard_event(event) };
        // A panic here would take the whole core with it, and every connection's farewell to the core.
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            shard.step(event, actions);
            #[cfg(debug_assertions)]
            shard.check_invariants();
        }));
        if stepped.is_err() {
            *place = None;
            *actions = Actions::default();
            self.hub.fail();
        }
    }

    fn carry_out(
        &self,
        cell: &ShardCell,
        action: Action,
        queue: &mut VecDeque<(ShardId, Event)>,
        errand: Option<&Errand>,
    ) {
        let common = &self.hub.common;
        match action {
            Action::Output(connection, output) => self.post_output(connection, output, errand),
            Action::Submit { token, requester, op } => {
                let op = op.map_buffer(|buffer| common.buffers.get(buffer));
                let answer = runtime::storage::submit(&self.hub, cell.id, token, requester, op);
                queue.extend(answer.map(|answer| (cell.id, answer)));
            }
            // Drivers need no hurry: none of ours could use the hint.
            Action::Abandon { token } => tracing::trace!(?token, "abandoned"),
            Action::Store { token, connection, change } => {
                let answer = runtime::records::change(&self.hub, cell.id, (token, connection), change);
                queue.extend(answer.map(|answer| (cell.id, answer)));
            }
            Action::Recovered { restored, .. } => {
                if let Some((shard, event)) = common.records.recovered(restored) {
                    self.enqueue(queue, shard, event, errand);
                }
            }
            Action::Release(buffer) => common.buffers.release(buffer),
            Action::Arm { timer, armed, after_ms } => {
                cell.timers.arm(timer, armed, Duration::from_millis(after_ms));
            }
            Action::Disarm(timer) => cell.timers.disarm(timer),
            Action::ToShard(target, envelope) => {
                self.enqueue(queue, target, Event::FromShard { from: cell.id, envelope }, errand);
            }
            Action::Record(audit) => {
                runtime::audit::record(&audit, |connection| self.mailboxes.peer(connection));
            }
        }
    }

    /// Gives a connection what a shard wants done with it, here or where it lives.
    pub(crate) fn post_output(&self, connection: ConnectionId, output: Output, errand: Option<&Errand>) {
        let core = self.hub.core_of(connection.shard());
        if core != self.index {
            return self.hub.post(core, Foreign::Output(connection, output, errand.cloned()));
        }
        if let Err(output) = self.mailboxes.post_output(connection, output) {
            self.hub.common.discard(output);
        }
    }
}
