//! How a broker says no.

use crate::refusal::refusal;
use farshore_schemas::ids::{Address, Name};
use farshore_schemas::messages::Refusal;
use farshore_schemas::messages::mover::Role;

/// Why a broker rejects an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// A mover was described by someone else.
    NotTheMover {
        /// Which mover.
        mover: Name,
        /// Who spoke.
        from: Address,
    },
    /// A mover that was not known is said to be removed.
    MoverUnknown {
        /// Which.
        mover: Name,
    },
    /// Only sessions and replicas hold slots.
    HolderKind {
        /// Who asked.
        holder: Address,
    },
    /// The mover that must do it does not have the role.
    RoleMissing {
        /// Which mover.
        mover: Name,
        /// Which role.
        role: Role,
    },
    /// A refusal of something that is not a grant in force.
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
            Rejection::NotTheMover { mover, from } => refusal(
                "FS-BROKER-NOT-THE-MOVER",
                format!("{from} described the mover {mover}, which only its own actor at this site may do"),
                "report this as a defect, with the frame",
            ),
            Rejection::MoverUnknown { mover } => refusal(
                "FS-BROKER-MOVER-UNKNOWN",
                format!("the mover {mover} is not known here, so its removal changes nothing"),
                "nothing needs to be done",
            ),
            Rejection::HolderKind { holder } => refusal(
                "FS-BROKER-HOLDER-KIND",
                format!("{holder} asked for a slot, but only sessions and replicas hold slots"),
                "report this as a defect, with the frame",
            ),
            Rejection::RoleMissing { mover, role } => refusal(
                "FS-BROKER-ROLE-MISSING",
                format!("the mover {mover} must do this and does not have the role {role:?}"),
                "add the role to the Mover resource",
            ),
            Rejection::RefusalUnexpected { by, code } => refusal(
                "FS-BROKER-REFUSAL-UNEXPECTED",
                format!("{by} refused ({code}) something that is not a slot that it holds"),
                "nothing needs to be done; the slot was given back already",
            ),
            Rejection::NotDue => {
                refusal("FS-BROKER-NOT-DUE", "a broker waits for no time, and was woken", "report this as a defect")
            }
        }
    }
}
