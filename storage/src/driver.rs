//! The trait that a storage driver implements.

use std::task::Poll;

use bytes::Bytes;
use rustix::fs::fdatasync;
use smb_proto::Payload;
use smb_state::storage::{Requester, StorageOp, StorageReply, VolumeCaps};

use crate::file::{Done, File, Read, Write};

/// What a driver calls, once, with the answer to a request that it could not answer at once. Dropping it without a call
/// answers UNEXPECTED_IO_ERROR, so that a lost request is never a hang.
pub struct Completion(Option<Box<dyn FnOnce(StorageReply<Payload>) + Send>>);

impl Completion {
    /// Hands the answer to `deliver`.
    pub fn new(deliver: impl FnOnce(StorageReply<Payload>) + Send + 'static) -> Self {
        Self(Some(Box::new(deliver)))
    }

    /// Answers.
    pub fn complete(mut self, reply: StorageReply<Payload>) {
        if let Some(deliver) = self.0.take() {
            deliver(reply);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(deliver) = self.0.take() {
            deliver(StorageReply::Failed(smb_proto::NtStatus::UNEXPECTED_IO_ERROR));
        }
    }
}

/// Runs blocking work away from the thread that serves connections; supplied by the runtime.
///
/// File I/O comes as values, which a runtime with a better way than a thread that waits can carry out itself; without one,
/// it has only [`Self::run`] to supply.
pub trait Offload: Send + Sync + 'static {
    /// Runs `work` soon, on another thread.
    fn run(&self, work: Box<dyn FnOnce() + Send>);

    /// Reads, and calls `done` once.
    fn read(&self, read: Read, done: Done<Payload>) {
        self.run(Box::new(move || done(read.wait())));
    }

    /// Writes, and calls `done` once.
    fn write(&self, write: Write, done: Done<usize>) {
        self.run(Box::new(move || done(write.wait())));
    }

    /// Waits until a file's data is on the disk (`fdatasync`), and calls `done` once.
    fn sync_data(&self, file: File, done: Done<()>) {
        self.run(Box::new(move || done(fdatasync(&*file).map_err(Into::into))));
    }
}

impl<F: Fn(Box<dyn FnOnce() + Send>) + Send + Sync + 'static> Offload for F {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        self(work);
    }
}

/// A volume.
pub trait Driver: Send + Sync + 'static {
    /// What the volume can do; asked once, when the share is made.
    fn caps(&self) -> VolumeCaps;

    /// Starts one request. What can be answered without waiting (the page cache has it) is answered at once with
    /// [`Poll::Ready`]; otherwise the driver takes a [`Completion`] from `later`, returns [`Poll::Pending`] and calls it
    /// exactly once, from any thread. Requests on different handles may run in any order; the core never has two
    /// requests under way whose order would matter to it.
    fn submit(
        &self,
        requester: &Requester,
        op: StorageOp<Bytes>,
        later: &mut dyn FnMut() -> Completion,
    ) -> Poll<StorageReply<Payload>>;
}
