//! Cuts the byte stream of a connection into frames (MS-SMB2 2.1).
//!
//! Memory follows what really arrived: a peer that announces a large frame and sends nothing costs nothing, except on
//! an authenticated connection, whose frames are allocated whole.

use bytes::{Buf, BytesMut};
use smb_proto::frame::{PREFIX_SIZE, length};
use smb_proto::{Malformed, header, transform};

use crate::room::room_for;

/// First allocation of a frame that is not trusted to arrive.
const FIRST: usize = 4096;

/// Bytes of a WRITE in front of its data (MS-SMB2 2.2.21).
const WRITE_FIXED: usize = 48;
/// First byte of an encrypted message (MS-SMB2 2.2.41).
const TRANSFORM: u8 = 0xFD;

/// The frame that is arriving.
#[derive(Default)]
pub struct Framer {
    prefix: [u8; PREFIX_SIZE],
    prefix_len: usize,
    body: Option<Body>,
}

struct Body {
    bytes: BytesMut,
    length: usize,
}

/// What a frame may cost.
#[derive(Clone, Copy)]
pub struct Allowance {
    /// Bytes of the next frame.
    pub frame_max: usize,
    /// Allocate the whole frame when its length is known.
    pub whole: bool,
}

impl Framer {
    /// Takes bytes off the front of `input` until a frame is complete or nothing is left.
    ///
    /// # Errors
    /// [`Malformed`] when the prefix makes no sense or announces too much; the stream can't be read any further.
    pub fn push(&mut self, input: &mut &[u8], allowance: Allowance) -> Result<Option<BytesMut>, Malformed> {
        if self.body.is_none() {
            let part = (PREFIX_SIZE - self.prefix_len).min(input.len());
            self.prefix[self.prefix_len..self.prefix_len + part].copy_from_slice(&input[..part]);
            self.prefix_len += part;
            input.advance(part);
            if self.prefix_len < PREFIX_SIZE {
                return Ok(None);
            }
            let length = length(self.prefix, allowance.frame_max)?;
            self.prefix_len = 0;
            let bytes = match allowance.whole {
                true => room_for(length, data_at(input)),
                false => BytesMut::with_capacity(length.min(input.len().max(FIRST))),
            };
            self.body = Some(Body { bytes, length });
        }
        if let Some(body) = &mut self.body {
            let part = (body.length - body.bytes.len()).min(input.len());
            body.make_room(part);
            body.bytes.extend_from_slice(&input[..part]);
            input.advance(part);
        }
        Ok(self.complete())
    }

    /// Where the rest of a large frame can be read to directly, and how many bytes of it.
    pub fn direct(&mut self, worthwhile: usize) -> Option<(&mut BytesMut, usize)> {
        let body = self.body.as_mut()?;
        let missing = body.length - body.bytes.len();
        if missing < worthwhile {
            return None;
        }
        body.make_room(1);
        let room = body.bytes.capacity() - body.bytes.len();
        Some((&mut body.bytes, missing.min(room)))
    }

    /// The frame, if it is complete.
    pub fn complete(&mut self) -> Option<BytesMut> {
        self.body.take_if(|body| body.bytes.len() == body.length).map(|body| body.bytes)
    }

    /// Whether a frame has begun to arrive.
    pub(crate) fn in_frame(&self) -> bool {
        self.prefix_len > 0 || self.body.is_some()
    }

    /// Bytes of memory held.
    pub fn held(&self) -> usize {
        self.body.as_ref().map_or(0, |body| body.bytes.capacity())
    }
}

impl Body {
    /// Room for `part` more bytes, at least doubling, at most to the frame's end.
    fn make_room(&mut self, part: usize) {
        let room = self.bytes.capacity() - self.bytes.len();
        if room < part {
            let missing = self.length - self.bytes.len();
            self.bytes.reserve(missing.min(part.max(self.bytes.len()).max(FIRST)));
        }
    }
}

/// Where in a frame that begins so the data of a WRITE is, if the client puts it right behind the request as all known ones
/// do.
fn data_at(start: &[u8]) -> usize {
    let transform = if start.first() == Some(&TRANSFORM) { transform::SIZE } else { 0 };
    transform + header::SIZE + WRITE_FIXED
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUSTED: Allowance = Allowance { frame_max: 100_000, whole: true };
    const STRANGER: Allowance = Allowance { frame_max: 100_000, whole: false };

    fn stream(frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend_from_slice(&smb_proto::frame::prefix(frame.len()).unwrap());
            bytes.extend_from_slice(frame);
        }
        bytes
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let long = vec![7; 20_000];
        let frames: [&[u8]; 4] = [b"first", b"", &long, b"last"];
        let bytes = stream(&frames);
        for allowance in [TRUSTED, STRANGER] {
            for step in [1, 2, 3, 4, 5, 9, 1000, bytes.len()] {
                let mut framer = Framer::default();
                let mut out = Vec::new();
                for mut chunk in bytes.chunks(step) {
                    while !chunk.is_empty() {
                        if let Some(frame) = framer.push(&mut chunk, allowance).unwrap() {
                            out.push(frame);
                        }
                    }
                }
                assert_eq!(out, frames, "cut every {step} bytes");
                assert_eq!(framer.held(), 0);
                assert!(!framer.in_frame());
            }
        }
    }

    #[test]
    fn a_frame_has_begun_with_its_first_byte() {
        let mut framer = Framer::default();
        for byte in [0, 0, 0, 2, 9] {
            framer.push(&mut &[byte][..], TRUSTED).unwrap();
            assert!(framer.in_frame());
        }
        assert!(framer.push(&mut &[9][..], TRUSTED).unwrap().is_some());
        assert!(!framer.in_frame());
    }

    #[test]
    fn too_long_a_frame_is_refused_before_anything_is_allocated() {
        let mut framer = Framer::default();
        assert!(framer.push(&mut &[0, 1, 0x86, 0xA1][..], TRUSTED).is_err());
        assert_eq!(framer.held(), 0);
        assert!(Framer::default().push(&mut &[0x85, 0, 0, 0][..], TRUSTED).is_err(), "not a session message");
    }

    #[test]
    fn a_stranger_holds_no_more_than_twice_what_it_sent() {
        let mut framer = Framer::default();
        framer.push(&mut &[0, 1, 0x86, 0xA0][..], STRANGER).unwrap();
        assert!(framer.held() <= FIRST);
        for sent in 1..=50_000 {
            framer.push(&mut &[1][..], STRANGER).unwrap();
            assert!(framer.held() <= (2 * sent).max(2 * FIRST), "{} bytes held after {sent}", framer.held());
        }
    }

    #[test]
    fn the_rest_of_a_large_frame_can_be_read_directly() {
        let mut framer = Framer::default();
        framer.push(&mut &[0, 0, 0x80, 0, 1, 2, 3][..], TRUSTED).unwrap();
        let (bytes, room) = framer.direct(4096).unwrap();
        assert_eq!(room, 0x8000 - 3);
        bytes.resize(0x8000, 9);
        let frame = framer.complete().unwrap();
        assert_eq!((frame.len(), &frame[..4]), (0x8000, &[1, 2, 3, 9][..]));
        framer.push(&mut &[0, 0, 0, 8][..], TRUSTED).unwrap();
        assert!(framer.direct(4096).is_none(), "not worth a read of its own");
    }
}
