//! Directories that paths led through lately, pinned, so that the next path through them need not be followed by the kernel
//! from the root and opened anew.
//!
//! Each is kept with the name by which it is found in the one above it, and found again only if that name, and each on the way
//! to it, still stands for it: one look by a single name each, which follows no symbolic link, so that a path never leads out
//! of the root. What is reached through a link is not kept.
//!
//! At most [`COUNT_MAX`] are kept, at most [`DEPTH_MAX`] below the root, and none of another file system than the root's: a pinned
//! directory would keep it from being unmounted.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::{Arc, Mutex};

use super::handle::{Inode, InodeKey, Stat};
use crate::handles::lock;

/// Directories that are kept.
const COUNT_MAX: usize = 64;
/// Deeper ones are found faster by the kernel in one go.
const DEPTH_MAX: usize = 4;

/// A directory by its path.
struct Known {
    /// The one above it.
    above: Arc<Inode>,
    inode: Arc<Inode>,
    used: u64,
}

/// A directory on the way to another, with its path.
struct Step<'a> {
    path: &'a [u8],
    above: Arc<Inode>,
    inode: Arc<Inode>,
}

/// A directory where it was.
pub(super) struct Found {
    /// The one above it.
    pub(super) above: Arc<Inode>,
    pub(super) inode: Arc<Inode>,
    pub(super) stat: Stat,
}

#[derive(Default)]
struct Kept {
    by_path: HashMap<Box<[u8]>, Known>,
    clock: u64,
}

/// The directories that are kept.
#[derive(Default)]
pub(super) struct DirectoryCache {
    kept: Mutex<Kept>,
}

/// Where a path's last name begins.
pub(super) fn last_name(path: &[u8]) -> usize {
    path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1)
}

/// The path of the directory above.
pub(super) fn above(path: &[u8]) -> &[u8] {
    &path[..last_name(path).saturating_sub(1)]
}

/// The paths of the directories on the way, the one itself last.
fn on_the_way(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain([path.len()]).map(|end| &path[..end])
}

/// Whether a directory is near enough to the root to be kept.
pub(super) fn is_near(path: &[u8]) -> bool {
    on_the_way(path).nth(DEPTH_MAX).is_none()
}

impl DirectoryCache {
    /// The directory at `path`, which is not empty, if it is kept and where it was.
    pub(super) fn get(&self, path: &[u8]) -> Option<Found> {
        let mut found: Option<Found> = None;
        for step in self.way(path)? {
            let is_where_it_was = found.as_ref().is_none_or(|before| before.inode.key == step.above.key);
            let stat =
                look(&step.above, step.path).filter(|stat| is_where_it_was && stat.key == step.inode.key);
            let Some(stat) = stat else {
                lock(&self.kept).by_path.remove(step.path);
                return None;
            };
            found = Some(Found { above: step.above, inode: step.inode, stat });
        }
        found
    }

    /// Everything on the way to a path, from the root on, if all of it is kept.
    fn way<'a>(&self, path: &'a [u8]) -> Option<Vec<Step<'a>>> {
        let kept = &mut *lock(&self.kept);
        if !kept.by_path.contains_key(path) {
            return None;
        }
        kept.clock += 1;
        let (by_path, clock) = (&mut kept.by_path, kept.clock);
        let step = |path| {
            let known = by_path.get_mut(path)?;
            known.used = clock;
            Some(Step { path, above: Arc::clone(&known.above), inode: Arc::clone(&known.inode) })
        };
        on_the_way(path).map(step).collect()
    }

    /// Keeps a directory that was just found at `path` in the one above it.
    pub(super) fn keep(&self, path: &[u8], above: &Arc<Inode>, inode: &Arc<Inode>) {
        if !is_near(path) || inode.key.device != above.key.device || !inode.is_directory() {
            return;
        }
        if look(above, path).is_none_or(|stat| stat.key != inode.key) {
            return;
        }
        inode.prepare();
        let kept = &mut *lock(&self.kept);
        kept.clock += 1;
        if kept.by_path.len() >= COUNT_MAX {
            let oldest = kept.by_path.iter().min_by_key(|(_, known)| known.used);
            if let Some(oldest) = oldest.map(|(path, _)| path.clone()) {
                kept.by_path.remove(&oldest);
            }
        }
        let known = Known { above: Arc::clone(above), inode: Arc::clone(inode), used: kept.clock };
        kept.by_path.insert(path.into(), known);
    }

    /// A directory is removed: its space is not to be held up.
    pub(super) fn forget(&self, key: InodeKey) {
        lock(&self.kept).by_path.retain(|_, known| known.inode.key != key && known.above.key != key);
    }
}

/// What a path's last name stands for in the directory above.
fn look(above: &Inode, path: &[u8]) -> Option<Stat> {
    let mut name = path[last_name(path)..].to_vec();
    name.push(0);
    Stat::of_name(above.fd(), CStr::from_bytes_with_nul(&name).ok()?).ok()
}
