//! The repository actor: which restore points exist, which are held, and when forgotten ones may be pruned (P6).
//!
//! A point exists once its agent has confirmed every chunk and the manifest as durable, with the checksums that the
//! session proved. Deletion never takes what somebody counts on: retention forgets a point (it can no longer be opened), a
//! mark writes down what would go with it, a sweep moves that into the trash once every access that stood at the mark has
//! ended, and the trash is emptied after a hold. An access stands from the moment it is asked for until the agent has shut
//! it. The folder itself is the agent's; this actor never names a chunk.

mod access;
mod decide;
mod evolve;
mod holds;
#[cfg(test)]
mod holds_tests;
pub mod keep;
#[cfg(test)]
mod keep_tests;
mod log;
#[cfg(test)]
mod log_tests;
mod points;
#[cfg(test)]
mod points_tests;
mod prune;
#[cfg(test)]
mod prune_tests;
#[cfg(test)]
mod random_tests;
mod rejection;
mod retention;
#[cfg(test)]
mod retention_tests;
#[cfg(test)]
mod tests;

pub use log::{LogCopy, LogKept, LogNotKept};
pub use rejection::Rejection;
pub use retention::Calendar;

use crate::decider::{Context, Decider, Decision, Input};
use crate::orders::{Link, Orders};
use farshore_schemas::ids::{Address, Digest, Kind, Name, PointId, TaskId, VmRef};
use farshore_schemas::messages::Message;
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::messages::repository::{Command, Event, Hold, Purpose, RepositorySpec, RestorePoint, Work};
use farshore_schemas::units::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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
    /// How many points were ever made here.
    pub made: u64,
    /// Which points of each VM and job stay, as its last point said.
    #[serde(with = "crate::pairs")]
    pub rules: BTreeMap<(VmRef, Name), Keep>,
    /// The time by which points are old; none until a rule of dates asked for it.
    pub calendar: Option<Calendar>,
    /// Points that retention forgot, or that were refused once they were durable, and that the agent has not dropped yet.
    pub forgotten: BTreeMap<PointId, Point>,
    /// Who holds what is there; at most one access per holder.
    #[serde(with = "crate::pairs")]
    pub accesses: BTreeMap<Address, Access>,
    /// The prune whose mark is confirmed and whose sweep has not ended.
    pub marked: Option<Marked>,
    /// When a prune that failed begins anew.
    pub prune_again: Option<Timestamp>,
    /// What lies in the trash, by the prune that moved it there.
    pub trash: BTreeMap<u64, Trash>,
    /// The copy of the site's log in it.
    pub log: LogCopy,
}

/// A prune between mark and sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Marked {
    /// The log position that names it.
    pub mark: u64,
    /// The points that go.
    pub points: Vec<PointId>,
    /// Holders of the accesses that stood when the mark was confirmed and stand still: the sweep waits for them.
    pub waits: BTreeSet<Address>,
}

/// What a sweep has put into the trash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trash {
    /// Since when it lies there.
    pub since: Timestamp,
    /// How long it lies there at least. Only ever lengthened.
    pub hold: Millis,
    /// When the agent is asked to delete it.
    pub due: Timestamp,
    /// Holders of accesses that stood at the sweep and stand still.
    pub accesses: BTreeSet<Address>,
    /// Checks, by the ordinals of their orders, that were under way at the sweep and still are.
    pub checks: BTreeSet<u64>,
}

/// A restore point in the repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// What it is.
    pub facts: RestorePoint,
    /// How many points were made here before it: their order, which no clock changes.
    pub made: u64,
    /// Who holds it against retention, if somebody does or did until a date that has come.
    pub held: Option<Hold>,
    /// Until when it must stay, whatever retention or an operator says.
    pub immutable: Option<Timestamp>,
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
    /// It is asked for; the order that opens it follows at once.
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
        let mark = repository.prune_again.filter(|_| repository.marks_later());
        let empty = repository.next_emptying().map(|(_, trash)| trash.due);
        closes
            .chain(repository.link.again)
            .chain(mark)
            .chain(empty)
            .chain(repository.next_look())
            .chain(repository.log.again())
            .min()
    }
}
