//! A session: one run of a job. State and result are two fields, never one (field.md 1.2). A retry is an attempt inside
//! the session. Per VM it goes through steps; per disk it orders a task; its result is its worst part (P9).

use super::SessionResult;
use super::agent::{DiskFacts, DiskPoint, Endpoint, Failure, Moved, Outcome};
use super::host::VmFacts;
use super::job::{JobSpec, Retry};
use super::mover::Role;
use super::repository::RestorePoint;
use crate::ids::{Address, DiskName, Name, PointId, TaskId, VmName, VmRef};
use crate::units::{ByteCount, Timestamp};
use serde::{Deserialize, Serialize};

/// What a session accepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// From its job: begin.
    Begin {
        /// The job.
        job: Name,
        /// Its definition at this moment.
        spec: Box<JobSpec>,
        /// Retry for this run: none when it was started by hand.
        retry: Option<Retry>,
    },
    /// From its job (the operator's stop).
    Stop,
    /// From the host: its VMs, those asked for that exist.
    VmsListed {
        /// The mover that drives the host.
        mover: Name,
        /// The VMs.
        vms: Vec<VmFacts>,
    },
    /// From a broker: a slot is yours.
    SlotGranted {
        /// The asker's name for it.
        slot: Name,
        /// The mover.
        mover: Name,
        /// Its data channel.
        endpoint: Endpoint,
        /// Why this mover and mode: candidates, modes and loads, one line each, at most five.
        reasons: Vec<String>,
    },
    /// From a repository: the access is open.
    AccessOpened {
        /// The mover that keeps it.
        mover: Name,
        /// Its data channel.
        endpoint: Endpoint,
        /// The access, to be shown to it.
        access: TaskId,
        /// The newest usable point of each VM asked for, or the one point asked for.
        points: Vec<RestorePoint>,
    },
    /// From a host: the VM is frozen for reading.
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
    /// From a host: the read could not be prepared, or the VM not created.
    HostFailed {
        /// The VM.
        vm: VmName,
        /// Why.
        failure: Failure,
    },
    /// From a host: the VM is made.
    VmCreated {
        /// The VM.
        vm: VmName,
    },
    /// From a repository: the point is usable.
    PointCommitted {
        /// The point.
        point: PointId,
        /// What it added to the repository.
        stored: ByteCount,
    },
    /// From a repository: the point or the access could not be made.
    RepositoryFailed {
        /// The VM concerned; all when none.
        vm: Option<VmRef>,
        /// Why.
        failure: Failure,
    },
    /// From a replica: it is ready to receive a point.
    PointOpened {
        /// The replica.
        replica: Address,
        /// The newest point it has, whose digests may be compared with.
        base: Option<PointId>,
    },
    /// From a replica: the point is sealed and usable, or could not be.
    PointSealed {
        /// The replica.
        replica: Address,
        /// What it took, or why not.
        sealed: Result<ByteCount, Failure>,
    },
    /// From a mover actor: a task that this session ordered has ended.
    TaskEnded {
        /// The task.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
}

/// State of a session, for people and views: computed from its events (field.md 1.2). The result is another field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// It asks what there is.
    Starting,
    /// Something moves.
    Working,
    /// Every VM that is left waits for a slot.
    WaitingSlot,
    /// Points are being made; all data has moved.
    Postprocessing,
    /// Failed VMs wait for the next attempt.
    RetryWait,
    /// It was told to stop and winds down.
    Stopping,
    /// It has ended.
    Stopped,
}

/// How a VM came out of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmEnd {
    /// Its result.
    pub result: SessionResult,
    /// The point that proves success, when one was made (or restored).
    pub point: Option<PointId>,
    /// What it added to the store.
    pub stored: ByteCount,
    /// What went wrong, or why it was skipped.
    pub failure: Option<Failure>,
}

/// One VM of a run, as it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedVm {
    /// The VM, where it stands (for a restore: the VM to be made).
    pub vm: VmRef,
    /// The point that it makes in this attempt, or that is restored.
    pub point: PointId,
    /// Its disks, as the host listed them.
    pub disks: Vec<DiskFacts>,
}

/// Which end of a disk's transfer a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It reads: a backup's only task, a replication's sender.
    Read,
    /// It writes: a restore's only task, a replication's receiver.
    Write,
}

/// What happened to a session. Every event that begins a wait says when the wait is given up (`until`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// It begins: its hosts were asked what there is.
    Begun {
        /// The job.
        job: Name,
        /// Its definition.
        spec: Box<JobSpec>,
        /// Retry of this run.
        retry: Option<Retry>,
        /// When.
        at: Timestamp,
        /// Hosts must have answered by then.
        until: Timestamp,
    },
    /// A host has answered.
    HostListed {
        /// The host.
        host: Address,
        /// The mover that drives it.
        mover: Name,
        /// The VMs found there.
        vms: Vec<VmFacts>,
    },
    /// The hosts did not answer, or said no: the attempt is over before it began.
    ListingFailed {
        /// Why.
        failure: Failure,
    },
    /// This is worked on in this attempt.
    Planned {
        /// The VMs.
        vms: Vec<PlannedVm>,
    },
    /// A broker was asked for a slot.
    SlotRequested {
        /// For which VM.
        vm: VmName,
        /// The broker.
        broker: Address,
        /// The slot.
        slot: Name,
        /// The role.
        role: Role,
        /// Given up after this.
        until: Timestamp,
    },
    /// A slot is held.
    SlotGranted {
        /// For which VM.
        vm: VmName,
        /// The slot.
        slot: Name,
        /// The mover.
        mover: Name,
        /// Its data channel.
        endpoint: Endpoint,
        /// Why this one.
        reasons: Vec<String>,
    },
    /// The repository was asked to let us in.
    AccessRequested {
        /// The repository.
        repository: Address,
        /// Given up after this.
        until: Timestamp,
    },
    /// We are let in.
    AccessOpened {
        /// Its mover.
        mover: Name,
        /// Its data channel.
        endpoint: Endpoint,
        /// The access.
        access: TaskId,
        /// The points that may be needed.
        points: Vec<RestorePoint>,
    },
    /// We are not let in.
    AccessFailed {
        /// Why.
        failure: Failure,
    },
    /// A VM has its slots and waits for the repository.
    AccessAwaited {
        /// The VM.
        vm: VmName,
        /// Given up after this.
        until: Timestamp,
    },
    /// A host was asked to freeze a VM for reading.
    ReadRequested {
        /// The VM.
        vm: VmName,
        /// Its host.
        host: Address,
        /// Given up after this.
        until: Timestamp,
    },
    /// A VM is frozen for reading.
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
    /// A host was asked to make a VM.
    CreateRequested {
        /// The VM.
        vm: VmName,
        /// Given up after this.
        until: Timestamp,
    },
    /// The VM is made, empty.
    VmCreated {
        /// The VM.
        vm: VmName,
    },
    /// A replica was asked to receive a point.
    PointRequested {
        /// The VM.
        vm: VmName,
        /// The replica.
        replica: Address,
        /// The point.
        point: PointId,
        /// Given up after this.
        until: Timestamp,
    },
    /// The replica is ready to receive.
    PointOpened {
        /// The VM.
        vm: VmName,
        /// The newest point that it has.
        base: Option<PointId>,
    },
    /// Data begins to move.
    MoveStarted {
        /// The VM.
        vm: VmName,
        /// Given up after this.
        until: Timestamp,
    },
    /// A disk's task was ordered.
    TaskOrdered {
        /// The VM.
        vm: VmName,
        /// The disk.
        disk: DiskName,
        /// Which end.
        end: End,
        /// The task.
        task: TaskId,
        /// The mover actor that has it.
        mover: Address,
    },
    /// A disk's task is done.
    TaskDone {
        /// The VM.
        vm: VmName,
        /// The task.
        task: TaskId,
        /// The disk with its proof.
        disk: DiskPoint,
        /// How the bytes moved.
        moved: Moved,
        /// Why everything was read or compared, if so.
        full_because: Option<String>,
    },
    /// A disk's task has failed, or was cancelled (then there is no failure).
    TaskLost {
        /// The VM.
        vm: VmName,
        /// The task.
        task: TaskId,
        /// Why.
        failure: Option<Failure>,
    },
    /// All disks are there: the repository was told to commit, or the replica to seal.
    CommitRequested {
        /// The VM.
        vm: VmName,
        /// The point.
        point: PointId,
        /// Given up after this.
        until: Timestamp,
    },
    /// A VM cannot be finished: its open tasks were cancelled.
    WindingDown {
        /// The VM.
        vm: VmName,
        /// Why.
        failure: Failure,
        /// Tasks that have not ended by then are left behind.
        until: Timestamp,
    },
    /// A VM has ended this attempt: what it held was let go.
    VmEnded {
        /// The VM.
        vm: VmName,
        /// How.
        end: VmEnd,
        /// When.
        at: Timestamp,
    },
    /// Failed VMs are tried again later.
    RetryScheduled {
        /// Which attempt it will be, from 2.
        attempt: u32,
        /// When.
        when: Timestamp,
    },
    /// The next attempt begins: the hosts were asked again.
    RetryStarted {
        /// Which, from 2.
        attempt: u32,
        /// Hosts must have answered by then.
        until: Timestamp,
    },
    /// An operator stops it.
    StopRequested {
        /// Who, as the failure of what was not finished.
        failure: Failure,
        /// When.
        at: Timestamp,
    },
    /// It has ended; everything it held was let go.
    Ended {
        /// Its worst part.
        result: SessionResult,
        /// VMs whose newest point is from this run.
        protected: Vec<VmRef>,
        /// Totals over all disks and attempts.
        moved: Moved,
        /// What it added to the stores.
        stored: ByteCount,
        /// What went wrong first, if something did.
        failure: Option<Failure>,
        /// When.
        at: Timestamp,
    },
}
