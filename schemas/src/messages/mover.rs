//! The mover actor: one agent process with its roles, slots, endpoint and health. Orders for mover tasks go through it,
//! so that a site's control is the only one that its agents obey.

use super::Epoch;
use super::agent::{Endpoint, Failure, Order, Outcome, TaskSpec};
use crate::ids::{Address, Lineage, Name, TaskId, VmRef};
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};

/// What a mover may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Reads source disks.
    Source,
    /// Writes target disks.
    Target,
    /// Keeps a repository.
    Repository,
}

/// How a mover reads a disk, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransportMode {
    /// The image or device itself.
    Direct,
    /// A snapshot of the storage system.
    StorageSnapshot,
    /// The disk attached to the proxy.
    Hotadd,
    /// NBD over the network.
    Network,
}

/// A mover, as an operator defines it. Its name is its agent's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoverSpec {
    /// Its roles.
    pub roles: Vec<Role>,
    /// Tasks at once; at most 2 per core is the field's rule.
    pub slots: u32,
}

/// What a mover accepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// From the operator.
    Define(MoverSpec),
    /// From the operator: forget it. Refused while tasks are open or a host or repository names it.
    Remove,
    /// From its agent, on every connect. A new incarnation has lost its memory.
    Hello {
        /// Its incarnation.
        incarnation: Lineage,
        /// Its data channel.
        endpoint: Endpoint,
        /// Its program version.
        version: String,
        /// CPU cores of its machine.
        cores: u32,
    },
    /// From a host or repository actor of this site: tell me when my agent is there (`AgentReady`).
    Register,
    /// From the same: this mover is no longer named by it.
    Unregister,
    /// From a session or replica of any site: run this on your agent, and tell me (`TaskEnded`). The task id is the asker's.
    Assign {
        /// The task.
        task: TaskId,
        /// The VM epoch it acts under, if any.
        fence: Option<(VmRef, Epoch)>,
        /// What to do.
        spec: Box<TaskSpec>,
    },
    /// From whoever assigned it: stop it.
    Cancel {
        /// The task.
        task: TaskId,
    },
    /// From the agent: a task has ended. Passed on to the task's owner.
    TaskEnded {
        /// The task.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
    /// From the broker: what are you, and are you there? Answered by `broker::Command::MoverIs`.
    Describe {
        /// Who asks.
        broker: Address,
        /// For which request.
        request: Name,
    },
}

/// What a mover's log tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// An operator defined it.
    Defined {
        /// The definition.
        spec: MoverSpec,
    },
    /// An operator removed it.
    Removed,
    /// Its agent said hello. Another incarnation than before has lost its memory.
    AgentSeen {
        /// Its incarnation.
        incarnation: Lineage,
        /// Its data channel.
        endpoint: Endpoint,
        /// Its program version.
        version: String,
        /// CPU cores of its machine.
        cores: u32,
        /// The lineage of the log that heard it; none in logs of before this was noted.
        #[serde(default)]
        under: Option<Lineage>,
        /// When.
        at: Timestamp,
    },
    /// The log has another lineage by now, so it was put back, or recovered elsewhere: what it says of the agent may be long past, down
    /// to its address and its key, until it says hello again.
    AgentAwaited,
    /// A host or repository named this mover.
    Registered {
        /// Who.
        who: Address,
    },
    /// A host or repository no longer names it.
    Unregistered {
        /// Who.
        who: Address,
    },
    /// A task was taken on.
    Assigned {
        /// The order, as the agent gets it. The task's owner is told the outcome.
        order: Box<Order>,
    },
    /// The owner wants a task stopped.
    CancelAsked {
        /// The task.
        task: TaskId,
    },
    /// A task ended, and its owner was told.
    TaskEnded {
        /// The task.
        task: TaskId,
        /// Why it failed, if it did.
        failure: Option<Failure>,
    },
    /// The owner of a task did not want to hear its outcome.
    OutcomeUnwanted {
        /// The task.
        task: TaskId,
        /// The code of the owner's refusal.
        code: String,
    },
}
