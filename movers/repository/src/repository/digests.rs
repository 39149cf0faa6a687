//! Digests of replicas' points, kept near the source. They only save reading and sending: whoever finds none compares
//! in full, so damage is answered as absence.

use super::Repository;
use super::points::MAX_DISK;
use crate::Result;
use farshore_format::DigestMap;
use farshore_schemas::ids::{DiskName, Name, PointId};
use std::path::PathBuf;

impl Repository {
    fn digests_folder(&self, replica: &Name) -> PathBuf {
        self.root.join("digests").join(replica.as_str())
    }

    /// Keeps the digests of a disk of a replica's point, durable.
    ///
    /// # Errors
    /// [`crate::Error::Full`], or what the disk says.
    pub fn put_digests(&self, replica: &Name, point: &PointId, disk: &DiskName, map: &DigestMap) -> Result<()> {
        let replicas = self.root.join("digests");
        let replica = self.digests_folder(replica);
        let folder = replica.join(point.0.as_str());
        self.io.make_folder(&folder)?;
        self.io.place_durable(&folder.join(disk.as_str()), &map.encode())?;
        self.io.sync_folder(&replica)?;
        self.io.sync_folder(&replicas)
    }

    /// The digests of a disk of a replica's point; none when there are none or they are damaged.
    ///
    /// # Errors
    /// What the disk says.
    pub fn digests(&self, replica: &Name, point: &PointId, disk: &DiskName) -> Result<Option<DigestMap>> {
        let path = self.digests_folder(replica).join(point.0.as_str()).join(disk.as_str());
        let Some(bytes) = self.io.read(&path)? else { return Ok(None) };
        Ok(DigestMap::decode(&bytes, MAX_DISK)
            .inspect_err(
                |error| tracing::warn!(path = %path.display(), %error, "digests are damaged: comparing in full"),
            )
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
