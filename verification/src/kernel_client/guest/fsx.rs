//! Random reads, writes and truncations of one file, against a copy in memory: the idea of Apple's fsx.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::super::random::Random;
use super::super::tree;

const LENGTH_MAX: usize = 700_000;
const SHOWN_OPERATIONS: usize = 12;

/// What to do to the file.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) seed: u64,
    pub(super) operations: usize,
    /// Past the page cache, each read and write a message of its own.
    pub(super) direct: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operation {
    Write { offset: usize, length: usize },
    Append { length: usize },
    Read { offset: usize, length: usize },
    Truncate { length: usize },
    Flush,
    Reopen,
    DropCaches,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Write { offset, length } => write!(f, "write {length} at {offset}"),
            Operation::Append { length } => write!(f, "append {length}"),
            Operation::Read { offset, length } => write!(f, "read {length} at {offset}"),
            Operation::Truncate { length } => write!(f, "truncate to {length}"),
            Operation::Flush => write!(f, "flush"),
            Operation::Reopen => write!(f, "reopen"),
            Operation::DropCaches => write!(f, "drop caches"),
        }
    }
}

impl Operation {
    fn pick(random: &mut Random, size: usize) -> Operation {
        match random.below(100) {
            0..35 => {
                let length = pick_length(random);
                // Sometimes beyond the end, which leaves zeros between.
                let offset = random.below((size + size / 4 + 1).min(LENGTH_MAX - length));
                Operation::Write { offset, length }
            }
            35..42 if size < LENGTH_MAX / 2 => Operation::Append { length: pick_length(random) },
            35..75 => Operation::Read { offset: random.below(size + 2), length: pick_length(random) },
            75..85 => Operation::Truncate { length: random.below(LENGTH_MAX) },
            85..90 => Operation::Truncate { length: random.below(size + 1) },
            90..94 => Operation::Flush,
            94..98 => Operation::Reopen,
            _ => Operation::DropCaches,
        }
    }
}

/// Mostly small, sometimes larger than one message holds.
fn pick_length(random: &mut Random) -> usize {
    1 + match random.below(10) {
        0..4 => random.below(5_000),
        4..9 => random.below(80_000),
        _ => random.below(300_000),
    }
}

/// Runs the operations on a new file and returns what it has to hold now.
///
/// # Errors
/// The first difference, with the seed and the last operations.
pub(super) fn run(path: &Path, settings: &Settings, drop_caches: &dyn Fn() -> Result<()>) -> Result<Vec<u8>> {
    let mut random = Random::new(settings.seed);
    let mut model: Vec<u8> = Vec::new();
    let mut last = VecDeque::new();
    let mut file = Some(open(path, settings.direct, true)?);
    for number in 0..settings.operations {
        let operation = Operation::pick(&mut random, model.len());
        last.push_back(operation.to_string());
        if last.len() > SHOWN_OPERATIONS {
            last.pop_front();
        }
        apply(&operation, path, settings, &mut file, &mut model, &mut random, drop_caches).with_context(
            || {
                let shown: Vec<&str> = last.iter().map(String::as_str).collect();
                format!("seed {}, operation {number} of: ... {}", settings.seed, shown.join(", "))
            },
        )?;
    }
    drop(file);
    drop_caches()?;
    let found = std::fs::read(path).context("reading it all at the end")?;
    if let Some(difference) = tree::first_difference(&model, &found) {
        bail!("seed {}, at the end: {difference}", settings.seed);
    }
    Ok(model)
}

fn open(path: &Path, direct: bool, create: bool) -> Result<File> {
    let flags = if direct { rustix::fs::OFlags::DIRECT.bits() } else { 0 };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(create).custom_flags(flags.cast_signed());
    options.open(path).with_context(|| format!("opening {}", path.display()))
}

fn apply(
    operation: &Operation,
    path: &Path,
    settings: &Settings,
    slot: &mut Option<File>,
    model: &mut Vec<u8>,
    random: &mut Random,
    drop_caches: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let file = slot.as_ref().context("the file is open")?;
    match *operation {
        Operation::Write { offset, length } => write(file, offset, length, model, random)?,
        Operation::Append { length } => write(file, model.len(), length, model, random)?,
        Operation::Read { offset, length } => {
            let mut buffer = vec![0xaa; length];
            let read = read_fully(file, &mut buffer, offset)?;
            let expected = &model[offset.min(model.len())..(offset + length).min(model.len())];
            if let Some(difference) = tree::first_difference(expected, &buffer[..read]) {
                bail!("{difference}, counted from {offset}");
            }
        }
        Operation::Truncate { length } => {
            file.set_len(length as u64)?;
            model.resize(length, 0);
        }
        Operation::Flush => file.sync_all()?,
        Operation::Reopen => {
            drop(slot.take());
            *slot = Some(open(path, settings.direct, false)?);
        }
        Operation::DropCaches => drop_caches()?,
    }
    let file = slot.as_ref().context("the file is open")?;
    let size = file.metadata()?.len();
    ensure!(size == model.len() as u64, "its size is {size} in place of {}", model.len());
    Ok(())
}

fn write(file: &File, offset: usize, length: usize, model: &mut Vec<u8>, random: &mut Random) -> Result<()> {
    let bytes = random.bytes(length);
    file.write_all_at(&bytes, offset as u64)?;
    if model.len() < offset + length {
        model.resize(offset + length, 0);
    }
    model[offset..offset + length].copy_from_slice(&bytes);
    Ok(())
}

/// Reads until the buffer is full or the file ends.
fn read_fully(file: &File, buffer: &mut [u8], offset: usize) -> Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], (offset + done) as u64)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_file_passes_and_the_model_is_its_content() {
        let place = tempfile::tempdir().unwrap();
        for seed in 0..20 {
            let path = place.path().join(format!("file{seed}"));
            let settings = Settings { seed, operations: 200, direct: false };
            let model = run(&path, &settings, &|| Ok(())).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), model);
        }
    }

    #[test]
    fn a_file_that_another_changes_fails() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        let settings = Settings { seed: 5, operations: 400, direct: false };
        // Where caches would be dropped, a byte at the start changes.
        let spoil = || {
            let file = OpenOptions::new().write(true).open(&path)?;
            let size = file.metadata()?.len();
            let spoiled: Vec<u8> = std::fs::read(&path)?.iter().map(|byte| !byte).collect();
            assert_eq!(spoiled.len() as u64, size);
            file.write_all_at(&spoiled, 0)?;
            Ok(())
        };
        let message = format!("{:#}", run(&path, &settings, &spoil).unwrap_err());
        assert!(message.contains("seed 5") && message.contains("in place of"), "{message}");
    }
}
