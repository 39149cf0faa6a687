//! The broker of a site: who gets a slot on which mover. It ranks candidates by transport mode and load, serves higher
//! priority first and then the order of arrival, and says why. It exists from the site's first moment and is never
//! defined; it learns movers from their actors, and holders give back what they were given. It starts nothing.

mod choose;
mod decide;
mod evolve;
mod rejection;
#[cfg(test)]
mod tests;

pub use rejection::Rejection;

use crate::decider::{Context, Decider, Decision, Input};
use farshore_schemas::ids::{Address, Kind, Name};
use farshore_schemas::messages::Message;
use farshore_schemas::messages::agent::Endpoint;
use farshore_schemas::messages::broker::{Command, Event, Priority};
use farshore_schemas::messages::mover::{MoverSpec, Role};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a broker knows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// Movers of the site.
    pub movers: BTreeMap<Name, MoverState>,
    /// Slots given, by holder and the holder's name for the slot.
    #[serde(with = "crate::pairs")]
    pub leases: BTreeMap<(Address, Name), Lease>,
    /// Slots asked for and not given yet.
    #[serde(with = "crate::pairs")]
    pub waiting: BTreeMap<(Address, Name), Wait>,
    /// Requests so far: the next one's place in the order of arrival.
    pub arrivals: u64,
}

/// A mover as its actor described it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MoverState {
    /// Its definition.
    pub spec: MoverSpec,
    /// Its data channel; none while its agent is out of reach.
    pub endpoint: Option<Endpoint>,
}

/// A slot that was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// On which mover.
    pub mover: Name,
    /// Why there.
    pub reasons: Vec<String>,
    /// How often the holder was told and has not refused to hear it.
    pub told: u32,
}

/// A slot that is waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wait {
    /// The role needed.
    pub role: Role,
    /// The mover that must do it, if one must.
    pub must: Option<Name>,
    /// Its priority.
    pub priority: Priority,
    /// Its place in the order of arrival.
    pub arrival: u64,
}

impl State {
    /// Slots of a mover that are given.
    pub fn used(&self, mover: &Name) -> u32 {
        u32::try_from(self.leases.values().filter(|lease| lease.mover == *mover).count()).unwrap_or(u32::MAX)
    }
}

/// The broker's rules.
#[derive(Debug)]
pub struct Broker;

impl Decider for Broker {
    const KIND: Kind = Kind::Broker;
    type State = State;
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    fn command(message: &Message) -> Option<&Command> {
        if let Message::Broker(command) = message { Some(command) } else { None }
    }

    fn decide(state: &State, input: &Input<Command>, context: &Context) -> Result<Decision<Event>, Rejection> {
        decide::decide(state, input, context)
    }

    fn evolve(state: &mut State, event: &Event) {
        evolve::evolve(state, event);
    }
}
