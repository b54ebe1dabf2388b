//! Points, and the tables that they make.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::super::latency::Percentiles;
use super::super::stats::{Spread, digits};
use super::Axis;

/// What an operation cost one server at one size.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in super::super) struct Point {
    pub(in super::super) axis: Axis,
    pub(in super::super) size: u32,
    pub(in super::super) server: String,
    pub(in super::super) operation: String,
    /// Processor time of the server, in microseconds for each operation.
    pub(in super::super) cost_us: Option<Spread>,
    /// Operations in a second.
    pub(in super::super) rate: Option<Spread>,
    pub(in super::super) latency: Option<Percentiles>,
}

/// Memory of one server at one size, after the operations.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in super::super) struct Footprint {
    pub(in super::super) axis: Axis,
    pub(in super::super) size: u32,
    pub(in super::super) server: String,
    /// In all.
    pub(in super::super) bytes: u64,
    /// At size zero.
    pub(in super::super) before: u64,
}

impl Footprint {
    /// Bytes for each connection, file or open.
    fn each(&self) -> f64 {
        self.bytes.saturating_sub(self.before) as f64 / f64::from(self.size)
    }
}

/// A server that could not be brought to a size, or failed at it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in super::super) struct GivenUp {
    pub(in super::super) axis: Axis,
    pub(in super::super) size: u32,
    pub(in super::super) server: String,
    pub(in super::super) reason: String,
}

impl GivenUp {
    pub(super) fn sentence(&self) -> String {
        let Self { axis, size, server, reason } = self;
        format!("{server} was given up at {} {}: {reason}", whole(*size), axis.name())
    }
}

impl Axis {
    /// What grows.
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Files => "files in the directory",
            Self::Opens => "opens",
        }
    }
}

/// Everything about one axis.
pub(super) struct Report {
    axis: Axis,
    pub(super) points: Vec<Point>,
    pub(super) footprints: Vec<Footprint>,
    pub(super) given_up: Vec<GivenUp>,
    /// Sizes at which this process could not hold what it had to for all servers at once.
    pub(super) apart: Vec<u32>,
}

impl Report {
    /// An empty one.
    pub(super) fn new(axis: Axis) -> Self {
        Self { axis, points: Vec::new(), footprints: Vec::new(), given_up: Vec::new(), apart: Vec::new() }
    }

    /// A table each for cost, latency and memory: a line for each operation and server, a column for each size.
    pub(super) fn markdown(&self) -> String {
        let mut out = String::new();
        let sizes: BTreeSet<u32> = self.points.iter().map(|point| point.size).collect();
        let name = self.axis.name();
        let cost = |point: &Point| {
            point
                .cost_us
                .map(|cost| format!("{} ({}–{})", digits(cost.median), digits(cost.min), digits(cost.max)))
        };
        self.put_points(&mut out, &format!("µs of processor time, by {name}"), &sizes, cost);
        let latency = |point: &Point| {
            point.latency.map(|latency| format!("{}, {}", digits(latency.p50), digits(latency.p99)))
        };
        let _ = writeln!(out, "\nOf the server, for each operation: medians (smallest–largest).\n");
        self.put_points(&mut out, &format!("latency p50, p99 in µs, by {name}"), &sizes, latency);
        let _ = writeln!(out, "\n{}\n", self.how());
        put_head(&mut out, &format!("MiB of memory (KiB each), by {name}"), &sizes);
        let mut servers: Vec<&str> = Vec::new();
        for footprint in &self.footprints {
            if !servers.contains(&footprint.server.as_str()) {
                servers.push(&footprint.server);
            }
        }
        for server in servers {
            let cells = sizes.iter().map(|size| {
                let found = self.footprints.iter().find(|it| it.size == *size && it.server == server)?;
                let mib = found.bytes as f64 / f64::from(1 << 20);
                Some(format!("{} ({})", digits(mib), digits(found.each() / 1024.0)))
            });
            put_line(&mut out, server, cells);
        }
        let _ =
            writeln!(out, "\nProportional (PSS), after the operations; each: above what it was at none.\n");
        for size in &self.apart {
            let _ = writeln!(
                out,
                "- {} {name}: one server after the other, not in turns; the limit of open files allows no more.",
                whole(*size)
            );
        }
        for given_up in &self.given_up {
            let _ = writeln!(out, "- {}", given_up.sentence());
        }
        out.push('\n');
        out
    }

    fn put_points(
        &self,
        out: &mut String,
        title: &str,
        sizes: &BTreeSet<u32>,
        cell: impl Fn(&Point) -> Option<String>,
    ) {
        put_head(out, title, sizes);
        let mut lines: Vec<(&str, &str)> = Vec::new();
        for point in &self.points {
            let line = (point.operation.as_str(), point.server.as_str());
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        // Operations stay together, also those that a server first did at a later size.
        lines
            .sort_by_key(|(operation, _)| self.points.iter().position(|point| point.operation == *operation));
        for (operation, server) in lines {
            let of = |size: &u32| {
                self.points.iter().find(|point| {
                    point.size == *size && point.operation == operation && point.server == server
                })
            };
            put_line(out, &format!("{operation}: {server}"), sizes.iter().map(|size| cell(of(size)?)));
        }
    }

    fn how(&self) -> &'static str {
        match self.axis {
            Axis::Connections => {
                "Ten operations are under way in all; from ten connections on, one each on ten of them, and the connections take \
                 turns."
            }
            Axis::Files => {
                "One client, one operation after the other, on a thousand names spread over the directory. A listing's latency is \
                 that of the whole listing; after 3 s it is cut short."
            }
            Axis::Opens => {
                "Ten connections that have the same files open, a tenth of the opens each; one operation under way on each \
                 connection."
            }
        }
    }
}

/// A number in full.
fn whole(size: u32) -> String {
    if size < 100 { size.to_string() } else { digits(f64::from(size)) }
}

fn put_head(out: &mut String, title: &str, sizes: &BTreeSet<u32>) {
    put_line(out, title, sizes.iter().map(|size| Some(whole(*size))));
    put_line(out, "---", sizes.iter().map(|_| Some("---".to_owned())));
}

fn put_line(out: &mut String, name: &str, cells: impl Iterator<Item = Option<String>>) {
    let cells: Vec<_> = cells.map(|cell| cell.unwrap_or_else(|| "–".to_owned())).collect();
    let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(size: u32, server: &str, operation: &str, cost: f64) -> Point {
        Point {
            axis: Axis::Opens,
            size,
            server: server.into(),
            operation: operation.into(),
            cost_us: Some(Spread { median: cost, min: cost / 2.0, max: cost * 2.0 }),
            rate: None,
            latency: Some(Percentiles { p50: 10.0, p99: 20.0, p99_9: 30.0 }),
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_operation_and_server_and_says_what_is_missing() {
        let mut report = Report::new(Axis::Opens);
        report.points = vec![
            point(10, "a", "read", 4.0),
            point(10, "b", "read", 8.0),
            point(10, "a", "open", 5.0),
            point(10_000, "a", "read", 6.0),
        ];
        report.footprints.push(Footprint {
            axis: Axis::Opens,
            size: 10,
            server: "a".into(),
            bytes: 3 << 20,
            before: 2 << 20,
        });
        report.given_up.push(GivenUp {
            axis: Axis::Opens,
            size: 10_000,
            server: "b".into(),
            reason: "7 of 10000 opens in the time that there was".into(),
        });
        report.apart.push(10_000);
        let text = report.markdown();
        assert!(text.contains("- 10 000 opens: one server after the other"));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "| µs of processor time, by opens | 10 | 10 000 |");
        assert_eq!(lines[2], "| read: a | 4.00 (2.00–8.00) | 6.00 (3.00–12.0) |");
        assert_eq!(lines[3], "| read: b | 8.00 (4.00–16.0) | – |");
        assert_eq!(lines[4], "| open: a | 5.00 (2.50–10.0) | – |");
        assert!(lines.contains(&"| read: a | 10.0, 20.0 | 10.0, 20.0 |"));
        assert!(lines.contains(&"| a | 3.00 (102) | – |"));
        assert!(text.contains("- b was given up at 10 000 opens: 7 of 10000"));
    }
}
