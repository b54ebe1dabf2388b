//! The Python clients smbprotocol and impacket, each by a script in `python/`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Check;
use crate::peer::{PeerKind, Site};
use crate::{process, workspace};

const LIMIT: Duration = Duration::from_secs(60);

/// Script, dialect and protection of each check.
const RUNS: &[(&str, &str, &str)] = &[
    ("smbprotocol", "2.0.2", "sign"),
    ("smbprotocol", "2.1", "sign"),
    ("smbprotocol", "3.0", "sign"),
    ("smbprotocol", "3.0", "encrypt"),
    ("smbprotocol", "3.0.2", "sign"),
    ("smbprotocol", "3.0.2", "encrypt"),
    ("smbprotocol", "3.1.1", "sign"),
    ("smbprotocol", "3.1.1", "encrypt"),
    ("impacket", "2.0.2", "sign"),
    ("impacket", "2.1", "sign"),
    ("impacket", "3.0", "sign"),
    ("impacket", "3.0", "encrypt"),
    ("impacket", "3.1.1", "sign"),
    ("impacket", "3.1.1", "encrypt"),
];

/// Every script in its dialects and protections.
pub(super) fn checks<'a>(kind: PeerKind, site: &'a Site, python: &'a Path) -> Vec<Check<'a>> {
    RUNS.iter()
        .map(|&(client, dialect, protection)| Check {
            name: format!("{client} {dialect} {protection}"),
            run: Box::new(move || run(kind, site, python, client, dialect, protection)),
        })
        .collect()
}

fn run(
    kind: PeerKind,
    site: &Site,
    python: &Path,
    client: &str,
    dialect: &str,
    protection: &str,
) -> Result<()> {
    let script = workspace::package_dir().join("python").join(format!("{client}_check.py"));
    let user = &site.users[0];
    let mut command = Command::new(python);
    command
        .arg(script)
        .args([&site.address.ip().to_string(), &site.address.port().to_string(), &site.shares[0].name])
        .args([dialect, protection])
        .env("SMB_USER", user.name)
        .env("SMB_PASSWORD", user.password)
        // Others make no symbolic links for clients.
        .env("SMB_LINKS", if matches!(kind, PeerKind::Smbd | PeerKind::SmbServer) { "no" } else { "yes" })
        // A byte-code cache would appear in the source tree.
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = process::run_checked(&mut command, LIMIT)?;
    ensure!(output.lines().last() == Some("OK"), "the script ended without OK: {output}");
    Ok(())
}
