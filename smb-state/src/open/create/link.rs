//! A CREATE whose name leads to a symbolic link, or through one (MS-FSA 2.1.5.1 phase 6, 2.1.5.1.2, MS-SMB2 2.2.2.2.1).
//!
//! The server follows no link: it says where the link leads and how much of the name is left, and the client comes back with
//! another name, which is checked like any other. A volume whose driver follows links itself, or that has none, never
//! leads here.

use smb_proto::command::create::CreateOptions;
use smb_proto::command::error::{SymbolicLink, SymbolicLinkFlags};
use smb_proto::fscc::reparse::ReparseTag;
use smb_proto::{Name, NtStatus};

use super::{Creating, Stage};
use crate::message::Finished;
use crate::response::Body;
use crate::shard::{Shard, Turn, Wait};
use crate::storage::{Object, StorageOp};

const BACKSLASH: u16 = b'\\' as u16;
const COLON: u16 = b':' as u16;

impl Shard {
    /// The name led to a link that is not to be opened itself.
    pub(super) fn read_link(&mut self, mut creating: Box<Creating>, object: Object, turn: &mut Turn<'_>) {
        let op = StorageOp::LinkTarget { handle: object.handle };
        creating.stage = Stage::ReadingLink { object };
        self.submit(creating.requester.clone(), op, Wait::Create(creating), turn);
    }

    /// This component of the name, counted from 1, is a link.
    pub(super) fn stop_on_link(
        &mut self,
        mut creating: Box<Creating>,
        component: usize,
        target: Name,
        turn: &mut Turn<'_>,
    ) {
        self.leave_lease(&mut creating, turn);
        self.end_naming(&creating, turn);
        let unparsed = unparsed_bytes(creating.request.name.units(), component);
        let link = SymbolicLink {
            unparsed_path_length: u16::try_from(unparsed).unwrap_or(u16::MAX),
            print_name: target.clone(),
            substitute_name: target,
            flags: SymbolicLinkFlags::RELATIVE,
        };
        turn.finish(Finished {
            origin: creating.origin,
            status: NtStatus::STOPPED_ON_SYMLINK,
            body: Body::StoppedOnLink(Box::new(link)),
            open: None,
            spent: None,
        });
        self.forget_create(creating, turn);
    }
}

impl Creating {
    /// Whether it goes no further than this object, which is a link.
    pub(super) fn stops_at(&self, object: &Object) -> bool {
        object.attributes.reparse_tag == ReparseTag::SYMLINK.0
            && !self.request.create_options.contains(CreateOptions::OPEN_REPARSE_POINT)
    }
}

/// Bytes of a name behind one of its components, counted from 1; separators and a stream's name are part of what is left.
fn unparsed_bytes(name: &[u16], component: usize) -> usize {
    let mut left = name.len();
    let mut seen = 0;
    for part in name.split(|unit| *unit == BACKSLASH) {
        if !part.is_empty() {
            seen += 1;
        }
        if seen == component {
            let file = part.iter().position(|unit| *unit == COLON).unwrap_or(part.len());
            return left.saturating_sub(file) * 2;
        }
        left = left.saturating_sub(part.len() + 1);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_name_is_counted_from_its_end() {
        for (name, component, left) in [
            ("link", 1, ""),
            ("link:stream", 1, ":stream"),
            (r"link\", 1, r"\"),
            (r"link\a\b", 1, r"\a\b"),
            (r"a\link\b", 2, r"\b"),
            (r"a\\link\\b", 2, r"\\b"),
            (r"a\b\link", 3, ""),
            (r"a:$I30:$INDEX_ALLOCATION\link\b", 2, r"\b"),
        ] {
            let units: Vec<u16> = name.encode_utf16().collect();
            assert_eq!(unparsed_bytes(&units, component), left.len() * 2, "{name}");
        }
    }
}
