//! Many creations, renames and removals at once, from two clients: the idea of fsstress.
//!
//! Each worker has names of its own, scattered over directories that all share; it knows what each operation on them
//! has to do. Beside these, all fight for a few common names, where only some results are certain: of those that make
//! the same name exclusively, exactly one succeeds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::io::Errno;

use super::super::random::Random;
use super::{expect_error, list};

const WORKERS: usize = 4;
const DIRECTORIES: usize = 4;
const OPERATIONS: usize = 150;
/// Names that every worker tries to make.
const PRIZES: usize = 24;
/// Names that every worker makes, renames and removes as it likes.
const CONTESTED: usize = 6;

/// What a worker has under one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Own {
    File(String),
    Directory,
}

/// Runs the storm below a directory that each root reaches through another client, and leaves the directory empty.
pub(super) fn run(roots: &[PathBuf], seed: u64, settle: &dyn Fn() -> Result<()>) -> Result<String> {
    for number in 0..DIRECTORIES {
        fs::create_dir(roots[0].join(format!("d{number}")))?;
    }
    for name in ["prizes", "contested"] {
        fs::create_dir(roots[0].join(name))?;
    }
    let wins = AtomicUsize::new(0);
    let barrier = Barrier::new(WORKERS);
    let results: Vec<Result<Worker<'_>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let root = &roots[number % roots.len()];
                let mut worker = Worker {
                    number,
                    root,
                    random: Random::new(seed ^ (number as u64) << 32),
                    own: BTreeMap::new(),
                    names_made: 0,
                };
                let (wins, barrier) = (&wins, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    worker.work(wins).with_context(|| format!("seed {seed}, worker {number}"))?;
                    Ok(worker)
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(anyhow!("a worker panicked"))))
            .collect()
    });
    let workers = results.into_iter().collect::<Result<Vec<_>>>()?;
    settle()?;
    let wins = wins.into_inner();
    ensure!(wins == 2 * PRIZES, "{wins} exclusive creations succeeded of {} names", 2 * PRIZES);
    let mut expected = BTreeSet::new();
    for worker in &workers {
        expected.extend(worker.own.keys().cloned());
    }
    for root in roots {
        check_directories(root, &expected).with_context(|| format!("seed {seed}, {}", root.display()))?;
    }
    for worker in &workers {
        worker.check_contents().with_context(|| format!("seed {seed}, worker {}", worker.number))?;
    }
    // Files that the other client has just read are still open there, and can't go before they are closed.
    settle()?;
    for entry in fs::read_dir(&roots[0])? {
        fs::remove_dir_all(entry?.path()).context("removing what is left")?;
    }
    for root in roots {
        ensure!(list(root)?.is_empty(), "something is left");
    }
    Ok(format!("{WORKERS} workers, {} operations, {} names left", WORKERS * OPERATIONS, expected.len()))
}

/// What the directories list is what the workers know, and what was fought for is consistent.
fn check_directories(root: &Path, expected: &BTreeSet<PathBuf>) -> Result<()> {
    let mut listed = BTreeSet::new();
    for number in 0..DIRECTORIES {
        let directory = format!("d{number}");
        for name in list(&root.join(&directory))? {
            listed.insert(Path::new(&directory).join(name));
        }
    }
    let differing: Vec<String> = listed
        .symmetric_difference(expected)
        .map(|path| {
            let how = if listed.contains(path) { "only listed" } else { "not listed" };
            format!("{} {how}", path.display())
        })
        .collect();
    ensure!(differing.is_empty(), "{} names: {}", differing.len(), differing.join(", "));
    ensure!(list(&root.join("prizes"))?.len() == 2 * PRIZES, "not every prize is there");
    for name in list(&root.join("contested"))? {
        fs::metadata(root.join("contested").join(&name)).with_context(|| format!("{name} is only listed"))?;
    }
    Ok(())
}

struct Worker<'a> {
    number: usize,
    root: &'a Path,
    random: Random,
    /// The worker's own names by their path below the root.
    own: BTreeMap<PathBuf, Own>,
    names_made: usize,
}

impl Worker<'_> {
    fn work(&mut self, wins: &AtomicUsize) -> Result<()> {
        for step in 0..OPERATIONS {
            // Prizes in the same order for all, so that they meet.
            if step % (OPERATIONS / PRIZES) == 0 && step / (OPERATIONS / PRIZES) < PRIZES {
                self.take_prizes(step / (OPERATIONS / PRIZES), wins)?;
            }
            match self.random.below(20) {
                0..5 => self.make_file()?,
                5..7 => self.make_directory()?,
                7..10 => self.remove()?,
                10..13 => self.move_file()?,
                13..14 => self.replace_file()?,
                14..15 => self.move_directory()?,
                15..17 => self.look()?,
                _ => self.fight()?,
            }
        }
        Ok(())
    }

    /// A path that this worker has not used before.
    fn new_path(&mut self) -> PathBuf {
        self.names_made += 1;
        let directory = format!("d{}", self.random.below(DIRECTORIES));
        Path::new(&directory).join(format!("worker{}-{}", self.number, self.names_made))
    }

    fn pick(&mut self, wanted: impl Fn(&Own) -> bool) -> Option<(PathBuf, Own)> {
        let fitting: Vec<_> = self.own.iter().filter(|(_, own)| wanted(own)).collect();
        if fitting.is_empty() {
            return None;
        }
        let (path, own) = fitting[self.random.below(fitting.len())];
        Some((path.clone(), own.clone()))
    }

    fn pick_file(&mut self) -> Option<(PathBuf, Own)> {
        self.pick(|own| matches!(own, Own::File(_)))
    }

    fn make_file(&mut self) -> Result<()> {
        let path = self.new_path();
        let text = path.display().to_string();
        make_exclusively(&self.root.join(&path), &text).with_context(|| format!("making {text}"))?;
        let again = make_exclusively(&self.root.join(&path), "again");
        expect_error("making a file that is there", again, &[Errno::EXIST])?;
        self.own.insert(path, Own::File(text));
        Ok(())
    }

    fn make_directory(&mut self) -> Result<()> {
        let path = self.new_path();
        fs::create_dir(self.root.join(&path)).with_context(|| format!("making {}", path.display()))?;
        self.own.insert(path, Own::Directory);
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        let Some((path, own)) = self.pick(|_| true) else { return Ok(()) };
        let full = self.root.join(&path);
        match own {
            Own::File(_) => fs::remove_file(&full),
            Own::Directory => fs::remove_dir(&full),
        }
        .with_context(|| format!("removing {}", path.display()))?;
        expect_error("looking at what was removed", fs::metadata(&full), &[Errno::NOENT])?;
        self.own.remove(&path);
        Ok(())
    }

    fn move_file(&mut self) -> Result<()> {
        let Some((from, _)) = self.pick_file() else { return Ok(()) };
        let to = self.new_path();
        self.rename(&from, &to)
    }

    fn replace_file(&mut self) -> Result<()> {
        let (Some((from, _)), Some((to, _))) = (self.pick_file(), self.pick_file()) else { return Ok(()) };
        if from == to { Ok(()) } else { self.rename(&from, &to) }
    }

    fn move_directory(&mut self) -> Result<()> {
        let Some((from, _)) = self.pick(|own| *own == Own::Directory) else { return Ok(()) };
        let to = self.new_path();
        self.rename(&from, &to)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
            .with_context(|| format!("renaming {} to {}", from.display(), to.display()))?;
        if let Some(own) = self.own.remove(from) {
            self.own.insert(to.to_path_buf(), own);
        }
        Ok(())
    }

    fn look(&mut self) -> Result<()> {
        let Some((path, own)) = self.pick(|_| true) else { return Ok(()) };
        self.check_one(&path, &own)
    }

    fn check_contents(&self) -> Result<()> {
        self.own.iter().try_for_each(|(path, own)| self.check_one(path, own))
    }

    fn check_one(&self, path: &Path, own: &Own) -> Result<()> {
        let full = self.root.join(path);
        match own {
            Own::File(text) => {
                let found =
                    fs::read_to_string(&full).with_context(|| format!("reading {}", path.display()))?;
                ensure!(found == *text, "{} holds {found:?} and not {text:?}", path.display());
            }
            Own::Directory => {
                ensure!(list(&full)?.is_empty(), "{} isn't empty", path.display());
            }
        }
        Ok(())
    }

    /// A file and a directory that all try to make at about the same time.
    fn take_prizes(&self, number: usize, wins: &AtomicUsize) -> Result<()> {
        let directory = self.root.join("prizes");
        let results = [
            make_exclusively(&directory.join(format!("file{number}")), "taken"),
            fs::create_dir(directory.join(format!("directory{number}"))),
        ];
        for result in results {
            match result {
                Ok(()) => {
                    wins.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => expect_error::<()>("making a prize", Err(error), &[Errno::EXIST])?,
            }
        }
        Ok(())
    }

    /// Something to a name that others handle too: any of these errors is right, any other isn't.
    fn fight(&mut self) -> Result<()> {
        let directory = self.root.join("contested");
        let one = directory.join(format!("name{}", self.random.below(CONTESTED)));
        let other = directory.join(format!("name{}", self.random.below(CONTESTED)));
        let (what, result) = match self.random.below(5) {
            0 => ("making", make_exclusively(&one, "contested")),
            1 => ("writing", fs::write(&one, "contested")),
            2 => ("removing", fs::remove_file(&one)),
            3 => ("renaming", fs::rename(&one, &other)),
            _ => ("reading", fs::read(&one).map(|_| ())),
        };
        match result {
            Ok(()) => Ok(()),
            // Gone, there already, in use or on its way out by another's hand.
            Err(error) => expect_error::<()>(
                &format!("{what} a contested name"),
                Err(error),
                &[Errno::NOENT, Errno::EXIST, Errno::BUSY, Errno::TXTBSY, Errno::ACCESS, Errno::STALE],
            ),
        }
    }
}

fn make_exclusively(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_directory_passes() {
        let place = tempfile::tempdir().unwrap();
        let roots = [place.path().to_path_buf(), place.path().join(".")];
        for seed in 0..5 {
            run(&roots, seed, &|| Ok(())).unwrap();
        }
    }

    #[test]
    fn a_name_that_vanishes_is_noticed() {
        let place = tempfile::tempdir().unwrap();
        let roots = [place.path().to_path_buf()];
        let stolen = AtomicUsize::new(0);
        let steal = || {
            if stolen.fetch_add(1, Ordering::Relaxed) > 0 {
                return Ok(());
            }
            for number in 0..DIRECTORIES {
                if let Some(entry) = fs::read_dir(roots[0].join(format!("d{number}")))?.next() {
                    let path = entry?.path();
                    return Ok(if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }?);
                }
            }
            Ok(())
        };
        let message = format!("{:#}", run(&roots, 1, &steal).unwrap_err());
        assert!(message.contains("not listed"), "{message}");
    }
}
