//! The site actor: who this site is to its peers, and what it has seen of them. Hellos come from another site's control
//! on every connect; what a peer says it has heard of us is compared with what it said before, so that a log restored
//! from an old copy under its old lineage is noticed. It alarms and never repairs: nothing follows from an alarm here.

mod decide;
mod evolve;
mod rejection;
#[cfg(test)]
mod tests;

pub use rejection::Rejection;

use crate::decider::{Context, Decider, Decision, Input};
use farshore_schemas::ids::{Digest, Kind, Lineage, Seq, SiteName};
use farshore_schemas::messages::Message;
use farshore_schemas::messages::site::{Command, Event, SiteSpec};
use farshore_schemas::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a site knows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum State {
    /// Not defined yet.
    #[default]
    Undefined,
    /// Defined.
    Defined {
        /// By the operator.
        spec: SiteSpec,
        /// Peers that have said hello, of those that the definition names.
        peers: BTreeMap<SiteName, Peer>,
    },
}

/// A peer as it was last seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its lineage.
    pub lineage: Lineage,
    /// The last seq of ours that it has heard, with that frame's hash.
    pub heard: Option<(Seq, Digest)>,
    /// Its program version.
    pub version: String,
    /// When it last said hello.
    pub seen: Timestamp,
    /// Alarms since it was named as a peer.
    pub alarms: u64,
}

/// The site's rules.
#[derive(Debug)]
pub struct Site;

impl Decider for Site {
    const KIND: Kind = Kind::Site;
    type State = State;
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    fn command(message: &Message) -> Option<&Command> {
        if let Message::Site(command) = message { Some(command) } else { None }
    }

    fn decide(state: &State, input: &Input<Command>, context: &Context) -> Result<Decision<Event>, Rejection> {
        decide::decide(state, input, context)
    }

    fn evolve(state: &mut State, event: &Event) {
        evolve::evolve(state, event);
    }
}
