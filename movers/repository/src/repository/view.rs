//! Reading a disk of a point here and there, without restoring it: by whole regions, each proven before a byte of it is seen.

use super::Repository;
use super::points::extent_len;
use super::records::{Proof, Reader};
use super::restore::fill;
use crate::Result;
use farshore_format::region_sum;
use farshore_format::repository::{DiskTree, Extent, Listed, PointDisk, REGION, region_len};
use std::ops::Range;
use std::sync::Arc;

/// A disk of a point, open to be read by any number of threads.
#[derive(Debug)]
pub struct DiskView {
    repository: Arc<Repository>,
    disk: PointDisk,
    tree: DiskTree,
    regions: Vec<Listed>,
}

impl DiskView {
    /// Bytes of every region but the last.
    pub const REGION: u64 = REGION;

    /// Opens a disk; 17 MiB of memory for a TiB.
    ///
    /// # Errors
    /// [`crate::Error::NoChunk`] or [`crate::Error::Damage`] when its tree is missing or not what was stored.
    pub fn open(repository: Arc<Repository>, disk: PointDisk) -> Result<DiskView> {
        let mut reader = Reader::new(&repository);
        let tree = reader.disk(&disk.record())?;
        if (tree.size, tree.checksum) != (disk.size.0, disk.checksum) {
            let why = format!("disk {}: its record is of another state of it than the point", disk.name);
            return Err(repository.io.damage(&repository.root, why));
        }
        let regions = reader.regions(&tree)?;
        drop(reader);
        Ok(DiskView { repository, disk, tree, regions })
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.tree.size
    }

    /// The region that a byte lies in, and where that begins.
    pub fn region_of(offset: u64) -> (u64, u64) {
        (offset / REGION, offset / REGION * REGION)
    }

    /// The content of a region: 4 MiB, or less at the disk's end; none behind it.
    ///
    /// # Errors
    /// [`crate::Error::NoChunk`] or [`crate::Error::Damage`] when anything of it is missing or not what was read.
    pub fn region(&self, region: u64) -> Result<Vec<u8>> {
        let Some(listed) = self.regions.get(region as usize) else { return Ok(Vec::new()) };
        let mut reader = Reader::new(&self.repository);
        let leaf = reader.leaf(&listed.leaf, (self.tree.size, region))?;
        let mut content = vec![0; region_len(self.tree.size, region).unwrap_or(0) as usize];
        fill(&mut reader, (&leaf.extents, Proof::Ids), (&mut content, self.tree.size - region * REGION))?;
        if listed.sum.is_some_and(|wanted| wanted != region_sum(&content)) {
            let why =
                format!("disk {}: the chunks of region {region} are sound but are not what was read", self.disk.name);
            return Err(self.repository.io.damage(&self.repository.root, why));
        }
        Ok(content)
    }

    /// What of a region is no hole, in bytes of the disk, in order.
    ///
    /// # Errors
    /// As [`DiskView::region`].
    pub fn extents(&self, region: u64) -> Result<Vec<Range<u64>>> {
        let Some(listed) = self.regions.get(region as usize) else { return Ok(Vec::new()) };
        let leaf = Reader::new(&self.repository).leaf(&listed.leaf, (self.tree.size, region))?;
        let mut at = region * REGION;
        let mut found: Vec<Range<u64>> = Vec::new();
        for extent in &leaf.extents {
            let end = at + extent_len(extent, (at, self.tree.size));
            match (extent, found.last_mut()) {
                (Extent::Hole { .. }, _) => {}
                (Extent::Data { .. } | Extent::Zeros { .. }, Some(last)) if last.end == at => last.end = end,
                (Extent::Data { .. } | Extent::Zeros { .. }, _) => found.push(at..end),
            }
            at = end;
        }
        Ok(found)
    }
}
