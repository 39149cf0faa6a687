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

/// What a broker's log tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A mover exists, with these roles and slots.
    MoverKnown {
        /// The mover.
        mover: Name,
        /// Its definition.
        spec: MoverSpec,
        /// Its data channel; none while its agent is out of reach.
        endpoint: Option<Endpoint>,
    },
    /// A mover was removed.
    MoverGone {
        /// The mover.
        mover: Name,
    },
    /// A slot was asked for, and waits.
    SlotAsked {
        /// Who asks.
        holder: Address,
        /// The asker's name for it.
        slot: Name,
        /// The role needed.
        role: Role,
        /// The mover that must do it, if one must.
        must: Option<Name>,
        /// Its priority.
        priority: Priority,
        /// Its place in the order of arrival; kept when the same slot is asked for again.
        arrival: u64,
    },
    /// A slot was given.
    SlotGranted {
        /// To whom.
        holder: Address,
        /// The holder's name for it.
        slot: Name,
        /// Which mover.
        mover: Name,
        /// Why, one line per candidate, at most five lines.
        reasons: Vec<String>,
    },
    /// A holder asked again for a slot that it has, and was told again.
    SlotToldAgain {
        /// Whose.
        holder: Address,
        /// The holder's name for it.
        slot: Name,
    },
    /// A holder did not want what it was told: the slot is free again when it had been told only once.
    GrantRefused {
        /// Whose.
        holder: Address,
        /// The holder's name for it.
        slot: Name,
        /// The code of its refusal.
        code: String,
    },
    /// A slot was given back.
    SlotFreed {
        /// By whom.
        holder: Address,
        /// The holder's name for it.
        slot: Name,
    },
    /// A slot that was waited for is no longer wanted.
    SlotWithdrawn {
        /// By whom.
        holder: Address,
        /// The asker's name for it.
        slot: Name,
    },
    /// A lease ended because its mover went away.
    LeaseEnded {
        /// Whose.
        holder: Address,
        /// The holder's name for it.
        slot: Name,
        /// The mover.
        mover: Name,
    },
}
