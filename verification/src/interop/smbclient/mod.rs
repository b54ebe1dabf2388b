//! Samba's smbclient in every dialect, unprotected, signed and encrypted.

mod cases;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::Check;
use crate::peer::{Share, Site, User, make_open_directory};
use crate::process;

const LIMIT: Duration = Duration::from_secs(60);
const DIALECTS: [&str; 5] = ["SMB2_02", "SMB2_10", "SMB3_00", "SMB3_02", "SMB3_11"];

/// How the client asks for messages to be protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protection {
    Off,
    Sign,
    Encrypt,
}

impl Protection {
    const ALL: [Protection; 3] = [Protection::Off, Protection::Sign, Protection::Encrypt];

    fn word(self) -> &'static str {
        match self {
            Protection::Off => "off",
            Protection::Sign => "sign",
            Protection::Encrypt => "encrypt",
        }
    }
}

/// Where and as whom smbclient connects.
#[derive(Debug, Clone)]
pub(super) struct Client<'a> {
    site: &'a Site,
    configuration: &'a Path,
    pub(super) dialect: &'static str,
    pub(super) protection: Protection,
    pub(super) user: User,
    pub(super) share: String,
    /// The directory on the share that commands start in.
    pub(super) directory: Option<String>,
    /// The local directory that commands start in.
    pub(super) local: PathBuf,
}

impl<'a> Client<'a> {
    /// The first user on the first share, by the newest dialect and unprotected.
    pub(super) fn new(site: &'a Site, configuration: &'a Path, local: &Path) -> Client<'a> {
        Client {
            site,
            configuration,
            dialect: "SMB3_11",
            protection: Protection::Off,
            user: site.users[0].clone(),
            share: site.shares[0].name.clone(),
            directory: None,
            local: local.to_owned(),
        }
    }

    /// smbclient with everything but what it is to do.
    pub(super) fn base_command(&self) -> Result<Command> {
        let program = process::find_program("smbclient").context("no smbclient on this machine")?;
        let mut command = Command::new(program);
        command
            .arg("-s")
            .arg(self.configuration)
            .args(["-p", &self.site.address.port().to_string()])
            .arg(format!("--option=client min protocol={0}", self.dialect))
            .arg(format!("--option=client max protocol={0}", self.dialect))
            .arg(format!("--client-protection={}", self.protection.word()))
            .arg("-U")
            .arg(format!("{}%{}", self.user.name, self.user.password))
            .env("LC_ALL", "C.UTF-8")
            .current_dir(&self.local);
        Ok(command)
    }

    /// smbclient with commands to run on the share.
    pub(super) fn command(&self, script: &str) -> Result<Command> {
        let mut command = self.base_command()?;
        command.arg(format!("//{}/{}", self.site.address.ip(), self.share));
        if let Some(directory) = &self.directory {
            command.arg("-D").arg(directory);
        }
        command.arg("-c").arg(script);
        Ok(command)
    }

    /// Runs commands that must all succeed and returns what smbclient printed.
    pub(super) fn run(&self, script: &str) -> Result<String> {
        self.run_within(script, LIMIT)
    }

    /// [`Client::run`] with another time limit.
    pub(super) fn run_within(&self, script: &str, limit: Duration) -> Result<String> {
        let output =
            process::run_checked(&mut self.command(script)?, limit).with_context(|| script.to_owned())?;
        // The exit status is that of the last command only.
        ensure!(!output.contains("NT_STATUS_"), "{script}: {output}");
        Ok(output)
    }

    /// Runs commands of which one must fail with this status.
    pub(super) fn run_refused(&self, script: &str, status: &str) -> Result<()> {
        let finished = process::run_limited(&mut self.command(script)?, LIMIT)?;
        ensure!(finished.status.is_some(), "{script}: no end after {LIMIT:?}");
        let words = finished.output.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let statuses: Vec<&str> = words.filter(|word| word.starts_with("NT_STATUS_")).collect();
        if statuses.is_empty() || statuses.iter().any(|seen| *seen != status) {
            bail!("{script}: expected {status}, got {}", finished.output.trim());
        }
        Ok(())
    }
}

/// What a case works with: a client whose directories on both sides are its own and empty.
pub(super) struct Bench<'a> {
    pub(super) client: Client<'a>,
    pub(super) site: &'a Site,
    /// The client's directory on the share, seen from the server's side.
    pub(super) served: PathBuf,
    local: TempDir,
}

impl<'a> Bench<'a> {
    /// Makes the directories. `name` has to be unique in the run.
    pub(super) fn new(client: &Client<'a>, name: &str) -> Result<Bench<'a>> {
        let share: &Share = &client.site.shares[0];
        let served = share.path.join(name);
        make_open_directory(&served)?;
        let local = TempDir::with_prefix("leasehold-smbclient-")?;
        let mut client = client.clone();
        client.local = local.path().to_owned();
        client.directory = Some(name.to_owned());
        Ok(Bench { site: client.site, client, served, local })
    }

    pub(super) fn local(&self, name: &str) -> PathBuf {
        self.local.path().join(name)
    }

    /// Writes a local file.
    pub(super) fn make_local(&self, name: &str, content: &[u8]) -> Result<()> {
        std::fs::write(self.local(name), content).with_context(|| name.to_owned())
    }

    /// Compares a local file with what it should be.
    pub(super) fn check_local(&self, name: &str, content: &[u8]) -> Result<()> {
        let found = std::fs::read(self.local(name)).with_context(|| format!("reading back {name}"))?;
        ensure!(
            found == content,
            "{name}: {} bytes came back that differ from {} sent",
            found.len(),
            content.len()
        );
        Ok(())
    }
}

/// Runs the cases with these names in one dialect and protection.
pub(super) fn run_cases(
    site: &Site,
    configuration: &Path,
    (dialect, protection): (&'static str, Protection),
    names: &[&str],
) -> Result<()> {
    let client = Client { dialect, protection, ..Client::new(site, configuration, site.directory()) };
    for name in names {
        let case = cases::ALL.iter().find(|case| case.name == *name).context("no such case")?;
        let directory = format!("{dialect}-{}-{}", protection.word(), name.replace(' ', "-"));
        (case.run)(&Bench::new(&client, &directory)?).with_context(|| directory)?;
    }
    Ok(())
}

/// Every case in every dialect and protection.
pub(super) fn checks<'a>(site: &'a Site, configuration: &'a Path) -> Vec<Check<'a>> {
    let mut checks = Vec::new();
    for dialect in DIALECTS {
        for protection in Protection::ALL {
            if protection == Protection::Encrypt && dialect.starts_with("SMB2_") {
                continue;
            }
            let client = Client { dialect, protection, ..Client::new(site, configuration, site.directory()) };
            for case in cases::ALL {
                let client = client.clone();
                let directory = format!("{dialect}-{}-{}", protection.word(), case.name.replace(' ', "-"));
                checks.push(Check {
                    name: format!("smbclient {dialect} {}: {}", protection.word(), case.name),
                    run: Box::new(move || (case.run)(&Bench::new(&client, &directory)?)),
                });
            }
        }
    }
    checks
}
