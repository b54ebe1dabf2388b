//! NTLM (MS-NLMP): [`message`] holds the three messages, [`compute`] what is computed from them (NTLMv2 only).

pub mod compute;
pub mod message;

pub use compute::{Direction, SessionSecurity};
pub use message::{Authenticate, AvId, AvPairs, Challenge, ClientChallenge, Flags, Negotiate, Version};

/// First eight bytes of every message.
pub const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";
