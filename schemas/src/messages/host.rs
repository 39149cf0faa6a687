//! The host actor: inventory, power, snapshots for reading; it keeps the epochs that its agents enforce.

mod event;
mod work;

pub use event::Event;
pub use work::{StopAsker, Work};

use super::agent::{DiskFacts, Endpoint, Outcome};
use super::{Epoch, Override};
use crate::ids::{Address, Lineage, Name, TaskId, VmName, VmRef};
use crate::units::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Epochs in one `AgentEpochs`: it fits a message, and the decision on it a frame.
pub const EPOCHS_AT_ONCE: usize = 200;

/// How a host is driven.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A folder whose sub-folders are VMs; its path on the agent's machine.
    Folder {
        /// The folder.
        path: String,
    },
}

/// A host, as an operator defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSpec {
    /// The mover (agent) that drives it.
    pub mover: Name,
    /// How.
    pub driver: Driver,
    /// How often VMs are listed anew; the field's default is 4 h.
    pub discovery_every: Millis,
}

/// A VM as its host lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VmFacts {
    /// Its name.
    pub vm: VmName,
    /// Its disks.
    pub disks: Vec<DiskFacts>,
    /// Whether its guest runs.
    pub running: bool,
    /// The VM that it stands for, when it is a replica's working VM or was restored; itself otherwise.
    pub origin: Option<VmRef>,
}

/// What a host accepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// From the operator: this is the host.
    Define(HostSpec),
    /// From the operator: forget it. Refused while a VM of it is protected or runs under an epoch of ours.
    Remove,
    /// From the operator: list the VMs now.
    Discover,
    /// From the mover actor: the host's agent is there, with this incarnation; a new one has lost its memory.
    AgentReady {
        /// Its incarnation.
        incarnation: Lineage,
        /// Its data channel.
        endpoint: Endpoint,
    },
    /// From a session or plan of any site: which of these VMs are there? Answered by `session::Command::VmsListed`.
    ListVms {
        /// Names; empty for all.
        vms: Vec<VmName>,
    },
    /// From a session: freeze a VM for reading. Answered by `session::Command::ReadPrepared`.
    PrepareRead {
        /// The VM.
        vm: VmName,
    },
    /// From a session: the reading is done. Never refused.
    EndRead {
        /// The VM.
        vm: VmName,
    },
    /// From a session that restores: make a VM. Answered by `session::Command::VmCreated`.
    CreateVm {
        /// The VM.
        vm: VmName,
        /// Its disks.
        disks: Vec<DiskFacts>,
        /// The VM that it stands for.
        origin: VmRef,
    },
    /// From a replica at another site: it protects this VM, and must be asked before the VM is started by anyone but a replica.
    Protect {
        /// The VM.
        vm: VmName,
        /// The replica.
        replica: Address,
    },
    /// From the replica: it no longer protects this VM.
    Unprotect {
        /// The VM.
        vm: VmName,
    },
    /// From the replica: give up the right to run (planned failover, failback). The guest is stopped; answered by
    /// `replica::Command::Released` once its agent has confirmed, and from then on a lower epoch than this is refused.
    Release {
        /// The VM.
        vm: VmName,
        /// The epoch that will run next, elsewhere.
        epoch: Epoch,
    },
    /// From the replica: this host may run this VM under this epoch; power it on if `power_on`. Answered by
    /// `replica::Command::PoweredOn` when it was asked to power on.
    Grant {
        /// The VM on this host.
        vm: VmName,
        /// The VM that it stands for.
        origin: VmRef,
        /// The epoch.
        epoch: Epoch,
        /// Whether to start it.
        power_on: bool,
    },
    /// From the replica at this or another site: stop the guest that runs on this host under an earlier grant and fence at
    /// `epoch`. Answered by `replica::Command::PoweredOff`.
    StopGuest {
        /// The VM on this host.
        vm: VmName,
        /// The VM that it stands for.
        origin: VmRef,
        /// From now on a lower epoch than this is refused for the origin.
        epoch: Epoch,
    },
    /// From the replica, in answer to `replica::Command::WhoRuns`: the newest epoch it knows and who holds it.
    EpochIs {
        /// The VM.
        vm: VmName,
        /// The epoch.
        epoch: Epoch,
        /// Whether the asker may run it.
        yours: bool,
    },
    /// From the operator: start a VM. Refused when its epoch is held elsewhere, unless overridden by name and reason. One that
    /// replicas protect is started once each of them has said that it may run here; an override does not wait for them.
    PowerOn {
        /// The VM.
        vm: VmName,
        /// Overrides the guard.
        forced: Option<Override>,
    },
    /// From the operator: stop a VM, or no longer wait for leave to start it.
    PowerOff {
        /// The VM.
        vm: VmName,
    },
    /// From the operator: let the guest write files inside its file system, for drills.
    GuestWrite {
        /// The VM.
        vm: VmName,
        /// What is written follows from this.
        seed: u64,
    },
    /// From the agent: a task that this host ordered has ended (an inventory comes in several, one per page).
    TaskEnded {
        /// The task.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
    /// From the agent, in answer to `agent::Command::ServeHost`: epochs that it knows and was not told, or was told lower. This
    /// site's log was put back to before it heard of them.
    AgentEpochs {
        /// Highest epoch per VM, by the VM's origin; at most [`EPOCHS_AT_ONCE`].
        epochs: Vec<(VmRef, Epoch)>,
    },
    /// From the agent: a VM's guest stopped or started without an order.
    Observed {
        /// The VM.
        vm: VmName,
        /// Whether it runs now.
        running: bool,
        /// When it was seen.
        at: Timestamp,
    },
}
