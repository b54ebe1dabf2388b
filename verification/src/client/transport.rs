//! Frames over a blocking TCP socket (MS-SMB2 2.1). Requests are gathered until something is awaited, and whatever has
//! arrived is taken with one call, so that a deep queue costs few system calls.

use std::io::{self, IoSlice, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use smb_proto::frame;

use super::error::Result;

/// Bytes taken from the socket at once, unless a longer frame is under way.
const INCOMING_SIZE: usize = 128 << 10;
/// Bytes gathered before they are sent without being asked for; longer pieces are never gathered.
const OUTGOING_SIZE: usize = 64 << 10;

/// A connection's bytes, cut into frames.
#[derive(Debug)]
pub struct Transport {
    stream: TcpStream,
    /// What was received: the part from `start` on is still to be read.
    incoming: Vec<u8>,
    start: usize,
    outgoing: Vec<u8>,
    /// Bytes that one system call moves at most.
    piece: usize,
}

impl Transport {
    /// Connects. `limit` bounds connecting, and every wait for the server after it; no system call moves more than `piece`
    /// bytes, if that is given.
    ///
    /// # Errors
    /// The connection is refused or takes too long.
    pub fn connect(address: SocketAddr, limit: Duration, piece: Option<usize>) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        let piece = piece.unwrap_or(usize::MAX);
        let incoming = Vec::with_capacity(INCOMING_SIZE.min(piece));
        Ok(Self { stream, incoming, start: 0, outgoing: Vec::new(), piece })
    }

    /// The socket, for tests that misuse it. What was queued is not yet in it.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Queues one frame that consists of `parts`. Long ones are sent at once, from where they lie.
    ///
    /// # Errors
    /// The frame is longer than a prefix can say, or sending fails.
    pub fn queue(&mut self, parts: &[&[u8]]) -> Result<()> {
        let length = parts.iter().map(|part| part.len()).sum();
        self.outgoing.extend_from_slice(&frame::prefix(length)?);
        if self.outgoing.len() + length <= OUTGOING_SIZE {
            for part in parts {
                self.outgoing.extend_from_slice(part);
            }
            return Ok(());
        }
        let mut slices: Vec<_> = std::iter::once(self.outgoing.as_slice())
            .chain(parts.iter().copied())
            .map(IoSlice::new)
            .collect();
        let sent = match self.piece {
            usize::MAX => write_all_vectored(&mut self.stream, &mut slices),
            piece => write_in_pieces(&mut self.stream, &slices, piece),
        };
        self.outgoing.clear();
        Ok(sent?)
    }

    /// Sends what was queued.
    ///
    /// # Errors
    /// Sending fails.
    pub fn flush(&mut self) -> Result<()> {
        if !self.outgoing.is_empty() {
            self.stream.write_all(&self.outgoing)?;
            self.outgoing.clear();
        }
        Ok(())
    }

    /// The next frame's payload; sends what was queued before it waits.
    ///
    /// # Errors
    /// The connection ended, waiting took too long, or the prefix is not one.
    pub fn receive(&mut self) -> Result<Vec<u8>> {
        while self.received() < frame::PREFIX_SIZE {
            self.flush()?;
            self.fill()?;
        }
        let mut prefix = [0; frame::PREFIX_SIZE];
        prefix.copy_from_slice(&self.incoming[self.start..self.start + frame::PREFIX_SIZE]);
        self.start += frame::PREFIX_SIZE;
        let length = frame::length(prefix, frame::LENGTH_MAX)?;
        let mut payload = Vec::with_capacity(length);
        self.take(&mut payload, length);
        while payload.len() < length {
            self.flush()?;
            if length - payload.len() < INCOMING_SIZE || self.piece < INCOMING_SIZE {
                self.fill()?;
                self.take(&mut payload, length);
            } else {
                self.read_into(&mut payload, length)?;
            }
        }
        Ok(payload)
    }

    fn received(&self) -> usize {
        self.incoming.len() - self.start
    }

    /// Moves what was received to `payload`, which is to become `length` long.
    fn take(&mut self, payload: &mut Vec<u8>, length: usize) {
        let end = self.incoming.len().min(self.start + length - payload.len());
        payload.extend_from_slice(&self.incoming[self.start..end]);
        self.start = end;
    }

    /// Reads once into the buffer.
    fn fill(&mut self) -> Result<()> {
        self.incoming.drain(..self.start);
        self.start = 0;
        self.incoming.reserve(INCOMING_SIZE.min(self.piece) / 2);
        read_once(&self.stream, &mut self.incoming)
    }

    /// Reads once into `payload`, which is to become `length` long, past the buffer (which is empty).
    fn read_into(&mut self, payload: &mut Vec<u8>, length: usize) -> Result<()> {
        read_once(&self.stream, payload)?;
        // An allocation may be larger than asked for; what is behind the frame belongs to the next one.
        if payload.len() > length {
            self.incoming.clear();
            self.start = 0;
            self.incoming.extend_from_slice(&payload[length..]);
            payload.truncate(length);
        }
        Ok(())
    }
}

/// Appends what one read returns; the end of the connection is an error.
fn read_once(stream: &TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    let count = rustix::io::retry_on_intr(|| rustix::io::read(stream, spare_capacity(buffer)))
        .map_err(io::Error::from)?;
    if count == 0 { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) } else { Ok(()) }
}

fn write_in_pieces(stream: &mut TcpStream, slices: &[IoSlice<'_>], piece: usize) -> io::Result<()> {
    slices.iter().flat_map(|slice| slice.chunks(piece)).try_for_each(|part| stream.write_all(part))
}

fn write_all_vectored(stream: &mut TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match stream.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn pair(piece: Option<usize>) -> (Transport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Transport::connect(listener.local_addr().unwrap(), LIMIT, piece).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn frames_of_every_size_arrive_whole() {
        for piece in [None, Some(1 << 16)] {
            echo_frames(piece);
        }
    }

    fn echo_frames(piece: Option<usize>) {
        let (mut client, mut server) = pair(piece);
        let sizes = [0, 1, 63, 5000, INCOMING_SIZE - 4, INCOMING_SIZE, 3 * INCOMING_SIZE + 17, 2, 1 << 20];
        let echo = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            for size in sizes {
                bytes.resize(4 + size, 0);
                server.read_exact(&mut bytes).unwrap();
                assert_eq!(bytes[..4], frame::prefix(size).unwrap());
                server.write_all(&bytes).unwrap();
            }
        });
        let content = |size: usize| (0..size).map(|i| (i * 7 % 251) as u8).collect::<Vec<_>>();
        // The largest are queued one at a time: nobody reads the echo meanwhile.
        for group in [&sizes[..5], &sizes[5..6], &sizes[6..7], &sizes[7..]] {
            for size in group {
                let content = content(*size);
                let (head, tail) = content.split_at(size / 3);
                client.queue(&[head, tail]).unwrap();
            }
            for size in group {
                assert_eq!(client.receive().unwrap(), content(*size), "{size} bytes");
            }
        }
        echo.join().unwrap();
        assert!(client.receive().is_err());
    }

    #[test]
    fn foreign_prefixes_are_refused() {
        let (mut client, mut server) = pair(None);
        server.write_all(&[1, 0, 0, 0]).unwrap();
        assert!(matches!(client.receive(), Err(super::super::Error::Malformed(_))));
    }
}
