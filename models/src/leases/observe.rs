//! What the clients are sent, and what must hold of it.

use smb_proto::NtStatus;
use smb_proto::command::create;
use smb_proto::command::oplock_break::{LeaseBreakFlags, Notification as Told, OplockBreak};
use smb_proto::create_context::{LeaseFlags, ResponseContext};
use smb_state::ids::{ConnectionId, MessageId};
use smb_state::response::{Body, Response};

use super::cases::{Asks, Op};
use super::player::{Outstanding, Player, Reaction, Stage, content_of, rights_of};
use super::{H, NONE, R, State, W};
use crate::harness::Seen;
use crate::harness::rule::Rule;

impl State {
    pub(super) fn observe(&mut self, seen: Vec<Seen>) {
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
                Seen::Notification(connection, notification) => {
                    if let Some(index) = of(connection) {
                        self.on_notification(index, &notification.body);
                    }
                }
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
                return self.check_may_wait(index);
            }
            if let Some(outstanding) = player.outstanding.take() {
                self.on_answer(index, outstanding, response);
            }
            return;
        }
        let Some(reaction) = player.cache.breaking else { return };
        match reaction.stage {
            Stage::Flushing(message) if message == response.message => {
                player.cache.dirty = None;
                player.cache.breaking = Some(Reaction { stage: Stage::Told, ..reaction });
            }
            Stage::Claiming(message) if message == response.message => {
                self.on_claim(index, reaction, response);
            }
            Stage::Acknowledging(message) if message == response.message => {
                self.on_acknowledged(index, reaction, response);
            }
            Stage::Told
            | Stage::Refused
            | Stage::Claiming(_)
            | Stage::Flushing(_)
            | Stage::Acknowledging(_) => {}
        }
    }

    /// A claim to more than was asked for must fail; a lease's break stays, an oplock is gone (S28).
    fn on_claim(&mut self, index: usize, reaction: Reaction, response: &Response) {
        let player = &mut self.players[index];
        if response.status == NtStatus::SUCCESS {
            return self.world.breaks(Rule::Breaks, format!("player {index} keeps more than it may"));
        }
        if player.cache.oplock.is_some() {
            player.cache.rights = NONE;
            player.cache.content = None;
            player.cache.breaking = None;
        } else {
            player.cache.breaking = Some(Reaction { stage: Stage::Refused, ..reaction });
        }
    }

    fn on_acknowledged(&mut self, index: usize, reaction: Reaction, response: &Response) {
        let player = &mut self.players[index];
        player.cache.breaking = None;
        if response.status == NtStatus::SUCCESS {
            player.cache.rights = reaction.to;
            self.acknowledged = true;
            return;
        }
        player.cache.rights = NONE;
        player.cache.content = None;
        if !player.late {
            let what = format!("player {index}'s acknowledgment is refused: {:?}", response.status);
            self.world.breaks(Rule::Breaks, what);
        }
    }

    fn on_answer(&mut self, index: usize, outstanding: Outstanding, response: &Response) {
        let Outstanding { op, versions, told, cancelled, .. } = outstanding;
        match (op, &response.body) {
            (Op::Open(slot, _, asks), Body::Create(create)) => {
                self.players[index].slots[slot] = Some(create.file_id);
                self.on_grant(index, asks, create);
            }
            (Op::OpenAndRead(slot, _, asks), body) => {
                // The READ is answered too, whatever became of the CREATE.
                let message = MessageId(response.message.0 + 1);
                let op = Op::Read(slot);
                self.players[index].outstanding =
                    Some(Outstanding { message, op, versions, told, waits: false, cancelled });
                if let Body::Create(create) = body {
                    self.players[index].slots[slot] = Some(create.file_id);
                    self.on_grant(index, asks, create);
                }
            }
            (Op::Read(_), Body::Read { buffer, .. }) => {
                let version = self.writes.carried.get(&content_of(*buffer)).copied().unwrap_or(0);
                if !versions.contains(&version) && !self.timed_out && !self.lost {
                    let what = format!("player {index} reads write {version}, not one of {versions:?}");
                    self.world.breaks(Rule::Coherent, what);
                }
                let cache = &mut self.players[index].cache;
                if cache.rights.contains(R) && cache.told == told && cache.breaking.is_none() {
                    cache.content = Some(version);
                }
            }
            (Op::Write(_), Body::Write { .. }) => {
                versions.into_iter().for_each(|version| self.writes.end(version));
            }
            _ => {}
        }
    }

    /// What a CREATE granted.
    fn on_grant(&mut self, index: usize, asks: Asks, create: &create::Response) {
        let player = &mut self.players[index];
        let before = (player.cache.rights, player.cache.epoch);
        match asks {
            Asks::Nothing => {}
            Asks::Oplock(_) => {
                player.cache.rights = rights_of(create.oplock_level);
                player.cache.oplock = Some(create.file_id);
            }
            Asks::Lease(_) | Asks::LeaseV2(_) => {
                let lease = create.contexts.iter().find_map(|context| match context {
                    ResponseContext::Lease(lease) => Some((lease.state, lease.flags, None)),
                    ResponseContext::LeaseV2(lease) => Some((lease.state, lease.flags, Some(lease.epoch))),
                    _ => None,
                });
                let Some((state, flags, epoch)) = lease else {
                    return self.world.breaks(Rule::LegalState, "a lease was asked for and not answered");
                };
                let breaking = player.cache.breaking.is_some();
                if !breaking && flags.contains(LeaseFlags::BREAK_IN_PROGRESS) && !player.late {
                    self.world.breaks(Rule::Order, format!("player {index} does not know of a break"));
                    return;
                }
                // During a break the answer says what was held before it.
                if !breaking {
                    player.cache.rights = state;
                }
                player.cache.epoch = epoch.or(player.cache.epoch);
            }
        }
        let cache = &self.players[index].cache;
        if let (Some(epoch), false) = (cache.epoch, self.players[index].late) {
            let changes = u16::from(cache.rights != before.0);
            if epoch != before.1.unwrap_or(40).wrapping_add(changes) {
                let what = format!("player {index}: {before:?} became {:?} at epoch {epoch}", cache.rights);
                self.world.breaks(Rule::Epoch, what);
            }
        }
    }

    fn on_notification(&mut self, index: usize, told: &Told) {
        let player = &mut self.players[index];
        let cache = &mut player.cache;
        let (from, to, acknowledge, epoch) = match told {
            Told::Oplock(OplockBreak { oplock_level, file_id }) => {
                if cache.oplock != Some(*file_id) {
                    // It may be about to close it.
                    let closing = matches!(player.outstanding, Some(Outstanding { op: Op::Close(_), .. }));
                    if !closing {
                        self.world.breaks(Rule::Order, format!("player {index} has no oplock to break"));
                    }
                    return;
                }
                (cache.rights, rights_of(*oplock_level), cache.rights.intersects(W.with(H)), None)
            }
            Told::Lease(lease) => {
                let acknowledge = lease.flags.contains(LeaseBreakFlags::ACK_REQUIRED);
                let epoch = (lease.new_epoch != 0).then_some(lease.new_epoch);
                (lease.current_state, lease.new_state, acknowledge, epoch)
            }
        };
        if player.slots == [None; 2] && player.outstanding.is_some() {
            // It is closing its last open.
            return;
        }
        let late = player.late;
        if late {
            cache.rights = from;
        }
        let wrong = if cache.rights != from {
            Some((Rule::Order, "is told of a break of what it does not hold"))
        } else if to == from || !from.contains(to) {
            Some((Rule::Breaks, "is told of a break to what it has already"))
        } else if cache.breaking.is_some_and(|reaction| !matches!(reaction.stage, Stage::Acknowledging(_))) {
            Some((Rule::Breaks, "is told of a break before it acknowledged another"))
        } else if acknowledge != from.intersects(W.with(H)) {
            Some((Rule::Breaks, "has to acknowledge what it need not, or the other way round"))
        } else if !late && cache.epoch.is_some() && epoch != cache.epoch.map(|epoch| epoch.wrapping_add(1)) {
            Some((Rule::Epoch, "sees an epoch jump"))
        } else if ![NONE, R, R.with(W), R.with(H)].contains(&to) {
            Some((Rule::LegalState, "is told of an illegal state"))
        } else {
            None
        };
        if let Some((rule, what)) = wrong {
            let what = format!("player {index} {what}: {told:?}, has {cache:?}");
            return self.world.breaks(rule, what);
        }
        cache.epoch = epoch.or(cache.epoch);
        cache.told += 1;
        self.chained |= cache.told > 1;
        if !to.contains(R) {
            cache.content = cache.dirty;
        }
        if acknowledge {
            cache.breaking = Some(Reaction { to, stage: Stage::Told });
        } else {
            cache.rights = to;
            cache.breaking = None;
        }
    }

    /// Somebody is said to wait: only for what another key has to give up (S30, S31).
    fn check_may_wait(&mut self, index: usize) {
        let hinders = |(other, player): (usize, &Player)| {
            let granted = player.is_opening();
            let closing = matches!(player.outstanding, Some(Outstanding { op: Op::Close(_), .. }));
            let holds = player.cache.rights.intersects(W.with(H)) || player.cache.breaking.is_some();
            other != index && (granted || closing || holds || player.late || player.gone)
        };
        // From another shard the word may come after what it waited for has gone.
        if self.world.is_single() && !self.players.iter().enumerate().any(hinders) {
            self.world.breaks(Rule::OwnKey, format!("player {index} waits for nobody"));
        }
    }

    /// What must hold of what the clients believe to hold.
    pub(super) fn check_caches(&mut self) {
        for (index, player) in self.players.iter().enumerate() {
            let rights = player.cache.rights;
            if ![NONE, R, R.with(W), R.with(H), R.with(W).with(H)].contains(&rights) {
                let what = format!("player {index} holds {rights:?}");
                return self.world.breaks(Rule::LegalState, what);
            }
            let settled = |player: &Player| player.cache.breaking.is_none() && !player.late;
            if !settled(player) || !rights.contains(W) {
                continue;
            }
            let beside = self.players.iter().enumerate().find(|(other, player)| {
                *other != index && settled(player) && !player.cache.rights.is_empty()
            });
            if let Some((other, _)) = beside {
                let what = format!("player {other} caches beside player {index}, who writes");
                return self.world.breaks(Rule::Exclusive, what);
            }
        }
        // Nobody waits but for a client that knows of it (L5).
        let waits = |player: &Player| player.outstanding.as_ref().is_some_and(|request| request.waits);
        let owes = |player: &Player| player.cache.breaking.is_some();
        let owing = self.players.iter().filter(|player| owes(player)).count();
        let waits = self.world.is_quiet() && self.players.iter().any(waits);
        let timers = self.world.breaks_under_way();
        if waits && (timers == 0 || timers > owing) {
            self.world.breaks(Rule::Waits, "somebody waits for a client that was not asked");
        }
    }
}
