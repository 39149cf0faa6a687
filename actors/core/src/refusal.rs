//! How a rejection becomes the refusal that its sender reads.

use farshore_schemas::messages::Refusal;
use farshore_schemas::messages::agent::{Failure, Outcome};

/// Puts a refusal together.
pub(crate) fn refusal(code: &str, message: impl Into<String>, advice: &str) -> Refusal {
    Refusal { code: code.to_owned(), message: message.into(), advice: advice.to_owned() }
}

/// A refusal as the failure of what was ordered: an agent that refuses an order has failed at it. It is not transient,
/// because the same order would be refused again.
pub(crate) fn as_failure(refusal: &Refusal) -> Failure {
    Failure {
        code: refusal.code.clone(),
        message: refusal.message.clone(),
        advice: refusal.advice.clone(),
        transient: false,
    }
}

/// Why an outcome is not what was ordered, when it is a failure.
pub(crate) fn failure_of(outcome: &Outcome) -> Option<Failure> {
    match outcome {
        Outcome::Failed(failure) | Outcome::TooEarly { failure, .. } => Some(failure.clone()),
        Outcome::Cancelled => Some(Failure {
            code: "FS-TASK-CANCELLED".to_owned(),
            message: "the task was cancelled before it was done".to_owned(),
            advice: "order it again if it is still wanted".to_owned(),
            transient: true,
        }),
        Outcome::Done
        | Outcome::Inventory { .. }
        | Outcome::Snapshot { .. }
        | Outcome::DiskStored { .. }
        | Outcome::PointDurable { .. }
        | Outcome::Pruned { .. }
        | Outcome::Verified { .. }
        | Outcome::LogKept { .. }
        | Outcome::DiskRestored { .. }
        | Outcome::DiskSent { .. }
        | Outcome::DiskReceived { .. } => None,
    }
}

/// The failure of an order whose answer is of another kind than was asked for: nothing is known of what was done.
pub(crate) fn unexpected_outcome(asked: &str) -> Failure {
    Failure {
        code: "FS-TASK-OUTCOME".to_owned(),
        message: format!("the agent ended {asked} with an outcome of another kind"),
        advice: "check that agent and control are of compatible versions".to_owned(),
        transient: false,
    }
}
