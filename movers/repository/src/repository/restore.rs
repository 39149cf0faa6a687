//! Writing a disk of a point to an image: regions side by side, records in the order in which they lie in their packs. What
//! was a hole stays one, what was allocated is. A bad record is never written: the restore ends, and the image is marked
//! incomplete by its name.

use super::Repository;
use super::points::extent_len;
use super::records::{Found, Proof, Reader};
use super::stages::{Stage, Stages};
use super::target::Target;
use crate::direct::Aligned;
use crate::{Error, Result};
use farshore_format::repository::{ChunkId, DiskTree, Extent, Listed, PointDisk, REGION, region_len, regions_in};
use farshore_format::{join_sums, region_sum, zero_sum};
use farshore_schemas::ids::Digest;
use farshore_schemas::units::ByteCount;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Records of one pack are read together when no more than this lies between them.
const GAP: u32 = 64 * 1024;
/// Bytes read together at most.
const TOGETHER: u32 = 4 << 20;

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Bytes of data written.
    pub written: ByteCount,
    /// The checksum of the whole disk as it was written.
    pub checksum: Digest,
}

struct Run<'a> {
    repository: &'a Repository,
    disk: &'a PointDisk,
    tree: &'a DiskTree,
    regions: &'a [Listed],
    /// Where to; none to prove only.
    target: Option<&'a dyn Target>,
    stages: &'a Stages,
    next: AtomicU64,
    failed: AtomicBool,
    written: AtomicU64,
    sums: Mutex<Vec<(u64, Digest)>>,
    /// Leaves of sound chunks that are not what was read.
    wrong: Mutex<Vec<ChunkId>>,
    /// Zeros that take space, allocated when all is written.
    zeros: Mutex<Vec<Range<u64>>>,
}

impl Repository {
    /// Writes a disk of a point to a target, durable, and proves the whole by its checksum.
    ///
    /// # Errors
    /// [`Error::NoChunk`], [`Error::Damage`] when a record is missing or not what was stored, [`Error::Disk`] when the target
    /// cannot be written.
    pub fn restore_disk(
        &self,
        disk: &PointDisk,
        target: &dyn Target,
        (threads, stages): (NonZeroUsize, &Stages),
    ) -> Result<Restored> {
        let restored = self.read_disk(disk, Some(target), (threads, stages, &mut Vec::new()))?;
        stages.time(Stage::Target, || target.sync()).map_err(|source| unwritten(target, source))?;
        Ok(restored)
    }

    /// Reads a whole disk, with or without writing it anywhere, and proves every record, every region and the whole. A leaf
    /// whose chunks are sound but not what was read is added to `wrong`.
    pub(super) fn read_disk(
        &self,
        disk: &PointDisk,
        target: Option<&dyn Target>,
        (threads, stages, wrong): (NonZeroUsize, &Stages, &mut Vec<ChunkId>),
    ) -> Result<Restored> {
        let mut reader = Reader::new(self);
        let tree = reader.disk(&disk.record())?;
        if (tree.size, tree.checksum) != (disk.size.0, disk.checksum) {
            let why = format!("disk {}: its record is of another state of it than the point", disk.name);
            return Err(self.io.damage(&self.root, why));
        }
        let regions = reader.regions(&tree)?;
        drop(reader);
        let run = Run {
            repository: self,
            disk,
            tree: &tree,
            regions: &regions,
            target,
            stages,
            next: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            written: AtomicU64::new(0),
            sums: Mutex::default(),
            wrong: Mutex::default(),
            zeros: Mutex::default(),
        };
        let threads = threads.get().min(regions.len()).max(1);
        let ended = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| run.work(regions_in(tree.size)))).collect();
            let ended = workers.into_iter().map(|worker| worker.join().expect("a worker does not panic"));
            ended.collect::<Vec<Result<()>>>().into_iter().collect::<Result<()>>()
        });
        wrong.append(&mut run.wrong.lock().unwrap_or_else(PoisonError::into_inner));
        ended?;
        if let Some(target) = target {
            let mut zeros = std::mem::take(&mut *run.zeros.lock().unwrap_or_else(PoisonError::into_inner));
            zeros.sort_by_key(|range| range.start);
            target.zeros(zeros).map_err(|source| unwritten(target, source))?;
        }
        let mut sums = run.sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        sums.sort_by_key(|(region, _)| *region);
        let checksum = join_sums(sums.iter().map(|(_, sum)| sum));
        if disk.checksum.is_some_and(|wanted| wanted != checksum) {
            let why = format!("disk {}: its chunks are sound but are not the disk that was read", disk.name);
            return Err(self.io.damage(&self.root, why));
        }
        Ok(Restored { written: ByteCount(run.written.into_inner()), checksum })
    }
}

impl Run<'_> {
    fn work(&self, regions: u64) -> Result<()> {
        let mut reader = Reader::new(self.repository);
        let mut content = Aligned::new(REGION as usize);
        loop {
            let region = self.next.fetch_add(1, Ordering::Relaxed);
            if region >= regions || self.failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.region(region, (&mut reader, content.content()))
                .inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
        }
    }

    fn region(&self, region: u64, (reader, content): (&mut Reader<'_>, &mut [u8])) -> Result<()> {
        let start = region * REGION;
        let length = region_len(self.tree.size, region).unwrap_or(0) as usize;
        let content = &mut content[..length];
        let listed = self.regions[region as usize];
        let leaf = reader.leaf(&listed.leaf, (self.tree.size, region))?;
        let data = leaf.extents.iter().any(|extent| matches!(extent, Extent::Data { .. }));
        let mut read = |proof| {
            if !data {
                return Ok(zero_sum(length as u64));
            }
            let extents = (&*leaf.extents, proof);
            self.stages.time(Stage::Source, || fill(reader, extents, (content, self.tree.size - start)))?;
            Ok(self.stages.time(Stage::Proxy, || region_sum(content)))
        };
        let mut sum = read(if listed.sum.is_some() { Proof::Whole } else { Proof::Ids })?;
        if listed.sum.is_some_and(|wanted| wanted != sum) {
            // Ids tell which record is to blame, if one is.
            sum = read(Proof::Ids)?;
        }
        if listed.sum.is_some_and(|wanted| wanted != sum) {
            self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(listed.leaf);
            let why =
                format!("disk {}: the chunks of region {region} are sound but are not what was read", self.disk.name);
            return Err(self.repository.io.damage(&self.repository.root, why));
        }
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).push((region, sum));
        let Some(target) = self.target else { return Ok(()) };
        self.stages
            .time(Stage::Target, || self.write(target, (start, &leaf.extents), content))
            .map_err(|source| unwritten(target, source))
    }

    /// Writes runs of data, leaves holes, and notes zeros that take space.
    fn write(&self, target: &dyn Target, (start, extents): (u64, &[Extent]), content: &[u8]) -> std::io::Result<()> {
        let mut at = 0usize;
        let mut run = 0..0;
        for extent in extents {
            let end = at + extent_len(extent, (start + at as u64, self.tree.size)) as usize;
            match extent {
                Extent::Data { .. } if run.end == at => run.end = end,
                Extent::Data { .. } => {
                    self.write_run(target, start, (&content[run.clone()], run.start))?;
                    run = at..end;
                }
                Extent::Zeros { .. } => {
                    let zeros = start + at as u64..start + end as u64;
                    self.zeros.lock().unwrap_or_else(PoisonError::into_inner).push(zeros);
                }
                Extent::Hole { .. } => target.hole(start + at as u64..start + end as u64)?,
            }
            at = end;
        }
        self.write_run(target, start, (&content[run.clone()], run.start))
    }

    fn write_run(&self, target: &dyn Target, start: u64, (bytes, at): (&[u8], usize)) -> std::io::Result<()> {
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if bytes.is_empty() { Ok(()) } else { target.write_at(bytes, start + at as u64) }
    }
}

fn unwritten(target: &dyn Target, source: std::io::Error) -> Error {
    Error::Disk { path: target.path().to_owned(), action: "written", source }
}

/// Reads a region's records into place, those of one pack together.
pub(super) fn fill(
    reader: &mut Reader<'_>,
    (extents, proof): (&[Extent], Proof),
    (content, left): (&mut [u8], u64),
) -> Result<()> {
    let mut places: HashMap<ChunkId, Vec<(usize, usize)>> = HashMap::new();
    let mut at = 0usize;
    for extent in extents {
        let end = at + extent_len(extent, (at as u64, left)) as usize;
        match extent {
            Extent::Hole { .. } | Extent::Zeros { .. } => content[at..end].fill(0),
            Extent::Data { id, .. } => places.entry(*id).or_default().push((at, end)),
        }
        at = end;
    }
    let ids: Vec<ChunkId> = places.keys().copied().collect();
    let mut found = reader.find(&ids)?;
    found.sort_by_key(|found| (found.place.pack, found.place.offset));
    let mut out = Vec::new();
    for together in runs(&found) {
        reader.run((together, proof), &mut out, &mut |record, bytes| {
            for (from, to) in &places[&record.id] {
                if to - from != bytes.len() {
                    return Err(Error::NoChunk { id: record.id });
                }
                content[*from..*to].copy_from_slice(bytes);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Splits records, sorted by place, into those that are read together.
pub(super) fn runs(found: &[Found]) -> impl Iterator<Item = &[Found]> {
    let mut rest = found;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let end_of = |found: &Found| found.place.offset.saturating_add(found.place.stored);
        let joins = |pair: &[Found]| {
            let (before, after) = (pair[0].place, pair[1].place);
            before.pack == after.pack
                && after.offset.saturating_sub(end_of(&pair[0])) <= GAP
                && end_of(&pair[1]).saturating_sub(first.place.offset) <= TOGETHER
        };
        let count = 1 + rest.windows(2).take_while(|pair| joins(pair)).count();
        let (together, after) = rest.split_at(count);
        rest = after;
        Some(together)
    })
}
