//! The committed expectations: `ledger/smb2.tsv` has one line for each test, `ledger/reasons.tsv` the reasons that
//! lines share. A stale line fails a run as much as a wrong one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::{Outcome, Results};
use crate::workspace;

const EXPECTATIONS: &str = "smb2.tsv";
const REASONS: &str = "reasons.tsv";
const NO_REASON: &str = "-";
const UNEXPLAINED: &str = "UNEXPLAINED";

/// What is expected of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// How it ends.
    pub expected: Outcome,
    /// Key of the reason; `-` for a pass.
    pub reason: String,
}

impl Entry {
    /// Whether the test is not to be run.
    pub fn is_not_run(&self) -> bool {
        self.expected == Outcome::NotRun
    }
}

/// Every expectation and every reason.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// By test name.
    pub entries: BTreeMap<String, Entry>,
    /// Text by key.
    pub reasons: BTreeMap<String, String>,
}

impl Ledger {
    /// Reads the committed ledger.
    pub fn load() -> Result<Ledger> {
        Ledger::parse(&read(EXPECTATIONS)?, &read(REASONS)?)
    }

    fn parse(expectations: &str, reasons: &str) -> Result<Ledger> {
        let mut ledger = Ledger::default();
        for [test, expected, reason] in rows(expectations, EXPECTATIONS)? {
            let entry = Entry { expected: expected.parse()?, reason: reason.to_owned() };
            ensure!(
                ledger.entries.insert(test.to_owned(), entry).is_none(),
                "{EXPECTATIONS}: {test} is listed twice"
            );
        }
        for [key, text] in rows(reasons, REASONS)? {
            let known = ledger.reasons.insert(key.to_owned(), text.to_owned());
            ensure!(known.is_none(), "{REASONS}: {key} is listed twice");
        }
        Ok(ledger)
    }

    /// Everything wrong with the ledger itself, given the tests that exist.
    pub fn problems(&self, listed: &[String]) -> Vec<String> {
        let mut problems = self.unreasoned();
        let listed: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
        for test in self.entries.keys().filter(|test| !listed.contains(test.as_str())) {
            problems.push(format!("ledger: {test} no longer exists"));
        }
        for test in listed.iter().filter(|test| !self.entries.contains_key(**test)) {
            problems.push(format!("ledger: {test} has no entry"));
        }
        problems
    }

    /// Entries whose reason is missing, unknown or superfluous, and reasons that nothing uses.
    fn unreasoned(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (test, entry) in &self.entries {
            let passes = entry.expected == Outcome::Pass;
            if passes && entry.reason != NO_REASON {
                problems.push(format!("ledger: {test} passes and needs no reason"));
            }
            if !passes && !self.reasons.contains_key(&entry.reason) {
                problems.push(format!(
                    "ledger: {test} is {} for the unknown reason {}",
                    entry.expected, entry.reason
                ));
            }
        }
        let used: BTreeSet<&str> = self.entries.values().map(|entry| entry.reason.as_str()).collect();
        for key in self.reasons.keys() {
            if !used.contains(key.as_str()) {
                problems.push(format!("ledger: no test uses the reason {key}"));
            }
            if key == UNEXPLAINED || key == NO_REASON {
                problems.push(format!("ledger: {key} is no reason"));
            }
        }
        problems
    }

    /// The ledger with these results as expectations. A test that still doesn't pass keeps its reason; one that newly
    /// doesn't gets a reason that [`Ledger::problems`] refuses. Selected entries without a result are dropped.
    #[must_use]
    pub fn updated(&self, results: &Results, selects: impl Fn(&str) -> bool) -> Ledger {
        let mut entries = self.entries.clone();
        entries.retain(|test, _| !selects(test) || results.contains_key(test));
        for (test, &expected) in results {
            let kept = self
                .entries
                .get(test)
                .map(|entry| entry.reason.as_str())
                .filter(|reason| *reason != NO_REASON);
            let reason = if expected == Outcome::Pass { NO_REASON } else { kept.unwrap_or(UNEXPLAINED) };
            entries.insert(test.clone(), Entry { expected, reason: reason.to_owned() });
        }
        Ledger { entries, reasons: self.reasons.clone() }
    }

    /// Writes the expectations; reasons are written by hand.
    pub fn save(&self) -> Result<()> {
        let file = path(EXPECTATIONS);
        std::fs::write(&file, self.emit()).with_context(|| file.display().to_string())
    }

    fn emit(&self) -> String {
        let mut text = String::from("test\texpected\treason\n");
        for (test, entry) in &self.entries {
            text.push_str(&format!("{test}\t{}\t{}\n", entry.expected, entry.reason));
        }
        text
    }
}

/// Reads a table of tests and results from the ledger's directory.
pub(super) fn load_results(name: &str) -> Result<Results> {
    let text = read(name)?;
    rows(&text, name)?.into_iter().map(|[test, result]| Ok((test.to_owned(), result.parse()?))).collect()
}

/// The fields of each line after the heading.
fn rows<'t, const N: usize>(text: &'t str, name: &str) -> Result<Vec<[&'t str; N]>> {
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let row: [&str; N] = fields.try_into().map_err(|fields: Vec<&str>| {
            anyhow::anyhow!("{name}:{}: {} fields, not {N}", index + 1, fields.len())
        })?;
        ensure!(row.iter().all(|field| !field.is_empty()), "{name}:{}: an empty field", index + 1);
        rows.push(row);
    }
    Ok(rows)
}

fn read(name: &str) -> Result<String> {
    let file = path(name);
    std::fs::read_to_string(&file).with_context(|| file.display().to_string())
}

fn path(name: &str) -> PathBuf {
    workspace::package_dir().join("ledger").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str =
        "test\texpected\treason\nsmb2.a\tpass\t-\nsmb2.b\tfail\tlocks\nsmb2.c\tnot-run\tmanual\n";
    const TEXTS: &str = "key\ttext\nlocks\tno locks yet\nmanual\tholds forever\n";

    fn names(tests: &[&str]) -> Vec<String> {
        tests.iter().map(|test| (*test).to_owned()).collect()
    }

    #[test]
    fn the_committed_ledger_gives_a_reason_for_everything_that_does_not_pass() {
        let ledger = Ledger::load().unwrap();
        assert!(ledger.entries.len() > 500);
        assert_eq!(ledger.unreasoned(), [""; 0]);
        assert_eq!(load_results("samba-4.17.tsv").unwrap().len(), 567);
    }

    #[test]
    fn text_round_trips() {
        let ledger = Ledger::parse(EXAMPLE, TEXTS).unwrap();
        assert_eq!(ledger.emit(), EXAMPLE);
        assert_eq!(ledger.problems(&names(&["smb2.a", "smb2.b", "smb2.c"])), [""; 0]);
    }

    #[test]
    fn stale_missing_and_unexplained_entries_are_problems() {
        let ledger = Ledger::parse(EXAMPLE, TEXTS).unwrap();
        assert_eq!(
            ledger.problems(&names(&["smb2.a", "smb2.b", "smb2.d"])),
            ["ledger: smb2.c no longer exists", "ledger: smb2.d has no entry"]
        );
        let results =
            Results::from([("smb2.a".to_owned(), Outcome::Fail), ("smb2.b".to_owned(), Outcome::Pass)]);
        let updated = ledger.updated(&results, |test| test != "smb2.c");
        assert_eq!(updated.entries["smb2.a"].reason, UNEXPLAINED);
        assert_eq!(updated.entries["smb2.b"].reason, NO_REASON);
        assert_eq!(updated.entries["smb2.c"], ledger.entries["smb2.c"]);
        assert_eq!(
            updated.unreasoned(),
            [
                "ledger: smb2.a is fail for the unknown reason UNEXPLAINED",
                "ledger: no test uses the reason locks"
            ]
        );
    }

    #[test]
    fn malformed_tables_are_refused() {
        for text in [
            "h\nsmb2.a\tpass\n",
            "h\nsmb2.a\tmaybe\t-\n",
            "h\nsmb2.a\tpass\t-\nsmb2.a\tpass\t-\n",
            "h\n\tpass\t-\n",
        ] {
            assert!(Ledger::parse(text, TEXTS).is_err(), "{text}");
        }
    }
}
