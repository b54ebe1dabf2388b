//! SESSION_SETUP: new sessions and reauthentication (MS-SMB2 3.3.5.5).
//!
//! One step at a time: token in, [`Output::Authenticate`], outcome. After the last step, in this order: the client's
//! dialect is checked (3.3.5.5.3), the previous session ends, keys are installed, the response goes out (R6).

use smb_proto::NtStatus;
use smb_proto::command::negotiate::Dialect;
use smb_proto::command::session_setup::SessionFlags;

use super::{EndWaiter, Session, State};
use crate::action::{Action, Audit, Output};
use crate::config::Encryption;
use crate::connection::Standing;
use crate::event::{AuthOutcome, Identity};
use crate::ids::{BufferId, Channel, ConnectionId, MessageId, SessionId, TreeId};
use crate::message::{Address, Answer, ClientAsk, Finished, Message, Origin};
use crate::request::{Protection, SessionSetup};
use crate::response::{Body, Protect};
use crate::shard::{Shard, Turn, Wait};
use crate::timer::Timer;

/// A SESSION_SETUP request, with what its header says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SetupRequest {
    pub connection: ConnectionId,
    pub message: MessageId,
    pub session: SessionId,
    pub protection: Protection,
    pub setup: SessionSetup,
}

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

impl Shard {
    /// SESSION_SETUP, as far as it can go before the token is looked at.
    pub(crate) fn on_session_setup(&mut self, request: SetupRequest, turn: &mut Turn<'_>) {
        let token = request.setup.token;
        let (connection, message) = (request.connection, request.message);
        match self.begin_setup(request, turn) {
            Ok((session, again)) => {
                let dialect = self.sessions.get(&session).map(|session| session.terms.dialect);
                if dialect == Some(Dialect::SMB_3_1_1) && !again {
                    turn.output(connection, Output::ContinueHash { session, message });
                }
                turn.output(connection, Output::Authenticate { session, message, token });
            }
            Err(status) => {
                turn.release(Some(token));
                self.finish_here(connection, message, status, Body::Error, turn);
            }
        }
    }

    fn begin_setup(
        &mut self,
        request: SetupRequest,
        turn: &mut Turn<'_>,
    ) -> Result<(SessionId, bool), NtStatus> {
        let SetupRequest { connection, message, session: id, protection, setup } = request;
        let state = self.connections.get_mut(&connection).ok_or(NtStatus::INTERNAL_ERROR)?;
        let negotiated = state.negotiated().ok_or(NtStatus::INTERNAL_ERROR)?;
        if self.config.encryption == Encryption::Required && !negotiated.terms.encryption {
            return Err(NtStatus::ACCESS_DENIED);
        }
        if setup.binding {
            return Err(NtStatus::REQUEST_NOT_ACCEPTED);
        }
        let terms = negotiated.terms;
        let client = (terms.dialect != Dialect::SMB_2_0_2 && negotiated.client_guid != [0; 16])
            .then_some(negotiated.client_guid);
        let mut pending = Pending {
            connection,
            message,
            signing_required: setup.signing_required || negotiated.client_requires_signing,
            previous: setup.previous_session,
            protection,
            again: false,
            proved: None,
        };
        if id == SessionId(0) {
            if state.sessions.len() >= self.limits.sessions_per_connection_max as usize {
                return Err(NtStatus::INSUFFICIENT_RESOURCES);
            }
            let id = SessionId(self.session_ids.issue());
            state.sessions.insert(id, Standing::InProgress);
            let mut session = Session::new(terms, client);
            session.setup = Some(pending);
            session.channels.insert(connection, Channel(session.next_channel));
            session.next_channel += 1;
            self.sessions.insert(id, session);
            return Ok((id, false));
        }
        if !state.sessions.contains_key(&id) {
            return Err(NtStatus::USER_SESSION_DELETED);
        }
        let session = self.sessions.get_mut(&id).ok_or(NtStatus::USER_SESSION_DELETED)?;
        if session.setup.is_some() {
            return Err(NtStatus::REQUEST_NOT_ACCEPTED);
        }
        match session.state {
            State::InProgress => {}
            State::Ending => return Err(NtStatus::USER_SESSION_DELETED),
            State::Valid | State::Expired | State::Reauthenticating => {
                session.check_protection(protection)?;
                session.state = State::Reauthenticating;
                pending.again = true;
                self.disarm(Timer::SessionExpiry(id), turn);
            }
        }
        let again = pending.again;
        if let Some(session) = self.sessions.get_mut(&id) {
            session.setup = Some(pending);
        }
        Ok((id, again))
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
        let current = self.sessions.get_mut(&id).filter(|session| {
            session
                .setup
                .as_ref()
                .is_some_and(|pending| pending.connection == connection && pending.message == message)
        });
        let Some(session) = current else {
            // The session ended meanwhile.
            return turn.release(match outcome {
                AuthOutcome::Continue { reply } => Some(reply),
                AuthOutcome::Accepted { reply, .. } => reply,
                AuthOutcome::Denied { .. } => None,
            });
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
            turn.output(pending.connection, Output::InstallKeys { session: id, channel });
        } else {
            turn.output(pending.connection, Output::DropAuthentication { session: id });
        }
        self.session_is_valid(pending.connection, id, turn);
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
        turn.output(pending.connection, Output::DropAuthentication { session: id });
        let protect = session.setup_protection(&pending);
        let origin = Origin {
            connection: pending.connection,
            message: pending.message,
            session: id,
            tree: TreeId(0),
            protect,
        };
        self.end_session(id, Some(EndWaiter::Request(origin, status)), turn);
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
        turn.output(pending.connection, Output::DropAuthentication { session: id });
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
    };
    turn.finish(Finished { origin, status, body, open: None, spent: None });
}
