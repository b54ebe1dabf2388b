//! What a run prints: totals for each suite beside Samba's, and where the two servers differ.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Ledger, Options, Outcome, Results};

/// Everything a report is made of.
pub(super) struct Run<'a> {
    pub(super) options: &'a Options,
    pub(super) results: &'a Results,
    pub(super) ledger: &'a Ledger,
    pub(super) samba: &'a Results,
    pub(super) elapsed: Duration,
}

/// How many tests passed.
pub(super) fn passes(results: &Results) -> usize {
    results.values().filter(|outcome| **outcome == Outcome::Pass).count()
}

/// Prints the table and the differences.
pub(super) fn print(run: &Run<'_>) {
    print_suites(run);
    let samba_passes = |test: &str| run.samba.get(test) == Some(&Outcome::Pass);
    let passes_here = |test: &str| run.results.get(test) == Some(&Outcome::Pass);
    let behind: Vec<&String> =
        run.results.keys().filter(|test| samba_passes(test) && !passes_here(test)).collect();
    let ahead: Vec<&String> =
        run.results.keys().filter(|test| !samba_passes(test) && passes_here(test)).collect();
    println!("\nPasses of Samba that this run doesn't have: {}", behind.len());
    for (reason, tests) in by_reason(run, &behind) {
        println!("  {reason} ({}): {}", tests.len(), tests.join(", "));
    }
    println!("Passes of this run that Samba doesn't have: {}", ahead.len());
    for test in ahead {
        println!("  {test}");
    }
}

fn print_suites(run: &Run<'_>) {
    let mut suites: BTreeMap<&str, ([usize; Outcome::ALL.len()], usize)> = BTreeMap::new();
    for (test, outcome) in run.results {
        let samba = usize::from(run.samba.get(test) == Some(&Outcome::Pass));
        for suite in [suite_of(test), "total"] {
            let (counts, samba_passes) = suites.entry(suite).or_default();
            counts[*outcome as usize] += 1;
            *samba_passes += samba;
        }
    }
    let total = suites.remove("total").unwrap_or_default();
    print!("\n{:<24}{:>7}", "suite", "tests");
    for outcome in Outcome::ALL {
        print!("{outcome:>9}");
    }
    println!("{:>12}", "Samba pass");
    for (suite, (counts, samba)) in suites.into_iter().chain([("total", total)]) {
        print!("{suite:<24}{:>7}", counts.iter().sum::<usize>());
        for count in counts {
            print!("{count:>9}");
        }
        println!("{samba:>12}");
    }
    println!("in {:.0} s with {} workers", run.elapsed.as_secs_f32(), run.options.workers);
}

fn by_reason<'r>(run: &'r Run<'_>, tests: &[&'r String]) -> BTreeMap<&'r str, Vec<&'r str>> {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for test in tests {
        let entry = run.ledger.entries.get(*test).filter(|_| run.options.peer.is_ours());
        let reason = entry.map_or("-", |entry| entry.reason.as_str());
        reasons.entry(reason).or_default().push(test.strip_prefix("smb2.").unwrap_or(test));
    }
    reasons
}

/// `smb2.lock.async` and `smb2.lock` belong to the suite `lock`.
fn suite_of(test: &str) -> &str {
    test.split('.').nth(1).unwrap_or(test)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_the_second_part_of_a_name() {
        assert_eq!(suite_of("smb2.multichannel.leases.test1"), "multichannel");
        assert_eq!(suite_of("smb2.connect"), "connect");
        assert_eq!(Outcome::ALL[Outcome::NotRun as usize], Outcome::NotRun);
    }
}
