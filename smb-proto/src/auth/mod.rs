//! Authentication: SPNEGO (RFC 4178, MS-SPNG) and NTLMv2 (MS-NLMP), messages and computation, both sides.
//!
//! * [`spnego`]: the negotiation tokens; [`der`] reads and writes their encoding
//! * [`ntlm`]: the three messages and what is computed from them
//! * [`acceptor`]: the server's side as a pure state machine
//! * [`initiator`]: the client's side, for load generators and tests
//!
//! Deliberately absent: NTLMv1 and LM responses, which are refused, and signatures without extended session security.

pub mod acceptor;
pub mod der;
pub mod initiator;
pub mod ntlm;
pub mod spnego;

pub use acceptor::{AcceptorConfig, Denial, Finish, NtlmAcceptor, Step, StepInputs};
pub use initiator::{Credentials, InitiatorInputs, Next, NtlmInitiator, Wrapping};

#[cfg(test)]
mod tests;
