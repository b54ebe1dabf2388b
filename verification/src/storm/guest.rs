//! The part of a storm that runs in the virtual machine: mounts that share nothing, and workers on each.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::io::Errno;

use super::oracle::{CELLS, DIRECTORIES, SLOTS, SOLE};
use super::record::{SIZE, SLOT_SIZE, Slots, cell, record};
use super::{COMMON_OPTIONS, MOUNTS};
use crate::kernel_client::guest::{complaints, new_kernel_messages};
use crate::kernel_client::random::Random;
use crate::process;

/// Starts a line that explains a failure.
pub const DIAGNOSTIC: &str = "| ";

/// The host's loopback as QEMU's user networking shows it.
const HOST: &str = "10.0.2.2";
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
const LOGS: usize = 2;
/// Names that a worker has at a time.
const NAMES_MAX: usize = 12;

/// Where server and oracle are, and which workers these are.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The server's port
    #[arg(long)]
    port: u16,
    /// The share's name
    #[arg(long)]
    share: String,
    /// The oracle's port
    #[arg(long)]
    oracle: u16,
    /// The number of the first worker here
    #[arg(long)]
    first_worker: usize,
    /// How many workers there are, here and elsewhere
    #[arg(long)]
    workers: usize,
    /// How many work on each mount
    #[arg(long)]
    workers_per_mount: usize,
    /// Where the random parts start
    #[arg(long)]
    seed: u64,
    /// The account of each mount
    #[arg(long)]
    user: Vec<String>,
    /// Their passwords
    #[arg(long)]
    password: Vec<String>,
}

/// Mounts, lets the workers work, and tells what the kernel has to say.
pub fn run(arguments: &Arguments) {
    std::thread::spawn(|| {
        loop {
            println!("the storm goes on");
            std::thread::sleep(Duration::from_secs(30));
        }
    });
    if let Err(error) = work_on_mounts(arguments) {
        println!("{DIAGNOSTIC}{error:#}");
        for line in new_kernel_messages().lines() {
            println!("{DIAGNOSTIC}{line}");
        }
    }
}

fn work_on_mounts(arguments: &Arguments) -> Result<()> {
    // Without this the kernel logs each time that caches are dropped.
    fs::write("/proc/sys/vm/drop_caches", "4")?;
    let points = ["/mnt/first", "/mnt/second"];
    for (((_, options), point), (user, password)) in
        MOUNTS.iter().zip(points).zip(arguments.user.iter().zip(&arguments.password))
    {
        let mut command = Command::new("/sbin/mount.cifs");
        command.arg(format!("//{HOST}/{}", arguments.share)).arg(point).arg("-o").arg(format!(
            "username={user},password={password},port={},{COMMON_OPTIONS},{options}",
            arguments.port
        ));
        process::run_checked(&mut command, COMMAND_LIMIT)?;
    }
    for line in fs::read_to_string("/proc/mounts")?.lines().filter(|line| line.contains(" cifs ")) {
        println!("{DIAGNOSTIC}{line}");
    }
    let counters = [Mutex::new(()), Mutex::new(())];
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..MOUNTS.len() * arguments.workers_per_mount)
            .map(|index| {
                let mount = index / arguments.workers_per_mount;
                let counters = &counters[mount];
                scope.spawn(move || {
                    let root = Path::new(points[mount]).join("storm");
                    Worker::new(arguments, index, MOUNTS[mount].0, root, counters)?.run()
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
            .collect()
    });
    results.into_iter().collect::<Result<Vec<()>>>()?;
    for point in points {
        process::run_checked(Command::new("umount").arg(point), COMMAND_LIMIT)?;
    }
    Ok(())
}

/// How an operation ended that the storm allows to be refused.
enum Ended {
    /// What the oracle is told after the word.
    Done(String),
    Refused(io::Error),
}

impl From<io::Result<String>> for Ended {
    fn from(result: io::Result<String>) -> Ended {
        match result {
            Ok(text) => Ended::Done(text),
            Err(error) => Ended::Refused(error),
        }
    }
}

/// A log that is kept open.
struct Kept {
    log: usize,
    generation: usize,
    file: File,
}

struct Worker<'a> {
    oracle: BufReader<TcpStream>,
    root: PathBuf,
    /// One of a mount's workers at a time has the counters' file open. A kernel that is told of a lease's break while it opens
    /// the file once more forgets to send the locks that it kept to itself under the lease (seen with 6.1: the second answer
    /// to CREATE ends its caching of locks, and only then the break is worked on, which finds none to send). A file that was
    /// closed counts: the kernel has it open for a second more (closetimeo), and gives that open to whoever opens it in the
    /// same way. So all of them open the counters alike.
    counters: &'a Mutex<()>,
    number: usize,
    workers: usize,
    first_of_mount: bool,
    random: Random,
    /// The next of the worker's slots in each log, counted over generations.
    next_slot: [usize; LOGS],
    kept: Vec<Kept>,
    own: Vec<(String, usize)>,
    made: usize,
    seen: Vec<(usize, String)>,
}

/// The storm is over.
struct Stop;

impl Worker<'_> {
    fn new<'a>(
        arguments: &Arguments,
        index: usize,
        client: &str,
        root: PathBuf,
        counters: &'a Mutex<()>,
    ) -> Result<Worker<'a>> {
        let number = arguments.first_worker + index;
        let stream = TcpStream::connect((HOST, arguments.oracle)).context("the oracle")?;
        stream.set_nodelay(true)?;
        let mut worker = Worker {
            oracle: BufReader::new(stream),
            root,
            counters,
            number,
            workers: arguments.workers,
            first_of_mount: index.is_multiple_of(arguments.workers_per_mount),
            random: Random::new(arguments.seed + index as u64),
            next_slot: [0; LOGS],
            kept: Vec::new(),
            own: Vec::new(),
            made: 0,
            seen: Vec::new(),
        };
        worker.tell(&format!("hello {number} {client}"))?;
        worker.hear()?;
        Ok(worker)
    }

    fn run(mut self) -> Result<()> {
        let result = self.work();
        if let Err(error) = &result {
            self.tell(&format!("broken {error:#}").replace('\n', " "))?;
        }
        result
    }

    fn work(&mut self) -> Result<()> {
        while self.step()?.is_ok() {}
        self.kept.clear();
        self.tell("idle")?;
        let mut checks = Vec::new();
        loop {
            match self.hear() {
                Ok(line) if line == "." => break,
                Ok(line) => checks.push(line),
                // Something has gone wrong elsewhere.
                Err(_) => return Ok(()),
            }
        }
        if self.first_of_mount {
            rustix::fs::sync();
            fs::write("/proc/sys/vm/drop_caches", "3")?;
        }
        for check in checks {
            let words: Vec<&str> = check.split_whitespace().collect();
            let ended = match words[..] {
                ["read", log, generation] => self.read_log(log.parse()?, generation.parse()?, true)?,
                ["list", directory] => self.list(directory.parse()?)?,
                ["look", counter] => self.look(counter)?,
                ["get"] => self.get()?,
                _ => bail!("what is {check}?"),
            };
            if ended.is_err() {
                return Ok(());
            }
        }
        let mut log = String::new();
        if self.first_of_mount {
            log = new_kernel_messages();
            for line in log.lines() {
                println!("{DIAGNOSTIC}{line}");
            }
            let complaints = complaints(&log);
            ensure!(complaints.is_empty(), "the kernel's log: {}", complaints.join("; "));
        }
        self.tell(&format!("bye {} lines in the kernel's log", log.lines().count()))
    }

    fn step(&mut self) -> Result<Result<(), Stop>> {
        match self.random.below(100) {
            0..28 => self.write(),
            28..54 => {
                let log = self.random.below(LOGS);
                let generation = self.next_slot[log] / (SLOTS / self.workers);
                self.read_log(log, generation, false)
            }
            54..58 => {
                if !self.kept.is_empty() {
                    let index = self.random.below(self.kept.len());
                    self.kept.swap_remove(index);
                }
                Ok(Ok(()))
            }
            58..66 => self.add(),
            66..71 => {
                let counter = self.random.below(CELLS + 1);
                let counter = if counter == CELLS { SOLE.to_owned() } else { counter.to_string() };
                self.look(&counter)
            }
            71..76 => self.make(),
            76..82 => self.rename(),
            82..86 => self.remove(),
            86..91 => {
                let directory = self.random.below(DIRECTORIES);
                self.list(directory)
            }
            91..95 => self.stat(),
            95..98 => self.claim(),
            _ => self.get(),
        }
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        self.oracle.get_mut().write_all(format!("{line}\n").as_bytes()).context("the oracle")
    }

    fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        let length = self.oracle.read_line(&mut line).context("the oracle")?;
        ensure!(length > 0, "the oracle is gone");
        Ok(line.trim_end().to_owned())
    }

    /// None: the storm is over.
    fn begin(&mut self, line: &str) -> Result<Option<String>> {
        self.tell(&format!("begin {line}"))?;
        let answer = self.hear()?;
        Ok(answer.strip_prefix("go").map(|rest| rest.trim().to_owned()))
    }

    fn end(&mut self, ended: Ended) -> Result<Result<(), Stop>> {
        match ended {
            Ended::Done(text) => self.tell(&format!("end ok {text}"))?,
            Ended::Refused(error) => self.tell(&format!("end refused {}", name_of(&error)))?,
        }
        Ok(Ok(()))
    }

    fn log_path(&self, log: usize, generation: usize) -> PathBuf {
        self.root.join("logs").join(format!("{log}-{generation}"))
    }

    fn name_path(&self, directory: usize, name: &str) -> PathBuf {
        self.root.join("names").join(directory.to_string()).join(name)
    }

    /// A kept log, taken out of those that are kept.
    fn take_kept(&mut self, log: usize, generation: usize) -> Option<File> {
        let place = self.kept.iter().position(|kept| (kept.log, kept.generation) == (log, generation))?;
        Some(self.kept.swap_remove(place).file)
    }

    fn open_log(&self, log: usize, generation: usize) -> io::Result<File> {
        let path = self.log_path(log, generation);
        // It is made by whoever comes first.
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
    }

    fn write(&mut self) -> Result<Result<(), Stop>> {
        let log = self.random.below(LOGS);
        let per_generation = SLOTS / self.workers;
        let count = self.next_slot[log];
        let (generation, slot) =
            (count / per_generation, count % per_generation * self.workers + self.number);
        self.next_slot[log] += 1;
        if self.begin(&format!("write {log} {generation} {slot}"))?.is_none() {
            return Ok(Err(Stop));
        }
        let bytes = record(log as u32, generation as u32, slot, self.number);
        let kept = self.take_kept(log, generation);
        let keep = self.random.below(3) > 0;
        let written = || -> io::Result<File> {
            let file = kept.map_or_else(|| self.open_log(log, generation), Ok)?;
            file.write_all_at(&bytes, (slot * SLOT_SIZE) as u64)?;
            if keep {
                file.sync_all()?;
            }
            Ok(file)
        }();
        // Closing writes back, too.
        let ended = match written {
            Ok(file) if keep => {
                self.keep(log, generation, file);
                Ended::Done(String::new())
            }
            Ok(_) => Ended::Done(String::new()),
            Err(error) => Ended::Refused(error),
        };
        self.end(ended)
    }

    fn keep(&mut self, log: usize, generation: usize, file: File) {
        while self.kept.len() >= LOGS {
            self.kept.remove(0);
        }
        self.kept.push(Kept { log, generation, file });
    }

    fn read_log(&mut self, log: usize, generation: usize, anew: bool) -> Result<Result<(), Stop>> {
        if self.begin(&format!("read {log} {generation}"))?.is_none() {
            return Ok(Err(Stop));
        }
        let kept = if anew { None } else { self.take_kept(log, generation) };
        let mut content = vec![0; SIZE];
        let read = || -> io::Result<File> {
            let file = kept.map_or_else(|| self.open_log(log, generation), Ok)?;
            let mut length = 0;
            while length < content.len() {
                let read = file.read_at(&mut content[length..], length as u64)?;
                if read == 0 {
                    break;
                }
                length += read;
            }
            Ok(file)
        }();
        let ended = match read {
            Ok(file) => {
                if !anew && self.random.below(2) == 0 {
                    self.keep(log, generation, file);
                }
                let slots = Slots::of(&content, log as u32, generation as u32, self.workers);
                Ended::Done(format!("cached {}", slots.told()))
            }
            Err(error) => Ended::Refused(error),
        };
        self.end(ended)
    }

    fn add(&mut self) -> Result<Result<(), Stop>> {
        let number = self.random.below(CELLS);
        if self.begin(&format!("add {number}"))?.is_none() {
            return Ok(Err(Stop));
        }
        let add = || -> io::Result<String> {
            let _alone = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
            let file = self.open_cells()?;
            let step = |what: &str, result: io::Result<()>| {
                result.inspect_err(|error| println!("{DIAGNOSTIC}adding, {what}: {error}"))
            };
            step("locking", file.lock())?;
            let offset = (number * SLOT_SIZE) as u64;
            let mut bytes = [0; SLOT_SIZE];
            step("reading", file.read_exact_at(&mut bytes, offset))?;
            let made = number_in(&bytes)? + 1;
            step("writing", file.write_all_at(&cell(&made.to_string()), offset))?;
            step("flushing", file.sync_all())?;
            step("unlocking", file.unlock())?;
            Ok(made.to_string())
        };
        let ended = add().into();
        self.end(ended)
    }

    /// Opens the counters past the cache, whose end nobody waits for: what was read before the lock was granted may be old.
    fn open_cells(&self) -> io::Result<File> {
        let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        OpenOptions::new().read(true).write(true).custom_flags(direct).open(self.root.join("cells"))
    }

    fn look(&mut self, counter: &str) -> Result<Result<(), Stop>> {
        if self.begin(&format!("look {counter}"))?.is_none() {
            return Ok(Err(Stop));
        }
        let look = || -> io::Result<String> {
            let _alone = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bytes = [0; SLOT_SIZE];
            let how = match counter.parse::<u64>() {
                Ok(number) => {
                    self.open_cells()?.read_exact_at(&mut bytes, number * SLOT_SIZE as u64)?;
                    "direct"
                }
                Err(_) => {
                    File::open(self.root.join(SOLE))?.read_exact_at(&mut bytes, 0)?;
                    "cached"
                }
            };
            Ok(format!("{how} {}", number_in(&bytes)?))
        };
        let ended = look().into();
        self.end(ended)
    }

    fn make(&mut self) -> Result<Result<(), Stop>> {
        if self.own.len() >= NAMES_MAX {
            return Ok(Ok(()));
        }
        let (name, directory) = (format!("w{}-{}", self.number, self.made), self.random.below(DIRECTORIES));
        self.made += 1;
        if self.begin(&format!("make {name} {directory}"))?.is_none() {
            return Ok(Err(Stop));
        }
        let made = File::create_new(self.name_path(directory, &name)).map(|_| String::new());
        if made.is_ok() {
            self.own.push((name, directory));
        }
        self.end(made.into())
    }

    fn rename(&mut self) -> Result<Result<(), Stop>> {
        if self.own.is_empty() {
            return Ok(Ok(()));
        }
        let (index, target) = (self.random.below(self.own.len()), self.random.below(DIRECTORIES));
        let (name, directory) = self.own[index].clone();
        if directory == target {
            return Ok(Ok(()));
        }
        if self.begin(&format!("move {name} {target}"))?.is_none() {
            return Ok(Err(Stop));
        }
        let moved = fs::rename(self.name_path(directory, &name), self.name_path(target, &name));
        if moved.is_ok() {
            self.own[index].1 = target;
        }
        self.end(moved.map(|()| String::new()).into())
    }

    fn remove(&mut self) -> Result<Result<(), Stop>> {
        if self.own.is_empty() {
            return Ok(Ok(()));
        }
        let index = self.random.below(self.own.len());
        let (name, directory) = self.own[index].clone();
        if self.begin(&format!("drop {name}"))?.is_none() {
            return Ok(Err(Stop));
        }
        let removed = fs::remove_file(self.name_path(directory, &name));
        if removed.is_ok() {
            self.own.swap_remove(index);
        }
        self.end(removed.map(|()| String::new()).into())
    }

    fn list(&mut self, directory: usize) -> Result<Result<(), Stop>> {
        if self.begin(&format!("list {directory}"))?.is_none() {
            return Ok(Err(Stop));
        }
        let list = || -> io::Result<Vec<String>> {
            let entries = fs::read_dir(self.root.join("names").join(directory.to_string()))?;
            entries.map(|entry| entry.map(|entry| text_of(entry.file_name()))).collect()
        };
        let listed = list();
        if let Ok(names) = &listed {
            self.seen = names.iter().map(|name| (directory, name.clone())).collect();
        }
        self.end(listed.map(|names| format!("cached {}", names.join(" "))).into())
    }

    fn stat(&mut self) -> Result<Result<(), Stop>> {
        if self.seen.is_empty() {
            return Ok(Ok(()));
        }
        let (directory, name) = self.seen[self.random.below(self.seen.len())].clone();
        if self.begin(&format!("stat {name} {directory}"))?.is_none() {
            return Ok(Err(Stop));
        }
        // Opened, and so kept open for a while, or only looked at.
        let path = self.name_path(directory, &name);
        let looked =
            if self.random.below(2) == 0 { File::open(path).map(drop) } else { fs::metadata(path).map(drop) };
        match looked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.tell("end absent cached")?;
                Ok(Ok(()))
            }
            looked => self.end(looked.map(|()| "cached".to_owned()).into()),
        }
    }

    fn claim(&mut self) -> Result<Result<(), Stop>> {
        let Some(prize) = self.begin("claim")? else { return Ok(Err(Stop)) };
        match File::create_new(self.root.join("prizes").join(&prize)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.tell(&format!("end exists {prize}"))?;
                Ok(Ok(()))
            }
            made => self.end(made.map(|_| prize).into()),
        }
    }

    fn get(&mut self) -> Result<Result<(), Stop>> {
        if self.begin("get")?.is_none() {
            return Ok(Err(Stop));
        }
        let mut text = String::new();
        let get = File::open(self.root.join("registers").join("register"))
            .and_then(|mut file| file.read_to_string(&mut text));
        self.end(get.map(|_| format!("cached {}", text.trim())).into())
    }
}

fn text_of(name: OsString) -> String {
    name.to_string_lossy().into_owned()
}

fn number_in(bytes: &[u8]) -> io::Result<u64> {
    let text = String::from_utf8_lossy(bytes);
    text.trim().parse().map_err(|_| io::Error::other(format!("{text:?} is no number")))
}

/// The error as the oracle expects it.
fn name_of(error: &io::Error) -> String {
    let known = [
        (Errno::BUSY, "EBUSY"),
        (Errno::TXTBSY, "ETXTBSY"),
        (Errno::ACCESS, "EACCES"),
        (Errno::AGAIN, "EAGAIN"),
        (Errno::STALE, "ESTALE"),
    ];
    match known.iter().find(|(errno, _)| error.raw_os_error() == Some(errno.raw_os_error())) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("{error:?}").replace(char::is_whitespace, ""),
    }
}
