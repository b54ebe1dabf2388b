//! Persistent opens (MS-SMB2 3.3.5.9.10, Open.IsPersistent): durable opens of continuously available shares that also outlive
//! the server. Each has a record in the adapter's store, and no client is told anything that it relies on before the record says
//! so (R8): not of the open, its locks, its name, its delete disposition, or an acknowledged break. Before a CLOSE is answered,
//! the record is gone.
//!
//! ```text
//! changed --> file asked what it holds --> Store(Put) --durable--> answered
//! closing --> Store(Delete) --durable--> file told, handle closed --> answered
//! ```
//! Records are whole, and those of one open are stored in the order in which its file was asked, so the last one is right. What
//! deletes its file keeps its record until the file is gone: nobody else gets at the name meanwhile.
//!
//! When the server stops as it should, persistent opens stay in the store, and are there after the next start.
//!
//! What others do that a record is to say is its file's to tell (`file::following`).

use smb_proto::access::AccessMask;
use smb_proto::command::create::ShareAccess;
use smb_proto::command::lock::LockSequence;
use smb_proto::{FileTime, Name, NtStatus};

use super::super::close::Closing;
use super::super::{Open, State};
use crate::action::{Action, StoreChange};
use crate::event::Identity;
use crate::file::FileAsk;
use crate::file::lock::Lock;
use crate::ids::{ConnectionId, FileKey, OpenId, SessionId, ShareId, Token};
use crate::message::{Address, Answer, Finished, Message};
use crate::record::{Held, Record};
use crate::response::Body;
use crate::shard::{Shard, Turn, Wait};

/// What only a persistent open needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Persistent {
    /// Open.DesiredAccess.
    pub desired: AccessMask,
    /// Open.ShareAccess.
    pub share_access: ShareAccess,
    /// The file's creation time.
    pub generation: FileTime,
    /// What that is being changed to.
    pub generation_to_be: Option<FileTime>,
    /// There is a record.
    pub recorded: bool,
    /// Its close may delete the file.
    pub deletes: bool,
    /// The store was asked to forget the record.
    pub going: bool,
    /// The store was asked to forget the record, and could not.
    pub remembered: bool,
}

/// A request that is answered once its open's record is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Recording {
    open: OpenId,
    finished: Finished,
    /// A LOCK's sequence, kept if it was carried out.
    sequence: Option<(LockSequence, bool)>,
    /// What it locked, given back if that can't be recorded.
    locks: Vec<Lock>,
}

impl Open {
    pub(crate) fn persistent(&self) -> Option<&Persistent> {
        self.durable.as_ref()?.persistent.as_ref()
    }

    /// Whether the store has a record of it.
    pub(crate) fn has_record(&self) -> bool {
        self.persistent().is_some_and(|persistent| persistent.recorded)
    }

    fn persistent_mut(&mut self) -> Option<&mut Persistent> {
        self.durable.as_mut()?.persistent.as_mut()
    }

    /// Whether its record must follow a change of its file's creation time, which is about to be asked for.
    pub(crate) fn changes_generation(&mut self, creation: Option<FileTime>) -> bool {
        match (self.persistent_mut(), creation) {
            (Some(persistent), Some(_)) => {
                persistent.generation_to_be = creation;
                true
            }
            (Some(_), None) | (None, _) => false,
        }
    }

    /// Its record.
    fn record(
        &self,
        id: OpenId,
        share: &Name,
        held: &Held,
        sequence: Option<LockSequence>,
    ) -> Option<Record> {
        let (durable, created) = (self.durable.as_ref()?, self.created?);
        let persistent = durable.persistent.as_ref()?;
        let Identity::User { name, number } = &durable.owner else { return None };
        Some(Record {
            open: id,
            share: share.clone(),
            path: self.path.clone(),
            file: self.file.number,
            generation: persistent.generation,
            owner: (name.clone(), *number),
            client: self.client,
            create_guid: created.guid,
            timeout_ms: durable.timeout_ms,
            action: created.action,
            desired: persistent.desired,
            access: self.access,
            share_access: persistent.share_access,
            options: self.options,
            lock_sequences: self.lock_sequences.recorded(sequence),
            held: held.clone(),
        })
    }
}

impl Shard {
    /// Ends a request of an open that has changed what its record says.
    pub(crate) fn finish_recorded(
        &mut self,
        id: OpenId,
        finished: Finished,
        changed: bool,
        (sequence, locks): (Option<(LockSequence, bool)>, Vec<Lock>),
        turn: &mut Turn<'_>,
    ) {
        let open = self.opens.get(&id).filter(|open| changed && open.persistent().is_some());
        let recorded = open.map(|open| open.file);
        match recorded {
            Some(file) => self.ask_to_hold(file, Recording { open: id, finished, sequence, locks }, turn),
            None => {
                let ticket = finished.origin.ticket;
                self.end_sequence(id, sequence);
                turn.finish(finished);
                self.outstanding_done(id, ticket, turn);
            }
        }
    }

    /// Ends a change of the creation time of a persistent open's file.
    pub(crate) fn generation_is_set(&mut self, id: OpenId, finished: Finished, turn: &mut Turn<'_>) {
        let changed = !finished.status.is_error();
        if let Some(persistent) = self.opens.get_mut(&id).and_then(Open::persistent_mut)
            && let Some(generation) = persistent.generation_to_be.take().filter(|_| changed)
        {
            persistent.generation = generation;
        }
        self.finish_recorded(id, finished, changed, (None, Vec::new()), turn);
    }

    fn ask_to_hold(&mut self, file: FileKey, recording: Recording, turn: &mut Turn<'_>) {
        let open = recording.open;
        let asker = self.wait(Wait::Recording(Box::new(recording)));
        turn.post(Address::File(file), Message::AskFile(FileAsk::Hold { open }, asker));
    }

    /// The file told what it holds.
    pub(crate) fn on_held(&mut self, recording: Box<Recording>, answer: &Answer, turn: &mut Turn<'_>) {
        let done = recording.sequence.filter(|(_, success)| *success).map(|(sequence, _)| sequence);
        match answer {
            Answer::Held(held) => {
                let (id, connection) = (recording.open, recording.finished.origin.connection);
                let token = self.waits.insert(Wait::Recording(recording));
                if !self.put_record(id, held, done, (token, connection), turn)
                    && let Some(Wait::Recording(recording)) = self.waits.remove(token)
                {
                    self.end_recording(*recording, false, turn);
                }
            }
            Answer::Granted
            | Answer::Refused(_)
            | Answer::Again
            | Answer::Closed { .. }
            | Answer::Pending(_)
            | Answer::Opened { .. }
            | Answer::Checked { .. }
            | Answer::Acknowledged(_)
            | Answer::Kept(_)
            | Answer::LeasedFile(_)
            | Answer::Obstructed(_)
            | Answer::CreateKnown(_)
            | Answer::Reclaimed { .. } => self.end_recording(*recording, false, turn),
        }
    }

    /// Stores an open's record; false if there is none to store.
    pub(crate) fn put_record(
        &mut self,
        id: OpenId,
        held: &Held,
        sequence: Option<LockSequence>,
        (token, connection): (Token, ConnectionId),
        turn: &mut Turn<'_>,
    ) -> bool {
        let Some(open) = self.opens.get_mut(&id) else { return false };
        if open.persistent().is_some_and(|persistent| persistent.going) {
            return false;
        }
        if let Some(persistent) = open.persistent_mut() {
            (persistent.recorded, persistent.deletes) = (true, held.delete_on_close || held.delete_pending);
        }
        let share = self.shares.iter().find(|share| share.id == open.share);
        let Some(record) = share.and_then(|share| open.record(id, &share.name, held, sequence)) else {
            return false;
        };
        turn.push(Action::Store { token, connection, change: StoreChange::Put(Box::new(record)) });
        true
    }

    /// The store answered.
    pub(crate) fn on_stored(&mut self, token: Token, durable: bool, turn: &mut Turn<'_>) {
        match self.waits.remove(token) {
            Some(Wait::Create(creating)) => self.on_create_recorded(creating, durable, turn),
            Some(Wait::Recording(recording)) => self.end_recording(*recording, durable, turn),
            Some(Wait::Forgetting(id)) => {
                self.is_forgotten(id, durable);
                self.begin_close(id, turn);
            }
            Some(Wait::CloseForgotten(closing)) => {
                self.is_forgotten(closing.open, durable);
                self.on_handle_closed(closing, turn);
            }
            Some(Wait::Followed(asker)) => {
                let failed = Answer::Refused(NtStatus::UNEXPECTED_IO_ERROR);
                turn.answer(asker, if durable { Answer::Granted } else { failed });
            }
            Some(Wait::Nothing) => {}
            Some(_) => debug_assert!(false, "the store answered what somebody else was asked"),
            None => {
                let what = "an answer to nothing";
                turn.push(Action::Record(crate::action::Audit::AdapterMisuse { what }));
            }
        }
    }

    fn end_recording(&mut self, recording: Recording, durable: bool, turn: &mut Turn<'_>) {
        let Recording { open, mut finished, sequence, locks } = recording;
        let ticket = finished.origin.ticket;
        if !durable {
            // What was done is done, but for locks; and the client may not rely on it.
            if let Some(file) = self.opens.get(&open).map(|open| open.file).filter(|_| !locks.is_empty()) {
                let ask = FileAsk::GiveBack { open, locks };
                turn.post(Address::File(file), Message::AskFile(ask, self.nobody()));
            }
            (finished.status, finished.body) = (NtStatus::UNEXPECTED_IO_ERROR, Body::Error);
        }
        self.end_sequence(open, sequence.map(|(sequence, success)| (sequence, success && durable)));
        turn.finish(finished);
        self.outstanding_done(open, ticket, turn);
    }

    fn end_sequence(&mut self, id: OpenId, sequence: Option<(LockSequence, bool)>) {
        if let (Some((sequence, success)), Some(open)) = (sequence, self.opens.get_mut(&id)) {
            open.lock_sequences.end(sequence, success);
        }
    }

    /// The store has forgotten a record; or could not: the close goes on, but is not answered as one that is done.
    fn is_forgotten(&mut self, id: OpenId, durable: bool) {
        if let Some(persistent) = self.opens.get_mut(&id).and_then(Open::persistent_mut) {
            (persistent.recorded, persistent.remembered) = (false, !durable);
        }
    }

    /// An open that nobody asked to close stays in the store while the server stops.
    pub(crate) fn outlives_stop(&self, id: OpenId) -> bool {
        self.shutting_down
            && self.opens.get(&id).is_some_and(|open| {
                let unasked = matches!(&open.state, State::Closing(closers) if closers.is_empty());
                unasked && open.persistent().is_some_and(|persistent| persistent.recorded)
            })
    }

    /// The record of an open that closes is to go first. Returns whether that has to be waited for.
    pub(crate) fn forget_record_first(&mut self, id: OpenId, turn: &mut Turn<'_>) -> bool {
        let persistent = self.opens.get(&id).and_then(Open::persistent);
        if !persistent.is_some_and(|persistent| persistent.recorded && !persistent.deletes) {
            return false;
        }
        let token = self.waits.insert(Wait::Forgetting(id));
        self.delete_record(id, token, turn);
        true
    }

    /// The record of an open whose handle is closed goes.
    pub(crate) fn forget_record_last(&mut self, closing: Box<Closing>, turn: &mut Turn<'_>) {
        let id = closing.open;
        let token = self.waits.insert(Wait::CloseForgotten(closing));
        self.delete_record(id, token, turn);
    }

    /// Deletes the record of an open.
    pub(crate) fn delete_record(&mut self, id: OpenId, token: Token, turn: &mut Turn<'_>) {
        if let Some(persistent) = self.opens.get_mut(&id).and_then(Open::persistent_mut) {
            persistent.going = true;
        }
        let change = StoreChange::Delete(id);
        turn.push(Action::Store { token, connection: ConnectionId(0), change });
    }
}

/// In no session, of no tree connect.
pub(crate) const NOWHERE: SessionId = SessionId(0);

/// A share by the name in a record.
pub(crate) fn share_of(shard: &Shard, name: &Name) -> Option<(ShareId, crate::config::Share)> {
    let name = name.folded();
    let share = shard.shares.iter().find(|share| share.name.folded() == name)?;
    Some((share.id, share.clone()))
}
