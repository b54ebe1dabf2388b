//! What a CREATE asks of a file and of storage, and what its client is told (MS-SMB2 3.3.5.9, 2.2.14).

use smb_proto::access::AccessMask;
use smb_proto::attributes::FileAttributes;
use smb_proto::command::create::{
    CreateAction, CreateDisposition, CreateOptions, Response, ResponseFlags, ShareAccess,
};
use smb_proto::create_context::{MaximalAccess, OnDiskId, ResponseContext};
use smb_proto::{FileTime, NtStatus};

use super::Creating;
use crate::file::permit::Permit;
use crate::file::{Grant, Link};
use crate::storage::{Attributes, Initial, Intent, Object};

/// Attributes that a client can give a new file (MS-FSA 2.1.5.1.1).
const SETTABLE: FileAttributes = FileAttributes(
    FileAttributes::READONLY.0
        | FileAttributes::HIDDEN.0
        | FileAttributes::SYSTEM.0
        | FileAttributes::ARCHIVE.0
        | FileAttributes::TEMPORARY.0
        | FileAttributes::OFFLINE.0
        | FileAttributes::NOT_CONTENT_INDEXED.0,
);

impl Creating {
    pub(super) fn grant(&self, object: &Object) -> Grant {
        let mut access = self.granted(&object.attributes);
        if self.overwrites() && self.action == CreateAction::OPENED {
            // Overwriting is writing, whatever the open itself may do (MS-FSA 2.1.5.1.2).
            let implied = if self.request.create_disposition == CreateDisposition::SUPERSEDE {
                AccessMask::DELETE
            } else {
                AccessMask::WRITE_DATA
            };
            access = access.with(implied);
        }
        Grant {
            stream: object.stream.folded(),
            access,
            share: ShareAccess(self.request.share_access.0),
            link: Link { parent: object.parent, name: object.name.folded() },
            delete_on_close: self.request.create_options.contains(CreateOptions::DELETE_ON_CLOSE),
            session: self.origin.session,
            persistent: false,
            away: false,
            key: self.cache_key(),
            permit: Permit::default(),
            draining: 0,
            in_flight: std::collections::BTreeMap::new(),
        }
    }

    pub(super) fn intent(&self, attributes: &Attributes) -> Intent {
        let granted = self.granted(attributes);
        let reads = AccessMask::READ_DATA.with(AccessMask::EXECUTE);
        let writes = AccessMask::WRITE_DATA.with(AccessMask::APPEND_DATA);
        Intent { read: granted.intersects(reads), write: granted.intersects(writes) }
    }

    pub(super) fn initial(&self) -> Initial {
        let mut dos = self.request.file_attributes.masked(SETTABLE);
        if !self.wants_directory() {
            dos = dos.with(FileAttributes::ARCHIVE);
        }
        Initial {
            dos,
            eas: self.eas.clone(),
            allocation: self.allocation,
            security: self.initial_security.clone(),
            owner: self.owner,
        }
    }

    pub(super) fn response(&self, file_id: smb_proto::command::FileId, attributes: &Attributes) -> Response {
        let (oplock_level, lease) = self.cached_answer();
        let mut contexts: Vec<ResponseContext> = lease.into_iter().collect();
        if let Some(since) = self.wants_maximal {
            // A client that knows the state since this time has the answer already (3.3.5.9.5).
            let known = since.is_some_and(|since| since == attributes.last_write && since != FileTime(0));
            let query_status = if known { NtStatus::NONE_MAPPED } else { NtStatus::SUCCESS };
            let maximal_access = if known { AccessMask::EMPTY } else { self.maximum(attributes) };
            contexts.push(ResponseContext::MaximalAccess(MaximalAccess { query_status, maximal_access }));
        }
        if self.wants_disk_id {
            contexts.push(ResponseContext::OnDiskId(OnDiskId {
                disk_file_id: attributes.number.0,
                volume_id: u64::from(self.requester.volume.0),
            }));
        }
        Response {
            oplock_level,
            flags: ResponseFlags::EMPTY,
            create_action: self.action,
            creation_time: attributes.creation,
            last_access_time: attributes.last_access,
            last_write_time: attributes.last_write,
            change_time: attributes.change,
            allocation_size: attributes.allocation,
            end_of_file: attributes.end_of_file,
            file_attributes: attributes.dos,
            file_id,
            contexts,
        }
    }
}
