//! What must be true of a storm's history, judged while it happens.
//!
//! A worker tells the beginning of each operation and is answered before it sends anything to the server; it tells the end
//! after the server's answer. So what the oracle hears first began first, and an end that it hears before a beginning
//! happened before it: the order of its own hearing is the only clock, and it is the same for workers on other machines.
//!
//! | what | rule |
//! |---|---|
//! | a log's slot | written once, by the worker whose it is; who begins to read after its acknowledgment finds it; nobody finds what nobody began to write |
//! | a counter | no two additions make the same number; none makes one below what was acknowledged before it began; at the end it is the number of additions |
//! | a name | listed where it is throughout the listing, not where it is never; a directory lists no name twice |
//! | a prize | made by one of those who try to make it exclusively |
//! | the register | holds what somebody put there, and not what was replaced before the look began |
//!
//! Who reads from a cache is told of a change by a break that the changer does not wait for (MS-SMB2 3.3.4.7: read caching
//! needs no acknowledgment), so it may be late by [`GRACE`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How long a break may take until its client has acted on it, when nobody waits for that.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// Slots of a log's generation.
pub(super) const SLOTS: usize = 1024;
/// Directories that names are in.
pub(super) const DIRECTORIES: usize = 4;
/// Cells of the counters that are added to under a lock.
pub(super) const CELLS: usize = 8;
/// The counter that is added to by whoever has its file alone.
pub(super) const SOLE: &str = "sole";
/// What the register holds at first.
pub(super) const FIRST_VALUE: &str = "0:0";

/// When the oracle heard something: the how manieth it was, and since the start.
#[derive(Debug, Clone, Copy)]
struct Moment {
    order: u64,
    at: Duration,
}

/// How new what a worker finds must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freshness {
    /// From the server.
    Direct,
    /// Perhaps from a cache that a break ends.
    Cached,
}

impl Freshness {
    fn parse(word: Option<&&str>) -> Result<Freshness> {
        match word {
            Some(&"direct") => Ok(Freshness::Direct),
            Some(&"cached") => Ok(Freshness::Cached),
            other => bail!("how fresh is {other:?}?"),
        }
    }

    /// Whether what ended then must be seen by what began then.
    fn sees(self, ended: Moment, begun: Moment) -> bool {
        match self {
            Freshness::Direct => ended.order < begun.order,
            Freshness::Cached => ended.at + GRACE <= begun.at,
        }
    }
}

/// A worker and what it is about to do.
#[derive(Debug, Clone)]
enum Doing {
    Write { log: Log, slot: usize },
    Read { log: Log },
    Add { counter: String },
    Look { counter: String },
    Make { name: String },
    Move { name: String },
    Drop { name: String },
    List { directory: usize },
    Stat { name: String, directory: usize },
    Claim { prize: u64 },
    Put { value: String },
    Get,
}

/// A log and its generation.
type Log = (u32, u32);

#[derive(Debug)]
struct Record {
    client: usize,
    /// None too when the client lost it before it reached the server.
    acknowledged: Option<Moment>,
    /// Another client has found it.
    read_back: bool,
}

#[derive(Debug, Default)]
struct Counter {
    /// Additions begun and not refused.
    additions: u64,
    made: BTreeSet<u64>,
    /// When an addition was acknowledged, with the greatest number until then.
    greatest: Vec<(Moment, u64)>,
}

/// A name's way from one place to the next.
#[derive(Debug)]
struct Step {
    ended: Option<Moment>,
    /// None: it is gone.
    to: Option<usize>,
}

#[derive(Debug)]
struct Put {
    begun: Moment,
    ended: Option<Moment>,
    refused: bool,
}

/// What was done, by client and kind.
pub(super) type Counts = BTreeMap<(String, &'static str), (u64, u64)>;

/// Everything that was done, as far as it still matters.
#[derive(Debug)]
pub(super) struct Oracle {
    heard: u64,
    /// Of each worker, the name of its client.
    clients: Vec<String>,
    doing: Vec<Option<(Doing, Moment)>>,
    logs: BTreeMap<Log, BTreeMap<usize, Record>>,
    counters: BTreeMap<String, Counter>,
    names: BTreeMap<String, Vec<Step>>,
    prizes: BTreeMap<u64, usize>,
    puts: BTreeMap<String, Put>,
    /// Everything is read back: nothing is refused any more, and nothing comes from a cache.
    checking: bool,
    counts: Counts,
}

impl Oracle {
    /// An oracle for these clients' workers.
    pub(super) fn new(clients: Vec<String>) -> Oracle {
        let start = Moment { order: 0, at: Duration::ZERO };
        let first = Put { begun: start, ended: Some(start), refused: false };
        Oracle {
            heard: 0,
            doing: vec![None; clients.len()],
            clients,
            logs: BTreeMap::new(),
            counters: BTreeMap::new(),
            names: BTreeMap::new(),
            prizes: BTreeMap::new(),
            puts: BTreeMap::from([(FIRST_VALUE.to_owned(), first)]),
            checking: false,
            counts: BTreeMap::new(),
        }
    }

    /// A worker is about to do something. Returns what it has to know for that.
    pub(super) fn begin(&mut self, worker: usize, words: &[&str], now: Duration) -> Result<String> {
        let moment = self.hear(now);
        let client = self.client_number(worker)?;
        let (doing, answer) = match *words {
            ["write", log, generation, slot] => {
                let (log, slot) = ((log.parse()?, generation.parse()?), slot.parse()?);
                let record = Record { client, acknowledged: None, read_back: false };
                let before = self.logs.entry(log).or_default().insert(slot, record);
                ensure!(before.is_none(), "slot {slot} of log {log:?} is written twice");
                (Doing::Write { log, slot }, String::new())
            }
            ["read", log, generation] => {
                (Doing::Read { log: (log.parse()?, generation.parse()?) }, String::new())
            }
            ["add", counter] => {
                self.counters.entry(counter.to_owned()).or_default().additions += 1;
                (Doing::Add { counter: counter.to_owned() }, String::new())
            }
            ["look", counter] => (Doing::Look { counter: counter.to_owned() }, String::new()),
            ["make", name, directory] => {
                self.step(name, Some(directory.parse()?));
                (Doing::Make { name: name.to_owned() }, String::new())
            }
            ["move", name, directory] => {
                self.step(name, Some(directory.parse()?));
                (Doing::Move { name: name.to_owned() }, String::new())
            }
            ["drop", name] => {
                self.step(name, None);
                (Doing::Drop { name: name.to_owned() }, String::new())
            }
            ["list", directory] => (Doing::List { directory: directory.parse()? }, String::new()),
            ["stat", name, directory] => {
                (Doing::Stat { name: name.to_owned(), directory: directory.parse()? }, String::new())
            }
            ["claim"] => {
                let prize = self.prizes.len() as u64;
                (Doing::Claim { prize }, prize.to_string())
            }
            ["put", value] => {
                self.puts.insert(value.to_owned(), Put { begun: moment, ended: None, refused: false });
                (Doing::Put { value: value.to_owned() }, String::new())
            }
            ["get"] => (Doing::Get, String::new()),
            _ => bail!("nobody can {words:?}"),
        };
        let place = self.doing.get_mut(worker).context("no such worker")?;
        ensure!(place.is_none(), "worker {worker} begins before it has ended");
        *place = Some((doing, moment));
        Ok(answer)
    }

    /// A worker tells how what it did has ended.
    ///
    /// # Errors
    /// What no correct server leads to.
    pub(super) fn end(&mut self, worker: usize, words: &[&str], now: Duration) -> Result<()> {
        let moment = self.hear(now);
        let (doing, begun) =
            self.doing.get_mut(worker).and_then(Option::take).context("an end without a beginning")?;
        let (outcome, rest) = words.split_first().context("an end without an outcome")?;
        let client = self.clients.get(worker).cloned().context("no such worker")?;
        let counts = self.counts.entry((client.clone(), doing.kind())).or_default();
        if *outcome == "refused" {
            counts.1 += 1;
            let status = rest.first().copied().unwrap_or_default();
            self.refuse(&doing);
            let expected = !self.checking && doing.refusals().contains(&status);
            ensure!(expected, "{client}: {doing:?} ends with {status}, which nothing here leads to");
            return Ok(());
        }
        counts.0 += 1;
        self.judge(worker, &doing, outcome, rest, begun, moment)
            .with_context(|| format!("worker {worker} ({client})"))
    }

    /// A client lost what it has written before it reached the server.
    pub(super) fn abandon(&mut self, words: &[&str]) -> Result<()> {
        let [log, generation, slot] = words else { bail!("what is abandoned?") };
        let log = (log.parse()?, generation.parse()?);
        let record = self.logs.get_mut(&log).and_then(|log| log.get_mut(&slot.parse().ok()?));
        record.context("a record that was not written is abandoned")?.acknowledged = None;
        Ok(())
    }

    /// From now on everything is looked at for the last time. Returns what each client has to look at.
    pub(super) fn check(&mut self) -> Vec<String> {
        self.checking = true;
        let mut checks: Vec<String> =
            self.logs.keys().map(|(log, generation)| format!("read {log} {generation}")).collect();
        checks.extend((0..DIRECTORIES).map(|directory| format!("list {directory}")));
        checks.extend((0..CELLS).map(|cell| format!("look {cell}")));
        checks.push(format!("look {SOLE}"));
        checks.push("get".to_owned());
        checks
    }

    /// What is left to say when everybody has looked at everything.
    pub(super) fn finish(&self) -> Result<()> {
        for (log, records) in &self.logs {
            for (slot, record) in records {
                ensure!(
                    record.acknowledged.is_none() || record.read_back,
                    "slot {slot} of log {log:?} was acknowledged, and no other client has read it back"
                );
            }
        }
        Ok(())
    }

    /// Slots of each log that are acknowledged, and those that may be there.
    pub(super) fn records(&self) -> impl Iterator<Item = (Log, Vec<(usize, bool)>)> {
        self.logs.iter().map(|(log, records)| {
            (*log, records.iter().map(|(slot, record)| (*slot, record.acknowledged.is_some())).collect())
        })
    }

    /// How many workers there are.
    pub(super) fn workers(&self) -> usize {
        self.clients.len()
    }

    /// How many prizes were made.
    pub(super) fn prizes(&self) -> usize {
        self.prizes.len()
    }

    /// What was done and what was refused.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    fn hear(&mut self, at: Duration) -> Moment {
        self.heard += 1;
        Moment { order: self.heard, at }
    }

    /// Workers of one client have one number.
    fn client_number(&self, worker: usize) -> Result<usize> {
        let name = self.clients.get(worker).context("no such worker")?;
        self.clients.iter().position(|other| other == name).context("no such client")
    }

    fn step(&mut self, name: &str, to: Option<usize>) {
        self.names.entry(name.to_owned()).or_default().push(Step { ended: None, to });
    }

    /// What was refused has not happened.
    fn refuse(&mut self, doing: &Doing) {
        match doing {
            Doing::Write { log, slot } => {
                if let Some(records) = self.logs.get_mut(log) {
                    records.remove(slot);
                }
            }
            Doing::Add { counter } => {
                if let Some(counter) = self.counters.get_mut(counter) {
                    counter.additions = counter.additions.saturating_sub(1);
                }
            }
            Doing::Make { name } | Doing::Move { name } | Doing::Drop { name } => {
                if let Some(steps) = self.names.get_mut(name) {
                    steps.pop();
                }
            }
            Doing::Put { value } => {
                if let Some(put) = self.puts.get_mut(value) {
                    put.refused = true;
                }
            }
            Doing::Read { .. }
            | Doing::Look { .. }
            | Doing::List { .. }
            | Doing::Stat { .. }
            | Doing::Claim { .. }
            | Doing::Get => {}
        }
    }

    fn judge(
        &mut self,
        worker: usize,
        doing: &Doing,
        outcome: &str,
        rest: &[&str],
        begun: Moment,
        ended: Moment,
    ) -> Result<()> {
        let fresh = || -> Result<Freshness> {
            let told = Freshness::parse(rest.first())?;
            Ok(if self.checking { Freshness::Direct } else { told })
        };
        match (doing, outcome) {
            (Doing::Write { log, slot }, "ok") => {
                let record = self.logs.get_mut(log).and_then(|records| records.get_mut(slot));
                record.context("a record that was never begun")?.acknowledged = Some(ended);
                Ok(())
            }
            (Doing::Read { log }, "ok") => {
                let fresh = fresh()?;
                let [_, found, torn @ ..] = rest else { bail!("nothing is told of a read") };
                let torn = torn.iter().map(|slot| slot.parse()).collect::<Result<BTreeSet<usize>, _>>()?;
                let client = self.client_number(worker)?;
                self.judge_read(*log, client, fresh, &bits(found)?, &torn, begun)
            }
            (Doing::Add { counter }, "ok") => {
                let [made] = rest else { bail!("which number?") };
                self.judge_addition(counter, made.parse()?, begun, ended)
            }
            (Doing::Look { counter }, "ok") => {
                let fresh = fresh()?;
                let [_, found] = rest else { bail!("which number?") };
                self.judge_look(counter, found.parse()?, fresh, begun)
            }
            (Doing::Make { name } | Doing::Move { name } | Doing::Drop { name }, "ok") => {
                let last = self.names.get_mut(name).and_then(|steps| steps.last_mut());
                last.context("a name that takes no step")?.ended = Some(ended);
                Ok(())
            }
            (Doing::List { directory }, "ok") => {
                let fresh = fresh()?;
                self.judge_list(*directory, rest.get(1..).unwrap_or_default(), fresh, begun)
            }
            (Doing::Stat { name, directory }, "ok" | "absent") => {
                let places = self.places(name, fresh()?, begun);
                let (is, is_elsewhere) = (
                    places.contains(&Some(*directory)),
                    places.iter().any(|place| *place != Some(*directory)),
                );
                let agrees = if outcome == "ok" { is } else { is_elsewhere };
                ensure!(agrees, "{name} in {directory} is {outcome}, and it can only be in {places:?}");
                Ok(())
            }
            (Doing::Claim { prize }, "ok") => match self.prizes.insert(*prize, worker) {
                None => Ok(()),
                Some(other) => bail!("prize {prize} was made by worker {other}, too"),
            },
            (Doing::Claim { prize }, "exists") => {
                let contested =
                    self.prizes.contains_key(prize)
                        || self.doing.iter().flatten().any(
                            |(other, _)| matches!(other, Doing::Claim { prize: other } if other == prize),
                        );
                ensure!(contested, "prize {prize} exists, and nobody else has tried to make it");
                Ok(())
            }
            (Doing::Put { value }, "ok") => {
                self.puts.get_mut(value).context("a value that nobody puts")?.ended = Some(ended);
                Ok(())
            }
            (Doing::Get, "ok") => {
                let fresh = fresh()?;
                self.judge_get(rest.get(1).copied().unwrap_or_default(), fresh, begun)
            }
            _ => bail!("{doing:?} ends with {outcome} {rest:?}"),
        }
    }

    fn judge_read(
        &mut self,
        log: Log,
        client: usize,
        fresh: Freshness,
        found: &BTreeSet<usize>,
        torn: &BTreeSet<usize>,
        begun: Moment,
    ) -> Result<()> {
        let records = self.logs.entry(log).or_default();
        for slot in found.iter().chain(torn) {
            ensure!(records.contains_key(slot), "slot {slot} of log {log:?} holds what nobody has written");
        }
        let mut lost = Vec::new();
        for (slot, record) in records {
            if found.contains(slot) {
                record.read_back |= record.client != client;
            } else if let Some(acknowledged) = record.acknowledged
                && fresh.sees(acknowledged, begun)
            {
                lost.push((*slot, begun.at.saturating_sub(acknowledged.at)));
            }
        }
        ensure!(
            lost.is_empty(),
            "log {log:?}, read {fresh:?}, lacks {} acknowledged records, first (slot, acknowledged before) {:?}",
            lost.len(),
            &lost[..lost.len().min(4)]
        );
        Ok(())
    }

    fn judge_addition(&mut self, counter: &str, made: u64, begun: Moment, ended: Moment) -> Result<()> {
        let state = self.counters.get_mut(counter).context("a counter that nobody adds to")?;
        let least = state.least(Freshness::Direct, begun);
        ensure!(made > least, "an addition to {counter} makes {made} after {least} was acknowledged");
        ensure!(made <= state.additions, "{counter} is {made} after {} additions", state.additions);
        ensure!(state.made.insert(made), "two additions to {counter} made {made}");
        let greatest = state.greatest.last().map_or(made, |(_, greatest)| made.max(*greatest));
        state.greatest.push((ended, greatest));
        Ok(())
    }

    fn judge_look(&mut self, counter: &str, found: u64, fresh: Freshness, begun: Moment) -> Result<()> {
        let state = self.counters.entry(counter.to_owned()).or_default();
        let least = state.least(fresh, begun);
        ensure!(found >= least, "{counter} is {found} after {least} was acknowledged");
        ensure!(found <= state.additions, "{counter} is {found} after {} additions", state.additions);
        Ok(())
    }

    /// Where a name may have been from then until now.
    fn places(&self, name: &str, fresh: Freshness, begun: Moment) -> BTreeSet<Option<usize>> {
        let steps = self.names.get(name).map(Vec::as_slice).unwrap_or_default();
        let settled = |step: &Step| {
            // Whoever has a file open keeps a name that is dropped, for as long as a client keeps files open by itself.
            let fresh = if step.to.is_none() { Freshness::Cached } else { fresh };
            step.ended.is_some_and(|ended| fresh.sees(ended, begun))
        };
        match steps.iter().rposition(settled) {
            Some(last) => steps[last..].iter().map(|step| step.to).collect(),
            None => std::iter::once(None).chain(steps.iter().map(|step| step.to)).collect(),
        }
    }

    fn judge_list(
        &mut self,
        directory: usize,
        listed: &[&str],
        fresh: Freshness,
        begun: Moment,
    ) -> Result<()> {
        let mut once = BTreeSet::new();
        // The kernel's client gives files that it has open and removes a name of its own.
        for name in listed.iter().filter(|name| !name.starts_with(".__smb")) {
            ensure!(once.insert(*name), "directory {directory} lists {name} twice");
            ensure!(self.names.contains_key(*name), "directory {directory} lists {name}, which nobody made");
        }
        for name in self.names.keys() {
            let places = self.places(name, fresh, begun);
            if once.contains(name.as_str()) {
                ensure!(
                    places.contains(&Some(directory)),
                    "directory {directory} lists {name}, which can only be in {places:?}"
                );
            } else {
                ensure!(
                    places.iter().any(|place| *place != Some(directory)),
                    "directory {directory}, read {fresh:?}, doesn't list {name}, which is there"
                );
            }
        }
        // What has long been gone needs no more attention.
        let old = |steps: &[Step]| {
            steps.last().is_some_and(|step| {
                step.to.is_none()
                    && step.ended.is_some_and(|ended| ended.at + Duration::from_secs(180) < begun.at)
            })
        };
        self.names.retain(|_, steps| !old(steps));
        Ok(())
    }

    fn judge_get(&self, found: &str, fresh: Freshness, begun: Moment) -> Result<()> {
        let put = self.puts.get(found).with_context(|| format!("the register holds {found:?}"))?;
        ensure!(!put.refused, "the register holds {found}, whose put was refused");
        let Some(ended) = put.ended else { return Ok(()) };
        let newer = self.puts.iter().find(|(_, other)| {
            other.begun.order > ended.order && other.ended.is_some_and(|ended| fresh.sees(ended, begun))
        });
        if let Some((newer, _)) = newer {
            bail!("the register holds {found} after {newer} has replaced it");
        }
        Ok(())
    }
}

impl Counter {
    /// The greatest number that whoever began then must know of.
    fn least(&self, fresh: Freshness, begun: Moment) -> u64 {
        let known = self.greatest.partition_point(|(ended, _)| fresh.sees(*ended, begun));
        known.checked_sub(1).and_then(|last| self.greatest.get(last)).map_or(0, |(_, greatest)| *greatest)
    }
}

const SHARING_VIOLATION: &str = "0xc0000043";
const ACCESS_DENIED: &str = "0xc0000022";
const FILE_LOCK_CONFLICT: &str = "0xc0000054";
const LOCK_NOT_GRANTED: &str = "0xc0000055";

impl Doing {
    fn kind(&self) -> &'static str {
        match self {
            Doing::Write { .. } => "write",
            Doing::Read { .. } => "read",
            Doing::Add { counter } if counter == SOLE => "add alone",
            Doing::Add { .. } => "add under a lock",
            Doing::Look { .. } => "look",
            Doing::Make { .. } => "make",
            Doing::Move { .. } => "move",
            Doing::Drop { .. } => "drop",
            Doing::List { .. } => "list",
            Doing::Stat { .. } => "stat",
            Doing::Claim { .. } => "claim",
            Doing::Put { .. } => "put",
            Doing::Get => "get",
        }
    }

    /// How it may be refused, in the server's words and in the kernel's.
    fn refusals(&self) -> &'static [&'static str] {
        match self {
            // Some opens share the file with readers only.
            Doing::Write { .. } | Doing::Read { .. } => &[SHARING_VIOLATION, "EBUSY", "ETXTBSY"],
            Doing::Add { counter } if counter == SOLE => &[SHARING_VIOLATION],
            // The kernel's locks are waited for, and try again.
            Doing::Add { .. } => &[LOCK_NOT_GRANTED, "EACCES", "EAGAIN"],
            Doing::Look { counter } if counter == SOLE => &[SHARING_VIOLATION, "EBUSY", "ETXTBSY"],
            Doing::Look { .. } => &[FILE_LOCK_CONFLICT, "EACCES"],
            // What is open can't be replaced (MS-FSA 2.1.5.15.11).
            Doing::Put { .. } => &[ACCESS_DENIED, SHARING_VIOLATION],
            // The kernel gives up when it finds another file under the name, and another one when it looks again.
            Doing::Get => &["ESTALE"],
            Doing::Make { .. }
            | Doing::Move { .. }
            | Doing::Drop { .. }
            | Doing::List { .. }
            | Doing::Stat { .. }
            | Doing::Claim { .. } => &[],
        }
    }
}

/// The numbers of the bits that are set in hexadecimal bytes, low bits first.
fn bits(hexadecimal: &str) -> Result<BTreeSet<usize>> {
    let mut found = BTreeSet::new();
    for (number, pair) in hexadecimal.as_bytes().chunks(2).enumerate() {
        let byte = u8::from_str_radix(std::str::from_utf8(pair)?, 16)?;
        found.extend((0..8).filter(|bit| byte >> bit & 1 == 1).map(|bit| number * 8 + bit));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
