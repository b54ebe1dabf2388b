//! OPLOCK_BREAK, of oplocks and of leases (MS-SMB2 2.2.23 to 2.2.25).
//!
//! Each message has two forms that StructureSize tells apart. A notification and a response of the oplock form look
//! the same; which it is follows from the header (a notification's MessageId is `u64::MAX`).

use binrw::binrw;
use bytes::Bytes;

use super::{BODY_OFFSET, FileId};
use crate::create_context::{LeaseKey, LeaseState};
use crate::error::Malformed;
use crate::flags::{flags, values};
use crate::wire;

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

flags! {
    /// Flags of a lease break notification.
    pub struct LeaseBreakFlags(u32);
    /// The client has to acknowledge.
    ACK_REQUIRED = 0x01;
}

/// The oplock form, common to notification, acknowledgment and response (2.2.23.1, 2.2.24.1, 2.2.25.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OplockBreak {
    /// The level broken to, accepted, or granted.
    pub oplock_level: OplockLevel,
    /// The open.
    pub file_id: FileId,
}

/// The lease form of a notification (2.2.23.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseBreakNotification {
    /// The lease's epoch after the break (3.x).
    pub new_epoch: u16,
    /// Flags.
    pub flags: LeaseBreakFlags,
    /// The lease.
    pub lease_key: LeaseKey,
    /// Rights before the break.
    pub current_state: LeaseState,
    /// Rights that the client may keep.
    pub new_state: LeaseState,
}

/// The lease form, common to acknowledgment and response (2.2.24.2, 2.2.25.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseBreak {
    /// The lease.
    pub lease_key: LeaseKey,
    /// The rights accepted, or granted.
    pub lease_state: LeaseState,
}

/// The server takes an oplock or lease back, in part or whole (2.2.23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notification {
    /// An oplock.
    Oplock(OplockBreak),
    /// A lease.
    Lease(LeaseBreakNotification),
}

/// The client's acknowledgment: the request of this command (2.2.24).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acknowledgment {
    /// Of an oplock's break.
    Oplock(OplockBreak),
    /// Of a lease's break.
    Lease(LeaseBreak),
}

/// The server's answer to an acknowledgment (2.2.25).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Response {
    /// Of an oplock's break.
    Oplock(OplockBreak),
    /// Of a lease's break.
    Lease(LeaseBreak),
}

#[binrw]
#[brw(little)]
struct OplockFixed {
    #[br(assert(structure_size == 24))]
    structure_size: u16,
    oplock_level: OplockLevel,
    reserved: u8,
    reserved2: u32,
    file_id: FileId,
}

#[binrw]
#[brw(little)]
struct NotificationFixed {
    #[br(assert(structure_size == 44))]
    structure_size: u16,
    new_epoch: u16,
    flags: LeaseBreakFlags,
    lease_key: LeaseKey,
    current_state: LeaseState,
    new_state: LeaseState,
    break_reason: u32,
    access_mask_hint: u32,
    share_mask_hint: u32,
}

#[binrw]
#[brw(little)]
struct LeaseFixed {
    #[br(assert(structure_size == 36))]
    structure_size: u16,
    reserved: u16,
    flags: u32,
    lease_key: LeaseKey,
    lease_state: LeaseState,
    lease_duration: u64,
}

/// StructureSize of the oplock form.
const OPLOCK_SIZE: u16 = 24;

/// The StructureSize of a message.
fn structure_size(message: &Bytes) -> Result<u16, Malformed> {
    wire::fixed::<[u8; 2]>(message, BODY_OFFSET, "OPLOCK_BREAK").map(u16::from_le_bytes)
}

impl OplockBreak {
    fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let OplockFixed { oplock_level, file_id, .. } = wire::fixed(message, BODY_OFFSET, "oplock break")?;
        Ok(Self { oplock_level, file_id })
    }

    fn emit(&self, out: &mut Vec<u8>) {
        let (oplock_level, file_id) = (self.oplock_level, self.file_id);
        wire::put(
            out,
            &OplockFixed { structure_size: OPLOCK_SIZE, oplock_level, reserved: 0, reserved2: 0, file_id },
        );
    }
}

impl LeaseBreak {
    fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let LeaseFixed { lease_key, lease_state, .. } = wire::fixed(message, BODY_OFFSET, "lease break")?;
        Ok(Self { lease_key, lease_state })
    }

    fn emit(&self, out: &mut Vec<u8>) {
        let (lease_key, lease_state) = (self.lease_key, self.lease_state);
        wire::put(
            out,
            &LeaseFixed {
                structure_size: 36,
                reserved: 0,
                flags: 0,
                lease_key,
                lease_state,
                lease_duration: 0,
            },
        );
    }
}

impl LeaseBreakNotification {
    fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: NotificationFixed = wire::fixed(message, BODY_OFFSET, "lease break notification")?;
        Ok(Self {
            new_epoch: fixed.new_epoch,
            flags: fixed.flags,
            lease_key: fixed.lease_key,
            current_state: fixed.current_state,
            new_state: fixed.new_state,
        })
    }

    fn emit(&self, out: &mut Vec<u8>) {
        wire::put(
            out,
            &NotificationFixed {
                structure_size: 44,
                new_epoch: self.new_epoch,
                flags: self.flags,
                lease_key: self.lease_key,
                current_state: self.current_state,
                new_state: self.new_state,
                break_reason: 0,
                access_mask_hint: 0,
                share_mask_hint: 0,
            },
        );
    }
}

impl Notification {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or StructureSize is neither 24 nor 44.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        match structure_size(message)? {
            OPLOCK_SIZE => OplockBreak::parse(message).map(Self::Oplock),
            _ => LeaseBreakNotification::parse(message).map(Self::Lease),
        }
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Oplock(oplock) => oplock.emit(out),
            Self::Lease(lease) => lease.emit(out),
        }
    }
}

impl Acknowledgment {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or StructureSize is neither 24 nor 36.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        match structure_size(message)? {
            OPLOCK_SIZE => OplockBreak::parse(message).map(Self::Oplock),
            _ => LeaseBreak::parse(message).map(Self::Lease),
        }
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Oplock(oplock) => oplock.emit(out),
            Self::Lease(lease) => lease.emit(out),
        }
    }
}

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short or StructureSize is neither 24 nor 36.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        match structure_size(message)? {
            OPLOCK_SIZE => OplockBreak::parse(message).map(Self::Oplock),
            _ => LeaseBreak::parse(message).map(Self::Lease),
        }
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Oplock(oplock) => oplock.emit(out),
            Self::Lease(lease) => lease.emit(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, round_trip};
    use super::*;

    const OPLOCK: OplockBreak =
        OplockBreak { oplock_level: OplockLevel::II, file_id: FileId { persistent: 1, volatile: 2 } };
    const LEASE: LeaseBreak =
        LeaseBreak { lease_key: LeaseKey([7; 16]), lease_state: LeaseState::READ_CACHING };
    const NOTIFICATION: LeaseBreakNotification = LeaseBreakNotification {
        new_epoch: 3,
        flags: LeaseBreakFlags::ACK_REQUIRED,
        lease_key: LeaseKey([7; 16]),
        current_state: LeaseState::READ_HANDLE_WRITE,
        new_state: LeaseState::READ_CACHING,
    };

    #[test]
    fn round_trips() {
        for notification in [Notification::Oplock(OPLOCK), Notification::Lease(NOTIFICATION)] {
            round_trip(&notification, Notification::emit, Notification::parse);
        }
        for acknowledgment in [Acknowledgment::Oplock(OPLOCK), Acknowledgment::Lease(LEASE)] {
            round_trip(&acknowledgment, Acknowledgment::emit, Acknowledgment::parse);
        }
        for response in [Response::Oplock(OPLOCK), Response::Lease(LEASE)] {
            round_trip(&response, Response::emit, Response::parse);
        }
    }

    #[test]
    fn a_form_is_as_long_as_its_structure_size() {
        for (bytes, size) in [
            (message(|out| Notification::Oplock(OPLOCK).emit(out)), 24),
            (message(|out| Notification::Lease(NOTIFICATION).emit(out)), 44),
            (message(|out| Acknowledgment::Lease(LEASE).emit(out)), 36),
        ] {
            assert_eq!((bytes.len(), usize::from(bytes[64])), (64 + size, size));
        }
    }

    #[test]
    fn forms_of_other_messages_are_refused() {
        let notification = message(|out| Notification::Lease(NOTIFICATION).emit(out));
        assert!(Acknowledgment::parse(&notification).is_err() && Response::parse(&notification).is_err());
        assert!(Notification::parse(&message(|out| Response::Lease(LEASE).emit(out))).is_err());
    }
}
