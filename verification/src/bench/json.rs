//! Samples and rows as lines of JSON, for programs.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use super::bed::Bed;
use super::memory::Idle;
use super::sample::Sample;
use super::table::Row;
use super::workload::Case;

/// A file of lines, or nowhere.
#[derive(Debug)]
pub(super) struct Journal(Option<File>);

impl Journal {
    /// Makes the file, if there is to be one.
    pub(super) fn create(path: Option<&Path>) -> Result<Self> {
        let file = path.map(|path| File::create(path).with_context(|| path.display().to_string()));
        Ok(Self(file.transpose()?))
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
            "depth": case.workload.depth(),
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

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        let mut line = serde_json::to_string(value)?;
        line.push('\n');
        Ok(file.write_all(line.as_bytes())?)
    }
}
