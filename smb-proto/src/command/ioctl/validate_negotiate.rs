//! VALIDATE_NEGOTIATE_INFO (MS-SMB2 2.2.31.4, 2.2.32.6). Fields are those of NEGOTIATE, as numbers: they are compared,
//! not interpreted.

use binrw::binrw;

use crate::error::Malformed;
use crate::wire;

/// What the client says it negotiated with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ValidateNegotiateRequest {
    /// The client's Capabilities.
    pub capabilities: u32,
    /// ClientGuid.
    pub guid: [u8; 16],
    /// The client's SecurityMode.
    pub security_mode: u16,
    /// The dialects that the client offered, in its order.
    pub dialects: Vec<u16>,
}

/// What the server says it negotiated.
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValidateNegotiateResponse {
    /// The server's Capabilities.
    pub capabilities: u32,
    /// ServerGuid.
    pub guid: [u8; 16],
    /// The server's SecurityMode.
    pub security_mode: u16,
    /// The connection's dialect.
    pub dialect: u16,
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    capabilities: u32,
    guid: [u8; 16],
    security_mode: u16,
    dialect_count: u16,
}

/// Size of the fixed part of a request.
const REQUEST_FIXED: usize = 24;

impl ValidateNegotiateRequest {
    /// Reads the input.
    ///
    /// # Errors
    /// [`Malformed`] when it is shorter than its fixed part and its dialects.
    pub fn parse(input: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "negotiate validation request";
        let fixed: RequestFixed = wire::fixed(input, 0, WHAT)?;
        let end = usize::from(fixed.dialect_count).saturating_mul(2).saturating_add(REQUEST_FIXED);
        let dialects = wire::utf16(input.get(REQUEST_FIXED..end).ok_or(Malformed(WHAT))?, WHAT)?;
        Ok(Self {
            capabilities: fixed.capabilities,
            guid: fixed.guid,
            security_mode: fixed.security_mode,
            dialects,
        })
    }

    /// Appends the input.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(
            out,
            &RequestFixed {
                capabilities: self.capabilities,
                guid: self.guid,
                security_mode: self.security_mode,
                dialect_count: wire::length_u16(self.dialects.len()),
            },
        );
        for dialect in &self.dialects {
            out.extend_from_slice(&dialect.to_le_bytes());
        }
    }
}

impl ValidateNegotiateResponse {
    /// Reads the output.
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(output: &[u8]) -> Result<Self, Malformed> {
        wire::fixed(output, 0, "negotiate validation response")
    }

    /// Appends the output.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(out, self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_make_the_round_trip() {
        let dialects = vec![0x0202, 0x0210, 0x0300, 0x0302];
        let request =
            ValidateNegotiateRequest { capabilities: 0x7F, guid: [3; 16], security_mode: 1, dialects };
        let mut bytes = Vec::new();
        request.emit(&mut bytes);
        assert_eq!(bytes.len(), 24 + 8);
        assert_eq!(ValidateNegotiateRequest::parse(&bytes), Ok(request));
        assert!((0..bytes.len()).all(|length| ValidateNegotiateRequest::parse(&bytes[..length]).is_err()));
        bytes[23] = 0xFF;
        assert!(ValidateNegotiateRequest::parse(&bytes).is_err());
    }

    #[test]
    fn responses_make_the_round_trip() {
        let response = ValidateNegotiateResponse {
            capabilities: 0x7F,
            guid: [3; 16],
            security_mode: 3,
            dialect: 0x0302,
        };
        let mut bytes = Vec::new();
        response.emit(&mut bytes);
        assert_eq!(bytes.len(), 24);
        assert_eq!(ValidateNegotiateResponse::parse(&bytes), Ok(response));
        assert!((0..bytes.len()).all(|length| ValidateNegotiateResponse::parse(&bytes[..length]).is_err()));
    }
}
