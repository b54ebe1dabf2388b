//! Peers that mean harm, or don't know better, against the real server with its default configuration: each gets an
//! error or a disconnect, memory stays within [`GROWTH_MAX`] above idle, and others are served meanwhile.

mod crowd;
mod flood;
mod forgery;
mod silence;
mod wire;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::install;
use crate::peer::{Peer, PeerKind, Site};
use crate::process;
use crate::report::Totals;

/// Memory that hostile peers may cost, in bytes.
const GROWTH_MAX: u64 = 64 << 20;
/// Connections of the test with many.
const CROWD: usize = 2000;
/// How soon a peer that broke the protocol is disconnected.
const SOON: Duration = Duration::from_secs(5);

/// One check.
struct Check {
    name: &'static str,
    run: fn(&Bed) -> Result<()>,
}

const CHECKS: [Check; 16] = [
    Check { name: "rubbish", run: flood::rubbish },
    Check { name: "a length of 16 MiB before authentication", run: flood::long_frame },
    Check { name: "a million requests in order", run: flood::echoes },
    Check { name: "a million requests beyond the credits", run: flood::beyond_credits },
    Check { name: "a million SMB1 negotiates", run: flood::smb1_negotiates },
    Check { name: "reads that nobody takes", run: flood::slow_reader },
    Check { name: "2,000 strangers half way through their logon", run: crowd::half_way },
    Check { name: "2,000 strangers with half a frame each", run: crowd::half_frames },
    Check { name: "compression that was not negotiated", run: forgery::compressed },
    Check { name: "encryption without a session", run: forgery::sealed_for_nobody },
    Check { name: "encryption with a wrong tag", run: forgery::wrong_tag },
    Check { name: "a wrong signature", run: forgery::wrong_signature },
    Check { name: "a negotiation that was tampered with", run: forgery::tampered_negotiate },
    Check { name: "a message id used twice", run: forgery::repeated_message },
    Check { name: "a session of another connection", run: forgery::foreign_session },
    Check { name: "wrong passwords", run: forgery::wrong_password },
];

/// A running server and what is needed to judge it.
struct Bed {
    peer: Peer,
    client_configuration: PathBuf,
    idle: u64,
}

/// Runs the checks whose name contains one of the texts, or all of them.
pub fn run(kind: PeerKind, filter: &[String]) -> Result<Totals> {
    install::ensure(&[install::SMBCLIENT])?;
    let wanted = |name: &str| filter.is_empty() || filter.iter().any(|text| name.contains(text.as_str()));
    let mut totals = Totals::default();
    let bed = Bed::start(kind, Site::new(1)?)?;
    raise_file_limit()?;
    for check in CHECKS.iter().filter(|check| wanted(check.name)) {
        let started = Instant::now();
        let result = (check.run)(&bed)
            .and_then(|()| bed.check_service())
            .map_err(|error| anyhow!("{error:#}\n{}", bed.peer.log_tail()));
        totals.record(&format!("hostile: {} ({:.1} s)", check.name, started.elapsed().as_secs_f64()), result);
    }
    totals.record("hostile: the server ran through and ends when asked", bed.peer.stop());
    if wanted("silence") {
        totals.record("hostile: silence at every step of a logon", silence::every_step(kind));
    }
    Ok(totals)
}

impl Bed {
    fn start(kind: PeerKind, site: Site) -> Result<Bed> {
        let peer = Peer::start(kind, site)?;
        let client_configuration = peer.site().write_client_configuration()?;
        let mut bed = Bed { peer, client_configuration, idle: 0 };
        // What a first client costs (threads, buffers that are kept) is no growth.
        bed.check_service()?;
        bed.idle = bed.resident()?;
        Ok(bed)
    }

    fn site(&self) -> &Site {
        self.peer.site()
    }

    /// Resident memory of the server in bytes.
    fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.peer.process_id()))
            .context("the server is gone")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes << 10)
    }

    fn check_memory(&self) -> Result<()> {
        let growth = self.resident()?.saturating_sub(self.idle);
        ensure!(growth <= GROWTH_MAX, "{:.1} MiB above idle", growth as f64 / f64::from(1 << 20));
        Ok(())
    }

    /// Whether an ordinary client is served.
    fn check_service(&self) -> Result<()> {
        let site = self.site();
        let user = &site.users[0];
        let mut command = Command::new(process::find_program("smbclient").context("no smbclient")?);
        command
            .arg("-s")
            .arg(&self.client_configuration)
            .args(["-p", &site.address.port().to_string(), "-U"])
            .arg(format!("{}%{}", user.name, user.password))
            .arg(format!("//{}/{}", site.address.ip(), site.shares[0].name))
            .args(["-c", "ls"]);
        let output =
            process::run_checked(&mut command, Duration::from_secs(20)).context("an ordinary client")?;
        ensure!(output.contains("blocks of size"), "an ordinary client saw {output}");
        Ok(())
    }
}

/// This process needs a socket for each connection of the crowd.
fn raise_file_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = (CROWD + 200) as u64;
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).context("more open files")?;
    }
    Ok(())
}
