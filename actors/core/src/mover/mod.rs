//! The mover actor: one agent process with its roles, slots and endpoint. Tasks of sessions and replicas of any site go
//! through it, because an agent obeys only its own site's control. It passes orders on and outcomes back, tells hosts
//! and repositories that named it when the agent is there, and tells the broker what it is. It chooses nothing.

mod decide;
mod evolve;
mod rejection;
#[cfg(test)]
mod tests;

pub use rejection::Rejection;

use crate::decider::{Context, Decider, Decision, Input};
use farshore_schemas::ids::{Address, Kind, Lineage, TaskId};
use farshore_schemas::messages::Message;
use farshore_schemas::messages::agent::{Endpoint, Order};
use farshore_schemas::messages::mover::{Command, Event, MoverSpec};
use farshore_schemas::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a mover knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// Not defined yet, or removed.
    Undefined {
        /// The agent as it was seen before the removal: it says hello only when it connects.
        agent: Option<Agent>,
    },
    /// Defined.
    Defined(Box<Defined>),
}

impl Default for State {
    fn default() -> Self {
        State::Undefined { agent: None }
    }
}

/// A defined mover.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Defined {
    /// By the operator.
    pub spec: MoverSpec,
    /// Its agent, once it has said hello.
    pub agent: Option<Agent>,
    /// Hosts and repositories that name it.
    pub registered: BTreeSet<Address>,
    /// Orders that the agent has not answered.
    #[serde(with = "crate::pairs")]
    pub tasks: BTreeMap<TaskId, Task>,
}

/// An agent as it last said hello.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its incarnation.
    pub incarnation: Lineage,
    /// Its data channel.
    pub endpoint: Endpoint,
    /// Its program version.
    pub version: String,
    /// CPU cores of its machine.
    pub cores: u32,
    /// The lineage of the log that heard it, if that was noted.
    pub under: Option<Lineage>,
    /// When.
    pub seen: Timestamp,
}

/// An order that the agent has not answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// As it was, or will be, sent.
    pub order: Order,
    /// Whether its owner wants it stopped.
    pub cancelling: bool,
}

/// The mover's rules.
#[derive(Debug)]
pub struct Mover;

impl Decider for Mover {
    const KIND: Kind = Kind::Mover;
    type State = State;
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    fn command(message: &Message) -> Option<&Command> {
        if let Message::Mover(command) = message { Some(command) } else { None }
    }

    fn decide(state: &State, input: &Input<Command>, context: &Context) -> Result<Decision<Event>, Rejection> {
        decide::decide(state, input, context)
    }

    fn evolve(state: &mut State, event: &Event) {
        evolve::evolve(state, event);
    }

    /// The agent is welcomed again. It knows that already, but under a lineage that was renewed meanwhile it hears so at once,
    /// and comes anew with all that it knows; else it might not before it has something to report. Until it has come under this
    /// lineage it is not counted on: orders wait, and no slot is granted for its former address and key.
    fn resume(state: &State, context: &Context) -> Decision<Event> {
        let agent = match state {
            State::Undefined { agent } => agent.as_ref(),
            State::Defined(mover) => mover.agent.as_ref(),
        };
        agent.map_or_else(Decision::none, |agent| decide::resume(state, agent, context))
    }
}
