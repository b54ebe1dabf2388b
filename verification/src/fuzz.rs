//! Runs the targets of `verification/fuzz` under libFuzzer, on stable Rust, and counts executions and CPU time.
//!
//! The engine is part of bolero; what cargo-bolero adds is the flags of the build and the arguments of the run, which
//! are here. Found inputs go to `fuzz/corpus` in the target directory, so that the next run goes on where this one
//! ended; inputs that break a promise go to `fuzz/crashes`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::report::Totals;
use crate::workspace;

/// How the code under test is instrumented: edge counters, compared values, depth of the stack.
const RUSTFLAGS: &str = "--cfg fuzzing --cfg fuzzing_libfuzzer -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-sanitizer-coverage-stack-depth";
/// Longest input, as in the targets' own test.
const LENGTH_MAX: usize = 4096;
/// Seconds that one input may take.
const INPUT_LIMIT_S: u32 = 10;
/// Memory that the process may have: nothing here needs more than a fraction of it.
const MEMORY_LIMIT_MB: u32 = 1024;
/// Shortest run that is worth starting.
const ROUND_MIN: Duration = Duration::from_secs(1);

/// How long, and which targets.
#[derive(Debug, Clone)]
pub struct Options {
    /// CPU time for each target.
    pub per_target: Option<Duration>,
    /// CPU time for all of them together.
    pub total: Duration,
    /// Parts of names; every target if there are none.
    pub filter: Vec<String>,
}

/// Executions and CPU time.
#[derive(Debug, Default, Clone, Copy)]
struct Spent {
    executions: u64,
    cpu: Duration,
}

/// The targets, built.
struct Engine {
    program: PathBuf,
    package: PathBuf,
    directory: PathBuf,
}

/// Runs the targets one after the other and prints what each did.
pub fn run(options: &Options) -> Result<Totals> {
    let engine = Engine::build()?;
    let wanted =
        |name: &String| options.filter.is_empty() || options.filter.iter().any(|part| name.contains(part));
    let names: Vec<String> = engine.targets()?.into_iter().filter(wanted).collect();
    ensure!(!names.is_empty(), "no target has such a name");
    let each = options.per_target.unwrap_or(options.total / u32::try_from(names.len())?);
    let mut totals = Totals::default();
    let mut sum = Spent::default();
    println!("{:<24} {:>14} {:>12} {:>12}", "target", "executions", "CPU s", "a second");
    for name in &names {
        let mut spent = Spent::default();
        let result = engine.fuzz(name, each, &mut spent);
        print_line(name, spent);
        sum.executions += spent.executions;
        sum.cpu += spent.cpu;
        totals.record(&format!("fuzz {name}"), result);
    }
    print_line("total", sum);
    println!("{:.1} CPU minutes", sum.cpu.as_secs_f64() / 60.0);
    Ok(totals)
}

/// The targets over their committed corpus and a little random input, as `cargo test` does it.
pub fn replay() -> Result<Totals> {
    workspace::cargo_test_apart(&package()?, &target_dir()?.join("test"))
}

fn package() -> Result<PathBuf> {
    let package = workspace::package_dir().join("fuzz");
    ensure!(package.join("Cargo.toml").is_file(), "no package at {}", package.display());
    Ok(package)
}

fn target_dir() -> Result<PathBuf> {
    Ok(workspace::target_dir()?.join("fuzz"))
}

fn print_line(name: &str, spent: Spent) {
    let seconds = spent.cpu.as_secs_f64();
    let speed = if seconds > 0.0 { spent.executions as f64 / seconds } else { 0.0 };
    println!("{name:<24} {:>14} {seconds:>12.1} {speed:>12.0}", spent.executions);
}

impl Engine {
    fn build() -> Result<Engine> {
        let (package, directory) = (package()?, target_dir()?);
        // The engine takes its arguments in one string that it cuts at spaces.
        for path in [&package, &directory] {
            ensure!(
                !path.to_string_lossy().contains(' '),
                "the engine can't have spaces in {}",
                path.display()
            );
        }
        let mut child = workspace::cargo()?
            .args(["test", "--no-run", "--locked", "--profile", "fuzz", "--test", "targets"])
            // With a target named, the flags don't reach build scripts and macros.
            .args(["--target", &host()?, "--message-format", "json-render-diagnostics"])
            .current_dir(&package)
            .env("CARGO_TARGET_DIR", directory.join("build"))
            .env("RUSTFLAGS", RUSTFLAGS)
            .env("BOLERO_FUZZER", "libfuzzer")
            .stdout(Stdio::piped())
            .spawn()
            .context("cargo")?;
        let mut program = None;
        for line in BufReader::new(child.stdout.take().context("cargo's output")?).lines() {
            program = executable(&line?).or(program);
        }
        let status = child.wait()?;
        ensure!(status.success(), "building the targets ended with {status}");
        Ok(Engine { program: program.context("cargo named no program")?, package, directory })
    }

    /// Each target has a folder in the committed corpus.
    fn targets(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.package.join("corpus"))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Runs one target until it used its CPU time. The engine counts time on the wall, so it may take several rounds.
    fn fuzz(&self, name: &str, limit: Duration, spent: &mut Spent) -> Result<()> {
        let corpus = self.directory.join("corpus").join(name);
        let crashes = self.directory.join("crashes").join(name);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&crashes)?;
        let log = self.directory.join(format!("{name}.log"));
        while spent.cpu < limit {
            let round = limit.saturating_sub(spent.cpu).max(ROUND_MIN);
            let output = fs::File::create(&log)?;
            let mut child = Command::new(&self.program)
                .args([name, "--exact", "--nocapture", "--quiet", "--test-threads", "1"])
                .current_dir(&self.package)
                // The input tells more than a hundred frames of the engine.
                .env("RUST_BACKTRACE", "0")
                .env("BOLERO_TEST_NAME", name)
                .env("BOLERO_LIBTEST_HARNESS", "1")
                .env("BOLERO_LIBFUZZER_ARGS", self.arguments(name, &corpus, &crashes, round))
                .stdin(Stdio::null())
                .stdout(output.try_clone()?)
                .stderr(output)
                .spawn()
                .with_context(|| self.program.display().to_string())?;
            let cpu = cpu_time(&child)?;
            let status = wait(&mut child)?;
            let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
            let executions = executed(&text);
            spent.cpu += cpu;
            spent.executions += executions.unwrap_or(0);
            if !status.success() {
                bail!("{status}\n{}\nthe input is in {}", end_of(&text), crashes.display());
            }
            ensure!(executions.is_some_and(|count| count > 0), "the engine ran nothing\n{}", end_of(&text));
        }
        Ok(())
    }

    fn arguments(&self, name: &str, corpus: &Path, crashes: &Path, round: Duration) -> String {
        format!(
            "{} {} -artifact_prefix={}/ -max_total_time={} -timeout={INPUT_LIMIT_S} -max_len={LENGTH_MAX} \
             -rss_limit_mb={MEMORY_LIMIT_MB} -print_final_stats=1",
            corpus.display(),
            self.package.join("corpus").join(name).display(),
            crashes.display(),
            round.as_secs_f64().ceil(),
        )
    }
}

/// This machine's target.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc doesn't say its host")?.to_owned())
}

/// The program that a message of cargo's names.
fn executable(message: &str) -> Option<PathBuf> {
    let (_, rest) = message.split_once("\"executable\":\"")?;
    Some(PathBuf::from(rest.split_once('"')?.0))
}

/// Executions, from the engine's statistics or, after a crash, from its last line of progress.
fn executed(log: &str) -> Option<u64> {
    let total = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let progress = || {
        let number = |line: &str| line.strip_prefix('#')?.split(char::is_whitespace).next()?.parse().ok();
        log.lines().rev().find_map(number)
    };
    total.and_then(|count| count.trim().parse().ok()).or_else(progress)
}

/// Waits until a child has ended, without reaping it, and reads what CPU time it used.
fn cpu_time(child: &Child) -> Result<Duration> {
    let pid = Pid::from_child(child);
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    // The name is in parentheses and may hold anything; times of user and system are the 14th and 15th field.
    let (_, fields) = stat.rsplit_once(')').context("a process without a name")?;
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(Duration::from_secs_f64(
        ticks.iter().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
}

fn wait(child: &mut Child) -> Result<std::process::ExitStatus> {
    Ok(child.wait()?)
}

fn end_of(log: &str) -> String {
    const SHOWN: usize = 60;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_and_the_engine_say_is_understood() {
        let message = r#"{"reason":"compiler-artifact","executable":"/t/targets-1f","fresh":false}"#;
        assert_eq!(executable(message), Some(PathBuf::from("/t/targets-1f")));
        assert_eq!(executable(r#"{"executable":null}"#), None);
        let log = "#2\tINITED cov: 3\n#1024\tpulse\nDone\nstat::number_of_executed_units: 4096\nstat::peak_rss_mb: 30\n";
        assert_eq!(executed(log), Some(4096));
        assert_eq!(executed("#2\tINITED cov: 3\n#1024\tpulse  cov: 9\npanicked"), Some(1024));
        assert_eq!(executed("nothing"), None);
    }

    #[test]
    fn cpu_time_of_a_child_is_counted() {
        let mut child = Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"])
            .spawn()
            .unwrap();
        let used = cpu_time(&child).unwrap();
        assert!(used >= Duration::from_millis(10), "{used:?}");
        assert!(wait(&mut child).unwrap().success());
    }
}
