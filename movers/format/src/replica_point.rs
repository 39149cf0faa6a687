//! A point of a replica: its disks, with the proof of each. The content is the store's newest disks and its deltas.

use crate::sealed::{FormatError, Kind, open, seal};
use farshore_schemas::ids::PointId;
use farshore_schemas::messages::agent::DiskPoint;
use farshore_schemas::units::{ByteCount, Timestamp};
use serde::{Deserialize, Serialize};

const REPLICA: Kind = Kind { magic: b"FSREPLPT", what: "replica point" };
/// A point names disks, not their content: no real one comes near this.
const MAX_POINT: u64 = 4 * 1024 * 1024;

/// A point in a replica's store. Whose it is, is known by the replica, not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaPoint {
    /// Its id.
    pub point: PointId,
    /// When the source's disks were frozen.
    pub taken: Timestamp,
    /// Its disks, with the proof that the store computed.
    pub disks: Vec<DiskPoint>,
    /// What the store needs for it beyond what was there; set by the store.
    pub stored: ByteCount,
}

impl ReplicaPoint {
    /// The point as a file.
    pub fn encode(&self) -> Vec<u8> {
        seal(&REPLICA, self)
    }

    /// Reads a replica's point.
    ///
    /// # Errors
    /// [`FormatError`] for any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<ReplicaPoint, FormatError> {
        let point: ReplicaPoint = open(&REPLICA, bytes, MAX_POINT)?;
        each_once(&REPLICA, &point.disks)?;
        Ok(point)
    }
}

fn each_once(kind: &Kind, disks: &[DiskPoint]) -> Result<(), FormatError> {
    let mut names: Vec<_> = disks.iter().map(|disk| &disk.name).collect();
    names.sort();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(kind.body("it names a disk twice"));
    }
    Ok(())
}
