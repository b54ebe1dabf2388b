//! Compares this workspace's server with others: same machine, same client, same files, interleaved rounds. Beside them,
//! where a workload is nothing but bytes, stands what moving these costs at least.
//!
//! Each row is one workload under one protection. A round runs it against one server and then
//! against the other for the same time; the row shows medians over the rounds with the smallest and largest. What a
//! server costs is what its processes used of the processors, counted by a control group of its own.

mod accounting;
mod bed;
mod charts;
mod fairness;
mod floor;
mod json;
mod latency;
mod load;
mod memory;
mod sample;
pub mod scaling;
mod stats;
mod svg;
mod table;
mod uncontended;
mod workload;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::client::Protection;
use crate::peer::PeerKind;
use bed::Bed;
use floor::{Floor, Pattern, Way};
use json::Journal;
use sample::Sample;
use table::{FloorSamples, Row, Table};
use workload::Case;

pub use charts::draw_journals;
pub use floor::serve as serve_floor;

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Servers, in the order of their columns.
    pub peers: Vec<PeerKind>,
    /// Rows whose name contains one of these; all if empty.
    pub rows: Vec<String>,
    /// Samples of each row and server.
    pub rounds: u32,
    /// How long one sample takes.
    pub duration: Duration,
    /// Connections of every row, if not as many as each has by itself.
    pub connections: Option<usize>,
    /// Whether to measure the floor too.
    pub floor: bool,
    /// Connections that are held open to see what they cost.
    pub idle_connections: u32,
    /// How long a server may take to get them.
    pub patience: Duration,
    /// Where to write each sample and row as a line of JSON.
    pub json: Option<PathBuf>,
    /// A directory for the bars.
    pub svg: Option<PathBuf>,
}

impl Default for Options {
    /// Everything, in less than ten minutes on two processors.
    fn default() -> Self {
        Self {
            peers: vec![PeerKind::Leasehold, PeerKind::Smbd],
            rows: Vec::new(),
            rounds: 5,
            duration: Duration::from_millis(1200),
            connections: None,
            floor: true,
            idle_connections: 1000,
            patience: Duration::from_secs(120),
            json: None,
            svg: None,
        }
    }
}

impl Options {
    /// Everything, in less than two minutes; medians of three short samples.
    pub fn quick() -> Self {
        Self { rounds: 3, duration: Duration::from_millis(300), ..Self::default() }
    }
}

/// Runs the benchmarks and prints the table.
///
/// # Errors
/// A server can't be started or answers otherwise than it should.
pub fn run(options: &Options) -> Result<()> {
    ensure!(!options.peers.is_empty() && options.rounds > 0, "nothing to run");
    memory::allow_connections(options.idle_connections)?;
    let mut journal = Journal::create(options.json.as_deref())?;
    let beds: Vec<Bed> = options.peers.iter().map(|kind| Bed::start(*kind)).collect::<Result<_>>()?;
    let floor = if options.floor { Some(Floor::start()?) } else { None };
    let mut table = Table::new(&beds);
    let mut prepared = None;
    let cases = Case::all(options.connections);
    for case in cases.into_iter().filter(|case| is_wanted(&options.rows, &case.name())) {
        eprintln!("{}", case.name());
        if prepared.replace(case.workload) != Some(case.workload) {
            prepare(case, &beds)?;
        }
        let row = run_case(case, &beds, floor.as_ref(), options, &mut journal)?;
        journal.row(&row)?;
        table.rows.push(row);
    }
    if is_wanted(&options.rows, memory::ROW_NAME) {
        eprintln!("{}", memory::ROW_NAME);
        for bed in &beds {
            let idle = memory::measure(bed, options.idle_connections, options.patience)?;
            journal.memory(bed, &idle)?;
            table.memory.push(idle);
        }
    }
    for bed in beds {
        bed.stop()?;
    }
    let streams: Vec<_> =
        fairness::Stream::ALL.into_iter().filter(|stream| is_wanted(&options.rows, stream.row())).collect();
    if !streams.is_empty() {
        table.fairness = fairness::run(&options.peers, &streams, options.rounds, options.duration)?;
        table.fairness.iter().try_for_each(|fairness| journal.fairness(fairness))?;
    }
    print!("{}", table.markdown());
    if let Some(directory) = &options.svg {
        charts::draw(directory, journal.lines())?;
    }
    Ok(())
}

/// Lays out the files that all rows of a workload share. Those of the workloads before stay: removing tens of thousands takes
/// minutes on some file systems, and no workload looks at another's.
fn prepare(case: Case, beds: &[Bed]) -> Result<()> {
    beds.iter().try_for_each(|bed| case.prepare(bed))
}

/// Runs one row's rounds: A B floor A B floor.
fn run_case(
    case: Case,
    beds: &[Bed],
    floor: Option<&Floor>,
    options: &Options,
    journal: &mut Journal,
) -> Result<Row> {
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); beds.len()];
    let possible = beds.iter().map(|bed| case.is_possible(bed)).collect::<Result<Vec<_>>>()?;
    let mut at_least = FloorSamples::default();
    for round in 0..options.rounds {
        for ((bed, samples), _) in
            beds.iter().zip(&mut samples).zip(&possible).filter(|(_, possible)| **possible)
        {
            let sample = load::run(case, bed, options.duration)?;
            journal.sample(case, bed.name(), round, &sample)?;
            samples.push(sample);
        }
        let Some((floor, pattern)) = floor.zip(case.floor()) else { continue };
        let sample = floor.run(pattern, options.duration)?;
        journal.sample(case, "floor", round, &sample)?;
        at_least.bare.push(sample);
        if pattern.way == Way::Read && case.protection == Protection::Plain {
            let sample = floor.run(Pattern { way: Way::Sendfile, ..pattern }, options.duration)?;
            journal.sample(case, "floor by sendfile", round, &sample)?;
            at_least.sendfile.push(sample);
        }
        at_least.cipher.push(floor::cipher_time(case.protection, pattern.block)?);
    }
    let servers: Vec<_> = beds.iter().map(Bed::name).collect();
    Ok(Row::new(case, &servers, &samples, &at_least))
}

fn is_wanted(filter: &[String], name: &str) -> bool {
    filter.is_empty() || filter.iter().any(|part| name.contains(part.as_str()))
}
