//! Records of persistent opens that follow what others do to their file (R8): a lease that several opens share, a disposition or a
//! name that another open set, a break that nobody acknowledged, what is broken while a client is away.
//!
//! ```text
//! changed --> records of everybody concerned are stored --> what happened since goes on: answers, breaks, permits
//! ```
//! Whoever asked is not answered before, so that no crash gives a client back what somebody was already told is not its own any
//! more. An open that does it itself stores its own record, as with everything else that it does. A file without persistent opens
//! has none of this. If a record can't be stored, an acknowledgment is answered so, and everything else goes on; the record is
//! tried again with what the file is asked next.

use std::collections::BTreeSet;

use smb_proto::NtStatus;

use super::ask::Effect;
use super::{File, Grant};
use crate::ids::{FileKey, OpenId, SessionId};
use crate::message::{Address, Answer, Asker, Message};
use crate::record::Held;
use crate::shard::{Shard, Turn, Wait};

/// Where an open may be that is on its way: its session, its home, and again.
const PLACES: u8 = 4;

/// Of a file with persistent opens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Following {
    /// Those whose records say what is not so any more.
    behind: BTreeSet<OpenId>,
    /// Records that are being stored.
    under_way: u32,
    /// One of them could not be.
    failed: bool,
    /// What happened since the first of them, carried out after the last.
    held_back: Vec<Effect>,
}

/// The record of an open is to say this.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Follow {
    open: OpenId,
    /// The session that has it, or had it last.
    session: SessionId,
    held: Held,
    /// Where it was looked for.
    tried: u8,
}

impl Follow {
    fn place(&self) -> Address {
        if self.tried.is_multiple_of(2) { Address::Session(self.session) } else { Address::Open(self.open) }
    }
}

impl File {
    /// What these opens' records say of the file is another now; not that of the open that did it, which stores its own.
    pub(super) fn fall_behind(&mut self, by: OpenId, concerned: impl Fn(&Grant) -> bool) {
        if let Some(following) = &mut self.following {
            let grants = self.grants.iter().filter(|(open, grant)| **open != by && grant.persistent);
            following.behind.extend(grants.filter(|(_, grant)| concerned(grant)).map(|(open, _)| *open));
        }
    }

    /// The record of an open is about to say what is so.
    pub(super) fn catch_up(&mut self, open: OpenId) {
        self.following.get_or_insert_default().behind.remove(&open);
    }

    pub(super) fn is_followed(&self) -> bool {
        self.following.as_ref().is_some_and(|following| following.under_way > 0)
    }

    /// Has records stored that are behind, and holds back what happened until they are.
    pub(super) fn follow(&mut self, effects: &mut Vec<Effect>) {
        let Some(mut following) = self.following.take() else { return };
        effects.retain(|effect| {
            let Effect::Behind(open) = effect else { return true };
            following.behind.insert(*open);
            false
        });
        let mut follows = Vec::new();
        for open in std::mem::take(&mut following.behind) {
            if let Some(grant) = self.grants.get(&open).filter(|grant| grant.persistent) {
                let (session, held) = (grant.session, self.held(open, grant));
                follows.push(Effect::Record(Box::new(Follow { open, session, held, tried: 0 })));
            }
        }
        following.under_way += u32::try_from(follows.len()).unwrap_or(u32::MAX);
        if following.under_way > 0 {
            // The name comes before the record that says it.
            let (now, later) =
                std::mem::take(effects).into_iter().partition(|effect| matches!(effect, Effect::Follow(..)));
            *effects = now;
            following.held_back.extend::<Vec<Effect>>(later);
            effects.append(&mut follows);
        }
        self.following = Some(following);
    }

    /// A record is stored, or could not be. Gives back what was held back once it was the last.
    fn followed(&mut self, open: OpenId, durable: bool) -> Vec<Effect> {
        let Some(following) = &mut self.following else { return Vec::new() };
        following.under_way = following.under_way.saturating_sub(1);
        if !durable {
            following.failed = true;
            following.behind.insert(open);
        }
        if following.under_way > 0 {
            return Vec::new();
        }
        let mut effects = std::mem::take(&mut following.held_back);
        if std::mem::take(&mut following.failed) {
            for effect in &mut effects {
                if let Effect::Answer(_, answer @ (Answer::Acknowledged(_) | Answer::Kept(_))) = effect {
                    *answer = Answer::Refused(NtStatus::UNEXPECTED_IO_ERROR);
                }
            }
        }
        effects
    }
}

impl Shard {
    /// A file has a record stored.
    pub(super) fn have_followed(&mut self, file: FileKey, follow: Box<Follow>, turn: &mut Turn<'_>) {
        let asker = self.wait(Wait::Following(file, follow.open));
        turn.post(follow.place(), Message::Follow { follow, asker });
    }

    /// An open's record is to follow. It may be on its way to or from its session; if it is nowhere, it is closed.
    pub(crate) fn on_follow(&mut self, mut follow: Box<Follow>, asker: Asker, turn: &mut Turn<'_>) {
        if !self.opens.contains_key(&follow.open) {
            follow.tried += 1;
            if follow.tried == PLACES {
                return turn.answer(asker, Answer::Granted);
            }
            return turn.post(follow.place(), Message::Follow { follow, asker });
        }
        let token = self.waits.insert(Wait::Followed(asker));
        let nowhere = crate::ids::ConnectionId(0);
        if !self.put_record(follow.open, &follow.held, None, (token, nowhere), turn) {
            // It closes, and its record is going.
            self.waits.remove(token);
            turn.answer(asker, Answer::Granted);
        }
    }

    /// The record follows, or could not be stored.
    pub(crate) fn on_followed(&mut self, key: FileKey, open: OpenId, answer: &Answer, turn: &mut Turn<'_>) {
        let Some(file) = self.files.get_mut(&key) else { return };
        let effects = file.followed(open, *answer == Answer::Granted);
        self.carry_out(key, effects, turn);
    }
}
