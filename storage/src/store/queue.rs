//! Changes that wait for the flusher.

use std::collections::BTreeMap;

use super::{Change, Done};

/// What the next batch makes durable, and whom it answers.
#[derive(Default)]
pub(super) struct Batch {
    /// The last change of each key, in the order in which those were handed over.
    pub(super) changes: Vec<Change>,
    /// In the order in which they came.
    pub(super) waiting: Vec<Done>,
}

/// Changes, of which a later one of the same key takes the place of an earlier one.
pub(super) struct Queue {
    changes: Vec<Option<Change>>,
    /// Where the change of a key is.
    places: BTreeMap<u64, usize>,
    waiting: Vec<Done>,
    /// Of the records in it.
    bytes: usize,
    bytes_max: usize,
    /// No more come.
    pub(super) closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("changes", &self.places.len())
            .field("waiting", &self.waiting.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            changes: Vec::new(),
            places: BTreeMap::new(),
            waiting: Vec::new(),
            bytes: 0,
            bytes_max,
            closed: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a change. Gives back whom to tell that there is no room for it; what waits already stays.
    pub(super) fn push(&mut self, change: Change, done: Done) -> Option<Done> {
        let (key, bytes) = match &change {
            Change::Put { key, value } => (*key, value.len()),
            Change::Delete { key } => (*key, 0),
        };
        let place = self.places.get(&key).copied();
        let before = place.and_then(|place| self.changes.get_mut(place));
        let freed = match before.as_deref() {
            Some(Some(Change::Put { value, .. })) => value.len(),
            _ => 0,
        };
        // A record alone always fits, and a deletion makes room.
        let after = self.bytes - freed + bytes;
        if bytes > 0 && after > self.bytes_max.max(bytes) {
            return Some(done);
        }
        self.bytes = after;
        if let Some(before) = before {
            *before = None;
        }
        self.places.insert(key, self.changes.len());
        self.changes.push(Some(change));
        self.waiting.push(done);
        None
    }

    /// All that waits.
    pub(super) fn take(&mut self) -> Batch {
        self.places.clear();
        self.bytes = 0;
        let changes = std::mem::take(&mut self.changes).into_iter().flatten().collect();
        Batch { changes, waiting: std::mem::take(&mut self.waiting) }
    }
}
