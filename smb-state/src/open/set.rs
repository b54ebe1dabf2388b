//! SET_INFO (MS-SMB2 3.3.5.21, MS-FSA 2.1.5.15, 2.1.5.16). Renames and links are in `rename`.
//!
//! Not done: volume information, quotas, short names, valid data length, POSIX delete semantics.

use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::attributes::FileAttributes;
use smb_proto::command::change_notify::CompletionFilter;
use smb_proto::command::create::CreateOptions;
use smb_proto::command::query_info::SecurityInformation;
use smb_proto::fscc::file_info::{DispositionFlags, SetFileInformation};
use smb_proto::security::descriptor::SecurityDescriptor;

use super::checked::Way;
use super::io::{Pending, Then};
use super::{Open, OpenRequest};
use crate::file::FileAsk;
use crate::file::caching::Cause;
use crate::ids::OpenId;
use crate::message::{Address, Answer, Finished, Message, Origin};
use crate::namespace::NamespaceAsk;
use crate::request::{SetInfo, Setting};
use crate::response::Body;
use crate::security::{check_owner, with_specific_rights};
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Kind, StorageOp, StorageReply};

/// A setting that is with storage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Set {
    /// Done when storage is.
    Plain,
    /// A step of a delete disposition: the attributes, or whether a directory is empty. Goes on in `on_dispose_reply`.
    Disposition,
    /// The creation time of a persistent open's file, by which its record tells the file from a later one of the same number.
    Creation,
}

/// A delete disposition on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Disposing {
    pub open: OpenId,
    pub origin: Origin,
    /// It is to be deleted; otherwise a disposition is taken back.
    pub delete: bool,
}

impl Shard {
    pub(crate) fn on_set_info(
        &mut self,
        request: &OpenRequest,
        set: &SetInfo,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        if set.length > request.execution.terms.io_size_max {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        match &set.what {
            Setting::File(information) => self.on_set_file(request, information, turn),
            Setting::Security { parts, descriptor } => {
                self.on_set_security(request, *parts, descriptor, turn)
            }
            Setting::Volume(_) => Err(NtStatus::ACCESS_DENIED),
            Setting::Quota => Err(NtStatus::NOT_SUPPORTED),
            Setting::InvalidClass => Err(NtStatus::INVALID_INFO_CLASS),
            Setting::TooShort => Err(NtStatus::INFO_LENGTH_MISMATCH),
            Setting::Invalid => Err(NtStatus::INVALID_PARAMETER),
            Setting::InvalidEaName => Err(NtStatus::INVALID_EA_NAME),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "only changes of size break what others cache")]
    fn on_set_file(
        &mut self,
        request: &OpenRequest,
        information: &SetFileInformation,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let open = self.opens.get_mut(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        let handle = open.handle;
        let cause = match information {
            SetFileInformation::EndOfFile(_) | SetFileInformation::Allocation(_) => Some(Cause::Write),
            _ => None,
        };
        let op = match information {
            SetFileInformation::Basic(basic) => {
                open.check_any(AccessMask::WRITE_ATTRIBUTES)?;
                let set = open.change_basic(basic)?;
                if open.changes_generation(set.creation) {
                    let op = StorageOp::SetAttributes { handle, set };
                    self.submit_for(request, op, Then::Set(Set::Creation), turn);
                    return Ok(());
                }
                StorageOp::SetAttributes { handle, set }
            }
            SetFileInformation::EndOfFile(size) => {
                check_size(open, *size)?;
                open.writes_are_told();
                StorageOp::SetEndOfFile { handle, size: *size }
            }
            SetFileInformation::Allocation(size) => {
                check_size(open, *size)?;
                open.writes_are_told();
                StorageOp::SetAllocation { handle, size: *size }
            }
            SetFileInformation::FullEa(eas) => {
                open.check_any(AccessMask::WRITE_EA)?;
                if !open.caps.extended_attributes {
                    return Err(NtStatus::EAS_NOT_SUPPORTED);
                }
                StorageOp::SetEas { handle, eas: eas.clone() }
            }
            SetFileInformation::Position(position) => {
                open.position = *position;
                return self.set_is_done(request, turn);
            }
            SetFileInformation::Mode(mode) => {
                set_mode(open, mode.0)?;
                return self.set_is_done(request, turn);
            }
            SetFileInformation::Disposition(delete) => return self.on_dispose(request, *delete, turn),
            SetFileInformation::DispositionEx(flags) => {
                if flags.intersects(DispositionFlags::POSIX_SEMANTICS) {
                    return Err(NtStatus::NOT_SUPPORTED);
                }
                return self.on_dispose(request, flags.contains(DispositionFlags::DELETE), turn);
            }
            SetFileInformation::Rename(rename) | SetFileInformation::RenameEx(rename) => {
                return self.on_rename(request, rename, false, turn);
            }
            SetFileInformation::Link(link) | SetFileInformation::LinkEx(link) => {
                return self.on_rename(request, link, true, turn);
            }
            SetFileInformation::Pipe(_) if open.kind == Kind::Pipe => return self.set_is_done(request, turn),
            SetFileInformation::Pipe(_)
            | SetFileInformation::ShortName(_)
            | SetFileInformation::ValidDataLength(_) => {
                return Err(NtStatus::NOT_SUPPORTED);
            }
        };
        match cause {
            Some(cause) => self.submit_checked(request, cause, op, Then::Set(Set::Plain), turn),
            None => self.submit_for(request, op, Then::Set(Set::Plain), turn),
        }
        Ok(())
    }

    fn set_is_done(&mut self, request: &OpenRequest, turn: &mut Turn<'_>) -> Result<(), NtStatus> {
        turn.finish(Finished {
            origin: request.origin,
            status: NtStatus::SUCCESS,
            body: Body::SetInfo,
            open: Some(request.file_id),
            spent: None,
        });
        Ok(())
    }

    fn on_set_security(
        &mut self,
        request: &OpenRequest,
        parts: SecurityInformation,
        descriptor: &SecurityDescriptor,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let open = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        let owners =
            SecurityInformation::OWNER.with(SecurityInformation::GROUP).with(SecurityInformation::LABEL);
        if parts.intersects(owners) {
            open.check_any(AccessMask::WRITE_OWNER)?;
        }
        if parts.intersects(SecurityInformation::DACL) {
            open.check_any(AccessMask::WRITE_DAC)?;
        }
        if parts.intersects(SecurityInformation::SACL) {
            open.check_any(AccessMask::ACCESS_SYSTEM_SECURITY)?;
        }
        if !open.caps.security {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        if parts.contains(SecurityInformation::OWNER) {
            let token = self.token(open.session).ok_or(NtStatus::USER_SESSION_DELETED)?;
            check_owner(descriptor.owner.as_ref(), &token)?;
        }
        let descriptor = Box::new(with_specific_rights(descriptor));
        let op = StorageOp::SetSecurity { handle: open.handle, parts, descriptor };
        self.submit_checked(request, Cause::Delete, op, Then::Set(Set::Plain), turn);
        Ok(())
    }

    /// FileDispositionInformation (MS-FSA 2.1.5.15.3). A directory must be empty, and stays so: the namespace lets no name
    /// into it once it is doomed.
    fn on_dispose(
        &mut self,
        request: &OpenRequest,
        delete: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let open = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        open.check_any(AccessMask::DELETE)?;
        if open.kind == Kind::Pipe {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if delete && open.path.is_empty() {
            return Err(NtStatus::CANNOT_DELETE);
        }
        if delete {
            // A read-only file can't be deleted: look before the mark is set.
            let op = StorageOp::Attributes { handle: open.handle };
            self.submit_for(request, op, Then::Set(Set::Disposition), turn);
        } else {
            self.tell_disposition(request.open, request.origin, false, turn);
        }
        Ok(())
    }

    pub(crate) fn set_outcome(
        &mut self,
        id: OpenId,
        set: &Set,
        reply: StorageReply,
        _turn: &mut Turn<'_>,
    ) -> (NtStatus, Body) {
        debug_assert!(self.opens.contains_key(&id), "an open outlives its requests");
        match (set, reply) {
            (Set::Plain | Set::Creation, StorageReply::Done) => (NtStatus::SUCCESS, Body::SetInfo),
            (Set::Plain | Set::Creation | Set::Disposition, _) => (NtStatus::INTERNAL_ERROR, Body::Error),
        }
    }

    /// Goes on with a delete disposition after storage answered.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an answer of another kind is the driver's fault, whatever kind it is"
    )]
    pub(crate) fn on_dispose_reply(&mut self, pending: Pending, reply: StorageReply, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&pending.open) else { return };
        let (id, origin) = (pending.open, pending.origin);
        match reply {
            StorageReply::Attributes(attributes) => {
                if attributes.dos.contains(FileAttributes::READONLY) {
                    return self.end_dispose(id, origin, NtStatus::CANNOT_DELETE, turn);
                }
                if open.is_directory() {
                    let (volume, number) = (open.volume(), open.file.number);
                    let asker = self.wait(Wait::Doom(Box::new(Disposing { open: id, origin, delete: true })));
                    let ask = NamespaceAsk::Doom(number);
                    turn.post(Address::Namespace(volume), Message::AskNamespace(ask, asker));
                } else {
                    self.tell_disposition_counted(id, origin, turn);
                }
            }
            // The directory is empty, and doomed: nothing comes into it any more.
            StorageReply::Done => self.tell_disposition_counted(id, origin, turn),
            StorageReply::Failed(status) => {
                self.spare_directory(id, turn);
                self.end_dispose(id, origin, status, turn);
            }
            _ => self.end_dispose(id, origin, NtStatus::INTERNAL_ERROR, turn),
        }
    }

    /// The namespace answered whether names can be kept out of a directory.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an answer to another question is a bug, whichever it is"
    )]
    pub(crate) fn on_doom_answer(&mut self, disposing: Disposing, answer: &Answer, turn: &mut Turn<'_>) {
        let Disposing { open: id, origin, .. } = disposing;
        let Some(open) = self.opens.get_mut(&id) else { return };
        let (volume, number, handle) = (open.volume(), open.file.number, open.handle);
        match answer {
            Answer::Granted => {
                open.doomed = true;
                let op = StorageOp::CheckEmpty { handle };
                let requester = open.requester(&origin);
                let (then, changes) = (Then::Set(Set::Disposition), CompletionFilter::EMPTY);
                let pending = Pending {
                    open: id,
                    origin,
                    spent: None,
                    abandoned: false,
                    way: Way::Free,
                    changes,
                    then,
                };
                self.submit(requester, op, Wait::Request(Box::new(pending)), turn);
            }
            Answer::Again => {
                let asker = self.wait(Wait::Doom(Box::new(disposing)));
                let ask = NamespaceAsk::Doom(number);
                turn.post(Address::Namespace(volume), Message::AskNamespace(ask, asker));
            }
            Answer::Refused(status) => self.end_dispose(id, origin, *status, turn),
            _ => self.end_dispose(id, origin, NtStatus::INTERNAL_ERROR, turn),
        }
    }

    fn spare_directory(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get_mut(&id) else { return };
        if std::mem::take(&mut open.doomed) {
            let (volume, number) = (open.volume(), open.file.number);
            let ask = NamespaceAsk::Spare(number);
            turn.post(Address::Namespace(volume), Message::AskNamespace(ask, self.nobody()));
        }
    }

    fn end_dispose(&mut self, id: OpenId, origin: Origin, status: NtStatus, turn: &mut Turn<'_>) {
        let open = self.opens.get(&id).map(|open| open.file_id(id));
        let body = if status.is_error() { Body::Error } else { Body::SetInfo };
        let finished = Finished { origin, status, body, open, spent: None };
        self.finish_recorded(id, finished, !status.is_error(), (None, Vec::new()), turn);
    }

    /// Clears the disposition; nothing was outstanding for it yet.
    fn tell_disposition(&mut self, id: OpenId, origin: Origin, delete: bool, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get_mut(&id) else { return };
        open.outstanding.begin(origin.ticket);
        // Another open may have announced the directory.
        open.doomed = open.doomed || open.is_directory();
        self.spare_directory(id, turn);
        self.ask_disposition(id, origin, delete, turn);
    }

    fn ask_disposition(&mut self, id: OpenId, origin: Origin, delete: bool, turn: &mut Turn<'_>) {
        let Some(file) = self.opens.get(&id).map(|open| open.file) else { return };
        let asker = self.wait(Wait::Disposed(Box::new(Disposing { open: id, origin, delete })));
        let ask = FileAsk::Dispose { open: id, delete, behind: origin.behind() };
        turn.post(Address::File(file), Message::AskFile(ask, asker));
        self.withdraw_if_closing(id, origin, turn);
    }

    fn tell_disposition_counted(&mut self, id: OpenId, origin: Origin, turn: &mut Turn<'_>) {
        self.ask_disposition(id, origin, true, turn);
    }

    pub(crate) fn on_disposed(&mut self, disposing: &Disposing, answer: &Answer, turn: &mut Turn<'_>) {
        let Disposing { open, origin, delete } = *disposing;
        if let Answer::Refused(status) = answer {
            // It waited for a client, and was given up.
            self.spare_directory(open, turn);
            return self.end_dispose(open, origin, *status, turn);
        }
        if delete {
            self.report_doomed(open, turn);
        }
        self.end_dispose(open, origin, NtStatus::SUCCESS, turn);
    }
}

fn check_size(open: &Open, size: u64) -> Result<(), NtStatus> {
    open.check_any(AccessMask::WRITE_DATA)?;
    if open.kind != Kind::File || i64::try_from(size).is_err() {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    Ok(())
}

/// FileModeInformation (MS-FSA 2.1.5.15.9): only these bits, and not both kinds of synchronous I/O.
fn set_mode(open: &mut Open, mode: u32) -> Result<(), NtStatus> {
    let settable = CreateOptions::WRITE_THROUGH
        .with(CreateOptions::SEQUENTIAL_ONLY)
        .with(CreateOptions::SYNCHRONOUS_IO_ALERT)
        .with(CreateOptions::SYNCHRONOUS_IO_NONALERT);
    let mode = CreateOptions(mode);
    let both = CreateOptions::SYNCHRONOUS_IO_ALERT.with(CreateOptions::SYNCHRONOUS_IO_NONALERT);
    if !settable.contains(mode) || mode.contains(both) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    open.options = open.options.without(settable).with(mode);
    Ok(())
}
