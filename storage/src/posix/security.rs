//! Security descriptors: kept as set in `user.leasehold.sd` (self-relative bytes, MS-DTYP 2.4.6), else made up from owner,
//! group and mode. The kernel checks by its own rules whatever is stored.

use std::ffi::CStr;

use bytes::Bytes;
use smb_proto::security::{Ace, AceFlags, Acl, SecurityDescriptor, Sid};
use smb_proto::{AccessMask, NtStatus};
use smb_state::storage::Kind;

use super::Volume;
use super::handle::{Node, Stat};
use super::xattr;
use crate::fault::Outcome;
use crate::handles::lock;

const NAME: &CStr = c"user.leasehold.sd";

// What a bit of a mode amounts to: the specific rights behind GENERIC_READ, GENERIC_WRITE and GENERIC_EXECUTE
// (MS-SMB2 2.2.13.1).
const READ: u32 = 0x0012_0089;
const WRITE: u32 = 0x0012_0116;
const EXECUTE: u32 = 0x0012_00A0;
const DELETE: u32 = 0x0001_0000;
const DELETE_CHILD: u32 = 0x0000_0040;
/// Reading attributes, descriptor, and waiting: what everybody who reaches a file may.
const LOOK: u32 = 0x0012_0080;
const ALL: u32 = 0x001F_01FF;

fn rights(bits: u16, kind: Kind) -> AccessMask {
    let mut mask = LOOK;
    if bits & 4 != 0 {
        mask |= READ;
    }
    if bits & 2 != 0 {
        mask |= WRITE | DELETE;
        if kind == Kind::Directory {
            mask |= DELETE_CHILD;
        }
    }
    if bits & 1 != 0 {
        mask |= EXECUTE;
    }
    AccessMask(mask)
}

/// The descriptor that a mode amounts to. The owner may do everything: a POSIX owner can give itself any bit.
fn from_mode(stat: &Stat) -> Option<SecurityDescriptor> {
    let owner = Sid::UNIX_USERS.child(stat.uid)?;
    let group = Sid::UNIX_GROUPS.child(stat.gid)?;
    let flags = AceFlags(0);
    let aces = vec![
        Ace::allow(owner, AccessMask(ALL), flags),
        Ace::allow(group, rights(stat.mode >> 3, stat.kind()), flags),
        Ace::allow(Sid::EVERYONE, rights(stat.mode, stat.kind()), flags),
    ];
    Some(SecurityDescriptor::new(owner, group, Acl::new(aces)))
}

impl Volume {
    pub(super) fn security(&self, node: &Node) -> Outcome<SecurityDescriptor> {
        let stored = if self.caps.security { xattr::get(node.inode.path(), NAME)? } else { None };
        // One that cannot be read must not be taken for no protection at all: the mode still tells the truth.
        if let Some(descriptor) = stored.and_then(|bytes| SecurityDescriptor::parse(&Bytes::from(bytes)).ok())
        {
            return Ok(descriptor);
        }
        Ok(from_mode(&node.inode.stat()?).ok_or(NtStatus::INTERNAL_ERROR)?)
    }

    pub(super) fn set_security(&self, node: &Node, new: &SecurityDescriptor) -> Outcome<()> {
        if !self.caps.security {
            return Err(NtStatus::NOT_SUPPORTED.into());
        }
        let _held = lock(&node.inode.edit);
        let merged = crate::descriptor::merge(&self.security(node)?, new);
        let mut bytes = Vec::with_capacity(merged.wire_len());
        merged.emit(&mut bytes);
        Ok(xattr::set(node.inode.path(), NAME, &bytes)?)
    }
}
