//! The session: one run of a job. It asks the hosts what there is, takes every VM through its steps as soon as its slots
//! are granted, orders a task per disk, tries failed VMs again inside the same session, and ends with its worst part.
//! Success needs positive proof for each VM: a committed point, a sealed point whose checksums agree at both ends, a
//! restored disk whose checksum is the point's. Whatever happened, it lets go of everything that it asked for.
//!
//! `start` asks and plans, `steps` takes a VM forward, `tasks` orders and ends disk tasks, `finish` ends VMs and the
//! session, `answers` says to which VM an answer belongs.

mod answers;
mod decide;
mod evolve;
mod finish;
mod rejection;
mod start;
mod steps;
mod tasks;
#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "a test names what it looks at and leaves the rest out")]
mod tests;

pub use rejection::Rejection;
pub(crate) use steps::{broker_of, differs};

use crate::decider::{Context, Decider, Decision, Input};
use crate::transfer::Transfer;
use farshore_schemas::ids::{Address, Kind, Name, PointId, TaskId, VmName, VmRef};
use farshore_schemas::messages::agent::{DiskFacts, Endpoint, Failure, Moved};
use farshore_schemas::messages::host::VmFacts;
use farshore_schemas::messages::job::{JobSpec, Retry, Work};
use farshore_schemas::messages::mover::Role;
use farshore_schemas::messages::repository::RestorePoint;
use farshore_schemas::messages::session::{Command, Event, SessionState, VmEnd};
use farshore_schemas::messages::{Message, SessionResult};
use farshore_schemas::units::{ByteCount, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a session knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// It has not begun.
    #[default]
    New,
    /// It has begun, and maybe ended.
    Begun(Box<Run>),
}

/// A session that has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its job.
    pub job: Name,
    /// The job's definition when it began.
    pub spec: JobSpec,
    /// Retry; none for a run started by hand.
    pub retry: Option<Retry>,
    /// When it began.
    pub begun: Timestamp,
    /// Where it stands.
    pub phase: Phase,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Ordinal of the next task: never used twice.
    pub next_task: u64,
    /// Hosts that have answered in this attempt.
    #[serde(with = "crate::pairs")]
    pub hosts: BTreeMap<Address, HostIs>,
    /// The repository that lets us in.
    pub access: Access,
    /// Brokers that were asked for slots.
    pub brokers: BTreeSet<Address>,
    /// The VMs.
    pub vms: BTreeMap<VmName, Vm>,
    /// Totals over all disks and attempts.
    pub moved: Moved,
    /// Why there are no VMs, or why the session was stopped.
    pub failure: Option<Failure>,
}

/// Where a session stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    /// Hosts were asked.
    Starting {
        /// They must have answered by then.
        until: Timestamp,
    },
    /// VMs are worked on.
    Working,
    /// Failed VMs wait for the next attempt.
    RetryWait {
        /// Until when.
        until: Timestamp,
    },
    /// Told to stop; VMs wind down.
    Stopping,
    /// It has ended.
    Stopped {
        /// Its worst part.
        result: SessionResult,
        /// When.
        at: Timestamp,
    },
}

/// A host that has answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostIs {
    /// The mover that drives it.
    pub mover: Name,
    /// Its VMs; dropped once they are planned.
    pub vms: Vec<VmFacts>,
}

/// The access to the repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Access {
    /// Not asked for.
    None,
    /// Asked for.
    Asked {
        /// Of whom.
        repository: Address,
        /// Given up after this.
        until: Timestamp,
    },
    /// Open.
    Open {
        /// Where.
        repository: Address,
        /// The data channel there.
        endpoint: Endpoint,
        /// To be shown there.
        access: TaskId,
        /// The points that may be needed.
        points: Vec<RestorePoint>,
    },
    /// Not to be had in this attempt.
    Failed {
        /// Why.
        failure: Failure,
    },
}

/// A slot that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// The broker.
    pub broker: Address,
    /// The role.
    pub role: Role,
    /// The mover and its data channel, once granted.
    pub granted: Option<(Name, Endpoint)>,
}

/// A VM that is frozen for reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    /// The snapshot.
    pub snapshot: Name,
    /// The disks.
    pub disks: Vec<DiskFacts>,
    /// When.
    pub taken: Timestamp,
}

/// A VM of this session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vm {
    /// Where it stands (for a restore: will stand).
    pub vm: VmRef,
    /// The point that this attempt makes, or that is restored.
    pub point: PointId,
    /// Slots asked for and not released.
    pub slots: BTreeMap<Name, Slot>,
    /// The host that was asked to freeze it and not told that reading has ended.
    pub reading: Option<Address>,
    /// The replica that was asked to receive its point.
    pub replica: Option<Address>,
    /// The newest point that the replica has.
    pub base: Option<PointId>,
    /// The view that is read.
    pub frozen: Option<Frozen>,
    /// Its disks on their way.
    pub transfer: Transfer,
    /// Where it stands.
    pub step: Step,
}

/// What a VM waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Nothing yet.
    Planned,
    /// Slots.
    Slots {
        /// Given up after this.
        until: Timestamp,
    },
    /// The repository.
    Access {
        /// Given up after this.
        until: Timestamp,
    },
    /// To be frozen.
    Read {
        /// Given up after this.
        until: Timestamp,
    },
    /// To be made (restore).
    Create {
        /// Given up after this.
        until: Timestamp,
    },
    /// The replica.
    Point {
        /// Given up after this.
        until: Timestamp,
    },
    /// Its disks.
    Moving {
        /// Given up after this.
        until: Timestamp,
    },
    /// The repository's commit, or the replica's seal.
    Committing {
        /// Given up after this.
        until: Timestamp,
    },
    /// Cancelled tasks to end.
    Winding {
        /// Why.
        failure: Failure,
        /// Left behind after this.
        until: Timestamp,
    },
    /// Nothing more in this attempt.
    Ended(VmEnd),
}

impl Step {
    /// When the wait is given up.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        match self {
            Step::Planned | Step::Ended(_) => None,
            Step::Slots { until }
            | Step::Access { until }
            | Step::Read { until }
            | Step::Create { until }
            | Step::Point { until }
            | Step::Moving { until }
            | Step::Committing { until }
            | Step::Winding { until, .. } => Some(*until),
        }
    }

    /// What is waited for, in words.
    pub(crate) fn waits_for(&self) -> &'static str {
        match self {
            Step::Planned | Step::Ended(_) => "nothing",
            Step::Slots { .. } => "a slot",
            Step::Access { .. } => "the repository's access",
            Step::Read { .. } => "the host's snapshot",
            Step::Create { .. } => "the new VM",
            Step::Point { .. } => "the replica",
            Step::Moving { .. } => "the end of the transfer",
            Step::Committing { .. } => "the proof that the point is durable",
            Step::Winding { .. } => "the end of cancelled tasks",
        }
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<&VmEnd> {
        match self {
            Step::Ended(end) => Some(end),
            Step::Planned
            | Step::Slots { .. }
            | Step::Access { .. }
            | Step::Read { .. }
            | Step::Create { .. }
            | Step::Point { .. }
            | Step::Moving { .. }
            | Step::Committing { .. }
            | Step::Winding { .. } => None,
        }
    }
}

impl Run {
    /// State for people and views (field.md 1.2).
    pub fn shown(&self) -> SessionState {
        match &self.phase {
            Phase::Starting { .. } => SessionState::Starting,
            Phase::RetryWait { .. } => SessionState::RetryWait,
            Phase::Stopping => SessionState::Stopping,
            Phase::Stopped { .. } => SessionState::Stopped,
            Phase::Working => {
                let left: Vec<&Step> =
                    self.vms.values().map(|vm| &vm.step).filter(|step| step.end().is_none()).collect();
                let all = |test: fn(&Step) -> bool| !left.is_empty() && left.iter().all(|step| test(step));
                if all(|step| matches!(step, Step::Slots { .. })) {
                    SessionState::WaitingSlot
                } else if all(|step| matches!(step, Step::Committing { .. })) {
                    SessionState::Postprocessing
                } else {
                    SessionState::Working
                }
            }
        }
    }

    /// The result so far (field.md P25): `None` until it has ended.
    pub fn result(&self) -> SessionResult {
        match &self.phase {
            Phase::Starting { .. } | Phase::Working | Phase::RetryWait { .. } | Phase::Stopping => SessionResult::None,
            Phase::Stopped { result, .. } => *result,
        }
    }

    /// What its VMs have added to the stores.
    pub fn stored(&self) -> ByteCount {
        self.vms.values().filter_map(|vm| vm.step.end()).map(|end| end.stored).sum()
    }

    /// The host that is read, or where the restored VM is made.
    pub(crate) fn source_host(&self, me: &Address) -> Address {
        match &self.spec.work {
            Work::Backup { host, .. } | Work::Restore { host, .. } => Address::new(&me.site, Kind::Host, host),
            Work::Replication { source_site, source_host, .. } => Address::new(source_site, Kind::Host, source_host),
        }
    }

    /// The repository that is used.
    pub(crate) fn repository(&self, me: &Address) -> Address {
        match &self.spec.work {
            Work::Backup { repository, .. } | Work::Restore { repository, .. } => {
                Address::new(&me.site, Kind::Repository, repository)
            }
            Work::Replication { source_site, digests, .. } => Address::new(source_site, Kind::Repository, digests),
        }
    }

    /// The hosts that must answer before anything is planned.
    pub(crate) fn asked_hosts(&self, me: &Address) -> Vec<Address> {
        let source = self.source_host(me);
        match &self.spec.work {
            Work::Backup { .. } | Work::Restore { .. } => vec![source],
            Work::Replication { target_host, .. } => vec![source, Address::new(&me.site, Kind::Host, target_host)],
        }
    }
}

/// The session's rules.
#[derive(Debug)]
pub struct SessionActor;

impl Decider for SessionActor {
    const KIND: Kind = Kind::Session;
    type State = State;
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    #[expect(clippy::wildcard_enum_match_arm, reason = "every other message is for another actor")]
    fn command(message: &Message) -> Option<&Command> {
        match message {
            Message::Session(command) => Some(command),
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
        let run = match state {
            State::New => return None,
            State::Begun(run) => run,
        };
        let own = match &run.phase {
            Phase::Starting { until } | Phase::RetryWait { until } => Some(*until),
            Phase::Working | Phase::Stopping => None,
            Phase::Stopped { .. } => return None,
        };
        let access = match &run.access {
            Access::Asked { until, .. } => Some(*until),
            Access::None | Access::Open { .. } | Access::Failed { .. } => None,
        };
        run.vms.values().filter_map(|vm| vm.step.until()).chain(own).chain(access).min()
    }
}
