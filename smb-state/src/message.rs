//! Messages between machines. Within a shard they go through the step's work list, between shards through the adapter;
//! exactly once and in order for each pair, nothing more (R10).
//!
//! | message | from | to | if the receiver is gone |
//! |---|---|---|---|
//! | [`Message::Execute`] | connection | session | answered USER_SESSION_DELETED |
//! | [`Message::Finish`] | session, open | connection | its payload is released |
//! | [`Message::Cancel`] | connection | session | nothing to cancel |
//! | [`Message::Setup`] | connection | session | answered USER_SESSION_DELETED |
//! | [`Message::Authenticated`] | connection | session | its payload is released |
//! | [`Message::Interim`] | whoever lets a request wait | connection | nobody is left to tell |
//! | [`Message::Break`] | file | session | answered [`FileAsk::NotTold`]; its close is on its way to the file |
//! | [`Message::Settled`], [`Message::Permit`] | file | session | its close is on its way to the file |
//! | [`Message::Notify`] | session | connection | nobody is left to tell |
//! | [`Message::ChannelLost`] | connection | session | nothing to do |
//! | [`Message::Endpoint`] | session | connection | its payload is released |
//! | [`Message::SessionValid`] | session | connection | nothing to do |
//! | [`Message::BindEnded`] | session | connection | its payload is released |
//! | [`Message::SessionEnded`] | session | connection | nothing to do |
//! | [`Message::Misbehaved`] | session | connection | nothing to do |
//! | [`Message::Moved`] | file | session, open's home | it is on its way to the other; or its close to the file |
//! | [`Message::Preserve`] | session | open's home | shards are always there |
//! | [`Message::Reclaim`] | session | open's home | answered: there is no such open |
//! | [`Message::Follow`] | file | session, open's home | sent on to the other; then answered: it is closed |
//! | [`Message::Lost`] | file | open's home | it is on its way there; or its close to the file |
//! | [`Message::Gone`] | session | open's home | shards are always there |
//! | [`Message::EndPrevious`] | session | session | answered: nothing to end |
//! | [`Message::AskFile`] | open | file | a file without state is a file without opens: it is made |
//! | [`Message::AskNamespace`] | open | namespace | made likewise |
//! | [`Message::AskClient`] | session, file | client | made likewise |
//! | [`Message::Freeze`], [`Message::Thaw`] | open | every shard | shards are always there |
//! | [`Message::DirectoryCached`], [`Message::DirectoryUncached`] | open | every shard | shards are always there |
//! | [`Message::Watch`], [`Message::Unwatch`] | open | every shard | shards are always there |
//! | [`Message::News`] | whoever changed something | session | nobody is left to tell |
//! | [`Message::Answer`] | file, namespace, client, session | whoever asked | the asker waits for it, so it is there |
//!
//! Who asks waits with a token of its own shard; an answer may be overtaken only by messages of other pairs.

use smb_proto::command::FileId;
use smb_proto::command::negotiate::Dialect;
use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::create_context::{LeaseKey, LeaseState};
use smb_proto::{Name, NtStatus};

use crate::action::Output;
use crate::connection::Negotiated;
use crate::event::{AuthOutcome, Identity};
use crate::file::caching::{Cached, Notice};
use crate::file::permit::Permit;
use crate::file::{FileAsk, Follow, NewName, Removal};
use crate::ids::{
    BufferId, ConnectionId, FileKey, MessageId, OpenId, SessionId, ShardId, Token, TreeId, VolumeId,
};
use crate::namespace::NamespaceAsk;
use crate::open::Open;
use crate::open::channel_sequence::Ticket;
use crate::open::durable::Claim;
use crate::record::Held;
use crate::request::{Protection, Request, SessionSetup};
use crate::response::{Body, Notification, Protect};
use crate::watch::News;
use crate::watch::table::Watcher;

/// A message and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// The machine.
    pub to: Address,
    /// The message.
    pub message: Message,
}

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A connection.
    Connection(ConnectionId),
    /// A session with its tree connects and opens.
    Session(SessionId),
    /// A file.
    File(FileKey),
    /// A volume's names.
    Namespace(VolumeId),
    /// A client, by its ClientGuid.
    Client([u8; 16]),
    /// A preserved open, in the shard that made its id. While it has a session it lives with that.
    Open(OpenId),
    /// Whoever waits in this shard.
    Shard(ShardId),
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Carry out a request.
    Execute(Box<Execution>),
    /// A request is done.
    Finish(Box<Finished>),
    /// Give up a request that waits.
    Cancel {
        /// Where it came from.
        connection: ConnectionId,
        /// Which.
        message: MessageId,
        /// What it is answered with.
        status: NtStatus,
    },
    /// A SESSION_SETUP for a session that there is: another leg, reauthentication, or a bind.
    Setup(Box<SetupRequest>),
    /// A step of an authentication ended at the connection's endpoint.
    Authenticated {
        /// Where.
        connection: ConnectionId,
        /// The SESSION_SETUP request that carried the token.
        message: MessageId,
        /// How.
        outcome: Box<AuthOutcome>,
    },
    /// A request really waits: its client is told so, once (3.3.4.2). Beyond the bound on such requests of a connection it is
    /// cancelled with INSUFFICIENT_RESOURCES instead.
    Interim {
        /// Which.
        message: MessageId,
    },
    /// A break of an open's oplock or lease, for its client.
    Break {
        /// The open.
        open: OpenId,
        /// The file, which is told if the client can't be.
        file: FileKey,
        /// What is broken.
        notice: Notice,
    },
    /// The link of an open has another name by a rename of another open.
    Moved {
        /// The open.
        open: OpenId,
        /// The name.
        name: Box<NewName>,
    },
    /// A break has ended with these rights that was under way when an open joined the lease.
    Settled {
        /// The open.
        open: OpenId,
        /// What it may cache.
        state: LeaseState,
    },
    /// What an open may do without asking its file, from now on.
    Permit {
        /// The open.
        open: OpenId,
        /// The permit.
        permit: Permit,
    },
    /// A notification that answers no request.
    Notify(Notification),
    /// The connection is gone.
    ChannelLost {
        /// Which.
        connection: ConnectionId,
    },
    /// For the connection's endpoint. Only the connection's own shard talks to the endpoint, so that all it is told comes
    /// in one order.
    Endpoint(Box<Output>),
    /// A session may be used on this connection from now on.
    SessionValid {
        /// Which.
        session: SessionId,
    },
    /// A bind failed, and with it all that ties the connection to the session. Both are one message: the client may try
    /// again as soon as it has the answer.
    BindEnded(Box<Finished>),
    /// The peer broke a rule that leaves no answer.
    Misbehaved {
        /// How.
        what: &'static str,
    },
    /// A session is no longer on this connection.
    SessionEnded {
        /// Which.
        session: SessionId,
    },
    /// An open whose client is gone is kept for its return. Granted once it is there.
    Preserve {
        /// Its id.
        id: OpenId,
        /// The open, which no other shard has from now on.
        open: Box<Open>,
        /// To be answered.
        asker: Asker,
    },
    /// A client comes back for a preserved open. [`Answer::Reclaimed`] or refused.
    Reclaim {
        /// What it shows.
        claim: Box<Claim>,
        /// To be answered.
        asker: Asker,
    },
    /// The record of an open is to follow what happened to its file. Granted once it does, or refused.
    Follow {
        /// What it is to say.
        follow: Box<Follow>,
        /// To be answered.
        asker: Asker,
    },
    /// An open that a client took up again in another shard is closed.
    Gone {
        /// The open.
        open: OpenId,
        /// Whose it was, if it was persistent.
        persistent: Option<Box<Identity>>,
    },
    /// What a preserved open caches is to be broken, and its client can't be told: the open goes.
    Lost {
        /// The open.
        open: OpenId,
    },
    /// The same user came back and asks for this session's end (PreviousSessionId). Answered when its opens are closed.
    EndPrevious {
        /// Who asks; only the session's own user may.
        identity: Identity,
        /// To be answered.
        asker: Asker,
    },
    /// Ask a file.
    AskFile(FileAsk, Asker),
    /// Ask a volume's names.
    AskNamespace(NamespaceAsk, Asker),
    /// Ask a client whether its connections may speak this dialect (3.3.5.5.3).
    AskClient(ClientAsk, Asker),
    /// A directory is about to be renamed: hold back what wants to open below it. Granted if nothing is open there, or
    /// [`Answer::Obstructed`]; refused while it is being renamed already.
    Freeze {
        /// The volume.
        volume: VolumeId,
        /// The directory's folded path.
        path: Name,
        /// To be answered.
        asker: Asker,
    },
    /// The rename is done or was given up: what was held back runs.
    Thaw {
        /// The volume.
        volume: VolumeId,
        /// The directory's folded path.
        path: Name,
        /// Its new one, folded, if the rename was done.
        moved: Option<Name>,
    },
    /// A directory may be cached under a lease from now on; counted for each open.
    DirectoryCached {
        /// The directory.
        directory: FileKey,
        /// To be answered.
        asker: Asker,
    },
    /// An open under a directory's lease is gone.
    DirectoryUncached {
        /// The directory.
        directory: FileKey,
    },
    /// An open watches a directory: tell it what happens there. Granted, or refused with INSUFFICIENT_RESOURCES.
    Watch {
        /// The volume.
        volume: VolumeId,
        /// Who watches what.
        watcher: Watcher,
        /// To be answered.
        asker: Asker,
    },
    /// An open watches no longer.
    Unwatch {
        /// The volume.
        volume: VolumeId,
        /// The open.
        open: OpenId,
    },
    /// Something happened that an open watches.
    News {
        /// The open.
        open: OpenId,
        /// What.
        news: News,
    },
    /// The answer to an ask.
    Answer(Token, Answer),
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asker {
    /// Its shard.
    pub shard: ShardId,
    /// Its wait there.
    pub token: Token,
}

/// What a client's machine is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClientAsk {
    /// A session becomes valid on a connection of this dialect.
    Join(Dialect),
    /// A session of this client ended.
    Leave,
    /// The file that a lease of the client is for. [`Answer::LeasedFile`].
    Leased(LeaseKey),
    /// An open joins a lease. Granted, or refused with INVALID_PARAMETER when the key is another file's (3.3.5.9.8).
    Claim {
        /// The lease.
        key: LeaseKey,
        /// The file.
        file: FileKey,
        /// Its stream, folded.
        stream: Name,
    },
    /// The stream of a lease has another name (3.3.5.21.1). Granted.
    Renamed {
        /// The lease.
        key: LeaseKey,
        /// The file.
        file: FileKey,
        /// Its stream's name, folded.
        stream: Name,
    },
    /// An open that joined a lease is gone. Not answered.
    Unclaim(LeaseKey),
    /// A CREATE with this CreateGuid begins. Granted, or [`Answer::CreateKnown`].
    BeginCreate {
        /// The CreateGuid.
        guid: [u8; 16],
        /// The CREATE.
        created: Box<KnownCreate>,
    },
    /// The open that a CREATE with this CreateGuid makes, or made, can't be had by a replay any more. Not answered.
    EndCreate {
        /// The CreateGuid.
        guid: [u8; 16],
        /// The open.
        open: OpenId,
    },
    /// That open has another session. Not answered.
    MoveCreate {
        /// The CreateGuid.
        guid: [u8; 16],
        /// The open.
        open: OpenId,
        /// Its session.
        session: SessionId,
    },
}

/// A CREATE that may be replayed (Open.IsReplayEligible).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KnownCreate {
    /// The open that it makes, or made.
    pub open: OpenId,
    /// The open's session.
    pub session: SessionId,
    /// Whose it is.
    pub owner: Identity,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Yes; done.
    Granted,
    /// No.
    Refused(NtStatus),
    /// What was asked about changed meanwhile: start again from the name.
    Again,
    /// The open is closed.
    Closed {
        /// It was the last through a name (or of a stream) whose delete is pending: remove that, then tell the file.
        remove: Option<Removal>,
    },
    /// Whether the file's delete is pending.
    Pending(bool),
    /// The file is open.
    Opened {
        /// What it may cache.
        cached: Cached,
        /// What it may do without asking.
        permit: Permit,
    },
    /// It may be done now.
    Checked {
        /// What may be done without asking from now on.
        permit: Permit,
    },
    /// An oplock's break has ended with this level.
    Acknowledged(OplockLevel),
    /// A lease's break has ended with these rights.
    Kept(LeaseState),
    /// The file of a lease, if there is such a lease.
    LeasedFile(Option<FileKey>),
    /// Something is open below a directory: these files.
    Obstructed(Vec<FileKey>),
    /// There is a CREATE with this CreateGuid.
    CreateKnown(Box<KnownCreate>),
    /// What the record of an open is to say.
    Held(Box<Held>),
    /// The open is the asker's, who puts it into its session.
    Reclaimed {
        /// The open.
        open: Box<Open>,
    },
}

/// What a connection's dialect and capabilities mean for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// The dialect.
    pub dialect: Dialect,
    /// Bytes of one READ, WRITE or transaction.
    pub io_size_max: u32,
    /// Connection.ServerCapabilities includes encryption.
    pub encryption: bool,
    /// Connection.ServerCapabilities includes SMB2_GLOBAL_CAP_MULTI_CHANNEL.
    pub multi_channel: bool,
}

/// A request on its way to a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Execution {
    /// Where it came from.
    pub connection: ConnectionId,
    /// What the connection agreed on.
    pub terms: Terms,
    /// All that it agreed on, where that is asked for (FSCTL_VALIDATE_NEGOTIATE_INFO).
    pub negotiated: Option<Box<Negotiated>>,
    /// The tree connect: the request's own or, in a related compound, its predecessor's.
    pub tree: TreeId,
    /// In a related compound, the open of the predecessor, used where the request names none of its own.
    pub related_open: Option<FileId>,
    /// It is the last of its frame: only then may it wait for something that may never come (3.3.5.2.7.2).
    pub last: bool,
    /// The request; its session is the address.
    pub request: Request,
}

/// A SESSION_SETUP request on its way to its session, which is the address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SetupRequest {
    /// Where it came from.
    pub connection: ConnectionId,
    /// What that connection agreed on.
    pub negotiated: Negotiated,
    /// Its MessageId.
    pub message: MessageId,
    /// How it was protected.
    pub protection: Protection,
    /// What it asks.
    pub setup: SessionSetup,
}

/// Where a request came from and how its response must be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The connection.
    pub connection: ConnectionId,
    /// The request.
    pub message: MessageId,
    /// The session.
    pub session: SessionId,
    /// The tree connect, 0 if none.
    pub tree: TreeId,
    /// How to protect the response.
    pub protect: Protect,
    /// What the request counts as, of those under way on its open.
    pub ticket: Ticket,
}

/// A request that is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finished {
    /// Which.
    pub origin: Origin,
    /// How it ended.
    pub status: NtStatus,
    /// What the response says.
    pub body: Body,
    /// The open that the request used or made, for the next of a related compound.
    pub open: Option<FileId>,
    /// The request's own payload, released when the response goes out.
    pub spent: Option<BufferId>,
}
