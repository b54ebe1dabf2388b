//! The driver seam: what a storage driver implements, and the drivers that come with the project.
//!
//! A driver answers [`smb_state::storage::StorageOp`] with [`smb_state::storage::StorageReply`]. It decides nothing about
//! sharing: share modes, locks, leases and pending deletes are the core's. It must keep a handle's file number from being
//! reused while the handle is open, see local changes, and never follow a name out of its root.
//!
//! [`store`] is another seam: where records of persistent opens are kept.

pub mod conformance;
pub mod driver;
mod ea;
mod fault;
pub mod file;
mod handles;
mod listing;
pub mod memory;
pub mod offload;
pub mod pipes;
pub mod posix;
pub mod store;
mod submit;
pub mod table;

pub use submit::submit;
