//! The Linux kernel's own SMB client against the server: a virtual machine boots Debian's kernel, mounts the share in
//! one dialect and protection after the other, and works on it; afterwards the server's disk has to hold what the
//! kernel was told to write.
//!
//! The machine is emulated (no rights and no hardware support are needed) and gets its user-space from this machine's
//! own programs: busybox, mount.cifs, Perl (which every Debian machine has) and this very program, which plays the part
//! of the guest in [`guest`].

mod archive;
pub mod guest;
pub(crate) mod image;
pub(crate) mod machine;
pub(crate) mod random;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::peer::{Peer, PeerKind, Site};
use crate::report::Totals;
use crate::{install, process, workspace};

/// A full run takes a few minutes on an idle machine.
const RUN_LIMIT: Duration = Duration::from_secs(45 * 60);

/// The directory that the host fills before the guest starts.
const HOST_TREE: &str = "from-the-host";
/// What the guest leaves beside its files in a mount's directory: the sum of each, taken from what it meant to write.
const MANIFEST: &str = "manifest";

/// One way to mount the share.
#[derive(Debug)]
pub struct Mount {
    /// How results name it.
    pub label: &'static str,
    /// Options for mount.cifs beside account, address and port.
    pub options: &'static str,
    /// The directory of this mount's files in the share.
    directory: &'static str,
    /// What the kernel shows of the connection when the options have taken effect.
    shown: &'static [&'static str],
}

/// Every way to mount that is checked.
pub const MOUNTS: &[Mount] = &[
    Mount { label: "3.1.1", options: "vers=3.1.1", directory: "plain-311", shown: &["Dialect 0x311"] },
    Mount {
        label: "3.1.1 signed",
        options: "vers=3.1.1,sec=ntlmsspi",
        directory: "signed-311",
        shown: &["Dialect 0x311", "signed"],
    },
    Mount {
        label: "3.1.1 sealed",
        options: "vers=3.1.1,seal",
        directory: "sealed-311",
        shown: &["Dialect 0x311", "Encrypted"],
    },
    Mount {
        label: "3.0 sealed",
        options: "vers=3.0,seal",
        directory: "sealed-30",
        shown: &["Dialect 0x300", "Encrypted"],
    },
    Mount { label: "2.1", options: "vers=2.1", directory: "plain-21", shown: &["Dialect 0x210"] },
];

/// Options of every mount: symbolic links as Samba's and Apple's clients keep them, and a connection for each mount
/// point, so that two mounts are two clients to the server.
const COMMON_OPTIONS: &str = "uid=0,gid=0,mfsymlinks,nosharesock";

/// What to run, and against what.
#[derive(Debug)]
pub struct Options {
    /// The server under test.
    pub peer: PeerKind,
    /// Only checks whose `mount: check` contains one of these texts; empty for all.
    pub filter: Vec<String>,
    /// Where the random parts start; None takes it from the clock.
    pub seed: Option<u64>,
    /// Keep logs, the share's files and, where a program for it is installed, a capture of the connection.
    pub keep: bool,
}

/// Boots the machine against a server of its own and counts each check.
pub fn run(options: &Options) -> Result<Totals> {
    install::ensure(install::KERNEL_CLIENT)?;
    let wanted = guest::plan(&options.filter);
    ensure!(!wanted.is_empty(), "no check's name contains {}", options.filter.join(" or "));
    let cache = workspace::target_dir()?.join("kernel-client");
    fs::create_dir_all(&cache)?;
    let kernel = image::kernel(&cache)?;
    let seed = options.seed.map_or_else(clock_seed, Ok)?;
    println!("Linux {} as client, mounts with {COMMON_OPTIONS} and", kernel.version);
    for mount in MOUNTS {
        println!("  {:<13} {}", mount.label, mount.options);
    }
    println!("random parts: --seed {seed}");

    let site = Site::new(1)?;
    let share = site.shares[0].path.clone();
    tree::write(&tree::entries(seed), &share.join(HOST_TREE))?;
    let peer = Peer::start(options.peer, site)?;
    let kept = options.keep.then(|| cache.join("last-run"));
    let capture = match &kept {
        Some(directory) => {
            let _ = fs::remove_dir_all(directory);
            fs::create_dir_all(directory)?;
            Capture::start(&peer, directory)?
        }
        None => None,
    };
    let initrd = cache.join(format!("initrd-{}.cpio", std::process::id()));
    image::write_initrd(&kernel, &guest_arguments(&peer, seed, &options.filter), &initrd)?;
    let started = Instant::now();
    let mut results = Results::default();
    let booted = machine::run(&kernel.image, &initrd, RUN_LIMIT, |line| results.on_line(line));
    fs::remove_file(&initrd)?;
    drop(capture);
    let mut totals = results.finish(&wanted, booted);
    println!("the machine ran for {:.0} s", started.elapsed().as_secs_f64());
    for mount in MOUNTS.iter().filter(|mount| share.join(mount.directory).join(MANIFEST).exists()) {
        let compared = compare_with_manifest(&share.join(mount.directory));
        totals.record(&format!("kernel {}: what the server's disk holds", mount.label), compared);
    }
    if !totals.failed.is_empty() {
        println!("{}", peer.log_tail());
    }
    if let Some(directory) = &kept {
        fs::write(directory.join("guest.log"), results.log.join("\n"))?;
        let mut copy = std::process::Command::new("cp");
        copy.arg("-a").arg(peer.site().directory()).arg(directory.join("site"));
        process::run_checked(&mut copy, Duration::from_secs(120))?;
        println!("kept in {}", directory.display());
    }
    totals.record("kernel: the server ran through and ends when asked", peer.stop());
    Ok(totals)
}

fn clock_seed() -> Result<u64> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs())
}

/// The command line of this program in the guest.
fn guest_arguments(peer: &Peer, seed: u64, filter: &[String]) -> Vec<String> {
    let site = peer.site();
    let user = &site.users[0];
    let mut arguments = vec![
        "kernel-guest".to_owned(),
        format!("--port={}", site.address.port()),
        format!("--share={}", site.shares[0].name),
        format!("--user={}", user.name),
        format!("--password={}", user.password),
        format!("--seed={seed}"),
    ];
    arguments.extend(filter.iter().map(|text| format!("--filter={text}")));
    arguments
}

/// What the guest has told so far.
#[derive(Debug, Default)]
struct Results {
    totals: Totals,
    /// Checks that told how they ended.
    ended: BTreeMap<String, ()>,
    /// Everything that came over the serial line.
    log: Vec<String>,
    ended_by_itself: bool,
}

impl Results {
    fn on_line(&mut self, line: &str) {
        self.log.push(line.to_owned());
        let Some(report) = guest::Report::parse(line) else {
            // Diagnostics of a failure; what the firmware and the boot loader say is only in the log.
            if let Some(text) = line.strip_prefix(guest::DIAGNOSTIC) {
                println!("        {text}");
            }
            return;
        };
        match report {
            guest::Report::Begin => {}
            guest::Report::Passed { name, detail } => {
                self.totals.record(&format!("kernel {name} ({detail})"), Ok(()));
                self.ended.insert(name.to_owned(), ());
            }
            guest::Report::Absent { name, detail } => {
                println!("absent  kernel {name}: {detail}");
                self.ended.insert(name.to_owned(), ());
            }
            guest::Report::Failed { name, detail } => {
                self.totals.record(&format!("kernel {name}"), Err(anyhow::anyhow!("{detail}")));
                self.ended.insert(name.to_owned(), ());
            }
            guest::Report::End => self.ended_by_itself = true,
        }
    }

    /// The totals, with a failure for each check that told nothing.
    fn finish(&mut self, wanted: &[String], booted: Result<()>) -> Totals {
        let mut totals = std::mem::take(&mut self.totals);
        let missing: Vec<&String> = wanted.iter().filter(|name| !self.ended.contains_key(*name)).collect();
        if !missing.is_empty() || !self.ended_by_itself {
            let shown = &self.log[self.log.len().saturating_sub(30)..];
            println!("--- end of the guest's output ---\n{}\n---", shown.join("\n"));
        }
        let complete = booted.and_then(|()| {
            ensure!(self.ended_by_itself, "it stopped early");
            Ok(())
        });
        totals.record("kernel: the machine ran to its end", complete);
        for name in missing {
            totals.record(&format!("kernel {name}"), Err(anyhow::anyhow!("no result")));
        }
        totals
    }
}

/// Compares a mount's directory on the server's disk with its manifest; there must be nothing else.
fn compare_with_manifest(directory: &Path) -> Result<()> {
    let text = fs::read_to_string(directory.join(MANIFEST))?;
    let mut expected = BTreeMap::new();
    for line in text.lines() {
        let (sum, path) = line.split_once("  ").with_context(|| format!("a manifest line: {line}"))?;
        expected.insert(PathBuf::from(path), sum.to_owned());
    }
    let mut wrong = Vec::new();
    for path in tree::files_below(directory)? {
        if path == Path::new(MANIFEST) {
            continue;
        }
        match expected.remove(&path) {
            None => wrong.push(format!("{} should have been removed", path.display())),
            Some(sum) => {
                if tree::sum_of(&fs::read(directory.join(&path))?) != sum {
                    wrong.push(format!("{} has other bytes", path.display()));
                }
            }
        }
    }
    wrong.extend(expected.keys().map(|path| format!("{} is missing", path.display())));
    if !wrong.is_empty() {
        bail!("{} differences, first {}", wrong.len(), wrong[..wrong.len().min(5)].join("; "));
    }
    Ok(())
}

/// A packet capture of the server's port, running until dropped.
pub(crate) struct Capture(std::process::Child);

impl Capture {
    /// None when no program for it is installed.
    pub(crate) fn start(peer: &Peer, directory: &Path) -> Result<Option<Capture>> {
        let Some(program) = process::find_program("dumpcap") else { return Ok(None) };
        let child = std::process::Command::new(program)
            .args(["-q", "-i", "lo", "-f", &format!("tcp port {}", peer.site().address.port()), "-w"])
            .arg(directory.join("capture.pcapng"))
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        Ok(Some(Capture(child)))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let ended = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        if ended.is_err() || self.0.wait().is_err() {
            eprintln!("the packet capture can't be ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_without_a_result_is_a_failure() {
        let wanted = ["a: one", "a: two", "a: three", "a: four"].map(str::to_owned);
        let mut results = Results::default();
        results.on_line("=== PASSED a: one | 1.0 s");
        results.on_line("=== ABSENT a: two | the server says ENOTSUP");
        results.on_line("=== FAILED a: three | other bytes");
        results.on_line("=== BEGIN a: four");
        let totals = results.finish(&wanted, Ok(()));
        assert_eq!(totals.passed, 1);
        assert_eq!(
            totals.failed,
            [
                "kernel a: three: other bytes",
                "kernel: the machine ran to its end: it stopped early",
                "kernel a: four: no result"
            ]
        );
    }

    #[test]
    fn a_directory_is_compared_with_its_manifest() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        fs::create_dir(directory.join("below")).unwrap();
        fs::write(directory.join("below/x y"), b"text").unwrap();
        let manifest = |lines: &str| fs::write(directory.join(MANIFEST), lines).unwrap();
        manifest(&format!("{}  below/x y\n", tree::sum_of(b"text")));
        compare_with_manifest(directory).unwrap();
        manifest(&format!("{}  below/x y\n", tree::sum_of(b"texT")));
        assert!(compare_with_manifest(directory).unwrap_err().to_string().contains("other bytes"));
        manifest("");
        assert!(compare_with_manifest(directory).unwrap_err().to_string().contains("removed"));
        manifest(&format!("{0}  below/x y\n{0}  below/z\n", tree::sum_of(b"text")));
        assert!(compare_with_manifest(directory).unwrap_err().to_string().contains("below/z is missing"));
    }
}
