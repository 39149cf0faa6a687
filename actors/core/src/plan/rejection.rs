//! How a plan says no.

use farshore_schemas::ids::{Address, Name};
use farshore_schemas::messages::Refusal;

/// A normal no.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// It is not defined.
    #[error("failover plan {plan} is not defined")]
    Unknown {
        /// Which.
        plan: Name,
    },
    /// It has no steps.
    #[error("failover plan {plan} cannot be defined: it names no replica")]
    Empty {
        /// Which.
        plan: Name,
    },
    /// A replica comes twice.
    #[error("failover plan {plan} cannot be defined: it names replica {replica} twice")]
    Twice {
        /// Which.
        plan: Name,
        /// The replica.
        replica: Name,
    },
    /// Nothing could ever start.
    #[error("failover plan {plan} cannot be defined: its concurrency is 0, so that nothing could start")]
    NoConcurrency {
        /// Which.
        plan: Name,
    },
    /// It runs.
    #[error("failover plan {plan} runs: {left} replicas have not answered")]
    Running {
        /// Which.
        plan: Name,
        /// How many.
        left: usize,
    },
    /// An override without a name or a reason.
    #[error("failover plan {plan}: an override needs the name of who gives it and a reason")]
    BareOverride {
        /// Which.
        plan: Name,
    },
    /// An override for something that has no guard to override.
    #[error("failover plan {plan}: an override belongs to a failover only")]
    OverrideMisplaced {
        /// Which.
        plan: Name,
    },
    /// An answer that nothing waits for.
    #[error("failover plan {plan} does not wait for {what} from {from}")]
    Stale {
        /// Which.
        plan: Name,
        /// What came.
        what: String,
        /// From whom.
        from: Address,
    },
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Refusal {
        let (code, advice) = match &rejection {
            Rejection::Unknown { .. } => {
                ("FS-PLAN-UNKNOWN", "apply its definition first; `farshore get plans` lists those that are there")
            }
            Rejection::Empty { .. } => ("FS-PLAN-EMPTY", "name at least one replica under steps"),
            Rejection::Twice { .. } => ("FS-PLAN-TWICE", "name each replica once"),
            Rejection::NoConcurrency { .. } => ("FS-PLAN-CONCURRENCY", "use 1 or more; 10 is the default"),
            Rejection::Running { .. } => ("FS-PLAN-RUNNING", "wait for its end, then run it again for what is left"),
            Rejection::BareOverride { .. } => ("FS-PLAN-OVERRIDE", "give both, they are kept in the log"),
            Rejection::OverrideMisplaced { .. } => ("FS-PLAN-OVERRIDE-MISPLACED", "leave the override out"),
            Rejection::Stale { .. } => ("FS-PLAN-STALE", "nothing has to be done: the run it belongs to has ended"),
        };
        Refusal { code: code.to_owned(), message: rejection.to_string(), advice: advice.to_owned() }
    }
}
