//! Runs a model: each of its cases by breadth-first search, until everything is seen or something is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write as _};
use std::hash::Hash;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use super::fault::Fault;

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bound {
    /// Far, for minutes or more; if not, for seconds.
    pub deep: bool,
    /// With a seeded fault.
    pub fault: Option<Fault>,
}

/// A model by name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What it says about itself.
    pub about: &'static str,
    /// The faults that it must catch.
    pub faults: &'static [Fault],
    /// Explores it.
    pub explore: fn(Bound) -> Report,
}

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// States generated.
    pub states: usize,
    /// States that differ.
    pub unique: usize,
    /// Longest of the shortest ways to a state.
    pub depth: usize,
    /// Each case with its size.
    pub cases: Vec<String>,
    /// Properties, and in how many cases they were checked.
    pub properties: BTreeMap<(&'static str, &'static str), usize>,
    /// Properties of the kind `sometimes` that were seen.
    pub seen: BTreeSet<&'static str>,
    /// Rules that were broken: the case, the property, and how it came to that.
    pub counterexamples: Vec<(String, &'static str, String)>,
}

impl Report {
    /// What should be possible and was never seen.
    #[must_use]
    pub fn never_seen(&self) -> Vec<&'static str> {
        let wanted = self.properties.keys().filter(|(kind, _)| *kind == "sometimes").map(|(_, name)| *name);
        wanted.filter(|name| !self.seen.contains(name)).collect()
    }

    /// Whether every property holds and none of them is vacuous.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.counterexamples.is_empty() && self.never_seen().is_empty()
    }

    /// Explores the cases of a bound. With a seeded fault the first case that catches it is enough.
    pub fn of_cases<M>(bound: Bound, cases: impl IntoIterator<Item = (&'static str, M)>) -> Self
    where
        M: Model + Send + Sync + 'static,
        M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
        M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
    {
        let mut report = Self::default();
        for (case, model) in cases {
            report.explore(case, model);
            if bound.fault.is_some() && !report.counterexamples.is_empty() {
                break;
            }
        }
        report
    }

    /// Explores one case and adds what it shows.
    pub fn explore<M>(&mut self, case: &str, model: M)
    where
        M: Model + Send + Sync + 'static,
        M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
        M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
    {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let checker = model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
        let start = std::time::Instant::now();
        let checker = checker.spawn_bfs().join();
        self.cases.push(format!(
            "{case}: {} states, {:.1} s",
            checker.unique_state_count(),
            start.elapsed().as_secs_f64()
        ));
        self.states += checker.state_count();
        self.unique += checker.unique_state_count();
        self.depth = self.depth.max(checker.max_depth());
        for property in checker.model().properties() {
            let kind = match property.expectation {
                Expectation::Always => "always",
                Expectation::Eventually => "eventually",
                Expectation::Sometimes => "sometimes",
            };
            *self.properties.entry((kind, property.name)).or_default() += 1;
            let Some(path) = checker.discovery(property.name) else { continue };
            if property.expectation == Expectation::Sometimes {
                self.seen.insert(property.name);
                continue;
            }
            let mut trace = String::new();
            for (number, action) in path.clone().into_actions().iter().enumerate() {
                let _ = writeln!(trace, "{:4}  {}", number + 1, checker.model().format_action(action));
            }
            let _ = writeln!(trace, "      {}", end_of(&format!("{:?}", path.last_state())));
            self.counterexamples.push((case.to_string(), property.name, trace));
        }
    }
}

/// What the last state says is broken.
fn end_of(state: &str) -> &str {
    let start = state.find("broken: Some(").unwrap_or(0);
    let end = state[start..].find("grain: ").map_or(state.len(), |end| start + end);
    &state[start..end]
}

/// Keeps the machines' panics, which the models turn into counterexamples, from the terminal.
pub fn silence_panics() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map_or("", |location| location.file());
        if !place.contains("smb-state") {
            previous(info);
        }
    }));
}
