//! Two clients that cache, on the strength of the server's leases: what one has written is what the other reads, what
//! one locks is locked for the other, and what one changes is told to the other.
//!
//! Locks of byte ranges and the wait for a change are system calls that no safe function here has, so small Perl
//! programs make them, in processes of their own as POSIX locks want it anyway.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::super::random::Random;
use super::{Mounted, Outcome, settle};

const SLOTS: usize = 24;
/// Several slots in a page: a client that writes whole pages back too late overwrites the other's slots.
const SLOT_SIZE: usize = 1_000;
const OPERATIONS: usize = 250;
/// A server doesn't wait for the end of read caching when it answers a write, so a read may come too early.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// Of something that has to happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of something that must not happen.
const WATCHED: Duration = Duration::from_millis(700);

/// Both clients write slots of their own in one file and read the other's, opening and closing as they like.
pub(super) fn coherent_caches(mounted: &Mounted<'_>) -> Result<Outcome> {
    let paths = [mounted.first.join("slots"), mounted.second.join("slots")];
    fs::write(&paths[0], slot(0, 0).repeat(SLOTS))?;
    let published: Vec<AtomicU64> = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
    let results: Vec<Result<Counts>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|number| {
                let mut client = Client {
                    number,
                    path: &paths[number],
                    published: &published,
                    random: mounted.random(10 + number as u64),
                    file: None,
                    counts: Counts::default(),
                };
                scope.spawn(move || {
                    client.work().with_context(|| format!("client {}", number + 1)).map(|()| client.counts)
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| bail!("a client panicked")))
            .collect()
    });
    let counts = results.into_iter().collect::<Result<Vec<Counts>>>()?;
    settle()?;
    let end: Vec<u8> =
        (0..SLOTS).flat_map(|number| slot(number % 2, published[number].load(Ordering::SeqCst))).collect();
    for (number, path) in (1..).zip(&paths) {
        ensure!(fs::read(path)? == end, "client {number} reads something else at the end");
    }
    mounted.expect_file(&paths[0], &end)?;
    let sum = |field: fn(&Counts) -> usize| counts.iter().map(field).sum::<usize>();
    Ok(Outcome::Done(format!(
        "{} writes, {} reads of the other's slots, {} of them too early at first",
        sum(|counts| counts.writes),
        sum(|counts| counts.reads),
        sum(|counts| counts.early)
    )))
}

#[derive(Default)]
struct Counts {
    writes: usize,
    reads: usize,
    early: usize,
}

struct Client<'a> {
    /// Writes the slots whose number leaves this when divided by two.
    number: usize,
    path: &'a Path,
    /// The newest version of each slot that its writer knows to be with the server.
    published: &'a [AtomicU64],
    random: Random,
    file: Option<File>,
    counts: Counts,
}

impl Client<'_> {
    fn work(&mut self) -> Result<()> {
        for _ in 0..OPERATIONS {
            match self.random.below(8) {
                // With nobody else's handle the next open gets every lease, and the other's next open breaks it.
                0 => self.file = None,
                1..4 => self.write()?,
                _ => self.read()?,
            }
        }
        Ok(())
    }

    fn file(&mut self) -> Result<&File> {
        if self.file.is_none() {
            self.file = Some(OpenOptions::new().read(true).write(true).open(self.path).context("opening")?);
        }
        self.file.as_ref().context("no file")
    }

    fn write(&mut self) -> Result<()> {
        let number = self.random.below(SLOTS / 2) * 2 + self.number;
        let version = self.published[number].load(Ordering::SeqCst) + 1;
        let bytes = slot(self.number, version);
        let file = self.file()?;
        file.write_all_at(&bytes, (number * SLOT_SIZE) as u64).context("writing")?;
        // Closing has to be enough, too.
        if self.random.below(3) == 0 {
            self.file = None;
        } else {
            self.file()?.sync_all().context("flushing")?;
        }
        self.published[number].store(version, Ordering::SeqCst);
        self.counts.writes += 1;
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let other = 1 - self.number;
        let number = self.random.below(SLOTS / 2) * 2 + other;
        let wanted = self.published[number].load(Ordering::SeqCst);
        let started = Instant::now();
        let mut bytes = vec![0; SLOT_SIZE];
        loop {
            self.file()?.read_exact_at(&mut bytes, (number * SLOT_SIZE) as u64).context("reading")?;
            let version = version_of(&bytes);
            // One that is being written may be seen, or half of it; what was acknowledged has to be.
            let newest = self.published[number].load(Ordering::SeqCst) + 1;
            ensure!(version <= newest, "slot {number} has version {version}, which nobody wrote");
            if version >= wanted && (version > wanted || bytes == slot(other, version)) {
                break;
            }
            let waited = started.elapsed();
            ensure!(
                waited < SEEN_WITHIN,
                "slot {number} has version {version} {waited:?} after {wanted} was acknowledged"
            );
            if waited < Duration::from_millis(20) {
                self.counts.early += 1;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.counts.reads += 1;
        Ok(())
    }
}

/// A slot's bytes: the version in front, then noise that only this version has.
fn slot(writer: usize, version: u64) -> Vec<u8> {
    let mut bytes = version.to_le_bytes().to_vec();
    bytes.extend(Random::new(version * 2 + writer as u64).bytes(SLOT_SIZE - 8));
    bytes
}

fn version_of(slot: &[u8]) -> u64 {
    slot.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
}

/// Locks a range as fcntl does (F_SETLK, or F_SETLKW to wait), tells how it went and holds it until its input ends.
const LOCK: &str = r#"
    my ($path, $command, $type, $start, $length) = @ARGV;
    $| = 1;
    open(my $file, "+<", $path) or die "opening: $!";
    my $lock = pack("s s x4 q q l x4", $type, 0, $start, $length, 0);
    fcntl($file, $command, $lock) or do { print "refused: $!\n"; exit };
    print "locked\n";
    <STDIN>;
"#;

#[derive(Clone, Copy)]
enum LockType {
    Shared = 0,
    Exclusive = 1,
}

#[derive(Clone, Copy)]
enum Wait {
    No = 6,
    Yes = 7,
}

pub(super) fn byte_ranges(mounted: &Mounted<'_>) -> Result<Outcome> {
    let (path, other) = (mounted.first.join("ranges"), mounted.second.join("ranges"));
    fs::write(&path, [b'x'; 100])?;
    let lock = |path: &Path, lock_type: LockType, wait: Wait, start: u64, length: u64| {
        let arguments = [wait as u64, lock_type as u64, start, length].map(|number| number.to_string());
        Program::start(LOCK, path, &arguments)
    };
    // Alone on the file, a client keeps its locks to itself, until the other's open takes that away.
    let held = lock(&path, LockType::Exclusive, Wait::No, 10, 10)?;
    held.expect("locked")?;
    for (lock_type, start, length) in
        [(LockType::Exclusive, 15, 10), (LockType::Shared, 10, 1), (LockType::Exclusive, 0, 0)]
    {
        lock(&other, lock_type, Wait::No, start, length)?.expect("refused")?;
    }
    let beside = lock(&other, LockType::Exclusive, Wait::No, 20, 10)?;
    beside.expect("locked")?;
    lock(&path, LockType::Exclusive, Wait::No, 25, 1)?.expect("refused")?;
    let shared = [&path, &other].map(|path| lock(path, LockType::Shared, Wait::No, 50, 10));
    for shared in shared {
        let shared = shared?;
        shared.expect("locked")?;
        shared.end()?;
    }

    let waiting = lock(&other, LockType::Exclusive, Wait::Yes, 12, 2)?;
    waiting.expect_silence()?;
    held.end()?;
    waiting.expect("locked")?;
    lock(&path, LockType::Exclusive, Wait::No, 13, 1)?.expect("refused")?;
    // A process that is killed takes its locks with it.
    drop(waiting);
    beside.end()?;
    let all = lock(&path, LockType::Exclusive, Wait::Yes, 0, 0)?;
    all.expect("locked")?;
    all.end()?;
    fs::remove_file(&path)?;
    Ok(Outcome::Done(String::new()))
}

/// The client's own control that waits until the server tells of a change in a directory (CIFS_IOC_NOTIFY with a
/// completion filter and no recursion).
const WATCH: &str = r#"
    my ($path) = @ARGV;
    $| = 1;
    open(my $directory, "<", $path) or die "opening: $!";
    print "watching\n";
    my $names = pack("L C", 0x3, 0);
    my $result = ioctl($directory, 0x4005cf09, $names);
    print $result ? "changed\n" : "failed: $!\n";
"#;

pub(super) fn told_of_changes(mounted: &Mounted<'_>) -> Result<Outcome> {
    let directory = mounted.directory("watched")?;
    let watch = Program::start(WATCH, &directory, &[])?;
    watch.expect("watching")?;
    watch.expect_silence()?;
    let name = mounted.second.join("watched").join("new");
    fs::write(&name, b"x")?;
    watch.expect("changed")?;
    fs::remove_file(&name)?;
    fs::remove_dir(&directory)?;
    Ok(Outcome::Done(String::new()))
}

/// A Perl program and the lines that it prints. Killed when dropped.
struct Program {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Program {
    fn start(text: &str, path: &Path, arguments: &[String]) -> Result<Program> {
        let mut command = Command::new("perl");
        command.arg("-e").arg(text).arg(path).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("perl")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Ok(Program { input: child.stdin.take(), child, lines })
    }

    /// The next line has to begin with this.
    fn expect(&self, wanted: &str) -> Result<()> {
        let line = self.lines.recv_timeout(PATIENCE).with_context(|| format!("waiting for `{wanted}`"))?;
        ensure!(line.starts_with(wanted), "`{line}` in place of `{wanted}`");
        Ok(())
    }

    fn expect_silence(&self) -> Result<()> {
        match self.lines.recv_timeout(WATCHED) {
            Ok(line) => bail!("`{line}` too early"),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => bail!("it has ended"),
        }
    }

    /// Lets it run to its end.
    fn end(mut self) -> Result<()> {
        self.input = None;
        let status = self.child.wait()?;
        ensure!(status.success(), "a program ended with {status}");
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_tells_its_version() {
        assert_eq!(slot(1, 7).len(), SLOT_SIZE);
        assert_eq!(version_of(&slot(1, 7)), 7);
        assert_ne!(slot(0, 7), slot(1, 7));
    }

    #[test]
    fn locks_by_perl_exclude_each_other() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lock = |wait: Wait, start: u64| {
            let arguments =
                [wait as u64, LockType::Exclusive as u64, start, 10].map(|number| number.to_string());
            Program::start(LOCK, file.path(), &arguments).unwrap()
        };
        let held = lock(Wait::No, 5);
        held.expect("locked").unwrap();
        lock(Wait::No, 14).expect("refused").unwrap();
        let waiting = lock(Wait::Yes, 14);
        waiting.expect_silence().unwrap();
        held.end().unwrap();
        waiting.expect("locked").unwrap();
    }
}
