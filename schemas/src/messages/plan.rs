//! A failover plan: replicas in order, a delay after each, and how many may start at once. It works on the whole group:
//! failover, undo, failback, switch, commit.

use super::agent::Failure;
use super::replica::PointChoice;
use super::{Override, SessionResult};
use crate::ids::Name;
use crate::units::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// One VM of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The replica.
    pub replica: Name,
    /// Wait after it was started before the next starts.
    pub delay: Millis,
}

/// A plan, as an operator defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSpec {
    /// The VMs in their order.
    pub steps: Vec<Step>,
    /// How many may be under way at once; the field's default is 10.
    pub concurrency: u32,
}

/// What a plan does with its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Failover, in order.
    Failover,
    /// Undo failover, in reverse order.
    Undo,
    /// Failback, phase 1.
    Failback,
    /// Switch to production, in order.
    Switch,
    /// Commit failback.
    Commit,
}

/// What a plan accepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// From the operator.
    Define(PlanSpec),
    /// From the operator: forget it. Refused while it runs.
    Remove,
    /// From the operator: do this with the whole group. VMs for which it is already done are skipped.
    Run {
        /// What.
        action: Action,
        /// For failover: which points.
        point: PointChoice,
        /// For failover: named override, when the sources' release cannot be had.
        forced: Option<Override>,
    },
    /// From a replica of the plan: the step asked for has ended.
    StepEnded {
        /// The replica.
        replica: Name,
        /// What was asked.
        action: Action,
        /// Why it failed, if so.
        failure: Option<Failure>,
    },
}

/// What happened to a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// It is (re)defined.
    Defined {
        /// As this.
        spec: PlanSpec,
    },
    /// It is forgotten.
    Removed,
    /// A run begins.
    RunStarted {
        /// What it does.
        action: Action,
        /// For failover: which points.
        point: PointChoice,
        /// The override, if there is one.
        forced: Option<Override>,
        /// On whose behalf.
        principal: String,
        /// The replicas in the order of this run, each with the wait after its start.
        order: Vec<Step>,
        /// When.
        at: Timestamp,
    },
    /// A replica was told.
    StepStarted {
        /// The replica.
        replica: Name,
        /// When.
        at: Timestamp,
        /// The next one is not started before this.
        next: Timestamp,
    },
    /// A replica has answered.
    StepEnded {
        /// The replica.
        replica: Name,
        /// Why it failed, if so.
        failure: Option<Failure>,
        /// When.
        at: Timestamp,
    },
    /// Every replica has answered.
    RunEnded {
        /// What it did.
        action: Action,
        /// Its worst step.
        result: SessionResult,
        /// Steps that are done.
        done: u32,
        /// Steps that failed.
        failed: u32,
        /// When.
        at: Timestamp,
    },
}
