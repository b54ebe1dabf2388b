//! Leases in create contexts (MS-SMB2 2.2.13.2.8, 2.2.13.2.10, 2.2.14.2.10, 2.2.14.2.11): request and response have one
//! form.

use binrw::binrw;

use crate::error::Malformed;
use crate::flags::flags;
use crate::wire;

/// The client's name for a lease: all opens that carry it share the caching rights.
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseKey(pub [u8; 16]);

flags! {
    /// Caching rights of a lease, asked for or granted.
    pub struct LeaseState(u32);
    /// Read caching.
    READ_CACHING = 0x01;
    /// Handle caching: closes may be delayed.
    HANDLE_CACHING = 0x02;
    /// Write caching.
    WRITE_CACHING = 0x04;
    /// Read and handle caching.
    READ_HANDLE = 0x03;
    /// Read and write caching.
    READ_WRITE = 0x05;
    /// Everything that a lease can grant.
    READ_HANDLE_WRITE = 0x07;
}

flags! {
    /// Flags of a lease context.
    pub struct LeaseFlags(u32);
    /// Response: the lease is being broken.
    BREAK_IN_PROGRESS = 0x02;
    /// Version 2: the parent's lease key is given.
    PARENT_LEASE_KEY_SET = 0x04;
}

/// A lease for a file (2.1 and later).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseV1 {
    /// Key.
    pub key: LeaseKey,
    /// Rights asked for or granted.
    pub state: LeaseState,
    /// Flags; reserved in a request.
    pub flags: LeaseFlags,
}

/// A lease for a file or directory (3.x).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseV2 {
    /// Key.
    pub key: LeaseKey,
    /// Rights asked for or granted.
    pub state: LeaseState,
    /// Flags.
    pub flags: LeaseFlags,
    /// Key of the lease of the directory that holds the file, meaningful with [`LeaseFlags::PARENT_LEASE_KEY_SET`].
    pub parent_key: LeaseKey,
    /// Counts the changes of the lease's state.
    pub epoch: u16,
}

impl LeaseV2 {
    /// The parent's lease key, if it is given.
    #[must_use]
    pub fn parent(&self) -> Option<LeaseKey> {
        self.flags.contains(LeaseFlags::PARENT_LEASE_KEY_SET).then_some(self.parent_key)
    }
}

#[binrw]
#[brw(little)]
struct FixedV1 {
    key: LeaseKey,
    state: LeaseState,
    flags: LeaseFlags,
    duration: u64,
}

#[binrw]
#[brw(little)]
struct FixedV2 {
    first: FixedV1,
    parent_key: LeaseKey,
    epoch: u16,
    reserved: u16,
}

/// Size of version 1.
pub(super) const SIZE_V1: usize = 0x20;
/// Size of version 2.
pub(super) const SIZE_V2: usize = 0x34;

impl LeaseV1 {
    pub(super) fn parse(data: &[u8]) -> Result<Self, Malformed> {
        let fixed: FixedV1 = super::exact(data, SIZE_V1, "RqLs context")?;
        Ok(Self { key: fixed.key, state: fixed.state, flags: fixed.flags })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        wire::put(out, &FixedV1 { key: self.key, state: self.state, flags: self.flags, duration: 0 });
    }
}

impl LeaseV2 {
    pub(super) fn parse(data: &[u8]) -> Result<Self, Malformed> {
        let FixedV2 { first, parent_key, epoch, .. } = super::exact(data, SIZE_V2, "RqLs context")?;
        Ok(Self { key: first.key, state: first.state, flags: first.flags, parent_key, epoch })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let first = FixedV1 { key: self.key, state: self.state, flags: self.flags, duration: 0 };
        wire::put(out, &FixedV2 { first, parent_key: self.parent_key, epoch: self.epoch, reserved: 0 });
    }
}
