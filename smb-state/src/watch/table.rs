//! Who watches what on a volume. Every shard has a copy, so that an operation knows by itself whether anybody wants to hear
//! of it: where nobody does, it costs a look into a map.

use std::collections::{BTreeMap, BTreeSet};

use smb_proto::Name;
use smb_proto::command::change_notify::CompletionFilter;
use smb_proto::fscc::notify::{Action, Change};

use super::Happening;
use crate::ids::{FileNumber, OpenId, SessionId};

const BACKSLASH: u16 = b'\\' as u16;

/// A ChangeNotifyEntry (MS-FSA 2.1.1.8) as every shard knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Watcher {
    /// The open that watches.
    pub open: OpenId,
    /// Whose it is: where its notifications go.
    pub session: SessionId,
    /// The directory.
    pub directory: FileNumber,
    /// The directory's folded path from the volume's root, when everything below is watched.
    pub tree: Option<Name>,
    /// What it wants to hear of.
    pub filter: CompletionFilter,
}

/// The watchers of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Watchers {
    all: BTreeMap<OpenId, Watcher>,
    /// By directory, plain watchers and those of trees.
    directories: BTreeSet<(FileNumber, OpenId)>,
    /// Watchers of trees by the folded path of their root.
    trees: BTreeSet<(Name, OpenId)>,
}

impl Watchers {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn insert(&mut self, watcher: Watcher) {
        self.directories.insert((watcher.directory, watcher.open));
        if let Some(path) = &watcher.tree {
            self.trees.insert((path.clone(), watcher.open));
        }
        self.all.insert(watcher.open, watcher);
    }

    pub(super) fn remove(&mut self, open: OpenId) {
        let Some(watcher) = self.all.remove(&open) else { return };
        self.directories.remove(&(watcher.directory, open));
        if let Some(path) = watcher.tree {
            self.trees.remove(&(path, open));
        }
    }

    /// Everybody who watches this very directory.
    pub(super) fn of_directory(&self, directory: FileNumber) -> impl Iterator<Item = &Watcher> {
        let first = (directory, OpenId(0));
        self.directories
            .range(first..)
            .take_while(move |(number, _)| *number == directory)
            .filter_map(|(_, open)| self.all.get(open))
    }

    /// Who is told what of things that happened together (MS-FSA 2.1.4.1). A directory's own changes are its parent's
    /// affair, so nobody is told of the directory that he watches.
    pub(super) fn interested(&self, happenings: &[Happening]) -> BTreeMap<OpenId, (SessionId, Vec<Change>)> {
        let mut told: BTreeMap<OpenId, (SessionId, Vec<Change>)> = BTreeMap::new();
        for happening in happenings {
            let units = happening.path.units();
            let mut tell = |watcher: &Watcher, from: usize| {
                if watcher.filter.intersects(happening.filter) {
                    let name = Name::from_units(units.get(from..).unwrap_or_default());
                    let changes = &mut told.entry(watcher.open).or_insert((watcher.session, Vec::new())).1;
                    if happening.action != Action::MODIFIED || !tells_of(changes, &name) {
                        changes.push(Change { action: happening.action, name });
                    }
                }
            };
            let last = units.iter().rposition(|unit| *unit == BACKSLASH).map_or(0, |slash| slash + 1);
            for watcher in self.of_directory(happening.directory).filter(|watcher| watcher.tree.is_none()) {
                tell(watcher, last);
            }
            if self.trees.is_empty() {
                continue;
            }
            let folded = happening.path.folded();
            for (above, below) in ancestors(folded.units()) {
                let first = (Name::from_units(above), OpenId(0));
                let watching = self.trees.range(&first..).take_while(|(path, _)| *path == first.0);
                for watcher in watching.filter_map(|(_, open)| self.all.get(open)) {
                    tell(watcher, below);
                }
            }
        }
        told
    }

    /// A directory has another path: watchers of it, and of what is below it, follow.
    pub(super) fn moved(&mut self, old: &Name, new: &Name) {
        let concerned: Vec<OpenId> = self
            .trees
            .iter()
            .filter(|(path, _)| is_at_or_below(path.units(), old.units()))
            .map(|(_, open)| *open)
            .collect();
        for open in concerned {
            let Some(mut watcher) = self.all.get(&open).cloned() else { continue };
            self.remove(open);
            if let Some(path) = &mut watcher.tree {
                let below = path.units().get(old.units().len()..).unwrap_or_default();
                *path = Name::from_units([new.units(), below].concat());
            }
            self.insert(watcher);
        }
    }

    /// The tables agree.
    pub(super) fn check_invariants(&self) {
        assert_eq!(self.directories.len(), self.all.len(), "each watcher watches one directory");
        let trees = self.all.values().filter(|watcher| watcher.tree.is_some()).count();
        assert_eq!(self.trees.len(), trees, "each watcher of a tree has one path");
    }
}

/// Whether somebody who is told this looks at the file anyway: its name is new.
fn tells_of(changes: &[Change], name: &Name) -> bool {
    changes.iter().any(|change| {
        matches!(change.action, Action::ADDED | Action::RENAMED_NEW_NAME) && change.name == *name
    })
}

/// Every directory above a path, the root first, and where the rest of the path begins.
fn ancestors(path: &[u16]) -> impl Iterator<Item = (&[u16], usize)> {
    let root = std::iter::once((&path[..0], 0));
    let slashes = path.iter().enumerate().filter(|(_, unit)| **unit == BACKSLASH);
    root.chain(slashes.map(|(slash, _)| (&path[..slash], slash + 1)))
}

/// Whether a path is a directory's own or below it, both folded.
fn is_at_or_below(path: &[u16], directory: &[u16]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first().is_none_or(|unit| *unit == BACKSLASH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watcher(open: u64, directory: u64, tree: Option<&str>, filter: CompletionFilter) -> Watcher {
        let tree = tree.map(|path| Name::from(path).folded());
        Watcher { open: OpenId(open), session: SessionId(1), directory: FileNumber(directory), tree, filter }
    }

    fn added(directory: u64, path: &str) -> Happening {
        Happening {
            directory: FileNumber(directory),
            path: Name::from(path),
            action: Action::ADDED,
            filter: CompletionFilter::FILE_NAME,
        }
    }

    fn names(watchers: &Watchers, happening: Happening) -> Vec<(u64, String)> {
        let told = watchers.interested(&[happening]);
        told.into_iter()
            .flat_map(|(open, (_, changes))| {
                changes.into_iter().map(move |change| (open.0, change.name.to_string()))
            })
            .collect()
    }

    #[test]
    fn a_directory_hears_of_its_children_and_a_tree_of_all_below() {
        let mut watchers = Watchers::default();
        watchers.insert(watcher(1, 10, None, CompletionFilter::FILE_NAME));
        watchers.insert(watcher(2, 10, Some("dir"), CompletionFilter::FILE_NAME));
        watchers.insert(watcher(3, 2, Some(""), CompletionFilter::FILE_NAME));
        watchers.insert(watcher(4, 10, Some("dir"), CompletionFilter::SIZE));
        watchers.check_invariants();
        let named = |open: u64, name: &str| (open, name.to_owned());
        assert_eq!(names(&watchers, added(10, r"Dir\A")), [named(1, "A"), named(2, "A"), named(3, r"Dir\A")]);
        assert_eq!(names(&watchers, added(11, r"DIR\sub\a")), [named(2, r"sub\a"), named(3, r"DIR\sub\a")]);
        assert_eq!(names(&watchers, added(2, "dir")), [named(3, "dir")]);
        assert_eq!(names(&watchers, added(12, r"directory\a")), [named(3, r"directory\a")]);
    }

    #[test]
    fn a_tree_follows_its_directory() {
        let mut watchers = Watchers::default();
        watchers.insert(watcher(1, 10, Some(r"dir"), CompletionFilter::FILE_NAME));
        watchers.insert(watcher(2, 11, Some(r"dir\sub"), CompletionFilter::FILE_NAME));
        watchers.insert(watcher(3, 12, Some(r"dire"), CompletionFilter::FILE_NAME));
        watchers.moved(&Name::from("dir").folded(), &Name::from(r"new\place").folded());
        watchers.check_invariants();
        let told = names(&watchers, added(11, r"new\place\sub\a"));
        assert_eq!(told, [(1, r"sub\a".to_owned()), (2, "a".to_owned())]);
        assert_eq!(names(&watchers, added(10, r"dir\a")), []);
        assert_eq!(names(&watchers, added(12, r"dire\a")), [(3, "a".to_owned())]);
        for open in 1..4 {
            watchers.remove(OpenId(open));
        }
        watchers.check_invariants();
        assert!(watchers.is_empty());
    }
}
