//! The Open machine (MS-SMB2 3.3.1.10): one use of a file, from CREATE to CLOSE.
//!
//! ```text
//! (creating: see `create`) -> Ready -> Closing -> gone
//! ```
//! `Ready` takes requests; each one that is with storage counts as outstanding. `Closing` takes none and lasts until the last
//! outstanding one is answered: only then the file is told, the handle closed, and a pending delete carried out (S39).
//!
//! What is durable outlives its session, see [`durable`].

use std::collections::VecDeque;

use smb_proto::access::AccessMask;
use smb_proto::command::FileId;
use smb_proto::command::create::CreateOptions;
use smb_proto::create_context::{LeaseKey, LeaseState};
use smb_proto::{Name, NtStatus};

use channel_sequence::{Outstanding, Stale, Ticket};
use durable::{Created, Durable};

use crate::file::caching::Notice;
use crate::file::permit::{Permit, UnderPermit};
use crate::file::{Link, NewName};
use crate::ids::{ConnectionId, FileKey, Handle, OpenId, SessionId, ShareId, TreeId, VolumeId};
use crate::message::{Execution, Finished, Origin};
use crate::request::{Command, IoctlInput};
use crate::response::Body;
use crate::shard::{Shard, Turn};
use crate::storage::{Kind, Requester, VolumeCaps};
use lock::LockSequences;

pub mod breaks;
pub mod channel_sequence;
pub mod checked;
pub mod clear;
pub mod close;
pub mod copy;
pub mod create;
pub mod directory_lease;
pub mod doom;
pub mod durable;
pub mod exchange;
pub mod extents;
pub mod io;
pub mod ioctl;
pub mod lock;
pub mod query;
pub mod rename;
pub mod reparse;
pub mod set;
pub mod times;

/// An open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Open {
    /// The volatile half of its FileId.
    pub(crate) volatile: u64,
    /// Whose.
    pub(crate) session: SessionId,
    /// Through which tree connect.
    pub(crate) tree: TreeId,
    /// Through which share.
    pub(crate) share: ShareId,
    /// Where it is in its life.
    pub(crate) state: State,
    /// The file.
    pub(crate) file: FileKey,
    /// The driver's handle.
    pub(crate) handle: Handle,
    /// File, directory or pipe.
    pub(crate) kind: Kind,
    /// What the volume can do.
    pub(crate) caps: VolumeCaps,
    /// What it may do.
    pub(crate) access: AccessMask,
    /// Options of its CREATE that go on having a meaning.
    pub(crate) options: CreateOptions,
    /// Path from the share's root as the client gave it, stream included.
    pub(crate) path: Name,
    /// The stream, folded; empty for the unnamed one.
    pub(crate) stream: Name,
    /// The last component and the stream as the volume spells them.
    pub(crate) spelled: (Name, Name),
    /// The name that its link got while its CREATE was under way.
    pub(crate) moved: Option<Box<NewName>>,
    /// The name it came by.
    pub(crate) link: Link,
    /// FilePositionInformation: nothing but a number that the client keeps here.
    pub(crate) position: u64,
    /// Where the next QUERY_INFO for extended attributes goes on.
    pub(crate) ea_index: u32,
    /// The current listing's pattern was given.
    pub(crate) listing: bool,
    /// Requests that are with storage or another machine, and the channel sequence that tells old ones from new ones.
    pub(crate) outstanding: Outstanding,
    /// What may be done without asking the file.
    pub(crate) permit: Permit,
    /// What of that is with storage.
    pub(crate) under_permit: UnderPermit,
    /// Lock sequences of its LOCKs.
    pub(crate) lock_sequences: LockSequences,
    /// Open.ClientGuid: the client that made it, where its dialect counts.
    pub(crate) client: Option<[u8; 16]>,
    /// What lets it outlive its connection, if anything does.
    pub(crate) durable: Option<Box<Durable>>,
    /// It is kept here for its client, and counted.
    pub(crate) kept: bool,
    /// Its CREATE, if that had a CreateGuid.
    pub(crate) created: Option<Created>,
    /// The lease that it joined.
    pub(crate) lease: Option<LeaseKey>,
    /// That lease is of version 2.
    pub(crate) lease_v2: bool,
    /// The lease of its directory that its CREATE named.
    pub(crate) parent_lease: Option<([u8; 16], LeaseKey)>,
    /// It wrote; its directory's leases break at its close.
    pub(crate) wrote: bool,
    /// Its directory was made known as cached to this many shards.
    pub(crate) cached_in: u16,
    /// Where its client was told of the last break.
    pub(crate) break_told: Option<ConnectionId>,
    /// While it is being made: the file has granted it.
    pub(crate) granted: bool,
    /// Breaks that came before its CREATE was answered: a grant is never overtaken by its break (S32).
    pub(crate) held_breaks: Vec<(OpenId, FileKey, Notice)>,
    /// While it is being made: what its lease has kept of what was broken when the file granted it.
    pub(crate) settled: Option<LeaseState>,
    /// The open's own delete-pending directory was announced to the namespace.
    pub(crate) doomed: bool,
    /// Which times it keeps, and whether it wrote.
    pub(crate) times: times::Times,
}

/// Where an open is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// Being made; no request can name it yet.
    Creating,
    /// Usable.
    Ready,
    /// Its session ends. Waiting for outstanding requests, then for its file's word whether it is preserved.
    Leaving,
    /// Kept for its client, in no session.
    Preserved,
    /// Its client is back; the file is asked whether the open is still the client's.
    Reclaiming,
    /// Waiting for outstanding requests, then closing. With the CLOSE requests to answer.
    Closing(VecDeque<close::Closer>),
}

impl Open {
    /// Its FileId.
    pub(crate) fn file_id(&self, id: OpenId) -> FileId {
        FileId { persistent: id.0, volatile: self.volatile }
    }

    /// Who asks storage when this open does.
    pub(crate) fn requester(&self, origin: &Origin) -> Requester {
        Requester {
            volume: self.file.volume,
            session: self.session,
            connection: origin.connection,
            share: self.share,
        }
    }

    /// Whether any of these rights was granted.
    pub(crate) fn check_any(&self, rights: AccessMask) -> Result<(), NtStatus> {
        if self.access.intersects(rights) { Ok(()) } else { Err(NtStatus::ACCESS_DENIED) }
    }

    /// Whether it ends, or leaves its session: it takes no request any more.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing(_) | State::Leaving)
    }

    /// Whether its file has granted it: the client knows of it, or is about to.
    pub(crate) fn is_granted(&self) -> bool {
        self.granted || self.state != State::Creating
    }

    pub(crate) fn volume(&self) -> VolumeId {
        self.file.volume
    }

    /// Its link has another name.
    pub(crate) fn follow(&mut self, name: &NewName) {
        let units = self.path.units();
        let stream = units.iter().position(|unit| *unit == u16::from(b':')).and_then(|at| units.get(at..));
        let path = [name.path.units(), stream.unwrap_or_default()].concat();
        (self.link, self.path) = (name.link.clone(), Name::from_units(path));
        self.spelled.0 = name.spelled.clone();
    }

    /// Its path with another stream.
    pub(crate) fn path_with_stream(&self, stream: Option<&Name>) -> Name {
        let file = self.path.units().split(|unit| *unit == u16::from(b':')).next().unwrap_or_default();
        let mut units = file.to_vec();
        if let Some(stream) = stream {
            units.push(u16::from(b':'));
            units.extend_from_slice(stream.units());
        }
        Name::from_units(units)
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == Kind::Directory && self.stream.is_empty()
    }
}

/// The open that a command names.
fn named_open(command: &Command) -> Option<FileId> {
    match command {
        Command::Close(close) => Some(close.file_id),
        Command::Flush(flush) => Some(flush.file_id),
        Command::Read(read) => Some(read.file_id),
        Command::Write(write) => Some(write.file_id),
        Command::Lock(lock) => Some(lock.file_id),
        Command::Ioctl(ioctl) => Some(ioctl.file_id),
        Command::QueryDirectory(query) => Some(query.file_id),
        Command::ChangeNotify(notify) => Some(notify.file_id),
        Command::QueryInfo(query) => Some(query.file_id),
        Command::SetInfo(set) => Some(set.file_id),
        Command::MultiProtocolNegotiate(_)
        | Command::Negotiate(_)
        | Command::SessionSetup(_)
        | Command::Logoff
        | Command::TreeConnect(_)
        | Command::TreeDisconnect
        | Command::Create(_)
        | Command::Cancel
        | Command::Echo
        | Command::OplockBreak(_)
        | Command::Unreadable(_) => None,
    }
}

/// A request on an open, found and checked to be its session's.
pub(crate) struct OpenRequest {
    pub origin: Origin,
    pub open: OpenId,
    pub file_id: FileId,
    pub execution: Execution,
}

impl Shard {
    /// A request that names an open.
    pub(crate) fn on_open_request(&mut self, origin: Origin, execution: Execution, turn: &mut Turn<'_>) {
        if let Command::Ioctl(ioctl) = &execution.request.command
            && (ioctl.code.is_without_open() || matches!(ioctl.input, IoctlInput::ValidateNegotiate(_)))
        {
            return self.on_ioctl_without_open(origin, &execution, turn);
        }
        let spent = execution.request.command.buffer();
        let named = named_open(&execution.request.command).unwrap_or_default();
        let file_id = if execution.request.related { execution.related_open.unwrap_or(named) } else { named };
        let id = OpenId(file_id.persistent);
        let mut replayable = false;
        let found = self.opens.get(&id).is_some_and(|open| {
            replayable = open.created.is_some_and(|created| created.replayable);
            // Ordinary requests match both halves, the session and the tree connect (S43).
            open.volatile == file_id.volatile
                && open.session == origin.session
                && open.tree == origin.tree
                && open.state == State::Ready
        });
        if !found {
            let finished =
                Finished { origin, status: NtStatus::FILE_CLOSED, body: Body::Error, open: None, spent };
            return turn.finish(finished);
        }
        let ticket = match self.check_channel_sequence(id, &execution) {
            Ok(ticket) => ticket,
            Err(status) => {
                return turn.finish(Finished {
                    origin,
                    status,
                    body: Body::Error,
                    open: Some(file_id),
                    spent,
                });
            }
        };
        if replayable {
            // Its client has the answer of its CREATE.
            self.end_replay(id, turn);
        }
        let origin = Origin { ticket, ..origin };
        let request = OpenRequest { origin, open: id, file_id, execution };
        if let Err(status) = self.dispatch_open(&request, turn) {
            turn.finish(Finished { origin, status, body: Body::Error, open: Some(file_id), spent });
        }
    }

    /// 3.3.5.2.10: what is stale changes nothing any more.
    fn check_channel_sequence(&mut self, id: OpenId, execution: &Execution) -> Result<Ticket, NtStatus> {
        let Some(open) = self.opens.get_mut(&id).filter(|_| execution.terms.dialect.is_smb3()) else {
            return Ok(Ticket::UNCOUNTED);
        };
        let request = &execution.request;
        match open.outstanding.check(request.channel_sequence, request.replay) {
            Ok(ticket) => Ok(ticket),
            Err(Stale) => match request.command {
                Command::Write(_) | Command::SetInfo(_) | Command::Ioctl(_) => {
                    Err(NtStatus::FILE_NOT_AVAILABLE)
                }
                Command::Close(_)
                | Command::Flush(_)
                | Command::Read(_)
                | Command::Lock(_)
                | Command::QueryDirectory(_)
                | Command::ChangeNotify(_)
                | Command::QueryInfo(_)
                | Command::MultiProtocolNegotiate(_)
                | Command::Negotiate(_)
                | Command::SessionSetup(_)
                | Command::Logoff
                | Command::TreeConnect(_)
                | Command::TreeDisconnect
                | Command::Create(_)
                | Command::Cancel
                | Command::Echo
                | Command::OplockBreak(_)
                | Command::Unreadable(_) => Ok(Ticket::UNCOUNTED),
            },
        }
    }

    /// Carries a request out, or says why not; then nothing was started.
    fn dispatch_open(&mut self, request: &OpenRequest, turn: &mut Turn<'_>) -> Result<(), NtStatus> {
        match &request.execution.request.command {
            Command::Close(close) => {
                self.on_close(request, close, turn);
                Ok(())
            }
            Command::Flush(_) => self.on_flush(request, turn),
            Command::Read(read) => self.on_read(request, read, turn),
            Command::Write(write) => self.on_write(request, write, turn),
            Command::QueryDirectory(query) => self.on_query_directory(request, query, turn),
            Command::QueryInfo(query) => self.on_query_info(request, query, turn),
            Command::SetInfo(set) => self.on_set_info(request, set, turn),
            Command::Ioctl(ioctl) => self.on_ioctl(request, ioctl, turn),
            Command::Lock(lock) => self.on_lock(request, lock, turn),
            Command::ChangeNotify(notify) => self.on_change_notify(request, notify, turn),
            Command::MultiProtocolNegotiate(_)
            | Command::Negotiate(_)
            | Command::SessionSetup(_)
            | Command::Logoff
            | Command::TreeConnect(_)
            | Command::TreeDisconnect
            | Command::Create(_)
            | Command::Cancel
            | Command::Echo
            | Command::OplockBreak(_)
            | Command::Unreadable(_) => Err(NtStatus::INVALID_PARAMETER),
        }
    }

    /// An outstanding request of an open was answered; it may have been the one that its close waited for.
    pub(crate) fn outstanding_done(&mut self, id: OpenId, ticket: Ticket, turn: &mut Turn<'_>) {
        let Some(open) = self.opens.get_mut(&id) else { return };
        open.outstanding.end(ticket);
        if !open.outstanding.is_empty() {
            return;
        }
        match open.state {
            State::Closing(_) => self.begin_close(id, turn),
            State::Leaving => self.ask_to_preserve(id, turn),
            State::Creating | State::Ready | State::Preserved | State::Reclaiming => {}
        }
    }
}
