//! IOCTL (MS-SMB2 2.2.31, 2.2.32) and the bodies of the control codes that SMB itself defines. The bodies of file
//! system controls are in [`crate::fscc`]; SRV_READ_HASH (branch cache) has no body here.

use binrw::binrw;
use bytes::Bytes;

use super::{BODY_OFFSET, FileId};
use crate::error::Malformed;
use crate::flags::{flags, values};
use crate::wire;

mod copy_chunk;
mod network_interface;
mod snapshot;
mod validate_negotiate;

pub use copy_chunk::{CopyChunk, CopyChunkRequest, CopyChunkResponse, ResumeKey, ResumeKeyResponse};
pub use network_interface::{
    InterfaceAddress, InterfaceCapabilities, NETWORK_INTERFACES_MAX, NetworkInterface,
};
pub use snapshot::{SnapshotArray, gmt_token, gmt_token_time};
pub use validate_negotiate::{ValidateNegotiateRequest, ValidateNegotiateResponse};

values! {
    /// A control code (MS-SMB2 2.2.31, MS-FSCC 2.3, MS-RSVD 2.2.2, MS-SQOS 2.2.1).
    pub struct FsctlCode(u32);
    /// DFS referral.
    DFS_GET_REFERRALS = 0x0006_0194;
    /// DFS referral, extended.
    DFS_GET_REFERRALS_EX = 0x0006_01B0;
    /// Pathname check.
    IS_PATHNAME_VALID = 0x0009_002C;
    /// Compression state.
    GET_COMPRESSION = 0x0009_003C;
    /// First sector of a FAT volume.
    QUERY_FAT_BPB = 0x0009_0058;
    /// File system statistics.
    FILESYSTEM_GET_STATISTICS = 0x0009_0060;
    /// NTFS volume.
    GET_NTFS_VOLUME_DATA = 0x0009_0064;
    /// Extents.
    GET_RETRIEVAL_POINTERS = 0x0009_0073;
    /// Files of an owner.
    FIND_FILES_BY_SID = 0x0009_008F;
    /// Set object id.
    SET_OBJECT_ID = 0x0009_0098;
    /// Get object id.
    GET_OBJECT_ID = 0x0009_009C;
    /// Delete object id.
    DELETE_OBJECT_ID = 0x0009_00A0;
    /// Set reparse point.
    SET_REPARSE_POINT = 0x0009_00A4;
    /// Get reparse point.
    GET_REPARSE_POINT = 0x0009_00A8;
    /// Delete reparse point.
    DELETE_REPARSE_POINT = 0x0009_00AC;
    /// Set the extended part of the object id.
    SET_OBJECT_ID_EXTENDED = 0x0009_00BC;
    /// Get object id, made if there is none.
    CREATE_OR_GET_OBJECT_ID = 0x0009_00C0;
    /// Make sparse.
    SET_SPARSE = 0x0009_00C4;
    /// Encryption state.
    SET_ENCRYPTION = 0x0009_00D7;
    /// Change journal record.
    READ_FILE_USN_DATA = 0x0009_00EB;
    /// Close record in the change journal.
    WRITE_USN_CLOSE_RECORD = 0x0009_00EF;
    /// Mark a handle.
    MARK_HANDLE = 0x0009_00FC;
    /// Single-instance copy.
    SIS_COPYFILE = 0x0009_0100;
    /// Recall from slow storage.
    RECALL_FILE = 0x0009_0117;
    /// Sparing of a UDF volume.
    QUERY_SPARING_INFO = 0x0009_0138;
    /// On-disk data of a UDF volume.
    QUERY_ON_DISK_VOLUME_INFO = 0x0009_013C;
    /// Zeroes clusters when they are freed.
    SET_ZERO_ON_DEALLOCATION = 0x0009_0194;
    /// Integrity state.
    GET_INTEGRITY_INFORMATION = 0x0009_027C;
    /// Valid data.
    QUERY_FILE_REGIONS = 0x0009_0284;
    /// ReFS volume.
    GET_REFS_VOLUME_DATA = 0x0009_02D8;
    /// Whether shared virtual disks are supported.
    QUERY_SHARED_VIRTUAL_DISK_SUPPORT = 0x0009_0300;
    /// Tunnel to a shared virtual disk.
    SVHDX_SYNC_TUNNEL_REQUEST = 0x0009_0304;
    /// Storage quality of service.
    STORAGE_QOS_CONTROL = 0x0009_0350;
    /// Tunnel to a shared virtual disk, for what takes long.
    SVHDX_ASYNC_TUNNEL_REQUEST = 0x0009_0364;
    /// Set integrity state, extended.
    SET_INTEGRITY_INFORMATION_EX = 0x0009_0380;
    /// Extents with reference counts.
    GET_RETRIEVAL_POINTERS_AND_REFCOUNT = 0x0009_03D3;
    /// Number of extents.
    GET_RETRIEVAL_POINTER_COUNT = 0x0009_042B;
    /// Snapshots of streams on ReFS.
    REFS_STREAM_SNAPSHOT_MANAGEMENT = 0x0009_0440;
    /// Allocated ranges.
    QUERY_ALLOCATED_RANGES = 0x0009_40CF;
    /// Offloaded copy: token.
    OFFLOAD_READ = 0x0009_4264;
    /// Make a range zero.
    SET_ZERO_DATA = 0x0009_80C8;
    /// Defect management of a UDF volume.
    SET_DEFECT_MANAGEMENT = 0x0009_8134;
    /// Trim.
    FILE_LEVEL_TRIM = 0x0009_8208;
    /// Offloaded copy: copy.
    OFFLOAD_WRITE = 0x0009_8268;
    /// Share extents.
    DUPLICATE_EXTENTS_TO_FILE = 0x0009_8344;
    /// Share extents, extended.
    DUPLICATE_EXTENTS_TO_FILE_EX = 0x0009_83E8;
    /// Set compression state.
    SET_COMPRESSION = 0x0009_C040;
    /// Set integrity state.
    SET_INTEGRITY_INFORMATION = 0x0009_C280;
    /// Wait for a pipe.
    PIPE_WAIT = 0x0011_0018;
    /// Look into a pipe.
    PIPE_PEEK = 0x0011_400C;
    /// Write to a pipe and read the answer.
    PIPE_TRANSCEIVE = 0x0011_C017;
    /// Key for server-side copies.
    SRV_REQUEST_RESUME_KEY = 0x0014_0078;
    /// Link tracking.
    LMR_SET_LINK_TRACKING_INFORMATION = 0x0014_00EC;
    /// Resiliency.
    LMR_REQUEST_RESILIENCY = 0x0014_01D4;
    /// The server's interfaces.
    QUERY_NETWORK_INTERFACE_INFO = 0x0014_01FC;
    /// Check of the negotiation.
    VALIDATE_NEGOTIATE_INFO = 0x0014_0204;
    /// Previous versions.
    SRV_ENUMERATE_SNAPSHOTS = 0x0014_4064;
    /// Server-side copy.
    SRV_COPYCHUNK = 0x0014_40F2;
    /// Hashes for the branch cache.
    SRV_READ_HASH = 0x0014_41BB;
    /// Server-side copy with write access only.
    SRV_COPYCHUNK_WRITE = 0x0014_80F2;
}

impl FsctlCode {
    /// Whether the code is about no open, so that its request carries [`FileId::ALL_ONES`] (3.3.5.15).
    #[must_use]
    pub const fn is_without_open(self) -> bool {
        matches!(
            self,
            Self::DFS_GET_REFERRALS
                | Self::DFS_GET_REFERRALS_EX
                | Self::QUERY_NETWORK_INTERFACE_INFO
                | Self::VALIDATE_NEGOTIATE_INFO
                | Self::PIPE_WAIT
        )
    }
}

flags! {
    /// Flags of a request.
    pub struct IoctlFlags(u32);
    /// The code is a file system control; without it the server refuses the request.
    IS_FSCTL = 0x0000_0001;
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// The code.
    pub ctl_code: FsctlCode,
    /// The open, or [`FileId::ALL_ONES`].
    pub file_id: FileId,
    /// Input.
    pub input: Bytes,
    /// Most bytes of input to return.
    pub max_input_response: u32,
    /// Bytes of output in the request: zero from clients that keep to the specification. Only credits depend on it.
    pub output_count: u32,
    /// Most bytes of output to return.
    pub max_output_response: u32,
    /// Flags.
    pub flags: IoctlFlags,
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    #[br(assert(structure_size == 57))]
    structure_size: u16,
    reserved: u16,
    ctl_code: FsctlCode,
    file_id: FileId,
    input_offset: u32,
    input_count: u32,
    max_input_response: u32,
    output_offset: u32,
    output_count: u32,
    max_output_response: u32,
    flags: IoctlFlags,
    reserved2: u32,
}

/// Where the input of a request starts at the earliest.
const INPUT_OFFSET: usize = BODY_OFFSET + 56;

/// A part of a message that two 32-bit fields describe.
fn part(message: &Bytes, offset: u32, count: u32, what: &'static str) -> Result<Bytes, Malformed> {
    let offset = usize::try_from(offset).map_err(|_| Malformed(what))?;
    let count = usize::try_from(count).map_err(|_| Malformed(what))?;
    wire::slice(message, offset, count, what)
}

impl Request {
    /// Reads the body of a message (header included in `message`). OutputOffset is ignored, as servers shall.
    ///
    /// # Errors
    /// [`Malformed`] when it is short or its input is where 3.3.5.15 doesn't allow it: outside the message, inside the
    /// fixed part, or not at a multiple of 8.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: RequestFixed = wire::fixed(message, BODY_OFFSET, "IOCTL request")?;
        let input = part(message, fixed.input_offset, fixed.input_count, "IOCTL request: input")?;
        let is_misplaced =
            fixed.input_offset < wire::length_u32(INPUT_OFFSET) || !fixed.input_offset.is_multiple_of(8);
        if !input.is_empty() && is_misplaced {
            return Err(Malformed("IOCTL request: InputOffset"));
        }
        Ok(Self {
            ctl_code: fixed.ctl_code,
            file_id: fixed.file_id,
            input,
            max_input_response: fixed.max_input_response,
            output_count: fixed.output_count,
            max_output_response: fixed.max_output_response,
            flags: fixed.flags,
        })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(
            out,
            &RequestFixed {
                structure_size: 57,
                reserved: 0,
                ctl_code: self.ctl_code,
                file_id: self.file_id,
                input_offset: wire::length_u32(INPUT_OFFSET),
                input_count: wire::length_u32(self.input.len()),
                max_input_response: self.max_input_response,
                output_offset: 0,
                output_count: self.output_count,
                max_output_response: self.max_output_response,
                flags: self.flags,
                reserved2: 0,
            },
        );
        out.extend_from_slice(&self.input);
        if self.input.is_empty() {
            out.push(0); // StructureSize counts one byte of the buffer; peers insist that it is there.
        }
    }
}

/// The answer. The output may stand behind the body without being part of this value: [`Response::emit_fixed`] writes
/// what goes in front of a payload that is sent from where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Response {
    /// The code.
    pub ctl_code: FsctlCode,
    /// The open, or [`FileId::ALL_ONES`].
    pub file_id: FileId,
    /// Input returned: nothing, but for codes passed through to a device.
    pub input: Bytes,
    /// Output.
    pub output: Bytes,
}

#[binrw]
#[brw(little)]
struct ResponseFixed {
    #[br(assert(structure_size == 49))]
    structure_size: u16,
    reserved: u16,
    ctl_code: FsctlCode,
    file_id: FileId,
    input_offset: u32,
    input_count: u32,
    output_offset: u32,
    output_count: u32,
    flags: u32,
    reserved2: u32,
}

/// Where the buffer of a response starts.
const RESPONSE_BUFFER_OFFSET: usize = BODY_OFFSET + 48;

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or points outside the message.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: ResponseFixed = wire::fixed(message, BODY_OFFSET, "IOCTL response")?;
        Ok(Self {
            ctl_code: fixed.ctl_code,
            file_id: fixed.file_id,
            input: part(message, fixed.input_offset, fixed.input_count, "IOCTL response: input")?,
            output: part(message, fixed.output_offset, fixed.output_count, "IOCTL response: output")?,
        })
    }

    /// Appends the fixed part of the body of a response with no input and `length` bytes of output directly behind
    /// it. Header and fixed part are 112 bytes together.
    pub fn emit_fixed(out: &mut Vec<u8>, ctl_code: FsctlCode, file_id: FileId, length: usize) {
        Self::put_fixed(out, ctl_code, file_id, 0, length);
    }

    fn put_fixed(out: &mut Vec<u8>, ctl_code: FsctlCode, file_id: FileId, input: usize, output: usize) {
        let behind_input = RESPONSE_BUFFER_OFFSET.saturating_add(input);
        let output_offset = behind_input.saturating_add(wire::padding(behind_input, 8));
        wire::put(
            out,
            &ResponseFixed {
                structure_size: 49,
                reserved: 0,
                ctl_code,
                file_id,
                input_offset: wire::length_u32(RESPONSE_BUFFER_OFFSET),
                input_count: wire::length_u32(input),
                output_offset: if output == 0 { 0 } else { wire::length_u32(output_offset) },
                output_count: wire::length_u32(output),
                flags: 0,
                reserved2: 0,
            },
        );
    }

    /// Appends the body with its input and output.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let start = out.len();
        Self::put_fixed(out, self.ctl_code, self.file_id, self.input.len(), self.output.len());
        out.extend_from_slice(&self.input);
        if !self.output.is_empty() {
            wire::align(out, start, 8);
            out.extend_from_slice(&self.output);
        }
    }
}

/// NETWORK_RESILIENCY_REQUEST, input of [`FsctlCode::LMR_REQUEST_RESILIENCY`] (2.2.31.3).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetworkResiliencyRequest {
    /// How long the server shall keep the open after a disconnect, in milliseconds.
    #[brw(pad_after = 4)] // Reserved.
    pub timeout_ms: u32,
}

impl NetworkResiliencyRequest {
    /// Reads the input.
    ///
    /// # Errors
    /// [`Malformed`] when it is shorter than 8 bytes.
    pub fn parse(input: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "resiliency request";
        wire::fixed(input.get(..8).ok_or(Malformed(WHAT))?, 0, WHAT)
    }

    /// Appends the input.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(out, self);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, round_trip};
    use super::*;
    use crate::payload::Payload;

    fn request(input: &'static [u8]) -> Request {
        Request {
            ctl_code: FsctlCode::PIPE_TRANSCEIVE,
            file_id: FileId { persistent: 1, volatile: 2 },
            input: Bytes::from_static(input),
            max_input_response: 0,
            output_count: 0,
            max_output_response: 1024,
            flags: IoctlFlags::IS_FSCTL,
        }
    }

    fn response(input: &'static [u8], output: &'static [u8]) -> Response {
        Response {
            ctl_code: FsctlCode::PIPE_TRANSCEIVE,
            file_id: FileId { persistent: 1, volatile: 2 },
            input: Bytes::from_static(input),
            output: Bytes::from_static(output),
        }
    }

    #[test]
    fn round_trips() {
        round_trip(&request(b"ping"), Request::emit, Request::parse);
        round_trip(&request(b""), Request::emit, Request::parse);
        for (input, output) in
            [(b"".as_slice(), b"".as_slice()), (b"", b"pong"), (b"abc", b"pong"), (b"abc", b"")]
        {
            round_trip(&response(input, output), Response::emit, Response::parse);
        }
        assert_eq!(message(|out| response(b"", b"").emit(out)).len(), 64 + 48);
    }

    #[test]
    fn output_stands_at_a_multiple_of_eight() {
        let bytes = message(|out| response(b"abc", b"pong").emit(out));
        assert_eq!((bytes[96], &bytes[120..]), (120, b"pong".as_slice()));
    }

    #[test]
    fn a_payload_is_sent_from_where_it_lies() {
        let whole = response(b"", b"pong");
        let mut front = vec![0; BODY_OFFSET];
        Response::emit_fixed(&mut front, whole.ctl_code, whole.file_id, whole.output.len());
        let sent = Payload::copy_from(&whole.output).prepend(&front).into_bytes();
        assert_eq!(Response::parse(&sent), Ok(whole));
    }

    #[test]
    fn misplaced_input_is_refused() {
        let good = message(|out| request(&[3; 16]).emit(out));
        // InputOffset: zero, in the fixed part, unaligned, outside; InputCount: outside.
        for (position, value) in [(88, 0), (88, 112), (88, 121), (88, 128), (91, 0xFF), (92, 17), (95, 0xFF)]
        {
            let mut bytes = good.to_vec();
            bytes[position] = value;
            assert!(Request::parse(&bytes.into()).is_err(), "{position}: {value}");
        }
    }

    #[test]
    fn output_outside_the_message_is_refused() {
        let good = message(|out| response(b"", b"pong").emit(out));
        for (position, value) in [(96, 113), (99, 0xFF), (100, 5), (103, 0xFF)] {
            let mut bytes = good.to_vec();
            bytes[position] = value;
            assert!(Response::parse(&bytes.into()).is_err(), "{position}: {value}");
        }
    }

    #[test]
    fn resiliency_requests_make_the_round_trip() {
        let mut bytes = Vec::new();
        NetworkResiliencyRequest { timeout_ms: 60_000 }.emit(&mut bytes);
        assert_eq!(bytes, [0x60, 0xEA, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            NetworkResiliencyRequest::parse(&bytes),
            Ok(NetworkResiliencyRequest { timeout_ms: 60_000 })
        );
        assert!((0..8).all(|length| NetworkResiliencyRequest::parse(&bytes[..length]).is_err()));
    }
}
