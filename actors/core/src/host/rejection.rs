//! How a host says no.

use crate::refusal::refusal;
use farshore_schemas::ids::{Address, Name, TaskId, VmName, VmRef};
use farshore_schemas::messages::{Epoch, Refusal};

/// Why a host rejects an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// The host is not defined.
    Unknown {
        /// Which.
        host: Name,
    },
    /// It cannot be removed, or driven otherwise, now.
    InUse {
        /// Which.
        host: Name,
        /// Orders without an answer.
        orders: usize,
        /// VMs that are being read.
        reads: usize,
        /// VMs that a replica protects.
        protected: usize,
        /// VMs that run under a right that was granted to this host.
        running: usize,
    },
    /// Only the mover that it names may say this.
    NotMyMover {
        /// Who said it.
        from: Address,
    },
    /// Only its own agent may say this.
    NotMyAgent {
        /// Who said it.
        from: Address,
    },
    /// This kind of party may not ask this.
    AskerKind {
        /// Who asked.
        from: Address,
    },
    /// A replica spoke in another's name.
    NotTheReplica {
        /// In whose name.
        replica: Address,
        /// Who spoke.
        from: Address,
    },
    /// VMs have not been listed yet.
    NotDiscovered {
        /// Which host.
        host: Name,
    },
    /// VMs are being listed.
    Discovering {
        /// Which host.
        host: Name,
    },
    /// No such VM.
    VmUnknown {
        /// Which.
        vm: VmName,
    },
    /// A VM of that name is there.
    VmExists {
        /// Which.
        vm: VmName,
    },
    /// A VM of that name is being made.
    VmBeingMade {
        /// Which.
        vm: VmName,
    },
    /// The reader has a snapshot of the VM already.
    Reading {
        /// Which VM.
        vm: VmName,
        /// Who.
        reader: Address,
    },
    /// The VM stands for another one than was said.
    OtherOrigin {
        /// Which VM.
        vm: VmName,
        /// What it stands for.
        origin: VmRef,
    },
    /// The replica does not protect this VM.
    NotProtected {
        /// Which VM.
        vm: VmName,
        /// The replica.
        replica: Address,
    },
    /// A higher epoch is known.
    EpochOld {
        /// Of which VM.
        origin: VmRef,
        /// The one known.
        known: Epoch,
        /// The one refused.
        offered: Epoch,
    },
    /// Nobody was asked who runs this VM.
    NotAsked {
        /// Which.
        vm: VmName,
    },
    /// The replicas have not all said who runs this VM.
    Asking {
        /// Which.
        vm: VmName,
        /// Whose answer is awaited.
        awaited: Vec<Address>,
    },
    /// The right to run this VM is elsewhere.
    NotYours {
        /// Which.
        vm: VmName,
        /// What it stands for.
        origin: VmRef,
        /// The newest epoch known.
        known: Epoch,
    },
    /// An override has no name or no reason.
    NoReason {
        /// Which VM.
        vm: VmName,
    },
    /// The VM is being started or stopped.
    Busy {
        /// Which.
        vm: VmName,
    },
    /// It runs already.
    AlreadyOn {
        /// Which.
        vm: VmName,
    },
    /// It is off already.
    AlreadyOff {
        /// Which.
        vm: VmName,
    },
    /// Its guest does not run.
    GuestOff {
        /// Which.
        vm: VmName,
    },
    /// No such order is open.
    TaskUnknown {
        /// The task.
        task: TaskId,
    },
    /// A refusal of something that is not waited for.
    RefusalUnexpected {
        /// Who refused.
        by: Address,
        /// With which code.
        code: String,
    },
    /// A wake before its time.
    NotDue,
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Refusal {
        let text = rejection.message();
        let (code, advice) = rejection.code_and_advice();
        refusal(code, text, advice)
    }
}

/// The refusal of an epoch whose counter another site has granted too. It is sent with an event, so it is no rejection.
pub(super) fn conflict(origin: &VmRef, known: &Epoch, offered: &Epoch) -> Refusal {
    refusal(
        "FS-HOST-EPOCH-CONFLICT",
        format!(
            "epoch {} of {origin} was granted by {} and is known here as granted by {}: two sites act for one VM",
            offered.counter, offered.site, known.site
        ),
        "find out which copy is right, stop the other, and grant a new epoch by a failover with an override",
    )
}

fn list(addresses: &[Address]) -> String {
    let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    names.join(", ")
}

impl Rejection {
    fn message(&self) -> String {
        match self {
            Rejection::Unknown { host } => format!("the host {host} is not defined"),
            Rejection::InUse { host, orders, reads, protected, running } => format!(
                "the host {host} has {orders} open orders, {reads} VMs that are read, {protected} that replicas protect, \
                 and {running} that run under a right granted to it"
            ),
            Rejection::NotMyMover { from } => format!("{from} is not the mover that this host names"),
            Rejection::NotMyAgent { from } => format!("{from} is not the agent that drives this host"),
            Rejection::AskerKind { from } => format!("{from} is not a party that may ask this of a host"),
            Rejection::NotTheReplica { replica, from } => format!("{from} spoke in the name of {replica}"),
            Rejection::NotDiscovered { host } => format!("the VMs of the host {host} have not been listed yet"),
            Rejection::Discovering { host } => format!("the VMs of the host {host} are being listed"),
            Rejection::VmUnknown { vm } => format!("there is no VM {vm} on this host"),
            Rejection::VmExists { vm } => format!("there is a VM {vm} on this host already"),
            Rejection::VmBeingMade { vm } => format!("a VM {vm} is being made on this host"),
            Rejection::Reading { vm, reader } => format!("{reader} reads the VM {vm} already"),
            Rejection::OtherOrigin { vm, origin } => format!("the VM {vm} stands for {origin}"),
            Rejection::NotProtected { vm, replica } => format!("{replica} does not protect the VM {vm}"),
            Rejection::EpochOld { origin, known, offered } => format!(
                "epoch {} of {origin} is older than epoch {}, which {} granted",
                offered.counter, known.counter, known.site
            ),
            Rejection::NotAsked { vm } => format!("nobody was asked who runs the VM {vm}"),
            Rejection::Asking { vm, awaited } => format!(
                "the VM {vm} stays down until [{}] has said that it may run here, and is started then",
                list(awaited)
            ),
            Rejection::NotYours { vm, origin, known } => format!(
                "the right to run {origin}, for which the VM {vm} stands, is elsewhere: epoch {} of {}",
                known.counter, known.site
            ),
            Rejection::NoReason { vm } => format!("the override for the VM {vm} has no name or no reason"),
            Rejection::Busy { vm } => format!("the VM {vm} is being started or stopped"),
            Rejection::AlreadyOn { vm } => format!("the VM {vm} runs already"),
            Rejection::AlreadyOff { vm } => format!("the VM {vm} is off already"),
            Rejection::GuestOff { vm } => format!("the guest of the VM {vm} does not run"),
            Rejection::TaskUnknown { task } => format!("no task {task} is open: it has ended, or was never ordered"),
            Rejection::RefusalUnexpected { by, code } => {
                format!("{by} refused ({code}) something that this host does not wait for")
            }
            Rejection::NotDue => "the host was woken before anything was due".to_owned(),
        }
    }

    fn code_and_advice(&self) -> (&'static str, &'static str) {
        const DEFECT: &str = "report this as a defect, with the frame";
        const NOTHING: &str = "nothing needs to be done";
        const WAIT: &str = "wait for its end";
        match self {
            Rejection::Unknown { .. } => ("FS-HOST-UNKNOWN", "apply a Host resource of that name, or correct the name"),
            Rejection::InUse { .. } => {
                ("FS-HOST-IN-USE", "wait for what is open, remove its replicas, and fail back what runs for others")
            }
            Rejection::NotMyMover { .. } => ("FS-HOST-NOT-MY-MOVER", "name that mover in the Host resource, if meant"),
            Rejection::NotMyAgent { .. } => ("FS-HOST-NOT-MY-AGENT", "start the agent with its mover's name"),
            Rejection::AskerKind { .. } => ("FS-HOST-ASKER-KIND", DEFECT),
            Rejection::NotTheReplica { .. } => ("FS-HOST-NOT-THE-REPLICA", DEFECT),
            Rejection::NotDiscovered { .. } => {
                ("FS-HOST-NOT-DISCOVERED", "wait until the first listing is complete; check that its agent runs")
            }
            Rejection::Discovering { .. } => ("FS-HOST-DISCOVERING", WAIT),
            Rejection::VmUnknown { .. } => ("FS-HOST-NO-VM", "list the host's VMs anew, or correct the name"),
            Rejection::VmExists { .. } => ("FS-HOST-VM-EXISTS", "choose another name"),
            Rejection::VmBeingMade { .. } => ("FS-HOST-VM-BEING-MADE", WAIT),
            Rejection::Reading { .. } => ("FS-HOST-READING", "end that reading first"),
            Rejection::OtherOrigin { .. } => ("FS-HOST-OTHER-ORIGIN", "name the VM by what it stands for"),
            Rejection::NotProtected { .. } => ("FS-HOST-NOT-PROTECTED", NOTHING),
            Rejection::EpochOld { .. } => ("FS-HOST-EPOCH-OLD", "ask the VM's replica which epoch is the newest"),
            Rejection::NotAsked { .. } => ("FS-HOST-NOT-ASKED", NOTHING),
            Rejection::Asking { .. } => (
                "FS-HOST-ASKING",
                "wait for the answers, or stop it; if a site is lost for good, override by name and reason",
            ),
            Rejection::NotYours { .. } => {
                ("FS-HOST-NOT-YOURS", "fail back, or undo the failover; or override by name and reason")
            }
            Rejection::NoReason { .. } => ("FS-HOST-NO-REASON", "give the operator's name and a reason"),
            Rejection::Busy { .. } => ("FS-HOST-BUSY", WAIT),
            Rejection::AlreadyOn { .. } => ("FS-HOST-ALREADY-ON", NOTHING),
            Rejection::AlreadyOff { .. } => ("FS-HOST-ALREADY-OFF", NOTHING),
            Rejection::GuestOff { .. } => ("FS-HOST-GUEST-OFF", "start the VM first"),
            Rejection::TaskUnknown { .. } => ("FS-HOST-TASK-UNKNOWN", NOTHING),
            Rejection::RefusalUnexpected { .. } => ("FS-HOST-REFUSAL-UNEXPECTED", "look at the frame that sent it"),
            Rejection::NotDue => ("FS-HOST-NOT-DUE", DEFECT),
        }
    }
}
