//! What one thread of a backup does with one region after the other.

use super::backup::{BackupOptions, disk_error};
use super::changed::Before;
use super::packs::Packed;
use super::records::Reader;
use super::stages::{Stage, Stages};
use super::sums::chaining_value;
use super::{Repository, Source};
use crate::Result;
use farshore_format::BLOCK;
use farshore_format::repository::{ChunkId, Leaf, Packer, REGION, RecordKind, cut_region};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The disk of the point before.
pub(super) struct Base<'a> {
    pub(super) leaves: Vec<ChunkId>,
    /// Leaves that cannot be counted on, themselves or what they name: their regions are read in full.
    pub(super) wanting: HashSet<ChunkId>,
    pub(super) changed: &'a [Range<u64>],
}

/// What the threads of one backup share.
pub(super) struct Run<'a> {
    pub(super) base: Option<Base<'a>>,
    pub(super) repository: &'a Repository,
    pub(super) source: &'a dyn Source,
    pub(super) options: &'a BackupOptions,
    pub(super) stages: &'a Stages,
    pub(super) next: AtomicU64,
    pub(super) failed: AtomicBool,
    /// Ids that a thread of this run is about to store.
    pub(super) taken: Mutex<HashSet<ChunkId>>,
    pub(super) done: Mutex<Vec<(u64, Region)>>,
    pub(super) totals: [AtomicU64; 3],
}

/// What became of a region.
pub(super) struct Region {
    pub(super) leaf: ChunkId,
    /// Chaining value of its part of the checksum's tree; none when it was not read in full.
    pub(super) sum: Option<[u8; 32]>,
}

/// A thread's own buffers.
pub(super) struct Worker {
    pub(super) packer: Packer,
    pub(super) content: Vec<u8>,
    pub(super) packed: Vec<u8>,
    pub(super) new: Vec<(ChunkId, RecordKind, Range<usize>, usize)>,
}

impl Run<'_> {
    /// One thread's work.
    pub(super) fn work(&self, regions: u64) -> Result<()> {
        let mut worker = Worker {
            packer: Packer::new(self.options.compression),
            content: vec![0; REGION as usize],
            packed: Vec::with_capacity(REGION as usize),
            new: Vec::new(),
        };
        loop {
            let region = self.next.fetch_add(1, Ordering::Relaxed);
            if region >= regions || self.failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            let done = self.region(region, &mut worker).inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
            self.done.lock().unwrap_or_else(PoisonError::into_inner).push((region, done));
        }
    }

    fn add(&self, total: usize, bytes: u64) {
        self.totals[total].fetch_add(bytes, Ordering::Relaxed);
    }

    fn region(&self, region: u64, worker: &mut Worker) -> Result<Region> {
        let start = region * REGION;
        let length = (self.source.size() - start).min(REGION) as usize;
        let mut content = std::mem::take(&mut worker.content);
        let done = match &self.base {
            None => self.whole((start, &mut content[..length]), worker),
            Some(base) if base.wanting.contains(&base.leaves[region as usize]) => {
                self.whole((start, &mut content[..length]), worker)
            }
            Some(base) => self.changed((region, base), &mut content[..length], worker),
        };
        worker.content = content;
        let done = done?;
        self.stages.time(Stage::Target, || self.store(worker))?;
        Ok(done)
    }

    fn whole(&self, (start, content): (u64, &mut [u8]), worker: &mut Worker) -> Result<Region> {
        let allocated = self.stages.time(Stage::Source, || self.read(start, content));
        let allocated = allocated.map_err(|source| disk_error(self.options, source))?;
        self.stages.time(Stage::Proxy, || {
            let sum = Some(chaining_value(content, start));
            Ok(Region { leaf: self.cut(content, &allocated, worker)?, sum })
        })
    }

    /// A region of which only what changed is read.
    fn changed(&self, (region, base): (u64, &Base<'_>), content: &mut [u8], worker: &mut Worker) -> Result<Region> {
        worker.new.clear();
        worker.packed.clear();
        let start = region * REGION;
        let old = base.leaves[region as usize];
        let changed = within(base.changed, (start, content.len()));
        if changed.is_empty() {
            return Ok(Region { leaf: old, sum: None });
        }
        let leaf = Reader::new(self.repository).leaf(&old, (self.source.size(), region))?;
        let allocated = within(self.source.allocated(), (start, content.len()));
        let before = Before { leaf: &leaf, changed: &changed, allocated: &allocated };
        let recut = self.repository.recut(&before, content, &mut |range, into| {
            self.add(0, range.len() as u64);
            self.stages.time(Stage::Source, || self.source.read_at(start + range.start as u64, into))
        });
        let recut = recut.map_err(|source| disk_error(self.options, source))?;
        self.stages.time(Stage::Proxy, || {
            self.keep_new(content, &recut.chunks, worker)?;
            Ok(Region { leaf: self.keep_leaf(&recut.leaf, worker)?, sum: None })
        })
    }

    /// Reads what may hold data of a region; the rest becomes zeros. Answers what is allocated, in whole blocks.
    fn read(&self, start: u64, content: &mut [u8]) -> std::io::Result<Vec<Range<usize>>> {
        let mut at = 0;
        for part in within(self.source.extents(), (start, content.len())) {
            content[at..part.start].fill(0);
            self.source.read_at(start + part.start as u64, &mut content[part.clone()])?;
            self.add(0, part.len() as u64);
            at = part.end;
        }
        content[at..].fill(0);
        Ok(within(self.source.allocated(), (start, content.len())))
    }

    /// Cuts a region, names its chunks and compresses those that are new. Answers the leaf's id; it is among the new.
    fn cut(&self, content: &[u8], allocated: &[Range<usize>], worker: &mut Worker) -> Result<ChunkId> {
        worker.new.clear();
        worker.packed.clear();
        let region = cut_region(content, allocated, (&self.repository.domain, &self.repository.cutter));
        self.keep_new(content, &region.chunks, worker)?;
        self.keep_leaf(&region.leaf, worker)
    }

    fn keep_leaf(&self, leaf: &Leaf, worker: &mut Worker) -> Result<ChunkId> {
        let record = leaf.encode();
        let id = self.repository.domain.id(RecordKind::Leaf, &record);
        if self.take_new(&[id])?[0] {
            let from = worker.packed.len();
            worker.packer.pack(&record, &mut worker.packed);
            worker.new.push((id, RecordKind::Leaf, from..worker.packed.len(), record.len()));
        }
        Ok(id)
    }

    fn keep_new(&self, content: &[u8], chunks: &[(ChunkId, Range<usize>)], worker: &mut Worker) -> Result<()> {
        let ids: Vec<ChunkId> = chunks.iter().map(|(id, _)| *id).collect();
        let new = self.take_new(&ids)?;
        for ((id, range), _) in chunks.iter().zip(new).filter(|(_, new)| *new) {
            let from = worker.packed.len();
            worker.packer.pack(&content[range.clone()], &mut worker.packed);
            worker.new.push((*id, RecordKind::Data, from..worker.packed.len(), range.len()));
            self.add(1, range.len() as u64);
        }
        Ok(())
    }

    /// Which of these are neither stored nor about to be stored by a thread of this run; those are now.
    fn take_new(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        let stored = self.repository.have(ids)?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(ids.iter().zip(stored).map(|(id, stored)| !stored && taken.insert(*id)).collect())
    }

    fn store(&self, worker: &Worker) -> Result<()> {
        let record = |(id, kind, range, plain): &(ChunkId, RecordKind, Range<usize>, usize)| Packed {
            id: *id,
            kind: *kind,
            plain: *plain,
            bytes: &worker.packed[range.clone()],
        };
        let records: Vec<Packed<'_>> = worker.new.iter().map(record).collect();
        let stored = self.repository.append(&records)?;
        self.add(2, stored);
        // The index knows them now.
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().for_each(|record| {
            taken.remove(&record.id);
        });
        Ok(())
    }
}

/// The parts of byte ranges of a disk, in order, that lie within a region, by their place there, in whole blocks, joined.
pub fn within(ranges: &[Range<u64>], (start, length): (u64, usize)) -> Vec<Range<usize>> {
    let (end, block) = (start + length as u64, BLOCK as u64);
    let first = ranges.partition_point(|range| range.end <= start);
    let mut parts: Vec<Range<usize>> = Vec::new();
    for range in ranges[first..].iter().take_while(|range| range.start < end) {
        let from = ((range.start.max(start) - start) / block * block) as usize;
        let to = ((range.end.min(end) - start).next_multiple_of(block) as usize).min(length);
        match parts.last_mut() {
            Some(last) if from <= last.end => last.end = last.end.max(to),
            Some(_) | None => parts.push(from..to),
        }
    }
    parts.retain(|part| part.start < part.end);
    parts
}
