//! What files hold: sizes, holes, copies, attributes.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, XattrFlags};
use rustix::io::Errno;

use super::super::tree::{content, first_difference};
use super::{Mounted, Outcome, drop_caches, expect_error, is_absent, settle};

const GIB: u64 = 1 << 30;
const LARGE: usize = 24 << 20;

pub(super) fn truncate_and_append(mounted: &Mounted<'_>) -> Result<Outcome> {
    let path = mounted.first.join("truncated");
    let bytes = content(100_000, mounted.seed);
    fs::write(&path, &bytes)?;
    let file = OpenOptions::new().write(true).open(&path)?;
    let mut expected = bytes;
    for size in [70_001, 4_096, 4_095, 90_000, 1, 0, 200_000, 131_072] {
        file.set_len(size as u64).with_context(|| format!("setting the size {size}"))?;
        expected.resize(size, 0);
        same(&path, &expected).with_context(|| format!("after setting the size {size}"))?;
    }
    drop(file);
    for number in 0..20 {
        let more = content(number * 997, mounted.seed + number as u64);
        OpenOptions::new().append(true).open(&path)?.write_all(&more)?;
        expected.extend(&more);
    }
    // Two handles that append take turns at the end of the file.
    let open = || OpenOptions::new().append(true).open(&path);
    let (mut one, mut other) = (open()?, open()?);
    for _ in 0..10 {
        one.write_all(b"from the first")?;
        other.write_all(b"from the second")?;
        expected.extend(b"from the first");
        expected.extend(b"from the second");
    }
    drop((one, other));
    drop_caches()?;
    same(&path, &expected).context("after appending")?;
    // Opening with O_TRUNC.
    File::create(&path)?.write_all(b"short")?;
    drop_caches()?;
    same(&path, b"short").context("after opening with truncation")?;
    mounted.expect_file(&path, b"short")?;
    Ok(Outcome::Done(String::new()))
}

pub(super) fn sparse(mounted: &Mounted<'_>) -> Result<Outcome> {
    let path = mounted.first.join("sparse");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    let pieces: Vec<(u64, Vec<u8>)> = [0, 70_000, 2 * GIB - 10, 4 * GIB - 3, 5 * GIB + 1]
        .iter()
        .map(|&offset| (offset, content(1_000, mounted.seed ^ offset)))
        .collect();
    // From the end to the start: the first write makes nearly all of the file a hole.
    for (offset, bytes) in pieces.iter().rev() {
        file.seek(SeekFrom::Start(*offset))?;
        file.write_all(bytes).with_context(|| format!("writing at {offset}"))?;
    }
    file.sync_all().context("flushing")?;
    drop(file);
    drop_caches()?;
    let file = File::open(&path)?;
    let size = 5 * GIB + 1_001;
    ensure!(file.metadata()?.len() == size, "its size is {}", file.metadata()?.len());
    for (offset, bytes) in &pieces {
        let mut found = vec![0; bytes.len()];
        file.read_exact_at(&mut found, *offset)?;
        ensure!(found == *bytes, "other bytes at {offset}");
    }
    for offset in [1_000, 69_000, GIB, 4 * GIB + 5_000] {
        let mut found = [1; 1_000];
        file.read_exact_at(&mut found, offset)?;
        ensure!(found == [0; 1_000], "something is in the hole at {offset}");
    }
    ensure!(file.read_at(&mut [0; 10], size)? == 0, "there is something beyond the end");
    let blocks = file.metadata()?.blocks();
    drop(file);
    fs::remove_file(&path)?;
    Ok(Outcome::Done(format!("{} KiB allocated", blocks / 2)))
}

pub(super) fn holes(mounted: &Mounted<'_>) -> Result<Outcome> {
    let path = mounted.first.join("holes");
    let mut expected = content(1 << 20, mounted.seed);
    fs::write(&path, &expected)?;
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    file.sync_all()?;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if let Err(error) = rustix::fs::fallocate(&file, punch, 131_072, 262_144) {
        let error = error.into();
        if is_absent(&error) {
            drop(file);
            fs::remove_file(&path)?;
            return Ok(Outcome::Absent(format!("punching a hole: {error}")));
        }
        return Err(error).context("punching a hole");
    }
    expected[131_072..131_072 + 262_144].fill(0);
    drop_caches()?;
    same(&path, &expected).context("after punching a hole")?;
    let data_after = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(131_072));
    // A server may keep the hole as zeros; then the data goes on in the hole.
    let data_after = data_after.context("looking for data after the hole")?;
    ensure!((131_072..=393_216).contains(&data_after), "data after the hole at {data_after}");
    // Two more the same way, in parts of a page.
    for (offset, length) in [(1_000, 10), (500_001, 70_000)] {
        rustix::fs::fallocate(&file, punch, offset, length).context("punching a small hole")?;
        expected[offset as usize..(offset + length) as usize].fill(0);
    }
    drop_caches()?;
    same(&path, &expected).context("after punching small holes")?;
    // The kernel gets a larger file where the server supports it, and the same answer each time where it doesn't.
    let extended = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 1_100_000);
    if extended.is_ok() {
        expected.resize(1_100_000, 0);
    }
    drop(file);
    drop_caches()?;
    same(&path, &expected).context("after preallocating")?;
    mounted.expect_file(&path, &expected)?;
    Ok(Outcome::Done(format!("data found at {data_after}, preallocation {extended:?}")))
}

pub(super) fn copy_within(mounted: &Mounted<'_>) -> Result<Outcome> {
    let directory = mounted.directory("copies")?;
    let (from, to) = (directory.join("from"), directory.join("to"));
    let bytes = content(5_000_003, mounted.seed);
    fs::write(&from, &bytes)?;
    File::open(&from)?.sync_all()?;
    let count_before = chunk_copies()?;
    // copy_file_range, which the client sends as copies of chunks.
    let copied = fs::copy(&from, &to).context("copying")?;
    ensure!(copied == bytes.len() as u64, "{copied} bytes copied");
    let requests = chunk_copies()? - count_before;
    drop_caches()?;
    same(&to, &bytes)?;
    fs::remove_file(&from)?;
    mounted.expect_file(&to, &bytes)?;
    Ok(Outcome::Done(format!("{requests} control requests")))
}

/// How many control requests the client has sent in all.
fn chunk_copies() -> Result<u64> {
    let text = fs::read_to_string("/proc/fs/cifs/Stats")?;
    let line = text.lines().filter_map(|line| line.trim().strip_prefix("IOCTLs: "));
    let counts = line.filter_map(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Ok(counts.sum())
}

pub(super) fn large(mounted: &Mounted<'_>) -> Result<Outcome> {
    let path = mounted.first.join("large");
    let bytes = content(LARGE, mounted.seed);
    let started = Instant::now();
    let mut file = File::create(&path)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    drop(file);
    let written = started.elapsed();
    drop_caches()?;
    let started = Instant::now();
    let mut found = Vec::with_capacity(LARGE);
    File::open(&path)?.read_to_end(&mut found)?;
    let read = started.elapsed();
    if let Some(difference) = first_difference(&bytes, &found) {
        anyhow::bail!("{difference}");
    }
    mounted.expect_file(&path, &bytes)?;
    let rate = |time: Duration| (LARGE >> 20) as f64 / time.as_secs_f64();
    Ok(Outcome::Done(format!("written at {:.0} MiB/s, read at {:.0} MiB/s", rate(written), rate(read))))
}

pub(super) fn attributes(mounted: &Mounted<'_>) -> Result<Outcome> {
    let path = mounted.first.join("attributes");
    fs::write(&path, b"x")?;
    // 100 ns is the protocol's unit.
    let modified = UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_700);
    // This client never shows a time of access before that of writing.
    let accessed = UNIX_EPOCH + Duration::new(1_345_678_901, 0);
    let times = FileTimes::new().set_modified(modified).set_accessed(accessed);
    OpenOptions::new().write(true).open(&path)?.set_times(times).context("setting times")?;
    settle()?;
    let metadata = fs::metadata(&path)?;
    ensure!(metadata.modified()? == modified, "modified {:?}", metadata.modified());
    ensure!(metadata.accessed()? == accessed, "accessed {:?}", metadata.accessed());

    let mut permissions = metadata.permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).context("the read-only attribute")?;
    settle()?;
    let metadata = fs::metadata(&path)?;
    ensure!(metadata.mode() & 0o222 == 0, "the mode is {:o}", metadata.mode());
    expect_error(
        "writing to a read-only file",
        OpenOptions::new().write(true).open(&path),
        &[Errno::ACCESS, Errno::PERM],
    )?;
    rustix::fs::chmod(&path, rustix::fs::Mode::from_raw_mode(0o644)).context("writable again")?;
    fs::write(&path, b"changed").context("writing to what is writable again")?;
    settle()?;
    same(&path, b"changed")?;
    ensure!(fs::metadata(&path)?.modified()? > modified, "writing hasn't changed the time of writing");
    mounted.expect_file(&path, b"changed")?;
    Ok(Outcome::Done(String::new()))
}

pub(super) fn extended_attributes(mounted: &Mounted<'_>) -> Result<Outcome> {
    let path = mounted.first.join("extended");
    fs::write(&path, b"x")?;
    let large = content(3_000, mounted.seed);
    let result = rustix::fs::setxattr(&path, "user.first", b"value", XattrFlags::empty());
    if let Err(error) = result {
        let error = error.into();
        if is_absent(&error) {
            fs::remove_file(&path)?;
            return Ok(Outcome::Absent(format!("setting one: {error}")));
        }
        return Err(error).context("setting one");
    }
    rustix::fs::setxattr(&path, "user.second", &large, XattrFlags::empty()).context("a large one")?;
    settle()?;
    ensure!(value_of(&path, "user.first")? == b"value", "another value");
    ensure!(value_of(&path, "user.second")? == large, "another value of the large one");
    let mut names = vec![0; 1_000];
    let length = rustix::fs::listxattr(&path, &mut names[..]).context("listing")?;
    let names = String::from_utf8_lossy(&names[..length]).to_lowercase();
    ensure!(names.contains("user.first\0") && names.contains("user.second\0"), "listed: {names:?}");
    rustix::fs::removexattr(&path, "user.first").context("removing one")?;
    drop_caches()?;
    expect_error("a removed one", value_of_raw(&path, "user.first"), &[Errno::NODATA])?;
    fs::remove_file(&path)?;
    Ok(Outcome::Done(String::new()))
}

fn value_of(path: &Path, name: &str) -> Result<Vec<u8>> {
    value_of_raw(path, name).with_context(|| format!("reading {name}"))
}

fn value_of_raw(path: &Path, name: &str) -> std::io::Result<Vec<u8>> {
    let mut value = vec![0; 8_192];
    let length = rustix::fs::getxattr(path, name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

/// The file holds exactly these bytes.
fn same(path: &Path, expected: &[u8]) -> Result<()> {
    let found = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    match first_difference(expected, &found) {
        None => Ok(()),
        Some(difference) => anyhow::bail!("{difference}"),
    }
}
