//! Checks the models: `models list`, `models check NAME [--deep] [--fault FAULT]`, `models fault NAME`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use models::MODELS;
use models::harness::run::{Bound, Entry, Report, silence_panics};

/// Explores what the machines of Leasehold can do.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the models' names, one a line.
    List,
    /// Explore a model, or `all`; fails if a property does not hold.
    Check {
        /// The model.
        name: String,
        /// Go far: minutes and more.
        #[arg(long)]
        deep: bool,
        /// Seed this fault; then fails unless it is caught.
        #[arg(long)]
        fault: Option<String>,
    },
    /// Explore a model, or `all`, once with each of its seeded faults; fails unless each is caught.
    Fault {
        /// The model.
        name: String,
    },
}

fn main() -> ExitCode {
    silence_panics();
    let passed = match Arguments::parse().command {
        What::List => {
            MODELS.iter().for_each(|model| println!("{}", model.name));
            true
        }
        What::Check { name, deep, fault: None } => {
            named(&name).map(|model| check(model, deep)).fold(true, |all, passed| all & passed)
        }
        What::Check { name, deep, fault: Some(fault) } => {
            let mut passed = true;
            let mut known = false;
            for model in named(&name) {
                for seeded in model.faults.iter().filter(|other| other.name() == fault) {
                    known = true;
                    passed &= catch(model, Bound { deep, fault: Some(*seeded) });
                }
            }
            if !known {
                eprintln!("{name} has no fault {fault}");
            }
            passed && known
        }
        What::Fault { name } => {
            let mut passed = true;
            for model in named(&name) {
                for fault in model.faults {
                    passed &= catch(model, Bound { deep: false, fault: Some(*fault) });
                }
            }
            passed
        }
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn named(name: &str) -> std::vec::IntoIter<&'static Entry> {
    let found: Vec<_> = MODELS.iter().filter(|model| name == "all" || model.name == name).collect();
    if found.is_empty() {
        eprintln!("no model is called {name}; see `models list`");
        std::process::exit(2);
    }
    found.into_iter()
}

fn check(model: &Entry, deep: bool) -> bool {
    println!("{}: {}", model.name, model.about);
    let start = std::time::Instant::now();
    let report = (model.explore)(Bound { deep, fault: None });
    println!(
        "  {} states, {} of them different, depth {}, {:.1} s",
        report.states,
        report.unique,
        report.depth,
        start.elapsed().as_secs_f64()
    );
    report.cases.iter().for_each(|case| println!("  case {case}"));
    for ((kind, name), cases) in &report.properties {
        let broken = report.counterexamples.iter().any(|(_, other, _)| other == name);
        let verdict = match *kind {
            "sometimes" if report.seen.contains(name) => "seen",
            "sometimes" => "NEVER SEEN",
            _ if broken => "BROKEN",
            _ => "holds",
        };
        println!("  {kind:9} {name}: {verdict} ({cases} cases)");
    }
    print_counterexamples(&report);
    report.holds()
}

fn catch(model: &Entry, bound: Bound) -> bool {
    let fault = bound.fault.map_or("", |fault| fault.name());
    let report = (model.explore)(bound);
    if report.counterexamples.is_empty() {
        println!("{}: {fault} is NOT CAUGHT ({} states)", model.name, report.states);
        return false;
    }
    println!("{}: {fault} is caught", model.name);
    print_counterexamples(&report);
    true
}

fn print_counterexamples(report: &Report) {
    for (case, property, trace) in &report.counterexamples {
        println!("  {property} does not hold in `{case}`:\n{trace}");
    }
}
