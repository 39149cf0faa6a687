//! What comes of showing an input to an actor.

use farshore_core::decider::Send;
use farshore_schemas::envelope::{Channel, Lost, Mark};
use farshore_schemas::frame::{Input, Verdict};
use farshore_schemas::ids::EntityId;
use farshore_schemas::units::{Hlc, Timestamp};

/// A decision that has no place in the log yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Who decided.
    pub actor: EntityId,
    /// That actor's count of frames with this one.
    pub actor_seq: u64,
    /// `now`, as the decider saw it.
    pub at: Timestamp,
    /// The sender's clock, to be merged into the site's.
    pub heard: Option<Hlc>,
    /// What it decided on.
    pub input: Input,
    /// How it came out.
    pub verdict: Verdict,
    /// The channel that moves.
    pub mark: Option<(Channel, Mark)>,
    /// What the mark jumps over: messages that were acked here, and lost with a log that was put back. An alarm.
    pub lost: Option<Lost>,
    /// The events, encoded.
    pub events: Vec<u8>,
    /// What it sends.
    pub sends: Vec<Send>,
    /// On whose behalf.
    pub principal: String,
    /// Trace context.
    pub trace: Option<String>,
}

/// What an actor says to an input.
#[derive(Debug, Clone, PartialEq)]
pub enum Receipt {
    /// Something to append. The driver stamps it, applies it, appends it.
    Decided(Box<Draft>),
    /// Nothing to append (a wake or restart that owes nothing).
    Idle,
    /// Seen before: ack up to this number again.
    Seen {
        /// The last number accepted on the channel.
        number: u64,
    },
    /// Numbers are missing before it: ack up to this number, the sender goes on from there.
    Gap {
        /// The last number accepted on the channel.
        number: u64,
    },
    /// The last accepted number came again with other content: two histories under one lineage. An alarm.
    Fork {
        /// The number.
        number: u64,
    },
}
