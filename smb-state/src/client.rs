//! The Client machine (MS-SMB2 3.3.1.16): what all connections of one ClientGuid share. Today that is their dialect;
//! lease tables join it with the leases.

use smb_proto::command::negotiate::Dialect;

/// A client with at least one valid session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// The one dialect that its connections may speak.
    pub(crate) dialect: Dialect,
    /// Sessions that count.
    pub(crate) sessions: u32,
}
