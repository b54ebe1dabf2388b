//! The audit log (tracing target `audit`).

use std::net::SocketAddr;

use smb_state::action::Audit;
use smb_state::event::Identity;
use smb_state::ids::ConnectionId;

/// Writes one line of the audit log; `peer_of` knows the peers of open connections.
pub fn record(audit: &Audit, peer_of: impl Fn(ConnectionId) -> Option<SocketAddr>) {
    let peer = |connection: &ConnectionId| peer_of(*connection).map(tracing::field::display);
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
        Audit::NotRestored { open } => {
            tracing::warn!(target: "audit", open = open.0, "a persistent open is not there any more");
        }
        Audit::AdapterMisuse { what } => tracing::error!(target: "audit", what, "adapter broke its contract"),
    }
}
