//! A session: one run of a job. State and result are two fields, never one (field.md 1.2). A retry is an attempt inside
//! the session. Per VM it goes through steps; per disk it orders a task; its result is its worst part (P9).

use super::agent::{DiskFacts, Endpoint, Outcome};
use super::host::VmFacts;
use super::job::{JobSpec, Retry};
use super::repository::RestorePoint;
use crate::ids::{Address, Name, PointId, TaskId, VmName, VmRef};
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
        failure: super::agent::Failure,
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
        failure: super::agent::Failure,
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
        sealed: Result<ByteCount, super::agent::Failure>,
    },
    /// From a mover actor: a task that this session ordered has ended.
    TaskEnded {
        /// The task.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
}
