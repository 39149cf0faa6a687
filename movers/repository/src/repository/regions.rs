//! What one thread of a backup does with one region after the other.

use super::backup::{BackupOptions, disk_error};
use super::changed::Before;
use super::damaged::damage_of;
use super::packs::Packed;
use super::points::extent_len;
use super::records::Reader;
use super::stages::{Stage, Stages};
use super::{Repository, Source};
use crate::{Error, Result};
use farshore_format::repository::{
    ChunkId, CutRegion, Extent, Leaf, Listed, Packer, REGION, RecordKind, cut_region, zero_region,
};
use farshore_format::{BLOCK, is_zero, region_sum, zero_sum};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The disk of the point before.
pub(super) struct Base<'a> {
    pub(super) regions: Vec<Listed>,
    /// Leaves that cannot be counted on, themselves or what they name: their regions are read in full and cut anew.
    pub(super) wanting: HashSet<ChunkId>,
    /// None when all may have changed.
    pub(super) changed: Option<&'a [Range<u64>]>,
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
    pub(super) done: Mutex<Vec<(u64, Listed)>>,
    pub(super) totals: [AtomicU64; 3],
}

/// A thread's own buffers.
pub(super) struct Worker<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) packer: Packer,
    pub(super) content: Vec<u8>,
    pub(super) packed: Vec<u8>,
    pub(super) new: Vec<(ChunkId, RecordKind, Range<usize>, usize)>,
}

impl Run<'_> {
    /// One thread's work.
    pub(super) fn work(&self, regions: u64) -> Result<()> {
        let mut worker = Worker {
            reader: Reader::new(self.repository),
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

    fn region(&self, region: u64, worker: &mut Worker<'_>) -> Result<Listed> {
        let start = region * REGION;
        let length = (self.source.size() - start).min(REGION) as usize;
        worker.new.clear();
        worker.packed.clear();
        let mut content = std::mem::take(&mut worker.content);
        let into = &mut content[..length];
        let before = self.base.as_ref().map(|base| (base, base.regions[region as usize]));
        let done = match before.filter(|(base, old)| !base.wanting.contains(&old.leaf)) {
            None => self.whole((region, None), into, worker),
            Some((Base { changed: None, .. }, old)) => self.whole((region, Some(old)), into, worker),
            Some((Base { changed: Some(changed), .. }, old)) => {
                let changed = within(changed, (start, length));
                if changed.is_empty() { Ok(old) } else { self.changed((region, old.leaf), (&changed, into), worker) }
            }
        };
        worker.content = content;
        let done = done?;
        self.stages.time(Stage::Target, || self.store(worker))?;
        Ok(done)
    }

    /// A region that is read in full. One that is what the point before has is left as it is stored: its digest says so, and is
    /// that of the bytes which the leaf was cut from.
    fn whole(
        &self,
        (region, before): (u64, Option<Listed>),
        content: &mut [u8],
        worker: &mut Worker<'_>,
    ) -> Result<Listed> {
        let start = region * REGION;
        let allocated = within(self.source.allocated(), (start, content.len()));
        let data = within(self.source.extents(), (start, content.len()));
        let read = self.stages.time(Stage::Source, || self.read((start, &data), content));
        read.map_err(|source| disk_error(self.options, source))?;
        self.stages.time(Stage::Proxy, || {
            let sum = Some(if data.is_empty() { zero_sum(content.len() as u64) } else { region_sum(content) });
            // One that was read by a list of what changed has none.
            let same = before.filter(|old| old.sum.is_none() || old.sum == sum);
            if let Some(old) = same
                && self.is(content, &allocated, (region, old), &mut worker.reader)?
            {
                return Ok(Listed { sum, ..old });
            }
            let cut = if data.is_empty() {
                zero_region(content.len(), &allocated)
            } else {
                cut_region(content, &allocated, (&self.repository.domain, &self.repository.cutter))
            };
            Ok(Listed { leaf: self.keep(content, &cut, worker)?, sum })
        })
    }

    /// Whether a leaf of the point before says that the region takes the space that it takes now, and, where no digest has told
    /// it, that it holds what it holds now: to name its chunks costs less than to find where they end. A leaf that cannot be
    /// read any more says nothing.
    fn is(
        &self,
        content: &[u8],
        allocated: &[Range<usize>],
        (region, old): (u64, Listed),
        reader: &mut Reader<'_>,
    ) -> Result<bool> {
        let leaf = match reader.leaf(&old.leaf, (self.source.size(), region)) {
            Ok(leaf) => leaf,
            Err(error) if damage_of(&error).is_some() || matches!(error, Error::NoChunk { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(leaf.allocated(content.len()) == allocated && (old.sum.is_some() || self.holds(&leaf, content)))
    }

    fn holds(&self, leaf: &Leaf, content: &[u8]) -> bool {
        let mut rest = content;
        leaf.extents.iter().all(|extent| {
            let length = extent_len(extent, (0, rest.len() as u64)) as usize;
            let (part, behind) = rest.split_at(length);
            rest = behind;
            match extent {
                Extent::Data { id, .. } => self.repository.domain.id(RecordKind::Data, part) == *id,
                Extent::Hole { .. } | Extent::Zeros { .. } => is_zero(part),
            }
        })
    }

    /// A region of which only what changed is read.
    fn changed(
        &self,
        (region, old): (u64, ChunkId),
        (changed, content): (&[Range<usize>], &mut [u8]),
        worker: &mut Worker<'_>,
    ) -> Result<Listed> {
        let start = region * REGION;
        let leaf = match worker.reader.leaf(&old, (self.source.size(), region)) {
            Ok(leaf) => leaf,
            // What has rotted since the disk's tree was looked at is cut anew.
            Err(error) if damage_of(&error).is_some() => return self.whole((region, None), content, worker),
            Err(error) => return Err(error),
        };
        let allocated = within(self.source.allocated(), (start, content.len()));
        let before = Before { leaf: &leaf, changed, allocated: &allocated };
        let recut = self.repository.recut(&before, content, &mut |range, into| {
            self.add(0, range.len() as u64);
            self.stages.time(Stage::Source, || self.source.read_at(start + range.start as u64, into))
        });
        let recut = recut.map_err(|source| disk_error(self.options, source))?;
        self.stages.time(Stage::Proxy, || Ok(Listed { leaf: self.keep(content, &recut, worker)?, sum: None }))
    }

    /// Reads what may hold data of a region; the rest becomes zeros, unless nothing does.
    fn read(&self, (start, data): (u64, &[Range<usize>]), content: &mut [u8]) -> std::io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let mut at = 0;
        for part in data {
            content[at..part.start].fill(0);
            self.source.read_at(start + part.start as u64, &mut content[part.clone()])?;
            self.add(0, part.len() as u64);
            at = part.end;
        }
        content[at..].fill(0);
        Ok(())
    }

    /// Compresses the chunks of a region that are new. Answers the leaf's id; it is among the new.
    fn keep(&self, content: &[u8], cut: &CutRegion, worker: &mut Worker<'_>) -> Result<ChunkId> {
        self.keep_new(content, &cut.chunks, worker)?;
        self.keep_leaf(&cut.leaf, worker)
    }

    fn keep_leaf(&self, leaf: &Leaf, worker: &mut Worker<'_>) -> Result<ChunkId> {
        let record = leaf.encode();
        let id = self.repository.domain.id(RecordKind::Leaf, &record);
        if self.take_new(&[id])?[0] {
            let from = worker.packed.len();
            worker.packer.pack(&record, &mut worker.packed);
            worker.new.push((id, RecordKind::Leaf, from..worker.packed.len(), record.len()));
        }
        Ok(id)
    }

    fn keep_new(&self, content: &[u8], chunks: &[(ChunkId, Range<usize>)], worker: &mut Worker<'_>) -> Result<()> {
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

    fn store(&self, worker: &Worker<'_>) -> Result<()> {
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
