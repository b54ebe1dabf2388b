//! Times that a handle keeps, and last write times that are told of late.
//!
//! What a handle keeps is put back after each change through it. Between the two somebody may see the other time.
//!
//! Late telling costs nothing per write: the kernel's own last write time is always the true one, what clients are told
//! is in memory, and goes with the last handle that wrote.

use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Timestamps, utimensat};
use smb_proto::FileTime;
use smb_state::storage::{Kept, SetAttributes};

use super::Volume;
use super::attributes::timespec;
use super::handle::{Inode, Node, Stat};
use super::record::{self, Record};
use crate::fault::Outcome;
use crate::handles::lock;

/// The last write time that is told of a file while handles write to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    time: FileTime,
    /// Handles that wrote and are open.
    writers: u32,
}

impl Volume {
    /// The last write time to tell.
    pub(super) fn last_write(&self, stat: &Stat) -> FileTime {
        if self.late.load(Ordering::Relaxed) == 0 {
            return stat.modified;
        }
        let told = self.inodes.get(&stat.key).and_then(|inode| *lock(&inode.told));
        told.map_or(stat.modified, |told| told.time)
    }

    /// A handle is about to write: until further notice the last write time of now is told.
    pub(super) fn tell_late(&self, node: &Node) -> Outcome<()> {
        if node.writes_late.load(Ordering::Relaxed) || node.kept().write {
            return Ok(());
        }
        let mut told = lock(&node.inode.told);
        if node.writes_late.load(Ordering::Relaxed) {
            return Ok(());
        }
        match told.as_mut() {
            Some(told) => told.writers += 1,
            None => {
                *told = Some(Told { time: node.inode.stat()?.modified, writers: 1 });
                self.late.fetch_add(1, Ordering::Relaxed);
            }
        }
        node.writes_late.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// What was written so far is told.
    pub(super) fn settle_times(&self, node: &Node) -> Outcome<()> {
        if self.late.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let mut told = lock(&node.inode.told);
        if let Some(told) = told.as_mut() {
            told.time = node.inode.stat()?.modified;
        }
        Ok(())
    }

    /// A handle is closed. With the last that wrote, nothing is late any more.
    pub(super) fn forget_times(&self, node: &Node) {
        if !node.writes_late.swap(false, Ordering::Relaxed) {
            return;
        }
        let mut told = lock(&node.inode.told);
        let Some(late) = told.as_mut() else { return };
        late.writers = late.writers.saturating_sub(1);
        if late.writers == 0 {
            *told = None;
            self.late.fetch_sub(1, Ordering::Relaxed);
        } else if let Ok(stat) = node.inode.stat() {
            late.time = stat.modified;
        }
    }

    /// A change through a handle other than a write: what the handle keeps is put back, and everything is told.
    pub(super) fn changing<R>(&self, node: &Node, act: impl FnOnce() -> Outcome<R>) -> Outcome<R> {
        let result = self.keeping(node, node.kept(), act)?;
        self.settle_times(node)?;
        Ok(result)
    }

    /// Does something through a handle, and puts the times back that it keeps.
    pub(super) fn keeping<R>(&self, node: &Node, kept: Kept, act: impl FnOnce() -> Outcome<R>) -> Outcome<R> {
        if kept.is_nothing() {
            return act();
        }
        let before = node.inode.stat()?;
        let change = self.change_time(&node.inode, &before)?;
        let result = act()?;
        if kept.access || kept.write {
            let last_access = timespec(kept.access.then_some(before.accessed));
            let last_modification = timespec(kept.write.then_some(before.modified));
            let times = Timestamps { last_access, last_modification };
            utimensat(rustix::fs::CWD, node.inode.path(), &times, AtFlags::empty())?;
        }
        if kept.change && self.caps.extended_attributes {
            Record::update(&node.inode, |record| record.change = Some((change, record::now())))?;
        }
        Ok(result)
    }

    /// Changes times and attributes; what is not named of the times that the handle keeps is put back.
    pub(super) fn set_basic(&self, node: &Node, set: &SetAttributes) -> Outcome<()> {
        node.keep(set.kept);
        let unnamed = Kept {
            access: set.kept.access && set.last_access.is_none(),
            write: set.kept.write && set.last_write.is_none(),
            change: set.kept.change && set.change.is_none(),
        };
        if set.changes(self.attributes_of(node)?.dos) {
            self.keeping(node, unnamed, || self.set_attributes(node, set))?;
        }
        self.settle_times(node)
    }

    fn change_time(&self, inode: &Inode, stat: &Stat) -> Outcome<FileTime> {
        Ok(self.record_of(inode, stat)?.change_time(stat.changed))
    }
}

/// Sets the last write time to that of now: where the kernel does not see a write, or saw it long ago.
pub(super) fn note_modified(inode: &Inode) -> Outcome<()> {
    // The kernel's own idea of now (`UTIME_NOW`) lags by a tick, and could be before what the client did last.
    let times = Timestamps { last_access: timespec(None), last_modification: timespec(Some(record::now())) };
    Ok(utimensat(rustix::fs::CWD, inode.path(), &times, AtFlags::empty())?)
}

const ACCESS: u8 = 1;
const WRITE: u8 = 2;
const CHANGE: u8 = 4;

impl Node {
    /// Times that the handle keeps.
    pub(super) fn kept(&self) -> Kept {
        let bits = self.kept.load(Ordering::Relaxed);
        Kept { access: bits & ACCESS != 0, write: bits & WRITE != 0, change: bits & CHANGE != 0 }
    }

    fn keep(&self, kept: Kept) {
        let bit = |kept: bool, bit: u8| if kept { bit } else { 0 };
        let bits = bit(kept.access, ACCESS) | bit(kept.write, WRITE) | bit(kept.change, CHANGE);
        self.kept.store(bits, Ordering::Relaxed);
    }
}
