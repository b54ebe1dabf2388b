//! What all drivers do with listings.

use smb_proto::Name;
use smb_proto::fscc::class::FileInfoClass;
use smb_proto::fscc::directory::DirectoryEntry;
use smb_state::storage::Attributes;

/// The entry of a listing for an object. Short names are not made up (MS-FSA leaves them to the volume).
pub(crate) fn entry(class: FileInfoClass, attributes: &Attributes, name: Name) -> DirectoryEntry {
    if class == FileInfoClass::NAMES {
        return DirectoryEntry { name, ..DirectoryEntry::default() };
    }
    let mut file_id_128 = [0; 16];
    file_id_128[..8].copy_from_slice(&attributes.number.0.to_le_bytes());
    DirectoryEntry {
        creation_time: attributes.creation,
        last_access_time: attributes.last_access,
        last_write_time: attributes.last_write,
        change_time: attributes.change,
        end_of_file: attributes.end_of_file,
        allocation_size: attributes.allocation,
        attributes: attributes.dos,
        ea_size: attributes.ea_size,
        reparse_tag: attributes.reparse_tag,
        file_id: attributes.number.0,
        file_id_128,
        name,
        ..DirectoryEntry::default()
    }
}
