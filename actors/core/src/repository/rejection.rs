//! How a repository says no.

use crate::refusal::refusal;
use farshore_schemas::ids::{Address, Name, PointId, TaskId};
use farshore_schemas::messages::Refusal;

/// Why a repository rejects an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// The repository is not defined.
    Unknown {
        /// Which.
        repository: Name,
    },
    /// It cannot be removed, or moved to another path.
    InUse {
        /// Which.
        repository: Name,
        /// Points in it, forgotten ones included.
        points: usize,
        /// Accesses that are open.
        accesses: usize,
        /// Orders without an answer.
        orders: usize,
    },
    /// Only the mover that it names may say this.
    NotMyMover {
        /// Who said it.
        from: Address,
    },
    /// Only its own agent may say this.
    NotMyAgent {
        /// Who said it.
        from: Address,
    },
    /// Only the site's own control may say this.
    NotMyControl {
        /// Who said it.
        from: Address,
    },
    /// Taking a folder over needs a name and a reason.
    BareOverride {
        /// Which.
        repository: Name,
    },
    /// Only sessions open accesses.
    HolderKind {
        /// Who asked.
        holder: Address,
    },
    /// The holder has an access already.
    AccessOpen {
        /// Whose.
        holder: Address,
    },
    /// The holder has no open access for writing.
    NoAccess {
        /// Who.
        holder: Address,
    },
    /// There is no access of this holder.
    AccessUnknown {
        /// Who.
        holder: Address,
    },
    /// The access is being shut already.
    AccessClosing {
        /// Whose.
        holder: Address,
    },
    /// To read, a point must be named.
    PointNotNamed {
        /// Who asked.
        holder: Address,
    },
    /// No such point.
    PointUnknown {
        /// Which.
        point: PointId,
    },
    /// The point was forgotten by retention.
    PointForgotten {
        /// Which.
        point: PointId,
    },
    /// A point of that name is there.
    PointExists {
        /// Which.
        point: PointId,
    },
    /// The point is being made.
    Committing {
        /// Which.
        point: PointId,
    },
    /// A point without disks proves nothing.
    NoDisks {
        /// Which.
        point: PointId,
    },
    /// The point is being checked.
    Verifying {
        /// Which.
        point: PointId,
    },
    /// The point is held, or not held, already.
    HoldUnchanged {
        /// Which.
        point: PointId,
        /// As it is.
        held: bool,
    },
    /// A hold needs a reason.
    HoldReason {
        /// Which point was to be held.
        point: PointId,
    },
    /// A hold that ends before it begins.
    HoldPast {
        /// Which point was to be held.
        point: PointId,
    },
    /// No such order is open.
    TaskUnknown {
        /// The task.
        task: TaskId,
    },
    /// A refusal of something that is not waited for.
    RefusalUnexpected {
        /// Who refused.
        by: Address,
        /// With which code.
        code: String,
    },
    /// A wake before its time.
    NotDue,
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Refusal {
        let text = rejection.message();
        let (code, advice) = rejection.code_and_advice();
        refusal(code, text, advice)
    }
}

impl Rejection {
    fn message(&self) -> String {
        match self {
            Rejection::Unknown { repository } => format!("the repository {repository} is not defined"),
            Rejection::InUse { repository, points, accesses, orders } => format!(
                "the repository {repository} holds {points} points, {accesses} open accesses and {orders} open orders"
            ),
            Rejection::NotMyMover { from } => format!("{from} is not the mover that this repository names"),
            Rejection::NotMyAgent { from } => format!("{from} is not the agent that keeps this repository"),
            Rejection::NotMyControl { from } => format!("{from} is not the control of this repository's site"),
            Rejection::BareOverride { repository } => {
                format!("the folder of {repository} was to be taken from its owner without a name and a reason")
            }
            Rejection::HolderKind { holder } => format!("{holder} asked for an access, but only sessions have one"),
            Rejection::AccessOpen { holder } => format!("{holder} has an access already; it can have one"),
            Rejection::NoAccess { holder } => format!("{holder} has no open access for writing"),
            Rejection::AccessUnknown { holder } => format!("{holder} has no access here"),
            Rejection::AccessClosing { holder } => format!("the access of {holder} is being shut already"),
            Rejection::PointNotNamed { holder } => format!("{holder} asked to read and named no point"),
            Rejection::PointUnknown { point } => format!("there is no point {point} in this repository"),
            Rejection::PointForgotten { point } => {
                format!("the point {point} was forgotten by retention, or was refused")
            }
            Rejection::PointExists { point } => format!("there is a point {point} already, made of other disks"),
            Rejection::Committing { point } => format!("the point {point} is being made"),
            Rejection::NoDisks { point } => format!("the point {point} has no disks, so nothing proves it"),
            Rejection::Verifying { point } => format!("the point {point} is being checked"),
            Rejection::HoldReason { point } => format!("the point {point} was to be held without a reason"),
            Rejection::HoldPast { point } => format!("the point {point} was to be held until a date that has passed"),
            Rejection::HoldUnchanged { point, held: true } => {
                format!("the point {point} is held until then already, for that reason")
            }
            Rejection::HoldUnchanged { point, held: false } => format!("the point {point} is not held"),
            Rejection::TaskUnknown { task } => format!("no task {task} is open: it has ended, or was never ordered"),
            Rejection::RefusalUnexpected { by, code } => {
                format!("{by} refused ({code}) something that this repository does not wait for")
            }
            Rejection::NotDue => "the repository was woken before anything was due".to_owned(),
        }
    }

    fn code_and_advice(&self) -> (&'static str, &'static str) {
        const DEFECT: &str = "report this as a defect, with the frame";
        const NOTHING: &str = "nothing needs to be done";
        match self {
            Rejection::Unknown { .. } => {
                ("FS-REPOSITORY-UNKNOWN", "apply a Repository resource of that name, or correct the name")
            }
            Rejection::InUse { .. } => {
                ("FS-REPOSITORY-IN-USE", "wait for running sessions, break dead accesses, and let the points go first")
            }
            Rejection::NotMyMover { .. } => {
                ("FS-REPOSITORY-NOT-MY-MOVER", "name that mover in the Repository resource, if it is meant")
            }
            Rejection::NotMyAgent { .. } => ("FS-REPOSITORY-NOT-MY-AGENT", "start the agent with its mover's name"),
            Rejection::NotMyControl { .. } => {
                ("FS-REPOSITORY-NOT-MY-CONTROL", "nothing needs to be done: a site's control says it by itself")
            }
            Rejection::BareOverride { .. } => ("FS-REPOSITORY-OVERRIDE", "give both, they are kept in the log"),
            Rejection::HolderKind { .. } => ("FS-REPOSITORY-HOLDER-KIND", DEFECT),
            Rejection::AccessOpen { .. } => ("FS-REPOSITORY-ACCESS-OPEN", "use it, or close it first"),
            Rejection::NoAccess { .. } => ("FS-REPOSITORY-NO-ACCESS", "open an access for writing first"),
            Rejection::AccessUnknown { .. } => ("FS-REPOSITORY-ACCESS-UNKNOWN", NOTHING),
            Rejection::AccessClosing { .. } => ("FS-REPOSITORY-ACCESS-CLOSING", "wait until the agent has shut it"),
            Rejection::PointNotNamed { .. } => ("FS-REPOSITORY-POINT-NOT-NAMED", "name the point to be read"),
            Rejection::PointUnknown { .. } => ("FS-REPOSITORY-POINT-UNKNOWN", "list the points and choose one of them"),
            Rejection::PointForgotten { .. } => ("FS-REPOSITORY-POINT-FORGOTTEN", "choose a newer point"),
            Rejection::PointExists { .. } => ("FS-REPOSITORY-POINT-EXISTS", "give the new point another name"),
            Rejection::Committing { .. } => ("FS-REPOSITORY-COMMITTING", "wait for its end"),
            Rejection::NoDisks { .. } => ("FS-REPOSITORY-NO-DISKS", "leave VMs without disks out of the job"),
            Rejection::Verifying { .. } => ("FS-REPOSITORY-VERIFYING", "wait for its end"),
            Rejection::HoldReason { .. } => ("FS-REPOSITORY-HOLD-REASON", "give one, it is kept in the log"),
            Rejection::HoldPast { .. } => ("FS-REPOSITORY-HOLD-PAST", "name a later date, or none"),
            Rejection::HoldUnchanged { .. } => ("FS-REPOSITORY-HOLD-UNCHANGED", NOTHING),
            Rejection::TaskUnknown { .. } => ("FS-REPOSITORY-TASK-UNKNOWN", NOTHING),
            Rejection::RefusalUnexpected { .. } => {
                ("FS-REPOSITORY-REFUSAL-UNEXPECTED", "look at the frame that sent it")
            }
            Rejection::NotDue => ("FS-REPOSITORY-NOT-DUE", DEFECT),
        }
    }
}
