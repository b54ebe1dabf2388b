//! Security descriptors: kept as set in `user.leasehold.sd` (self-relative bytes, MS-DTYP 2.4.6), which the record tells of, so
//! that files without one need not be asked. Those have the default one; their owner is the user who made them, else the
//! file system's. The kernel checks by its own rules whatever is stored.

use std::ffi::CStr;

use bytes::Bytes;
use smb_proto::NtStatus;
use smb_proto::security::{Acl, SecurityDescriptor, SecurityInformation, Sid, Token};
use smb_state::security::{default_descriptor, may_see, users_of};

use super::Volume;
use super::handle::{Inode, Node};
use super::record::Record;
use super::xattr;
use crate::fault::Outcome;
use crate::handles::lock;

const NAME: &CStr = c"user.leasehold.sd";

impl Volume {
    /// The number of a user of the server's own domain.
    pub(super) fn user_number(&self, sid: &Sid) -> Option<u32> {
        let (domain, number) = sid.split()?;
        (Some(domain) == self.options.account_domain).then_some(number)
    }

    fn default_security(&self, inode: &Inode, record: &Record) -> Outcome<SecurityDescriptor> {
        let own = self.options.account_domain.zip(record.owner);
        let people = match own {
            Some((domain, number)) => domain.child(number).map(|owner| (owner, users_of(domain))),
            None => {
                let stat = inode.stat()?;
                Sid::UNIX_USERS.child(stat.uid).zip(Sid::UNIX_GROUPS.child(stat.gid))
            }
        };
        let (owner, group) = people.ok_or(NtStatus::INTERNAL_ERROR)?;
        Ok(default_descriptor(owner, group, inode.kind))
    }

    /// The descriptor that is stored, if one is.
    pub(super) fn stored_security(
        &self,
        inode: &Inode,
        record: &Record,
    ) -> Outcome<Option<SecurityDescriptor>> {
        if !record.has_descriptor || !self.caps.security {
            return Ok(None);
        }
        let Some(bytes) = xattr::get(inode.path(), NAME)? else { return Ok(None) };
        if let Ok(descriptor) = SecurityDescriptor::parse(&Bytes::from(bytes)) {
            return Ok(Some(descriptor));
        }
        // One that cannot be read must not be taken for no protection at all: only the owner may give it a new one.
        let default = self.default_security(inode, record)?;
        Ok(Some(SecurityDescriptor { dacl: Some(Acl::default()), ..default }))
    }

    /// Refuses if what is stored keeps the inode out of this user's listings.
    pub(super) fn check_visible(&self, inode: &Inode, record: &Record, token: &Token) -> Outcome<()> {
        if may_see(self.stored_security(inode, record)?.as_ref(), token) {
            Ok(())
        } else {
            Err(NtStatus::ACCESS_DENIED.into())
        }
    }

    fn security_of(&self, inode: &Inode, record: &Record) -> Outcome<SecurityDescriptor> {
        match self.stored_security(inode, record)? {
            Some(descriptor) => Ok(descriptor),
            None => self.default_security(inode, record),
        }
    }

    pub(super) fn security(&self, node: &Node) -> Outcome<SecurityDescriptor> {
        let record = if self.caps.security { Record::of(&node.inode)? } else { Record::default() };
        self.security_of(&node.inode, &record)
    }

    pub(super) fn set_security(
        &self,
        node: &Node,
        parts: SecurityInformation,
        new: &SecurityDescriptor,
    ) -> Outcome<()> {
        if !self.caps.security {
            return Err(NtStatus::NOT_SUPPORTED.into());
        }
        let _held = lock(&node.inode.edit);
        let old = self.security_of(&node.inode, &Record::of(&node.inode)?)?;
        store(&node.inode, &old.apply(parts, new))
    }

    /// What a new file starts with.
    pub(super) fn give_security(&self, node: &Node, descriptor: &SecurityDescriptor) -> Outcome<()> {
        let _held = lock(&node.inode.edit);
        store(&node.inode, descriptor)
    }
}

/// For who holds the inode's `edit`.
fn store(inode: &Inode, descriptor: &SecurityDescriptor) -> Outcome<()> {
    let mut bytes = Vec::with_capacity(descriptor.wire_len());
    descriptor.emit(&mut bytes);
    // First the mark: without a descriptor it means nothing, but a descriptor without it would not count.
    Record::update_held(inode, |record| record.has_descriptor = true)?;
    Ok(xattr::set(inode.path(), NAME, &bytes)?)
}
