//! How a prune goes, step by step.

use crate::units::Millis;
use serde::{Deserialize, Serialize};

/// A step of a prune.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PruneStep {
    /// Write down which packs would go. From then on nothing new counts on them. Nothing is moved or deleted.
    Mark,
    /// Find anew what is named, move what goes of what was marked into the trash.
    Sweep {
        /// How long it lies there at least.
        hold: Millis,
    },
    /// Delete what the sweep of this prune moved, once it has lain long enough by the agent's own count.
    Empty {
        /// How long that is. It lengthens what was said at the sweep, and never shortens it.
        hold: Millis,
    },
}
