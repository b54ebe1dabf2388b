//! Times that a handle keeps. Last write times are told at once.

use bytes::Bytes;
use smb_proto::{FileTime, Payload};
use smb_state::ids::Handle;
use smb_state::storage::{Kept, StorageOp, StorageReply};

use super::Memory;
use super::file::Node;
use crate::fault::Outcome;
use crate::handles::lock;

/// The handle through which something is changed, and what of its times is named.
fn changer(op: &StorageOp<Bytes>) -> Option<(Handle, Kept)> {
    match op {
        StorageOp::SetAttributes { handle, set } => {
            let named = Kept {
                access: set.last_access.is_some(),
                write: set.last_write.is_some(),
                change: set.change.is_some(),
            };
            Some((*handle, named))
        }
        StorageOp::Write { handle, .. }
        | StorageOp::SettleTimes { handle, .. }
        | StorageOp::SetEndOfFile { handle, .. }
        | StorageOp::SetAllocation { handle, .. }
        | StorageOp::SetEas { handle, .. }
        | StorageOp::SetSecurity { handle, .. }
        | StorageOp::Rename { handle, .. }
        | StorageOp::RenameStream { handle, .. }
        | StorageOp::Link { handle, .. }
        | StorageOp::SetSparse { handle, .. }
        | StorageOp::Zero { handle, .. }
        | StorageOp::Trim { handle, .. }
        | StorageOp::Copy { target: handle, .. } => Some((*handle, Kept::default())),
        _ => None,
    }
}

impl Memory {
    /// Carries a request out, and puts the times back that its handle keeps.
    pub(super) fn run_keeping(&self, op: StorageOp<Bytes>) -> Outcome<StorageReply<Payload>> {
        let Some((handle, named)) = changer(&op) else { return self.run(op) };
        let node = self.handles.get(handle)?;
        let before = times(&node);
        let result = self.run(op)?;
        let kept = *lock(&node.kept);
        let mut state = node.file.state();
        if kept.access && !named.access {
            state.last_access = before[0];
        }
        if kept.write && !named.write {
            state.last_write = before[1];
        }
        if kept.change && !named.change {
            state.change = before[2];
        }
        drop(state);
        Ok(result)
    }
}

fn times(node: &Node) -> [FileTime; 3] {
    let state = node.file.state();
    [state.last_access, state.last_write, state.change]
}
