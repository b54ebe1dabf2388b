//! What all drivers do with security descriptors.

use smb_proto::security::{Control, SecurityDescriptor};

/// `old` with the parts that are present in `new` replaced: owner and group if given, a list if given or said to be
/// present (present and not given is one that allows everything).
pub(crate) fn merge(old: &SecurityDescriptor, new: &SecurityDescriptor) -> SecurityDescriptor {
    let mut merged = old.clone();
    let mut take = |mask: u16| merged.control.0 = merged.control.0 & !mask | new.control.0 & mask;
    if new.owner.is_some() {
        take(Control::OWNER_DEFAULTED.0);
    }
    if new.group.is_some() {
        take(Control::GROUP_DEFAULTED.0);
    }
    let has_dacl = new.dacl.is_some() || new.control.contains(Control::DACL_PRESENT);
    let has_sacl = new.sacl.is_some() || new.control.contains(Control::SACL_PRESENT);
    if has_dacl {
        take(
            Control::DACL_PRESENT.0
                | Control::DACL_DEFAULTED.0
                | Control::DACL_PROTECTED.0
                | Control::DACL_AUTO_INHERITED.0,
        );
        merged.dacl.clone_from(&new.dacl);
        merged.control.0 |= Control::DACL_PRESENT.0;
    }
    if has_sacl {
        let mut take = |mask: u16| merged.control.0 = merged.control.0 & !mask | new.control.0 & mask;
        take(
            Control::SACL_PRESENT.0
                | Control::SACL_DEFAULTED.0
                | Control::SACL_PROTECTED.0
                | Control::SACL_AUTO_INHERITED.0,
        );
        merged.sacl.clone_from(&new.sacl);
        merged.control.0 |= Control::SACL_PRESENT.0;
    }
    merged.owner = new.owner.or(merged.owner);
    merged.group = new.group.or(merged.group);
    merged
}
