//! Writes, reads, lists, renames and deletes with an SMB client that others publish.
//!
//! Usage: `rust-clients CLIENT ADDRESS SHARE DIALECT MODE`, with SMB_USER and SMB_PASSWORD in the environment. CLIENT is
//! `smb2` (MODE `plain` or `compress`; it speaks the newest dialect only) or `smb` (MODE `sign` or `encrypt`). Prints OK
//! last when everything held.

mod smb2_check;
mod smb_check;

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::runtime::Builder;

/// What to connect to, and how.
struct Target {
    address: SocketAddr,
    share: String,
    dialect: String,
    mode: String,
    user: String,
    password: String,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name: &str| arguments.next().with_context(|| format!("no {name} given"));
    let client = next("client")?;
    let target = Target {
        address: next("address")?.parse()?,
        share: next("share")?,
        dialect: next("dialect")?,
        mode: next("mode")?,
        user: std::env::var("SMB_USER")?,
        password: std::env::var("SMB_PASSWORD")?,
    };
    match client.as_str() {
        "smb" => Builder::new_current_thread().enable_all().build()?.block_on(smb_check::run(&target))?,
        "smb2" => Builder::new_multi_thread().enable_all().build()?.block_on(smb2_check::run(&target))?,
        other => bail!("no client {other}"),
    }
    println!("OK");
    Ok(())
}

/// Bytes of which half repeat, so that both compressible and incompressible runs occur.
fn content(size: usize) -> Vec<u8> {
    let mut word = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        // Runs of 4 KiB, by turns of noise and of one byte.
        if bytes.len() & 4096 == 0 { bytes.extend(word.to_le_bytes()) } else { bytes.extend([b'r'; 8]) }
    }
    bytes.truncate(size);
    bytes
}
