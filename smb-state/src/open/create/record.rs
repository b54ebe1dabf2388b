//! A CREATE whose open is persistent: its record is durable before it is answered (MS-SMB2 3.3.5.9.10).

use smb_proto::NtStatus;

use super::{Creating, Stage};
use crate::file::FileAsk;
use crate::ids::FileKey;
use crate::message::{Address, Message};
use crate::record::Held;
use crate::shard::{Shard, Turn, Wait};
use crate::storage::Object;

impl Shard {
    /// Everything is done but the record: the file is asked what it holds.
    pub(super) fn record_create(&mut self, mut creating: Box<Creating>, object: Object, turn: &mut Turn<'_>) {
        let file = FileKey { volume: creating.requester.volume, number: object.attributes.number };
        let ask = FileAsk::Hold { open: creating.open };
        creating.stage = Stage::Recording { object };
        let asker = self.wait(Wait::Create(creating));
        turn.post(Address::File(file), Message::AskFile(ask, asker));
    }

    /// The file told.
    pub(super) fn store_created(
        &mut self,
        mut creating: Box<Creating>,
        object: Object,
        held: &Held,
        turn: &mut Turn<'_>,
    ) {
        let (id, connection) = (creating.open, creating.origin.connection);
        creating.stage = Stage::Recording { object };
        let token = self.waits.insert(Wait::Create(creating));
        if !self.put_record(id, held, None, (token, connection), turn)
            && let Some(Wait::Create(creating)) = self.waits.remove(token)
        {
            self.fail_create(creating, NtStatus::NETWORK_NAME_DELETED, turn);
        }
    }

    /// The store answered.
    pub(crate) fn on_create_recorded(
        &mut self,
        mut creating: Box<Creating>,
        durable: bool,
        turn: &mut Turn<'_>,
    ) {
        if !durable {
            return self.fail_create(creating, NtStatus::UNEXPECTED_IO_ERROR, turn);
        }
        if let Stage::Recording { object } = std::mem::replace(&mut creating.stage, Stage::Resolving) {
            creating.recorded = true;
            self.complete_create(creating, object, turn);
        }
    }
}
