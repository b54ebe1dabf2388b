//! The Session machine (MS-SMB2 3.3.1.8): who somebody is, on which connections, with which tree connects and opens.
//!
//! ```text
//! InProgress --accepted--> Valid <--accepted-- Reauthenticating --its connection is lost--> Expired
//!     |                    |  ^----- expires ----> Expired --SESSION_SETUP--> Reauthenticating
//!     '--denied--> gone    '-- logoff, last connection lost, previous session, administrator, denied --> Ending --> gone
//! ```
//!
//! `Ending` lasts while requests under its opens are still with storage (S39); whoever asked for the end is answered after.
//!
//! A session lives in the shard that made its id, its connections (channels) in any: they meet in messages only.

use std::collections::{BTreeMap, BTreeSet};

use smb_proto::access::AccessMask;
use smb_proto::command::negotiate::{Capabilities, Dialect};
use smb_proto::{NtStatus, header::CommandCode};

use crate::action::{Action, Audit};
use crate::config::Survives;
use crate::connection::Negotiated;
use crate::event::Identity;
use crate::ids::{Channel, ConnectionId, MessageId, OpenId, SessionId, ShareId, TreeId, VolumeId};
use crate::message::{Address, Answer, Asker, ClientAsk, Finished, Message, Origin, Terms};
use crate::response::Body;
use crate::shard::{Shard, Turn};
use crate::storage::VolumeCaps;
use crate::timer::Timer;

pub mod bind;
pub mod execute;
pub mod setup;
pub mod tree;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// Where it is in its life.
    pub(crate) state: State,
    /// Who it belongs to, once that is proved.
    pub(crate) identity: Option<Identity>,
    /// Connections that carry it, with their place in it.
    pub(crate) channels: BTreeMap<ConnectionId, Channel>,
    /// The next place (R6: never reused).
    pub(crate) next_channel: u16,
    /// Connections that ask to carry it, each with the request that waits for its answer, if there is one now.
    pub(crate) binds: BTreeMap<ConnectionId, Option<MessageId>>,
    /// What its first connection agreed on, and all others must have.
    pub(crate) terms: Terms,
    /// The rest of that.
    pub(crate) common: bind::Common,
    /// Connection.ServerCapabilities includes SMB2_GLOBAL_CAP_PERSISTENT_HANDLES.
    pub(crate) persistent_handles: bool,
    /// The client, where its dialect counts (3.3.5.5.3).
    pub(crate) client: Option<[u8; 16]>,
    /// It was counted by the client's machine.
    pub(crate) joined: bool,
    /// Its messages have keys: neither guest nor anonymous.
    pub(crate) keyed: bool,
    /// Session.SigningRequired.
    pub(crate) signing_required: bool,
    /// Session.EncryptData.
    pub(crate) encrypt: bool,
    /// The authentication step in progress.
    pub(crate) setup: Option<setup::Pending>,
    /// Tree connects.
    pub(crate) trees: BTreeMap<TreeId, TreeConnect>,
    /// The next TreeId.
    pub(crate) next_tree: u32,
    /// Opens, those being made included.
    pub(crate) opens: BTreeSet<OpenId>,
    /// It ends and leaves its durable opens behind: those on their way to where they are kept.
    pub(crate) leaving: BTreeSet<OpenId>,
    /// It ends in a way that preserves what is durable.
    preserves: bool,
    /// Requests that are answered when the session is gone.
    pub(crate) end_waiters: Vec<EndWaiter>,
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// Being set up.
    InProgress,
    /// Usable.
    Valid,
    /// The proof of its user holds no longer.
    Expired,
    /// Being set up again, on this connection.
    Reauthenticating(ConnectionId),
    /// Closing its opens.
    Ending,
}

/// Who waits for a session's or a tree connect's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EndWaiter {
    /// A request of the session itself, answered with this status.
    Request(Origin, NtStatus),
    /// Another session whose setup named this one.
    Successor(Asker),
}

/// What a session leaves behind when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Leaves {
    /// What is durable: its client is gone, or comes back under another session (3.3.5.6, 3.3.7.1).
    DurableOpens,
    /// Nothing: its user could not be proved again, or the operator ended it.
    Nothing,
}

/// A tree connect (MS-SMB2 3.3.1.9).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TreeConnect {
    /// The share.
    pub share: ShareId,
    /// Its volume.
    pub volume: VolumeId,
    /// What the volume can do.
    pub caps: VolumeCaps,
    /// Requests must be encrypted.
    pub encrypted: bool,
    /// Listings leave out what the user may not read.
    pub access_based: bool,
    /// Most that a request can get.
    pub maximal_access: AccessMask,
    /// Clients get persistent handles (TreeConnect.IsCAShare), as far as their connection has such.
    pub continuous_availability: Option<Survives>,
    /// Requests that are answered when its opens are closed; not empty: it takes no other request.
    pub ending: Vec<Origin>,
    /// It is going away without anybody to answer.
    pub revoked: bool,
}

impl TreeConnect {
    pub(crate) fn is_ending(&self) -> bool {
        self.revoked || !self.ending.is_empty()
    }
}

impl Session {
    pub(crate) fn new(negotiated: &Negotiated) -> Self {
        let terms = negotiated.terms;
        let counts = terms.dialect != Dialect::SMB_2_0_2 && negotiated.client_guid != [0; 16];
        Self {
            state: State::InProgress,
            identity: None,
            channels: BTreeMap::new(),
            next_channel: 0,
            binds: BTreeMap::new(),
            terms,
            persistent_handles: negotiated.server_capabilities.contains(Capabilities::PERSISTENT_HANDLES),
            common: bind::Common::of(negotiated),
            client: counts.then_some(negotiated.client_guid),
            joined: false,
            keyed: false,
            signing_required: false,
            encrypt: false,
            setup: None,
            trees: BTreeMap::new(),
            next_tree: 1,
            opens: BTreeSet::new(),
            leaving: BTreeSet::new(),
            preserves: false,
            end_waiters: Vec::new(),
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.state == State::Ending
    }

    /// What it leaves behind, ending.
    pub(crate) fn leaves(&self) -> Leaves {
        if self.preserves { Leaves::DurableOpens } else { Leaves::Nothing }
    }

    /// Whether requests can't use this tree connect any more.
    pub(crate) fn tree_is_gone(&self, tree: TreeId) -> bool {
        self.trees.get(&tree).is_none_or(TreeConnect::is_ending)
    }

    /// A request of this command may run in this state (S4).
    pub(crate) fn check_state(&self, command: CommandCode) -> Result<(), NtStatus> {
        let always = matches!(command, CommandCode::Logoff | CommandCode::Close | CommandCode::Lock);
        match self.state {
            State::Valid => Ok(()),
            State::Expired | State::Reauthenticating(_) if always => Ok(()),
            State::Expired => Err(NtStatus::NETWORK_SESSION_EXPIRED),
            State::Reauthenticating(_) | State::InProgress => Err(NtStatus::ACCESS_DENIED),
            State::Ending => Err(NtStatus::USER_SESSION_DELETED),
        }
    }
}

impl Shard {
    /// Begins the end of a session. Whoever waits is answered when the last open is closed, or preserved if the session goes
    /// in a way that leaves durable opens behind (S7).
    pub(crate) fn end_session(
        &mut self,
        id: SessionId,
        leaves: Leaves,
        waiter: Option<EndWaiter>,
        turn: &mut Turn<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else {
            if let Some(EndWaiter::Successor(asker)) = waiter {
                turn.answer(asker, Answer::Granted);
            }
            return;
        };
        session.end_waiters.extend(waiter);
        if session.state == State::Ending && leaves == Leaves::Nothing && session.preserves {
            // The operator does not want what is on its way out to be kept either.
            session.preserves = false;
            let opens: Vec<OpenId> = session.opens.iter().copied().collect();
            for open in opens {
                self.close_unasked(open, turn);
            }
            return self.finish_end(id, turn);
        }
        if session.state != State::Ending {
            session.state = State::Ending;
            session.preserves = leaves == Leaves::DurableOpens;
            let opens: Vec<OpenId> = session.opens.iter().copied().collect();
            let setup = session.setup.take();
            self.disarm(Timer::SessionExpiry(id), turn);
            if let Some(pending) = setup {
                self.drop_setup(id, &pending, NtStatus::USER_SESSION_DELETED, turn);
            }
            self.end_binds(id, turn);
            for open in opens {
                match leaves {
                    Leaves::DurableOpens => self.leave_open(open, turn),
                    Leaves::Nothing => self.close_unasked(open, turn),
                }
            }
        }
        self.finish_end(id, turn);
    }

    /// Removes a session that is ending once it holds nothing.
    pub(crate) fn finish_end(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get(&id) else { return };
        if session.state != State::Ending || !session.opens.is_empty() || !session.leaving.is_empty() {
            return;
        }
        let Some(session) = self.sessions.remove(&id) else { return };
        for waiter in &session.end_waiters {
            match *waiter {
                EndWaiter::Request(origin, status) => {
                    let body = if status.is_error() { Body::Error } else { Body::Empty };
                    turn.finish(Finished { origin, status, body, open: None, spent: None });
                }
                EndWaiter::Successor(asker) => turn.answer(asker, Answer::Granted),
            }
        }
        for origin in session.trees.into_values().flat_map(|tree| tree.ending) {
            let status = NtStatus::SUCCESS;
            turn.finish(Finished { origin, status, body: Body::Empty, open: None, spent: None });
        }
        for connection in session.channels.keys() {
            turn.post(Address::Connection(*connection), Message::SessionEnded { session: id });
        }
        if let (Some(client), true) = (session.client, session.joined) {
            let asker = self.nobody();
            turn.post(Address::Client(client), Message::AskClient(ClientAsk::Leave, asker));
        }
        if session.identity.is_some() {
            turn.push(Action::Record(Audit::LoggedOff { session: id }));
        }
    }

    /// A connection of the session is gone; without another one the session ends (3.3.7.1).
    pub(crate) fn on_channel_lost(&mut self, id: SessionId, connection: ConnectionId, turn: &mut Turn<'_>) {
        self.drop_notifies_of(connection);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.binds.remove(&connection);
        session.channels.remove(&connection);
        // Nobody is left to answer, but the last token may wait for the previous session's end.
        if let Some(pending) = session.setup.take_if(|pending| pending.connection == connection) {
            turn.release(pending.token_held());
        }
        if session.state == State::Reauthenticating(connection) {
            // What it would have led to nobody knows: the client proves its user again on another channel.
            session.state = State::Expired;
        }
        if session.channels.is_empty() {
            self.end_session(id, Leaves::DurableOpens, None, turn);
        } else {
            self.cancel_waits_of_connection(connection, turn);
            self.tell_breaks_again(id, connection, turn);
        }
    }

    /// The user of a session came back and asked for its end (PreviousSessionId, 3.3.5.5.3). Another user's wish is
    /// not granted, and is answered no differently.
    pub(crate) fn on_end_previous(
        &mut self,
        id: SessionId,
        identity: &Identity,
        asker: Asker,
        turn: &mut Turn<'_>,
    ) {
        let same_user = self
            .sessions
            .get(&id)
            .is_some_and(|session| session.identity.as_ref() == Some(identity) && identity.is_user());
        if same_user {
            self.end_session(id, Leaves::DurableOpens, Some(EndWaiter::Successor(asker)), turn);
        } else {
            turn.answer(asker, Answer::Granted);
        }
    }

    /// The proof of a session's user holds no longer.
    pub(crate) fn on_session_expired(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id)
            && session.state == State::Valid
        {
            session.state = State::Expired;
        }
    }

    /// An open of the session is gone.
    pub(crate) fn open_is_gone(&mut self, id: SessionId, tree: TreeId, open: OpenId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.opens.remove(&open);
        if session.state == State::Ending {
            self.finish_end(id, turn);
        } else {
            self.finish_tree_end(id, tree, turn);
        }
    }
}
