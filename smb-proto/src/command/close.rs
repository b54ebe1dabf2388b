//! CLOSE (MS-SMB2 2.2.15, 2.2.16).

use binrw::binrw;
use bytes::Bytes;

use super::{BODY_OFFSET, FileId};
use crate::attributes::FileAttributes;
use crate::error::Malformed;
use crate::flags::flags;
use crate::time::FileTime;
use crate::wire;

flags! {
    /// Flags of request and response.
    pub struct Flags(u16);
    /// Request: the attributes at the end are wanted. Response: they are there.
    POSTQUERY_ATTRIB = 0x0001;
}

/// A request to close an open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Request {
    /// Flags.
    pub flags: Flags,
    /// The open.
    pub file_id: FileId,
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    #[br(assert(structure_size == 24))]
    structure_size: u16,
    flags: Flags,
    reserved: u32,
    file_id: FileId,
}

impl Request {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: RequestFixed = wire::fixed(message, BODY_OFFSET, "CLOSE request")?;
        Ok(Self { flags: fixed.flags, file_id: fixed.file_id })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let fixed =
            RequestFixed { structure_size: 24, flags: self.flags, reserved: 0, file_id: self.file_id };
        wire::put(out, &fixed);
    }
}

/// The answer. Everything but the flags is zero unless [`Flags::POSTQUERY_ATTRIB`] is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Response {
    /// Flags.
    pub flags: Flags,
    /// When the file was created.
    pub creation_time: FileTime,
    /// When it was last read.
    pub last_access_time: FileTime,
    /// When its data last changed.
    pub last_write_time: FileTime,
    /// When anything of it last changed.
    pub change_time: FileTime,
    /// Bytes that it takes on the volume.
    pub allocation_size: u64,
    /// Bytes that it has.
    pub end_of_file: u64,
    /// Its attributes.
    pub file_attributes: FileAttributes,
}

#[binrw]
#[brw(little)]
struct ResponseFixed {
    #[br(assert(structure_size == 60))]
    structure_size: u16,
    flags: Flags,
    reserved: u32,
    creation_time: u64,
    last_access_time: u64,
    last_write_time: u64,
    change_time: u64,
    allocation_size: u64,
    end_of_file: u64,
    file_attributes: FileAttributes,
}

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: ResponseFixed = wire::fixed(message, BODY_OFFSET, "CLOSE response")?;
        Ok(Self {
            flags: fixed.flags,
            creation_time: FileTime(fixed.creation_time),
            last_access_time: FileTime(fixed.last_access_time),
            last_write_time: FileTime(fixed.last_write_time),
            change_time: FileTime(fixed.change_time),
            allocation_size: fixed.allocation_size,
            end_of_file: fixed.end_of_file,
            file_attributes: fixed.file_attributes,
        })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(
            out,
            &ResponseFixed {
                structure_size: 60,
                flags: self.flags,
                reserved: 0,
                creation_time: self.creation_time.0,
                last_access_time: self.last_access_time.0,
                last_write_time: self.last_write_time.0,
                change_time: self.change_time.0,
                allocation_size: self.allocation_size,
                end_of_file: self.end_of_file,
                file_attributes: self.file_attributes,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, round_trip};
    use super::*;

    #[test]
    fn round_trips() {
        let request =
            Request { flags: Flags::POSTQUERY_ATTRIB, file_id: FileId { persistent: 5, volatile: 6 } };
        round_trip(&request, Request::emit, Request::parse);
        let response = Response {
            flags: Flags::POSTQUERY_ATTRIB,
            creation_time: FileTime(1),
            last_access_time: FileTime(2),
            last_write_time: FileTime(3),
            change_time: FileTime(4),
            allocation_size: 4096,
            end_of_file: 77,
            file_attributes: FileAttributes::ARCHIVE,
        };
        round_trip(&response, Response::emit, Response::parse);
    }

    #[test]
    fn sizes_are_those_of_the_structures() {
        let request = message(|out| Request::default().emit(out));
        assert_eq!(request.len(), BODY_OFFSET + 24);
        assert!(Request::parse(&request.slice(..request.len() - 1)).is_err());
        let response = message(|out| Response::default().emit(out));
        assert_eq!(response.len(), BODY_OFFSET + 60);
        assert!(Response::parse(&response.slice(..response.len() - 1)).is_err());
    }
}
