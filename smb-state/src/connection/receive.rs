//! A frame's way from the endpoint to a session: the checks of MS-SMB2 3.3.5.2 in their order.
//!
//! | order | check | section | if it fails |
//! |---|---|---|---|
//! | 1 | something was negotiated | 3.3.5.2.2 | disconnect |
//! | 2 | message ids are in the window | 3.3.5.2.3 | disconnect |
//! | 3 | signature | 3.3.5.2.4 | ACCESS_DENIED, USER_SESSION_DELETED |
//! | 4 | credit charge covers the payload | 3.3.5.2.5 | INVALID_PARAMETER |
//! | 5 | the body can be read | 3.3.5.2.6 | INVALID_PARAMETER |
//! | 6 | ids of a related compound | 3.3.5.2.7 | INVALID_PARAMETER, INVALID_HANDLE |
//! | 7 | session, channel sequence, tree connect | 3.3.5.2.9–.11 | see the session machine |

use std::collections::VecDeque;

use smb_proto::NtStatus;
use smb_proto::header::CommandCode;

use super::{Chained, Inherited, Phase, Running};
use crate::action::{Action, Audit};
use crate::ids::{ConnectionId, SessionId};
use crate::message::{Address, Execution, Message, SetupRequest};
use crate::request::{Chain, Command, IoctlInput, Protection, Request};
use crate::response::Body;
use crate::shard::{Shard, Turn};

/// Payload that one credit pays for (3.1.5.2).
const CREDIT_SIZE: u32 = 65_536;

impl Shard {
    /// A frame arrived.
    pub(crate) fn on_request(&mut self, connection: ConnectionId, chain: Chain, turn: &mut Turn<'_>) {
        let compound_max = usize::from(self.limits.compound_max);
        let Some(state) = self.connections.get_mut(&connection) else {
            turn.push(Action::Record(Audit::AdapterMisuse { what: "request on an unknown connection" }));
            return release_chain(chain, turn);
        };
        if state.closing {
            return release_chain(chain, turn);
        }
        let negotiating = state.negotiated().is_none();
        let multi_credit = state.negotiated().is_some_and(super::Negotiated::multi_credit);
        let mut broken = (chain.rest.len() >= compound_max).then_some("compound too long");
        for request in std::iter::once(&chain.first).chain(&chain.rest) {
            if negotiating && request.command.code() != CommandCode::Negotiate {
                broken = broken.or(Some("request before NEGOTIATE"));
            }
            if request.command.code() == CommandCode::Cancel {
                continue;
            }
            let charge = if multi_credit { request.credit_charge.max(1) } else { 1 };
            if broken.is_none() && !state.window.take(request.message.0, charge) {
                broken = Some("message id outside the window");
            }
        }
        if let Some(what) = broken {
            release_chain(chain, turn);
            return self.misbehaved(connection, what, turn);
        }
        let Chain { first, rest } = chain;
        self.run(connection, first, VecDeque::from(rest), Vec::new(), Inherited::default(), turn);
    }

    /// Starts an element of a compound.
    pub(crate) fn run(
        &mut self,
        connection: ConnectionId,
        mut request: Request,
        waiting: VecDeque<Request>,
        done: Vec<crate::response::Response>,
        inherited: Inherited,
        turn: &mut Turn<'_>,
    ) {
        let Some(state) = self.connections.get_mut(&connection) else {
            turn.release(request.command.buffer());
            return waiting.into_iter().for_each(|request| turn.release(request.command.buffer()));
        };
        if matches!(request.command, Command::Cancel) {
            self.on_cancel(connection, &request, turn);
            return self.run_next(connection, waiting, done, inherited, turn);
        }
        if matches!(request.command, Command::Unreadable(CommandCode::Cancel)) {
            // Names nothing that could be cancelled, and like every CANCEL gets no answer (3.3.5.16).
            return self.run_next(connection, waiting, done, inherited, turn);
        }
        let first = done.is_empty();
        if request.related && !first {
            request.session = inherited.session;
            request.tree = inherited.tree;
        }
        let running = Running {
            command: request.command.code(),
            credit_charge: request.credit_charge,
            credits: request.credits,
            session: request.session,
            tree: request.tree,
            related: request.related && !first,
            protection: request.protection,
            async_id: None,
            cancelled: false,
        };
        let message = request.message;
        state.chains.insert(message, Chained { running, waiting, done, inherited });
        let verdict = self.check_request(connection, &request, first, &inherited);
        if let Err(status) = verdict {
            turn.release(request.command.buffer());
            return self.finish_here(connection, message, status, Body::Error, turn);
        }
        self.dispatch(connection, request, &inherited, turn);
    }

    /// The checks that need nothing but the connection.
    fn check_request(
        &self,
        connection: ConnectionId,
        request: &Request,
        first: bool,
        inherited: &Inherited,
    ) -> Result<(), NtStatus> {
        // What asks to bind is of a session whose key is not here yet; see the session machine.
        let setup = matches!(request.command, Command::SessionSetup(_)) && request.session != SessionId(0);
        match request.protection {
            Protection::BadSignature => return Err(NtStatus::ACCESS_DENIED),
            Protection::Unverified if request.command.code() == CommandCode::Negotiate => {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            Protection::Unverified if !setup => return Err(NtStatus::USER_SESSION_DELETED),
            Protection::Unverified | Protection::None | Protection::Signed | Protection::Sealed(_) => {}
        }
        let Some(state) = self.connections.get(&connection) else { return Err(NtStatus::INTERNAL_ERROR) };
        if state.negotiated().is_some_and(super::Negotiated::multi_credit) {
            check_credit_charge(request)?;
        }
        if matches!(request.command, Command::Unreadable(_)) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if request.related {
            if first {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            check_related(request, inherited)?;
        }
        Ok(())
    }

    fn dispatch(
        &mut self,
        connection: ConnectionId,
        request: Request,
        inherited: &Inherited,
        turn: &mut Turn<'_>,
    ) {
        let message = request.message;
        match &request.command {
            Command::MultiProtocolNegotiate(negotiate) => {
                return self.on_multi_protocol_negotiate(connection, message, negotiate, turn);
            }
            Command::Negotiate(negotiate) => return self.on_negotiate(connection, message, negotiate, turn),
            Command::Echo => {
                return self.finish_here(connection, message, NtStatus::SUCCESS, Body::Empty, turn);
            }
            Command::SessionSetup(setup) => {
                let negotiated = self.connections.get(&connection).and_then(|state| state.negotiated());
                let Some(negotiated) = negotiated.cloned() else {
                    turn.release(Some(setup.token));
                    return self.finish_here(
                        connection,
                        message,
                        NtStatus::INVALID_PARAMETER,
                        Body::Error,
                        turn,
                    );
                };
                let (session, setup) = (request.session, setup.clone());
                let protection = request.protection;
                let request = SetupRequest { connection, negotiated, message, protection, setup };
                return self.on_session_setup(session, request, turn);
            }
            Command::Logoff
            | Command::TreeConnect(_)
            | Command::TreeDisconnect
            | Command::Create(_)
            | Command::Close(_)
            | Command::Flush(_)
            | Command::Read(_)
            | Command::Write(_)
            | Command::Lock(_)
            | Command::Ioctl(_)
            | Command::Cancel
            | Command::QueryDirectory(_)
            | Command::ChangeNotify(_)
            | Command::QueryInfo(_)
            | Command::SetInfo(_)
            | Command::OplockBreak(_)
            | Command::Unreadable(_) => {}
        }
        let Some(state) = self.connections.get(&connection) else { return };
        let negotiated = match &state.phase {
            Phase::Ready(negotiated) if state.carries(request.session) => negotiated,
            Phase::Ready(_) | Phase::AwaitingNegotiate | Phase::AwaitingSmb2Negotiate => {
                turn.release(request.command.buffer());
                return self.finish_here(
                    connection,
                    message,
                    NtStatus::USER_SESSION_DELETED,
                    Body::Error,
                    turn,
                );
            }
        };
        let execution = Execution {
            connection,
            terms: negotiated.terms,
            negotiated: asks_what_was_negotiated(&request.command).then(|| negotiated.clone()),
            tree: request.tree,
            related_open: if request.related { inherited.open } else { None },
            last: state.chains.get(&message).is_none_or(|chain| chain.waiting.is_empty()),
            request,
        };
        turn.post(Address::Session(execution.request.session), Message::Execute(Box::new(execution)));
    }

    /// CANCEL: never answered itself; its target is, once (3.3.5.16).
    fn on_cancel(&mut self, connection: ConnectionId, request: &Request, turn: &mut Turn<'_>) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let target = match request.async_id {
            Some(wanted) => state
                .chains
                .iter_mut()
                .find(|(_, chain)| chain.running.async_id.is_some_and(|id| id.0 == wanted)),
            None => state.chains.iter_mut().find(|(message, _)| **message == request.message),
        };
        if let Some((&message, chain)) = target {
            // It may be about to wait.
            chain.running.cancelled = true;
            let cancel = Message::Cancel { connection, message, status: NtStatus::CANCELLED };
            turn.post(Address::Session(chain.running.session), cancel);
        }
    }

    /// A frame arrived that can't be read (3.3.5.2.6), or failed decryption (3.3.5.2.1.1).
    pub(crate) fn on_malformed(&mut self, connection: ConnectionId, turn: &mut Turn<'_>) {
        self.misbehaved(connection, "unreadable frame", turn);
    }

    /// The peer is gone: what it was waiting for goes on, to be forgotten when it ends.
    pub(crate) fn on_disconnected(&mut self, connection: ConnectionId, turn: &mut Turn<'_>) {
        let Some(state) = self.connections.remove(&connection) else {
            return turn
                .push(Action::Record(Audit::AdapterMisuse { what: "disconnect of an unknown connection" }));
        };
        self.disarm(crate::timer::Timer::Authentication(connection), turn);
        for (_, chain) in state.chains {
            chain.waiting.into_iter().for_each(|request| turn.release(request.command.buffer()));
            chain.done.into_iter().for_each(|response| turn.release(response.body.buffer()));
        }
        for session in state.sessions.into_keys() {
            turn.post(Address::Session(session), Message::ChannelLost { connection });
        }
    }
}

fn asks_what_was_negotiated(command: &Command) -> bool {
    matches!(command, Command::Ioctl(ioctl) if matches!(ioctl.input, IoctlInput::ValidateNegotiate(_)))
}

/// CreditCharge covers the larger of what is sent and what may come back (3.1.5.2, 3.3.5.2.5).
fn check_credit_charge(request: &Request) -> Result<(), NtStatus> {
    let (sent, answered) = payload_sizes(&request.command);
    let needed = sent.max(answered).saturating_sub(1) / CREDIT_SIZE + 1;
    let paid = u32::from(request.credit_charge.max(1));
    if needed > paid { Err(NtStatus::INVALID_PARAMETER) } else { Ok(()) }
}

/// Bytes that a request carries, and may get back, in its variable part.
fn payload_sizes(command: &Command) -> (u32, u32) {
    match command {
        Command::Read(read) => (0, read.length),
        Command::Write(write) => (write.length, 0),
        Command::Ioctl(ioctl) => (ioctl.input_length, ioctl.output_max.saturating_add(ioctl.input_max)),
        Command::QueryDirectory(query) => (0, query.output_buffer_length),
        Command::ChangeNotify(notify) => (0, notify.output_buffer_length),
        Command::QueryInfo(query) => (query.input_length, query.output_max),
        Command::SetInfo(set) => (set.length, 0),
        Command::MultiProtocolNegotiate(_)
        | Command::Negotiate(_)
        | Command::SessionSetup(_)
        | Command::Logoff
        | Command::TreeConnect(_)
        | Command::TreeDisconnect
        | Command::Create(_)
        | Command::Close(_)
        | Command::Flush(_)
        | Command::Lock(_)
        | Command::Cancel
        | Command::Echo
        | Command::OplockBreak(_)
        | Command::Unreadable(_) => (0, 0),
    }
}

/// What a related element inherits must be there (3.3.5.2.7.2).
fn check_related(request: &Request, inherited: &Inherited) -> Result<(), NtStatus> {
    if request.session == SessionId(0) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let needs_open = match request.command.code() {
        CommandCode::Close
        | CommandCode::Flush
        | CommandCode::Read
        | CommandCode::Write
        | CommandCode::Lock
        | CommandCode::Ioctl
        | CommandCode::QueryDirectory
        | CommandCode::ChangeNotify
        | CommandCode::QueryInfo
        | CommandCode::SetInfo => true,
        CommandCode::Negotiate
        | CommandCode::SessionSetup
        | CommandCode::Logoff
        | CommandCode::TreeConnect
        | CommandCode::TreeDisconnect
        | CommandCode::Create
        | CommandCode::Cancel
        | CommandCode::Echo
        | CommandCode::OplockBreak => false,
    };
    if !needs_open {
        return Ok(());
    }
    // A predecessor that failed on an open that is there does not take the open away: only one without an open passes
    // its error on. (3.3.5.2.7.2 lets a server pass on every error; Windows and its clients' expectations are these.)
    match inherited.open {
        Some(_) => Ok(()),
        None if inherited.status.is_error() => Err(inherited.status),
        None => Err(NtStatus::INVALID_HANDLE),
    }
}

fn release_chain(chain: Chain, turn: &mut Turn<'_>) {
    turn.release(chain.first.command.buffer());
    chain.rest.into_iter().for_each(|request| turn.release(request.command.buffer()));
}
