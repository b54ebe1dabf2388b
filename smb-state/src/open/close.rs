//! CLOSE, and closes that nobody asked for (MS-SMB2 3.3.5.10, 3.3.4.17; MS-FSA 2.1.5.5).
//!
//! Once nothing is outstanding: attributes if they are wanted, then the file is told, then a pending delete is carried out,
//! then the handle is closed, then the answer goes out.

use std::collections::VecDeque;

use smb_proto::NtStatus;
use smb_proto::command::close::{Flags, Request, Response};
use smb_proto::command::create::CreateOptions;

use super::{OpenRequest, State};
use crate::file::{FileAsk, Removal};
use crate::ids::{ConnectionId, OpenId};
use crate::message::{Address, Answer, Finished, Message, Origin};
use crate::namespace::NamespaceAsk;
use crate::response::Body;
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Attributes, Requester, StorageOp, StorageReply};
use crate::timer::Timer;

/// A CLOSE to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Closer {
    origin: Origin,
    wants_attributes: bool,
}

/// A close in progress: what of it is known so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Closing {
    pub(crate) open: OpenId,
    pub(crate) requester: Requester,
    attributes: Option<Attributes>,
    pub(crate) removing: Option<Removal>,
}

impl Shard {
    pub(crate) fn on_close(&mut self, request: &OpenRequest, close: &Request, turn: &mut Turn<'_>) {
        let wants_attributes = close.flags.contains(Flags::POSTQUERY_ATTRIB);
        let closer = Closer { origin: request.origin, wants_attributes };
        self.close(request.open, Some(closer), turn);
    }

    /// Closes an open because its tree connect or session ends.
    pub(crate) fn close_unasked(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        self.close(id, None, turn);
    }

    fn close(&mut self, id: OpenId, closer: Option<Closer>, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get_mut(&id) else { return };
        match &mut open.state {
            // A CREATE in progress notices at its end that its session or tree connect is gone; it waits for no client.
            State::Creating => self.cancel_waits_of(id, turn),
            State::Closing(closers) => closers.extend(closer),
            State::Leaving | State::Preserved | State::Reclaiming => {
                let file_was_asked = open.outstanding.is_empty();
                open.state = State::Closing(no_closers());
                if file_was_asked {
                    self.begin_close(id, turn);
                }
            }
            State::Ready => {
                open.state = State::Closing(closer.into_iter().collect());
                if !open.outstanding.is_empty() {
                    self.cancel_waits_of(id, turn);
                }
                self.end_watch(id, NtStatus::NOTIFY_CLEANUP, turn);
                self.disarm(Timer::WriteTime(id), turn);
                if self.opens.get(&id).is_some_and(|open| open.outstanding.is_empty()) {
                    self.begin_close(id, turn);
                }
            }
        }
    }

    /// Nothing is outstanding: the close can run.
    pub(crate) fn begin_close(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&id) else { return };
        let State::Closing(closers) = &open.state else { return };
        let connection = closers.front().map_or(ConnectionId(0), |closer| closer.origin.connection);
        let requester =
            Requester { volume: open.volume(), session: open.session, connection, share: open.share };
        let closing = Closing { open: id, requester: requester.clone(), attributes: None, removing: None };
        let wants_attributes = closers.iter().any(|closer| closer.wants_attributes);
        let last_words = open.last_words(wants_attributes);
        if open.has_record() {
            if self.outlives_stop(id) {
                // Nothing that its close would lead to happens: it is there again after the next start.
                return self.close_handle(closing, turn);
            }
            if self.forget_record_first(id, turn) {
                return;
            }
        }
        match last_words {
            Some(op) => self.submit(requester, op, Wait::CloseAttributes(Box::new(closing)), turn),
            None => self.leave_file(closing, turn),
        }
    }

    pub(crate) fn on_close_attributes(
        &mut self,
        mut closing: Closing,
        reply: StorageReply,
        turn: &mut Turn<'_>,
    ) {
        if let StorageReply::Attributes(attributes) = reply {
            closing.attributes = Some(attributes);
        }
        self.leave_file(closing, turn);
    }

    fn leave_file(&mut self, closing: Closing, turn: &mut Turn<'_>) {
        if self.opens.get(&closing.open).is_some_and(super::Open::deletes_directory) {
            self.doom_closing(closing, turn);
        } else {
            self.tell_file_closed(closing, turn);
        }
    }

    pub(crate) fn tell_file_closed(&mut self, closing: Closing, turn: &mut Turn<'_>) {
        let Some(file) = self.opens.get(&closing.open).map(|open| open.file) else { return };
        let open = closing.open;
        let asker = self.wait(Wait::CloseTold(Box::new(closing)));
        turn.post(Address::File(file), Message::AskFile(FileAsk::Close { open }, asker));
    }

    pub(crate) fn on_close_told(&mut self, mut closing: Closing, answer: &Answer, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&closing.open) else { return };
        if let Answer::Closed { remove: Some(removal) } = answer {
            let handle = open.handle;
            let op = if removal.stream.is_empty() {
                StorageOp::Unlink { handle }
            } else {
                StorageOp::UnlinkStream { handle }
            };
            closing.removing = Some(removal.clone());
            let requester = closing.requester.clone();
            return self.submit(requester, op, Wait::CloseUnlink(Box::new(closing)), turn);
        }
        if open.options.contains(CreateOptions::DELETE_ON_CLOSE) {
            // Others have the directory open: its delete is pending from now on.
            self.report_doomed(closing.open, turn);
        }
        self.close_handle(closing, turn);
    }

    pub(crate) fn on_close_unlinked(&mut self, mut closing: Closing, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&closing.open) else { return };
        let (file, volume) = (open.file, open.volume());
        let Some(removal) = closing.removing.take() else { return };
        if !removal.stream.is_empty() {
            // The link's delete may have waited for the stream.
            let asker = self.wait(Wait::CloseTold(Box::new(closing)));
            return turn.post(Address::File(file), Message::AskFile(FileAsk::Removed(removal), asker));
        }
        // What a stream belongs to may be a directory.
        let directory = (open.is_directory() || !open.stream.is_empty()).then_some(open.file.number);
        let asker = self.nobody();
        turn.post(Address::File(file), Message::AskFile(FileAsk::Removed(removal), asker));
        if let Some(directory) = directory {
            turn.post(
                Address::Namespace(volume),
                Message::AskNamespace(NamespaceAsk::Spare(directory), asker),
            );
        }
        self.close_handle(closing, turn);
    }

    fn close_handle(&mut self, closing: Closing, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&closing.open) else { return };
        let op = StorageOp::Close { handle: open.handle };
        let requester = closing.requester.clone();
        self.submit(requester, op, Wait::CloseHandle(Box::new(closing)), turn);
    }

    pub(crate) fn on_handle_closed(&mut self, closing: Box<Closing>, turn: &mut Turn<'_>) {
        let id = closing.open;
        // What has a record has a CreateGuid.
        if let Some(open) = self.opens.get(&id).filter(|open| open.created.is_some()) {
            if open.has_record() && !self.outlives_stop(id) {
                return self.forget_record_last(closing, turn);
            }
            self.end_replay(id, turn);
        }
        let Some(open) = self.opens.remove(&id) else { return };
        if open.kept {
            self.preserved_is_gone(id, open.durable.as_ref().map(|durable| &durable.owner), turn);
            if let Some(durable) = open.durable.as_ref().filter(|durable| durable.persistent.is_some()) {
                self.persists_no_more(&durable.owner);
            }
        } else if let Some(durable) = &open.durable {
            let persistent = durable.persistent.map(|_| Box::new(durable.owner.clone()));
            turn.post(Address::Open(id), Message::Gone { open: id, persistent });
        }
        let remembered = open.persistent().is_some_and(|persistent| persistent.remembered);
        let status = if remembered { NtStatus::UNEXPECTED_IO_ERROR } else { NtStatus::SUCCESS };
        if let State::Closing(closers) = &open.state {
            for closer in closers {
                let wanted = closer.wants_attributes.then_some(closing.attributes).flatten();
                let body = if remembered { Body::Error } else { Body::Close(close_response(wanted)) };
                turn.finish(Finished {
                    origin: closer.origin,
                    status,
                    body,
                    open: Some(open.file_id(id)),
                    spent: None,
                });
            }
        }
        self.unclaim_lease(open.client, open.lease, turn);
        self.uncache_directory(open.file, open.cached_in, turn);
        if open.wrote {
            self.entry_changed(open.volume(), open.link.parent, open.parent_lease(), turn);
        }
        self.open_is_gone(open.session, open.tree, id, turn);
    }

    /// Gives a handle back that no open has.
    pub(crate) fn forget_handle(
        &mut self,
        handle: crate::ids::Handle,
        requester: Requester,
        turn: &mut Turn<'_>,
    ) {
        self.submit(requester, StorageOp::Close { handle }, Wait::Nothing, turn);
    }
}

fn close_response(attributes: Option<Attributes>) -> Response {
    let Some(attributes) = attributes else { return Response::default() };
    Response {
        flags: Flags::POSTQUERY_ATTRIB,
        creation_time: attributes.creation,
        last_access_time: attributes.last_access,
        last_write_time: attributes.last_write,
        change_time: attributes.change,
        allocation_size: attributes.allocation,
        end_of_file: attributes.end_of_file,
        file_attributes: attributes.dos,
    }
}

/// The queue of closes of an open that was just asked to close.
#[must_use]
pub(crate) fn no_closers() -> VecDeque<Closer> {
    VecDeque::new()
}
