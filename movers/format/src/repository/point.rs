//! A restore point of a VM: a small file that names each disk's record. A point exists when its file does.

use super::sealed::{SealedError, SealedKind, open_file, seal_file};
use super::{FileId, RepositoryKey, Suite};
use crate::chunk::ChunkId;
use farshore_schemas::ids::{Digest, DiskName, PointId, VmRef};
use farshore_schemas::units::{ByteCount, Timestamp};
use serde::{Deserialize, Serialize};

/// A point names disks, not chunks: no real one comes near this.
const MAX_POINT: usize = 4 * 1024 * 1024;

/// A disk of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointDisk {
    /// Its name.
    pub name: DiskName,
    /// Its size.
    pub size: ByteCount,
    /// The checksum of its content; none when only changed blocks of a region were read.
    pub checksum: Option<Digest>,
    /// Id of its disk record.
    pub disk: Digest,
}

impl PointDisk {
    /// Id of its disk record.
    pub fn record(&self) -> ChunkId {
        ChunkId(self.disk.0)
    }
}

/// A restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointManifest {
    /// Its id, which is also its file's name.
    pub point: PointId,
    /// Whose.
    pub vm: VmRef,
    /// When the VM was frozen.
    pub taken: Timestamp,
    /// Its disks.
    pub disks: Vec<PointDisk>,
    /// What it added to the repository when it was made; set by the repository.
    pub stored: ByteCount,
}

impl PointManifest {
    /// The point as a file.
    pub fn encode(&self, sealing: (Suite, Option<&RepositoryKey>, FileId)) -> Option<Vec<u8>> {
        seal_file(SealedKind::Point, sealing, self)
    }

    /// Reads a point.
    ///
    /// # Errors
    /// [`SealedError`].
    pub fn decode(bytes: &[u8], key: Option<&RepositoryKey>) -> Result<PointManifest, SealedError> {
        let manifest: PointManifest = open_file(SealedKind::Point, key, (bytes, MAX_POINT))?;
        let mut names: Vec<_> = manifest.disks.iter().map(|disk| &disk.name).collect();
        names.sort();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(SealedError::Body("it names a disk twice".into()));
        }
        Ok(manifest)
    }

    /// Whether it tells of the same content as another, what it added to the repository left out.
    pub fn same_content(&self, other: &PointManifest) -> bool {
        PointManifest { stored: other.stored, ..self.clone() } == *other
    }
}
