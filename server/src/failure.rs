//! What went wrong, in words for the operator.

use std::fmt::{self, Display};
use std::path::Path;

/// A sentence that says what failed and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure(String);

pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says about what an error is.
pub(crate) trait About<T> {
    fn about(self, what: impl Display) -> Outcome<T>;
    fn about_path(self, path: &Path) -> Outcome<T>;
}

impl<T, E: Display> About<T> for Result<T, E> {
    fn about(self, what: impl Display) -> Outcome<T> {
        self.map_err(|error| Failure(format!("{what}: {error}")))
    }

    fn about_path(self, path: &Path) -> Outcome<T> {
        self.about(path.display())
    }
}
