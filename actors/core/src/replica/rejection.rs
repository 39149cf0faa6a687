//! How a replica says no.

use farshore_schemas::ids::{Address, Name, PointId};
use farshore_schemas::messages::Refusal;
use farshore_schemas::messages::replica::{PointChoice, Rest};

const BUSY: &str = "FS-REPLICA-BUSY";
const PERMANENT: &str = "FS-REPLICA-PERMANENT";

/// A normal no.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// There is no such replica.
    #[error("replica {replica} does not exist")]
    Unknown {
        /// Which.
        replica: Name,
    },
    /// Something is under way, or it does not stand where points are made.
    #[error("replica {replica} is busy: {doing}")]
    Busy {
        /// Which.
        replica: Name,
        /// What it does.
        doing: String,
    },
    /// It became the production VM.
    #[error("replica {replica} became the production VM for good and takes no more points")]
    Permanent {
        /// Which.
        replica: Name,
    },
    /// The command does not fit where it stands.
    #[error("replica {replica} stands in {rest:?}: {what} is not possible from there")]
    NotFrom {
        /// Which.
        replica: Name,
        /// Where it stands.
        rest: Rest,
        /// What was asked.
        what: &'static str,
    },
    /// It is done already.
    #[error("replica {replica} stands in {rest:?}: {what} is done already")]
    Already {
        /// Which.
        replica: Name,
        /// Where it stands.
        rest: Rest,
        /// What was asked.
        what: &'static str,
    },
    /// No point fits the choice.
    #[error("replica {replica} has no point that fits {choice:?}; it has {have}")]
    NoPoint {
        /// Which.
        replica: Name,
        /// The choice.
        choice: PointChoice,
        /// Points that it has.
        have: usize,
    },
    /// An override without a name or a reason.
    #[error("replica {replica}: an override needs the name of who gives it and a reason")]
    BareOverride {
        /// Which.
        replica: Name,
    },
    /// Its store lies with another host.
    #[error("replica {replica} has its store on host {has}, the job now says {wants}")]
    OtherHost {
        /// Which.
        replica: Name,
        /// Where the store is.
        has: Name,
        /// What the job says.
        wants: Name,
    },
    /// It protects another VM.
    #[error("replica {replica} protects VM {has}, not {wants}")]
    OtherVm {
        /// Which.
        replica: Name,
        /// Which VM.
        has: String,
        /// Which was asked for.
        wants: String,
    },
    /// The disks have changed.
    #[error(
        "replica {replica}: the VM's disks are not those of its points any more (one was added, taken away or resized)"
    )]
    OtherDisks {
        /// Which.
        replica: Name,
    },
    /// A point of that name is there.
    #[error("replica {replica} has a point {point} already")]
    PointExists {
        /// Which.
        replica: Name,
        /// The point.
        point: PointId,
    },
    /// The VM's right to run is held here.
    #[error("replica {replica}: the right to run this VM is held at this site, so the source's disks are not the VM's")]
    RightHeldHere {
        /// Which.
        replica: Name,
    },
    /// The point in the making is another one, or another's.
    #[error("replica {replica} does not make point {point} for {from}")]
    NotItsPoint {
        /// Which.
        replica: Name,
        /// The point.
        point: PointId,
        /// Who asked.
        from: Address,
    },
    /// A disk comes without the source's proof.
    #[error("replica {replica}: point {point} does not name the proof of each of the VM's disks")]
    NoProof {
        /// Which.
        replica: Name,
        /// The point.
        point: PointId,
    },
    /// It is being sealed.
    #[error("replica {replica}: point {point} is being sealed and cannot be given up any more")]
    Sealing {
        /// Which.
        replica: Name,
        /// The point.
        point: PointId,
    },
    /// A task that is not open here: unknown, or ended before.
    #[error("replica {replica} has no open task {task} at {from}")]
    NoSuchTask {
        /// Which.
        replica: Name,
        /// The task.
        task: String,
        /// Who says that it has ended.
        from: Address,
    },
    /// An answer that nothing waits for.
    #[error("replica {replica} does not wait for {what} from {from}")]
    Stale {
        /// Which.
        replica: Name,
        /// What came.
        what: &'static str,
        /// From whom.
        from: Address,
    },
}

impl Rejection {
    /// Whether a session that is refused with this code leaves the VM out with a warning instead of failing it.
    pub fn skips_session(code: &str) -> bool {
        code == BUSY || code == PERMANENT
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Refusal {
        let (code, advice) = match &rejection {
            Rejection::Unknown { .. } => {
                ("FS-REPLICA-UNKNOWN", "run its replication job; `farshore get replicas` lists those that are there")
            }
            Rejection::Busy { .. } => {
                (BUSY, "wait for its end (`farshore describe replica` says what it waits for), then ask again")
            }
            Rejection::Permanent { .. } => (PERMANENT, "take the VM out of the job; remove the replica to forget it"),
            Rejection::NotFrom { .. } => ("FS-REPLICA-STATE", "`farshore describe replica` says what is possible now"),
            Rejection::Already { .. } => ("FS-REPLICA-ALREADY", "nothing has to be done"),
            Rejection::NoPoint { .. } => {
                ("FS-REPLICA-NO-POINT", "choose one of the points that `farshore describe replica` lists")
            }
            Rejection::BareOverride { .. } => ("FS-REPLICA-OVERRIDE", "give both, they are kept in the log"),
            Rejection::OtherHost { .. } => {
                ("FS-REPLICA-HOST", "set the job back, or remove the replica so that it is made anew on the other host")
            }
            Rejection::OtherVm { .. } => {
                ("FS-REPLICA-VM", "rename the job: its name and the VM's make the replica's name")
            }
            Rejection::OtherDisks { .. } => {
                ("FS-REPLICA-DISKS", "remove the replica; the next run makes it anew with the disks as they are")
            }
            Rejection::PointExists { .. } => {
                ("FS-REPLICA-POINT-EXISTS", "run the job again: each run names its own points")
            }
            Rejection::RightHeldHere { .. } => {
                ("FS-REPLICA-RIGHT", "protect the VM that runs here instead, with a job in the other direction")
            }
            Rejection::NotItsPoint { .. } => {
                ("FS-REPLICA-NOT-ITS-POINT", "nothing has to be done: that point was given up")
            }
            Rejection::NoProof { .. } => ("FS-REPLICA-NO-PROOF", "run the job again and report this: it is a defect"),
            Rejection::Sealing { .. } => ("FS-REPLICA-SEALING", "wait: the store says soon whether it is sealed"),
            Rejection::NoSuchTask { .. } => {
                ("FS-REPLICA-NO-TASK", "nothing has to be done: what it belongs to was dealt with")
            }
            Rejection::Stale { .. } => {
                ("FS-REPLICA-STALE", "nothing has to be done: what it belongs to was dealt with")
            }
        };
        Refusal { code: code.to_owned(), message: rejection.to_string(), advice: advice.to_owned() }
    }
}
