//! One session on several connections (MS-SMB2 3.3.5.5), each in a shard of its own.

use std::collections::BTreeMap;

use super::*;
use crate::ids::Channel;
use crate::response::Protect;

const FIRST: ConnectionId = ConnectionId::new(ShardId(0), 1);
const SECOND: ConnectionId = ConnectionId::new(ShardId(1), 2);
const THIRD: ConnectionId = ConnectionId::new(ShardId(1), 3);

/// Two shards, and clients that count their message ids.
struct Pair {
    shards: Vec<Shard>,
    next: BTreeMap<ConnectionId, u64>,
    session: SessionId,
}

impl Pair {
    fn new(config: Config) -> Self {
        let config = Shared::new(Config { shards: 2, ..config });
        let shards = (0..2).map(|id| Shard::new(ShardId(id), config.clone())).collect();
        Self { shards, next: BTreeMap::new(), session: SessionId(0) }
    }

    /// One event, and all messages that follow from it.
    fn step(&mut self, shard: ShardId, event: Event) -> Actions {
        let mut events = std::collections::VecDeque::from([(shard, event)]);
        let mut seen = Actions::new();
        while let Some((shard, event)) = events.pop_front() {
            let mut actions = Actions::new();
            let machine = &mut self.shards[usize::from(shard.0)];
            machine.step(event, &mut actions);
            machine.check_invariants();
            for action in actions {
                if let Action::ToShard(to, envelope) = action {
                    events.push_back((to, Event::FromShard { from: shard, envelope }));
                } else {
                    seen.push(action);
                }
            }
        }
        seen
    }

    fn request(&mut self, connection: ConnectionId, session: SessionId, command: Command) -> Request {
        let next = self.next.entry(connection).or_default();
        let message = MessageId(*next);
        *next += 1;
        Request {
            message,
            credit_charge: 1,
            credits: 16,
            session,
            tree: TreeId(0),
            async_id: None,
            related: false,
            replay: false,
            channel_sequence: 0,
            protection: Protection::None,
            size: 100,
            command,
        }
    }

    fn send(&mut self, connection: ConnectionId, request: Request) -> Actions {
        let chain = Chain { first: request, rest: Vec::new() };
        self.step(connection.shard(), Event::Request { connection, chain })
    }

    fn accept(&mut self, connection: ConnectionId, negotiate: negotiate::Request) {
        self.step(connection.shard(), Event::Accepted { connection, peer: Peer(1) });
        let request = self.request(connection, SessionId(0), Command::Negotiate(Box::new(negotiate)));
        assert_eq!(response(&self.send(connection, request)).status, NtStatus::SUCCESS);
    }

    fn authenticated(
        &mut self,
        connection: ConnectionId,
        session: SessionId,
        outcome: AuthOutcome,
    ) -> Actions {
        let message = MessageId(self.next[&connection] - 1);
        self.step(connection.shard(), Event::Authenticated { connection, session, message, outcome })
    }

    /// A session of Alice's on the first connection.
    fn with_session(config: Config) -> Self {
        let mut pair = Self::new(config);
        pair.accept(FIRST, offer());
        let request = pair.request(FIRST, SessionId(0), setup(false));
        let actions = pair.send(FIRST, request);
        let session = actions.iter().find_map(|action| {
            if let Action::Output(_, Output::Authenticate { session, .. }) = action {
                return Some(*session);
            }
            None
        });
        pair.session = session.unwrap();
        let answer = pair.authenticated(FIRST, pair.session, accepted("alice"));
        assert_eq!(response(&answer).status, NtStatus::SUCCESS);
        pair
    }

    /// The first leg of a bind, or the next.
    fn ask(&mut self, connection: ConnectionId) -> Actions {
        let request = self.request(connection, self.session, setup(true));
        self.send(connection, Request { protection: Protection::Unverified, ..request })
    }

    fn bound(&mut self, connection: ConnectionId) -> Channel {
        let asked = self.ask(connection);
        assert!(told(&asked, |output| matches!(output, Output::Bind { .. })), "{asked:?}");
        let actions = self.authenticated(connection, self.session, accepted("alice"));
        assert_eq!(response(&actions).status, NtStatus::SUCCESS);
        let place = |wanted: fn(&Output) -> bool| {
            actions.iter().position(|action| matches!(action, Action::Output(_, output) if wanted(output)))
        };
        let keys = place(|output| matches!(output, Output::InstallKeys { .. }));
        assert!(keys < place(|output| matches!(output, Output::Respond(_))), "R6: {actions:?}");
        let Action::Output(to, Output::InstallKeys { session, channel }) = &actions[keys.unwrap()] else {
            unreachable!()
        };
        assert_eq!((*to, *session), (connection, self.session));
        *channel
    }

    /// Whether a request of the session is carried out there.
    fn works(&mut self, connection: ConnectionId) -> NtStatus {
        let connect = tree_connect::Request {
            flags: tree_connect::Flags::EMPTY,
            path: Name::from(r"\\server\share"),
            contexts: Vec::new(),
        };
        let request = self.request(connection, self.session, Command::TreeConnect(connect));
        let answer = self.send(connection, Request { protection: Protection::Signed, ..request });
        response(&answer).status
    }

    fn state(&self) -> Option<&crate::session::Session> {
        self.shards[0].sessions.get(&self.session)
    }
}

fn offer() -> negotiate::Request {
    negotiate::Request { capabilities: Capabilities::MULTI_CHANNEL, ..negotiate_request() }
}

fn setup(binding: bool) -> Command {
    let (signing_required, previous_session) = (false, SessionId(0));
    Command::SessionSetup(SessionSetup { binding, signing_required, previous_session, token: BufferId(7) })
}

fn accepted(name: &str) -> AuthOutcome {
    let identity = Identity::User { name: name.into(), number: u32::from(name.as_bytes()[0]) };
    AuthOutcome::Accepted { reply: Some(BufferId(9)), identity, keyed: true, valid_for_ms: Some(1) }
}

fn told(actions: &Actions, wanted: impl Fn(&Output) -> bool) -> bool {
    actions.iter().any(|action| matches!(action, Action::Output(_, output) if wanted(output)))
}

fn released(actions: &Actions) -> Vec<BufferId> {
    actions
        .iter()
        .filter_map(|a| if let Action::Release(buffer) = a { Some(*buffer) } else { None })
        .collect()
}

#[test]
fn a_session_is_used_on_two_connections_of_two_shards() {
    let mut pair = Pair::with_session(config());
    pair.accept(SECOND, offer());
    assert_eq!(pair.works(SECOND), NtStatus::USER_SESSION_DELETED, "it is not there yet");
    let leg = pair.ask(SECOND);
    assert!(told(&leg, |output| matches!(output, Output::Bind { token: BufferId(7), .. })));
    assert_eq!(pair.works(SECOND), NtStatus::USER_SESSION_DELETED, "nor while it is asked for");
    pair.next.entry(SECOND).and_modify(|next| *next -= 1);
    let answer = pair.authenticated(SECOND, pair.session, AuthOutcome::Continue { reply: BufferId(8) });
    pair.next.entry(SECOND).and_modify(|next| *next += 1);
    assert_eq!(response(&answer).status, NtStatus::MORE_PROCESSING_REQUIRED);
    assert_eq!(response(&answer).protect, Protect::Sign);
    assert_eq!(pair.bound(SECOND), Channel(1));
    assert_eq!((pair.works(FIRST), pair.works(SECOND)), (NtStatus::SUCCESS, NtStatus::SUCCESS));
}

/// What is asked, and what comes of it.
#[derive(Clone)]
struct Case {
    offer: negotiate::Request,
    protection: Protection,
    before: Option<fn(&mut Pair)>,
    status: NtStatus,
}

fn case(status: NtStatus) -> Case {
    Case { offer: offer(), protection: Protection::Unverified, before: None, status }
}

fn dialect(dialect: Dialect) -> negotiate::Request {
    negotiate::Request { dialects: vec![dialect], contexts: Vec::new(), ..offer() }
}

fn context(extra: NegotiateContext) -> negotiate::Request {
    let mut request = offer();
    request.contexts.push(extra);
    request
}

fn expire(pair: &mut Pair) {
    let timer = crate::timer::Timer::SessionExpiry(pair.session);
    let armed = pair.shards[0].timers[&timer];
    pair.step(ShardId(0), Event::Expired(timer, armed));
}

fn again(pair: &mut Pair) {
    let request = pair.request(FIRST, pair.session, setup(false));
    pair.send(FIRST, Request { protection: Protection::Signed, ..request });
}

/// Each fault alone, in the order of the checks; any of them with those after it shows that the first one wins.
#[test]
fn the_first_check_that_fails_answers() {
    use smb_proto::command::negotiate_context::{Cipher, SigningAlgorithm as Signer};
    let gmac =
        context(NegotiateContext::Signing { algorithms: vec![Signer(SigningAlgorithm::AesGmac.code())] });
    let gcm =
        context(NegotiateContext::Encryption { ciphers: vec![Cipher(CipherAlgorithm::Aes128Gcm.code())] });
    let stranger = negotiate::Request { client_guid: [2; 16], ..offer() };
    let cases = [
        Case { before: Some(|pair| pair.session = SessionId(0xBAD)), ..case(NtStatus::USER_SESSION_DELETED) },
        Case { offer: gmac, ..case(NtStatus::NOT_SUPPORTED) },
        Case { offer: dialect(Dialect::SMB_2_1), ..case(NtStatus::REQUEST_NOT_ACCEPTED) },
        Case { offer: dialect(Dialect::SMB_3_0), ..case(NtStatus::INVALID_PARAMETER) },
        Case { protection: Protection::None, ..case(NtStatus::INVALID_PARAMETER) },
        Case { offer: gcm, ..case(NtStatus::INVALID_PARAMETER) },
        Case { offer: stranger, ..case(NtStatus::USER_SESSION_DELETED) },
        Case { before: Some(again), ..case(NtStatus::REQUEST_NOT_ACCEPTED) },
        Case { before: Some(expire), ..case(NtStatus::NETWORK_SESSION_EXPIRED) },
    ];
    for (index, first) in cases.iter().enumerate() {
        let later = cases[index + 1..].iter().map(Some);
        for other in std::iter::once(None).chain(later) {
            let mut pair = Pair::with_session(config());
            // Offers can't be mixed, and a session is in one state: what is combined is one of each.
            let combined = other.filter(|other| first.offer == offer() || other.offer == offer());
            let mut offered = first.offer.clone();
            let mut protection = first.protection;
            if let Some(other) = combined {
                if first.offer == offer() {
                    offered = other.offer.clone();
                }
                if other.protection == Protection::None && first.offer != cases[1].offer {
                    protection = Protection::None;
                }
                if let (None, Some(before)) = (first.before, other.before) {
                    before(&mut pair);
                }
            }
            if let Some(before) = first.before {
                before(&mut pair);
            }
            pair.accept(SECOND, offered);
            let before = pair.state().cloned();
            let request = pair.request(SECOND, pair.session, setup(true));
            let actions = pair.send(SECOND, Request { protection, ..request });
            let answer = response(&actions);
            assert_eq!(answer.status, first.status, "{index}, {:?}", other.map(|other| other.status));
            let signs = protection == Protection::Unverified && pair.state().is_some();
            let verify = told(&actions, |output| matches!(output, Output::VerifyBind { .. }));
            assert_eq!((verify, answer.protect == Protect::Sign), (signs, signs));
            assert_eq!(released(&actions), [BufferId(7)]);
            assert_eq!(pair.state(), before.as_ref(), "S3");
            assert!(pair.shards[1].connections[&SECOND].sessions.is_empty());
        }
    }
}

#[test]
fn a_session_that_must_be_signed_is_not_bound_without_a_signature() {
    let mut pair = Pair::with_session(Config { signing_required: true, ..config() });
    pair.accept(SECOND, offer());
    let request = pair.request(SECOND, pair.session, setup(true));
    assert_eq!(response(&pair.send(SECOND, request)).status, NtStatus::ACCESS_DENIED);
}

#[test]
fn a_connection_that_carries_the_session_is_not_bound_again() {
    let mut pair = Pair::with_session(config());
    let request = pair.request(FIRST, pair.session, setup(true));
    let actions = pair.send(FIRST, Request { protection: Protection::Signed, ..request });
    assert_eq!(response(&actions).status, NtStatus::REQUEST_NOT_ACCEPTED);
    assert_eq!(pair.works(FIRST), NtStatus::SUCCESS);
}

#[test]
fn a_bind_that_fails_changes_nothing() {
    let outcomes = [
        (AuthOutcome::Denied { status: NtStatus::LOGON_FAILURE }, NtStatus::LOGON_FAILURE, Protect::Sign),
        (AuthOutcome::Unverified, NtStatus::ACCESS_DENIED, Protect::Plain),
        (accepted("bob"), NtStatus::NOT_SUPPORTED, Protect::Sign),
    ];
    for (outcome, status, protect) in outcomes {
        let mut pair = Pair::with_session(config());
        pair.accept(SECOND, offer());
        let before = pair.state().cloned();
        pair.ask(SECOND);
        let payload = outcome.payload();
        let actions = pair.authenticated(SECOND, pair.session, outcome);
        let answer = response(&actions);
        assert_eq!((answer.status, answer.protect), (status, protect));
        assert_eq!(released(&actions), Vec::from_iter(payload));
        // What the endpoint has of the bind goes after the answer that it signs.
        let last = actions.iter().rfind(|action| matches!(action, Action::Output(..)));
        let dropped = Output::DropKeys { session: pair.session };
        assert_eq!(last, Some(&Action::Output(SECOND, dropped)));
        assert_eq!(pair.state(), before.as_ref(), "S3");
        assert_eq!(pair.works(FIRST), NtStatus::SUCCESS);
        assert_eq!(pair.works(SECOND), NtStatus::USER_SESSION_DELETED);
        assert_eq!(pair.bound(SECOND), Channel(1), "it may try again");
    }
}

#[test]
fn legs_of_a_bind_come_one_after_the_other() {
    let mut pair = Pair::with_session(config());
    pair.accept(SECOND, offer());
    pair.ask(SECOND);
    assert_eq!(response(&pair.ask(SECOND)).status, NtStatus::REQUEST_NOT_ACCEPTED);
    pair.next.entry(SECOND).and_modify(|next| *next -= 1);
    let answer = pair.authenticated(SECOND, pair.session, accepted("alice"));
    assert_eq!(response(&answer).status, NtStatus::SUCCESS);
}

#[test]
fn a_session_that_changed_while_a_token_was_looked_at_is_not_bound() {
    let statuses = [NtStatus::NETWORK_SESSION_EXPIRED, NtStatus::REQUEST_NOT_ACCEPTED];
    for (change, status) in [expire as fn(&mut Pair), again].into_iter().zip(statuses) {
        let mut pair = Pair::with_session(config());
        pair.accept(SECOND, offer());
        pair.ask(SECOND);
        change(&mut pair);
        let actions = pair.authenticated(SECOND, pair.session, accepted("alice"));
        assert_eq!(response(&actions).status, status);
        assert_eq!(released(&actions), [BufferId(9)]);
    }
}

#[test]
fn channels_are_bounded_and_their_places_are_never_used_again() {
    let limits = Limits { channels_per_session_max: 2, ..Limits::default() };
    let mut pair = Pair::with_session(Config { limits, ..config() });
    pair.accept(SECOND, offer());
    pair.accept(THIRD, offer());
    assert_eq!(pair.bound(SECOND), Channel(1));
    assert_eq!(response(&pair.ask(THIRD)).status, NtStatus::INSUFFICIENT_RESOURCES);
    pair.step(SECOND.shard(), Event::Disconnected { connection: SECOND });
    assert_eq!(pair.bound(THIRD), Channel(2));
}

#[test]
fn a_session_lives_as_long_as_one_of_its_connections() {
    let mut pair = Pair::with_session(config());
    pair.accept(SECOND, offer());
    pair.bound(SECOND);
    pair.step(FIRST.shard(), Event::Disconnected { connection: FIRST });
    assert_eq!(pair.works(SECOND), NtStatus::SUCCESS);
    pair.step(SECOND.shard(), Event::Disconnected { connection: SECOND });
    assert!(pair.state().is_none());
    assert!(pair.shards.iter().all(|shard| shard.holdings() == crate::shard::Holdings::default()));
}

#[test]
fn logoff_ends_a_session_everywhere_and_binds_to_it_too() {
    let mut pair = Pair::with_session(config());
    for connection in [SECOND, THIRD] {
        pair.accept(connection, offer());
    }
    pair.bound(SECOND);
    pair.ask(THIRD);
    let request = pair.request(SECOND, pair.session, Command::Logoff);
    let actions = pair.send(SECOND, Request { protection: Protection::Signed, ..request });
    let statuses: Vec<_> = responses(&actions).iter().map(|response| response.status).collect();
    assert_eq!(statuses.len(), 2);
    assert!(statuses.contains(&NtStatus::SUCCESS) && statuses.contains(&NtStatus::USER_SESSION_DELETED));
    for connection in [FIRST, SECOND, THIRD] {
        let dropped = Action::Output(connection, Output::DropKeys { session: pair.session });
        assert!(actions.contains(&dropped), "{connection:?}");
        assert_eq!(pair.works(connection), NtStatus::USER_SESSION_DELETED);
    }
    // The outcome comes when nobody wants it any more.
    pair.next.entry(THIRD).and_modify(|next| *next -= 1);
    assert_eq!(released(&pair.authenticated(THIRD, pair.session, accepted("alice"))), [BufferId(9)]);
}

#[test]
fn a_user_proves_itself_again_on_any_channel() {
    let mut pair = Pair::with_session(config());
    pair.accept(SECOND, offer());
    pair.bound(SECOND);
    expire(&mut pair);
    assert_eq!(pair.works(FIRST), NtStatus::NETWORK_SESSION_EXPIRED);
    let request = pair.request(SECOND, pair.session, setup(false));
    let actions = pair.send(SECOND, Request { protection: Protection::Signed, ..request });
    assert!(told(&actions, |output| matches!(output, Output::Authenticate { .. })));
    let actions = pair.authenticated(SECOND, pair.session, accepted("alice"));
    assert!(!told(&actions, |output| matches!(output, Output::InstallKeys { .. })), "the keys stay");
    assert_eq!((pair.works(FIRST), pair.works(SECOND)), (NtStatus::SUCCESS, NtStatus::SUCCESS));
}

#[test]
fn a_proof_that_is_lost_with_its_channel_has_to_be_given_again() {
    let mut pair = Pair::with_session(config());
    pair.accept(SECOND, offer());
    pair.bound(SECOND);
    let request = pair.request(SECOND, pair.session, setup(false));
    pair.send(SECOND, Request { protection: Protection::Signed, ..request });
    assert_eq!(pair.works(FIRST), NtStatus::ACCESS_DENIED);
    pair.step(SECOND.shard(), Event::Disconnected { connection: SECOND });
    assert_eq!(pair.works(FIRST), NtStatus::NETWORK_SESSION_EXPIRED);
    again(&mut pair);
    pair.authenticated(FIRST, pair.session, accepted("alice"));
    assert_eq!(pair.works(FIRST), NtStatus::SUCCESS);
}

#[test]
fn what_asks_for_a_session_elsewhere_without_binding_is_refused_under_its_key() {
    let mut pair = Pair::with_session(config());
    pair.accept(SECOND, offer());
    let request = pair.request(SECOND, pair.session, setup(false));
    let actions = pair.send(SECOND, Request { protection: Protection::Unverified, ..request });
    let answer = response(&actions);
    assert_eq!((answer.status, answer.protect), (NtStatus::USER_SESSION_DELETED, Protect::Sign));
    assert!(told(&actions, |output| matches!(output, Output::VerifyBind { .. })));
    assert!(pair.shards[1].connections[&SECOND].sessions.is_empty());
}

#[test]
fn a_connection_that_is_lost_takes_its_bind_with_it() {
    let mut pair = Pair::with_session(config());
    pair.accept(SECOND, offer());
    let before = pair.state().cloned();
    pair.ask(SECOND);
    pair.step(SECOND.shard(), Event::Disconnected { connection: SECOND });
    assert_eq!(pair.state(), before.as_ref());
    assert_eq!(released(&pair.authenticated(SECOND, pair.session, accepted("alice"))), [BufferId(9)]);
}

impl Pair {
    /// Asks for a batch oplock as far as storage; answers what is asked there.
    fn open_batch(&mut self, connection: ConnectionId, tree: TreeId, handle: u64) -> Actions {
        let Command::Create(mut create) = create("a", CreateDisposition::OPEN) else { unreachable!() };
        create.oplock_level = OplockLevel::BATCH;
        let request = self.request(connection, self.session, Command::Create(create));
        let request = Request { protection: Protection::Signed, tree, ..request };
        let mut actions = self.send(connection, request);
        while let [(token, op)] = submits(&actions)[..].to_vec().as_slice() {
            let reply = if matches!(op, StorageOp::Resolve { .. }) {
                StorageReply::Resolved(Resolved::Found(object("a", 5, handle)))
            } else {
                StorageReply::Attributes(attributes(5))
            };
            actions = self.step(ShardId(0), Event::Completed { token: *token, reply });
        }
        actions
    }
}

fn breaks(actions: &Actions) -> Vec<(ConnectionId, crate::response::Notification)> {
    actions
        .iter()
        .filter_map(|action| {
            if let Action::Output(to, Output::Notify(notification)) = action {
                return Some((*to, *notification));
            }
            None
        })
        .collect()
}

#[test]
fn a_break_that_was_told_on_a_lost_channel_is_told_again() {
    let mut pair = Pair::with_session(config());
    pair.accept(SECOND, offer());
    pair.bound(SECOND);
    assert_eq!(pair.works(FIRST), NtStatus::SUCCESS);
    let tree = TreeId(1);
    let granted = pair.open_batch(FIRST, tree, 50);
    let Body::Create(create) = &response(&granted).body else { panic!("{granted:?}") };
    assert_eq!(create.oplock_level, OplockLevel::BATCH);
    let told = breaks(&pair.open_batch(SECOND, tree, 51));
    let [(first, notification)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(*first, FIRST);
    let again = pair.step(FIRST.shard(), Event::Disconnected { connection: FIRST });
    assert_eq!(breaks(&again), [(SECOND, *notification)]);
    let acknowledgment = smb_proto::command::oplock_break::OplockBreak {
        oplock_level: OplockLevel::NONE,
        file_id: create.file_id,
    };
    let command =
        Command::OplockBreak(smb_proto::command::oplock_break::Acknowledgment::Oplock(acknowledgment));
    let request = pair.request(SECOND, pair.session, command);
    let actions = pair.send(SECOND, Request { protection: Protection::Signed, tree, ..request });
    assert_eq!(responses(&actions)[0].status, NtStatus::SUCCESS);
    // Nothing waits any more: nothing is told when the next channel goes.
    pair.accept(THIRD, offer());
    pair.bound(THIRD);
    let last = pair.step(SECOND.shard(), Event::Disconnected { connection: SECOND });
    assert_eq!(breaks(&last), []);
}
