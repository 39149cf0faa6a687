//! How a mover says no.

use crate::refusal::refusal;
use farshore_schemas::ids::{Address, Name, TaskId};
use farshore_schemas::messages::Refusal;

/// Why a mover rejects an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// The mover is not defined.
    Unknown {
        /// Which.
        mover: Name,
    },
    /// It has no slots or no roles.
    Useless {
        /// Which.
        mover: Name,
    },
    /// It cannot be removed while tasks are open or something names it.
    InUse {
        /// Which.
        mover: Name,
        /// Open tasks.
        tasks: usize,
        /// Who names it.
        named_by: Vec<Address>,
    },
    /// Only its own agent may say this.
    NotMyAgent {
        /// Who said it.
        from: Address,
    },
    /// Only hosts and repositories of this site register.
    RegistrantKind {
        /// Who tried.
        from: Address,
    },
    /// Who unregisters was not registered.
    NotRegistered {
        /// Who.
        from: Address,
    },
    /// A task id that is not the asker's.
    ForeignTask {
        /// The task.
        task: TaskId,
        /// Who asked.
        from: Address,
    },
    /// Only sessions and replicas have tasks done by a mover.
    OwnerKind {
        /// Who asked.
        from: Address,
    },
    /// Work that a host or repository orders from its agent itself.
    WrongTask {
        /// The task.
        task: TaskId,
    },
    /// The task is open already.
    TaskOpen {
        /// The task.
        task: TaskId,
    },
    /// No such task is open: it ended, or was never assigned.
    TaskUnknown {
        /// The task.
        task: TaskId,
    },
    /// The task is being cancelled already.
    Cancelling {
        /// The task.
        task: TaskId,
    },
    /// A description was asked for in the name of another broker.
    NotTheBroker {
        /// Who asked.
        from: Address,
    },
    /// A refusal of something that is not waited for.
    RefusalUnexpected {
        /// Who refused.
        by: Address,
        /// With which code.
        code: String,
    },
    /// A wake that was not asked for.
    NotDue,
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Refusal {
        match rejection {
            Rejection::Unknown { mover } => refusal(
                "FS-MOVER-UNKNOWN",
                format!("the mover {mover} is not defined"),
                "apply a Mover resource of that name, or correct the name",
            ),
            Rejection::Useless { mover } => refusal(
                "FS-MOVER-USELESS",
                format!("the mover {mover} has no roles or no slots, so nothing could ever run on it"),
                "give it at least one role and one slot",
            ),
            Rejection::InUse { mover, tasks, named_by } => {
                let named: Vec<String> = named_by.iter().map(ToString::to_string).collect();
                refusal(
                    "FS-MOVER-IN-USE",
                    format!("the mover {mover} has {tasks} open tasks and is named by [{}]", named.join(", ")),
                    "wait for the tasks, and remove or move the hosts and repositories that name it",
                )
            }
            Rejection::NotMyAgent { from } => refusal(
                "FS-MOVER-NOT-MY-AGENT",
                format!("{from} is not this mover's agent"),
                "start the agent with the name of its mover",
            ),
            Rejection::RegistrantKind { from } => refusal(
                "FS-MOVER-REGISTRANT-KIND",
                format!("{from} cannot register: only hosts and repositories of the mover's own site do"),
                "name a mover of the same site",
            ),
            Rejection::NotRegistered { from } => refusal(
                "FS-MOVER-NOT-REGISTERED",
                format!("{from} is not registered, so it cannot unregister"),
                "nothing needs to be done",
            ),
            Rejection::ForeignTask { task, from } => refusal(
                "FS-MOVER-FOREIGN-TASK",
                format!("{from} named the task {task}, which is not its own"),
                "report this as a defect, with the frame",
            ),
            Rejection::OwnerKind { from } => refusal(
                "FS-MOVER-OWNER-KIND",
                format!("{from} assigned a task, but only sessions and replicas do"),
                "report this as a defect, with the frame",
            ),
            Rejection::WrongTask { task } => refusal(
                "FS-MOVER-WRONG-TASK",
                format!("the task {task} is work that a host or repository orders from its agent itself"),
                "ask the host or repository instead",
            ),
            Rejection::TaskOpen { task } => {
                refusal("FS-MOVER-TASK-OPEN", format!("the task {task} is open already"), "wait for its end")
            }
            Rejection::TaskUnknown { task } => refusal(
                "FS-MOVER-TASK-UNKNOWN",
                format!("no task {task} is open: it has ended, or was never assigned"),
                "nothing needs to be done",
            ),
            Rejection::Cancelling { task } => refusal(
                "FS-MOVER-CANCELLING",
                format!("the task {task} is being cancelled already"),
                "wait for its end",
            ),
            Rejection::NotTheBroker { from } => refusal(
                "FS-MOVER-NOT-THE-BROKER",
                format!("{from} asked for a description that is due to another broker"),
                "report this as a defect, with the frame",
            ),
            Rejection::RefusalUnexpected { by, code } => refusal(
                "FS-MOVER-REFUSAL-UNEXPECTED",
                format!("{by} refused ({code}) something that this mover does not wait for"),
                "look at the frame that sent it",
            ),
            Rejection::NotDue => {
                refusal("FS-MOVER-NOT-DUE", "a mover waits for no time, and was woken", "report this as a defect")
            }
        }
    }
}
