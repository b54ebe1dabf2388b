//! A directory tree made from a seed, and comparing trees.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::random::Random;

const DIRECTORIES: usize = 24;
const FILES: usize = 260;
/// What coreutils' cp reads at once.
const COPY_SIZE: usize = 128 << 10;
/// Sizes beside the random ones: the edges of a page, of a 64 KiB transfer and of a 1 MiB one.
const EDGE_SIZES: [usize; 11] =
    [0, 1, 4_095, 4_096, 4_097, 65_535, 65_536, 65_537, 1_048_575, 1_048_577, 3_000_000];

/// One thing of a tree, by its path below the tree's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Directory(PathBuf),
    File { path: PathBuf, size: usize, seed: u64 },
}

/// A few hundred files and directories, parents first. Every name can be stored by Windows as it is.
pub(super) fn entries(seed: u64) -> Vec<Entry> {
    let mut random = Random::new(seed);
    let mut directories = vec![PathBuf::new()];
    let mut entries = Vec::new();
    for number in 0..DIRECTORIES {
        // The newest directory now and then, so that some are deep.
        let newest = directories.len() - 1;
        let parent = if number % 3 == 0 { newest } else { random.below(directories.len()) };
        let path = directories[parent].join(name(&mut random, number));
        entries.push(Entry::Directory(path.clone()));
        directories.push(path);
    }
    for number in 0..FILES {
        let directory = random.below(directories.len());
        let path = directories[directory].join(name(&mut random, DIRECTORIES + number));
        let size = EDGE_SIZES.get(number).copied().unwrap_or_else(|| match random.below(10) {
            0..6 => random.below(3_000),
            6..9 => random.below(50_000),
            _ => random.below(150_000),
        });
        entries.push(Entry::File { path, size, seed: random.next() });
    }
    entries
}

/// A name that its number makes unique, whatever the server thinks of letters' case.
fn name(random: &mut Random, number: usize) -> String {
    match random.below(12) {
        0 => format!("with spaces in it {number}"),
        1 => format!("Größe und Übermut {number}"),
        2 => format!("e\u{301}crit composed é {number}"),
        3 => format!("日本語の名前 {number}"),
        4 => format!("\u{1f980}\u{1f3d4}{number}.crab"),
        5 => format!(".hidden-{number}"),
        6 => format!("dots.in.the.name.{number}.tar.gz"),
        7 => format!("UPPER and lower {number}.TXT"),
        8 => format!("#!@$%^&()[]{{}}'`~+=,;-{number}"),
        9 => format!("{}{number}", "long".repeat(40)),
        _ => format!("file{number}.dat"),
    }
}

/// A file's bytes.
pub(super) fn content(size: usize, seed: u64) -> Vec<u8> {
    Random::new(seed).bytes(size)
}

/// Makes the tree below a new directory.
pub(super) fn write(entries: &[Entry], root: &Path) -> Result<()> {
    fs::create_dir(root).with_context(|| root.display().to_string())?;
    for entry in entries {
        match entry {
            Entry::Directory(path) => fs::create_dir(root.join(path)),
            Entry::File { path, size, seed } => fs::write(root.join(path), content(*size, *seed)),
        }
        .with_context(|| format!("making {entry:?}"))?;
    }
    Ok(())
}

/// Copies a tree to a new directory, as `cp -r` does.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| format!("making {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("listing {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            copy_file(&entry.path(), &target).with_context(|| format!("copying to {}", target.display()))?;
        }
    }
    Ok(())
}

/// Copies by reading and writing. Not by sendfile: Linux 6.1 warns of itself when that reads past the page cache.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create_new(to)?);
    let mut buffer = vec![0; COPY_SIZE];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            length => to.write_all(&buffer[..length])?,
        }
    }
}

/// Compares what is below a directory with the tree's entries, every byte.
pub(super) fn compare(entries: &[Entry], root: &Path) -> Result<()> {
    let mut wrong = Vec::new();
    let mut found = BTreeMap::new();
    walk(root, Path::new(""), &mut |path, is_directory| {
        found.insert(path.to_path_buf(), is_directory);
    })?;
    for entry in entries {
        let (path, wanted_directory) = match entry {
            Entry::Directory(path) => (path, true),
            Entry::File { path, .. } => (path, false),
        };
        let Some(is_directory) = found.remove(path) else {
            wrong.push(format!("{} isn't listed", path.display()));
            continue;
        };
        if is_directory != wanted_directory {
            wrong.push(format!("{} is of another kind", path.display()));
        }
        if let Entry::File { path, size, seed } = entry {
            let bytes = fs::read(root.join(path)).with_context(|| format!("reading {}", path.display()))?;
            if let Some(difference) = first_difference(&content(*size, *seed), &bytes) {
                wrong.push(format!("{}: {difference}", path.display()));
            }
        }
    }
    wrong.extend(found.keys().map(|path| format!("{} is too much", path.display())));
    if !wrong.is_empty() {
        bail!("{} differences, first {}", wrong.len(), wrong[..wrong.len().min(5)].join("; "));
    }
    Ok(())
}

/// Where two contents start to differ, in words.
pub(super) fn first_difference(expected: &[u8], found: &[u8]) -> Option<String> {
    let common = expected.iter().zip(found).position(|(left, right)| left != right);
    match common {
        Some(at) => {
            let differing = expected.iter().zip(found).filter(|(left, right)| left != right).count();
            Some(format!(
                "byte {at} is {:#04x} in place of {:#04x}, {differing} bytes differ of {}",
                found[at],
                expected[at],
                expected.len()
            ))
        }
        None if expected.len() != found.len() => {
            Some(format!("{} bytes in place of {}", found.len(), expected.len()))
        }
        None => None,
    }
}

/// The files below a directory, by their path below it.
pub(super) fn files_below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    walk(root, Path::new(""), &mut |path, is_directory| {
        if !is_directory {
            files.push(path.to_path_buf());
        }
    })?;
    Ok(files)
}

/// SHA-256 in hexadecimal digits.
pub(super) fn sum_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn walk(root: &Path, below: &Path, found: &mut impl FnMut(&Path, bool)) -> Result<()> {
    let directory = root.join(below);
    for entry in fs::read_dir(&directory).with_context(|| format!("listing {}", directory.display()))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let is_directory = entry.file_type()?.is_dir();
        found(&path, is_directory);
        if is_directory {
            walk(root, &path, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_survives_copying_and_differences_are_seen() {
        let place = tempfile::tempdir().unwrap();
        let entries = entries(7);
        let (first, second) = (place.path().join("first"), place.path().join("second"));
        write(&entries, &first).unwrap();
        copy(&first, &second).unwrap();
        compare(&entries, &second).unwrap();
        assert_eq!(files_below(&second).unwrap().len(), FILES);

        let Some(Entry::File { path, .. }) = entries.last() else { panic!("the last is a file") };
        fs::write(second.join("extra"), b"").unwrap();
        fs::write(second.join(path), b"x").unwrap();
        let message = compare(&entries, &second).unwrap_err().to_string();
        assert!(message.starts_with("2 differences"), "{message}");
        fs::remove_file(second.join(path)).unwrap();
        let message = compare(&entries, &second).unwrap_err().to_string();
        assert!(message.contains("isn't listed") && message.contains("extra is too much"), "{message}");
    }

    #[test]
    fn names_differ_by_more_than_case() {
        let mut names = std::collections::BTreeSet::new();
        for entry in entries(99) {
            let (Entry::Directory(path) | Entry::File { path, .. }) = entry;
            assert!(path.file_name().unwrap().len() <= 255);
            assert!(names.insert(path.to_string_lossy().to_lowercase()));
        }
    }

    #[test]
    fn differences_in_words() {
        assert_eq!(first_difference(b"abc", b"abc"), None);
        assert_eq!(first_difference(b"abc", b"ab").unwrap(), "2 bytes in place of 3");
        assert_eq!(
            first_difference(b"abc", b"axc").unwrap(),
            "byte 1 is 0x78 in place of 0x62, 1 bytes differ of 3"
        );
    }
}
