//! What the rig has found: each violation is said at once, with the number of the kill that came before it.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Counts and violations of one run, shared by all threads.
pub(crate) struct Findings {
    begun: Instant,
    violations: Mutex<Vec<String>>,
    pub(crate) kills: AtomicU64,
    pub(crate) restarts: AtomicU64,
    /// Sites taken down with their guests, as a lost site would be.
    pub(crate) losses: AtomicU64,
    pub(crate) jobs: AtomicU64,
    /// Of these, ended otherwise than with success: a normal answer while processes are killed.
    pub(crate) jobs_failed: AtomicU64,
    pub(crate) failovers: AtomicU64,
    pub(crate) failbacks: AtomicU64,
    /// Restored disks that were compared.
    pub(crate) restores: AtomicU64,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Reads a counter.
pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Findings {
    pub(crate) fn new() -> Findings {
        Findings {
            begun: Instant::now(),
            violations: Mutex::default(),
            kills: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            jobs: AtomicU64::new(0),
            jobs_failed: AtomicU64::new(0),
            failovers: AtomicU64::new(0),
            failbacks: AtomicU64::new(0),
            restores: AtomicU64::new(0),
        }
    }

    /// A promise was broken.
    pub(crate) fn violation(&self, what: &str) {
        let line = format!("violation after kill {}: {what}", read(&self.kills));
        self.say(&line);
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// How many promises were broken.
    pub(crate) fn violations(&self) -> usize {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A line of progress. A closed standard error is no reason to stop.
    pub(crate) fn say(&self, line: &str) {
        let _closed = writeln!(std::io::stderr(), "{:7.2} {line}", self.begun.elapsed().as_secs_f64());
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }
}
