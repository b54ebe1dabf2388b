//! The portable provider, on RustCrypto: every algorithm, on every processor.

use std::fmt;
use std::sync::Arc;

use aes::cipher::BlockCipherEncrypt;
use aes::{Aes128, Aes256};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use ccm::Ccm;
use ccm::aead::AeadInOut;
use ccm::consts::{U11, U16};
use cmac::Cmac;
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::provider::{BadKeyLength, BadTag, Cipher, Provider, Signer};
use super::seal::CipherAlgorithm;
use super::signing::SigningAlgorithm;

type Aes128Ccm = Ccm<Aes128, U16, U11>;
type Aes256Ccm = Ccm<Aes256, U16, U11>;

/// The provider.
#[derive(Clone, Copy, Debug, Default)]
pub struct Portable;

impl Provider for Portable {
    fn signer(&self, algorithm: SigningAlgorithm, key: &[u8; 16]) -> Arc<dyn Signer> {
        match algorithm {
            SigningAlgorithm::HmacSha256 => Arc::new(MacSigner { keyed: hmac_sha256(key), algorithm }),
            SigningAlgorithm::AesCmac => {
                Arc::new(MacSigner { keyed: Cmac::<Aes128>::new(key.into()), algorithm })
            }
            SigningAlgorithm::AesGmac => Arc::new(Gmac::new(key)),
        }
    }

    fn cipher(&self, algorithm: CipherAlgorithm, key: &[u8]) -> Result<Arc<dyn Cipher>, BadKeyLength> {
        Ok(match algorithm {
            CipherAlgorithm::Aes128Ccm => aead::<Aes128Ccm>(algorithm, key)?,
            CipherAlgorithm::Aes128Gcm => aead::<Aes128Gcm>(algorithm, key)?,
            CipherAlgorithm::Aes256Ccm => aead::<Aes256Ccm>(algorithm, key)?,
            CipherAlgorithm::Aes256Gcm => aead::<Aes256Gcm>(algorithm, key)?,
        })
    }
}

/// HMAC-SHA256 with `key`, nothing taken in yet.
pub(super) fn hmac_sha256(key: &[u8]) -> Hmac<Sha256> {
    // HMAC takes a key of any length; the default is never used.
    <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()))
}

/// HMAC-SHA256 and AES-CMAC, which differ in nothing but the function.
struct MacSigner<M> {
    keyed: M,
    algorithm: SigningAlgorithm,
}

impl<M: Mac + Clone + Send + Sync> Signer for MacSigner<M> {
    fn sign(&self, _nonce: &[u8; 12], parts: &[&[u8]]) -> [u8; 16] {
        let mut mac = self.keyed.clone();
        for part in parts {
            mac.update(part);
        }
        let mut signature = [0; 16];
        for (to, from) in signature.iter_mut().zip(mac.finalize().into_bytes()) {
            *to = from;
        }
        signature
    }
}

impl<M> fmt::Debug for MacSigner<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MacSigner").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// AES-128-GMAC (RFC 4543): GCM that only authenticates. Built from its two halves because aes-gcm takes authenticated
/// data in one piece only, and the message comes in several.
struct Gmac {
    cipher: Aes128,
    keyed: GHash,
}

impl Gmac {
    fn new(key: &[u8; 16]) -> Self {
        let cipher = Aes128::new(key.into());
        let mut subkey = ghash::Key::default();
        cipher.encrypt_block(&mut subkey);
        let keyed = GHash::new(&subkey);
        zeroize::Zeroize::zeroize(subkey.as_mut_slice());
        Self { cipher, keyed }
    }
}

impl Signer for Gmac {
    fn sign(&self, nonce: &[u8; 12], parts: &[&[u8]]) -> [u8; 16] {
        let mut hash = self.keyed.clone();
        let mut pending = Pending::default();
        let mut length_bytes: u64 = 0;
        for part in parts {
            length_bytes = length_bytes.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
            pending.update(&mut hash, part);
        }
        pending.finish(&mut hash);
        // The lengths of what is authenticated and of what is encrypted, in bits; the latter is zero.
        hash.update(&[(u128::from(length_bytes.saturating_mul(8)) << 64).to_be_bytes().into()]);

        let [a, b, c, d, e, f, g, h, i, j, k, l] = *nonce;
        let mut mask = aes::Block::from([a, b, c, d, e, f, g, h, i, j, k, l, 0, 0, 0, 1]);
        self.cipher.encrypt_block(&mut mask);
        let mut signature: [u8; 16] = hash.finalize().into();
        for (byte, mask) in signature.iter_mut().zip(mask) {
            *byte ^= mask;
        }
        signature
    }
}

impl fmt::Debug for Gmac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gmac").finish_non_exhaustive()
    }
}

/// The bytes of a block that isn't full yet.
#[derive(Default)]
struct Pending {
    block: [u8; 16],
    filled: usize,
}

impl Pending {
    fn update(&mut self, hash: &mut GHash, mut part: &[u8]) {
        if self.filled > 0 {
            let room = self.block.get_mut(self.filled..).unwrap_or_default();
            let taken = room.len().min(part.len());
            let (head, rest) = part.split_at_checked(taken).unwrap_or_default();
            for (to, from) in room.iter_mut().zip(head) {
                *to = *from;
            }
            self.filled = self.filled.saturating_add(taken);
            part = rest;
            if self.filled < self.block.len() {
                return;
            }
            hash.update(&[self.block.into()]);
        }
        let (blocks, tail) = ghash::Block::slice_as_chunks(part);
        hash.update(blocks);
        self.block = [0; 16];
        for (to, from) in self.block.iter_mut().zip(tail) {
            *to = *from;
        }
        self.filled = tail.len();
    }

    fn finish(self, hash: &mut GHash) {
        if self.filled > 0 {
            hash.update_padded(self.block.get(..self.filled).unwrap_or_default());
        }
    }
}

/// A cipher of RustCrypto's.
struct Aead<C> {
    cipher: C,
    algorithm: CipherAlgorithm,
}

fn aead<C>(algorithm: CipherAlgorithm, key: &[u8]) -> Result<Arc<dyn Cipher>, BadKeyLength>
where
    C: AeadInOut<TagSize = U16> + ccm::KeyInit + Send + Sync + 'static,
{
    let cipher = C::new_from_slice(key).map_err(|_| BadKeyLength)?;
    Ok(Arc::new(Aead { cipher, algorithm }))
}

impl<C> Cipher for Aead<C>
where
    C: AeadInOut<TagSize = U16> + Send + Sync,
{
    fn algorithm(&self) -> CipherAlgorithm {
        self.algorithm
    }

    fn seal(&self, nonce: &[u8; 16], aad: &[u8], data: &mut [u8]) -> [u8; 16] {
        let nonce = nonce.get(..self.algorithm.nonce_len()).unwrap_or_default();
        let tag = ccm::aead::Nonce::<C>::try_from(nonce).map_err(|_| ()).and_then(|nonce| {
            self.cipher.encrypt_inout_detached(&nonce, aad, (&mut *data).into()).map_err(|_| ())
        });
        match tag {
            Ok(tag) => tag.into(),
            Err(()) => {
                // Only data of 4 GiB and more comes here, which no frame can hold. Nothing may leave in the clear.
                debug_assert!(false, "a message too long to encrypt");
                data.fill(0);
                [0; 16]
            }
        }
    }

    fn open(&self, nonce: &[u8; 16], aad: &[u8], data: &mut [u8], tag: &[u8; 16]) -> Result<(), BadTag> {
        let nonce = nonce.get(..self.algorithm.nonce_len()).unwrap_or_default();
        let nonce = ccm::aead::Nonce::<C>::try_from(nonce).map_err(|_| BadTag)?;
        self.cipher.decrypt_inout_detached(&nonce, aad, data.into(), tag.into()).map_err(|_| BadTag)
    }
}

impl<C> fmt::Debug for Aead<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aead").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
