//! What a shard wants done.

use smb_proto::command::negotiate::Dialect;
use smb_proto::crypto::{CipherAlgorithm, SigningAlgorithm};

use crate::endpoint::Buffers;
use crate::ids::{BufferId, Channel, ConnectionId, MessageId, OpenId, SessionId, ShardId, Token};
use crate::message::Envelope;
use crate::record::Record;
use crate::response::{Notification, Response};
use crate::storage::{Requester, StorageOp};
use crate::timer::{Armed, Timer};

/// The sink that [`crate::Shard::step`] pushes into. Carry the actions out in order.
pub type Actions = Vec<Action>;

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Something for a connection's endpoint, in this order for each connection.
    Output(ConnectionId, Output),
    /// Ask a volume's driver. Answered by exactly one [`crate::Event::Completed`], also after `Abandon` (R2).
    Submit {
        /// Names the request in its answer.
        token: Token,
        /// Who asks, and which volume.
        requester: Requester,
        /// The request.
        op: StorageOp,
    },
    /// Nobody waits for this request's result any more; a driver may hurry it to an end.
    Abandon {
        /// The request.
        token: Token,
    },
    /// Change a record in the store, in this order. Answered by exactly one [`crate::Event::Stored`].
    Store {
        /// Names the request in its answer.
        token: Token,
        /// Whose request waits for it; 0 if nobody's.
        connection: ConnectionId,
        /// The change.
        change: StoreChange,
    },
    /// What [`crate::Event::Restored`] asked for is done.
    Recovered {
        /// The open.
        open: OpenId,
        /// It is there again; if not, its record goes.
        restored: bool,
    },
    /// A payload is no longer needed (R5).
    Release(BufferId),
    /// Start or move a timer.
    Arm {
        /// Which.
        timer: Timer,
        /// Handed back on expiry.
        armed: Armed,
        /// From now, in milliseconds.
        after_ms: u64,
    },
    /// Stop a timer.
    Disarm(Timer),
    /// Deliver to another shard, exactly once and in order (R10).
    ToShard(ShardId, Envelope),
    /// Something worth a line in the audit log.
    Record(Audit),
}

/// A change of the records of persistent opens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreChange {
    /// This is the record of its open from now on.
    Put(Box<Record>),
    /// The open has no record any more.
    Delete(OpenId),
}

/// What a connection's endpoint is told ([`crate::endpoint::Endpoint::carry_out`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Send one frame of responses: one, or a compound's.
    Respond(Vec<Response>),
    /// Send a message that answers nothing.
    Notify(Notification),
    /// The connection's dialect and algorithms are settled; comes before the NEGOTIATE response.
    Negotiated(Agreed),
    /// The preauthentication hash of this session goes on with this SESSION_SETUP request (3.1.1).
    ContinueHash {
        /// The session; the hash starts from the connection's if it is new.
        session: SessionId,
        /// The request, whose bytes the endpoint still has.
        message: MessageId,
    },
    /// Feed a token to the session's authentication, answer with [`crate::Event::Authenticated`].
    Authenticate {
        /// The session.
        session: SessionId,
        /// The request that carried the token.
        message: MessageId,
        /// The token; the endpoint releases it.
        token: BufferId,
    },
    /// A connection asks to carry a session that it does not carry yet (SMB2_SESSION_FLAG_BINDING): verify the request with
    /// the session's own signing key, go on with the channel's preauthentication hash (3.1.1), feed the token to the
    /// channel's authentication, and answer with [`crate::Event::Authenticated`].
    Bind {
        /// The session, which names its keys in the [`crate::endpoint::KeyRing`].
        session: SessionId,
        /// The request, whose bytes the endpoint still has.
        message: MessageId,
        /// The token; the endpoint releases it.
        token: BufferId,
    },
    /// A bind is refused before anybody looked at its token: if the request is signed with the session's own key, so is the
    /// answer that follows.
    VerifyBind {
        /// The session.
        session: SessionId,
        /// The request, whose bytes the endpoint still has.
        message: MessageId,
    },
    /// Forget an authentication in progress and its hash.
    DropAuthentication {
        /// The session.
        session: SessionId,
    },
    /// Derive the session's keys for this connection from what the authentication left; comes before the response
    /// that lets the client use them (R6). After [`Output::Bind`] only the signing key is the connection's own.
    InstallKeys {
        /// The session.
        session: SessionId,
        /// The connection's place in it: the top of every nonce.
        channel: Channel,
    },
    /// Forget the keys, and what a bind that failed left; comes after the last response under them.
    DropKeys {
        /// The session.
        session: SessionId,
    },
    /// Close the connection once what was sent before is out.
    Disconnect,
}

impl Output {
    /// Gives back the payloads that carrying this out would use up, when nobody can carry it out any more because the
    /// connection is gone (R5).
    pub fn discard(&self, buffers: &dyn Buffers) {
        match self {
            Self::Respond(responses) => {
                for buffer in responses.iter().filter_map(|response| response.body.buffer()) {
                    buffers.release(buffer);
                }
            }
            Self::Authenticate { token, .. } | Self::Bind { token, .. } => buffers.release(*token),
            Self::Notify(_)
            | Self::Negotiated(_)
            | Self::ContinueHash { .. }
            | Self::VerifyBind { .. }
            | Self::DropAuthentication { .. }
            | Self::InstallKeys { .. }
            | Self::DropKeys { .. }
            | Self::Disconnect => {}
        }
    }
}

/// What NEGOTIATE settled, as far as the endpoint needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Agreed {
    /// The dialect; [`Dialect::WILDCARD`] after an SMB1 negotiate that asked for 2.???.
    pub dialect: Dialect,
    /// How messages are signed.
    pub signing: SigningAlgorithm,
    /// How messages are encrypted, if they can be.
    pub cipher: Option<CipherAlgorithm>,
    /// The request, whose bytes begin the preauthentication hash (3.1.1).
    pub message: MessageId,
    /// Bytes that one frame may have from now on.
    pub frame_max: u32,
}

/// What the audit log is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Audit {
    /// A user has a valid session.
    LoggedOn {
        /// Where.
        connection: ConnectionId,
        /// Which session.
        session: SessionId,
        /// Who.
        identity: crate::event::Identity,
    },
    /// A session is carried by one more connection.
    Bound {
        /// Which connection.
        connection: ConnectionId,
        /// Which session.
        session: SessionId,
    },
    /// An authentication failed.
    LogonFailed {
        /// Where.
        connection: ConnectionId,
    },
    /// A session ended.
    LoggedOff {
        /// Which.
        session: SessionId,
    },
    /// A peer broke the protocol and was disconnected.
    Misbehaved {
        /// Where.
        connection: ConnectionId,
        /// How.
        what: &'static str,
    },
    /// A persistent open could not be restored: its file is gone, or another one, or storage could not tell; or its share is no longer
    /// for such opens.
    NotRestored {
        /// Which.
        open: OpenId,
    },
    /// The adapter broke the contract of an event.
    AdapterMisuse {
        /// How.
        what: &'static str,
    },
}
