//! The one SMB1 message that a server of SMB 2 answers: the NEGOTIATE by which a client that speaks both asks for
//! either (MS-SMB2 3.2.4.2.2.1, 3.3.5.3). It is answered by an SMB2 NEGOTIATE response or by the end of the connection,
//! so that there is no response here.
//!
//! An SMB1 header has 32 bytes: protocol identifier, command, status (4), flags (1), flags2 (2), and identifiers that
//! mean nothing before a session exists. The body is a count of parameter words (none), a count of bytes, and the
//! dialects, each a byte of 2 and a string that ends with a zero.

use binrw::binrw;
use bytes::Bytes;

use crate::error::Malformed;
use crate::wire;

/// SMB_COM_NEGOTIATE.
pub const COMMAND_NEGOTIATE: u8 = 0x72;
/// The dialect string that stands for SMB 2.0.2.
pub const DIALECT_2_0_2: &[u8] = b"SMB 2.002";
/// The dialect string that stands for SMB 2.1 and everything later.
pub const DIALECT_2_WILDCARD: &[u8] = b"SMB 2.???";

/// Precedes each dialect string.
const BUFFER_FORMAT_DIALECT: u8 = 0x02;
/// Flags that Windows sends: paths in canonical form, without regard to case.
const FLAGS: u8 = 0x18;
/// Flags2 that Windows sends: long names, extended attributes, extended security, NT status codes, Unicode.
const FLAGS2: u16 = 0xC853;

/// A multi-protocol NEGOTIATE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NegotiateRequest {
    /// The dialect strings without what surrounds them, in the client's order.
    pub dialects: Vec<Bytes>,
}

#[binrw]
#[brw(little, magic = b"\xFFSMB")]
struct Fixed {
    #[br(assert(command == COMMAND_NEGOTIATE))]
    command: u8,
    status: u32,
    flags: u8,
    flags2: u16,
    process_id_high: u16,
    security_features: [u8; 8],
    reserved: u16,
    tree_id: u16,
    process_id: u16,
    user_id: u16,
    multiplex_id: u16,
    #[br(assert(word_count == 0))]
    word_count: u8,
    byte_count: u16,
}

/// Size of header, word count and byte count.
const FIXED_SIZE: usize = 35;

impl NegotiateRequest {
    /// Whether the client offers this dialect string.
    #[must_use]
    pub fn offers(&self, dialect: &[u8]) -> bool {
        self.dialects.iter().any(|offered| offered.as_ref() == dialect)
    }

    /// Reads an SMB1 message.
    ///
    /// # Errors
    /// [`Malformed`] when it is another command, short, or its dialects are not what they should be.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: Fixed = wire::fixed(message, 0, "SMB1 NEGOTIATE request")?;
        let length = usize::from(fixed.byte_count);
        let mut rest = wire::slice(message, FIXED_SIZE, length, "SMB1 NEGOTIATE request: byte count")?;
        let mut dialects = Vec::new();
        while let Some((&format, tail)) = rest.split_first() {
            let end = tail.iter().position(|byte| *byte == 0);
            let (Some(end), BUFFER_FORMAT_DIALECT) = (end, format) else {
                return Err(Malformed("SMB1 NEGOTIATE request: dialects"));
            };
            let mut dialect = rest.split_to(end.saturating_add(2));
            dialect.truncate(end.saturating_add(1));
            dialects.push(dialect.split_off(1));
        }
        Ok(Self { dialects })
    }

    /// Appends the whole message, header included, as a Windows client sends it.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let byte_count = self.dialects.iter().fold(0, |sum: usize, dialect| {
            sum.saturating_add(dialect.len()).saturating_add(2) // format and terminator
        });
        wire::put(
            out,
            &Fixed {
                command: COMMAND_NEGOTIATE,
                status: 0,
                flags: FLAGS,
                flags2: FLAGS2,
                process_id_high: 0,
                security_features: [0; 8],
                reserved: 0,
                tree_id: 0xFFFF,
                process_id: 0xFEFF,
                user_id: 0,
                multiplex_id: 0,
                word_count: 0,
                byte_count: wire::length_u16(byte_count),
            },
        );
        for dialect in &self.dialects {
            out.push(BUFFER_FORMAT_DIALECT);
            out.extend_from_slice(dialect);
            out.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dialects of MS-SMB2's example 4.2.
    const EXAMPLE: [&[u8]; 8] = [
        b"PC NETWORK PROGRAM 1.0",
        b"LANMAN1.0",
        b"Windows for Workgroups 3.1a",
        b"LM1.2X002",
        b"LANMAN2.1",
        b"NT LM 0.12",
        DIALECT_2_0_2,
        DIALECT_2_WILDCARD,
    ];

    fn example() -> (NegotiateRequest, Vec<u8>) {
        let request = NegotiateRequest { dialects: EXAMPLE.map(Bytes::from_static).to_vec() };
        let mut bytes = Vec::new();
        request.emit(&mut bytes);
        (request, bytes)
    }

    #[test]
    fn the_specifications_example_makes_the_round_trip() {
        let (request, bytes) = example();
        assert_eq!(bytes[33..35], [120, 0]);
        assert_eq!(bytes[9..12], [0x18, 0x53, 0xC8]);
        assert_eq!(NegotiateRequest::parse(&bytes.into()).as_ref(), Ok(&request));
        assert!(request.offers(b"SMB 2.???"));
        assert!(request.offers(b"SMB 2.002"));
        assert!(!request.offers(b"SMB 2"));
    }

    #[test]
    fn truncations_are_refused() {
        let (_, bytes) = example();
        let bytes = Bytes::from(bytes);
        for length in 0..bytes.len() {
            assert!(NegotiateRequest::parse(&bytes.slice(..length)).is_err());
        }
    }

    #[test]
    fn other_commands_and_broken_dialects_are_refused() {
        let (_, bytes) = example();
        // Another protocol, another command, parameter words, a wrong format, and no terminator.
        for (position, value) in [(0, 0xFE), (4, 0x73), (32, 1), (35, 4), (bytes.len() - 1, b'!')] {
            let mut broken = bytes.clone();
            broken[position] = value;
            assert!(NegotiateRequest::parse(&broken.into()).is_err(), "byte {position}");
        }
    }

    #[test]
    fn no_dialects_are_an_empty_list() {
        let mut bytes = Vec::new();
        NegotiateRequest::default().emit(&mut bytes);
        assert_eq!(NegotiateRequest::parse(&bytes.into()), Ok(NegotiateRequest::default()));
    }
}
