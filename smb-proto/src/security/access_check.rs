//! The access check (MS-DTYP 2.5.3.2).
//!
//! Deliberately not done: trees of object types (files have none, so entries for them never apply), central
//! policies, and the integrity check. Conditions of callback entries are not evaluated: as for a condition
//! whose result is unknown (MS-DTYP 2.5.3.1.5), such an entry grants nothing but does refuse.
//!
//! When the maximum is asked for, entries count in their order, as they do otherwise: an entry neither
//! refuses what an earlier one granted nor grants what an earlier one refused. The maximum is then exactly
//! the set of rights that would be granted one by one.

use super::acl::{AceBody, AceFlags, AceType, Acl};
use super::descriptor::{Control, SecurityDescriptor};
use super::sid::Sid;
use crate::access::AccessMask;
use crate::flags::flags;
use crate::status::NtStatus;

flags! {
    /// Privileges that matter to files (MS-LSAD 3.1.1.2.1), as bits of this crate's own: they are not sent.
    pub struct Privileges(u32);
    /// SeSecurityPrivilege: SACLs.
    SECURITY = 0x01;
    /// SeTakeOwnershipPrivilege: becoming an owner.
    TAKE_OWNERSHIP = 0x02;
    /// SeBackupPrivilege: reading past the DACL.
    BACKUP = 0x04;
    /// SeRestorePrivilege: writing past the DACL, setting any owner.
    RESTORE = 0x08;
    /// SeChangeNotifyPrivilege: passing through directories without the right to.
    CHANGE_NOTIFY = 0x10;
    /// SeManageVolumePrivilege: valid data lengths, volume maintenance.
    MANAGE_VOLUME = 0x20;
    /// SeCreateSymbolicLinkPrivilege: symbolic links.
    CREATE_SYMBOLIC_LINK = 0x40;
}

/// Who asks (MS-DTYP 2.5.2, the parts that the check uses).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The user.
    pub user: Sid,
    /// Groups, well-known ones such as [`Sid::EVERYONE`] included.
    pub groups: Vec<Sid>,
    /// Groups that count only when they are refused something.
    pub deny_only: Vec<Sid>,
    /// Privileges.
    pub privileges: Privileges,
}

impl Token {
    /// A user in groups, without privileges.
    #[must_use]
    pub fn new(user: Sid, groups: Vec<Sid>) -> Self {
        Self { user, groups, deny_only: Vec::new(), privileges: Privileges::default() }
    }

    /// Whether the token acts as `sid` (MS-DTYP 2.5.3.1.1).
    #[must_use]
    pub fn contains(&self, sid: &Sid) -> bool {
        self.user == *sid || self.groups.contains(sid)
    }
}

/// The check refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessDenied {
    /// The DACL does not grant all that was asked for (`STATUS_ACCESS_DENIED`).
    ByDacl,
    /// A privilege is missing: SACLs need [`Privileges::SECURITY`] (`STATUS_PRIVILEGE_NOT_HELD`).
    PrivilegeNotHeld,
}

impl AccessDenied {
    /// The status that Windows answers with.
    #[must_use]
    pub const fn status(self) -> NtStatus {
        match self {
            Self::ByDacl => NtStatus::ACCESS_DENIED,
            Self::PrivilegeNotHeld => NtStatus::PRIVILEGE_NOT_HELD,
        }
    }
}

/// What `token` gets of `desired` on a file, directory, pipe or share with `descriptor`.
///
/// Generic rights are mapped as for files. With MAXIMUM_ALLOWED, everything that is granted (the bit itself
/// never); otherwise exactly what was desired. A descriptor without a DACL, or with a null one, grants
/// everything.
///
/// # Errors
/// [`AccessDenied`] when something asked for is not granted, or nothing at all is.
pub fn access_check(
    descriptor: &SecurityDescriptor,
    token: &Token,
    desired: AccessMask,
) -> Result<AccessMask, AccessDenied> {
    let maximum = desired.contains(AccessMask::MAXIMUM_ALLOWED);
    let desired = desired.without(AccessMask::MAXIMUM_ALLOWED).map_generic();
    let mut granted = AccessMask::EMPTY;
    if desired.contains(AccessMask::ACCESS_SYSTEM_SECURITY) {
        if !token.privileges.contains(Privileges::SECURITY) {
            return Err(AccessDenied::PrivilegeNotHeld);
        }
        granted = granted.with(AccessMask::ACCESS_SYSTEM_SECURITY);
    }
    // Asking for the maximum asks for ownership too, wherever it can be had.
    let wants_ownership = maximum || desired.contains(AccessMask::WRITE_OWNER);
    if wants_ownership && token.privileges.contains(Privileges::TAKE_OWNERSHIP) {
        granted = granted.with(AccessMask::WRITE_OWNER);
    }
    granted = match descriptor.dacl.as_ref().filter(|_| descriptor.control.contains(Control::DACL_PRESENT)) {
        None if maximum => granted.with(AccessMask::FILE_ALL_ACCESS).with(desired),
        None => granted.with(desired),
        Some(dacl) => granted_by_dacl(dacl, descriptor.owner.as_ref(), token, granted),
    };
    if !granted.contains(desired) || (maximum && granted.is_empty()) {
        return Err(AccessDenied::ByDacl);
    }
    Ok(if maximum { granted } else { desired })
}

/// `granted` and everything that the owner's standing and the DACL grant, the order of entries respected.
fn granted_by_dacl(dacl: &Acl, owner: Option<&Sid>, token: &Token, granted: AccessMask) -> AccessMask {
    let aces = || dacl.aces.iter().filter(|ace| !ace.flags.contains(AceFlags::INHERIT_ONLY));
    let is_owner = owner.is_some_and(|owner| token.contains(owner));
    let mut granted = granted;
    let mut denied = AccessMask::EMPTY;
    // Entries for OWNER RIGHTS say what an owner may do instead of the two rights it has otherwise.
    if is_owner && !aces().any(|ace| ace.sid() == Some(&Sid::OWNER_RIGHTS)) {
        granted = granted.with(AccessMask::READ_CONTROL).with(AccessMask::WRITE_DAC);
    }
    for ace in aces() {
        let AceBody::Sid { mask, sid, .. } = &ace.body else { continue };
        let applies = token.contains(sid) || (is_owner && *sid == Sid::OWNER_RIGHTS);
        let mask = mask.map_generic();
        match ace.ace_type {
            AceType::ACCESS_ALLOWED if applies => granted = granted.with(mask.without(denied)),
            AceType::ACCESS_DENIED | AceType::ACCESS_DENIED_CALLBACK
                if applies || token.deny_only.contains(sid) =>
            {
                denied = denied.with(mask.without(granted));
            }
            _ => {}
        }
    }
    granted
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::acl::Ace;
    use super::*;

    const READ: AccessMask = AccessMask::READ_DATA;
    const WRITE: AccessMask = AccessMask::WRITE_DATA;
    const BOTH: AccessMask = AccessMask(3);
    const DELETE: AccessMask = AccessMask::DELETE;
    const MAXIMUM: AccessMask = AccessMask::MAXIMUM_ALLOWED;
    const OWNERS: AccessMask = AccessMask(AccessMask::READ_CONTROL.0 | AccessMask::WRITE_DAC.0);
    const NONE: AceFlags = AceFlags(0);

    fn sid(text: &str) -> Sid {
        text.parse().unwrap()
    }

    fn user() -> Sid {
        sid("S-1-5-21-1-2-3-1000")
    }

    fn token() -> Token {
        Token::new(user(), vec![Sid::EVERYONE, Sid::AUTHENTICATED_USERS, Sid::BUILTIN_USERS])
    }

    fn descriptor(aces: Vec<Ace>) -> SecurityDescriptor {
        SecurityDescriptor::new(Sid::BUILTIN_ADMINISTRATORS, Sid::BUILTIN_USERS, Acl::new(aces))
    }

    fn check(
        descriptor: &SecurityDescriptor,
        token: &Token,
        desired: AccessMask,
    ) -> Result<AccessMask, AccessDenied> {
        access_check(descriptor, token, desired)
    }

    #[test]
    fn grants_exactly_what_is_asked_for() {
        let descriptor = descriptor(vec![Ace::allow(Sid::EVERYONE, BOTH, NONE)]);
        assert_eq!(check(&descriptor, &token(), READ), Ok(READ));
        assert_eq!(check(&descriptor, &token(), READ.with(DELETE)), Err(AccessDenied::ByDacl));
    }

    #[test]
    fn rights_add_up_over_entries() {
        let descriptor = descriptor(vec![
            Ace::allow(Sid::EVERYONE, READ, NONE),
            Ace::allow(Sid::BUILTIN_USERS, WRITE, NONE),
        ]);
        assert_eq!(check(&descriptor, &token(), BOTH), Ok(BOTH));
    }

    #[test]
    fn order_decides_between_allow_and_deny() {
        let allow = Ace::allow(user(), BOTH, NONE);
        let deny = Ace::deny(Sid::EVERYONE, WRITE, NONE);
        let deny_first = descriptor(vec![deny.clone(), allow.clone()]);
        let allow_first = descriptor(vec![allow, deny]);
        assert_eq!(check(&deny_first, &token(), WRITE), Err(AccessDenied::ByDacl));
        assert_eq!(check(&deny_first, &token(), READ), Ok(READ));
        assert_eq!(check(&allow_first, &token(), WRITE), Ok(WRITE));
        assert_eq!(check(&deny_first, &token(), MAXIMUM), Ok(READ));
        assert_eq!(check(&allow_first, &token(), MAXIMUM), Ok(BOTH));
    }

    #[test]
    fn others_entries_do_not_count() {
        let other = sid("S-1-5-21-1-2-3-1001");
        let descriptor = descriptor(vec![Ace::deny(other, READ, NONE), Ace::allow(other, WRITE, NONE)]);
        assert_eq!(check(&descriptor, &token(), WRITE), Err(AccessDenied::ByDacl));
        assert_eq!(check(&descriptor, &token(), MAXIMUM), Err(AccessDenied::ByDacl));
    }

    #[test]
    fn null_and_empty_lists_are_opposites() {
        let empty = descriptor(Vec::new());
        assert_eq!(check(&empty, &token(), READ), Err(AccessDenied::ByDacl));
        let mut null = descriptor(Vec::new());
        null.dacl = None;
        assert_eq!(check(&null, &token(), AccessMask::GENERIC_ALL), Ok(AccessMask::FILE_ALL_ACCESS));
        assert_eq!(check(&null, &token(), MAXIMUM), Ok(AccessMask::FILE_ALL_ACCESS));
        let absent = SecurityDescriptor::default();
        assert_eq!(check(&absent, &token(), READ), Ok(READ));
    }

    #[test]
    fn an_owner_reads_and_writes_the_list() {
        let mut descriptor = descriptor(Vec::new());
        descriptor.owner = Some(user());
        assert_eq!(check(&descriptor, &token(), OWNERS), Ok(OWNERS));
        assert_eq!(check(&descriptor, &token(), MAXIMUM), Ok(OWNERS));
        descriptor.dacl = Some(Acl::new(vec![Ace::deny(user(), AccessMask::WRITE_DAC, NONE)]));
        assert_eq!(
            check(&descriptor, &token(), AccessMask::WRITE_DAC),
            Ok(AccessMask::WRITE_DAC),
            "cannot be denied by name"
        );
    }

    #[test]
    fn owner_rights_replace_the_owners_own() {
        let mut descriptor = descriptor(vec![Ace::allow(Sid::OWNER_RIGHTS, AccessMask::READ_CONTROL, NONE)]);
        descriptor.owner = Some(user());
        assert_eq!(check(&descriptor, &token(), AccessMask::READ_CONTROL), Ok(AccessMask::READ_CONTROL));
        assert_eq!(check(&descriptor, &token(), AccessMask::WRITE_DAC), Err(AccessDenied::ByDacl));
        descriptor.owner = Some(Sid::BUILTIN_ADMINISTRATORS);
        assert_eq!(check(&descriptor, &token(), AccessMask::READ_CONTROL), Err(AccessDenied::ByDacl));
    }

    #[test]
    fn generic_rights_are_mapped_on_both_sides() {
        let descriptor = descriptor(vec![Ace::allow(Sid::EVERYONE, AccessMask::GENERIC_READ, NONE)]);
        assert_eq!(check(&descriptor, &token(), AccessMask::GENERIC_READ), Ok(AccessMask::FILE_GENERIC_READ));
        assert_eq!(
            check(&descriptor, &token(), AccessMask::READ_ATTRIBUTES),
            Ok(AccessMask::READ_ATTRIBUTES)
        );
        assert_eq!(check(&descriptor, &token(), AccessMask::GENERIC_WRITE), Err(AccessDenied::ByDacl));
    }

    #[test]
    fn the_maximum_must_include_what_is_named() {
        let descriptor = descriptor(vec![Ace::allow(Sid::EVERYONE, READ, NONE)]);
        assert_eq!(check(&descriptor, &token(), MAXIMUM.with(READ)), Ok(READ));
        assert_eq!(check(&descriptor, &token(), MAXIMUM.with(WRITE)), Err(AccessDenied::ByDacl));
    }

    #[test]
    fn privileges_open_the_sacl_and_ownership() {
        let descriptor = descriptor(vec![Ace::allow(Sid::EVERYONE, READ, NONE)]);
        let mut token = token();
        assert_eq!(
            check(&descriptor, &token, AccessMask::ACCESS_SYSTEM_SECURITY),
            Err(AccessDenied::PrivilegeNotHeld)
        );
        assert_eq!(check(&descriptor, &token, AccessMask::WRITE_OWNER), Err(AccessDenied::ByDacl));
        token.privileges = Privileges::SECURITY.with(Privileges::TAKE_OWNERSHIP);
        let both = AccessMask::ACCESS_SYSTEM_SECURITY.with(READ);
        assert_eq!(check(&descriptor, &token, both), Ok(both));
        assert_eq!(check(&descriptor, &token, AccessMask::WRITE_OWNER), Ok(AccessMask::WRITE_OWNER));
        assert_eq!(check(&descriptor, &token, MAXIMUM), Ok(READ.with(AccessMask::WRITE_OWNER)));
    }

    #[test]
    fn entries_only_for_heirs_do_not_count() {
        let descriptor = descriptor(vec![
            Ace::deny(Sid::EVERYONE, READ, AceFlags::INHERIT_ONLY),
            Ace::allow(Sid::EVERYONE, READ, NONE),
            Ace::allow(Sid::EVERYONE, WRITE, AceFlags::INHERIT_ONLY),
        ]);
        assert_eq!(check(&descriptor, &token(), READ), Ok(READ));
        assert_eq!(check(&descriptor, &token(), WRITE), Err(AccessDenied::ByDacl));
    }

    #[test]
    fn deny_only_groups_and_conditions_refuse_but_do_not_grant() {
        let group = sid("S-1-5-21-1-2-3-2000");
        let mut token = token();
        token.deny_only.push(group);
        let allowed = descriptor(vec![Ace::allow(group, READ, NONE)]);
        assert_eq!(check(&allowed, &token, READ), Err(AccessDenied::ByDacl));
        let denied = descriptor(vec![Ace::deny(group, READ, NONE), Ace::allow(user(), READ, NONE)]);
        assert_eq!(check(&denied, &token, READ), Err(AccessDenied::ByDacl));
        let conditional = |ace_type| Ace {
            ace_type,
            flags: NONE,
            body: AceBody::Sid { mask: READ, sid: user(), data: Bytes::from_static(b"artx") },
        };
        let allowed = descriptor(vec![conditional(AceType::ACCESS_ALLOWED_CALLBACK)]);
        assert_eq!(check(&allowed, &token, READ), Err(AccessDenied::ByDacl));
        let denied =
            descriptor(vec![conditional(AceType::ACCESS_DENIED_CALLBACK), Ace::allow(user(), READ, NONE)]);
        assert_eq!(check(&denied, &token, READ), Err(AccessDenied::ByDacl));
    }

    #[test]
    fn the_maximum_is_what_single_checks_grant() {
        let group = Sid::BUILTIN_USERS;
        let descriptor = descriptor(vec![
            Ace::allow(group, AccessMask(0x21), NONE),
            Ace::deny(Sid::EVERYONE, AccessMask(0x33), NONE),
            Ace::allow(user(), AccessMask(0x7F), NONE),
        ]);
        let maximum = check(&descriptor, &token(), MAXIMUM).unwrap();
        let single = (0..21)
            .map(|bit| AccessMask(1 << bit))
            .filter(|right| check(&descriptor, &token(), *right).is_ok());
        assert_eq!(maximum, single.fold(AccessMask::EMPTY, AccessMask::with));
    }
}
