//! What a CREATE asks to cache, and what it breaks (MS-SMB2 3.3.5.9, 3.3.5.9.8, 3.3.5.9.11).

use smb_proto::NtStatus;
use smb_proto::command::negotiate::Dialect;
use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::create_context::{LeaseKey, LeaseState, ResponseContext};

use super::super::durable::reclaim::lease_context;
use super::Creating;
use crate::file::caching::{CacheKey, Cached, Cause, LeaseV2, Want};
use crate::ids::{FileKey, OpenId};
use crate::message::Origin;
use crate::storage::{Kind, Object};

impl Creating {
    /// The oplock that the request's level asks for; a lease comes with its context.
    pub(super) fn take_oplock_level(&mut self) {
        self.want = match self.request.oplock_level {
            level @ (OplockLevel::II | OplockLevel::EXCLUSIVE | OplockLevel::BATCH) => Want::Oplock(level),
            _ => Want::Nothing,
        };
    }

    /// The lease of a context. Counts only when the level says that there is one; 2.0.2 has no leases, and a client without a
    /// ClientGuid no lease table.
    pub(super) fn take_lease(
        &mut self,
        dialect: Dialect,
        client: Option<[u8; 16]>,
        key: LeaseKey,
        state: LeaseState,
        v2: Option<LeaseV2>,
    ) {
        if self.request.oplock_level != OplockLevel::LEASE || dialect == Dialect::SMB_2_0_2 || self.caps.pipes
        {
            return;
        }
        if let Some(client) = client {
            self.lease = Some((client, key));
            self.want = Want::Lease { state, v2 };
        }
    }

    /// The lease that it still has to join before it opens this.
    pub(super) fn lease_to_claim(&self, object: &Object) -> Option<([u8; 16], LeaseKey)> {
        self.lease.filter(|_| !self.claimed && self.want_of(object) != Want::Nothing)
    }

    /// What can be cached of this. Directories have no oplocks; a file that is only there to hold a new stream is not what the
    /// client opens.
    pub(super) fn want_of(&self, object: &Object) -> Want {
        let whole = self.path.stream().is_some() && object.stream.is_empty();
        match (object.attributes.kind, self.want) {
            (Kind::File, want) if !whole => want,
            // 3.3.5.9.11: directories have leases of version 2 alone, and nothing to write.
            (Kind::Directory, Want::Lease { state, v2: v2 @ Some(_) }) if object.stream.is_empty() => {
                Want::Lease { state: state.without(LeaseState::WRITE_CACHING), v2 }
            }
            (Kind::File | Kind::Directory | Kind::Pipe, _) => Want::Nothing,
        }
    }

    /// The directory whose lease it asks for.
    pub(super) fn directory_to_cache(&self, object: &Object) -> Option<FileKey> {
        let is_directory = object.attributes.kind == Kind::Directory;
        (is_directory && self.want_of(object) != Want::Nothing)
            .then_some(FileKey { volume: self.requester.volume, number: object.attributes.number })
    }

    pub(crate) fn want(&self) -> Want {
        self.want
    }

    pub(crate) fn lease(&self) -> Option<([u8; 16], LeaseKey)> {
        self.lease
    }

    /// The key that the open's operations have.
    pub(super) fn cache_key(&self) -> CacheKey {
        match self.lease.filter(|_| self.claimed) {
            Some((client, key)) => CacheKey::Lease(client, key),
            None => CacheKey::Open(self.open),
        }
    }

    /// What opening does to what others cache.
    pub(super) fn cause(&self) -> Cause {
        Cause::Open { access: self.request.desired_access.map_generic(), overwrite: self.overwrites() }
    }

    /// OplockLevel of the answer, and the lease's context.
    pub(super) fn cached_answer(&self) -> (OplockLevel, Option<ResponseContext>) {
        let level = match self.cached {
            Cached::Oplock(level) => level,
            Cached::Lease { .. } => OplockLevel::LEASE,
        };
        (level, lease_context(self.lease.map(|(_, key)| key), self.cached))
    }

    /// The file where it may wait for a client, with the request and its open.
    pub(crate) fn at_file(&self) -> Option<(FileKey, Origin, OpenId)> {
        let super::Stage::AskingFile { object, .. } = &self.stage else { return None };
        let file = FileKey { volume: self.requester.volume, number: object.attributes.number };
        Some((file, self.origin, self.open))
    }

    /// It is not to wait for a client from now on, if this is concerned.
    pub(crate) fn give_up(&mut self, status: NtStatus, concerned: impl Fn(&Origin, OpenId) -> bool) {
        if concerned(&self.origin, self.open) {
            self.given_up = Some(status);
        }
    }
}
