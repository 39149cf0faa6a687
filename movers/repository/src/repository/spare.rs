//! What a repair wants, and the places where it is looked for: the damaged packs themselves, another repository of the domain,
//! an image of a disk.

use super::backup::{id_of, repack};
use super::damaged::damage_of;
use super::packs::Packed;
use super::records::{Found, Reader};
use super::regions::within;
use super::{Repository, Source};
use crate::{Error, Result};
use farshore_format::repository::{
    ChunkId, DiskTree, LEAVES_PER_LIST, LeafList, Listed, PointManifest, REGION, RecordKind, Unpacker, checksum_of,
    cut_region, regions_in, zero_region,
};
use farshore_format::{region_sum, zero_sum};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// Bytes of records that are fetched together.
const TOGETHER: usize = 8 << 20;
/// Ids that are asked for together.
const ASKED: usize = 4096;

/// Records that points name and that cannot be counted on, as deep as can be seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wanted(BTreeMap<ChunkId, RecordKind>);

impl Wanted {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ChunkId> {
        self.0.keys().copied()
    }

    pub(super) fn has(&self, id: &ChunkId) -> bool {
        self.0.contains_key(id)
    }
}

impl Repository {
    /// What is wanted by the points in the folder and by these, which are to be brought back.
    pub(super) fn wanted(&self, back: &[PointManifest]) -> Result<Wanted> {
        let mut wanted = Wanted::default();
        let (mut reader, mut seen) = (Reader::new(self), HashSet::new());
        let mut manifests = back.to_vec();
        for name in self.point_names()? {
            match self.existing(&name) {
                Ok(manifest) => manifests.push(manifest),
                Err(error) if damage_of(&error).is_some() => {}
                Err(error) => return Err(error),
            }
        }
        for disk in manifests.iter().flat_map(|manifest| &manifest.disks) {
            if seen.insert(disk.record()) {
                self.wanted_of(&disk.record(), (&mut reader, &mut seen), &mut wanted)?;
            }
        }
        Ok(wanted)
    }

    fn wanted_of(
        &self,
        disk: &ChunkId,
        (reader, seen): (&mut Reader<'_>, &mut HashSet<ChunkId>),
        wanted: &mut Wanted,
    ) -> Result<()> {
        if !self.countable(&[*disk], RecordKind::Disk, wanted)?[0] {
            return Ok(());
        }
        let Some(tree) = wanted.unless(reader.disk(disk), (*disk, RecordKind::Disk))? else { return Ok(()) };
        let lists = self.countable(&tree.lists, RecordKind::List, wanted)?;
        for (list, _) in lists.iter().enumerate().filter(|(_, counts)| **counts) {
            let read = reader.list(&tree, list);
            let Some(read) = wanted.unless(read, (tree.lists[list], RecordKind::List))? else { continue };
            let leaves: Vec<ChunkId> = read.regions.iter().map(|region| region.leaf).collect();
            let counts = self.countable(&leaves, RecordKind::Leaf, wanted)?;
            for (at, leaf) in leaves.iter().enumerate().filter(|(at, _)| counts[*at]) {
                if seen.insert(*leaf) {
                    let region = (list * LEAVES_PER_LIST + at) as u64;
                    let read = reader.leaf(leaf, (tree.size, region));
                    let Some(read) = wanted.unless(read, (*leaf, RecordKind::Leaf))? else { continue };
                    let ids: Vec<ChunkId> = read.extents.iter().filter_map(id_of).collect();
                    self.countable(&ids, RecordKind::Data, wanted)?;
                }
            }
        }
        Ok(())
    }

    /// Which of these can be counted on; the others are wanted.
    fn countable(&self, ids: &[ChunkId], kind: RecordKind, wanted: &mut Wanted) -> Result<Vec<bool>> {
        let counts = self.have(ids)?;
        wanted.0.extend(ids.iter().zip(&counts).filter(|(_, counts)| !**counts).map(|(id, _)| (*id, kind)));
        Ok(counts)
    }

    /// What is wanted still.
    fn left(&self, wanted: &Wanted) -> Result<Vec<ChunkId>> {
        let ids: Vec<ChunkId> = wanted.0.keys().copied().collect();
        let have = self.have(&ids)?;
        Ok(ids.into_iter().zip(have).filter(|(_, have)| !have).map(|(id, _)| id).collect())
    }

    /// Stores anew what can still be read of packs that do not count, such as one with damage in its directory alone. Answers
    /// how many records that were.
    pub(super) fn salvage(&self, wanted: &Wanted) -> Result<u64> {
        let mut reader = Reader::new(self);
        let mut stored = 0;
        for id in self.left(wanted)? {
            let Some(place) = self.places(&[id])?.pop().flatten() else { continue };
            match self.store_anew(&Found { id, place }, &mut reader) {
                Ok(_) => stored += 1,
                Err(error) if is_bad(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(stored)
    }

    /// Stores what another repository of the domain has of what is wanted. Answers how many records that were.
    pub(super) fn take_from(&self, other: &Repository, wanted: &Wanted) -> Result<u64> {
        let mut there = Vec::new();
        for ids in self.left(wanted)?.chunks(ASKED) {
            let have = other.have(ids)?;
            there.extend(ids.iter().zip(have).filter(|(_, have)| *have).map(|(id, _)| *id));
        }
        let mut unpacker = Unpacker::default();
        let (mut stored, mut rest) = (0, &there[..]);
        while !rest.is_empty() {
            let most = rest.len().min(ASKED);
            let taken = match self.take(other, &rest[..most], &mut unpacker)? {
                Some(taken) => taken,
                // One of them is bad there, too: the first by itself, then the others again.
                None => {
                    stored += self.take(other, &rest[..1], &mut unpacker)?.unwrap_or(0) as u64;
                    rest = &rest[1..];
                    continue;
                }
            };
            stored += taken as u64;
            rest = &rest[taken..];
        }
        Ok(stored)
    }

    /// Takes the first of these, proven; none when one of them is not what it should be.
    fn take(&self, other: &Repository, ids: &[ChunkId], unpacker: &mut Unpacker) -> Result<Option<usize>> {
        let records = match other.stored_records(ids, TOGETHER) {
            Ok(records) => records,
            Err(error) if is_bad(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        match self.put_records(&records, unpacker) {
            Ok(_) => Ok(Some(records.len())),
            Err(Error::BadRecord { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Cuts an image as a backup would, and stores what is wanted of it. Answers how many records that were.
    pub(super) fn cut_from(&self, (image, path): (&dyn Source, &Path), wanted: &Wanted) -> Result<u64> {
        if self.left(wanted)?.is_empty() {
            return Ok(0);
        }
        let mut cutting = Cutting { repository: self, image, path, wanted, stored: 0 };
        cutting.all()?;
        Ok(cutting.stored)
    }
}

impl Wanted {
    /// What was read; none when it turns out to be damaged, and is wanted.
    fn unless<T>(&mut self, read: Result<T>, (id, kind): (ChunkId, RecordKind)) -> Result<Option<T>> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if is_bad(&error) => {
                self.0.insert(id, kind);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether it is damage where something was looked for.
fn is_bad(error: &Error) -> bool {
    damage_of(error).is_some() || matches!(error, Error::NoChunk { .. })
}

struct Cutting<'a> {
    repository: &'a Repository,
    image: &'a dyn Source,
    path: &'a Path,
    wanted: &'a Wanted,
    stored: u64,
}

impl Cutting<'_> {
    fn all(&mut self) -> Result<()> {
        let size = self.image.size();
        let mut content = vec![0; REGION as usize];
        let mut regions = Vec::new();
        for region in 0..regions_in(size) {
            let start = region * REGION;
            let content = &mut content[..(size - start).min(REGION) as usize];
            regions.push(self.region(start, content)?);
        }
        let mut lists = Vec::new();
        for regions in regions.chunks(LEAVES_PER_LIST) {
            lists.push(self.keep(RecordKind::List, &LeafList { regions: regions.to_vec() }.encode())?);
        }
        self.keep(RecordKind::Disk, &DiskTree { size, checksum: checksum_of(&regions), lists }.encode())?;
        Ok(())
    }

    fn region(&mut self, start: u64, content: &mut [u8]) -> Result<Listed> {
        let repository = self.repository;
        let data = within(self.image.extents(), (start, content.len()));
        content.fill(0);
        for part in &data {
            let read = self.image.read_at(start + part.start as u64, &mut content[part.clone()]);
            read.map_err(|source| Error::Disk { path: self.path.to_owned(), action: "read", source })?;
        }
        let allocated = within(self.image.allocated(), (start, content.len()));
        let (cut, sum) = if data.is_empty() {
            (zero_region(content.len(), &allocated), zero_sum(content.len() as u64))
        } else {
            let domain = (&repository.domain, &repository.cutter);
            (cut_region(content, &allocated, domain), region_sum(content))
        };
        for (id, range) in &cut.chunks {
            self.keep_as((*id, RecordKind::Data), &content[range.clone()])?;
        }
        Ok(Listed { leaf: self.keep(RecordKind::Leaf, &cut.leaf.encode())?, sum: Some(sum) })
    }

    fn keep(&mut self, kind: RecordKind, content: &[u8]) -> Result<ChunkId> {
        let id = self.repository.domain.id(kind, content);
        self.keep_as((id, kind), content)?;
        Ok(id)
    }

    /// Stores it if it is wanted. Its id is that of this very content.
    fn keep_as(&mut self, (id, kind): (ChunkId, RecordKind), content: &[u8]) -> Result<()> {
        if self.wanted.0.get(&id) != Some(&kind) || self.repository.have(&[id])?[0] {
            return Ok(());
        }
        let mut bytes = Vec::new();
        repack(content, &mut bytes);
        self.repository.append(&[Packed { id, kind, plain: content.len(), bytes: &bytes }])?;
        self.stored += 1;
        Ok(())
    }
}
