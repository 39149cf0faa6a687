//! How tasks end.

use super::{DiskFacts, DiskPoint, MissingFrames};
use crate::ids::{Digest, Lineage, PointId, Seq};
use crate::units::{ByteCount, Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is so.
    Done,
    /// One page of a host's VMs. Absence counts only once the page with `last` has come.
    Inventory {
        /// The VMs.
        vms: Vec<crate::messages::host::VmFacts>,
        /// Whether this page ends the listing.
        last: bool,
    },
    /// A view of the VM's disks is frozen, or a working VM made.
    Snapshot {
        /// The disks.
        disks: Vec<DiskFacts>,
        /// When they were frozen.
        taken: Timestamp,
    },
    /// A disk is in the repository, durable.
    DiskStored {
        /// The disk with its proof.
        disk: DiskPoint,
        /// How the bytes moved.
        moved: Moved,
        /// Why it was read in full although a parent was named, if so.
        full_because: Option<String>,
    },
    /// A point is durable.
    PointDurable {
        /// What the store needs for it beyond what was there.
        stored: ByteCount,
        /// The disks with the proof that the store computed.
        disks: Vec<DiskPoint>,
        /// Until when the agent refuses to drop it, by its own clock.
        immutable: Option<Timestamp>,
    },
    /// A sweep has dropped points, or the trash was emptied.
    Pruned {
        /// Points that are gone now.
        points: Vec<PointId>,
        /// What was moved into the trash, or deleted from it.
        bytes: ByteCount,
    },
    /// What is in the trash has not lain there long enough: nothing was deleted.
    TooEarly {
        /// As a failure.
        failure: Failure,
        /// How long it still lies there at least.
        left: Millis,
    },
    /// Everything was read.
    Verified {
        /// Chunks read.
        chunks: u64,
        /// Damage found, at most five lines.
        damage: Vec<String>,
        /// How many in all.
        damaged: u64,
    },
    /// The site's log is in the repository up to here, durable.
    LogKept {
        /// The lineage of the last frame kept.
        lineage: Lineage,
        /// The last frame kept.
        seq: Seq,
        /// Its hash.
        hash: Digest,
        /// Bytes of frames that were fetched for it.
        fetched: ByteCount,
        /// Frames before it that are not there, and that the site's log has no more.
        missing: MissingFrames,
    },
    /// A disk is restored, durable.
    DiskRestored {
        /// The disk with the proof computed over what was written.
        disk: DiskPoint,
        /// How the bytes moved.
        moved: Moved,
    },
    /// The sending end is done.
    DiskSent {
        /// The disk with the proof of what was read.
        disk: DiskPoint,
        /// How the bytes moved.
        moved: Moved,
        /// Why everything was compared with the receiver although digests were named, if so.
        full_because: Option<String>,
    },
    /// The receiving end is done: written and durable.
    DiskReceived {
        /// The disk with the proof of what the sink holds now.
        disk: DiskPoint,
        /// How the bytes moved.
        moved: Moved,
    },
    /// It could not be done.
    Failed(Failure),
    /// It was cancelled.
    Cancelled,
}

/// Counters of a task that moves data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct Moved {
    /// Bytes read from the source, holes left out.
    pub read: ByteCount,
    /// Bytes of changed blocks, before compression.
    pub changed: ByteCount,
    /// Bytes put on the data channel, everything counted.
    pub sent: ByteCount,
    /// Bytes written at the target.
    pub written: ByteCount,
}

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Failure {
    /// A stable code, `FS-<PART>-<WHAT>`.
    pub code: String,
    /// What happened, to what, and why.
    pub message: String,
    /// What to do about it.
    pub advice: String,
    /// Whether the same task may succeed if ordered again later.
    pub transient: bool,
}
