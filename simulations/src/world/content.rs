//! What a simulated disk holds: a few blocks, each with the stamp of its last write. A stamp is also the id of the chunk
//! that a backup of the block is stored as.

use farshore_schemas::codec;
use farshore_schemas::ids::{Digest, DiskName, VmRef};
use farshore_schemas::messages::agent::{DiskFacts, DiskPoint};
use farshore_schemas::units::ByteCount;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Blocks of a disk.
pub(crate) const BLOCKS: usize = 6;
/// Bytes that a block stands for.
pub(crate) const BLOCK_BYTES: u64 = 4 << 20;

/// A write: which disk, under which epoch, the how-manieth. Unique for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// Which disk it was made on.
    pub(crate) disk: u64,
    /// The epoch that the guest ran under.
    pub(crate) epoch: u64,
    /// That guest's count; for a drill, its seed.
    pub(crate) counter: u64,
}

/// All blocks of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub(crate) struct Content(pub(crate) [Stamp; BLOCKS]);

/// All disks of a VM at one moment.
pub(crate) type Disks = BTreeMap<DiskName, Content>;

impl Content {
    /// BLAKE3 over the content.
    pub(crate) fn checksum(&self) -> Digest {
        Digest(*blake3::hash(&codec::encode(self)).as_bytes())
    }

    /// BLAKE3 over the list of its chunks.
    pub(crate) fn manifest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"chunks");
        hasher.update(&self.checksum().0);
        Digest(*hasher.finalize().as_bytes())
    }

    /// The proof that a mover reports.
    pub(crate) fn proof(&self, name: &DiskName, manifest: Digest) -> DiskPoint {
        DiskPoint { name: name.clone(), size: size(), checksum: self.checksum(), manifest }
    }
}

/// The size of every simulated disk.
pub(crate) fn size() -> ByteCount {
    ByteCount(BLOCKS as u64 * BLOCK_BYTES)
}

/// Disks as a host lists them.
pub(crate) fn facts(disks: &Disks) -> Vec<DiskFacts> {
    disks.keys().map(|name| DiskFacts { name: name.clone(), size: size() }).collect()
}

/// Tells disks apart in stamps.
pub(crate) fn disk_tag(vm: &VmRef, disk: &DiskName) -> u64 {
    let hash = blake3::hash(format!("{vm}/{disk}").as_bytes());
    hash.as_bytes()[..8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
