//! Renames and hard links (MS-SMB2 3.3.5.21.1, MS-FSA 2.1.5.15.11, .6): one coordinator, several machines (R10).
//!
//! ```text
//! AskingSource -> [Freezing each shard -> AskingSource] -> ResolvingParent -> AskingParent -> ResolvingTarget -> Reserving -> [AskingTarget] -> Moving
//!                        (directories only)                     ^--------------- Again, COLLISION -------------------'
//! ```
//! Reservations are taken in ascending order (shards' paths, then the name, then the file that is replaced) and nobody waits
//! for a client while holding one. A shard that has something open below a directory is cleared first, see [`super::clear`].
//! Whatever the outcome, `Shard::end_rename` gives all of it back.
//!
//! Not done: POSIX rename semantics.

use std::collections::BTreeSet;

use smb_proto::access::AccessMask;
use smb_proto::fscc::file_info::{RenameFlags, RenameInformation};
use smb_proto::fscc::name::{NameError, StreamPath};
use smb_proto::name::fold_unit;
use smb_proto::{Name, NtStatus};

use super::create::Creating;
use super::{Open, OpenRequest, State};
use crate::file::{FileAsk, Link, NewName};
use crate::ids::{FileKey, OpenId, ShardId, VolumeId};
use crate::message::{Address, Answer, Asker, Finished, Message, Origin};
use crate::namespace::NamespaceAsk;
use crate::response::Body;
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Kind, Object, Requester, Resolved, StorageOp, StorageReply};
use crate::watch::report::{Renamed, path_of};

/// How often a rename starts again because the target changed under it.
const TRIES_MAX: u8 = 16;

/// A rename or a link in progress, with what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Renaming {
    pub(super) open: OpenId,
    pub(super) origin: Origin,
    requester: Requester,
    target: StreamPath,
    replace: bool,
    /// The directory grants DELETE_CHILD.
    may_replace: bool,
    is_link: bool,
    tries: u8,
    pub(super) stage: Stage,
    /// Shards that hold back opens below the old path.
    pub(super) frozen: u16,
    /// Shards that were asked for what is open below the old path, and the files of the last one that are still to be cleared.
    pub(super) cleared: BTreeSet<u16>,
    pub(super) obstacles: Vec<FileKey>,
    old_path: Name,
    parent: Option<Object>,
    existing: Option<Object>,
    reserved: Option<Link>,
    replacing: Option<(FileKey, Link)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Freezing,
    Clearing,
    AskingSource,
    ResolvingParent,
    AskingParent,
    ResolvingTarget,
    Reserving,
    AskingTarget,
    Moving,
    AskingStream,
    MovingStream,
    TellingStream,
}

/// Whether `path` is below `directory`, both relative to the root, without regard to case.
pub(super) fn is_below(path: &[u16], directory: &[u16]) -> bool {
    let Some((head, tail)) = path.split_at_checked(directory.len()) else { return false };
    tail.first() == Some(&u16::from(b'\\'))
        && head.iter().zip(directory).all(|(a, b)| fold_unit(*a) == fold_unit(*b))
}

impl Shard {
    pub(crate) fn on_rename(
        &mut self,
        request: &OpenRequest,
        rename: &RenameInformation,
        is_link: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let open = self.opens.get(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        let mut renaming = begin(open, request, rename, is_link)?;
        if let Some(open) = self.opens.get_mut(&request.open) {
            open.outstanding.begin(request.origin.ticket);
        }
        if renaming.target.is_root() && renaming.target.stream().is_some() {
            renaming.stage = Stage::AskingStream;
            self.ask_stream(renaming, turn);
        } else {
            renaming.stage = Stage::AskingSource;
            self.ask_source(renaming, turn);
        }
        Ok(())
    }

    fn ask_stream(&mut self, renaming: Box<Renaming>, turn: &mut Turn<'_>) {
        let Some(file) = self.opens.get(&renaming.open).map(|open| open.file) else { return };
        let ask = FileAsk::BeginStreamRename { open: renaming.open, stream: renaming.new_stream() };
        let asker = self.wait(Wait::Rename(renaming));
        turn.post(Address::File(file), Message::AskFile(ask, asker));
    }

    /// A stream has its new name: everybody who knows it by name is told before the client hears of it.
    fn stream_is_renamed(&mut self, mut renaming: Box<Renaming>, turn: &mut Turn<'_>) {
        let stream = renaming.target.stream().cloned().unwrap_or_default();
        self.report_stream_renamed(renaming.open, &stream, turn);
        let Some(open) = self.opens.get_mut(&renaming.open) else { return };
        let (file, stream) = (open.file, renaming.new_stream());
        open.stream = stream.clone();
        open.path = open.path_with_stream(renaming.target.stream());
        let ask = FileAsk::EndStreamRename { open: renaming.open, stream, done: true };
        renaming.stage = Stage::TellingStream;
        let asker = self.wait(Wait::Rename(renaming));
        turn.post(Address::File(file), Message::AskFile(ask, asker));
    }

    /// A stream keeps its name: what the file granted is given back.
    fn stream_stays(&self, renaming: &Renaming, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&renaming.open) else { return };
        let stream = renaming.new_stream();
        let ask = FileAsk::EndStreamRename { open: renaming.open, stream, done: false };
        turn.post(Address::File(open.file), Message::AskFile(ask, self.nobody()));
    }

    fn rename_stream(&mut self, mut renaming: Box<Renaming>, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&renaming.open) else { return };
        let stream = renaming.target.stream().cloned().unwrap_or_default();
        let op = StorageOp::RenameStream { handle: open.handle, stream, replace: renaming.replace };
        renaming.stage = Stage::MovingStream;
        self.submit(renaming.requester.clone(), op, Wait::Rename(renaming), turn);
    }

    fn freeze_next(&mut self, mut renaming: Box<Renaming>, turn: &mut Turn<'_>) {
        if renaming.frozen == self.config.shards.max(1) {
            renaming.stage = Stage::AskingSource;
            return self.ask_source(renaming, turn);
        }
        let shard = ShardId(renaming.frozen);
        let (volume, path) = (renaming.requester.volume, renaming.old_path.clone());
        let asker = self.wait(Wait::Rename(renaming));
        turn.post(Address::Shard(shard), Message::Freeze { volume, path, asker });
    }

    pub(super) fn ask_source(&mut self, renaming: Box<Renaming>, turn: &mut Turn<'_>) {
        let Some(file) = self.opens.get(&renaming.open).map(|open| open.file) else { return };
        // Nobody waits for a client while names are frozen (R10).
        let behind = (renaming.frozen == 0).then(|| renaming.origin.behind());
        let ask = FileAsk::CheckRename { open: renaming.open, behind };
        let (id, origin) = (renaming.open, renaming.origin);
        let asker = self.wait(Wait::Rename(renaming));
        turn.post(Address::File(file), Message::AskFile(ask, asker));
        self.withdraw_if_closing(id, origin, turn);
    }

    fn resolve_parent(&mut self, mut renaming: Box<Renaming>, turn: &mut Turn<'_>) {
        renaming.tries += 1;
        if renaming.tries > TRIES_MAX {
            return self.end_rename(renaming, NtStatus::SHARING_VIOLATION, turn);
        }
        self.give_back(&mut renaming, turn);
        renaming.stage = Stage::ResolvingParent;
        let mut path: Vec<Name> = renaming.target.components().map(Name::from_units).collect();
        path.pop();
        let op = StorageOp::Resolve { path, stream: None };
        self.submit(renaming.requester.clone(), op, Wait::Rename(renaming), turn);
    }

    /// Storage answered a rename's stage.
    pub(crate) fn on_rename_reply(
        &mut self,
        mut renaming: Box<Renaming>,
        reply: StorageReply,
        turn: &mut Turn<'_>,
    ) {
        match (renaming.stage, reply) {
            (Stage::ResolvingParent, StorageReply::Resolved(Resolved::Found(parent))) => {
                let is_directory = parent.attributes.kind == Kind::Directory;
                let verdict = self.check_entry(&mut renaming, &parent);
                renaming.parent = Some(parent);
                if !is_directory {
                    return self.end_rename(renaming, NtStatus::OBJECT_PATH_NOT_FOUND, turn);
                }
                match verdict {
                    Ok(()) => self.ask_parent(renaming, turn),
                    Err(status) => self.end_rename(renaming, status, turn),
                }
            }
            (Stage::ResolvingTarget, StorageReply::Resolved(resolved)) => {
                self.on_rename_target(renaming, resolved, turn);
            }
            (Stage::Moving, StorageReply::Done) => self.rename_is_done(renaming, turn),
            (Stage::MovingStream, StorageReply::Done) => self.stream_is_renamed(renaming, turn),
            (Stage::Moving, StorageReply::Failed(NtStatus::OBJECT_NAME_COLLISION)) if renaming.replace => {
                // It was not there when the name was looked up.
                self.resolve_parent(renaming, turn);
            }
            (Stage::ResolvingParent, StorageReply::Resolved(resolved)) => {
                self.forget_resolved(&renaming, resolved, turn);
                self.end_rename(renaming, NtStatus::OBJECT_PATH_NOT_FOUND, turn);
            }
            (Stage::MovingStream, reply) => {
                self.stream_stays(&renaming, turn);
                let failed = if let StorageReply::Failed(status) = reply { Some(status) } else { None };
                self.end_rename(renaming, failed.unwrap_or(NtStatus::INTERNAL_ERROR), turn);
            }
            (_, StorageReply::Failed(status)) => self.end_rename(renaming, status, turn),
            (_, _) => self.end_rename(renaming, NtStatus::INTERNAL_ERROR, turn),
        }
    }

    /// Whether a name may come into the directory (MS-FSA 2.1.5.15.6, 2.1.5.15.11).
    fn check_entry(&self, renaming: &mut Renaming, parent: &Object) -> Result<(), NtStatus> {
        let Origin { session, tree, .. } = renaming.origin;
        let open = self.opens.get(&renaming.open).ok_or(NtStatus::FILE_CLOSED)?;
        let needed = if open.is_directory() { AccessMask::ADD_SUBDIRECTORY } else { AccessMask::ADD_FILE };
        let trees = self.sessions.get(&session).map(|session| &session.trees);
        let maximal = trees.and_then(|trees| trees.get(&tree)).map(|tree| tree.maximal_access);
        let rights = self.rights(session, parent.security.as_deref());
        renaming.may_replace = rights.contains(AccessMask::DELETE_CHILD);
        if maximal.unwrap_or_default().masked(rights).contains(needed) {
            Ok(())
        } else {
            Err(NtStatus::ACCESS_DENIED)
        }
    }

    fn ask_parent(&mut self, mut renaming: Box<Renaming>, turn: &mut Turn<'_>) {
        let Some(number) = renaming.parent.as_ref().map(|parent| parent.attributes.number) else { return };
        let file = FileKey { volume: renaming.requester.volume, number };
        renaming.stage = Stage::AskingParent;
        // The directory is used sharing everything; older systems did not share deletion, and clients' tests want that of
        // them where files are renamed (MS-FSA 2.1.5.15.12 with its note 185).
        let shares_delete = self.opens.get(&renaming.open).is_some_and(Open::is_directory);
        let asker = self.wait(Wait::Rename(renaming));
        turn.post(Address::File(file), Message::AskFile(FileAsk::CheckEntry { shares_delete }, asker));
    }

    fn resolve_target(&mut self, mut renaming: Box<Renaming>, turn: &mut Turn<'_>) {
        renaming.stage = Stage::ResolvingTarget;
        let path = renaming.target.components().map(Name::from_units).collect();
        let op = StorageOp::Resolve { path, stream: None };
        self.submit(renaming.requester.clone(), op, Wait::Rename(renaming), turn);
    }

    fn on_rename_target(&mut self, mut renaming: Box<Renaming>, resolved: Resolved, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&renaming.open) else { return };
        let Some(directory) = renaming.parent.as_ref().map(|parent| parent.attributes.number) else { return };
        let name = renaming.target.file_name().map(Name::from_units).unwrap_or_default();
        let link = Link { parent: directory, name: name.folded() };
        match resolved {
            Resolved::Found(existing) => {
                let same_link = existing.attributes.number == open.file.number && link == open.link;
                let rights = self.rights(renaming.origin.session, existing.security.as_deref());
                let verdict = renaming.check_replace(&existing, same_link, rights);
                renaming.existing = Some(existing);
                if let Err(status) = verdict {
                    return self.end_rename(renaming, status, turn);
                }
                if same_link {
                    // Another spelling of the same name: nothing is replaced.
                    let existing = renaming.existing.take();
                    if let Some(existing) = existing {
                        self.forget_handle(existing.handle, renaming.requester.clone(), turn);
                    }
                }
            }
            Resolved::NoName { parent } => {
                self.forget_handle(parent.handle, renaming.requester.clone(), turn)
            }
            // A link on the way is for the client to follow before it gives the name.
            Resolved::NoStream { .. }
            | Resolved::NoPath
            | Resolved::NotADirectory
            | Resolved::Link { .. } => {
                self.forget_resolved(&renaming, resolved, turn);
                return self.end_rename(renaming, NtStatus::OBJECT_PATH_NOT_FOUND, turn);
            }
        }
        renaming.stage = Stage::Reserving;
        renaming.reserved = Some(link.clone());
        let volume = renaming.requester.volume;
        let asker = self.wait(Wait::Rename(renaming));
        turn.post(Address::Namespace(volume), Message::AskNamespace(NamespaceAsk::Reserve(link), asker));
    }

    /// A machine answered a rename's stage.
    pub(crate) fn on_rename_answer(
        &mut self,
        mut renaming: Box<Renaming>,
        answer: &Answer,
        turn: &mut Turn<'_>,
    ) {
        match (renaming.stage, answer) {
            (Stage::Freezing, Answer::Granted) => {
                renaming.frozen += 1;
                self.freeze_next(renaming, turn);
            }
            (Stage::Freezing, Answer::Obstructed(files)) => self.on_obstructed(renaming, files, turn),
            (Stage::Clearing, Answer::Granted) => {
                renaming.obstacles.pop();
                self.clear_next(renaming, turn);
            }
            (Stage::AskingSource, Answer::Granted) => {
                let is_directory = self.opens.get(&renaming.open).is_some_and(Open::is_directory);
                if is_directory && renaming.frozen == 0 {
                    renaming.stage = Stage::Freezing;
                    return self.freeze_next(renaming, turn);
                }
                self.resolve_parent(renaming, turn);
            }
            (Stage::AskingSource, Answer::Again) => {
                // Somebody began to cache handles meanwhile: wait for that with nothing frozen.
                self.thaw(&mut renaming, None, turn);
                renaming.tries += 1;
                if renaming.tries > TRIES_MAX {
                    return self.end_rename(renaming, NtStatus::SHARING_VIOLATION, turn);
                }
                self.ask_source(renaming, turn);
            }
            (Stage::AskingParent, Answer::Granted) => self.resolve_target(renaming, turn),
            (Stage::Reserving, Answer::Granted) => self.ask_target(renaming, turn),
            (Stage::AskingTarget, Answer::Granted) => self.move_link(renaming, turn),
            (Stage::AskingStream, Answer::Granted) => self.rename_stream(renaming, turn),
            (Stage::TellingStream, Answer::Granted) => self.end_rename(renaming, NtStatus::SUCCESS, turn),
            (Stage::Reserving, Answer::Again) => {
                renaming.reserved = None;
                self.resolve_parent(renaming, turn);
            }
            (Stage::AskingTarget, Answer::Again) => {
                renaming.replacing = None;
                self.resolve_parent(renaming, turn);
            }
            (stage, Answer::Refused(status)) => {
                match stage {
                    Stage::Reserving => renaming.reserved = None,
                    Stage::AskingTarget => renaming.replacing = None,
                    Stage::Freezing
                    | Stage::Clearing
                    | Stage::AskingSource
                    | Stage::AskingParent
                    | Stage::ResolvingParent
                    | Stage::ResolvingTarget
                    | Stage::Moving
                    | Stage::AskingStream
                    | Stage::MovingStream
                    | Stage::TellingStream => {}
                }
                self.end_rename(renaming, *status, turn);
            }
            (_, _) => self.end_rename(renaming, NtStatus::INTERNAL_ERROR, turn),
        }
    }

    fn ask_target(&mut self, mut renaming: Box<Renaming>, turn: &mut Turn<'_>) {
        let (Some(existing), Some(link)) = (&renaming.existing, &renaming.reserved) else {
            return self.move_link(renaming, turn);
        };
        let file = FileKey { volume: renaming.requester.volume, number: existing.attributes.number };
        let link = link.clone();
        renaming.stage = Stage::AskingTarget;
        renaming.replacing = Some((file, link.clone()));
        let asker = self.wait(Wait::Rename(renaming));
        turn.post(Address::File(file), Message::AskFile(FileAsk::Replace { link }, asker));
    }

    fn move_link(&mut self, mut renaming: Box<Renaming>, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&renaming.open) else { return };
        let Some(parent) = renaming.parent.as_ref().map(|parent| parent.handle) else { return };
        let handle = open.handle;
        let name = renaming.target.file_name().map(Name::from_units).unwrap_or_default();
        let replace = renaming.existing.is_some();
        let op = if renaming.is_link {
            StorageOp::Link { handle, parent, name, replace }
        } else {
            StorageOp::Rename { handle, parent, name, replace }
        };
        renaming.stage = Stage::Moving;
        self.submit(renaming.requester.clone(), op, Wait::Rename(renaming), turn);
    }

    fn rename_is_done(&mut self, mut renaming: Box<Renaming>, turn: &mut Turn<'_>) {
        self.own_entry_changed(renaming.open, turn);
        if let (Some(link), Some(open)) = (&renaming.reserved, self.opens.get(&renaming.open)) {
            self.entry_changed(open.volume(), link.parent, open.parent_lease(), turn);
        }
        if let Some(renamed) = self.what_happened(&renaming) {
            self.report_renamed(renamed, turn);
        }
        if !renaming.is_link
            && let Some(link) = renaming.reserved.clone()
            && let Some(open) = self.opens.get_mut(&renaming.open)
        {
            let name = Box::new(NewName {
                link,
                path: renaming.target.path().clone(),
                spelled: renaming.target.file_name().map(Name::from_units).unwrap_or_default(),
            });
            open.follow(&name);
            let ask = FileAsk::Renamed { open: renaming.open, name };
            let file = open.file;
            let mut shares = self.shares.iter().filter(|share| share.volume == file.volume);
            if shares.any(|share| share.continuous_availability.is_some()) {
                // Records of others say the name before its client hears of it (R8).
                renaming.stage = Stage::TellingStream;
                let asker = self.wait(Wait::Rename(renaming));
                return turn.post(Address::File(file), Message::AskFile(ask, asker));
            }
            turn.post(Address::File(file), Message::AskFile(ask, self.nobody()));
        }
        self.end_rename(renaming, NtStatus::SUCCESS, turn);
    }

    /// Another open gave the link of this one another name. One whose CREATE is not answered yet hears of it then: until that the
    /// name is its CREATE's.
    pub(crate) fn on_moved(&mut self, id: OpenId, name: Box<NewName>) {
        match self.opens.get_mut(&id) {
            Some(open) if open.state == State::Creating => open.moved = Some(name),
            Some(open) => open.follow(&name),
            None => {}
        }
    }

    /// What watchers are told of a rename or a new link.
    fn what_happened(&self, renaming: &Renaming) -> Option<Renamed> {
        let open = self.opens.get(&renaming.open)?;
        let (parent, target) = (renaming.parent.as_ref()?, &renaming.target);
        let name = target.file_name().unwrap_or_default();
        let spell = |name: &[u16]| path_of(target.parent(), name, &[]);
        Some(Renamed {
            volume: open.volume(),
            is_directory: open.is_directory(),
            old: open.shown(false).filter(|_| !renaming.is_link).map(|path| (open.link.parent, path)),
            new: (parent.attributes.number, spell(name)),
            replaced: renaming.existing.as_ref().map(|existing| spell(existing.name.units())),
        })
    }

    /// Gives back everything but the frozen paths.
    fn give_back(&mut self, renaming: &mut Renaming, turn: &mut Turn<'_>) {
        let nobody = self.nobody();
        for object in [renaming.parent.take(), renaming.existing.take()].into_iter().flatten() {
            self.forget_handle(object.handle, renaming.requester.clone(), turn);
        }
        if let Some((file, link)) = renaming.replacing.take() {
            turn.post(Address::File(file), Message::AskFile(FileAsk::Replaced { link }, nobody));
        }
        if let Some(link) = renaming.reserved.take() {
            let to = Address::Namespace(renaming.requester.volume);
            turn.post(to, Message::AskNamespace(NamespaceAsk::Free(link), nobody));
        }
    }

    pub(super) fn end_rename(&mut self, mut renaming: Box<Renaming>, status: NtStatus, turn: &mut Turn<'_>) {
        self.give_back(&mut renaming, turn);
        let moved = (status == NtStatus::SUCCESS).then(|| renaming.target.path().folded());
        self.thaw(&mut renaming, moved.as_ref(), turn);
        let open = self.opens.get(&renaming.open).map(|open| open.file_id(renaming.open));
        let body = if status.is_error() { Body::Error } else { Body::SetInfo };
        let finished = Finished { origin: renaming.origin, status, body, open, spent: None };
        self.finish_recorded(renaming.open, finished, !status.is_error(), (None, Vec::new()), turn);
    }

    pub(super) fn thaw(&self, renaming: &mut Renaming, moved: Option<&Name>, turn: &mut Turn<'_>) {
        for shard in 0..std::mem::take(&mut renaming.frozen) {
            let (volume, path) = (renaming.requester.volume, renaming.old_path.clone());
            let moved = moved.cloned();
            turn.post(Address::Shard(ShardId(shard)), Message::Thaw { volume, path, moved });
        }
    }

    fn forget_resolved(&mut self, renaming: &Renaming, resolved: Resolved, turn: &mut Turn<'_>) {
        let object = match resolved {
            Resolved::Found(object)
            | Resolved::NoName { parent: object }
            | Resolved::NoStream { file: object } => object,
            Resolved::NoPath | Resolved::NotADirectory | Resolved::Link { .. } => return,
        };
        self.forget_handle(object.handle, renaming.requester.clone(), turn);
    }

    /// Another shard, or this one, is about to rename a directory.
    pub(crate) fn on_freeze(&mut self, volume: VolumeId, path: Name, asker: Asker, turn: &mut Turn<'_>) {
        let obstacles = self.obstacles(volume, &path);
        let answer = if !obstacles.is_empty() {
            Answer::Obstructed(obstacles)
        } else if self.frozen.contains_key(&(volume, path.clone())) {
            Answer::Refused(NtStatus::ACCESS_DENIED)
        } else {
            self.frozen.insert((volume, path), Vec::new());
            Answer::Granted
        };
        turn.answer(asker, answer);
    }

    /// The rename of a directory ended: what was held back below its old path runs.
    pub(crate) fn on_thaw(
        &mut self,
        volume: VolumeId,
        path: Name,
        moved: Option<&Name>,
        turn: &mut Turn<'_>,
    ) {
        if let Some(moved) = moved {
            self.watched_directory_moved(volume, &path, moved);
        }
        for creating in self.frozen.remove(&(volume, path)).unwrap_or_default() {
            self.resolve(Box::new(creating), turn);
        }
    }

    /// The queue of a directory above `path` that is being renamed.
    pub(crate) fn frozen_above(&mut self, volume: VolumeId, path: &Name) -> Option<&mut Vec<Creating>> {
        self.frozen
            .iter_mut()
            .find(|((other, directory), _)| *other == volume && is_below(path.units(), directory.units()))
            .map(|(_, waiting)| waiting)
    }
}

impl Renaming {
    /// The file where it may wait for a client, with the request and its open.
    pub(crate) fn at_file(&self, shard: &Shard) -> Option<(FileKey, Origin, OpenId)> {
        if self.stage == Stage::Clearing {
            return self.obstacles.last().map(|file| (*file, self.origin, self.open));
        }
        let waits = self.stage == Stage::AskingSource;
        waits.then(|| Some((shard.opens.get(&self.open)?.file, self.origin, self.open))).flatten()
    }

    /// The name that a stream gets, folded.
    fn new_stream(&self) -> Name {
        self.target.stream().map(Name::folded).unwrap_or_default()
    }

    /// Whether what has the name may be replaced (MS-FSA 2.1.5.15.11).
    fn check_replace(&self, existing: &Object, same_link: bool, rights: AccessMask) -> Result<(), NtStatus> {
        use smb_proto::attributes::FileAttributes;
        if same_link {
            return if self.is_link { Err(NtStatus::OBJECT_NAME_COLLISION) } else { Ok(()) };
        }
        if !self.replace {
            return Err(NtStatus::OBJECT_NAME_COLLISION);
        }
        if existing.attributes.kind == Kind::Directory
            || existing.attributes.dos.contains(FileAttributes::READONLY)
            || !(self.may_replace || rights.contains(AccessMask::DELETE))
        {
            return Err(NtStatus::ACCESS_DENIED);
        }
        Ok(())
    }
}

fn begin(
    open: &Open,
    request: &OpenRequest,
    rename: &RenameInformation,
    is_link: bool,
) -> Result<Box<Renaming>, NtStatus> {
    if !is_link {
        open.check_any(AccessMask::DELETE)?;
    }
    if rename.root_directory != 0 || rename.name.is_empty() || open.kind == Kind::Pipe {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    if rename.flags.contains(RenameFlags::POSIX_SEMANTICS) {
        return Err(NtStatus::NOT_SUPPORTED);
    }
    let units = rename.name.units();
    let units = units.strip_prefix(&[u16::from(b'\\')]).unwrap_or(units);
    let target = StreamPath::parse(units).map_err(NameError::status)?;
    let to_stream = target.is_root() && target.stream().is_some();
    if !to_stream && (target.stream().is_some() || target.is_root()) {
        return Err(NtStatus::OBJECT_NAME_INVALID);
    }
    if open.stream.is_empty() == to_stream || (is_link && (to_stream || open.is_directory())) {
        // A stream becomes a stream, a file a file; a directory has one name.
        let status =
            if open.is_directory() { NtStatus::FILE_IS_A_DIRECTORY } else { NtStatus::INVALID_PARAMETER };
        return Err(status);
    }
    if open.path.is_empty() {
        return Err(NtStatus::ACCESS_DENIED);
    }
    if open.is_directory() && is_below(target.path().units(), open.path.units()) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    if is_link && !open.caps.hard_links {
        return Err(NtStatus::NOT_SUPPORTED);
    }
    Ok(Box::new(Renaming {
        open: request.open,
        origin: request.origin,
        requester: open.requester(&request.origin),
        target,
        replace: rename.flags.contains(RenameFlags::REPLACE_IF_EXISTS),
        may_replace: false,
        is_link,
        tries: 0,
        stage: Stage::Freezing,
        frozen: 0,
        cleared: BTreeSet::new(),
        obstacles: Vec::new(),
        old_path: open.path.folded(),
        parent: None,
        existing: None,
        reserved: None,
        replacing: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_is_a_matter_of_whole_components() {
        let below =
            |path: &str, directory: &str| is_below(Name::from(path).units(), Name::from(directory).units());
        assert!(below(r"Dir\file", "dir"));
        assert!(below(r"a\B\c", r"A\b"));
        assert!(!below("directory", "dir"));
        assert!(!below("dir", "dir"));
        assert!(!below(r"other\dir\x", "dir"));
    }
}
