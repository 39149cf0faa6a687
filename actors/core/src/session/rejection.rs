//! How a session says no.

use farshore_schemas::ids::{Address, Name};
use farshore_schemas::messages::Refusal;

/// A normal no.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// It has not begun.
    #[error("session {session} has not begun")]
    Unknown {
        /// Which.
        session: Name,
    },
    /// It has begun already.
    #[error("session {session} has begun already: a session runs once")]
    Begun {
        /// Which.
        session: Name,
    },
    /// It has ended.
    #[error("session {session} has ended; {what} from {from} comes too late")]
    Ended {
        /// Which.
        session: Name,
        /// What came.
        what: &'static str,
        /// From whom.
        from: Address,
    },
    /// It was told to stop already.
    #[error("session {session} was told to stop already and is winding down")]
    Stopping {
        /// Which.
        session: Name,
    },
    /// A task that is not open here: unknown, or ended before.
    #[error("session {session} has no open task {task} at {from}")]
    NoSuchTask {
        /// Which.
        session: Name,
        /// The task.
        task: String,
        /// Who says that it has ended.
        from: Address,
    },
    /// An answer that nothing waits for.
    #[error("session {session} does not wait for {what} from {from}")]
    Stale {
        /// Which.
        session: Name,
        /// What came.
        what: &'static str,
        /// From whom.
        from: Address,
    },
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Refusal {
        let (code, advice) = match &rejection {
            Rejection::Unknown { .. } => {
                ("FS-SESSION-UNKNOWN", "run its job; `farshore get sessions` lists those that are there")
            }
            Rejection::Begun { .. } => ("FS-SESSION-BEGUN", "run the job again; the run gets a session of its own"),
            Rejection::Ended { .. } => {
                ("FS-SESSION-ENDED", "nothing has to be done: what it held was let go when it ended")
            }
            Rejection::Stopping { .. } => ("FS-SESSION-STOPPING", "wait for its end: open tasks are given two minutes"),
            Rejection::NoSuchTask { .. } => {
                ("FS-SESSION-NO-TASK", "nothing has to be done: the VM it belongs to was dealt with")
            }
            Rejection::Stale { .. } => {
                ("FS-SESSION-STALE", "nothing has to be done: the VM it belongs to was dealt with")
            }
        };
        Refusal { code: code.to_owned(), message: rejection.to_string(), advice: advice.to_owned() }
    }
}
