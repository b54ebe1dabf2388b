//! READ (MS-SMB2 2.2.19, 2.2.20).

use binrw::binrw;
use bytes::Bytes;

use super::{BODY_OFFSET, FileId};
use crate::error::Malformed;
use crate::wire;

/// Flags of a request; undefined bits are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// The data is to be read from the device, not from a cache (3.0.2).
    pub const READ_UNBUFFERED: Self = Self(0x01);
    /// The response may be compressed (3.1.1).
    pub const REQUEST_COMPRESSED: Self = Self(0x02);
}

/// Where the data goes; undefined values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Channel(pub u32);

impl Channel {
    /// In the response itself.
    pub const NONE: Self = Self(0);
    /// Into the client's memory, by RDMA.
    pub const RDMA_V1: Self = Self(1);
    /// Into the client's memory, by RDMA, with remote invalidation.
    pub const RDMA_V1_INVALIDATE: Self = Self(2);
}

/// A request to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Where in the response the client would like the data, from the start of the header.
    pub padding: u8,
    /// Flags.
    pub flags: Flags,
    /// Bytes to read.
    pub length: u32,
    /// Where in the file.
    pub offset: u64,
    /// The open.
    pub file_id: FileId,
    /// Fewest bytes that make the read a success.
    pub minimum_count: u32,
    /// Where the data goes.
    pub channel: Channel,
    /// Bytes that the client will ask for next.
    pub remaining_bytes: u32,
    /// Buffer descriptors of the channel.
    pub channel_info: Bytes,
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    #[br(assert(structure_size == 49))]
    structure_size: u16,
    padding: u8,
    flags: u8,
    length: u32,
    offset: u64,
    file_id: FileId,
    minimum_count: u32,
    channel: u32,
    remaining_bytes: u32,
    channel_info_offset: u16,
    channel_info_length: u16,
}

/// Size of the fixed part of a request.
const REQUEST_FIXED: usize = 48;

impl Request {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or points outside the message.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: RequestFixed = wire::fixed(message, BODY_OFFSET, "READ request")?;
        let channel_info = wire::slice(
            message,
            usize::from(fixed.channel_info_offset),
            usize::from(fixed.channel_info_length),
            "READ request: channel information",
        )?;
        Ok(Self {
            padding: fixed.padding,
            flags: Flags(fixed.flags),
            length: fixed.length,
            offset: fixed.offset,
            file_id: fixed.file_id,
            minimum_count: fixed.minimum_count,
            channel: Channel(fixed.channel),
            remaining_bytes: fixed.remaining_bytes,
            channel_info,
        })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let info_offset =
            if self.channel_info.is_empty() { 0 } else { BODY_OFFSET.saturating_add(REQUEST_FIXED) };
        wire::put(
            out,
            &RequestFixed {
                structure_size: 49,
                padding: self.padding,
                flags: self.flags.0,
                length: self.length,
                offset: self.offset,
                file_id: self.file_id,
                minimum_count: self.minimum_count,
                channel: self.channel.0,
                remaining_bytes: self.remaining_bytes,
                channel_info_offset: wire::length_u16(info_offset),
                channel_info_length: wire::length_u16(self.channel_info.len()),
            },
        );
        out.extend_from_slice(&self.channel_info);
        if self.channel_info.is_empty() {
            out.push(0); // StructureSize counts one byte of the buffer; peers insist that it is there.
        }
    }
}

/// The answer. The data may stand behind the body without being part of this value: [`Response::emit_fixed`] writes
/// what goes in front of a payload that is sent from where it was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Response {
    /// The data read.
    pub data: Bytes,
    /// Bytes that could not be sent yet (RDMA).
    pub data_remaining: u32,
}

#[binrw]
#[brw(little)]
struct ResponseFixed {
    #[br(assert(structure_size == 17))]
    structure_size: u16,
    data_offset: u8,
    reserved: u8,
    data_length: u32,
    data_remaining: u32,
    flags: u32,
}

/// Where the data of our responses starts, from the start of the header.
const DATA_OFFSET: u8 = 80;

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or points outside the message.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: ResponseFixed = wire::fixed(message, BODY_OFFSET, "READ response")?;
        let length = usize::try_from(fixed.data_length).map_err(|_| Malformed("READ response: length"))?;
        let data = wire::slice(message, usize::from(fixed.data_offset), length, "READ response: data")?;
        Ok(Self { data, data_remaining: fixed.data_remaining })
    }

    /// Appends the fixed part of the body of a response with `length` bytes of data directly behind it.
    pub fn emit_fixed(out: &mut Vec<u8>, length: usize, data_remaining: u32) {
        wire::put(
            out,
            &ResponseFixed {
                structure_size: 17,
                data_offset: DATA_OFFSET,
                reserved: 0,
                data_length: wire::length_u32(length),
                data_remaining,
                flags: 0,
            },
        );
    }

    /// Appends the body with its data.
    pub fn emit(&self, out: &mut Vec<u8>) {
        Self::emit_fixed(out, self.data.len(), self.data_remaining);
        out.extend_from_slice(&self.data);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, round_trip};
    use super::*;

    #[test]
    fn round_trips() {
        let request = Request {
            padding: 80,
            flags: Flags::READ_UNBUFFERED,
            length: 65536,
            offset: 1 << 40,
            file_id: FileId { persistent: 5, volatile: 6 },
            minimum_count: 1,
            channel: Channel::NONE,
            remaining_bytes: 9,
            channel_info: Bytes::new(),
        };
        round_trip(&request, Request::emit, Request::parse);
        let with_channel =
            Request { channel: Channel::RDMA_V1, channel_info: Bytes::from_static(&[1; 16]), ..request };
        round_trip(&with_channel, Request::emit, Request::parse);
        let response = Response { data: Bytes::from_static(b"leased"), data_remaining: 0 };
        round_trip(&response, Response::emit, Response::parse);
    }

    #[test]
    fn data_outside_the_message_is_refused() {
        let mut bytes =
            message(|out| Response { data: Bytes::from_static(b"xy"), data_remaining: 0 }.emit(out)).to_vec();
        bytes[68] = 3;
        assert!(Response::parse(&bytes.into()).is_err());
    }
}
