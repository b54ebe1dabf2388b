//! Clients that others wrote, and our own where others have none, against one running server. Each check is counted by itself.

mod bulk;
mod channels;
mod embed;
mod python;
mod rust_clients;
mod smbclient;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;

use crate::install;
use crate::peer::{Peer, PeerKind, Site};
use crate::report::Totals;

/// Sets of checks that run at once; each works in directories of its own.
const WORKERS: usize = 4;

/// One check: its name and what it does.
struct Check<'a> {
    name: String,
    run: Box<dyn Fn() -> Result<()> + Send + Sync + 'a>,
}

/// Runs the checks whose name contains one of the texts, or all of them.
pub fn run(kind: PeerKind, filter: &[String]) -> Result<Totals> {
    install::ensure(&[install::SMBCLIENT, install::PYTHON])?;
    let python = install::python_environment()?;
    let rust_clients = rust_clients::build()?;
    // Names have to come back as they were sent, also those that end with a dot.
    let mut site = Site::new(1)?;
    site.short_names = false;
    let peer = Peer::start(kind, site)?;
    let configuration = peer.site().write_client_configuration()?;

    let mut checks = smbclient::checks(peer.site(), &configuration);
    checks.extend(channels::checks(peer.site()));
    checks.extend(python::checks(kind, peer.site(), &python));
    checks.extend(rust_clients::checks(peer.site(), &rust_clients));
    checks.push(embed::check());
    let mut totals = run_side_by_side(&selected(checks, filter));
    // Alone, because they measure the clients' patience with large transfers and not with a busy machine.
    for check in selected(bulk::checks(peer.site(), &configuration), filter) {
        totals.record(&check.name, (check.run)());
    }
    if totals.passed + totals.failed.len() == 0 {
        anyhow::bail!("no check's name contains {}", filter.join(" or "));
    }
    if !totals.failed.is_empty() {
        println!("{}", peer.log_tail());
    }
    totals.record("the server ran through and ends when asked", peer.stop());
    Ok(totals)
}

fn selected<'a>(checks: Vec<Check<'a>>, filter: &[String]) -> Vec<Check<'a>> {
    let wanted = |name: &str| filter.is_empty() || filter.iter().any(|text| name.contains(text.as_str()));
    checks.into_iter().filter(|check| wanted(&check.name)).collect()
}

fn run_side_by_side(checks: &[Check<'_>]) -> Totals {
    let next = AtomicUsize::new(0);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(check) = checks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = (check.run)();
                    totals
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .record(&check.name, result);
                }
            });
        }
    });
    totals.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_runs_once() {
        let count = AtomicUsize::new(0);
        let checks: Vec<Check<'_>> = (0..50)
            .map(|number| {
                let count = &count;
                let run = move || {
                    count.fetch_add(1, Ordering::Relaxed);
                    anyhow::ensure!(number != 7, "seven");
                    Ok(())
                };
                Check { name: format!("check {number}"), run: Box::new(run) }
            })
            .collect();
        let totals = run_side_by_side(&checks);
        assert_eq!(count.load(Ordering::Relaxed), 50);
        assert_eq!((totals.passed, totals.failed), (49, vec!["check 7: seven".to_owned()]));
    }
}
