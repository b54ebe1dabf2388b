//! The descriptor of a new file (MS-DTYP 2.5.3.4): what its creator gives and what its directory hands down.
//!
//! Entries are inherited as the table of 2.5.3.4.4 says. Entries are marked as inherited, and a creator's
//! list is joined with what the directory hands down, only if the directory's own list takes part in
//! automatic inheritance; otherwise a creator's list stands alone. Entries for kinds of objects are not
//! inherited: files have none.

use bytes::Bytes;

use super::acl::{Ace, AceBody, AceFlags, AceType, Acl};
use super::descriptor::{Control, SecurityDescriptor};
use super::sid::Sid;
use crate::access::AccessMask;

/// Everything that decides on the descriptor of a new file.
#[derive(Clone, Copy, Debug)]
pub struct NewObject<'a> {
    /// The descriptor of the directory.
    pub parent: &'a SecurityDescriptor,
    /// What the creator gives, if anything.
    pub creator: Option<&'a SecurityDescriptor>,
    /// Whether a directory is created.
    pub is_directory: bool,
    /// The owner, if the creator names none.
    pub owner: Sid,
    /// The primary group, if the creator names none.
    pub group: Sid,
    /// The list, if nobody gives one: the creator gives none and the directory hands nothing down.
    pub default_dacl: &'a Acl,
}

impl NewObject<'_> {
    /// The descriptor.
    #[must_use]
    pub fn descriptor(&self) -> SecurityDescriptor {
        let given = |control| self.creator.filter(|creator| creator.control.contains(control));
        let mut result = SecurityDescriptor {
            control: Control::SELF_RELATIVE.with(Control::DACL_PRESENT),
            owner: Some(self.creator.and_then(|creator| creator.owner).unwrap_or(self.owner)),
            group: Some(self.creator.and_then(|creator| creator.group).unwrap_or(self.group)),
            ..SecurityDescriptor::default()
        };
        let people = (result.owner.unwrap_or(self.owner), result.group.unwrap_or(self.group));
        let creator = given(Control::DACL_PRESENT);
        let is_protected = creator.is_some_and(|creator| creator.control.contains(Control::DACL_PROTECTED));
        let automatic = self.parent.control.contains(Control::DACL_AUTO_INHERITED);
        if is_protected {
            result.control = result.control.with(Control::DACL_PROTECTED);
        } else if automatic {
            result.control = result.control.with(Control::DACL_AUTO_INHERITED);
        }
        result.dacl = match creator.map(|creator| creator.dacl.as_ref()) {
            Some(None) => None, // a null list, which grants everything
            Some(Some(acl)) => {
                let mut own = self.explicit(acl, people);
                if automatic && !is_protected {
                    own.aces.extend(self.inherited(self.parent.dacl.as_ref(), automatic, people));
                }
                Some(own)
            }
            None => {
                let inherited = self.inherited(self.parent.dacl.as_ref(), automatic, people);
                let none = inherited.is_empty();
                Some(if none { self.explicit(self.default_dacl, people) } else { Acl::new(inherited) })
            }
        };
        result.sacl = match given(Control::SACL_PRESENT) {
            Some(creator) => creator.sacl.as_ref().map(|acl| self.explicit(acl, people)),
            None => {
                let automatic = self.parent.control.contains(Control::SACL_AUTO_INHERITED);
                let inherited = self.inherited(self.parent.sacl.as_ref(), automatic, people);
                (!inherited.is_empty()).then(|| Acl::new(inherited))
            }
        };
        if result.sacl.is_some() {
            result.control = result.control.with(Control::SACL_PRESENT);
        }
        result
    }

    /// A list that is given, without entries that were once inherited elsewhere, made concrete.
    fn explicit(&self, acl: &Acl, people: (Sid, Sid)) -> Acl {
        let own = acl.aces.iter().filter(|ace| !ace.flags.contains(AceFlags::INHERITED));
        let aces = own.flat_map(|ace| {
            let is_inherit_only = ace.flags.contains(AceFlags::INHERIT_ONLY);
            let flags = ace.flags;
            if is_inherit_only { [None, Some(ace.clone())] } else { self.concrete(ace, flags, people) }
        });
        Acl { revision: acl.revision, aces: aces.flatten().collect() }
    }

    /// What the directory's list hands down.
    fn inherited(&self, acl: Option<&Acl>, automatic: bool, people: (Sid, Sid)) -> Vec<Ace> {
        let mark = if automatic { AceFlags::INHERITED } else { AceFlags::EMPTY };
        let aces = acl.into_iter().flat_map(|acl| &acl.aces);
        aces.filter(|ace| ace.ace_type.has_sid())
            .flat_map(|ace| self.hand_down(ace, mark, people))
            .flatten()
            .collect()
    }

    fn hand_down(&self, ace: &Ace, mark: AceFlags, people: (Sid, Sid)) -> [Option<Ace>; 2] {
        let for_directories = ace.flags.contains(AceFlags::CONTAINER_INHERIT);
        let for_files = ace.flags.contains(AceFlags::OBJECT_INHERIT);
        let goes_on = self.is_directory && !ace.flags.contains(AceFlags::NO_PROPAGATE_INHERIT);
        let inheritance = AceFlags::CONTAINER_INHERIT.with(AceFlags::OBJECT_INHERIT);
        let auditing = AceFlags::SUCCESSFUL_ACCESS.with(AceFlags::FAILED_ACCESS);
        let base = ace.flags.masked(auditing).with(mark);
        let further = base.with(ace.flags.masked(inheritance));
        let applies = if self.is_directory { for_directories } else { for_files };
        match (applies, goes_on) {
            (true, true) => self.concrete(ace, further, people),
            (true, false) => self.concrete(ace, base, people),
            // Only for the files in the new directory.
            (false, true) if for_files => {
                [None, Some(Ace { flags: further.with(AceFlags::INHERIT_ONLY), ..ace.clone() })]
            }
            (false, _) => [None, None],
        }
    }

    /// An entry with its placeholders filled in; and, if it had some and is handed on, the original for heirs
    /// only.
    fn concrete(&self, ace: &Ace, flags: AceFlags, (owner, group): (Sid, Sid)) -> [Option<Ace>; 2] {
        let inheritance = AceFlags::CONTAINER_INHERIT.with(AceFlags::OBJECT_INHERIT);
        let AceBody::Sid { mask, sid, data } = &ace.body else {
            return [Some(Ace { flags, ..ace.clone() }), None];
        };
        let filled = match *sid {
            Sid::CREATOR_OWNER => owner,
            Sid::CREATOR_GROUP => group,
            other => other,
        };
        // The bits of a label say what is refused, not rights.
        let is_label = ace.ace_type == AceType::SYSTEM_MANDATORY_LABEL;
        let mapped = if is_label { *mask } else { mask.map_generic() };
        if mapped == *mask && filled == *sid {
            return [Some(Ace { flags, ..ace.clone() }), None];
        }
        let effective = |flags| Some(with_body(ace, flags, mapped, filled, data.clone()));
        if !self.is_directory || !flags.intersects(inheritance) {
            return [effective(flags), None];
        }
        let original = Ace { flags: flags.with(AceFlags::INHERIT_ONLY), ..ace.clone() };
        let here = flags.without(inheritance).without(AceFlags::NO_PROPAGATE_INHERIT);
        [effective(here), Some(original)]
    }
}

fn with_body(ace: &Ace, flags: AceFlags, mask: AccessMask, sid: Sid, data: Bytes) -> Ace {
    Ace { ace_type: ace.ace_type, flags, body: AceBody::Sid { mask, sid, data } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OI: u8 = 0x01;
    const CI: u8 = 0x02;
    const NP: u8 = 0x04;
    const IO: u8 = 0x08;
    const ID: u8 = 0x10;
    const READ: AccessMask = AccessMask::READ_DATA;

    fn user() -> Sid {
        "S-1-5-21-1-2-3-1000".parse().unwrap()
    }

    fn parent(aces: Vec<Ace>, automatic: bool) -> SecurityDescriptor {
        let mut parent =
            SecurityDescriptor::new(Sid::BUILTIN_ADMINISTRATORS, Sid::BUILTIN_USERS, Acl::new(aces));
        if automatic {
            parent.control = parent.control.with(Control::DACL_AUTO_INHERITED);
        }
        parent
    }

    fn create(
        parent: &SecurityDescriptor,
        creator: Option<&SecurityDescriptor>,
        is_directory: bool,
    ) -> SecurityDescriptor {
        let default_dacl =
            &Acl::new(vec![Ace::allow(Sid::LOCAL_SYSTEM, AccessMask::GENERIC_ALL, AceFlags::EMPTY)]);
        let (owner, group) = (user(), Sid::BUILTIN_USERS);
        NewObject { parent, creator, is_directory, owner, group, default_dacl }.descriptor()
    }

    fn flags(descriptor: &SecurityDescriptor) -> Vec<u8> {
        descriptor.dacl.iter().flat_map(|dacl| &dacl.aces).map(|ace| ace.flags.0).collect()
    }

    #[test]
    fn the_table_of_inheritance() {
        let default =
            Acl::new(vec![Ace::allow(Sid::LOCAL_SYSTEM, AccessMask::FILE_ALL_ACCESS, AceFlags::EMPTY)]);
        for (handed, directory, file) in [
            (0, None, None),
            (IO, None, None),
            (OI, Some(IO | OI), Some(0)),
            (OI | NP, None, Some(0)),
            (CI, Some(CI), None),
            (CI | NP, Some(0), None),
            (CI | OI, Some(CI | OI), Some(0)),
            (CI | OI | NP, Some(0), Some(0)),
            (CI | OI | IO, Some(CI | OI), Some(0)),
        ] {
            for automatic in [false, true] {
                let parent = parent(vec![Ace::allow(user(), READ, AceFlags(handed))], automatic);
                for (is_directory, expected) in [(true, directory), (false, file)] {
                    let child = create(&parent, None, is_directory);
                    assert_eq!(child.control.contains(Control::DACL_AUTO_INHERITED), automatic);
                    match expected {
                        None => assert_eq!(child.dacl.as_ref(), Some(&default), "{handed} {is_directory}"),
                        Some(expected) => {
                            let mark = if automatic { ID } else { 0 };
                            assert_eq!(flags(&child), [expected | mark], "{handed} {is_directory}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn placeholders_are_filled_in_and_handed_on() {
        let ace = Ace::allow(Sid::CREATOR_OWNER, AccessMask::GENERIC_ALL, AceFlags(CI | OI | IO));
        let parent = parent(vec![ace], true);
        let filled = Ace::allow(user(), AccessMask::FILE_ALL_ACCESS, AceFlags(ID));
        let original = Ace::allow(Sid::CREATOR_OWNER, AccessMask::GENERIC_ALL, AceFlags(CI | OI | IO | ID));
        let file = create(&parent, None, false);
        assert_eq!(file.owner, Some(user()));
        assert_eq!(file.dacl, Some(Acl::new(vec![filled.clone()])));
        assert_eq!(create(&parent, None, true).dacl, Some(Acl::new(vec![filled, original])));
    }

    #[test]
    fn a_creators_list_comes_first_or_stands_alone() {
        let handed = Ace::allow(Sid::EVERYONE, READ, AceFlags(OI));
        let inherited = Ace::allow(Sid::EVERYONE, READ, AceFlags(ID));
        let own = Ace::allow(user(), AccessMask::DELETE, AceFlags::EMPTY);
        let stale = Ace::allow(Sid::ANONYMOUS, READ, AceFlags(ID));
        let mut creator =
            SecurityDescriptor::new(Sid::LOCAL_SYSTEM, Sid::EVERYONE, Acl::new(vec![own.clone(), stale]));
        let automatic = parent(vec![handed.clone()], true);
        let child = create(&automatic, Some(&creator), false);
        assert_eq!((child.owner, child.group), (creator.owner, creator.group));
        assert_eq!(child.dacl, Some(Acl::new(vec![own.clone(), inherited])));
        let plain = parent(vec![handed], false);
        assert_eq!(create(&plain, Some(&creator), false).dacl, Some(Acl::new(vec![own.clone()])));
        creator.control = creator.control.with(Control::DACL_PROTECTED);
        let child = create(&automatic, Some(&creator), false);
        assert_eq!(child.dacl, Some(Acl::new(vec![own])));
        assert!(child.control.contains(Control::DACL_PROTECTED));
        assert!(!child.control.contains(Control::DACL_AUTO_INHERITED));
        creator.dacl = None;
        assert_eq!(create(&automatic, Some(&creator), false).dacl, None, "null stays null");
    }

    #[test]
    fn auditing_is_inherited() {
        let mut directory = parent(Vec::new(), false);
        let audit = |flags| Ace {
            ace_type: AceType::SYSTEM_AUDIT,
            ..Ace::allow(Sid::EVERYONE, READ, AceFlags(flags))
        };
        directory.sacl = Some(Acl::new(vec![audit(0x40 | OI)]));
        let child = create(&directory, None, false);
        assert_eq!(child.sacl, Some(Acl::new(vec![audit(0x40)])));
        assert!(child.control.contains(Control::SACL_PRESENT));
    }
}
