//! Runs smbtorture: one process for each test, each worker with a share of its own that is emptied between tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Options, Outcome, Results};
use crate::peer::{CONTINUOUSLY_AVAILABLE, Peer, Share};
use crate::process;

const LIMIT: Duration = Duration::from_secs(45);
const FIREWALL_LIMIT: Duration = Duration::from_secs(10);

/// Tests that take longer by design; started first, so that the run doesn't end with one worker busy.
const LONG_TESTS: [(&str, Duration); 10] = [
    ("smb2.multichannel.oplocks.test2", Duration::from_secs(90)),
    ("smb2.multichannel.leases.test2", Duration::from_secs(90)),
    ("smb2.notify.mask", Duration::from_secs(120)),
    ("smb2.scan.scan", Duration::from_secs(120)),
    ("smb2.maxfid", Duration::from_secs(120)),
    ("smb2.multichannel.oplocks.test3_windows", Duration::from_secs(90)),
    ("smb2.multichannel.oplocks.test3_specification", Duration::from_secs(90)),
    ("smb2.multichannel.leases.test4", Duration::from_secs(90)),
    ("smb2.lease.timeout", Duration::from_secs(90)),
    ("smb2.oplock.batch22a", Duration::from_secs(90)),
];

/// Tests that cut connections of theirs off.
const BLOCKING_TESTS: [&str; 2] = ["smb2.multichannel.", "smb2.replay."];

/// Tests of persistent handles.
const AVAILABILITY_TESTS: [&str; 3] = [
    "smb2.durable-v2-open.persistent-open-lease",
    "smb2.durable-v2-open.persistent-open-oplock",
    "smb2.replay.replay5",
];

/// Runs tests against one server.
pub(super) struct Runner<'a> {
    peer: &'a Peer,
    options: &'a Options,
    program: PathBuf,
    configuration: PathBuf,
    deaths: Mutex<Vec<String>>,
    /// Held by whoever uses the continuously available share.
    availability: Mutex<()>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(peer: &'a Peer, options: &'a Options) -> Result<Runner<'a>> {
        let program = process::find_program("smbtorture").context("no smbtorture on this machine")?;
        let configuration = peer.site().write_client_configuration()?;
        if let Some(directory) = &options.keep_output {
            fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
        let runner = Runner {
            peer,
            options,
            program,
            configuration,
            deaths: Mutex::default(),
            availability: Mutex::default(),
        };
        let site = peer.site();
        let mut shares = site.shares.iter().chain(&site.named_shares);
        shares.try_for_each(|share| runner.write_firewall(share))?;
        Ok(runner)
    }

    /// Runs every test once, as many at a time as there are shares.
    pub(super) fn run_all(&self, tests: &[String]) -> Result<Results> {
        let mut order: Vec<&String> = tests.iter().collect();
        order.sort_by_key(|test| std::cmp::Reverse(limit_of(test)));
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Results::new());
        std::thread::scope(|scope| {
            let workers: Vec<_> = self
                .peer
                .site()
                .shares
                .iter()
                .map(|share| {
                    scope.spawn(|| -> Result<()> {
                        while let Some(test) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                            let outcome = self.run_one(test, share)?;
                            lock(&results).insert((*test).clone(), outcome);
                        }
                        Ok(())
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|worker| {
                worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker of the test runner panicked")))
            })
        })?;
        Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs one test while nothing else runs.
    pub(super) fn run_alone(&self, test: &str) -> Result<Outcome> {
        let share = self.peer.site().shares.first().context("a site without shares")?;
        self.run_one(test, share)
    }

    /// One report for each time that the server ended by itself.
    pub(super) fn server_deaths(&self) -> Vec<String> {
        lock(&self.deaths).clone()
    }

    fn run_one(&self, test: &str, share: &Share) -> Result<Outcome> {
        if AVAILABILITY_TESTS.contains(&test) {
            // There is one such share.
            let _alone = lock(&self.availability);
            let named = self.peer.site().named_shares.iter();
            let share = named.clone().find(|share| share.name == CONTINUOUSLY_AVAILABLE);
            return self.run_on(test, share.context("a site without a continuously available share")?);
        }
        self.run_on(test, share)
    }

    fn run_on(&self, test: &str, share: &Share) -> Result<Outcome> {
        share.empty()?;
        let limit = limit_of(test);
        let finished = process::run_limited(&mut self.command(test, share, limit), limit)?;
        if blocks(test) {
            clear_firewall(&self.chains(share))?;
        }
        let outcome = if finished.status.is_none() { Outcome::Timeout } else { outcome_of(&finished.output) };
        if let Some(directory) = &self.options.keep_output {
            keep(directory, test, &finished.output)?;
        }
        if self.options.print_results {
            let seconds = finished.elapsed.as_secs_f32();
            println!("{outcome:<8} {seconds:6.1} s  {test}  {}", first_complaint(&finished.output));
        }
        if let Some(report) = self.peer.restart_if_ended()? {
            lock(&self.deaths).push(format!("during {test} or a test beside it: {report}"));
        }
        Ok(outcome)
    }

    /// The beginning of the names of a worker's chains: the tests' own are the same for each of them.
    fn chains(&self, share: &Share) -> String {
        format!("LH{}{}", self.peer.site().address.port(), share.name)
    }

    /// What a worker's tests call to block connections.
    fn firewall(&self, share: &Share) -> PathBuf {
        self.peer.site().directory().join(format!("iptables-{}", share.name))
    }

    fn write_firewall(&self, share: &Share) -> Result<()> {
        let path = self.firewall(share);
        let script = format!(
            "#!/bin/sh\nexec iptables -w $(printf '%s' \"$*\" | sed 's/SMBTORTURE/{}/g')\n",
            self.chains(share)
        );
        fs::write(&path, script)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .with_context(|| path.display().to_string())
    }

    fn command(&self, test: &str, share: &Share, limit: Duration) -> Command {
        let site = self.peer.site();
        let [first, second] = &site.users;
        let mut command = Command::new(&self.program);
        command
            .arg("-s")
            .arg(&self.configuration)
            .args(["-p", &site.address.port().to_string(), "--fullname", "--target=samba3"])
            // Only for a test whose runner is gone: past its own limit a test is killed.
            .arg(format!("--maximum-runtime={}", limit.as_secs() + 30))
            .arg(format!("--option=torture:user2name={}", second.name))
            .arg(format!("--option=torture:user2password={}", second.password))
            .arg("-U")
            .arg(format!("{}%{}", first.name, first.password))
            .arg(format!("//{}/{}", site.address.ip(), share.name))
            .arg(test)
            .current_dir(site.directory());
        // These block a connection of theirs, by its port. The other way that smbtorture has is a control of Samba's.
        if blocks(test) {
            command.arg("--option=torture:use_iptables=yes");
            command.arg(format!("--option=torture:iptables_command={}", self.firewall(share).display()));
        }
        // Transport-blocking tests count requests by their signatures.
        if test.starts_with("smb2.oplock.") || test.starts_with("smb2.notify.") {
            command.arg("--client-protection=sign");
        }
        command
    }
}

fn blocks(test: &str) -> bool {
    BLOCKING_TESTS.iter().any(|prefix| test.starts_with(prefix))
}

/// Removes the chains whose names begin like this: a test that was ended leaves its own behind.
fn clear_firewall(chains: &str) -> Result<()> {
    let iptables = |arguments: &[&str]| {
        process::run_checked(Command::new("iptables").arg("-w").args(arguments), FIREWALL_LIMIT)
    };
    let rules = iptables(&["-S"])?;
    let words = || rules.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    for rule in words() {
        if let ["-A", chain, "-j", target] = rule[..]
            && target.starts_with(chains)
        {
            iptables(&["-D", chain, "-j", target])?;
        }
    }
    let own: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.strip_prefix("-N "))
        .filter(|chain| chain.starts_with(chains))
        .collect();
    own.iter().try_for_each(|chain| iptables(&["-F", chain]).map(drop))?;
    own.iter().try_for_each(|chain| iptables(&["-X", chain]).map(drop))
}

fn limit_of(test: &str) -> Duration {
    LONG_TESTS.iter().find(|(name, _)| *name == test).map_or(LIMIT, |(_, limit)| *limit)
}

/// The result line is the only witness: a skipped test and a few failed ones exit with status 0.
fn outcome_of(output: &str) -> Outcome {
    let result = output.lines().rev().find_map(|line| {
        let (word, rest) = line.split_once(": ")?;
        match (word, rest.is_empty()) {
            ("success", false) => Some(Outcome::Pass),
            ("failure", false) => Some(Outcome::Fail),
            ("skip", false) => Some(Outcome::Skip),
            ("error", false) => Some(Outcome::Error),
            _ => None,
        }
    });
    result.unwrap_or(Outcome::Error)
}

/// The line after `failure: NAME [`, or the last line of an output without a result.
fn first_complaint(output: &str) -> &str {
    let mut lines = output.lines();
    let opened =
        lines.any(|line| ["failure: ", "skip: ", "error: "].iter().any(|word| line.starts_with(word)));
    if opened {
        return lines.next().unwrap_or_default();
    }
    if outcome_of(output) == Outcome::Pass { "" } else { output.lines().last().unwrap_or_default() }
}

fn keep(directory: &Path, test: &str, output: &str) -> Result<()> {
    let name: String =
        test.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    fs::write(directory.join(name + ".txt"), output)?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_line_decides() {
        let with = |line: &str| outcome_of(&format!("smbtorture 4.17\ntime: 2024\ntest: smb2.x\n{line}\n"));
        assert_eq!(with("success: smb2.x"), Outcome::Pass);
        assert_eq!(with("failure: smb2.x [\nlock.c:1: wrong\n]"), Outcome::Fail);
        assert_eq!(with("skip: smb2.x [\nno leases\n]"), Outcome::Skip);
        assert_eq!(with("error: smb2.x [\nUnable to connect\n]"), Outcome::Error);
        assert_eq!(with("INTERNAL ERROR: Signal 11"), Outcome::Error);
        assert_eq!(outcome_of(""), Outcome::Error);
    }

    #[test]
    fn the_complaint_is_the_line_after_the_result() {
        assert_eq!(first_complaint("test: x\nfailure: x [\nlock.c:1: wrong\n]\n"), "lock.c:1: wrong");
        assert_eq!(first_complaint("test: x\nsuccess: x\n"), "");
        assert_eq!(first_complaint("test: x\nboom\n"), "boom");
    }
}
