//! An open whose client is gone (MS-SMB2 3.3.7.1, 3.3.5.6, 3.3.6.2).

use super::super::channel_sequence::Ticket;
use super::super::{Open, State};
use super::reclaim::Shown;
use crate::event::Identity;
use crate::file::FileAsk;
use crate::ids::{ConnectionId, OpenId, SessionId, ShareId, TreeId};
use crate::message::{Address, Answer, Asker, Message};
use crate::shard::{Shard, Turn, Wait};
use crate::storage::Requester;
use crate::timer::Timer;

impl Shard {
    /// An open's session ends and leaves behind what is durable: keeps the open, or closes it.
    pub(crate) fn leave_open(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get_mut(&id) else { return };
        if open.state != State::Ready || open.durable.is_none() || self.shutting_down {
            return self.close_unasked(id, turn);
        }
        open.state = State::Leaving;
        if !open.outstanding.is_empty() {
            self.cancel_waits_of(id, turn);
        }
        self.disarm(Timer::WriteTime(id), turn);
        self.settle_times(id, turn);
        self.ask_to_preserve(id, turn);
    }

    /// What the open wrote is told now: nobody is there to do it later.
    fn settle_times(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get_mut(&id) else { return };
        let Some(op) = open.late_words() else { return };
        open.outstanding.begin(Ticket::UNCOUNTED);
        let requester = Requester {
            volume: open.volume(),
            session: open.session,
            connection: ConnectionId(0),
            share: open.share,
        };
        self.submit(requester, op, Wait::TimesSettled(id), turn);
    }

    /// Asks the file, once nothing of the open is under way.
    pub(crate) fn ask_to_preserve(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&id) else { return };
        if open.state == State::Leaving && open.outstanding.is_empty() {
            let file = open.file;
            let asker = self.wait(Wait::Preserving(id));
            turn.post(Address::File(file), Message::AskFile(FileAsk::Preserve { open: id }, asker));
        }
    }

    /// The file answered: the open moves to where its client will look for it, or is closed.
    pub(crate) fn on_preserve_answer(&mut self, id: OpenId, answer: &Answer, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get_mut(&id) else { return };
        if open.state != State::Leaving {
            return;
        }
        if *answer != Answer::Granted {
            open.state = State::Closing(super::super::close::no_closers());
            return self.begin_close(id, turn);
        }
        let Some(mut open) = self.opens.remove(&id) else { return };
        let session = open.session;
        if let Some(session) = self.sessions.get_mut(&session) {
            session.opens.remove(&id);
            session.leaving.insert(id);
        }
        open.leave_session();
        if self.is_home(id) {
            // What says that it is lost may be before it in the queue.
            self.abroad.insert(id, Shown::of(&open));
        }
        let asker = self.wait(Wait::Preserved(session, id));
        turn.post(Address::Open(id), Message::Preserve { id, open: Box::new(open), asker });
    }

    /// The open is where its client will look for it: its session need not wait for it any more.
    pub(crate) fn on_preserved(&mut self, session: SessionId, id: OpenId, turn: &mut Turn<'_>) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.leaving.remove(&id);
        }
        self.finish_end(session, turn);
    }

    /// An open comes home.
    pub(crate) fn on_preserve(&mut self, id: OpenId, open: Open, asker: Asker, turn: &mut Turn<'_>) {
        self.keep(id, open, turn);
        turn.answer(asker, Answer::Granted);
        if let Some((claim, asker)) = self.claims.remove(&id) {
            self.disarm(Timer::Claim(id), turn);
            self.on_reclaim(claim, asker, turn);
        }
    }

    /// Keeps an open for its client, for as long as that was told; unless there are too many and it is not persistent.
    pub(crate) fn keep(&mut self, id: OpenId, open: Open, turn: &mut Turn<'_>) {
        let after_ms = open.durable.as_ref().map_or(0, |durable| durable.timeout_ms);
        let most = self.limits.preserved_opens_max;
        let owned = open.durable.as_ref().map_or(0, |durable| {
            let owned = self.preserved_of.entry(durable.owner.clone()).or_default();
            *owned += 1;
            *owned
        });
        // Nobody has more than half of the places, so that nobody can have all others' opens closed.
        let full = self.preserved >= most || owned > most.div_ceil(2);
        // What is promised to outlive the server is not given up for lack of room: it was counted when it was promised.
        let full = full && open.persistent().is_none();
        let lost = self.lost_early.remove(&id);
        self.preserved += 1;
        self.abroad.remove(&id);
        self.opens.insert(id, Open { kept: true, ..open });
        if full || lost || self.shutting_down {
            self.close_unasked(id, turn);
        } else {
            self.arm(Timer::Scavenger(id), u64::from(after_ms), turn);
        }
    }

    /// What a preserved open caches is to be broken. It may be on its way here still; or its client is coming back, and the
    /// file's answer about that will say no.
    pub(crate) fn on_lost(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        match self.opens.get(&id).map(|open| &open.state) {
            Some(State::Preserved) => self.close_unasked(id, turn),
            Some(State::Creating | State::Ready | State::Leaving | State::Reclaiming | State::Closing(_)) => {
            }
            None if self.abroad.contains_key(&id) => {
                self.lost_early.insert(id);
            }
            // It was closed meanwhile.
            None => {}
        }
    }

    fn is_home(&self, id: OpenId) -> bool {
        id.partition().shard(self.config.shards.max(1)) == self.id
    }

    /// Closes what is preserved, of one share or all.
    pub(crate) fn close_preserved(&mut self, share: impl Fn(ShareId) -> bool, turn: &mut Turn<'_>) {
        let kept = self.opens.iter().filter(|(_, open)| open.kept && share(open.share));
        for id in kept.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close_unasked(id, turn);
        }
    }

    /// Nobody came back in time.
    pub(crate) fn on_scavenger(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        if self.opens.get(&id).is_some_and(|open| open.state == State::Preserved) {
            self.close_unasked(id, turn);
        }
    }

    /// A preserved open is gone from here.
    pub(crate) fn preserved_is_gone(&mut self, id: OpenId, owner: Option<&Identity>, turn: &mut Turn<'_>) {
        self.preserved = self.preserved.saturating_sub(1);
        if let Some(owner) = owner
            && let Some(owned) = self.preserved_of.get_mut(owner)
        {
            *owned -= 1;
            if *owned == 0 {
                self.preserved_of.remove(owner);
            }
        }
        self.disarm(Timer::Scavenger(id), turn);
    }
}

impl Shard {
    /// Whether somebody may have another persistent open: as many as there may be preserved ones, and nobody more than half.
    pub(crate) fn may_persist(&self, owner: &Identity) -> bool {
        let most = self.limits.preserved_opens_max as usize;
        let owned = self.persistent_of.get(owner).map_or(0, |owned| *owned as usize);
        owned < most.div_ceil(2)
            && self.persistent_of.values().map(|owned| *owned as usize).sum::<usize>() < most
    }

    /// Somebody has another persistent open whose home this is.
    pub(crate) fn persists(&mut self, owner: &Identity) {
        *self.persistent_of.entry(owner.clone()).or_default() += 1;
    }

    /// Somebody has one less.
    pub(crate) fn persists_no_more(&mut self, owner: &Identity) {
        if let Some(owned) = self.persistent_of.get_mut(owner) {
            *owned -= 1;
            if *owned == 0 {
                self.persistent_of.remove(owner);
            }
        }
    }
}

impl Open {
    fn leave_session(&mut self) {
        self.state = State::Preserved;
        (self.session, self.tree) = (SessionId(0), TreeId(0));
        self.break_told = None;
        self.permit = crate::file::permit::Permit::default();
        self.under_permit = crate::file::permit::UnderPermit::default();
    }
}
