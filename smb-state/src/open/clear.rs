//! A directory that is about to be renamed is cleared of what is open below it only because a client caches the handle
//! (MS-FSA 2.1.4.2).
//!
//! Clients keep files and directories open under batch oplocks and handle leases long after their applications closed them, and a
//! preserved open is kept by the server. Whoever renames a directory above has those broken, one file after the other, and waits
//! for each with nothing frozen (R10). What is open after that is in use: the rename is refused.

use smb_proto::{Name, NtStatus};

use super::State;
use super::rename::{Renaming, Stage, is_below};
use crate::file::FileAsk;
use crate::ids::{FileKey, VolumeId};
use crate::message::{Address, Message};
use crate::shard::{Shard, Turn, Wait};

/// Files that one shard names; with more than these in the way the rename is refused.
const OBSTACLES_MAX: usize = 256;

impl Shard {
    /// Files that have opens below a directory. One that is being closed is in nobody's way: drivers go by its handle, not its path.
    pub(super) fn obstacles(&self, volume: VolumeId, path: &Name) -> Vec<FileKey> {
        let below = self
            .opens
            .values()
            .filter(|open| !(matches!(open.state, State::Closing(_)) && open.outstanding.is_empty()))
            .filter(|open| open.volume() == volume && is_below(open.path.units(), path.units()))
            .map(|open| open.file);
        let mut files: Vec<FileKey> = below.take(OBSTACLES_MAX).collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// A shard has opens below the directory. Each shard is cleared once.
    pub(super) fn on_obstructed(
        &mut self,
        mut renaming: Box<Renaming>,
        files: &[FileKey],
        turn: &mut Turn<'_>,
    ) {
        if !renaming.cleared.insert(renaming.frozen) {
            return self.end_rename(renaming, NtStatus::ACCESS_DENIED, turn);
        }
        self.thaw(&mut renaming, None, turn);
        renaming.obstacles = files.to_vec();
        self.clear_next(renaming, turn);
    }

    /// Breaks what is cached of the next file.
    pub(super) fn clear_next(&mut self, mut renaming: Box<Renaming>, turn: &mut Turn<'_>) {
        let Some(file) = renaming.obstacles.last().copied() else {
            renaming.stage = Stage::AskingSource;
            return self.ask_source(renaming, turn);
        };
        renaming.stage = Stage::Clearing;
        let (id, origin) = (renaming.open, renaming.origin);
        let asker = self.wait(Wait::Rename(renaming));
        let ask = FileAsk::Clear { behind: origin.behind() };
        turn.post(Address::File(file), Message::AskFile(ask, asker));
        if self.opens.get(&id).is_some_and(super::Open::is_closing) {
            let ask = FileAsk::Withdraw { behind: origin.behind(), status: NtStatus::CANCELLED };
            turn.post(Address::File(file), Message::AskFile(ask, self.nobody()));
        }
    }
}
