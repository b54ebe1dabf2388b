//! Names: spelling, renaming, deleting, links, long lists.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;

use super::{Mounted, Outcome, drop_caches, expect_error, is_absent, list, settle};

/// Enough for several messages of a listing.
const MANY: usize = 1_100;

/// Names that a POSIX client may use and Windows may not: the client sends other characters in their place.
const MAPPED: &[&str] = &["a:b", "what?", "st*r", "pipe|d", "<angle>", "quo\"ted", "dot.", "space "];

pub(super) fn spelling(mounted: &Mounted<'_>) -> Result<Outcome> {
    let directory = mounted.directory("spelling")?;
    let long = "n".repeat(255);
    let wide = "語".repeat(85);
    let mut names: Vec<&str> =
        vec![" leading space", "~tilde", "a", "...three", "CON-like", "ǅ Σς ß İ ı", &long, &wide];
    names.extend(MAPPED);
    names.sort_unstable();
    for name in &names {
        fs::write(directory.join(name), name.as_bytes()).with_context(|| format!("making {name}"))?;
    }
    drop_caches()?;
    for root in [&directory, &mounted.second.join("spelling")] {
        let listed = list(root)?;
        let differing: Vec<_> = BTreeSet::from_iter(listed.iter().map(String::as_str))
            .symmetric_difference(&BTreeSet::from_iter(names.iter().copied()))
            .map(|name| format!("{name:?}"))
            .collect();
        ensure!(differing.is_empty(), "listed and made differ in {}", differing.join(", "));
        for name in &names {
            let found = fs::read(root.join(name)).with_context(|| format!("reading {name}"))?;
            ensure!(found == name.as_bytes(), "{name} has another file's content");
        }
    }
    // The server finds a name in any spelling of its letters and keeps the one it was made with.
    fs::write(directory.join("MiXeD.TxT"), b"mixed")?;
    drop_caches()?;
    ensure!(fs::read(directory.join("mixed.txt")).context("another case")? == b"mixed");
    expect_error(
        "making the same name in another case",
        OpenOptions::new().write(true).create_new(true).open(directory.join("MIXED.TXT")),
        &[Errno::EXIST],
    )?;
    ensure!(list(&directory)?.contains(&"MiXeD.TxT".to_owned()), "the spelling has changed");
    fs::remove_file(directory.join("MiXeD.TxT"))?;
    for name in &names {
        fs::remove_file(directory.join(name)).with_context(|| format!("removing {name}"))?;
    }
    fs::remove_dir(&directory).context("removing the directory")?;
    Ok(Outcome::Done(format!("{} names", names.len())))
}

pub(super) fn rename(mounted: &Mounted<'_>) -> Result<Outcome> {
    let directory = mounted.directory("rename")?;
    let at = |name: &str| directory.join(name);
    fs::write(at("one"), b"1")?;
    fs::rename(at("one"), at("two")).context("a file")?;
    expect_error("the old name", fs::metadata(at("one")), &[Errno::NOENT])?;
    ensure!(fs::read(at("two"))? == b"1", "another content under the new name");

    fs::write(at("three"), b"3")?;
    fs::rename(at("two"), at("three")).context("a file over another")?;
    ensure!(
        fs::read(at("three"))? == b"1" && list(&directory)? == ["three"],
        "the replaced file is still there"
    );

    fs::create_dir_all(at("deep/below"))?;
    fs::write(at("deep/below/leaf"), b"leaf")?;
    fs::create_dir(at("other"))?;
    fs::rename(at("deep"), at("other/moved")).context("a directory with content into another")?;
    ensure!(fs::read(at("other/moved/below/leaf"))? == b"leaf");
    fs::rename(at("three"), at("other/moved/below/three")).context("a file into another directory")?;

    let mut open = OpenOptions::new().read(true).write(true).open(at("other/moved/below/three"))?;
    fs::rename(at("other/moved/below/three"), at("three again")).context("a file that is open")?;
    open.write_all(b"more")?;
    open.sync_all()?;
    drop(open);
    ensure!(fs::read(at("three again"))? == b"more", "what was written to the renamed file isn't there");

    expect_error("a missing file", fs::rename(at("missing"), at("x")), &[Errno::NOENT])?;
    expect_error(
        "a file over a directory",
        fs::rename(at("three again"), at("other")),
        &[Errno::ISDIR, Errno::EXIST, Errno::ACCESS],
    )?;
    expect_error(
        "a directory over one with content",
        fs::rename(at("other"), at("other/moved")),
        &[Errno::INVAL, Errno::NOTEMPTY],
    )?;
    drop_caches()?;
    ensure!(list(&directory)? == ["other", "three again"], "left: {:?}", list(&directory)?);
    fs::remove_dir_all(&directory).context("removing it all")?;
    Ok(Outcome::Done(String::new()))
}

pub(super) fn delete(mounted: &Mounted<'_>) -> Result<Outcome> {
    let directory = mounted.directory("delete")?;
    let at = |name: &str| directory.join(name);
    fs::write(at("file"), b"x")?;
    fs::remove_file(at("file"))?;
    expect_error("the removed file", fs::metadata(at("file")), &[Errno::NOENT])?;
    fs::create_dir(at("directory"))?;
    fs::remove_dir(at("directory"))?;
    expect_error("the removed directory", fs::metadata(at("directory")), &[Errno::NOENT])?;

    // A name that is removed while it is open can be gone at once or with the last handle, but not stay.
    fs::write(at("open"), b"still here")?;
    let mut open = File::open(at("open"))?;
    fs::remove_file(at("open")).context("a file that is open")?;
    let mut text = String::new();
    open.read_to_string(&mut text).context("reading a removed file")?;
    ensure!(text == "still here", "the removed file reads {text:?}");
    drop(open);
    drop_caches()?;
    expect_error("the removed file after closing", fs::metadata(at("open")), &[Errno::NOENT])?;
    fs::write(at("open"), b"new").context("the name again")?;
    ensure!(fs::read(at("open"))? == b"new");

    fs::write(at("read-only"), b"x")?;
    let mut permissions = fs::metadata(at("read-only"))?.permissions();
    permissions.set_readonly(true);
    fs::set_permissions(at("read-only"), permissions).context("the read-only attribute")?;
    fs::remove_file(at("read-only")).context("a read-only file")?;

    fs::create_dir_all(at("a/b/c/d"))?;
    fs::write(at("a/b/c/file"), b"")?;
    expect_error("removing a directory with content", fs::remove_dir(at("a/b")), &[Errno::NOTEMPTY])?;
    fs::remove_dir_all(&directory).context("removing it all")?;
    expect_error("listing the removed directory", fs::read_dir(&directory), &[Errno::NOENT])?;
    Ok(Outcome::Done(String::new()))
}

pub(super) fn errors(mounted: &Mounted<'_>) -> Result<Outcome> {
    let directory = mounted.directory("errors")?;
    let at = |name: &str| directory.join(name);
    fs::write(at("file"), b"x")?;
    fs::create_dir(at("directory"))?;
    let exclusive = |name: &str| OpenOptions::new().write(true).create_new(true).open(at(name));
    expect_error("opening a missing file", File::open(at("missing")), &[Errno::NOENT])?;
    expect_error("a file in a missing directory", File::create(at("missing/file")), &[Errno::NOENT])?;
    expect_error("a file below a file", File::create(at("file/below")), &[Errno::NOTDIR])?;
    expect_error("removing a missing file", fs::remove_file(at("missing")), &[Errno::NOENT])?;
    expect_error("removing a missing directory", fs::remove_dir(at("missing")), &[Errno::NOENT])?;
    expect_error("a file that is there, made anew", exclusive("file"), &[Errno::EXIST])?;
    expect_error("a directory that is there, made anew", fs::create_dir(at("directory")), &[Errno::EXIST])?;
    expect_error("a directory over a file", fs::create_dir(at("file")), &[Errno::EXIST])?;
    expect_error(
        "writing to a directory",
        OpenOptions::new().write(true).open(at("directory")),
        &[Errno::ISDIR],
    )?;
    expect_error("listing a file", fs::read_dir(at("file")), &[Errno::NOTDIR])?;
    expect_error("removing a file as a directory", fs::remove_dir(at("file")), &[Errno::NOTDIR])?;
    expect_error("removing a directory as a file", fs::remove_file(at("directory")), &[Errno::ISDIR])?;
    expect_error("a name of 256 characters", File::create(at(&"n".repeat(256))), &[Errno::NAMETOOLONG])?;
    ensure!(list(&directory)? == ["directory", "file"], "left: {:?}", list(&directory)?);
    fs::remove_dir_all(&directory)?;
    Ok(Outcome::Done(String::new()))
}

pub(super) fn hard_links(mounted: &Mounted<'_>) -> Result<Outcome> {
    let directory = mounted.directory("hard-links")?;
    let (first, second) = (directory.join("first"), directory.join("second"));
    fs::write(&first, b"one")?;
    match fs::hard_link(&first, &second) {
        Err(error) if is_absent(&error) => {
            fs::remove_dir_all(&directory)?;
            return Ok(Outcome::Absent(format!("making one: {error}")));
        }
        result => result.context("making one")?,
    }
    // This client takes one lease for a file, whatever its name, and a lease belongs to one name: the first one's has
    // to be over before the second is opened, and the same again below.
    settle()?;
    let found = fs::read(&second).context("reading the second name")?;
    ensure!(found == b"one", "another content under the second name");
    fs::write(&second, b"changed").context("writing to the second name")?;
    settle()?;
    ensure!(fs::read(&first)? == b"changed", "the first name doesn't show what the second one wrote");
    // Opening a file makes this client count one link until it asks again.
    settle()?;
    let (one, two) = (fs::metadata(&first)?, fs::metadata(&second)?);
    ensure!(one.nlink() == 2 && two.nlink() == 2, "{} and {} links", one.nlink(), two.nlink());
    ensure!(one.ino() == two.ino(), "two inode numbers");
    expect_error("a link over a file", fs::hard_link(&first, &second), &[Errno::EXIST])?;
    fs::remove_file(&first)?;
    settle()?;
    ensure!(
        fs::metadata(&second)?.nlink() == 1,
        "{} links after removing one of two",
        fs::metadata(&second)?.nlink()
    );
    ensure!(fs::read(&second)? == b"changed", "the second name alone");
    fs::remove_dir_all(&directory)?;
    Ok(Outcome::Done(String::new()))
}

pub(super) fn symbolic_links(mounted: &Mounted<'_>) -> Result<Outcome> {
    let directory = mounted.directory("symbolic-links")?;
    let at = |name: &str| directory.join(name);
    fs::create_dir(at("target"))?;
    fs::write(at("target/file"), b"through the link")?;
    symlink("target", at("link")).context("making one")?;
    symlink("nowhere/at all", at("dangling"))?;
    drop_caches()?;
    for name in ["link", "dangling"] {
        ensure!(fs::symlink_metadata(at(name))?.file_type().is_symlink(), "{name} isn't a link");
    }
    ensure!(fs::read_link(at("link"))? == Path::new("target"));
    ensure!(fs::read_link(at("dangling"))? == Path::new("nowhere/at all"));
    ensure!(fs::read(at("link/file"))? == b"through the link");
    fs::remove_file(at("link"))?;
    ensure!(list(&directory)? == ["dangling", "target"]);
    fs::remove_dir_all(&directory)?;
    Ok(Outcome::Done(String::new()))
}

pub(super) fn many(mounted: &Mounted<'_>) -> Result<Outcome> {
    let directory = mounted.directory("many")?;
    let name = |number: usize| format!("one of a great many names in this directory, number {number:05}");
    let made: Vec<String> = (0..MANY).map(name).collect();
    for name in &made {
        File::create(directory.join(name)).with_context(|| format!("making {name}"))?;
    }
    drop_caches()?;
    ensure!(list(&directory)? == made, "{} of {MANY} are listed", list(&directory)?.len());
    ensure!(list(&mounted.second.join("many"))? == made, "the second client lists others");
    let mut inodes = BTreeSet::new();
    for name in &made {
        inodes
            .insert(fs::metadata(directory.join(name)).with_context(|| format!("looking up {name}"))?.ino());
    }
    ensure!(inodes.len() == MANY, "{} inode numbers for {MANY} files", inodes.len());
    // Removing while listing moves the end of the list towards the reader; nothing may be skipped.
    for entry in fs::read_dir(&directory)? {
        fs::remove_file(entry?.path())?;
    }
    ensure!(list(&directory)?.is_empty(), "{} are left", list(&directory)?.len());
    fs::remove_dir(&directory)?;
    Ok(Outcome::Done(format!("{MANY} files")))
}
