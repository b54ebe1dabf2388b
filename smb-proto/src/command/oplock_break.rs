//! OPLOCK_BREAK, of oplocks and of leases (MS-SMB2 2.2.23 to 2.2.25).

use crate::flags::values;

values! {
    /// Oplock level, asked for, granted or broken to.
    pub struct OplockLevel(u8);
    /// None.
    NONE = 0x00;
    /// Level II.
    II = 0x01;
    /// Exclusive.
    EXCLUSIVE = 0x08;
    /// Batch.
    BATCH = 0x09;
    /// A lease, described by a create context, in place of an oplock.
    LEASE = 0xFF;
}
