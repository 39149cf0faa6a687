//! A failover plan: replicas in order, a delay after each, and how many may start at once. It works on the whole group:
//! failover, undo, failback, switch, commit.

use super::Override;
use super::replica::PointChoice;
use crate::ids::Name;
use crate::units::Millis;
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
        failure: Option<super::agent::Failure>,
    },
}
