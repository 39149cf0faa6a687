//! An agent's task table: what it was told, what came of it, and the highest epoch it has seen. All of that is rebuilt
//! from records, so that an agent that crashed goes on where it was, starts nothing twice that has ended, and never
//! obeys an epoch that was overtaken.
//!
//! The table decides and the shell does: every call returns [`Action`]s in the order in which they must happen, and an
//! [`Action::Persist`] must be durable before anything after it. The agent process and the simulator are both such
//! shells. There is no clock, chance or I/O in here. What tasks do to disks is none of its business.
//!
//! Memory is bounded: see [`TaskTable::snapshot`].

mod accept;
mod admission;
mod outbox;
mod record;
mod state;
mod table;

pub use record::{Fact, Record, Refusal, RepositoryPlace};
pub use state::{EndedTask, OpenTask, RebuildError, State};
pub use table::{About, Action, Identity, TaskTable};

/// Ended tasks that are remembered at least: what is beyond both this count and [`REMEMBER_FOR`] is forgotten at the next snapshot.
pub const REMEMBER_COUNT: usize = 10_000;
/// How long an ended task is remembered at least.
pub const REMEMBER_FOR: farshore_schemas::units::Millis = farshore_schemas::units::Millis::from_mins(30 * 24 * 60);
/// Ended and acked tasks whose outcome, not only whose id, outlives a snapshot: a control that was restored from an
/// older copy asks for the latest ones again.
pub const REMEMBER_OUTCOMES: usize = 256;
/// Open tasks at once; orders beyond are answered with `FS-AGENT-BUSY`.
pub const MAX_OPEN: usize = 10_000;

#[cfg(test)]
mod tests;
