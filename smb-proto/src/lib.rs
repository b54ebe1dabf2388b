//! Sans-IO codec for SMB 2 and 3: bytes become values and values become bytes.
//!
//! Nothing here decides, waits, reads a clock or draws a random number. Every type can be built, emitted and
//! parsed back, in the client's direction as in the server's, so that servers, load generators, tests and models
//! speak through one codec.
//!
//! * [`frame`], [`header`], [`compound`], [`transform`]: what surrounds a command (MS-SMB2 2.1, 2.2.1, 2.2.41)
//! * [`command`]: one file per command, request and response together (MS-SMB2 2.2.3 to 2.2.40)
//! * [`create_context`]: MS-SMB2 2.2.13.2 and 2.2.14.2
//! * [`fscc`]: file and volume information, FSCTL bodies, name expressions (MS-FSCC)
//! * [`security`]: SIDs, ACLs, security descriptors (MS-DTYP 2.4)
//! * [`crypto`]: signing, encryption, key derivation, preauthentication integrity
//! * [`auth`]: SPNEGO and NTLMv2 messages and computation
//! * [`access`], [`attributes`]: bits that requests, information classes and descriptors share
//! * [`rpc`]: DCE/RPC with srvsvc and wkssvc

pub mod access;
pub mod attributes;
pub mod auth;
pub mod command;
pub mod compound;
pub mod create_context;
pub mod crypto;
pub mod error;
mod flags;
pub mod frame;
pub mod fscc;
pub mod header;
pub mod name;
pub mod payload;
pub mod rpc;
pub mod security;
mod spare;
pub mod status;
pub mod time;
pub mod transform;
pub mod wire;

/// The crate of the buffers in this interface, for those who need nothing else of it.
pub use bytes;

pub use access::AccessMask;
pub use attributes::FileAttributes;
pub use error::Malformed;
pub use name::Name;
pub use payload::Payload;
pub use status::NtStatus;
pub use time::FileTime;
