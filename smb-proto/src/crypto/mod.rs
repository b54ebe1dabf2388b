//! Signing, encryption, key derivation, preauthentication integrity (MS-SMB2 3.1.4).
//!
//! * [`provider`]: the seam behind which the algorithms are implemented; [`portable`] implements it in Rust
//! * [`kdf`]: the keys of a session, from the key that authentication agreed on
//! * [`signing`]: signatures of SMB2 messages, in place
//! * [`seal`]: encrypted messages, in place
//!
//! Nothing here counts nonces or draws them: a caller that reuses one with the same key gives the key away.

pub mod kdf;
pub mod portable;
pub mod preauth;
pub mod provider;
pub mod seal;
pub mod secret;
pub mod signing;

pub use kdf::{KeySchedule, SessionKeys};
pub use portable::Portable;
pub use preauth::PreauthHash;
pub use provider::{BadKeyLength, BadTag, Cipher, Provider, Signer};
pub use seal::CipherAlgorithm;
pub use secret::{Secret, SecretBytes};
pub use signing::SigningAlgorithm;

#[cfg(test)]
pub(crate) mod tests;
