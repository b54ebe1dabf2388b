//! QUERY_INFO (MS-SMB2 2.2.37, 2.2.38).

use binrw::binrw;
use bytes::Bytes;

use super::{BODY_OFFSET, FileId};
use crate::error::Malformed;
use crate::flags::{flags, values};
pub use crate::security::descriptor::SecurityInformation;
use crate::wire;

values! {
    /// What kind of information is queried or set.
    pub struct InfoType(u8);
    /// Of the file (MS-FSCC 2.4).
    FILE = 0x01;
    /// Of the volume (MS-FSCC 2.5).
    FILESYSTEM = 0x02;
    /// The security descriptor.
    SECURITY = 0x03;
    /// Quotas.
    QUOTA = 0x04;
}

flags! {
    /// How to go through extended attributes.
    pub struct QueryFlags(u32);
    /// From the first again.
    RESTART_SCAN = 0x0000_0001;
    /// One only.
    RETURN_SINGLE_ENTRY = 0x0000_0002;
    /// From the index in AdditionalInformation.
    INDEX_SPECIFIED = 0x0000_0004;
}

/// A request for information.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Kind of information.
    pub info_type: InfoType,
    /// Information class within its kind (MS-FSCC 2.4, 2.5); 0 for security and quota.
    pub file_info_class: u8,
    /// Most bytes to return.
    pub output_buffer_length: u32,
    /// [`SecurityInformation`], or the index of an extended attribute.
    pub additional_information: u32,
    /// How to go through extended attributes.
    pub flags: QueryFlags,
    /// The open.
    pub file_id: FileId,
    /// Names of extended attributes wanted, or a [`QueryQuotaInfo`].
    pub input: Bytes,
}

impl Request {
    /// AdditionalInformation of a security query.
    #[must_use]
    pub const fn security_information(&self) -> SecurityInformation {
        SecurityInformation(self.additional_information)
    }
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    #[br(assert(structure_size == 41))]
    structure_size: u16,
    info_type: InfoType,
    file_info_class: u8,
    output_buffer_length: u32,
    input_offset: u16,
    reserved: u16,
    input_length: u32,
    additional_information: u32,
    flags: QueryFlags,
    file_id: FileId,
}

/// Size of the fixed part of a request.
const REQUEST_FIXED: usize = 40;

impl Request {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or points outside the message.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: RequestFixed = wire::fixed(message, BODY_OFFSET, "QUERY_INFO request")?;
        let length =
            usize::try_from(fixed.input_length).map_err(|_| Malformed("QUERY_INFO request: length"))?;
        Ok(Self {
            info_type: fixed.info_type,
            file_info_class: fixed.file_info_class,
            output_buffer_length: fixed.output_buffer_length,
            additional_information: fixed.additional_information,
            flags: fixed.flags,
            file_id: fixed.file_id,
            input: wire::slice(
                message,
                usize::from(fixed.input_offset),
                length,
                "QUERY_INFO request: input",
            )?,
        })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let input_offset = if self.input.is_empty() { 0 } else { BODY_OFFSET.saturating_add(REQUEST_FIXED) };
        wire::put(
            out,
            &RequestFixed {
                structure_size: 41,
                info_type: self.info_type,
                file_info_class: self.file_info_class,
                output_buffer_length: self.output_buffer_length,
                input_offset: wire::length_u16(input_offset),
                reserved: 0,
                input_length: wire::length_u32(self.input.len()),
                additional_information: self.additional_information,
                flags: self.flags,
                file_id: self.file_id,
            },
        );
        out.extend_from_slice(&self.input);
        if self.input.is_empty() {
            out.push(0); // StructureSize counts one byte of the buffer; peers insist that it is there.
        }
    }
}

/// Whose quotas are wanted (the two formats of 2.2.37.1's SidBuffer).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QuotaSids {
    /// Everyone's.
    All,
    /// Those of a list of FILE_GET_QUOTA_INFORMATION (MS-FSCC 2.4.41.1).
    List(Bytes),
    /// Everyone's, from this SID on (MS-DTYP 2.4.2.2).
    StartingAt(Bytes),
}

/// SMB2_QUERY_QUOTA_INFO, the input of a quota query (2.2.37.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueryQuotaInfo {
    /// One entry only.
    pub return_single: bool,
    /// From the first again.
    pub restart_scan: bool,
    /// Whose.
    pub sids: QuotaSids,
}

#[binrw]
#[brw(little)]
struct QuotaFixed {
    return_single: u8,
    restart_scan: u8,
    reserved: u16,
    sid_list_length: u32,
    start_sid_length: u32,
    start_sid_offset: u32,
}

/// Size of the fixed part of a quota query.
const QUOTA_FIXED: usize = 16;

impl QueryQuotaInfo {
    /// Reads the input of a quota query.
    ///
    /// # Errors
    /// [`Malformed`] when it is short, points outside the input, or uses both formats at once.
    pub fn parse(input: &Bytes) -> Result<Self, Malformed> {
        const WHAT: &str = "quota query";
        let fixed: QuotaFixed = wire::fixed(input, 0, WHAT)?;
        let size = |value: u32| usize::try_from(value).map_err(|_| Malformed(WHAT));
        let sids = match (size(fixed.sid_list_length)?, size(fixed.start_sid_length)?) {
            (0, 0) => QuotaSids::All,
            (list, 0) => QuotaSids::List(wire::slice(input, QUOTA_FIXED, list, WHAT)?),
            (0, sid) => {
                let offset = QUOTA_FIXED.saturating_add(size(fixed.start_sid_offset)?);
                QuotaSids::StartingAt(wire::slice(input, offset, sid, WHAT)?)
            }
            _ => return Err(Malformed("quota query: both a list and a first SID")),
        };
        Ok(Self { return_single: fixed.return_single != 0, restart_scan: fixed.restart_scan != 0, sids })
    }

    /// Appends the structure.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let (list, sid): (&[u8], &[u8]) = match &self.sids {
            QuotaSids::All => (&[], &[]),
            QuotaSids::List(list) => (list, &[]),
            QuotaSids::StartingAt(sid) => (&[], sid),
        };
        wire::put(
            out,
            &QuotaFixed {
                return_single: u8::from(self.return_single),
                restart_scan: u8::from(self.restart_scan),
                reserved: 0,
                sid_list_length: wire::length_u32(list.len()),
                start_sid_length: wire::length_u32(sid.len()),
                start_sid_offset: 0,
            },
        );
        out.extend_from_slice(list);
        out.extend_from_slice(sid);
    }
}

/// The answer. The output may stand behind the body without being part of this value: [`Response::emit_fixed`] writes
/// what goes in front of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Response {
    /// The information.
    pub output: Bytes,
}

#[binrw]
#[brw(little)]
struct OutputFixed {
    #[br(assert(structure_size == 9))]
    structure_size: u16,
    output_offset: u16,
    output_length: u32,
}

/// Where the output of our responses starts, from the start of the header.
const OUTPUT_OFFSET: u16 = 72;

/// Reads the one form that the responses of QUERY_INFO, QUERY_DIRECTORY and CHANGE_NOTIFY have.
pub(super) fn parse_output(message: &Bytes, what: &'static str) -> Result<Bytes, Malformed> {
    let fixed: OutputFixed = wire::fixed(message, BODY_OFFSET, what)?;
    let length = usize::try_from(fixed.output_length).map_err(|_| Malformed(what))?;
    wire::slice(message, usize::from(fixed.output_offset), length, what)
}

/// Appends the fixed part of that form, with `length` bytes of output directly behind it.
pub(super) fn emit_output_fixed(out: &mut Vec<u8>, length: usize) {
    let output_offset = if length == 0 { 0 } else { OUTPUT_OFFSET };
    wire::put(
        out,
        &OutputFixed { structure_size: 9, output_offset, output_length: wire::length_u32(length) },
    );
}

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or points outside the message.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        Ok(Self { output: parse_output(message, "QUERY_INFO response")? })
    }

    /// Appends the fixed part of the body of a response with `length` bytes of output directly behind it.
    pub fn emit_fixed(out: &mut Vec<u8>, length: usize) {
        emit_output_fixed(out, length);
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

    fn request(input: &'static [u8]) -> Request {
        Request {
            info_type: InfoType::SECURITY,
            file_info_class: 0,
            output_buffer_length: 65536,
            additional_information: SecurityInformation::OWNER.with(SecurityInformation::DACL).0,
            flags: QueryFlags::RESTART_SCAN,
            file_id: FileId { persistent: 1, volatile: 2 },
            input: Bytes::from_static(input),
        }
    }

    #[test]
    fn round_trips() {
        for input in [b"".as_slice(), b"list of names"] {
            round_trip(&request(input), Request::emit, Request::parse);
            round_trip(&Response { output: Bytes::from_static(input) }, Response::emit, Response::parse);
        }
        assert!(request(b"").security_information().contains(SecurityInformation::DACL));
    }

    #[test]
    fn quota_queries_make_the_round_trip() {
        let bytes = Bytes::from_static(b"bytes");
        for sids in [QuotaSids::All, QuotaSids::List(bytes.clone()), QuotaSids::StartingAt(bytes)] {
            let query = QueryQuotaInfo { return_single: true, restart_scan: false, sids };
            let mut out = Vec::new();
            query.emit(&mut out);
            let whole = Bytes::from(out);
            assert_eq!(QueryQuotaInfo::parse(&whole), Ok(query));
            assert!((0..whole.len()).all(|length| QueryQuotaInfo::parse(&whole.slice(..length)).is_err()));
        }
    }

    #[test]
    fn hostile_quota_queries_are_refused() {
        let sids = QuotaSids::StartingAt(Bytes::from_static(b"bytes"));
        let mut good = Vec::new();
        QueryQuotaInfo { return_single: false, restart_scan: false, sids }.emit(&mut good);
        // A list as well, a length and an offset outside.
        for position in [4, 11, 15] {
            let mut bytes = good.clone();
            bytes[position] = 0xFF;
            assert!(QueryQuotaInfo::parse(&bytes.into()).is_err(), "{position}");
        }
    }

    #[test]
    fn hostile_offsets_are_refused() {
        let good = message(|out| request(b"input").emit(out));
        for (position, value) in [(73, 1), (76, 6), (79, 0xFF)] {
            let mut bytes = good.to_vec();
            bytes[position] = value;
            assert!(Request::parse(&bytes.into()).is_err(), "{position}");
        }
        let good = message(|out| Response { output: Bytes::from_static(b"output") }.emit(out));
        for (position, value) in [(66, 73), (67, 1), (68, 7), (71, 0xFF)] {
            let mut bytes = good.to_vec();
            bytes[position] = value;
            assert!(Response::parse(&bytes.into()).is_err(), "{position}");
        }
    }
}
