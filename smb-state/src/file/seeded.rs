//! A seeded fault for tests that have to notice it; no shipped server has it.

use smb_proto::create_context::LeaseState;

use super::FileAsk;
use super::caching::Notice;
use crate::ids::{FileKey, OpenId};
use crate::message::{Address, Message};
use crate::shard::{Shard, Turn};

impl Shard {
    /// Forgets a break, if one is to be forgotten and this one ends read caching: its client is not told, and its
    /// acknowledgment is made up, so that nobody waits for it.
    pub(super) fn forget_break(
        &mut self,
        file: FileKey,
        open: OpenId,
        notice: Notice,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Notice::Lease { from, to, acknowledge, .. } = notice else { return false };
        let read = LeaseState::READ_CACHING;
        if !self.forgets_break || !from.contains(read) || to.contains(read) {
            return false;
        }
        let Some(grant) = self.files.get(&file).and_then(|file| file.grants.get(&open)) else { return false };
        let key = grant.key;
        self.forgets_break = false;
        if acknowledge {
            let ask = FileAsk::AcknowledgeLease { key, state: to };
            turn.post(Address::File(file), Message::AskFile(ask, self.nobody()));
        }
        true
    }
}
