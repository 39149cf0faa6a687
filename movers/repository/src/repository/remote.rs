//! What the repository's agent does for movers on other machines: they cut, name and compress, and send records that are not
//! here yet; here each is proven, sealed and packed. The other way, records are opened and sent as they are compressed; whoever
//! asked proves them.

use super::Repository;
use super::backup::id_of;
use super::damaged::damage_of;
use super::packs::Packed;
use super::records::{Found, Reader};
use super::restore::runs;
use crate::{Error, Result};
use farshore_format::repository::{ChunkId, MAX_CHUNK, PointDisk, RecordKind, Unpacker};
use farshore_schemas::ids::{DiskName, PointId};
use std::collections::HashMap;

/// A record as a mover sends it: packed, not sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentRecord {
    /// What it says that it is.
    pub id: ChunkId,
    /// Its kind.
    pub kind: RecordKind,
    /// Bytes of its content.
    pub plain: u32,
    /// Its stored form.
    pub bytes: Vec<u8>,
}

impl Repository {
    /// Stores records that are not stored yet. Each is unpacked and must be what its id says. Answers the bytes added; durable
    /// once [`Repository::flush`] has returned.
    ///
    /// # Errors
    /// [`Error::BadRecord`], [`Error::Full`], or what the disk says.
    pub fn put_records(&self, records: &[SentRecord], unpacker: &mut Unpacker) -> Result<u64> {
        let mut content = Vec::new();
        for record in records {
            let bad = |why: &str| Error::BadRecord { id: record.id, why: why.to_owned() };
            content.clear();
            if record.kind == RecordKind::Data && record.plain as usize > MAX_CHUNK {
                return Err(bad("it is longer than a chunk may be"));
            }
            let unpacked = unpacker.unpack(&record.bytes, record.plain as usize, &mut content);
            unpacked.map_err(|error| bad(&error.to_string()))?;
            if self.domain.id(record.kind, &content) != record.id {
                return Err(bad("its content has another id"));
            }
        }
        let ids: Vec<ChunkId> = records.iter().map(|record| record.id).collect();
        let stored = self.have(&ids)?;
        let new = records.iter().zip(stored).filter(|(_, stored)| !stored).map(|(record, _)| Packed {
            id: record.id,
            kind: record.kind,
            plain: record.plain as usize,
            bytes: &record.bytes,
        });
        self.append(&new.collect::<Vec<_>>())
    }

    /// Whether a leaf and every chunk that it names are stored and can be counted on. While a session is open they stay.
    ///
    /// # Errors
    /// What the disk says.
    pub fn have_leaf(&self, leaf: &ChunkId, (size, region): (u64, u64)) -> Result<bool> {
        if !self.have(std::slice::from_ref(leaf))?[0] {
            return Ok(false);
        }
        let leaf = match Reader::new(self).leaf(leaf, (size, region)) {
            Ok(leaf) => leaf,
            Err(error) if damage_of(&error).is_some() || matches!(error, Error::NoChunk { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let ids: Vec<ChunkId> = leaf.extents.iter().filter_map(id_of).collect();
        Ok(self.have(&ids)?.into_iter().all(|have| have))
    }

    /// A disk of a point, and the ids of its leaves, in order.
    ///
    /// # Errors
    /// [`Error::NoPoint`], [`Error::NoDisk`], or as reading a record.
    pub fn disk_leaves(&self, point: &PointId, disk: &DiskName) -> Result<(PointDisk, Vec<ChunkId>)> {
        let found = self.existing(point)?.disks.into_iter().find(|entry| entry.name == *disk);
        let found = found.ok_or_else(|| Error::NoDisk { point: point.clone(), disk: disk.clone() })?;
        let mut reader = Reader::new(self);
        let tree = reader.disk(&found.record())?;
        if (tree.size, tree.checksum) != (found.size.0, found.checksum) {
            let why = format!("disk {disk}: its record is of another state of it than point {point}");
            return Err(self.io.damage(&self.root, why));
        }
        let leaves = reader.leaves(&tree)?;
        Ok((found, leaves))
    }

    /// Records as they are compressed, in the order asked: the first of them, at least one, while they take no more than `most`
    /// bytes. Their seals are proven here, their ids by whoever asked.
    ///
    /// # Errors
    /// [`Error::NoChunk`], [`Error::Damage`], or what the disk says.
    pub fn stored_records(&self, ids: &[ChunkId], most: usize) -> Result<Vec<SentRecord>> {
        let mut reader = Reader::new(self);
        let mut found = reader.find(ids)?;
        let mut length = 0;
        let fits = found.iter().take_while(|found| {
            length += found.place.stored as usize;
            length <= most
        });
        found.truncate(fits.count().max(1));
        let ids = &ids[..found.len()];
        found.sort_by_key(|found| (found.place.pack, found.place.offset));
        found.dedup_by_key(|found| found.id);
        let mut records: HashMap<ChunkId, SentRecord> = HashMap::new();
        for together in runs(&found) {
            reader.stored(together, &mut |found: &Found, bytes: &[u8]| {
                let kind = found.kind().ok_or(Error::NoChunk { id: found.id })?;
                let plain = found.place.plain & 0x00ff_ffff;
                records.insert(found.id, SentRecord { id: found.id, kind, plain, bytes: bytes.to_vec() });
                Ok(())
            })?;
        }
        ids.iter().map(|id| records.get(id).cloned().ok_or(Error::NoChunk { id: *id })).collect()
    }

    /// Notes what a disk added when it was stored, for the point that will name it.
    pub fn note_added(&self, disk: ChunkId, bytes: u64) {
        let mut added = self.added.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A disk that is stored twice before its point is made added both times.
        *added.entry(disk).or_default() += bytes;
        if added.len() > MOST_ADDED {
            added.pop_first();
        }
    }

    /// What disks added since this was opened, as far as no point was made of them yet.
    pub fn added(&self, disks: &[PointDisk]) -> u64 {
        let added = self.added.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        disks.iter().filter_map(|disk| added.get(&disk.record())).sum()
    }

    pub(super) fn forget_added(&self, disks: &[PointDisk]) {
        let mut added = self.added.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        added.retain(|record, _| disks.iter().all(|disk| disk.record() != *record));
    }

    /// The encoded leaf of this id.
    ///
    /// # Errors
    /// As reading a record.
    pub fn leaf_bytes(&self, leaf: &ChunkId) -> Result<Vec<u8>> {
        Reader::new(self).record(leaf, RecordKind::Leaf)
    }

    /// Tells this opening from every other: what was put and not flushed is lost with it.
    pub fn opening(&self) -> [u8; 32] {
        self.opening.0
    }
}

/// Disks whose bytes are remembered until a point names them: those of runs that failed never are.
pub(super) const MOST_ADDED: usize = 65_536;
