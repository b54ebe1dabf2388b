//! A ring that carries out file I/O: what is handed to it owns its file and its memory until the kernel is done with them.
//!
//! Nothing here waits but [`Ring::drain`], and nothing knows of an executor: [`crate::files`] does.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, Probe, opcode};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use smb_proto::Payload;
use storage::file::{Done, File, Read, Write};

/// Operations that the kernel has at a time. More wait in a queue, which is bounded by what clients may have outstanding
/// (credits). Disks answer no faster with more.
pub(crate) const DEPTH: u32 = 256;
/// Threads that the kernel may take for writes and flushes, which it can't do without one: as many as a server has for
/// blocking work. Left to itself it would take four for each processor.
const WORKERS_MAX: u32 = 64;
/// Largest offset that files have. What is beyond means something else to the ring.
const OFFSET_MAX: u64 = i64::MAX as u64;

/// A ring of one thread's.
pub(crate) struct Ring {
    inner: RefCell<Inner>,
    /// The kernel counts it up when something is complete.
    event: OwnedFd,
}

struct Inner {
    uring: IoUring,
    /// What the kernel has, or is going to have with the next submission, by the number that comes back with the outcome.
    slots: Vec<Option<Operation>>,
    free: Vec<usize>,
    queue: VecDeque<Operation>,
    /// What the kernel has was given up. Its slots are never used again: an outcome that comes late must not be taken for
    /// that of something else.
    lost: bool,
}

/// A piece of file I/O under way.
pub(crate) struct Operation {
    file: File,
    work: Work,
    /// The kernel is not to try it at once. It would, on this thread, and wait for the disk there if it is a write.
    apart: bool,
}

enum Work {
    Read { payload: Payload, offset: u64, length: usize, done: Done<Payload> },
    Write { write: Write, written: usize, done: Done<usize> },
    Sync { done: Done<()> },
}

/// An operation that is over, and was not answered yet.
enum Over {
    Read(Done<Payload>, io::Result<Payload>),
    Write(Done<usize>, io::Result<usize>),
    Sync(Done<()>, io::Result<()>),
}

impl Ring {
    /// # Errors
    /// When the kernel gives no ring, or one that can't do file I/O.
    pub(crate) fn new() -> io::Result<Self> {
        let mut builder = IoUring::builder();
        // An outcome is taken note of when this thread is in the kernel anyway, not by interrupting it. Linux 5.19 and 6.0.
        let uring = builder.setup_coop_taskrun().setup_single_issuer().build(DEPTH);
        let uring = uring.or_else(|_| IoUring::new(DEPTH))?;
        let mut probe = Probe::new();
        uring.submitter().register_probe(&mut probe)?;
        let needed = [opcode::Read::CODE, opcode::Write::CODE, opcode::Fsync::CODE];
        if !needed.iter().all(|code| probe.is_supported(*code)) {
            return Err(Errno::OPNOTSUPP.into());
        }
        // Linux 5.15; before that it stays as it is.
        if let Err(error) = uring.submitter().register_iowq_max_workers(&mut [WORKERS_MAX, 0]) {
            tracing::debug!(%error, "the kernel takes as many threads for file I/O as it likes");
        }
        // Blocking, because glommio's ring waits for it: a read that finds nothing is to wait there.
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        uring.submitter().register_eventfd(event.as_raw_fd())?;
        let (slots, free, queue) = (Vec::new(), Vec::new(), VecDeque::new());
        Ok(Self { inner: RefCell::new(Inner { uring, slots, free, queue, lost: false }), event })
    }

    /// What can be read (8 bytes) when something is complete.
    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Takes an operation; the kernel gets it with the next [`Self::submit`].
    pub(crate) fn push(&self, operation: Operation) {
        let mut inner = self.inner.borrow_mut();
        if inner.lost {
            drop(inner);
            return operation.fail().0.tell();
        }
        inner.queue.push_back(operation);
        inner.fill();
    }

    /// Whether there is something to submit.
    pub(crate) fn has_unsubmitted(&self) -> bool {
        !self.inner.borrow_mut().uring.submission().is_empty()
    }

    /// Operations that are not over.
    pub(crate) fn outstanding(&self) -> usize {
        self.inner.borrow().outstanding()
    }

    /// Gives the kernel everything that was pushed, in one system call.
    ///
    /// # Errors
    /// When the kernel takes nothing at the moment; what was pushed stays for the next time.
    pub(crate) fn submit(&self) -> io::Result<()> {
        self.enter(0)
    }

    fn enter(&self, wanted: usize) -> io::Result<()> {
        match self.inner.borrow().uring.submit_and_wait(wanted) {
            Ok(_) => Ok(()),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Answers what is complete, and goes on with what was short.
    pub(crate) fn reap(&self) {
        let over = self.inner.borrow_mut().reap();
        // Not under the borrow: an answer may be followed by the next operation.
        over.into_iter().for_each(Over::tell);
    }

    /// Waits until everything is over and answered, for as long as it takes: the kernel does not let a thread end before.
    pub(crate) fn drain(&self) {
        while self.outstanding() > 0 {
            if let Err(error) = self.enter(1) {
                match Errno::from_io_error(&error) {
                    Some(Errno::AGAIN | Errno::BUSY) => std::thread::yield_now(),
                    _ => return self.give_up(&error),
                }
            }
            self.reap();
        }
    }

    /// Answers everything though the kernel may still work on it. So its memory is never used for anything else.
    fn give_up(&self, error: &io::Error) {
        tracing::error!(%error, "file I/O that is under way can't be waited for");
        let mut inner = self.inner.borrow_mut();
        inner.lost = true;
        let queued = inner.queue.drain(..).collect::<Vec<_>>();
        let begun: Vec<Operation> = inner.slots.iter_mut().filter_map(Option::take).collect();
        inner.free = (0..inner.slots.len()).collect();
        drop(inner);
        for operation in queued {
            operation.fail().0.tell();
        }
        for operation in begun {
            let (over, kept) = operation.fail();
            std::mem::forget(kept);
            over.tell();
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.drain();
    }
}

impl Inner {
    fn outstanding(&self) -> usize {
        self.queue.len() + self.slots.len() - self.free.len()
    }

    /// Moves operations from the queue to the ring while there is room.
    fn fill(&mut self) {
        while !self.lost
            && self.slots.len() - self.free.len() < DEPTH as usize
            && let Some(mut operation) = self.queue.pop_front()
        {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            });
            let entry = operation.entry().user_data(slot as u64);
            // SAFETY: the entry's memory and descriptor belong to the operation, which stays in its slot, untouched, until
            // the kernel has said that it is done with it; if that can't be waited for, it is never freed (`give_up`).
            // Moving the operation into its slot moves no buffer.
            let pushed = unsafe { self.uring.submission().push(&entry) };
            if pushed.is_err() {
                // There is one place for each slot, so this does not happen.
                self.free.push(slot);
                self.queue.push_front(operation);
                return;
            }
            self.slots[slot] = Some(operation);
        }
    }

    fn reap(&mut self) -> Vec<Over> {
        let mut over = Vec::new();
        for complete in self.uring.completion() {
            let slot = usize::try_from(complete.user_data()).unwrap_or(usize::MAX);
            let Some(operation) = self.slots.get_mut(slot).and_then(Option::take) else {
                tracing::error!(slot, "an outcome of nothing that is under way");
                continue;
            };
            self.free.push(slot);
            match operation.advance(complete.result()) {
                Ok(outcome) => over.push(outcome),
                Err(rest) => self.queue.push_front(rest),
            }
        }
        self.fill();
        over
    }
}

impl Operation {
    pub(crate) fn read(read: Read, done: Done<Payload>) -> Self {
        let Read { file, offset, length } = read;
        let payload = Payload::with_capacity(length);
        Self { file, work: Work::Read { payload, offset, length, done }, apart: false }
    }

    pub(crate) fn write(write: Write, done: Done<usize>) -> Self {
        let file = File::clone(&write.file);
        Self { file, work: Work::Write { write, written: 0, done }, apart: true }
    }

    pub(crate) fn sync_data(file: File, done: Done<()>) -> Self {
        Self { file, work: Work::Sync { done }, apart: false }
    }

    /// What the kernel is told to do: what is left of the work.
    fn entry(&mut self) -> Entry {
        let fd = Fd(self.file.as_fd().as_raw_fd());
        let entry = match &mut self.work {
            Work::Read { payload, offset, length, .. } => {
                let at = offset.saturating_add(payload.len() as u64);
                let rest = *length - payload.len();
                let buffer = payload.buffer();
                buffer.reserve(rest);
                let room = buffer.spare_capacity_mut().as_mut_ptr().cast();
                opcode::Read::new(fd, room, u32::try_from(rest).unwrap_or(u32::MAX))
                    .offset(at.min(OFFSET_MAX))
                    .build()
            }
            Work::Write { write, written, .. } => {
                // Without an offset the kernel finds the end itself (`RWF_APPEND`).
                let at = write.offset.map_or(0, |offset| offset.saturating_add(*written as u64));
                let rest = &write.bytes[*written..];
                let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
                let flags = write.flags().bits().cast_signed();
                opcode::Write::new(fd, rest.as_ptr(), length)
                    .offset(at.min(OFFSET_MAX))
                    .rw_flags(flags)
                    .build()
            }
            Work::Sync { .. } => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
        };
        if self.apart { entry.flags(Flags::ASYNC) } else { entry }
    }

    /// Takes note of what the kernel did: the answer, or what is left to do.
    fn advance(self, result: i32) -> Result<Over, Self> {
        let Self { file, work, apart } = self;
        let count = usize::try_from(result)
            .map_err(|_| Errno::from_raw_os_error(result.checked_neg().unwrap_or(i32::MAX)));
        match (work, count) {
            (work, Err(Errno::INTR)) => Err(Self { file, work, apart }),
            // It can't be done without a thread that waits, so the kernel takes one.
            (work, Err(Errno::AGAIN)) if !apart => Err(Self { file, work, apart: true }),
            (Work::Read { done, .. }, Err(errno)) => Ok(Over::Read(done, Err(errno.into()))),
            (Work::Read { mut payload, offset, length, done }, Ok(count)) => {
                let count = count.min(length - payload.len());
                let buffer = payload.buffer();
                // SAFETY: the kernel filled that many bytes from the buffer's end on, and was given no more than there was
                // room for (`entry`); nothing touched the buffer since.
                unsafe { buffer.set_len(buffer.len() + count) };
                if count == 0 || payload.len() == length {
                    Ok(Over::Read(done, Ok(payload)))
                } else {
                    Err(Self { file, work: Work::Read { payload, offset, length, done }, apart })
                }
            }
            // What went before counts: the client learns of the rest when it writes it.
            (Work::Write { written, done, .. }, Err(_)) if written > 0 => Ok(Over::Write(done, Ok(written))),
            (Work::Write { done, .. }, Err(errno)) => Ok(Over::Write(done, Err(errno.into()))),
            (Work::Write { write, done, .. }, Ok(0)) if !write.bytes.is_empty() => {
                Ok(Over::Write(done, Err(Errno::NOSPC.into())))
            }
            (Work::Write { write, written, done }, Ok(count)) => {
                let written = written.saturating_add(count).min(write.bytes.len());
                if written == write.bytes.len() {
                    Ok(Over::Write(done, Ok(written)))
                } else {
                    Err(Self { file, work: Work::Write { write, written, done }, apart })
                }
            }
            (Work::Sync { done }, Err(errno)) => Ok(Over::Sync(done, Err(errno.into()))),
            (Work::Sync { done }, Ok(_)) => Ok(Over::Sync(done, Ok(()))),
        }
    }

    /// An answer in place of the outcome, and what the kernel may still use.
    fn fail(self) -> (Over, (File, Option<Payload>, Option<Write>)) {
        let lost = || Errno::CANCELED.into();
        match self.work {
            Work::Read { payload, done, .. } => {
                (Over::Read(done, Err(lost())), (self.file, Some(payload), None))
            }
            Work::Write { write, done, .. } => {
                (Over::Write(done, Err(lost())), (self.file, None, Some(write)))
            }
            Work::Sync { done } => (Over::Sync(done, Err(lost())), (self.file, None, None)),
        }
    }
}

impl Over {
    fn tell(self) {
        // As on a thread for blocking work, a panic costs one answer and not the thread.
        let told = catch_unwind(AssertUnwindSafe(|| match self {
            Self::Read(done, result) => done(result),
            Self::Write(done, result) => done(result),
            Self::Sync(done, result) => done(result),
        }));
        if told.is_err() {
            tracing::error!("what follows a piece of file I/O panicked");
        }
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
