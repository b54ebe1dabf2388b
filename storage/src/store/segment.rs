//! A segment of the log: its frames, and how they are found again in a file that may be torn or damaged.
//!
//! ```text
//! segment  header frame, frames, zeros
//! frame    marker u64 | length u32 | CRC-32C u32 | sequence u64 | kind u8 | body       little-endian
//! ```
//! `length` counts what comes after the checksum; the checksum covers the segment's number, the length and that. A frame
//! therefore belongs to its segment, and the marker lets reading go on behind damage. Records hold what clients chose, which may
//! look like a frame: so each segment has a random marker of its own, which no client ever sees. It is in the file's name too, where no
//! damage of the file reaches it. Sequence numbers increase: what a write that failed left behind
//! does not count among the frames that were written over it.

use std::ops::Range;

/// Marker, length, checksum.
const PREFIX: usize = 16;
/// Sequence and kind.
const FIXED: usize = 9;
/// Key and value's length are checked against the frame.
const LENGTH_MAX: usize = super::VALUE_MAX + 64;
/// The version that this code writes. A reader refuses a newer one, and reads every older one; version 1 was never released.
pub(super) const VERSION: u16 = 2;

/// What a segment is known by, and its frames with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// Ascending in the order in which segments are begun.
    pub(super) number: u64,
    /// Random.
    pub(super) marker: u64,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    /// First in each segment: the version of the log, and the number of the start that wrote it.
    Header { version: u16, incarnation: u16 },
    /// A record.
    Put { key: u64, value: &'a [u8] },
    /// A record is gone.
    Delete { key: u64 },
    /// The segment up to here has every record that there is: what older segments say is void.
    Checkpoint,
}

/// Something in a segment that is no frame, though frames were expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment's number.
    pub segment: u64,
    /// The bytes.
    pub bytes: Range<u64>,
    /// Nothing that is whole comes after it in the last segment: a write that a crash cut short, which nobody was told to be
    /// done. What is not torn is lost to a disk's or an operator's doing.
    pub torn: bool,
}

/// Appends a frame.
pub(super) fn emit(segment: Name, sequence: u64, entry: &Entry<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&segment.marker.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&sequence.to_le_bytes());
    match entry {
        Entry::Header { version, incarnation } => {
            out.push(1);
            out.extend_from_slice(&version.to_le_bytes());
            out.extend_from_slice(&incarnation.to_le_bytes());
        }
        Entry::Put { key, value } => {
            out.push(2);
            out.extend_from_slice(&key.to_le_bytes());
            out.extend_from_slice(value);
        }
        Entry::Delete { key } => {
            out.push(3);
            out.extend_from_slice(&key.to_le_bytes());
        }
        Entry::Checkpoint => out.push(4),
    }
    let length = u32::try_from(out.len() - start - PREFIX).unwrap_or(u32::MAX);
    let sum = checksum(segment.number, length, &out[start + PREFIX..]);
    out[start + 8..start + 12].copy_from_slice(&length.to_le_bytes());
    out[start + 12..start + 16].copy_from_slice(&sum.to_le_bytes());
}

fn checksum(segment: u64, length: u32, body: &[u8]) -> u32 {
    let head = crc32c::crc32c(&segment.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(head, &length.to_le_bytes()), body)
}

/// Bytes of a frame.
pub(super) fn size(entry: &Entry<'_>) -> usize {
    PREFIX
        + FIXED
        + match entry {
            Entry::Header { .. } => 4,
            Entry::Put { value, .. } => 8 + value.len(),
            Entry::Delete { .. } => 8,
            Entry::Checkpoint => 0,
        }
}

/// What reading a segment found.
#[derive(Debug, Default)]
pub(super) struct Read<'a> {
    /// Frames that are whole, with their sequence numbers, in their order.
    pub(super) entries: Vec<(u64, Entry<'a>)>,
    /// What is no frame; the last one is torn if nothing whole comes after it.
    pub(super) damage: Vec<Damage>,
    /// What older segments say is void. A checkpoint's end alone does not say so: the disk may have it without what comes before.
    pub(super) voids_older: bool,
}

/// Reads a segment.
pub(super) fn read(segment: Name, bytes: &[u8]) -> Read<'_> {
    let mut read = Read::default();
    let (mut at, mut sequence) = (0, None);
    let mut unfinished = false;
    loop {
        if let Some((number, entry, end)) =
            frame(segment, bytes, at).filter(|found| follows(sequence, found.0))
        {
            // Something that was written after the checkpoint's end tells that the checkpoint had been flushed.
            read.voids_older |= unfinished;
            if entry == Entry::Checkpoint {
                unfinished = !read.is_whole_before(number);
                read.voids_older |= !unfinished;
            }
            read.entries.push((number, entry));
            (at, sequence) = (end, Some(number));
            continue;
        }
        let rest = &bytes[at..];
        let Some(last) = rest.iter().rposition(|byte| *byte != 0) else { break };
        let next = resume(segment, bytes, at, sequence);
        let end = next.unwrap_or(at + last + 1);
        let damage = Damage { segment: segment.number, bytes: at as u64..end as u64, torn: next.is_none() };
        read.damage.push(damage);
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    if unfinished && !read.voids_older {
        // A crash cut the checkpoint short: nobody was told anything of what is missing in it.
        read.damage.iter_mut().for_each(|damage| damage.torn = true);
    }
    read
}

impl Read<'_> {
    /// Whether all that was written before the frame of this number is there, from the header on.
    fn is_whole_before(&self, sequence: u64) -> bool {
        let Some((first, Entry::Header { .. })) = self.entries.first() else { return false };
        self.damage.is_empty() && sequence.checked_sub(*first) == u64::try_from(self.entries.len()).ok()
    }
}

/// Whether a frame of this number may come after the last one.
fn follows(last: Option<u64>, sequence: u64) -> bool {
    last.is_none_or(|last| sequence > last)
}

/// The next place behind `at` on where there is a frame. `last` is the number of the last one before.
fn resume(segment: Name, bytes: &[u8], at: usize, last: Option<u64>) -> Option<usize> {
    let marker = segment.marker.to_le_bytes();
    let places = bytes.get(at + 1..)?.windows(marker.len()).enumerate();
    let mut found = places.filter(|(_, window)| *window == marker).map(|(offset, _)| at + 1 + offset);
    found.find(|place| {
        let sequence = frame(segment, bytes, *place).map(|(sequence, ..)| sequence);
        sequence.is_some_and(|sequence| follows(last, sequence))
    })
}

/// The frame at a place: sequence, entry, and where it ends.
fn frame(segment: Name, bytes: &[u8], at: usize) -> Option<(u64, Entry<'_>, usize)> {
    let word = |offset: usize| Some(u32::from_le_bytes(*bytes.get(at + offset..)?.first_chunk()?));
    if *bytes.get(at..)?.first_chunk()? != segment.marker.to_le_bytes() {
        return None;
    }
    let length = word(8)?;
    let size = usize::try_from(length).ok().filter(|size| (FIXED..=LENGTH_MAX).contains(size))?;
    let end = at + PREFIX + size;
    let body = bytes.get(at + PREFIX..end)?;
    if checksum(segment.number, length, body) != word(12)? {
        return None;
    }
    let (sequence, rest) = body.split_first_chunk()?;
    let (kind, rest) = rest.split_first()?;
    let entry = match kind {
        1 => {
            let (version, rest) = rest.split_first_chunk()?;
            let incarnation = rest.first_chunk()?;
            Entry::Header {
                version: u16::from_le_bytes(*version),
                incarnation: u16::from_le_bytes(*incarnation),
            }
        }
        2 => {
            let (key, value) = rest.split_first_chunk()?;
            Entry::Put { key: u64::from_le_bytes(*key), value }
        }
        3 => Entry::Delete { key: u64::from_le_bytes(*rest.first_chunk()?) },
        4 => Entry::Checkpoint,
        _ => return None,
    };
    Some((u64::from_le_bytes(*sequence), entry, end))
}
