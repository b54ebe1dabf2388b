//! Large transfers: one file of 2 GiB, and a tree of ten thousand small files.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::Check;
use super::smbclient::{Bench, Client};
use crate::peer::Site;
use crate::process;

const LARGE_BYTES: u64 = 2 << 30;
const TREE_DIRECTORIES: usize = 100;
const TREE_FILES_PER_DIRECTORY: usize = 100;
const SMALL_BYTES_MAX: u64 = 4096;
const PIECE: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(300);

/// The checks, which use the newest dialect unprotected.
pub(super) fn checks<'a>(site: &'a Site, configuration: &'a Path) -> Vec<Check<'a>> {
    let client = Client::new(site, configuration, site.directory());
    let other = client.clone();
    vec![
        Check {
            name: "smbclient SMB3_11 off: a file of 2 GiB".into(),
            run: Box::new(move || large_file(&Bench::new(&client, "large")?)),
        },
        Check {
            name: "smbclient SMB3_11 off: a tree of 10,000 files".into(),
            run: Box::new(move || small_files(&Bench::new(&other, "small")?)),
        },
    ]
}

/// Repeatable bytes without a pattern (xorshift64*), so that a block in the wrong place is noticed.
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.fill(&mut bytes);
        bytes
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    fn next_word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// Streams the file through smbclient's standard input and output: only the server keeps 2 GiB.
fn large_file(bench: &Bench<'_>) -> Result<()> {
    let mut put =
        bench.client.command("put - large.bin")?.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let sent = send_noise(&mut put);
    end(put, "put")?;
    let sent = sent?;
    let stored = fs::metadata(bench.served.join("large.bin"))?.len();
    ensure!(stored == LARGE_BYTES, "{stored} bytes are stored of {LARGE_BYTES}");

    let mut get =
        bench.client.command("get large.bin -")?.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let received = receive(&mut get);
    end(get, "get")?;
    ensure!(received? == sent, "SHA-256 differs after the round trip");
    fs::remove_file(bench.served.join("large.bin"))?;
    Ok(())
}

fn send_noise(child: &mut Child) -> Result<Vec<u8>> {
    let mut input = child.stdin.take().context("smbclient's input")?;
    let mut noise = Noise::new(2);
    let mut digest = Sha256::new();
    let mut piece = vec![0; PIECE];
    for _ in 0..LARGE_BYTES / PIECE as u64 {
        noise.fill(&mut piece);
        digest.update(&piece);
        input.write_all(&piece).context("smbclient stopped reading")?;
    }
    Ok(digest.finalize().to_vec())
}

fn receive(child: &mut Child) -> Result<Vec<u8>> {
    let mut output = child.stdout.take().context("smbclient's output")?;
    let mut digest = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut left = LARGE_BYTES;
    // smbclient may add a line of its own after the file.
    while left > 0 {
        let wanted = piece.len().min(usize::try_from(left).unwrap_or(PIECE));
        let count = output.read(&mut piece[..wanted])?;
        ensure!(count > 0, "the file ended {left} bytes early");
        digest.update(&piece[..count]);
        left -= count as u64;
    }
    std::io::copy(&mut output, &mut std::io::sink())?;
    Ok(digest.finalize().to_vec())
}

fn end(mut child: Child, what: &str) -> Result<()> {
    match process::wait_limited(&mut child, LIMIT)? {
        Some(status) => ensure!(status.success(), "{what}: {status}"),
        None => {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("{what}: no end after {LIMIT:?}");
        }
    }
    Ok(())
}

fn small_files(bench: &Bench<'_>) -> Result<()> {
    let tree = bench.local("tree");
    fs::create_dir(&tree)?;
    for directory in 0..TREE_DIRECTORIES {
        let path = tree.join(format!("d{directory:03}"));
        fs::create_dir(&path)?;
        for file in 0..TREE_FILES_PER_DIRECTORY {
            fs::write(path.join(file_name(file)), content(directory, file))?;
        }
    }
    fs::create_dir(bench.local("back"))?;
    bench.client.run_within("prompt; recurse; mput tree", LIMIT)?;
    bench.client.run_within("prompt; recurse; lcd back; mget tree", LIMIT)?;
    for directory in 0..TREE_DIRECTORIES {
        let path = bench.local("back/tree").join(format!("d{directory:03}"));
        let count = fs::read_dir(&path).with_context(|| path.display().to_string())?.count();
        ensure!(count == TREE_FILES_PER_DIRECTORY, "{count} files came back in {}", path.display());
        for file in 0..TREE_FILES_PER_DIRECTORY {
            let name = file_name(file);
            let found = fs::read(path.join(&name)).with_context(|| name.clone())?;
            ensure!(found == content(directory, file), "{name} in {} differs", path.display());
        }
    }
    bench.client.run_within("deltree tree", LIMIT)?;
    ensure!(!bench.served.join("tree").exists(), "the tree is still there");
    Ok(())
}

fn file_name(file: usize) -> String {
    format!("file {file:03}.dat")
}

fn content(directory: usize, file: usize) -> Vec<u8> {
    let mut noise = Noise::new((directory * TREE_FILES_PER_DIRECTORY + file) as u64);
    let count = noise.next_word() % (SMALL_BYTES_MAX + 1);
    noise.bytes(count as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_repeatable_and_differs_by_seed_and_place() {
        let bytes = Noise::new(5).bytes(1001);
        assert_eq!(bytes, Noise::new(5).bytes(1001));
        assert_ne!(bytes, Noise::new(6).bytes(1001));
        assert_ne!(bytes[..500], bytes[500..1000]);
        assert_ne!(content(0, 1), content(1, 0));
    }
}
