//! One connection's side of the wire: frames become requests, responses become frames. Holds keys, nonces, the
//! preauthentication hash and authentications in progress; shares no state with the shard.
//!
//! The adapter moves bytes and time, nothing else: it hands whole frames to [`Endpoint::receive`] and every
//! [`Output`](crate::action::Output) for the connection to [`Endpoint::carry_out`], in order, and writes what comes back.

pub mod surroundings;
