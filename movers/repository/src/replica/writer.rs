//! Overwriting the newest state of a disk: before-images into the journal, durable, then the blocks.

use super::delta::{BlockSet, DeltaFile};
use super::{BlockContent, FinishedDisk, ReplicaStore};
use crate::{Error, Result, sparse};
use farshore_format::{Allocation, BLOCK, blocks_in, is_zero};
use farshore_schemas::ids::{Digest, DiskName, PointId};
use farshore_schemas::messages::agent::DiskPoint;
use farshore_schemas::units::ByteCount;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// Blocks gathered before the journal is synced: 4 MiB.
const BATCH: usize = 1024;

/// Writes one disk of the point that is being made. Dropped without [`DiskWriter::finish`], it leaves the disk
/// unfinished; what was applied since the last full batch or [`DiskWriter::flush`] is then not on the disk.
#[derive(Debug)]
pub struct DiskWriter {
    store: Arc<ReplicaStore>,
    point: PointId,
    disk: DiskName,
    path: PathBuf,
    raw: File,
    size: u64,
    /// Its journal and which blocks have their before-image there; none for a disk that has no older state.
    journal: Option<Journal>,
    pending: BTreeMap<u64, Vec<u8>>,
    written: u64,
}

#[derive(Debug)]
struct Journal {
    file: DeltaFile,
    /// Blocks of the older state: what lies beyond has no before-image.
    blocks: u64,
    covered: BlockSet,
    images: BTreeMap<u64, Vec<u8>>,
}

impl Drop for DiskWriter {
    fn drop(&mut self) {
        self.store.busy().remove(&self.disk);
    }
}

impl ReplicaStore {
    /// A writer for a disk of the point that was begun. It goes on where an earlier writer of the same point stopped.
    ///
    /// # Errors
    /// [`Error::NotBegun`], [`Error::Unfinished`], [`Error::NoDisk`], [`Error::DiskBusy`], or what the disk says.
    pub fn writer(self: &Arc<Self>, point: &PointId, disk: &DiskName) -> Result<DiskWriter> {
        self.io.usable()?;
        let mut chain = self.write_chain();
        let begun = chain.begun(point)?.begun.disk(disk).cloned();
        let begun = begun.ok_or_else(|| Error::NoDisk { point: point.clone(), disk: disk.clone() })?;
        if self.busy().contains(disk) {
            return Err(Error::DiskBusy { disk: disk.clone() });
        }
        let journal = match begun.was {
            None => None,
            Some(was) => {
                let (file, _, covered) = DeltaFile::resume(&self.io, &self.journal_path(disk))?;
                Some(Journal { file, blocks: blocks_in(was), covered, images: BTreeMap::new() })
            }
        };
        let path = self.raw_path(disk);
        let raw = self.io.open_rw(&path)?;
        if let Some(open) = &mut chain.open {
            open.finished.remove(disk);
        }
        self.busy().insert(disk.clone());
        Ok(DiskWriter {
            store: self.clone(),
            point: point.clone(),
            disk: disk.clone(),
            path,
            raw,
            size: begun.size,
            journal,
            pending: BTreeMap::new(),
            written: 0,
        })
    }
}

impl DiskWriter {
    /// The disk's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Sets a block's content. One that holds it already is left alone.
    ///
    /// # Errors
    /// [`Error::BadBlock`] for a block that the disk has not or of a wrong length, [`Error::Full`], or what the disk says.
    pub fn apply(&mut self, block: u64, content: BlockContent<'_>) -> Result<()> {
        let length = self.block_len(block).ok_or_else(|| self.bad_block(block))?;
        let content = match content {
            BlockContent::Zeros => Vec::new(),
            BlockContent::Data(bytes) if bytes.len() != length => return Err(self.bad_block(block)),
            BlockContent::Data(bytes) if is_zero(bytes) => Vec::new(),
            BlockContent::Data(bytes) => bytes.to_vec(),
        };
        if !self.pending.contains_key(&block) {
            let before = self.store.read_block(&self.disk, &self.raw, block, self.size)?;
            if before == content || (content.is_empty() && is_zero(&before)) {
                return Ok(());
            }
            self.keep_image(block, before);
        }
        self.pending.insert(block, content);
        if self.pending.len() >= BATCH { self.write_batch() } else { Ok(()) }
    }

    fn keep_image(&mut self, block: u64, before: Vec<u8>) {
        if let Some(journal) = &mut self.journal
            && block < journal.blocks
            && !journal.covered.contains(block)
        {
            journal.covered.insert(block);
            journal.images.insert(block, before);
        }
    }

    /// Makes every block of `[offset, offset + length)` that holds anything zero. Holes are not looked at.
    pub(super) fn apply_hole(&mut self, offset: u64, length: u64) -> Result<()> {
        let failed = |error| self.store.io.failed("read", &self.path, error);
        let extents = sparse::extents(&self.raw).map_err(failed)?;
        for extent in extents {
            let (from, to) = (extent.offset.max(offset), extent.end().min(offset + length));
            for block in from / BLOCK as u64..if from < to { blocks_in(to) } else { 0 } {
                self.apply(block, BlockContent::Zeros)?;
            }
        }
        Ok(())
    }

    fn block_len(&self, block: u64) -> Option<usize> {
        let left = self.size.checked_sub(block.checked_mul(BLOCK as u64)?).filter(|left| *left > 0)?;
        Some(left.min(BLOCK as u64) as usize)
    }

    fn bad_block(&self, block: u64) -> Error {
        Error::BadBlock { disk: self.disk.clone(), block, size: self.size }
    }

    /// The order that makes it safe: before-images, sync, then the blocks.
    fn write_batch(&mut self) -> Result<()> {
        if let Some(journal) = &mut self.journal
            && !journal.images.is_empty()
        {
            journal.file.append_images(&journal.images)?;
            journal.file.sync()?;
            journal.images.clear();
        }
        let io = &self.store.io;
        for (start, run) in runs(&self.pending) {
            let offset = start * BLOCK as u64;
            match run {
                Run::Data(bytes) => io.write_at(&self.raw, &self.path, &bytes, offset)?,
                Run::Zeros(blocks) => {
                    let length = (blocks * BLOCK as u64).min(self.size - offset);
                    io.punch(&self.raw, &self.path, offset, length)?;
                }
            }
        }
        self.written += self.pending.values().map(|content| content.len() as u64).sum::<u64>();
        self.pending.clear();
        Ok(())
    }

    /// Makes everything applied so far durable.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Sync`], or what the disk says.
    pub fn flush(&mut self) -> Result<()> {
        self.write_batch()?;
        self.store.io.sync(&self.raw, &self.path)
    }

    /// Keeps which blocks take space at the source, for disks that are made from this point. Blocks that the disk has not
    /// make it none.
    ///
    /// # Errors
    /// [`Error::BadBlock`], [`Error::Full`], [`Error::Sync`], or what the disk says.
    pub fn keep_allocation(&self, allocation: &Allocation) -> Result<()> {
        if !allocation.fits(self.size) {
            return Err(self.bad_block(allocation.runs().last().map_or(0, |last| last.end() - 1)));
        }
        self.store.io.place_durable(&self.store.open_allocation_path(&self.disk), &allocation.encode())
    }

    /// Ends the disk: everything durable, the journal complete, and the whole disk read back for its checksum, so that the
    /// proof is about what is there. The disk takes the space that the source's does, where that was told.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Sync`], or what the disk says.
    pub fn finish(mut self) -> Result<FinishedDisk> {
        self.write_batch()?;
        let (io, path) = (&self.store.io, self.store.open_allocation_path(&self.disk));
        if let Some(allocation) = self.store.kept_allocation(&path, self.size)? {
            io.conform(&self.raw, &self.path, &allocation)?;
        }
        io.sync(&self.raw, &self.path)?;
        if let Some(journal) = self.journal.take() {
            journal.file.complete()?;
        }
        let failed = |error| self.store.io.failed("read", &self.path, error);
        let (digests, checksum) = sparse::digests(&self.raw).map_err(failed)?;
        self.store.io.place_durable(&self.store.open_digests_path(&self.disk), &digests.encode())?;
        let disk =
            DiskPoint { name: self.disk.clone(), size: ByteCount(self.size), checksum, manifest: Digest::default() };
        let finished = FinishedDisk { disk, digests, written: ByteCount(self.written) };
        let mut chain = self.store.write_chain();
        chain.begun(&self.point)?;
        if let Some(open) = &mut chain.open {
            open.finished.insert(self.disk.clone(), finished.clone());
        }
        drop(chain);
        Ok(finished)
    }
}

enum Run {
    Data(Vec<u8>),
    Zeros(u64),
}

/// Joins consecutive blocks, up to 1 MiB of data at a time. An empty content stands for zeros.
fn runs(pending: &BTreeMap<u64, Vec<u8>>) -> Vec<(u64, Run)> {
    let mut runs: Vec<(u64, Run)> = Vec::new();
    let mut next = 0;
    for (&block, content) in pending {
        let joined = match runs.last_mut() {
            Some((_, Run::Data(data))) if block == next && !content.is_empty() && data.len() < 256 * BLOCK => {
                data.extend_from_slice(content);
                true
            }
            Some((_, Run::Zeros(blocks))) if block == next && content.is_empty() => {
                *blocks += 1;
                true
            }
            Some((_, Run::Data(_) | Run::Zeros(_))) | None => false,
        };
        if !joined {
            runs.push((block, if content.is_empty() { Run::Zeros(1) } else { Run::Data(content.clone()) }));
        }
        next = block + 1;
    }
    runs
}
