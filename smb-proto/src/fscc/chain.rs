//! Lists whose entries say how far away the next one is (NextEntryOffset, throughout MS-FSCC).

use bytes::Bytes;

use crate::error::Malformed;
use crate::wire;

/// The entries of a chain. Each item is the bytes from the start of an entry up to the next one (or the end),
/// so that an entry that claims to reach further is refused where it is read. Ends after the first error.
///
/// Every step goes forward by at least `fixed` bytes, so a chain cannot be longer than its buffer.
pub(super) struct Chain {
    rest: Option<Bytes>,
    fixed: usize,
    alignment: usize,
    what: &'static str,
}

impl Chain {
    /// A chain over `bytes` with entries of at least `fixed` bytes. No bytes are no entries.
    pub(super) fn new(bytes: &Bytes, fixed: usize, alignment: usize, what: &'static str) -> Self {
        let rest = if bytes.is_empty() { None } else { Some(bytes.clone()) };
        Self { rest, fixed: fixed.max(4), alignment, what }
    }

    fn cut(&self, mut entry: Bytes) -> Result<(Bytes, Option<Bytes>), Malformed> {
        let wrong = Malformed(self.what);
        let (next, _) = entry.split_first_chunk::<4>().ok_or(wrong)?;
        let next = usize::try_from(u32::from_le_bytes(*next)).map_err(|_| wrong)?;
        if next == 0 {
            return if entry.len() < self.fixed { Err(wrong) } else { Ok((entry, None)) };
        }
        if next < self.fixed || next >= entry.len() || wire::padding(next, self.alignment) != 0 {
            return Err(wrong);
        }
        let rest = entry.split_off(next);
        Ok((entry, Some(rest)))
    }
}

impl Iterator for Chain {
    type Item = Result<Bytes, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.rest.take()?;
        match self.cut(entry) {
            Ok((entry, rest)) => {
                self.rest = rest;
                Some(Ok(entry))
            }
            Err(malformed) => Some(Err(malformed)),
        }
    }
}

/// Writes a chain within a limit of bytes. Each entry starts with four bytes that the chain fills in.
#[derive(Debug)]
pub(super) struct ChainWriter {
    start: usize,
    limit: usize,
    alignment: usize,
    last: Option<usize>,
}

impl ChainWriter {
    /// A chain that starts at the end of `out` and takes at most `limit` bytes.
    pub(super) fn new(out: &[u8], limit: usize, alignment: usize) -> Self {
        Self { start: out.len(), limit, alignment, last: None }
    }

    /// Whether nothing was written yet.
    pub(super) fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Makes room for an entry of `length` bytes (its first four included) and links it to the one before;
    /// `false`, with nothing changed, when it does not fit. The caller then appends the rest of the entry.
    pub(super) fn begin(&mut self, out: &mut Vec<u8>, length: usize) -> bool {
        let written = out.len().saturating_sub(self.start);
        let position = written.saturating_add(wire::padding(written, self.alignment));
        if position.saturating_add(length) > self.limit {
            return false;
        }
        wire::align(out, self.start, self.alignment);
        let entry = out.len();
        if let Some(last) = self.last {
            wire::patch_u32(out, last, wire::length_u32(entry.saturating_sub(last)));
        }
        self.last = Some(entry);
        out.reserve(length);
        out.extend_from_slice(&[0; 4]);
        true
    }
}
