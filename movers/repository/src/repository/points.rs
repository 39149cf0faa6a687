//! Disk manifests, restore points, and reading them back in full.

use super::chunks::plausible;
use super::{Repository, State, Verified};
use crate::{Error, Result, Store};
use farshore_format::{ChunkId, DiskHasher, DiskManifest, PointManifest, decode_chunk};
use farshore_schemas::ids::{Digest, DiskName, Name, PointId};
use farshore_schemas::messages::agent::DiskPoint;
use farshore_schemas::units::ByteCount;
use std::collections::HashSet;
use std::path::PathBuf;

/// Bounds what a manifest on our own disk can make us allocate.
pub(super) const MAX_DISK: ByteCount = ByteCount(1 << 46);

impl Repository {
    pub(super) fn point_path(&self, point: &PointId) -> PathBuf {
        self.root.join("points").join(point.0.as_str())
    }

    pub(super) fn disk_path(&self, manifest: &Digest) -> PathBuf {
        self.root.join("disks").join(manifest.to_string())
    }

    /// Builds what is remembered of the files. A damaged manifest hinders nobody but a prune, which looks again.
    pub(super) fn load(&self) -> Result<()> {
        let mut fresh = State::default();
        for point in self.point_names()? {
            let Ok(Some(manifest)) = self.point(&point) else { continue };
            for disk in &manifest.disks {
                if let Ok(chunks) = self.read_disk(&disk.manifest) {
                    fresh.named.extend(chunks.chunks.into_iter().filter(|id| !id.is_zero()));
                }
            }
        }
        fresh.trashed = self.trashed_chunks()?;
        *self.state() = fresh;
        Ok(())
    }

    pub(super) fn point_names(&self) -> Result<Vec<PointId>> {
        let folder = self.root.join("points");
        let parse =
            |name: String| Name::parse(&name).map(PointId).map_err(|error| self.io.damage(&folder.join(&name), error));
        self.io.names(&folder)?.into_iter().map(parse).collect()
    }

    /// Stores the manifest of a disk and answers its digest, which [`DiskPoint::manifest`] holds. Durable only once a
    /// point that names it is committed.
    ///
    /// # Errors
    /// [`Error::Full`], or what the disk says.
    pub fn put_disk_manifest(&self, manifest: &DiskManifest) -> Result<Digest> {
        self.io.usable()?;
        let digest = manifest.digest();
        {
            let mut state = self.state();
            if state.sessions > 0 {
                state.pinned_disks.insert(digest);
            }
        }
        // One that is there may be what a crash left, so it counts only when it reads well.
        if self.read_disk(&digest).is_err() {
            self.io.place(&self.disk_path(&digest), &self.temporary(), &manifest.encode())?;
        }
        Ok(digest)
    }

    pub(super) fn read_disk(&self, digest: &Digest) -> Result<DiskManifest> {
        let path = self.disk_path(digest);
        let bytes = self.io.read(&path)?.ok_or_else(|| self.io.damage(&path, "it is missing"))?;
        let manifest = DiskManifest::decode(&bytes, MAX_DISK).map_err(|error| self.io.damage(&path, error))?;
        if manifest.digest() != *digest {
            return Err(self.io.damage(&path, "it is the manifest of another disk"));
        }
        Ok(manifest)
    }

    /// The manifest of a disk of a point.
    ///
    /// # Errors
    /// [`Error::NoPoint`], [`Error::NoDisk`], [`Error::Damage`].
    pub fn disk_manifest(&self, point: &PointId, disk: &DiskName) -> Result<DiskManifest> {
        let manifest = self.existing(point)?;
        let wanted = manifest.disks.iter().find(|entry| entry.name == *disk);
        let wanted = wanted.ok_or_else(|| Error::NoDisk { point: point.clone(), disk: disk.clone() })?;
        self.read_disk(&wanted.manifest)
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
        let manifest = PointManifest::decode(&bytes).map_err(|error| self.io.damage(&path, error))?;
        if manifest.point != *point {
            return Err(self.io.damage(&path, format!("it is point {}", manifest.point)));
        }
        Ok(Some(manifest))
    }

    fn existing(&self, point: &PointId) -> Result<PointManifest> {
        self.point(point)?.ok_or_else(|| Error::NoPoint { store: Store::Repository, point: point.clone() })
    }

    /// Makes a point: checks that every chunk it names is here, makes all of that durable, then writes the manifest,
    /// durable too (P6). Answers what the point added to the repository. Done twice it answers the same.
    ///
    /// # Errors
    /// [`Error::Incomplete`], [`Error::PointDiffers`], [`Error::Full`], [`Error::Sync`], or what the disk says.
    pub fn commit_point(&self, manifest: &PointManifest) -> Result<ByteCount> {
        self.io.usable()?;
        let _alone = self.decide_alone();
        if let Some(found) = self.point(&manifest.point)? {
            if !found.same_content(manifest) {
                return Err(Error::PointDiffers { store: Store::Repository, point: found.point });
            }
            // A crash may have come between the manifest's name and its being durable.
            self.io.sync_folder(&self.root.join("points"))?;
            return Ok(found.stored);
        }
        let (chunks, stored) = self.check_complete(manifest)?;
        self.io.sync_all(&self.root_folder, &self.root)?;
        let manifest = PointManifest { stored, ..manifest.clone() };
        self.io.place_durable(&self.point_path(&manifest.point), &manifest.encode())?;
        self.state().named.extend(chunks);
        Ok(stored)
    }

    /// The chunks that a point names and what those that no other point names take.
    fn check_complete(&self, manifest: &PointManifest) -> Result<(HashSet<ChunkId>, ByteCount)> {
        let incomplete = |missing: String| Error::Incomplete { point: manifest.point.clone(), missing };
        let mut chunks = HashSet::new();
        let mut stored = ByteCount(0);
        for disk in &manifest.disks {
            let list = self.read_disk(&disk.manifest).map_err(|error| incomplete(error.to_string()))?;
            if (list.size, list.checksum) != (disk.size, disk.checksum) {
                return Err(incomplete(format!("the manifest of disk {} is of another state of it", disk.name)));
            }
            let path = self.disk_path(&disk.manifest);
            stored = stored + ByteCount(std::fs::metadata(&path).map_or(0, |file| file.len()));
            chunks.extend(list.chunks.into_iter().filter(|id| !id.is_zero()));
        }
        for id in &chunks {
            if !self.has(id)? {
                return Err(incomplete(format!("chunk {id} is not here")));
            }
            let path = self.chunk_path(id);
            let length = std::fs::metadata(&path).map_err(|error| self.io.failed("look at", &path, error))?.len();
            if !plausible(length) {
                return Err(incomplete(format!("chunk {id} has {length} bytes")));
            }
            if !self.state().named.contains(id) {
                stored = stored + ByteCount(length);
            }
        }
        Ok((chunks, stored))
    }

    /// Reads every chunk of a point and proves it, and every disk by its checksum. A damaged chunk is not counted as
    /// stored any more, so the next backup that holds its content stores it again.
    ///
    /// # Errors
    /// [`Error::NoPoint`], [`Error::Damage`] when the point's own manifest cannot be read.
    pub fn verify_point(&self, point: &PointId) -> Result<Verified> {
        let manifest = self.existing(point)?;
        let mut verified = Verified { chunks: 0, damage: Vec::new(), damaged: 0 };
        for disk in &manifest.disks {
            self.verify_disk(disk, &mut verified);
        }
        Ok(verified)
    }

    fn verify_disk(&self, disk: &DiskPoint, verified: &mut Verified) {
        let list = match self.read_disk(&disk.manifest) {
            Ok(list) => list,
            Err(error) => return verified.note(format!("disk {}: {error}", disk.name)),
        };
        let mut hasher = DiskHasher::new();
        let before = verified.damaged;
        for (index, id) in (0u64..).zip(&list.chunks) {
            let length = list.chunk_len(index).expect("a decoded manifest has one chunk for each part of the disk");
            if id.is_zero() {
                hasher.zeros(length as u64);
                continue;
            }
            verified.chunks += 1;
            match self.proven_chunk(*id, length) {
                Ok(content) => hasher.data(&content),
                Err(why) => verified.note(format!("disk {} chunk {index} ({id}): {why}", disk.name)),
            }
        }
        if verified.damaged == before && hasher.finish() != disk.checksum {
            verified.note(format!("disk {}: its chunks are sound but are not the disk that was read", disk.name));
        }
    }

    fn proven_chunk(&self, id: ChunkId, length: usize) -> std::result::Result<Vec<u8>, String> {
        let content = self
            .get_chunk(id)
            .map_err(|error| error.to_string())
            .and_then(|bytes| decode_chunk(id, &bytes).map_err(|error| error.to_string()))
            .inspect_err(|_| {
                let mut state = self.state();
                state.named.remove(&id);
                state.proven.remove(&id);
            })?;
        if content.len() != length {
            return Err(format!("it has {} bytes where {length} belong", content.len()));
        }
        Ok(content)
    }
}

impl Verified {
    fn note(&mut self, line: String) {
        self.damaged += 1;
        if self.damage.len() < 5 {
            self.damage.push(line);
        }
    }
}
