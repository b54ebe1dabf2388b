//! The charts that the lines of a journal make.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::scaling::{Axis, Footprint, Point};
use super::stats::Spread;
use super::svg::{Bars, Curves, Panel};

/// What a row's line has that charts need.
#[derive(Debug, Deserialize)]
struct Row {
    name: String,
    results: Vec<Figures>,
}

#[derive(Debug, Deserialize)]
struct Figures {
    server: String,
    cost: Option<Spread>,
}

/// Draws what journals of earlier runs tell.
///
/// # Errors
/// They can't be read, have nothing to draw, or the directory can't be written to.
pub fn draw_journals(directory: &Path, journals: &[PathBuf]) -> Result<()> {
    let mut lines = Vec::new();
    for path in journals {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        for line in text.lines() {
            lines.push(serde_json::from_str(line).with_context(|| path.display().to_string())?);
        }
    }
    draw(directory, &lines)
}

/// Draws what these lines tell.
pub(super) fn draw(directory: &Path, lines: &[Value]) -> Result<()> {
    let charts = charts(lines)?;
    ensure!(!charts.is_empty(), "there is nothing to draw");
    fs::create_dir_all(directory)?;
    for (name, text) in charts {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        eprintln!("{}", path.display());
    }
    Ok(())
}

/// File names and contents.
fn charts(lines: &[Value]) -> Result<Vec<(String, String)>> {
    let mut charts = Vec::new();
    let rows: Vec<Row> = of_kind(lines, "row")?;
    let servers = rows.first().map_or(&[][..], |row| &row.results);
    let (ours, others): (Vec<_>, Vec<_>) = servers
        .iter()
        .map(|figures| figures.server.clone())
        .partition(|server| server.starts_with("leasehold"));
    for other in others {
        let bars = bars(&rows, &ours, &other);
        if !bars.groups.is_empty() {
            charts.push((format!("ratios-{other}.svg"), bars.svg()));
        }
    }
    let points: Vec<Point> = of_kind(lines, "point")?;
    let footprints: Vec<Footprint> = of_kind(lines, "footprint")?;
    for axis in [Axis::Connections, Axis::Files, Axis::Opens] {
        let points: Vec<_> = points.iter().filter(|point| point.axis == axis).collect();
        let footprints: Vec<_> = footprints.iter().filter(|footprint| footprint.axis == axis).collect();
        if !points.is_empty() {
            let name = format!("scaling-{axis:?}.svg").to_lowercase();
            charts.push((name, curves(axis, &points, &footprints).svg()));
        }
    }
    Ok(charts)
}

fn of_kind<T: DeserializeOwned>(lines: &[Value], kind: &str) -> Result<Vec<T>> {
    let wanted = lines.iter().filter(|line| line["kind"] == kind);
    wanted
        .map(|line| T::deserialize(line).with_context(|| format!("a line of the journal: {line}")))
        .collect()
}

/// How many times as much work a processor second of ours does.
fn bars(rows: &[Row], ours: &[String], other: &str) -> Bars {
    let cost = |row: &Row, server: &str| {
        row.results.iter().find(|figures| figures.server == server)?.cost.map(|cost| cost.median)
    };
    let ratio = |row: &Row, server: &String| Some(cost(row, other)? / cost(row, server)?);
    let groups = rows
        .iter()
        .map(|row| {
            (row.name.clone(), ours.iter().map(|server| usable(ratio(row, server))).collect::<Vec<_>>())
        })
        .filter(|(_, ratios)| ratios.iter().any(Option::is_some))
        .collect();
    Bars { title: format!("Work for each processor second, {other} = 1"), series: ours.to_vec(), groups }
}

/// A logarithm needs something above zero.
fn usable(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite() && *value > 0.0)
}

fn curves(axis: Axis, points: &[&Point], footprints: &[&Footprint]) -> Curves {
    let series = distinct(points.iter().map(|point| point.server.as_str()));
    let operations = distinct(points.iter().map(|point| point.operation.as_str()));
    let panel = |title: String, value: &dyn Fn(&Point) -> Option<f64>, operation: &str| {
        let line = |server: &String| {
            points
                .iter()
                .filter(|point| point.operation == operation && point.server == *server)
                .filter_map(|point| Some((f64::from(point.size), usable(value(point))?)))
                .collect()
        };
        Panel { title, across: axis.name().to_owned(), lines: series.iter().map(line).collect() }
    };
    let mut panels = Vec::new();
    for operation in &operations {
        let cost = |point: &Point| point.cost_us.map(|cost| cost.median);
        panels.push(panel(format!("{operation}: CPU, µs"), &cost, operation));
    }
    for operation in operations.iter().filter(|operation| !operation.starts_with("listing")) {
        let p99 = |point: &Point| point.latency.map(|latency| latency.p99);
        panels.push(panel(format!("{operation}: p99, µs"), &p99, operation));
    }
    let memory = |server: &String| {
        footprints
            .iter()
            .filter(|footprint| footprint.server == *server)
            .map(|footprint| (f64::from(footprint.size), footprint.bytes as f64 / f64::from(1 << 20)))
            .filter(|(_, mebibytes)| *mebibytes > 0.0)
            .collect()
    };
    panels.push(Panel {
        title: "memory, MiB".into(),
        across: axis.name().to_owned(),
        lines: series.iter().map(memory).collect(),
    });
    let title = format!("What an operation costs, by {}", axis.name());
    Curves { title, series, panels }
}

/// In the order of their first appearance.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in names {
        if !found.iter().any(|known| known == name) {
            found.push(name.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines() -> Vec<Value> {
        let spread = |median: f64| json!({"median": median, "min": median, "max": median});
        let row = |name: &str, costs: [Value; 3]| {
            let servers = ["leasehold", "leasehold-glommio", "smbd"];
            let results: Vec<_> = servers
                .iter()
                .zip(costs)
                .map(|(server, cost)| json!({"server": server, "cost": cost}))
                .collect();
            json!({"kind": "row", "name": name, "results": results})
        };
        let point = |size: u32, server: &str, cost: f64| {
            json!({"kind": "point", "axis": "files", "size": size, "server": server, "operation": "open",
                   "cost_us": spread(cost), "rate": null,
                   "latency": {"p50": cost, "p99": cost, "p99_9": cost}})
        };
        vec![
            json!({"kind": "sample", "row": "x"}),
            row("read", [spread(1.0), spread(2.0), spread(4.0)]),
            row("break", [spread(1.0), Value::Null, Value::Null]),
            point(10, "leasehold", 20.0),
            point(1000, "leasehold", 30.0),
            point(10, "smbd", 40.0),
            json!({"kind": "footprint", "axis": "files", "size": 10, "server": "smbd", "bytes": 5 << 20, "before": 0}),
        ]
    }

    #[test]
    fn lines_become_bars_and_curves() {
        let charts = charts(&lines()).unwrap();
        let names: Vec<_> = charts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["ratios-smbd.svg", "scaling-files.svg"]);
        // The row that nobody can be compared in is left out.
        assert_eq!(charts[0].1.matches("<rect").count(), 2);
        assert!(charts[0].1.contains(">4.0<") && charts[0].1.contains(">2.0<"));
        // Cost, p99 and memory.
        assert_eq!(charts[1].1.matches("<circle").count(), 3 + 3 + 1);
        assert_eq!(charts, super::charts(&lines()).unwrap());
    }

    #[test]
    fn a_line_that_lacks_something_is_an_error() {
        assert!(charts(&[json!({"kind": "point", "axis": "files"})]).is_err());
        assert!(charts(&[]).unwrap().is_empty());
    }
}
