//! Starts this workspace's server.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{CONTINUOUSLY_AVAILABLE, HIDES_UNREADABLE, Purpose, Runtime, Site};
use crate::workspace;

const START_LIMIT: Duration = Duration::from_secs(10);

/// Starts the server with its log in the site's directory and waits for its `listening on` line.
pub(super) fn spawn(program: &Path, site: &Site, runtime: Runtime) -> Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(site.log_file())?;
    let mut command = Command::new(program);
    command.arg("serve").arg("--runtime").arg(match runtime {
        Runtime::Tokio => "tokio",
        Runtime::Glommio => "glommio",
    });
    if let Some(fault) = site.fault {
        // With one shard one fault is one fault.
        command.args(["--cores", "1", "--fault", fault.argument()]);
    }
    match (site.purpose, site.authentication_timeout_s) {
        (Purpose::Conformance, None) if site.named_shares.is_empty() => give_arguments(&mut command, site),
        (Purpose::Speed | Purpose::Conformance, _) => {
            command.arg("--config").arg(lay_out(site)?);
        }
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
    match wait_until_listening(&mut child, site) {
        Ok(()) => Ok(child),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    }
}

/// Everything on the command line.
fn give_arguments(command: &mut Command, site: &Site) {
    command.arg("--listen").arg(site.address.to_string());
    for share in &site.shares {
        command.arg("--share").arg(format!("{}={}", share.name, share.path.display()));
    }
    for user in &site.users {
        command.arg("--user").arg(user.name);
        command.env(format!("LEASEHOLD_PASSWORD_{}", user.name.to_uppercase()), user.password);
    }
}

/// Everything in a configuration file, which alone can say that signatures are not required, can set limits, and can trim
/// listings.
fn lay_out(site: &Site) -> Result<PathBuf> {
    let file = site.directory().join("leasehold.toml");
    if file.exists() {
        return Ok(file);
    }
    let users = site.directory().join("users");
    for user in &site.users {
        add_user(&users, user.name, user.password)?;
    }
    let mut text =
        format!("[server]\nlisten = [\"{}\"]\nusers_file = \"users\"\nstate_dir = \"state\"\n", site.address);
    if site.purpose == Purpose::Speed {
        text.push_str("signing = \"possible\"\n");
    }
    if site.purpose == Purpose::Conformance {
        // The suite reauthenticates as nobody.
        text.push_str("anonymous = true\n");
    }
    if let Some(timeout_s) = site.authentication_timeout_s {
        writeln!(text, "[limits]\nauthentication_timeout_seconds = {timeout_s}")?;
    }
    for share in &site.shares {
        writeln!(text, "[[share]]\nname = {:?}\npath = {:?}", share.name, share.path)?;
    }
    for share in &site.named_shares {
        let trimmed = share.name == HIDES_UNREADABLE;
        writeln!(text, "[[share]]\nname = {:?}\npath = {:?}", share.name, share.path)?;
        writeln!(text, "access_based_enumeration = {trimmed}")?;
        if share.name == CONTINUOUSLY_AVAILABLE {
            writeln!(text, "continuous_availability = \"power-cut\"")?;
        }
    }
    fs::write(&file, text)?;
    Ok(file)
}

fn add_user(users: &Path, name: &str, password: &str) -> Result<()> {
    let mut child = Command::new(workspace::server_program()?)
        .args(["user", "--users-file"])
        .arg(users)
        .args(["add", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().context("the server's input")?;
    writeln!(input, "{password}")?;
    drop(input);
    let status = child.wait()?;
    ensure!(status.success(), "adding the user {name}: {status}");
    Ok(())
}

fn wait_until_listening(child: &mut Child, site: &Site) -> Result<()> {
    let lines = BufReader::new(child.stdout.take().context("the server's output")?).lines();
    let wanted = format!("listening on {}", site.address);
    let (sender, listening) = mpsc::channel();
    // Reads on after the line: a full pipe would stop the server. Ends with the server.
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if line.contains(&wanted) && sender.send(()).is_err() {
                eprintln!("server: {line}");
            }
        }
    });
    match listening.recv_timeout(START_LIMIT) {
        Ok(()) => Ok(()),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            bail!("no `listening on {}` after {START_LIMIT:?}", site.address)
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the server ended before it listened"),
    }
}
