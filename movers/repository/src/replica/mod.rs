//! The replica store: for each disk of a replica the newest state raw, and per older point a reverse delta that turns the
//! next newer state back into it. The layout and the order of writes are in `docs/formats/replica-store.md`.
//!
//! What makes it safe: a block's before-image is durable before the block is overwritten, and a point exists from the
//! moment at which its manifest has its name. So at any instant the newest sealed state can be had back.

use crate::io::Io;
use crate::{Error, Result, Store};
use farshore_format::{Allocation, DigestMap, ReplicaPoint};
use farshore_schemas::ids::{DiskName, PointId};
use farshore_schemas::messages::agent::DiskPoint;
use farshore_schemas::units::ByteCount;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

mod absorb;
mod begin;
mod delta;
mod forget;
mod materialise;
mod open;
mod roll_back;
mod seal;
mod writer;

pub use writer::DiskWriter;

/// The store of one replica, open. Shared between threads as `Arc`.
#[derive(Debug)]
pub struct ReplicaStore {
    io: Io,
    root: PathBuf,
    _lock: File,
    chain: RwLock<Chain>,
    /// Disks that have a writer.
    busy: Mutex<BTreeSet<DiskName>>,
}

/// What a block becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockContent<'a> {
    /// These bytes: 4096, fewer only for a disk's short last block. All zeros become a hole too.
    Data(&'a [u8]),
    /// Zeros: the block becomes a hole.
    Zeros,
}

/// A disk as the store holds it, read back after it was made durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedDisk {
    /// Its size and checksum; the manifest is zeros.
    pub disk: DiskPoint,
    /// Its digests.
    pub digests: DigestMap,
    /// Bytes that its last writer wrote.
    pub written: ByteCount,
}

#[derive(Debug, Default)]
struct Chain {
    /// From the oldest to the newest.
    points: Vec<Sealed>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Sealed {
    number: u64,
    point: ReplicaPoint,
}

/// The point that is being made.
#[derive(Debug)]
struct Open {
    begun: Begun,
    finished: BTreeMap<DiskName, FinishedDisk>,
}

/// What `open/begin` says: written before anything of a disk is changed, so that a crash leaves nothing unexplained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begun {
    point: PointId,
    number: u64,
    disks: Vec<BegunDisk>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BegunDisk {
    name: DiskName,
    /// The size that it gets.
    size: u64,
    /// The size that it had; none for a disk that the store did not have.
    was: Option<u64>,
    /// Bytes that it took on disk before.
    allocated: u64,
}

impl Begun {
    fn disk(&self, name: &DiskName) -> Option<&BegunDisk> {
        self.disks.iter().find(|disk| disk.name == *name)
    }
}

impl Chain {
    fn sealed(&self, point: &PointId) -> Option<&Sealed> {
        self.points.iter().find(|sealed| sealed.point.point == *point)
    }

    fn begun(&self, point: &PointId) -> Result<&Open> {
        match &self.open {
            Some(open) if open.begun.point == *point => Ok(open),
            Some(open) => Err(Error::Unfinished { open: open.begun.point.clone(), asked: point.clone() }),
            None => Err(Error::NotBegun { point: point.clone() }),
        }
    }
}

impl ReplicaStore {
    fn read_chain(&self) -> RwLockReadGuard<'_, Chain> {
        self.chain.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_chain(&self) -> RwLockWriteGuard<'_, Chain> {
        self.chain.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> MutexGuard<'_, BTreeSet<DiskName>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raw_path(&self, disk: &DiskName) -> PathBuf {
        self.root.join("newest").join(format!("{disk}.raw"))
    }

    fn digests_path(&self, disk: &DiskName) -> PathBuf {
        self.root.join("newest").join(format!("{disk}.digests"))
    }

    fn open_folder(&self) -> PathBuf {
        self.root.join("open")
    }

    fn journal_path(&self, disk: &DiskName) -> PathBuf {
        self.open_folder().join(format!("{disk}.journal"))
    }

    fn open_digests_path(&self, disk: &DiskName) -> PathBuf {
        self.open_folder().join(format!("{disk}.digests"))
    }

    fn open_allocation_path(&self, disk: &DiskName) -> PathBuf {
        self.open_folder().join(format!("{disk}.allocation"))
    }

    fn allocation_path(&self, sealed: &Sealed, disk: &DiskName) -> PathBuf {
        self.point_folder(sealed.number, &sealed.point.point).join(format!("{disk}.allocation"))
    }

    /// An allocation that was kept; none when there is none, or it is damaged: a disk must be had without it, too.
    fn kept_allocation(&self, path: &Path, size: u64) -> Result<Option<Allocation>> {
        let Some(bytes) = self.io.read(path)? else { return Ok(None) };
        let decoded = Allocation::decode(&bytes, size);
        if let Err(error) = &decoded {
            tracing::warn!(path = %path.display(), %error, "a disk is made without the space that its source had set aside");
        }
        Ok(decoded.ok())
    }

    fn point_folder(&self, number: u64, point: &PointId) -> PathBuf {
        self.root.join("points").join(format!("{number:08}-{point}"))
    }

    fn delta_path(&self, sealed: &Sealed, disk: &DiskName) -> PathBuf {
        self.point_folder(sealed.number, &sealed.point.point).join(format!("{disk}.delta"))
    }

    /// The disks of which the store holds a newest state.
    fn disks(&self) -> Result<Vec<DiskName>> {
        let folder = self.root.join("newest");
        let names = self.io.names(&folder)?;
        let raw = names.iter().filter_map(|name| name.strip_suffix(".raw"));
        raw.map(|name| DiskName::parse(name).map_err(|error| self.io.damage(&folder.join(name), error))).collect()
    }

    /// The points, from the oldest to the newest.
    pub fn points(&self) -> Vec<ReplicaPoint> {
        self.read_chain().points.iter().map(|sealed| sealed.point.clone()).collect()
    }

    /// The point that is being made, if any.
    pub fn unfinished(&self) -> Option<PointId> {
        self.read_chain().open.as_ref().map(|open| open.begun.point.clone())
    }

    /// The newest state of a disk, to be read. While a point is being made it is on its way to that point.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no such disk.
    pub fn newest(&self, disk: &DiskName) -> Result<File> {
        self.io.open_ro(&self.raw_path(disk))
    }

    fn no_point(&self, point: &PointId) -> Error {
        Error::NoPoint { store: Store::Replica, point: point.clone() }
    }
}
