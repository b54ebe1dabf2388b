//! SESSION_SETUP (MS-SMB2 2.2.5, 2.2.6).

use binrw::binrw;
use bytes::Bytes;

use super::BODY_OFFSET;
use super::negotiate::{Capabilities, SecurityMode};
use crate::error::Malformed;
use crate::flags::flags;
use crate::wire;

flags! {
    /// Flags of a request.
    pub struct Flags(u8);
    /// The connection is to become a channel of an existing session (3.x).
    BINDING = 0x01;
}

flags! {
    /// Flags of a session, in the response.
    pub struct SessionFlags(u16);
    /// The user is a guest.
    IS_GUEST = 0x0001;
    /// The user is anonymous.
    IS_NULL = 0x0002;
    /// Every message of the session is to be encrypted (3.x).
    ENCRYPT_DATA = 0x0004;
}

/// A request to authenticate, or to go on doing so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Request {
    /// Flags.
    pub flags: Flags,
    /// What the client thinks of signing; only the low 8 bits exist.
    pub security_mode: SecurityMode,
    /// What the client can do; only `DFS` has a meaning here.
    pub capabilities: Capabilities,
    /// Unused.
    pub channel: u32,
    /// The client's session that was lost with its connection; zero if there is none.
    pub previous_session_id: u64,
    /// The authentication token.
    pub security_buffer: Bytes,
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    #[br(assert(structure_size == 25))]
    structure_size: u16,
    flags: u8,
    security_mode: u8,
    capabilities: u32,
    channel: u32,
    security_buffer_offset: u16,
    security_buffer_length: u16,
    previous_session_id: u64,
}

/// Where the security buffer of our requests starts.
const REQUEST_BUFFER_OFFSET: u16 = 88;

impl Request {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or points outside the message.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: RequestFixed = wire::fixed(message, BODY_OFFSET, "SESSION_SETUP request")?;
        let security_buffer = wire::slice(
            message,
            usize::from(fixed.security_buffer_offset),
            usize::from(fixed.security_buffer_length),
            "SESSION_SETUP request: security buffer",
        )?;
        Ok(Self {
            flags: Flags(fixed.flags),
            security_mode: SecurityMode(fixed.security_mode.into()),
            capabilities: Capabilities(fixed.capabilities),
            channel: fixed.channel,
            previous_session_id: fixed.previous_session_id,
            security_buffer,
        })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let [security_mode, _] = self.security_mode.0.to_le_bytes();
        wire::put(
            out,
            &RequestFixed {
                structure_size: 25,
                flags: self.flags.0,
                security_mode,
                capabilities: self.capabilities.0,
                channel: self.channel,
                security_buffer_offset: REQUEST_BUFFER_OFFSET,
                security_buffer_length: wire::length_u16(self.security_buffer.len()),
                previous_session_id: self.previous_session_id,
            },
        );
        super::put_buffer(out, &self.security_buffer);
    }
}

/// The answer, both when the session stands and when authentication goes on (`STATUS_MORE_PROCESSING_REQUIRED`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Response {
    /// Flags of the session.
    pub session_flags: SessionFlags,
    /// The authentication token.
    pub security_buffer: Bytes,
}

#[binrw]
#[brw(little)]
struct ResponseFixed {
    #[br(assert(structure_size == 9))]
    structure_size: u16,
    session_flags: u16,
    security_buffer_offset: u16,
    security_buffer_length: u16,
}

/// Where the security buffer of our responses starts.
const RESPONSE_BUFFER_OFFSET: u16 = 72;

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or points outside the message.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: ResponseFixed = wire::fixed(message, BODY_OFFSET, "SESSION_SETUP response")?;
        let security_buffer = wire::slice(
            message,
            usize::from(fixed.security_buffer_offset),
            usize::from(fixed.security_buffer_length),
            "SESSION_SETUP response: security buffer",
        )?;
        Ok(Self { session_flags: SessionFlags(fixed.session_flags), security_buffer })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(
            out,
            &ResponseFixed {
                structure_size: 9,
                session_flags: self.session_flags.0,
                security_buffer_offset: RESPONSE_BUFFER_OFFSET,
                security_buffer_length: wire::length_u16(self.security_buffer.len()),
            },
        );
        super::put_buffer(out, &self.security_buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{from_hex, message, round_trip};
    use super::*;

    #[test]
    fn round_trips() {
        let request = Request {
            flags: Flags::BINDING,
            security_mode: SecurityMode::SIGNING_REQUIRED,
            capabilities: Capabilities::DFS,
            channel: 3,
            previous_session_id: 1 << 44,
            security_buffer: Bytes::from_static(b"token"),
        };
        round_trip(&request, Request::emit, Request::parse);
        round_trip(&Request { security_buffer: Bytes::new(), ..request }, Request::emit, Request::parse);
        let response = Response {
            session_flags: SessionFlags::ENCRYPT_DATA,
            security_buffer: Bytes::from_static(b"token"),
        };
        round_trip(&response, Response::emit, Response::parse);
        round_trip(&Response::default(), Response::emit, Response::parse);
    }

    #[test]
    fn buffers_outside_of_the_message_are_refused() {
        let security_buffer = Bytes::from_static(b"token");
        let request = Request { security_buffer: security_buffer.clone(), ..Request::default() };
        let mut bytes = message(|out| request.emit(out)).to_vec();
        bytes[76] += 1;
        assert!(Request::parse(&bytes.into()).is_err());
        let response = Response { security_buffer, ..Response::default() };
        let mut bytes = message(|out| response.emit(out)).to_vec();
        bytes[70..72].fill(0xFF);
        assert!(Response::parse(&bytes.into()).is_err());
    }

    // From the same published exchange as the vectors of NEGOTIATE.
    const PUBLISHED_REQUEST: &str = "
        FE534D4240000100000000000100800000000000000000000200000000000000FFFE000000000000
        00000000000000000000000000000000000000000000000019000001010000000000000058004A00
        0000000000000000604806062B0601050502A03E303CA00E300C060A2B06010401823702020AA22A
        04284E544C4D5353500001000000978208E200000000000000000000000000000000060380250000
        000F";
    const PUBLISHED_RESPONSE: &str = "
        FE534D4240000100000000000100800009000000000000000300000000000000FFFE000000000000
        1900000000100000EBE146DA120BA25FC3376A49DFE31BC10900000048001D00A11B3019A0030A01
        00A3120410010000003B453CDC3524164200000000";

    #[test]
    fn published_messages_are_read_and_written_byte_for_byte() {
        let bytes = from_hex(PUBLISHED_REQUEST);
        let request = Request::parse(&bytes).unwrap();
        assert_eq!(request.security_mode, SecurityMode::SIGNING_ENABLED);
        assert_eq!(request.capabilities, Capabilities::DFS);
        assert_eq!(request.security_buffer.len(), 0x4A);
        let mut written = bytes[..64].to_vec();
        request.emit(&mut written);
        assert_eq!(written, bytes);

        let bytes = from_hex(PUBLISHED_RESPONSE);
        let response = Response::parse(&bytes).unwrap();
        assert_eq!(response.session_flags, SessionFlags(0));
        assert_eq!(response.security_buffer.len(), 0x1D);
        let mut written = bytes[..64].to_vec();
        response.emit(&mut written);
        assert_eq!(written, bytes);
    }
}
