//! The clients `smb` and `smb2` that others publish, in the crate `rust-clients` beside this one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Check;
use crate::peer::Site;
use crate::{process, workspace};

const LIMIT: Duration = Duration::from_secs(60);

/// Client, dialect and mode of each check.
const RUNS: &[(&str, &str, &str)] = &[
    ("smb", "2.0.2", "sign"),
    ("smb", "2.1", "sign"),
    ("smb", "3.0", "sign"),
    ("smb", "3.0", "encrypt"),
    ("smb", "3.0.2", "encrypt"),
    ("smb", "3.1.1", "sign"),
    ("smb", "3.1.1", "encrypt"),
    ("smb2", "3.1.1", "plain"),
    ("smb2", "3.1.1", "compress"),
];

/// Builds the program that has the clients and returns its file.
pub(super) fn build() -> Result<PathBuf> {
    workspace::build_apart(&workspace::package_dir().join("rust-clients"), "rust-clients")
}

/// Every client in its dialects and modes.
pub(super) fn checks<'a>(site: &'a Site, program: &'a Path) -> Vec<Check<'a>> {
    RUNS.iter()
        .map(|&(client, dialect, mode)| Check {
            name: format!("crate {client} {dialect} {mode}"),
            run: Box::new(move || run(site, program, client, dialect, mode)),
        })
        .collect()
}

fn run(site: &Site, program: &Path, client: &str, dialect: &str, mode: &str) -> Result<()> {
    let user = &site.users[0];
    let mut command = Command::new(program);
    command
        .args([client, &site.address.to_string(), &site.shares[0].name, dialect, mode])
        .env("RUST_BACKTRACE", "0")
        .env("SMB_USER", user.name)
        .env("SMB_PASSWORD", user.password);
    let output = process::run_checked(&mut command, LIMIT)?;
    ensure!(output.lines().last() == Some("OK"), "the client ended without OK: {output}");
    Ok(())
}
