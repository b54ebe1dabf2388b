//! What is measured, and how.

use std::time::{Duration, Instant};

/// Callgrind counts from this function's entry to its end; found by its name, so it must stay a function.
#[inline(never)]
pub(crate) fn measured(work: &mut dyn FnMut()) {
    work();
}

/// The part of the server that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The endpoint reads a frame.
    Receive,
    /// The shard steps.
    Step,
    /// The endpoint writes a frame.
    Send,
    /// Nothing.
    Nothing,
}

/// Measures one part and lets the others pass.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) part: Part,
    /// Time spent in it, when time is what is measured.
    pub(crate) elapsed: Option<Duration>,
}

impl Meter {
    pub(crate) fn run<T>(&mut self, part: Part, work: impl FnOnce() -> T) -> T {
        if part != self.part {
            return work();
        }
        if let Some(elapsed) = &mut self.elapsed {
            let begun = Instant::now();
            let result = work();
            *elapsed += begun.elapsed();
            return result;
        }
        let (mut work, mut result) = (Some(work), None);
        measured(&mut || result = work.take().map(|work| work()));
        result.expect("measured calls what it is given")
    }
}
