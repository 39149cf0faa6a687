//! Threads that carry tasks out: a fixed number per lane. What waits is bounded by the tasks that may be open.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// A lane's threads.
pub(crate) struct Pool {
    queue: Arc<(Mutex<Queue>, Condvar)>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(crate) fn new(name: &str, threads: usize) -> std::io::Result<Pool> {
        let queue: Arc<(Mutex<Queue>, Condvar)> = Arc::default();
        let spawn = |number: usize| {
            let queue = queue.clone();
            std::thread::Builder::new().name(format!("{name}-{number}")).spawn(move || work(&queue))
        };
        let threads = (0..threads.max(1)).map(spawn).collect::<std::io::Result<Vec<_>>>()?;
        Ok(Pool { queue, threads })
    }

    pub(crate) fn push(&self, job: Job) {
        self.queue.0.lock().unwrap_or_else(PoisonError::into_inner).jobs.push_back(job);
        self.queue.1.notify_one();
    }

    /// Forgets what waits and ends the threads once they are done with what they do.
    pub(crate) fn close(self) {
        {
            let mut queue = self.queue.0.lock().unwrap_or_else(PoisonError::into_inner);
            queue.closed = true;
            queue.jobs.clear();
        }
        self.queue.1.notify_all();
        for thread in self.threads {
            // Jobs catch their own panics.
            let _ = thread.join();
        }
    }
}

fn work(queue: &(Mutex<Queue>, Condvar)) {
    loop {
        let mut waiting = queue.0.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.jobs.is_empty() && !waiting.closed {
            waiting = queue.1.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let Some(job) = waiting.jobs.pop_front() else { return };
        drop(waiting);
        job();
    }
}
