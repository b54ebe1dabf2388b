//! Where late answers of storage go: to the task of the connection that asked, so that the response is encrypted and sent
//! where the connection lives.

use std::sync::Arc;

use runtime::Common;
use runtime::storage::Answers;
use smb_state::event::Event;
use smb_state::ids::{ConnectionId, ShardId};

use crate::driver::{Hub, Work};

impl Answers for Hub {
    fn common(&self) -> &Common {
        &self.common
    }

    fn deliver(self: &Arc<Self>, connection: ConnectionId, shard: ShardId, answer: Event) {
        match self.mailboxes.post_work(connection, (shard, answer)) {
            Ok(Some(waker)) => waker.wake(),
            Ok(None) => {}
            Err(work) => {
                let (shard, answer) = *work;
                self.run([Work::Event(shard, answer)]);
            }
        }
    }
}
