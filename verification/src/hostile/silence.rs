//! Peers that say no more. The server is told to wait two seconds instead of its default thirty.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use smb_proto::command::negotiate::Dialect;

use super::Bed;
use super::wire::Wire;
use crate::peer::{PeerKind, Site};

const TIMEOUT_S: u32 = 2;
const SLACK: Duration = Duration::from_secs(3);

/// Nothing, half a prefix, half a frame, NEGOTIATE, half a logon, a wrong password: each is disconnected in time and
/// not before. A session stays.
pub(super) fn every_step(kind: PeerKind) -> Result<()> {
    let mut site = Site::new(1)?;
    site.authentication_timeout_s = Some(TIMEOUT_S);
    let bed = Bed::start(kind, site)?;
    let address = bed.site().address;
    let user = &bed.site().users[0];

    let mut session = Wire::ready(address, Dialect::SMB_3_0, user, &bed.site().shares[0].name)?;
    let started = Instant::now();
    let mut silent = Vec::new();
    for said in [&b""[..], b"\0\0", b"\0\0\x10\0\xFESMB@\0"] {
        let mut wire = Wire::connect(address)?;
        wire.write(said)?;
        silent.push(wire);
    }
    let mut negotiated = Wire::connect(address)?;
    negotiated.negotiate(Dialect::SMB_2_1)?;
    silent.push(negotiated);
    let mut half_way = Wire::connect(address)?;
    half_way.negotiate(Dialect::SMB_3_0)?;
    half_way.begin_log_on("nobody", "nothing")?;
    silent.push(half_way);
    let mut refused = Wire::connect(address)?;
    refused.negotiate(Dialect::SMB_3_0)?;
    ensure!(refused.log_on(user.name, "wrong")?.is_error(), "let in with a wrong password");
    silent.push(refused);

    let timeout = Duration::from_secs(u64::from(TIMEOUT_S));
    for (number, mut wire) in silent.into_iter().enumerate() {
        wire.expect_disconnect(timeout + SLACK).with_context(|| format!("silent peer {number}"))?;
        let elapsed = started.elapsed();
        ensure!(elapsed + Duration::from_millis(200) >= timeout, "silent peer {number} had only {elapsed:?}");
    }
    session.open("").context("a session that was there before")?;
    bed.check_service()?;
    bed.peer.stop()
}
