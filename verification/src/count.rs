//! Instructions that pieces of work take in codec, shard and endpoint, counted by callgrind and compared with
//! `verification/count/baseline.tsv`. One that takes more than 5 % more than its baseline fails.
//!
//! Counts depend on the compiler, which `rust-toolchain.toml` pins, and on the profile `count`; not on the processor: glibc
//! is told to use what every x86-64 has, and crypto, which asks the processor itself, is left out. Another glibc
//! may allocate a little differently, which is well below the threshold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::report::Totals;
use crate::{process, workspace};

/// Growth that fails, in percent of the baseline.
const GROWTH_MAX: u64 = 5;
const LIMIT: Duration = Duration::from_secs(120);
/// The function whose instructions count.
const MEASURED: &str = "count::meter::measured*";
/// glibc chooses how to copy by the processor and by the size of its caches.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-SSSE3,-SSE4_1,-SSE4_2,-ERMS,-FSRM:\
    glibc.cpu.x86_non_temporal_threshold=0x40000000:glibc.cpu.x86_rep_movsb_threshold=0x40000000:\
    glibc.cpu.x86_rep_stosb_threshold=0x40000000";

/// Counts the pieces of work whose name contains one of the texts, or all of them. With `write`, this run's counts become
/// the baseline.
///
/// # Errors
/// When nothing could be counted, or the baseline is another compiler's.
pub fn run(filter: &[String], write: bool) -> Result<Totals> {
    let program = workspace::build_count(&[])?;
    let listed = process::run_checked(Command::new(&program).arg("list"), LIMIT)?;
    let wanted = |name: &&str| filter.is_empty() || filter.iter().any(|text| name.contains(text.as_str()));
    let names: Vec<&str> = listed.lines().filter(wanted).collect();
    ensure!(!names.is_empty(), "no piece of work's name contains {}", filter.join(" or "));
    let counts = count_all(&program, &names)?;
    let compiler = compiler()?;
    if write {
        std::fs::write(baseline_file(), written(&compiler, &names, &counts))?;
    }
    let baseline = Baseline::parse(&std::fs::read_to_string(baseline_file()).context("the baseline")?)?;
    ensure!(
        baseline.compiler == compiler,
        "the baseline is of {}, this is {compiler}: renew it with `count --write-baseline`",
        baseline.compiler
    );
    let mut totals = Totals::default();
    println!("{:>12} {:>12} {:>8}", "baseline", "now", "change");
    for name in &names {
        totals.record_quietly(name, compare(name, baseline.counts.get(*name).copied(), counts[*name]));
    }
    if filter.is_empty() {
        for gone in baseline.counts.keys().filter(|name| !names.contains(&name.as_str())) {
            totals.record_quietly(gone, Err(anyhow::anyhow!("is in the baseline and nowhere else")));
        }
    }
    Ok(totals)
}

/// Prints the throughput of the crypto providers.
pub fn speed() -> Result<()> {
    let program = workspace::build_count(&["speed"])?;
    let status = Command::new(program).arg("speed").status()?;
    ensure!(status.success(), "ended with {status}");
    Ok(())
}

fn compare(name: &str, before: Option<u64>, now: u64) -> Result<()> {
    let Some(before) = before else {
        println!("{:>12} {now:>12} {:>8} {name}", "-", "-");
        bail!("is not in the baseline: `count --write-baseline` adds it");
    };
    let change = (now as f64 / before as f64 - 1.0) * 100.0;
    println!("{before:>12} {now:>12} {change:>+7.1}% {name}");
    ensure!(now * 100 <= before * (100 + GROWTH_MAX), "{before} instructions became {now}, {change:+.1} %");
    Ok(())
}

fn baseline_file() -> PathBuf {
    workspace::package_dir().join("count").join("baseline.tsv")
}

/// The compiler as it names itself, in the workspace, where it is pinned.
fn compiler() -> Result<String> {
    let mut command = Command::new("rustc");
    let version = process::run_checked(command.arg("--version").current_dir(workspace::root_dir()), LIMIT)?;
    Ok(version.lines().last().unwrap_or_default().trim().to_owned())
}

/// Instructions by name, two pieces of work at a time.
fn count_all<'a>(program: &Path, names: &[&'a str]) -> Result<BTreeMap<&'a str, u64>> {
    let next = AtomicUsize::new(0);
    let counts = Mutex::new(BTreeMap::new());
    let work = || -> Result<()> {
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            let count = count(program, name).with_context(|| (*name).to_owned())?;
            counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(*name, count);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        work()?;
        other.join().unwrap_or_else(|_| bail!("a thread panicked"))
    })?;
    Ok(counts.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Instructions of one round of a piece of work.
fn count(program: &Path, name: &str) -> Result<u64> {
    let valgrind = process::find_program("valgrind").context("no valgrind on this machine")?;
    let mut command = Command::new(valgrind);
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(program)
        .args(["run", name])
        // The environment takes room on the stack and may set what allocators do.
        .env_clear()
        .env("GLIBC_TUNABLES", TUNABLES)
        .env("LD_BIND_NOW", "1");
    let output = process::run_checked(&mut command, LIMIT)?;
    let number = |found: Option<&str>| found.and_then(|text| text.trim().parse::<u64>().ok());
    let rounds = number(output.lines().find_map(|line| line.strip_suffix(" rounds")));
    let collected = output.lines().find_map(|line| line.split_once("Collected :").map(|(_, count)| count));
    match (rounds, number(collected)) {
        (Some(rounds @ 1..), Some(collected @ 1..)) => Ok(collected / rounds),
        _ => bail!("nothing was counted:\n{output}"),
    }
}

fn written(compiler: &str, names: &[&str], counts: &BTreeMap<&str, u64>) -> String {
    let lines = names.iter().map(|name| format!("{}\t{name}\n", counts[name]));
    format!("# {compiler}\n{}", lines.collect::<String>())
}

/// What was counted when somebody last looked.
#[derive(Debug)]
struct Baseline {
    compiler: String,
    counts: BTreeMap<String, u64>,
}

impl Baseline {
    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let compiler = lines.next().and_then(|line| line.strip_prefix("# ")).context("no compiler")?;
        let entry = |line: &str| -> Result<(String, u64)> {
            let (count, name) = line.split_once('\t').with_context(|| line.to_owned())?;
            Ok((name.to_owned(), count.parse().with_context(|| line.to_owned())?))
        };
        Ok(Self { compiler: compiler.to_owned(), counts: lines.map(entry).collect::<Result<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_comes_back() {
        let counts = BTreeMap::from([("one: READ", 12), ("two", 34)]);
        let text = written("rustc 1.0", &["two", "one: READ"], &counts);
        let baseline = Baseline::parse(&text).unwrap();
        assert_eq!((baseline.compiler.as_str(), baseline.counts["one: READ"]), ("rustc 1.0", 12));
        assert_eq!(baseline.counts.len(), 2);
        assert!(Baseline::parse("12\tone").is_err() && Baseline::parse("# rustc\ntwelve\tone").is_err());
    }

    #[test]
    fn growth_beyond_the_threshold_fails() {
        assert!(compare("same", Some(1000), 1000).is_ok());
        assert!(compare("more", Some(1000), 1050).is_ok());
        assert!(compare("too much", Some(1000), 1051).is_err());
        assert!(compare("less", Some(1000), 10).is_ok());
        assert!(compare("new", None, 10).is_err());
    }

    #[test]
    fn the_committed_baseline_is_of_the_pinned_compiler() {
        let baseline = Baseline::parse(&std::fs::read_to_string(baseline_file()).unwrap()).unwrap();
        assert_eq!(baseline.compiler, compiler().unwrap());
    }
}
