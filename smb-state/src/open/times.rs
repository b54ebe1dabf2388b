//! Times of a file as Windows keeps them (MS-FSA 2.1.4.17, 2.1.4.18, 2.1.5.15.2; MS-FSCC 2.4.7).
//!
//! A time that is set through an open, or frozen by -1, stays as it is whatever that open does later, until -2 gives it free.
//! The driver is told with the change and does the keeping, so nothing is added to what a write asks of storage.
//!
//! Writes are told of late (MS-FSA 2.1.4.17, footnote on deferring): the first write through an open starts a timer, and
//! until it runs out everybody may be told the last write time of before. What is written after that shows with a flush,
//! with a change of the file's times or size, or when the open closes, and then it is the close that sets the time. How the
//! driver tells late is the driver's; it is one state per file there, so all opens see the same whatever their shards.

use smb_proto::attributes::FileAttributes;
use smb_proto::fscc::file_info::BasicInformation;
use smb_proto::{FileTime, NtStatus};

use super::channel_sequence::Ticket;
use super::{Open, State};
use crate::ids::{ConnectionId, OpenId};
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Kept, Kind, Requester, SetAttributes, StorageOp};
use crate::timer::Timer;

/// How long a first write need not show.
const WRITE_TIME_DELAY_MS: u64 = 2_000;
/// Attributes that a directory can't be given.
const NOT_FOR_DIRECTORIES: FileAttributes = FileAttributes::TEMPORARY;
const FREEZE: u64 = u64::MAX;
const THAW: u64 = u64::MAX - 1;

/// What an open knows of its file's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Times {
    /// Times that it keeps.
    kept: Kept,
    written: Written,
}

/// How much of what an open wrote is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
enum Written {
    /// It wrote nothing.
    #[default]
    Nothing,
    /// The delay since the first write runs.
    Lately,
    /// Everything is told.
    Told,
    /// It wrote once more after the delay.
    Again,
}

impl Open {
    /// Takes a FileBasicInformation: what storage is to change, and which times are kept from now on.
    pub(crate) fn change_basic(&mut self, basic: &BasicInformation) -> Result<SetAttributes, NtStatus> {
        let attributes = basic.attributes;
        let is_directory = self.kind == Kind::Directory;
        if attributes.contains(FileAttributes::DIRECTORY) && !is_directory {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if attributes.intersects(NOT_FOR_DIRECTORIES) && is_directory {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let mut kept = self.times.kept;
        let set = SetAttributes {
            // Nothing moves a creation time by itself, so there is nothing to keep.
            creation: take(basic.creation_time, &mut false)?,
            last_access: take(basic.last_access_time, &mut kept.access)?,
            last_write: take(basic.last_write_time, &mut kept.write)?,
            change: take(basic.change_time, &mut kept.change)?,
            dos: (!attributes.is_empty()).then_some(attributes),
            kept,
        };
        self.times.kept = kept;
        self.writes_are_told();
        Ok(set)
    }

    /// What was written becomes visible by what the open does now.
    pub(crate) fn writes_are_told(&mut self) {
        if self.times.written == Written::Again {
            self.times.written = Written::Told;
        }
    }

    /// What to ask storage so that nothing that the open wrote is left to be told.
    pub(crate) fn late_words(&mut self) -> Option<StorageOp> {
        let handle = self.handle;
        match std::mem::replace(&mut self.times.written, Written::Told) {
            Written::Again => Some(StorageOp::SettleTimes { handle, now: true }),
            Written::Lately => Some(StorageOp::SettleTimes { handle, now: false }),
            Written::Nothing => {
                self.times.written = Written::Nothing;
                None
            }
            Written::Told => None,
        }
    }

    /// What a close asks storage first, if anything: for the attributes of its answer, and to set the time of late writes.
    pub(crate) fn last_words(&self, wants_attributes: bool) -> Option<StorageOp> {
        let handle = self.handle;
        match self.times.written {
            Written::Again => Some(StorageOp::SettleTimes { handle, now: true }),
            Written::Lately if wants_attributes => Some(StorageOp::SettleTimes { handle, now: false }),
            Written::Nothing | Written::Told if wants_attributes => Some(StorageOp::Attributes { handle }),
            Written::Nothing | Written::Told | Written::Lately => None,
        }
    }
}

/// The time to set, if any; and whether it is kept from now on.
fn take(time: FileTime, kept: &mut bool) -> Result<Option<FileTime>, NtStatus> {
    match time.0 {
        0 => Ok(None),
        FREEZE => {
            *kept = true;
            Ok(None)
        }
        THAW => {
            *kept = false;
            Ok(None)
        }
        other if i64::try_from(other).is_err() => Err(NtStatus::INVALID_PARAMETER),
        _ => {
            *kept = true;
            Ok(Some(time))
        }
    }
}

impl Shard {
    /// An open writes.
    pub(crate) fn note_write(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get_mut(&id) else { return };
        if open.times.kept.write || open.kind == Kind::Pipe {
            return;
        }
        match open.times.written {
            Written::Nothing => {
                open.times.written = Written::Lately;
                self.arm(Timer::WriteTime(id), WRITE_TIME_DELAY_MS, turn);
            }
            Written::Told => open.times.written = Written::Again,
            Written::Lately | Written::Again => {}
        }
    }

    /// The delay is over: everybody may see that the open wrote.
    pub(crate) fn on_write_time_due(&mut self, id: OpenId, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get_mut(&id).filter(|open| open.state == State::Ready) else { return };
        open.times.written = Written::Told;
        open.outstanding.begin(Ticket::UNCOUNTED);
        let requester = Requester {
            volume: open.volume(),
            session: open.session,
            connection: ConnectionId(0),
            share: open.share,
        };
        let op = StorageOp::SettleTimes { handle: open.handle, now: false };
        self.submit(requester, op, Wait::TimesSettled(id), turn);
    }
}
