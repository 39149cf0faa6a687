//! Beginning a point: what is about to change is written down first, then the disks get their new sizes.

use super::delta::{DeltaFile, DeltaReader};
use super::{Begun, BegunDisk, Chain, Open, ReplicaStore};
use crate::{Error, Result, sparse};
use farshore_format::{BLOCK, DeltaHeader, DigestMap, HEADER_LEN, blocks_in};
use farshore_schemas::ids::{DiskName, PointId};
use farshore_schemas::messages::agent::DiskFacts;
use farshore_schemas::units::ByteCount;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

/// Bounds what a digest map on our own disk can make us allocate.
const MAX_DISK: ByteCount = ByteCount(1 << 46);

impl ReplicaStore {
    /// Begins a point, or adds disks to the one begun. A point of another name that is unfinished is rolled back first,
    /// and so is a disk that was begun with another size. A disk's own attempt before a crash is gone on with: call
    /// [`ReplicaStore::roll_back_disk`] to start it from the newest sealed state.
    ///
    /// # Errors
    /// [`Error::PointSealed`], [`Error::DiskBusy`] when what must be rolled back is being written, [`Error::Full`], or
    /// what the disk says.
    pub fn begin_point(&self, point: &PointId, disks: &[DiskFacts]) -> Result<()> {
        self.io.usable()?;
        let mut chain = self.write_chain();
        if chain.sealed(point).is_some() {
            return Err(Error::PointSealed { point: point.clone() });
        }
        if chain.open.as_ref().is_some_and(|open| open.begun.point != *point) {
            self.roll_back_chain(&mut chain)?;
        }
        for disk in disks {
            self.begin_disk(&mut chain, point, disk)?;
        }
        Ok(())
    }

    fn begin_disk(&self, chain: &mut Chain, point: &PointId, disk: &DiskFacts) -> Result<()> {
        if let Some(begun) = chain.open.as_ref().and_then(|open| open.begun.disk(&disk.name)) {
            if begun.size == disk.size.0 && self.prepared(begun)? {
                return Ok(());
            }
            self.roll_back_one(chain, &disk.name)?;
        }
        let entry = self.describe(disk)?;
        let begun = self.note_begun(chain, point, entry.clone())?;
        let open = chain.open.get_or_insert_with(|| Open { begun: begun.clone(), finished: BTreeMap::new() });
        open.begun = begun;
        match entry.was {
            None => self.make_disk(&entry),
            Some(was) => self.prepare_disk(&entry, was),
        }
    }

    /// Whether everything that beginning a disk does was done: a crash may have come in between. The size is set last.
    fn prepared(&self, begun: &BegunDisk) -> Result<bool> {
        let sized = std::fs::metadata(self.raw_path(&begun.name)).is_ok_and(|raw| raw.len() == begun.size);
        let journal = || DeltaReader::open(&self.io, &self.journal_path(&begun.name));
        Ok(sized && (begun.was.is_none() || journal()?.is_some()))
    }

    fn describe(&self, disk: &DiskFacts) -> Result<BegunDisk> {
        let path = self.raw_path(&disk.name);
        let (mut was, mut allocated) = (None, 0);
        if path.exists() {
            let raw = self.io.open_ro(&path)?;
            let look = |error| self.io.failed("look at", &path, error);
            was = Some(raw.metadata().map_err(look)?.len());
            allocated = sparse::allocated(&raw).map_err(look)?;
        }
        Ok(BegunDisk { name: disk.name.clone(), size: disk.size.0, was, allocated })
    }

    fn note_begun(&self, chain: &Chain, point: &PointId, entry: BegunDisk) -> Result<Begun> {
        let number = chain.points.last().map_or(1, |sealed| sealed.number + 1);
        let fresh = || Begun { point: point.clone(), number, disks: Vec::new() };
        let mut begun = chain.open.as_ref().map_or_else(fresh, |open| open.begun.clone());
        begun.disks.push(entry);
        if chain.open.is_none() {
            // What lies there without a point being made was rolled back already.
            self.io.remove_folder(&self.open_folder())?;
            self.io.make_folder(&self.open_folder())?;
            self.io.sync_folder(&self.root)?;
        }
        self.write_begun(&begun)?;
        Ok(begun)
    }

    pub(super) fn write_begun(&self, begun: &Begun) -> Result<()> {
        let json = serde_json::to_vec(begun).expect("names and numbers can be written as JSON");
        self.io.place_durable(&self.open_folder().join("begin"), &json)
    }

    fn make_disk(&self, entry: &BegunDisk) -> Result<()> {
        let path = self.raw_path(&entry.name);
        let raw = self.io.make_file(&path)?;
        self.io.resize(&raw, &path, entry.size)?;
        self.io.sync(&raw, &path)?;
        self.io.sync_folder(&self.root.join("newest"))
    }

    /// Starts the journal, keeps what a smaller size would cut off, and sets the size.
    fn prepare_disk(&self, entry: &BegunDisk, was: u64) -> Result<()> {
        let (journal, path) = (self.journal_path(&entry.name), self.raw_path(&entry.name));
        let mut delta = DeltaFile::create(&self.io, &journal, &DeltaHeader { from_size: entry.size, to_size: was })?;
        let raw = self.io.open_rw(&path)?;
        // Every block of the tail, zeros too: when this delta is merged with a newer one, the tail must not show what the
        // newer one holds there.
        let batch = 1024;
        let mut block = if entry.size < was { entry.size / BLOCK as u64 } else { blocks_in(was) };
        while block < blocks_in(was) {
            let mut images = BTreeMap::new();
            for block in block..(block + batch).min(blocks_in(was)) {
                images.insert(block, self.read_block(&entry.name, &raw, block, was)?);
            }
            delta.append_images(&images)?;
            block += batch;
        }
        delta.sync()?;
        self.io.sync_folder(&self.open_folder())?;
        if entry.size != was {
            self.io.resize(&raw, &path, entry.size)?;
            self.io.sync(&raw, &path)?;
        }
        Ok(())
    }

    /// A block as a disk of `size` bytes holds it; shorter than a block at its end.
    pub(super) fn read_block(&self, disk: &DiskName, raw: &std::fs::File, block: u64, size: u64) -> Result<Vec<u8>> {
        let offset = block * BLOCK as u64;
        let mut bytes = vec![0; size.saturating_sub(offset).min(BLOCK as u64) as usize];
        raw.read_exact_at(&mut bytes, offset).map_err(|error| self.io.failed("read", &self.raw_path(disk), error))?;
        Ok(bytes)
    }

    /// Digests of what the disk holds now: those kept with the newest point, or, when they do not tell or the disk has
    /// been written since, computed by reading it.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no such disk.
    pub fn digest_map(&self, disk: &DiskName) -> Result<DigestMap> {
        let raw = self.newest(disk)?;
        let failed = |error| self.io.failed("read", &self.raw_path(disk), error);
        let size = raw.metadata().map_err(failed)?.len();
        if self.untouched(disk)
            && let Some(bytes) = self.io.read_up_to(&self.digests_path(disk), u64::MAX)?
            && let Ok(map) = DigestMap::decode(&bytes, MAX_DISK)
            && map.size() == size
        {
            return Ok(map);
        }
        sparse::digests(&raw).map(|(map, _)| map).map_err(failed)
    }

    /// Whether the disk holds the newest sealed state: not begun, or nothing journalled yet.
    fn untouched(&self, disk: &DiskName) -> bool {
        let chain = self.read_chain();
        let begun = chain.open.as_ref().and_then(|open| open.begun.disk(disk));
        begun.is_none_or(|begun| {
            begun.was.is_some()
                && std::fs::metadata(self.journal_path(disk)).is_ok_and(|file| file.len() == HEADER_LEN as u64)
        })
    }
}
