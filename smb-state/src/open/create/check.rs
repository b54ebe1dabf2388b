//! What a CREATE may do: checks of the request, of the share, of what its name leads to (MS-SMB2 3.3.5.9, MS-FSA 2.1.5.1).

use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::attributes::FileAttributes;
use smb_proto::command::create::{CreateAction, CreateDisposition, CreateOptions, Request, ShareAccess};
use smb_proto::fscc::name::{NameError, StreamPath, StreamType};

use super::Creating;
use crate::session::TreeConnect;
use crate::storage::{Attributes, Kind};

/// Access bits without a meaning (MS-FSA 2.1.5.1).
const UNDEFINED_ACCESS: AccessMask = AccessMask(0x0CE0_FE00);
/// Options that a server refuses with NOT_SUPPORTED: opening by file id, opportunistic filters and the one called tree
/// connection.
const UNSUPPORTED_OPTIONS: CreateOptions = CreateOptions(0x0010_2080);
/// Options without a meaning.
const UNDEFINED_OPTIONS: CreateOptions = CreateOptions(0xFF00_0000);

impl Creating {
    /// Checks that need the object's attributes (MS-FSA 2.1.5.1 phase 7, 2.1.5.1.2).
    pub(super) fn check_existing(&self, attributes: &Attributes) -> Result<(), NtStatus> {
        let options = self.request.create_options;
        let is_stream = self.path.stream().is_some();
        let is_directory = attributes.kind == Kind::Directory && !is_stream;
        let creates = self.request.create_disposition == CreateDisposition::CREATE;
        if is_directory {
            if options.contains(CreateOptions::NON_DIRECTORY_FILE)
                || self.path.stream_type() == Some(StreamType::Data)
            {
                return Err(if creates {
                    NtStatus::OBJECT_NAME_COLLISION
                } else {
                    NtStatus::FILE_IS_A_DIRECTORY
                });
            }
            if self.path.is_root() && (self.overwrites() || creates) {
                return Err(if creates { NtStatus::OBJECT_NAME_COLLISION } else { NtStatus::ACCESS_DENIED });
            }
            if creates || self.overwrites() {
                return Err(NtStatus::OBJECT_NAME_COLLISION);
            }
        } else {
            if creates {
                return Err(NtStatus::OBJECT_NAME_COLLISION);
            }
            if self.wants_directory() {
                return Err(NtStatus::NOT_A_DIRECTORY);
            }
            if self.path.trailing_separator() {
                return Err(NtStatus::OBJECT_NAME_INVALID);
            }
        }
        self.check_attributes(attributes, is_directory, is_stream)
    }

    pub(super) fn check_attributes(
        &self,
        attributes: &Attributes,
        is_directory: bool,
        is_stream: bool,
    ) -> Result<(), NtStatus> {
        let read_only = attributes.dos.contains(FileAttributes::READONLY);
        let writes = AccessMask::WRITE_DATA.with(AccessMask::APPEND_DATA);
        let desired = self.request.desired_access.map_generic();
        if self.overwrites() && !is_stream {
            for needed in [FileAttributes::HIDDEN, FileAttributes::SYSTEM] {
                if attributes.dos.contains(needed) && !self.request.file_attributes.contains(needed) {
                    return Err(NtStatus::ACCESS_DENIED);
                }
            }
        }
        if read_only && !is_directory && (desired.intersects(writes) || self.overwrites()) {
            return Err(NtStatus::ACCESS_DENIED);
        }
        if read_only && self.request.create_options.contains(CreateOptions::DELETE_ON_CLOSE) {
            return Err(NtStatus::CANNOT_DELETE);
        }
        Ok(())
    }

    /// Checks for a name that leads nowhere (MS-FSA 2.1.5.1 phase 6, 2.1.5.1.1).
    pub(super) fn check_new_name(&self) -> Result<(), NtStatus> {
        if !self.makes() {
            return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
        }
        if self.caps.read_only {
            return Err(NtStatus::MEDIA_WRITE_PROTECTED);
        }
        let attributes = self.request.file_attributes;
        if self.wants_directory() && attributes.contains(FileAttributes::TEMPORARY) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if !self.wants_directory() && self.path.trailing_separator() {
            return Err(NtStatus::OBJECT_NAME_INVALID);
        }
        let deletes = self.request.create_options.contains(CreateOptions::DELETE_ON_CLOSE);
        if deletes && attributes.contains(FileAttributes::READONLY) {
            return Err(NtStatus::CANNOT_DELETE);
        }
        Ok(())
    }

    pub(super) fn check_new_stream(&self, file: &Attributes) -> Result<(), NtStatus> {
        if !self.makes() {
            return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
        }
        if self.wants_directory() {
            return Err(NtStatus::NOT_A_DIRECTORY);
        }
        if self.caps.read_only {
            return Err(NtStatus::MEDIA_WRITE_PROTECTED);
        }
        if file.dos.contains(FileAttributes::READONLY) {
            return Err(NtStatus::ACCESS_DENIED);
        }
        Ok(())
    }

    /// What the open is granted; of a new object everything that its maker asks for (MS-FSA 2.1.5.1.1).
    pub(super) fn granted(&self, attributes: &Attributes) -> AccessMask {
        let desired = self.request.desired_access.map_generic();
        let granted = desired.without(AccessMask::MAXIMUM_ALLOWED);
        if desired.contains(AccessMask::MAXIMUM_ALLOWED) {
            let made = self.action == CreateAction::CREATED;
            granted.with(if made { self.maximal } else { self.maximum(attributes) })
        } else {
            granted
        }
    }

    /// The most that the share, descriptors and attributes let the user have.
    pub(super) fn maximum(&self, attributes: &Attributes) -> AccessMask {
        let made = self.action == CreateAction::CREATED;
        let maximum = self.maximal.masked(self.rights);
        if attributes.dos.contains(FileAttributes::READONLY) && attributes.kind == Kind::File && !made {
            maximum.without(AccessMask::WRITE_DATA.with(AccessMask::APPEND_DATA))
        } else {
            maximum
        }
    }
}

pub(super) fn parse_path(request: &Request, tree: &TreeConnect) -> Result<StreamPath, NtStatus> {
    let units = request.name.units();
    // Pipe names come with and without a leading backslash.
    let units =
        if tree.caps.pipes { units.strip_prefix(&[u16::from(b'\\')]).unwrap_or(units) } else { units };
    let path = StreamPath::parse(units).map_err(NameError::status)?;
    if path.stream().is_some() && !tree.caps.streams {
        return Err(NtStatus::OBJECT_NAME_INVALID);
    }
    Ok(path)
}

/// Checks of the request alone (MS-SMB2 3.3.5.9, MS-FSA 2.1.5.1 phase 1).
pub(super) fn check_parameters(request: &Request, path: &StreamPath, pipe: bool) -> Result<(), NtStatus> {
    let options = request.create_options;
    if request.impersonation_level.0 > 3 {
        return Err(NtStatus::BAD_IMPERSONATION_LEVEL);
    }
    if request.create_disposition.0 > CreateDisposition::OVERWRITE_IF.0
        || !ShareAccess(7).contains(request.share_access)
        || options.intersects(UNDEFINED_OPTIONS)
    {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    if options.intersects(UNSUPPORTED_OPTIONS) {
        return Err(NtStatus::NOT_SUPPORTED);
    }
    let access = request.desired_access;
    if access.is_empty() || access.intersects(UNDEFINED_ACCESS) {
        return Err(NtStatus::ACCESS_DENIED);
    }
    if pipe {
        return Ok(());
    }
    if !FileAttributes::VALID_MASK.contains(request.file_attributes) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let directory = options.contains(CreateOptions::DIRECTORY_FILE);
    let non_directory = options.contains(CreateOptions::NON_DIRECTORY_FILE);
    let whole_directory = matches!(
        request.create_disposition,
        CreateDisposition::SUPERSEDE | CreateDisposition::OVERWRITE | CreateDisposition::OVERWRITE_IF
    );
    if directory && (non_directory || whole_directory) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let deletes = options.contains(CreateOptions::DELETE_ON_CLOSE);
    let may_delete = access.map_generic().intersects(AccessMask::DELETE.with(AccessMask::MAXIMUM_ALLOWED));
    if deletes && !may_delete {
        return Err(NtStatus::ACCESS_DENIED);
    }
    if directory && (path.stream().is_some() || path.stream_type() == Some(StreamType::Data)) {
        return Err(NtStatus::NOT_A_DIRECTORY);
    }
    if path.trailing_separator() && non_directory {
        return Err(NtStatus::OBJECT_NAME_INVALID);
    }
    Ok(())
}

/// The share bounds what anybody can do through it.
pub(super) fn check_access(request: &Request, tree: &TreeConnect) -> Result<(), NtStatus> {
    let desired = request.desired_access.map_generic().without(AccessMask::MAXIMUM_ALLOWED);
    if desired.contains(AccessMask::ACCESS_SYSTEM_SECURITY) {
        return Err(NtStatus::PRIVILEGE_NOT_HELD);
    }
    if !tree.maximal_access.contains(desired) {
        return Err(NtStatus::ACCESS_DENIED);
    }
    let changes = matches!(
        request.create_disposition,
        CreateDisposition::SUPERSEDE | CreateDisposition::OVERWRITE | CreateDisposition::OVERWRITE_IF
    );
    if changes && !tree.maximal_access.contains(AccessMask::WRITE_DATA) {
        return Err(if tree.caps.read_only {
            NtStatus::MEDIA_WRITE_PROTECTED
        } else {
            NtStatus::ACCESS_DENIED
        });
    }
    Ok(())
}
