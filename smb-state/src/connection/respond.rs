//! A response's way from where a request was carried out to the endpoint: credits, compounds, protection.

use std::collections::VecDeque;

use smb_proto::NtStatus;
use smb_proto::command::FileId;
use smb_proto::command::oplock_break::Notification as Told;
use smb_proto::create_context::ResponseContext;
use smb_proto::header::CommandCode;

use super::{Chained, Inherited, Running, Standing, window};
use crate::action::{Action, Output};
use crate::ids::{AsyncId, ConnectionId, MessageId, SessionId, TreeId};
use crate::message::{Address, Finished, Message};
use crate::request::{Protection, Request};
use crate::response::{Body, Notification, Protect, Response};
use crate::shard::{Shard, Turn};
use crate::timer::Timer;

/// Credits of a connection without a valid session.
const UNAUTHENTICATED_CREDITS: u16 = 16;

/// How a request of this protection is answered when no session says otherwise.
pub(crate) fn echo_protection(protection: Protection) -> Protect {
    match protection {
        Protection::None | Protection::Unverified => Protect::Plain,
        // Whoever signed, the client or not, the answer shows who gives it (3.3.4.1.1).
        Protection::Signed | Protection::BadSignature => Protect::Sign,
        Protection::Sealed(session) => Protect::Seal(session),
    }
}

impl Shard {
    /// Answers a request that never left the connection.
    pub(crate) fn finish_here(
        &mut self,
        connection: ConnectionId,
        message: MessageId,
        status: NtStatus,
        body: Body,
        turn: &mut Turn<'_>,
    ) {
        let Some(running) = self
            .connections
            .get(&connection)
            .and_then(|state| state.chains.get(&message))
            .map(|chain| chain.running)
        else {
            return turn.release(body.buffer());
        };
        let ending = Ending {
            session: running.session,
            tree: running.tree,
            protect: echo_protection(running.protection),
            status,
            body,
            open: None,
        };
        self.end(connection, message, ending, turn);
    }

    /// A session or an open is done with a request.
    pub(crate) fn on_finished(&mut self, finished: Finished, turn: &mut Turn<'_>) {
        let Finished { origin, status, body, open, spent } = finished;
        turn.release(spent);
        let ending = Ending {
            session: origin.session,
            tree: origin.tree,
            protect: origin.protect,
            status,
            body,
            open,
        };
        self.end(origin.connection, origin.message, ending, turn);
    }

    /// A bind failed: its answer goes out, then what the endpoint has of it goes.
    pub(crate) fn on_bind_ended(&mut self, finished: Finished, turn: &mut Turn<'_>) {
        let (connection, session) = (finished.origin.connection, finished.origin.session);
        self.on_finished(finished, turn);
        let binding = self
            .connections
            .get(&connection)
            .is_some_and(|state| state.sessions.get(&session) == Some(&Standing::Binding));
        if binding {
            self.session_is_gone(connection, session, turn);
        }
    }

    /// Something for the endpoint, from a session that may live in another shard.
    pub(crate) fn on_endpoint(&mut self, connection: ConnectionId, output: Output, turn: &mut Turn<'_>) {
        if self.connections.contains_key(&connection) {
            return turn.output(connection, output);
        }
        match output {
            Output::Authenticate { token, .. } | Output::Bind { token, .. } => turn.release(Some(token)),
            Output::Respond(responses) => {
                responses.iter().for_each(|response| turn.release(response.body.buffer()));
            }
            Output::Notify(_)
            | Output::Negotiated(_)
            | Output::ContinueHash { .. }
            | Output::VerifyBind { .. }
            | Output::DropAuthentication { .. }
            | Output::InstallKeys { .. }
            | Output::DropKeys { .. }
            | Output::Disconnect => {}
        }
    }

    fn end(&mut self, connection: ConnectionId, message: MessageId, ending: Ending, turn: &mut Turn<'_>) {
        let bound = self.limits.credits_max;
        let Some(state) = self.connections.get_mut(&connection) else {
            return turn.release(ending.body.buffer());
        };
        // A stranger's requests are bounded by more than their number of connections (S18).
        let credits_max = if state.is_authenticated() { bound } else { bound.min(UNAUTHENTICATED_CREDITS) };
        let Some(chain) = state.chains.remove(&message) else { return turn.release(ending.body.buffer()) };
        let Chained { running, waiting, mut done, inherited } = chain;
        // An asynchronous request got its credits with the interim response (3.3.1.2, S16).
        let credits = match running.async_id {
            Some(_) => 0,
            None => {
                let grant = window::to_grant(&state.window, running.credits, credits_max);
                state.window.grant(grant);
                grant
            }
        };
        // Where there was no session or tree connect there is none to inherit (3.3.5.2.7.2).
        let gone = matches!(ending.status, NtStatus::USER_SESSION_DELETED | NtStatus::NETWORK_NAME_DELETED);
        let inherited = Inherited {
            session: if gone { SessionId(0) } else { ending.session },
            tree: ending.tree,
            // A failed CREATE must not let its successors work on an older open.
            open: if ending.status.is_error() && running.command == CommandCode::Create {
                None
            } else {
                ending.open.or(inherited.open.filter(|_| running.related))
            },
            status: ending.status,
        };
        // What is the first of its frame follows nothing (3.3.5.2.7.2).
        let related = running.related && !done.is_empty();
        done.push(Response { related, ..response(message, &running, credits, ending) });
        self.run_next(connection, waiting, done, inherited, turn);
    }

    /// A request waits: tells its client (3.3.4.2). Interim responses are never signed (S10); what came encrypted is answered
    /// encrypted (S13). The request's credits come with it (S16). What was done of its compound is answered now: nobody knows
    /// how long the rest takes.
    pub(crate) fn on_interim(&mut self, connection: ConnectionId, message: MessageId, turn: &mut Turn<'_>) {
        let limits = self.limits;
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let waiting = state.chains.values().filter(|chain| chain.running.async_id.is_some()).count();
        let async_id = AsyncId(state.next_async);
        let Some(chain) = state.chains.get_mut(&message) else { return };
        let running = &mut chain.running;
        if running.async_id.is_some() {
            return;
        }
        let full = waiting >= limits.async_requests_per_connection_max as usize;
        if running.cancelled || full {
            let status =
                if running.cancelled { NtStatus::CANCELLED } else { NtStatus::INSUFFICIENT_RESOURCES };
            let cancel = Message::Cancel { connection, message, status };
            return turn.post(Address::Session(running.session), cancel);
        }
        state.next_async += 1;
        running.async_id = Some(async_id);
        let done = std::mem::take(&mut chain.done);
        let credits = window::to_grant(&state.window, running.credits, limits.credits_max);
        let protect = match running.protection {
            Protection::Sealed(session) => Protect::Seal(session),
            Protection::None | Protection::Signed | Protection::BadSignature | Protection::Unverified => {
                Protect::Plain
            }
        };
        let ending = Ending {
            session: running.session,
            tree: running.tree,
            protect,
            status: NtStatus::PENDING,
            body: Body::Error,
            open: None,
        };
        let interim = response(message, running, credits, ending);
        state.window.grant(credits);
        if !done.is_empty() {
            turn.output(connection, Output::Respond(done));
        }
        turn.output(connection, Output::Respond(vec![interim]));
    }

    /// A break is told. If it takes what a compound has granted, what is done of the compound is answered before (S32): the
    /// answers of a compound may come in several frames (3.3.4.1.3), and nobody knows how long the rest takes.
    pub(crate) fn on_notification(
        &mut self,
        connection: ConnectionId,
        notification: Notification,
        turn: &mut Turn<'_>,
    ) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        for chain in state.chains.values_mut() {
            if chain.done.iter().any(|response| grants(response, &notification)) {
                turn.output(connection, Output::Respond(std::mem::take(&mut chain.done)));
            }
        }
        turn.output(connection, Output::Notify(notification));
    }

    /// Goes on with a compound, or sends its responses.
    pub(crate) fn run_next(
        &mut self,
        connection: ConnectionId,
        mut waiting: VecDeque<Request>,
        done: Vec<Response>,
        inherited: Inherited,
        turn: &mut Turn<'_>,
    ) {
        if let Some(next) = waiting.pop_front() {
            self.run(connection, next, waiting, done, inherited, turn);
        } else if !done.is_empty() {
            turn.output(connection, Output::Respond(done));
            self.drop_keys_of_left(connection, turn);
        }
    }

    /// Drops the keys of sessions that are gone once no frame needs them.
    fn drop_keys_of_left(&mut self, connection: ConnectionId, turn: &mut Turn<'_>) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let chains = &state.chains;
        state.leaving.retain(|session| {
            let needed = chains.values().any(|chain| chain.uses_keys(*session));
            if !needed {
                turn.output(connection, Output::DropKeys { session: *session });
            }
            needed
        });
    }

    /// A session was set up on a connection.
    pub(crate) fn session_is_valid(
        &mut self,
        connection: ConnectionId,
        session: SessionId,
        turn: &mut Turn<'_>,
    ) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        state.sessions.insert(session, Standing::Valid);
        self.disarm(Timer::Authentication(connection), turn);
    }

    /// A session is no longer on a connection. Its keys go after what is answered under them (R6): a LOGOFF's response
    /// waits with its compound.
    pub(crate) fn session_is_gone(
        &mut self,
        connection: ConnectionId,
        session: SessionId,
        turn: &mut Turn<'_>,
    ) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        if state.sessions.remove(&session).is_some() {
            state.leaving.insert(session);
            self.drop_keys_of_left(connection, turn);
        }
    }

    /// Ends a connection once its responses are out. The adapter answers with `Disconnected`.
    pub(crate) fn disconnect(&mut self, connection: ConnectionId, turn: &mut Turn<'_>) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        if !state.closing {
            state.closing = true;
            turn.push(Action::Output(connection, Output::Disconnect));
        }
    }
}

/// Whether a response tells the client of what a notification takes.
fn grants(response: &Response, notification: &Notification) -> bool {
    let Body::Create(create) = &response.body else { return false };
    match &notification.body {
        Told::Oplock(oplock) => create.file_id == oplock.file_id,
        Told::Lease(told) => create.contexts.iter().any(|context| {
            matches!(context, ResponseContext::Lease(lease) if lease.key == told.lease_key)
                || matches!(context, ResponseContext::LeaseV2(lease) if lease.key == told.lease_key)
        }),
    }
}

/// How a request ended.
struct Ending {
    session: SessionId,
    tree: TreeId,
    protect: Protect,
    status: NtStatus,
    body: Body,
    open: Option<FileId>,
}

fn response(message: MessageId, running: &Running, credits: u16, ending: Ending) -> Response {
    Response {
        message,
        command: running.command,
        credit_charge: running.credit_charge,
        credits,
        status: ending.status,
        session: ending.session,
        tree: ending.tree,
        async_id: running.async_id,
        related: false,
        protect: ending.protect,
        body: ending.body,
    }
}
