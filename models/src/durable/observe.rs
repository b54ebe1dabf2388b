//! What the clients are sent, and what must hold of it.

use smb_proto::NtStatus;
use smb_proto::command::create;
use smb_proto::command::oplock_break::{LeaseBreakFlags, Notification as Told, OplockBreak};
use smb_proto::create_context::{LeaseState, ResponseContext};
use smb_state::ids::ConnectionId;
use smb_state::response::{Body, Response};

use super::cases::{Ask, Case, Op};
use super::lane::{Breaking, Held, Outstanding, rights_of};
use super::{State, is_right, kept_rights};
use crate::harness::Seen;
use crate::harness::rule::Rule;

fn rights(create: &create::Response) -> LeaseState {
    let lease = create.contexts.iter().find_map(|context| match context {
        ResponseContext::LeaseV2(lease) => Some(lease.state),
        _ => None,
    });
    lease.unwrap_or_else(|| rights_of(create.oplock_level))
}

impl State {
    pub(super) fn observe(&mut self, case: &Case, seen: Vec<Seen>) {
        for seen in seen {
            let of = |connection: ConnectionId| {
                self.lanes.iter().position(|lane| lane.client.connection == connection)
            };
            match seen {
                Seen::Response(connection, response) => {
                    if let Some(index) = of(connection) {
                        self.on_response(case, index, &response);
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

    fn on_response(&mut self, case: &Case, index: usize, response: &Response) {
        let lane = &mut self.lanes[index];
        if response.status == NtStatus::PENDING {
            return;
        }
        if let Some(breaking) = lane.breaking
            && breaking.acknowledging == Some(response.message)
        {
            return self.on_acknowledged(index, breaking, response.status);
        }
        let Some(at) = lane.outstanding.iter().position(|request| request.message == response.message) else {
            return;
        };
        let request = lane.outstanding.remove(at);
        match (request.op, &response.body) {
            (Op::Open | Op::Again { .. }, body) => self.on_made(case, index, request, response.status, body),
            (Op::Reclaim(_), body) => self.on_reclaimed(case, index, request, response.status, body),
            (Op::Join | Op::Look | Op::Read | Op::Share | Op::Alone, body) => {
                self.on_opened(case, index, request, response.status, body);
            }
            (Op::Close, _) => {
                (lane.open, lane.breaking) = (None, None);
                if self.holder == Some(index) {
                    self.holder = None;
                }
            }
            (Op::Logoff | Op::Leave, _) => {}
        }
    }

    fn on_acknowledged(&mut self, index: usize, breaking: Breaking, status: NtStatus) {
        let lane = &mut self.lanes[index];
        lane.breaking = None;
        if let Some(held) = &mut lane.open {
            held.rights = if status == NtStatus::SUCCESS { breaking.to } else { LeaseState::EMPTY };
        }
        if status != NtStatus::SUCCESS && !self.facts.timed_out {
            self.world.breaks(Rule::Breaks, format!("lane {index}'s acknowledgment is refused: {status:?}"));
        }
    }

    /// The CREATE of the durable open is answered, or that which repeats it (S24).
    fn on_made(&mut self, case: &Case, index: usize, request: Outstanding, status: NtStatus, body: &Body) {
        let lane = &mut self.lanes[index];
        let is_replay = request.op == Op::Again { replay: true };
        let Body::Create(create) = body else {
            let wanted = match request.op {
                Op::Again { replay: true } => NtStatus::SUCCESS,
                _ => NtStatus::DUPLICATE_OBJECTID,
            };
            if request.open.is_some() && status != wanted {
                self.world.breaks(Rule::CreateOnce, format!("a CREATE sent again is answered {status:?}"));
            }
            return;
        };
        if request.op == (Op::Again { replay: false }) && request.open.is_some() {
            self.world.breaks(Rule::CreateOnce, "a CREATE sent again makes an open");
        }
        if let Some(held) = lane.open.filter(|held| held.file_id != create.file_id) {
            let what = format!("one CreateGuid makes {:?} and {:?}", held.file_id, create.file_id);
            return self.world.breaks(Rule::CreateOnce, what);
        }
        self.facts.replayed |= is_replay;
        if lane.open.is_none() {
            lane.open = Some(Held { file_id: create.file_id, op: Op::Open, rights: rights(create) });
        }
        let durable = create.contexts.iter().any(|context| {
            matches!(context, ResponseContext::DurableHandle | ResponseContext::DurableHandleV2(_))
        });
        if durable {
            (self.known, self.holder) = (Some(create.file_id), Some(index));
        }
        let all = rights(create).contains(kept_rights(case.ask));
        if durable && !all && !is_replay {
            self.world.breaks(Rule::Preserved, "an open is durable that can't be kept");
        }
    }

    /// A client came back.
    fn on_reclaimed(
        &mut self,
        case: &Case,
        index: usize,
        request: Outstanding,
        status: NtStatus,
        body: &Body,
    ) {
        let Op::Reclaim(show) = request.op else { return };
        let right = is_right(case, index, show);
        let facts = self.facts;
        let Body::Create(create) = body else {
            let excused = facts.contested || facts.expired || facts.closed || facts.timed_out;
            if right && !excused && facts.claims == 1 {
                let what = format!("who comes back in time is answered {status:?}");
                self.world.breaks(Rule::Kept, what);
            }
            return;
        };
        let holder = self.holder.filter(|holder| !self.lanes[*holder].gone);
        let wrong = if !right {
            Some((Rule::Owner, "has an open that is not its own"))
        } else if holder.is_some() {
            Some((Rule::OneSession, "has an open that is in a session"))
        } else if self.known.is_none_or(|known| known.persistent != create.file_id.persistent) {
            Some((Rule::Owner, "has another open"))
        } else if facts.lost {
            Some((Rule::Preserved, "has an open that was lost"))
        } else if !facts.timed_out && !rights(create).contains(kept_rights(case.ask)) {
            Some((Rule::Preserved, "has an open without what it was kept for"))
        } else {
            None
        };
        if let Some((rule, what)) = wrong {
            return self.world.breaks(rule, format!("lane {index} {what}"));
        }
        self.facts.reclaimed = true;
        self.lanes[index].open = Some(Held { file_id: create.file_id, op: Op::Open, rights: rights(create) });
        (self.known, self.holder) = (Some(create.file_id), Some(index));
    }

    /// Somebody else opened the file, or may not.
    fn on_opened(&mut self, case: &Case, index: usize, request: Outstanding, status: NtStatus, body: &Body) {
        let away =
            request.away && self.is_away(case) && self.is_alone(index) && self.facts.claims == request.claims;
        if let Body::Create(create) = body {
            let held = Held { file_id: create.file_id, op: request.op, rights: rights(create) };
            self.lanes[index].open = Some(held);
            self.facts.lost |= request.op.conflicts(case.ask) && away;
        } else if away && status.is_error() {
            let what = format!("lane {index} may not open what is kept for who is away: {status:?}");
            self.world.breaks(Rule::Preserved, what);
        }
    }

    fn on_notification(&mut self, index: usize, told: &Told) {
        let lane = &mut self.lanes[index];
        if lane.gone || lane.is_closing() {
            return;
        }
        let Some(held) = &mut lane.open else {
            return self.world.breaks(Rule::Order, format!("lane {index} has nothing to break: {told:?}"));
        };
        let (to, acknowledge) = match told {
            Told::Oplock(OplockBreak { oplock_level, file_id }) => {
                if held.file_id != *file_id {
                    let what = format!("lane {index} has another open: {told:?}");
                    return self.world.breaks(Rule::Order, what);
                }
                (rights_of(*oplock_level), held.rights.contains(LeaseState::HANDLE_CACHING))
            }
            Told::Lease(lease) => (lease.new_state, lease.flags.contains(LeaseBreakFlags::ACK_REQUIRED)),
        };
        // What it was told before it understood may be said again.
        let again = lane.breaking.is_some_and(|breaking| breaking.to == to);
        if !acknowledge {
            held.rights = to;
        } else if !again {
            lane.breaking = Some(Breaking { to, acknowledging: None });
        }
    }

    /// Who has the file open shares it as all say, and nobody else has it open while one caches writes (S25, S45).
    pub(super) fn check_opens(&mut self, case: &Case) {
        let open = |index: usize| self.lanes[index].open.filter(|_| !self.lanes[index].is_closing());
        let mut wrong = None;
        for one in 0..self.lanes.len() {
            for other in (0..self.lanes.len()).filter(|other| *other != one) {
                let (Some(mine), Some(theirs)) = (open(one), open(other)) else { continue };
                if theirs.op == Op::Look {
                    continue;
                }
                let lane = &self.lanes[one];
                let alone = mine.op == Op::Alone || (mine.op == Op::Open && case.ask == Ask::AloneV2);
                let told = lane.breaking.is_some() || self.facts.timed_out;
                let caches = mine.rights.contains(LeaseState::WRITE_CACHING)
                    && !told
                    && !self.world.break_is_under_way_to(lane.client.connection);
                if alone && mine.op != Op::Look {
                    wrong = Some((Rule::ShareModes, one, other));
                } else if caches {
                    wrong = Some((Rule::Exclusive, one, other));
                }
            }
        }
        if let Some((rule, one, other)) = wrong {
            self.world.breaks(rule, format!("lanes {one} and {other} have the file open"));
        }
    }

    /// At rest whoever waits does so for a client that was told, and so is not away (S30, S46).
    pub(super) fn check_waits(&mut self) {
        if !self.world.is_quiet() || self.lanes.iter().any(|lane| !lane.gone && lane.breaking.is_some()) {
            return;
        }
        let opens = |op: Op| matches!(op, Op::Look | Op::Read | Op::Share | Op::Alone);
        let waits = self.lanes.iter().position(|lane| lane.outstanding.iter().any(|it| opens(it.op)));
        if let Some(index) = waits {
            self.world
                .breaks(Rule::Waits, format!("lane {index} waits for what nobody was asked to give up"));
        }
    }
}
