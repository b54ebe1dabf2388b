//! Pure state machines of an SMB 2/3 server: events in, actions out.

pub mod ids;
