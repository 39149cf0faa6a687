//! Restore points, and the roster that says which there are.

use super::records::Reader;
use super::{Repository, backup};
use crate::{Error, Result, Store};
use farshore_format::v1::{ChunkId, Extent, PointManifest, RecordKind, Roster, RosterPoint};
use farshore_schemas::ids::{Digest, Name, PointId};
use farshore_schemas::units::ByteCount;
use std::collections::HashSet;
use std::path::PathBuf;

impl Repository {
    pub(super) fn point_path(&self, point: &PointId) -> PathBuf {
        self.root.join("points").join(point.0.as_str())
    }

    pub(super) fn roster_path(&self) -> PathBuf {
        self.root.join("roster")
    }

    /// The names of the points in the folder, sorted.
    ///
    /// # Errors
    /// [`Error::Damage`] when a file is there that no point is named like, or what the disk says.
    pub fn point_names(&self) -> Result<Vec<PointId>> {
        let folder = self.root.join("points");
        let parse =
            |name: String| Name::parse(&name).map(PointId).map_err(|error| self.io.damage(&folder.join(&name), error));
        self.io.names(&folder)?.into_iter().map(parse).collect()
    }

    /// Every point in the folder, by name.
    ///
    /// # Errors
    /// [`Error::Damage`] when one cannot be read.
    pub fn points(&self) -> Result<Vec<PointManifest>> {
        self.point_names()?.iter().map(|point| self.existing(point)).collect()
    }

    /// A point; none when there is none of that name.
    ///
    /// # Errors
    /// [`Error::Damage`].
    pub fn point(&self, point: &PointId) -> Result<Option<PointManifest>> {
        let path = self.point_path(point);
        let Some(bytes) = self.io.read(&path)? else { return Ok(None) };
        let manifest = PointManifest::decode(&bytes, self.sealing.key.as_ref());
        let manifest = manifest.map_err(|error| self.io.damage(&path, error))?;
        if manifest.point != *point {
            return Err(self.io.damage(&path, format!("it is point {}", manifest.point)));
        }
        Ok(Some(manifest))
    }

    pub(super) fn existing(&self, point: &PointId) -> Result<PointManifest> {
        self.point(point)?.ok_or_else(|| Error::NoPoint { store: Store::Repository, point: point.clone() })
    }

    /// Makes a point: makes everything durable, checks that every record it names is here, then writes the point, durable
    /// too (P6), and the roster. Done twice it answers the same.
    ///
    /// # Errors
    /// [`Error::Incomplete`], [`Error::PointDiffers`], [`Error::Full`], [`Error::Sync`], or what the disk says.
    pub fn commit_point(&self, manifest: &PointManifest) -> Result<()> {
        self.io.usable()?;
        let _alone = self.decide_alone();
        if let Some(found) = self.point(&manifest.point)? {
            if !found.same_content(manifest) {
                return Err(Error::PointDiffers { store: Store::Repository, point: found.point });
            }
            // A crash may have come between the point's name and its being durable, or before the roster.
            self.io.sync_folder(&self.root.join("points"))?;
            return self.write_roster();
        }
        self.flush()?;
        self.check_complete(manifest)?;
        let bytes = manifest.encode(self.sealing.fresh()).expect("an open repository that seals has its key");
        self.io.place_durable(&self.point_path(&manifest.point), &bytes)?;
        self.write_roster()
    }

    /// Writes which points there are now.
    pub(super) fn write_roster(&self) -> Result<()> {
        let path = self.roster_path();
        let before = match self.io.read(&path)? {
            None => Roster::default(),
            // A damaged one is told by verify; its generation does not matter more than a point does.
            Some(bytes) => Roster::decode(&bytes, self.sealing.key.as_ref()).unwrap_or_default(),
        };
        let mut points = Vec::new();
        for point in self.point_names()? {
            let bytes = self.io.read(&self.point_path(&point))?.unwrap_or_default();
            points.push(RosterPoint { file: Digest(*blake3::hash(&bytes).as_bytes()), point });
        }
        points.sort_by(|a, b| a.point.cmp(&b.point));
        if before.points == points && before.generation > 0 {
            return Ok(());
        }
        let roster = Roster { generation: before.generation + 1, points };
        let bytes = roster.encode(self.sealing.fresh()).expect("an open repository that seals has its key");
        self.io.place_durable(&path, &bytes)
    }

    /// That every record that a point names is here. Leaves that an earlier point names too are not looked into again:
    /// what a point names stays until the point goes, and no point goes while this is decided.
    fn check_complete(&self, manifest: &PointManifest) -> Result<()> {
        let incomplete = |error: Error| {
            if !matches!(error, Error::NoChunk { .. } | Error::Damage { .. }) {
                return error;
            }
            Error::Incomplete { point: manifest.point.clone(), missing: error.to_string() }
        };
        let mut reader = Reader::new(self);
        for disk in &manifest.disks {
            let known = self.leaves_before(manifest, &disk.name, &mut reader);
            self.check_disk(&disk.record(), &known, &mut reader).map_err(incomplete)?;
            let tree = reader.disk(&disk.record()).map_err(incomplete)?;
            if (tree.size, tree.checksum) != (disk.size.0, disk.checksum) {
                let missing = format!("the record of disk {} is of another state of it", disk.name);
                return Err(Error::Incomplete { point: manifest.point.clone(), missing });
            }
        }
        Ok(())
    }

    /// Leaves of the newest point of the same disk.
    fn leaves_before(
        &self,
        manifest: &PointManifest,
        disk: &farshore_schemas::ids::DiskName,
        reader: &mut Reader<'_>,
    ) -> HashSet<ChunkId> {
        let Ok(points) = self.points() else { return HashSet::new() };
        let same = points.iter().filter(|point| point.vm == manifest.vm && point.point != manifest.point);
        let newest = same.max_by_key(|point| point.taken);
        let before = newest.and_then(|point| point.disks.iter().find(|entry| entry.name == *disk));
        let Some(before) = before else { return HashSet::new() };
        let leaves = reader.disk(&before.record()).and_then(|tree| reader.leaves(&tree));
        // Without it everything is looked at.
        leaves.map(|leaves| leaves.into_iter().collect()).unwrap_or_default()
    }

    fn check_disk(&self, disk: &ChunkId, known: &HashSet<ChunkId>, reader: &mut Reader<'_>) -> Result<()> {
        let tree = reader.disk(disk)?;
        for (region, leaf) in (0u64..).zip(reader.leaves(&tree)?) {
            if known.contains(&leaf) {
                continue;
            }
            let leaf = reader.leaf(&leaf, (tree.size, region))?;
            let ids: Vec<ChunkId> = leaf.extents.iter().filter_map(backup::id_of).collect();
            if let Some(wrong) = reader.find(&ids)?.iter().find(|found| found.kind() != Some(RecordKind::Data)) {
                return Err(Error::NoChunk { id: wrong.id });
            }
        }
        Ok(())
    }

    /// Bytes of all packs.
    ///
    /// # Errors
    /// What the disk says.
    pub fn stored(&self) -> Result<ByteCount> {
        let mut total = 0;
        for (_, id) in self.index().all_packs() {
            total += std::fs::metadata(super::packs::pack_path(&self.root, &id)).map_or(0, |file| file.len());
        }
        Ok(ByteCount(total))
    }

    /// How many packs there are.
    pub fn packs(&self) -> usize {
        self.index().all_packs().count()
    }

    /// Bytes that prunes have put into the trash and none has unlinked yet.
    ///
    /// # Errors
    /// What the disk says.
    pub fn trash(&self) -> Result<ByteCount> {
        let root = self.root.join("trash");
        let mut total = 0;
        for name in self.io.names(&root)? {
            for folder in ["packs", "points"] {
                let folder = root.join(&name).join(folder);
                for file in self.io.names(&folder)? {
                    total += std::fs::metadata(folder.join(file)).map_or(0, |file| file.len());
                }
            }
        }
        Ok(ByteCount(total))
    }
}

/// Bytes of an extent of a disk of `size` that begins at `start`: its last block may be short.
pub(super) fn extent_len(extent: &Extent, (start, size): (u64, u64)) -> u64 {
    (u64::from(extent.blocks()) * farshore_format::BLOCK as u64).min(size - start)
}
