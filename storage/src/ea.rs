//! What all drivers do with extended attributes.

use smb_proto::NtStatus;
use smb_proto::fscc::ea::{self, FullEa};

use crate::fault::Outcome;

/// `list` after `changes`, one after the other: an empty value removes, a known name is replaced in its place without
/// regard to case, a new one goes to the end.
pub(crate) fn merge(mut list: Vec<FullEa>, changes: &[FullEa]) -> Outcome<Vec<FullEa>> {
    for change in changes {
        if !ea::is_valid_name(&change.name) {
            return Err(NtStatus::INVALID_EA_NAME.into());
        }
        let place = list.iter().position(|known| known.name.eq_ignore_ascii_case(&change.name));
        match place {
            Some(place) if change.value.is_empty() => {
                list.remove(place);
            }
            Some(place) => list[place] = change.clone(),
            None if change.value.is_empty() => {}
            None => list.push(change.clone()),
        }
    }
    if usize::try_from(ea::packed_size(&list)).unwrap_or(usize::MAX) > ea::TOTAL_MAX + 4 {
        return Err(NtStatus::EA_TOO_LARGE.into());
    }
    Ok(list)
}
