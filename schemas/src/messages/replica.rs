//! A replica: one protected VM at its target. It owns the points of its store and grants the VM's epoch, which is the
//! right to run (P5). States and transitions: field.md 1.5.

use super::agent::{DiskFacts, DiskPoint, Endpoint, Failure, Outcome};
use super::{Epoch, Override};
use crate::ids::{Address, Name, PointId, TaskId, VmName, VmRef};
use crate::units::{ByteCount, Timestamp};
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
        /// The mover that drives that host: a failback's bytes go there.
        mover: Name,
        /// Under which epoch.
        epoch: Epoch,
        /// Why not, when it could not.
        failure: Option<Failure>,
    },
    /// From a host that came back, or whose operator wants to start the VM: may I run it? Answered by `host::Command::EpochIs`.
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

/// One of the two ends of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The production VM, at the source site.
    Source,
    /// The working VM, at this site.
    Target,
}

/// What a replica knows of the VM that it protects and of the ways to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// The production VM.
    pub origin: VmRef,
    /// The host of the replica, at this site.
    pub host: Name,
    /// The mover that drives that host.
    pub mover: Name,
    /// The host actor that runs the production VM.
    pub source_host: Address,
    /// The repository near the source that keeps the digests.
    pub digests: Address,
    /// The disks.
    pub disks: Vec<DiskFacts>,
}

/// A point in a replica's store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaPoint {
    /// Its id.
    pub point: PointId,
    /// When the source was frozen.
    pub taken: Timestamp,
    /// When it became usable.
    pub usable: Timestamp,
    /// Its disks with the proof that the store computed.
    pub disks: Vec<DiskPoint>,
    /// What the store needed for it.
    pub stored: ByteCount,
}

/// A failover, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverRequest {
    /// Which point.
    pub choice: PointChoice,
    /// The override, when there is one.
    pub forced: Option<Override>,
    /// On whose behalf.
    pub principal: String,
    /// The plan to be answered, when one asked.
    pub asker: Option<Address>,
}

/// A transition that takes several steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transition {
    /// Ready to Failover.
    Failover,
    /// Failover to Ready.
    Undo,
    /// Failover to ReadyToSwitch.
    Failback,
    /// ReadyToSwitch to Failback.
    Switch,
    /// Failback to Ready.
    Commit,
    /// Failback or ReadyToSwitch to Failover.
    UndoFailback,
    /// Failover to PermanentFailover.
    Permanent,
    /// Ready to nothing.
    Remove,
}

/// What a transition waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The source site's release.
    Release,
    /// The guest of one side to be off.
    Stop {
        /// Which side.
        side: Side,
    },
    /// The guest of one side to be on.
    Start {
        /// Which side.
        side: Side,
    },
    /// The working VM to be made.
    Make {
        /// The task.
        task: TaskId,
        /// The working VM.
        vm: VmName,
        /// From which point.
        point: PointId,
    },
    /// The working VM to be deleted.
    Drop {
        /// The task.
        task: TaskId,
    },
    /// The production VM to be made again.
    Create,
    /// A slot at each end.
    Slots {
        /// Part of the slots' names: counts this replica's rounds.
        round: u64,
    },
    /// The working VM to be frozen for reading.
    Prepare,
    /// The disks to be sent.
    Move,
    /// Tasks that were cancelled to end.
    Cancel {
        /// Why they were.
        failure: Failure,
    },
    /// The working VM's content to become the newest point.
    Absorb {
        /// The task.
        task: TaskId,
        /// The point.
        point: PointId,
        /// Points that the store merges away.
        forget: Vec<PointId>,
    },
    /// The store to be deleted.
    DropStore {
        /// The task.
        task: TaskId,
    },
}

/// Where a replica stands when nothing is under way (field.md 1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rest {
    /// It takes points and can fail over.
    Ready,
    /// The VM runs here.
    Failover,
    /// A failover, or the undoing of one, did not come to its end: try again or undo.
    FailedFailover,
    /// The production VM's disks are close behind: switch when it suits.
    ReadyToSwitch,
    /// The production VM runs again; commit or undo.
    Failback,
    /// The VM lives here for good.
    PermanentFailover,
    /// Forgotten; its epoch counter is kept.
    Removed,
}

/// What happened to a replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Ready (or new) to Processing: a session makes a point.
    PointOpened {
        /// What is protected, as the session found it.
        protection: Protection,
        /// The session.
        session: Address,
        /// The point.
        point: PointId,
        /// When.
        at: Timestamp,
    },
    /// The store was told to seal the point.
    SealOrdered {
        /// The point.
        point: PointId,
        /// When the source was frozen.
        taken: Timestamp,
        /// The source's proof.
        disks: Vec<DiskPoint>,
        /// Points to keep from now on.
        keep: u32,
        /// Points that the store merges away.
        forget: Vec<PointId>,
        /// The task.
        task: TaskId,
    },
    /// A point is usable; those merged away are not any more.
    PointAdded {
        /// The point.
        point: ReplicaPoint,
        /// Merged away.
        merged: Vec<PointId>,
    },
    /// The point will not be: what was written is rolled back.
    PointGivenUp {
        /// The point.
        point: PointId,
        /// Why, when it was not the session that gave it up.
        failure: Option<Failure>,
        /// The task that rolls back.
        task: TaskId,
    },
    /// Rolling back failed; it is ordered again later.
    RollbackFailed {
        /// Why.
        failure: Failure,
        /// When it is ordered again.
        again: Timestamp,
    },
    /// Rolling back was ordered again.
    RollbackOrdered {
        /// The task.
        task: TaskId,
    },
    /// The store is as the newest point left it.
    RolledBack {
        /// When.
        at: Timestamp,
    },
    /// A failover was asked for while a point was being made: the session was told to give it up.
    FailoverQueued {
        /// The request.
        request: FailoverRequest,
        /// Dropped after this.
        until: Timestamp,
    },
    /// A queued failover was dropped.
    FailoverDropped {
        /// Why.
        failure: Failure,
    },
    /// A failover begins; nobody holds the right to run until it is granted. Recorded with the override, if there is one.
    FailoverStarted {
        /// The request.
        request: FailoverRequest,
        /// The point chosen.
        point: PointId,
        /// The epoch that will be granted.
        epoch: Epoch,
        /// When.
        at: Timestamp,
    },
    /// An override took the place of the release that a failover waited for.
    OverrideGiven {
        /// The override.
        forced: Override,
        /// The plan to be answered, when one gave it.
        #[serde(default)]
        asker: Option<Address>,
    },
    /// Another transition begins.
    Started {
        /// Which.
        transition: Transition,
        /// The plan to be answered, when one asked.
        asker: Option<Address>,
        /// On whose behalf.
        principal: String,
        /// When.
        at: Timestamp,
    },
    /// A new epoch: nobody holds the right to run until it is granted.
    EpochTaken {
        /// The epoch.
        epoch: Epoch,
    },
    /// The right to run stays where it was, under the newest epoch: the guest could not be stopped.
    RightKept {
        /// Who keeps it.
        side: Side,
    },
    /// The right to run, recorded before the host is told.
    Granted {
        /// To whom.
        side: Side,
        /// The epoch.
        epoch: Epoch,
        /// Whether the guest is started.
        power_on: bool,
    },
    /// A transition waits for its next step.
    StepStarted {
        /// The step.
        step: Step,
        /// Given up after this.
        until: Timestamp,
    },
    /// The source site has given up its right; its guest is off.
    SourceReleased,
    /// A guest is off and its host fenced.
    GuestOff {
        /// Which side.
        side: Side,
        /// The mover that drives its host.
        mover: Name,
        /// When it was heard.
        at: Timestamp,
    },
    /// A guest runs.
    GuestOn {
        /// Which side.
        side: Side,
        /// When it was heard.
        at: Timestamp,
    },
    /// The production VM is gone at the source; `mover` drives its host.
    ProductionGone {
        /// The mover.
        mover: Name,
    },
    /// The production VM is made again, empty.
    ProductionMade,
    /// The working VM is there.
    WorkingMade {
        /// Its disks.
        disks: Vec<DiskFacts>,
    },
    /// The working VM is no more.
    WorkingDropped,
    /// A slot for the transfer.
    SlotGranted {
        /// At which side.
        side: Side,
        /// The mover.
        mover: Name,
        /// Its data channel.
        endpoint: Endpoint,
        /// Why this one.
        reasons: Vec<String>,
    },
    /// The working VM is frozen for reading.
    ReadPrepared {
        /// The snapshot.
        snapshot: Name,
        /// When it was frozen.
        taken: Timestamp,
    },
    /// One end of a disk's transfer was ordered.
    TaskOrdered {
        /// The task.
        task: TaskId,
        /// The disk.
        disk: crate::ids::DiskName,
        /// Which end: `Target` reads, `Source` writes.
        side: Side,
        /// The mover actor that has it.
        mover: Address,
    },
    /// One end of a disk's transfer has ended.
    TaskDone {
        /// The task.
        task: TaskId,
        /// The proof.
        disk: DiskPoint,
        /// How the bytes moved.
        moved: super::agent::Moved,
    },
    /// One end of a disk's transfer has failed, or was cancelled (then there is no failure).
    TaskLost {
        /// The task.
        task: TaskId,
        /// Why.
        failure: Option<Failure>,
    },
    /// The store's points are no more (it is being deleted).
    PointsDropped,
    /// A transition has ended.
    Ended {
        /// Which.
        transition: Transition,
        /// Where the replica stands now.
        rest: Rest,
        /// What went wrong, if something did.
        failure: Option<Failure>,
        /// When.
        at: Timestamp,
    },
}
