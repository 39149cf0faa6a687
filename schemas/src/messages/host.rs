//! The host actor: inventory, power, snapshots for reading; it keeps the epochs that its agents enforce.

mod work;

pub use work::{StopAsker, Work};

use super::agent::{DiskFacts, Endpoint, Failure, Order, Outcome};
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

/// What a host's log tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// An operator defined it.
    Defined {
        /// The definition.
        spec: HostSpec,
    },
    /// An operator removed it. Epochs stay known.
    Removed,
    /// The mover did not know itself; it is asked again.
    RegisterRefused {
        /// The code of its refusal.
        code: String,
        /// When it is asked again.
        again: Timestamp,
    },
    /// The mover was asked again.
    RegisteredAgain,
    /// The agent is there. Another incarnation than before has lost its memory.
    AgentSeen {
        /// Its incarnation.
        incarnation: Lineage,
        /// Its data channel.
        endpoint: Endpoint,
    },
    /// The host may have been down: guests that the next listing finds down, although they ran, are asked about.
    ReturnBegan,
    /// The agent was given an order.
    Ordered {
        /// The order.
        order: Box<Order>,
        /// For what.
        work: Work,
    },
    /// An order ended.
    OrderEnded {
        /// Its ordinal.
        ordinal: u64,
        /// Why it failed, if it did.
        failure: Option<Failure>,
    },
    /// When the VMs are listed next, unless something asks for it before.
    DiscoveryDue {
        /// When.
        next: Timestamp,
    },
    /// A page of a listing came. It counts once the last one has come.
    PageListed {
        /// The ordinal of the listing's order.
        ordinal: u64,
        /// The VMs of the page.
        vms: Vec<VmFacts>,
    },
    /// A listing was complete and differs from what was known.
    InventoryChanged {
        /// The new revision.
        revision: u64,
        /// VMs of the last page that are new or differ; those of the pages before are known from these.
        changed: Vec<VmFacts>,
        /// VMs that are gone.
        gone: Vec<VmName>,
    },
    /// A listing was complete and nothing had changed.
    InventoryConfirmed {
        /// The revision that it confirms.
        revision: u64,
    },
    /// A reader wants a VM frozen.
    ReadBegan {
        /// The VM.
        vm: VmName,
        /// The session or replica.
        reader: Address,
        /// The snapshot made for it.
        snapshot: Name,
    },
    /// The VM is frozen for that reader.
    ReadReady {
        /// The VM.
        vm: VmName,
        /// The reader.
        reader: Address,
        /// When it was frozen.
        taken: Timestamp,
    },
    /// The reader is done; its snapshot is let go as soon as it can be.
    ReadEnding {
        /// The VM.
        vm: VmName,
        /// The reader.
        reader: Address,
    },
    /// A snapshot could not be let go; it is tried again.
    ReadEndDelayed {
        /// The VM.
        vm: VmName,
        /// The reader.
        reader: Address,
        /// When.
        again: Timestamp,
    },
    /// The reader's snapshot is gone, or was never made.
    ReadEnded {
        /// The VM.
        vm: VmName,
        /// The reader.
        reader: Address,
    },
    /// A VM was made here.
    VmMade {
        /// The VM.
        facts: VmFacts,
    },
    /// A replica protects a VM of this host.
    Protected {
        /// The VM.
        vm: VmName,
        /// The replica.
        replica: Address,
    },
    /// A replica no longer protects it.
    Unprotected {
        /// The VM.
        vm: VmName,
        /// The replica.
        replica: Address,
    },
    /// The right to run was granted to a VM here.
    RightGranted {
        /// The VM.
        vm: VmName,
        /// The VM that it stands for.
        origin: VmRef,
        /// The epoch.
        epoch: Epoch,
        /// By which replica.
        by: Address,
    },
    /// The right to run was given up: it is elsewhere, and what runs here is stopped.
    RightGivenUp {
        /// The VM.
        vm: VmName,
        /// The VM that it stands for.
        origin: VmRef,
        /// From now on a lower epoch than this is refused.
        epoch: Epoch,
        /// To which replica.
        by: Address,
    },
    /// Two sites granted the same counter. Refused and reported; nothing follows from it here.
    EpochConflict {
        /// The VM that it is about.
        origin: VmRef,
        /// The epoch known here.
        known: Epoch,
        /// The one refused.
        offered: Epoch,
        /// By whom.
        by: Address,
    },
    /// A replica said who may run a VM.
    EpochLearned {
        /// The VM.
        vm: VmName,
        /// The VM that it stands for.
        origin: VmRef,
        /// The newest epoch.
        epoch: Epoch,
        /// Whether it is held here.
        yours: bool,
        /// By which replica.
        by: Address,
    },
    /// The agent knew higher epochs than this log, which was put back: they stand from now on. Who holds them it cannot say, so
    /// nobody here does until a replica grants a newer one or an operator overrides it. An alarm.
    EpochsRecalled {
        /// The epochs, by the VM's origin.
        epochs: Vec<(VmRef, Epoch)>,
    },
    /// An operator overrode the guard: the VM may run here under an epoch that this site grants itself.
    RightForced {
        /// The VM.
        vm: VmName,
        /// The VM that it stands for.
        origin: VmRef,
        /// The epoch.
        epoch: Epoch,
        /// Who, and why.
        forced: Override,
    },
    /// A guest was started by order.
    GuestStarted {
        /// The VM.
        vm: VmName,
        /// The VM that it stands for.
        origin: VmRef,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// A guest was stopped by order.
    GuestStopped {
        /// The VM.
        vm: VmName,
    },
    /// A guest stopped or started without an order.
    GuestObserved {
        /// The VM.
        vm: VmName,
        /// Whether it runs now.
        running: bool,
        /// When it was seen.
        at: Timestamp,
        /// Whether the right to run is here; an alarm when it runs without.
        right: bool,
    },
    /// After the host's return a protected guest that ran was found down: it stays down until each of these has said that it
    /// may run here.
    GuestFoundDown {
        /// The VM.
        vm: VmName,
        /// The replicas that are asked.
        asked: Vec<Address>,
        /// When those that have not answered are asked again.
        again: Timestamp,
    },
    /// An operator wants a protected VM to run: it is started once each of these has said that it may run here.
    StartAsked {
        /// The VM.
        vm: VmName,
        /// The replicas that are asked.
        asked: Vec<Address>,
        /// When those that have not answered are asked again.
        again: Timestamp,
    },
    /// Who may run a VM is asked again, or of one more replica.
    QuestionRepeated {
        /// The VM.
        vm: VmName,
        /// The replicas that are asked.
        asked: Vec<Address>,
        /// When those that have not answered are asked again.
        again: Timestamp,
    },
    /// Nobody waits for leave to start a VM any more: it shall stay off, or a replica has it started.
    QuestionDropped {
        /// The VM.
        vm: VmName,
    },
    /// A replica's answer keeps a VM down, although its epoch is not newer than the one known here.
    KeptDown {
        /// The VM.
        vm: VmName,
        /// The replica.
        by: Address,
        /// What it knows.
        epoch: Epoch,
    },
    /// A replica refused to say who runs a VM: the question stays open, and the VM down.
    QuestionRefused {
        /// The VM.
        vm: VmName,
        /// The replica.
        replica: Address,
        /// The code of its refusal.
        code: String,
    },
}
