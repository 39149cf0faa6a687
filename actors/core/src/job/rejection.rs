//! How a job says no.

use farshore_schemas::ids::{Address, Name};
use farshore_schemas::messages::Refusal;

/// A normal no.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// It is not defined.
    #[error("job {job} is not defined")]
    Unknown {
        /// Which.
        job: Name,
    },
    /// Its name is too long.
    #[error("job name {job} has {len} characters; {most} are the most, since session names are made from it")]
    NameTooLong {
        /// Which.
        job: Name,
        /// Its length.
        len: usize,
        /// The longest.
        most: usize,
    },
    /// A value of the definition is out of its range.
    #[error("job {job} cannot be defined: {field} is {found}, and must be {rule}")]
    BadSpec {
        /// Which.
        job: Name,
        /// The field of the definition.
        field: &'static str,
        /// What was given.
        found: String,
        /// What is allowed.
        rule: &'static str,
    },
    /// A restore runs once.
    #[error("job {job} is the record of one restore and is neither run again nor changed")]
    RestoreIsOnce {
        /// Which.
        job: Name,
    },
    /// It runs.
    #[error("job {job} runs already, as session {session}")]
    Running {
        /// Which.
        job: Name,
        /// The session.
        session: Name,
    },
    /// It does not run.
    #[error("job {job} does not run")]
    NotRunning {
        /// Which.
        job: Name,
    },
    /// It was told to stop already.
    #[error("job {job}: session {session} was told to stop already and is winding down")]
    Stopping {
        /// Which.
        job: Name,
        /// The session.
        session: Name,
    },
    /// It is so already.
    #[error("job {job} is {} already", if *.enabled { "enabled" } else { "disabled" })]
    AlreadyEnabled {
        /// Which.
        job: Name,
        /// How it is.
        enabled: bool,
    },
    /// An answer that nothing waits for.
    #[error("job {job} does not wait for {what} from {from}")]
    Stale {
        /// Which.
        job: Name,
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
                ("FS-JOB-UNKNOWN", "apply its definition first; `farshore get jobs` lists those that are there")
            }
            Rejection::NameTooLong { .. } => ("FS-JOB-NAME-LONG", "choose a shorter name"),
            Rejection::BadSpec { .. } => ("FS-JOB-BAD-SPEC", "correct the value and apply the definition again"),
            Rejection::RestoreIsOnce { .. } => {
                ("FS-JOB-RESTORE-ONCE", "start another restore; it gets a job of its own")
            }
            Rejection::Running { .. } => ("FS-JOB-RUNNING", "wait for its end or stop it first"),
            Rejection::NotRunning { .. } => ("FS-JOB-NOT-RUNNING", "there is nothing to stop"),
            Rejection::Stopping { .. } => ("FS-JOB-STOPPING", "wait for its end: open tasks are given two minutes"),
            Rejection::AlreadyEnabled { .. } => ("FS-JOB-ALREADY", "nothing has to be done"),
            Rejection::Stale { .. } => ("FS-JOB-STALE", "nothing has to be done: the run it belongs to has ended"),
        };
        Refusal { code: code.to_owned(), message: rejection.to_string(), advice: advice.to_owned() }
    }
}
