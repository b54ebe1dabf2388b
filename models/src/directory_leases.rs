//! Leases of directories: clients that cache what one shows, and clients that change that.
//!
//! * Modelled: scripts of CREATE of a directory with a lease, QUERY_DIRECTORY, CREATE of a file in it that names its
//!   directory's lease or none, WRITE, rename within and out of the directory, delete disposition, CLOSE and a connection's
//!   end. A client keeps what the directory showed while it may; when it is told of a break it forgets that, and
//!   acknowledges at any time later; or never does, where timers run out at any moment.
//! * Left out: what a listing looks like (it is one value), links, attributes, local changes (`smb-state` tests which of
//!   them break a lease), leases of the files, durable opens, several channels. What a client is sent it has at once.
//! * Bounds: one set of scripts a case, with each client's connection, session and machine on one of two shards, or all on
//!   one. Messages between shards take any time. Small: closes of handles come at once. Deep: late too, and cases of three
//!   clients.
//! * Last run: 56 520 different states at the small bound, 5 s; the deep bound did not end in 200 s.
//! * Always: S26 (whoever still caches when nothing is under way caches what the directory shows, but for what an open
//!   writes before its CLOSE), S27, S28, S29, S30 (no change waits for who caches), S32, S34 (no change under a lease breaks
//!   that one), L4, L5, R1/S19, R2/S61, S63.
//! * Sometimes: a break is acknowledged, one needs no acknowledgment, one times out, a lease goes step by step, a client lists
//!   from its cache, a client changes what it caches and goes on caching, an open waits.
//! * MS-SMB2: 3.3.1.4, 3.3.4.7, 3.3.5.9.11, 3.3.5.10, 3.3.5.22.2, 3.3.6.5; MS-FSA: 2.1.4.12, 2.1.5.1, 2.1.5.5, 2.1.5.15.

use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::command::FileId;
use smb_proto::command::create::{self, CreateDisposition, CreateOptions, ShareAccess};
use smb_proto::command::oplock_break::{
    Acknowledgment, LeaseBreak, LeaseBreakFlags, LeaseBreakNotification, Notification as Told, OplockLevel,
};
use smb_proto::create_context::{LeaseFlags, LeaseKey, LeaseState, LeaseV2, RequestContext, ResponseContext};
use smb_state::config::Limits;
use smb_state::ids::{BufferId, ConnectionId, MessageId, ShardId};
use smb_state::request::Command;
use smb_state::response::{Body, Response};
use smb_state::timer::Timer;
use stateright::{Model, Property};

use crate::harness::client::{self, Client};
use crate::harness::fault::Fault;
use crate::harness::rule::Rule;
use crate::harness::run::{Bound, Entry, Report};
use crate::harness::volume::{self, Volume};
use crate::harness::{Grain, Move, Seen, World};

mod cases;

use cases::{CASES, Case, How, Names, Op};

/// The model.
pub const ENTRY: Entry = Entry {
    name: "directory_leases",
    about: "leases of a directory, and clients that change what it shows",
    faults: &[
        Fault::LoseEntryChanged,
        Fault::ForgetParentKey,
        Fault::SkipDirectoryCached,
        Fault::ForgetBreak,
        Fault::BreakOvertakes,
        Fault::NeverExpire,
        Fault::AnswerTwice,
    ],
    explore,
};

const NONE: LeaseState = LeaseState::EMPTY;
const R: LeaseState = LeaseState::READ_CACHING;
const H: LeaseState = LeaseState::HANDLE_CACHING;
/// Every client's key of the directory's lease.
const KEY: LeaseKey = LeaseKey([7; 16]);
/// What clients count epochs from.
const EPOCH: u16 = 40;

fn explore(bound: Bound) -> Report {
    let cases = CASES.iter().filter(|case| bound.deep || !case.deep);
    Report::of_cases(bound, cases.map(|case| (case.name, DirectoryLeases { case: *case, bound })))
}

#[derive(Clone, Copy, Debug)]
struct DirectoryLeases {
    case: Case,
    bound: Bound,
}

/// What a directory shows, as one number.
type Listing = u64;

/// A client's lease of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Cache {
    rights: LeaseState,
    epoch: Option<u16>,
    /// What the directory showed.
    listing: Option<Listing>,
    /// The break that it was told of and still has to acknowledge.
    breaking: Option<Reaction>,
    /// Breaks that it was told of, and changes of its own: what was listed before may not be cached after.
    news: u8,
    /// What it has is what a break has left.
    left: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Reaction {
    to: LeaseState,
    acknowledging: Option<MessageId>,
}

/// A client's open of a file in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct File {
    open: FileId,
    names: Names,
    /// What it wrote is shown for sure only after its CLOSE.
    wrote: bool,
}

/// A request of the script that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Outstanding {
    message: MessageId,
    op: Op,
    /// [`Cache::news`] when it began.
    news: u8,
    /// What a request about a file does to the client's own lease.
    names: Names,
    waits: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Player {
    client: Client,
    /// Requests of the script that began.
    step: usize,
    outstanding: Option<Outstanding>,
    directories: [Option<FileId>; 2],
    file: Option<File>,
    cache: Cache,
    /// Somebody changed, or is about to change, what its lease does not spare.
    due: bool,
    /// A break of its timed out: what it believes to hold it may not hold.
    late: bool,
    gone: bool,
}

/// What happened at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Shown {
    acknowledged: bool,
    unacknowledged: bool,
    timed_out: bool,
    stepwise: bool,
    from_cache: bool,
    spared: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    world: World,
    players: Vec<Player>,
    shown: Shown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Begin(usize),
    Acknowledge(usize),
    Move(Move),
}

fn open_directory(how: How, state: LeaseState, epoch: u16) -> Command {
    let (access, share) = match how {
        How::Shared => (AccessMask::LIST_DIRECTORY, ShareAccess::ALL),
        How::Careful => (AccessMask::LIST_DIRECTORY, ShareAccess::READ.with(ShareAccess::WRITE)),
        How::Deleting => (AccessMask::DELETE, ShareAccess::ALL),
    };
    let options = CreateOptions::DIRECTORY_FILE;
    let command = client::create("d", CreateDisposition::OPEN, access, share, options);
    let lease = LeaseV2 { key: KEY, state, flags: LeaseFlags::EMPTY, parent_key: LeaseKey::default(), epoch };
    leased(command, lease)
}

fn open_file(path: &str, disposition: CreateDisposition, names: Names) -> Command {
    let access = AccessMask::READ_DATA.with(AccessMask::WRITE_DATA).with(AccessMask::DELETE);
    let command = client::create(path, disposition, access, ShareAccess::ALL, CreateOptions::EMPTY);
    match names {
        Names::Nothing => command,
        Names::Lease => {
            let key = LeaseKey([*path.as_bytes().last().unwrap_or(&0); 16]);
            let flags = LeaseFlags::PARENT_LEASE_KEY_SET;
            leased(command, LeaseV2 { key, state: NONE, flags, parent_key: KEY, epoch: 0 })
        }
    }
}

fn leased(mut command: Command, lease: LeaseV2) -> Command {
    if let Command::Create(request) = &mut command {
        request.oplock_level = OplockLevel::LEASE;
        request.contexts = vec![RequestContext::LeaseV2(lease)];
    }
    command
}

/// The listing that a payload was filled with.
fn listing_of(buffer: BufferId) -> Listing {
    buffer.0 >> 8 & 0xFF_FFFF
}

impl Player {
    /// A script's next request may begin: there is none before it, or it does not wait for the one before.
    fn may_begin(&self, script: &[Op]) -> bool {
        match script.get(self.step) {
            None => false,
            Some(Op::Go) => !self.gone,
            Some(_) => !self.gone && self.outstanding.is_none(),
        }
    }

    /// It stops caching because its last open goes.
    fn forget_if_closed(&mut self) {
        if self.directories == [None; 2] {
            self.cache = Cache { news: self.cache.news, ..Cache::default() };
        }
    }

    /// What it cached is not to be relied on any more.
    fn forget_listing(&mut self) {
        self.cache.news = self.cache.news.wrapping_add(1);
        self.cache.listing = None;
    }

    /// Whether it believes what it caches.
    fn is_settled(&self) -> bool {
        !self.gone && !self.late && self.cache.breaking.is_none()
    }
}

impl State {
    fn begin(&mut self, index: usize, op: Op) {
        let player = &mut self.players[index];
        player.step += 1;
        let file = player.file;
        let command = match op {
            Op::Open(_, how, state) => Some(open_directory(how, state, player.cache.epoch.unwrap_or(EPOCH))),
            Op::List(slot) => {
                if player.cache.listing.is_some() && player.cache.rights.contains(R) {
                    self.shown.from_cache = true;
                    return;
                }
                player.directories[slot].map(client::list)
            }
            Op::Leave(slot) => {
                let open = player.directories[slot].take();
                player.forget_if_closed();
                open.map(client::close)
            }
            Op::Make(path, names) => Some(open_file(path, CreateDisposition::CREATE, names)),
            Op::Use(path, names) => Some(open_file(path, CreateDisposition::OPEN, names)),
            Op::Write => file.map(|file| {
                let buffer = player.client.buffer(player.client.next);
                player.file = Some(File { wrote: true, ..file });
                client::write(file.open, buffer)
            }),
            Op::Rename(to) => file.map(|file| client::rename(file.open, to, false, false)),
            Op::Delete => file.map(|file| client::dispose(file.open, true)),
            Op::Close => file.map(|file| client::close(file.open)),
            Op::Go => return self.go(index),
        };
        let Some(command) = command else { return };
        let names = match (op, file) {
            (Op::Make(_, names), _) => names,
            (_, Some(file)) => file.names,
            (_, None) => Names::Nothing,
        };
        let next = player.client.send(command);
        let message = MessageId(player.client.next - 1);
        let news = player.cache.news;
        player.outstanding = Some(Outstanding { message, op, news, names, waits: false });
        if matches!(op, Op::Make(..) | Op::Rename(_) | Op::Close) {
            self.changes(index, names);
        }
        let seen = self.world.apply(next);
        self.observe(seen);
    }

    /// A client changes what the directory shows, or is about to.
    fn changes(&mut self, index: usize, names: Names) {
        for (other, player) in self.players.iter_mut().enumerate() {
            if other != index || names == Names::Nothing {
                player.due = true;
            } else {
                player.forget_listing();
            }
        }
    }

    fn go(&mut self, index: usize) {
        let player = &mut self.players[index];
        player.gone = true;
        player.outstanding = None;
        player.directories = [None; 2];
        let file = player.file.take();
        player.forget_if_closed();
        let connection = player.client.connection;
        if let Some(file) = file {
            // What it wrote, and deletes, is shown when its opens are closed.
            self.changes(index, file.names);
        }
        let seen = self.world.apply(Move::Disconnect(connection));
        self.observe(seen);
    }

    fn acknowledge(&mut self, index: usize) {
        let player = &mut self.players[index];
        let Some(reaction) = player.cache.breaking else { return };
        let message = MessageId(player.client.next);
        let acknowledgment = Acknowledgment::Lease(LeaseBreak { lease_key: KEY, lease_state: reaction.to });
        player.cache.breaking = Some(Reaction { acknowledging: Some(message), ..reaction });
        let next = player.client.send(Command::OplockBreak(acknowledgment));
        let seen = self.world.apply(next);
        self.observe(seen);
    }

    fn observe(&mut self, seen: Vec<Seen>) {
        for seen in seen {
            let of = |connection: ConnectionId| {
                self.players.iter().position(|player| player.client.connection == connection && !player.gone)
            };
            match seen {
                Seen::Response(connection, response) => {
                    if let Some(index) = of(connection) {
                        self.on_response(index, &response);
                    }
                }
                Seen::Notification(connection, notification) => match (of(connection), notification.body) {
                    (Some(index), Told::Lease(told)) => self.on_break(index, &told),
                    (Some(_), Told::Oplock(_)) => self.world.breaks(Rule::Order, "nobody has an oplock"),
                    (None, _) => {}
                },
                Seen::Audit(_) => {}
            }
        }
    }

    fn on_response(&mut self, index: usize, response: &Response) {
        let player = &mut self.players[index];
        if let Some(outstanding) = &mut player.outstanding
            && outstanding.message == response.message
        {
            if response.status == NtStatus::PENDING {
                outstanding.waits = true;
                let op = outstanding.op;
                return self.check_may_wait(index, op);
            }
            if let Some(outstanding) = player.outstanding.take() {
                self.on_answer(index, outstanding, response);
            }
            return;
        }
        let Some(reaction) = player.cache.breaking else { return };
        if reaction.acknowledging == Some(response.message) {
            player.cache.breaking = None;
            if response.status == NtStatus::SUCCESS {
                player.cache.rights = reaction.to;
                player.cache.left = true;
                self.shown.acknowledged = true;
                return;
            }
            player.cache.rights = NONE;
            player.cache.listing = None;
            if !player.late {
                let what = format!("player {index}'s acknowledgment is refused: {:?}", response.status);
                self.world.breaks(Rule::Breaks, what);
            }
        }
    }

    fn on_answer(&mut self, index: usize, outstanding: Outstanding, response: &Response) {
        let Outstanding { op, news, names, .. } = outstanding;
        let player = &mut self.players[index];
        match (op, &response.body) {
            (Op::Open(slot, ..), Body::Create(create)) => {
                player.directories[slot] = Some(create.file_id);
                self.on_grant(index, create);
            }
            (Op::Make(_, names) | Op::Use(_, names), Body::Create(create)) => {
                player.file = Some(File { open: create.file_id, names, wrote: false });
            }
            (Op::List(_), Body::QueryDirectory { buffer, .. }) => {
                let cache = &mut player.cache;
                if cache.rights.contains(R) && cache.news == news && cache.breaking.is_none() {
                    cache.listing = Some(listing_of(*buffer));
                }
            }
            (Op::Close, _) => player.file = None,
            _ => {}
        }
        // Its own change may have come before or after what it listed meanwhile.
        let player = &mut self.players[index];
        if names == Names::Lease && matches!(op, Op::Make(..) | Op::Rename(_) | Op::Close) {
            player.forget_listing();
            self.shown.spared |= player.is_settled() && player.cache.rights.contains(R);
        }
    }

    /// What a CREATE of the directory granted.
    fn on_grant(&mut self, index: usize, create: &create::Response) {
        let player = &mut self.players[index];
        let before = (player.cache.rights, player.cache.epoch);
        let lease = create.contexts.iter().find_map(|context| match context {
            ResponseContext::LeaseV2(lease) => Some(lease),
            _ => None,
        });
        let Some(lease) = lease else {
            return self.world.breaks(Rule::LegalState, "a lease was asked for and not answered");
        };
        let breaking = player.cache.breaking.is_some();
        if !breaking && lease.flags.contains(LeaseFlags::BREAK_IN_PROGRESS) && !player.late {
            return self.world.breaks(Rule::Order, format!("player {index} does not know of a break"));
        }
        // During a break the answer says what was held before it.
        if !breaking {
            player.cache.rights = lease.state;
            player.cache.left = false;
        }
        player.cache.epoch = Some(lease.epoch);
        let changes = u16::from(player.cache.rights != before.0);
        if !player.late && lease.epoch != before.1.unwrap_or(EPOCH).wrapping_add(changes) {
            let what =
                format!("player {index}: {before:?} became {:?} at {}", player.cache.rights, lease.epoch);
            self.world.breaks(Rule::Epoch, what);
        }
    }

    fn on_break(&mut self, index: usize, told: &LeaseBreakNotification) {
        let player = &mut self.players[index];
        if player.directories == [None; 2] && player.outstanding.is_some() {
            // It is closing its last open.
            return;
        }
        let (late, due) = (player.late, player.due);
        let cache = &mut player.cache;
        if late {
            cache.rights = told.current_state;
        }
        let (from, to) = (told.current_state, told.new_state);
        let acknowledge = told.flags.contains(LeaseBreakFlags::ACK_REQUIRED);
        let wrong = if told.lease_key != KEY || cache.rights != from {
            Some((Rule::Order, "is told of a break of what it does not hold"))
        } else if to == from || !from.contains(to) {
            Some((Rule::Breaks, "is told of a break to what it has already"))
        } else if cache.breaking.is_some_and(|reaction| reaction.acknowledging.is_none()) {
            Some((Rule::Breaks, "is told of a break before it acknowledged another"))
        } else if acknowledge != from.intersects(H) {
            Some((Rule::Breaks, "has to acknowledge what it need not, or the other way round"))
        } else if !late && Some(told.new_epoch) != cache.epoch.map(|epoch| epoch.wrapping_add(1)) {
            Some((Rule::Epoch, "sees an epoch jump"))
        } else if ![NONE, R].contains(&to) {
            Some((Rule::LegalState, "is told of an illegal state"))
        } else if !to.contains(R) && !due {
            Some((Rule::OwnKey, "is told of nothing but what it changed under its lease"))
        } else {
            None
        };
        if let Some((rule, what)) = wrong {
            let what = format!("player {index} {what}: {told:?}, has {cache:?}");
            return self.world.breaks(rule, what);
        }
        self.shown.stepwise |= cache.left;
        self.shown.unacknowledged |= !acknowledge;
        cache.epoch = Some(told.new_epoch);
        cache.news = cache.news.wrapping_add(1);
        if !to.contains(R) {
            cache.listing = None;
        }
        if acknowledge {
            cache.breaking = Some(Reaction { to, acknowledging: None });
        } else {
            cache.rights = to;
            cache.breaking = None;
        }
    }

    /// Somebody is said to wait: only to open the directory, for what another one has to give up (S30, S31).
    fn check_may_wait(&mut self, index: usize, op: Op) {
        let hinders = |(other, player): (usize, &Player)| {
            let opens = |request: &Outstanding| matches!(request.op, Op::Open(..) | Op::Leave(_));
            let holds = player.cache.rights.contains(H) || player.cache.breaking.is_some();
            other != index
                && (holds || player.late || player.gone || player.outstanding.as_ref().is_some_and(opens))
        };
        if !matches!(op, Op::Open(..)) {
            self.world.breaks(Rule::Waits, format!("player {index} waits for who caches the directory"));
        } else if self.world.is_single() && !self.players.iter().enumerate().any(hinders) {
            self.world.breaks(Rule::OwnKey, format!("player {index} waits for nobody"));
        }
    }

    /// What must hold of what the clients believe to hold.
    fn check_caches(&mut self) {
        let states = [NONE, R, R.with(H)];
        if let Some(player) = self.players.iter().find(|player| !states.contains(&player.cache.rights)) {
            let what = format!("a directory's lease is {:?}", player.cache.rights);
            return self.world.breaks(Rule::LegalState, what);
        }
        if !self.world.is_quiet() {
            return;
        }
        let owing = self.players.iter().filter(|player| player.cache.breaking.is_some()).count();
        let waits = |player: &Player| player.outstanding.is_some_and(|request| request.waits);
        let timers = self.world.breaks_under_way();
        if self.players.iter().any(waits) && (timers == 0 || timers > owing) {
            self.world.breaks(Rule::Waits, "somebody waits for a client that was not asked");
        }
        if self.players.iter().any(|player| player.file.is_some_and(|file| file.wrote)) {
            return;
        }
        let shown = self.world.volume.shown(volume::FIRST);
        let stale = |player: &Player| {
            let listing = player.cache.listing.filter(|_| player.cache.rights.contains(R));
            player.is_settled() && listing.is_some_and(|listing| listing != shown)
        };
        if let Some(index) = self.players.iter().position(stale) {
            self.world.breaks(Rule::Coherent, format!("player {index} caches what is no longer so"));
        }
    }

    fn expire(&mut self, timer: Timer) {
        if matches!(timer, Timer::BreakAcknowledgment(..)) {
            self.shown.timed_out = true;
            // Which of them it is, is the server's to know.
            for player in &mut self.players {
                let opens = |request: &Outstanding| matches!(request.op, Op::Open(..));
                player.late |=
                    player.cache.breaking.is_some() || player.outstanding.as_ref().is_some_and(opens);
            }
        }
    }

    fn is_over(&self, case: &Case) -> bool {
        let done = |(index, player): (usize, &Player)| {
            player.outstanding.is_none() && (player.gone || player.step == case.scripts[index].len())
        };
        self.players.iter().enumerate().all(done) && self.world.is_quiet()
    }
}

impl Model for DirectoryLeases {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let grain = Grain { late_answers: true, late_closes: self.bound.deep, ..Grain::COARSE };
        let config = client::config(self.case.shards, Limits::default(), false);
        let mut world = World::new(config, Volume::with(&["d\\", "d\\a"]), grain);
        let players = (0..self.case.scripts.len()).map(|index| {
            let number = u16::try_from(index).unwrap_or(0);
            let connection = ConnectionId::new(ShardId(number % self.case.shards), u64::from(number) + 1);
            Player {
                client: Client::establish(connection, 1, 8, &mut world),
                step: 0,
                outstanding: None,
                directories: [None; 2],
                file: None,
                cache: Cache::default(),
                due: false,
                late: false,
                gone: false,
            }
        });
        let players = players.collect();
        world.seed(self.bound.fault);
        vec![State { world, players, shown: Shown::default() }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        if state.world.broken.is_some() {
            return;
        }
        let mut moves = Vec::new();
        state.world.moves(self.case.ignores, &mut moves);
        // Other timers than those of breaks are other models'.
        moves.retain(
            |next| !matches!(next, Move::Expire(timer) if !matches!(timer, Timer::BreakAcknowledgment(..))),
        );
        actions.extend(moves.into_iter().map(Step::Move));
        for (index, player) in state.players.iter().enumerate() {
            if player.may_begin(self.case.scripts[index]) {
                actions.push(Step::Begin(index));
            }
            let owes = player.cache.breaking.is_some_and(|reaction| reaction.acknowledging.is_none());
            if owes && !player.gone && (!self.case.ignores || player.late) {
                actions.push(Step::Acknowledge(index));
            }
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut state = state.clone();
        match step {
            Step::Begin(index) => {
                let op = self.case.scripts[index][state.players[index].step];
                state.begin(index, op);
            }
            Step::Acknowledge(index) => state.acknowledge(index),
            Step::Move(next) => {
                if let Move::Expire(timer) = next {
                    state.expire(timer);
                }
                let seen = state.world.apply(next);
                state.observe(seen);
            }
        }
        state.check_caches();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("S26 what is cached is what there is", |_, s: &State| {
                s.world.keeps(Rule::Coherent)
            }),
            Property::always("S27 states are legal", |_, s: &State| s.world.keeps(Rule::LegalState)),
            Property::always("S28 breaks go to less", |_, s: &State| s.world.keeps(Rule::Breaks)),
            Property::always("S29 epochs count changes", |_, s: &State| s.world.keeps(Rule::Epoch)),
            Property::always("S30, L5 changes wait for nobody", |_, s: &State| s.world.keeps(Rule::Waits)),
            Property::always("S34 what is changed under a lease leaves it", |_, s: &State| {
                s.world.keeps(Rule::OwnKey)
            }),
            Property::always("S32 no break comes before its grant", |_, s: &State| {
                s.world.keeps(Rule::Order)
            }),
            Property::always("S19, L4 each request is answered once", |_, s: &State| {
                s.world.keeps(Rule::OneAnswer)
            }),
            Property::always("R2 storage is asked properly", |_, s: &State| s.world.keeps(Rule::Storage)),
            Property::always("S61 each buffer is released once", |_, s: &State| s.world.keeps(Rule::Buffers)),
            Property::always("S63 nothing is left", |_, s: &State| s.world.keeps(Rule::Residue)),
            Property::always("the machines keep their invariants", |_, s: &State| {
                s.world.keeps(Rule::Machines)
            }),
            Property::sometimes("a break is acknowledged", |_, s: &State| s.shown.acknowledged),
            Property::sometimes("a break needs no acknowledgment", |_, s: &State| s.shown.unacknowledged),
            Property::sometimes("a break times out", |_, s: &State| s.shown.timed_out),
            Property::sometimes("a lease goes step by step", |_, s: &State| s.shown.stepwise),
            Property::sometimes("a client lists from its cache", |_, s: &State| s.shown.from_cache),
            Property::sometimes("a client goes on caching what it changes", |_, s: &State| s.shown.spared),
            Property::sometimes("an open waits", |_, s: &State| {
                s.players.iter().any(|player| player.outstanding.is_some_and(|request| request.waits))
            }),
            Property::sometimes("the scripts come to their end", |m: &Self, s: &State| s.is_over(&m.case)),
        ]
    }
}
