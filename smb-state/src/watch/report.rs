//! What operations report to watchers: which action, for which filters, under which name.
//!
//! MS-FSA holds some changes back until the file is closed (File.PendingNotifications); here each is reported when it is
//! done. A write is reported as a change of size too: the core does not know where the file ended.

use smb_proto::Name;
use smb_proto::command::change_notify::CompletionFilter;
use smb_proto::fscc::notify::Action;

use super::{Happening, News};
use crate::ids::{FileNumber, OpenId, VolumeId};
use crate::message::{Address, Message};
use crate::open::Open;
use crate::open::close::Closing;
use crate::shard::{Shard, Turn};
use crate::storage::{Kind, Object, SetAttributes, StorageOp, StorageReply};

const BACKSLASH: u16 = b'\\' as u16;

/// Data and sizes, of a file and of a named stream.
const DATA: CompletionFilter = CompletionFilter(CompletionFilter::SIZE.0 | CompletionFilter::LAST_WRITE.0);
const STREAM_DATA: CompletionFilter =
    CompletionFilter(CompletionFilter::STREAM_SIZE.0 | CompletionFilter::STREAM_WRITE.0);
const STREAMS: CompletionFilter = STREAM_DATA.with(CompletionFilter::STREAM_NAME);
/// Everything about a file that a name can lead to, for a name that leads to another file now (MS-FSA 2.1.5.15.12).
const REPLACED: CompletionFilter = CompletionFilter(
    DATA.0
        | CompletionFilter::ATTRIBUTES.0
        | CompletionFilter::LAST_ACCESS.0
        | CompletionFilter::CREATION.0
        | CompletionFilter::SECURITY.0
        | CompletionFilter::EA.0,
);

/// What a request changes when it succeeds; empty for most.
pub(crate) fn changes_of(op: &StorageOp, of_stream: bool) -> CompletionFilter {
    match op {
        StorageOp::Write { .. } | StorageOp::SetEndOfFile { .. } | StorageOp::Zero { .. } => {
            data_of(of_stream)
        }
        StorageOp::SetAllocation { .. } if of_stream => CompletionFilter::STREAM_SIZE,
        StorageOp::SetAllocation { .. } => CompletionFilter::SIZE,
        StorageOp::SetAttributes { set, .. } => attributes_of(set),
        // MS-FSA 2.1.5.15.6
        StorageOp::SetEas { .. } => CompletionFilter::EA.with(CompletionFilter::ATTRIBUTES),
        StorageOp::SetSecurity { .. } => CompletionFilter::SECURITY,
        StorageOp::SetSparse { .. } | StorageOp::SetLinkTarget { .. } => CompletionFilter::ATTRIBUTES,
        StorageOp::Resolve { .. }
        | StorageOp::Create { .. }
        | StorageOp::CreateStream { .. }
        | StorageOp::Open { .. }
        | StorageOp::Overwrite { .. }
        | StorageOp::Close { .. }
        | StorageOp::Read { .. }
        | StorageOp::Flush { .. }
        | StorageOp::Attributes { .. }
        | StorageOp::List { .. }
        | StorageOp::Streams { .. }
        | StorageOp::Path { .. }
        | StorageOp::Eas { .. }
        | StorageOp::Security { .. }
        | StorageOp::CheckEmpty { .. }
        | StorageOp::Watch { .. }
        | StorageOp::Unwatch { .. }
        | StorageOp::Rename { .. }
        | StorageOp::RenameStream { .. }
        | StorageOp::Link { .. }
        | StorageOp::Unlink { .. }
        | StorageOp::UnlinkStream { .. }
        | StorageOp::SettleTimes { .. }
        | StorageOp::CloneExtents { .. }
        | StorageOp::Trim { .. }
        | StorageOp::LinkTarget { .. }
        | StorageOp::PipeState { .. }
        | StorageOp::Volume
        | StorageOp::AllocatedRanges { .. }
        | StorageOp::Copy { .. }
        | StorageOp::Transceive { .. } => CompletionFilter::EMPTY,
    }
}

fn data_of(of_stream: bool) -> CompletionFilter {
    if of_stream { STREAM_DATA } else { DATA }
}

/// MS-FSA 2.1.5.15.2.
fn attributes_of(set: &SetAttributes) -> CompletionFilter {
    let parts = [
        (set.dos.is_some(), CompletionFilter::ATTRIBUTES),
        (set.creation.is_some(), CompletionFilter::CREATION),
        (set.last_access.is_some(), CompletionFilter::LAST_ACCESS),
        (set.last_write.is_some(), CompletionFilter::LAST_WRITE),
    ];
    parts
        .into_iter()
        .filter(|(set, _)| *set)
        .fold(CompletionFilter::EMPTY, |filter, (_, part)| filter.with(part))
}

/// Who wants to hear of names of files, and of directories.
fn name_of(is_directory: bool) -> CompletionFilter {
    if is_directory { CompletionFilter::DIR_NAME } else { CompletionFilter::FILE_NAME }
}

/// A path from the root: where it was, as the client spelled it, and the last component as the volume does.
pub(crate) fn path_of(parent: &[u16], name: &[u16], stream: &[u16]) -> Name {
    let mut units = parent.to_vec();
    if !parent.is_empty() {
        units.push(BACKSLASH);
    }
    units.extend_from_slice(name);
    if !stream.is_empty() {
        units.push(u16::from(b':'));
        units.extend_from_slice(stream);
    }
    Name::from_units(units)
}

/// A name that came, went, or changed hands.
#[derive(Clone, Debug)]
pub(crate) struct Renamed {
    pub volume: VolumeId,
    pub is_directory: bool,
    /// The old name; none for a new hard link.
    pub old: Option<(FileNumber, Name)>,
    /// The new one.
    pub new: (FileNumber, Name),
    /// The spelling of the file that had the new name before, if one had and it is gone now.
    pub replaced: Option<Name>,
}

impl Renamed {
    /// MS-FSA 2.1.5.15.12 and, without an old name, 2.1.5.15.7. A rename within a directory is told in both halves. A file's
    /// rename also sets its archive attribute.
    fn happenings(self) -> Vec<Happening> {
        let filter = name_of(self.is_directory);
        let happening = |(directory, path): (FileNumber, Name), action, filter| Happening {
            directory,
            path,
            action,
            filter,
        };
        let (directory, ref path) = self.new;
        let same_spelling = self.replaced.as_ref().is_some_and(|replaced| replaced == path);
        let moved = self.old.as_ref().is_none_or(|(parent, _)| *parent != directory);
        let (gone, come) = if moved || same_spelling {
            (Action::REMOVED, Action::ADDED)
        } else {
            (Action::RENAMED_OLD_NAME, Action::RENAMED_NEW_NAME)
        };
        let archived = (self.old.is_some() && !self.is_directory && !same_spelling)
            .then(|| happening(self.new.clone(), Action::MODIFIED, CompletionFilter::ATTRIBUTES));
        let mut all = Vec::new();
        if let Some(replaced) = self.replaced.filter(|_| !same_spelling) {
            all.push(happening((directory, replaced), Action::REMOVED, CompletionFilter::FILE_NAME));
        }
        all.extend(self.old.map(|old| happening(old, gone, filter)));
        all.push(if same_spelling {
            happening(self.new, Action::MODIFIED, REPLACED)
        } else {
            happening(self.new, come, filter)
        });
        all.extend(archived);
        all
    }
}

impl Open {
    /// The path from the root to what the open uses; the stream is named in it if it is the stream that is meant.
    pub(crate) fn shown(&self, with_stream: bool) -> Option<Name> {
        let stream = if with_stream { self.spelled.1.units() } else { &[] };
        (!self.spelled.0.is_empty()).then(|| path_of(parent_of(&self.path), self.spelled.0.units(), stream))
    }
}

/// The directory's part of a path, which may name a stream too.
fn parent_of(path: &Name) -> &[u16] {
    let units = path.units();
    let end = units.iter().position(|unit| *unit == u16::from(b':')).unwrap_or(units.len());
    let file = units.get(..end).unwrap_or_default();
    let file = file.strip_suffix(&[BACKSLASH]).unwrap_or(file);
    let slash = file.iter().rposition(|unit| *unit == BACKSLASH).unwrap_or(0);
    file.get(..slash).unwrap_or_default()
}

impl Shard {
    /// Tells everybody who wants to hear of it. What happened together is told together.
    pub(crate) fn report(&self, volume: VolumeId, happenings: &[Happening], turn: &mut Turn<'_>) {
        let Some(watchers) = self.watching.volumes.get(&volume) else { return };
        for (open, (session, changes)) in watchers.interested(happenings) {
            let news = News::Changed(changes);
            turn.post(Address::Session(session), Message::News { open, news });
        }
    }

    /// An open's request changed something.
    pub(crate) fn report_modified(&self, id: OpenId, filter: CompletionFilter, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&id) else { return };
        if filter.is_empty() || !self.watching.volumes.contains_key(&open.volume()) {
            return;
        }
        let of_stream = filter.intersects(STREAMS);
        let action = if of_stream { Action::MODIFIED_STREAM } else { Action::MODIFIED };
        self.report_of_open(open, action, filter, turn);
    }

    /// A server-side copy wrote to an open.
    pub(crate) fn report_copied(&self, id: OpenId, changed: bool, turn: &mut Turn<'_>) {
        let of_stream = self.opens.get(&id).is_some_and(|open| !open.stream.is_empty());
        if changed {
            self.report_modified(id, data_of(of_stream), turn);
        }
    }

    fn report_of_open(&self, open: &Open, action: Action, filter: CompletionFilter, turn: &mut Turn<'_>) {
        if let Some(path) = open.shown(filter.intersects(STREAMS)) {
            let happening = Happening { directory: open.link.parent, path, action, filter };
            self.report(open.volume(), &[happening], turn);
        }
    }

    /// A CREATE made a file or directory (MS-FSA 2.1.5.1.1). `parent` is the path of the directory.
    pub(crate) fn report_created(
        &self,
        volume: VolumeId,
        parent: &[u16],
        object: &Object,
        turn: &mut Turn<'_>,
    ) {
        if !self.watching.volumes.contains_key(&volume) {
            return;
        }
        let happening = Happening {
            directory: object.parent,
            path: path_of(parent, object.name.units(), &[]),
            action: Action::ADDED,
            filter: name_of(object.attributes.kind == Kind::Directory),
        };
        self.report(volume, &[happening], turn);
    }

    /// A CREATE is done that made a stream, or overwrote what was there (MS-FSA 2.1.5.1.2).
    pub(crate) fn report_opened(&self, id: OpenId, made: bool, overwrote: bool, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&id) else { return };
        if !self.watching.volumes.contains_key(&open.volume()) {
            return;
        }
        let of_stream = !open.stream.is_empty();
        if made && of_stream {
            self.report_of_open(open, Action::ADDED_STREAM, CompletionFilter::STREAM_NAME, turn);
        } else if overwrote && of_stream {
            self.report_of_open(open, Action::MODIFIED_STREAM, STREAM_DATA, turn);
        } else if overwrote {
            let filter = DATA.with(CompletionFilter::ATTRIBUTES).with(CompletionFilter::EA);
            self.report_of_open(open, Action::MODIFIED, filter, turn);
        }
    }

    /// The last close removed a name or a stream (MS-FSA 2.1.5.5, phase 5).
    pub(crate) fn report_unlinked(&self, closing: &Closing, reply: &StorageReply, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&closing.open) else { return };
        if *reply != StorageReply::Done {
            return;
        }
        if closing.removing.as_ref().is_none_or(|removal| removal.stream.is_empty()) {
            self.report_of_open(open, Action::REMOVED, name_of(open.is_directory()), turn);
        } else {
            self.report_of_open(open, Action::REMOVED_STREAM, CompletionFilter::STREAM_NAME, turn);
        }
    }

    /// A file or directory has another name, or one more.
    pub(crate) fn report_renamed(&self, renamed: Renamed, turn: &mut Turn<'_>) {
        if self.watching.volumes.contains_key(&renamed.volume) {
            let volume = renamed.volume;
            self.report(volume, &renamed.happenings(), turn);
        }
    }

    /// A stream has another name: there is no action for that, so one went and one came.
    pub(crate) fn report_stream_renamed(&self, id: OpenId, stream: &Name, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&id) else { return };
        let filter = CompletionFilter::STREAM_NAME;
        self.report_of_open(open, Action::REMOVED_STREAM, filter, turn);
        let path = path_of(parent_of(&open.path), open.spelled.0.units(), stream.units());
        let directory = open.link.parent;
        let come = Happening { directory, path, action: Action::ADDED_STREAM, filter };
        self.report(open.volume(), &[come], turn);
    }

    /// The delete of an open's directory is pending: whoever watches it watches nothing any more (MS-FSA 2.1.5.15.3).
    pub(crate) fn report_doomed(&self, id: OpenId, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get(&id).filter(|open| open.is_directory()) else { return };
        let Some(watchers) = self.watching.volumes.get(&open.volume()) else { return };
        for watcher in watchers.of_directory(open.file.number) {
            let message = Message::News { open: watcher.open, news: News::Deleted };
            turn.post(Address::Session(watcher.session), message);
        }
    }
}
