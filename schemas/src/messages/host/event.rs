//! What a host's log tells.

use super::{HostSpec, VmFacts, Work};
use crate::ids::{Address, Lineage, Name, VmName, VmRef};
use crate::messages::agent::{Endpoint, Failure, Order};
use crate::messages::{Epoch, Override};
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};

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
        /// When its last page came.
        at: Timestamp,
    },
    /// A listing was complete and nothing had changed.
    InventoryConfirmed {
        /// The revision that it confirms.
        revision: u64,
        /// When its last page came.
        at: Timestamp,
    },
    /// A listing failed: what was known stays known, and it is tried again.
    ListingFailed {
        /// Why.
        failure: Failure,
        /// When it was heard.
        at: Timestamp,
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
