//! Starts the server of the crate `smb-server` that others publish, in the program `rust-server` beside this package.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Result;

use super::Site;
use crate::workspace;

const START_LIMIT: Duration = Duration::from_secs(15);

/// Builds the program.
pub(super) fn build() -> Result<()> {
    program().map(|_| ())
}

fn program() -> Result<PathBuf> {
    workspace::build_apart_release(&workspace::package_dir().join("rust-server"), "rust-server")
}

/// Starts the server and waits until it accepts connections. It knows the first user only.
pub(super) fn spawn(site: &Site) -> Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(site.log_file())?;
    let user = &site.users[0];
    let shares = site.shares.iter().map(|share| format!("{}={}", share.name, share.path.display()));
    let mut child = Command::new(program()?)
        .arg(site.address.to_string())
        .arg(user.name)
        .args(shares)
        .env("SMB_PASSWORD", user.password)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    super::wait_until_accepting(&mut child, site, "rust-server", START_LIMIT)?;
    Ok(child)
}
