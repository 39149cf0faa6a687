//! The demo's table.

use crate::output::hint;
use farshore_schemas::units::ByteCount;
use serde::Serialize;
use std::time::{Duration, Instant};

/// A step that has ended well; one that has not ends the demo.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) step: String,
    pub(crate) took_ms: u128,
    pub(crate) moved: Option<Moved>,
    pub(crate) outcome: String,
    pub(crate) proof: String,
}

/// Bytes of a step that moves data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Moved {
    pub(crate) read: u64,
    pub(crate) changed: u64,
    pub(crate) sent: u64,
}

/// What a step says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    pub(crate) moved: Option<Moved>,
    pub(crate) outcome: String,
    pub(crate) proof: String,
}

impl Done {
    pub(crate) fn new(outcome: impl Into<String>, proof: impl Into<String>) -> Self {
        Done { moved: None, outcome: outcome.into(), proof: proof.into() }
    }

    pub(crate) fn moving(mut self, moved: Moved) -> Self {
        self.moved = Some(moved);
        self
    }
}

impl Row {
    pub(crate) fn cells(&self) -> Vec<String> {
        let moved = self.moved.map(|moved| {
            format!(
                "{} read, {} changed, {} sent",
                ByteCount(moved.read),
                ByteCount(moved.changed),
                ByteCount(moved.sent)
            )
        });
        vec![
            self.step.clone(),
            format!("{:.1} s", Duration::from_millis(u64::try_from(self.took_ms).unwrap_or(u64::MAX)).as_secs_f64()),
            moved.unwrap_or_default(),
            self.outcome.clone(),
            self.proof.clone(),
        ]
    }
}

/// Collects rows and says them as they come.
pub(crate) struct Report {
    rows: Vec<Row>,
    quiet: bool,
    since: Instant,
}

impl Report {
    pub(crate) fn new(quiet: bool) -> Self {
        Report { rows: Vec::new(), quiet, since: Instant::now() }
    }

    /// A step begins.
    pub(crate) fn begin(&mut self, step: &str) {
        self.since = Instant::now();
        hint(self.quiet, &format!("… {step}"));
    }

    /// It has ended well.
    pub(crate) fn end(&mut self, step: &str, done: Done) {
        let took = self.since.elapsed();
        hint(self.quiet, &format!("  {step}: {} ({:.1} s)", done.outcome, took.as_secs_f64()));
        self.rows.push(Row {
            step: step.to_owned(),
            took_ms: took.as_millis(),
            moved: done.moved,
            outcome: done.outcome,
            proof: done.proof,
        });
    }

    pub(crate) fn into_rows(self) -> Vec<Row> {
        self.rows
    }
}
