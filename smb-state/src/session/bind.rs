//! Binding: one more connection for a session (MS-SMB2 3.3.5.5, 3.3.5.5.3).
//!
//! ```text
//! asked --checks--> [Output::Bind] --signature, token--> (another leg) --> channel
//!   '--------- refused: the connection is as before, and so is the session (S3) -----------'
//! ```
//!
//! A bind is no part of the session's own authentication: each connection that asks has one of its own, and nothing
//! of the session changes before the last leg proved its user.
//!
//! | order | check | section | if it fails |
//! |---|---|---|---|
//! | 1 | the session is there | 3.3.5.2.4 | USER_SESSION_DELETED |
//! | 2 | signed where the session requires it | 3.3.5.2.4 | ACCESS_DENIED |
//! | 3 | both sign with AES-GMAC, or neither | 3.3.5.2.4 | NOT_SUPPORTED, REQUEST_OUT_OF_SEQUENCE |
//! | 4 | the connection's dialect has channels | 3.3.5.5 | REQUEST_NOT_ACCEPTED |
//! | 5 | the dialect is the session's | 3.3.5.5 | INVALID_PARAMETER |
//! | 6 | signed | 3.3.5.5 | INVALID_PARAMETER |
//! | 7 | the cipher is the session's, whose keys are used | 3.3.5.5.3 | INVALID_PARAMETER |
//! | 8 | ClientGuid is the session's | 3.3.5.5 | USER_SESSION_DELETED |
//! | 9 | the session is set up, and not being set up again | 3.3.5.5 | REQUEST_NOT_ACCEPTED |
//! | 10 | it has not expired | 3.3.5.5 | NETWORK_SESSION_EXPIRED |
//! | 11 | it is neither a guest's nor anonymous | 3.3.5.5 | NOT_SUPPORTED |
//! | 12 | it is not on this connection yet | 3.3.5.5 | REQUEST_NOT_ACCEPTED |
//! | 13 | there is room for one more channel | | INSUFFICIENT_RESOURCES |
//! | 14 | the signature, under the session's signing key | 3.3.5.5 | ACCESS_DENIED |
//! | 15 | the token | 3.3.5.5.3 | as for a new session |
//! | 16 | the user is the session's | 3.3.5.5 | NOT_SUPPORTED |
//!
//! 3 is what Windows answers (no section says so): the session's key signs with the session's algorithm, and AES-GMAC has
//! other nonces than the rest has. Verification is late, as in 3.3.5.5, because the key is elsewhere until then.
//!
//! A PreviousSessionId has no meaning here: a bind goes on with a session and comes after none.

use smb_proto::NtStatus;
use smb_proto::crypto::{CipherAlgorithm, SigningAlgorithm};

use super::{Session, State};
use crate::action::{Action, Audit, Output};
use crate::connection::Negotiated;
use crate::connection::respond::echo_protection;
use crate::event::{AuthOutcome, Identity};
use crate::ids::{Channel, ConnectionId, MessageId, SessionId, TreeId};
use crate::message::{Address, Finished, Message, Origin, SetupRequest};
use crate::open::channel_sequence::Ticket;
use crate::request::Protection;
use crate::response::{Body, Protect};
use crate::shard::{Shard, Turn};

/// What all connections of a session have in common, beside the dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Common {
    client_guid: [u8; 16],
    /// Messages are signed with AES-GMAC.
    gmac: bool,
    cipher: Option<CipherAlgorithm>,
}

impl Common {
    pub(crate) fn of(negotiated: &Negotiated) -> Self {
        let gmac = negotiated.signing == SigningAlgorithm::AesGmac;
        Self { client_guid: negotiated.client_guid, gmac, cipher: negotiated.cipher }
    }
}

impl Session {
    fn check_bind(&self, request: &SetupRequest) -> Result<(), NtStatus> {
        let signed = request.protection != Protection::None;
        if self.state == State::Ending {
            return Err(NtStatus::USER_SESSION_DELETED);
        }
        if self.signing_required && !signed {
            return Err(NtStatus::ACCESS_DENIED);
        }
        let theirs = Common::of(&request.negotiated);
        match (self.common.gmac, theirs.gmac) {
            (false, true) if signed => return Err(NtStatus::NOT_SUPPORTED),
            (true, false) if signed => return Err(NtStatus::REQUEST_OUT_OF_SEQUENCE),
            _ => {}
        }
        if !request.negotiated.terms.dialect.is_smb3() {
            return Err(NtStatus::REQUEST_NOT_ACCEPTED);
        }
        if request.negotiated.terms.dialect != self.terms.dialect || !signed {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if theirs.cipher != self.common.cipher {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if theirs.client_guid != self.common.client_guid {
            return Err(NtStatus::USER_SESSION_DELETED);
        }
        self.check_bindable()?;
        if self.channels.contains_key(&request.connection) {
            return Err(NtStatus::REQUEST_NOT_ACCEPTED);
        }
        Ok(())
    }

    /// The session's own part of the checks; it may have changed while a token was looked at.
    fn check_bindable(&self) -> Result<(), NtStatus> {
        match self.state {
            State::InProgress | State::Reauthenticating(_) => return Err(NtStatus::REQUEST_NOT_ACCEPTED),
            State::Expired => return Err(NtStatus::NETWORK_SESSION_EXPIRED),
            State::Ending => return Err(NtStatus::USER_SESSION_DELETED),
            State::Valid => {}
        }
        if !self.keyed { Err(NtStatus::NOT_SUPPORTED) } else { Ok(()) }
    }

    /// The place of one more connection. Places are never used again (R6), so they end at some time.
    fn check_room(&self, channels_max: u32) -> Result<Channel, NtStatus> {
        let full = self.channels.len() >= channels_max as usize || self.next_channel == u16::MAX;
        if full { Err(NtStatus::INSUFFICIENT_RESOURCES) } else { Ok(Channel(self.next_channel)) }
    }
}

impl Shard {
    /// A connection asks to carry the session, or sends the next leg.
    pub(crate) fn on_bind(&mut self, id: SessionId, request: SetupRequest, turn: &mut Turn<'_>) {
        let (connection, message, token) = (request.connection, request.message, request.setup.token);
        let channels_max = self.limits.channels_per_session_max;
        let Some(session) = self.sessions.get_mut(&id) else {
            turn.release(Some(token));
            return bind_ended(id, connection, message, NtStatus::USER_SESSION_DELETED, Protect::Plain, turn);
        };
        match session.check_bind(&request).and_then(|()| session.check_room(channels_max)) {
            Ok(_) => {
                session.binds.insert(connection, Some(message));
                turn.tell(connection, Output::Bind { session: id, message, token });
            }
            Err(status) => {
                turn.release(Some(token));
                session.binds.remove(&connection);
                let mut protect = echo_protection(request.protection);
                if request.protection == Protection::Unverified {
                    turn.tell(connection, Output::VerifyBind { session: id, message });
                    protect = Protect::Sign;
                }
                bind_ended(id, connection, message, status, protect, turn);
            }
        }
    }

    /// A leg of a bind ended.
    pub(crate) fn on_bind_authenticated(
        &mut self,
        id: SessionId,
        (connection, message): (ConnectionId, MessageId),
        outcome: AuthOutcome,
        turn: &mut Turn<'_>,
    ) {
        let channels_max = self.limits.channels_per_session_max;
        let Some(session) = self.sessions.get_mut(&id) else { return turn.release(outcome.payload()) };
        let (status, protect) = match outcome {
            AuthOutcome::Continue { reply } => {
                session.binds.insert(connection, None);
                let status = NtStatus::MORE_PROCESSING_REQUIRED;
                let body = Body::SessionSetup { flags: 0, token: Some(reply) };
                return turn.finish(finished(id, connection, message, status, body, Protect::Sign));
            }
            AuthOutcome::Accepted { reply, identity, keyed, valid_for_ms: _ } => {
                match session.admit_channel(connection, &identity, keyed, channels_max) {
                    Ok(channel) => {
                        turn.tell(connection, Output::InstallKeys { session: id, channel });
                        turn.post(Address::Connection(connection), Message::SessionValid { session: id });
                        turn.push(Action::Record(Audit::Bound { connection, session: id }));
                        let body = Body::SessionSetup { flags: 0, token: reply };
                        let status = NtStatus::SUCCESS;
                        return turn.finish(finished(id, connection, message, status, body, Protect::Sign));
                    }
                    Err(status) => {
                        turn.release(reply);
                        (status, Protect::Sign)
                    }
                }
            }
            AuthOutcome::Denied { status } => (status, Protect::Sign),
            // A forged signature gets no genuine one.
            AuthOutcome::Unverified => (NtStatus::ACCESS_DENIED, Protect::Plain),
        };
        session.binds.remove(&connection);
        turn.push(Action::Record(Audit::LogonFailed { connection }));
        bind_ended(id, connection, message, status, protect, turn);
    }

    /// The session ends: so does every bind to it.
    pub(crate) fn end_binds(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        for (connection, message) in std::mem::take(&mut session.binds) {
            match message {
                Some(message) => {
                    let status = NtStatus::USER_SESSION_DELETED;
                    bind_ended(id, connection, message, status, Protect::Plain, turn);
                }
                None => turn.post(Address::Connection(connection), Message::SessionEnded { session: id }),
            }
        }
    }
}

impl Session {
    /// The last token is good: makes the connection a channel.
    fn admit_channel(
        &mut self,
        connection: ConnectionId,
        identity: &Identity,
        keyed: bool,
        channels_max: u32,
    ) -> Result<Channel, NtStatus> {
        self.check_bindable()?;
        let channel = self.check_room(channels_max)?;
        if self.identity.as_ref() != Some(identity) || !keyed {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        self.binds.remove(&connection);
        self.channels.insert(connection, channel);
        self.next_channel += 1;
        Ok(channel)
    }
}

fn finished(
    session: SessionId,
    connection: ConnectionId,
    message: MessageId,
    status: NtStatus,
    body: Body,
    protect: Protect,
) -> Finished {
    let origin = Origin { connection, message, session, tree: TreeId(0), protect, ticket: Ticket::UNCOUNTED };
    Finished { origin, status, body, open: None, spent: None }
}

fn bind_ended(
    session: SessionId,
    connection: ConnectionId,
    message: MessageId,
    status: NtStatus,
    protect: Protect,
    turn: &mut Turn<'_>,
) {
    let finished = finished(session, connection, message, status, Body::Error, protect);
    turn.post(Address::Connection(connection), Message::BindEnded(Box::new(finished)));
}
