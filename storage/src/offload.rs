//! Ready-made [`Offload`]s for tests, models and programs without a runtime of their own.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use crate::driver::Offload;
use crate::handles::lock;

/// Runs work at once on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

impl Offload for Inline {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}

/// A fixed number of threads that take work from one queue. They end when this is dropped and the queue is empty.
#[derive(Debug)]
pub struct Threads(Sender<Box<dyn FnOnce() + Send>>);

impl Threads {
    /// `count` threads, at least one.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub fn new(count: usize) -> std::io::Result<Self> {
        let (sender, receiver) = channel::<Box<dyn FnOnce() + Send>>();
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..count.max(1) {
            let receiver = Arc::clone(&receiver);
            std::thread::Builder::new().name(format!("storage-{number}")).spawn(move || {
                loop {
                    let work = lock(&receiver).recv();
                    match work {
                        Ok(work) => work(),
                        Err(_) => return,
                    }
                }
            })?;
        }
        Ok(Self(sender))
    }
}

impl Offload for Threads {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        // The receivers live as long as the sender unless every thread has panicked; then dropping the work completes
        // its request with an error.
        drop(self.0.send(work));
    }
}
