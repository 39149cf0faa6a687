//! The broker: who gets which slot on which mover, by priority, transport mode and load; every choice with its reasons.
//! A slot is a lease held by a session; its release follows from the session's end.

use super::agent::Endpoint;
use super::mover::{MoverSpec, Role};
use crate::ids::{Address, Name};
use serde::{Deserialize, Serialize};

/// The field's resource priorities that this slice uses; higher first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Priority {
    /// Backup and replication: 300.
    Normal,
    /// Restore: 800.
    Restore,
}

/// What the broker accepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// From a mover actor: this mover exists, with these roles and slots, and is (not) within reach.
    MoverIs {
        /// The mover.
        mover: Name,
        /// Its definition; none when it was removed.
        spec: Option<MoverSpec>,
        /// Its data channel, when its agent has said hello.
        endpoint: Option<Endpoint>,
    },
    /// From a session or replica of any site: one slot, please. Answered by `SlotGranted` there, at once or when one is free.
    RequestSlot {
        /// The asker's own name for it, unique per asker.
        slot: Name,
        /// The role needed.
        role: Role,
        /// The mover that must do it (the one that drives the host, or keeps the repository); any otherwise.
        must: Option<Name>,
        /// Its priority.
        priority: Priority,
    },
    /// From the asker: it is free again, or no longer wanted. Never refused.
    ReleaseSlot {
        /// Which.
        slot: Name,
    },
    /// From a session, at its end: everything it held is free. Never refused.
    ReleaseAll {
        /// Whose.
        holder: Address,
    },
}
