//! Where late answers of storage go: to the core that owns the shard, whose step wakes the connection.

use std::sync::Arc;

use runtime::Common;
use runtime::storage::Answers;
use smb_state::event::Event;
use smb_state::ids::{ConnectionId, ShardId};

use crate::mesh::{Foreign, Hub};

impl Answers for Hub {
    fn common(&self) -> &Common {
        &self.common
    }

    fn deliver(self: &Arc<Self>, _: ConnectionId, shard: ShardId, answer: Event) {
        self.post(self.core_of(shard), Foreign::Event(shard, answer, None));
    }
}
