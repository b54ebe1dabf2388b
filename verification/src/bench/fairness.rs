//! What small requests wait for when another client moves as much as it can, all on one processor of the server.
//!
//! The server has one processor, the clients have the others; among them the stream comes last, so that it is the server that
//! small requests wait for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use super::bed::Bed;
use super::load::{Count, Load};
use super::sample::{Link, Sample};
use super::stats::{Spread, ratio};
use super::workload::{Case, Workload};
use crate::client::Protection;
use crate::peer::PeerKind;

/// Connections with one small read under way each.
const READERS: usize = 4;
/// Priority of the stream's client: the last.
const NICE: i32 = 19;

/// What streams beside the small reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// 1 MiB reads, eight under way.
    Reads,
    /// 1 MiB writes, eight under way.
    Writes,
}

impl Stream {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Reads, Self::Writes];

    /// The row's name.
    pub(super) fn row(self) -> &'static str {
        match self {
            Self::Reads => "fairness/reads",
            Self::Writes => "fairness/writes",
        }
    }

    fn workload(self) -> Workload {
        match self {
            Self::Reads => Workload::SequentialRead,
            Self::Writes => Workload::SequentialWrite,
        }
    }
}

/// How small reads of one server fared beside a stream.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Fairness {
    /// The row.
    pub(super) row: &'static str,
    /// Which.
    pub(super) server: &'static str,
    /// Half of the reads took no longer, in microseconds, alone and beside the stream.
    pub(super) p50: [Option<Spread>; 2],
    /// 99 of 100 took no longer.
    pub(super) p99: [Option<Spread>; 2],
    /// Small reads a second.
    pub(super) rate: [Option<Spread>; 2],
    /// MiB of the stream a second.
    pub(super) stream: Option<Spread>,
    /// How many times as long the slow reads took beside the stream.
    pub(super) growth: Option<f64>,
}

/// Samples of one server.
#[derive(Debug, Default)]
struct Samples {
    alone: Vec<Sample>,
    beside: Vec<Sample>,
    stream: Vec<f64>,
}

/// Runs these rows, on servers of their own that have one processor each.
pub(super) fn run(
    peers: &[PeerKind],
    streams: &[Stream],
    rounds: u32,
    duration: Duration,
) -> Result<Vec<Fairness>> {
    let processors = sched_getaffinity(None)?;
    let server = (0..CpuSet::MAX_CPU).find(|number| processors.is_set(*number));
    let server = server.context("a processor")?;
    let mut others = processors;
    others.unset(server);
    ensure!(others.count() > 0, "fairness needs two processors: one for the server, one for its clients");
    let beds = peers.iter().map(|kind| Bed::start_on(*kind, server)).collect::<Result<Vec<_>>>()?;
    let small = case(Workload::RandomRead, READERS);
    for bed in &beds {
        small.prepare(bed)?;
        case(Workload::SequentialRead, 1).prepare(bed)?;
    }
    sched_setaffinity(None, &others)?;
    let measured =
        streams.iter().map(|stream| run_row(&beds, *stream, rounds, duration)).collect::<Result<Vec<_>>>();
    sched_setaffinity(None, &processors)?;
    for bed in beds {
        bed.stop()?;
    }
    Ok(measured?.concat())
}

fn run_row(beds: &[Bed], stream: Stream, rounds: u32, duration: Duration) -> Result<Vec<Fairness>> {
    eprintln!("{}", stream.row());
    let mut samples: Vec<Samples> = beds.iter().map(|_| Samples::default()).collect();
    for _ in 0..rounds {
        for (bed, samples) in beds.iter().zip(&mut samples) {
            let context = || format!("{} against {}\n{}", stream.row(), bed.name(), bed.log_tail());
            samples.alone.push(measure(bed, None, duration).with_context(context)?.0);
            let (beside, streamed) = measure(bed, Some(stream), duration).with_context(context)?;
            samples.stream.push(streamed.mebibytes() / beside.elapsed.as_secs_f64());
            samples.beside.push(beside);
        }
    }
    Ok(beds.iter().zip(&samples).map(|(bed, samples)| samples.fairness(stream, bed.name())).collect())
}

/// The small reads, and what the stream moved meanwhile.
fn measure(bed: &Bed, stream: Option<Stream>, duration: Duration) -> Result<(Sample, Count)> {
    let link = Link::of(bed.connect(Protection::Plain)?.0.negotiated());
    let workers = READERS + usize::from(stream.is_some());
    let load = Load { workers, duration, accounting: &bed.accounting };
    let streamed = Mutex::new(Count::default());
    let small = Case { depth: 1, ..case(Workload::RandomRead, READERS) };
    let sample = load.measure(link, |worker, gate| match stream {
        Some(stream) if worker == READERS => {
            setpriority_process(None, NICE)?;
            let count = case(stream.workload(), 1).work(bed, 0, gate)?;
            *streamed.lock().unwrap_or_else(PoisonError::into_inner) = count;
            Ok(Count::default())
        }
        _ => small.work(bed, worker, gate),
    })?;
    Ok((sample, streamed.into_inner().unwrap_or_default()))
}

fn case(workload: Workload, connections: usize) -> Case {
    Case { workload, protection: Protection::Plain, connections, depth: workload.depth() }
}

impl Samples {
    fn fairness(&self, stream: Stream, server: &'static str) -> Fairness {
        let both = |figure: &dyn Fn(&Sample) -> Option<f64>| {
            [&self.alone, &self.beside].map(|samples| Spread::of(samples.iter().filter_map(figure)))
        };
        let latencies = |sample: &Sample| sample.latencies.clone().percentiles();
        let p99 = both(&|sample| Some(latencies(sample)?.p99));
        Fairness {
            row: stream.row(),
            server,
            p50: both(&|sample| Some(latencies(sample)?.p50)),
            growth: ratio(p99[1], p99[0]),
            p99,
            rate: both(&|sample| Some(sample.rate(false))),
            stream: Spread::of(self.stream.iter().copied()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::latency::Latencies;
    use super::*;

    #[test]
    fn growth_is_of_the_medians_of_the_slow_reads() {
        let sample = |micros: u64| {
            let mut latencies = Latencies::default();
            latencies.add(Duration::from_micros(micros));
            Sample {
                elapsed: Duration::from_secs(1),
                operations: 1,
                bytes: 4096,
                server: Duration::ZERO,
                client: Duration::ZERO,
                latencies,
                link: Link { dialect: "3.1.1".into(), signer: "AesGmac".into(), cipher: None },
            }
        };
        let samples = Samples {
            alone: vec![sample(100), sample(50), sample(900)],
            beside: vec![sample(150), sample(3000), sample(90)],
            stream: vec![1.0, 3.0, 2.0],
        };
        let fairness = samples.fairness(Stream::Reads, "a");
        assert_eq!(fairness.growth, Some(1.5));
        assert_eq!(fairness.p50, fairness.p99);
        assert_eq!(fairness.stream.unwrap().median, 2.0);
    }
}
