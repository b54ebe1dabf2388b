//! The seam behind which the algorithms are implemented, so that a faster implementation can replace the portable one.
//!
//! What costs time once per key (key schedules, hash subkeys) is done when the object is made; what is done per
//! message changes nothing in the object, so that one object serves every channel of a session at once.

use std::fmt::Debug;
use std::sync::Arc;

use super::seal::CipherAlgorithm;
use super::signing::SigningAlgorithm;

/// Makes signers and ciphers.
pub trait Provider: Send + Sync + Debug {
    /// A signer that holds `key`.
    fn signer(&self, algorithm: SigningAlgorithm, key: &[u8; 16]) -> Arc<dyn Signer>;

    /// A cipher that holds `key`.
    ///
    /// # Errors
    /// [`BadKeyLength`] when `key` is not [`CipherAlgorithm::key_len`] bytes long.
    fn cipher(&self, algorithm: CipherAlgorithm, key: &[u8]) -> Result<Arc<dyn Cipher>, BadKeyLength>;
}

/// A signing key, ready for use.
pub trait Signer: Send + Sync + Debug {
    /// The first 16 bytes of the code over `parts`, taken as one message. Only AES-GMAC looks at `nonce`, which must
    /// then not repeat for this key. A message in one part is fastest; some providers copy several parts together.
    fn sign(&self, nonce: &[u8; 12], parts: &[&[u8]]) -> [u8; 16];
}

/// An encryption key, ready for use.
pub trait Cipher: Send + Sync + Debug {
    /// The algorithm.
    fn algorithm(&self) -> CipherAlgorithm;

    /// Encrypts `data` in place and returns the tag over `aad` and it. `nonce` is the transform header's field, of which
    /// the cipher uses the first [`CipherAlgorithm::nonce_len`] bytes; these must not repeat for this key.
    fn seal(&self, nonce: &[u8; 16], aad: &[u8], data: &mut [u8]) -> [u8; 16];

    /// Decrypts `data` in place if `tag` is right.
    ///
    /// # Errors
    /// [`BadTag`], after which `data` holds nothing of use.
    fn open(&self, nonce: &[u8; 16], aad: &[u8], data: &mut [u8], tag: &[u8; 16]) -> Result<(), BadTag>;
}

/// The tag doesn't belong to the message under this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTag;

impl std::fmt::Display for BadTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the message was not encrypted with this key, or was changed")
    }
}

impl std::error::Error for BadTag {}

/// The key's length is not the algorithm's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKeyLength;

impl std::fmt::Display for BadKeyLength {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the key's length is not the algorithm's")
    }
}

impl std::error::Error for BadKeyLength {}
