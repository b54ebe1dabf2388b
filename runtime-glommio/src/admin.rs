//! The operator's side: orders to every shard.

use std::sync::mpsc::channel;

use smb_state::event::Admin;
use smb_state::ids::ShardId;

use crate::mesh::{Foreign, Hub};

/// Gives an order to every shard, from a thread that is no core, and waits until all have carried it out.
pub(crate) fn order(hub: &Hub, order: &Admin) {
    let (sender, done) = channel();
    for shard in (0..hub.common.shards).map(ShardId) {
        hub.post(hub.core_of(shard), Foreign::Order(shard, order.clone(), sender.clone()));
    }
    drop(sender);
    // Nothing is ever sent: it ends when the last order was carried out, or given up by a core that has ended.
    let _ = done.recv();
}
