//! Threads for work that blocks: file I/O that the page cache can't answer.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use storage::driver::Offload;

const IDLE_MAX: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce() + Send>;

/// A pool of threads that grows to a bound and shrinks when idle. The queue in front of it is bounded by what clients
/// may have outstanding (credits).
pub struct BlockingPool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    threads_max: usize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Work>,
    threads: usize,
    idle: usize,
    stopped: bool,
}

impl BlockingPool {
    /// A pool of at most `threads_max` threads (at least one); none runs before there is work.
    #[must_use]
    pub fn new(threads_max: usize) -> Self {
        let state = Mutex::new(State::default());
        Self { shared: Arc::new(Shared { state, wake: Condvar::new(), threads_max: threads_max.max(1) }) }
    }
}

impl Offload for BlockingPool {
    fn run(&self, work: Work) {
        let mut state = self.shared.lock();
        state.queue.push_back(work);
        if state.idle >= state.queue.len() {
            drop(state);
            self.shared.wake.notify_one();
            return;
        }
        if state.threads == self.shared.threads_max {
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = Arc::clone(&self.shared);
        let spawned =
            std::thread::Builder::new().name("leasehold-blocking".into()).spawn(move || shared.work());
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for blocking work");
            self.shared.without_a_thread();
        }
    }
}

impl Drop for BlockingPool {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Work runs outside of the lock, so a panic of it leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life: work while there is some; what is queued is done even when the pool is dropped.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.queue.pop_front() {
                drop(state);
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
                    tracing::error!("blocking work panicked");
                }
                state = self.lock();
                continue;
            }
            if state.stopped {
                break;
            }
            state.idle += 1;
            let (woken, timeout) =
                self.wake.wait_timeout(state, IDLE_MAX).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }

    /// The system gave no thread. Others take the work when there are any; the caller does it when there are none.
    fn without_a_thread(&self) {
        let mut state = self.lock();
        state.threads -= 1;
        if state.threads > 0 {
            return;
        }
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        for work in queue {
            work();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn all_work_is_done_by_no_more_threads_than_allowed() {
        let pool = BlockingPool::new(3);
        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = mpsc::channel();
        for number in 0..50 {
            let (running, most, sender) = (Arc::clone(&running), Arc::clone(&most), sender.clone());
            pool.run(Box::new(move || {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
                running.fetch_sub(1, Ordering::SeqCst);
                sender.send(number).unwrap();
            }));
        }
        let mut done: Vec<i32> = receiver.iter().take(50).collect();
        done.sort_unstable();
        assert_eq!(done, (0..50).collect::<Vec<_>>());
        assert!((2..=3).contains(&most.load(Ordering::SeqCst)), "work ran side by side, within the bound");
    }

    #[test]
    fn a_panic_costs_no_thread_and_no_later_work() {
        let pool = BlockingPool::new(1);
        let (sender, receiver) = mpsc::channel();
        pool.run(Box::new(|| panic!("expected in this test")));
        pool.run(Box::new(move || sender.send(7).unwrap()));
        assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(7));
    }

    #[test]
    fn queued_work_is_done_after_the_pool_is_gone() {
        let pool = BlockingPool::new(1);
        let (sender, receiver) = mpsc::channel();
        for number in 0..10 {
            let sender = sender.clone();
            pool.run(Box::new(move || sender.send(number).unwrap()));
        }
        drop(pool);
        drop(sender);
        assert_eq!(receiver.iter().count(), 10);
    }
}
