//! Reading records back: found by the index, read from their pack, opened, unpacked, proven by their id.

use super::damaged::damage_of;
use super::packs::pack_path;
use super::syncer::lost;
use super::{Repository, Suite};
use crate::{Error, Result, Store};
use farshore_format::repository::{
    ChunkId, DiskTree, FileId, Leaf, LeafList, Listed, MAX_STORED, Place, RecordKind, SealKey, Unpacker, region_len,
    regions_in,
};
use std::collections::HashMap;
use std::fs::File;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Packs that one reader keeps open.
const OPEN: usize = 64;

/// A run this long is likely to be followed by a run of the next region: what comes behind it is asked for ahead.
const LONG: u64 = 256 * 1024;
/// As many times a run's length is read ahead: enough that the disk does not wait for the thread that opens the run.
const AHEAD: u64 = 4;
/// Nor more than this.
const MOST_AHEAD: u64 = 8 << 20;

/// Reads records; one for each thread.
pub(super) struct Reader<'a> {
    repository: &'a Repository,
    packs: HashMap<u32, OpenPack>,
    unpacker: Unpacker,
    raw: Vec<u8>,
}

/// What the content of records is proven by, besides their seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Each by its id.
    Ids,
    /// All of them by the digest of what they make together, by whoever asked: content is hashed once, not twice.
    Whole,
}

struct OpenPack {
    file: File,
    path: PathBuf,
    key: SealKey,
}

/// A record and where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) id: ChunkId,
    pub(super) place: Place,
}

impl Found {
    pub(super) fn plain(&self) -> usize {
        (self.place.plain & 0x00ff_ffff) as usize
    }

    pub(super) fn kind(&self) -> Option<RecordKind> {
        RecordKind::from_byte((self.place.plain >> 24) as u8)
    }
}

/// Asks the kernel for what will be read soon. Packs are written past its cache, so it has nothing of a young one.
fn read_ahead(file: &File, range: Range<u64>) {
    let Some(length) = NonZeroU64::new(range.end - range.start) else { return };
    // Where the file system knows no such thing the reads take as long as they take.
    let _hint = rustix::fs::fadvise(file, range.start, Some(length), rustix::fs::Advice::WillNeed);
}

impl<'a> Reader<'a> {
    pub(super) fn new(repository: &'a Repository) -> Reader<'a> {
        Reader { repository, packs: HashMap::new(), unpacker: Unpacker::default(), raw: Vec::new() }
    }

    /// Where these records lie.
    ///
    /// # Errors
    /// [`Error::NoChunk`] for the first that is not there.
    pub(super) fn find(&self, ids: &[ChunkId]) -> Result<Vec<Found>> {
        let places = self.repository.places(ids)?;
        let one = |(id, place): (&ChunkId, Option<Place>)| match place {
            Some(place) => Ok(Found { id: *id, place }),
            None => Err(Error::NoChunk { id: *id }),
        };
        ids.iter().zip(places).map(one).collect()
    }

    fn pack(&mut self, number: u32) -> Result<&OpenPack> {
        if !self.packs.contains_key(&number) {
            if self.packs.len() >= OPEN {
                self.packs.clear();
            }
            let repository = self.repository;
            let id = repository.index().name_of(number);
            let id = id.ok_or_else(|| lost(&repository.root.join("packs")))?;
            let opened = self.open(&id)?;
            self.packs.insert(number, opened);
        }
        Ok(&self.packs[&number])
    }

    fn open(&self, id: &FileId) -> Result<OpenPack> {
        let repository = self.repository;
        let path = pack_path(&repository.root, id);
        let file = repository.open_pack_file(&path)?;
        let header = repository.pack_header(&file, (id, &path))?;
        let key = repository.sealing.key_of(header.suite, id);
        let key = key.ok_or_else(|| repository.io.damage(&path, "it is sealed, and there is no key"))?;
        Ok(OpenPack { file, path, key })
    }

    /// Reads records of one pack that lie one behind the other, and hands each one's content to `each`. Proven: by its
    /// seal, where there is one, and as `proof` says.
    pub(super) fn run(
        &mut self,
        (records, proof): (&[Found], Proof),
        out: &mut Vec<u8>,
        each: &mut dyn FnMut(&Found, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let Some(first) = records.first() else { return Ok(()) };
        let mut raw = self.read_raw(records)?;
        let from = first.place.offset;
        for record in records {
            let at = (record.place.offset - from) as usize;
            let stored = &mut raw[at..at + record.place.stored as usize];
            let content = self.open_record((record, proof), stored, out)?;
            each(record, content)?;
        }
        self.raw = raw;
        Ok(())
    }

    /// As [`Reader::run`], but hands over each record's stored form, proven by its seal alone.
    pub(super) fn stored(
        &mut self,
        records: &[Found],
        each: &mut dyn FnMut(&Found, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let Some(first) = records.first() else { return Ok(()) };
        let mut raw = self.read_raw(records)?;
        let from = first.place.offset;
        for record in records {
            let at = (record.place.offset - from) as usize;
            let opened = self.unseal(record, &mut raw[at..at + record.place.stored as usize])?;
            each(record, opened)?;
        }
        self.raw = raw;
        Ok(())
    }

    /// Reads the bytes from the first record to the last.
    fn read_raw(&mut self, records: &[Found]) -> Result<Vec<u8>> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(Vec::new()) };
        let from = u64::from(first.place.offset);
        let end_of = |found: &Found| u64::from(found.place.offset) + u64::from(found.place.stored);
        // The index only says where to look, and somebody else may have written it.
        let sane = |found: &Found| {
            (from..=end_of(last)).contains(&u64::from(found.place.offset))
                && end_of(found) <= end_of(last)
                && found.place.stored <= MAX_STORED
                && found.place.pack == first.place.pack
        };
        if let Some(bad) = records.iter().find(|found| !sane(found)) {
            let why = format!("the index says that record {} lies where it cannot", bad.id);
            return Err(self.repository.io.damage(&self.repository.root, why));
        }
        let length = end_of(last) - from;
        let mut raw = std::mem::take(&mut self.raw);
        // Never shorter than before: what grows is filled with zeros first.
        raw.resize(raw.len().max(length as usize), 0);
        let repository = self.repository;
        let pack = self.pack(first.place.pack)?;
        let path = pack.path.clone();
        pack.file.read_exact_at(&mut raw[..length as usize], from).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                return repository.io.damage(&path, "it was cut short");
            }
            repository.io.failed("read", &path, error)
        })?;
        if length >= LONG {
            read_ahead(&pack.file, end_of(last)..end_of(last) + (length * AHEAD).min(MOST_AHEAD));
        }
        Ok(raw)
    }

    fn bad_record(&self, record: &Found, why: &str) -> Error {
        let why = format!("record {} ({}): {why}", record.place.number, record.id);
        self.repository.io.damage(&self.packs[&record.place.pack].path, why)
    }

    fn unseal<'b>(&self, record: &Found, stored: &'b mut [u8]) -> Result<&'b [u8]> {
        let kind = record.kind().ok_or_else(|| self.bad_record(record, "it is of a kind that is not known"))?;
        let opened = self.packs[&record.place.pack].key.open((kind as u8, record.place.number), stored);
        Ok(opened.ok_or_else(|| self.bad_record(record, "it is not what was sealed there"))?)
    }

    fn open_record<'b>(
        &mut self,
        (record, proof): (&Found, Proof),
        stored: &mut [u8],
        out: &'b mut Vec<u8>,
    ) -> Result<&'b [u8]> {
        let opened = self.unseal(record, stored)?;
        out.clear();
        let unpacked = self.unpacker.unpack(opened, record.plain(), out);
        unpacked.map_err(|error| self.bad_record(record, &error.to_string()))?;
        let other = |kind| self.repository.domain.id(kind, out) != record.id;
        if proof == Proof::Ids && record.kind().is_none_or(other) {
            return Err(self.bad_record(record, "its content has another id"));
        }
        Ok(out)
    }

    /// One record of the tree. One that turns out to be damaged does not count as stored from then on, or whoever cuts the same
    /// content again would take it for stored.
    pub(super) fn record(&mut self, id: &ChunkId, kind: RecordKind) -> Result<Vec<u8>> {
        let found = self.find(std::slice::from_ref(id))?;
        if found.iter().any(|found| found.kind() != Some(kind)) {
            return Err(Error::NoChunk { id: *id });
        }
        let mut out = Vec::new();
        if let Err(error) = self.run((&found, Proof::Ids), &mut out, &mut |_, _| Ok(())) {
            if damage_of(&error).is_some() {
                found.iter().for_each(|found| self.repository.distrust_record(&found.place));
            }
            return Err(error);
        }
        Ok(out)
    }

    fn senseless(&self, error: impl std::fmt::Display) -> Error {
        // It is what was stored, so whoever stored it was wrong.
        Error::Damage { store: Store::Repository, path: self.repository.root.clone(), why: error.to_string() }
    }

    /// A disk's record.
    pub(super) fn disk(&mut self, id: &ChunkId) -> Result<DiskTree> {
        let bytes = self.record(id, RecordKind::Disk)?;
        DiskTree::decode(&bytes).map_err(|error| self.senseless(error))
    }

    /// What one of a disk's lists says of its regions.
    pub(super) fn list(&mut self, disk: &DiskTree, list: usize) -> Result<LeafList> {
        let bytes = self.record(&disk.lists[list], RecordKind::List)?;
        LeafList::decode(&bytes, disk.leaves_of(list)).map_err(|error| self.senseless(error))
    }

    /// All regions of a disk, in order: 17 MiB for a TiB.
    pub(super) fn regions(&mut self, disk: &DiskTree) -> Result<Vec<Listed>> {
        let mut regions = Vec::with_capacity(usize::try_from(regions_in(disk.size)).unwrap_or_default());
        for list in 0..disk.lists.len() {
            regions.extend(self.list(disk, list)?.regions);
        }
        Ok(regions)
    }

    /// The leaves of all regions of a disk, in order.
    pub(super) fn leaves(&mut self, disk: &DiskTree) -> Result<Vec<ChunkId>> {
        Ok(self.regions(disk)?.into_iter().map(|region| region.leaf).collect())
    }

    /// The extents of a region.
    pub(super) fn leaf(&mut self, id: &ChunkId, (size, region): (u64, u64)) -> Result<Leaf> {
        let bytes = self.record(id, RecordKind::Leaf)?;
        let length = region_len(size, region).unwrap_or(0);
        Leaf::decode(&bytes, length).map_err(|error| self.senseless(error))
    }
}

impl Repository {
    /// Opens a pack's file.
    pub(super) fn open_pack_file(&self, path: &Path) -> Result<File> {
        self.io.open_there(path)?.map_or_else(|| self.open_in_trash(path), Ok)
    }

    /// A prune in another process may have moved the pack since this one looked.
    fn open_in_trash(&self, path: &Path) -> Result<File> {
        let name = path.file_name().expect("a pack has a name");
        let trash = self.root.join("trash");
        let places = self.io.names(&trash)?.into_iter().map(|position| trash.join(position).join("packs").join(name));
        places.into_iter().find_map(|path| self.io.open_there(&path).ok().flatten()).ok_or_else(|| lost(path))
    }

    /// Where each of these records lies, if it is there. An index that turns out to be damaged is made anew first.
    pub(super) fn places(&self, ids: &[ChunkId]) -> Result<Vec<Option<Place>>> {
        let look = || {
            let index = self.index();
            ids.iter().map(|id| index.find(id)).collect::<Result<Vec<_>>>()
        };
        match look() {
            Err(error) if error.index_only(&self.root.join("index")) => {
                tracing::warn!(%error, "the index is damaged: it is made anew");
                self.rebuild_index()?;
                look()
            }
            other => other,
        }
    }

    /// How new files are sealed.
    pub fn suite(&self) -> Suite {
        self.sealing.suite
    }
}
