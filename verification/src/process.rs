//! Child processes with a time limit, and programs on the search path.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const POLL: Duration = Duration::from_millis(10);

/// A child process that ended, or was ended at its time limit.
#[derive(Debug)]
pub struct Finished {
    /// None when the time limit ended it.
    pub status: Option<ExitStatus>,
    /// Standard output and standard error, in the order written.
    pub output: String,
    /// How long it ran.
    pub elapsed: Duration,
}

impl Finished {
    /// Whether it ended by itself with status 0.
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// Runs a command without standard input until it ends or the limit has passed; then it is killed.
pub fn run_limited(command: &mut Command, limit: Duration) -> Result<Finished> {
    // A file and not a pipe: nobody has to read while the child writes, and a killed child's output is kept.
    let mut output = tempfile::tempfile().context("a file for a child's output")?;
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    let status = wait_limited(&mut child, limit)?;
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(Finished { status, output: read_whole(&mut output)?, elapsed: started.elapsed() })
}

/// Runs a command that has to succeed; the error holds its output.
pub fn run_checked(command: &mut Command, limit: Duration) -> Result<String> {
    let finished = run_limited(command, limit)?;
    if !finished.succeeded() {
        let how =
            finished.status.map_or_else(|| format!("no end after {limit:?}"), |status| status.to_string());
        bail!("{}: {how}\n{}", command.get_program().to_string_lossy(), finished.output.trim_end());
    }
    Ok(finished.output)
}

/// Waits for a child for at most `limit`; None when it still runs.
pub fn wait_limited(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

/// The file of a program on the search path; the system directories are searched as well, where daemons live.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| {
            file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        })
}

fn read_whole(file: &mut File) -> Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_keeps_its_order_and_the_status_is_reported() {
        let finished = run_limited(
            Command::new("sh").args(["-c", "echo one; echo two >&2; echo three; exit 3"]),
            Duration::from_secs(10),
        )
        .unwrap();
        assert_eq!(finished.output, "one\ntwo\nthree\n");
        assert_eq!(finished.status.unwrap().code(), Some(3));
    }

    #[test]
    fn a_child_is_ended_at_its_limit_and_its_output_kept() {
        let finished = run_limited(
            Command::new("sh").args(["-c", "echo begun; exec sleep 60"]),
            Duration::from_millis(300),
        )
        .unwrap();
        assert!(finished.status.is_none());
        assert_eq!(finished.output, "begun\n");
        assert!(finished.elapsed < Duration::from_secs(30));
    }

    #[test]
    fn a_failing_command_shows_what_it_said() {
        let error = run_checked(Command::new("sh").args(["-c", "echo why; exit 1"]), Duration::from_secs(10))
            .unwrap_err();
        assert!(error.to_string().contains("why"));
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-at-all").is_none());
    }
}
