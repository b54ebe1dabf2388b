//! What goes around encrypted and compressed messages (MS-SMB2 2.2.41, 2.2.42).
//!
//! Only the structures: keys and ciphers are in [`crate::crypto`], and nothing is decompressed here.

use std::ops::Range;

use binrw::binrw;
use bytes::Bytes;

use crate::command::negotiate_context::CompressionAlgorithm;
use crate::error::Malformed;
use crate::wire;

/// First four bytes of an encrypted message.
pub const PROTOCOL_ID: [u8; 4] = [0xFD, b'S', b'M', b'B'];
/// First four bytes of a compressed message.
pub const COMPRESSION_PROTOCOL_ID: [u8; 4] = [0xFC, b'S', b'M', b'B'];
/// Size of a transform header.
pub const SIZE: usize = 52;
/// Where the signature (the tag of the authenticated encryption) stands in a transform header.
pub const SIGNATURE_RANGE: Range<usize> = 4..20;
/// The part of a transform header that is authenticated with the message: everything behind the signature (3.1.4.3).
pub const ASSOCIATED_DATA_RANGE: Range<usize> = 20..SIZE;

/// SMB2 TRANSFORM_HEADER: stands in front of an encrypted message or compound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TransformHeader {
    /// The tag of the authenticated encryption.
    pub signature: [u8; 16],
    /// The nonce: 11 bytes of it for CCM, 12 for GCM; the rest is zero.
    pub nonce: [u8; 16],
    /// Bytes of the message before encryption, which are as many after it.
    pub original_message_size: u32,
    /// [`Self::ENCRYPTED`], whichever of its two meanings the dialect gives the field.
    pub flags: u16,
    /// The session whose keys apply.
    pub session_id: u64,
}

/// Bytes are read as numbers, which binrw reads at once and arrays byte by byte.
#[binrw]
#[brw(little, magic = b"\xFDSMB")]
struct TransformFixed {
    signature: u128,
    nonce: u128,
    original_message_size: u32,
    reserved: u16,
    flags: u16,
    session_id: u64,
}

impl TransformHeader {
    /// The one value of the flags: "encrypted" in 3.1.1, AES-128-CCM in 3.0 and 3.0.2.
    pub const ENCRYPTED: u16 = 0x0001;

    /// Reads the header at the start of `message`. What follows is not looked at.
    ///
    /// # Errors
    /// [`Malformed`] when it is short or has another protocol identifier.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let fixed: TransformFixed = wire::fixed(message, 0, "transform header")?;
        Ok(Self {
            signature: fixed.signature.to_le_bytes(),
            nonce: fixed.nonce.to_le_bytes(),
            original_message_size: fixed.original_message_size,
            flags: fixed.flags,
            session_id: fixed.session_id,
        })
    }

    /// Appends the header.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(
            out,
            &TransformFixed {
                signature: u128::from_le_bytes(self.signature),
                nonce: u128::from_le_bytes(self.nonce),
                original_message_size: self.original_message_size,
                reserved: 0,
                flags: self.flags,
                session_id: self.session_id,
            },
        );
    }
}

/// Flag of a compression header: a chain of payloads follows.
const FLAG_CHAINED: u16 = 0x0001;
/// Size of an unchained compression header.
const UNCHAINED_SIZE: usize = 16;
/// Where the chain starts in a chained compressed message.
const CHAIN_OFFSET: usize = 8;

/// A compressed message, taken apart but not decompressed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CompressedMessage {
    /// One compressed segment, possibly behind an uncompressed one (2.2.42.1).
    Unchained {
        /// Bytes of the compressed segment once decompressed: a claim, to be checked before anything is allocated.
        original_size: u32,
        /// How it is compressed.
        algorithm: CompressionAlgorithm,
        /// The part in front that is not compressed.
        uncompressed: Bytes,
        /// The compressed segment.
        compressed: Bytes,
    },
    /// A chain of payloads (2.2.42.2).
    Chained {
        /// Bytes of the whole once decompressed: a claim, to be checked before anything is allocated.
        original_size: u32,
        /// The chain, to be read by [`payloads`] and written by [`ChainedPayload::emit`].
        chain: Bytes,
    },
}

#[binrw]
#[brw(little, magic = b"\xFCSMB")]
struct UnchainedFixed {
    original_size: u32,
    algorithm: u16,
    flags: u16,
    offset: u32,
}

#[binrw]
#[brw(little, magic = b"\xFCSMB")]
struct ChainedFixed {
    original_size: u32,
}

impl CompressedMessage {
    /// Takes a compressed message apart.
    ///
    /// # Errors
    /// [`Malformed`] when it is short, has another protocol identifier, or its offset points outside of it.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        // The flags stand where a chain has those of its first payload: that is how the two forms are told apart.
        let fixed: UnchainedFixed = wire::fixed(message, 0, "compression header")?;
        if fixed.flags & FLAG_CHAINED != 0 {
            let chain = message.get(CHAIN_OFFSET..).map(|chain| message.slice_ref(chain)).unwrap_or_default();
            return Ok(Self::Chained { original_size: fixed.original_size, chain });
        }
        let length = usize::try_from(fixed.offset).map_err(|_| Malformed("compression header: offset"))?;
        let uncompressed = wire::slice(message, UNCHAINED_SIZE, length, "compression header: offset")?;
        let compressed = message
            .get(UNCHAINED_SIZE.saturating_add(length)..)
            .map(|compressed| message.slice_ref(compressed))
            .ok_or(Malformed("compression header: offset"))?;
        Ok(Self::Unchained {
            original_size: fixed.original_size,
            algorithm: CompressionAlgorithm(fixed.algorithm),
            uncompressed,
            compressed,
        })
    }

    /// Appends the message.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unchained { original_size, algorithm, uncompressed, compressed } => {
                let fixed = UnchainedFixed {
                    original_size: *original_size,
                    algorithm: algorithm.0,
                    flags: 0,
                    offset: wire::length_u32(uncompressed.len()),
                };
                wire::put(out, &fixed);
                out.extend_from_slice(uncompressed);
                out.extend_from_slice(compressed);
            }
            Self::Chained { original_size, chain } => {
                wire::put(out, &ChainedFixed { original_size: *original_size });
                out.extend_from_slice(chain);
            }
        }
    }
}

/// One payload of a chain (2.2.42.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChainedPayload {
    /// How it is compressed; `NONE` for data as it is, `PATTERN_V1` for a [`PatternV1`].
    pub algorithm: CompressionAlgorithm,
    /// Bytes once decompressed (a claim), for the algorithms that carry the field: see
    /// [`CompressionAlgorithm::carries_original_size`].
    pub original_size: u32,
    /// The payload.
    pub data: Bytes,
}

#[binrw]
#[brw(little)]
struct PayloadFixed {
    algorithm: u16,
    flags: u16,
    length: u32,
}

#[binrw]
#[brw(little)]
struct OriginalSize(u32);

/// Size of a payload's header, without the optional original size.
const PAYLOAD_FIXED: usize = 8;
/// Size of the optional original size.
const ORIGINAL_SIZE_SIZE: usize = 4;

impl ChainedPayload {
    /// Appends header and payload; `first` says whether it starts the chain.
    pub fn emit(&self, out: &mut Vec<u8>, first: bool) {
        let sized = self.algorithm.carries_original_size();
        let length = self.data.len().saturating_add(if sized { ORIGINAL_SIZE_SIZE } else { 0 });
        let fixed = PayloadFixed {
            algorithm: self.algorithm.0,
            flags: if first { FLAG_CHAINED } else { 0 },
            length: wire::length_u32(length),
        };
        wire::put(out, &fixed);
        if sized {
            wire::put(out, &OriginalSize(self.original_size));
        }
        out.extend_from_slice(&self.data);
    }

    /// Cuts the first payload off `chain`.
    fn cut(chain: &mut Bytes) -> Result<Self, Malformed> {
        let fixed: PayloadFixed = wire::fixed(chain, 0, "chained payload")?;
        let algorithm = CompressionAlgorithm(fixed.algorithm);
        let length = usize::try_from(fixed.length).map_err(|_| Malformed("chained payload: length"))?;
        let end = PAYLOAD_FIXED
            .checked_add(length)
            .filter(|end| *end <= chain.len())
            .ok_or(Malformed("chained payload: length"))?;
        let mut data = chain.split_to(end);
        let mut original_size = 0;
        let mut data_offset = PAYLOAD_FIXED;
        if algorithm.carries_original_size() {
            OriginalSize(original_size) =
                wire::fixed(&data, PAYLOAD_FIXED, "chained payload: original size")?;
            data_offset = data_offset.saturating_add(ORIGINAL_SIZE_SIZE);
        }
        Ok(Self { algorithm, original_size, data: data.split_off(data_offset) })
    }
}

/// The payloads of a chain, in their order. The iterator ends after the first error.
#[must_use]
pub fn payloads(chain: &Bytes) -> Payloads {
    Payloads { rest: chain.clone() }
}

/// What [`payloads`] returns.
#[derive(Clone, Debug)]
pub struct Payloads {
    rest: Bytes,
}

impl Iterator for Payloads {
    type Item = Result<ChainedPayload, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let payload = ChainedPayload::cut(&mut self.rest);
        if payload.is_err() {
            self.rest.clear();
        }
        Some(payload)
    }
}

impl std::iter::FusedIterator for Payloads {}

/// SMB2_COMPRESSION_PATTERN_PAYLOAD_V1: one byte, repeated (2.2.42.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PatternV1 {
    /// The byte.
    pub pattern: u8,
    /// How often: a claim, to be checked before anything is allocated.
    pub repetitions: u32,
}

#[binrw]
#[brw(little)]
struct PatternFixed {
    pattern: u8,
    reserved1: u8,
    reserved2: u16,
    repetitions: u32,
}

impl PatternV1 {
    /// Reads the data of a payload.
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(data: &[u8]) -> Result<Self, Malformed> {
        let fixed: PatternFixed = wire::fixed(data, 0, "pattern payload")?;
        Ok(Self { pattern: fixed.pattern, repetitions: fixed.repetitions })
    }

    /// Appends the data of a payload.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let fixed =
            PatternFixed { pattern: self.pattern, reserved1: 0, reserved2: 0, repetitions: self.repetitions };
        wire::put(out, &fixed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transform_headers_make_the_round_trip() {
        let header = TransformHeader {
            signature: [1; 16],
            nonce: [2; 16],
            original_message_size: 0x1234,
            flags: TransformHeader::ENCRYPTED,
            session_id: 0x0102_0304_0506_0708,
        };
        let mut bytes = Vec::new();
        header.emit(&mut bytes);
        assert_eq!(bytes.len(), SIZE);
        assert_eq!(bytes[SIGNATURE_RANGE], [1; 16]);
        assert_eq!(bytes[36..44], [0x34, 0x12, 0, 0, 0, 0, 1, 0]);
        assert_eq!(TransformHeader::parse(&bytes), Ok(header));
        for length in 0..SIZE {
            assert!(TransformHeader::parse(&bytes[..length]).is_err());
        }
        bytes[0] = 0xFE;
        assert!(TransformHeader::parse(&bytes).is_err());
    }

    fn round_trip(message: &CompressedMessage) -> Bytes {
        let mut bytes = Vec::new();
        message.emit(&mut bytes);
        let bytes = Bytes::from(bytes);
        assert_eq!(CompressedMessage::parse(&bytes).as_ref(), Ok(message));
        for length in 0..bytes.len() {
            if let Ok(CompressedMessage::Chained { chain, .. }) =
                CompressedMessage::parse(&bytes.slice(..length))
            {
                assert!(payloads(&chain).count() <= 3);
            }
        }
        bytes
    }

    #[test]
    fn unchained_messages_make_the_round_trip() {
        let message = CompressedMessage::Unchained {
            original_size: 4096,
            algorithm: CompressionAlgorithm::LZ77,
            uncompressed: Bytes::from_static(b"header"),
            compressed: Bytes::from_static(b"squeezed"),
        };
        let mut bytes = round_trip(&message).to_vec();
        let behind_the_end = u32::try_from(bytes.len() - UNCHAINED_SIZE + 1).unwrap();
        for offset in [behind_the_end, u32::MAX] {
            bytes[12..16].copy_from_slice(&offset.to_le_bytes());
            assert!(CompressedMessage::parse(&bytes.clone().into()).is_err());
        }
    }

    #[test]
    fn chains_make_the_round_trip() {
        let mut pattern = Vec::new();
        PatternV1 { pattern: 0xAA, repetitions: 900 }.emit(&mut pattern);
        let parts = [
            ChainedPayload {
                algorithm: CompressionAlgorithm::NONE,
                original_size: 0,
                data: Bytes::from_static(b"header"),
            },
            ChainedPayload {
                algorithm: CompressionAlgorithm::LZ4,
                original_size: 77,
                data: Bytes::from_static(b"sq"),
            },
            ChainedPayload {
                algorithm: CompressionAlgorithm::PATTERN_V1,
                original_size: 0,
                data: pattern.clone().into(),
            },
        ];
        let mut chain = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            part.emit(&mut chain, index == 0);
        }
        let message = CompressedMessage::Chained { original_size: 983, chain: chain.into() };
        let bytes = round_trip(&message);
        let Ok(CompressedMessage::Chained { chain, .. }) = CompressedMessage::parse(&bytes) else { panic!() };
        assert_eq!(payloads(&chain).collect::<Result<Vec<_>, _>>().as_deref(), Ok(&parts[..]));
        assert_eq!(PatternV1::parse(&pattern), Ok(PatternV1 { pattern: 0xAA, repetitions: 900 }));
        assert!(PatternV1::parse(&pattern[..7]).is_err());
    }

    #[test]
    fn hostile_chains_end() {
        // A length beyond the chain, and one too short for the original size that its algorithm implies.
        for (algorithm, length) in [(0u16, u32::MAX), (0, 9), (1, 3)] {
            let mut chain = algorithm.to_le_bytes().to_vec();
            chain.extend_from_slice(&[1, 0]);
            chain.extend_from_slice(&length.to_le_bytes());
            chain.extend_from_slice(&[0; 8]);
            let read: Vec<_> = payloads(&chain.into()).collect();
            assert!(read.last().unwrap().is_err());
        }
        // Empty payloads still consume their headers.
        let mut chain = vec![0; 80];
        chain[2] = 1;
        assert_eq!(payloads(&chain.into()).count(), 10);
    }
}
