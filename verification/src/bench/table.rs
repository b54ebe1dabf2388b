//! The table: one line for each row, in Markdown.

use std::fmt::Write;

use serde::Serialize;

use super::bed::Bed;
use super::memory::Idle;
use super::sample::Sample;
use super::stats::{Spread, digits, ratio};
use super::workload::Case;

/// A row's figures.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    /// Tells rows from other lines of JSON.
    kind: &'static str,
    name: String,
    rate_unit: &'static str,
    cost_unit: &'static str,
    /// Of each server, in their order.
    results: Vec<Figures>,
    /// The first server's median rate divided by the second's: above 1 it is faster.
    rate_ratio: Option<f64>,
    /// The first server's median cost divided by the second's: below 1 it is cheaper.
    cost_ratio: Option<f64>,
}

/// One server's figures.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    /// Dialect, and signer or cipher if requests are protected.
    link: String,
    rate: Option<Spread>,
    cost: Option<Spread>,
}

impl Row {
    /// From the samples of each server.
    pub(super) fn new(case: Case, samples: Vec<Vec<Sample>>) -> Self {
        let bytes = case.workload.counts_bytes();
        let results: Vec<Figures> = samples
            .iter()
            .map(|samples| Figures {
                link: samples.last().map(|last| last.link.describe(case.protection)).unwrap_or_default(),
                rate: Spread::of(samples.iter().map(|sample| sample.rate(bytes))),
                cost: Spread::of(samples.iter().map(|sample| sample.cost(bytes))),
            })
            .collect();
        let (rate_ratio, cost_ratio) = match results.as_slice() {
            [one, other, ..] => (ratio(one.rate, other.rate), ratio(one.cost, other.cost)),
            _ => (None, None),
        };
        Self {
            kind: "row",
            name: case.name(),
            rate_unit: case.workload.rate_unit(),
            cost_unit: case.workload.cost_unit(),
            results,
            rate_ratio,
            cost_ratio,
        }
    }

    fn link(&self) -> String {
        let mut links: Vec<&str> = self.results.iter().map(|result| result.link.as_str()).collect();
        links.dedup();
        links.join(" / ")
    }
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
}

impl Table {
    /// An empty one for these servers.
    pub(super) fn new(beds: &[Bed]) -> Self {
        let mut methods: Vec<_> = beds.iter().map(|bed| bed.accounting.method()).collect();
        methods.dedup();
        Self { servers: beds.iter().map(Bed::name).collect(), methods, rows: Vec::new(), memory: Vec::new() }
    }

    /// The table and what its columns mean.
    pub(super) fn markdown(&self) -> String {
        let mut out = String::new();
        if !self.rows.is_empty() {
            self.put_rows(&mut out);
        }
        if !self.memory.is_empty() {
            self.put_memory(&mut out);
        }
        out
    }

    fn put_rows(&self, out: &mut String) {
        let mut head = vec!["row".to_owned(), "link".to_owned()];
        head.extend(self.servers.iter().map(|server| (*server).to_owned()));
        let compared = self.servers.len() > 1;
        let ratio_head = self.servers.iter().take(2).copied().collect::<Vec<_>>().join("/");
        if compared {
            head.push(ratio_head.clone());
        }
        head.extend(self.servers.iter().map(|server| format!("CPU {server}")));
        if compared {
            head.push(format!("CPU {ratio_head}"));
        }
        put_line(out, &head);
        put_line(out, &vec!["---".to_owned(); head.len()]);
        for row in &self.rows {
            let mut line = vec![row.name.clone(), row.link()];
            line.extend(row.results.iter().map(|result| shown(result.rate, row.rate_unit)));
            if compared {
                line.push(shown_ratio(row.rate_ratio));
            }
            line.extend(row.results.iter().map(|result| shown(result.cost, row.cost_unit)));
            if compared {
                line.push(shown_ratio(row.cost_ratio));
            }
            put_line(out, &line);
        }
        let _ = writeln!(
            out,
            "\nMedians (smallest–largest). CPU: processor seconds of the server for each GiB, or for each 100 000 \
             operations, files, entries or sessions, counted by {}.",
            self.methods.join(" and ")
        );
    }

    fn put_memory(&self, out: &mut String) {
        let _ = writeln!(out, "\n| idle connections | server | KiB each | MiB in all | processes |");
        let _ = writeln!(out, "|---|---|---|---|---|");
        for (server, idle) in self.servers.iter().zip(&self.memory) {
            let line = [
                idle.connections.to_string(),
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
        seconds
            .map(|seconds| Sample {
                elapsed: Duration::from_secs(seconds),
                operations: 1000,
                bytes: 1 << 30,
                server: Duration::from_secs(1),
                client: Duration::ZERO,
                link: link.clone(),
            })
            .to_vec()
    }

    #[test]
    fn a_row_shows_medians_ranges_ratios_and_links() {
        let case = Case::all()[2];
        assert_eq!(case.name(), "sequential-read-1m/encrypted");
        let row = Row::new(case, vec![samples([1, 2, 4], "Aes128Gcm"), samples([4, 4, 8], "Aes128Ccm")]);
        let table = Table {
            servers: vec!["leasehold", "smbd"],
            methods: vec!["cgroup v2"],
            rows: vec![row],
            memory: vec![Idle { connections: 4, before: 0, with: 4 << 20, processes: 1 }],
        };
        let text = table.markdown();
        let line = text.lines().nth(2).unwrap();
        let expected = "| sequential-read-1m/encrypted | 3.1.1, Aes128Gcm / 3.1.1, Aes128Ccm | 512 (256–1 024) MiB/s \
                        | 256 (128–256) MiB/s | 2.00 | 1.00 (1.00–1.00) s/GiB | 1.00 (1.00–1.00) s/GiB | 1.00 |";
        assert_eq!(line, expected);
        assert!(text.contains("| 4 | leasehold | 1 024 | 4.00 | 1 |"));
        let columns = |line: &str| line.matches('|').count();
        assert!(text.lines().take(3).all(|line| columns(line) == 9));
    }
}
