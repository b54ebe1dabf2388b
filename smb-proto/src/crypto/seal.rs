//! Encrypted messages, in place: TRANSFORM_HEADER and ciphertext (MS-SMB2 2.2.41, 3.1.4.3).

use bytes::{Buf, BytesMut};

use super::provider::{BadTag, Cipher};
use crate::error::Malformed;
use crate::payload::Payload;
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
    /// The cipher with this code, if there is one.
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

/// Bytes of the header before the ciphertext.
pub const TRANSFORM_SIZE: usize = 52;
/// First four bytes of an encrypted message.
const PROTOCOL_ID: [u8; 4] = [0xFD, b'S', b'M', b'B'];
/// Where the header's authenticated part begins: after the protocol id and the tag.
const AUTHENTICATED: usize = 20;
/// The flag "encrypted" of 3.1.1, and the code of AES-128-CCM for 3.0: the same number.
const ENCRYPTED: u16 = 1;

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
    let authenticated = authenticated_header(nonce, message.len(), session_id);
    let tag = cipher.seal(nonce, &authenticated, message.data_mut());
    let mut header = [0; TRANSFORM_SIZE];
    let fields = PROTOCOL_ID.iter().chain(&tag).chain(&authenticated);
    for (to, from) in header.iter_mut().zip(fields) {
        *to = *from;
    }
    message.prepend(&header)
}

/// Decrypts in place a message that begins with its header, and returns the plaintext in it.
///
/// # Errors
/// [`OpenError`]; the message is then of no use.
pub fn open<'a>(cipher: &dyn Cipher, sealed: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
    let short = OpenError::Malformed(Malformed("TRANSFORM_HEADER"));
    let (header, data) = sealed.split_first_chunk_mut::<TRANSFORM_SIZE>().ok_or(short)?;
    let (prefix, authenticated) = header.split_at_checked(AUTHENTICATED).ok_or(short)?;
    let (protocol_id, tag) = prefix.split_first_chunk::<4>().ok_or(short)?;
    let tag: &[u8; 16] = tag.first_chunk().ok_or(short)?;
    let nonce: &[u8; 16] = authenticated.first_chunk().ok_or(short)?;
    let Some([a, b, c, d, _, _, low, high]) = authenticated.get(16..24) else { return Err(short) };
    if *protocol_id != PROTOCOL_ID {
        return Err(OpenError::Malformed(Malformed("TRANSFORM_HEADER: ProtocolId")));
    }
    if u32::from_le_bytes([*a, *b, *c, *d]) != wire::length_u32(data.len()) {
        return Err(OpenError::Malformed(Malformed(
            "TRANSFORM_HEADER: OriginalMessageSize is not what follows",
        )));
    }
    if u16::from_le_bytes([*low, *high]) != ENCRYPTED {
        return Err(OpenError::Malformed(Malformed("TRANSFORM_HEADER: Flags")));
    }
    cipher.open(nonce, authenticated, data, tag).map_err(|BadTag| OpenError::BadTag)?;
    Ok(data)
}

/// [`open`] for a received buffer: the plaintext, in the same storage.
///
/// # Errors
/// As [`open`].
pub fn open_buffer(cipher: &dyn Cipher, mut sealed: BytesMut) -> Result<BytesMut, OpenError> {
    open(cipher, &mut sealed)?;
    sealed.advance(TRANSFORM_SIZE);
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

/// The part of the header that the tag covers.
fn authenticated_header(
    nonce: &[u8; 16],
    length: usize,
    session_id: u64,
) -> [u8; TRANSFORM_SIZE - AUTHENTICATED] {
    let mut authenticated = [0; TRANSFORM_SIZE - AUTHENTICATED];
    let length = wire::length_u32(length).to_le_bytes();
    let session_id = session_id.to_le_bytes();
    let fields = nonce
        .iter()
        .chain(&length)
        .chain(&[0, 0])
        .chain(const { &ENCRYPTED.to_le_bytes() })
        .chain(&session_id);
    for (to, from) in authenticated.iter_mut().zip(fields) {
        *to = *from;
    }
    authenticated
}
