//! Sealing a point. It exists from the moment its manifest has its name; everything it stands on is durable before, and
//! what is only tidying comes after and is done again when a crash interrupted it.

use super::delta::DeltaFile;
use super::open::MANIFEST;
use super::{Begun, Chain, FinishedDisk, ReplicaStore, Sealed};
use crate::{Error, Result, Store, sparse};
use farshore_format::{DeltaHeader, ReplicaPoint};
use farshore_schemas::ids::{DiskName, PointId};
use farshore_schemas::messages::agent::DiskPoint;
use farshore_schemas::units::{ByteCount, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;

impl ReplicaStore {
    /// Makes the point that was begun the newest one, once the checksum of each disk here is the source's, then forgets
    /// the points in `forget`. Durable when it answers. Done twice it answers the same.
    ///
    /// # Errors
    /// [`Error::Proof`], [`Error::Incomplete`], [`Error::PointDiffers`], [`Error::DiskBusy`], [`Error::Full`], or what the
    /// disk says. When it fails before the point exists, the point stays unfinished.
    pub fn seal(
        self: &Arc<Self>,
        point: &PointId,
        taken: Timestamp,
        disks: &[DiskPoint],
        forget: &[PointId],
    ) -> Result<ReplicaPoint> {
        self.io.usable()?;
        let sealed = self.read_chain().sealed(point).map(|sealed| sealed.point.clone());
        let answer = match sealed {
            Some(found) => self.same_point(found, taken, disks)?,
            None => {
                self.finish_all(point, disks)?;
                self.seal_finished(point, taken, disks)?
            }
        };
        self.forget(forget)?;
        Ok(answer)
    }

    fn same_point(&self, found: ReplicaPoint, taken: Timestamp, disks: &[DiskPoint]) -> Result<ReplicaPoint> {
        let proofs = |disks: &[DiskPoint]| -> BTreeSet<_> {
            disks.iter().map(|disk| (disk.name.clone(), disk.size, disk.checksum)).collect()
        };
        if found.taken != taken || proofs(&found.disks) != proofs(disks) {
            return Err(Error::PointDiffers { store: Store::Replica, point: found.point });
        }
        let folder = self.root.join("points");
        self.io.sync_folder(&folder)?;
        Ok(found)
    }

    /// Finishes disks whose writer ended before a crash, and checks that the disks are those that were begun.
    fn finish_all(self: &Arc<Self>, point: &PointId, disks: &[DiskPoint]) -> Result<()> {
        let (begun, finished): (BTreeSet<DiskName>, BTreeSet<DiskName>) = {
            let chain = self.read_chain();
            let open = chain.begun(point)?;
            (open.begun.disks.iter().map(|disk| disk.name.clone()).collect(), open.finished.keys().cloned().collect())
        };
        let asked: BTreeSet<DiskName> = disks.iter().map(|disk| disk.name.clone()).collect();
        if let Some(disk) = begun.symmetric_difference(&asked).next() {
            let missing = match asked.contains(disk) {
                true => format!("disk {disk} was never received"),
                false => format!("disk {disk} was received, but the order does not name it"),
            };
            return Err(Error::Incomplete { point: point.clone(), missing });
        }
        for disk in begun.difference(&finished) {
            self.writer(point, disk)?.finish()?;
        }
        Ok(())
    }

    fn seal_finished(&self, point: &PointId, taken: Timestamp, disks: &[DiskPoint]) -> Result<ReplicaPoint> {
        let mut chain = self.write_chain();
        let open = chain.begun(point)?;
        if let Some(disk) = self.busy().iter().find(|disk| open.begun.disk(disk).is_some()) {
            return Err(Error::DiskBusy { disk: disk.clone() });
        }
        let proven = disks.iter().map(|disk| prove(point, disk, open.finished.get(&disk.name)));
        let proven = proven.collect::<Result<Vec<_>>>()?;
        let number = open.begun.number;
        if !chain.points.is_empty() {
            self.note_unchanged(&open.begun)?;
        }
        let stored = self.stored(&open.begun)?;
        let sealed = ReplicaPoint { point: point.clone(), taken, disks: proven, stored };
        let folder = self.point_folder(number, point);
        self.io.make_folder(&folder)?;
        self.io.sync_folder(&self.root.join("points"))?;
        self.io.place_durable(&folder.join(MANIFEST), &sealed.encode())?;
        chain.points.push(Sealed { number, point: sealed.clone() });
        self.complete_seal(&mut chain)?;
        Ok(sealed)
    }

    /// A disk that this point has not changed gets an empty delta, so that a missing delta is always damage.
    fn note_unchanged(&self, begun: &Begun) -> Result<()> {
        for disk in self.disks()?.iter().filter(|disk| begun.disk(disk).is_none()) {
            let path = self.raw_path(disk);
            let size = std::fs::metadata(&path).map_err(|error| self.io.failed("look at", &path, error))?.len();
            let header = DeltaHeader { from_size: size, to_size: size };
            DeltaFile::create(&self.io, &self.journal_path(disk), &header)?.complete()?;
        }
        self.io.sync_folder(&self.open_folder())
    }

    fn stored(&self, begun: &Begun) -> Result<ByteCount> {
        let mut stored = ByteCount(0);
        for disk in &begun.disks {
            let path = self.raw_path(&disk.name);
            let raw = self.newest(&disk.name)?;
            let now = sparse::allocated(&raw).map_err(|error| self.io.failed("look at", &path, error))?;
            let journal = std::fs::metadata(self.journal_path(&disk.name)).map_or(0, |file| file.len());
            stored = stored + ByteCount(now.saturating_sub(disk.allocated) + journal);
        }
        Ok(stored)
    }

    /// Tidies up after a point has its name: journals become the deltas of the point that was newest, digests those of the
    /// newest state. Also called when a store is opened that stopped in between.
    pub(super) fn complete_seal(&self, chain: &mut Chain) -> Result<()> {
        let Some(open) = &chain.open else { return Ok(()) };
        let number = open.begun.number;
        let previous = chain.points.iter().rev().find(|sealed| sealed.number < number);
        let sealed = chain.points.iter().find(|sealed| sealed.number == number);
        let folder = self.open_folder();
        for name in self.io.names(&folder)? {
            let parse = |name: &str| DiskName::parse(name).map_err(|error| self.io.damage(&folder.join(name), error));
            if let (Some(disk), Some(previous)) = (name.strip_suffix(".journal"), previous) {
                self.io.rename(&folder.join(&name), &self.delta_path(previous, &parse(disk)?))?;
            } else if let Some(disk) = name.strip_suffix(".digests") {
                self.io.rename(&folder.join(&name), &self.digests_path(&parse(disk)?))?;
            } else if let Some(disk) = name.strip_suffix(".allocation")
                && let Some(sealed) = sealed
            {
                self.io.rename(&folder.join(&name), &self.allocation_path(sealed, &parse(disk)?))?;
            }
        }
        if let Some(sealed) = sealed {
            self.io.sync_folder(&self.point_folder(number, &sealed.point.point))?;
        }
        if let Some(previous) = previous {
            self.io.sync_folder(&self.point_folder(previous.number, &previous.point.point))?;
        }
        self.io.sync_folder(&self.root.join("newest"))?;
        self.io.remove_folder(&folder)?;
        self.io.sync_folder(&self.root)?;
        chain.open = None;
        Ok(())
    }
}

fn prove(point: &PointId, wanted: &DiskPoint, finished: Option<&FinishedDisk>) -> Result<DiskPoint> {
    let incomplete =
        || Error::Incomplete { point: point.clone(), missing: format!("disk {} is not finished", wanted.name) };
    let found = &finished.ok_or_else(incomplete)?.disk;
    if (found.size, found.checksum) != (wanted.size, wanted.checksum) {
        return Err(Error::Proof {
            point: point.clone(),
            disk: wanted.name.clone(),
            found: found.checksum,
            wanted: wanted.checksum,
        });
    }
    Ok(found.clone())
}
