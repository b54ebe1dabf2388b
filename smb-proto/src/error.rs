//! What the codec says of bytes that are not what they claim to be.

use std::fmt;

/// The bytes break a rule of the format. Carries which one, for logs; what it means on the wire is decided above
/// (usually `STATUS_INVALID_PARAMETER`, or the end of the connection).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed: {}", self.0)
    }
}

impl std::error::Error for Malformed {}
