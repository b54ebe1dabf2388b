//! ERROR (MS-SMB2 2.2.2): the response to whatever failed, and, without an error, the interim response of an operation
//! that takes longer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use binrw::binrw;
use bytes::Bytes;

use super::BODY_OFFSET;
use crate::error::Malformed;
use crate::flags::{flags, values};
use crate::name::Name;
use crate::wire;

values! {
    /// What an error context is about.
    pub struct ErrorId(u32);
    /// What the status says.
    DEFAULT = 0x0000_0000;
    /// A [`ShareRedirect`].
    SHARE_REDIRECT = 0x7264_5253;
}

/// An error context (2.2.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ErrorContext {
    /// What it is about.
    pub id: ErrorId,
    /// The data, in the form that the status implies.
    pub data: Bytes,
}

/// What is said beyond the status.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ErrorData {
    /// Data in the form that the status implies (2.2.2.2), or nothing: how dialects before 3.1.1 say it, and how 3.1.1
    /// says nothing.
    Plain(Bytes),
    /// Contexts around the data (3.1.1).
    Contexts(Vec<ErrorContext>),
}

impl Default for ErrorData {
    fn default() -> Self {
        Self::Plain(Bytes::new())
    }
}

impl ErrorData {
    /// Data as a dialect puts it: in a context for 3.1.1, plainly before.
    #[must_use]
    pub fn new(data: Bytes, in_context: bool) -> Self {
        if in_context {
            Self::Contexts(vec![ErrorContext { id: ErrorId::DEFAULT, data }])
        } else {
            Self::Plain(data)
        }
    }

    /// What `STATUS_BUFFER_TOO_SMALL` and `STATUS_INFO_LENGTH_MISMATCH` say: how many bytes would do.
    #[must_use]
    pub fn required_length(length: u32, in_context: bool) -> Self {
        Self::new(Bytes::copy_from_slice(&length.to_le_bytes()), in_context)
    }

    /// The data without what surrounds it: plain, or of the first context with the default id.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match self {
            Self::Plain(data) => data,
            Self::Contexts(contexts) => contexts
                .iter()
                .find(|context| context.id == ErrorId::DEFAULT)
                .map_or(&[], |context| context.data.as_ref()),
        }
    }
}

/// The response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Response {
    /// What is said beyond the status.
    pub data: ErrorData,
}

#[binrw]
#[brw(little)]
struct ResponseFixed {
    #[br(assert(structure_size == 9))]
    structure_size: u16,
    context_count: u8,
    reserved: u8,
    byte_count: u32,
}

/// Where the data starts.
const DATA_OFFSET: usize = BODY_OFFSET.saturating_add(8);
/// Where the field for the number of bytes stands.
const BYTE_COUNT_OFFSET: usize = BODY_OFFSET.saturating_add(4);

#[binrw]
#[brw(little)]
struct ContextHead {
    length: u32,
    id: ErrorId,
}

/// Size of the fixed part in front of a context's data.
const CONTEXT_HEAD_SIZE: usize = 8;
/// Contexts start at multiples of this, counted from the body, which is as aligned as the data behind its fixed part.
const CONTEXT_ALIGNMENT: usize = 8;

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or announces more than there is.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: ResponseFixed = wire::fixed(message, BODY_OFFSET, "ERROR response")?;
        let length =
            usize::try_from(fixed.byte_count).map_err(|_| Malformed("ERROR response: byte count"))?;
        let data = wire::slice(message, DATA_OFFSET, length, "ERROR response: byte count")?;
        if fixed.context_count == 0 {
            return Ok(Self { data: ErrorData::Plain(data) });
        }
        let mut contexts = Vec::new();
        let mut position: usize = 0;
        for _ in 0..fixed.context_count {
            const WHAT: &str = "ERROR response: context";
            let head: ContextHead = wire::fixed(&data, position, WHAT)?;
            let length = usize::try_from(head.length).map_err(|_| Malformed(WHAT))?;
            position = position.checked_add(CONTEXT_HEAD_SIZE).ok_or(Malformed(WHAT))?;
            contexts.push(ErrorContext { id: head.id, data: wire::slice(&data, position, length, WHAT)? });
            position = position.checked_add(length).ok_or(Malformed(WHAT))?;
            position =
                position.checked_add(wire::padding(position, CONTEXT_ALIGNMENT)).ok_or(Malformed(WHAT))?;
        }
        Ok(Self { data: ErrorData::Contexts(contexts) })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let context_count = match &self.data {
            ErrorData::Plain(_) => 0,
            ErrorData::Contexts(contexts) => u8::try_from(contexts.len()).unwrap_or(u8::MAX),
        };
        wire::put(out, &ResponseFixed { structure_size: 9, context_count, reserved: 0, byte_count: 0 });
        match &self.data {
            ErrorData::Plain(data) => out.extend_from_slice(data),
            ErrorData::Contexts(contexts) => {
                for context in contexts.iter().take(usize::from(context_count)) {
                    wire::align(out, 0, CONTEXT_ALIGNMENT);
                    let head = ContextHead { length: wire::length_u32(context.data.len()), id: context.id };
                    wire::put(out, &head);
                    out.extend_from_slice(&context.data);
                }
            }
        }
        let byte_count = out.len().saturating_sub(DATA_OFFSET);
        wire::patch_u32(out, BYTE_COUNT_OFFSET, wire::length_u32(byte_count));
        if byte_count == 0 {
            out.push(0); // StructureSize counts one byte of data; peers insist that it is there.
        }
    }
}

flags! {
    /// Flags of a symbolic link; undefined bits are kept.
    pub struct SymbolicLinkFlags(u32);
    /// The substitute name starts at the directory that holds the link.
    RELATIVE = 0x0000_0001;
}

/// What `STATUS_STOPPED_ON_SYMLINK` says: where the link leads (2.2.2.2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SymbolicLink {
    /// Bytes of the path that are behind the link.
    pub unparsed_path_length: u16,
    /// Where the link leads.
    pub substitute_name: Name,
    /// The same for people to read.
    pub print_name: Name,
    /// Flags.
    pub flags: SymbolicLinkFlags,
}

#[binrw]
#[brw(little)]
struct SymbolicLinkFixed {
    length: u32,
    #[br(assert(error_tag == SYMBOLIC_LINK_ERROR_TAG))]
    error_tag: u32,
    #[br(assert(reparse_tag == REPARSE_TAG_SYMLINK))]
    reparse_tag: u32,
    reparse_data_length: u16,
    unparsed_path_length: u16,
    substitute_name_offset: u16,
    substitute_name_length: u16,
    print_name_offset: u16,
    print_name_length: u16,
    flags: SymbolicLinkFlags,
}

const SYMBOLIC_LINK_ERROR_TAG: u32 = 0x4C4D_5953;
const REPARSE_TAG_SYMLINK: u32 = 0xA000_000C;
/// Where the names start.
const PATH_BUFFER_OFFSET: usize = 28;
/// What the length does not count: itself.
const LENGTH_SIZE: usize = 4;
/// What the reparse data length counts besides the names.
const REPARSE_FIXED: usize = 12;

impl SymbolicLink {
    /// Reads the data of an error.
    ///
    /// # Errors
    /// [`Malformed`] when it is short, is about something else, or points outside of itself.
    pub fn parse(data: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "symbolic link error";
        let fixed: SymbolicLinkFixed = wire::fixed(data, 0, WHAT)?;
        let name = |offset: u16, length: u16| {
            let start = PATH_BUFFER_OFFSET.saturating_add(usize::from(offset));
            let end = start.saturating_add(usize::from(length));
            Name::from_wire(data.get(start..end).ok_or(Malformed(WHAT))?)
        };
        Ok(Self {
            unparsed_path_length: fixed.unparsed_path_length,
            substitute_name: name(fixed.substitute_name_offset, fixed.substitute_name_length)?,
            print_name: name(fixed.print_name_offset, fixed.print_name_length)?,
            flags: fixed.flags,
        })
    }

    /// The data of an error.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let substitute_name_length = self.substitute_name.wire_len();
        let print_name_length = self.print_name.wire_len();
        let names = substitute_name_length.saturating_add(print_name_length);
        let length = PATH_BUFFER_OFFSET.saturating_sub(LENGTH_SIZE).saturating_add(names);
        let mut out = Vec::new();
        wire::put(
            &mut out,
            &SymbolicLinkFixed {
                length: wire::length_u32(length),
                error_tag: SYMBOLIC_LINK_ERROR_TAG,
                reparse_tag: REPARSE_TAG_SYMLINK,
                reparse_data_length: wire::length_u16(names.saturating_add(REPARSE_FIXED)),
                unparsed_path_length: self.unparsed_path_length,
                substitute_name_offset: 0,
                substitute_name_length: wire::length_u16(substitute_name_length),
                print_name_offset: wire::length_u16(substitute_name_length),
                print_name_length: wire::length_u16(print_name_length),
                flags: self.flags,
            },
        );
        wire::put_utf16(&mut out, self.substitute_name.units());
        wire::put_utf16(&mut out, self.print_name.units());
        out.into()
    }
}

/// Where a share has moved (2.2.2.2.2): with `STATUS_BAD_NETWORK_NAME`, in a context of 3.1.1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShareRedirect {
    /// Addresses that serve the share.
    pub addresses: Vec<IpAddr>,
    /// The share's name.
    pub resource_name: Name,
}

#[binrw]
#[brw(little)]
struct ShareRedirectFixed {
    #[br(assert(structure_size == 48))]
    structure_size: u32,
    notification_type: u32,
    resource_name_offset: u32,
    resource_name_length: u32,
    reserved: u16,
    target_type: u16,
    address_count: u32,
}

/// MOVE_DST_IPADDR (2.2.2.2.2.1).
#[binrw]
#[brw(little)]
struct MoveAddress {
    kind: u32,
    reserved: u32,
    address: [u8; 16],
}

const SHARE_MOVE_NOTIFICATION: u32 = 3;
/// Size of the fixed part of a redirect.
const SHARE_REDIRECT_FIXED: usize = 24;
/// Size of an address.
const MOVE_ADDRESS_SIZE: usize = 24;
const ADDRESS_V4: u32 = 1;
const ADDRESS_V6: u32 = 2;

impl ShareRedirect {
    /// Reads the data of a context. Addresses that are neither IPv4 nor IPv6 are left out.
    ///
    /// # Errors
    /// [`Malformed`] when it is short or points outside of itself.
    pub fn parse(data: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "share redirect";
        let fixed: ShareRedirectFixed = wire::fixed(data, 0, WHAT)?;
        let mut addresses = Vec::new();
        let mut position = SHARE_REDIRECT_FIXED;
        for _ in 0..fixed.address_count {
            let entry: MoveAddress = wire::fixed(data, position, WHAT)?;
            let [a, b, c, d, ..] = entry.address;
            match entry.kind {
                ADDRESS_V4 => addresses.push(Ipv4Addr::new(a, b, c, d).into()),
                ADDRESS_V6 => addresses.push(Ipv6Addr::from(entry.address).into()),
                _ => {}
            }
            position = position.saturating_add(MOVE_ADDRESS_SIZE);
        }
        let start = usize::try_from(fixed.resource_name_offset).map_err(|_| Malformed(WHAT))?;
        let length = usize::try_from(fixed.resource_name_length).map_err(|_| Malformed(WHAT))?;
        let end = start.checked_add(length).ok_or(Malformed(WHAT))?;
        let resource_name = Name::from_wire(data.get(start..end).ok_or(Malformed(WHAT))?)?;
        Ok(Self { addresses, resource_name })
    }

    /// The data of a context.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let addresses = self.addresses.len().saturating_mul(MOVE_ADDRESS_SIZE);
        let mut out = Vec::new();
        wire::put(
            &mut out,
            &ShareRedirectFixed {
                structure_size: 48,
                notification_type: SHARE_MOVE_NOTIFICATION,
                resource_name_offset: wire::length_u32(SHARE_REDIRECT_FIXED.saturating_add(addresses)),
                resource_name_length: wire::length_u32(self.resource_name.wire_len()),
                reserved: 0,
                target_type: 0,
                address_count: wire::length_u32(self.addresses.len()),
            },
        );
        for address in &self.addresses {
            let (kind, address) = match address {
                IpAddr::V4(address) => {
                    let [a, b, c, d] = address.octets();
                    (ADDRESS_V4, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
                }
                IpAddr::V6(address) => (ADDRESS_V6, address.octets()),
            };
            wire::put(&mut out, &MoveAddress { kind, reserved: 0, address });
        }
        wire::put_utf16(&mut out, self.resource_name.units());
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, round_trip};
    use super::*;

    #[test]
    fn round_trips() {
        let plain = Response::default();
        round_trip(&plain, Response::emit, Response::parse);
        // Nothing to say takes nine bytes nevertheless.
        assert_eq!(message(|out| plain.emit(out))[64..], [9, 0, 0, 0, 0, 0, 0, 0, 0]);
        let sized = Response { data: ErrorData::required_length(0x1234, false) };
        round_trip(&sized, Response::emit, Response::parse);
        assert_eq!(message(|out| sized.emit(out))[64..], [9, 0, 0, 0, 4, 0, 0, 0, 0x34, 0x12, 0, 0]);
        let contexts = vec![
            ErrorContext { id: ErrorId::SHARE_REDIRECT, data: Bytes::from_static(b"redirect!") },
            ErrorContext { id: ErrorId::DEFAULT, data: Bytes::from_static(b"default") },
            ErrorContext { id: ErrorId(5), data: Bytes::new() },
        ];
        let response = Response { data: ErrorData::Contexts(contexts) };
        round_trip(&response, Response::emit, Response::parse);
        assert_eq!(response.data.data(), b"default");
    }

    #[test]
    fn counts_beyond_the_message_are_refused() {
        let sized = Response { data: ErrorData::required_length(7, true) };
        let bytes = message(|out| sized.emit(out)).to_vec();
        // One context more than there are, more bytes than there are, and a context longer than the data.
        for (position, value) in [(66, 2), (68, 13), (72, 5), (75, 0xFF)] {
            let mut broken = bytes.clone();
            broken[position] = value;
            assert!(Response::parse(&broken.into()).is_err(), "byte {position}");
        }
    }

    #[test]
    fn symbolic_links_make_the_round_trip() {
        // The first example of 2.2.2.2.1.1.
        let link = SymbolicLink {
            unparsed_path_length: 0x2E,
            substitute_name: Name::from(r"\??\D:\DonHall\MiscDocuments\PDocs"),
            print_name: Name::from(r"D:\DonHall\MiscDocuments\PDocs"),
            flags: SymbolicLinkFlags::EMPTY,
        };
        let bytes = link.to_bytes();
        assert_eq!(SymbolicLink::parse(&bytes), Ok(link));
        assert_eq!(bytes[4..8], *b"SYML");
        assert_eq!(bytes[16..20], [0, 0, 0x44, 0]);
        assert_eq!(usize::from(bytes[0]) + 4, bytes.len());
        assert_eq!(usize::from(bytes[12]) + 16, bytes.len());
        for length in 0..bytes.len() {
            assert!(SymbolicLink::parse(&bytes[..length]).is_err());
        }
        let mut broken = bytes.to_vec();
        broken[16..18].fill(0xFF);
        assert!(SymbolicLink::parse(&broken).is_err());
    }

    #[test]
    fn share_redirects_make_the_round_trip() {
        let redirect = ShareRedirect {
            addresses: vec![Ipv4Addr::new(192, 0, 2, 7).into(), Ipv6Addr::LOCALHOST.into()],
            resource_name: Name::from("share"),
        };
        let bytes = redirect.to_bytes();
        assert_eq!(bytes.len(), 24 + 2 * 24 + 10);
        assert_eq!(ShareRedirect::parse(&bytes), Ok(redirect));
        for length in 0..bytes.len() {
            assert!(ShareRedirect::parse(&bytes[..length]).is_err());
        }
        let mut broken = bytes.to_vec();
        broken[20..24].fill(0xFF);
        assert!(ShareRedirect::parse(&broken).is_err());
    }
}
