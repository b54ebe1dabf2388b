//! File I/O that has to wait: given to a ring of the core's own, whose outcomes the core's executor is told of.
//!
//! The ring is not glommio's: glommio 0.9 reads into buffers of its own, from which the data would have to be copied. What a
//! core's tasks begin in one turn goes to the kernel in one system call, when they have had their turn; outcomes come
//! by an eventfd that glommio reads. Other threads than cores have no ring, and theirs goes to the threads for blocking work.
//!
//! Measured by `files_measure` (Linux 6.18, ext4 on virtio, 2 processors; medians of 5 interleaved runs), processor time and
//! latency of an operation in microseconds:
//!
//! | | threads | ring |
//! |---|---|---|
//! | 4 KiB cold reads, 1 at a time | 57, 99 | 42, 64 |
//! | 4 KiB cold reads, 16 at a time | 20, 414 | 9, 338 |
//! | 1 MiB cold reads, 4 at a time | 511, 3391 | 403, 3636 |
//! | 4 KiB written through, 16 at a time | 44, 486 | 36, 442 |
//!
//! Of a ring alone, buffered 4 KiB reads take 7.6 of processor time and 7.3 with file and memory registered, 1 MiB reads 361
//! and 348: too little for a table of files and memory that is locked, so neither is registered. Past the page cache it
//! is 4.7 (registered 4.0) and 39 (15). That is not done all the same: whoever reads the data next would find nothing in
//! memory, and data that was written and is not on the disk yet would have to go there first.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::io::BufferedFile;
use glommio::timer::Timer;
use smb_proto::Payload;
use storage::driver::Offload;
use storage::file::{Done, File, Read, Write};

use crate::ring::{Operation, Ring};

/// When to try again what the kernel had no memory for.
const RETRY: Duration = Duration::from_millis(1);

thread_local! {
    /// The ring of the core whose thread this is.
    static HERE: RefCell<Option<Rc<Files>>> = const { RefCell::new(None) };
}

/// Has the rings of this adapter's cores carry out file I/O that has to wait; the rest, and what comes from threads that
/// are no core's, goes on to another [`Offload`].
pub struct RingOffload {
    other: Arc<dyn Offload>,
}

impl RingOffload {
    /// Supplements `other`.
    pub fn new(other: Arc<dyn Offload>) -> Self {
        Self { other }
    }
}

impl Offload for RingOffload {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        self.other.run(work);
    }

    fn read(&self, read: Read, done: Done<Payload>) {
        match here() {
            Some(files) => files.start(Operation::read(read, done)),
            None => self.other.read(read, done),
        }
    }

    fn write(&self, write: Write, done: Done<usize>) {
        match here() {
            Some(files) => files.start(Operation::write(write, done)),
            None => self.other.write(write, done),
        }
    }

    fn sync_data(&self, file: File, done: Done<()>) {
        match here() {
            Some(files) => files.start(Operation::sync_data(file, done)),
            None => self.other.sync_data(file, done),
        }
    }
}

fn here() -> Option<Rc<Files>> {
    HERE.try_with(|here| here.borrow().clone()).ok().flatten()
}

/// A core's ring, and the task that submits.
struct Files {
    ring: Ring,
    /// Set while there is nothing to submit.
    submitter: Cell<Option<Waker>>,
    closed: Cell<bool>,
}

impl Files {
    fn start(&self, operation: Operation) {
        self.ring.push(operation);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.submitter.take() {
            waker.wake();
        }
    }

    /// Submits, after each turn in which something was begun.
    async fn submit(self: Rc<Self>) {
        loop {
            poll_fn(|context| {
                if self.closed.get() || self.ring.has_unsubmitted() {
                    return Poll::Ready(());
                }
                self.submitter.set(Some(context.waker().clone()));
                Poll::Pending
            })
            .await;
            if self.closed.get() {
                return;
            }
            if let Err(error) = self.ring.submit() {
                tracing::debug!(%error, "the kernel takes no file I/O now");
                Timer::new(RETRY).await;
            }
        }
    }

    /// Deals with outcomes.
    async fn complete(self: Rc<Self>, event: BufferedFile) {
        while !self.closed.get() {
            if let Err(error) = event.read_at(0, 8).await {
                tracing::warn!(%error, "not told of file I/O that is complete; looking again and again");
                Timer::new(RETRY).await;
            }
            self.ring.reap();
            self.wake();
        }
        if let Err(error) = event.close().await {
            tracing::debug!(%error, "closing an eventfd");
        }
    }
}

/// The ring of this thread, until it is dropped. Then everything that was begun is waited for.
pub(crate) struct Attached(Option<Rc<Files>>);

/// Makes a ring for this thread. Without one (and it says so, once) file I/O that has to wait is left to threads.
pub(crate) fn attach() -> Attached {
    static SAID: Once = Once::new();
    match Ring::new() {
        Ok(ring) => {
            let files = Rc::new(Files { ring, submitter: Cell::new(None), closed: Cell::new(false) });
            HERE.set(Some(Rc::clone(&files)));
            Attached(Some(files))
        }
        Err(error) => {
            SAID.call_once(|| tracing::warn!(%error, "no ring for file I/O: it goes to threads"));
            Attached(None)
        }
    }
}

impl Attached {
    /// Starts what serves the ring; on the executor of this thread.
    ///
    /// # Errors
    /// When the system gives no descriptor. Then nothing goes to the ring.
    pub(crate) fn serve(&self) -> io::Result<()> {
        let Some(files) = &self.0 else { return Ok(()) };
        let event = match files.ring.event().try_clone_to_owned() {
            Ok(event) => event,
            Err(error) => {
                HERE.set(None);
                return Err(error);
            }
        };
        // SAFETY: the descriptor is open, and nobody else's from here on.
        let event = unsafe { BufferedFile::from_raw_fd(event.into_raw_fd()) };
        glommio::spawn_local(Rc::clone(files).submit()).detach();
        glommio::spawn_local(Rc::clone(files).complete(event)).detach();
        Ok(())
    }

    /// Takes no more, waits for what was begun, and ends what serves the ring.
    pub(crate) fn close(&self) {
        let Some(files) = &self.0 else { return };
        HERE.set(None);
        files.closed.set(true);
        files.ring.drain();
        files.wake();
        if let Err(error) = rustix::io::write(files.ring.event(), &1_u64.to_ne_bytes()) {
            tracing::debug!(%error, "waking the reader of an eventfd");
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "files_measure.rs"]
mod measure;
