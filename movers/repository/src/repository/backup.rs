//! Reading a disk into the repository: regions side by side, each read, hashed, cut unless the point before has it under that
//! hash, named, looked up, compressed and packed by one thread, so that memory is bounded by threads and nothing waits for
//! order.

use super::damaged::damage_of;
use super::packs::Packed;
use super::records::Reader;
use super::regions::{Base, Run};
use super::stages::{Stage, Stages};
use super::{Repository, Source};
use crate::{Error, Result};
use farshore_format::repository::{
    ChunkId, Compression, DiskTree, Extent, LEAVES_PER_LIST, LeafList, Listed, Packer, PointDisk, RecordKind,
    checksum_of, regions_in,
};
use farshore_schemas::ids::{Digest, DiskName};
use farshore_schemas::units::ByteCount;
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, PoisonError};

/// How a disk is read in.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// How hard to compress.
    pub compression: Compression,
    /// Threads; one for each processor by default.
    pub threads: NonZeroUsize,
    /// Named in errors.
    pub path: PathBuf,
}

/// What a disk became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// The disk's name, as given.
    pub name: DiskName,
    /// Its size.
    pub size: ByteCount,
    /// The checksum of its content; none when only changed blocks of a region were read.
    pub checksum: Option<Digest>,
    /// Id of its record.
    pub disk: ChunkId,
    /// Bytes read.
    pub read: ByteCount,
    /// Bytes of chunks that were new.
    pub new: ByteCount,
    /// Bytes that they take.
    pub stored: ByteCount,
}

/// The chunk of an extent.
pub(super) fn id_of(extent: &Extent) -> Option<ChunkId> {
    match extent {
        Extent::Hole { .. } | Extent::Zeros { .. } => None,
        Extent::Data { id, .. } => Some(*id),
    }
}

/// What a backup goes by that follows another.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    /// The disk of the point before.
    pub disk: &'a PointDisk,
    /// What may have changed since, as byte ranges in order and apart: a superset of what did. None when that is not known:
    /// then the whole disk is read, and what has the digest that it had is left as it is stored.
    pub ranges: Option<&'a [Range<u64>]>,
}

impl Repository {
    /// Reads a whole disk, or what changed of it since a point, and stores what is new, durable. It stays only when a point
    /// is made of it. A disk of another size than before is read in full, and so is what is damaged of the point before.
    ///
    /// # Errors
    /// [`Error::Disk`] when the source cannot be read, [`Error::Full`], [`Error::Sync`], or what the disk says.
    pub fn backup_disk(
        &self,
        name: &DiskName,
        (source, options, changes): (&dyn Source, &BackupOptions, Option<Changes<'_>>),
        stages: &Stages,
    ) -> Result<BackedUp> {
        let regions = regions_in(source.size());
        let base = changes.filter(|changes| changes.disk.size.0 == source.size()).map(|changes| self.base(changes));
        let run = Run {
            base: base.transpose()?.flatten(),
            repository: self,
            source,
            options,
            stages,
            next: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            taken: Mutex::default(),
            done: Mutex::default(),
            totals: Default::default(),
        };
        let threads = options.threads.get().min(usize::try_from(regions).unwrap_or(usize::MAX)).max(1);
        let outcome = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| run.work(regions))).collect();
            let ended = workers.into_iter().map(|worker| worker.join().expect("a worker does not panic"));
            ended.collect::<Vec<Result<()>>>().into_iter().collect::<Result<()>>()
        });
        outcome?;
        let mut done = run.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(region, _)| *region);
        let listed: Vec<Listed> = done.into_iter().map(|(_, region)| region).collect();
        let checksum = checksum_of(&listed);
        let (disk, extra) = self.store_tree((source.size(), checksum), &listed)?;
        if let Some(changes) = changes.filter(|_| run.base.is_some()) {
            self.follow(Digest(disk.0), changes.disk.disk);
        }
        // Durable already, so that a crash before the point is made costs nothing that was read.
        stages.time(Stage::Target, || self.flush())?;
        let [read, new, stored] = run.totals.map(|total| ByteCount(total.into_inner()));
        let size = ByteCount(source.size());
        Ok(BackedUp { name: name.clone(), size, checksum, disk, read, new, stored: stored + ByteCount(extra) })
    }

    /// What the point before has of a disk; none when that is damaged, so that the disk is read in full.
    fn base<'a>(&self, changes: Changes<'a>) -> Result<Option<Base<'a>>> {
        let mut reader = Reader::new(self);
        let tree = reader.disk(&changes.disk.record());
        let read = tree.and_then(|tree| reader.regions(&tree).map(|regions| (tree, regions)));
        let (tree, regions) = match read {
            Ok(read) => read,
            Err(error) if damage_of(&error).is_some() || matches!(error, Error::NoChunk { .. }) => {
                tracing::warn!(disk = %changes.disk.name, %error, "the point before is damaged: the disk is read in full");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let leaves: Vec<ChunkId> = regions.iter().map(|region| region.leaf).collect();
        let wanting = if self.is_relied_on(changes.disk, &leaves)? {
            HashSet::new()
        } else {
            self.wanting(&tree, &leaves)?.into_keys().collect()
        };
        Ok(Some(Base { regions, wanting, changed: changes.ranges }))
    }

    /// Stores the lists and the record of a disk whose leaves are stored. Answers the record's id and the bytes added.
    pub(super) fn store_tree(
        &self,
        (size, checksum): (u64, Option<Digest>),
        regions: &[Listed],
    ) -> Result<(ChunkId, u64)> {
        let mut lists = Vec::new();
        let mut added = 0;
        for regions in regions.chunks(LEAVES_PER_LIST) {
            let bytes = LeafList { regions: regions.to_vec() }.encode();
            let (id, stored) = self.store_record(RecordKind::List, &bytes)?;
            lists.push(id);
            added += stored;
        }
        let bytes = DiskTree { size, checksum, lists }.encode();
        let (id, stored) = self.store_record(RecordKind::Disk, &bytes)?;
        Ok((id, added + stored))
    }

    /// Stores a record of the tree unless it is there.
    pub(super) fn store_record(&self, kind: RecordKind, content: &[u8]) -> Result<(ChunkId, u64)> {
        let id = self.domain.id(kind, content);
        if self.have(&[id])?[0] {
            return Ok((id, 0));
        }
        let mut bytes = Vec::new();
        Packer::new(Compression::Balanced).pack(content, &mut bytes);
        let added = self.append(&[Packed { id, kind, plain: content.len(), bytes: &bytes }])?;
        Ok((id, added))
    }
}

/// The stored form of a record that is stored anew.
pub(super) fn repack(content: &[u8], into: &mut Vec<u8>) {
    Packer::new(Compression::Balanced).pack(content, into);
}

pub(super) fn disk_error(options: &BackupOptions, source: std::io::Error) -> Error {
    Error::Disk { path: options.path.clone(), action: "read", source }
}

impl Repository {
    /// The regions of a disk, in order, for whoever compares.
    ///
    /// # Errors
    /// As reading a record.
    pub fn disk_regions(&self, disk: &ChunkId) -> Result<Vec<Listed>> {
        let mut reader = Reader::new(self);
        let tree = reader.disk(disk)?;
        reader.regions(&tree)
    }
}
