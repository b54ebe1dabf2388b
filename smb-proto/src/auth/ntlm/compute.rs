//! Keys, proofs and signatures of NTLMv2 (MS-NLMP 3.3.2, 3.4).

use hmac::{Hmac, KeyInit, Mac};
use md4::Md4;
use md5::{Digest, Md5};
use rc4::{Rc4, StreamCipher};
use subtle::ConstantTimeEq;

use super::message::{Authenticate, Flags};
use crate::crypto::Secret;
use crate::name::Name;
use crate::wire;

/// HMAC-MD5 over parts taken as one message.
fn hmac_md5(key: &[u8; 16], parts: &[&[u8]]) -> [u8; 16] {
    // HMAC takes a key of any length; the default is never used.
    let mut mac =
        <Hmac<Md5> as KeyInit>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()));
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// RC4 under a fresh key state, in place.
fn rc4(key: &[u8; 16], data: &mut [u8]) {
    // Any key of 1 to 256 bytes is taken.
    if let Ok(mut cipher) = <Rc4 as rc4::KeyInit>::new_from_slice(key) {
        cipher.apply_keystream(data);
    }
}

fn utf16_bytes(name: &Name) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_utf16(&mut out, name.units());
    out
}

/// The NT hash of a password: all that a server keeps of it (NTOWFv1).
#[must_use]
pub fn nt_hash(password: &str) -> Secret<16> {
    let password = zeroize::Zeroizing::new(utf16_bytes(&Name::from(password)));
    Secret::new(Md4::digest(&*password).into())
}

/// NTOWFv2: the key that responses are made with. The user's name counts without regard to case, the domain's doesn't.
#[must_use]
pub fn response_key(nt_hash: &[u8; 16], user: &Name, domain: &Name) -> Secret<16> {
    Secret::new(hmac_md5(nt_hash, &[&utf16_bytes(&user.folded()), &utf16_bytes(domain)]))
}

/// NTProofStr: what shows that the client knows the key. `client_challenge` is what follows the proof in the response.
#[must_use]
pub fn proof(response_key: &[u8; 16], server_challenge: &[u8; 8], client_challenge: &[u8]) -> [u8; 16] {
    hmac_md5(response_key, &[server_challenge, client_challenge])
}

/// LMv2's response for clients that send one (MS-NLMP 3.3.2); this server never looks at it.
#[must_use]
pub fn lm_v2_response(
    response_key: &[u8; 16],
    server_challenge: &[u8; 8],
    client_challenge: &[u8; 8],
) -> Vec<u8> {
    let mut response = hmac_md5(response_key, &[server_challenge, client_challenge]).to_vec();
    response.extend_from_slice(client_challenge);
    response
}

/// SessionBaseKey, which for NTLMv2 is KeyExchangeKey too.
#[must_use]
pub fn session_base_key(response_key: &[u8; 16], proof: &[u8; 16]) -> Secret<16> {
    Secret::new(hmac_md5(response_key, &[proof]))
}

/// Encrypts ExportedSessionKey for the wire, or decrypts it: RC4 does both.
#[must_use]
pub fn exchange_key(key_exchange_key: &[u8; 16], key: &[u8; 16]) -> Secret<16> {
    let mut key = Secret::new(*key);
    rc4(key_exchange_key, key.expose_mut());
    key
}

/// MIC over the three messages as they were sent; the one in `authenticate` counts as zeros.
#[must_use]
pub fn mic(
    exported_session_key: &[u8; 16],
    negotiate: &[u8],
    challenge: &[u8],
    authenticate: &[u8],
) -> [u8; 16] {
    let before = authenticate.get(..Authenticate::MIC_RANGE.start).unwrap_or(authenticate);
    let after = authenticate.get(Authenticate::MIC_RANGE.end..).unwrap_or_default();
    hmac_md5(exported_session_key, &[negotiate, challenge, before, &[0; 16], after])
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The client.
    ClientToServer,
    /// The server.
    ServerToClient,
}

/// The keys of extended session security (MS-NLMP 3.4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSecurity {
    client_signing: Secret<16>,
    client_sealing: Secret<16>,
    server_signing: Secret<16>,
    server_sealing: Secret<16>,
    key_exchange: bool,
}

impl SessionSecurity {
    /// The keys for what was agreed on; none without extended session security, whose older signatures this codec
    /// doesn't make.
    #[must_use]
    pub fn new(flags: Flags, exported_session_key: &[u8; 16]) -> Option<Self> {
        if !flags.contains(Flags::EXTENDED_SESSION_SECURITY) {
            return None;
        }
        let strength = match flags {
            flags if flags.contains(Flags::KEY_128) => 16,
            flags if flags.contains(Flags::KEY_56) => 7,
            _ => 5,
        };
        let weak = exported_session_key.get(..strength).unwrap_or_default();
        let key = |from: &[u8], constant: &str| {
            let hash = Md5::new().chain_update(from).chain_update(constant).chain_update([0]);
            Secret::new(hash.finalize().into())
        };
        Some(Self {
            client_signing: key(
                exported_session_key,
                "session key to client-to-server signing key magic constant",
            ),
            client_sealing: key(weak, "session key to client-to-server sealing key magic constant"),
            server_signing: key(
                exported_session_key,
                "session key to server-to-client signing key magic constant",
            ),
            server_sealing: key(weak, "session key to server-to-client sealing key magic constant"),
            key_exchange: flags.contains(Flags::KEY_EXCHANGE),
        })
    }

    /// The signing and the sealing key of a direction.
    #[must_use]
    pub fn keys(&self, direction: Direction) -> (&Secret<16>, &Secret<16>) {
        match direction {
            Direction::ClientToServer => (&self.client_signing, &self.client_sealing),
            Direction::ServerToClient => (&self.server_signing, &self.server_sealing),
        }
    }

    /// The signature of the first message of a direction (GSS_GetMIC, MS-NLMP 3.4.8), which is all that mechListMIC
    /// needs: its use leaves the key states and sequence numbers as they were (MS-SPNG 3.2.5.1).
    #[must_use]
    pub fn first_signature(&self, direction: Direction, message: &[u8]) -> [u8; 16] {
        let (signing, sealing) = self.keys(direction);
        let [a, b, c, d, e, f, g, h, ..] = hmac_md5(signing.expose(), &[&[0; 4], message]);
        let mut checksum = [a, b, c, d, e, f, g, h];
        if self.key_exchange {
            rc4(sealing.expose(), &mut checksum);
        }
        let [a, b, c, d, e, f, g, h] = checksum;
        [1, 0, 0, 0, a, b, c, d, e, f, g, h, 0, 0, 0, 0]
    }

    /// Whether a signature is [`first_signature`](Self::first_signature)'s, in constant time.
    #[must_use]
    pub fn verify_first_signature(&self, direction: Direction, message: &[u8], signature: &[u8]) -> bool {
        self.first_signature(direction, message).as_slice().ct_eq(signature).into()
    }
}
