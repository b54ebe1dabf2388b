//! The operator's side: orders to every shard, and the audit log (tracing target `audit`).

use std::sync::Arc;

use smb_state::action::Audit;
use smb_state::event::{Admin, Event, Identity};
use smb_state::ids::{ConnectionId, ShardId};

use crate::driver::{Hub, Work};

/// Gives an order to every shard.
pub(crate) fn order(hub: &Arc<Hub>, order: &Admin) {
    for shard in 0..hub.shards.len() {
        let shard = ShardId(u16::try_from(shard).unwrap_or(u16::MAX));
        hub.run([Work::Event(shard, Event::Admin(order.clone()))]);
    }
}

/// Writes one line of the audit log.
pub(crate) fn record(hub: &Hub, audit: &Audit) {
    let peer = |connection: &ConnectionId| hub.mailboxes.peer(*connection).map(tracing::field::display);
    match audit {
        Audit::LoggedOn { connection, session, identity } => {
            let (peer, connection, session) = (peer(connection), connection.0, session.0);
            let user = match identity {
                Identity::User { name, .. } => name,
                Identity::Guest => "(guest)",
                Identity::Anonymous => "(anonymous)",
            };
            tracing::info!(target: "audit", connection, peer, session, user, "logged on");
        }
        Audit::Bound { connection, session } => {
            let (peer, connection, session) = (peer(connection), connection.0, session.0);
            tracing::info!(target: "audit", connection, peer, session, "one more connection of a session");
        }
        Audit::LogonFailed { connection } => {
            let (peer, connection) = (peer(connection), connection.0);
            tracing::warn!(target: "audit", connection, peer, "logon failed");
        }
        Audit::LoggedOff { session } => tracing::info!(target: "audit", session = session.0, "logged off"),
        Audit::Misbehaved { connection, what } => {
            let (peer, connection) = (peer(connection), connection.0);
            tracing::warn!(target: "audit", connection, peer, what, "peer broke the protocol");
        }
        Audit::AdapterMisuse { what } => tracing::error!(target: "audit", what, "adapter broke its contract"),
    }
}
