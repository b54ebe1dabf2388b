//! What a run adds up to.

use anyhow::Result;

/// Passed checks by number, failed ones by name.
#[derive(Debug, Default)]
pub struct Totals {
    /// How many checks passed.
    pub passed: usize,
    /// Each failed check: its name, then what was seen.
    pub failed: Vec<String>,
}

impl Totals {
    /// Counts one check and prints its line.
    pub fn record(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                println!("ok      {name}");
                self.passed += 1;
            }
            Err(error) => {
                println!("FAILED  {name}: {error:#}");
                self.failed.push(format!("{name}: {error:#}"));
            }
        }
    }

    /// Counts one check that has printed a line of its own; prints one if it failed.
    pub fn record_quietly(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            failed => self.record(name, failed),
        }
    }

    /// Adds what another part of the run counted.
    pub fn add(&mut self, other: Totals) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
    }

    /// Runs one stage under a heading and adds its totals; a stage that can't run at all is one failure.
    pub fn stage(&mut self, name: &str, stage: impl FnOnce() -> Result<Totals>) {
        println!("\n== {name}");
        match stage() {
            Ok(totals) => self.add(totals),
            Err(error) => {
                println!("FAILED  {name}: {error:#}");
                self.failed.push(format!("{name}: {error:#}"));
            }
        }
    }

    /// Prints the failures, then `N passed, N failed` alone on the last line.
    pub fn print(&self) {
        if !self.failed.is_empty() {
            println!("\nFailures:");
            for failure in &self.failed {
                println!("  {failure}");
            }
        }
        println!("\n{} passed, {} failed", self.passed, self.failed.len());
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_stage_that_cannot_run_is_a_failure() {
        let mut totals = Totals::default();
        totals.stage("first", || bail!("no such program"));
        totals.stage("second", || Ok(Totals { passed: 3, failed: vec!["x: y".into()] }));
        assert_eq!(totals.passed, 3);
        assert_eq!(totals.failed, ["first: no such program", "x: y"]);
    }
}
