//! FILE_NOTIFY_INFORMATION: what changed in a watched directory (MS-FSCC 2.7.1).

use bytes::Bytes;

use super::chain::{Chain, ChainWriter};
use crate::error::Malformed;
use crate::name::Name;
use crate::wire;

/// What happened; undefined values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Action(pub u32);

impl Action {
    /// The file appeared.
    pub const ADDED: Self = Self(1);
    /// The file went away.
    pub const REMOVED: Self = Self(2);
    /// Data or attributes changed.
    pub const MODIFIED: Self = Self(3);
    /// Renamed within the directory: the old name.
    pub const RENAMED_OLD_NAME: Self = Self(4);
    /// Renamed within the directory: the new name; directly follows the old one.
    pub const RENAMED_NEW_NAME: Self = Self(5);
    /// A named stream appeared.
    pub const ADDED_STREAM: Self = Self(6);
    /// A named stream went away.
    pub const REMOVED_STREAM: Self = Self(7);
    /// A named stream changed.
    pub const MODIFIED_STREAM: Self = Self(8);
    /// An object id went away with its file.
    pub const REMOVED_BY_DELETE: Self = Self(9);
    /// An object id could not be carried over to a new file.
    pub const ID_NOT_TUNNELLED: Self = Self(10);
    /// A file to which an object id was to be carried over already had one.
    pub const TUNNELLED_ID_COLLISION: Self = Self(11);
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// What happened.
    pub action: Action,
    /// To which file: its path below the watched directory.
    pub name: Name,
}

/// Size of an entry without its name.
const FIXED: usize = 12;

/// Writes changes one after the other into an output buffer of limited size.
#[derive(Debug)]
pub struct NotifyWriter {
    out: Vec<u8>,
    chain: ChainWriter,
}

impl NotifyWriter {
    /// A writer of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let out = Vec::new();
        let chain = ChainWriter::new(&out, limit, 4);
        Self { out, chain }
    }

    /// Appends a change; `false`, with nothing written, if it does not fit any more. A client that misses a
    /// change must be told to list the directory anew (`STATUS_NOTIFY_ENUM_DIR`).
    pub fn push(&mut self, action: Action, name: &[u16]) -> bool {
        let name_length = name.len().saturating_mul(2);
        if !self.chain.begin(&mut self.out, FIXED.saturating_add(name_length)) {
            return false;
        }
        self.out.extend_from_slice(&action.0.to_le_bytes());
        self.out.extend_from_slice(&wire::length_u32(name_length).to_le_bytes());
        wire::put_utf16(&mut self.out, name);
        true
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    /// The output buffer.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Reads the changes of an output buffer (the client's direction).
///
/// # Errors
/// [`Malformed`] when an entry or a name reaches past the next entry or the end.
pub fn parse(bytes: &Bytes) -> Result<Vec<Change>, Malformed> {
    Chain::new(bytes, FIXED, 4, "change notification")
        .map(|entry| {
            let entry = entry?;
            let action = super::u32_at(&entry, 4, "change notification")?;
            let name = super::counted_name(&entry, 8, "change notification: name")?;
            Ok(Change { action: Action(action), name })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let changes = vec![
            Change { action: Action::RENAMED_OLD_NAME, name: Name::from("a") },
            Change { action: Action::RENAMED_NEW_NAME, name: Name::from("dir\\bb") },
            Change { action: Action(99), name: Name::from("") },
        ];
        let bytes = super::super::tests::round_trip(
            &changes,
            |changes, out| {
                let mut writer = NotifyWriter::new(1000);
                assert!(changes.iter().all(|change| writer.push(change.action, change.name.units())));
                out.extend(writer.finish());
            },
            parse,
        );
        for length in 1..bytes.len() {
            assert!(parse(&bytes.slice(..length)).is_err());
        }
    }

    #[test]
    fn known_bytes_and_the_limit() {
        let mut writer = NotifyWriter::new(29);
        assert!(writer.is_empty());
        assert!(writer.push(Action::ADDED, &[0x61]));
        assert!(!writer.push(Action::REMOVED, &[0x62]));
        assert!(!writer.is_empty());
        assert_eq!(writer.finish(), [0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0x61, 0]);
        let mut writer = NotifyWriter::new(30);
        assert!(writer.push(Action::ADDED, &[0x61]) && writer.push(Action::REMOVED, &[0x62]));
        let bytes = writer.finish();
        assert_eq!((bytes.len(), bytes[0]), (30, 16));
    }
}
