//! Digests of replicas' points, kept near the source. They only save reading and sending: whoever finds none compares
//! in full, so damage is answered as absence.

use super::Repository;
use crate::Result;
use farshore_format::DigestMap;
use farshore_format::repository::{SealedKind, open_file, seal_file};
use farshore_schemas::ids::{DiskName, Name, PointId};
use farshore_schemas::units::ByteCount;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Bounds what a file on our own disk can make us allocate.
const MAX_DISK: ByteCount = ByteCount(1 << 46);
/// Longest map that a sealed file holds: of a disk of some 900 GiB.
const MAX_MAP: usize = 3_800_000_000;

/// Longest file with one in it.
const LONGEST_FILE: u64 = MAX_MAP as u64 + 4096;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Map {
    #[serde(with = "serde_bytes")]
    map: Vec<u8>,
}

impl Repository {
    fn digests_folder(&self, replica: &Name) -> PathBuf {
        self.root.join("digests").join(replica.as_str())
    }

    /// Keeps the digests of a disk of a replica's point, durable. Those of a disk that is too large are not kept.
    ///
    /// # Errors
    /// [`crate::Error::Full`], or what the disk says.
    pub fn put_digests(&self, replica: &Name, point: &PointId, disk: &DiskName, map: &DigestMap) -> Result<()> {
        let map = Map { map: map.encode() };
        if map.map.len() > MAX_MAP {
            return Ok(());
        }
        let bytes = seal_file(SealedKind::Digests, self.sealing.fresh(), &map);
        let bytes = bytes.expect("an open repository that seals has its key");
        let replicas = self.root.join("digests");
        let replica = self.digests_folder(replica);
        let folder = replica.join(point.0.as_str());
        self.io.make_folder(&folder)?;
        self.io.place_durable(&folder.join(disk.as_str()), &bytes)?;
        self.io.sync_folder(&replica)?;
        self.io.sync_folder(&replicas)
    }

    /// The digests of a disk of a replica's point; none when there are none or they are damaged.
    ///
    /// # Errors
    /// What the disk says.
    pub fn digests(&self, replica: &Name, point: &PointId, disk: &DiskName) -> Result<Option<DigestMap>> {
        let path = self.digests_folder(replica).join(point.0.as_str()).join(disk.as_str());
        let Some(bytes) = self.io.read_up_to(&path, LONGEST_FILE)? else { return Ok(None) };
        let opened: std::result::Result<Map, _> =
            open_file(SealedKind::Digests, self.sealing.key.as_ref(), (&bytes, MAX_MAP + 64));
        let decoded = opened
            .map_err(|error| error.to_string())
            .and_then(|map| DigestMap::decode(&map.map, MAX_DISK).map_err(|error| error.to_string()));
        Ok(decoded
            .inspect_err(|why| tracing::warn!(path = %path.display(), why, "digests are damaged: comparing in full"))
            .ok())
    }

    /// Drops the digests of all points of a replica but these.
    ///
    /// # Errors
    /// What the disk says.
    pub fn keep_digests(&self, replica: &Name, points: &[PointId]) -> Result<()> {
        let folder = self.digests_folder(replica);
        for name in self.io.names(&folder)? {
            if !points.iter().any(|point| point.0.as_str() == name) {
                self.io.remove_folder(&folder.join(name))?;
            }
        }
        Ok(())
    }
}
