//! Whether two opens of one stream can live together (MS-FSA 2.1.5.1.2.2).

use smb_proto::access::AccessMask;
use smb_proto::command::create::ShareAccess;

use super::Grant;

/// Rights that FILE_SHARE_READ speaks of.
const READS: AccessMask = AccessMask(AccessMask::READ_DATA.0 | AccessMask::EXECUTE.0);
/// Rights that FILE_SHARE_WRITE speaks of.
const WRITES: AccessMask = AccessMask(AccessMask::WRITE_DATA.0 | AccessMask::APPEND_DATA.0);
/// Rights that FILE_SHARE_DELETE speaks of.
const DELETES: AccessMask = AccessMask::DELETE;

/// Whether both may be open at once: each shares what the other does. Opens that touch neither data nor the name (only
/// attributes, for instance) conflict with nothing.
///
/// Streams of one file are opened independently, but who may delete the file as a whole deletes its streams too.
#[must_use]
pub fn compatible(one: &Grant, other: &Grant) -> bool {
    if one.stream == other.stream {
        return allows(one, other) && allows(other, one);
    }
    spares(one, other) && spares(other, one)
}

/// Whether a stream's open lets the file be deleted, if the other open may do that.
fn spares(stream: &Grant, file: &Grant) -> bool {
    let concerns = file.stream.is_empty() && file.access.intersects(DELETES) && touches(stream);
    !concerns || stream.share.contains(ShareAccess::DELETE)
}

/// Whether an open of a directory is compatible with a rename into it, which holds the directory open for adding a name
/// and shares reading and writing, and deletion if that is wanted (MS-FSA 2.1.5.15.12).
#[must_use]
pub fn lets_names_in(holder: &Grant, shares_delete: bool) -> bool {
    let deletion = if shares_delete { ShareAccess::DELETE } else { ShareAccess::EMPTY };
    let adding = Grant {
        access: WRITES,
        share: ShareAccess::READ.with(ShareAccess::WRITE).with(deletion),
        delete_on_close: false,
        ..holder.clone()
    };
    compatible(holder, &adding)
}

fn allows(holder: &Grant, other: &Grant) -> bool {
    if !touches(holder) || !touches(other) {
        return true;
    }
    let pairs = [(READS, ShareAccess::READ), (WRITES, ShareAccess::WRITE), (DELETES, ShareAccess::DELETE)];
    pairs.into_iter().all(|(rights, share)| !other.access.intersects(rights) || holder.share.contains(share))
}

fn touches(grant: &Grant) -> bool {
    grant.access.intersects(READS.with(WRITES).with(DELETES))
}
