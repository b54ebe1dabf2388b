//! TREE_DISCONNECT (MS-SMB2 2.2.11, 2.2.12).

use bytes::Bytes;

use super::{emit_bare, parse_bare};
use crate::error::Malformed;

/// A request to end the header's tree connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Request;

impl Request {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        parse_bare(message, "TREE_DISCONNECT request").map(|()| Self)
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        emit_bare(out);
    }
}

/// The answer: the tree connect is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Response;

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        parse_bare(message, "TREE_DISCONNECT response").map(|()| Self)
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        emit_bare(out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, round_trip};
    use super::*;

    #[test]
    fn round_trips() {
        round_trip(&Request, Request::emit, Request::parse);
        round_trip(&Response, Response::emit, Response::parse);
    }

    #[test]
    fn another_size_is_refused() {
        let foreign = message(|out| out.extend_from_slice(&[5, 0, 0, 0]));
        assert!(Request::parse(&foreign).is_err());
        assert!(Response::parse(&foreign).is_err());
    }
}
