//! The keys of a session (MS-SMB2 3.1.4.2, 3.2.5.3.1, 3.3.5.5.3).

use hmac::Mac;

use super::portable::hmac_sha256;
use super::preauth::PreauthHash;
use super::seal::CipherAlgorithm;
use super::secret::{Secret, SecretBytes};

/// SP800-108 in counter mode over HMAC-SHA256, 32-bit counter: fills `out` with key material bound to `label`, `context`
/// and the length of `out`. SMB's labels and contexts bring a final zero of their own, besides the separator.
pub fn derive(key: &[u8], label: &[u8], context: &[u8], out: &mut [u8]) {
    let bits = u32::try_from(out.len()).unwrap_or(u32::MAX).saturating_mul(8);
    expand(key, &[label, &[0], context, &bits.to_be_bytes()], out);
}

/// Counter mode over fixed input data, given in parts.
pub(super) fn expand(key: &[u8], fixed: &[&[u8]], out: &mut [u8]) {
    let keyed = hmac_sha256(key);
    for (counter, chunk) in (1_u32..).zip(out.chunks_mut(32)) {
        let mut mac = keyed.clone();
        mac.update(&counter.to_be_bytes());
        for part in fixed {
            mac.update(part);
        }
        let block: Secret<32> = Secret::new(mac.finalize().into_bytes().into());
        for (to, from) in chunk.iter_mut().zip(block.expose()) {
            *to = *from;
        }
    }
}

/// How a dialect derives its keys.
#[derive(Clone, Copy, Debug)]
pub enum KeySchedule<'a> {
    /// 2.0.2 and 2.1: the session key signs; nothing is encrypted.
    Smb2,
    /// 3.0 and 3.0.2: fixed contexts.
    Smb30,
    /// 3.1.1: bound to the messages that set the session up.
    Smb311 {
        /// The session's hash, its last SESSION_SETUP request included.
        preauth: &'a PreauthHash,
    },
}

/// The keys of a session, or of a channel bound to one (which uses `signing` only, MS-SMB2 3.3.5.5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionKeys {
    /// Signs both directions.
    pub signing: Secret<16>,
    /// Handed to applications above SMB. The session key itself for 2.0.2 and 2.1.
    pub application: Secret<16>,
    /// Encrypts what the server sends; empty without encryption.
    pub server_to_client: SecretBytes,
    /// Encrypts what the client sends; empty without encryption.
    pub client_to_server: SecretBytes,
}

impl SessionKeys {
    /// Derives the keys. `authentication_key` is the key that authentication returned, in full: its first 16 bytes,
    /// filled up with zeros, are the session key; 256-bit ciphers derive from all of it. `cipher` is what the
    /// connection negotiated (3.0 and 3.0.2: AES-128-CCM), none when it doesn't encrypt.
    #[must_use]
    pub fn derive(
        schedule: KeySchedule<'_>,
        authentication_key: &[u8],
        cipher: Option<CipherAlgorithm>,
    ) -> Self {
        let session_key: Secret<16> = Secret::from_prefix(authentication_key);
        let labels = match schedule {
            KeySchedule::Smb2 => {
                return Self {
                    signing: session_key.clone(),
                    application: session_key,
                    server_to_client: SecretBytes::default(),
                    client_to_server: SecretBytes::default(),
                };
            }
            KeySchedule::Smb30 => Labels::SMB30,
            KeySchedule::Smb311 { preauth } => Labels::smb311(&preauth.0),
        };
        let cipher_key = |(label, context): (&[u8], &[u8])| {
            let Some(cipher) = cipher else { return SecretBytes::default() };
            let mut key = vec![0; cipher.key_len()];
            let wide = cipher.key_len() > session_key.expose().len();
            let from = if wide { authentication_key } else { session_key.expose() };
            derive(from, label, context, &mut key);
            SecretBytes::new(key)
        };
        let narrow_key = |(label, context): (&[u8], &[u8])| {
            let mut key = Secret::default();
            derive(session_key.expose(), label, context, key.expose_mut());
            key
        };
        Self {
            signing: narrow_key(labels.signing),
            application: narrow_key(labels.application),
            server_to_client: cipher_key(labels.server_to_client),
            client_to_server: cipher_key(labels.client_to_server),
        }
    }
}

/// Label and context of each key.
struct Labels<'a> {
    signing: (&'a [u8], &'a [u8]),
    application: (&'a [u8], &'a [u8]),
    server_to_client: (&'a [u8], &'a [u8]),
    client_to_server: (&'a [u8], &'a [u8]),
}

impl<'a> Labels<'a> {
    const SMB30: Self = Self {
        signing: (b"SMB2AESCMAC\0", b"SmbSign\0"),
        application: (b"SMB2APP\0", b"SmbRpc\0"),
        server_to_client: (b"SMB2AESCCM\0", b"ServerOut\0"),
        client_to_server: (b"SMB2AESCCM\0", b"ServerIn \0"),
    };

    fn smb311(preauth: &'a [u8; 64]) -> Self {
        Self {
            signing: (b"SMBSigningKey\0", preauth),
            application: (b"SMBAppKey\0", preauth),
            server_to_client: (b"SMBS2CCipherKey\0", preauth),
            client_to_server: (b"SMBC2SCipherKey\0", preauth),
        }
    }
}
