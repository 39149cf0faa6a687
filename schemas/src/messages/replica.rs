//! A replica: one protected VM at its target. It owns the points of its store and grants the VM's epoch, which is the
//! right to run (P5). States and transitions: field.md 1.5.

use super::agent::{DiskFacts, DiskPoint, Endpoint, Failure, Outcome};
use super::{Epoch, Override};
use crate::ids::{Address, Name, PointId, TaskId, VmName, VmRef};
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};

/// Which point to fail over to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PointChoice {
    /// The newest.
    Newest,
    /// This one.
    Point(PointId),
    /// The newest that was taken at or before this.
    AtOrBefore(Timestamp),
}

/// What a replica accepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// From a session of its job: make a point of this VM. Answered by `session::Command::PointOpened`.
    OpenPoint {
        /// The production VM.
        origin: VmRef,
        /// The host of the replica, at this site.
        host: Name,
        /// The mover that drives that host.
        mover: Name,
        /// The host actor that runs the production VM.
        source_host: Address,
        /// The repository near the source that keeps the digests.
        digests: Address,
        /// The point.
        point: PointId,
        /// The disks.
        disks: Vec<DiskFacts>,
    },
    /// From the same session: every disk was received and its checksum agrees with the source's. Answered by
    /// `session::Command::PointSealed`.
    SealPoint {
        /// The point.
        point: PointId,
        /// When the source was frozen.
        taken: Timestamp,
        /// The disks with the source's proof.
        disks: Vec<DiskPoint>,
        /// Points to keep.
        keep: u32,
    },
    /// From the same session: give the point up; what was written is rolled back.
    AbandonPoint {
        /// The point.
        point: PointId,
    },
    /// From an operator or a plan: run the VM here. Without the source's release an override is needed.
    Failover {
        /// Which point.
        point: PointChoice,
        /// Named override, when the source's release cannot be had (unplanned).
        forced: Option<Override>,
    },
    /// From an operator or a plan: power the replica off, drop what it wrote, give the right to run back to the source.
    UndoFailover,
    /// From an operator or a plan, phase 1: bring the production VM's disks up to the replica's, which keeps running.
    Failback,
    /// From an operator or a plan: stop the replica, send the last changes, start the production VM.
    Switch,
    /// From an operator or a plan: the failback is good; replication resumes.
    CommitFailback,
    /// From an operator or a plan: production off, the replica on again.
    UndoFailback,
    /// From an operator or a plan: the replica is the production VM from now on.
    MakePermanent,
    /// From an operator: forget it and delete its store. Refused in Failover, Failback and ReadyToSwitch.
    Remove,
    /// From the source's host: its right is given up, and its agent has confirmed that the guest is off.
    Released {
        /// The epoch it was released for.
        epoch: Epoch,
        /// Why not, when it could not.
        failure: Option<Failure>,
    },
    /// From a host: the guest asked for runs, or could not be started.
    PoweredOn {
        /// Where.
        host: Address,
        /// Under which epoch.
        epoch: Epoch,
        /// Why not, when it could not.
        failure: Option<Failure>,
    },
    /// From a host: the guest asked for is off and fenced, or could not be stopped.
    PoweredOff {
        /// Where.
        host: Address,
        /// Under which epoch.
        epoch: Epoch,
        /// Why not, when it could not.
        failure: Option<Failure>,
    },
    /// From a host that came back: may I run it? Answered by `host::Command::EpochIs`.
    WhoRuns {
        /// The VM, as its host names it.
        vm: VmName,
        /// The host that asks.
        host: Address,
    },
    /// From a broker: a slot for a failback's mover.
    SlotGranted {
        /// The asker's name for it.
        slot: Name,
        /// The mover.
        mover: Name,
        /// Its data channel.
        endpoint: Endpoint,
        /// Why.
        reasons: Vec<String>,
    },
    /// From a host, in answer to `PrepareRead` for the replica's own guest.
    ReadPrepared {
        /// The VM.
        vm: VmName,
        /// The snapshot.
        snapshot: Name,
        /// The disks.
        disks: Vec<DiskFacts>,
        /// When it was frozen.
        taken: Timestamp,
    },
    /// From a host: what was asked could not be done.
    HostFailed {
        /// The VM.
        vm: VmName,
        /// Why.
        failure: Failure,
    },
    /// From the production host: the VM is made again (it was gone).
    VmCreated {
        /// The VM.
        vm: VmName,
    },
    /// From a mover actor or an agent: a task that this replica ordered has ended.
    TaskEnded {
        /// The task.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
}
