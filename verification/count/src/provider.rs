//! Crypto that does nothing, so that what is around it can be counted.

use std::sync::Arc;

use smb_proto::crypto::{BadKeyLength, BadTag, Cipher, CipherAlgorithm, Provider, Signer, SigningAlgorithm};

/// The provider.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nothing;

impl Provider for Nothing {
    fn signer(&self, _: SigningAlgorithm, _: &[u8; 16]) -> Arc<dyn Signer> {
        Arc::new(Self)
    }

    fn cipher(&self, _: CipherAlgorithm, _: &[u8]) -> Result<Arc<dyn Cipher>, BadKeyLength> {
        Ok(Arc::new(Self))
    }
}

impl Signer for Nothing {
    fn sign(&self, _: &[u8; 12], _: &[&[u8]]) -> [u8; 16] {
        [7; 16]
    }
}

impl Cipher for Nothing {
    fn algorithm(&self) -> CipherAlgorithm {
        CipherAlgorithm::Aes128Gcm
    }

    fn seal(&self, _: &[u8; 16], _: &[u8], _: &mut [u8]) -> [u8; 16] {
        [7; 16]
    }

    fn open(&self, _: &[u8; 16], _: &[u8], _: &mut [u8], tag: &[u8; 16]) -> Result<(), BadTag> {
        if *tag == [7; 16] { Ok(()) } else { Err(BadTag) }
    }
}
