//! Leases of directories, and the changes that break them (MS-SMB2 3.3.1.4; MS-FSA 2.1.4.12 with PARENT_OBJECT).
//!
//! Every shard knows which directories somebody may cache: an operation that changes nothing of the kind sends no message. A
//! directory is made known to all shards before its lease is granted, so no change is missed that the client does not yet see.
//!
//! What breaks a directory's lease: names that come, go or change, attributes and sizes that are set, and at their close the
//! opens that wrote. Each breaks R, and with it RH to none, without waiting; only who holds the lease that an open named as its
//! parent's is spared (S34).

use smb_proto::command::change_notify::CompletionFilter;
use smb_proto::create_context::LeaseKey;

use super::Open;
use super::create::Creating;
use crate::file::FileAsk;
use crate::file::caching::CacheKey;
use crate::ids::{FileKey, FileNumber, OpenId, ShardId, VolumeId};
use crate::message::Answer;
use crate::message::{Address, Asker, Message};
use crate::shard::{Shard, Turn};

impl Shard {
    /// A directory may be cached from now on.
    pub(crate) fn on_directory_cached(&mut self, directory: FileKey, asker: Asker, turn: &mut Turn<'_>) {
        *self.cached_directories.entry(directory).or_default() += 1;
        turn.answer(asker, Answer::Granted);
    }

    /// An open under a directory's lease is gone.
    pub(crate) fn on_directory_uncached(&mut self, directory: FileKey) {
        if let Some(opens) = self.cached_directories.get_mut(&directory) {
            *opens = opens.saturating_sub(1);
            if *opens == 0 {
                self.cached_directories.remove(&directory);
            }
        }
    }

    /// Tells the first `told` shards that an open under a directory's lease is gone.
    pub(crate) fn uncache_directory(&self, directory: FileKey, told: u16, turn: &mut Turn<'_>) {
        for shard in 0..told {
            turn.post(Address::Shard(ShardId(shard)), Message::DirectoryUncached { directory });
        }
    }

    /// What a directory shows of its entries is another now. `by` holds the lease that is spared.
    pub(crate) fn entry_changed(
        &self,
        volume: VolumeId,
        directory: FileNumber,
        by: Option<CacheKey>,
        turn: &mut Turn<'_>,
    ) {
        let directory = FileKey { volume, number: directory };
        if self.cached_directories.contains_key(&directory) {
            let ask = FileAsk::EntryChanged { by };
            turn.post(Address::File(directory), Message::AskFile(ask, self.nobody()));
        }
    }

    /// An open's request changed something. What it writes is shown at its close.
    pub(crate) fn entry_of_open_changed(
        &mut self,
        id: OpenId,
        changes: CompletionFilter,
        writes: bool,
        turn: &mut Turn<'_>,
    ) {
        if changes.is_empty() {
            return;
        }
        if !writes {
            return self.own_entry_changed(id, turn);
        }
        if let Some(open) = self.opens.get_mut(&id) {
            open.wrote = true;
        }
    }

    /// An open changed what its directory shows of it.
    pub(crate) fn own_entry_changed(&self, id: OpenId, turn: &mut Turn<'_>) {
        if self.cached_directories.is_empty() {
            return;
        }
        if let Some(open) = self.opens.get(&id) {
            self.entry_changed(open.volume(), open.link.parent, open.parent_lease(), turn);
        }
    }
}

impl Open {
    /// The lease of its directory, which its own changes don't break.
    pub(crate) fn parent_lease(&self) -> Option<CacheKey> {
        self.parent_lease.map(|(client, key)| CacheKey::Lease(client, key))
    }
}

impl Creating {
    /// The lease of the directory that the request names.
    pub(crate) fn parent_lease(&self) -> Option<([u8; 16], LeaseKey)> {
        let crate::file::caching::Want::Lease { v2: Some(v2), .. } = self.want() else { return None };
        let (client, _) = self.lease()?;
        v2.parent.map(|parent| (client, parent))
    }
}
