//! A server to be measured: running, accounted for, with connections to it.

use std::path::Path;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use smb_proto::auth::Credentials;

use super::accounting::Accounting;
use crate::client::{Connection, Options, Protection, Tree};
use crate::peer::{Peer, PeerKind, Purpose, Site};

/// Bytes that a client moves at once when it is measured what others on its processor wait for.
const PIECE: usize = 32 << 10;

/// One server.
#[derive(Debug)]
pub(super) struct Bed {
    /// Which.
    pub(super) kind: PeerKind,
    peer: Peer,
    /// What counts its processor time and memory. Dropped after the server, whose control group has to be empty by then.
    pub(super) accounting: Accounting,
    credentials: Credentials,
    /// How connections are made.
    options: Options,
}

impl Bed {
    /// Starts a server on a site of its own, set for speed.
    pub(super) fn start(kind: PeerKind) -> Result<Self> {
        kind.prepare()?;
        Self::start_prepared(kind, name(kind))
    }

    /// Starts a server that only runs on this processor.
    pub(super) fn start_on(kind: PeerKind, processor: usize) -> Result<Self> {
        kind.prepare()?;
        let before = sched_getaffinity(None)?;
        // What a thread starts inherits its processors.
        bind_to(processor)?;
        let started = Self::start_prepared(kind, &format!("{}-on-one", name(kind)));
        sched_setaffinity(None, &before)?;
        // Kernels without preemption let nobody else run on a processor during a system call.
        let options = Options { piece: Some(PIECE), ..Options::default() };
        Ok(Self { options, ..started? })
    }

    fn start_prepared(kind: PeerKind, group: &str) -> Result<Self> {
        let mut site = Site::new(1)?;
        site.purpose = Purpose::Speed;
        let user = site.users[0].clone();
        let peer = Peer::start(kind, site)?;
        let accounting = Accounting::begin(peer.process_id(), group);
        let credentials = Credentials::password(user.name, "", user.password);
        Ok(Self { kind, accounting, peer, credentials, options: Options::default() })
    }

    /// The server's name.
    pub(super) fn name(&self) -> &'static str {
        name(self.kind)
    }

    /// A connection with a session.
    pub(super) fn connect(&self, protection: Protection) -> Result<(Connection, crate::client::Session)> {
        let mut connection = Connection::open(self.peer.site().address, &self.options)?;
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

    /// The directory that the server shares.
    pub(super) fn share_path(&self) -> &Path {
        &self.peer.site().shares[0].path
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

/// Lets this thread, and what it starts, run on one processor only.
fn bind_to(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    Ok(sched_setaffinity(None, &set)?)
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
