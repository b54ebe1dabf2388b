//! What a CREATE is granted by security descriptors (MS-FSA 2.1.5.1.1, 2.1.5.1.2, 2.1.5.1.2.1).
//!
//! An object without a stored descriptor costs nothing here. The directory counts too: who may delete its entries may delete
//! this one, and who may list it may read attributes.

use smb_proto::access::AccessMask;
use smb_proto::command::create::{CreateDisposition, CreateOptions};
use smb_proto::security::descriptor::{Control, SecurityDescriptor};
use smb_proto::{Name, NtStatus};

use super::{Creating, Stage};
use crate::security::{check_owner, new_descriptor, rights};
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Kind, Object, Resolved, StorageOp};

/// What a directory can grant on what is in it.
const BY_PARENT: AccessMask = AccessMask(AccessMask::DELETE.0 | AccessMask::READ_ATTRIBUTES.0);

/// What rights on a directory amount to for what is in it.
fn granted_by_parent(parent: AccessMask) -> AccessMask {
    let mut granted = AccessMask::EMPTY;
    if parent.contains(AccessMask::DELETE_CHILD) {
        granted = granted.with(AccessMask::DELETE);
    }
    if parent.contains(AccessMask::LIST_DIRECTORY) {
        granted = granted.with(AccessMask::READ_ATTRIBUTES);
    }
    granted
}

impl Shard {
    /// The name led to an object, or to the file that is to have another stream.
    pub(super) fn check_object(&mut self, mut creating: Box<Creating>, object: Object, turn: &mut Turn<'_>) {
        creating.rights = self.rights(creating.origin.session, object.security.as_deref());
        creating.initial_security = None;
        creating.owner = None;
        if creating.path.is_root() || !creating.lacks(&object, BY_PARENT) {
            return self.judge_object(creating, object, turn);
        }
        let mut path: Vec<Name> = creating.path.components().map(Name::from_units).collect();
        path.pop();
        let op = StorageOp::Resolve { path, stream: None };
        creating.stage = Stage::ResolvingParent { object };
        self.submit(creating.requester.clone(), op, Wait::Create(creating), turn);
    }

    /// The directory was looked up.
    pub(super) fn on_parent(
        &mut self,
        mut creating: Box<Creating>,
        object: Object,
        resolved: Resolved,
        turn: &mut Turn<'_>,
    ) {
        let requester = creating.requester.clone();
        let parent = match resolved {
            Resolved::Found(parent) => Some(parent),
            Resolved::NoName { parent: other } | Resolved::NoStream { file: other } => {
                self.forget_handle(other.handle, requester.clone(), turn);
                None
            }
            Resolved::NoPath | Resolved::NotADirectory | Resolved::Link { .. } => None,
        };
        let Some(parent) = parent else {
            self.forget_handle(object.handle, requester, turn);
            return self.resolve(creating, turn);
        };
        self.forget_handle(parent.handle, requester.clone(), turn);
        if parent.attributes.number != object.parent {
            // Something above was renamed meanwhile.
            self.forget_handle(object.handle, requester, turn);
            return self.resolve(creating, turn);
        }
        let by_parent = granted_by_parent(self.rights(creating.origin.session, parent.security.as_deref()));
        creating.rights = creating.rights.with(by_parent);
        self.judge_object(creating, object, turn);
    }

    fn judge_object(&mut self, creating: Box<Creating>, object: Object, turn: &mut Turn<'_>) {
        if let Err(status) = creating.check_rights(&object) {
            self.forget_handle(object.handle, creating.requester.clone(), turn);
            return self.fail_create(creating, status, turn);
        }
        match creating.path.stream().cloned() {
            Some(stream) if creating.makes_stream(&object) => {
                self.make_stream(creating, object, stream, turn);
            }
            Some(_) | None => self.ask_file(creating, object, None, turn),
        }
    }

    /// The name led nowhere: whether it may be made, and with which descriptor.
    pub(super) fn check_new(&self, creating: &mut Creating, parent: &Object) -> Result<(), NtStatus> {
        creating.check_new_name()?;
        let session = creating.origin.session;
        let directory = self.rights(session, parent.security.as_deref());
        let (kind, needed) = if creating.wants_directory() {
            (Kind::Directory, AccessMask::ADD_SUBDIRECTORY)
        } else {
            (Kind::File, AccessMask::ADD_FILE)
        };
        if !creating.maximal.masked(directory).contains(needed) {
            return Err(NtStatus::ACCESS_DENIED);
        }
        creating.owner = self.user_sid(session);
        creating.initial_security = None;
        creating.rights = AccessMask::FILE_ALL_ACCESS;
        if parent.security.is_none() && creating.security.is_none() {
            return Ok(());
        }
        let token = self.token(session).ok_or(NtStatus::USER_SESSION_DELETED)?;
        if let Some(given) = &creating.security {
            if given.owner.is_some() {
                check_owner(given.owner.as_ref(), &token)?;
            }
            check_system_list(given)?;
        }
        let given = creating.security.as_deref();
        creating.initial_security = new_descriptor(parent.security.as_deref(), given, kind, &token);
        creating.rights =
            rights(creating.initial_security.as_deref(), Some(&token)).with(granted_by_parent(directory));
        Ok(())
    }
}

/// A SACL can be given only by who may read and change it.
fn check_system_list(given: &SecurityDescriptor) -> Result<(), NtStatus> {
    if given.control.contains(Control::SACL_PRESENT) && given.sacl.is_some() {
        return Err(NtStatus::PRIVILEGE_NOT_HELD);
    }
    Ok(())
}

impl Creating {
    /// The object is the file, and the stream that is asked for is not there.
    fn makes_stream(&self, object: &Object) -> bool {
        self.path.stream().is_some() && object.stream.is_empty()
    }

    /// What the open has to be granted: what it asks for, and what its disposition does (MS-FSA 2.1.5.1.2).
    fn needed(&self, object: &Object) -> AccessMask {
        let desired = self.request.desired_access.map_generic().without(AccessMask::MAXIMUM_ALLOWED);
        if self.makes_stream(object) {
            return desired.with(AccessMask::WRITE_DATA);
        }
        let replaces = if object.stream.is_empty() {
            AccessMask::WRITE_EA.with(AccessMask::WRITE_ATTRIBUTES)
        } else {
            AccessMask::EMPTY
        };
        match self.request.create_disposition {
            CreateDisposition::SUPERSEDE => desired.with(replaces).with(AccessMask::DELETE),
            CreateDisposition::OVERWRITE | CreateDisposition::OVERWRITE_IF => {
                desired.with(replaces).with(AccessMask::WRITE_DATA)
            }
            _ => desired,
        }
    }

    /// Whether any of `rights` is asked for and not granted so far.
    fn lacks(&self, object: &Object, rights: AccessMask) -> bool {
        let maximum = self.request.desired_access.contains(AccessMask::MAXIMUM_ALLOWED);
        let asked = if maximum || self.wants_maximal.is_some() { rights } else { self.needed(object) };
        !self.rights.contains(rights.masked(asked))
    }

    /// The check itself, when all rights are known.
    fn check_rights(&self, object: &Object) -> Result<(), NtStatus> {
        let mut needed = self.needed(object);
        if self.request.create_options.contains(CreateOptions::DELETE_ON_CLOSE) {
            needed = needed.with(AccessMask::DELETE);
        }
        let allowed = self.maximal.masked(self.rights);
        if !allowed.contains(needed) || self.granted(&object.attributes).is_empty() {
            return Err(NtStatus::ACCESS_DENIED);
        }
        Ok(())
    }
}
