//! A storm: several kinds of clients work on the same few files at once, each from a seed of its own, and an oracle judges
//! everything that they see.
//!
//! * Linux's own client, in a virtual machine, with mounts that share nothing: [`guest`]
//! * the Python library smbprotocol, with a cache that it keeps on the strength of leases: `python/storm_client.py`
//!
//! They write records to logs, add to counters under byte-range locks and with whole files to themselves, make, move, drop and
//! list names, make the same names exclusively, replace a file as a whole, look at all that, and lose their connections. At
//! the end each reads back what the others were told is written.
//!
//! The oracle ([`oracle`]) proves itself: a server that drops one acknowledged write, and one that forgets one break, have to
//! be caught.

pub mod guest;
mod oracle;
mod record;
mod service;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::kernel_client::{Capture, image, machine};
use crate::peer::{Fault, Peer, PeerKind, Site};
use crate::report::Totals;
use crate::{install, process, workspace};
use service::{Failure, Service};

/// How long clients may take to come, and to leave and look at everything, beside the storm itself.
const MARGIN: Duration = Duration::from_secs(240);
/// How long after its beginning a storm sets off a fault: files are open and cached then.
const FAULT_AFTER: Duration = Duration::from_secs(8);
/// How long the storms take that have to catch a fault.
const PROOF: Duration = Duration::from_secs(40);
/// Faults hit what happens to come next; where that was about to lose its meaning anyway, there is nothing to notice.
const PROOF_ATTEMPTS: u64 = 3;

/// The mounts: what is in common, and what each adds. Neither shares anything with the other.
pub(crate) const MOUNTS: [(&str, &str); 2] =
    [("kernel-1", "vers=3.1.1,cache=strict"), ("kernel-2", "vers=3.1.1,seal,cache=strict")];
pub(crate) const COMMON_OPTIONS: &str = "uid=0,gid=0,nosharesock,actimeo=1";
/// Workers of each mount.
const WORKERS_PER_MOUNT: usize = 2;

/// What takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Clients {
    /// Two mounts of the kernel and two smbprotocol clients.
    All,
    /// The smbprotocol clients alone, without a virtual machine.
    Host,
}

/// What to run.
#[derive(Debug)]
pub struct Options {
    /// The server under test.
    pub peer: PeerKind,
    /// How long clients work.
    pub duration: Duration,
    /// Where all random parts start; None takes it from the clock.
    pub seed: Option<u64>,
    /// Which clients.
    pub clients: Clients,
    /// Only one storm, against a server that does this wrong, and that has to be caught.
    pub fault: Option<Fault>,
    /// Keep logs and, with dumpcap installed, a capture of the connections.
    pub keep: bool,
    /// The oracle need not prove itself first.
    pub unproven: bool,
}

/// Proves the oracle with both faults, then storms the server; or only one storm with a fault.
pub fn run(options: &Options) -> Result<Totals> {
    let seed = match options.seed {
        Some(seed) => seed,
        None => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs(),
    };
    println!("seed: --seed {seed}");
    let mut totals = Totals::default();
    if let Some(fault) = options.fault {
        prove(options, fault, options.clients, options.duration, seed, &mut totals)?;
        return Ok(totals);
    }
    let faults = if options.unproven { &[][..] } else { &[Fault::DropWrite, Fault::ForgetBreak] };
    for &fault in faults {
        prove(options, fault, Clients::Host, PROOF, seed, &mut totals)?;
    }
    let kept =
        if options.keep { Some(workspace::target_dir()?.join("storm").join("last-run")) } else { None };
    totals.add(storm(options.peer, options.clients, options.duration, seed, kept.as_deref())?);
    Ok(totals)
}

/// A short storm of the clients that need no virtual machine, with the server as it is and always the same seed.
pub fn run_short(peer: PeerKind, duration: Duration) -> Result<Totals> {
    storm(peer, Clients::Host, duration, 1, None)
}

/// Counts a fault that is caught as passed.
fn prove(
    options: &Options,
    fault: Fault,
    clients: Clients,
    duration: Duration,
    seed: u64,
    totals: &mut Totals,
) -> Result<()> {
    workspace::build_faulty_server()?;
    let name = format!("storm: a server that {} is caught", fault.does());
    for attempt in 0..PROOF_ATTEMPTS {
        let seed = seed.wrapping_add(attempt);
        println!("a server that {}: --seed {seed}", fault.does());
        let ended = Storm::start(options.peer, clients, duration, seed, Some(fault))?.finish(None)?;
        match ended.failures.first() {
            Some(Failure::History(text)) => {
                println!("        {text}");
                totals.record(&name, Ok(()));
                return Ok(());
            }
            Some(Failure::Other(text)) => {
                totals.record(&name, Err(anyhow::anyhow!("{text}")));
                return Ok(());
            }
            None => println!("        nobody was affected"),
        }
    }
    totals.record(&name, Err(anyhow::anyhow!("not in {PROOF_ATTEMPTS} storms")));
    Ok(())
}

/// One storm that has to go well.
fn storm(
    peer: PeerKind,
    clients: Clients,
    duration: Duration,
    seed: u64,
    kept: Option<&Path>,
) -> Result<Totals> {
    let mut totals = Totals::default();
    let raging = Storm::start(peer, clients, duration, seed, None)?;
    let capture = match kept {
        Some(directory) => {
            let _ = fs::remove_dir_all(directory);
            fs::create_dir_all(directory)?;
            Capture::start(&raging.peer, directory)?
        }
        None => None,
    };
    let ended = raging.finish(kept)?;
    drop(capture);
    for line in &ended.summary {
        println!("        {line}");
    }
    let verdict = |failures: &[Failure]| match failures.first() {
        None => Ok(()),
        Some(Failure::History(text) | Failure::Other(text)) => Err(anyhow::anyhow!("{text}")),
    };
    totals.record(
        &format!("storm: {clients:?} clients for {:.0} s, seed {seed}", duration.as_secs_f64()),
        verdict(&ended.failures),
    );
    totals.record("storm: what the server's disk holds", ended.disk);
    totals.record("storm: the server ran through and ends when asked", ended.stopped);
    Ok(totals)
}

/// A storm that rages.
struct Storm {
    service: Arc<Service>,
    peer: Peer,
    programs: Programs,
    machine: Option<std::thread::JoinHandle<Result<()>>>,
    duration: Duration,
    fault: Option<Fault>,
}

/// Clients that run, ended when dropped.
#[derive(Default)]
struct Programs {
    children: Vec<(String, Child)>,
    /// Set to end the machine early.
    over: Arc<AtomicBool>,
}

/// How it ended.
struct Ended {
    failures: Vec<Failure>,
    summary: Vec<String>,
    disk: Result<()>,
    stopped: Result<()>,
}

impl Storm {
    fn start(
        kind: PeerKind,
        clients: Clients,
        duration: Duration,
        seed: u64,
        fault: Option<Fault>,
    ) -> Result<Storm> {
        let python = install::python_environment()?;
        let mut site = Site::new(1)?;
        site.fault = fault;
        lay_out(&site.shares[0].path.join("storm"))?;
        let peer = Peer::start(kind, site)?;
        let mut names: Vec<String> = vec!["smbprotocol-1".into(), "smbprotocol-2".into()];
        if clients == Clients::All {
            for (name, _) in MOUNTS {
                names.extend(std::iter::repeat_n(name.to_owned(), WORKERS_PER_MOUNT));
            }
        }
        let service = Service::start(names.clone(), duration)?;
        let mut storm =
            Storm { service, peer, programs: Programs::default(), machine: None, duration, fault };
        for (number, protection) in ["sign", "encrypt"].into_iter().enumerate() {
            storm.start_python(&python, number, names.len(), protection, seed)?;
        }
        if clients == Clients::All {
            storm.start_machine(names.len(), seed)?;
        }
        Ok(storm)
    }

    fn start_python(
        &mut self,
        python: &Path,
        number: usize,
        workers: usize,
        protection: &str,
        seed: u64,
    ) -> Result<()> {
        let site = self.peer.site();
        let user = &site.users[number % site.users.len()];
        let name = format!("smbprotocol-{}", number + 1);
        let own_seed = seed.wrapping_mul(100).wrapping_add(number as u64);
        println!("  {name}: 3.1.1, {protection}, seed {own_seed}");
        let log = File::create(site.directory().join(format!("{name}.log")))?;
        let child = Command::new(python)
            .arg(workspace::package_dir().join("python").join("storm_client.py"))
            .args([&site.address.ip().to_string(), &site.address.port().to_string(), &site.shares[0].name])
            .args([protection, &self.service.port().to_string(), &name])
            .args([number.to_string(), workers.to_string(), own_seed.to_string()])
            .env("SMB_USER", user.name)
            .env("SMB_PASSWORD", user.password)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("the Python client")?;
        self.programs.children.push((name, child));
        Ok(())
    }

    /// Boots the virtual machine, whose mounts have the numbers after the Python clients'.
    fn start_machine(&mut self, workers: usize, seed: u64) -> Result<()> {
        install::ensure(install::KERNEL_CLIENT)?;
        let cache = workspace::target_dir()?.join("kernel-client");
        fs::create_dir_all(&cache)?;
        let kernel = image::kernel(&cache)?;
        for (name, options) in MOUNTS {
            println!("  {name}: Linux {}, {COMMON_OPTIONS},{options}", kernel.version);
        }
        let site = self.peer.site();
        let mut arguments = vec![
            "storm-guest".to_owned(),
            format!("--port={}", site.address.port()),
            format!("--share={}", site.shares[0].name),
            format!("--oracle={}", self.service.port()),
            format!("--first-worker={}", self.programs.children.len()),
            format!("--workers={workers}"),
            format!("--workers-per-mount={WORKERS_PER_MOUNT}"),
            format!("--seed={}", seed.wrapping_mul(100).wrapping_add(50)),
        ];
        println!("  kernels' workers: seeds from {}", seed.wrapping_mul(100).wrapping_add(50));
        for user in &site.users {
            arguments.push(format!("--user={}", user.name));
            arguments.push(format!("--password={}", user.password));
        }
        let initrd = cache.join(format!("initrd-storm-{}.cpio", std::process::id()));
        image::write_initrd(&kernel, &arguments, &initrd)?;
        let limit = self.duration + MARGIN;
        let (service, over) = (Arc::clone(&self.service), Arc::clone(&self.programs.over));
        self.machine = Some(std::thread::spawn(move || {
            let mut last = Vec::new();
            let result = machine::run_until(&kernel.image, &initrd, limit, &over, |line| {
                if let Some(text) = line.strip_prefix(guest::DIAGNOSTIC) {
                    println!("        {text}");
                }
                last.push(line.to_owned());
            });
            fs::remove_file(&initrd)?;
            if let Err(error) = &result {
                let shown = &last[last.len().saturating_sub(20)..];
                service.give_up(format!("the virtual machine: {error:#}\n{}", shown.join("\n")));
            }
            result
        }));
        Ok(())
    }

    /// Waits for the end, sets off the fault meanwhile, and looks at what is left.
    fn finish(mut self, kept: Option<&Path>) -> Result<Ended> {
        let started = Instant::now();
        let mut set_off = false;
        while !self.service.is_over() {
            std::thread::sleep(Duration::from_millis(100));
            if started.elapsed() > self.duration + MARGIN {
                self.service.give_up("no end".to_owned());
            }
            let begun = self.service.begun();
            if self.fault.is_some() && !set_off && begun.is_some_and(|begun| begun.elapsed() > FAULT_AFTER) {
                let pid = Pid::from_raw(self.peer.process_id().cast_signed()).context("no server")?;
                kill_process(pid, Signal::USR1)?;
                set_off = true;
            }
            self.watch_programs()?;
        }
        let mut failures = self.service.failures();
        if !failures.is_empty() {
            // Those who can still go do so, and what they have seen is in their logs.
            std::thread::sleep(Duration::from_secs(1));
        }
        self.programs.over.store(!failures.is_empty(), Ordering::Relaxed);
        self.end_programs(failures.is_empty())?;
        if let Some(machine) = self.machine.take() {
            let ended = machine.join().unwrap_or_else(|_| bail!("its thread panicked"));
            if failures.is_empty()
                && let Err(error) = ended
            {
                failures.push(Failure::Other(format!("the virtual machine: {error:#}")));
            }
        }
        if failures.is_empty()
            && let Err(error) = self.service.with_oracle(|oracle| oracle.finish())
        {
            failures.push(Failure::History(format!("{error:#}")));
        }
        let disk = if failures.is_empty() { self.compare_disk() } else { Ok(()) };
        let summary = self.summary();
        if let Some(directory) = kept {
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(self.peer.site().directory()).arg(directory.join("site"));
            process::run_checked(&mut copy, Duration::from_secs(120))?;
            println!("kept in {}", directory.display());
        }
        if !failures.is_empty() && self.fault.is_none() {
            println!("{}", self.peer.log_tail());
        }
        Ok(Ended { failures, summary, disk, stopped: self.peer.stop() })
    }

    fn watch_programs(&mut self) -> Result<()> {
        let directory = self.peer.site().directory().to_path_buf();
        for (name, child) in &mut self.programs.children {
            if let Some(status) = child.try_wait()?
                && !status.success()
                && self.service.failures().is_empty()
            {
                let log = fs::read_to_string(directory.join(format!("{name}.log"))).unwrap_or_default();
                self.service.give_up(format!("{name} ended with {status}: {log}"));
            }
        }
        Ok(())
    }

    fn end_programs(&mut self, patiently: bool) -> Result<()> {
        for (name, mut child) in std::mem::take(&mut self.programs.children) {
            let limit = Duration::from_secs(if patiently { 30 } else { 3 });
            if process::wait_limited(&mut child, limit)?.is_none() {
                child.kill()?;
                child.wait()?;
                ensure!(!patiently, "{name} has said its farewell and runs on");
            }
            if !patiently {
                let log = self.peer.site().directory().join(format!("{name}.log"));
                let log = fs::read_to_string(log).unwrap_or_default();
                if self.fault.is_none() && !log.is_empty() {
                    println!("--- {name}\n{}\n---", log.trim_end());
                }
            }
        }
        Ok(())
    }

    /// What is acknowledged is on the server's disk, and nothing else.
    fn compare_disk(&self) -> Result<()> {
        let root = self.peer.site().shares[0].path.join("storm");
        let workers = self.service.with_oracle(|oracle| oracle.workers());
        let expected: Vec<_> = self.service.with_oracle(|oracle| oracle.records().collect());
        for ((log, generation), records) in expected {
            let path = root.join("logs").join(format!("{log}-{generation}"));
            let content = fs::read(&path).with_context(|| path.display().to_string())?;
            let found = record::Slots::of(&content, log, generation, workers);
            ensure!(found.torn.is_empty(), "{} has torn slots {:?}", path.display(), found.torn);
            for (slot, acknowledged) in records {
                ensure!(
                    !acknowledged || found.whole.contains(&slot),
                    "slot {slot} of {} is not there",
                    path.display()
                );
            }
        }
        let prizes = fs::read_dir(root.join("prizes"))?.count();
        let made = self.service.with_oracle(|oracle| oracle.prizes());
        ensure!(prizes == made, "{prizes} prizes are there, {made} were made");
        Ok(())
    }

    fn summary(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.service.with_oracle(|oracle| {
            let mut of_client: std::collections::BTreeMap<&str, Vec<String>> = Default::default();
            for ((client, kind), (done, refused)) in oracle.counts() {
                let refused = if *refused > 0 { format!(" (+{refused} refused)") } else { String::new() };
                of_client.entry(client).or_default().push(format!("{kind} {done}{refused}"));
            }
            lines.extend(of_client.iter().map(|(client, kinds)| format!("{client}: {}", kinds.join(", "))));
        });
        lines.extend(
            self.service
                .farewells()
                .into_iter()
                .filter(|(_, words)| !words.is_empty())
                .map(|(worker, words)| format!("worker {worker}: {words}")),
        );
        lines
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for (name, child) in &mut self.children {
            if let Err(error) = child.kill().and_then(|()| child.wait()) {
                eprintln!("ending {name}: {error}");
            }
        }
    }
}

/// The files and directories that are there from the start.
fn lay_out(root: &Path) -> Result<()> {
    for directory in ["logs", "names", "prizes", "registers"] {
        crate::peer::make_open_directories(&root.join(directory))?;
    }
    for directory in 0..oracle::DIRECTORIES {
        crate::peer::make_open_directories(&root.join("names").join(directory.to_string()))?;
    }
    let zero = record::cell("0");
    fs::write(root.join("cells"), zero.repeat(oracle::CELLS))?;
    fs::write(root.join(oracle::SOLE), &zero)?;
    fs::write(root.join("registers").join("register"), record::cell(oracle::FIRST_VALUE))?;
    Ok(())
}
