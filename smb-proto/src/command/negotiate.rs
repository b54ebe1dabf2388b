//! NEGOTIATE (MS-SMB2 2.2.3, 2.2.4).

use std::fmt;

use binrw::binrw;
use bytes::Bytes;

use super::BODY_OFFSET;
use super::negotiate_context::{self, NegotiateContext};
use crate::error::Malformed;
use crate::flags::flags;
use crate::time::FileTime;
use crate::wire;

/// A dialect revision; unknown ones are kept. Later dialects compare greater.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dialect(pub u16);

impl Dialect {
    /// SMB 2.0.2.
    pub const SMB_2_0_2: Self = Self(0x0202);
    /// SMB 2.1.
    pub const SMB_2_1: Self = Self(0x0210);
    /// "2.1 or later, ask again by SMB2": the answer to a multi-protocol NEGOTIATE, never a dialect to speak.
    pub const WILDCARD: Self = Self(0x02FF);
    /// SMB 3.0.
    pub const SMB_3_0: Self = Self(0x0300);
    /// SMB 3.0.2.
    pub const SMB_3_0_2: Self = Self(0x0302);
    /// SMB 3.1.1.
    pub const SMB_3_1_1: Self = Self(0x0311);

    /// Whether it belongs to the SMB 3.x family.
    #[must_use]
    pub const fn is_smb3(self) -> bool {
        self.0 >= Self::SMB_3_0.0
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SMB_2_0_2 => f.write_str("2.0.2"),
            Self::SMB_2_1 => f.write_str("2.1"),
            Self::WILDCARD => f.write_str("2.???"),
            Self::SMB_3_0 => f.write_str("3.0"),
            Self::SMB_3_0_2 => f.write_str("3.0.2"),
            Self::SMB_3_1_1 => f.write_str("3.1.1"),
            Self(other) => write!(f, "0x{other:04X}"),
        }
    }
}

impl fmt::Debug for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

flags! {
    /// What a peer thinks of signing, here and in SESSION_SETUP (where the field has 8 bits).
    pub struct SecurityMode(u16);
    /// Messages can be signed.
    SIGNING_ENABLED = 0x0001;
    /// Messages must be signed.
    SIGNING_REQUIRED = 0x0002;
}

flags! {
    /// What a peer can do.
    pub struct Capabilities(u32);
    /// The distributed file system.
    DFS = 0x0000_0001;
    /// Leases (2.1).
    LEASING = 0x0000_0002;
    /// Requests that cost several credits (2.1).
    LARGE_MTU = 0x0000_0004;
    /// Several connections for one session (3.0).
    MULTI_CHANNEL = 0x0000_0008;
    /// Persistent handles (3.0).
    PERSISTENT_HANDLES = 0x0000_0010;
    /// Leases of directories (3.0).
    DIRECTORY_LEASING = 0x0000_0020;
    /// Encryption (3.0 and 3.0.2; a context says so in 3.1.1).
    ENCRYPTION = 0x0000_0040;
    /// Notifications from server to client (3.1.1).
    NOTIFICATIONS = 0x0000_0080;
}

/// A request to negotiate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// What the client thinks of signing.
    pub security_mode: SecurityMode,
    /// What the client can do.
    pub capabilities: Capabilities,
    /// Which client this is.
    pub client_guid: [u8; 16],
    /// The dialects on offer; none at all is for the server to refuse.
    pub dialects: Vec<Dialect>,
    /// The contexts; there is no place for them unless 3.1.1 is among the dialects.
    pub contexts: Vec<NegotiateContext>,
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    #[br(assert(structure_size == 36))]
    structure_size: u16,
    dialect_count: u16,
    security_mode: u16,
    reserved: u16,
    capabilities: u32,
    client_guid: [u8; 16],
    context_offset: u32,
    context_count: u16,
    reserved2: u16,
}

/// Size of the fixed part of a request.
const REQUEST_FIXED: usize = 36;
/// Where a request holds the offset of its contexts.
const REQUEST_CONTEXT_OFFSET: usize = BODY_OFFSET.saturating_add(28);

impl Request {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or points outside the message.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: RequestFixed = wire::fixed(message, BODY_OFFSET, "NEGOTIATE request")?;
        let dialects = wire::slice(
            message,
            BODY_OFFSET.saturating_add(REQUEST_FIXED),
            usize::from(fixed.dialect_count).saturating_mul(2),
            "NEGOTIATE request: dialects",
        )?;
        let dialects: Vec<_> =
            wire::utf16(&dialects, "NEGOTIATE request: dialects")?.into_iter().map(Dialect).collect();
        // Without 3.1.1 the place of the contexts is an unused time, which clients may fill with anything.
        let contexts = if dialects.contains(&Dialect::SMB_3_1_1) {
            let offset = usize::try_from(fixed.context_offset)
                .map_err(|_| Malformed("NEGOTIATE request: offset of contexts"))?;
            negotiate_context::parse_list(message, offset, fixed.context_count)?
        } else {
            Vec::new()
        };
        Ok(Self {
            security_mode: SecurityMode(fixed.security_mode),
            capabilities: Capabilities(fixed.capabilities),
            client_guid: fixed.client_guid,
            dialects,
            contexts,
        })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let contexts: &[_] = if self.dialects.contains(&Dialect::SMB_3_1_1) { &self.contexts } else { &[] };
        wire::put(
            out,
            &RequestFixed {
                structure_size: 36,
                dialect_count: wire::length_u16(self.dialects.len()),
                security_mode: self.security_mode.0,
                reserved: 0,
                capabilities: self.capabilities.0,
                client_guid: self.client_guid,
                context_offset: 0,
                context_count: wire::length_u16(contexts.len()),
                reserved2: 0,
            },
        );
        for dialect in &self.dialects {
            out.extend_from_slice(&dialect.0.to_le_bytes());
        }
        let offset = negotiate_context::emit_list(contexts, out);
        wire::patch_u32(out, REQUEST_CONTEXT_OFFSET, wire::length_u32(offset));
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Response {
    /// What the server thinks of signing.
    pub security_mode: SecurityMode,
    /// The dialect of the connection, or [`Dialect::WILDCARD`].
    pub dialect: Dialect,
    /// Which server this is.
    pub server_guid: [u8; 16],
    /// What the server can do.
    pub capabilities: Capabilities,
    /// Most bytes of a QUERY_INFO, QUERY_DIRECTORY, SET_INFO, CHANGE_NOTIFY or IOCTL buffer.
    pub max_transact_size: u32,
    /// Most bytes of a READ.
    pub max_read_size: u32,
    /// Most bytes of a WRITE.
    pub max_write_size: u32,
    /// The server's clock.
    pub system_time: FileTime,
    /// When the server started, usually zero.
    pub server_start_time: FileTime,
    /// The token by which the server starts authentication; empty if the client is to start it.
    pub security_buffer: Bytes,
    /// The contexts; there is no place for them unless the dialect is 3.1.1.
    pub contexts: Vec<NegotiateContext>,
}

#[binrw]
#[brw(little)]
struct ResponseFixed {
    #[br(assert(structure_size == 65))]
    structure_size: u16,
    security_mode: u16,
    dialect: u16,
    context_count: u16,
    server_guid: [u8; 16],
    capabilities: u32,
    max_transact_size: u32,
    max_read_size: u32,
    max_write_size: u32,
    system_time: u64,
    server_start_time: u64,
    security_buffer_offset: u16,
    security_buffer_length: u16,
    context_offset: u32,
}

/// Where a response holds the offset of its contexts.
const RESPONSE_CONTEXT_OFFSET: usize = BODY_OFFSET.saturating_add(60);
/// Where the security buffer of our responses starts.
const SECURITY_BUFFER_OFFSET: u16 = 128;

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or points outside the message.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: ResponseFixed = wire::fixed(message, BODY_OFFSET, "NEGOTIATE response")?;
        let security_buffer = wire::slice(
            message,
            usize::from(fixed.security_buffer_offset),
            usize::from(fixed.security_buffer_length),
            "NEGOTIATE response: security buffer",
        )?;
        let dialect = Dialect(fixed.dialect);
        let contexts = if dialect == Dialect::SMB_3_1_1 {
            let offset = usize::try_from(fixed.context_offset)
                .map_err(|_| Malformed("NEGOTIATE response: offset of contexts"))?;
            negotiate_context::parse_list(message, offset, fixed.context_count)?
        } else {
            Vec::new()
        };
        Ok(Self {
            security_mode: SecurityMode(fixed.security_mode),
            dialect,
            server_guid: fixed.server_guid,
            capabilities: Capabilities(fixed.capabilities),
            max_transact_size: fixed.max_transact_size,
            max_read_size: fixed.max_read_size,
            max_write_size: fixed.max_write_size,
            system_time: FileTime(fixed.system_time),
            server_start_time: FileTime(fixed.server_start_time),
            security_buffer,
            contexts,
        })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let contexts: &[_] = if self.dialect == Dialect::SMB_3_1_1 { &self.contexts } else { &[] };
        wire::put(
            out,
            &ResponseFixed {
                structure_size: 65,
                security_mode: self.security_mode.0,
                dialect: self.dialect.0,
                context_count: wire::length_u16(contexts.len()),
                server_guid: self.server_guid,
                capabilities: self.capabilities.0,
                max_transact_size: self.max_transact_size,
                max_read_size: self.max_read_size,
                max_write_size: self.max_write_size,
                system_time: self.system_time.0,
                server_start_time: self.server_start_time.0,
                security_buffer_offset: SECURITY_BUFFER_OFFSET,
                security_buffer_length: wire::length_u16(self.security_buffer.len()),
                context_offset: 0,
            },
        );
        super::put_buffer(out, &self.security_buffer);
        let offset = negotiate_context::emit_list(contexts, out);
        wire::patch_u32(out, RESPONSE_CONTEXT_OFFSET, wire::length_u32(offset));
    }
}

#[cfg(test)]
mod tests {
    use super::super::negotiate_context::{Cipher, HashAlgorithm, tests::samples};
    use super::super::tests::{from_hex, message, round_trip};
    use super::*;

    fn request() -> Request {
        Request {
            security_mode: SecurityMode::SIGNING_ENABLED,
            capabilities: Capabilities(0x7F),
            client_guid: *b"client-guid-1234",
            dialects: vec![Dialect::SMB_2_0_2, Dialect::SMB_2_1, Dialect(0x0224)],
            contexts: Vec::new(),
        }
    }

    fn response() -> Response {
        Response {
            security_mode: SecurityMode::SIGNING_ENABLED.with(SecurityMode::SIGNING_REQUIRED),
            dialect: Dialect::WILDCARD,
            server_guid: *b"server-guid-1234",
            capabilities: Capabilities::LEASING.with(Capabilities::LARGE_MTU),
            max_transact_size: 1 << 20,
            max_read_size: 2 << 20,
            max_write_size: 3 << 20,
            system_time: FileTime(4),
            server_start_time: FileTime(5),
            security_buffer: Bytes::from_static(b"token"),
            contexts: Vec::new(),
        }
    }

    #[test]
    fn round_trips() {
        round_trip(&request(), Request::emit, Request::parse);
        round_trip(&Request { dialects: Vec::new(), ..request() }, Request::emit, Request::parse);
        let dialects = vec![Dialect::SMB_3_0, Dialect::SMB_3_1_1];
        round_trip(&Request { dialects, contexts: samples(), ..request() }, Request::emit, Request::parse);
        round_trip(&response(), Response::emit, Response::parse);
        round_trip(
            &Response { security_buffer: Bytes::new(), ..response() },
            Response::emit,
            Response::parse,
        );
        let latest = Response { dialect: Dialect::SMB_3_1_1, contexts: samples(), ..response() };
        round_trip(&latest, Response::emit, Response::parse);
    }

    #[test]
    fn contexts_without_their_dialect_are_not_sent_nor_read() {
        let with_contexts = Request { contexts: samples(), ..request() };
        let bytes = message(|out| with_contexts.emit(out));
        assert_eq!(bytes, message(|out| request().emit(out)));
        // A client may leave anything in the time that 3.1.1 turned into the contexts' place.
        let mut bytes = bytes.to_vec();
        bytes[92..100].fill(0xFF);
        assert_eq!(Request::parse(&bytes.into()), Ok(request()));
    }

    #[test]
    fn hostile_offsets_are_refused() {
        let dialects = vec![Dialect::SMB_3_1_1];
        let bytes = message(|out| Request { dialects, contexts: samples(), ..request() }.emit(out)).to_vec();
        for offset in [u32::MAX, u32::MAX - 7, wire::length_u32(bytes.len())] {
            let mut bytes = bytes.clone();
            bytes[92..96].copy_from_slice(&offset.to_le_bytes());
            assert!(Request::parse(&bytes.into()).is_err());
        }
        let mut many_dialects = bytes;
        many_dialects[66..68].fill(0xFF);
        assert!(Request::parse(&many_dialects.into()).is_err());
        let mut bytes = message(|out| response().emit(out)).to_vec();
        bytes[120..122].fill(0xFF);
        assert!(Response::parse(&bytes.into()).is_err());
    }

    #[test]
    fn dialects_are_ordered_and_named() {
        assert!(Dialect::SMB_2_1 < Dialect::WILDCARD && Dialect::WILDCARD < Dialect::SMB_3_0);
        assert!(Dialect::SMB_3_0.is_smb3() && !Dialect::WILDCARD.is_smb3());
        assert_eq!(format!("{} {}", Dialect::SMB_3_1_1, Dialect(0x0310)), "3.1.1 0x0310");
    }

    // The exchange of a Windows client and server published with "SMB 2 and SMB 3 security in Windows 10: the
    // anatomy of signing and cryptographic keys", learn.microsoft.com/archive/blogs/openspecification.
    const PUBLISHED_REQUEST: &str = "
        FE534D4240000100000000000000800000000000000000000100000000000000FFFE000000000000
        00000000000000000000000000000000000000000000000024000500000000003F000000ECD86F32
        6276024F9F7752B89BB33F3A70000000020000000202100200030203110300000100260000000000
        010020000100FA49E6578F1F3A9F4CD3E9CC14A67AA884B3D05844E0E5A118225C15887F32FF0000
        0200060000000000020002000100";
    const PUBLISHED_RESPONSE: &str = "
        FE534D4240000100000000000000010001000000000000000100000000000000FFFE000000000000
        000000000000000000000000000000000000000000000000410001001103020039CBCAF329714942
        BDCE5D60F09AB3FB2F000000000080000000800000008000D8DAE5ADCBAED00109094AB095AED001
        80004001C00100006082013C06062B0601050502A08201303082012CA01A3018060A2B0601040182
        3702021E060A2B06010401823702020AA282010C048201084E45474F455854530100000000000000
        60000000700000007C7CC0FD06D6362D02DDE1CF343BFE292900F49750B4AA97934D9C4296B26E51
        FD370471B235E15A50DAE15BD5489C87000000000000000060000000010000000000000000000000
        5C33530DEAF90D4DB2EC4AE3786EC3084E45474F4558545303000000010000004000000098000000
        7C7CC0FD06D6362D02DDE1CF343BFE295C33530DEAF90D4DB2EC4AE3786EC3084000000058000000
        3056A05430523027802530233121301F06035504031318546F6B656E205369676E696E6720507562
        6C6963204B65793027802530233121301F06035504031318546F6B656E205369676E696E67205075
        626C6963204B6579010026000000000001002000010060A3C3B95C3C7CCD51EC536648D9B3AC74C4
        83CA5B65385A251117BEB30712E50000020004000000000001000200";

    #[test]
    fn published_request_is_read_and_written_byte_for_byte() {
        let bytes = from_hex(PUBLISHED_REQUEST);
        let request = Request::parse(&bytes).unwrap();
        assert_eq!(request.security_mode, SecurityMode(0));
        assert_eq!(request.capabilities, Capabilities(0x3F));
        let dialects =
            [Dialect::SMB_2_0_2, Dialect::SMB_2_1, Dialect::SMB_3_0, Dialect::SMB_3_0_2, Dialect::SMB_3_1_1];
        assert_eq!(request.dialects, dialects);
        let [
            NegotiateContext::PreauthIntegrity { algorithms, salt },
            NegotiateContext::Encryption { ciphers },
        ] = &request.contexts[..]
        else {
            panic!("{:?}", request.contexts);
        };
        assert_eq!(algorithms, &[HashAlgorithm::SHA_512]);
        assert_eq!(salt[..4], [0xFA, 0x49, 0xE6, 0x57]);
        assert_eq!(ciphers, &[Cipher::AES_128_GCM, Cipher::AES_128_CCM]);
        let mut written = bytes[..64].to_vec();
        request.emit(&mut written);
        assert_eq!(written, bytes);
    }

    #[test]
    fn published_response_is_read_and_written_byte_for_byte() {
        let bytes = from_hex(PUBLISHED_RESPONSE);
        let response = Response::parse(&bytes).unwrap();
        assert_eq!(response.dialect, Dialect::SMB_3_1_1);
        assert_eq!(response.security_mode, SecurityMode::SIGNING_ENABLED);
        assert_eq!(response.capabilities, Capabilities(0x2F));
        assert_eq!(response.max_read_size, 8 << 20);
        assert_eq!(response.security_buffer.len(), 320);
        assert_eq!(response.contexts.len(), 2);
        assert_eq!(response.contexts[1], NegotiateContext::Encryption { ciphers: vec![Cipher::AES_128_GCM] });
        let mut written = bytes[..64].to_vec();
        response.emit(&mut written);
        assert_eq!(written, bytes);
    }
}
