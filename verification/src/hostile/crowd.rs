//! Two thousand strangers at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use smb_proto::command::negotiate::Dialect;

use super::wire::Wire;
use super::{Bed, CROWD};

/// Each negotiates and takes the first step of a logon, whose state the server has to keep.
pub(super) fn half_way(bed: &Bed) -> Result<()> {
    let mut wires = Vec::with_capacity(CROWD);
    for number in 0..CROWD {
        let mut wire = Wire::connect(bed.site().address).with_context(|| format!("stranger {number}"))?;
        wire.negotiate(Dialect::SMB_3_0).with_context(|| format!("stranger {number}"))?;
        wire.begin_log_on("nobody", "nothing").with_context(|| format!("stranger {number}"))?;
        wires.push(wire);
    }
    watch(bed)?;
    ensure!(wires.len() == CROWD);
    Ok(())
}

/// Each announces a frame as long as a stranger's may be and sends all of it but the last byte. The server may drop
/// some of them to stay within its bounds.
pub(super) fn half_frames(bed: &Bed) -> Result<()> {
    const LENGTH: u32 = 64 << 10;
    let mut bytes = vec![0; LENGTH as usize];
    bytes[..4].copy_from_slice(&LENGTH.to_be_bytes());
    let mut wires = Vec::with_capacity(CROWD);
    for number in 0..CROWD {
        let mut wire = Wire::connect(bed.site().address).with_context(|| format!("stranger {number}"))?;
        // Whoever is dropped at once can't send all.
        let _ = wire.write(&bytes[..bytes.len() - 1]);
        wires.push(wire);
        if number % 100 == 0 {
            bed.check_memory().with_context(|| format!("with {number} strangers"))?;
        }
    }
    watch(bed)
}

/// Memory and service, for a while.
fn watch(bed: &Bed) -> Result<()> {
    let deadline = Instant::now() + Duration::from_millis(500);
    while Instant::now() < deadline {
        bed.check_memory()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    let growth = bed.resident()?.saturating_sub(bed.idle);
    println!("        {CROWD} strangers cost {:.1} MiB", growth as f64 / f64::from(1 << 20));
    bed.check_service().context("beside the strangers")
}
