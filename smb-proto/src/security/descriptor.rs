//! Security descriptors in self-relative form (MS-DTYP 2.4.6) and which parts of them a request is about
//! (2.4.7).

use binrw::binrw;
use bytes::Bytes;

use super::acl::{AceType, Acl};
use super::sid::Sid;
use crate::error::Malformed;
use crate::flags::flags;
use crate::wire;

flags! {
    /// Control bits (MS-DTYP 2.4.6).
    pub struct Control(u16);
    /// The owner was set by default.
    OWNER_DEFAULTED = 0x0001;
    /// The group was set by default.
    GROUP_DEFAULTED = 0x0002;
    /// There is a DACL; one that is present and null grants everything.
    DACL_PRESENT = 0x0004;
    /// The DACL was set by default.
    DACL_DEFAULTED = 0x0008;
    /// There is a SACL.
    SACL_PRESENT = 0x0010;
    /// The SACL was set by default.
    SACL_DEFAULTED = 0x0020;
    /// The DACL comes from a trusted source.
    DACL_TRUSTED = 0x0040;
    /// The system is to make a server's ACL of it.
    SERVER_SECURITY = 0x0080;
    /// Whoever sets the DACL wants it inherited automatically.
    DACL_AUTO_INHERIT_REQUIRED = 0x0100;
    /// Whoever sets the SACL wants it inherited automatically.
    SACL_AUTO_INHERIT_REQUIRED = 0x0200;
    /// The DACL takes part in automatic inheritance.
    DACL_AUTO_INHERITED = 0x0400;
    /// The SACL takes part in automatic inheritance.
    SACL_AUTO_INHERITED = 0x0800;
    /// The DACL does not inherit.
    DACL_PROTECTED = 0x1000;
    /// The SACL does not inherit.
    SACL_PROTECTED = 0x2000;
    /// The resource manager's byte has a meaning.
    RESOURCE_MANAGER_VALID = 0x4000;
    /// The parts are given by offsets; always set on the wire.
    SELF_RELATIVE = 0x8000;
}

impl Control {
    const OF_DACL: u16 = 0x0004 | 0x0008 | 0x0040 | 0x0100 | 0x0400 | 0x1000;
    const OF_SACL: u16 = 0x0010 | 0x0020 | 0x0200 | 0x0800 | 0x2000;
}

flags! {
    /// Which parts of a descriptor are asked for or set (MS-DTYP 2.4.7).
    pub struct SecurityInformation(u32);
    /// The owner.
    OWNER = 0x0000_0001;
    /// The primary group.
    GROUP = 0x0000_0002;
    /// The DACL.
    DACL = 0x0000_0004;
    /// The SACL.
    SACL = 0x0000_0008;
    /// The integrity label in the SACL.
    LABEL = 0x0000_0010;
    /// The resource attributes in the SACL.
    ATTRIBUTE = 0x0000_0020;
    /// The central policy in the SACL.
    SCOPE = 0x0000_0040;
    /// Everything, for a backup.
    BACKUP = 0x0001_0000;
    /// The SACL inherits from now on.
    UNPROTECTED_SACL = 0x1000_0000;
    /// The DACL inherits from now on.
    UNPROTECTED_DACL = 0x2000_0000;
    /// The SACL does not inherit any more.
    PROTECTED_SACL = 0x4000_0000;
    /// The DACL does not inherit any more.
    PROTECTED_DACL = 0x8000_0000;
}

impl SecurityInformation {
    fn everything(self) -> bool {
        self.contains(Self::BACKUP)
    }

    /// Whether entries of `ace_type` in a SACL are asked for.
    fn selects_system_ace(self, ace_type: AceType) -> bool {
        let by = match ace_type {
            AceType::SYSTEM_MANDATORY_LABEL => Self::LABEL,
            AceType::SYSTEM_RESOURCE_ATTRIBUTE => Self::ATTRIBUTE,
            AceType::SYSTEM_SCOPED_POLICY_ID => Self::SCOPE,
            _ => Self::SACL,
        };
        self.everything() || self.contains(Self::SACL) || self.contains(by)
    }
}

/// A security descriptor.
///
/// A DACL can be absent ([`Control::DACL_PRESENT`] clear), present and null (set, `dacl` is `None`: everyone
/// may do everything), or a list (an empty one grants nothing).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SecurityDescriptor {
    /// Control bits. [`Control::SELF_RELATIVE`], and the presence of lists that are there, are set when
    /// emitted.
    pub control: Control,
    /// Bits of the resource manager (the field Sbz1).
    pub resource_manager: u8,
    /// Who owns the object.
    pub owner: Option<Sid>,
    /// Its primary group.
    pub group: Option<Sid>,
    /// What is logged, and labels.
    pub sacl: Option<Acl>,
    /// Who may do what.
    pub dacl: Option<Acl>,
}

#[binrw]
#[brw(little)]
struct Fixed {
    revision: u8,
    resource_manager: u8,
    control: u16,
    owner: u32,
    group: u32,
    sacl: u32,
    dacl: u32,
}

/// Size of the fixed part.
const FIXED: usize = 20;

impl SecurityDescriptor {
    /// A descriptor with an owner, a group and a DACL.
    #[must_use]
    pub fn new(owner: Sid, group: Sid, dacl: Acl) -> Self {
        Self {
            control: Control(Control::SELF_RELATIVE.0 | Control::DACL_PRESENT.0),
            resource_manager: 0,
            owner: Some(owner),
            group: Some(group),
            sacl: None,
            dacl: Some(dacl),
        }
    }

    /// Reads a self-relative descriptor, sharing storage with `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] (`STATUS_INVALID_SECURITY_DESCR` on the wire) when it is short, of another revision, not
    /// self-relative, or a part lies outside it or inside its fixed part.
    pub fn parse(bytes: &Bytes) -> Result<Self, Malformed> {
        let fixed: Fixed = wire::fixed(bytes, 0, "security descriptor")?;
        let control = Control(fixed.control);
        if fixed.revision != 1 {
            return Err(Malformed("security descriptor: revision"));
        }
        if !control.contains(Control::SELF_RELATIVE) {
            return Err(Malformed("security descriptor: not self-relative"));
        }
        let sid = |offset| part(bytes, offset)?.map(|part| Sid::parse(&part)).transpose();
        let acl = |present, offset| {
            if !control.contains(present) {
                return Ok(None);
            }
            part(bytes, offset)?.map(|part| Acl::parse(&part)).transpose()
        };
        Ok(Self {
            control,
            resource_manager: fixed.resource_manager,
            owner: sid(fixed.owner)?,
            group: sid(fixed.group)?,
            sacl: acl(Control::SACL_PRESENT, fixed.sacl)?,
            dacl: acl(Control::DACL_PRESENT, fixed.dacl)?,
        })
    }

    /// Number of bytes that [`SecurityDescriptor::emit`] appends.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        [
            self.owner.as_ref().map_or(0, Sid::wire_len),
            self.group.as_ref().map_or(0, Sid::wire_len),
            self.sacl.as_ref().map_or(0, Acl::wire_len),
            self.dacl.as_ref().map_or(0, Acl::wire_len),
        ]
        .into_iter()
        .fold(FIXED, usize::saturating_add)
    }

    /// Appends the descriptor in self-relative form.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let mut next = FIXED;
        let mut place = |length: Option<usize>| match length {
            Some(length) => {
                let offset = wire::length_u32(next);
                next = next.saturating_add(length);
                offset
            }
            None => 0,
        };
        let owner = place(self.owner.as_ref().map(Sid::wire_len));
        let group = place(self.group.as_ref().map(Sid::wire_len));
        let sacl = place(self.sacl.as_ref().map(Acl::wire_len));
        let dacl = place(self.dacl.as_ref().map(Acl::wire_len));
        let mut control = self.control.0 | Control::SELF_RELATIVE.0;
        if self.sacl.is_some() {
            control |= Control::SACL_PRESENT.0;
        }
        if self.dacl.is_some() {
            control |= Control::DACL_PRESENT.0;
        }
        let resource_manager = self.resource_manager;
        wire::put(out, &Fixed { revision: 1, resource_manager, control, owner, group, sacl, dacl });
        for sid in [&self.owner, &self.group].into_iter().flatten() {
            sid.emit(out);
        }
        for acl in [&self.sacl, &self.dacl].into_iter().flatten() {
            acl.emit(out);
        }
    }

    /// The parts that `information` names, as a query answers them.
    #[must_use]
    pub fn select(&self, information: SecurityInformation) -> Self {
        let wants = |part| information.everything() || information.contains(part);
        let mut selected = Self { control: Control::SELF_RELATIVE, ..Self::default() };
        if self.control.contains(Control::RESOURCE_MANAGER_VALID) {
            selected.control.0 |= Control::RESOURCE_MANAGER_VALID.0;
            selected.resource_manager = self.resource_manager;
        }
        if wants(SecurityInformation::OWNER) {
            selected.owner = self.owner;
            selected.control.0 |= self.control.0 & Control::OWNER_DEFAULTED.0;
        }
        if wants(SecurityInformation::GROUP) {
            selected.group = self.group;
            selected.control.0 |= self.control.0 & Control::GROUP_DEFAULTED.0;
        }
        if wants(SecurityInformation::DACL) {
            selected.dacl.clone_from(&self.dacl);
            selected.control.0 |= self.control.0 & Control::OF_DACL;
        }
        let sacl = self.sacl.as_ref().map(|sacl| {
            let chosen = sacl.aces.iter().filter(|ace| information.selects_system_ace(ace.ace_type));
            Acl { revision: sacl.revision, aces: chosen.cloned().collect() }
        });
        let whole = wants(SecurityInformation::SACL);
        if whole || sacl.as_ref().is_some_and(|sacl| !sacl.aces.is_empty()) {
            selected.sacl = sacl;
            selected.control.0 |= self.control.0 & Control::OF_SACL;
        }
        selected
    }

    /// This descriptor after a request sets the parts of `new` that `information` names.
    ///
    /// A list takes part in automatic inheritance only if the request both says so and asks for it (MS-DTYP
    /// 2.4.6: the request bit itself is not kept). Whether the caller may set a part, and whether an owner or
    /// group that is set is there at all, is the caller's to check; an absent one leaves the old in place.
    #[must_use]
    pub fn apply(&self, information: SecurityInformation, new: &Self) -> Self {
        let wants = |part| information.everything() || information.contains(part);
        let mut result = self.clone();
        if wants(SecurityInformation::OWNER) && new.owner.is_some() {
            result.owner = new.owner;
            result.control.0 = replace(result.control.0, new.control.0, Control::OWNER_DEFAULTED.0);
        }
        if wants(SecurityInformation::GROUP) && new.group.is_some() {
            result.group = new.group;
            result.control.0 = replace(result.control.0, new.control.0, Control::GROUP_DEFAULTED.0);
        }
        if wants(SecurityInformation::DACL) {
            result.dacl.clone_from(&new.dacl);
            let required = Control::DACL_AUTO_INHERIT_REQUIRED;
            let control = kept(new.control, required, Control::DACL_AUTO_INHERITED);
            result.control.0 = replace(result.control.0, control, Control::OF_DACL) | Control::DACL_PRESENT.0;
        }
        result.apply_sacl(information, new);
        let protections = [
            (
                SecurityInformation::PROTECTED_DACL,
                SecurityInformation::UNPROTECTED_DACL,
                Control::DACL_PROTECTED,
            ),
            (
                SecurityInformation::PROTECTED_SACL,
                SecurityInformation::UNPROTECTED_SACL,
                Control::SACL_PROTECTED,
            ),
        ];
        for (on, off, bit) in protections {
            if information.contains(on) {
                result.control.0 |= bit.0;
            } else if information.contains(off) {
                result.control.0 &= !bit.0;
            }
        }
        result
    }

    /// The entries of the SACL that `information` names are replaced; the others stay.
    fn apply_sacl(&mut self, information: SecurityInformation, new: &Self) {
        if information.everything() || information.contains(SecurityInformation::SACL) {
            self.sacl.clone_from(&new.sacl);
            let required = Control::SACL_AUTO_INHERIT_REQUIRED;
            let control = kept(new.control, required, Control::SACL_AUTO_INHERITED);
            self.control.0 = replace(self.control.0, control, Control::OF_SACL) | Control::SACL_PRESENT.0;
            return;
        }
        let parts =
            SecurityInformation::LABEL.0 | SecurityInformation::ATTRIBUTE.0 | SecurityInformation::SCOPE.0;
        if information.0 & parts == 0 {
            return;
        }
        let mut sacl = self.sacl.take().unwrap_or_default();
        sacl.aces.retain(|ace| !information.selects_system_ace(ace.ace_type));
        let named = new.sacl.iter().flat_map(|sacl| &sacl.aces);
        sacl.aces.extend(named.filter(|ace| information.selects_system_ace(ace.ace_type)).cloned());
        self.sacl = Some(sacl);
        self.control.0 |= Control::SACL_PRESENT.0;
    }
}

/// The bytes from `offset` on; `None` for an offset of zero, which means that the part is absent.
fn part(bytes: &Bytes, offset: u32) -> Result<Option<Bytes>, Malformed> {
    const WRONG: Malformed = Malformed("security descriptor: offset");
    if offset == 0 {
        return Ok(None);
    }
    let offset = usize::try_from(offset).map_err(|_| WRONG)?;
    if offset < FIXED || offset >= bytes.len() {
        return Err(WRONG);
    }
    Ok(Some(bytes.slice(offset..)))
}

/// `old` with the bits of `mask` taken from `new`.
const fn replace(old: u16, new: u16, mask: u16) -> u16 {
    (old & !mask) | (new & mask)
}

/// Control bits to keep of a request: automatic inheritance only when it is asked for, the asking itself
/// never.
const fn kept(control: Control, required: Control, inherited: Control) -> u16 {
    let control_without = control.0 & !required.0;
    if control.contains(required) { control_without } else { control_without & !inherited.0 }
}

#[cfg(test)]
mod tests {
    use super::super::acl::{Ace, AceBody, AceFlags};
    use super::*;
    use crate::access::AccessMask;

    fn label() -> Ace {
        Ace {
            ace_type: AceType::SYSTEM_MANDATORY_LABEL,
            flags: AceFlags::default(),
            body: AceBody::Sid { mask: AccessMask(1), sid: Sid::HIGH_INTEGRITY, data: Bytes::new() },
        }
    }

    fn audit() -> Ace {
        Ace {
            ace_type: AceType::SYSTEM_AUDIT,
            flags: AceFlags::FAILED_ACCESS,
            body: AceBody::Sid { mask: AccessMask(2), sid: Sid::EVERYONE, data: Bytes::new() },
        }
    }

    fn sample() -> SecurityDescriptor {
        let dacl =
            Acl::new(vec![Ace::allow(Sid::EVERYONE, AccessMask::FILE_GENERIC_READ, AceFlags::default())]);
        let mut descriptor = SecurityDescriptor::new(Sid::BUILTIN_ADMINISTRATORS, Sid::BUILTIN_USERS, dacl);
        descriptor.sacl = Some(Acl::new(vec![audit(), label()]));
        descriptor.control.0 |= Control::SACL_PRESENT.0 | Control::DACL_PROTECTED.0;
        descriptor
    }

    fn emitted(descriptor: &SecurityDescriptor) -> Bytes {
        let mut out = Vec::new();
        descriptor.emit(&mut out);
        assert_eq!(out.len(), descriptor.wire_len());
        out.into()
    }

    #[test]
    fn round_trips() {
        let null_dacl = SecurityDescriptor {
            control: Control(Control::SELF_RELATIVE.0 | Control::DACL_PRESENT.0),
            ..SecurityDescriptor::default()
        };
        let nothing = SecurityDescriptor { control: Control::SELF_RELATIVE, ..SecurityDescriptor::default() };
        for descriptor in [sample(), null_dacl, nothing] {
            let bytes = emitted(&descriptor);
            assert_eq!(SecurityDescriptor::parse(&bytes), Ok(descriptor));
            for length in 0..bytes.len() {
                assert!(SecurityDescriptor::parse(&bytes.slice(..length)).is_err());
            }
        }
    }

    #[test]
    fn hostile_offsets_are_refused() {
        let bytes = emitted(&sample());
        for field in [4, 8, 12, 16] {
            for offset in [1_u32, 19, 0xFFFF_FFFF, u32::try_from(bytes.len()).unwrap()] {
                let mut wrong = bytes.to_vec();
                wire::patch_u32(&mut wrong, field, offset);
                assert!(SecurityDescriptor::parse(&wrong.into()).is_err());
            }
        }
        let mut absolute = bytes.to_vec();
        absolute[3] &= 0x7F;
        assert!(SecurityDescriptor::parse(&absolute.into()).is_err());
    }

    #[test]
    fn selects_what_is_asked_for() {
        let descriptor = sample();
        let owner = descriptor.select(SecurityInformation::OWNER);
        assert_eq!(owner.control, Control::SELF_RELATIVE);
        assert_eq!((owner.owner, owner.group), (descriptor.owner, None));
        assert_eq!((owner.dacl, owner.sacl), (None, None));
        let dacl = descriptor.select(SecurityInformation::DACL);
        assert!(dacl.control.contains(Control::DACL_PROTECTED));
        assert_eq!((dacl.owner, dacl.sacl, dacl.dacl), (None, None, descriptor.dacl.clone()));
        let labels = descriptor.select(SecurityInformation::LABEL);
        assert_eq!(labels.sacl, Some(Acl::new(vec![label()])));
        let everything = descriptor.select(SecurityInformation(0xF));
        assert_eq!(everything, descriptor);
    }

    #[test]
    fn applies_what_is_set() {
        let old = sample();
        let mut new = SecurityDescriptor::new(Sid::LOCAL_SYSTEM, Sid::EVERYONE, Acl::default());
        new.control.0 |= Control::DACL_AUTO_INHERITED.0;
        let result = old.apply(SecurityInformation::DACL, &new);
        assert_eq!((result.owner, result.dacl), (old.owner, Some(Acl::default())));
        assert!(!result.control.contains(Control::DACL_AUTO_INHERITED), "not without being asked for");
        assert!(!result.control.contains(Control::DACL_PROTECTED));
        new.control.0 |= Control::DACL_AUTO_INHERIT_REQUIRED.0;
        let result = old.apply(SecurityInformation::DACL, &new);
        assert!(result.control.contains(Control::DACL_AUTO_INHERITED));
        assert!(!result.control.contains(Control::DACL_AUTO_INHERIT_REQUIRED));
        let result = old.apply(SecurityInformation(0x8000_0005), &new);
        assert_eq!(result.owner, Some(Sid::LOCAL_SYSTEM));
        assert_eq!(result.group, old.group);
        assert!(result.control.contains(Control::DACL_PROTECTED));
        let result = old.apply(SecurityInformation::LABEL, &new);
        assert_eq!(result.sacl, Some(Acl::new(vec![audit()])), "the label goes, the audit entry stays");
    }
}
