//! The part that runs in the virtual machine: mounts the share in each way and checks what files do there.
//!
//! Results go to standard output, one line each; the host counts them.

mod data;
mod fsx;
mod names;
mod pairs;
mod sharing;
mod storm;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::io::Errno;

use super::random::Random;
use super::{COMMON_OPTIONS, HOST_TREE, MANIFEST, MOUNTS, Mount, tree};
use crate::process;

/// Longer than any check takes; then the machine shows what it knows and ends.
pub const CHECK_LIMIT: Duration = Duration::from_secs(240);
/// Starts a line that explains a failure.
pub const DIAGNOSTIC: &str = "| ";

const COMMAND_LIMIT: Duration = Duration::from_secs(120);
const FIRST: &str = "/mnt/first";
const SECOND: &str = "/mnt/second";
/// The host's loopback as QEMU's user networking shows it.
const SERVER: &str = "10.0.2.2";

/// Where the server is and what to check.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The server's port
    #[arg(long)]
    port: u16,
    /// The share's name
    #[arg(long)]
    share: String,
    /// Account name
    #[arg(long)]
    user: String,
    /// Its password
    #[arg(long)]
    password: String,
    /// Where the random parts start
    #[arg(long)]
    seed: u64,
    /// Run only checks whose name contains one of these
    #[arg(long)]
    filter: Vec<String>,
}

/// How a check ended that didn't fail.
enum Outcome {
    /// All as it should be; what was done.
    Done(String),
    /// The server says that it lacks what the check is about.
    Absent(String),
}

/// One way to mount, mounted twice: two clients with a connection each.
struct Mounted<'a> {
    arguments: &'a Arguments,
    mount: &'static Mount,
    /// This mount's directory through the first client.
    first: PathBuf,
    /// The same directory through the second client.
    second: PathBuf,
    /// A directory of the guest's own.
    local: PathBuf,
    /// Differs from mount to mount.
    seed: u64,
    manifest: Mutex<String>,
}

type Check = fn(&Mounted<'_>) -> Result<Outcome>;

/// The checks of each mount, in this order.
const CHECKS: &[(&str, Check)] = &[
    ("protocol and volume", protocol),
    ("read a tree that the host wrote", read_host_tree),
    ("copy a tree there and back", copy_tree),
    ("names", names::spelling),
    ("rename", names::rename),
    ("delete", names::delete),
    ("errors", names::errors),
    ("hard links", names::hard_links),
    ("symbolic links", names::symbolic_links),
    ("a thousand names in a directory", names::many),
    ("truncate and append", data::truncate_and_append),
    ("sparse files beyond 4 GiB", data::sparse),
    ("preallocation and holes", data::holes),
    ("copy within the server", data::copy_within),
    ("large file", data::large),
    ("times and the read-only attribute", data::attributes),
    ("extended attributes", data::extended_attributes),
    ("two clients on one file", pairs::two_clients),
    ("locks between two clients", pairs::locks),
    ("caches of two clients", sharing::coherent_caches),
    ("byte ranges between two clients", sharing::byte_ranges),
    ("changes by another client", sharing::told_of_changes),
    ("random reads, writes and truncations, cached", fsx_cached),
    ("random reads, writes and truncations, direct", fsx_direct),
    ("namespace storm", storm_of_two_clients),
    ("the kernel's log", kernel_log),
];

/// A line of results.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Report<'a> {
    Begin,
    Passed { name: &'a str, detail: &'a str },
    Absent { name: &'a str, detail: &'a str },
    Failed { name: &'a str, detail: &'a str },
    End,
}

impl Report<'_> {
    /// None for a line that is something else.
    pub(super) fn parse(line: &str) -> Option<Report<'_>> {
        let (word, rest) = line.strip_prefix("=== ")?.split_once(' ')?;
        let (name, detail) = rest.split_once(" | ").unwrap_or((rest, ""));
        match word {
            "BEGIN" => Some(Report::Begin),
            "PASSED" => Some(Report::Passed { name, detail }),
            "ABSENT" => Some(Report::Absent { name, detail }),
            "FAILED" => Some(Report::Failed { name, detail }),
            "END" => Some(Report::End),
            _ => None,
        }
    }
}

/// The names of all checks that the filter selects, `mount: check`.
pub(super) fn plan(filter: &[String]) -> Vec<String> {
    MOUNTS
        .iter()
        .flat_map(|mount| CHECKS.iter().map(|(check, _)| format!("{}: {check}", mount.label)))
        .filter(|name| is_selected(name, filter))
        .collect()
}

fn is_selected(name: &str, filter: &[String]) -> bool {
    filter.is_empty() || filter.iter().any(|text| name.contains(text.as_str()))
}

/// Runs the checks and prints their results. A check that fails doesn't end the run; one that hangs does.
pub fn run(arguments: &Arguments) {
    std::thread::spawn(watch);
    // Without this the kernel logs each time that caches are dropped.
    if let Err(error) = fs::write("/proc/sys/vm/drop_caches", "4") {
        print_line(&format!("{DIAGNOSTIC}{error}"));
    }
    for (number, mount) in (1..).zip(MOUNTS) {
        let selected: Vec<&(&str, Check)> = CHECKS
            .iter()
            .filter(|(check, _)| is_selected(&format!("{}: {check}", mount.label), &arguments.filter))
            .collect();
        if selected.is_empty() {
            continue;
        }
        let mounted = match mount_both(arguments, mount, number) {
            Ok(mounted) => mounted,
            Err(error) => {
                for (check, _) in selected {
                    print_line(&format!("=== FAILED {}: {check} | mounting: {error:#}", mount.label));
                }
                print_diagnostics();
                continue;
            }
        };
        for (check, function) in selected {
            run_check(&format!("{}: {check}", mount.label), || function(&mounted));
        }
        if let Err(error) = finish(&mounted) {
            print_line(&format!("=== FAILED {}: unmount | {error:#}", mount.label));
            print_diagnostics();
        }
    }
    print_line("=== END all");
}

/// The check that runs, and since when.
static RUNNING: Mutex<Option<(String, Instant)>> = Mutex::new(None);

fn run_check(name: &str, check: impl FnOnce() -> Result<Outcome>) {
    print_line(&format!("=== BEGIN {name}"));
    let started = Instant::now();
    set_running(Some((name.to_owned(), started)));
    let result = check();
    set_running(None);
    let seconds = started.elapsed().as_secs_f64();
    match result {
        Ok(Outcome::Done(detail)) => {
            let separator = if detail.is_empty() { "" } else { "; " };
            print_line(&format!("=== PASSED {name} | {seconds:.1} s{separator}{detail}"));
        }
        Ok(Outcome::Absent(detail)) => print_line(&format!("=== ABSENT {name} | {detail}")),
        Err(error) => {
            print_line(&format!("=== FAILED {name} | after {seconds:.1} s: {error:#}"));
            print_diagnostics();
        }
    }
}

fn set_running(check: Option<(String, Instant)>) {
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = check;
}

/// Ends the machine when a check hangs: a client that waits for an answer can't be interrupted.
fn watch() {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((name, since)) = running
            && since.elapsed() > CHECK_LIMIT
        {
            print_line(&format!("=== FAILED {name} | no end after {CHECK_LIMIT:?}"));
            print_diagnostics();
            print_diagnostic_text(&fs::read_to_string("/proc/fs/cifs/DebugData").unwrap_or_default());
            // The kernel lists the tasks that wait for something in its log.
            if fs::write("/proc/sysrq-trigger", "w").is_ok() {
                print_diagnostics();
            }
            let _ = Command::new("poweroff").arg("-f").status();
        }
    }
}

fn print_line(line: &str) {
    println!("{}", line.replace('\n', "; "));
}

/// What the kernel has logged since the last time.
fn print_diagnostics() {
    print_diagnostic_text(&new_kernel_messages());
}

fn print_diagnostic_text(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(60)..] {
        println!("{DIAGNOSTIC}{line}");
    }
}

/// What the kernel has logged since the last time.
pub(crate) fn new_kernel_messages() -> String {
    let finished = process::run_limited(Command::new("dmesg").arg("-c"), COMMAND_LIMIT);
    finished.map_or_else(|error| error.to_string(), |finished| finished.output)
}

fn mount_both<'a>(arguments: &'a Arguments, mount: &'static Mount, number: u64) -> Result<Mounted<'a>> {
    mount_at(arguments, mount, FIRST)?;
    mount_at(arguments, mount, SECOND)?;
    let first = Path::new(FIRST).join(mount.directory);
    fs::create_dir(&first).with_context(|| format!("making {}", first.display()))?;
    let local = Path::new("/tmp").join(mount.directory);
    fs::create_dir(&local)?;
    Ok(Mounted {
        arguments,
        mount,
        first,
        second: Path::new(SECOND).join(mount.directory),
        local,
        seed: arguments.seed.wrapping_mul(100).wrapping_add(number),
        manifest: Mutex::new(String::new()),
    })
}

fn mount_at(arguments: &Arguments, mount: &Mount, point: &str) -> Result<()> {
    let mut command = Command::new("/sbin/mount.cifs");
    command.arg(format!("//{SERVER}/{}", arguments.share)).arg(point).arg("-o").arg(format!(
        "username={},password={},port={},{},{COMMON_OPTIONS}",
        arguments.user, arguments.password, arguments.port, mount.options
    ));
    process::run_checked(&mut command, COMMAND_LIMIT).map(|_| ())
}

/// Leaves the manifest and unmounts.
fn finish(mounted: &Mounted<'_>) -> Result<()> {
    let manifest = mounted.manifest.lock().unwrap_or_else(PoisonError::into_inner);
    fs::write(mounted.first.join(MANIFEST), manifest.as_bytes()).context("writing the manifest")?;
    for point in [FIRST, SECOND] {
        process::run_checked(Command::new("umount").arg(point), COMMAND_LIMIT)?;
    }
    fs::remove_dir_all(&mounted.local)?;
    let sessions = fs::read_to_string("/proc/fs/cifs/DebugData")?;
    ensure!(!sessions.contains("SessionId"), "sessions are left after unmounting: {sessions}");
    Ok(())
}

impl Mounted<'_> {
    /// A new directory through the first client, for one check.
    fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.first.join(name);
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }

    fn random(&self, purpose: u64) -> Random {
        Random::new(self.seed.wrapping_mul(1_000).wrapping_add(purpose))
    }

    /// Tells the host what a file has to hold when all is over.
    fn expect_file(&self, path: &Path, content: &[u8]) -> Result<()> {
        let path = path.strip_prefix(&self.first)?;
        let mut manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(manifest, "{}  {}", tree::sum_of(content), path.display())?;
        Ok(())
    }
}

/// Forgets what the kernel has cached, so that the next look goes to the server.
fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches")
}

/// Longer than the client keeps attributes, or keeps a closed file open on the server.
const SETTLING: Duration = Duration::from_millis(1_500);

/// Drops caches once the client has nothing left that it would answer from memory.
fn settle() -> Result<()> {
    std::thread::sleep(SETTLING);
    drop_caches()
}

/// Whether the server, or the client on its behalf, says that it can't do this at all.
fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::OPNOTSUPP, Errno::NOSYS, Errno::NOTTY];
    absent.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The result has to be one of these errors.
fn expect_error<T>(what: &str, result: io::Result<T>, allowed: &[Errno]) -> Result<()> {
    match result {
        Ok(_) => bail!("{what} succeeds"),
        Err(error) => {
            let found = Errno::from_io_error(&error);
            ensure!(found.is_some_and(|found| allowed.contains(&found)), "{what}: {error}");
            Ok(())
        }
    }
}

/// The names in a directory, sorted; a name that comes twice is an error.
fn list(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("{} lists {} twice", directory.display(), pair[0]);
    }
    Ok(names)
}

fn protocol(mounted: &Mounted<'_>) -> Result<Outcome> {
    let shown = fs::read_to_string("/proc/fs/cifs/DebugData")?;
    for text in mounted.mount.shown {
        ensure!(shown.contains(text), "the kernel doesn't show {text}: {shown}");
    }
    let mounts = fs::read_to_string("/proc/mounts")?;
    let options = mounts.lines().find(|line| line.contains(FIRST)).context("no such mount")?;
    println!("{options}");
    let volume = rustix::fs::statvfs(FIRST)?;
    ensure!(
        volume.f_blocks > 0 && volume.f_bfree <= volume.f_blocks,
        "{} blocks, {} of them free",
        volume.f_blocks,
        volume.f_bfree
    );
    ensure!(volume.f_namemax == 255, "names may have {} characters", volume.f_namemax);
    let mebibytes = volume.f_frsize.saturating_mul(volume.f_bfree) >> 20;
    Ok(Outcome::Done(format!("{mebibytes} MiB free")))
}

fn read_host_tree(mounted: &Mounted<'_>) -> Result<Outcome> {
    let entries = tree::entries(mounted.arguments.seed);
    tree::compare(&entries, &Path::new(FIRST).join(HOST_TREE))?;
    Ok(Outcome::Done(format!("{} files and directories", entries.len())))
}

fn copy_tree(mounted: &Mounted<'_>) -> Result<Outcome> {
    let entries = tree::entries(mounted.seed);
    let (there, back) = (mounted.first.join("tree"), mounted.local.join("back"));
    let origin = mounted.local.join("origin");
    tree::write(&entries, &origin)?;
    tree::copy(&origin, &there).context("there")?;
    drop_caches()?;
    tree::copy(&there, &back).context("back")?;
    tree::compare(&entries, &back)?;
    tree::compare(&entries, &mounted.second.join("tree")).context("through the second client")?;
    let mut bytes = 0;
    for entry in &entries {
        if let tree::Entry::File { path, size, seed } = entry {
            mounted.expect_file(&there.join(path), &tree::content(*size, *seed))?;
            bytes += size;
        }
    }
    fs::remove_dir_all(&origin)?;
    fs::remove_dir_all(&back)?;
    Ok(Outcome::Done(format!("{} files and directories, {} KiB", entries.len(), bytes >> 10)))
}

fn fsx_cached(mounted: &Mounted<'_>) -> Result<Outcome> {
    run_fsx(
        mounted,
        "fsx-cached",
        fsx::Settings { seed: mounted.random(1).next(), operations: 800, direct: false },
    )
}

fn fsx_direct(mounted: &Mounted<'_>) -> Result<Outcome> {
    run_fsx(
        mounted,
        "fsx-direct",
        fsx::Settings { seed: mounted.random(2).next(), operations: 500, direct: true },
    )
}

fn run_fsx(mounted: &Mounted<'_>, name: &str, settings: fsx::Settings) -> Result<Outcome> {
    let path = mounted.first.join(name);
    let content = fsx::run(&path, &settings, &drop_caches)?;
    mounted.expect_file(&path, &content)?;
    Ok(Outcome::Done(format!("{} operations", settings.operations)))
}

fn storm_of_two_clients(mounted: &Mounted<'_>) -> Result<Outcome> {
    mounted.directory("storm")?;
    let roots = [mounted.first.join("storm"), mounted.second.join("storm")];
    let summary = storm::run(&roots, mounted.random(3).next(), &settle)?;
    fs::remove_dir(&roots[0]).context("removing the storm's directory")?;
    Ok(Outcome::Done(summary))
}

/// Lines of the kernel's log that tell of something serious.
pub(crate) fn complaints(log: &str) -> Vec<&str> {
    let serious = ["BUG:", "WARNING:", "Oops", "hung", "not responding", "signature", "sign_verify", "Bad "];
    log.lines().filter(|line| serious.iter().any(|word| line.contains(word))).collect()
}

/// The kernel's own complaints: anything about its state, and reconnections, which nothing here should cause.
fn kernel_log(_mounted: &Mounted<'_>) -> Result<Outcome> {
    let log = new_kernel_messages();
    let complaints = complaints(&log);
    ensure!(complaints.is_empty(), "{}", complaints.join("; "));
    print_diagnostic_text(&log);
    Ok(Outcome::Done(format!("{} lines", log.lines().count())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_results_are_read_back() {
        let line = "=== FAILED 3.0 sealed: rename | after 1.0 s: a | b";
        let failed = Report::Failed { name: "3.0 sealed: rename", detail: "after 1.0 s: a | b" };
        assert_eq!(Report::parse(line), Some(failed));
        assert_eq!(Report::parse("=== END all"), Some(Report::End));
        assert_eq!(Report::parse("[    1.0] === x"), None);
    }

    #[test]
    fn the_filter_selects_by_part_of_a_name() {
        assert_eq!(plan(&[]).len(), MOUNTS.len() * CHECKS.len());
        assert_eq!(plan(&["2.1: rename".to_owned()]), ["2.1: rename"]);
        assert_eq!(plan(&["storm".to_owned()]).len(), MOUNTS.len());
        assert!(plan(&["no such".to_owned()]).is_empty());
    }

    #[test]
    fn errors_are_told_apart() {
        let error = |errno: Errno| -> io::Result<()> { Err(errno.into()) };
        expect_error("x", error(Errno::NOENT), &[Errno::EXIST, Errno::NOENT]).unwrap();
        assert!(expect_error("x", error(Errno::IO), &[Errno::NOENT]).is_err());
        assert!(expect_error("x", Ok(()), &[Errno::NOENT]).is_err());
        assert!(is_absent(&Errno::OPNOTSUPP.into()) && !is_absent(&Errno::INVAL.into()));
    }
}
