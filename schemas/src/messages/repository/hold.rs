//! A hold: an operator keeps a point from retention.

use crate::units::Timestamp;
use serde::{Deserialize, Serialize};

/// Who holds a point, why, and until when.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hold {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when; none until it is released.
    pub until: Option<Timestamp>,
}
