//! Preauthentication integrity: a running SHA-512 over the messages that set a connection and a session up
//! (SMB 3.1.1; MS-SMB2 3.3.5.4, 3.3.5.5).

use sha2::{Digest, Sha512};

/// The hash so far: zeros at first. Copied from the connection to each session that begins on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PreauthHash(pub [u8; 64]);

impl PreauthHash {
    /// Takes a message in, whole, from its SMB2 header to its last byte.
    pub fn update(&mut self, message: &[u8]) {
        self.0 = Sha512::new().chain_update(self.0).chain_update(message).finalize().into();
    }
}

impl Default for PreauthHash {
    fn default() -> Self {
        Self([0; 64])
    }
}
