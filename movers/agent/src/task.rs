//! What a task runner works with: its order, its stop, and how it fails.

use crate::link::LinkError;
use crate::shared::Shared;
use crate::stop::{Stop, Told};
use farshore_hosts::HostError;
use farshore_schemas::envelope::Wire;
use farshore_schemas::messages::agent::{Failure, Order, Outcome};
use farshore_schemas::subjects;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Progress is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Why a task did not come to its end.
#[derive(Debug)]
pub(crate) enum TaskError {
    /// It could not be done.
    Failed(Failure),
    /// The data channel broke; it may be tried again.
    Link(LinkError),
    /// It was told to stop.
    Stopped(Told),
}

impl From<Failure> for TaskError {
    fn from(failure: Failure) -> Self {
        TaskError::Failed(failure)
    }
}

impl From<LinkError> for TaskError {
    fn from(error: LinkError) -> Self {
        TaskError::Link(error)
    }
}

impl From<HostError> for TaskError {
    fn from(error: HostError) -> Self {
        TaskError::Failed(error.failure())
    }
}

impl From<farshore_repository::Error> for TaskError {
    fn from(error: farshore_repository::Error) -> Self {
        TaskError::Failed(Failure::from(&error))
    }
}

/// A failure in the words of this crate.
pub(crate) fn failure(code: &str, message: impl Into<String>, advice: &str, transient: bool) -> Failure {
    Failure { code: code.to_owned(), message: message.into(), advice: advice.to_owned(), transient }
}

/// The file system refused something on an image.
pub(crate) fn image_failure(doing: &str, what: &str, error: &std::io::Error) -> Failure {
    failure(
        "FS-AGENT-IMAGE",
        format!("{doing} {what}: {error}"),
        "check the disk under it, its free space and the rights of the agent's user",
        true,
    )
}

pub(crate) type TaskResult<T> = Result<T, TaskError>;

/// One task under way.
pub(crate) struct Task {
    pub(crate) shared: Arc<Shared>,
    pub(crate) order: Order,
    pub(crate) stop: Arc<Stop>,
    told_at: Mutex<Option<Instant>>,
}

impl Task {
    pub(crate) fn new(shared: Arc<Shared>, order: Order, stop: Arc<Stop>) -> Task {
        Task { shared, order, stop, told_at: Mutex::default() }
    }

    /// A safe point: ends the task if it was told to stop.
    pub(crate) fn go_on(&self) -> TaskResult<()> {
        self.stop.told().map_or(Ok(()), |why| Err(TaskError::Stopped(why)))
    }

    /// Says how far it is, now and then. Lossy, for eyes only.
    pub(crate) fn progress(&self, done: u64, total: u64, note: &str) {
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.is_some_and(|at| at.elapsed() < PROGRESS_EVERY) {
            return;
        }
        *told_at = Some(Instant::now());
        let wire = Wire::Progress { task: self.order.task.clone(), done, total, note: note.to_owned() };
        // Nobody misses it if the bus has no room.
        let _ = farshore_bus::send_wire(self.shared.bus.as_ref(), &subjects::progress(&self.shared.site), &wire);
    }

    /// What the owner is told of an end; nothing when the agent is closing, since then it has not ended.
    pub(crate) fn outcome(&self, end: TaskResult<Vec<Outcome>>) -> Option<Vec<Outcome>> {
        match (end, self.stop.told()) {
            (Ok(outcomes), _) => Some(outcomes),
            // What a shut socket made of it is not why it ended.
            (Err(_), Some(Told::Closing)) | (Err(TaskError::Stopped(Told::Closing)), _) => None,
            (Err(_), Some(Told::Cancelled)) | (Err(TaskError::Stopped(Told::Cancelled)), _) => {
                Some(vec![Outcome::Cancelled])
            }
            (Err(TaskError::Failed(failure)), None) => Some(vec![Outcome::Failed(failure)]),
            (Err(TaskError::Link(error)), None) => Some(vec![Outcome::Failed(link_failure(&error))]),
        }
    }
}

pub(crate) fn link_failure(error: &LinkError) -> Failure {
    match error {
        LinkError::Handshake(why) => failure(
            "FS-AGENT-PEER",
            format!("the data channel was not opened: {why}"),
            "the agent at that address is not the one named: look what listens there, and whether the agent has a new certificate",
            false,
        ),
        LinkError::Garbage(_) | LinkError::TooLong(_) => failure(
            "FS-AGENT-PROTOCOL",
            format!("the data channel was given up: {error}"),
            "bring both agents to the same version",
            false,
        ),
        LinkError::Closed | LinkError::Idle | LinkError::Io(_) | LinkError::Address(_) => failure(
            "FS-AGENT-LINK",
            format!("the data channel broke and could not be made again in time: {error}"),
            "check that the other agent runs and that its port can be reached from here",
            true,
        ),
    }
}
