//! The host actor: which VMs are there, who reads them, whether they run, and under which right (P5).
//!
//! It keeps the highest epoch that it has heard of for each VM (by the VM's origin) and who holds it: a VM here, or
//! someone elsewhere. A lower epoch is refused, an equal one from another site is reported as a conflict, and whatever
//! touches a guest is ordered under that epoch, which the agent enforces with every link down. A VM that replicas protect is
//! started by an operator, or again after a return of the host, only once each of them has said that it may run here: what
//! is known here may be over without this host having heard of it. The inventory is kept by difference; absence counts only once a listing is complete. What a replica decides
//! (points, failover, which epoch comes next) is not decided here.

mod decide;
mod evolve;
mod inventory;
#[cfg(test)]
mod listing_tests;
mod power;
mod question;
#[cfg(test)]
mod question_tests;
#[cfg(test)]
mod random_tests;
mod reads;
#[cfg(test)]
mod reads_tests;
mod rejection;
mod rights;
#[cfg(test)]
mod rights_tests;
#[cfg(test)]
mod tests;

pub use rejection::Rejection;

use crate::decider::{Context, Decider, Decision, Input};
use crate::orders::{Link, Orders};
use farshore_schemas::ids::{Address, Kind, Name, Seq, VmName, VmRef};
use farshore_schemas::messages::agent::Failure;
use farshore_schemas::messages::host::{Command, Event, HostSpec, VmFacts, Work};
use farshore_schemas::messages::{Epoch, Message};
use farshore_schemas::units::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How often VMs are listed anew when the definition says nothing (zero): field.md section 5, item 8.
pub const DISCOVERY_EVERY: Millis = Millis::from_mins(4 * 60);
/// The shortest interval between listings.
pub const DISCOVERY_AT_LEAST: Millis = Millis::from_mins(1);
/// How long after a snapshot could not be let go, or a listing failed, it is tried again.
pub const RETRY_AFTER: Millis = Millis::from_mins(5);

/// What a host knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// Not defined yet, or removed.
    Undefined {
        /// The ordinal of the next order: task ids are never used twice.
        next_order: u64,
        /// Epochs outlive the definition: a lower one is refused for ever.
        #[serde(with = "crate::pairs")]
        rights: BTreeMap<VmRef, Right>,
    },
    /// Defined.
    Defined(Box<Defined>),
}

impl Default for State {
    fn default() -> Self {
        State::Undefined { next_order: 0, rights: BTreeMap::new() }
    }
}

/// A defined host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Defined {
    /// By the operator.
    pub spec: HostSpec,
    /// The link to its agent.
    pub link: Link,
    /// Orders that the agent has not answered.
    pub orders: Orders<Work>,
    /// VMs as the last complete listing, and what was ordered since, have them.
    pub inventory: BTreeMap<VmName, VmFacts>,
    /// Grows with each listing that found something changed; 0 until a first one was complete.
    pub revision: u64,
    /// When a listing was last complete.
    pub listed: Option<Timestamp>,
    /// Why the last listing failed; none once one was complete, or the host is another folder.
    pub listing_failed: Option<ListingFailed>,
    /// Pages of a listing that is not complete.
    pub pages: BTreeMap<VmName, VmFacts>,
    /// VMs of which something newer was heard since the listing that is under way was ordered: it may show them as they were.
    pub overtaken: BTreeSet<VmName>,
    /// When VMs are listed next.
    pub discovery_due: Option<Timestamp>,
    /// Whether the host may have been down since guests were last seen: until the next listing is complete.
    pub returning: bool,
    /// Who reads which VM; each reader has a snapshot of its own.
    pub reads: BTreeMap<VmName, Readers>,
    /// Which replicas protect which VM.
    pub protected: BTreeMap<VmName, BTreeSet<Address>>,
    /// Protected VMs that stay down until their replicas have said that they may run here.
    pub asked: BTreeMap<VmName, Question>,
    /// VMs that the last question left down, until they are started or asked about again.
    pub kept_down: BTreeMap<VmName, KeptDown>,
    /// The highest epoch known per VM, by its origin.
    #[serde(with = "crate::pairs")]
    pub rights: BTreeMap<VmRef, Right>,
}

/// A listing that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingFailed {
    /// Why, and what to do.
    pub failure: Failure,
    /// When it was heard.
    pub at: Timestamp,
}

/// Who may run a VM, asked of its replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Why it is asked.
    pub why: Why,
    /// Who has not said yes yet.
    pub awaited: BTreeSet<Address>,
    /// Who of them refused to answer the last time, with the code.
    #[serde(with = "crate::pairs")]
    pub refused: BTreeMap<Address, String>,
    /// How often it was repeated: makes the wait longer.
    pub repeated: u32,
    /// When those awaited are asked again.
    pub again: Timestamp,
}

/// Why it is asked who may run a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// Its guest ran and was found down after the host's return.
    FoundDown,
    /// An operator wants it to run.
    Wanted,
}

/// What keeps a VM down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDown {
    /// The replica that said so.
    pub by: Address,
    /// The epoch that it knows.
    pub epoch: Epoch,
}

/// The readers of one VM.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Readers(#[serde(with = "crate::pairs")] pub BTreeMap<Address, Read>);

/// A reader's snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Its name.
    pub snapshot: Name,
    /// How far it has come.
    pub status: ReadStatus,
}

/// How far a reader's snapshot has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadStatus {
    /// The agent was told to make it.
    Preparing,
    /// It was made, and the reader told.
    Ready {
        /// When the VM was frozen.
        taken: Timestamp,
    },
    /// The reader was done before it was made: it is let go once it is.
    Abandoned,
    /// The agent was told to let it go.
    Ending,
    /// The agent could not let it go.
    EndDelayed {
        /// When it is told again.
        again: Timestamp,
    },
}

/// The newest right to run that this host has heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Right {
    /// The epoch.
    pub epoch: Epoch,
    /// Who has it.
    pub holder: Holder,
}

/// Who has the right to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holder {
    /// This VM on this host.
    Here {
        /// The VM.
        vm: VmName,
    },
    /// Not this host.
    Elsewhere,
}

impl Defined {
    /// The VM that a VM of this host stands for: itself, unless its facts, or a grant made before it was listed, say
    /// otherwise.
    pub fn origin(&self, vm: &VmName, context: &Context) -> VmRef {
        let listed = self.inventory.get(vm).map(|facts| facts.origin.clone());
        let granted = || {
            let here = Holder::Here { vm: vm.clone() };
            self.rights.iter().find(|(_, right)| right.holder == here).map(|(origin, _)| origin.clone())
        };
        listed.unwrap_or_else(granted).unwrap_or_else(|| itself(vm, context))
    }

    /// The right to run what `origin` names. Until something is granted, counter 0 belongs to the VM where it stands.
    pub fn right(&self, origin: &VmRef, context: &Context) -> Right {
        self.rights.get(origin).cloned().unwrap_or_else(|| {
            let here = *origin == itself(&origin.vm, context);
            let holder = if here { Holder::Here { vm: origin.vm.clone() } } else { Holder::Elsewhere };
            Right { epoch: Epoch { counter: 0, site: origin.site.clone(), frame: Seq(0) }, holder }
        })
    }

    /// Whether a VM may run here, as far as this host knows.
    pub fn may_run(&self, vm: &VmName, context: &Context) -> bool {
        let right = self.right(&self.origin(vm, context), context);
        right.holder == Holder::Here { vm: vm.clone() }
    }

    /// Whether this VM is known: listed, or granted before a listing showed it.
    pub(super) fn knows(&self, vm: &VmName) -> bool {
        let granted = |right: &Right| right.holder == Holder::Here { vm: vm.clone() };
        self.inventory.contains_key(vm) || self.rights.values().any(granted)
    }

    /// The interval between listings.
    pub(super) fn discovery_every(&self) -> Millis {
        match self.spec.discovery_every {
            Millis(0) => DISCOVERY_EVERY,
            every => every.max(DISCOVERY_AT_LEAST),
        }
    }
}

/// A VM of this host as others name it.
pub(super) fn itself(vm: &VmName, context: &Context) -> VmRef {
    VmRef { site: context.me.site.clone(), host: context.me.entity.name.clone(), vm: vm.clone() }
}

/// The host's rules.
#[derive(Debug)]
pub struct Host;

impl Decider for Host {
    const KIND: Kind = Kind::Host;
    type State = State;
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    fn command(message: &Message) -> Option<&Command> {
        if let Message::Host(command) = message { Some(command) } else { None }
    }

    fn decide(state: &State, input: &Input<Command>, context: &Context) -> Result<Decision<Event>, Rejection> {
        decide::decide(state, input, context)
    }

    fn evolve(state: &mut State, event: &Event) {
        evolve::evolve(state, event);
    }

    fn resume(state: &State, context: &Context) -> Decision<Event> {
        match state {
            State::Undefined { .. } => Decision::none(),
            State::Defined(host) => inventory::returned(host, context),
        }
    }

    fn next_wake(state: &State) -> Option<Timestamp> {
        let State::Defined(host) = state else { return None };
        let reads = host.reads.values().flat_map(|readers| readers.0.values()).filter_map(|read| match read.status {
            ReadStatus::EndDelayed { again } => Some(again),
            ReadStatus::Preparing | ReadStatus::Ready { .. } | ReadStatus::Abandoned | ReadStatus::Ending => None,
        });
        let questions = host.asked.values().map(|question| question.again);
        reads.chain(questions).chain(host.link.again).chain(host.discovery_due).min()
    }
}
