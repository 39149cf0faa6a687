//! Making disks from a point: a copy of the newest state (a reflink where the file system can), taken back by the reverse
//! deltas from the newest to the point asked for. The store is only read, even while a point is being made.

use super::delta::{self, DeltaReader};
use super::{Chain, ReplicaStore, Sealed};
use crate::{Result, sparse};
use farshore_schemas::ids::PointId;
use farshore_schemas::messages::agent::DiskPoint;
use std::fs::File;
use std::path::Path;

impl ReplicaStore {
    /// Makes one image for each disk of a point in the folder `into`, named as the disk; images there are replaced. Each
    /// is proven by the point's checksum and durable when this answers.
    ///
    /// # Errors
    /// [`crate::Error::NoPoint`], [`crate::Error::Damage`] when what comes out is not what was sealed,
    /// [`crate::Error::Full`], or what the disk says.
    pub fn materialise(&self, point: &PointId, into: &Path) -> Result<Vec<DiskPoint>> {
        self.io.usable()?;
        let chain = self.read_chain();
        let target = chain.sealed(point).ok_or_else(|| self.no_point(point))?;
        self.io.make_folder(into)?;
        for disk in &target.point.disks {
            self.materialise_disk(&chain, target, disk, into)?;
        }
        self.io.sync_folder(into)?;
        Ok(target.point.disks.clone())
    }

    fn materialise_disk(&self, chain: &Chain, target: &Sealed, disk: &DiskPoint, into: &Path) -> Result<()> {
        let part = into.join(format!(".{}.part", disk.name));
        let path = into.join(disk.name.as_str());
        let made = self.make_image(chain, target, disk, &part).and_then(|()| self.io.rename(&part, &path));
        if made.is_err() {
            // Half an image is of no use and may be what fills the disk; the error that counts is the one above.
            let _ = std::fs::remove_file(&part);
        }
        made
    }

    fn make_image(&self, chain: &Chain, target: &Sealed, disk: &DiskPoint, part: &Path) -> Result<()> {
        let raw = self.newest(&disk.name)?;
        let image = sparse::copy(&raw, part).map_err(|error| self.io.failed("copy", part, error))?;
        // Read after the copy: whatever a writer overwrote meanwhile has its before-image here, durable.
        if let Some(mut journal) = DeltaReader::open(&self.io, &self.journal_path(&disk.name))? {
            delta::apply(&self.io, &mut journal, &image, part)?;
        }
        let newer = chain.points.iter().rev().skip(1).take_while(|sealed| sealed.number >= target.number);
        for sealed in newer {
            let mut reader = DeltaReader::open_sealed(&self.io, &self.delta_path(sealed, &disk.name))?;
            delta::apply(&self.io, &mut reader, &image, part)?;
            reader.whole()?;
        }
        if let Some(allocation) = self.kept_allocation(&self.allocation_path(target, &disk.name), disk.size.0)? {
            self.io.conform(&image, part, &allocation)?;
        }
        self.prove_image(disk, &image, part)?;
        self.io.sync(&image, part)
    }

    fn prove_image(&self, disk: &DiskPoint, image: &File, part: &Path) -> Result<()> {
        let (found, _) = sparse::checksum(image).map_err(|error| self.io.failed("read", part, error))?;
        if found == disk.checksum {
            return Ok(());
        }
        let why = format!("its state at this point has checksum {found}, but {} was sealed", disk.checksum);
        Err(self.io.damage(&self.raw_path(&disk.name), why))
    }
}
