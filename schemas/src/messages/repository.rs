//! The repository actor: restore points, retention, holds, prune by log position. A point exists once its agent has
//! confirmed that every chunk and the manifest are durable (P6).

use super::agent::{DiskPoint, Endpoint, Outcome};
use crate::ids::{Address, Digest, Lineage, Name, PointId, TaskId, VmRef};
use crate::units::{ByteCount, Timestamp};
use serde::{Deserialize, Serialize};

/// A repository, as an operator defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositorySpec {
    /// The mover (agent) that keeps it: the only one that writes to the folder.
    pub mover: Name,
    /// The folder on the agent's machine.
    pub path: String,
}

/// A restore point of a VM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RestorePoint {
    /// Its id.
    pub point: PointId,
    /// Whose.
    pub vm: VmRef,
    /// When the VM was frozen.
    pub taken: Timestamp,
    /// When it became usable.
    pub usable: Timestamp,
    /// The job that made it.
    pub job: Name,
    /// Its disks.
    pub disks: Vec<DiskPoint>,
    /// What it added to the repository.
    pub stored: ByteCount,
}

/// What an access is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Purpose {
    /// New points or digests are written.
    Write,
    /// A point is read.
    Read,
}

/// What a repository accepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// From the operator.
    Define(RepositorySpec),
    /// From the operator: forget it. Refused while it holds points or accesses are open.
    Remove,
    /// From the mover actor: the agent is there.
    AgentReady {
        /// Its incarnation.
        incarnation: Lineage,
        /// Its data channel.
        endpoint: Endpoint,
    },
    /// From a session or replica of any site: let these movers in, and hold everything that is there now until
    /// `CloseAccess`. Answered by `session::Command::AccessOpened`.
    OpenAccess {
        /// Why.
        purpose: Purpose,
        /// Certificates of the movers that will come.
        peers: Vec<Digest>,
        /// The VMs concerned: their newest points come back.
        vms: Vec<VmRef>,
        /// For `Read`: the point that must be there.
        point: Option<PointId>,
    },
    /// From the same: done. Never refused. A session that ends by any way sends it.
    CloseAccess,
    /// From a session: all disks of a VM are stored; make the point. Answered by `session::Command::PointCommitted`.
    CommitPoint {
        /// The point.
        point: PointId,
        /// Whose.
        vm: VmRef,
        /// The job.
        job: Name,
        /// When the VM was frozen.
        taken: Timestamp,
        /// Points of this VM and job to keep; older ones are dropped after this one is usable.
        keep: u32,
        /// The disks, as the source mover reported them.
        disks: Vec<DiskPoint>,
    },
    /// From the operator: read every chunk of a point and check it.
    Verify {
        /// The point.
        point: PointId,
    },
    /// From the operator: hold a point against retention, or let it go.
    Hold {
        /// The point.
        point: PointId,
        /// Hold or let go.
        hold: bool,
    },
    /// From the agent.
    TaskEnded {
        /// The task.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
    /// From the operator: an access whose holder will never close it (its site is gone for good) ends now.
    BreakAccess {
        /// Whose.
        holder: Address,
    },
}
