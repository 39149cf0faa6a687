//! The replica: one protected VM at its target. It owns the points of its store, and it grants the VM's epoch, which is
//! the right to run (P5): a new counter is recorded before any host is told, the old holder's guest is confirmed to be
//! off before another is granted, and only an override by name and reason, which is recorded too, goes past that.
//! States and transitions are those of field.md 1.5.
//!
//! `points` makes and seals points, `failover` covers failover and its undoing, `failback` the way back, `tasks` the
//! ends of tasks, `answers` what hosts and brokers say, `finish` how a transition ends well or badly.

mod answers;
mod decide;
mod evolve;
mod failback;
mod failover;
mod finish;
mod points;
mod rejection;
mod tasks;
#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    clippy::type_complexity,
    reason = "a test names what it looks at and leaves the rest out"
)]
mod tests;

pub use rejection::Rejection;

use crate::decider::{Context, Decider, Decision, Input};
use crate::transfer::Transfer;
use farshore_schemas::ids::{Address, Kind, Name, PointId, TaskId, VmName};
use farshore_schemas::messages::agent::{DiskFacts, DiskPoint, Endpoint, Failure};
use farshore_schemas::messages::replica::{
    Command, Event, FailoverRequest, Protection, ReplicaPoint, Rest, Side, Step, Transition,
};
use farshore_schemas::messages::{Epoch, Message};
use farshore_schemas::units::Timestamp;
use serde::{Deserialize, Serialize};

/// What a replica knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// Nothing was ever protected under this name.
    #[default]
    New,
    /// It exists, or has existed: its epoch counter is kept for ever.
    Known(Box<Known>),
}

/// A replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// What it protects.
    pub protection: Protection,
    /// Its points, oldest first.
    pub points: Vec<ReplicaPoint>,
    /// Points to keep, as its job said last.
    pub keep: u32,
    /// The right to run.
    pub right: Right,
    /// Ordinal of the next task: never used twice.
    pub next_task: u64,
    /// Rounds of slots so far: part of the slots' names.
    pub rounds: u64,
    /// The working VM, from the order that makes it to the proof that it is gone.
    pub working: Option<WorkingVm>,
    /// What is known of the production VM.
    pub production: Production,
    /// Where it stands.
    pub phase: Phase,
}

/// The right to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Right {
    /// The newest epoch; counter 0 is the source site's, from before anything was granted.
    pub epoch: Epoch,
    /// Who holds it; nobody while it changes hands.
    pub holder: Option<Side>,
}

/// Whether a guest runs. Unknown is a value (P9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guest {
    /// Confirmed off.
    Off,
    /// It was told to start and has not said that it runs.
    Unknown,
    /// It has said that it runs.
    On,
}

/// The VM made from a point at a failover.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkingVm {
    /// Its name.
    pub vm: VmName,
    /// From which point.
    pub point: PointId,
    /// Its disks.
    pub disks: Vec<DiskFacts>,
    /// Whether its guest runs.
    pub guest: Guest,
    /// When its guest was last switched off.
    pub off_at: Timestamp,
}

/// The production VM, as far as this replica has to do with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Production {
    /// It has not been confirmed to be off since it was last allowed to run.
    pub may_run: bool,
    /// It was asked to give up its right: undoing a failover starts it again.
    pub release_asked: bool,
    /// The mover of its host, once told.
    pub mover: Option<Name>,
}

/// Where a replica stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing is under way.
    Rest {
        /// Where.
        rest: Rest,
        /// What went wrong on the way here, or on a way that led back here.
        failure: Option<Failure>,
        /// Since when.
        since: Timestamp,
    },
    /// A session makes a point.
    Processing(Box<Processing>),
    /// A transition is under way.
    Working(Box<Work>),
}

/// A point in the making.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Processing {
    /// Whose.
    pub session: Address,
    /// Which.
    pub point: PointId,
    /// How far.
    pub making: Making,
    /// A failover that waits for its end, and until when.
    pub queued: Option<(FailoverRequest, Timestamp)>,
}

/// How far a point is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Making {
    /// The session moves data.
    Receiving,
    /// The store seals it.
    Sealing {
        /// The task.
        task: TaskId,
        /// When the source was frozen.
        taken: Timestamp,
        /// The source's proof.
        disks: Vec<DiskPoint>,
        /// Points merged away with it.
        forget: Vec<PointId>,
    },
    /// The store rolls back.
    RollingBack {
        /// The task.
        task: TaskId,
    },
    /// Rolling back has failed and is tried again.
    RollbackWait {
        /// When.
        again: Timestamp,
    },
}

/// A transition under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Which.
    pub transition: Transition,
    /// Where it began.
    pub from: Rest,
    /// The plan to be answered.
    pub asker: Option<Address>,
    /// What it waits for, and until when.
    pub wait: Option<(Step, Timestamp)>,
    /// For a failover: what was asked, and the point chosen.
    pub failover: Option<(FailoverRequest, PointId)>,
    /// For a failback or a switch: the way of the disks.
    pub carry: Carry,
}

/// The disks' way back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Carry {
    /// The round whose slots were asked for and not released.
    pub round: Option<u64>,
    /// The slot at the source site.
    pub source: Option<(Name, Endpoint)>,
    /// The slot here.
    pub here: Option<(Name, Endpoint)>,
    /// The host here was asked to freeze the working VM and not told that reading has ended.
    pub reading: bool,
    /// The snapshot.
    pub snapshot: Option<Name>,
    /// The disks.
    pub transfer: Transfer,
}

impl Known {
    /// Where it stands; what is under way counts as what it leads away from or, for a point, as Processing (none).
    pub fn rest(&self) -> Option<Rest> {
        match &self.phase {
            Phase::Rest { rest, .. } => Some(*rest),
            Phase::Working(work) => Some(work.from),
            Phase::Processing(_) => None,
        }
    }

    /// The production VM's host.
    pub(crate) fn source_host(&self) -> &Address {
        &self.protection.source_host
    }

    /// The host here.
    pub(crate) fn own_host(&self, me: &Address) -> Address {
        Address::new(&me.site, Kind::Host, &self.protection.host)
    }

    /// The host of a side.
    pub(crate) fn host_of(&self, side: Side, me: &Address) -> Address {
        match side {
            Side::Source => self.source_host().clone(),
            Side::Target => self.own_host(me),
        }
    }

    /// The mover here.
    pub(crate) fn own_mover(&self, me: &Address) -> Address {
        Address::new(&me.site, Kind::Mover, &self.protection.mover)
    }
}

/// The replica's rules.
#[derive(Debug)]
pub struct ReplicaActor;

impl Decider for ReplicaActor {
    const KIND: Kind = Kind::Replica;
    type State = State;
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    #[expect(clippy::wildcard_enum_match_arm, reason = "every other message is for another actor")]
    fn command(message: &Message) -> Option<&Command> {
        match message {
            Message::Replica(command) => Some(command),
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
        let known = match state {
            State::New => return None,
            State::Known(known) => known,
        };
        match &known.phase {
            Phase::Rest { .. } => None,
            Phase::Working(work) => work.wait.as_ref().map(|(_, until)| *until),
            Phase::Processing(processing) => {
                let again = match &processing.making {
                    Making::RollbackWait { again } => Some(*again),
                    Making::Receiving | Making::Sealing { .. } | Making::RollingBack { .. } => None,
                };
                processing.queued.iter().map(|(_, until)| *until).chain(again).min()
            }
        }
    }
}
