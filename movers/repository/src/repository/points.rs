//! Restore points.

use super::Repository;
use super::damaged::damage_of;
use super::records::Reader;
use super::roster::{LOOKS, NOT_NAMED};
use super::strays::may_be_point;
use crate::{Error, Result, Store};
use farshore_format::repository::{Extent, PointManifest, RosterPoint};
use farshore_schemas::ids::{Digest, Name, PointId};
use farshore_schemas::units::{ByteCount, Millis};
use std::collections::HashSet;
use std::path::PathBuf;

impl Repository {
    pub(super) fn point_path(&self, point: &PointId) -> PathBuf {
        self.root.join("points").join(point.0.as_str())
    }

    /// The names of the points in the folder, sorted.
    ///
    /// # Errors
    /// What the disk says.
    pub fn point_names(&self) -> Result<Vec<PointId>> {
        let folder = self.root.join("points");
        let names = self.io.names(&folder)?.into_iter().filter(|name| may_be_point(&folder, name));
        Ok(names.filter_map(|name| Name::parse(&name).ok().map(PointId)).collect())
    }

    /// Every point in the folder, by name.
    ///
    /// # Errors
    /// [`Error::Damage`] when one cannot be read.
    pub fn points(&self) -> Result<Vec<PointManifest>> {
        self.point_names()?.iter().map(|point| self.existing(point)).collect()
    }

    /// A point; none when there is none of that name. Its file is the one that the roster names, where the roster can be read:
    /// an older one is a point of the same name that was dropped.
    ///
    /// # Errors
    /// [`Error::Damage`].
    pub fn point(&self, point: &PointId) -> Result<Option<PointManifest>> {
        let path = self.point_path(point);
        let mut before = None;
        for _ in 0..LOOKS {
            let Some(bytes) = self.io.read(&path)? else { return Ok(None) };
            let manifest = PointManifest::decode(&bytes, self.sealing.key.as_ref());
            let manifest = manifest.map_err(|error| self.io.damage(&path, error))?;
            if manifest.point != *point {
                return Err(self.io.damage(&path, format!("it is point {}", manifest.point)));
            }
            let file = Digest(*blake3::hash(&bytes).as_bytes());
            if self.may_be(point, file) {
                return Ok(Some(manifest));
            }
            // A writer may have put another into its place between the two looks.
            if before.replace(file) == Some(file) {
                break;
            }
        }
        Err(self.io.damage(&path, NOT_NAMED))
    }

    pub(super) fn existing(&self, point: &PointId) -> Result<PointManifest> {
        self.point(point)?.ok_or_else(|| Error::NoPoint { store: Store::Repository, point: point.clone() })
    }

    /// As [`Repository::commit_immutable`], of a point that may go at any time.
    ///
    /// # Errors
    /// The same.
    pub fn commit_point(&self, manifest: &PointManifest) -> Result<ByteCount> {
        self.commit_immutable(manifest, None)
    }

    /// Makes a point: makes everything durable, checks that every record it names is here, then writes the point, durable
    /// too (P6), and the roster. With `immutable` it must stay for so long from now, which is durable before it is. Answers what it added, as the point says. Done twice it answers the same.
    ///
    /// # Errors
    /// [`Error::Incomplete`], [`Error::PointDiffers`], [`Error::Full`], [`Error::Sync`], or what the disk says.
    pub fn commit_immutable(&self, manifest: &PointManifest, immutable: Option<Millis>) -> Result<ByteCount> {
        self.io.usable()?;
        let _alone = self.decide_alone();
        self.still_owned()?;
        if let Some(found) = self.point(&manifest.point)? {
            if !found.same_content(manifest) {
                return Err(Error::PointDiffers { store: Store::Repository, point: found.point });
            }
            // A crash may have come between the point's name and its being durable, or before the roster.
            self.io.sync_folder(&self.root.join("points"))?;
            self.write_roster()?;
            if let Some(period) = immutable {
                self.date_if_undated(&manifest.point, period)?;
                self.mark_point(&manifest.point)?;
            }
            return Ok(found.stored);
        }
        self.flush()?;
        self.damage_is_known()?;
        let packs = self.check_complete(manifest)?;
        self.keep_met()?;
        self.place_point(manifest, immutable)?;
        self.rely_on(&manifest.disks, packs);
        Ok(manifest.stored)
    }

    /// Writes the file of a point whose content is here, durable, and the roster; before it, for how long it must stay.
    pub(super) fn place_point(&self, manifest: &PointManifest, immutable: Option<Millis>) -> Result<()> {
        let bytes = manifest.encode(self.sealing.fresh()).expect("an open repository that seals has its key");
        let file = Digest(*blake3::hash(&bytes).as_bytes());
        self.note_change(vec![RosterPoint { point: manifest.point.clone(), file }], Vec::new())?;
        if let Some(period) = immutable {
            self.make_immutable(&manifest.point, period)?;
        }
        self.io.place_durable(&self.point_path(&manifest.point), &bytes)?;
        if immutable.is_some() {
            self.mark_point(&manifest.point)?;
        }
        self.forget_added(&manifest.disks);
        self.write_roster()
    }

    /// That every record that a point names can be counted on. Answers the packs that its leaves and chunks lie in, if they are known
    /// from having been looked for.
    pub(super) fn check_complete(&self, manifest: &PointManifest) -> Result<Option<HashSet<u32>>> {
        let missing = |missing: String| Error::Incomplete { point: manifest.point.clone(), missing };
        let incomplete = |error: Error| {
            let absent = matches!(error, Error::NoChunk { .. }) || damage_of(&error).is_some();
            if absent { missing(error.to_string()) } else { error }
        };
        let mut reader = Reader::new(self);
        let mut all = Vec::new();
        for disk in &manifest.disks {
            self.count_on(&[disk.record()]).map_err(incomplete)?;
            let tree = reader.disk(&disk.record()).map_err(incomplete)?;
            if (tree.size, tree.checksum) != (disk.size.0, disk.checksum) {
                return Err(missing(format!("the record of disk {} is of another state of it", disk.name)));
            }
            self.count_on(&tree.lists).map_err(incomplete)?;
            let leaves = reader.leaves(&tree).map_err(incomplete)?;
            if let Some(why) = self.wanting(&tree, &leaves)?.into_values().next() {
                return Err(missing(format!("disk {}: {why}", disk.name)));
            }
            all.extend(leaves);
        }
        Ok(self.packs_of(&all))
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
                // Something else in its place goes with the trash, and counts for nothing.
                let names =
                    self.io.names(&folder).or_else(|error| damage_of(&error).map(|_| Vec::new()).ok_or(error))?;
                for file in names {
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
