//! What the storm's files hold; `python/storm_client.py` knows the same.

use std::collections::BTreeSet;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::oracle::SLOTS;

/// Bytes of a log's slot, and of a counter's cell.
pub(super) const SLOT_SIZE: usize = 64;
/// Bytes of a log's generation.
pub(super) const SIZE: usize = SLOT_SIZE * SLOTS;

/// What a slot holds once its worker has written it.
pub(super) fn record(log: u32, generation: u32, slot: usize, worker: usize) -> Vec<u8> {
    let mut text = format!("log {log} {generation} slot {slot} by {worker} ");
    for byte in Sha256::digest(text.as_bytes()) {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.truncate(SLOT_SIZE - 1);
    text.push('\n');
    text.into_bytes()
}

/// A number or a value, in a cell.
pub(super) fn cell(value: &str) -> Vec<u8> {
    format!("{value:<SLOT_SIZE$}").into_bytes()
}

/// What a log was found to hold.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Slots with their record.
    pub(super) whole: BTreeSet<usize>,
    /// Slots with something else.
    pub(super) torn: Vec<usize>,
}

impl Slots {
    /// Reads a log's content; it may end early.
    pub(super) fn of(content: &[u8], log: u32, generation: u32, workers: usize) -> Slots {
        let mut slots = Slots::default();
        for (slot, found) in content.chunks(SLOT_SIZE).enumerate() {
            if found.iter().all(|byte| *byte == 0) {
                continue;
            }
            if found == record(log, generation, slot, slot % workers) {
                slots.whole.insert(slot);
            } else {
                slots.torn.push(slot);
            }
        }
        slots
    }

    /// As the oracle is told: bits in hexadecimal, then what is torn.
    pub(super) fn told(&self) -> String {
        let mut bytes = [0u8; SLOTS / 8];
        for slot in &self.whole {
            if let Some(byte) = bytes.get_mut(slot / 8) {
                *byte |= 1 << (slot % 8);
            }
        }
        let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        for slot in &self.torn {
            text.push_str(&format!(" {slot}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_told_from_rubbish() {
        let mut content = record(1, 2, 0, 0);
        assert_eq!(content.len(), SLOT_SIZE);
        content.extend([0; SLOT_SIZE]);
        content.extend(record(1, 2, 2, 2));
        content.extend(record(1, 2, 9, 0));
        let slots = Slots::of(&content, 1, 2, 3);
        assert_eq!((slots.whole, slots.torn), (BTreeSet::from([0, 2]), vec![3]));
        assert_eq!(cell("12").len(), SLOT_SIZE);
    }

    #[test]
    fn both_languages_write_the_same_record() {
        let expected = "log 0 3 slot 17 by 1 ";
        let bytes = record(0, 3, 17, 1);
        assert!(bytes.starts_with(expected.as_bytes()));
        assert!(bytes.ends_with(b"\n"));
    }
}
