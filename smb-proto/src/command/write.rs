//! WRITE (MS-SMB2 2.2.21, 2.2.22).

use binrw::binrw;
use bytes::Bytes;

use super::read::Channel;
use super::{BODY_OFFSET, FileId};
use crate::error::Malformed;
use crate::flags::flags;
use crate::wire;

flags! {
    /// Flags of a request.
    pub struct WriteFlags(u32);
    /// The data reaches storage before the answer (2.1 and later).
    WRITE_THROUGH = 0x0000_0001;
    /// The data is not to be kept in memory (3.0.2 and later).
    WRITE_UNBUFFERED = 0x0000_0002;
}

/// What a request to write says beside its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WriteHead {
    /// Where in the file.
    pub offset: u64,
    /// The open.
    pub file_id: FileId,
    /// Flags.
    pub flags: WriteFlags,
}

/// A request to write. The data may stand behind the body without being part of this value:
/// [`Request::emit_fixed`] writes what goes in front of a payload that is sent from where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Where in the file.
    pub offset: u64,
    /// The open.
    pub file_id: FileId,
    /// Flags.
    pub flags: WriteFlags,
    /// Where the data is.
    pub channel: Channel,
    /// Bytes to be fetched through the channel.
    pub remaining_bytes: u32,
    /// Buffer descriptors of the channel.
    pub channel_info: Bytes,
    /// The data, unless it is to be fetched through the channel.
    pub data: Bytes,
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    #[br(assert(structure_size == 49))]
    structure_size: u16,
    data_offset: u16,
    length: u32,
    offset: u64,
    file_id: FileId,
    channel: u32,
    remaining_bytes: u32,
    channel_info_offset: u16,
    channel_info_length: u16,
    flags: WriteFlags,
}

/// Size of the fixed part of a request.
const REQUEST_FIXED: usize = 48;
/// Where the data of our requests starts, from the start of the header, when no channel information is before it.
const DATA_OFFSET: usize = BODY_OFFSET + REQUEST_FIXED;
/// Data that starts later than this is refused (3.3.5.13).
const DATA_OFFSET_MAX: usize = 0x100;

impl Request {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short, points outside the message, or has data where 3.3.5.13 doesn't allow it.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: RequestFixed = wire::fixed(message, BODY_OFFSET, "WRITE request")?;
        let channel = Channel(fixed.channel);
        let data_offset = usize::from(fixed.data_offset);
        let length = usize::try_from(fixed.length).map_err(|_| Malformed("WRITE request: length"))?;
        let is_before_body = length != 0 && data_offset < DATA_OFFSET;
        if channel == Channel::NONE && (data_offset > DATA_OFFSET_MAX || is_before_body) {
            return Err(Malformed("WRITE request: DataOffset"));
        }
        // Without a channel these fields have no meaning, whatever they hold (2.2.21).
        let info_length = if channel == Channel::NONE { 0 } else { usize::from(fixed.channel_info_length) };
        let channel_info = wire::slice(
            message,
            usize::from(fixed.channel_info_offset),
            info_length,
            "WRITE request: channel information",
        )?;
        Ok(Self {
            offset: fixed.offset,
            file_id: fixed.file_id,
            flags: fixed.flags,
            channel,
            remaining_bytes: fixed.remaining_bytes,
            channel_info,
            data: wire::slice(message, data_offset, length, "WRITE request: data")?,
        })
    }

    /// Appends the fixed part of the body of a request with `length` bytes of data directly behind it. Header and
    /// fixed part are 112 bytes together.
    pub fn emit_fixed(out: &mut Vec<u8>, head: &WriteHead, length: usize) {
        wire::put(
            out,
            &RequestFixed {
                structure_size: 49,
                data_offset: wire::length_u16(DATA_OFFSET),
                length: wire::length_u32(length),
                offset: head.offset,
                file_id: head.file_id,
                channel: Channel::NONE.0,
                remaining_bytes: 0,
                channel_info_offset: 0,
                channel_info_length: 0,
                flags: head.flags,
            },
        );
    }

    /// Appends the body with its data.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let has_info = !self.channel_info.is_empty();
        let behind_info = DATA_OFFSET.saturating_add(self.channel_info.len());
        let data_offset = if has_info && self.data.is_empty() { 0 } else { behind_info };
        wire::put(
            out,
            &RequestFixed {
                structure_size: 49,
                data_offset: wire::length_u16(data_offset),
                length: wire::length_u32(self.data.len()),
                offset: self.offset,
                file_id: self.file_id,
                channel: self.channel.0,
                remaining_bytes: self.remaining_bytes,
                channel_info_offset: if has_info { wire::length_u16(DATA_OFFSET) } else { 0 },
                channel_info_length: wire::length_u16(self.channel_info.len()),
                flags: self.flags,
            },
        );
        out.extend_from_slice(&self.channel_info);
        out.extend_from_slice(&self.data);
        if !has_info && self.data.is_empty() {
            out.push(0); // StructureSize counts one byte of the buffer; peers insist that it is there.
        }
    }
}

/// The answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Response {
    /// Bytes written.
    pub count: u32,
}

#[binrw]
#[brw(little)]
struct ResponseFixed {
    #[br(assert(structure_size == 17))]
    structure_size: u16,
    reserved: u16,
    count: u32,
    remaining: u32,
    channel_info_offset: u16,
    channel_info_length: u16,
}

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: ResponseFixed = wire::fixed(message, BODY_OFFSET, "WRITE response")?;
        Ok(Self { count: fixed.count })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(
            out,
            &ResponseFixed {
                structure_size: 17,
                reserved: 0,
                count: self.count,
                remaining: 0,
                channel_info_offset: 0,
                channel_info_length: 0,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, round_trip};
    use super::*;
    use crate::payload::{HEADROOM, Payload};

    fn request(data: &'static [u8]) -> Request {
        Request {
            offset: 1 << 40,
            file_id: FileId { persistent: 1, volatile: 2 },
            flags: WriteFlags::WRITE_THROUGH,
            channel: Channel::NONE,
            remaining_bytes: 0,
            channel_info: Bytes::new(),
            data: Bytes::from_static(data),
        }
    }

    #[test]
    fn round_trips() {
        round_trip(&request(b"leased"), Request::emit, Request::parse);
        round_trip(&request(b""), Request::emit, Request::parse);
        let channel_info = Bytes::from_static(&[1; 16]);
        let rdma = Request { channel: Channel::RDMA_V1, remaining_bytes: 9, channel_info, ..request(b"") };
        round_trip(&rdma, Request::emit, Request::parse);
        round_trip(&Response { count: 6 }, Response::emit, Response::parse);
        assert_eq!(message(|out| Response { count: 6 }.emit(out)).len(), 64 + 16);
    }

    #[test]
    fn a_payload_is_sent_from_where_it_lies() {
        let whole = request(b"leased");
        let head = WriteHead { offset: whole.offset, file_id: whole.file_id, flags: whole.flags };
        let payload = Payload::copy_from(&whole.data);
        let mut front = vec![0; BODY_OFFSET];
        Request::emit_fixed(&mut front, &head, payload.len());
        assert!(front.len() == DATA_OFFSET && front.len() + 56 <= HEADROOM);
        let sent = payload.prepend(&front).into_bytes();
        assert_eq!(sent, message(|out| whole.emit(out)));
        assert_eq!(Request::parse(&sent), Ok(whole));
    }

    #[test]
    fn the_data_is_a_slice_of_the_message() {
        let bytes = message(|out| request(b"leased").emit(out));
        let data = Request::parse(&bytes).unwrap().data;
        assert_eq!(data.as_ptr(), bytes[DATA_OFFSET..].as_ptr());
    }

    #[test]
    fn hostile_offsets_are_refused() {
        let good = message(|out| request(&[7; 300]).emit(out)).to_vec();
        // DataOffset in the header, in the fixed part, above 0x100; Length.
        for (position, value) in [(66, 0), (66, 0x6F), (67, 2), (71, 0x80), (69, 9)] {
            let mut bytes = good.clone();
            bytes[position] = value;
            assert!(Request::parse(&bytes.into()).is_err(), "{position}");
        }
        // WriteChannelInfoLength counts with a channel only.
        let mut bytes = good;
        bytes[107] = 0xFF;
        assert!(Request::parse(&bytes.clone().into()).is_ok_and(|request| request.channel_info.is_empty()));
        bytes[96] = 1;
        assert!(Request::parse(&bytes.into()).is_err());
    }
}
