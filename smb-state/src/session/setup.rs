//! SESSION_SETUP: new sessions and reauthentication (MS-SMB2 3.3.5.5). Binds are in `bind`.
//!
//! A new session begins in its connection's shard; a session that there is may live in another shard than the connection
//! that asks, so its part and the connection's part meet in messages only.
//!
//! One step at a time: token in, [`Output::Authenticate`], outcome. After the last step, in this order: the client's
//! dialect is checked (3.3.5.5.3), the previous session ends, keys are installed, the response goes out (R6).

use smb_proto::NtStatus;
use smb_proto::command::negotiate::Dialect;
use smb_proto::command::session_setup::SessionFlags;
use smb_proto::header::CommandCode;

use super::{EndWaiter, Leaves, Session, State};
use crate::action::{Action, Audit, Output};
use crate::config::Encryption;
use crate::connection::respond::echo_protection;
use crate::connection::{Chained, Negotiated, Standing};
use crate::event::{AuthOutcome, Identity};
use crate::ids::{BufferId, Channel, ConnectionId, MessageId, SessionId, TreeId};
use crate::message::{Address, Answer, ClientAsk, Finished, Message, Origin, SetupRequest};
use crate::open::channel_sequence::Ticket;
use crate::request::{Protection, SessionSetup};
use crate::response::{Body, Protect};
use crate::shard::{Shard, Turn, Wait};
use crate::timer::Timer;

/// The step of an authentication that is in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pending {
    /// Where.
    pub connection: ConnectionId,
    /// The request, to be answered.
    pub message: MessageId,
    /// The client wants every message signed.
    signing_required: bool,
    /// The session to end when this one becomes valid.
    previous: SessionId,
    /// How the request was protected.
    protection: Protection,
    /// The session was valid before.
    again: bool,
    /// The last step succeeded; what is left is to check the client and to end the previous session.
    proved: Option<Proved>,
}

impl Pending {
    fn new(
        connection: ConnectionId,
        message: MessageId,
        negotiated: &Negotiated,
        protection: Protection,
        setup: &SessionSetup,
    ) -> Self {
        Self {
            connection,
            message,
            signing_required: setup.signing_required || negotiated.client_requires_signing,
            previous: setup.previous_session,
            protection,
            again: false,
            proved: None,
        }
    }

    /// The last token, while it waits to be sent.
    pub(crate) fn token_held(&self) -> Option<BufferId> {
        self.proved.as_ref().and_then(|proved| proved.reply)
    }
}

/// What the last step proved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Proved {
    reply: Option<BufferId>,
    identity: Identity,
    keyed: bool,
    valid_for_ms: Option<u64>,
}

/// Where a SESSION_SETUP goes.
enum Admitted {
    New,
    Known,
}

impl Shard {
    /// SESSION_SETUP at its connection, in the order of checks of 3.3.5.5.
    pub(crate) fn on_session_setup(&mut self, id: SessionId, request: SetupRequest, turn: &mut Turn<'_>) {
        let (connection, message) = (request.connection, request.message);
        let (token, protection) = (request.setup.token, request.protection);
        match self.admit_setup(id, &request) {
            Ok(Admitted::New) => self.begin_session(request, turn),
            Ok(Admitted::Known) => turn.post(Address::Session(id), Message::Setup(Box::new(request))),
            Err(status) => {
                turn.release(Some(token));
                if protection == Protection::Unverified && id != SessionId(0) {
                    return self.refuse_unverified(id, (connection, message), status, turn);
                }
                self.finish_here(connection, message, status, Body::Error, turn);
            }
        }
    }

    /// Refuses a SESSION_SETUP whose session this connection does not carry. It may be the session's own client that asks:
    /// then the answer is signed with the session's key (3.3.4.1.1).
    fn refuse_unverified(
        &mut self,
        session: SessionId,
        (connection, message): (ConnectionId, MessageId),
        status: NtStatus,
        turn: &mut Turn<'_>,
    ) {
        turn.output(connection, Output::VerifyBind { session, message });
        let origin = Origin {
            connection,
            message,
            session,
            tree: TreeId(0),
            protect: Protect::Sign,
            ticket: Ticket::UNCOUNTED,
        };
        let finished = Finished { origin, status, body: Body::Error, open: None, spent: None };
        let Some(state) = self.connections.get_mut(&connection) else { return };
        if state.sessions.contains_key(&session) {
            // A bind goes on.
            return self.on_finished(finished, turn);
        }
        state.sessions.insert(session, Standing::Binding);
        self.on_bind_ended(finished, turn);
    }

    fn admit_setup(&mut self, id: SessionId, request: &SetupRequest) -> Result<Admitted, NtStatus> {
        let sessions_max = self.limits.sessions_per_connection_max as usize;
        let terms = request.negotiated.terms;
        if self.config.encryption == Encryption::Required && !terms.encryption {
            return Err(NtStatus::ACCESS_DENIED);
        }
        let state = self.connections.get_mut(&request.connection).ok_or(NtStatus::INTERNAL_ERROR)?;
        let full = state.sessions.len() >= sessions_max;
        if id == SessionId(0) {
            return if full { Err(NtStatus::INSUFFICIENT_RESOURCES) } else { Ok(Admitted::New) };
        }
        if request.setup.binding {
            // One leg at a time, so that the answer to one says what is left of the bind.
            let other = |(message, chain): (&MessageId, &Chained)| {
                let running = &chain.running;
                *message != request.message
                    && running.command == CommandCode::SessionSetup
                    && running.session == id
            };
            if state.chains.iter().any(other) {
                return Err(NtStatus::REQUEST_NOT_ACCEPTED);
            }
            let known = state.sessions.contains_key(&id);
            if !known && full {
                return Err(NtStatus::INSUFFICIENT_RESOURCES);
            }
            state.sessions.entry(id).or_insert(Standing::Binding);
            return Ok(Admitted::Known);
        }
        match state.sessions.get(&id) {
            Some(Standing::InProgress | Standing::Valid) => Ok(Admitted::Known),
            Some(Standing::Binding) | None => Err(NtStatus::USER_SESSION_DELETED),
        }
    }

    /// A new session (3.3.5.5.1), at home where its connection is.
    fn begin_session(&mut self, request: SetupRequest, turn: &mut Turn<'_>) {
        let SetupRequest { connection, negotiated, message, protection, setup } = request;
        let id = SessionId(self.session_ids.issue());
        if let Some(state) = self.connections.get_mut(&connection) {
            state.sessions.insert(id, Standing::InProgress);
        }
        let mut session = Session::new(&negotiated);
        session.setup = Some(Pending::new(connection, message, &negotiated, protection, &setup));
        session.channels.insert(connection, Channel(session.next_channel));
        session.next_channel += 1;
        self.sessions.insert(id, session);
        self.ask_endpoint(id, connection, message, setup.token, turn);
    }

    /// SESSION_SETUP at a session that there is.
    pub(crate) fn on_setup(&mut self, id: SessionId, request: SetupRequest, turn: &mut Turn<'_>) {
        if request.setup.binding {
            return self.on_bind(id, request, turn);
        }
        let SetupRequest { connection, negotiated, message, protection, setup } = request;
        let pending = Pending::new(connection, message, &negotiated, protection, &setup);
        match self.continue_setup(id, pending, turn) {
            Ok(()) => self.ask_endpoint(id, connection, message, setup.token, turn),
            Err(status) => {
                turn.release(Some(setup.token));
                let protect = echo_protection(protection);
                let origin = Origin {
                    connection,
                    message,
                    session: id,
                    tree: TreeId(0),
                    protect,
                    ticket: Ticket::UNCOUNTED,
                };
                turn.finish(Finished { origin, status, body: Body::Error, open: None, spent: None });
            }
        }
    }

    fn continue_setup(
        &mut self,
        id: SessionId,
        mut pending: Pending,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let session = self.sessions.get_mut(&id).ok_or(NtStatus::USER_SESSION_DELETED)?;
        if !session.channels.contains_key(&pending.connection) {
            return Err(NtStatus::USER_SESSION_DELETED);
        }
        if session.setup.is_some() {
            return Err(NtStatus::REQUEST_NOT_ACCEPTED);
        }
        match session.state {
            State::InProgress => session.setup = Some(pending),
            State::Ending => return Err(NtStatus::USER_SESSION_DELETED),
            State::Valid | State::Expired | State::Reauthenticating(_) => {
                session.check_protection(pending.protection)?;
                session.state = State::Reauthenticating(pending.connection);
                pending.again = true;
                session.setup = Some(pending);
                self.disarm(Timer::SessionExpiry(id), turn);
            }
        }
        Ok(())
    }

    /// Has the token looked at, where the connection's endpoint is.
    fn ask_endpoint(
        &self,
        session: SessionId,
        connection: ConnectionId,
        message: MessageId,
        token: BufferId,
        turn: &mut Turn<'_>,
    ) {
        let first = self.sessions.get(&session).is_some_and(|session| {
            session.terms.dialect == Dialect::SMB_3_1_1
                && session.setup.as_ref().is_some_and(|pending| !pending.again)
        });
        if first {
            turn.tell(connection, Output::ContinueHash { session, message });
        }
        turn.tell(connection, Output::Authenticate { session, message, token });
    }

    /// A step of an authentication ended.
    pub(crate) fn on_authenticated(
        &mut self,
        connection: ConnectionId,
        id: SessionId,
        message: MessageId,
        outcome: AuthOutcome,
        turn: &mut Turn<'_>,
    ) {
        let asked = (connection, message);
        if self.sessions.get(&id).is_some_and(|session| session.binds.get(&asked.0) == Some(&Some(asked.1))) {
            return self.on_bind_authenticated(id, asked, outcome, turn);
        }
        let current = self.sessions.get_mut(&id).filter(|session| {
            session
                .setup
                .as_ref()
                .is_some_and(|pending| pending.connection == connection && pending.message == message)
        });
        let Some(session) = current else {
            // The session, or the bind, ended meanwhile.
            return turn.release(outcome.payload());
        };
        match outcome {
            AuthOutcome::Continue { reply } => {
                let Some(pending) = session.setup.take() else { return };
                let body = Body::SessionSetup { flags: 0, token: Some(reply) };
                let protect = session.setup_protection(&pending);
                finish(id, &pending, protect, NtStatus::MORE_PROCESSING_REQUIRED, body, turn);
            }
            AuthOutcome::Denied { status } => {
                turn.push(Action::Record(Audit::LogonFailed { connection }));
                self.refuse_setup(id, status, turn);
            }
            // Nothing but a bind is verified there.
            AuthOutcome::Unverified => self.refuse_setup(id, NtStatus::INTERNAL_ERROR, turn),
            AuthOutcome::Accepted { reply, identity, keyed, valid_for_ms } => {
                if let Some(pending) = &mut session.setup {
                    pending.proved = Some(Proved { reply, identity, keyed, valid_for_ms });
                }
                match session.client {
                    Some(client) if !session.joined => {
                        let dialect = session.terms.dialect;
                        let asker = self.wait(Wait::ClientJoined(id));
                        turn.post(
                            Address::Client(client),
                            Message::AskClient(ClientAsk::Join(dialect), asker),
                        );
                    }
                    _ => self.end_previous(id, turn),
                }
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "only a refusal counts")]
    /// The client's machine answered whether this dialect is the client's.
    pub(crate) fn on_client_joined(&mut self, id: SessionId, answer: &Answer, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.state != State::Ending)
        else {
            return;
        };
        match answer {
            Answer::Refused(status) => self.refuse_setup(id, *status, turn),
            _ => {
                session.joined = true;
                self.end_previous(id, turn);
            }
        }
    }

    fn end_previous(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(pending) = self.sessions.get(&id).and_then(|session| session.setup.as_ref()) else { return };
        let previous = pending.previous;
        let identity = pending.proved.as_ref().map(|proved| proved.identity.clone());
        match identity {
            Some(identity) if previous != SessionId(0) && previous != id && !pending.again => {
                let asker = self.wait(Wait::PreviousEnded(id));
                turn.post(Address::Session(previous), Message::EndPrevious { identity, asker });
            }
            _ => self.complete_setup(id, turn),
        }
    }

    /// Everything is checked: the session becomes valid.
    pub(crate) fn complete_setup(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let required = self.config.encryption == Encryption::Required;
        let must_sign = self.config.signing_required;
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.state != State::Ending)
        else {
            return;
        };
        let Some(pending) = session.setup.take() else { return };
        let Some(Proved { reply, identity, keyed, valid_for_ms }) = pending.proved.clone() else { return };
        let mut flags = SessionFlags::EMPTY;
        match identity {
            Identity::User { .. } => {}
            Identity::Guest => flags = flags.with(SessionFlags::IS_GUEST),
            Identity::Anonymous => flags = flags.with(SessionFlags::IS_NULL),
        }
        if !pending.again {
            session.keyed = keyed && identity.is_user();
            session.encrypt = required && session.terms.encryption && session.keyed;
            session.signing_required =
                session.keyed && !session.encrypt && (must_sign || pending.signing_required);
        }
        if session.encrypt {
            flags = flags.with(SessionFlags::ENCRYPT_DATA);
        }
        let channel = session.channels.get(&pending.connection).copied().unwrap_or_default();
        let install = session.keyed && !pending.again;
        session.state = State::Valid;
        session.identity = Some(identity.clone());
        let protect = if session.keyed { session.setup_protection(&pending) } else { Protect::Plain };
        if install {
            turn.tell(pending.connection, Output::InstallKeys { session: id, channel });
        } else {
            turn.tell(pending.connection, Output::DropAuthentication { session: id });
        }
        turn.post(Address::Connection(pending.connection), Message::SessionValid { session: id });
        if let Some(after_ms) = valid_for_ms {
            self.arm(Timer::SessionExpiry(id), after_ms, turn);
        }
        turn.push(Action::Record(Audit::LoggedOn { connection: pending.connection, session: id, identity }));
        let body = Body::SessionSetup { flags: flags.0, token: reply };
        finish(id, &pending, protect, NtStatus::SUCCESS, body, turn);
    }

    /// The authentication failed. A new session vanishes; one that was valid before ends with all it holds (S3).
    fn refuse_setup(&mut self, id: SessionId, status: NtStatus, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(pending) = session.setup.take() else { return };
        turn.release(pending.token_held());
        turn.tell(pending.connection, Output::DropAuthentication { session: id });
        let protect = session.setup_protection(&pending);
        let origin = Origin {
            connection: pending.connection,
            message: pending.message,
            session: id,
            tree: TreeId(0),
            protect,
            ticket: Ticket::UNCOUNTED,
        };
        self.end_session(id, Leaves::Nothing, Some(EndWaiter::Request(origin, status)), turn);
    }

    /// The session ends while a step is in progress: the step's request is answered now, its outcome ignored later.
    pub(crate) fn drop_setup(
        &mut self,
        id: SessionId,
        pending: &Pending,
        status: NtStatus,
        turn: &mut Turn<'_>,
    ) {
        turn.release(pending.token_held());
        turn.tell(pending.connection, Output::DropAuthentication { session: id });
        finish(id, pending, Protect::Plain, status, Body::Error, turn);
    }
}

impl Session {
    /// How answers of a setup step are protected: the first time nothing can be signed before the keys are installed.
    fn setup_protection(&self, pending: &Pending) -> Protect {
        let proved = pending.proved.is_some() && self.keyed;
        match pending.protection {
            Protection::Sealed(session) => Protect::Seal(session),
            _ if (pending.again && self.keyed) || proved => Protect::Sign,
            Protection::None | Protection::Signed | Protection::BadSignature | Protection::Unverified => {
                Protect::Plain
            }
        }
    }
}

fn finish(
    id: SessionId,
    pending: &Pending,
    protect: Protect,
    status: NtStatus,
    body: Body,
    turn: &mut Turn<'_>,
) {
    let origin = Origin {
        connection: pending.connection,
        message: pending.message,
        session: id,
        tree: TreeId(0),
        protect,
        ticket: Ticket::UNCOUNTED,
    };
    turn.finish(Finished { origin, status, body, open: None, spent: None });
}
