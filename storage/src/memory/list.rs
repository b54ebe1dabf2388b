//! Listings: entries in the order of their folded names, resumed behind the last one that was told.

use std::ops::Bound;
use std::sync::Arc;

use smb_proto::fscc::directory::{self, DirectoryWriter};
use smb_proto::fscc::expression::Expression;
use smb_proto::security::Token;
use smb_proto::{Name, NtStatus, Payload};
use smb_state::security::may_see;
use smb_state::storage::{Listing, StorageReply};

use super::file::{File, Node};
use crate::fault::{Fault, Outcome};
use crate::handles::lock;
use crate::listing::entry;

/// Where a handle's listing is.
#[derive(Debug)]
pub(super) struct Cursor {
    expression: Expression,
    position: Position,
    /// Whether anything matched since the start.
    any: bool,
}

#[derive(Clone, Debug)]
enum Position {
    Dot,
    DotDot,
    /// Behind this folded name; the empty one is before all.
    After(Name),
}

pub(super) fn list(node: &Node, listing: &Listing) -> Outcome<StorageReply<Payload>> {
    if !node.file.is_directory() || node.stream.is_some() {
        return Err(NtStatus::NOT_A_DIRECTORY.into());
    }
    let fixed = directory::name_offset(listing.class).ok_or(NtStatus::INVALID_INFO_CLASS)?;
    if (listing.length_max as usize) < fixed {
        return Err(NtStatus::INFO_LENGTH_MISMATCH.into());
    }
    let mut held = lock(&node.cursor);
    let expression = |pattern: &Name| {
        Expression::new(pattern.units(), true).map_err(|error| Fault::Status(error.status()))
    };
    if held.is_none() {
        let expression = expression(&listing.pattern.clone().unwrap_or_default())?;
        *held = Some(Cursor { expression, position: Position::Dot, any: false });
    }
    let cursor = held.as_mut().ok_or(NtStatus::INTERNAL_ERROR)?;
    if let Some(pattern) = &listing.pattern {
        cursor.expression = expression(pattern)?;
    }
    if listing.restart {
        (cursor.position, cursor.any) = (Position::Dot, false);
    }
    let mut out = Payload::with_capacity((listing.length_max as usize).min(64 * 1024));
    let headroom = std::mem::take(out.buffer());
    let mut writer = DirectoryWriter::in_buffer(listing.class, listing.length_max as usize, headroom)
        .ok_or(NtStatus::INVALID_INFO_CLASS)?;
    let is_full = fill(node, cursor, listing, &mut writer)?;
    cursor.any |= !writer.is_empty();
    if writer.is_empty() {
        return Err(match (is_full, cursor.any) {
            (true, _) => NtStatus::BUFFER_OVERFLOW,
            (false, true) => NtStatus::NO_MORE_FILES,
            (false, false) => NtStatus::NO_SUCH_FILE,
        }
        .into());
    }
    *out.buffer() = writer.finish();
    let length = u32::try_from(out.len()).map_err(|_| NtStatus::INTERNAL_ERROR)?;
    Ok(StorageReply::Listed { buffer: out, length })
}

/// The next entry: its name, what it stands for, and where the listing is behind it.
fn next(node: &Node, position: &Position) -> Option<(Name, Arc<File>, Position)> {
    match position {
        Position::Dot => Some((Name::from("."), Arc::clone(&node.file), Position::DotDot)),
        Position::DotDot => {
            let parent = node.file.state().parent.upgrade();
            let parent = parent.unwrap_or_else(|| Arc::clone(&node.file));
            Some((Name::from(".."), parent, Position::After(Name::default())))
        }
        Position::After(name) => {
            let state = node.file.state();
            let mut rest = state.children.range((Bound::Excluded(name.clone()), Bound::Unbounded));
            let (folded, child) = rest.next()?;
            Some((child.name.clone(), Arc::clone(&child.file), Position::After(folded.clone())))
        }
    }
}

/// Writes entries until there is no room, or one if only one is asked for. `true` if there was no room for the next.
fn fill(node: &Node, cursor: &mut Cursor, listing: &Listing, writer: &mut DirectoryWriter) -> Outcome<bool> {
    while let Some((name, file, behind)) = next(node, &cursor.position) {
        let is_entry = matches!(cursor.position, Position::After(_));
        let is_shown = |token: &Token| may_see(file.state().security.as_ref(), token);
        let hidden = is_entry && listing.visible_to.as_deref().is_some_and(|token| !is_shown(token));
        if !hidden && cursor.expression.matches(name.units()) {
            if !writer.push(&entry(listing.class, &file.attributes(), name)) {
                return Ok(true);
            }
            cursor.position = behind;
            if listing.single {
                return Ok(false);
            }
        } else {
            cursor.position = behind;
        }
    }
    Ok(false)
}
