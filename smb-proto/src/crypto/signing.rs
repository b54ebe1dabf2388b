//! Signatures of SMB2 messages, in place (MS-SMB2 3.1.4.1, 3.1.5.1).

use subtle::ConstantTimeEq;

use super::provider::Signer;
use crate::header::{self, CommandCode, Flags};

/// How messages are signed (MS-SMB2 2.2.3.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SigningAlgorithm {
    /// HMAC-SHA256, cut to 16 bytes: 2.0.2 and 2.1, and 3.1.1 on request.
    HmacSha256,
    /// AES-128-CMAC: 3.0, 3.0.2, and 3.1.1 when nothing else is negotiated.
    AesCmac,
    /// AES-128-GMAC: 3.1.1.
    AesGmac,
}

impl SigningAlgorithm {
    /// The algorithm with this code ([`crate::command::negotiate_context::SigningAlgorithm`]), if there is one.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            0 => Some(Self::HmacSha256),
            1 => Some(Self::AesCmac),
            2 => Some(Self::AesGmac),
            _ => None,
        }
    }

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::HmacSha256 => 0,
            Self::AesCmac => 1,
            Self::AesGmac => 2,
        }
    }
}

/// Signs a message: from its header to its end, padding towards the next message of the compound included. Sets
/// [`Flags::SIGNED`] and fills the signature in. A message shorter than a header is left alone.
///
/// AES-GMAC builds its nonce from the message id, so at most one signed message may go out per id, direction and key:
/// an interim response must not be signed with it.
pub fn sign_message(signer: &dyn Signer, message: &mut [u8]) {
    if let Some(flags) = message.get_mut(FLAGS_LOW) {
        *flags |= SIGNED_LOW;
    }
    let signature = signature_in_place(signer, message);
    debug_assert!(signature.is_some(), "signed less than a header");
    if let (Some(signature), Some(field)) = (signature, message.get_mut(header::SIGNATURE_RANGE)) {
        field.copy_from_slice(&signature);
    }
}

/// Whether the signature that a message carries is right, whatever its flags say; takes the same time for every wrong
/// one. A message shorter than a header is never right.
#[must_use]
pub fn verify_message(signer: &dyn Signer, message: &[u8]) -> bool {
    match (signature_of(signer, message), message.get(header::SIGNATURE_RANGE)) {
        (Some(signature), Some(field)) => signature.ct_eq(field).into(),
        _ => false,
    }
}

/// [`verify_message`] for a buffer that may be written to: the message is read in one piece, which providers are fastest
/// with. It is afterwards as it was.
#[must_use]
pub fn verify_in_place(signer: &dyn Signer, message: &mut [u8]) -> bool {
    let field = message.get(header::SIGNATURE_RANGE).and_then(|field| field.first_chunk::<16>());
    let Some(claimed) = field.copied() else { return false };
    let signature = signature_in_place(signer, message);
    if let Some(field) = message.get_mut(header::SIGNATURE_RANGE) {
        field.copy_from_slice(&claimed);
    }
    signature.is_some_and(|signature| signature.ct_eq(&claimed).into())
}

/// Position of the lowest byte of the flags in the header.
const FLAGS_LOW: usize = 16;
/// [`Flags::SIGNED`] in that byte.
const SIGNED_LOW: u8 = Flags::SIGNED.0.to_le_bytes()[0];

/// The signature of a message, whose field is taken as zeros.
fn signature_of(signer: &dyn Signer, message: &[u8]) -> Option<[u8; 16]> {
    let before = message.get(..header::SIGNATURE_RANGE.start)?;
    let after = message.get(header::SIGNATURE_RANGE.end..)?;
    Some(signer.sign(&nonce(message)?, &[before, &[0; 16], after]))
}

/// [`signature_of`], which leaves zeros in the field.
fn signature_in_place(signer: &dyn Signer, message: &mut [u8]) -> Option<[u8; 16]> {
    message.get_mut(header::SIGNATURE_RANGE)?.fill(0);
    Some(signer.sign(&nonce(message)?, &[message]))
}

/// The nonce of AES-GMAC: the message id, then a bit for the server's role and one for CANCEL.
fn nonce(message: &[u8]) -> Option<[u8; 12]> {
    let [command_low, command_high] = *message.get(12..14)?.first_chunk()?;
    let flags = Flags(u32::from_le_bytes(*message.get(FLAGS_LOW..)?.first_chunk()?));
    let [a, b, c, d, e, f, g, h] = *message.get(24..32)?.first_chunk()?;
    let from_server = flags.contains(Flags::SERVER_TO_REDIR);
    let cancel = u16::from_le_bytes([command_low, command_high]) == CommandCode::Cancel.code();
    let role = if from_server { 1 } else { 0 } | if cancel && !from_server { 2 } else { 0 };
    Some([a, b, c, d, e, f, g, h, role, 0, 0, 0])
}
