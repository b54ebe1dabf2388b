//! Samples and rows as lines of JSON, for programs.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use super::bed::Bed;
use super::fairness::Fairness;
use super::memory::Idle;
use super::sample::Sample;
use super::scaling::{Footprint, GivenUp, Point};
use super::table::Row;
use super::workload::Case;

/// Lines, and the file that they go to, if there is one.
#[derive(Debug)]
pub(super) struct Journal {
    file: Option<File>,
    lines: Vec<Value>,
}

impl Journal {
    /// Makes the file, if there is to be one.
    pub(super) fn create(path: Option<&Path>) -> Result<Self> {
        let file = path.map(|path| File::create(path).with_context(|| path.display().to_string()));
        Ok(Self { file: file.transpose()?, lines: Vec::new() })
    }

    /// One sample.
    pub(super) fn sample(&mut self, case: Case, server: &str, round: u32, sample: &Sample) -> Result<()> {
        let bytes = case.workload.counts_bytes();
        self.line(&json!({
            "kind": "sample",
            "row": case.name(),
            "server": server,
            "round": round,
            "connections": case.connections,
            "depth": case.depth,
            "elapsed_s": sample.elapsed.as_secs_f64(),
            "operations": sample.operations,
            "bytes": sample.bytes,
            "server_cpu_s": sample.server.as_secs_f64(),
            "client_cpu_s": sample.client.as_secs_f64(),
            "rate": sample.rate(bytes),
            "cost": sample.cost(bytes),
            "link": sample.link,
        }))
    }

    /// One row, with its units and ratios.
    pub(super) fn row(&mut self, row: &Row) -> Result<()> {
        self.line(row)
    }

    /// Memory of idle connections.
    pub(super) fn memory(&mut self, bed: &Bed, idle: &Idle) -> Result<()> {
        self.line(&json!({
            "kind": "memory",
            "server": bed.name(),
            "idle": idle,
            "bytes_per_connection": idle.per_connection(),
        }))
    }

    /// How small requests fared beside a stream.
    pub(super) fn fairness(&mut self, fairness: &Fairness) -> Result<()> {
        self.tagged("fairness", fairness)
    }

    /// An operation at one size.
    pub(super) fn point(&mut self, point: &Point) -> Result<()> {
        self.tagged("point", point)
    }

    /// Memory at one size.
    pub(super) fn footprint(&mut self, footprint: &Footprint) -> Result<()> {
        self.tagged("footprint", footprint)
    }

    /// A server that could not go on.
    pub(super) fn given_up(&mut self, given_up: &GivenUp) -> Result<()> {
        self.tagged("given-up", given_up)
    }

    /// What was told so far.
    pub(super) fn lines(&self) -> &[Value] {
        &self.lines
    }

    /// An object with what kind of a line it is.
    fn tagged(&mut self, kind: &str, value: &impl Serialize) -> Result<()> {
        let mut value = serde_json::to_value(value)?;
        value["kind"] = kind.into();
        self.line(&value)
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value)?;
        if let Some(file) = &mut self.file {
            let mut line = value.to_string();
            line.push('\n');
            file.write_all(line.as_bytes())?;
        }
        self.lines.push(value);
        Ok(())
    }
}
