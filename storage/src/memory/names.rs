//! Resolving, creating, renaming, linking, removing.

use std::sync::{Arc, Mutex, Weak};

use smb_proto::{FileAttributes, Name, NtStatus};
use smb_state::storage::{Initial, Kind, Object, Resolved};

use super::file::{Child, File, Link, Node, Place, State, Stream};
use super::pages::Pages;
use super::{Memory, stored};
use crate::fault::{Fault, Outcome};

/// Longest name in UTF-16 code units.
const COMPONENT_MAX: usize = 255;

/// Refuses what cannot be one name in a directory.
fn check_name(name: &Name) -> Outcome<()> {
    let units = name.units();
    let is_dots = matches!(units, [0x2E] | [0x2E, 0x2E]);
    let has_separator = units.iter().any(|unit| matches!(*unit, 0 | 0x2F | 0x5C));
    if units.is_empty() || units.len() > COMPONENT_MAX || is_dots || has_separator {
        return Err(NtStatus::OBJECT_NAME_INVALID.into());
    }
    Ok(())
}

fn directory(node: &Node) -> Outcome<&Arc<File>> {
    if node.file.is_directory() && node.stream.is_none() {
        Ok(&node.file)
    } else {
        Err(Fault::Status(NtStatus::NOT_A_DIRECTORY))
    }
}

fn child(directory: &File, name: &Name) -> Option<Child> {
    directory.state().children.get(&name.folded()).cloned()
}

impl Memory {
    pub(super) fn object(&self, file: Arc<File>, link: Arc<Link>, stream: Option<Arc<Stream>>) -> Object {
        let place = link.place();
        let (parent, name) = place
            .map_or((file.number, Name::default()), |Place { parent_number, name, .. }| {
                (parent_number, name)
            });
        let stream_name = stream.as_ref().map(|stream| stream.state().name.clone()).unwrap_or_default();
        let node = Node { file, link, stream, cursor: None.into(), kept: Mutex::default() };
        let attributes = node.attributes();
        let security = node.file.state().security.clone().map(Box::new);
        let handle = self.handles.insert(Arc::new(node));
        Object { handle, attributes, parent, name, stream: stream_name, security }
    }

    /// The path of a handle's link from the root.
    pub(super) fn path_of(&self, node: &Node) -> Outcome<Name> {
        let mut components = Vec::new();
        let place = node.link.place().ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
        if !place.name.is_empty() {
            components.push(place.name);
            let mut at = place.parent.upgrade();
            while let Some(directory) = at {
                let above = directory.state().parent.upgrade();
                let Some(above) = above.filter(|above| !Arc::ptr_eq(above, &directory)) else { break };
                let name = above
                    .state()
                    .children
                    .values()
                    .find(|child| Arc::ptr_eq(&child.file, &directory))
                    .map(|child| child.name.clone());
                components.extend(name);
                at = Some(above);
            }
        }
        let mut path = Vec::new();
        for component in components.iter().rev() {
            if !path.is_empty() {
                path.push(u16::from(b'\\'));
            }
            path.extend_from_slice(component.units());
        }
        if let Some(stream) = &node.stream {
            path.push(u16::from(b':'));
            path.extend_from_slice(stream.state().name.units());
        }
        Ok(Name::from_units(path))
    }

    pub(super) fn resolve(&self, path: &[Name], stream: Option<&Name>) -> Outcome<Resolved> {
        path.iter().try_for_each(check_name)?;
        let mut at = (Arc::clone(&self.root), Arc::clone(&self.root_link));
        for (index, name) in path.iter().enumerate() {
            if !at.0.is_directory() {
                return Ok(Resolved::NotADirectory);
            }
            match child(&at.0, name) {
                Some(child) => at = (child.file, child.link),
                None if index + 1 == path.len() => {
                    return Ok(Resolved::NoName { parent: self.object(at.0, at.1, None) });
                }
                None => return Ok(Resolved::NoPath),
            }
        }
        let (file, link) = at;
        let Some(name) = stream.filter(|name| !name.is_empty()) else {
            return Ok(Resolved::Found(self.object(file, link, None)));
        };
        let found = find_stream(&file, name);
        Ok(match found {
            Some(stream) => Resolved::Found(self.object(file, link, Some(stream))),
            None => Resolved::NoStream { file: self.object(file, link, None) },
        })
    }

    pub(super) fn create(
        &self,
        parent: &Node,
        name: &Name,
        kind: Kind,
        initial: &Initial,
    ) -> Outcome<Object> {
        let directory = directory(parent)?;
        check_name(name)?;
        if kind == Kind::Pipe {
            return Err(NtStatus::INVALID_PARAMETER.into());
        }
        if directory.state().links == 0 {
            return Err(NtStatus::OBJECT_PATH_NOT_FOUND.into());
        }
        if child(directory, name).is_some() {
            return Err(NtStatus::OBJECT_NAME_COLLISION.into());
        }
        let file = self.new_file(kind, Arc::downgrade(directory));
        {
            let mut state = file.state();
            state.eas = crate::ea::merge(Vec::new(), &initial.eas)?;
            state.dos = stored(initial.dos);
            state.reserved = initial.allocation;
            state.owner = initial.owner;
            state.security = initial.security.as_deref().cloned();
        }
        let file = Arc::new(file);
        let link = Arc::new(Link::new(directory, name.clone()));
        self.add(directory, Child { name: name.clone(), file: Arc::clone(&file), link: Arc::clone(&link) });
        Ok(self.object(file, link, None))
    }

    pub(super) fn new_file(&self, kind: Kind, parent: Weak<File>) -> File {
        let now = super::now();
        let state = State {
            dos: FileAttributes(0),
            creation: now,
            last_access: now,
            last_write: now,
            change: now,
            links: 1,
            data: Pages::new(&self.budget),
            reserved: 0,
            streams: Vec::new(),
            eas: Vec::new(),
            security: None,
            owner: None,
            children: Default::default(),
            parent,
        };
        File::new(self.next_number(), kind, state)
    }

    fn add(&self, directory: &File, child: Child) {
        let mut state = directory.state();
        state.children.insert(child.name.folded(), child);
        state.last_write = super::now();
        state.change = state.last_write;
    }

    /// Takes a name out of a directory. The caller counts the link off if it is not for a rename.
    fn take(&self, directory: &File, name: &Name) {
        let mut state = directory.state();
        state.children.remove(&name.folded());
        state.last_write = super::now();
        state.change = state.last_write;
    }

    /// Removes a link for good.
    fn drop_link(&self, directory: &File, child: &Child) {
        self.take(directory, &child.name);
        child.link.remove();
        let mut state = child.file.state();
        state.links -= 1;
        state.change = super::now();
    }

    /// The directory and entry that a handle was opened by.
    fn current(&self, node: &Node) -> Outcome<(Arc<File>, Child)> {
        if Arc::ptr_eq(&node.file, &self.root) {
            return Err(NtStatus::ACCESS_DENIED.into());
        }
        let place = node.link.place().ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
        let parent = place.parent.upgrade().ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
        let child = child(&parent, &place.name).ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?;
        Ok((parent, child))
    }

    fn is_within(&self, directory: &Arc<File>, ancestor: &Arc<File>) -> bool {
        let mut at = Some(Arc::clone(directory));
        while let Some(file) = at {
            if Arc::ptr_eq(&file, ancestor) {
                return true;
            }
            at = file.state().parent.upgrade();
        }
        false
    }

    pub(super) fn rename(&self, node: &Node, parent: &Node, name: &Name, replace: bool) -> Outcome<()> {
        let to = directory(parent)?;
        check_name(name)?;
        if node.stream.is_some() {
            return Err(NtStatus::INVALID_PARAMETER.into());
        }
        let (from, source) = self.current(node)?;
        if to.state().links == 0 {
            return Err(NtStatus::OBJECT_PATH_NOT_FOUND.into());
        }
        if node.file.is_directory() && self.is_within(to, &node.file) {
            return Err(NtStatus::ACCESS_DENIED.into());
        }
        let existing = child(to, name).filter(|existing| !Arc::ptr_eq(&existing.link, &source.link));
        if let Some(existing) = &existing {
            check_replace(replace, existing, node.file.kind)?;
            self.drop_link(to, existing);
        }
        self.take(&from, &source.name);
        source.link.put(to, name.clone());
        if node.file.is_directory() {
            node.file.state().parent = Arc::downgrade(to);
        }
        node.file.state().change = super::now();
        self.add(to, Child { name: name.clone(), ..source });
        Ok(())
    }

    pub(super) fn add_link(&self, node: &Node, parent: &Node, name: &Name, replace: bool) -> Outcome<()> {
        let to = directory(parent)?;
        check_name(name)?;
        if node.file.is_directory() {
            return Err(NtStatus::FILE_IS_A_DIRECTORY.into());
        }
        if node.file.state().links == 0 {
            return Err(NtStatus::FILE_DELETED.into());
        }
        if let Some(existing) = child(to, name) {
            check_replace(replace, &existing, node.file.kind)?;
            if Arc::ptr_eq(&existing.file, &node.file) {
                return Ok(());
            }
            self.drop_link(to, &existing);
        }
        let link = Arc::new(Link::new(to, name.clone()));
        self.add(to, Child { name: name.clone(), file: Arc::clone(&node.file), link });
        let mut state = node.file.state();
        state.links += 1;
        state.change = super::now();
        Ok(())
    }

    pub(super) fn unlink(&self, node: &Node) -> Outcome<()> {
        let (parent, child) = self.current(node)?;
        if !node.file.state().children.is_empty() {
            return Err(NtStatus::DIRECTORY_NOT_EMPTY.into());
        }
        self.drop_link(&parent, &child);
        Ok(())
    }

    pub(super) fn unlink_stream(&self, node: &Node) -> Outcome<()> {
        let stream = node.stream.as_ref().ok_or(NtStatus::INVALID_PARAMETER)?;
        let mut file = node.file.state();
        let known = file.streams.iter().position(|known| Arc::ptr_eq(known, stream));
        file.streams.remove(known.ok_or(NtStatus::OBJECT_NAME_NOT_FOUND)?);
        stream.state().is_linked = false;
        Ok(())
    }

    pub(super) fn create_stream(&self, node: &Node, name: &Name, most: u32) -> Outcome<Object> {
        if name.is_empty() {
            return Err(NtStatus::OBJECT_NAME_INVALID.into());
        }
        if find_stream(&node.file, name).is_some() {
            return Err(NtStatus::OBJECT_NAME_COLLISION.into());
        }
        if node.file.state().streams.len() >= most as usize {
            return Err(NtStatus::FILE_SYSTEM_LIMITATION.into());
        }
        let stream = Arc::new(Stream::new(name.clone(), Pages::new(&self.budget)));
        node.file.state().streams.push(Arc::clone(&stream));
        Ok(self.object(Arc::clone(&node.file), Arc::clone(&node.link), Some(stream)))
    }

    pub(super) fn rename_stream(&self, node: &Node, name: &Name, replace: bool) -> Outcome<()> {
        let stream = node.stream.as_ref().ok_or(NtStatus::INVALID_PARAMETER)?;
        if name.is_empty() {
            return Err(NtStatus::OBJECT_NAME_INVALID.into());
        }
        if !stream.state().is_linked {
            return Err(NtStatus::FILE_DELETED.into());
        }
        if let Some(existing) =
            find_stream(&node.file, name).filter(|existing| !Arc::ptr_eq(existing, stream))
        {
            if !replace {
                return Err(NtStatus::OBJECT_NAME_COLLISION.into());
            }
            if existing.state().data.size() > 0 {
                return Err(NtStatus::INVALID_PARAMETER.into());
            }
            existing.state().is_linked = false;
            node.file.state().streams.retain(|known| !Arc::ptr_eq(known, &existing));
        }
        stream.state().name = name.clone();
        Ok(())
    }
}

fn find_stream(file: &File, name: &Name) -> Option<Arc<Stream>> {
    let wanted = name.folded();
    file.state().streams.iter().find(|stream| stream.state().name.folded() == wanted).cloned()
}

fn check_replace(replace: bool, existing: &Child, kind: Kind) -> Outcome<()> {
    if !replace {
        Err(NtStatus::OBJECT_NAME_COLLISION.into())
    } else if existing.file.is_directory() || kind == Kind::Directory {
        Err(NtStatus::ACCESS_DENIED.into())
    } else {
        Ok(())
    }
}
