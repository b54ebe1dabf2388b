//! Data that has to wait for a disk, as operations that the runtime carries out in whatever way it has.
//!
//! Only what is nothing but data: a file's unnamed stream, through a handle that keeps no times. The rest is carried out in
//! one piece where waiting is allowed.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rustix::io::Errno;
use smb_proto::Payload;
use smb_state::ids::Handle;
use smb_state::storage::{StorageOp, StorageReply};

use super::Volume;
use super::handle::Node;
use super::io::{OFFSET_MAX, check_range, read_reply};
use crate::driver::{Completion, Offload};
use crate::fault::{Fault, Outcome, reply};
use crate::file::{File, Read, Write};

/// An operation, ready to be handed over.
enum Data {
    Read(Read),
    Write(Write),
    Flush(Arc<Node>),
}

impl Volume {
    /// Carries out where waiting is allowed what could not be answered at once.
    pub(super) fn run_later(
        self: &Arc<Self>,
        offload: &dyn Offload,
        op: StorageOp<Bytes>,
        completion: Completion,
    ) {
        let volume = Arc::clone(self);
        match self.data_of(&op) {
            Some(Data::Read(read)) => offload.read(
                read,
                Box::new(move |result| completion.complete(reply(outcome(result).and_then(read_reply)))),
            ),
            Some(Data::Write(write)) => {
                let (length, begun) = (write.bytes.len(), Instant::now());
                let written = move |result| {
                    volume.pace.note(length, begun.elapsed());
                    completion.complete(reply(outcome(result).map(written)));
                };
                offload.write(write, Box::new(written));
            }
            Some(Data::Flush(node)) => {
                let file = Arc::clone(&node.inode) as File;
                let flushed = move |result| {
                    let settled = outcome(result).and_then(|()| volume.settle_times(&node));
                    completion.complete(reply(settled.map(|()| StorageReply::Done)));
                };
                offload.sync_data(file, Box::new(flushed));
            }
            None => offload.run(Box::new(move || {
                completion.complete(reply(volume.run_quietly(&op, crate::fault::Place::Offloaded)));
            })),
        }
    }

    /// The operation that a request amounts to. None if it is more than that, or fails: then it fails where all do.
    fn data_of(&self, op: &StorageOp<Bytes>) -> Option<Data> {
        match op {
            StorageOp::Read { handle, offset, length } if *offset < OFFSET_MAX => {
                let node = self.plain(*handle)?;
                node.inode.reader().ok()?;
                let (file, length) = (Arc::clone(&node.inode) as File, *length as usize);
                Some(Data::Read(Read { file, offset: *offset, length }))
            }
            StorageOp::Write { handle, offset, buffer, length, write_through } => {
                let bytes = (*length as usize <= buffer.len()).then(|| buffer.slice(..*length as usize))?;
                check_range(offset.unwrap_or(0), bytes.len() as u64).ok()?;
                let node = self.plain(*handle)?;
                node.inode.writer().ok()?;
                self.tell_late(&node).ok()?;
                let (file, write_through) = (Arc::clone(&node.inode) as File, *write_through);
                Some(Data::Write(Write { file, offset: *offset, bytes, write_through }))
            }
            StorageOp::Flush { handle } => {
                let node = self.handles.get(*handle).ok()?;
                if node.inode.is_directory() {
                    return None;
                }
                node.inode.reader().ok()?;
                Some(Data::Flush(node))
            }
            _ => None,
        }
    }

    /// What a handle stands for, if its data is in the file and nothing has to be put back.
    fn plain(&self, handle: Handle) -> Option<Arc<Node>> {
        let node = self.handles.get(handle).ok()?;
        (node.stream.is_none() && node.kept().is_nothing()).then_some(node)
    }
}

fn outcome<R>(result: io::Result<R>) -> Outcome<R> {
    result.map_err(|error| Fault::from(Errno::from_io_error(&error).unwrap_or(Errno::IO)))
}

fn written(length: usize) -> StorageReply<Payload> {
    StorageReply::Written { length: u32::try_from(length).unwrap_or(u32::MAX) }
}
