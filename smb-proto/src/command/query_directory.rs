//! QUERY_DIRECTORY (MS-SMB2 2.2.33, 2.2.34).

use binrw::binrw;
use bytes::Bytes;

use super::query_info::{emit_output_fixed, parse_output};
use super::{BODY_OFFSET, FileId};
use crate::error::Malformed;
use crate::flags::flags;
use crate::name::Name;
use crate::wire;

flags! {
    /// How to go through the directory.
    pub struct QueryDirectoryFlags(u8);
    /// From the start again, with the same pattern.
    RESTART_SCANS = 0x01;
    /// One entry only.
    RETURN_SINGLE_ENTRY = 0x02;
    /// From the position in FileIndex.
    INDEX_SPECIFIED = 0x04;
    /// From the start again, with this pattern.
    REOPEN = 0x10;
}

/// A request for entries of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Form of the entries (MS-FSCC 2.4).
    pub file_information_class: u8,
    /// Flags.
    pub flags: QueryDirectoryFlags,
    /// Where to go on, with [`QueryDirectoryFlags::INDEX_SPECIFIED`].
    pub file_index: u32,
    /// The open.
    pub file_id: FileId,
    /// Search pattern; empty if none is given.
    pub file_name: Name,
    /// Most bytes to return.
    pub output_buffer_length: u32,
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    #[br(assert(structure_size == 33))]
    structure_size: u16,
    file_information_class: u8,
    flags: QueryDirectoryFlags,
    file_index: u32,
    file_id: FileId,
    file_name_offset: u16,
    file_name_length: u16,
    output_buffer_length: u32,
}

/// Size of the fixed part of a request.
const REQUEST_FIXED: usize = 32;

impl Request {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short, points outside the message, or its pattern has half a code unit.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: RequestFixed = wire::fixed(message, BODY_OFFSET, "QUERY_DIRECTORY request")?;
        let file_name = wire::slice(
            message,
            usize::from(fixed.file_name_offset),
            usize::from(fixed.file_name_length),
            "QUERY_DIRECTORY request: pattern",
        )?;
        Ok(Self {
            file_information_class: fixed.file_information_class,
            flags: fixed.flags,
            file_index: fixed.file_index,
            file_id: fixed.file_id,
            file_name: Name::from_wire(&file_name)?,
            output_buffer_length: fixed.output_buffer_length,
        })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let name_offset =
            if self.file_name.is_empty() { 0 } else { BODY_OFFSET.saturating_add(REQUEST_FIXED) };
        wire::put(
            out,
            &RequestFixed {
                structure_size: 33,
                file_information_class: self.file_information_class,
                flags: self.flags,
                file_index: self.file_index,
                file_id: self.file_id,
                file_name_offset: wire::length_u16(name_offset),
                file_name_length: wire::length_u16(self.file_name.wire_len()),
                output_buffer_length: self.output_buffer_length,
            },
        );
        wire::put_utf16(out, self.file_name.units());
        if self.file_name.is_empty() {
            out.push(0); // StructureSize counts one byte of the buffer; peers insist that it is there.
        }
    }
}

/// The answer. The entries may stand behind the body without being part of this value: [`Response::emit_fixed`]
/// writes what goes in front of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Response {
    /// The entries, in the form of the class asked for.
    pub output: Bytes,
}

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or points outside the message.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        Ok(Self { output: parse_output(message, "QUERY_DIRECTORY response")? })
    }

    /// Appends the fixed part of the body of a response with `length` bytes of entries directly behind it.
    pub fn emit_fixed(out: &mut Vec<u8>, length: usize) {
        emit_output_fixed(out, length);
    }

    /// Appends the body with its entries.
    pub fn emit(&self, out: &mut Vec<u8>) {
        emit_output_fixed(out, self.output.len());
        out.extend_from_slice(&self.output);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, round_trip};
    use super::*;

    fn request(pattern: &str) -> Request {
        Request {
            file_information_class: 0x25,
            flags: QueryDirectoryFlags::RESTART_SCANS.with(QueryDirectoryFlags::RETURN_SINGLE_ENTRY),
            file_index: 3,
            file_id: FileId { persistent: 1, volatile: 2 },
            file_name: pattern.into(),
            output_buffer_length: 65536,
        }
    }

    #[test]
    fn round_trips() {
        for pattern in ["*", "", "<.txt"] {
            round_trip(&request(pattern), Request::emit, Request::parse);
        }
        for output in [b"".as_slice(), b"entries"] {
            round_trip(&Response { output: Bytes::from_static(output) }, Response::emit, Response::parse);
        }
    }

    #[test]
    fn hostile_offsets_are_refused() {
        let good = message(|out| request("*").emit(out));
        // FileNameOffset, FileNameLength: outside, then odd.
        for (position, value) in [(89, 1), (90, 4), (91, 0xFF), (90, 1)] {
            let mut bytes = good.to_vec();
            bytes[position] = value;
            assert!(Request::parse(&bytes.into()).is_err(), "{position}");
        }
    }
}
