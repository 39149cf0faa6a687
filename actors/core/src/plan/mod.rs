//! The failover plan: replicas in order, a delay after each, at most so many under way. One run does one thing with the
//! whole group. A replica for which it is done already answers at once, so that a run that failed in part can be run again
//! and goes on with what is left.

mod decide;
mod evolve;
mod rejection;
#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "a test names what it looks at and leaves the rest out")]
mod tests;

pub use rejection::Rejection;

use crate::decider::{Context, Decider, Decision, Input};
use farshore_schemas::ids::{Kind, Name};
use farshore_schemas::messages::agent::Failure;
use farshore_schemas::messages::plan::{Action, Command, Event, PlanSpec, Step};
use farshore_schemas::messages::replica::PointChoice;
use farshore_schemas::messages::{Message, Override, SessionResult};
use farshore_schemas::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a plan knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// It does not exist.
    #[default]
    New,
    /// It is defined and nothing is under way.
    Idle {
        /// Its definition.
        spec: PlanSpec,
        /// The run before.
        last: Option<Report>,
    },
    /// It runs.
    Running {
        /// Its definition.
        spec: PlanSpec,
        /// The run.
        run: Box<Run>,
    },
}

/// A run under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// What it does.
    pub action: Action,
    /// For failover: which points.
    pub point: PointChoice,
    /// The override, if there is one.
    pub forced: Option<Override>,
    /// When it began.
    pub started: Timestamp,
    /// Replicas that were not told yet, next first.
    pub left: Vec<Step>,
    /// The next one is not told before this.
    pub next: Timestamp,
    /// Replicas that were told and have not answered.
    pub under_way: BTreeSet<Name>,
    /// Those that have answered.
    pub ended: BTreeMap<Name, Option<Failure>>,
}

impl Run {
    /// Whether another may be told as far as the cap goes.
    pub(crate) fn has_room(&self, spec: &PlanSpec) -> bool {
        let cap = usize::try_from(spec.concurrency).unwrap_or(usize::MAX);
        !self.left.is_empty() && self.under_way.len() < cap
    }
}

/// How a run came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What it did.
    pub action: Action,
    /// Its worst step.
    pub result: SessionResult,
    /// Each replica's answer.
    pub steps: BTreeMap<Name, Option<Failure>>,
    /// When it ended.
    pub ended: Timestamp,
}

/// The plan's rules.
#[derive(Debug)]
pub struct PlanActor;

impl Decider for PlanActor {
    const KIND: Kind = Kind::Plan;
    type State = State;
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    #[expect(clippy::wildcard_enum_match_arm, reason = "every other message is for another actor")]
    fn command(message: &Message) -> Option<&Command> {
        match message {
            Message::Plan(command) => Some(command),
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
            State::New | State::Idle { .. } => None,
            State::Running { spec, run } => run.has_room(spec).then_some(run.next),
        }
    }
}
