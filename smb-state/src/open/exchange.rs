//! An object that another takes the place of, under its name: a file that becomes a symbolic link, or a link that becomes a file.
//!
//! ```text
//! AskingFile -> Exchanging
//! ```
//! On the volume the object is another one afterwards, so it is done as a rename over a file is: the file says whether somebody
//! else has it open, and who opens it meanwhile waits, then starts again from its name. The driver keeps the number.
//!
//! A persistent open is refused: its record says which object it is of.

use smb_proto::command::change_notify::CompletionFilter;
use smb_proto::{Name, NtStatus};

use super::OpenRequest;
use super::ioctl::Control;
use crate::file::FileAsk;
use crate::ids::{BufferId, OpenId};
use crate::message::{Address, Answer, Finished, Message, Origin};
use crate::request::Ioctl;
use crate::response::{Body, IoctlOutput};
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Initial, Requester, StorageOp, StorageReply};

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
    /// The file keeps others out.
    granted: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    AskingFile,
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
                self.exchange(exchanging, Initial::default(), turn);
            }
            Answer::Refused(status) => self.end_exchange(*exchanging, *status, turn),
            _ => self.end_exchange(*exchanging, NtStatus::INTERNAL_ERROR, turn),
        }
    }

    fn exchange(&mut self, mut exchanging: Box<Exchanging>, initial: Initial, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&exchanging.open) else { return };
        let target = exchanging.target.clone();
        let op = StorageOp::SetLinkTarget { handle: open.handle, target, initial: Box::new(initial) };
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
