//! The job: what is protected, when, how often retried, how many points are kept. It starts sessions one at a time and
//! learns their ends. Due slots are computed from its state, never stored; slots that were missed (a stop of the process,
//! a run that took long) coalesce into one run, whose event says how many they were.

mod decide;
mod evolve;
mod rejection;
pub(crate) mod schedule;
#[cfg(test)]
mod tests;

pub use rejection::Rejection;

use crate::decider::{Context, Decider, Decision, Input};
use farshore_schemas::ids::{Kind, Name, VmRef};
use farshore_schemas::messages::job::{Command, Event, JobSpec};
use farshore_schemas::messages::{Message, SessionResult};
use farshore_schemas::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest name of a job: what its sessions and points are called follows from it and must fit 63 bytes.
pub const LONGEST_NAME: usize = 40;

/// What a job knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// It does not exist yet.
    #[default]
    New,
    /// It is defined.
    Defined(Box<Job>),
    /// It was forgotten; run numbers go on from here if it is defined again.
    Removed {
        /// Runs so far.
        runs: u64,
    },
}

/// A job that is defined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its definition.
    pub spec: JobSpec,
    /// Whether its schedule counts.
    pub enabled: bool,
    /// Slots that count at or before this are dealt with.
    pub cursor: Timestamp,
    /// Runs so far.
    pub runs: u64,
    /// The run under way.
    pub running: Option<Running>,
    /// The run before.
    pub last: Option<LastRun>,
    /// When each VM was last protected: feeds `last_success_timestamp_seconds`.
    #[serde(with = "crate::pairs")]
    pub last_success: BTreeMap<VmRef, Timestamp>,
}

/// A run under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Its session.
    pub session: Name,
    /// Since when.
    pub started: Timestamp,
    /// Whether it was told to stop.
    pub stopping: bool,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastRun {
    /// Its session.
    pub session: Name,
    /// Its result.
    pub result: SessionResult,
    /// When it ended.
    pub ended: Timestamp,
}

/// The job's rules.
#[derive(Debug)]
pub struct JobActor;

impl Decider for JobActor {
    const KIND: Kind = Kind::Job;
    type State = State;
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    #[expect(clippy::wildcard_enum_match_arm, reason = "every other message is for another actor")]
    fn command(message: &Message) -> Option<&Command> {
        match message {
            Message::Job(command) => Some(command),
            _ => None,
        }
    }

    fn decide(state: &State, input: &Input<Command>, context: &Context) -> Result<Decision<Event>, Rejection> {
        decide::decide(state, input, context)
    }

    fn evolve(state: &mut State, event: &Event) {
        evolve::evolve(state, event);
    }

    fn next_wake(state: &State) -> Option<Timestamp> {
        match state {
            State::New | State::Removed { .. } => None,
            State::Defined(job) if job.enabled && job.running.is_none() => {
                schedule::next(&job.spec.schedule, job.cursor).map(|slot| slot.at)
            }
            State::Defined(_) => None,
        }
    }
}
