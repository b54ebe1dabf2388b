//! FLUSH (MS-SMB2 2.2.17, 2.2.18).

use binrw::binrw;
use bytes::Bytes;

use super::{BODY_OFFSET, FileId, emit_bare, parse_bare};
use crate::error::Malformed;
use crate::wire;

/// A request to bring everything written to stable storage, or to wait until a pipe's reader has read everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Request {
    /// The open.
    pub file_id: FileId,
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    #[br(assert(structure_size == 24))]
    structure_size: u16,
    reserved1: u16,
    reserved2: u32,
    file_id: FileId,
}

impl Request {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: RequestFixed = wire::fixed(message, BODY_OFFSET, "FLUSH request")?;
        Ok(Self { file_id: fixed.file_id })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(
            out,
            &RequestFixed { structure_size: 24, reserved1: 0, reserved2: 0, file_id: self.file_id },
        );
    }
}

/// The answer: everything is where it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Response;

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        parse_bare(message, "FLUSH response").map(|()| Self)
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
        let request = Request { file_id: FileId { persistent: 5, volatile: 6 } };
        round_trip(&request, Request::emit, Request::parse);
        round_trip(&Response, Response::emit, Response::parse);
    }

    #[test]
    fn short_requests_are_refused() {
        let bytes = message(|out| Request::default().emit(out));
        assert_eq!(bytes.len(), 88);
        assert!(Request::parse(&bytes.slice(..87)).is_err());
        assert!(Response::parse(&bytes).is_err());
    }
}
