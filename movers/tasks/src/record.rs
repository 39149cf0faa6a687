//! What is written to the agent's record log. One record is one input's worth of facts: it is kept whole or not at all,
//! so that a crash never separates an accepted message from what was made of it.

use crate::state::State;
use farshore_schemas::envelope::{Envelope, Mark};
use farshore_schemas::ids::{Address, Lineage, Name, SiteName, TaskId, VmRef};
use farshore_schemas::messages::Epoch;
use farshore_schemas::messages::agent::{FolderOwner, Order, Outcome};
use farshore_schemas::messages::host::Driver;
use farshore_schemas::units::Timestamp;
use serde::{Deserialize, Serialize};

/// One entry of the record log: facts that became true together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When, by the agent's clock.
    pub at: Timestamp,
    /// What, in order.
    pub facts: Vec<Fact>,
}

/// Where a repository is, and whose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryPlace {
    /// Its folder.
    pub path: String,
    /// The file with its passphrase, when it is encrypted.
    pub passphrase_file: Option<String>,
    /// Its owner's lineage.
    pub lineage: Lineage,
    /// Lineages that the owner had before: a folder that bears one of them is taken over.
    pub formerly: Vec<Lineage>,
    /// The owner from whom an operator took it over, if one did.
    pub adopted: Option<FolderOwner>,
}

/// Something that an agent must not forget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    /// The agent speaks under this incarnation from now on. The first fact of a log; a later one renumbers what is unacked.
    Incarnation {
        /// Its site.
        site: SiteName,
        /// Its name.
        name: Name,
        /// The lineage of its outgoing channels.
        incarnation: Lineage,
    },
    /// The control of its site speaks under this lineage from now on; the one before is refused.
    ControlIs {
        /// The lineage.
        lineage: Lineage,
    },
    /// Control's channel has come this far.
    Heard {
        /// The channel's lineage.
        lineage: Lineage,
        /// How far.
        mark: Mark,
    },
    /// Control has answered the hello of this incarnation.
    Welcomed,
    /// A host to serve.
    Host {
        /// The host.
        host: Name,
        /// How it is driven.
        driver: Driver,
    },
    /// A repository to serve.
    Repository {
        /// The repository.
        repository: Name,
        /// Where it is, and whose.
        place: RepositoryPlace,
    },
    /// The highest epoch seen for a VM.
    Raised {
        /// The VM's origin.
        origin: VmRef,
        /// The epoch.
        epoch: Epoch,
    },
    /// A task was taken on.
    Accepted {
        /// Who is answered.
        from: Address,
        /// The order.
        order: Box<Order>,
    },
    /// A task shall stop.
    Cancelled {
        /// The task.
        task: TaskId,
    },
    /// A task has ended with these answers (several for a paged one). Also for tasks that were never started.
    Ended {
        /// The task.
        task: TaskId,
        /// Who is answered.
        from: Address,
        /// The answers.
        outcomes: Vec<Outcome>,
    },
    /// A message stands in the outbox.
    Queued {
        /// The message.
        envelope: Box<Envelope>,
        /// The task whose last answer this is.
        ends: Option<TaskId>,
    },
    /// A receiver has everything up to this number.
    Acked {
        /// The receiver.
        to: Address,
        /// The number.
        number: u64,
    },
    /// Everything so far: stands for all records before it.
    Snapshot(Box<State>),
}

/// What was not obeyed, and why. For logs and counters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// Only the control of the agent's own site is obeyed.
    #[error("{from} is not the control of this agent's site: its message was dropped")]
    NotOurControl {
        /// Who tried.
        from: Address,
    },
    /// Meant for someone else.
    #[error("a message for {to} came to this agent: it was dropped")]
    NotForUs {
        /// For whom.
        to: Address,
    },
    /// Control spoke under a lineage that a newer one has replaced.
    #[error("a message under control's earlier lineage {lineage} was refused")]
    OldLineage {
        /// The lineage.
        lineage: Lineage,
    },
    /// The same number with other content: two histories under one lineage.
    #[error("message {number} under control's lineage {lineage} came with two contents: the channel is forked")]
    Forked {
        /// The lineage.
        lineage: Lineage,
        /// The number.
        number: u64,
    },
    /// Nothing is accepted before this incarnation is welcomed.
    #[error("message {number} came before control had welcomed this incarnation: it has to come again")]
    BeforeWelcome {
        /// Its number.
        number: u64,
    },
    /// A message that an agent has no use for; the channel moves on.
    #[error("message {number} from {from} means nothing to an agent: it was passed over")]
    Meaningless {
        /// Who sent it.
        from: Address,
        /// Its number.
        number: u64,
    },
    /// A message that came too late; the channel moves on.
    #[error("message {number} from {from} had expired: it was passed over")]
    Expired {
        /// Who sent it.
        from: Address,
        /// Its number.
        number: u64,
    },
    /// Something that this agent said was refused.
    #[error("{by} refused what this agent said: {code}")]
    AnswerRefused {
        /// Who refused.
        by: Address,
        /// With which code.
        code: String,
    },
    /// The epoch told for a VM has the counter of one known already, from another site.
    #[error("{origin}: epoch {counter} was granted by {one} and by {other}: the first is kept")]
    EpochConflict {
        /// The VM's origin.
        origin: VmRef,
        /// The counter.
        counter: u64,
        /// Who granted the one that is kept.
        one: SiteName,
        /// Who granted the other.
        other: SiteName,
    },
    /// Control says that our channel to it is forked: our memory was put back to an earlier state.
    #[error("control says that message {number} of this agent came with two contents: a new incarnation begins")]
    WeForked {
        /// The number.
        number: u64,
    },
}
