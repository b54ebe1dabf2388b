//! SET_INFO (MS-SMB2 2.2.39, 2.2.40).

use binrw::binrw;
use bytes::Bytes;

use super::query_info::{InfoType, SecurityInformation};
use super::{BODY_OFFSET, FileId};
use crate::error::Malformed;
use crate::wire;

/// A request to set information.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Kind of information.
    pub info_type: InfoType,
    /// Information class within its kind (MS-FSCC 2.4, 2.5); 0 for security and quota.
    pub file_info_class: u8,
    /// [`SecurityInformation`], or zero.
    pub additional_information: u32,
    /// The open.
    pub file_id: FileId,
    /// The information.
    pub buffer: Bytes,
}

impl Request {
    /// AdditionalInformation when a security descriptor is set.
    #[must_use]
    pub const fn security_information(&self) -> SecurityInformation {
        SecurityInformation(self.additional_information)
    }
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    #[br(assert(structure_size == 33))]
    structure_size: u16,
    info_type: InfoType,
    file_info_class: u8,
    buffer_length: u32,
    buffer_offset: u16,
    reserved: u16,
    additional_information: u32,
    file_id: FileId,
}

/// Size of the fixed part of a request.
const REQUEST_FIXED: usize = 32;

impl Request {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or points outside the message.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: RequestFixed = wire::fixed(message, BODY_OFFSET, "SET_INFO request")?;
        let length =
            usize::try_from(fixed.buffer_length).map_err(|_| Malformed("SET_INFO request: length"))?;
        Ok(Self {
            info_type: fixed.info_type,
            file_info_class: fixed.file_info_class,
            additional_information: fixed.additional_information,
            file_id: fixed.file_id,
            buffer: wire::slice(
                message,
                usize::from(fixed.buffer_offset),
                length,
                "SET_INFO request: buffer",
            )?,
        })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(
            out,
            &RequestFixed {
                structure_size: 33,
                info_type: self.info_type,
                file_info_class: self.file_info_class,
                buffer_length: wire::length_u32(self.buffer.len()),
                buffer_offset: wire::length_u16(BODY_OFFSET.saturating_add(REQUEST_FIXED)),
                reserved: 0,
                additional_information: self.additional_information,
                file_id: self.file_id,
            },
        );
        out.extend_from_slice(&self.buffer);
        if self.buffer.is_empty() {
            out.push(0); // StructureSize counts one byte of the buffer; peers insist that it is there.
        }
    }
}

/// The answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Response;

#[binrw]
#[brw(little)]
struct ResponseFixed {
    #[br(assert(structure_size == 2))]
    structure_size: u16,
}

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        wire::fixed::<ResponseFixed>(message, BODY_OFFSET, "SET_INFO response")?;
        Ok(Self)
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(out, &ResponseFixed { structure_size: 2 });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, round_trip};
    use super::*;

    fn request(buffer: &'static [u8]) -> Request {
        Request {
            info_type: InfoType::FILE,
            file_info_class: 0x14,
            additional_information: 0,
            file_id: FileId { persistent: 1, volatile: 2 },
            buffer: Bytes::from_static(buffer),
        }
    }

    #[test]
    fn round_trips() {
        round_trip(&request(&[9; 8]), Request::emit, Request::parse);
        round_trip(&request(b""), Request::emit, Request::parse);
        round_trip(&Response, Response::emit, Response::parse);
        assert_eq!(message(|out| Response.emit(out)).len(), 64 + 2);
    }

    #[test]
    fn hostile_offsets_are_refused() {
        let good = message(|out| request(&[9; 8]).emit(out));
        for (position, value) in [(68, 9), (71, 0xFF), (72, 97), (73, 1)] {
            let mut bytes = good.to_vec();
            bytes[position] = value;
            assert!(Request::parse(&bytes.into()).is_err(), "{position}");
        }
    }
}
