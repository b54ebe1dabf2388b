//! The operator's side: orders to every shard.

use std::sync::Arc;

use smb_state::event::{Admin, Event};
use smb_state::ids::ShardId;

use crate::driver::{Hub, Work};

/// Gives an order to every shard.
pub(crate) fn order(hub: &Arc<Hub>, order: &Admin) {
    for shard in 0..hub.shards.len() {
        let shard = ShardId(u16::try_from(shard).unwrap_or(u16::MAX));
        hub.run([Work::Event(shard, Event::Admin(order.clone()))]);
    }
}
