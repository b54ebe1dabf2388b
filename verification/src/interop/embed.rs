//! smbclient against `examples/embed.rs`: the libraries serve from a runtime that they don't know.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Check;
use super::smbclient::{self, Protection};
use crate::peer::Site;
use crate::workspace;

/// What smbclient does: the cases that need no share of named pipes, which the example hasn't got.
const CASES: &[&str] = &[
    "wrong password",
    "put and get",
    "overwrite shorter",
    "ls",
    "mput and mget",
    "rename",
    "del",
    "deltree",
];

/// The check, which starts the example.
pub(super) fn check() -> Check<'static> {
    Check { name: "examples/embed: smbclient lists, gets and puts".into(), run: Box::new(run) }
}

fn run() -> Result<()> {
    let program = workspace::example_program("embed")?;
    let mut site = Site::new(1)?;
    site.shares[0].name = "share".into();
    let (mut server, address) = Server::start(&program, &site)?;
    site.address = address;
    let configuration = site.write_client_configuration()?;
    for client in [
        ("SMB2_02", Protection::Sign),
        ("SMB3_00", Protection::Encrypt),
        ("SMB3_11", Protection::Off),
        ("SMB3_11", Protection::Sign),
        ("SMB3_11", Protection::Encrypt),
    ] {
        smbclient::run_cases(&site, &configuration, client, CASES)?;
    }
    ensure!(server.0.try_wait()?.is_none(), "the example ended by itself");
    Ok(())
}

/// The running example; ended when dropped.
struct Server(Child);

impl Server {
    fn start(program: &Path, site: &Site) -> Result<(Self, std::net::SocketAddr)> {
        let user = &site.users[0];
        let child = Command::new(program)
            .arg("127.0.0.1:0")
            .arg(&site.shares[0].path)
            .args([user.name, user.password])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| program.display().to_string())?;
        let mut server = Self(child);
        let mut line = String::new();
        BufReader::new(server.0.stdout.take().context("the example's output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on ").context("the example doesn't listen")?;
        Ok((server, address.parse()?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            eprintln!("stopping the example: {error}");
        }
    }
}
