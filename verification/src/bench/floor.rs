//! The bare floor: what moving the same bytes over loopback TCP costs a program that does nothing else.
//!
//! A program of its own, so that it is accounted for as servers are, takes requests of the size of SMB2's READ and WRITE
//! and answers with replies of their size. Reading is `pread` and `send`, or `sendfile`; writing is `recv` and `pwrite`. What
//! the cipher costs is measured apart and added.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use crypto_fast::Fast;
use rustix::fs::sendfile;
use rustix::io::{pread, pwrite};
use rustix::net::{SendFlags, send};
use rustix::time::{ClockId, clock_gettime};
use smb_proto::crypto::{CipherAlgorithm, Provider, SigningAlgorithm};
use tempfile::TempDir;

use super::accounting::Accounting;
use super::load::{Count, Gate, Load};
use super::sample::{Link, Sample};
use super::workload::{Offsets, PIECE};
use crate::client::Protection;

/// Frame prefix, header and body of a READ; of a WRITE what is in front of its data is as long, within four bytes.
const REQUEST: usize = 4 + 64 + 49;
/// Frame prefix, header and body of a WRITE's answer; in front of a READ's data it is the same.
const REPLY: usize = 4 + 64 + 16;
/// Where in a request the offset in the file stands.
const OFFSET: usize = 80;
/// What data begins at a multiple of in memory: the kernel takes it half as fast again.
const ALIGNMENT: usize = 64;
/// The first bytes of a connection: kind, block size, number of the file.
const HELLO: usize = 12;
/// How long a cipher is measured.
const CIPHER_TIME: Duration = Duration::from_millis(60);

/// How a floor moves its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the file to the socket through memory.
    Read,
    /// From the file to the socket within the kernel.
    Sendfile,
    /// From the socket to the file through memory.
    Write,
}

/// Blocks that are moved in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern {
    /// How.
    pub(super) way: Way,
    /// Bytes of a block.
    pub(super) block: u32,
    /// Bytes of the file.
    pub(super) size: u64,
    /// From front to back, or anywhere.
    pub(super) in_order: bool,
    /// Connections, each with a file of its own.
    pub(super) connections: usize,
    /// Blocks under way on each.
    pub(super) depth: usize,
}

/// The program that is the floor, running.
#[derive(Debug)]
pub(super) struct Floor {
    child: Child,
    address: SocketAddr,
    /// What counts its processor time. Dropped after the program has ended.
    accounting: Accounting,
    _directory: TempDir,
}

impl Floor {
    /// Starts the program.
    pub(super) fn start() -> Result<Self> {
        let directory = TempDir::with_prefix("leasehold-floor-")?;
        let program = std::env::current_exe().context("where this program is")?;
        let mut child = Command::new(program)
            .arg("floor-server")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let accounting = Accounting::begin(child.id(), "floor");
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("the floor's output")?).read_line(&mut line)?;
        let address = line.trim().parse().with_context(|| format!("the floor said {line:?}"))?;
        Ok(Self { child, address, accounting, _directory: directory })
    }

    /// Moves blocks for a while.
    pub(super) fn run(&self, pattern: Pattern, duration: Duration) -> Result<Sample> {
        let load = Load { workers: pattern.connections, duration, accounting: &self.accounting };
        let link = Link { dialect: "bare".into(), signer: "none".into(), cipher: None };
        load.measure(link, |worker, gate| exchange(self.address, pattern, worker, gate)).context("the floor")
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("stopping the floor: {error}");
        }
    }
}

/// One connection's part, as the client.
fn exchange(address: SocketAddr, pattern: Pattern, worker: usize, gate: &Gate) -> Result<Count> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let block = pattern.block as usize;
    stream.write_all(&hello(pattern, worker))?;
    // The file is laid out when this comes.
    stream.read_exact(&mut [0; 1])?;
    let mut request = vec![0x5A; if pattern.way == Way::Write { REQUEST + block } else { REQUEST }];
    let mut reply = vec![0; if pattern.way == Way::Write { REPLY } else { REPLY + block }];
    let mut offsets = Offsets::new(worker, pattern.size, pattern.block, pattern.in_order);
    let mut ask = |stream: &mut TcpStream| -> Result<Instant> {
        let begun = Instant::now();
        request[OFFSET..OFFSET + 8].copy_from_slice(&offsets.next().to_le_bytes());
        stream.write_all(&request)?;
        Ok(begun)
    };
    let mut count = Count::default();
    let mut under_way = VecDeque::new();
    gate.wait();
    for _ in 0..pattern.depth {
        under_way.push_back(ask(&mut stream)?);
    }
    while let Some(begun) = under_way.pop_front() {
        stream.read_exact(&mut reply)?;
        count.add(u64::from(pattern.block), begun);
        if gate.is_open() {
            under_way.push_back(ask(&mut stream)?);
        }
    }
    Ok(count)
}

fn hello(pattern: Pattern, worker: usize) -> [u8; HELLO] {
    let mut hello = [0; HELLO];
    hello[0] = match pattern.way {
        Way::Read => 0,
        Way::Sendfile => 1,
        Way::Write => 2,
    };
    hello[1] = worker as u8;
    hello[4..8].copy_from_slice(&pattern.block.to_le_bytes());
    hello[8..].copy_from_slice(&((pattern.size >> 20) as u32).to_le_bytes());
    hello
}

/// The program: serves until it is killed.
///
/// # Errors
/// The system refuses a socket.
pub fn serve(directory: &Path) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept()?;
        let directory = directory.to_path_buf();
        std::thread::spawn(move || {
            // A client that closes its end is done.
            let _ = serve_one(stream, &directory);
        });
    }
}

fn serve_one(mut stream: TcpStream, directory: &Path) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut hello = [0; HELLO];
    stream.read_exact(&mut hello)?;
    let [way, worker, _, _, block @ .., _, _, _, _] = hello;
    let block = u32::from_le_bytes(block) as usize;
    let megabytes = u32::from_le_bytes(*hello.last_chunk().context("no size")?);
    let piece = if block < PIECE as usize { PIECE as usize } else { block };
    let path = directory.join(format!("{worker}-{piece}"));
    let file = lay_out(&path, u64::from(megabytes) << 20, piece)?;
    stream.write_all(&[0])?;
    match way {
        0 => serve_reads(&mut stream, &file, block),
        1 => serve_by_sendfile(&mut stream, &file, block),
        2 => serve_writes(&mut stream, &file, block),
        _ => bail!("no such way"),
    }
}

/// A file of at least this size with data in every block, laid out as servers' files are.
fn lay_out(path: &Path, size: u64, piece: usize) -> Result<File> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::End(0))?;
    let data = vec![0xA5; piece];
    for _ in (length..size).step_by(piece) {
        file.write_all(&data)?;
    }
    Ok(file)
}

fn next_offset(stream: &mut TcpStream) -> Result<u64> {
    let mut request = [0; REQUEST];
    stream.read_exact(&mut request)?;
    Ok(u64::from_le_bytes(*request[OFFSET..].first_chunk().context("a request too short")?))
}

/// Bytes to be left out at the start of a buffer so that what is `front` bytes behind lies where the kernel copies fastest.
fn misfit(buffer: &[u8], front: usize) -> usize {
    let place = buffer.as_ptr().addr() + front;
    place.next_multiple_of(ALIGNMENT) - place
}

fn serve_reads(stream: &mut TcpStream, file: &File, block: usize) -> Result<()> {
    let mut buffer = vec![0; REPLY + block + ALIGNMENT];
    let start = misfit(&buffer, REPLY);
    let reply = &mut buffer[start..start + REPLY + block];
    loop {
        let offset = next_offset(stream)?;
        ensure!(pread(file, &mut reply[REPLY..], offset)? == block, "a short read");
        stream.write_all(reply)?;
    }
}

fn serve_by_sendfile(stream: &mut TcpStream, file: &File, block: usize) -> Result<()> {
    loop {
        let mut offset = next_offset(stream)?;
        ensure!(send(&*stream, &[0; REPLY], SendFlags::MORE)? == REPLY, "a short send");
        let end = offset + block as u64;
        while offset < end {
            let rest = usize::try_from(end - offset)?;
            ensure!(sendfile(&*stream, file, Some(&mut offset), rest)? > 0, "a short file");
        }
    }
}

fn serve_writes(stream: &mut TcpStream, file: &File, block: usize) -> Result<()> {
    let mut buffer = vec![0; block + ALIGNMENT];
    let start = misfit(&buffer, 0);
    let data = &mut buffer[start..start + block];
    loop {
        let offset = next_offset(stream)?;
        stream.read_exact(data)?;
        ensure!(pwrite(file, &*data, offset)? == block, "a short write");
        stream.write_all(&[0; REPLY])?;
    }
}

/// Processor seconds that protecting one block takes, with the provider that the server uses.
pub(super) fn cipher_time(protection: Protection, block: u32) -> Result<f64> {
    let mut data = vec![0x5A; block as usize];
    let signer = Fast.signer(SigningAlgorithm::AesGmac, &[7; 16]);
    let cipher = Fast.cipher(CipherAlgorithm::Aes128Gcm, &[7; 16]).ok().context("a cipher")?;
    let mut rounds = 0_u32;
    let begun = thread_time();
    while thread_time() - begun < CIPHER_TIME {
        for _ in 0..(1 << 20) / block.max(1) {
            match protection {
                Protection::Plain => return Ok(0.0),
                Protection::Signed => {
                    std::hint::black_box(signer.sign(&[1; 12], &[std::hint::black_box(&data)]));
                }
                Protection::Encrypted => {
                    std::hint::black_box(cipher.seal(&[1; 16], &[2; 32], &mut data));
                }
            }
            rounds += 1;
        }
    }
    Ok((thread_time() - begun).as_secs_f64() / f64::from(rounds))
}

fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_go_there_and_back() {
        let directory = TempDir::new().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::scope(|scope| {
            for way in [Way::Write, Way::Read, Way::Sendfile] {
                let path = directory.path();
                let listener = &listener;
                scope.spawn(move || drop(serve_one(listener.accept().unwrap().0, path)));
                let (block, size) = (4096, 1 << 20);
                let pattern = Pattern { way, block, size, in_order: false, connections: 1, depth: 4 };
                // A gate that is closed already lets the first requests through.
                let gate = Gate::closed();
                exchange(address, pattern, 0, &gate).unwrap();
            }
        });
        assert_eq!(directory.path().join("0-65536").metadata().unwrap().len(), 1 << 20);
        let written = std::fs::read(directory.path().join("0-65536")).unwrap();
        assert!(written.contains(&0x5A) && written.contains(&0xA5));
    }

    #[test]
    fn protection_takes_time() {
        assert_eq!(cipher_time(Protection::Plain, 4096).unwrap(), 0.0);
        assert!(cipher_time(Protection::Signed, 4096).unwrap() > 0.0);
        assert!(cipher_time(Protection::Encrypted, 4096).unwrap() > 0.0);
    }
}
