//! Samba's smbtorture: every smb2 test, each with the result that the ledger expects of it.

mod ledger;
mod report;
mod run;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

pub use ledger::{Entry, Ledger};

use crate::peer::{Peer, PeerKind, Site};
use crate::process;
use crate::report::Totals;

/// More differences than this are a broken server or a stale ledger: running them all again would only take hours.
const RERUN_MAX: usize = 40;

/// How one test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The test says success.
    Pass,
    /// The test says failure.
    Fail,
    /// The test says that the server lacks what it needs.
    Skip,
    /// The test says error, or ended without a result line.
    Error,
    /// The time limit ended it.
    Timeout,
    /// Listed in the ledger as not to be run.
    NotRun,
}

impl Outcome {
    /// Every outcome, in the order of the report's columns.
    pub const ALL: [Outcome; 6] =
        [Outcome::Pass, Outcome::Fail, Outcome::Skip, Outcome::Error, Outcome::Timeout, Outcome::NotRun];

    /// The word for it in the ledger.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Fail => "fail",
            Outcome::Skip => "skip",
            Outcome::Error => "error",
            Outcome::Timeout => "timeout",
            Outcome::NotRun => "not-run",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Outcome {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Outcome> {
        Outcome::ALL
            .into_iter()
            .find(|outcome| outcome.word() == word)
            .ok_or_else(|| anyhow!("no such result: {word}"))
    }
}

/// What to run, and against what.
#[derive(Debug)]
pub struct Options {
    /// The server under test.
    pub peer: PeerKind,
    /// Prefixes of test names; empty for all.
    pub filter: Vec<String>,
    /// Tests at once.
    pub workers: usize,
    /// Print each test's result as it ends.
    pub print_results: bool,
    /// Keep each test's output in this directory.
    pub keep_output: Option<PathBuf>,
    /// Rewrite the ledger's expectations from this run.
    pub write_ledger: bool,
}

impl Options {
    /// Every test, checked against the ledger.
    pub fn all(peer: PeerKind, workers: usize) -> Options {
        Options {
            peer,
            filter: Vec::new(),
            workers,
            print_results: false,
            keep_output: None,
            write_ledger: false,
        }
    }

    fn selects(&self, test: &str) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|prefix| test.starts_with(prefix.as_str()))
    }
}

/// The result of each test by name.
pub type Results = BTreeMap<String, Outcome>;

/// Runs the tests that the options select and checks them: against the ledger, or against Samba's column where smbd is the peer.
///
/// A test that ends other than expected is run once more alone before it counts.
pub fn run(options: &Options) -> Result<Totals> {
    let ledger = Ledger::load()?;
    let samba = ledger::load_results("samba-4.17.tsv")?;
    let listed = list_tests()?;
    let tests: Vec<String> = listed.iter().filter(|test| options.selects(test)).cloned().collect();
    ensure!(!tests.is_empty(), "no test starts with {}", options.filter.join(" or "));
    let (not_run, to_run): (Vec<_>, Vec<_>) =
        tests.into_iter().partition(|test| ledger.entries.get(test).is_some_and(Entry::is_not_run));
    let mut expected: Results = match options.peer {
        PeerKind::Leasehold | PeerKind::LeaseholdGlommio | PeerKind::LeaseholdBefore => {
            ledger.entries.iter().map(|(test, entry)| (test.clone(), entry.expected)).collect()
        }
        PeerKind::Smbd | PeerKind::SmbServer => samba.clone(),
    };
    expected.extend(not_run.iter().map(|test| (test.clone(), Outcome::NotRun)));

    let started = Instant::now();
    let mut site = Site::new(options.workers)?;
    site.add_named_shares()?;
    let peer = Peer::start(options.peer, site)?;
    let runner = run::Runner::new(&peer, options)?;
    let mut results = runner.run_all(&to_run)?;
    let differing: Vec<String> = results
        .iter()
        .filter(|(test, outcome)| expected.get(*test) != Some(outcome))
        .map(|(test, _)| test.clone())
        .collect();
    let mut again = Results::new();
    if !options.write_ledger && differing.len() <= RERUN_MAX {
        for test in &differing {
            again.insert(test.clone(), runner.run_alone(test)?);
        }
    }
    let mut failures = runner.server_deaths();
    drop(runner);
    if let Err(error) = peer.stop() {
        failures.push(format!("smbtorture: {error:#}"));
    }
    results.extend(not_run.into_iter().map(|test| (test, Outcome::NotRun)));

    report::print(&report::Run {
        options,
        results: &results,
        ledger: &ledger,
        samba: &samba,
        elapsed: started.elapsed(),
    });
    if options.write_ledger {
        ensure!(options.peer.is_ours(), "the ledger is about leasehold, not about smbd");
        ledger.updated(&results, |test| options.selects(test)).save()?;
        println!("wrote the ledger");
        return Ok(Totals { passed: report::passes(&results), failed: failures });
    }
    let mut totals = check(&results, &again, &expected);
    if options.peer.is_ours() {
        failures.extend(ledger.problems(&listed));
    }
    totals.failed.extend(failures);
    Ok(totals)
}

/// Prints every test with what the ledger expects of it and why.
pub fn print_list() -> Result<()> {
    let ledger = Ledger::load()?;
    for (test, entry) in &ledger.entries {
        println!(
            "{:<8} {test}  {}",
            entry.expected,
            ledger.reasons.get(&entry.reason).map_or("", |text| text.as_str())
        );
    }
    Ok(())
}

/// Counts each test that passes as expected, and names each that ends other than expected twice.
fn check(results: &Results, again: &Results, expected: &Results) -> Totals {
    let mut totals = Totals::default();
    for (test, outcome) in results {
        let wanted = expected.get(test);
        if wanted == Some(outcome) {
            totals.passed += usize::from(*outcome == Outcome::Pass);
            continue;
        }
        let second = again.get(test);
        if second.is_some() && second == wanted {
            println!("unsteady: {test}: {outcome}, again alone {}", second.unwrap_or(outcome));
            totals.passed += usize::from(second == Some(&Outcome::Pass));
            continue;
        }
        let wanted = wanted.map_or("an entry in the ledger", |outcome| outcome.word());
        let second = second.map_or("not run again", |outcome| outcome.word());
        totals.failed.push(format!("{test}: expected {wanted}, got {outcome}, again alone: {second}"));
    }
    totals
}

/// The names of smbtorture's smb2 tests, sorted, in their short form.
fn list_tests() -> Result<Vec<String>> {
    let program =
        process::find_program("smbtorture").ok_or_else(|| anyhow!("no smbtorture on this machine"))?;
    let output = process::run_checked(Command::new(program).arg("--list"), Duration::from_secs(60))?;
    let mut tests: Vec<String> = output
        .lines()
        .filter(|line| line.starts_with("smb2."))
        .map(|line| short_name(line).to_owned())
        .collect();
    tests.sort();
    tests.dedup();
    ensure!(!tests.is_empty(), "smbtorture --list names no smb2 test");
    Ok(tests)
}

/// smbtorture lists `suite.test.test` for a test that is a test case of its own; `suite.test` names it as well.
fn short_name(listed: &str) -> &str {
    listed
        .match_indices('.')
        .find(|(dot, _)| listed[..*dot].ends_with(&listed[*dot..]) || listed[..*dot] == listed[dot + 1..])
        .map_or(listed, |(dot, _)| &listed[..dot])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubled_names_are_shortened() {
        assert_eq!(short_name("smb2.lock.lock.lock"), "smb2.lock.lock");
        assert_eq!(short_name("smb2.lock.valid-request.valid-request"), "smb2.lock.valid-request");
        assert_eq!(short_name("smb2.connect.connect"), "smb2.connect");
        assert_eq!(
            short_name("smb2.ioctl.copy-chunk streams.copy-chunk streams"),
            "smb2.ioctl.copy-chunk streams"
        );
        assert_eq!(
            short_name("smb2.ioctl.bug14788.NETWORK_INTERFACE.NETWORK_INTERFACE"),
            "smb2.ioctl.bug14788.NETWORK_INTERFACE"
        );
        assert_eq!(short_name("smb2.multichannel.leases.test1.test1"), "smb2.multichannel.leases.test1");
        assert_eq!(short_name("smb2.single"), "smb2.single");
    }

    #[test]
    fn a_difference_counts_only_when_it_shows_twice() {
        let one = |outcome| Results::from([("smb2.x".to_owned(), outcome)]);
        let expected = one(Outcome::Pass);
        let count = |first, again: Option<Outcome>| {
            let totals = check(&one(first), &again.map(one).unwrap_or_default(), &expected);
            (totals.passed, totals.failed.len())
        };
        assert_eq!(count(Outcome::Pass, None), (1, 0));
        assert_eq!(count(Outcome::Fail, Some(Outcome::Pass)), (1, 0));
        assert_eq!(count(Outcome::Fail, Some(Outcome::Fail)), (0, 1));
        assert_eq!(count(Outcome::Fail, None), (0, 1));
        assert_eq!(check(&one(Outcome::Pass), &Results::new(), &Results::new()).failed.len(), 1);
        assert_eq!(check(&one(Outcome::Pass), &Results::new(), &one(Outcome::Fail)).failed.len(), 1);
    }
}
