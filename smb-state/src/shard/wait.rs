//! What waits for storage, or for another machine, and goes on when the answer comes.

use std::collections::BTreeSet;

use crate::file::FileAsk;
use crate::ids::{ConnectionId, FileKey, MessageId, OpenId, SessionId};
use crate::message::{Address, Answer, Asker, Finished, Message, Origin};
use crate::open::breaks::Acknowledging;
use crate::open::channel_sequence::Ticket;
use crate::open::checked::Asking;
use crate::open::close::Closing;
use crate::open::copy::Copying;
use crate::open::create::Creating;
use crate::open::durable::Wish;
use crate::open::durable::persistent::Recording;
use crate::open::durable::reclaim::Returning;
use crate::open::durable::replay::Replaying;
use crate::open::durable::restore::Restoring;
use crate::open::exchange::Exchanging;
use crate::open::io::{Pending, Then, payload_of};
use crate::open::lock::Locking;
use crate::open::rename::Renaming;
use crate::open::set::Disposing;
use crate::response::Body;
use crate::shard::{Shard, Turn};
use crate::storage::{Resolved, StorageReply};
use crate::watch::Registering;
use crate::watch::local::Listening;
use smb_proto::NtStatus;

/// A wait: which machine goes on, and with what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wait {
    /// Nobody; the answer only has to come.
    Nothing,
    /// A session's client was asked about its dialect.
    ClientJoined(SessionId),
    /// A session's predecessor was asked to end.
    PreviousEnded(SessionId),
    Create(Box<Creating>),
    Request(Box<Pending>),
    /// The file was asked whether its delete is pending.
    QueryPending(Box<Pending>),
    /// The file was asked before the request goes to storage.
    Asking(Box<Asking>),
    /// A machine was asked about the acknowledgment of a break.
    Acknowledge(Acknowledging),
    Rename(Box<Renaming>),
    /// The file, then storage, were asked to let another object take the place of an open's.
    Exchange(Box<Exchanging>),
    Copy(Box<Copying>),
    /// The file was asked to lock or unlock.
    Lock(Box<Locking>),
    /// The namespace was asked to keep names out of a directory.
    Doom(Box<Disposing>),
    /// The file was told of a delete disposition.
    Disposed(Box<Disposing>),
    /// A shard, or the file, was told of a watch.
    Watch(Registering),
    /// Storage waits for what local processes do in the directory of a watch.
    Local(Box<Listening>),
    /// The file was asked whether an open is preserved.
    Preserving(OpenId),
    /// The open's home was told of a preserved open.
    Preserved(SessionId, OpenId),
    /// The open's home was asked for a preserved open; with the channel sequence that its client begins with, and what a CREATE
    /// that is sent again asks of durability.
    Reclaim(Box<(OpenId, Origin, u16, Wish)>),
    /// The file was asked whether a preserved open is still there for its client.
    Reclaiming(OpenId, Asker),
    /// Storage was asked for the attributes that the answer of a reclaim tells, then the file for what the open caches.
    Returning(Box<Returning>),
    /// A CREATE is answered from the open that it made before: storage was asked, then its file.
    Replay(Box<Replaying>),
    /// An open's write time becomes visible.
    TimesSettled(OpenId),
    CloseAttributes(Box<Closing>),
    /// The namespace was asked to keep names out of a directory that goes with its open.
    CloseDoomed(Box<Closing>),
    /// Storage was asked whether that directory is empty.
    CloseEmpty(Box<Closing>),
    CloseTold(Box<Closing>),
    CloseUnlink(Box<Closing>),
    CloseHandle(Box<Closing>),
    /// The file was asked what the record of an open is to say, then the store to keep it.
    Recording(Box<Recording>),
    /// The store was asked to forget the record of an open that closes.
    Forgetting(OpenId),
    /// The same once the open's handle is closed.
    CloseForgotten(Box<Closing>),
    /// A file waits for the record of an open to follow.
    Following(FileKey, OpenId),
    /// The store was asked for that.
    Followed(Asker),
    /// Storage, then machines, were asked for a persistent open to be there again.
    Restoring(Box<Restoring>),
}

impl Wait {
    /// The file where a request may wait for something that may never come, with the request and its open.
    fn at_file(&self, shard: &Shard) -> Option<(FileKey, Origin, OpenId)> {
        match self {
            Self::Create(creating) => creating.at_file(),
            Self::Asking(asking) => Some((asking.file, asking.pending.origin, asking.pending.open)),
            Self::Rename(renaming) => renaming.at_file(shard),
            Self::Copy(copying) => copying.at_file(shard),
            Self::Lock(locking) => Some(locking.at_file()),
            Self::Disposed(disposing) => {
                Some((shard.opens.get(&disposing.open)?.file, disposing.origin, disposing.open))
            }
            Self::Nothing
            | Self::ClientJoined(_)
            | Self::PreviousEnded(_)
            | Self::Request(_)
            | Self::Exchange(_)
            | Self::QueryPending(_)
            | Self::Acknowledge(_)
            | Self::Doom(_)
            | Self::Watch(_)
            | Self::Local(_)
            | Self::Preserving(_)
            | Self::Preserved(..)
            | Self::Reclaim(..)
            | Self::Reclaiming(..)
            | Self::Returning(_)
            | Self::Replay(_)
            | Self::TimesSettled(_)
            | Self::CloseAttributes(_)
            | Self::CloseDoomed(_)
            | Self::CloseEmpty(_)
            | Self::CloseTold(_)
            | Self::CloseUnlink(_)
            | Self::CloseHandle(_)
            | Self::Recording(_)
            | Self::Forgetting(_)
            | Self::CloseForgotten(_)
            | Self::Following(..)
            | Self::Followed(_)
            | Self::Restoring(_) => None,
        }
    }
}

impl Shard {
    /// Storage answered.
    pub(crate) fn on_reply(&mut self, wait: Wait, reply: StorageReply, turn: &mut Turn<'_>) {
        match wait {
            Wait::Create(creating) => self.on_create_reply(creating, reply, turn),
            Wait::Request(pending) => self.on_request_reply(*pending, reply, turn),
            Wait::Rename(renaming) => self.on_rename_reply(renaming, reply, turn),
            Wait::Exchange(exchanging) => self.on_exchange_reply(exchanging, reply, turn),
            Wait::Copy(copying) => self.on_copy_reply(copying, reply, turn),
            Wait::Returning(returning) => self.on_returning(*returning, reply, turn),
            Wait::Replay(replaying) => self.on_replay_attributes(*replaying, reply, turn),
            Wait::TimesSettled(open) => self.outstanding_done(open, Ticket::UNCOUNTED, turn),
            Wait::CloseAttributes(closing) => self.on_close_attributes(*closing, reply, turn),
            Wait::CloseUnlink(closing) => {
                self.report_unlinked(&closing, &reply, turn);
                self.own_entry_changed(closing.open, turn);
                self.on_close_unlinked(*closing, turn);
            }
            Wait::CloseEmpty(closing) => self.on_closing_empty(*closing, &reply, turn),
            Wait::CloseHandle(closing) => self.on_handle_closed(closing, turn),
            Wait::Local(listening) => self.on_local_news(*listening, reply, turn),
            Wait::Restoring(restoring) => self.on_restoring(restoring, reply, turn),
            Wait::Nothing => {
                turn.release(payload_of(&reply));
                debug_assert!(
                    !matches!(reply, StorageReply::Resolved(Resolved::Found(_))),
                    "a handle would leak"
                );
            }
            Wait::ClientJoined(_)
            | Wait::PreviousEnded(_)
            | Wait::Following(..)
            | Wait::Followed(_)
            | Wait::QueryPending(_)
            | Wait::Asking(_)
            | Wait::Lock(_)
            | Wait::Acknowledge(_)
            | Wait::Doom(_)
            | Wait::Disposed(_)
            | Wait::Watch(_)
            | Wait::Preserving(_)
            | Wait::Preserved(..)
            | Wait::Reclaim(..)
            | Wait::Reclaiming(..)
            | Wait::CloseDoomed(_)
            | Wait::CloseTold(_)
            | Wait::Recording(_)
            | Wait::Forgetting(_)
            | Wait::CloseForgotten(_) => debug_assert!(false, "storage answered what a machine was asked"),
        }
    }

    /// Another machine answered.
    pub(crate) fn on_machine_answer(&mut self, wait: Wait, answer: Answer, turn: &mut Turn<'_>) {
        match wait {
            Wait::ClientJoined(session) => self.on_client_joined(session, &answer, turn),
            Wait::PreviousEnded(session) => self.complete_setup(session, turn),
            Wait::Create(creating) => self.on_create_answer(creating, &answer, turn),
            Wait::QueryPending(pending) => self.on_query_pending(*pending, &answer, turn),
            Wait::Asking(asking) => self.on_checked(*asking, &answer, turn),
            Wait::Copy(copying) => self.on_copy_answer(copying, &answer, turn),
            Wait::Lock(locking) => self.on_lock_answer(*locking, &answer, turn),
            Wait::Acknowledge(acknowledging) => {
                self.on_acknowledgment_answer(acknowledging, &answer, turn);
            }
            Wait::Exchange(exchanging) => self.on_exchange_answer(exchanging, &answer, turn),
            Wait::Rename(renaming) => self.on_rename_answer(renaming, &answer, turn),
            Wait::Doom(disposing) => self.on_doom_answer(*disposing, &answer, turn),
            Wait::Disposed(disposing) => self.on_disposed(&disposing, &answer, turn),
            Wait::Preserving(open) => self.on_preserve_answer(open, &answer, turn),
            Wait::Preserved(session, open) => self.on_preserved(session, open, turn),
            Wait::Reclaim(asked) => self.on_reclaimed(*asked, answer, turn),
            Wait::Reclaiming(open, asker) => self.on_reclaim_checked(open, asker, answer, turn),
            Wait::Returning(returning) => self.on_returned(*returning, &answer, turn),
            Wait::Replay(replaying) => self.on_replayed(*replaying, &answer, turn),
            Wait::Watch(registering) => self.on_watch_answer(registering, &answer, turn),
            Wait::CloseDoomed(closing) => self.on_closing_doomed(*closing, &answer, turn),
            Wait::CloseTold(closing) => self.on_close_told(*closing, &answer, turn),
            Wait::Recording(recording) => self.on_held(recording, &answer, turn),
            Wait::Following(file, open) => self.on_followed(file, open, &answer, turn),
            Wait::Restoring(restoring) => self.on_restoring_answer(restoring, &answer, turn),
            Wait::Nothing
            | Wait::Local(_)
            | Wait::Request(_)
            | Wait::TimesSettled(_)
            | Wait::CloseAttributes(_)
            | Wait::CloseEmpty(_)
            | Wait::CloseUnlink(_)
            | Wait::CloseHandle(_)
            | Wait::Forgetting(_)
            | Wait::CloseForgotten(_)
            | Wait::Followed(_) => debug_assert!(false, "a machine answered what storage was asked"),
        }
    }

    /// Gives up a request: what can wait for ever ends now with this status; everything else ends by itself soon.
    pub(crate) fn cancel_wait(
        &mut self,
        connection: ConnectionId,
        message: MessageId,
        status: NtStatus,
        turn: &mut Turn<'_>,
    ) {
        let concerned =
            |origin: &Origin, _: OpenId| origin.connection == connection && origin.message == message;
        self.withdraw(|_| status, turn, concerned);
        self.abandon(status, turn, |pending| concerned(&pending.origin, pending.open));
        self.cancel_notify(connection, message, status, turn);
    }

    /// A connection is gone while its session goes on: requests of it that would wait for ever end (3.3.7.1). Not so a CREATE
    /// that its client will replay on another channel: what was done for it may not be done again.
    pub(crate) fn cancel_waits_of_connection(&mut self, connection: ConnectionId, turn: &mut Turn<'_>) {
        let concerned = |origin: &Origin| origin.connection == connection;
        let mut replayed = BTreeSet::new();
        for (_, wait) in self.waits.iter() {
            if let Wait::Create(creating) = wait {
                replayed.extend(creating.to_be_replayed());
            }
        }
        self.withdraw(
            |_| NtStatus::CANCELLED,
            turn,
            |origin, open| concerned(origin) && !replayed.contains(&open),
        );
        self.abandon(NtStatus::CANCELLED, turn, |pending| concerned(&pending.origin));
    }

    /// An open begins to close: requests that would wait for ever end.
    pub(crate) fn cancel_waits_of(&mut self, open: OpenId, turn: &mut Turn<'_>) {
        // What it waits to lock will never be locked.
        let status = |wait: &Wait| {
            if matches!(wait, Wait::Lock(_)) { NtStatus::RANGE_NOT_LOCKED } else { NtStatus::CANCELLED }
        };
        self.withdraw(status, turn, |_, other| other == open);
        self.abandon(NtStatus::CANCELLED, turn, |pending| pending.open == open);
    }

    /// A request of an open that began to close meanwhile asks the open's file: it waits there for nobody.
    pub(crate) fn withdraw_if_closing(&self, id: OpenId, origin: Origin, turn: &mut Turn<'_>) {
        if let Some(open) = self.opens.get(&id).filter(|open| open.is_closing()) {
            let ask = FileAsk::Withdraw { behind: origin.behind(), status: NtStatus::CANCELLED };
            turn.post(Address::File(open.file), Message::AskFile(ask, self.nobody()));
        }
    }

    /// Withdraws what waits at a file. It answers; then the request ends. A CREATE that is not there yet remembers it.
    fn withdraw(
        &mut self,
        status: impl Fn(&Wait) -> NtStatus,
        turn: &mut Turn<'_>,
        concerned: impl Fn(&Origin, OpenId) -> bool,
    ) {
        for (_, wait) in self.waits.iter() {
            let Some((file, origin, open)) = wait.at_file(self) else { continue };
            if concerned(&origin, open) {
                let ask = FileAsk::Withdraw { behind: origin.behind(), status: status(wait) };
                turn.post(Address::File(file), Message::AskFile(ask, self.nobody()));
            }
        }
        for (_, wait) in self.waits.iter_mut() {
            let status = status(wait);
            if let Wait::Create(creating) = wait {
                creating.give_up(status, &concerned);
            }
        }
        for creating in self.frozen.values_mut().flatten() {
            creating.give_up(NtStatus::CANCELLED, &concerned);
        }
    }

    fn abandon(&mut self, status: NtStatus, turn: &mut Turn<'_>, concerned: impl Fn(&Pending) -> bool) {
        for (token, wait) in self.waits.iter_mut() {
            let Wait::Request(pending) = wait else { continue };
            // Only a pipe's read waits for something that may never come.
            if pending.abandoned
                || !matches!(pending.then, Then::Read { pipe: true, .. })
                || !concerned(pending)
            {
                continue;
            }
            pending.abandoned = true;
            let spent = pending.spent.take();
            turn.push(crate::action::Action::Abandon { token });
            turn.finish(Finished { origin: pending.origin, status, body: Body::Error, open: None, spent });
        }
    }
}
