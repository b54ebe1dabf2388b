//! Several messages in one frame (MS-SMB2 2.2.1 NextCommand, 3.2.4.1.4, 3.3.4.1.3, 3.3.5.2.7).

use std::ops::{Deref, Range};

use bytes::{Bytes, BytesMut};

use crate::error::Malformed;
use crate::header;
use crate::wire;

/// Each message of a compound but the first starts at a multiple of this, counted from the first.
const ALIGNMENT: usize = 8;
/// Where NextCommand stands in the header.
const NEXT_COMMAND: usize = 20;

/// The messages of `frame` in their order, each with its header and with the padding behind it (signatures cover the
/// padding), sharing the frame's storage. A frame of one message is a compound of one.
///
/// The iterator ends after the first error: nothing says where a next message would be.
#[must_use]
pub fn split(frame: &Bytes) -> Split<Bytes> {
    Split { rest: Some(frame.clone()) }
}

/// [`split`] of a frame that nobody else holds: its messages can be written to.
#[must_use]
pub fn split_mut(frame: BytesMut) -> Split<BytesMut> {
    Split { rest: Some(frame) }
}

/// What [`split`] and [`split_mut`] return.
#[derive(Clone, Debug)]
pub struct Split<B> {
    rest: Option<B>,
}

impl<B: Deref<Target = [u8]>> Split<B> {
    /// Cuts the first message off what is left, if there is anything.
    fn cut(&mut self, split_to: impl FnOnce(&mut B, usize) -> B) -> Option<Result<B, Malformed>> {
        let mut rest = self.rest.take()?;
        match next_command(&rest) {
            Ok(None) => Some(Ok(rest)),
            Ok(Some(next)) => {
                let message = split_to(&mut rest, next);
                self.rest = Some(rest);
                Some(Ok(message))
            }
            Err(malformed) => Some(Err(malformed)),
        }
    }
}

/// Where the message after the one at the start of `bytes` begins, if there is one.
fn next_command(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    if bytes.len() < header::SIZE {
        return Err(Malformed("compound: no room for a header"));
    }
    let next = bytes
        .get(NEXT_COMMAND..)
        .and_then(|tail| tail.first_chunk::<4>())
        .map(|next| u32::from_le_bytes(*next))
        .ok_or(Malformed("compound: no room for a header"))?;
    if next == 0 {
        return Ok(None);
    }
    let next = usize::try_from(next).map_err(|_| Malformed("compound: NextCommand"))?;
    if next < header::SIZE || !next.is_multiple_of(ALIGNMENT) || next >= bytes.len() {
        return Err(Malformed("compound: NextCommand"));
    }
    Ok(Some(next))
}

impl Iterator for Split<Bytes> {
    type Item = Result<Bytes, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cut(Bytes::split_to)
    }
}

impl Iterator for Split<BytesMut> {
    type Item = Result<BytesMut, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cut(BytesMut::split_to)
    }
}

impl std::iter::FusedIterator for Split<Bytes> {}
impl std::iter::FusedIterator for Split<BytesMut> {}

/// Joins messages to a compound. Sign the parts after [`Builder::finish`], not before: signatures cover NextCommand
/// and the padding.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Builder {
    /// An empty compound.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a message (header and body); pads its predecessor and sets the predecessor's NextCommand. The
    /// message's own NextCommand is to be zero.
    pub fn push(&mut self, message: &[u8]) {
        debug_assert!(message.len() >= header::SIZE, "a message without a header");
        if let Some(&previous) = self.starts.last() {
            wire::align(&mut self.bytes, 0, ALIGNMENT);
            let next = self.bytes.len().saturating_sub(previous);
            wire::patch_u32(&mut self.bytes, previous.saturating_add(NEXT_COMMAND), wire::length_u32(next));
        }
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(message);
    }

    /// Number of bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no message was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The bytes of the compound, and where in them each message stands, padding included. The last message of several
    /// is padded too, as Windows does and clients have come to expect.
    #[must_use]
    pub fn finish(mut self) -> (Vec<u8>, Vec<Range<usize>>) {
        if self.starts.len() > 1 {
            wire::align(&mut self.bytes, 0, ALIGNMENT);
        }
        let ends = self.starts.iter().skip(1).copied().chain(std::iter::once(self.bytes.len()));
        let parts = self.starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect();
        (self.bytes, parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &[u8]) -> Vec<u8> {
        let mut message = vec![0; header::SIZE];
        message[..4].copy_from_slice(&header::PROTOCOL_ID);
        message.extend_from_slice(body);
        message
    }

    fn joined(bodies: &[&[u8]]) -> (Vec<u8>, Vec<Range<usize>>) {
        let mut builder = Builder::new();
        for body in bodies {
            builder.push(&message(body));
        }
        builder.finish()
    }

    #[test]
    fn joins_and_splits() {
        let (bytes, parts) = joined(&[b"abc", b"", b"12345678", b"x"]);
        assert_eq!(parts, [0..72, 72..136, 136..208, 208..280]);
        let frame = Bytes::from(bytes.clone());
        let messages: Result<Vec<_>, _> = split(&frame).collect();
        let messages = messages.unwrap();
        assert_eq!(messages.len(), 4);
        for (message, part) in messages.iter().zip(parts) {
            assert_eq!(message[..], bytes[part]);
        }
        assert_eq!(messages[0][64..], *b"abc\0\0\0\0\0");
        assert_eq!(messages[3][20..24], [0; 4]);
        let writable: Result<Vec<_>, _> = split_mut(BytesMut::from(&bytes[..])).collect();
        assert_eq!(writable.unwrap(), messages);
    }

    #[test]
    fn one_message_is_left_as_it_is() {
        let (bytes, parts) = joined(&[b"abc"]);
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0], 0..67);
        assert_eq!(bytes, message(b"abc"));
        assert_eq!(split(&bytes.clone().into()).collect::<Vec<_>>(), [Ok(Bytes::from(bytes))]);
    }

    #[test]
    fn bad_next_commands_end_the_iteration() {
        let (good, _) = joined(&[b"", b"", b""]);
        // Backwards into the header, unaligned, at the end, beyond it, and as far as the field goes.
        for next in [8, 63, 65, 68, 192, 200, u32::MAX] {
            let mut bytes = good.clone();
            bytes[64 + 20..64 + 24].copy_from_slice(&next.to_le_bytes());
            let messages: Vec<_> = split(&bytes.into()).collect();
            assert_eq!(messages.len(), 2, "NextCommand {next}");
            assert!(messages[0].is_ok());
            assert!(messages[1].is_err());
        }
    }

    #[test]
    fn truncations_are_answered() {
        let (bytes, _) = joined(&[b"abc", b"defg"]);
        let frame = Bytes::from(bytes);
        for length in 0..frame.len() {
            let messages: Vec<_> = split(&frame.slice(..length)).collect();
            // Behind the last header stands a body, whose length is not the compound's business.
            assert_eq!(messages.iter().all(Result::is_ok), length >= 72 + header::SIZE, "{length} bytes");
        }
    }
}
