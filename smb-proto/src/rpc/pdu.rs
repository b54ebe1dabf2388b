//! Connection-oriented PDUs (C706 12.6; MS-RPCE 2.2.2) and the framing that cuts a pipe's bytes into them.
//!
//! Security trailers (MS-RPCE 2.2.2.11) are recognised, so that they do not become part of a stub, and never emitted.

use super::ndr::{Reader, Writer};
use crate::error::Malformed;
use crate::wire;

/// Size of the header that all PDUs share.
pub const HEADER_SIZE: usize = 16;
/// Size of a request without an object, and of a response, up to the stub.
pub const CALL_HEADER_SIZE: usize = 24;
/// Largest PDU that this implementation receives or sends, the size customary on pipes.
pub const FRAGMENT_MAX: u16 = 4280;
/// Smallest fragment a peer may insist on: room for a response's header and one aligned piece of stub. C706 12.6.3.1
/// asks peers for more; there is no harm in serving those that take less.
pub const FRAGMENT_MIN: u16 = 32;

/// Size of a security trailer without its token.
const SECURITY_TRAILER_SIZE: usize = 8;
/// ASCII characters, little-endian integers, IEEE floating point.
const LITTLE_ENDIAN: [u8; 4] = [0x10, 0, 0, 0];

/// A UUID in the order of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// From the fields of its text: `first-second-third-rest`.
    #[must_use]
    pub const fn from_fields(first: u32, second: u16, third: u16, rest: [u8; 8]) -> Self {
        let [a, b, c, d] = first.to_le_bytes();
        let [e, f] = second.to_le_bytes();
        let [g, h] = third.to_le_bytes();
        let [i, j, k, l, m, n, o, p] = rest;
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }
}

/// An interface or transfer syntax with its version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SyntaxId {
    /// Which.
    pub uuid: Uuid,
    /// Major version.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
}

/// What the first eight bytes of a bind time feature negotiation's syntax are (MS-RPCE 3.3.1.5.3).
const FEATURE_PREFIX: [u8; 8] = [0x2C, 0x1C, 0xB7, 0x6C, 0x12, 0x98, 0x40, 0x45];

impl SyntaxId {
    /// NDR 2.0.
    pub const NDR: Self = Self {
        uuid: Uuid::from_fields(
            0x8A88_5D04,
            0x1CEB,
            0x11C9,
            [0x9F, 0xE8, 0x08, 0x00, 0x2B, 0x10, 0x48, 0x60],
        ),
        major: 2,
        minor: 0,
    };
    /// NDR64, which this implementation does not speak.
    pub const NDR64: Self = Self {
        uuid: Uuid::from_fields(
            0x7171_0533,
            0xBEBA,
            0x4937,
            [0x83, 0x19, 0xB5, 0xDB, 0xEF, 0x9C, 0xCC, 0x36],
        ),
        major: 1,
        minor: 0,
    };

    /// The syntax that asks for features at bind time (MS-RPCE 2.2.2.14).
    #[must_use]
    pub const fn features(bitmask: u8) -> Self {
        let [a, b, c, d, e, f, g, h] = FEATURE_PREFIX;
        Self { uuid: Uuid([a, b, c, d, e, f, g, h, bitmask, 0, 0, 0, 0, 0, 0, 0]), major: 1, minor: 0 }
    }

    /// The features asked for, if this syntax asks for features: the first byte of the bitmask, the only one defined.
    #[must_use]
    pub fn asked_features(&self) -> Option<u8> {
        let (prefix, bitmask) = self.uuid.0.split_at_checked(FEATURE_PREFIX.len())?;
        let asks = prefix == FEATURE_PREFIX && self.major == 1 && self.minor == 0;
        bitmask.first().copied().filter(|_| asks)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.align(4)?;
        Ok(Self { uuid: Uuid(reader.array()?), major: reader.u16()?, minor: reader.u16()? })
    }

    fn write(&self, writer: &mut Writer) {
        writer.align(4);
        writer.put(&self.uuid.0);
        writer.u16(self.major);
        writer.u16(self.minor);
    }
}

/// Kind of a PDU; unknown kinds are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PacketType(pub u8);

#[allow(missing_docs)]
impl PacketType {
    pub const REQUEST: Self = Self(0);
    pub const RESPONSE: Self = Self(2);
    pub const FAULT: Self = Self(3);
    pub const BIND: Self = Self(11);
    pub const BIND_ACK: Self = Self(12);
    pub const BIND_NAK: Self = Self(13);
    pub const ALTER_CONTEXT: Self = Self(14);
    pub const ALTER_CONTEXT_RESPONSE: Self = Self(15);
    pub const AUTH_3: Self = Self(16);
    pub const SHUTDOWN: Self = Self(17);
    pub const CANCEL: Self = Self(18);
    pub const ORPHANED: Self = Self(19);
}

/// Flags of a PDU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PacketFlags(pub u8);

impl PacketFlags {
    /// First fragment.
    pub const FIRST: Self = Self(0x01);
    /// Last fragment.
    pub const LAST: Self = Self(0x02);
    /// First and last: the whole.
    pub const WHOLE: Self = Self(0x03);
    /// Header signing in binds, a pending cancel elsewhere (MS-RPCE 2.2.2.3).
    pub const SUPPORT_HEADER_SIGN: Self = Self(0x04);
    /// Several calls may wait for answers at once.
    pub const CONCURRENT_MULTIPLEXING: Self = Self(0x10);
    /// The call that faulted was not begun.
    pub const DID_NOT_EXECUTE: Self = Self(0x20);
    /// The request names an object.
    pub const OBJECT: Self = Self(0x80);

    /// Whether all bits of `flags` are set.
    #[must_use]
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// With the bits of `flags` too.
    #[must_use]
    pub const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// Without the bits of `flags`.
    #[must_use]
    pub const fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }
}

/// The header that all PDUs share, as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Major version of the protocol, 5.
    pub version_major: u8,
    /// Minor version, 0 or 1.
    pub version_minor: u8,
    /// Kind.
    pub packet_type: PacketType,
    /// Flags.
    pub flags: PacketFlags,
    /// Size of the whole PDU in bytes.
    pub fragment_length: u16,
    /// Size of the authentication token at its end in bytes; not zero means that a security trailer precedes it.
    pub authentication_length: u16,
    /// The call.
    pub call_id: u32,
}

impl Header {
    /// Reads the first 16 bytes of a PDU.
    ///
    /// # Errors
    /// [`Malformed`] when they are fewer or do not announce little-endian data.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let [version_major, version_minor, packet_type, flags] = reader.array()?;
        let [integers, ..] = reader.array::<4>()?;
        if integers != LITTLE_ENDIAN[0] {
            return Err(Malformed("RPC: data representation is not little-endian with ASCII"));
        }
        Ok(Self {
            version_major,
            version_minor,
            packet_type: PacketType(packet_type),
            flags: PacketFlags(flags),
            fragment_length: reader.u16()?,
            authentication_length: reader.u16()?,
            call_id: reader.u32()?,
        })
    }
}

/// A presentation context that a client offers: an interface, and syntaxes to speak it in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContextElement {
    /// The number that requests name it by.
    pub context_id: u16,
    /// The interface.
    pub abstract_syntax: SyntaxId,
    /// The transfer syntaxes, at most 255.
    pub transfer_syntaxes: Vec<SyntaxId>,
}

/// Body of bind and alter_context (C706 12.6.4.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bind {
    /// Largest fragment that the sender sends.
    pub transmit_fragment_max: u16,
    /// Largest fragment that the sender receives.
    pub receive_fragment_max: u16,
    /// Association to join, 0 for a new one.
    pub association_group_id: u32,
    /// What is offered, at most 255 contexts.
    pub contexts: Vec<ContextElement>,
}

/// How a context was answered; unknown results are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContextResult(pub u16);

impl ContextResult {
    /// Accepted.
    pub const ACCEPTANCE: Self = Self(0);
    /// Rejected by the service's user.
    pub const USER_REJECTION: Self = Self(1);
    /// Rejected by the runtime, with a [`RejectionReason`].
    pub const PROVIDER_REJECTION: Self = Self(2);
    /// Features were negotiated; the reason is their bitmask (MS-RPCE 2.2.2.4).
    pub const NEGOTIATE_ACK: Self = Self(3);
}

/// Why a context was rejected; unknown reasons are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RejectionReason(pub u16);

impl RejectionReason {
    /// None is given.
    pub const NOT_SPECIFIED: Self = Self(0);
    /// The interface is not served here.
    pub const ABSTRACT_SYNTAX_NOT_SUPPORTED: Self = Self(1);
    /// None of the transfer syntaxes is spoken.
    pub const TRANSFER_SYNTAXES_NOT_SUPPORTED: Self = Self(2);
    /// Too many contexts.
    pub const LOCAL_LIMIT_EXCEEDED: Self = Self(3);
}

/// The answer to one context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContextAnswer {
    /// Accepted or not.
    pub result: ContextResult,
    /// Why not, or the features.
    pub reason: RejectionReason,
    /// The transfer syntax accepted, otherwise zeros.
    pub transfer_syntax: SyntaxId,
}

/// Body of bind_ack and alter_context_resp (C706 12.6.4.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BindAck {
    /// Largest fragment that the server sends.
    pub transmit_fragment_max: u16,
    /// Largest fragment that the server receives.
    pub receive_fragment_max: u16,
    /// The association.
    pub association_group_id: u32,
    /// The secondary address in ASCII, without its terminating zero; empty in alter_context_resp.
    pub secondary_address: Vec<u8>,
    /// One answer per context offered, at most 255.
    pub answers: Vec<ContextAnswer>,
}

/// Why a bind was refused as a whole (MS-RPCE 2.2.2.5); unknown reasons are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NakReason(pub u16);

impl NakReason {
    /// None is given.
    pub const NOT_SPECIFIED: Self = Self(0);
    /// The server lacks resources.
    pub const LOCAL_LIMIT_EXCEEDED: Self = Self(2);
    /// The version is not spoken.
    pub const PROTOCOL_VERSION_NOT_SUPPORTED: Self = Self(4);
    /// The authentication type is not known.
    pub const AUTHENTICATION_TYPE_NOT_RECOGNIZED: Self = Self(8);
}

/// Body of bind_nak (MS-RPCE 2.2.2.9), without the optional signature.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BindNak {
    /// Why.
    pub reason: NakReason,
    /// Versions spoken, major and minor, at most 255.
    pub versions: Vec<(u8, u8)>,
}

/// Body of a request (C706 12.6.4.9), or of a fragment of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Bytes of stub from here on, 0 if not told. Never trusted.
    pub allocation_hint: u32,
    /// The presentation context.
    pub context_id: u16,
    /// The method.
    pub opnum: u16,
    /// The object, if one is named.
    pub object: Option<Uuid>,
    /// Arguments, in the transfer syntax.
    pub stub: Vec<u8>,
}

/// Body of a response (C706 12.6.4.10), or of a fragment of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Response {
    /// Bytes of stub from here on, 0 if not told. Never trusted.
    pub allocation_hint: u32,
    /// The presentation context.
    pub context_id: u16,
    /// Cancels received.
    pub cancel_count: u8,
    /// Results, in the transfer syntax.
    pub stub: Vec<u8>,
}

/// Why a call failed in the runtime (C706 appendix E; MS-RPCE 3.1.3.5.2). Unknown codes are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FaultStatus(pub u32);

impl FaultStatus {
    /// No such method.
    pub const OPERATION_RANGE: Self = Self(0x1C01_0002);
    /// No such presentation context.
    pub const UNKNOWN_INTERFACE: Self = Self(0x1C01_0003);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(0x1C01_000B);
    /// The stub does not hold the arguments.
    pub const BAD_STUB_DATA: Self = Self(0x0000_06F7);
}

/// Body of a fault (C706 12.6.4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// The presentation context.
    pub context_id: u16,
    /// Cancels received.
    pub cancel_count: u8,
    /// Why.
    pub status: FaultStatus,
}

/// What a PDU carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Body {
    Bind(Bind),
    BindAck(BindAck),
    BindNak(BindNak),
    AlterContext(Bind),
    AlterContextResponse(BindAck),
    Request(Request),
    Response(Response),
    Fault(Fault),
    /// Another kind, whose body is not interpreted.
    Other(PacketType, Vec<u8>),
}

/// A PDU.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Flags, without [`PacketFlags::OBJECT`], which the request's object implies.
    pub flags: PacketFlags,
    /// The call.
    pub call_id: u32,
    /// The rest.
    pub body: Body,
}

impl Packet {
    /// Reads one whole PDU; a security trailer is left out.
    ///
    /// # Errors
    /// [`Malformed`] when its length is not that of `bytes` or a part does not fit.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = Header::parse(bytes)?;
        if usize::from(header.fragment_length) != bytes.len() {
            return Err(Malformed("RPC: fragment length"));
        }
        let trailer = match usize::from(header.authentication_length) {
            0 => 0,
            token => token.saturating_add(SECURITY_TRAILER_SIZE),
        };
        let end = bytes.len().checked_sub(trailer).ok_or(Malformed("RPC: authentication length"))?;
        let bytes = bytes.get(..end).unwrap_or_default();
        let mut reader = Reader::new(bytes);
        reader.take(HEADER_SIZE)?;
        let body = match header.packet_type {
            PacketType::BIND => Body::Bind(Bind::read(&mut reader)?),
            PacketType::BIND_ACK => Body::BindAck(BindAck::read(&mut reader)?),
            PacketType::BIND_NAK => Body::BindNak(BindNak::read(&mut reader)?),
            PacketType::ALTER_CONTEXT => Body::AlterContext(Bind::read(&mut reader)?),
            PacketType::ALTER_CONTEXT_RESPONSE => Body::AlterContextResponse(BindAck::read(&mut reader)?),
            PacketType::REQUEST => {
                Body::Request(Request::read(&mut reader, header.flags.has(PacketFlags::OBJECT))?)
            }
            PacketType::RESPONSE => Body::Response(Response::read(&mut reader)?),
            PacketType::FAULT => Body::Fault(Fault::read(&mut reader)?),
            other => Body::Other(other, reader.rest().to_vec()),
        };
        let flags = match body {
            Body::Request(_) => header.flags.without(PacketFlags::OBJECT),
            _ => header.flags,
        };
        Ok(Self { flags, call_id: header.call_id, body })
    }

    /// Appends the PDU. Lengths beyond what its fields can say are the caller's mistake.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let (packet_type, flags) = match &self.body {
            Body::Bind(_) => (PacketType::BIND, self.flags),
            Body::BindAck(_) => (PacketType::BIND_ACK, self.flags),
            Body::BindNak(_) => (PacketType::BIND_NAK, self.flags),
            Body::AlterContext(_) => (PacketType::ALTER_CONTEXT, self.flags),
            Body::AlterContextResponse(_) => (PacketType::ALTER_CONTEXT_RESPONSE, self.flags),
            Body::Request(Request { object: Some(_), .. }) => {
                (PacketType::REQUEST, self.flags.with(PacketFlags::OBJECT))
            }
            Body::Request(_) => (PacketType::REQUEST, self.flags),
            Body::Response(_) => (PacketType::RESPONSE, self.flags),
            Body::Fault(_) => (PacketType::FAULT, self.flags),
            Body::Other(packet_type, _) => (*packet_type, self.flags),
        };
        let mut writer = Writer::new();
        writer.put(&[5, 0, packet_type.0, flags.0]);
        writer.put(&LITTLE_ENDIAN);
        writer.u16(0);
        writer.u16(0);
        writer.u32(self.call_id);
        match &self.body {
            Body::Bind(bind) | Body::AlterContext(bind) => bind.write(&mut writer),
            Body::BindAck(ack) | Body::AlterContextResponse(ack) => ack.write(&mut writer),
            Body::BindNak(nak) => nak.write(&mut writer),
            Body::Request(request) => request.write(&mut writer),
            Body::Response(response) => response.write(&mut writer),
            Body::Fault(fault) => fault.write(&mut writer),
            Body::Other(_, bytes) => writer.put(bytes),
        }
        let mut bytes = writer.into_bytes();
        debug_assert!(u16::try_from(bytes.len()).is_ok(), "a PDU longer than its length field can say");
        let length = wire::length_u16(bytes.len()).to_le_bytes();
        if let Some(field) = bytes.get_mut(8..10) {
            field.copy_from_slice(&length);
        }
        out.append(&mut bytes);
    }
}

/// A count for an 8-bit field of the wire.
fn length_u8(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

impl Bind {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let transmit_fragment_max = reader.u16()?;
        let receive_fragment_max = reader.u16()?;
        let association_group_id = reader.u32()?;
        let count = reader.u32()? & 0xFF;
        let mut contexts = Vec::new();
        for _ in 0..count {
            let context_id = reader.u16()?;
            let syntaxes = reader.u16()? & 0xFF;
            let abstract_syntax = SyntaxId::read(reader)?;
            let transfer_syntaxes =
                (0..syntaxes).map(|_| SyntaxId::read(reader)).collect::<Result<_, _>>()?;
            contexts.push(ContextElement { context_id, abstract_syntax, transfer_syntaxes });
        }
        Ok(Self { transmit_fragment_max, receive_fragment_max, association_group_id, contexts })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u16(self.transmit_fragment_max);
        writer.u16(self.receive_fragment_max);
        writer.u32(self.association_group_id);
        writer.u32(u32::from(length_u8(self.contexts.len())));
        for context in &self.contexts {
            writer.u16(context.context_id);
            writer.u16(u16::from(length_u8(context.transfer_syntaxes.len())));
            context.abstract_syntax.write(writer);
            for syntax in &context.transfer_syntaxes {
                syntax.write(writer);
            }
        }
    }
}

impl BindAck {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let transmit_fragment_max = reader.u16()?;
        let receive_fragment_max = reader.u16()?;
        let association_group_id = reader.u32()?;
        let address_length = reader.u16()?;
        let address = reader.take(usize::from(address_length))?;
        let secondary_address = address.strip_suffix(&[0]).unwrap_or(address).to_vec();
        let count = reader.u32()? & 0xFF;
        let mut answers = Vec::new();
        for _ in 0..count {
            answers.push(ContextAnswer {
                result: ContextResult(reader.u16()?),
                reason: RejectionReason(reader.u16()?),
                transfer_syntax: SyntaxId::read(reader)?,
            });
        }
        Ok(Self {
            transmit_fragment_max,
            receive_fragment_max,
            association_group_id,
            secondary_address,
            answers,
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u16(self.transmit_fragment_max);
        writer.u16(self.receive_fragment_max);
        writer.u32(self.association_group_id);
        if self.secondary_address.is_empty() {
            writer.u16(0);
        } else {
            writer.u16(wire::length_u16(self.secondary_address.len().saturating_add(1)));
            writer.put(&self.secondary_address);
            writer.u8(0);
        }
        writer.u32(u32::from(length_u8(self.answers.len())));
        for answer in &self.answers {
            writer.u16(answer.result.0);
            writer.u16(answer.reason.0);
            answer.transfer_syntax.write(writer);
        }
    }
}

impl BindNak {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let reason = NakReason(reader.u16()?);
        let count = reader.u8()?;
        let versions = (0..count)
            .map(|_| reader.array::<2>().map(|[major, minor]| (major, minor)))
            .collect::<Result<_, _>>()?;
        Ok(Self { reason, versions })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u16(self.reason.0);
        writer.u8(length_u8(self.versions.len()));
        for (major, minor) in &self.versions {
            writer.put(&[*major, *minor]);
        }
    }
}

impl Request {
    fn read(reader: &mut Reader<'_>, has_object: bool) -> Result<Self, Malformed> {
        Ok(Self {
            allocation_hint: reader.u32()?,
            context_id: reader.u16()?,
            opnum: reader.u16()?,
            object: if has_object { Some(Uuid(reader.array()?)) } else { None },
            stub: reader.rest().to_vec(),
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u32(self.allocation_hint);
        writer.u16(self.context_id);
        writer.u16(self.opnum);
        if let Some(object) = self.object {
            writer.put(&object.0);
        }
        writer.put(&self.stub);
    }
}

impl Response {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let allocation_hint = reader.u32()?;
        let context_id = reader.u16()?;
        let [cancel_count, _reserved] = reader.array()?;
        Ok(Self { allocation_hint, context_id, cancel_count, stub: reader.rest().to_vec() })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u32(self.allocation_hint);
        writer.u16(self.context_id);
        writer.put(&[self.cancel_count, 0]);
        writer.put(&self.stub);
    }
}

impl Fault {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let _allocation_hint = reader.u32()?;
        let context_id = reader.u16()?;
        let [cancel_count, _flags] = reader.array()?;
        Ok(Self { context_id, cancel_count, status: FaultStatus(reader.u32()?) })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u32(32); // Of a fault's own size: it has no stub, and no extended error information (MS-RPCE 2.2.2.8).
        writer.u16(self.context_id);
        writer.put(&[self.cancel_count, 0]);
        writer.u32(self.status.0);
        writer.u32(0);
    }
}

/// Cuts the bytes of a pipe into PDUs, however they were written. Holds less than one PDU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Framer {
    pub(super) pending: Vec<u8>,
}

impl Framer {
    /// Moves bytes off the front of `bytes` until a PDU is whole and returns it, or `None` when they are used up.
    ///
    /// # Errors
    /// [`Malformed`] when a header announces a PDU shorter than itself or longer than [`FRAGMENT_MAX`]. What follows
    /// cannot be cut: the pipe is of no more use.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
        loop {
            let wanted = if self.pending.len() < HEADER_SIZE {
                HEADER_SIZE
            } else {
                let length = Header::parse(&self.pending)?.fragment_length;
                if usize::from(length) < HEADER_SIZE || length > FRAGMENT_MAX {
                    return Err(Malformed("RPC: fragment length out of bounds"));
                }
                usize::from(length)
            };
            let missing = wanted.saturating_sub(self.pending.len());
            if missing == 0 && self.pending.len() >= HEADER_SIZE {
                return Ok(Some(std::mem::take(&mut self.pending)));
            }
            let (taken, rest) = bytes.split_at_checked(missing).unwrap_or((*bytes, &[]));
            self.pending.extend_from_slice(taken);
            *bytes = rest;
            if taken.len() < missing {
                return Ok(None);
            }
        }
    }
}

/// Cuts a stub into the pieces that fit fragments of at most `fragment_max` bytes, each with the flags of its place and
/// the bytes of stub from it on. All but the last are multiples of 8 long (C706 12.6.2). An empty stub is one piece.
pub fn pieces(stub: &[u8], fragment_max: u16) -> impl Iterator<Item = (PacketFlags, u32, &[u8])> {
    let room = usize::from(fragment_max.max(FRAGMENT_MIN)).saturating_sub(CALL_HEADER_SIZE) & !7;
    let mut rest = Some(stub);
    std::iter::from_fn(move || {
        let now = rest.take()?;
        let first = if now.len() == stub.len() { PacketFlags::FIRST } else { PacketFlags::default() };
        let hint = wire::length_u32(now.len());
        match now.split_at_checked(room) {
            Some((piece, more)) if !more.is_empty() => {
                rest = Some(more);
                Some((first, hint, piece))
            }
            _ => Some((first.with(PacketFlags::LAST), hint, now)),
        }
    })
}
