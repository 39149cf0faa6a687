//! What must hold at every step, whoever crashes. Each checker names the promise (ARCHITECTURE.md) that it holds. They look
//! at the truth (the disks, the world, what was put on the bus), not at what a process believes. A broken promise is a
//! value, never a panic.

mod effects;
mod log;
mod points;
mod running;

use farshore_schemas::ids::EntityId;
use serde::Serialize;
use std::collections::BTreeSet;

pub(crate) use points::state_of;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// In which step of the run.
    pub step: u64,
    /// Virtual time since the run began, in milliseconds.
    pub at_ms: i64,
    /// The promise: P1 to P10, or `liveness`.
    pub promise: &'static str,
    /// What was seen.
    pub text: String,
}

/// More than so many violations of one run are not kept: the first ones tell.
const KEPT: usize = 20;

/// All checkers of a run.
#[derive(Debug, Default)]
pub(crate) struct Checkers {
    pub(crate) violations: Vec<Violation>,
    step: u64,
    now: i64,
    log: log::LogChecker,
    effects: effects::EffectChecker,
    running: running::RunningChecker,
    /// Sessions whose success was looked at.
    proven_sessions: BTreeSet<(usize, EntityId)>,
}

impl Checkers {
    /// The step that everything until the next call belongs to.
    pub(crate) fn at(&mut self, step: u64, now: i64) {
        self.step = step;
        self.now = now - crate::layout::BEGIN;
    }

    /// Whether so much is broken that going on tells nothing more.
    pub(crate) fn enough(&self) -> bool {
        self.violations.len() >= KEPT
    }

    /// A promise is broken.
    pub(crate) fn violate(&mut self, promise: &'static str, text: String) {
        if self.violations.len() < KEPT {
            self.violations.push(Violation { step: self.step, at_ms: self.now, promise, text });
        }
    }
}
