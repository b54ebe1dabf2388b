//! IOCTL (MS-SMB2 3.3.5.15, MS-FSA 2.1.5.10). Server-side copy is in `copy`.
//!
//! Answered here: VALIDATE_NEGOTIATE_INFO, QUERY_NETWORK_INTERFACE_INFO, SRV_REQUEST_RESUME_KEY, SRV_COPYCHUNK(_WRITE), PIPE_TRANSCEIVE, SET_SPARSE,
//! SET_ZERO_DATA, QUERY_ALLOCATED_RANGES, GET_REPARSE_POINT, SET_REPARSE_POINT and DELETE_REPARSE_POINT (in `reparse`), DUPLICATE_EXTENTS_TO_FILE(_EX) and FILE_LEVEL_TRIM (in `extents`),
//! SRV_ENUMERATE_SNAPSHOTS (there are none), GET_OBJECT_ID and CREATE_OR_GET_OBJECT_ID (the id is made of the file's number), GET_COMPRESSION and SET_COMPRESSION (no file is ever compressed). Everything
//! else is INVALID_DEVICE_REQUEST, which is how a server says that it does not have a control.

use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::command::FileId;
use smb_proto::command::ioctl::NetworkInterface;
use smb_proto::command::ioctl::{
    FsctlCode, ResumeKey, ResumeKeyResponse, SnapshotArray, ValidateNegotiateRequest,
    ValidateNegotiateResponse,
};
use smb_proto::command::negotiate::Dialect;
use smb_proto::fscc::fsctl;

use super::io::{Then, payload_of};
use super::{Open, OpenRequest};
use crate::action::{Action, Audit};
use crate::connection::Negotiated;
use crate::file::caching::Cause;
use crate::ids::OpenId;
use crate::message::{Address, Execution, Finished, Message, Origin};
use crate::request::{Command, Ioctl, IoctlInput};
use crate::response::{Body, IoctlOutput};
use crate::shard::{Shard, Turn};
use crate::storage::{Kind, StorageOp, StorageReply};

/// Ranges that one answer may list; more than any client asks for at once.
const RANGES_MAX: u32 = 65_536;

/// A control that is with storage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Control {
    pub code: FsctlCode,
    pub file_id: FileId,
    pub output_max: u32,
    /// What is answered when storage only says that it is done.
    pub output: Vec<u8>,
}

impl Control {
    pub(crate) fn new(ioctl: &Ioctl, file_id: FileId) -> Self {
        Self { code: ioctl.code, file_id, output_max: ioctl.output_max, output: Vec::new() }
    }
}

/// The key under which an open can be named as the source of a copy. It names; it proves nothing: whoever uses it must
/// own the open.
pub(crate) fn resume_key(id: OpenId, volatile: u64) -> ResumeKey {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&id.0.to_le_bytes());
    key[8..16].copy_from_slice(&volatile.to_le_bytes());
    ResumeKey(key)
}

impl Shard {
    /// Controls that name no open.
    pub(crate) fn on_ioctl_without_open(
        &mut self,
        origin: Origin,
        execution: &Execution,
        turn: &mut Turn<'_>,
    ) {
        let Command::Ioctl(ioctl) = &execution.request.command else { return };
        let spent = execution.request.command.buffer();
        let outcome = match (&ioctl.input, ioctl.code) {
            _ if !ioctl.is_fsctl => Err(NtStatus::NOT_SUPPORTED),
            (_, FsctlCode::QUERY_NETWORK_INTERFACE_INFO) => self.network_interfaces(execution, ioctl),
            (IoctlInput::ValidateNegotiate(request), _) => {
                match self.validate_negotiate(execution.negotiated.as_deref(), ioctl.output_max, request) {
                    Validation::Good(response) => {
                        let mut out = Vec::new();
                        response.emit(&mut out);
                        Ok(out)
                    }
                    Validation::Refused(status) => Err(status),
                    Validation::Tampered => {
                        turn.release(spent);
                        let what = "negotiation was tampered with";
                        return turn
                            .post(Address::Connection(origin.connection), Message::Misbehaved { what });
                    }
                }
            }
            // There is no DFS here (3.3.5.15.2).
            (_, FsctlCode::DFS_GET_REFERRALS | FsctlCode::DFS_GET_REFERRALS_EX) => {
                Err(NtStatus::FS_DRIVER_REQUIRED)
            }
            _ => Err(NtStatus::INVALID_DEVICE_REQUEST),
        };
        let (status, body) = match outcome {
            Ok(bytes) => {
                let output = IoctlOutput::Bytes(bytes);
                (NtStatus::SUCCESS, Body::Ioctl { code: ioctl.code, file_id: FileId::ALL_ONES, output })
            }
            Err(status) => (status, Body::Error),
        };
        turn.finish(Finished { origin, status, body, open: execution.related_open, spent });
    }

    /// FSCTL_VALIDATE_NEGOTIATE_INFO (3.3.5.15.12): what the client says it sent is what arrived.
    fn validate_negotiate(
        &self,
        negotiated: Option<&Negotiated>,
        output_max: u32,
        request: &ValidateNegotiateRequest,
    ) -> Validation {
        let Some(state) = negotiated else {
            return Validation::Refused(NtStatus::INVALID_PARAMETER);
        };
        // On 3.1.1 the preauthentication hash has proved the same; asking again is a fault (3.3.5.15.12, S9).
        if state.terms.dialect == Dialect::SMB_3_1_1 {
            return Validation::Tampered;
        }
        if output_max < 24 {
            return Validation::Refused(NtStatus::INVALID_PARAMETER);
        }
        let dialects: Vec<Dialect> = request.dialects.iter().copied().map(Dialect).collect();
        let same = self.would_choose(&dialects) == Some(state.terms.dialect)
            && request.guid == state.client_guid
            && request.security_mode == state.client_security_mode.0
            && request.capabilities == state.client_capabilities.0;
        if !same {
            return Validation::Tampered;
        }
        Validation::Good(ValidateNegotiateResponse {
            capabilities: state.server_capabilities.0,
            guid: self.config.server_guid,
            security_mode: state.server_security_mode.0,
            dialect: state.terms.dialect.0,
        })
    }

    /// FSCTL_QUERY_NETWORK_INTERFACE_INFO (3.3.5.15.11): where else the server can be reached.
    fn network_interfaces(&self, execution: &Execution, ioctl: &Ioctl) -> Result<Vec<u8>, NtStatus> {
        if ioctl.file_id != FileId::ALL_ONES {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if !execution.terms.multi_channel {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let mut out = Vec::new();
        NetworkInterface::emit_list(&self.interfaces, &mut out);
        if (ioctl.output_max as usize) < out.len() { Err(NtStatus::BUFFER_TOO_SMALL) } else { Ok(out) }
    }

    pub(crate) fn on_ioctl(
        &mut self,
        request: &OpenRequest,
        ioctl: &Ioctl,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        if !ioctl.is_fsctl {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let largest = ioctl.input_max.max(ioctl.output_max).max(ioctl.input_length);
        if largest > request.execution.terms.io_size_max {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let open = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        let handle = open.handle;
        let is_file = open.kind == Kind::File;
        let sparse = open.caps.sparse;
        let cause = matches!(ioctl.input, IoctlInput::ZeroData(..)).then_some(Cause::Write);
        let op = match (&ioctl.input, ioctl.code) {
            (IoctlInput::Transceive(buffer), _) => {
                if open.kind != Kind::Pipe {
                    return Err(NtStatus::NOT_SUPPORTED);
                }
                StorageOp::Transceive {
                    handle,
                    buffer: *buffer,
                    length: ioctl.input_length,
                    length_max: ioctl.output_max,
                }
            }
            (IoctlInput::CopyChunk(copy), _) => return self.on_copy_chunk(request, ioctl, copy, turn),
            (_, FsctlCode::SRV_REQUEST_RESUME_KEY) => return self.answer_resume_key(request, ioctl, turn),
            (IoctlInput::SetSparse(sparse_now), _) if sparse => {
                if !is_file {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
                open.check_any(
                    AccessMask::WRITE_DATA.with(AccessMask::APPEND_DATA).with(AccessMask::WRITE_ATTRIBUTES),
                )?;
                StorageOp::SetSparse { handle, sparse: *sparse_now }
            }
            (IoctlInput::ZeroData(offset, beyond), _) if sparse => {
                if !is_file {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
                open.check_any(AccessMask::WRITE_DATA)?;
                if i64::try_from(*beyond).is_err() || offset > beyond {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
                StorageOp::Zero { handle, offset: *offset, beyond: *beyond }
            }
            (IoctlInput::AllocatedRanges(offset, length), _) if sparse => {
                if !is_file {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
                open.check_any(AccessMask::READ_DATA)?;
                let end = offset.checked_add(*length).filter(|end| i64::try_from(*end).is_ok());
                if end.is_none() {
                    return Err(NtStatus::INVALID_PARAMETER);
                }
                StorageOp::AllocatedRanges { handle, offset: *offset, length: *length, count_max: RANGES_MAX }
            }
            (_, FsctlCode::GET_COMPRESSION) if open.kind != Kind::Pipe => {
                if ioctl.output_max < 2 {
                    return Err(NtStatus::BUFFER_TOO_SMALL);
                }
                return self.answer_ioctl(request, ioctl, vec![0, 0], turn);
            }
            (_, FsctlCode::GET_OBJECT_ID | FsctlCode::CREATE_OR_GET_OBJECT_ID) if open.kind != Kind::Pipe => {
                let id = object_id(open, self.config.server_guid);
                let mut out = Vec::new();
                id.emit(&mut out);
                if (ioctl.output_max as usize) < out.len() {
                    return Err(NtStatus::BUFFER_TOO_SMALL);
                }
                return self.answer_ioctl(request, ioctl, out, turn);
            }
            (IoctlInput::SetCompression(format), _) if open.kind != Kind::Pipe => {
                open.check_any(AccessMask::WRITE_DATA)?;
                // Files are never compressed: asking for that is what they are already, anything else can't be had.
                if *format != 0 {
                    return Err(NtStatus::NOT_SUPPORTED);
                }
                return self.answer_ioctl(request, ioctl, Vec::new(), turn);
            }
            (IoctlInput::DuplicateExtents(extents), _) if open.caps.block_clone => {
                return self.on_duplicate_extents(request, ioctl, extents, turn);
            }
            (IoctlInput::DuplicateAtOnce, _) if open.caps.block_clone => return Err(NtStatus::NOT_SUPPORTED),
            (
                IoctlInput::Unreadable,
                FsctlCode::DUPLICATE_EXTENTS_TO_FILE | FsctlCode::DUPLICATE_EXTENTS_TO_FILE_EX,
            ) if open.caps.block_clone => return Err(NtStatus::BUFFER_TOO_SMALL),
            (IoctlInput::Trim(ranges), _) if sparse => return self.on_trim(request, ioctl, ranges, turn),
            (_, FsctlCode::GET_REPARSE_POINT) if open.caps.symbolic_links => {
                return self.on_get_reparse_point(request, ioctl, turn);
            }
            (IoctlInput::SetReparsePoint(data), _) if open.caps.symbolic_links => {
                return self.on_set_reparse_point(request, ioctl, data, turn);
            }
            (IoctlInput::DeleteReparsePoint(tag), _) if open.caps.symbolic_links => {
                return self.on_delete_reparse_point(request, ioctl, *tag, turn);
            }
            (IoctlInput::Unreadable, FsctlCode::SET_REPARSE_POINT | FsctlCode::DELETE_REPARSE_POINT)
                if open.caps.symbolic_links =>
            {
                return Err(NtStatus::IO_REPARSE_DATA_INVALID);
            }
            (_, FsctlCode::SRV_ENUMERATE_SNAPSHOTS) if open.kind != Kind::Pipe => {
                return self.answer_snapshots(request, ioctl, turn);
            }
            (IoctlInput::Unreadable, _) => return Err(NtStatus::INVALID_PARAMETER),
            _ => return Err(NtStatus::INVALID_DEVICE_REQUEST),
        };
        let control = Control::new(ioctl, request.file_id);
        match cause {
            Some(cause) => self.submit_checked(request, cause, op, Then::Ioctl(control), turn),
            None => self.submit_for(request, op, Then::Ioctl(control), turn),
        }
        Ok(())
    }

    /// No volume has previous versions (MS-SMB2 3.3.5.15.1).
    fn answer_snapshots(
        &mut self,
        request: &OpenRequest,
        ioctl: &Ioctl,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        if ioctl.output_max < 16 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let mut out = Vec::new();
        SnapshotArray::fit(Vec::new(), ioctl.output_max as usize).emit(&mut out);
        self.answer_ioctl(request, ioctl, out, turn)
    }

    fn answer_resume_key(
        &mut self,
        request: &OpenRequest,
        ioctl: &Ioctl,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let open = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        let mut out = Vec::new();
        ResumeKeyResponse { resume_key: resume_key(request.open, open.volatile) }.emit(&mut out);
        if (ioctl.output_max as usize) < out.len() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        self.answer_ioctl(request, ioctl, out, turn)
    }

    pub(crate) fn answer_ioctl(
        &mut self,
        request: &OpenRequest,
        ioctl: &Ioctl,
        output: Vec<u8>,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let output = if output.is_empty() { IoctlOutput::Nothing } else { IoctlOutput::Bytes(output) };
        turn.finish(Finished {
            origin: request.origin,
            status: NtStatus::SUCCESS,
            body: Body::Ioctl { code: ioctl.code, file_id: request.file_id, output },
            open: Some(request.file_id),
            spent: request.execution.request.command.buffer(),
        });
        Ok(())
    }
}

/// A file's object id (MS-FSCC 2.1.3): made of its number, which is as stable, so nothing has to be stored. The ids at birth
/// are the same, because files don't come from other volumes with theirs.
fn object_id(open: &Open, server_guid: [u8; 16]) -> fsctl::ObjectIdBuffer {
    let mut id = server_guid;
    for (byte, number) in id.iter_mut().zip(open.file.number.0.to_le_bytes()) {
        *byte ^= number;
    }
    let volume = volume_object_id(open, server_guid);
    fsctl::ObjectIdBuffer { object_id: id, birth_volume_id: volume, birth_object_id: id, domain_id: [0; 16] }
}

/// The object id of an open's volume, likewise made of its number.
pub(crate) fn volume_object_id(open: &Open, server_guid: [u8; 16]) -> [u8; 16] {
    let mut volume = server_guid;
    for (byte, number) in volume.iter_mut().rev().zip(open.file.volume.0.to_le_bytes()) {
        *byte ^= number;
    }
    volume
}

/// What became of a validation.
enum Validation {
    Good(ValidateNegotiateResponse),
    Refused(NtStatus),
    Tampered,
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an answer of another kind is the driver's fault, whatever kind it is"
)]
pub(crate) fn control_outcome(
    control: Control,
    reply: StorageReply,
    turn: &mut Turn<'_>,
) -> (NtStatus, Body) {
    let Control { code, file_id, output_max, output } = control;
    let answer = |status: NtStatus, output: IoctlOutput| (status, Body::Ioctl { code, file_id, output });
    match reply {
        StorageReply::Done if output.is_empty() => answer(NtStatus::SUCCESS, IoctlOutput::Nothing),
        StorageReply::Done => answer(NtStatus::SUCCESS, IoctlOutput::Bytes(output)),
        StorageReply::Read { buffer, length } => {
            answer(NtStatus::SUCCESS, IoctlOutput::Buffer { buffer, length })
        }
        StorageReply::ReadPartly { buffer, length } => {
            answer(NtStatus::BUFFER_OVERFLOW, IoctlOutput::Buffer { buffer, length })
        }
        StorageReply::Target(target) => {
            let (status, output) = super::reparse::link_output(target, output_max);
            answer(status, output)
        }
        StorageReply::Ranges(ranges) => {
            let ranges: Vec<fsctl::Range> = ranges
                .into_iter()
                .map(|range| fsctl::Range { file_offset: range.offset, length: range.length })
                .collect();
            let mut out = Vec::new();
            let fit = fsctl::emit_ranges(&ranges, &mut out, output_max as usize);
            match fit.status() {
                status if status.is_error() => (status, Body::Error),
                status => answer(status, IoctlOutput::Bytes(out)),
            }
        }
        other => {
            turn.release(payload_of(&other));
            turn.push(Action::Record(Audit::AdapterMisuse { what: "an answer that no control asks for" }));
            (NtStatus::INTERNAL_ERROR, Body::Error)
        }
    }
}
