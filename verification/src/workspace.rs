//! Building and testing this workspace with cargo, and where its files are.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::report::Totals;

/// This package's directory: cargo's word for it when cargo started us, else where it was built.
pub fn package_dir() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// The workspace's directory.
pub fn root_dir() -> PathBuf {
    package_dir().parent().map_or_else(package_dir, Path::to_path_buf)
}

/// Cargo's target directory: this program was built into `TARGET/PROFILE/`, tests into `TARGET/PROFILE/deps/`.
pub fn target_dir() -> Result<PathBuf> {
    let program = std::env::current_exe().context("where this program is")?;
    let mut directory = program.parent().context("this program has no directory")?;
    if directory.ends_with("deps") {
        directory = directory.parent().context("no profile directory")?;
    }
    Ok(directory.parent().context("no target directory")?.to_path_buf())
}

/// The release build of the server.
pub fn server_program() -> Result<PathBuf> {
    let program = target_dir()?.join("release").join("leasehold");
    ensure!(program.is_file(), "{} isn't built: cargo build --release -p leasehold", program.display());
    Ok(program)
}

/// The release build of a server in `examples`.
pub fn example_program(name: &str) -> Result<PathBuf> {
    let program = target_dir()?.join("release").join(name);
    ensure!(program.is_file(), "{} isn't built: cargo build --release -p examples", program.display());
    Ok(program)
}

/// Builds every package in release mode.
pub fn build_release() -> Result<()> {
    cargo_build(&["--workspace"])
}

/// Builds the server alone in release mode.
pub fn build_server() -> Result<()> {
    cargo_build(&["--package", "leasehold"])
}

/// Where the server that is built to fail is apart from the one that ships: nobody must take one for the other.
fn faulty_server_dir() -> Result<PathBuf> {
    Ok(target_dir()?.join("seeded-faults"))
}

/// The server with `--fault`.
pub fn faulty_server_program() -> Result<PathBuf> {
    let program = faulty_server_dir()?.join("release").join("leasehold");
    ensure!(program.is_file(), "{} isn't built", program.display());
    Ok(program)
}

/// Builds the server in release mode with the feature `seeded-faults`, in a directory of its own.
pub fn build_faulty_server() -> Result<()> {
    let status = cargo()?
        .args(["build", "--release", "--package", "leasehold", "--features", "seeded-faults"])
        .env("CARGO_TARGET_DIR", faulty_server_dir()?)
        .status()
        .context("cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok(())
}

/// Builds the examples alone in release mode.
pub fn build_examples() -> Result<()> {
    cargo_build(&["--package", "examples"])
}

/// Builds the package `count` as it is counted and returns its program: by a profile that settles what the counts depend on.
pub fn build_count(features: &[&str]) -> Result<PathBuf> {
    let status = cargo()?
        .args(["build", "--profile", "count", "--package", "count"])
        .args(features.iter().flat_map(|feature| ["--features", feature]))
        .status()
        .context("cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok(target_dir()?.join("count").join("count"))
}

/// Builds a package that is a workspace of its own, with the lock file as committed, and returns one of its programs.
pub fn build_apart(package: &Path, program: &str) -> Result<PathBuf> {
    build_apart_as(package, program, "dev", "debug")
}

/// [`build_apart`] in release mode.
pub fn build_apart_release(package: &Path, program: &str) -> Result<PathBuf> {
    build_apart_as(package, program, "release", "release")
}

fn build_apart_as(package: &Path, program: &str, profile: &str, directory: &str) -> Result<PathBuf> {
    let target = target_dir()?.join("apart");
    let status = cargo()?
        .args(["build", "--locked", "--profile", profile, "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .context("cargo")?;
    ensure!(status.success(), "building {} ended with {status}", package.display());
    Ok(target.join(directory).join(program))
}

/// Runs `cargo test --workspace`, shows its output and counts its tests.
pub fn cargo_test() -> Result<Totals> {
    let mut command = cargo()?;
    command.args(["test", "--workspace", "--no-fail-fast"]);
    counted(command)
}

/// Runs `cargo test` in a package that is a workspace of its own, with the lock file as committed.
pub fn cargo_test_apart(package: &Path, target: &Path) -> Result<Totals> {
    let mut command = cargo()?;
    command.args(["test", "--no-fail-fast", "--locked"]).current_dir(package).env("CARGO_TARGET_DIR", target);
    counted(command)
}

fn counted(mut command: Command) -> Result<Totals> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cargo")?;
    let mut totals = Totals::default();
    for line in BufReader::new(child.stdout.take().context("cargo's output")?).lines() {
        let line = line?;
        println!("{line}");
        if let Some((passed, failed)) = test_counts(&line) {
            totals.passed += passed;
            totals.failed.extend((0..failed).map(|_| "cargo test: see its output above".to_owned()));
        }
    }
    let status = child.wait()?;
    if !status.success() && totals.failed.is_empty() {
        bail!("cargo test ended with {status}");
    }
    ensure!(totals.passed + totals.failed.len() > 0, "cargo test ran no tests");
    Ok(totals)
}

fn cargo_build(arguments: &[&str]) -> Result<()> {
    let status = cargo()?.args(["build", "--release"]).args(arguments).status().context("cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok(())
}

/// Cargo in the workspace, building where this program was built.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root_dir()).env("CARGO_TARGET_DIR", target_dir()?);
    // Cargo's own variables for this package would make dependants of env!() rebuild.
    command.env_remove("CARGO_MANIFEST_DIR");
    Ok(command)
}

/// Passed and failed of a line such as `test result: ok. 12 passed; 0 failed; 0 ignored; ...`.
fn test_counts(line: &str) -> Option<(usize, usize)> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number_before = |word: &str| -> Option<usize> {
        counts.split("; ").find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
    };
    Some((number_before("passed")?, number_before("failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_a_test_binary() {
        let ok =
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(test_counts(ok), Some((12, 0)));
        let failed = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(test_counts(failed), Some((3, 2)));
        assert_eq!(test_counts("test wire::reads ... ok"), None);
    }

    #[test]
    fn the_package_is_where_its_files_are() {
        assert!(package_dir().join("ledger").is_dir());
        assert!(root_dir().join("Cargo.lock").is_file());
    }
}
