//! What a repository orders from its agent.

use crate::ids::{Address, Name, PointId, Seq, VmRef};
use crate::messages::agent::DiskPoint;
use crate::messages::keep::Keep;
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};

/// What a repository has ordered from its agent, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Work {
    /// Let the movers of this holder in.
    Open {
        /// Whose access.
        holder: Address,
    },
    /// Shut the access of this holder.
    Close {
        /// Whose access.
        holder: Address,
    },
    /// Make a point durable.
    Commit {
        /// The session that asked.
        session: Address,
        /// The point as the session described it.
        wanted: Box<Wanted>,
    },
    /// Write down what would go with these forgotten points.
    Mark {
        /// Which.
        points: Vec<PointId>,
        /// The log position that names the prune.
        mark: u64,
    },
    /// Move what goes into the trash.
    Sweep {
        /// With which points.
        points: Vec<PointId>,
        /// The prune.
        mark: u64,
    },
    /// Delete what a prune has put into the trash.
    Empty {
        /// The prune.
        mark: u64,
    },
    /// Check a point.
    Verify {
        /// Which.
        point: PointId,
    },
    /// Keep the site's log beside the points.
    KeepLog {
        /// The frame that must be among what is kept.
        least: Seq,
    },
}

/// A point that a session wants to be made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Wanted {
    /// Its id.
    pub point: PointId,
    /// Whose.
    pub vm: VmRef,
    /// The job.
    pub job: Name,
    /// When the VM was frozen.
    pub taken: Timestamp,
    /// Which points of this VM and job stay.
    pub keep: Keep,
    /// The disks, as the source mover reported them.
    pub disks: Vec<DiskPoint>,
}
