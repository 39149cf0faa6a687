//! skeleton
use crate::Result;
use crate::io::Faults;
use farshore_format::{DigestMap, ReplicaPoint};
use farshore_schemas::ids::{Digest, DiskName, PointId};
use farshore_schemas::messages::agent::{DiskFacts, DiskPoint};
use farshore_schemas::units::{ByteCount, Timestamp};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The store of one replica.
#[derive(Debug)]
pub struct ReplicaStore {}
/// What a block becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockContent<'a> {
    /// These bytes: 4096, fewer only for a short last block.
    Data(&'a [u8]),
    /// Zeros; the block becomes a hole.
    Zeros,
}
/// Overwrites the newest state of one disk, block by block.
#[derive(Debug)]
pub struct DiskWriter {}
/// A disk as the store holds it now, read back after it was made durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedDisk {
    /// Size and checksum; the manifest is zeros.
    pub disk: DiskPoint,
    /// Its digests.
    pub digests: DigestMap,
    /// Bytes written to it by this writer.
    pub written: ByteCount,
}
impl ReplicaStore {
    pub fn open(path: &Path) -> Result<ReplicaStore> {
        todo!()
    }
    pub fn open_with_faults(path: &Path, faults: Arc<dyn Faults>) -> Result<ReplicaStore> {
        todo!()
    }
    /// Begins a point or adds disks to the one begun. One of another name that is unfinished is rolled back first.
    pub fn begin_point(&self, point: &PointId, disks: &[DiskFacts]) -> Result<()> {
        todo!()
    }
    /// The point that is being made.
    pub fn unfinished(&self) -> Option<PointId> {
        todo!()
    }
    pub fn writer(self: &Arc<Self>, point: &PointId, disk: &DiskName) -> Result<DiskWriter> {
        todo!()
    }
    /// Durable. Done twice it answers the same (stored and the disks with the store's own proof are in the answer).
    pub fn seal(
        &self,
        point: &PointId,
        taken: Timestamp,
        disks: &[DiskPoint],
        forget: &[PointId],
    ) -> Result<ReplicaPoint> {
        todo!()
    }
    pub fn roll_back(&self) -> Result<()> {
        todo!()
    }
    pub fn roll_back_disk(&self, disk: &DiskName) -> Result<()> {
        todo!()
    }
    pub fn points(&self) -> Result<Vec<ReplicaPoint>> {
        todo!()
    }
    /// Makes one image per disk of the point in `into`, named as the disk; proven by checksum and durable.
    pub fn materialise(&self, point: &PointId, into: &Path) -> Result<Vec<DiskPoint>> {
        todo!()
    }
    pub fn forget(&self, points: &[PointId]) -> Result<ByteCount> {
        todo!()
    }
    pub fn absorb(
        self: &Arc<Self>,
        point: &PointId,
        taken: Timestamp,
        disks: &[(DiskName, PathBuf)],
        forget: &[PointId],
    ) -> Result<ReplicaPoint> {
        todo!()
    }
    /// Digests of what the disk holds now (sealed map, or computed when a point is unfinished).
    pub fn digest_map(&self, disk: &DiskName) -> Result<DigestMap> {
        todo!()
    }
    /// The newest state, to read.
    pub fn newest(&self, disk: &DiskName) -> Result<File> {
        todo!()
    }
    /// Deletes the store.
    pub fn drop_store(path: &Path) -> Result<()> {
        todo!()
    }
}
impl DiskWriter {
    /// The disk's size.
    pub fn size(&self) -> u64 {
        todo!()
    }
    pub fn apply(&mut self, block: u64, content: BlockContent<'_>) -> Result<()> {
        todo!()
    }
    /// Everything applied so far is durable.
    pub fn flush(&mut self) -> Result<()> {
        todo!()
    }
    pub fn finish(self) -> Result<FinishedDisk> {
        todo!()
    }
    pub fn unused(_: Digest) {}
}
