//! The Connection machine (MS-SMB2 3.3.1.7): dialect, message ids and credits, compounds, cancellation.
//!
//! States of the phase: `AwaitingNegotiate -> AwaitingSmb2Negotiate -> Ready`, the middle one only after an SMB1 negotiate
//! that asked for 2.???. A request runs from its acceptance by the window to exactly one final response (R1); the elements
//! of a compound run one after the other, nothing is reserved between them (S20).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use smb_proto::command::FileId;
use smb_proto::command::negotiate::{Capabilities, Dialect, SecurityMode};
use smb_proto::header::CommandCode;
use smb_proto::{NtStatus, crypto::CipherAlgorithm, crypto::SigningAlgorithm};

use crate::event::Peer;
use crate::ids::{AsyncId, MessageId, SessionId, TreeId};
use crate::message::Terms;
use crate::request::{Protection, Request};
use crate::response::{Protect, Response};

pub mod negotiate;
pub mod receive;
pub mod respond;
pub mod window;

/// A transport connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    /// Whose.
    pub(crate) peer: Peer,
    /// How far negotiation is.
    pub(crate) phase: Phase,
    /// Message ids.
    pub(crate) window: window::Window,
    /// Compounds and single requests in progress, by the message id of the element that runs.
    pub(crate) chains: BTreeMap<MessageId, Chained>,
    /// Sessions set up, or being set up, on this connection.
    pub(crate) sessions: BTreeMap<SessionId, Standing>,
    /// Sessions that are gone while a frame that came under their keys still has to be answered under them (R6).
    pub(crate) leaving: BTreeSet<SessionId>,
    /// Next AsyncId.
    pub(crate) next_async: u64,
    /// No new request is taken: the server stops, or the peer broke the protocol.
    pub(crate) closing: bool,
}

/// How far a connection's negotiation is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Nothing was agreed (Connection.NegotiateDialect 0xFFFF).
    AwaitingNegotiate,
    /// An SMB1 negotiate was answered with 2.??? (0x02FF).
    AwaitingSmb2Negotiate,
    /// The dialect is settled.
    Ready(Box<Negotiated>),
}

/// What NEGOTIATE settled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Negotiated {
    /// What it means for requests.
    pub terms: Terms,
    /// Connection.ClientGuid; zero for 2.0.2 over SMB1 negotiation.
    pub client_guid: [u8; 16],
    /// Connection.ClientCapabilities.
    pub client_capabilities: Capabilities,
    /// Connection.ClientSecurityMode.
    pub client_security_mode: SecurityMode,
    /// Connection.ServerCapabilities.
    pub server_capabilities: Capabilities,
    /// SecurityMode of the answer.
    pub server_security_mode: SecurityMode,
    /// Connection.ShouldSign.
    pub client_requires_signing: bool,
    /// Connection.SigningAlgorithmId.
    pub signing: SigningAlgorithm,
    /// Connection.CipherId.
    pub cipher: Option<CipherAlgorithm>,
}

impl Negotiated {
    /// Connection.SupportsMultiCredit.
    #[must_use]
    pub fn multi_credit(&self) -> bool {
        self.terms.dialect != Dialect::SMB_2_0_2
    }
}

/// A session's standing on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    /// Being set up for the first time.
    InProgress,
    /// Of another connection; this one asks to carry it too. Not in Connection.SessionTable yet.
    Binding,
    /// Keys are installed.
    Valid,
}

/// A compound in progress (or a single request: a compound of one).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Chained {
    /// The element that runs.
    pub running: Running,
    /// Elements still to run.
    pub waiting: VecDeque<Request>,
    /// Responses of the elements that ran.
    pub done: Vec<Response>,
    /// What a related element inherits.
    pub inherited: Inherited,
}

impl Chained {
    /// Whether some response of the frame is, or may yet be, protected with this session's keys.
    pub(crate) fn uses_keys(&self, session: SessionId) -> bool {
        let asked = |protection: Protection, named: SessionId| match protection {
            Protection::Signed => named == session,
            Protection::Sealed(sealed) => sealed == session,
            Protection::None | Protection::BadSignature | Protection::Unverified => false,
        };
        let answered = |response: &Response| match response.protect {
            Protect::Sign => response.session == session,
            Protect::Seal(sealed) => sealed == session,
            Protect::Plain => false,
        };
        asked(self.running.protection, self.running.session)
            || self.waiting.iter().any(|request| asked(request.protection, request.session))
            || self.done.iter().any(answered)
    }
}

/// What is kept of a request for its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Running {
    pub command: CommandCode,
    pub credit_charge: u16,
    pub credits: u16,
    pub session: SessionId,
    pub tree: TreeId,
    pub related: bool,
    pub protection: Protection,
    /// Set once an interim response is out.
    pub async_id: Option<AsyncId>,
    /// A CANCEL named it: it is not to wait from now on.
    pub cancelled: bool,
}

/// Ids and status of the predecessor in a compound (3.3.5.2.7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Inherited {
    pub session: SessionId,
    pub tree: TreeId,
    pub open: Option<FileId>,
    pub status: NtStatus,
}

impl Connection {
    pub(crate) fn new(peer: Peer) -> Self {
        Self {
            peer,
            phase: Phase::AwaitingNegotiate,
            window: window::Window::default(),
            chains: BTreeMap::new(),
            sessions: BTreeMap::new(),
            leaving: BTreeSet::new(),
            next_async: 1,
            closing: false,
        }
    }

    /// What was negotiated, once it was.
    pub(crate) fn negotiated(&self) -> Option<&Negotiated> {
        match &self.phase {
            Phase::Ready(negotiated) => Some(negotiated),
            Phase::AwaitingNegotiate | Phase::AwaitingSmb2Negotiate => None,
        }
    }

    /// Whether a session is in Connection.SessionTable.
    pub(crate) fn carries(&self, session: SessionId) -> bool {
        matches!(self.sessions.get(&session), Some(Standing::InProgress | Standing::Valid))
    }

    /// Whether some session is valid here.
    pub(crate) fn is_authenticated(&self) -> bool {
        self.sessions.values().any(|standing| *standing == Standing::Valid)
    }
}
