//! CHANGE_NOTIFY (MS-SMB2 2.2.35, 2.2.36).

use binrw::binrw;
use bytes::Bytes;

use super::query_info::{emit_output_fixed, parse_output};
use super::{BODY_OFFSET, FileId};
use crate::error::Malformed;
use crate::flags::flags;
use crate::wire;

flags! {
    /// How to watch.
    pub struct ChangeNotifyFlags(u16);
    /// Everything below the directory, not only what is in it.
    WATCH_TREE = 0x0001;
}

flags! {
    /// What to watch for. The names are the specification's without `FILE_NOTIFY_CHANGE_`.
    pub struct CompletionFilter(u32);
    /// Files created, deleted, renamed.
    FILE_NAME = 0x0000_0001;
    /// Directories created, deleted, renamed.
    DIR_NAME = 0x0000_0002;
    /// Attributes.
    ATTRIBUTES = 0x0000_0004;
    /// Sizes.
    SIZE = 0x0000_0008;
    /// Times of last write.
    LAST_WRITE = 0x0000_0010;
    /// Times of last access.
    LAST_ACCESS = 0x0000_0020;
    /// Times of creation.
    CREATION = 0x0000_0040;
    /// Extended attributes.
    EA = 0x0000_0080;
    /// Security descriptors.
    SECURITY = 0x0000_0100;
    /// Streams created, deleted, renamed.
    STREAM_NAME = 0x0000_0200;
    /// Sizes of streams.
    STREAM_SIZE = 0x0000_0400;
    /// Streams written.
    STREAM_WRITE = 0x0000_0800;
    /// Everything that 2.2.35 defines.
    VALID_MASK = 0x0000_0FFF;
}

/// A request to be told of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// How to watch.
    pub flags: ChangeNotifyFlags,
    /// Most bytes to return.
    pub output_buffer_length: u32,
    /// The open directory.
    pub file_id: FileId,
    /// What to watch for.
    pub completion_filter: CompletionFilter,
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    #[br(assert(structure_size == 32))]
    structure_size: u16,
    flags: ChangeNotifyFlags,
    output_buffer_length: u32,
    file_id: FileId,
    completion_filter: CompletionFilter,
    reserved: u32,
}

impl Request {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: RequestFixed = wire::fixed(message, BODY_OFFSET, "CHANGE_NOTIFY request")?;
        Ok(Self {
            flags: fixed.flags,
            output_buffer_length: fixed.output_buffer_length,
            file_id: fixed.file_id,
            completion_filter: fixed.completion_filter,
        })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(
            out,
            &RequestFixed {
                structure_size: 32,
                flags: self.flags,
                output_buffer_length: self.output_buffer_length,
                file_id: self.file_id,
                completion_filter: self.completion_filter,
                reserved: 0,
            },
        );
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Response {
    /// A list of FILE_NOTIFY_INFORMATION (MS-FSCC 2.7.1); empty with `STATUS_NOTIFY_ENUM_DIR`.
    pub output: Bytes,
}

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or points outside the message.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        Ok(Self { output: parse_output(message, "CHANGE_NOTIFY response")? })
    }

    /// Appends the body with its output.
    pub fn emit(&self, out: &mut Vec<u8>) {
        emit_output_fixed(out, self.output.len());
        out.extend_from_slice(&self.output);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, round_trip};
    use super::*;

    #[test]
    fn round_trips() {
        let request = Request {
            flags: ChangeNotifyFlags::WATCH_TREE,
            output_buffer_length: 4096,
            file_id: FileId { persistent: 1, volatile: 2 },
            completion_filter: CompletionFilter::FILE_NAME.with(CompletionFilter::STREAM_WRITE),
        };
        round_trip(&request, Request::emit, Request::parse);
        assert_eq!(message(|out| request.emit(out)).len(), 64 + 32);
        for output in [b"".as_slice(), b"changes"] {
            round_trip(&Response { output: Bytes::from_static(output) }, Response::emit, Response::parse);
        }
    }

    #[test]
    fn short_messages_are_refused() {
        let bytes = message(|out| Response { output: Bytes::from_static(b"changes") }.emit(out));
        assert!((0..bytes.len()).all(|length| Response::parse(&bytes.slice(..length)).is_err()));
    }
}
