//! Reparse points (MS-FSA 2.1.5.10.3, .14, .37; MS-FSCC 2.1.2). Symbolic links are the only ones.
//!
//! A link leads, from the directory that it is in, to somewhere in the same share: what a client gives is checked here as
//! far as it can be without the volume, the driver checks that it does not lead out. Absolute targets are another
//! machine's, or local to it: they are refused. How an object becomes a link, and a link a file, is in [`super::exchange`].

use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::fscc::reparse::{ReparseData, ReparseTag};

use super::OpenRequest;
use super::io::Then;
use super::ioctl::Control;
use crate::request::Ioctl;
use crate::response::IoctlOutput;
use crate::shard::{Shard, Turn};
use crate::storage::StorageOp;

/// What is in front of the data of Microsoft's reparse points.
const HEADER: u32 = 8;

impl Shard {
    /// FSCTL_GET_REPARSE_POINT.
    pub(crate) fn on_get_reparse_point(
        &mut self,
        request: &OpenRequest,
        ioctl: &Ioctl,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let open = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        if ioctl.output_max < HEADER {
            return Err(NtStatus::BUFFER_TOO_SMALL);
        }
        let op = StorageOp::LinkTarget { handle: open.handle };
        self.submit_for(request, op, Then::Ioctl(Control::new(ioctl, request.file_id)), turn);
        Ok(())
    }

    /// FSCTL_SET_REPARSE_POINT.
    pub(crate) fn on_set_reparse_point(
        &mut self,
        request: &OpenRequest,
        ioctl: &Ioctl,
        data: &ReparseData,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let open = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        open.check_any(AccessMask::WRITE_DATA.with(AccessMask::WRITE_ATTRIBUTES))?;
        let target = match data {
            ReparseData::Symlink { substitute, flags, .. } => {
                if *flags & ReparseData::SYMLINK_RELATIVE == 0 {
                    return Err(NtStatus::ACCESS_DENIED);
                }
                substitute.clone()
            }
            ReparseData::MountPoint { .. } if !open.is_directory() => return Err(NtStatus::NOT_A_DIRECTORY),
            ReparseData::MountPoint { .. } | ReparseData::Other { .. } | ReparseData::Guid { .. } => {
                return Err(NtStatus::IO_REPARSE_TAG_NOT_HANDLED);
            }
        };
        self.begin_exchange(request, ioctl, Some(target), turn)
    }

    /// FSCTL_DELETE_REPARSE_POINT.
    pub(crate) fn on_delete_reparse_point(
        &mut self,
        request: &OpenRequest,
        ioctl: &Ioctl,
        tag: ReparseTag,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let open = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        open.check_any(AccessMask::WRITE_DATA.with(AccessMask::WRITE_ATTRIBUTES))?;
        if tag.0 <= 1 {
            return Err(NtStatus::IO_REPARSE_TAG_INVALID);
        }
        if tag != ReparseTag::SYMLINK {
            return Err(NtStatus::IO_REPARSE_TAG_MISMATCH);
        }
        self.begin_exchange(request, ioctl, None, turn)
    }
}

/// A link's data, as much of it as there is room for.
pub(crate) fn link_output(target: smb_proto::Name, output_max: u32) -> (NtStatus, IoctlOutput) {
    let data = ReparseData::Symlink {
        print: target.clone(),
        substitute: target,
        flags: ReparseData::SYMLINK_RELATIVE,
    };
    let mut out = Vec::new();
    data.emit(&mut out);
    let room = output_max as usize;
    let status = if out.len() > room { NtStatus::BUFFER_OVERFLOW } else { NtStatus::SUCCESS };
    out.truncate(room);
    (status, IoctlOutput::Bytes(out))
}
