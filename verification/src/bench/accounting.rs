//! Processor time and memory of a server with all its processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long processes that ended may keep their control group.
const REMOVAL_LIMIT: Duration = Duration::from_secs(2);

/// How a server's processes are told from others and accounted for.
#[derive(Debug)]
pub(super) enum Accounting {
    /// A control group (version 2) of the server's own: processes that ended and the kernel's work for it are included.
    Group(PathBuf),
    /// The server's process and those that descend from it, as /proc tells: processes that nobody waited for yet and
    /// kernel threads are missed.
    Tree(u32),
}

impl Accounting {
    /// For the server with this process id, started a moment ago.
    pub(super) fn begin(process_id: u32, name: &str) -> Self {
        match make_group(process_id, name) {
            Ok(directory) => Self::Group(directory),
            Err(error) => {
                eprintln!("no control group for {name}, counting by /proc instead: {error:#}");
                Self::Tree(process_id)
            }
        }
    }

    /// How it counts.
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Group(_) => "cgroup v2",
            Self::Tree(_) => "/proc/PID/stat of the process tree",
        }
    }

    /// Processor time so far.
    pub(super) fn processor_time(&self) -> Result<Duration> {
        match self {
            Self::Group(directory) => {
                let file = directory.join("cpu.stat");
                let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                usage(&text).context("no usage_usec in cpu.stat")
            }
            Self::Tree(root) => {
                let ticks: u64 = descendants(*root)?
                    .into_iter()
                    .filter_map(|process| fs::read_to_string(format!("/proc/{process}/stat")).ok())
                    .filter_map(|text| Some(Stat::parse(&text)?.ticks))
                    .sum();
                let per_second = rustix::param::clock_ticks_per_second();
                Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
            }
        }
    }

    /// Bytes of memory: each page counted once, divided among the processes that share it (PSS).
    pub(super) fn memory(&self) -> Result<u64> {
        let mut sum = 0;
        for process in self.processes()? {
            // A process may end between listing and reading.
            let Ok(text) = fs::read_to_string(format!("/proc/{process}/smaps_rollup")) else { continue };
            sum += pss(&text).unwrap_or(0);
        }
        Ok(sum)
    }

    /// Number of processes.
    pub(super) fn process_count(&self) -> Result<usize> {
        Ok(self.processes()?.len())
    }

    fn processes(&self) -> Result<BTreeSet<u32>> {
        match self {
            Self::Group(directory) => {
                let text = fs::read_to_string(directory.join("cgroup.procs"))?;
                Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
            }
            Self::Tree(root) => descendants(*root),
        }
    }
}

impl Drop for Accounting {
    /// Removes the group; the server has to have ended before.
    fn drop(&mut self) {
        let Self::Group(directory) = self else { return };
        let deadline = Instant::now() + REMOVAL_LIMIT;
        while let Err(error) = fs::remove_dir(&*directory) {
            if Instant::now() > deadline {
                eprintln!("removing {}: {error}", directory.display());
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Makes a group and moves the process with its descendants into it.
fn make_group(process_id: u32, name: &str) -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mount = unified_mount(&mounts).context("no file system of type cgroup2 is mounted")?;
    let directory = mount.join(format!("leasehold-bench-{}-{name}", std::process::id()));
    fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
    let moved = move_processes(process_id, &directory);
    if moved.is_err() {
        fs::remove_dir(&directory)?;
    }
    moved.map(|()| directory)
}

fn move_processes(process_id: u32, directory: &Path) -> Result<()> {
    usage(&fs::read_to_string(directory.join("cpu.stat"))?).context("no usage_usec in cpu.stat")?;
    let file = directory.join("cgroup.procs");
    // The first moves on its own: what it starts from then on is born in the group.
    fs::write(&file, process_id.to_string()).with_context(|| file.display().to_string())?;
    for process in descendants(process_id)? {
        // One that ended meanwhile is no loss.
        let _ = fs::write(&file, process.to_string());
    }
    Ok(())
}

/// Where the unified hierarchy is mounted, from /proc/self/mountinfo: `... mount point ... - type source options`.
fn unified_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        system.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

fn usage(cpu_stat: &str) -> Option<Duration> {
    let value = cpu_stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    value.trim().parse().ok().map(Duration::from_micros)
}

fn pss(smaps_rollup: &str) -> Option<u64> {
    let value = smaps_rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// What /proc/PID/stat tells.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Of the process in user and kernel mode, and of its children that ended and were waited for.
    ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name in parentheses may hold anything, parentheses and spaces included.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()?;
        Some(Self { parent: fields.get(1)?.parse().ok()?, ticks })
    }
}

/// A process and all that descend from it.
fn descendants(root: u32) -> Result<BTreeSet<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(text) = fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        parents.extend(Stat::parse(&text).map(|stat| (process, stat.parent)));
    }
    let mut found = BTreeSet::from([root]);
    loop {
        let before = found.len();
        found.extend(
            parents
                .iter()
                .filter(|(_, parent)| found.contains(parent))
                .map(|(process, _)| *process)
                .collect::<Vec<_>>(),
        );
        if found.len() == before {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(usage("usage_usec 789210\nuser_usec 1\n"), Some(Duration::from_micros(789_210)));
        assert_eq!(usage("user_usec 1\n"), None);
        assert_eq!(
            pss("5581-7ffc ---p 00000000 00:00 0 [rollup]\nRss:  900 kB\nPss:    884 kB\n"),
            Some(884 * 1024)
        );
        let stat = "7 (a b) c) S 3 7 7 0 -1 4194560 10 0 0 0 5 6 70 800 20 0 1 0 9 1 2";
        assert_eq!(Stat::parse(stat), Some(Stat { parent: 3, ticks: 881 }));
        let mounts = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 25 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(unified_mount(mounts), Some(PathBuf::from("/sys/fs/cgroup/unified")));
    }

    #[test]
    fn the_tree_of_a_process_has_its_children_and_their_time() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo; read line"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        assert!(descendants(std::process::id()).unwrap().contains(&child.id()));
        let accounting = Accounting::Tree(child.id());
        assert!(accounting.processor_time().unwrap() > Duration::ZERO);
        assert!(accounting.memory().unwrap() > 10_000);
        assert_eq!(accounting.process_count().unwrap(), 1);
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
