//! The repository actor: which restore points exist, which are held, and when forgotten ones may be pruned (P6).
//!
//! A point exists once its agent has confirmed every chunk and the manifest as durable, with the checksums that the
//! session proved. Deletion has two phases: retention forgets a point (it can no longer be opened), and a prune drops
//! forgotten points only while nothing is open: an access holds everything from the moment it is asked for until the
//! agent has shut it. An access that is asked for during a prune waits for the prune's end. The folder itself is the
//! agent's; this actor never names a chunk.

mod access;
mod decide;
mod evolve;
mod log;
#[cfg(test)]
mod log_tests;
mod points;
#[cfg(test)]
mod points_tests;
#[cfg(test)]
mod random_tests;
mod rejection;
#[cfg(test)]
mod tests;

pub use log::{LogCopy, LogKept, LogNotKept};
pub use rejection::Rejection;

use crate::decider::{Context, Decider, Decision, Input};
use crate::orders::{Link, Orders};
use farshore_schemas::ids::{Address, Digest, Kind, PointId, TaskId, VmRef};
use farshore_schemas::messages::Message;
use farshore_schemas::messages::repository::{Command, Event, Purpose, RepositorySpec, RestorePoint, Work};
use farshore_schemas::units::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long after a prune or a closing failed it is tried again.
pub const RETRY_AFTER: Millis = Millis::from_mins(5);

/// What a repository knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// Not defined yet, or removed.
    Undefined {
        /// The ordinal of the next order: task ids are never used twice.
        next_order: u64,
    },
    /// Defined.
    Defined(Box<Defined>),
}

impl Default for State {
    fn default() -> Self {
        State::Undefined { next_order: 0 }
    }
}

/// A defined repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Defined {
    /// By the operator.
    pub spec: RepositorySpec,
    /// The link to its agent.
    pub link: Link,
    /// Orders that the agent has not answered.
    pub orders: Orders<Work>,
    /// Usable points.
    pub points: BTreeMap<PointId, Point>,
    /// Points that retention forgot, or that were refused once they were durable, and that the agent has not dropped yet.
    pub forgotten: BTreeMap<PointId, Point>,
    /// Who holds what is there; at most one access per holder.
    #[serde(with = "crate::pairs")]
    pub accesses: BTreeMap<Address, Access>,
    /// When a prune that failed is tried again.
    pub prune_again: Option<Timestamp>,
    /// The copy of the site's log in it.
    pub log: LogCopy,
}

/// A restore point in the repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// What it is.
    pub facts: RestorePoint,
    /// Whether an operator holds it against retention.
    pub held: bool,
    /// When it was last read through, and what was found.
    pub verified: Option<Verified>,
}

/// The result of reading a point through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// When.
    pub at: Timestamp,
    /// Chunks read.
    pub chunks: u64,
    /// Damage found, at most five lines.
    pub damage: Vec<String>,
    /// How many in all.
    pub damaged: u64,
}

/// An access: a hold on everything that is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// Why.
    pub purpose: Purpose,
    /// Certificates of the movers that come.
    pub peers: Vec<Digest>,
    /// The VMs concerned.
    pub vms: Vec<VmRef>,
    /// For reading: the point, which retention leaves alone meanwhile.
    pub point: Option<PointId>,
    /// How far it has come.
    pub status: AccessStatus,
}

/// How far an access has come. `access` is the task that opens it, by which the movers show it to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessStatus {
    /// For the end of a prune. Nothing was ordered yet.
    Waiting,
    /// The agent was told to open it.
    Opening {
        /// The access.
        access: TaskId,
    },
    /// It is open, and its holder was told.
    Open {
        /// The access.
        access: TaskId,
    },
    /// It was open; the agent has lost its memory and was told again.
    Reopening {
        /// The access.
        access: TaskId,
    },
    /// The agent could not open it; the holder was told and will close.
    Failed {
        /// The access.
        access: TaskId,
    },
    /// It is to be shut, and still holds.
    Closing {
        /// The access.
        access: TaskId,
    },
    /// The agent could not shut it.
    CloseFailed {
        /// The access.
        access: TaskId,
        /// When it is told again.
        again: Timestamp,
    },
}

impl AccessStatus {
    /// The access, once it was ordered.
    pub fn access(&self) -> Option<&TaskId> {
        match self {
            AccessStatus::Waiting => None,
            AccessStatus::Opening { access }
            | AccessStatus::Open { access }
            | AccessStatus::Reopening { access }
            | AccessStatus::Failed { access }
            | AccessStatus::Closing { access }
            | AccessStatus::CloseFailed { access, again: _ } => Some(access),
        }
    }
}

impl Defined {
    /// The newest usable point of a VM, whichever job made it.
    pub fn newest(&self, vm: &VmRef) -> Option<&RestorePoint> {
        let of_vm = self.points.values().map(|point| &point.facts).filter(|facts| facts.vm == *vm);
        of_vm.max_by_key(|facts| (facts.taken, facts.usable, &facts.point))
    }

    /// Whether a prune may be ordered, `but` for one order that ends and one holder whose access ends in this decision:
    /// nothing is open, being made, being checked or being pruned. The log's copy is no concern of a prune.
    pub(super) fn quiet(&self, but: Option<u64>, holder: Option<&Address>) -> bool {
        let accesses = self.accesses.keys().any(|open| Some(open) != holder);
        let counts = |work: &Work| !matches!(work, Work::KeepLog { .. });
        let orders = self.orders.open.iter().any(|(ordinal, open)| Some(*ordinal) != but && counts(&open.work));
        !accesses && !orders
    }

    /// Whether a prune is under way, `but` for an order that ends in this decision.
    pub(super) fn pruning(&self, but: Option<u64>) -> bool {
        let other = |(ordinal, _): &(&u64, _)| Some(**ordinal) != but;
        self.orders.open.iter().filter(other).any(|(_, open)| matches!(open.work, Work::Prune { .. }))
    }
}

/// The repository's rules.
#[derive(Debug)]
pub struct Repository;

impl Decider for Repository {
    const KIND: Kind = Kind::Repository;
    type State = State;
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    fn command(message: &Message) -> Option<&Command> {
        if let Message::Repository(command) = message { Some(command) } else { None }
    }

    fn decide(state: &State, input: &Input<Command>, context: &Context) -> Result<Decision<Event>, Rejection> {
        decide::decide(state, input, context)
    }

    fn evolve(state: &mut State, event: &Event) {
        evolve::evolve(state, event);
    }

    fn next_wake(state: &State) -> Option<Timestamp> {
        let State::Defined(repository) = state else { return None };
        let closes = repository.accesses.values().filter_map(|access| match &access.status {
            AccessStatus::CloseFailed { again, .. } => Some(*again),
            AccessStatus::Waiting
            | AccessStatus::Opening { .. }
            | AccessStatus::Open { .. }
            | AccessStatus::Reopening { .. }
            | AccessStatus::Failed { .. }
            | AccessStatus::Closing { .. } => None,
        });
        closes.chain(repository.link.again).chain(repository.prune_again).chain(repository.log.again()).min()
    }
}
