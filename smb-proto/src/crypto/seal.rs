//! Encrypted messages, in place: TRANSFORM_HEADER and ciphertext (MS-SMB2 2.2.41, 3.1.4.3).

use bytes::{Buf, BytesMut};

use super::provider::{BadTag, Cipher};
use crate::error::Malformed;
use crate::payload::Payload;
use crate::transform::{self, TransformHeader};
use crate::wire;

/// How messages are encrypted (MS-SMB2 2.2.3.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CipherAlgorithm {
    /// AES-128-CCM: the only one of 3.0 and 3.0.2.
    Aes128Ccm,
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-256-CCM.
    Aes256Ccm,
    /// AES-256-GCM.
    Aes256Gcm,
}

impl CipherAlgorithm {
    /// The cipher with this code ([`crate::command::negotiate_context::Cipher`]), if there is one.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Aes128Ccm),
            2 => Some(Self::Aes128Gcm),
            3 => Some(Self::Aes256Ccm),
            4 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Aes128Ccm => 1,
            Self::Aes128Gcm => 2,
            Self::Aes256Ccm => 3,
            Self::Aes256Gcm => 4,
        }
    }

    /// Bytes of a key.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Ccm | Self::Aes128Gcm => 16,
            Self::Aes256Ccm | Self::Aes256Gcm => 32,
        }
    }

    /// Bytes of a nonce, the first ones of the header's field.
    #[must_use]
    pub const fn nonce_len(self) -> usize {
        match self {
            Self::Aes128Ccm | Self::Aes256Ccm => 11,
            Self::Aes128Gcm | Self::Aes256Gcm => 12,
        }
    }
}

/// The nonce for the `counter`-th message under a key. One counter serves one key: all channels of a session share the
/// one for the direction, since they share its key.
#[must_use]
pub fn nonce_from_counter(counter: u64) -> [u8; 16] {
    u128::from(counter).to_le_bytes()
}

/// Encrypts a message (or a compound, or a compressed message) and puts the header in front of it, without moving it
/// when the payload has headroom.
#[must_use]
pub fn seal(cipher: &dyn Cipher, session_id: u64, nonce: &[u8; 16], mut message: Payload) -> Payload {
    let header = TransformHeader {
        signature: [0; 16],
        nonce: *nonce,
        original_message_size: wire::length_u32(message.len()),
        flags: TransformHeader::ENCRYPTED,
        session_id,
    };
    let mut bytes = Vec::with_capacity(transform::SIZE);
    header.emit(&mut bytes);
    let authenticated = bytes.get(transform::ASSOCIATED_DATA_RANGE).unwrap_or_default();
    let tag = cipher.seal(nonce, authenticated, message.data_mut());
    if let Some(signature) = bytes.get_mut(transform::SIGNATURE_RANGE) {
        signature.copy_from_slice(&tag);
    }
    message.prepend(&bytes)
}

/// Decrypts in place a message that begins with its header, and returns the plaintext in it.
///
/// # Errors
/// [`OpenError`]; the message is then of no use.
pub fn open<'a>(cipher: &dyn Cipher, sealed: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
    let header = TransformHeader::parse(sealed).map_err(OpenError::Malformed)?;
    let (bytes, data) = sealed
        .split_first_chunk_mut::<{ transform::SIZE }>()
        .ok_or(OpenError::Malformed(Malformed("transform header")))?;
    if header.original_message_size != wire::length_u32(data.len()) {
        return Err(OpenError::Malformed(Malformed(
            "transform header: OriginalMessageSize is not what follows",
        )));
    }
    if header.flags != TransformHeader::ENCRYPTED {
        return Err(OpenError::Malformed(Malformed("transform header: Flags")));
    }
    // The bytes as they came: what the sender put into reserved fields is authenticated too.
    let authenticated = bytes.get(transform::ASSOCIATED_DATA_RANGE).unwrap_or_default();
    cipher.open(&header.nonce, authenticated, data, &header.signature).map_err(|BadTag| OpenError::BadTag)?;
    Ok(data)
}

/// [`open`] for a received buffer: the plaintext, in the same storage.
///
/// # Errors
/// As [`open`].
pub fn open_buffer(cipher: &dyn Cipher, mut sealed: BytesMut) -> Result<BytesMut, OpenError> {
    open(cipher, &mut sealed)?;
    sealed.advance(transform::SIZE);
    Ok(sealed)
}

/// Why a message couldn't be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The header isn't one, or contradicts the message.
    Malformed(Malformed),
    /// The message was encrypted with another key, or changed.
    BadTag,
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::BadTag => BadTag.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}
