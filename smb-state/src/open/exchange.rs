//! An object that another takes the place of, under its name: a file that becomes a symbolic link, or a link that becomes a file.
//!
//! ```text
//! AskingFile -> ResolvingParent -> [ResolvingObject] -> Exchanging
//! ```
//! On the volume the object is another one afterwards, so it is done as a rename over a file is: the file says whether somebody
//! else has it open, and who opens it meanwhile waits, then starts again from its name. The driver keeps the number.
//!
//! The control itself asks for the right to write data or attributes through the open (MS-FSA 2.1.5.10.3, 2.1.5.10.37). As one
//! object goes and another is made, it needs what that needs as well: FILE_ADD_FILE on the directory as it is now, and DELETE,
//! which the open was granted, the directory grants as FILE_DELETE_CHILD, or the object's descriptor does (MS-FSA 2.1.5.1.2.1).
//! A file that is made so is the user's, and has the descriptor that the directory hands down, as one of a CREATE (MS-FSA
//! 2.1.5.1.1); a link has none of its own.
//!
//! A persistent open is refused: its record says which object it is of.

use smb_proto::access::AccessMask;
use smb_proto::attributes::FileAttributes;
use smb_proto::command::change_notify::CompletionFilter;
use smb_proto::security::descriptor::SecurityDescriptor;
use smb_proto::{Name, NtStatus};

use super::OpenRequest;
use super::ioctl::Control;
use crate::file::FileAsk;
use crate::ids::{BufferId, OpenId};
use crate::message::{Address, Answer, Finished, Message, Origin};
use crate::request::Ioctl;
use crate::response::{Body, IoctlOutput};
use crate::security::new_descriptor;
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Initial, Kind, Requester, Resolved, StorageOp, StorageReply};

const BACKSLASH: u16 = b'\\' as u16;

/// An exchange in progress. Its open counts it as outstanding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Exchanging {
    open: OpenId,
    origin: Origin,
    requester: Requester,
    control: Control,
    /// The request's own payload.
    spent: Option<BufferId>,
    /// Where the link leads; `None` makes it a file.
    target: Option<Name>,
    /// The directory's descriptor, once it was looked at.
    directory: Option<Box<SecurityDescriptor>>,
    /// The file keeps others out.
    granted: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    AskingFile,
    ResolvingParent,
    ResolvingObject,
    Exchanging,
}

impl Shard {
    /// Begins an exchange for a control.
    pub(super) fn begin_exchange(
        &mut self,
        request: &OpenRequest,
        ioctl: &Ioctl,
        target: Option<Name>,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let open = self.opens.get_mut(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        if !open.stream.is_empty() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if open.path.is_empty() {
            return Err(NtStatus::ACCESS_DENIED);
        }
        if open.persistent().is_some() {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        open.outstanding.begin(request.origin.ticket);
        let file = open.file;
        let exchanging = Exchanging {
            open: request.open,
            origin: request.origin,
            requester: open.requester(&request.origin),
            control: Control::new(ioctl, request.file_id),
            spent: request.execution.request.command.buffer(),
            target,
            directory: None,
            granted: false,
            stage: Stage::AskingFile,
        };
        let asker = self.wait(Wait::Exchange(Box::new(exchanging)));
        let ask = FileAsk::Exchange { open: request.open };
        turn.post(Address::File(file), Message::AskFile(ask, asker));
        Ok(())
    }

    /// The file answered.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an answer to another question is a bug, whichever it is"
    )]
    pub(crate) fn on_exchange_answer(
        &mut self,
        mut exchanging: Box<Exchanging>,
        answer: &Answer,
        turn: &mut Turn<'_>,
    ) {
        match answer {
            Answer::Granted => {
                exchanging.granted = true;
                exchanging.stage = Stage::ResolvingParent;
                self.resolve_exchanged(exchanging, turn);
            }
            Answer::Refused(status) => self.end_exchange(*exchanging, *status, turn),
            _ => self.end_exchange(*exchanging, NtStatus::INTERNAL_ERROR, turn),
        }
    }

    /// Looks up the directory, or the object itself, for what its descriptor grants.
    fn resolve_exchanged(&mut self, exchanging: Box<Exchanging>, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&exchanging.open) else { return };
        let mut path: Vec<Name> = open
            .path
            .units()
            .split(|unit| *unit == BACKSLASH)
            .map(|part| Name::from_units(part.to_vec()))
            .collect();
        if exchanging.stage == Stage::ResolvingParent {
            path.pop();
        }
        let op = StorageOp::Resolve { path, stream: None };
        self.submit(exchanging.requester.clone(), op, Wait::Exchange(exchanging), turn);
    }

    /// The directory, or the object, was looked up.
    fn on_exchanged_resolved(
        &mut self,
        mut exchanging: Box<Exchanging>,
        resolved: Resolved,
        turn: &mut Turn<'_>,
    ) {
        let (object, found) = match resolved {
            Resolved::Found(object) => (object, true),
            Resolved::NoName { parent: object } | Resolved::NoStream { file: object } => (object, false),
            Resolved::NoPath | Resolved::NotADirectory | Resolved::Link { .. } => {
                return self.end_exchange(*exchanging, NtStatus::OBJECT_PATH_NOT_FOUND, turn);
            }
        };
        self.forget_handle(object.handle, exchanging.requester.clone(), turn);
        let Some(open) = self.opens.get(&exchanging.open) else { return };
        let of_parent = exchanging.stage == Stage::ResolvingParent;
        let wanted = if of_parent { open.link.parent } else { open.file.number };
        if !found || object.attributes.number != wanted {
            // A local program moved something above.
            return self.end_exchange(*exchanging, NtStatus::OBJECT_PATH_NOT_FOUND, turn);
        }
        let Origin { session, tree, .. } = exchanging.origin;
        let trees = self.sessions.get(&session).map(|session| &session.trees);
        let tree = trees.and_then(|trees| trees.get(&tree)).map(|tree| tree.maximal_access);
        let maximal = tree.unwrap_or_default();
        let rights = self.rights(session, object.security.as_deref());
        let deletes = open.access.contains(AccessMask::DELETE);
        if of_parent {
            exchanging.directory = object.security;
            if !maximal.masked(rights).contains(AccessMask::ADD_FILE) {
                return self.end_exchange(*exchanging, NtStatus::ACCESS_DENIED, turn);
            }
            let by_parent = maximal.contains(AccessMask::DELETE) && rights.contains(AccessMask::DELETE_CHILD);
            if !deletes && !by_parent {
                exchanging.stage = Stage::ResolvingObject;
                return self.resolve_exchanged(exchanging, turn);
            }
        } else if !maximal.masked(rights).contains(AccessMask::DELETE) {
            return self.end_exchange(*exchanging, NtStatus::ACCESS_DENIED, turn);
        }
        self.exchange(exchanging, turn);
    }

    fn exchange(&mut self, mut exchanging: Box<Exchanging>, turn: &mut Turn<'_>) {
        let Some(handle) = self.opens.get(&exchanging.open).map(|open| open.handle) else { return };
        let initial = match (&exchanging.target, self.token(exchanging.origin.session)) {
            (Some(_), _) => Initial::default(),
            (None, Some(token)) => Initial {
                dos: FileAttributes::ARCHIVE,
                security: new_descriptor(exchanging.directory.as_deref(), None, Kind::File, &token),
                owner: Some(token.user),
                ..Initial::default()
            },
            (None, None) => {
                return self.end_exchange(*exchanging, NtStatus::USER_SESSION_DELETED, turn);
            }
        };
        let target = exchanging.target.clone();
        let op = StorageOp::SetLinkTarget { handle, target, initial: Box::new(initial) };
        exchanging.stage = Stage::Exchanging;
        self.submit(exchanging.requester.clone(), op, Wait::Exchange(exchanging), turn);
    }

    /// Storage answered.
    pub(crate) fn on_exchange_reply(
        &mut self,
        exchanging: Box<Exchanging>,
        reply: StorageReply,
        turn: &mut Turn<'_>,
    ) {
        match (exchanging.stage, reply) {
            (Stage::Exchanging, StorageReply::Done) => {
                self.report_modified(exchanging.open, CompletionFilter::ATTRIBUTES, turn);
                self.own_entry_changed(exchanging.open, turn);
                self.end_exchange(*exchanging, NtStatus::SUCCESS, turn);
            }
            (Stage::ResolvingParent | Stage::ResolvingObject, StorageReply::Resolved(resolved)) => {
                self.on_exchanged_resolved(exchanging, resolved, turn);
            }
            (_, StorageReply::Failed(status)) => self.end_exchange(*exchanging, status, turn),
            (_, _) => self.end_exchange(*exchanging, NtStatus::INTERNAL_ERROR, turn),
        }
    }

    /// Lets others in again, and answers.
    fn end_exchange(&mut self, exchanging: Exchanging, status: NtStatus, turn: &mut Turn<'_>) {
        let Exchanging { open, origin, control, spent, granted, .. } = exchanging;
        if granted && let Some(file) = self.opens.get(&open).map(|open| open.file) {
            turn.post(Address::File(file), Message::AskFile(FileAsk::Exchanged { open }, self.nobody()));
        }
        let Control { code, file_id, .. } = control;
        let body = match status.is_error() {
            true => Body::Error,
            false => Body::Ioctl { code, file_id, output: IoctlOutput::Nothing },
        };
        turn.finish(Finished { origin, status, body, open: Some(file_id), spent });
        self.outstanding_done(open, origin.ticket, turn);
    }
}
