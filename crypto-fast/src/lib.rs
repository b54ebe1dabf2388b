//! The crypto provider over AWS-LC, for programs that may depend on C: AES-GCM and AES-GMAC several times faster than the
//! portable provider, and constant-time like it. What AWS-LC does no faster stays portable.
//!
//! | algorithm | implementation |
//! |---|---|
//! | AES-128/256-GCM | AWS-LC, in place |
//! | AES-128-GMAC | AWS-LC, as GCM that only authenticates |
//! | AES-128-CMAC | AWS-LC for long messages, portable for short ones: AWS-LC copies a context per message |
//! | HMAC-SHA256, AES-128/256-CCM | portable |
//!
//! The processor's instructions are found out at run time by both.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cmac;
use smb_proto::crypto::{
    BadKeyLength, BadTag, Cipher, CipherAlgorithm, Portable, Provider, Signer, SigningAlgorithm,
};

#[cfg(test)]
mod tests;

/// Bytes of a message from which AWS-LC's CMAC is worth its context.
const CMAC_LONG: usize = 256;

/// The provider.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fast;

impl Provider for Fast {
    fn signer(&self, algorithm: SigningAlgorithm, key: &[u8; 16]) -> Arc<dyn Signer> {
        let portable = Portable.signer(algorithm, key);
        match algorithm {
            SigningAlgorithm::HmacSha256 => portable,
            SigningAlgorithm::AesCmac => match cmac::Key::new(cmac::AES_128, key) {
                Ok(key) => Arc::new(Cmac { key, portable }),
                Err(_) => portable,
            },
            SigningAlgorithm::AesGmac => match UnboundKey::new(&AES_128_GCM, key) {
                Ok(key) => Arc::new(Gmac { key: LessSafeKey::new(key), portable }),
                Err(_) => portable,
            },
        }
    }

    fn cipher(&self, algorithm: CipherAlgorithm, key: &[u8]) -> Result<Arc<dyn Cipher>, BadKeyLength> {
        let unbound = match algorithm {
            CipherAlgorithm::Aes128Gcm => UnboundKey::new(&AES_128_GCM, key),
            CipherAlgorithm::Aes256Gcm => UnboundKey::new(&AES_256_GCM, key),
            CipherAlgorithm::Aes128Ccm | CipherAlgorithm::Aes256Ccm => {
                return Portable.cipher(algorithm, key);
            }
        };
        let key = LessSafeKey::new(unbound.map_err(|_| BadKeyLength)?);
        Ok(Arc::new(Gcm { key, algorithm }))
    }
}

/// AES-128-CMAC.
struct Cmac {
    key: cmac::Key,
    portable: Arc<dyn Signer>,
}

impl Signer for Cmac {
    fn sign(&self, nonce: &[u8; 12], parts: &[&[u8]]) -> [u8; 16] {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length < CMAC_LONG {
            return self.portable.sign(nonce, parts);
        }
        let mut context = cmac::Context::with_key(&self.key);
        let taken = parts.iter().try_for_each(|part| context.update(part));
        match taken.and_then(|()| context.sign()).map(|tag| tag.as_ref().try_into()) {
            Ok(Ok(tag)) => tag,
            _ => self.portable.sign(nonce, parts),
        }
    }
}

impl fmt::Debug for Cmac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cmac").finish_non_exhaustive()
    }
}

/// AES-128-GMAC.
struct Gmac {
    key: LessSafeKey,
    /// For messages in several pieces, which AWS-LC doesn't take.
    portable: Arc<dyn Signer>,
}

impl Signer for Gmac {
    fn sign(&self, nonce: &[u8; 12], parts: &[&[u8]]) -> [u8; 16] {
        let &[message] = parts else { return self.portable.sign(nonce, parts) };
        let nonce_of_key = Nonce::assume_unique_for_key(*nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce_of_key, Aad::from(message), &mut []);
        match tag.map(|tag| tag.as_ref().try_into()) {
            Ok(Ok(tag)) => tag,
            _ => self.portable.sign(nonce, parts),
        }
    }
}

impl fmt::Debug for Gmac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gmac").finish_non_exhaustive()
    }
}

/// AES-128-GCM and AES-256-GCM.
struct Gcm {
    key: LessSafeKey,
    algorithm: CipherAlgorithm,
}

/// The part of the transform header's field that GCM takes.
fn gcm_nonce(nonce: &[u8; 16]) -> Nonce {
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *nonce;
    Nonce::assume_unique_for_key([a, b, c, d, e, f, g, h, i, j, k, l])
}

impl Cipher for Gcm {
    fn algorithm(&self) -> CipherAlgorithm {
        self.algorithm
    }

    fn seal(&self, nonce: &[u8; 16], aad: &[u8], data: &mut [u8]) -> [u8; 16] {
        let tag = self.key.seal_in_place_separate_tag(gcm_nonce(nonce), Aad::from(aad), data);
        match tag.map(|tag| tag.as_ref().try_into()) {
            Ok(Ok(tag)) => tag,
            _ => {
                // Only data of 64 GiB and more comes here, which no frame can hold. Nothing may leave in the clear.
                debug_assert!(false, "a message too long to encrypt");
                data.fill(0);
                [0; 16]
            }
        }
    }

    fn open(&self, nonce: &[u8; 16], aad: &[u8], data: &mut [u8], tag: &[u8; 16]) -> Result<(), BadTag> {
        match self.key.open_in_place_separate_tag(gcm_nonce(nonce), Aad::from(aad), tag, data) {
            Ok(_) => Ok(()),
            Err(_) => Err(BadTag),
        }
    }
}

impl fmt::Debug for Gcm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gcm").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
