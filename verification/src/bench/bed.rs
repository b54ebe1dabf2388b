//! A server to be measured: running, accounted for, with connections to it.

use anyhow::{Context, Result};
use smb_proto::auth::Credentials;

use super::accounting::Accounting;
use crate::client::{Connection, Options, Protection, Tree};
use crate::peer::{Peer, PeerKind, Purpose, Site};

/// One server.
#[derive(Debug)]
pub(super) struct Bed {
    /// Which.
    pub(super) kind: PeerKind,
    peer: Peer,
    /// What counts its processor time and memory. Dropped after the server, whose control group has to be empty by then.
    pub(super) accounting: Accounting,
    credentials: Credentials,
}

impl Bed {
    /// Starts a server on a site of its own, set for speed.
    pub(super) fn start(kind: PeerKind) -> Result<Self> {
        kind.prepare()?;
        let mut site = Site::new(1)?;
        site.purpose = Purpose::Speed;
        let user = site.users[0].clone();
        let peer = Peer::start(kind, site)?;
        let accounting = Accounting::begin(peer.process_id(), name(kind));
        let credentials = Credentials::password(user.name, "", user.password);
        Ok(Self { kind, accounting, peer, credentials })
    }

    /// The server's name.
    pub(super) fn name(&self) -> &'static str {
        name(self.kind)
    }

    /// A connection with a session.
    pub(super) fn connect(&self, protection: Protection) -> Result<(Connection, crate::client::Session)> {
        let mut connection = Connection::open(self.peer.site().address, &Options::default())?;
        let session = connection.log_on(&self.credentials, protection)?;
        Ok((connection, session))
    }

    /// A connection with a session and a tree connect to the share.
    pub(super) fn connect_tree(&self, protection: Protection) -> Result<(Connection, Tree)> {
        let connected = self.connect(protection).and_then(|(mut connection, session)| {
            let path = format!(r"\\127.0.0.1\{}", self.peer.site().shares[0].name);
            let tree = connection.connect_tree(session, &path)?;
            Ok((connection, tree))
        });
        connected.with_context(|| format!("connecting to {}", self.name()))
    }

    /// The last lines of the server's log.
    pub(super) fn log_tail(&self) -> String {
        self.peer.log_tail()
    }

    /// Stops the server.
    pub(super) fn stop(self) -> Result<()> {
        self.peer.stop()
    }
}

fn name(kind: PeerKind) -> &'static str {
    match kind {
        PeerKind::Leasehold => "leasehold",
        PeerKind::LeaseholdGlommio => "leasehold-glommio",
        PeerKind::LeaseholdBefore => "leasehold-before",
        PeerKind::Smbd => "smbd",
        PeerKind::SmbServer => "smb-server",
    }
}
