//! The table: one line for each row, in Markdown.

use std::fmt::Write;

use serde::Serialize;

use super::bed::Bed;
use super::fairness::Fairness;
use super::latency::{Latencies, Percentiles};
use super::memory::Idle;
use super::sample::{GIB, Sample};
use super::stats::{Spread, digits, ratio};
use super::workload::Case;

/// A row's figures.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    /// Tells rows from other lines of JSON.
    kind: &'static str,
    name: String,
    connections: usize,
    rate_unit: &'static str,
    cost_unit: &'static str,
    /// Of each server, in their order.
    results: Vec<Figures>,
    floor: Option<FloorFigures>,
    /// The first server's median rate divided by that of each of the others: above 1 it is faster.
    rate_ratios: Vec<Option<f64>>,
    /// The first server's median cost divided by that of each of the others: below 1 it is cheaper.
    cost_ratios: Vec<Option<f64>>,
    /// Each server's median cost divided by the floor's.
    floor_ratios: Vec<Option<f64>>,
}

/// One server's figures.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    server: &'static str,
    /// Dialect, and signer or cipher if requests are protected.
    link: String,
    rate: Option<Spread>,
    cost: Option<Spread>,
    latency: Option<Percentiles>,
}

/// What the same bytes cost at least.
#[derive(Debug, Clone, Serialize)]
struct FloorFigures {
    /// Moved through memory.
    bare: Option<Spread>,
    /// Moved within the kernel, which only plain reads could be.
    sendfile: Option<Spread>,
    /// Protecting them.
    cipher: Option<Spread>,
    /// Moved through memory and protected.
    sum: Option<Spread>,
}

/// Samples of the floor, one of each kind a round.
#[derive(Debug, Clone, Default)]
pub(super) struct FloorSamples {
    /// Through memory.
    pub(super) bare: Vec<Sample>,
    /// Within the kernel.
    pub(super) sendfile: Vec<Sample>,
    /// Processor seconds of protecting a block.
    pub(super) cipher: Vec<f64>,
}

impl FloorFigures {
    fn of(case: Case, samples: &FloorSamples) -> Option<Self> {
        let pattern = case.floor()?;
        let bytes = case.workload.counts_bytes();
        let blocks = if bytes { GIB / f64::from(pattern.block) } else { 100_000.0 };
        let costs = |samples: &[Sample]| samples.iter().map(|sample| sample.cost(bytes)).collect::<Vec<_>>();
        let bare = costs(&samples.bare);
        let cipher: Vec<f64> = samples.cipher.iter().map(|seconds| seconds * blocks).collect();
        let sum = bare.iter().zip(&cipher).map(|(bare, cipher)| bare + cipher);
        Some(Self {
            sum: Spread::of(sum),
            sendfile: Spread::of(costs(&samples.sendfile)),
            bare: Spread::of(bare),
            cipher: Spread::of(cipher),
        })
    }
}

impl Row {
    /// From the samples of each server, and of the floor where there is one.
    pub(super) fn new(
        case: Case,
        servers: &[&'static str],
        samples: &[Vec<Sample>],
        floor: &FloorSamples,
    ) -> Self {
        let bytes = case.workload.counts_bytes();
        let results: Vec<Figures> = servers
            .iter()
            .zip(samples)
            .map(|(server, samples)| Figures {
                server,
                link: samples.last().map(|last| last.link.describe(case.protection)).unwrap_or_default(),
                rate: Spread::of(samples.iter().map(|sample| sample.rate(bytes))),
                cost: Spread::of(samples.iter().map(|sample| sample.cost(bytes))),
                latency: percentiles(samples),
            })
            .collect();
        let floor = FloorFigures::of(case, floor);
        let sum = floor.as_ref().and_then(|floor| floor.sum);
        let to_first = |figure: fn(&Figures) -> Option<Spread>| -> Vec<Option<f64>> {
            let first = results.first().and_then(figure);
            results.iter().skip(1).map(|other| ratio(first, figure(other))).collect()
        };
        Self {
            kind: "row",
            name: case.name(),
            connections: case.connections,
            rate_unit: case.workload.rate_unit(),
            cost_unit: case.workload.cost_unit(),
            rate_ratios: to_first(|figures| figures.rate),
            cost_ratios: to_first(|figures| figures.cost),
            floor_ratios: results.iter().map(|figures| ratio(figures.cost, sum)).collect(),
            results,
            floor,
        }
    }

    fn link(&self) -> String {
        let mut links: Vec<&str> = self.results.iter().map(|result| result.link.as_str()).collect();
        // A server that can't do it has none.
        links.retain(|link| !link.is_empty());
        links.dedup();
        links.join(" / ")
    }
}

/// Of all rounds together.
fn percentiles(samples: &[Sample]) -> Option<Percentiles> {
    let mut all = Latencies::default();
    samples.iter().for_each(|sample| all.extend(&sample.latencies));
    all.percentiles()
}

/// Everything that was measured.
#[derive(Debug)]
pub(super) struct Table {
    servers: Vec<&'static str>,
    methods: Vec<&'static str>,
    /// The rows.
    pub(super) rows: Vec<Row>,
    /// Memory of each server, if measured.
    pub(super) memory: Vec<Idle>,
    /// Small reads beside a stream, if measured.
    pub(super) fairness: Vec<Fairness>,
}

impl Table {
    /// An empty one for these servers.
    pub(super) fn new(beds: &[Bed]) -> Self {
        let mut methods: Vec<_> = beds.iter().map(|bed| bed.accounting.method()).collect();
        methods.dedup();
        Self {
            servers: beds.iter().map(Bed::name).collect(),
            methods,
            rows: Vec::new(),
            memory: Vec::new(),
            fairness: Vec::new(),
        }
    }

    /// The tables and what their columns mean.
    pub(super) fn markdown(&self) -> String {
        let mut out = String::new();
        if !self.rows.is_empty() {
            self.put_rates(&mut out);
            self.put_costs(&mut out);
            if self.rows.iter().any(|row| row.floor.is_some()) {
                self.put_floors(&mut out);
            }
            self.put_latencies(&mut out);
        }
        if !self.fairness.is_empty() {
            self.put_fairness(&mut out);
        }
        if !self.memory.is_empty() {
            self.put_memory(&mut out);
        }
        out
    }

    fn put_rates(&self, out: &mut String) {
        let mut head = vec!["rate".to_owned(), "link".to_owned()];
        head.extend(self.servers.iter().map(|server| (*server).to_owned()));
        head.extend(self.comparisons());
        put_head(out, &head);
        for row in &self.rows {
            let mut line = vec![row.name.clone(), row.link()];
            line.extend(row.results.iter().map(|result| shown(result.rate, row.rate_unit)));
            line.extend(row.rate_ratios.iter().map(|ratio| shown_ratio(*ratio)));
            put_line(out, &line);
        }
        let _ = writeln!(out, "\nMedians (smallest–largest).\n");
    }

    fn put_costs(&self, out: &mut String) {
        let mut head = vec!["processor time".to_owned()];
        head.extend(self.servers.iter().map(|server| (*server).to_owned()));
        head.extend(self.comparisons());
        put_head(out, &head);
        for row in &self.rows {
            let mut line = vec![row.name.clone()];
            line.extend(row.results.iter().map(|result| shown(result.cost, row.cost_unit)));
            line.extend(row.cost_ratios.iter().map(|ratio| shown_ratio(*ratio)));
            put_line(out, &line);
        }
        let _ = writeln!(
            out,
            "\nProcessor seconds of the server for each GiB, or for each 100 000 operations, files, entries or sessions, \
             counted by {}.\n",
            self.methods.join(" and ")
        );
    }

    fn put_floors(&self, out: &mut String) {
        let head = ["processor time at least", "through memory", "by sendfile", "cipher", "sum"];
        let mut head: Vec<String> = head.map(str::to_owned).into();
        head.extend(self.servers.iter().map(|server| format!("{server}/sum")));
        put_head(out, &head);
        for (row, floor) in self.rows.iter().filter_map(|row| Some((row, row.floor.as_ref()?))) {
            let mut line = vec![row.name.clone()];
            let figures = [floor.bare, floor.sendfile, floor.cipher, floor.sum];
            line.extend(figures.map(|figure| shown(figure, row.cost_unit)));
            line.extend(row.floor_ratios.iter().map(|ratio| shown_ratio(*ratio)));
            put_line(out, &line);
        }
        let _ = writeln!(
            out,
            "\nWhat a program needs that only moves the same bytes over TCP, one request after the other, and what the cipher \
             needs (AES-128-GMAC, AES-128-GCM).\n"
        );
    }

    fn put_latencies(&self, out: &mut String) {
        let mut head = vec!["latency".to_owned()];
        head.extend(self.servers.iter().map(|server| format!("{server} p50, p99, p99.9")));
        put_head(out, &head);
        for row in &self.rows {
            let mut line = vec![row.name.clone()];
            line.extend(row.results.iter().map(|result| {
                result
                    .latency
                    .map_or_else(|| "–".to_owned(), |of| [of.p50, of.p99, of.p99_9].map(digits).join(", "))
            }));
            put_line(out, &line);
        }
        let _ = writeln!(out, "\nMicroseconds from the first request of an operation to its last answer.");
    }

    fn comparisons(&self) -> impl Iterator<Item = String> {
        let first = self.servers.first().copied().unwrap_or_default();
        self.servers.iter().skip(1).map(move |other| format!("{first}/{other}"))
    }

    fn put_fairness(&self, out: &mut String) {
        let head = ["small reads on one processor", "alone p50, p99", "beside the stream p50, p99"];
        let mut head: Vec<String> = head.map(str::to_owned).into();
        head.extend(["p99 beside/alone", "reads/s alone", "beside", "stream"].map(str::to_owned));
        out.push('\n');
        put_head(out, &head);
        for row in &self.fairness {
            let both = |at: usize| format!("{}, {}", shown(row.p50[at], "µs"), shown(row.p99[at], "µs"));
            let line = [
                format!("{}: {}", row.row, row.server),
                both(0),
                both(1),
                shown_ratio(row.growth),
                shown(row.rate[0], "/s"),
                shown(row.rate[1], "/s"),
                shown(row.stream, "MiB/s"),
            ];
            put_line(out, &line);
        }
        let _ = writeln!(
            out,
            "\n4 KiB reads on four connections, one under way on each, alone and beside a client that reads or writes 1 MiB at a \
             time with eight under way. The server has one processor, its clients the others, the stream's client with the \
             lowest priority. Medians (smallest–largest)."
        );
    }

    fn put_memory(&self, out: &mut String) {
        let _ = writeln!(out, "\n| idle connections | server | KiB each | MiB in all | processes |");
        let _ = writeln!(out, "|---|---|---|---|---|");
        for (server, idle) in self.servers.iter().zip(&self.memory) {
            let line = [
                match &idle.given_up {
                    Some(reason) => format!("{} of {}: {reason}", idle.connections, idle.wanted),
                    None => idle.connections.to_string(),
                },
                (*server).to_owned(),
                digits(idle.per_connection() / 1024.0),
                digits(idle.with as f64 / f64::from(1 << 20)),
                idle.processes.to_string(),
            ];
            put_line(out, &line);
        }
        let _ = writeln!(
            out,
            "\nEach connection has a session and a tree connect. Memory is proportional (PSS): a page that several \
             processes share counts once."
        );
    }
}

fn put_head(out: &mut String, cells: &[String]) {
    put_line(out, cells);
    put_line(out, &vec!["---".to_owned(); cells.len()]);
}

fn put_line(out: &mut String, cells: &[String]) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

fn shown(spread: Option<Spread>, unit: &str) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |spread| format!("{} ({}–{}) {unit}", digits(spread.median), digits(spread.min), digits(spread.max)),
    )
}

fn shown_ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::sample::Link;
    use super::*;

    fn samples(seconds: [u64; 3], cipher: &str) -> Vec<Sample> {
        let link =
            Link { dialect: "3.1.1".into(), signer: "AesGmac".into(), cipher: Some(cipher.to_owned()) };
        let mut latencies = Latencies::default();
        latencies.add(Duration::from_micros(20));
        seconds
            .map(|seconds| Sample {
                elapsed: Duration::from_secs(seconds),
                operations: 1000,
                bytes: 1 << 30,
                server: Duration::from_secs(1),
                client: Duration::ZERO,
                latencies: latencies.clone(),
                link: link.clone(),
            })
            .to_vec()
    }

    #[test]
    fn a_row_shows_medians_ranges_ratios_and_links() {
        let case = Case::all(None)[2];
        assert_eq!(case.name(), "sequential-read-1m/encrypted");
        let floor = FloorSamples {
            bare: samples([1, 1, 1], "none"),
            sendfile: Vec::new(),
            cipher: vec![0.25 / 1024.0; 3],
        };
        let measured = vec![samples([1, 2, 4], "Aes128Gcm"), samples([4, 4, 8], "Aes128Ccm")];
        let table = Table {
            servers: vec!["leasehold", "smbd"],
            methods: vec!["cgroup v2"],
            rows: vec![Row::new(case, &["leasehold", "smbd"], &measured, &floor)],
            memory: vec![
                Idle { connections: 4, wanted: 4, given_up: None, before: 0, with: 4 << 20, processes: 1 },
                Idle {
                    connections: 2,
                    wanted: 4,
                    given_up: Some("no more".into()),
                    before: 0,
                    with: 4 << 20,
                    processes: 3,
                },
            ],
            fairness: Vec::new(),
        };
        let text = table.markdown();
        let line_after = |head: &str| {
            let start = text.find(head).unwrap();
            let lines: Vec<&str> = text[start..].lines().take(3).collect();
            let columns = |line: &str| line.matches('|').count();
            assert!(lines.iter().all(|line| columns(line) == columns(lines[0])), "{lines:?}");
            lines[2]
        };
        assert_eq!(
            line_after("| rate | link | leasehold | smbd | leasehold/smbd |"),
            "| sequential-read-1m/encrypted | 3.1.1, Aes128Gcm / 3.1.1, Aes128Ccm | 512 (256–1 024) MiB/s \
             | 256 (128–256) MiB/s | 2.00 |"
        );
        assert_eq!(
            line_after("| processor time |"),
            "| sequential-read-1m/encrypted | 1.00 (1.00–1.00) s/GiB | 1.00 (1.00–1.00) s/GiB | 1.00 |"
        );
        assert_eq!(
            line_after("| processor time at least |"),
            "| sequential-read-1m/encrypted | 1.00 (1.00–1.00) s/GiB | – | 0.250 (0.250–0.250) s/GiB \
             | 1.25 (1.25–1.25) s/GiB | 0.80 | 0.80 |"
        );
        assert_eq!(
            line_after("| latency |"),
            "| sequential-read-1m/encrypted | 20.0, 20.0, 20.0 | 20.0, 20.0, 20.0 |"
        );
        assert!(text.contains("| 4 | leasehold | 1 024 | 4.00 | 1 |"));
        assert!(text.contains("| 2 of 4: no more | smbd | 2 048 | 4.00 | 3 |"));
    }
}
