//! Oplocks and leases: who may cache what of a stream, and what an operation takes away (MS-FSA 2.1.4.12, 2.1.5.18, 2.1.5.19;
//! MS-SMB2 3.3.1.4, 3.3.4.6, 3.3.4.7, 3.3.5.22).
//!
//! A [`Holder`] has the caching rights of one key: an oplock's open, or a lease key of a client, which all opens under it share.
//! Rights are read (R), write (W) and handle (H) caching; level II is R, exclusive RW, batch RWH.
//!
//! ```text
//!            .--- promoted by an open under the same key ---.
//!            v                                              |
//! none --> Held(R | RW | RH | RWH) --break, ack wanted--> Breaking(from, to, then) --ack, time-out--> Held(smaller)
//!                                  '--break of R, level II--> Held(none)
//! ```
//! While a break waits for its acknowledgment, what else must go is noted in `then`, and broken after it.
//!
//! | operation of another key | oplock | lease loses | waits for |
//! |---|---|---|---|
//! | open | exclusive, batch to II | W | W |
//! | open that overwrites | to none | R and W | W |
//! | open that conflicts with the share modes | batch, as an open | H | H |
//! | read, flush | exclusive, batch to II | W | W |
//! | write, lock, change of size | to none | R and W | W |
//! | rename, link | batch to none | H | W, H |
//! | delete, change of security | stays | H | H |
//! | change in a directory | stays | R (of the directory) | nothing |
//!
//! `caching/transitions.md` has all of it, drawn from the machine.

use std::collections::BTreeMap;

use smb_proto::Name;
use smb_proto::access::AccessMask;
use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::create_context::{LeaseKey, LeaseState};

use crate::ids::{OpenId, SessionId};

mod breaks;
mod kept;

pub(crate) use breaks::Breaks;

/// Whose caching rights: operations under the same key never break them (S31).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CacheKey {
    /// An open without a lease is a key of its own.
    Open(OpenId),
    /// A lease of a client, by its ClientGuid.
    Lease([u8; 16], LeaseKey),
}

/// What an open asks to cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// Nothing.
    Nothing,
    /// An oplock.
    Oplock(OplockLevel),
    /// A lease.
    Lease {
        /// The rights.
        state: LeaseState,
        /// What version 2 adds.
        v2: Option<LeaseV2>,
    },
}

/// What version 2 of a lease adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseV2 {
    /// The lease of the directory, whose break the holder's own changes do not cause (S34).
    pub parent: Option<LeaseKey>,
    /// The epoch that the client counts from.
    pub epoch: u16,
}

/// What an open was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cached {
    /// Nothing, or an oplock.
    Oplock(OplockLevel),
    /// A lease.
    Lease {
        /// The rights.
        state: LeaseState,
        /// A break of them is under way.
        breaking: bool,
        /// What version 2 adds.
        v2: Option<LeaseV2>,
    },
}

/// What an operation does to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Opens it.
    Open {
        /// DesiredAccess.
        access: AccessMask,
        /// The data goes.
        overwrite: bool,
    },
    /// Opens it against the share modes of other opens.
    ShareConflict,
    /// Reads data, or makes it durable.
    Read,
    /// Writes data, locks a range, changes a size.
    Write,
    /// Gives the file another name.
    Rename,
    /// Marks the file for deletion, or changes its security.
    Delete,
    /// Changes what a directory shows of its entries.
    Entry,
}

/// A break to tell a client of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// To this level; acknowledged unless it comes from level II.
    Oplock(OplockLevel),
    /// A lease's break.
    Lease {
        /// The key.
        key: LeaseKey,
        /// The rights until now.
        from: LeaseState,
        /// The rights from now on.
        to: LeaseState,
        /// An acknowledgment is wanted.
        acknowledge: bool,
        /// The epoch after the break; 0 for version 1.
        epoch: u16,
    },
}

/// The form of a holder's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Oplock,
    LeaseV1,
    LeaseV2 { parent: Option<LeaseKey> },
}

/// The rights of one key on a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Holder {
    stream: Name,
    form: Form,
    /// What is held; during a break what was held before.
    state: LeaseState,
    breaking: Option<Breaking>,
    epoch: u16,
    /// The session that was told of the last break.
    told: Option<SessionId>,
    /// Opens under the key, in the order of their grants; one that is preserved has no session.
    opens: Vec<(OpenId, Option<SessionId>)>,
    /// Those that are kept whatever is broken meanwhile: persistent, their client away.
    firm: Vec<OpenId>,
    /// Something of it was to be broken while no client could be told: its preserved opens are on their way out.
    lost: bool,
    /// Records say what is held.
    recorded: bool,
    /// Those of them that were granted during the break, and told what was held before it.
    joined: Vec<(OpenId, SessionId)>,
}

/// A break that waits for its acknowledgment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Breaking {
    /// What the client was told.
    to: LeaseState,
    /// What it will be told next, if less.
    then: LeaseState,
    /// Another break went before it.
    chained: bool,
    /// The number of its timer.
    number: u32,
}

/// The holders of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Caching {
    holders: BTreeMap<CacheKey, Holder>,
    /// Number of the next break.
    next: u32,
}

const NONE: LeaseState = LeaseState::EMPTY;
const R: LeaseState = LeaseState::READ_CACHING;
const W: LeaseState = LeaseState::WRITE_CACHING;
const H: LeaseState = LeaseState::HANDLE_CACHING;

/// Rights that an open may ask for and still be no more than a look at the attributes (MS-FSA 2.1.4.12).
const LOOKS: AccessMask =
    AccessMask(AccessMask::READ_ATTRIBUTES.0 | AccessMask::WRITE_ATTRIBUTES.0 | AccessMask::SYNCHRONIZE.0);

/// Whether an open with this access is a look at the attributes: it breaks no oplock and hinders none.
#[must_use]
pub fn is_look(access: AccessMask) -> bool {
    LOOKS.contains(access)
}

/// The legal state within `state`: without R there is nothing (S27).
fn legal(state: LeaseState) -> LeaseState {
    if state.contains(R) { state } else { NONE }
}

/// The oplock level of rights.
fn level(state: LeaseState) -> OplockLevel {
    if state.contains(W.with(H)) {
        OplockLevel::BATCH
    } else if state.contains(W) {
        OplockLevel::EXCLUSIVE
    } else if state.contains(R) {
        OplockLevel::II
    } else {
        OplockLevel::NONE
    }
}

fn rights(level: OplockLevel) -> LeaseState {
    match level {
        OplockLevel::BATCH => LeaseState::READ_HANDLE_WRITE,
        OplockLevel::EXCLUSIVE => LeaseState::READ_WRITE,
        OplockLevel::II => R,
        _ => NONE,
    }
}

impl Cached {
    /// The same once the break that was under way has ended with these rights. An acknowledgment changes no epoch.
    pub(crate) fn settled(self, state: LeaseState) -> Self {
        match self {
            Self::Lease { breaking: true, v2, .. } => Self::Lease { state, breaking: false, v2 },
            Self::Lease { breaking: false, .. } | Self::Oplock(_) => self,
        }
    }
}

impl Holder {
    fn is_oplock(&self) -> bool {
        self.form == Form::Oplock
    }

    /// Whether an operation under the holder's own key breaks it all the same: a level II oplock goes with its own writes
    /// (MS-FSA 2.1.4.12).
    fn breaks_itself(&self, cause: Cause) -> bool {
        self.is_oplock() && !self.state.contains(W) && cause == Cause::Write
    }

    /// What `cause` takes from these rights.
    fn loses(&self, cause: Cause) -> LeaseState {
        let everything = LeaseState::READ_HANDLE_WRITE;
        if self.is_oplock() {
            let exclusive = self.state.contains(W);
            return match cause {
                Cause::Open { access, overwrite: false } if LOOKS.contains(access) => NONE,
                Cause::Open { overwrite: true, .. } | Cause::Write => everything,
                Cause::Open { overwrite: false, .. } | Cause::Read if exclusive => W.with(H),
                Cause::Rename if self.state.contains(H) => everything,
                Cause::Open { .. }
                | Cause::Read
                | Cause::ShareConflict
                | Cause::Rename
                | Cause::Delete
                | Cause::Entry => NONE,
            };
        }
        match cause {
            Cause::Open { access, overwrite: false }
                if LOOKS.with(AccessMask::READ_CONTROL).contains(access) =>
            {
                NONE
            }
            Cause::Open { overwrite: false, .. } | Cause::Read => W,
            Cause::Open { overwrite: true, .. } | Cause::Write => R.with(W),
            Cause::ShareConflict | Cause::Rename | Cause::Delete => H,
            Cause::Entry => R,
        }
    }

    /// Takes away what `cause` spoils. Returns whether the operation must wait until it is gone: for W and H, not for R (S30).
    fn take(&mut self, key: CacheKey, cause: Cause, next: &mut u32, breaks: &mut Breaks) -> bool {
        let lost = self.loses(cause);
        // A chain of breaks, once somebody waits for it, is gone through to its end before anybody opens.
        let chained = self.breaking.is_some_and(|breaking| breaking.chained) && !lost.is_empty();
        let waits_for_chain = chained && matches!(cause, Cause::Open { .. });
        if !self.state.intersects(lost) {
            return waits_for_chain;
        }
        let waits = self.state.intersects(lost.without(R));
        if self.is_away() {
            self.lose(breaks);
            if self.firm.is_empty() {
                return waits;
            }
            if self.breaking.is_none() {
                self.reduce(legal(self.state.without(lost)));
                self.fall_behind(breaks);
                return false;
            }
        }
        if let Some(breaking) = &mut self.breaking {
            let then = legal(breaking.then.without(lost));
            let less = std::mem::replace(&mut breaking.then, then) != then;
            if less && !waits {
                self.fall_behind(breaks);
            }
            return waits || waits_for_chain;
        }
        let to = legal(self.state.without(lost));
        self.begin(key, Breaking { to, then: to, chained: false, number: 0 }, next, breaks);
        if !waits {
            self.fall_behind(breaks);
        }
        waits
    }

    /// The records of its opens are to follow before anybody relies on what changed.
    fn fall_behind(&self, breaks: &mut Breaks) {
        if self.recorded {
            breaks.behind.extend(self.opens.iter().map(|(open, _)| *open));
        }
    }

    /// Whether all opens under the key are preserved, so that nobody can be told of a break.
    fn is_away(&self) -> bool {
        self.opens.iter().all(|(_, session)| session.is_none())
    }

    /// Takes rights from a holder whose client is told when it is back: the epoch says that they are others then.
    fn reduce(&mut self, to: LeaseState) {
        self.state = to;
        self.epoch = self.epoch.wrapping_add(u16::from(!self.is_oplock()));
    }

    /// Preserved opens go: what they were preserved for is to be broken, and their client can't be asked (3.3.4.6, 3.3.4.7, S46).
    fn lose(&mut self, breaks: &mut Breaks) {
        if !self.lost {
            let away = self.opens.iter().filter(|(_, session)| session.is_none()).map(|(open, _)| *open);
            let away = away.filter(|open| !self.firm.contains(open));
            let before = breaks.lost.len();
            breaks.lost.extend(away);
            self.lost = breaks.lost.len() > before;
        }
    }

    /// Tells the client of a break.
    fn begin(&mut self, key: CacheKey, breaking: Breaking, next: &mut u32, breaks: &mut Breaks) {
        let to = breaking.to;
        let acknowledge = self.state.intersects(W.with(H));
        if !self.is_oplock() {
            self.epoch = self.epoch.wrapping_add(1);
        }
        self.tell(key, to, acknowledge, breaks);
        if acknowledge {
            let number = *next;
            *next = next.wrapping_add(1);
            self.breaking = Some(Breaking { number, ..breaking });
            breaks.begun.push(number);
        } else {
            self.state = to;
        }
    }

    fn tell(&mut self, key: CacheKey, to: LeaseState, acknowledge: bool, breaks: &mut Breaks) {
        let reached = self.opens.iter().rev().find_map(|(open, session)| Some((*open, (*session)?)));
        if let Some((open, session)) = reached {
            breaks.notices.push((session, open, self.notice(key, to, acknowledge)));
            self.told = Some(session);
        }
    }

    /// An open of this session is closed. If it was the last one of the session that was told of the break that is under way, and
    /// the client has others in another session, then it is told there: the first may have ended before it could be (3.3.4.7).
    fn tell_elsewhere(&mut self, key: CacheKey, session: Option<SessionId>, breaks: &mut Breaks) {
        let left = self.opens.iter().any(|(_, other)| *other == session);
        if let Some(breaking) = self.breaking.filter(|_| session.is_some() && session == self.told && !left) {
            self.tell(key, breaking.to, true, breaks);
        }
    }

    fn notice(&self, key: CacheKey, to: LeaseState, acknowledge: bool) -> Notice {
        match key {
            CacheKey::Open(_) => Notice::Oplock(level(to)),
            CacheKey::Lease(_, key) => Notice::Lease {
                key,
                from: self.state,
                to,
                acknowledge,
                epoch: if matches!(self.form, Form::LeaseV2 { .. }) { self.epoch } else { 0 },
            },
        }
    }

    /// A break ended with these rights: goes on with what else must go.
    fn settle(&mut self, key: CacheKey, state: LeaseState, next: &mut u32, breaks: &mut Breaks) {
        let Some(breaking) = self.breaking.take() else { return };
        breaks.ended.push(breaking.number);
        self.state = state;
        self.fall_behind(breaks);
        let joined = std::mem::take(&mut self.joined);
        breaks.settled.extend(joined.into_iter().map(|(open, session)| (session, open, state)));
        if !state.contains(H) {
            // Without H there is nothing to come back to (3.3.5.9.7).
            self.lose(breaks);
        }
        let left = legal(LeaseState(state.0 & breaking.then.0));
        if left != state {
            // A chain of breaks goes step by step: RWH, RH, R, none.
            let step = if state.contains(H) && left.is_empty() { R } else { left };
            self.begin(key, Breaking { to: step, then: left, chained: true, number: 0 }, next, breaks);
        }
    }

    fn cached(&self) -> Cached {
        match self.form {
            Form::Oplock => Cached::Oplock(level(self.state)),
            Form::LeaseV1 => Cached::Lease { state: self.state, breaking: self.breaking.is_some(), v2: None },
            Form::LeaseV2 { parent } => Cached::Lease {
                state: self.state,
                breaking: self.breaking.is_some(),
                v2: Some(LeaseV2 { parent, epoch: self.epoch }),
            },
        }
    }
}

/// Why an acknowledgment is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BadAck {
    /// Nothing like it is held.
    Unknown,
    /// No break is under way.
    NotBreaking,
    /// It keeps more than it may; a lease's break stays pending, an oplock's ends at none (S28).
    TooMuch,
}

impl Caching {
    /// An operation under `key` is about to happen to a stream: takes from others what it must. Returns whether it has to
    /// wait.
    pub(crate) fn check(
        &mut self,
        key: Option<CacheKey>,
        stream: &Name,
        cause: Cause,
        breaks: &mut Breaks,
    ) -> bool {
        let mut waits = false;
        for (other, holder) in &mut self.holders {
            let concerned = Some(*other) != key || holder.breaks_itself(cause);
            if concerned && holder.stream == *stream {
                waits |= holder.take(*other, cause, &mut self.next, breaks);
            }
        }
        waits
    }

    /// As [`Caching::check`], for batch oplocks alone: they go before share modes are looked at (MS-FSA 2.1.5.1.2).
    pub(crate) fn check_batch(
        &mut self,
        key: CacheKey,
        stream: &Name,
        cause: Cause,
        breaks: &mut Breaks,
    ) -> bool {
        let mut waits = false;
        for (other, holder) in &mut self.holders {
            let batch = holder.is_oplock() && holder.state.contains(H);
            if *other != key && batch && holder.stream == *stream {
                waits |= holder.take(*other, cause, &mut self.next, breaks);
            }
        }
        waits
    }

    /// Nobody is to keep handles of the file, whatever stream. Returns whether that has to be waited for.
    pub(crate) fn clear(&mut self, breaks: &mut Breaks) -> bool {
        let mut waits = false;
        for (key, holder) in self.holders.iter_mut().filter(|(_, holder)| holder.state.contains(H)) {
            waits |= holder.take(*key, Cause::Rename, &mut self.next, breaks);
        }
        waits
    }

    /// Whether somebody with another key caches any of these rights of a stream.
    pub(crate) fn others_hold(&self, key: CacheKey, stream: &Name, rights: LeaseState) -> bool {
        self.holders.iter().any(|(other, holder)| {
            *other != key && holder.stream == *stream && holder.state.intersects(rights)
        })
    }

    /// Whether a write under this key breaks something.
    pub(crate) fn write_breaks(&self, key: CacheKey, stream: &Name) -> bool {
        self.holders.iter().any(|(other, holder)| {
            (*other != key || holder.breaks_itself(Cause::Write))
                && holder.stream == *stream
                && !holder.state.is_empty()
        })
    }

    /// Gives an open what it asks for, as far as that can be (MS-FSA 2.1.5.18.1, 2.1.5.18.2). `alone`: nobody with another key
    /// has the stream open for more than its attributes; `deleted`: its delete is pending; `locked`: ranges are locked.
    pub(crate) fn grant(&mut self, request: &CacheRequest<'_>) -> Cached {
        let &CacheRequest { open, session, key, stream, want, .. } = request;
        match want {
            Want::Nothing => Cached::Oplock(OplockLevel::NONE),
            Want::Oplock(asked) => {
                let state = [rights(asked), R]
                    .into_iter()
                    .find(|state| rights(asked).contains(*state) && self.can_grant(*state, request));
                let Some(state) = state.filter(|state| !state.is_empty()) else {
                    return Cached::Oplock(OplockLevel::NONE);
                };
                let holder = Holder {
                    stream: stream.clone(),
                    form: Form::Oplock,
                    state,
                    breaking: None,
                    epoch: 0,
                    told: None,
                    opens: vec![(open, Some(session))],
                    firm: Vec::new(),
                    lost: false,
                    recorded: false,
                    joined: Vec::new(),
                };
                self.holders.insert(key, holder);
                Cached::Oplock(level(state))
            }
            Want::Lease { state, v2 } => self.grant_lease(state, v2, request),
        }
    }

    fn grant_lease(&mut self, asked: LeaseState, v2: Option<LeaseV2>, request: &CacheRequest<'_>) -> Cached {
        let held = self.holders.get(&request.key).map(|holder| (holder.state, holder.breaking.is_some()));
        let (state, breaking) = held.unwrap_or((NONE, false));
        let asked = legal(asked);
        // A new lease gets as much of what it asks for as there is; one that is held is promoted to all of it, or not (3.3.1.4).
        let offers = [asked, asked.without(W), asked.without(H), asked.without(W.with(H))];
        let offers = if state.is_empty() { &offers[..] } else { &offers[..1] };
        let promoted = offers
            .iter()
            .copied()
            .filter(|_| !breaking && asked.contains(state))
            .find(|offer| offer.contains(state) && self.can_grant(*offer, request))
            .unwrap_or(state);
        let form = match v2 {
            Some(LeaseV2 { parent, .. }) => Form::LeaseV2 { parent },
            None => Form::LeaseV1,
        };
        let holder = self.holders.entry(request.key).or_insert_with(|| Holder {
            stream: request.stream.clone(),
            form,
            state: NONE,
            breaking: None,
            epoch: v2.map_or(0, |v2| v2.epoch),
            told: None,
            opens: Vec::new(),
            firm: Vec::new(),
            joined: Vec::new(),
            lost: false,
            recorded: false,
        });
        if promoted != holder.state {
            holder.state = promoted;
            holder.epoch = holder.epoch.wrapping_add(1);
        }
        holder.opens.push((request.open, Some(request.session)));
        if holder.breaking.is_some() {
            holder.joined.push((request.open, request.session));
        }
        holder.cached()
    }

    fn can_grant(&self, state: LeaseState, request: &CacheRequest<'_>) -> bool {
        let others = |rights| self.others_hold(request.key, request.stream, rights);
        if state.is_empty() {
            return true;
        }
        // Handle caching and level II do not go together (MS-FSA 2.1.5.18.2).
        if state.contains(H) && self.others_have_oplocks(request) {
            return false;
        }
        if matches!(request.want, Want::Oplock(_)) && others(H) {
            return false;
        }
        if state.contains(W) && (!request.alone || others(R)) {
            return false;
        }
        if state.contains(H) && request.deleted {
            return false;
        }
        !others(W) && (!request.locked || state.contains(W))
    }

    fn others_have_oplocks(&self, request: &CacheRequest<'_>) -> bool {
        self.holders.iter().any(|(other, holder)| {
            *other != request.key
                && holder.is_oplock()
                && holder.stream == *request.stream
                && !holder.state.is_empty()
        })
    }

    /// A stream has another name.
    pub(crate) fn rename(&mut self, old: &Name, new: &Name) {
        for holder in self.holders.values_mut().filter(|holder| holder.stream == *old) {
            holder.stream = new.clone();
        }
    }

    /// An open is gone: its key's rights go with the last one.
    pub(crate) fn close(&mut self, key: CacheKey, open: OpenId, breaks: &mut Breaks) {
        let Some(holder) = self.holders.get_mut(&key) else { return };
        let session = holder.opens.iter().find(|(other, _)| *other == open).and_then(|(_, session)| *session);
        holder.opens.retain(|(other, _)| *other != open);
        holder.joined.retain(|(other, _)| *other != open);
        holder.firm.retain(|other| *other != open);
        holder.lost &= holder.opens.iter().any(|(_, session)| session.is_none());
        if holder.opens.is_empty() {
            breaks.ended.extend(holder.breaking.map(|breaking| breaking.number));
            self.holders.remove(&key);
        } else {
            holder.tell_elsewhere(key, session, breaks);
        }
    }

    /// An oplock's break is acknowledged with this level (3.3.5.22.1).
    pub(crate) fn acknowledge_oplock(
        &mut self,
        key: CacheKey,
        kept: OplockLevel,
        breaks: &mut Breaks,
    ) -> Result<OplockLevel, BadAck> {
        let holder = self.holders.get_mut(&key).ok_or(BadAck::NotBreaking)?;
        let Some(breaking) = holder.breaking else {
            // Level II goes without an acknowledgment: one that comes all the same is none that the protocol has.
            let gone = holder.state.is_empty();
            return Err(if gone { BadAck::TooMuch } else { BadAck::NotBreaking });
        };
        let verdict = match kept {
            OplockLevel::NONE | OplockLevel::II if breaking.to.contains(rights(kept)) => Ok(kept),
            // Valid, and yet it leads to none.
            OplockLevel::EXCLUSIVE if holder.state.contains(H) => Ok(OplockLevel::NONE),
            _ => Err(BadAck::TooMuch),
        };
        holder.settle(key, verdict.map_or(NONE, rights), &mut self.next, breaks);
        verdict
    }

    /// A lease's break is acknowledged with these rights (3.3.5.22.2). Returns what of them is held: without R nothing is (S27).
    pub(crate) fn acknowledge_lease(
        &mut self,
        key: CacheKey,
        kept: LeaseState,
        breaks: &mut Breaks,
    ) -> Result<LeaseState, BadAck> {
        let holder = self.holders.get_mut(&key).ok_or(BadAck::Unknown)?;
        let Some(breaking) = holder.breaking else { return Err(BadAck::NotBreaking) };
        if !breaking.to.contains(kept) {
            return Err(BadAck::TooMuch);
        }
        holder.settle(key, legal(kept), &mut self.next, breaks);
        Ok(legal(kept))
    }

    /// The time for an acknowledgment is over: the rights are gone (3.3.6.1, 3.3.6.5).
    pub(crate) fn time_out(&mut self, number: u32, breaks: &mut Breaks) {
        for (key, holder) in &mut self.holders {
            if holder.breaking.is_some_and(|breaking| breaking.number == number) {
                holder.settle(*key, NONE, &mut self.next, breaks);
            }
        }
    }

    /// What the break of an open's rights said, to be said again on another channel (S35).
    pub(crate) fn say_again(&self, key: CacheKey, open: OpenId) -> Option<(SessionId, OpenId, Notice)> {
        let holder = self.holders.get(&key)?;
        let breaking = holder.breaking?;
        let (open, session) = holder.opens.iter().find(|(other, _)| *other == open)?;
        Some(((*session)?, *open, holder.notice(key, breaking.to, true)))
    }

    /// The break of a lease to nothing, which nobody acknowledges, did not reach the session of an open: what it said, for another
    /// session of the client. It is one whose turn would have come after that (the last open is told first), so that this ends
    /// whatever becomes of the sessions. What waits for its acknowledgment is told again when the open is closed.
    pub(crate) fn tell_another(
        &mut self,
        lease: LeaseKey,
        open: OpenId,
        session: SessionId,
    ) -> Option<(SessionId, OpenId, Notice)> {
        let concerned = |(key, holder): &(&CacheKey, &mut Holder)| {
            let same = matches!(**key, CacheKey::Lease(_, other) if other == lease);
            same && holder.told == Some(session) && holder.breaking.is_none() && holder.state.is_empty()
        };
        let (key, holder) = self.holders.iter_mut().find(concerned)?;
        let before = holder.opens.iter().rposition(|(other, _)| *other == open);
        let left = holder.opens.get(..before.unwrap_or(holder.opens.len()))?;
        let other =
            |(open, of): &(OpenId, Option<SessionId>)| Some((*open, (*of).filter(|of| *of != session)?));
        let (open, session) = left.iter().rev().find_map(other)?;
        holder.told = Some(session);
        let notice = Holder { state: R, ..holder.clone() }.notice(*key, NONE, false);
        Some((session, open, notice))
    }

    /// The client of an open is away. The open can be kept for it while it holds H, as a batch oplock or under a lease, and no
    /// break of that is under way (3.3.7.1, S33).
    pub(crate) fn preserve(&mut self, key: CacheKey, open: OpenId) -> bool {
        let Some(holder) = self.holders.get_mut(&key) else { return false };
        let kept = holder.state.contains(H) && holder.breaking.is_none() && !holder.lost;
        let entry = holder.opens.iter_mut().find(|(other, _)| *other == open).filter(|_| kept);
        entry.map(|(_, session)| *session = None).is_some()
    }

    /// The client of a preserved open is back, under this session; unless what it caches was to be broken meanwhile.
    pub(crate) fn reclaim(&mut self, key: CacheKey, open: OpenId, session: SessionId) -> bool {
        let Some(holder) = self.holders.get_mut(&key) else { return false };
        if !holder.firm.contains(&open) && (holder.lost || !holder.state.contains(H)) {
            return false;
        }
        holder.firm.retain(|other| *other != open);
        let entry = holder.opens.iter_mut().find(|(other, _)| *other == open);
        entry.map(|(_, entry)| *entry = Some(session)).is_some()
    }

    /// What an open caches.
    pub(crate) fn cached(&self, key: CacheKey, open: OpenId) -> Cached {
        let holder =
            self.holders.get(&key).filter(|holder| holder.opens.iter().any(|(other, _)| *other == open));
        holder.map_or(Cached::Oplock(OplockLevel::NONE), Holder::cached)
    }

    /// What must hold between any two steps.
    pub(crate) fn check_invariants(&self) {
        for (key, holder) in &self.holders {
            assert!(!holder.opens.is_empty(), "caching rights without an open");
            let joined =
                holder.joined.iter().all(|(open, session)| holder.opens.contains(&(*open, Some(*session))));
            assert!(
                joined && (holder.breaking.is_some() || holder.joined.is_empty()),
                "nobody joins no break"
            );
            assert_eq!(legal(holder.state), holder.state, "an illegal state (S27)");
            if let Some(Breaking { to, then, .. }) = holder.breaking {
                assert!(holder.state.contains(to) && to.contains(then), "a break to more (S28)");
            }
            // S25, but for what is being given up.
            if holder.state.contains(W) {
                let others = self.others_hold(*key, &holder.stream, LeaseState::READ_HANDLE_WRITE);
                assert!(!others, "somebody caches beside a writer (S25)");
            }
        }
    }
}

/// An open's request for caching rights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheRequest<'a> {
    pub(crate) open: OpenId,
    pub(crate) session: SessionId,
    pub(crate) key: CacheKey,
    pub(crate) stream: &'a Name,
    pub(crate) want: Want,
    /// Nobody with another key has the stream open for more than its attributes.
    pub(crate) alone: bool,
    /// Its delete is pending.
    pub(crate) deleted: bool,
    /// Ranges of it are locked.
    pub(crate) locked: bool,
}

#[cfg(test)]
mod tests;
