//! The Namespace machine: names coming and going on a volume (R10, S40, S41).
//!
//! A name (directory number + folded component) is reserved while somebody makes, renames or replaces it. Whoever asks for
//! a reserved name waits and, when it is free again, is told to start again from the name: what it resolved before may no
//! longer be true. A directory whose delete is pending takes no new names.
//!
//! A directory's rename freezes the paths below it in every shard: opens below it wait until the rename is done, and the
//! rename is refused while something below is open. See `open::rename`.

use std::collections::{BTreeMap, BTreeSet};

use smb_proto::{Name, NtStatus};

use crate::file::Link;
use crate::ids::{FileNumber, VolumeId};
use crate::message::{Answer, Asker};
use crate::shard::{Shard, Turn};

/// The names of a volume that are on the move.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Namespace {
    /// Reserved names, with those who wait for them.
    reserved: BTreeMap<Link, Vec<Asker>>,
    /// Directories whose delete is pending.
    doomed: BTreeSet<FileNumber>,
}

/// What a volume's names are asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NamespaceAsk {
    /// Reserve a name. Granted; [`Answer::Again`] after somebody else's reservation ended; refused with DELETE_PENDING in a
    /// doomed directory.
    Reserve(Link),
    /// Give a reservation back. Not answered.
    Free(Link),
    /// The delete of a directory becomes pending: no name may come into it. Granted when no reservation is in it, else
    /// [`Answer::Again`] when one ended.
    Doom(FileNumber),
    /// The delete of a directory is no longer pending, or is done. Not answered.
    Spare(FileNumber),
}

impl Namespace {
    fn is_idle(&self) -> bool {
        self.reserved.is_empty() && self.doomed.is_empty()
    }

    /// Reservations and doomed directories.
    pub(crate) fn holdings(&self) -> (usize, usize) {
        (self.reserved.len(), self.doomed.len())
    }

    fn in_directory(&self, directory: FileNumber) -> Option<Link> {
        let first = Link { parent: directory, name: Name::default() };
        self.reserved
            .range(first..)
            .next()
            .map(|(link, _)| link)
            .filter(|link| link.parent == directory)
            .cloned()
    }
}

impl Shard {
    /// A volume's names are asked.
    pub(crate) fn on_ask_namespace(
        &mut self,
        volume: VolumeId,
        ask: NamespaceAsk,
        asker: Asker,
        turn: &mut Turn<'_>,
    ) {
        let namespace = self.namespaces.entry(volume).or_default();
        match ask {
            NamespaceAsk::Reserve(link) => {
                if namespace.doomed.contains(&link.parent) {
                    turn.answer(asker, Answer::Refused(NtStatus::DELETE_PENDING));
                } else if let Some(waiting) = namespace.reserved.get_mut(&link) {
                    waiting.push(asker);
                } else {
                    namespace.reserved.insert(link, Vec::new());
                    turn.answer(asker, Answer::Granted);
                }
            }
            NamespaceAsk::Free(link) => {
                let waiting = namespace.reserved.remove(&link).unwrap_or_default();
                waiting.into_iter().for_each(|asker| turn.answer(asker, Answer::Again));
            }
            NamespaceAsk::Doom(directory) => match namespace.in_directory(directory) {
                Some(link) => {
                    if let Some(waiting) = namespace.reserved.get_mut(&link) {
                        waiting.push(asker);
                    }
                }
                None => {
                    namespace.doomed.insert(directory);
                    turn.answer(asker, Answer::Granted);
                }
            },
            NamespaceAsk::Spare(directory) => {
                namespace.doomed.remove(&directory);
            }
        }
        if namespace.is_idle() {
            self.namespaces.remove(&volume);
        }
    }
}
