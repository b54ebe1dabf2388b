//! The server process under test: what it serves, how it is started, watched and stopped.

mod leasehold;
mod smb_server;
mod smbd;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::{install, process, workspace};

const STOP_LIMIT: Duration = Duration::from_secs(5);
const LOG_LINES_SHOWN: usize = 40;

/// Which server is under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PeerKind {
    /// This workspace's server, built in release mode.
    Leasehold,
    /// The same server on its other runtime, glommio.
    LeaseholdGlommio,
    /// An earlier build of this workspace's server, the program that LEASEHOLD_BEFORE names: what a change gains.
    LeaseholdBefore,
    /// Samba's smbd in a private directory, to prove the checks themselves.
    Smbd,
    /// The Rust crate smb-server, in a program of its own.
    SmbServer,
}

/// What drives this workspace's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    /// Its default.
    Tokio,
    /// Thread per core on io_uring.
    Glommio,
}

impl PeerKind {
    /// The same server on a runtime, where there is a choice.
    pub fn on(self, runtime: Option<Runtime>) -> PeerKind {
        match (self, runtime) {
            (PeerKind::LeaseholdBefore | PeerKind::Smbd | PeerKind::SmbServer, _) | (_, None) => self,
            (_, Some(Runtime::Tokio)) => PeerKind::Leasehold,
            (_, Some(Runtime::Glommio)) => PeerKind::LeaseholdGlommio,
        }
    }

    /// Whether it is this workspace's server, which the ledger is about.
    pub fn is_ours(self) -> bool {
        match self {
            PeerKind::Leasehold | PeerKind::LeaseholdGlommio | PeerKind::LeaseholdBefore => true,
            PeerKind::Smbd | PeerKind::SmbServer => false,
        }
    }

    /// Builds or installs the server.
    pub fn prepare(self) -> Result<()> {
        match self {
            PeerKind::Leasehold | PeerKind::LeaseholdGlommio | PeerKind::LeaseholdBefore => {
                workspace::build_server()
            }
            PeerKind::Smbd => install::ensure(&[install::SMBD]),
            PeerKind::SmbServer => smb_server::build(),
        }
    }
}

/// What a server that is built to fail does wrong, once, when it is told to by SIGUSR1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// A write is acknowledged and not carried out.
    DropWrite,
    /// A break of a lease is neither told nor waited for.
    ForgetBreak,
}

impl Fault {
    /// As the server's command line has it.
    fn argument(self) -> &'static str {
        match self {
            Fault::DropWrite => "drop-write",
            Fault::ForgetBreak => "forget-break",
        }
    }

    /// What such a server does.
    pub fn does(self) -> &'static str {
        match self {
            Fault::DropWrite => "drops an acknowledged write",
            Fault::ForgetBreak => "forgets a break",
        }
    }
}

/// An account that the server knows.
#[derive(Debug, Clone)]
pub struct User {
    /// Account name.
    pub name: &'static str,
    /// Its password.
    pub password: &'static str,
}

/// The share whose listings leave out what the user may not read.
const HIDES_UNREADABLE: &str = "hideunread";

/// The share that gives persistent handles.
pub const CONTINUOUSLY_AVAILABLE: &str = "available";

/// A directory that the server shares.
#[derive(Debug, Clone)]
pub struct Share {
    /// The share's name.
    pub name: String,
    /// Its directory on this machine.
    pub path: PathBuf,
}

impl Share {
    /// Removes everything in the share's directory.
    pub fn empty(&self) -> Result<()> {
        empty_directory(&self.path).with_context(|| format!("emptying {}", self.path.display()))
    }
}

/// What is served, whoever serves it: a temporary directory with shares, two users, a port on 127.0.0.1.
#[derive(Debug)]
pub struct Site {
    directory: TempDir,
    /// Where the server listens.
    pub address: SocketAddr,
    /// The shares, `t1`, `t2`, ...
    pub shares: Vec<Share>,
    /// Shares that single tests of smbtorture look for by name: `hideunread` leaves out of listings what the user may not
    /// read, to `noperm` one can connect and no more. `available` is continuously available, where the server knows such.
    pub named_shares: Vec<Share>,
    /// Two users with equal rights.
    pub users: [User; 2],
    /// Whether smbd lists names that DOS can't hold by a short form, as its default is.
    pub short_names: bool,
    /// What the server is set for.
    pub purpose: Purpose,
    /// How long leasehold waits for a peer to authenticate, in seconds, if not as long as it does by default.
    pub authentication_timeout_s: Option<u32>,
    /// Serve with the server that is built to fail ([`workspace::build_faulty_server`]), which then can do this.
    pub fault: Option<Fault>,
}

/// What a server is set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// As the test suites count on: smbd with their settings, this workspace's server with its defaults.
    Conformance,
    /// For comparisons of speed: smbd as Debian installs it, this workspace's server with its defaults. Neither insists on
    /// signatures, so that messages can go without.
    Speed,
}

impl Site {
    /// Makes a site with `share_count` empty shares.
    pub fn new(share_count: usize) -> Result<Site> {
        let directory = TempDir::with_prefix("leasehold-verification-")?;
        // The users' own identities have to reach the shares.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let mut shares = Vec::new();
        for number in 1..=share_count {
            let share =
                Share { name: format!("t{number}"), path: directory.path().join(format!("share{number}")) };
            make_open_directory(&share.path)?;
            shares.push(share);
        }
        let users = [
            User { name: "smbtester1", password: "First-Secret-1" },
            User { name: "smbtester2", password: "Second-Secret-2" },
        ];
        Ok(Site {
            directory,
            address: free_address()?,
            shares,
            named_shares: Vec::new(),
            users,
            short_names: true,
            purpose: Purpose::Conformance,
            authentication_timeout_s: None,
            fault: None,
        })
    }

    /// Adds the shares that tests look for by name.
    pub fn add_named_shares(&mut self) -> Result<()> {
        for (name, mode) in [(HIDES_UNREADABLE, 0o777), ("noperm", 0o000), (CONTINUOUSLY_AVAILABLE, 0o777)] {
            let path = self.directory.path().join(name);
            make_open_directory(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            self.named_shares.push(Share { name: name.into(), path });
        }
        Ok(())
    }

    /// The site's directory, for files of the server and of clients beside the shares.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a configuration for Samba's programs as clients and returns its file.
    pub fn write_client_configuration(&self) -> Result<PathBuf> {
        let base = self.directory().join("client");
        let mut text =
            String::from("[global]\n\tclient min protocol = SMB2_02\n\tclient max protocol = SMB3_11\n");
        for name in ["private dir", "state directory", "cache directory", "lock directory", "pid directory"] {
            let path = base.join(name.replace(' ', "-"));
            fs::create_dir_all(&path)?;
            text.push_str(&format!("\t{name} = {}\n", path.display()));
        }
        let file = base.join("client.conf");
        fs::write(&file, text)?;
        Ok(file)
    }

    fn log_file(&self) -> PathBuf {
        self.directory().join("server.log")
    }
}

/// Makes a directory that every local identity may write to.
pub fn make_open_directory(path: &Path) -> Result<()> {
    fs::create_dir(path).with_context(|| path.display().to_string())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    Ok(())
}

/// Makes a directory that every local identity may write to, and its parents.
pub fn make_open_directories(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        make_open_directories(parent)?;
    }
    if path.exists() { Ok(()) } else { make_open_directory(path) }
}

/// A running server over a site. Stopped when dropped.
#[derive(Debug)]
pub struct Peer {
    kind: PeerKind,
    site: Site,
    child: Mutex<Child>,
}

impl Peer {
    /// Starts the server and waits until it accepts connections.
    pub fn start(kind: PeerKind, site: Site) -> Result<Peer> {
        let child = Mutex::new(spawn(kind, &site)?);
        Ok(Peer { kind, site, child })
    }

    /// What it serves.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The server's process id.
    pub fn process_id(&self) -> u32 {
        self.lock_child().id()
    }

    /// Starts the server again if it ended by itself; then says how it ended.
    pub fn restart_if_ended(&self) -> Result<Option<String>> {
        let mut child = self.lock_child();
        let Some(status) = child.try_wait()? else { return Ok(None) };
        let report = format!("the server ended by itself ({status})\n{}", self.log_tail());
        *child = spawn(self.kind, &self.site)?;
        Ok(Some(report))
    }

    /// Kills the server, and starts it again where it was.
    pub fn kill_and_restart(&self) -> Result<()> {
        let mut child = self.lock_child();
        self.signal(&child, Signal::KILL)?;
        child.wait()?;
        *child = spawn(self.kind, &self.site)?;
        Ok(())
    }

    /// Stops the server.
    ///
    /// # Errors
    /// It had ended by itself, ignored the request to end, or its log tells of a panic.
    pub fn stop(self) -> Result<()> {
        if let Some(status) = self.lock_child().try_wait()? {
            bail!("the server had ended by itself ({status})\n{}", self.log_tail());
        }
        if !self.end()? {
            bail!("the server ignored SIGTERM for {STOP_LIMIT:?}\n{}", self.log_tail());
        }
        let log = fs::read(self.site.log_file())?;
        if let Some(line) = String::from_utf8_lossy(&log).lines().find(|line| line.contains("panicked at")) {
            bail!("the server's log tells of a panic: {line}");
        }
        Ok(())
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.site)
    }

    /// Asks the server to end, then kills it. Returns whether asking was enough.
    fn end(&self) -> Result<bool> {
        let mut child = self.lock_child();
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        self.signal(&child, Signal::TERM)?;
        if process::wait_limited(&mut child, STOP_LIMIT)?.is_some() {
            return Ok(true);
        }
        self.signal(&child, Signal::KILL)?;
        child.wait()?;
        Ok(false)
    }

    fn signal(&self, child: &Child, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(child);
        match self.kind {
            PeerKind::Leasehold
            | PeerKind::LeaseholdGlommio
            | PeerKind::LeaseholdBefore
            | PeerKind::SmbServer => {
                rustix::process::kill_process(pid, signal)?;
            }
            // smbd has a process for each connection; it was started as the leader of a group of its own.
            PeerKind::Smbd => rustix::process::kill_process_group(pid, signal)?,
        }
        Ok(())
    }

    fn lock_child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("stopping the server: {error:#}");
        }
    }
}

fn spawn(kind: PeerKind, site: &Site) -> Result<Child> {
    match kind {
        PeerKind::Leasehold => leasehold::spawn(&program_for(site)?, site, Runtime::Tokio),
        PeerKind::LeaseholdGlommio => leasehold::spawn(&program_for(site)?, site, Runtime::Glommio),
        PeerKind::LeaseholdBefore => leasehold::spawn(&program_before()?, site, Runtime::Tokio),
        PeerKind::Smbd => smbd::spawn(site),
        PeerKind::SmbServer => smb_server::spawn(site),
    }
    .with_context(|| format!("starting the server\n{}", log_tail(site)))
}

/// The server, or one with a fault where the site wants that.
fn program_for(site: &Site) -> Result<PathBuf> {
    match site.fault {
        None => workspace::server_program(),
        Some(_) => workspace::faulty_server_program(),
    }
}

fn program_before() -> Result<PathBuf> {
    let program = std::env::var_os("LEASEHOLD_BEFORE").map(PathBuf::from);
    program.context("LEASEHOLD_BEFORE does not name the program of an earlier build")
}

/// Waits until a server that says nothing accepts connections.
fn wait_until_accepting(child: &mut Child, site: &Site, name: &str, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    while TcpStream::connect(site.address).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!("{name} ended before it listened ({status})");
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("{name} doesn't listen on {} after {limit:?}", site.address);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn log_tail(site: &Site) -> String {
    let log = fs::read(site.log_file()).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
    format!("--- end of the server's log ---\n{}\n---", shown.join("\n"))
}

/// An address on 127.0.0.1 that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Removes a directory's entries; directories that tests left without permissions are opened first.
fn empty_directory(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700))?;
            empty_directory(&entry.path())?;
            fs::remove_dir(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_emptied_whatever_its_modes() {
        let site = Site::new(2).unwrap();
        let share = &site.shares[1];
        let closed = share.path.join("a").join("b");
        fs::create_dir_all(&closed).unwrap();
        fs::write(closed.join("file"), b"x").unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        std::os::unix::fs::symlink("/nonexistent", share.path.join("link")).unwrap();
        share.empty().unwrap();
        assert_eq!(fs::read_dir(&share.path).unwrap().count(), 0);
    }

    #[test]
    fn client_configuration_names_writable_directories() {
        let site = Site::new(1).unwrap();
        let text = fs::read_to_string(site.write_client_configuration().unwrap()).unwrap();
        for line in text.lines().filter(|line| line.contains("dir")) {
            assert!(Path::new(line.split_once(" = ").unwrap().1).is_dir(), "{line}");
        }
    }
}
