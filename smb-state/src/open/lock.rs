//! LOCK (MS-SMB2 3.3.5.14): parameters and lock sequences here, the rest is the file's (`file::lock`).
//!
//! A LOCK that waits counts as outstanding; CANCEL ends it with CANCELLED, the end of its open with RANGE_NOT_LOCKED.

use std::collections::{BTreeMap, BTreeSet};

use smb_proto::NtStatus;
use smb_proto::access::AccessMask;
use smb_proto::command::FileId;
use smb_proto::command::lock::{LockElement, LockFlags, LockSequence, Request};
use smb_proto::command::negotiate::Dialect;

use super::{Open, OpenRequest};
use crate::file::FileAsk;
use crate::file::lock::{Lock, OnConflict, Range};
use crate::ids::{FileKey, OpenId};
use crate::message::{Address, Answer, Finished, Message, Origin, Terms};
use crate::record;
use crate::response::Body;
use crate::shard::{Shard, Turn, Wait};
use crate::storage::Kind;

/// Entries of Open.LockSequenceArray (3.3.1.10).
const SEQUENCES: u32 = 64;

/// Open.LockSequenceArray: the numbers of LOCKs, by index. What is not there is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct LockSequences {
    carried_out: BTreeMap<u32, u8>,
    /// Those whose outcome is not known yet.
    under_way: BTreeSet<(u32, u8)>,
}

impl LockSequences {
    /// A LOCK begins. Returns whether it was carried out before; another number ends the entry. While the one that it repeats is
    /// still under way, which the specification does not speak of, it is answered as other requests are that are replayed too
    /// early (3.3.5.2.10): twice it must not be carried out (S22).
    fn begin(&mut self, sequence: LockSequence) -> Result<bool, NtStatus> {
        let (index, number) = (sequence.index(), sequence.number());
        if self.under_way.contains(&(index, number)) {
            return Err(NtStatus::FILE_NOT_AVAILABLE);
        }
        match self.carried_out.get(&index) {
            Some(other) if *other == number => return Ok(true),
            Some(_) => self.carried_out.remove(&index),
            None => None,
        };
        Ok(false)
    }

    /// The file is asked.
    fn asked(&mut self, sequence: LockSequence) {
        if (1..=SEQUENCES).contains(&sequence.index()) {
            self.under_way.insert((sequence.index(), sequence.number()));
        }
    }

    /// The file has answered.
    pub(crate) fn end(&mut self, sequence: LockSequence, success: bool) {
        let known = self.under_way.remove(&(sequence.index(), sequence.number()));
        if known && success {
            self.carried_out.insert(sequence.index(), sequence.number());
        }
    }

    /// What a record is to say, once this one is carried out.
    pub(crate) fn recorded(&self, carried_out: Option<LockSequence>) -> Vec<(u32, u8)> {
        let mut all = self.clone();
        carried_out.into_iter().for_each(|sequence| all.end(sequence, true));
        all.carried_out.into_iter().collect()
    }

    /// What a record says.
    pub(crate) fn of_record(carried_out: &[(u32, u8)]) -> Self {
        Self { carried_out: carried_out.iter().copied().collect(), under_way: BTreeSet::new() }
    }
}

/// Whether lock sequences are kept and verified: where a client may send a LOCK again, on another channel or for an open that
/// outlived its connection (3.3.5.14).
fn verifies_sequences(terms: Terms, open: &Open) -> bool {
    let channels = terms.multi_channel && terms.dialect.is_smb3();
    terms.dialect != Dialect::SMB_2_0_2 && (channels || open.durable.is_some())
}

/// A LOCK that its file is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Locking {
    open: OpenId,
    file_id: FileId,
    file: FileKey,
    origin: Origin,
    /// How it ends if the file does what it is asked: some requests stop at a bad element and keep what they did before.
    status: NtStatus,
    /// To be kept when it is carried out.
    sequence: Option<LockSequence>,
    /// What it locks, if that is to be recorded.
    locks: Vec<Lock>,
}

impl Locking {
    pub(crate) fn at_file(&self) -> (FileKey, Origin, OpenId) {
        (self.file, self.origin, self.open)
    }
}

/// What a LOCK asks of a file.
enum Asked {
    Lock(Vec<Lock>, OnConflict),
    Unlock(Vec<Range>),
}

impl Shard {
    pub(crate) fn on_lock(
        &mut self,
        request: &OpenRequest,
        lock: &Request,
        turn: &mut Turn<'_>,
    ) -> Result<(), NtStatus> {
        let open = self.opens.get_mut(&request.open).ok_or(NtStatus::FILE_CLOSED)?;
        // Each change of a persistent open's locks stores all of them.
        let most = match open.persistent() {
            Some(_) => self.limits.locks_per_open_max.min(record::LOCKS_MAX),
            None => self.limits.locks_per_open_max,
        };
        let sequence = verifies_sequences(request.execution.terms, open).then_some(lock.lock_sequence);
        if let Some(sequence) = sequence
            && open.lock_sequences.begin(sequence)?
        {
            let (origin, open) = (request.origin, Some(request.file_id));
            let (status, body) = (NtStatus::SUCCESS, Body::Empty);
            turn.finish(Finished { origin, status, body, open, spent: None });
            return Ok(());
        }
        let (asked, status) = parse(open, &lock.locks, request.execution.last)?;
        open.outstanding.begin(request.origin.ticket);
        if let Some(sequence) = sequence {
            open.lock_sequences.asked(sequence);
        }
        let (id, file, persistent) = (request.open, open.file, open.persistent().is_some());
        let locks = match &asked {
            Asked::Lock(locks, _) if persistent => locks.clone(),
            Asked::Lock(..) | Asked::Unlock(_) => Vec::new(),
        };
        let ask = match asked {
            Asked::Lock(locks, on_conflict) => {
                FileAsk::Lock { open: id, locks, on_conflict, most, behind: request.origin.behind() }
            }
            Asked::Unlock(ranges) => FileAsk::Unlock { open: id, ranges },
        };
        let (file_id, origin) = (request.file_id, request.origin);
        let locking = Locking { open: id, file_id, file, origin, status, sequence, locks };
        let asker = self.wait(Wait::Lock(Box::new(locking)));
        turn.post(Address::File(file), Message::AskFile(ask, asker));
        Ok(())
    }

    /// The file answered.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an answer to another question is a bug, whichever it is"
    )]
    pub(crate) fn on_lock_answer(&mut self, locking: Locking, answer: &Answer, turn: &mut Turn<'_>) {
        let Locking { open, file_id, origin, status, sequence, locks, .. } = locking;
        let status = match answer {
            Answer::Granted => status,
            Answer::Refused(status) => *status,
            _ => NtStatus::INTERNAL_ERROR,
        };
        let sequence = sequence.map(|sequence| (sequence, status == NtStatus::SUCCESS));
        let body = if status.is_error() { Body::Error } else { Body::Empty };
        let finished = Finished { origin, status, body, open: Some(file_id), spent: None };
        // What is unlocked before the first that is not locked stays so.
        let changed = !matches!(answer, Answer::Refused(status) if *status != NtStatus::RANGE_NOT_LOCKED);
        self.finish_recorded(open, finished, changed, (sequence, locks), turn);
    }
}

/// What a LOCK asks for, and how it ends if that is done; or why nothing is done.
fn parse(open: &Open, elements: &[LockElement], last: bool) -> Result<(Asked, NtStatus), NtStatus> {
    let first = elements.first().ok_or(NtStatus::INVALID_PARAMETER)?;
    match open.kind {
        Kind::File => {}
        Kind::Directory if !open.is_directory() => {}
        // MS-FSA 2.1.5.8.
        Kind::Directory => return Err(NtStatus::INVALID_PARAMETER),
        Kind::Pipe => return Err(NtStatus::INVALID_DEVICE_REQUEST),
    }
    if first.flags.contains(LockFlags::UNLOCK) {
        return parse_unlocks(elements);
    }
    let several = elements.len() > 1;
    let waits = !first.flags.contains(LockFlags::FAIL_IMMEDIATELY);
    if several && elements.iter().any(|element| !element.flags.contains(LockFlags::FAIL_IMMEDIATELY)) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    open.check_any(AccessMask::READ_DATA.with(AccessMask::WRITE_DATA))?;
    // What comes before an element that unlocks is locked, and stays so (3.3.5.14.2).
    let (elements, status) =
        match elements.iter().position(|element| element.flags.contains(LockFlags::UNLOCK)) {
            Some(end) => (elements.get(..end).unwrap_or_default(), NtStatus::INVALID_PARAMETER),
            None => (elements, NtStatus::SUCCESS),
        };
    let locks = elements
        .iter()
        .map(|element| {
            if !element.flags.is_valid() {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            Ok(Lock { range: range(element)?, exclusive: element.flags.contains(LockFlags::EXCLUSIVE_LOCK) })
        })
        .collect::<Result<Vec<Lock>, NtStatus>>()?;
    let on_conflict = match (waits, last) {
        (true, true) => OnConflict::Wait,
        // In the middle of a compound nothing may wait for what may never come (3.3.5.2.7.2).
        (true, false) => OnConflict::Refuse(NtStatus::INTERNAL_ERROR),
        (false, _) => OnConflict::Refuse(NtStatus::LOCK_NOT_GRANTED),
    };
    Ok((Asked::Lock(locks, on_conflict), status))
}

/// Unlocks up to the first element that is not one, and keeps what was done (3.3.5.14.1). FAIL_IMMEDIATELY does not go with
/// UNLOCK (2.2.26.1).
fn parse_unlocks(elements: &[LockElement]) -> Result<(Asked, NtStatus), NtStatus> {
    let mut ranges = Vec::with_capacity(elements.len());
    for element in elements {
        let verdict = match element.flags {
            LockFlags::UNLOCK => range(element),
            _ => Err(NtStatus::INVALID_PARAMETER),
        };
        match verdict {
            Ok(range) => ranges.push(range),
            Err(status) if ranges.is_empty() => return Err(status),
            Err(status) => return Ok((Asked::Unlock(ranges), status)),
        }
    }
    Ok((Asked::Unlock(ranges), NtStatus::SUCCESS))
}

fn range(element: &LockElement) -> Result<Range, NtStatus> {
    Range::new(element.offset, element.length).ok_or(NtStatus::INVALID_LOCK_RANGE)
}
