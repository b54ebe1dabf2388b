//! Contexts of NEGOTIATE (MS-SMB2 2.2.3.1, 2.2.4.1): what 3.1.1 negotiates beyond dialect and capabilities.

use binrw::binrw;
use bytes::Bytes;

use crate::error::Malformed;
use crate::flags::{flags, values};
use crate::name::Name;
use crate::wire;

values! {
    /// A hash for preauthentication integrity.
    pub struct HashAlgorithm(u16);
    /// SHA-512.
    SHA_512 = 0x0001;
}

values! {
    /// A cipher.
    pub struct Cipher(u16);
    /// AES-128-CCM.
    AES_128_CCM = 0x0001;
    /// AES-128-GCM.
    AES_128_GCM = 0x0002;
    /// AES-256-CCM.
    AES_256_CCM = 0x0003;
    /// AES-256-GCM.
    AES_256_GCM = 0x0004;
}

values! {
    /// A compression algorithm.
    pub struct CompressionAlgorithm(u16);
    /// None.
    NONE = 0x0000;
    /// LZNT1.
    LZNT1 = 0x0001;
    /// Plain LZ77.
    LZ77 = 0x0002;
    /// LZ77 with Huffman coding.
    LZ77_HUFFMAN = 0x0003;
    /// One byte repeated.
    PATTERN_V1 = 0x0004;
    /// LZ4.
    LZ4 = 0x0005;
}

impl CompressionAlgorithm {
    /// Whether a chained payload of this algorithm says how long it is once decompressed (2.2.42.2.1).
    #[must_use]
    pub const fn carries_original_size(self) -> bool {
        matches!(self, Self::LZNT1 | Self::LZ77 | Self::LZ77_HUFFMAN | Self::LZ4)
    }
}

flags! {
    /// Flags of the compression context.
    pub struct CompressionFlags(u32);
    /// Chained compression is supported.
    CHAINED = 0x0000_0001;
}

flags! {
    /// Flags of the transport context.
    pub struct TransportFlags(u32);
    /// The transport is secure enough to go without encryption of messages.
    ACCEPT_TRANSPORT_LEVEL_SECURITY = 0x0000_0001;
}

values! {
    /// A transform of data sent by RDMA.
    pub struct RdmaTransform(u16);
    /// None.
    NONE = 0x0000;
    /// Encryption.
    ENCRYPTION = 0x0001;
    /// Signing.
    SIGNING = 0x0002;
}

values! {
    /// A signing algorithm.
    pub struct SigningAlgorithm(u16);
    /// HMAC-SHA256.
    HMAC_SHA256 = 0x0000;
    /// AES-128-CMAC.
    AES_CMAC = 0x0001;
    /// AES-128-GMAC.
    AES_GMAC = 0x0002;
}

values! {
    /// Type of a context.
    pub struct ContextType(u16);
    /// SMB2_PREAUTH_INTEGRITY_CAPABILITIES.
    PREAUTH_INTEGRITY = 0x0001;
    /// SMB2_ENCRYPTION_CAPABILITIES.
    ENCRYPTION = 0x0002;
    /// SMB2_COMPRESSION_CAPABILITIES.
    COMPRESSION = 0x0003;
    /// SMB2_NETNAME_NEGOTIATE_CONTEXT_ID.
    NET_NAME = 0x0005;
    /// SMB2_TRANSPORT_CAPABILITIES.
    TRANSPORT = 0x0006;
    /// SMB2_RDMA_TRANSFORM_CAPABILITIES.
    RDMA_TRANSFORM = 0x0007;
    /// SMB2_SIGNING_CAPABILITIES.
    SIGNING = 0x0008;
    /// SMB2_CONTEXTTYPE_RESERVED: ignored. Clients with POSIX extensions send it.
    RESERVED = 0x0100;
}

/// A context. Requests list what a client has, preferred first; responses what the server chose of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NegotiateContext {
    /// Hashes for preauthentication integrity (2.2.3.1.1).
    PreauthIntegrity {
        /// The hashes.
        algorithms: Vec<HashAlgorithm>,
        /// Random bytes that make each negotiation's hash its own.
        salt: Bytes,
    },
    /// Ciphers (2.2.3.1.2).
    Encryption {
        /// The ciphers. In a response, a cipher of 0 says that there is none in common.
        ciphers: Vec<Cipher>,
    },
    /// Compression algorithms (2.2.3.1.3).
    Compression {
        /// Flags.
        flags: CompressionFlags,
        /// The algorithms.
        algorithms: Vec<CompressionAlgorithm>,
    },
    /// The server's name as the client's user gave it (2.2.3.1.4); only in requests.
    NetName(Name),
    /// Security of the transport (2.2.3.1.5).
    Transport {
        /// Flags.
        flags: TransportFlags,
    },
    /// Transforms of data sent by RDMA (2.2.3.1.6).
    RdmaTransform {
        /// The transforms.
        transforms: Vec<RdmaTransform>,
    },
    /// Signing algorithms (2.2.3.1.7).
    Signing {
        /// The algorithms.
        algorithms: Vec<SigningAlgorithm>,
    },
    /// A context of an unknown type: to be ignored.
    Unknown {
        /// The type.
        context_type: ContextType,
        /// The data.
        data: Bytes,
    },
    /// A context of a known type whose data is too short for what it announces. Not an error of the whole message,
    /// because a server ignores the contexts of what it does not support; it refuses those of what it does (3.3.5.4).
    Unreadable {
        /// The type.
        context_type: ContextType,
        /// The data.
        data: Bytes,
    },
}

#[binrw]
#[brw(little)]
struct Head {
    context_type: u16,
    data_length: u16,
    reserved: u32,
}

/// Size of the fixed part in front of a context's data.
const HEAD_SIZE: usize = 8;
/// Contexts start at multiples of this, counted from the header of their message.
const ALIGNMENT: usize = 8;

/// Reads `count` contexts of which the first is at `offset` of `message`.
///
/// # Errors
/// [`Malformed`] when one is not inside of the message.
pub fn parse_list(message: &Bytes, offset: usize, count: u16) -> Result<Vec<NegotiateContext>, Malformed> {
    const OUTSIDE: &str = "negotiate context";
    let mut contexts = Vec::new();
    let mut position = offset;
    for _ in 0..count {
        let head: Head = wire::fixed(message, position, OUTSIDE)?;
        let data_length = usize::from(head.data_length);
        let data_offset = position.checked_add(HEAD_SIZE).ok_or(Malformed(OUTSIDE))?;
        let data = wire::slice(message, data_offset, data_length, OUTSIDE)?;
        contexts.push(NegotiateContext::parse(ContextType(head.context_type), data));
        // The last context is usually not padded, so that this may point behind the message.
        let end = data_offset.checked_add(data_length).ok_or(Malformed(OUTSIDE))?;
        position = end.checked_add(wire::padding(end, ALIGNMENT)).ok_or(Malformed(OUTSIDE))?;
    }
    Ok(contexts)
}

/// Appends contexts to a message that starts at the start of `out`; each is aligned, the first too. Returns where the
/// first is, or zero if there is none.
pub fn emit_list(contexts: &[NegotiateContext], out: &mut Vec<u8>) -> usize {
    let mut first = 0;
    for (index, context) in contexts.iter().enumerate() {
        wire::align(out, 0, ALIGNMENT);
        if index == 0 {
            first = out.len();
        }
        let mut data = Vec::new();
        context.emit_data(&mut data);
        let head = Head {
            context_type: context.context_type().0,
            data_length: wire::length_u16(data.len()),
            reserved: 0,
        };
        wire::put(out, &head);
        out.extend_from_slice(&data);
    }
    first
}

impl NegotiateContext {
    /// The type, also of contexts that could not be read.
    #[must_use]
    pub fn context_type(&self) -> ContextType {
        match self {
            Self::PreauthIntegrity { .. } => ContextType::PREAUTH_INTEGRITY,
            Self::Encryption { .. } => ContextType::ENCRYPTION,
            Self::Compression { .. } => ContextType::COMPRESSION,
            Self::NetName(_) => ContextType::NET_NAME,
            Self::Transport { .. } => ContextType::TRANSPORT,
            Self::RdmaTransform { .. } => ContextType::RDMA_TRANSFORM,
            Self::Signing { .. } => ContextType::SIGNING,
            Self::Unknown { context_type, .. } | Self::Unreadable { context_type, .. } => *context_type,
        }
    }

    /// Reads the data of a context of `context_type`.
    #[must_use]
    pub fn parse(context_type: ContextType, data: Bytes) -> Self {
        let read = match context_type {
            ContextType::PREAUTH_INTEGRITY => Self::parse_preauth_integrity(&data),
            ContextType::ENCRYPTION => counted(&data, 2)
                .map(|ids| Self::Encryption { ciphers: ids.into_iter().map(Cipher).collect() }),
            ContextType::COMPRESSION => Self::parse_compression(&data),
            ContextType::NET_NAME => Name::from_wire(&data).map(Self::NetName),
            ContextType::TRANSPORT => {
                wire::fixed(&data, 0, "transport capabilities").map(|flags| Self::Transport { flags })
            }
            ContextType::RDMA_TRANSFORM => counted(&data, 8)
                .map(|ids| Self::RdmaTransform { transforms: ids.into_iter().map(RdmaTransform).collect() }),
            ContextType::SIGNING => counted(&data, 2)
                .map(|ids| Self::Signing { algorithms: ids.into_iter().map(SigningAlgorithm).collect() }),
            _ => return Self::Unknown { context_type, data },
        };
        read.unwrap_or(Self::Unreadable { context_type, data })
    }

    fn parse_preauth_integrity(data: &Bytes) -> Result<Self, Malformed> {
        const WHAT: &str = "preauthentication integrity capabilities";
        let ids = counted(data, 4)?;
        let Count(salt_length) = wire::fixed(data, 2, WHAT)?;
        let salt_offset = 4usize.saturating_add(ids.len().saturating_mul(2));
        let salt = wire::slice(data, salt_offset, usize::from(salt_length), WHAT)?;
        Ok(Self::PreauthIntegrity { algorithms: ids.into_iter().map(HashAlgorithm).collect(), salt })
    }

    fn parse_compression(data: &Bytes) -> Result<Self, Malformed> {
        let ids = counted(data, 8)?;
        let flags = wire::fixed(data, 4, "compression capabilities")?;
        Ok(Self::Compression { flags, algorithms: ids.into_iter().map(CompressionAlgorithm).collect() })
    }

    /// Appends the data.
    fn emit_data(&self, out: &mut Vec<u8>) {
        match self {
            Self::PreauthIntegrity { algorithms, salt } => {
                put_count(out, algorithms.len());
                put_count(out, salt.len());
                put_ids(out, algorithms.iter().map(|id| id.0));
                out.extend_from_slice(salt);
            }
            Self::Encryption { ciphers } => {
                put_count(out, ciphers.len());
                put_ids(out, ciphers.iter().map(|id| id.0));
            }
            Self::Compression { flags, algorithms } => {
                put_count(out, algorithms.len());
                put_count(out, 0); // padding
                wire::put(out, flags);
                put_ids(out, algorithms.iter().map(|id| id.0));
            }
            Self::NetName(name) => wire::put_utf16(out, name.units()),
            Self::Transport { flags } => wire::put(out, flags),
            Self::RdmaTransform { transforms } => {
                put_count(out, transforms.len());
                out.extend_from_slice(&[0; 6]); // reserved
                put_ids(out, transforms.iter().map(|id| id.0));
            }
            Self::Signing { algorithms } => {
                put_count(out, algorithms.len());
                put_ids(out, algorithms.iter().map(|id| id.0));
            }
            Self::Unknown { data, .. } | Self::Unreadable { data, .. } => out.extend_from_slice(data),
        }
    }
}

/// A number of list elements or bytes.
#[binrw]
#[brw(little)]
struct Count(u16);

/// Reads identifiers of 16 bits from `offset` of `data`, as many as its first two bytes say. What may follow them is
/// not looked at.
fn counted(data: &Bytes, offset: usize) -> Result<Vec<u16>, Malformed> {
    const WHAT: &str = "list of algorithms";
    let Count(count) = wire::fixed(data, 0, WHAT)?;
    let length = usize::from(count).saturating_mul(2);
    // An empty list needs its fixed part all the same.
    data.get(..offset).ok_or(Malformed(WHAT))?;
    wire::utf16(&wire::slice(data, offset, length, WHAT)?, WHAT)
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    wire::put(out, &Count(wire::length_u16(count)));
}

fn put_ids(out: &mut Vec<u8>, ids: impl Iterator<Item = u16>) {
    for id in ids {
        out.extend_from_slice(&id.to_le_bytes());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One context of each kind.
    pub(in super::super) fn samples() -> Vec<NegotiateContext> {
        vec![
            NegotiateContext::PreauthIntegrity {
                algorithms: vec![HashAlgorithm::SHA_512, HashAlgorithm(7)],
                salt: Bytes::from_static(&[9; 33]),
            },
            NegotiateContext::Encryption {
                ciphers: vec![Cipher::AES_128_GCM, Cipher::AES_128_CCM, Cipher(77)],
            },
            NegotiateContext::Compression {
                flags: CompressionFlags::CHAINED,
                algorithms: vec![CompressionAlgorithm::PATTERN_V1, CompressionAlgorithm::LZ77],
            },
            NegotiateContext::NetName(Name::from("files.example")),
            NegotiateContext::Transport { flags: TransportFlags::ACCEPT_TRANSPORT_LEVEL_SECURITY },
            NegotiateContext::RdmaTransform { transforms: vec![RdmaTransform::SIGNING] },
            NegotiateContext::Signing {
                algorithms: vec![SigningAlgorithm::AES_GMAC, SigningAlgorithm::AES_CMAC],
            },
            NegotiateContext::Unknown {
                context_type: ContextType::RESERVED,
                data: Bytes::from_static(b"posix"),
            },
        ]
    }

    #[test]
    fn every_context_makes_the_round_trip() {
        let contexts = samples();
        let mut out = vec![0; 99];
        let offset = emit_list(&contexts, &mut out);
        assert_eq!(offset, 104);
        let count = u16::try_from(contexts.len()).unwrap();
        let message = Bytes::from(out);
        assert_eq!(parse_list(&message, offset, count), Ok(contexts));
        for length in 0..message.len() {
            assert!(parse_list(&message.slice(..length), offset, count).is_err());
        }
    }

    #[test]
    fn short_data_is_kept_as_unreadable() {
        for context in samples() {
            let mut data = Vec::new();
            context.emit_data(&mut data);
            let context_type = context.context_type();
            let short = Bytes::from(data).slice(..1);
            let read = NegotiateContext::parse(context_type, short.clone());
            assert_eq!(read.context_type(), context_type);
            if !matches!(context, NegotiateContext::Unknown { .. }) {
                assert_eq!(read, NegotiateContext::Unreadable { context_type, data: short });
            }
        }
    }

    #[test]
    fn counts_beyond_the_data_are_unreadable() {
        let types = [
            ContextType::PREAUTH_INTEGRITY,
            ContextType::ENCRYPTION,
            ContextType::COMPRESSION,
            ContextType::RDMA_TRANSFORM,
            ContextType::SIGNING,
        ];
        for context_type in types {
            let data = Bytes::from_static(&[0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 1, 0]);
            let read = NegotiateContext::parse(context_type, data.clone());
            assert_eq!(read, NegotiateContext::Unreadable { context_type, data });
        }
        let salt_too_long = Bytes::from_static(&[1, 0, 9, 0, 1, 0, 0, 0]);
        let read = NegotiateContext::parse(ContextType::PREAUTH_INTEGRITY, salt_too_long);
        assert!(matches!(read, NegotiateContext::Unreadable { .. }));
    }

    #[test]
    fn offsets_outside_of_the_message_are_refused() {
        let message = Bytes::from_static(&[0; 64]);
        for offset in [57, 64, usize::MAX - 3] {
            assert!(parse_list(&message, offset, 1).is_err());
        }
        assert!(parse_list(&message, 0, u16::MAX).is_err());
    }
}
