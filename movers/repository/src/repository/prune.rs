//! Deletion in two phases. A prune unlinks what an earlier prune, at a lower log position, put into the trash and nothing
//! has asked for since; then it moves the manifests of the dropped points, and every chunk and disk manifest that no
//! point in the folder names, into a trash of its own position. A point that the log does not know holds its chunks.

use super::{Pruned, Repository};
use crate::{Error, Result};
use farshore_format::ChunkId;
use farshore_schemas::ids::{Digest, PointId};
use farshore_schemas::units::ByteCount;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// What the points in the folder name.
struct Live {
    chunks: HashSet<ChunkId>,
    disks: HashSet<Digest>,
}

impl Repository {
    /// Drops these points and cleans up: see the module. `position` is how far the owner's log had come when it decided.
    /// The caller sees to it that no other process's session is under way; those of this one are told by
    /// [`super::WriteSession`]. Done twice at the same position it is harmless.
    ///
    /// # Errors
    /// [`Error::Position`] for a position lower than one seen, [`Error::Damage`] when a manifest in the folder cannot be
    /// read (what it names is then unknown, so nothing is taken), or what the disk says.
    pub fn prune(&self, points: &[PointId], position: u64) -> Result<Pruned> {
        self.io.usable()?;
        let _alone = self.decide_alone();
        self.note_position(position)?;
        let trash = self.root.join("trash").join(format!("{position:020}"));
        for folder in ["points", "disks", "chunks"] {
            self.io.make_folder(&trash.join(folder))?;
        }
        self.io.sync_folder(&self.root.join("trash"))?;
        self.drop_points(points, &trash)?;
        let live = self.live()?;
        let freed = self.empty_trash(position, &live)?;
        let marked = self.mark(&live, &trash)?;
        self.state().named = live.chunks;
        Ok(Pruned { points: points.to_vec(), freed, marked })
    }

    fn note_position(&self, position: u64) -> Result<()> {
        let path = self.root.join("position");
        let seen = match self.io.read(&path)? {
            None => 0,
            Some(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                text.trim().parse().map_err(|_| self.io.damage(&path, format!("{text:?} is not a log position")))?
            }
        };
        if position < seen {
            return Err(Error::Position { asked: position, seen });
        }
        if position > seen || !path.exists() {
            self.io.place_durable(&path, format!("{position}\n").as_bytes())?;
        }
        Ok(())
    }

    fn drop_points(&self, points: &[PointId], trash: &Path) -> Result<()> {
        for point in points {
            let path = self.point_path(point);
            if path.exists() {
                self.io.rename(&path, &trash.join("points").join(point.0.as_str()))?;
            }
        }
        self.io.sync_folder(&trash.join("points"))?;
        self.io.sync_folder(&self.root.join("points"))
    }

    fn live(&self) -> Result<Live> {
        let mut live = Live { chunks: HashSet::new(), disks: HashSet::new() };
        for point in self.points()? {
            for disk in &point.disks {
                if live.disks.insert(disk.manifest) {
                    live.chunks.extend(self.read_disk(&disk.manifest)?.chunks);
                }
            }
        }
        live.chunks.remove(&ChunkId::ZERO);
        Ok(live)
    }

    /// Unlinks what prunes at lower positions have put into the trash.
    fn empty_trash(&self, position: u64, live: &Live) -> Result<ByteCount> {
        let root = self.root.join("trash");
        let mut freed = ByteCount(0);
        for name in self.io.names(&root)? {
            if name.parse::<u64>().is_ok_and(|marked_at| marked_at < position) {
                freed = freed + self.empty_one(&root.join(name), live)?;
            }
        }
        Ok(freed)
    }

    fn empty_one(&self, trash: &Path, live: &Live) -> Result<ByteCount> {
        let mut freed = ByteCount(0);
        let mut state = self.state();
        for (id, path) in self.chunks_below(&trash.join("chunks"))? {
            // Cannot be, unless a file was brought back by hand; but a chunk that a point needs is never unlinked.
            if live.chunks.contains(&id) && !self.chunk_path(&id).exists() {
                self.io.rename(&path, &self.chunk_path(&id))?;
                continue;
            }
            freed = freed + length(&path);
            self.io.remove_file(&path)?;
            state.trashed.remove(&id);
        }
        for folder in ["disks", "points"] {
            for name in self.io.names(&trash.join(folder))? {
                let path = trash.join(folder).join(name);
                freed = freed + length(&path);
                self.io.remove_file(&path)?;
            }
        }
        self.io.remove_folder(trash)?;
        Ok(freed)
    }

    /// Moves what nothing names to the trash.
    fn mark(&self, live: &Live, trash: &Path) -> Result<ByteCount> {
        let mut marked = ByteCount(0);
        let mut state = self.state();
        for name in self.io.names(&self.root.join("disks"))? {
            let path = self.root.join("disks").join(&name);
            let digest: Digest = name.parse().map_err(|error| self.io.damage(&path, error))?;
            if !live.disks.contains(&digest) && !state.pinned_disks.contains(&digest) {
                marked = marked + length(&path);
                self.io.rename(&path, &trash.join("disks").join(&name))?;
            }
        }
        for folder in self.io.names(&self.root.join("chunks"))? {
            for (id, path) in self.chunks_below(&self.root.join("chunks").join(folder))? {
                if live.chunks.contains(&id) || state.pinned.contains(&id) {
                    continue;
                }
                marked = marked + length(&path);
                let trashed = trash.join("chunks").join(id.to_string());
                self.io.rename(&path, &trashed)?;
                state.proven.remove(&id);
                state.trashed.insert(id, trashed);
            }
        }
        Ok(marked)
    }

    fn chunks_below(&self, folder: &Path) -> Result<Vec<(ChunkId, PathBuf)>> {
        let parse = |name: String| {
            let path = folder.join(&name);
            name.parse::<ChunkId>().map(|id| (id, path.clone())).map_err(|error| self.io.damage(&path, error))
        };
        self.io.names(folder)?.into_iter().map(parse).collect()
    }

    pub(super) fn trashed_chunks(&self) -> Result<HashMap<ChunkId, PathBuf>> {
        let root = self.root.join("trash");
        let mut trashed = HashMap::new();
        for name in self.io.names(&root)? {
            trashed.extend(self.chunks_below(&root.join(name).join("chunks"))?);
        }
        Ok(trashed)
    }
}

fn length(path: &Path) -> ByteCount {
    ByteCount(std::fs::metadata(path).map_or(0, |file| file.len()))
}
