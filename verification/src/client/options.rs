//! What a client offers, and what comes of it.

use std::time::Duration;

use bytes::Bytes;
use smb_proto::Malformed;
use smb_proto::command::negotiate::{Capabilities, Dialect, Request, Response, SecurityMode};
use smb_proto::command::negotiate_context::{
    Cipher, HashAlgorithm, NegotiateContext, SigningAlgorithm as Code,
};
use smb_proto::crypto::{CipherAlgorithm, SigningAlgorithm};

use super::error::{Error, Result};

/// What a client offers in its NEGOTIATE (MS-SMB2 3.2.4.2.2.2).
#[derive(Clone, Debug)]
pub struct Options {
    /// Dialects.
    pub dialects: Vec<Dialect>,
    /// Ciphers for 3.1.1, best first; empty to offer none.
    pub ciphers: Vec<CipherAlgorithm>,
    /// Signers for 3.1.1, best first; empty to leave it at AES-CMAC.
    pub signers: Vec<SigningAlgorithm>,
    /// What to say about signing.
    pub security_mode: SecurityMode,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// The client's identity; none for a new one with each connection. Servers take connections with the same identity for
    /// channels of one client: smbd then serves them all by one process.
    pub client_guid: Option<[u8; 16]>,
    /// Credits to ask for, in all.
    pub credits: u16,
    /// How long to wait for the server at any point.
    pub limit: Duration,
    /// Bytes that one system call moves at most, where others on the same processor must not have to wait for long.
    pub piece: Option<usize>,
}

impl Default for Options {
    /// Every dialect, cipher and signer.
    fn default() -> Self {
        Self {
            dialects: vec![
                Dialect::SMB_2_0_2,
                Dialect::SMB_2_1,
                Dialect::SMB_3_0,
                Dialect::SMB_3_0_2,
                Dialect::SMB_3_1_1,
            ],
            ciphers: vec![
                CipherAlgorithm::Aes128Gcm,
                CipherAlgorithm::Aes256Gcm,
                CipherAlgorithm::Aes128Ccm,
                CipherAlgorithm::Aes256Ccm,
            ],
            signers: vec![SigningAlgorithm::AesGmac, SigningAlgorithm::AesCmac, SigningAlgorithm::HmacSha256],
            security_mode: SecurityMode::SIGNING_ENABLED,
            capabilities: Capabilities::LEASING
                .with(Capabilities::LARGE_MTU)
                .with(Capabilities::MULTI_CHANNEL)
                .with(Capabilities::DIRECTORY_LEASING)
                .with(Capabilities::PERSISTENT_HANDLES)
                .with(Capabilities::ENCRYPTION),
            client_guid: None,
            credits: 512,
            limit: Duration::from_secs(30),
            piece: None,
        }
    }
}

impl Options {
    /// Offers one dialect only.
    #[must_use]
    pub fn only(mut self, dialect: Dialect) -> Self {
        self.dialects = vec![dialect];
        self
    }

    /// The request that says so, from this client.
    pub(super) fn request(&self, client_guid: [u8; 16], salt: [u8; 32]) -> Request {
        let mut contexts = vec![NegotiateContext::PreauthIntegrity {
            algorithms: vec![HashAlgorithm::SHA_512],
            salt: Bytes::copy_from_slice(&salt),
        }];
        if !self.ciphers.is_empty() {
            let ciphers = self.ciphers.iter().map(|cipher| Cipher(cipher.code())).collect();
            contexts.push(NegotiateContext::Encryption { ciphers });
        }
        if !self.signers.is_empty() {
            let algorithms = self.signers.iter().map(|signer| Code(signer.code())).collect();
            contexts.push(NegotiateContext::Signing { algorithms });
        }
        Request {
            security_mode: self.security_mode,
            capabilities: self.capabilities,
            client_guid,
            dialects: self.dialects.clone(),
            contexts: if self.dialects.contains(&Dialect::SMB_3_1_1) { contexts } else { Vec::new() },
        }
    }
}

/// What was negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The dialect.
    pub dialect: Dialect,
    /// The cipher, if there is one.
    pub cipher: Option<CipherAlgorithm>,
    /// The signer.
    pub signer: SigningAlgorithm,
    /// What the server can do.
    pub capabilities: Capabilities,
    /// What the server says about signing.
    pub security_mode: SecurityMode,
    /// Which server this is.
    pub server_guid: [u8; 16],
    /// Most bytes of a QUERY_INFO, QUERY_DIRECTORY, SET_INFO, CHANGE_NOTIFY or IOCTL buffer.
    pub max_transact_size: u32,
    /// Most bytes of a READ.
    pub max_read_size: u32,
    /// Most bytes of a WRITE.
    pub max_write_size: u32,
}

impl Negotiated {
    /// What a response says, checked against the offer (MS-SMB2 3.2.5.2).
    pub(super) fn from_response(offered: &Options, response: &Response) -> Result<Self> {
        if !offered.dialects.contains(&response.dialect) {
            return Err(Error::Protocol("the server chose a dialect that was not offered"));
        }
        let mut negotiated = Self {
            dialect: response.dialect,
            cipher: None,
            signer: match response.dialect {
                dialect if dialect.is_smb3() => SigningAlgorithm::AesCmac,
                _ => SigningAlgorithm::HmacSha256,
            },
            capabilities: response.capabilities,
            security_mode: response.security_mode,
            server_guid: response.server_guid,
            max_transact_size: response.max_transact_size,
            max_read_size: response.max_read_size,
            max_write_size: response.max_write_size,
        };
        if response.dialect == Dialect::SMB_3_1_1 {
            negotiated.take_contexts(offered, &response.contexts)?;
        } else if response.dialect.is_smb3() && response.capabilities.contains(Capabilities::ENCRYPTION) {
            negotiated.cipher = Some(CipherAlgorithm::Aes128Ccm);
        }
        Ok(negotiated)
    }

    fn take_contexts(&mut self, offered: &Options, contexts: &[NegotiateContext]) -> Result<()> {
        let mut hashed = false;
        for context in contexts {
            match context {
                NegotiateContext::PreauthIntegrity { algorithms, .. } => {
                    hashed = algorithms == &[HashAlgorithm::SHA_512];
                }
                NegotiateContext::Encryption { ciphers } => {
                    let [Cipher(code)] = ciphers.as_slice() else {
                        return Err(Error::Protocol("the server chose not one cipher"));
                    };
                    self.cipher = CipherAlgorithm::from_code(*code);
                    if self.cipher.map_or(*code != 0, |cipher| !offered.ciphers.contains(&cipher)) {
                        return Err(Error::Protocol("the server chose a cipher that was not offered"));
                    }
                }
                NegotiateContext::Signing { algorithms } => {
                    let [Code(code)] = algorithms.as_slice() else {
                        return Err(Error::Protocol("the server chose not one signer"));
                    };
                    self.signer = SigningAlgorithm::from_code(*code)
                        .filter(|signer| offered.signers.contains(signer))
                        .ok_or(Error::Protocol("the server chose a signer that was not offered"))?;
                }
                NegotiateContext::Unreadable { .. } => {
                    return Err(Malformed("NEGOTIATE response: context").into());
                }
                _ => {}
            }
        }
        if hashed {
            Ok(())
        } else {
            Err(Error::Protocol("the server chose not SHA-512 for preauthentication"))
        }
    }

    /// Whether requests cost as many credits as they move 64 KiB (3.2.4.1.2).
    pub fn counts_credits(&self) -> bool {
        self.dialect != Dialect::SMB_2_0_2 && self.capabilities.contains(Capabilities::LARGE_MTU)
    }
}
