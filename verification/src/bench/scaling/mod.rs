//! How what an operation costs grows with what a server has to hold: connections, files in a directory, opens.
//!
//! Each size is one point: every server is brought to it, then the operations run against one server after the other, in
//! rounds. A server that can't be brought to a size in time, or that fails there, is given up, which the output says.

mod connections;
mod drive;
mod files;
mod opens;
mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::bed::Bed;
use super::json::Journal;
use super::latency::Latencies;
use super::sample::Sample;
use super::stats::Spread;
use super::{charts, memory};
use crate::client::Error;
use crate::peer::PeerKind;
pub(super) use report::{Footprint, GivenUp, Point};

/// Descriptors that a server may need for each connection and its open.
const DESCRIPTORS: u64 = 3;
/// How long servers have to settle before their memory is looked at.
const SETTLE: Duration = Duration::from_millis(700);

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// Authenticated connections, each with a tree connect and an open.
    Connections,
    /// Files in one directory.
    Files,
    /// Opens that are held.
    Opens,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Servers, in the order of their lines.
    pub peers: Vec<PeerKind>,
    /// What grows; all if empty.
    pub axes: Vec<Axis>,
    /// Numbers of connections.
    pub connections: Vec<u32>,
    /// Numbers of files in a directory.
    pub files: Vec<u32>,
    /// Numbers of opens.
    pub opens: Vec<u32>,
    /// Samples of each point, operation and server.
    pub rounds: u32,
    /// How long one sample takes.
    pub duration: Duration,
    /// How long a server may take to be brought to the next size.
    pub patience: Duration,
    /// Where to write each point as a line of JSON.
    pub json: Option<PathBuf>,
    /// A directory for the curves.
    pub svg: Option<PathBuf>,
}

impl Default for Options {
    /// About ten minutes on two processors.
    fn default() -> Self {
        Self {
            peers: vec![PeerKind::Leasehold, PeerKind::LeaseholdGlommio, PeerKind::Smbd, PeerKind::SmbServer],
            axes: Vec::new(),
            connections: vec![1, 10, 100, 1000, 10_000],
            files: vec![10, 100, 1000, 10_000, 100_000, 1_000_000],
            opens: vec![1, 10, 100, 1000, 10_000, 100_000],
            rounds: 3,
            duration: Duration::from_millis(300),
            patience: Duration::from_secs(45),
            json: None,
            svg: None,
        }
    }
}

impl Options {
    fn wants(&self, axis: Axis) -> bool {
        self.axes.is_empty() || self.axes.contains(&axis)
    }

    /// Open files that this process, or one server, would like to have.
    fn descriptors(&self) -> u64 {
        let most = |axis, sizes: &[u32]| {
            let wanted = self.wants(axis).then(|| sizes.iter().max().copied());
            u64::from(wanted.flatten().unwrap_or_default())
        };
        let connections = most(Axis::Connections, &self.connections);
        // This process is connected to all servers at once.
        let most = most(Axis::Opens, &self.opens).max(connections * DESCRIPTORS.max(self.peers.len() as u64));
        most + memory::OTHER_DESCRIPTORS
    }
}

/// What a server has to hold, and what is done with it.
trait Growth: Sized + Send + Sync {
    /// What grows.
    const AXIS: Axis;
    /// What is measured at each size.
    const OPERATIONS: &'static [&'static str];

    /// Descriptors that this process needs for each of what grows.
    const DESCRIPTORS: u64 = 0;

    /// At size zero.
    fn begin(bed: &Bed) -> Result<Self>;

    /// Lays out what the server doesn't take part in. Runs for all servers at once.
    fn lay_out(&mut self, bed: &Bed, size: u32) -> Result<()>;

    /// Brings the server to this size.
    fn grow(&mut self, bed: &Bed, size: u32, until: Instant) -> Result<()>;

    /// Brings the server back to size zero, where this process has descriptors to give back.
    fn release(&mut self) {}

    /// Runs an operation, by its place in [`Self::OPERATIONS`], again and again.
    fn measure(&self, bed: &Bed, operation: usize, duration: Duration) -> Result<Sample>;
}

/// A server with what it holds.
struct Subject<G> {
    /// First, so that connections end before the server does.
    growth: G,
    bed: Bed,
    /// Bytes at size zero.
    before: u64,
    /// Operations that it refuses.
    unable: Vec<usize>,
}

/// Runs what is wanted and prints the tables.
///
/// # Errors
/// A server can't be started, or what it is to hold can't be laid out.
pub fn run(options: &Options) -> Result<()> {
    ensure!(!options.peers.is_empty() && options.rounds > 0, "nothing to run");
    let descriptors = memory::allow_files(options.descriptors());
    let mut journal = Journal::create(options.json.as_deref())?;
    if options.wants(Axis::Connections) {
        run_axis::<connections::Connections>(options, &options.connections, descriptors, &mut journal)?;
    }
    if options.wants(Axis::Files) {
        run_axis::<files::Files>(options, &options.files, descriptors, &mut journal)?;
    }
    if options.wants(Axis::Opens) {
        run_axis::<opens::Opens>(options, &options.opens, descriptors, &mut journal)?;
    }
    if let Some(directory) = &options.svg {
        charts::draw(directory, journal.lines())?;
    }
    Ok(())
}

fn run_axis<G: Growth>(
    options: &Options,
    sizes: &[u32],
    descriptors: u64,
    journal: &mut Journal,
) -> Result<()> {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    sizes.dedup();
    ensure!(sizes.first().is_some_and(|size| *size > 0), "{:?}: no sizes, or one that is zero", G::AXIS);
    let mut report = report::Report::new(G::AXIS);
    let mut subjects = options.peers.iter().map(|kind| start::<G>(*kind)).collect::<Result<Vec<_>>>()?;
    for size in sizes {
        eprintln!("{:?}: {size}", G::AXIS);
        lay_out(&mut subjects, size)?;
        let needed = u64::from(size) * G::DESCRIPTORS * subjects.len() as u64 + memory::OTHER_DESCRIPTORS;
        if needed <= descriptors {
            let held = grow(subjects, size, options, &mut report, journal)?;
            subjects = measure_point(held, size, options, &mut report, journal)?;
            continue;
        }
        report.apart.push(size);
        subjects.iter_mut().for_each(|subject| subject.growth.release());
        let mut left = Vec::new();
        for subject in subjects {
            std::thread::sleep(SETTLE);
            let held = grow(vec![subject], size, options, &mut report, journal)?;
            let mut measured = measure_point(held, size, options, &mut report, journal)?;
            measured.iter_mut().for_each(|subject| subject.growth.release());
            left.append(&mut measured);
        }
        subjects = left;
    }
    for Subject { growth, bed, .. } in subjects {
        drop(growth);
        bed.stop()?;
    }
    print!("{}", report.markdown());
    Ok(())
}

/// Brings servers to a size, one after the other. Returns those that got there.
fn grow<G: Growth>(
    subjects: Vec<Subject<G>>,
    size: u32,
    options: &Options,
    report: &mut report::Report,
    journal: &mut Journal,
) -> Result<Vec<Subject<G>>> {
    let mut held = Vec::new();
    for mut subject in subjects {
        let Subject { growth, bed, .. } = &mut subject;
        match growth.grow(bed, size, Instant::now() + options.patience) {
            Ok(()) => held.push(subject),
            Err(error) => give_up(subject, size, &error, report, journal)?,
        }
    }
    Ok(held)
}

fn start<G: Growth>(kind: PeerKind) -> Result<Subject<G>> {
    let bed = Bed::start(kind)?;
    let growth = G::begin(&bed).with_context(|| format!("{}\n{}", bed.name(), bed.log_tail()))?;
    std::thread::sleep(SETTLE);
    let before = bed.accounting.memory()?;
    Ok(Subject { growth, bed, before, unable: Vec::new() })
}

fn lay_out<G: Growth>(subjects: &mut [Subject<G>], size: u32) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = subjects
            .iter_mut()
            .map(|subject| scope.spawn(|| subject.growth.lay_out(&subject.bed, size)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("laying files out panicked"))?)
    })
}

/// Measures every operation, and then the memory that the servers have. Returns the servers that can go on.
fn measure_point<G: Growth>(
    subjects: Vec<Subject<G>>,
    size: u32,
    options: &Options,
    report: &mut report::Report,
    journal: &mut Journal,
) -> Result<Vec<Subject<G>>> {
    let mut alive: Vec<_> = subjects.into_iter().map(Some).collect();
    for (operation, name) in G::OPERATIONS.iter().enumerate() {
        let mut samples: Vec<Vec<Sample>> = alive.iter().map(|_| Vec::new()).collect();
        // The first round only warms up.
        for round in 0..=options.rounds {
            for (place, samples) in alive.iter_mut().zip(&mut samples) {
                let Some(subject) = place.as_mut().filter(|subject| !subject.unable.contains(&operation))
                else {
                    continue;
                };
                match subject.growth.measure(&subject.bed, operation, options.duration) {
                    Ok(sample) if round > 0 => samples.push(sample),
                    Ok(_) => {}
                    // The server goes on without it.
                    Err(error) if is_refusal(&error) => {
                        subject.unable.push(operation);
                        let refused = given_up(subject, size, &format!("`{name}` alone: {error:#}"));
                        journal.given_up(&refused)?;
                        report.given_up.push(refused);
                    }
                    Err(error) => {
                        let error = error.context(format!("during `{name}`"));
                        place.take().map_or(Ok(()), |it| give_up(it, size, &error, report, journal))?;
                    }
                }
            }
        }
        for (subject, samples) in alive.iter().zip(&samples) {
            let Some(subject) = subject.as_ref().filter(|subject| !subject.unable.contains(&operation))
            else {
                continue;
            };
            let point = point(G::AXIS, size, name, &subject.bed, samples);
            journal.point(&point)?;
            report.points.push(point);
        }
    }
    let alive: Vec<_> = alive.into_iter().flatten().collect();
    std::thread::sleep(SETTLE);
    for subject in &alive {
        let footprint = Footprint {
            axis: G::AXIS,
            size,
            server: subject.bed.name().to_owned(),
            bytes: subject.bed.accounting.memory()?,
            before: subject.before,
        };
        journal.footprint(&footprint)?;
        report.footprints.push(footprint);
    }
    Ok(alive)
}

fn point(axis: Axis, size: u32, operation: &str, bed: &Bed, samples: &[Sample]) -> Point {
    let mut latencies = Latencies::default();
    samples.iter().for_each(|sample| latencies.extend(&sample.latencies));
    Point {
        axis,
        size,
        server: bed.name().to_owned(),
        operation: operation.to_owned(),
        // A second for 100 000 operations is 10 microseconds for one.
        cost_us: Spread::of(samples.iter().map(|sample| sample.cost(false) * 10.0)),
        rate: Spread::of(samples.iter().map(|sample| sample.rate(false))),
        latency: latencies.percentiles(),
    }
}

fn give_up<G: Growth>(
    subject: Subject<G>,
    size: u32,
    error: &anyhow::Error,
    report: &mut report::Report,
    journal: &mut Journal,
) -> Result<()> {
    let given_up = given_up(&subject, size, &format!("{error:#}"));
    eprintln!("{}", given_up.sentence());
    journal.given_up(&given_up)?;
    report.given_up.push(given_up);
    let Subject { growth, bed, .. } = subject;
    drop(growth);
    // It may have ended by itself, which then is what is told.
    if let Err(error) = bed.stop() {
        eprintln!("{error:#}");
    }
    Ok(())
}

fn given_up<G: Growth>(subject: &Subject<G>, size: u32, reason: &str) -> GivenUp {
    let (server, reason) = (subject.bed.name().to_owned(), reason.to_owned());
    GivenUp { axis: G::AXIS, size, server, reason }
}

/// Whether the server answered, only not as it was wanted.
fn is_refusal(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Error>().is_some_and(|error| error.status().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_files_may_be_open_for_what_is_wanted_and_no_more() {
        let all = Options::default();
        assert_eq!(all.descriptors(), 100_000 + memory::OTHER_DESCRIPTORS);
        let options = Options { axes: vec![Axis::Files], ..all.clone() };
        assert_eq!(options.descriptors(), memory::OTHER_DESCRIPTORS);
        let options = Options { axes: vec![Axis::Connections], ..all };
        assert_eq!(options.descriptors(), 40_000 + memory::OTHER_DESCRIPTORS);
    }
}
