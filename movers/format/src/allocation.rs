//! Which blocks of a disk take space where the disk lies, so that a disk made from a point takes as much: zeros that were
//! allocated (an empty journal, inode tables, what a database has set aside) are allocated again, and holes stay holes.
//! No checksum and no digest of content depends on it: to those, allocated zeros and holes are the same.

use crate::sealed::{FormatError, Kind, open, seal};
use crate::{BLOCK, blocks_in};
use serde::{Deserialize, Serialize};

/// The most runs in a list: 1 MiB of them. A disk in more pieces has its smallest holes counted as allocated.
pub const MAX_RUNS: usize = 65_536;
/// Bytes of a run in a list: two u64.
const RUN: usize = 16;
const KIND: Kind = Kind { magic: b"FSALLOCA", what: "allocation" };

/// Consecutive blocks, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRun {
    /// The first.
    pub start: u64,
    /// How many.
    pub blocks: u64,
}

impl BlockRun {
    /// The first block after it.
    pub const fn end(&self) -> u64 {
        self.start + self.blocks
    }

    /// Where it begins on a disk of `size` bytes, and how many bytes of the disk it covers; both in bytes.
    pub fn span(&self, size: u64) -> (u64, u64) {
        let at = |block: u64| block.saturating_mul(BLOCK as u64).min(size);
        (at(self.start), at(self.end()) - at(self.start))
    }
}

/// The allocated blocks of a disk: runs that ascend and do not touch, at most [`MAX_RUNS`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocation(Vec<BlockRun>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(with = "serde_bytes")]
    runs: Vec<u8>,
}

impl Allocation {
    /// Of ranges in bytes, by ascending start; they may touch and overlap. Each is taken out to whole blocks.
    pub fn of_ranges(ranges: impl IntoIterator<Item = std::ops::Range<u64>>) -> Allocation {
        let mut allocation = Allocation::default();
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            let start = range.start / BLOCK as u64;
            allocation.append(BlockRun { start, blocks: blocks_in(range.end) - start });
        }
        allocation.limited()
    }

    /// Takes a run that does not start before the last one did. Memory stays bounded however many come.
    fn append(&mut self, run: BlockRun) {
        match self.0.last_mut() {
            Some(last) if run.start <= last.end() => last.blocks = last.end().max(run.end()) - last.start,
            Some(_) | None => self.0.push(run),
        }
        if self.0.len() > 4 * MAX_RUNS {
            self.close_gaps(MAX_RUNS);
        }
    }

    fn limited(mut self) -> Allocation {
        self.close_gaps(MAX_RUNS);
        self
    }

    /// Fills the smallest gaps until at most `most` runs are left: too much is allocated rather than too little.
    fn close_gaps(&mut self, most: usize) {
        let Some(surplus) = self.0.len().checked_sub(most).filter(|surplus| *surplus > 0) else { return };
        let gap = |pair: &[BlockRun]| pair[1].start - pair[0].end();
        let mut gaps: Vec<u64> = self.0.windows(2).map(gap).collect();
        let largest_closed = *gaps.select_nth_unstable(surplus - 1).1;
        let smaller = gaps.iter().filter(|gap| **gap < largest_closed).count();
        let mut of_that_size = surplus - smaller;
        let mut closed: Vec<BlockRun> = Vec::with_capacity(most);
        for run in self.0.drain(..) {
            let gap = closed.last().map(|last| run.start - last.end());
            let close = gap.is_some_and(|gap| gap < largest_closed || (gap == largest_closed && of_that_size > 0));
            match closed.last_mut() {
                Some(last) if close => {
                    of_that_size -= usize::from(gap == Some(largest_closed));
                    last.blocks = run.end() - last.start;
                }
                Some(_) | None => closed.push(run),
            }
        }
        self.0 = closed;
    }

    /// Its runs.
    pub fn runs(&self) -> &[BlockRun] {
        &self.0
    }

    /// Blocks in all runs.
    pub fn blocks(&self) -> u64 {
        self.0.iter().map(|run| run.blocks).sum()
    }

    /// Whether all of it lies on a disk of `size` bytes.
    pub fn fits(&self, size: u64) -> bool {
        self.0.last().is_none_or(|last| last.end() <= blocks_in(size))
    }

    /// What is allocated in either.
    pub fn union(&self, other: &Allocation) -> Allocation {
        let mut both: Vec<BlockRun> = self.0.iter().chain(&other.0).copied().collect();
        both.sort_by_key(|run| run.start);
        let mut union = Allocation::default();
        both.into_iter().for_each(|run| union.append(run));
        union.limited()
    }

    /// What is allocated here and not in `other`. May have more runs than a list that is kept.
    pub fn without(&self, other: &Allocation) -> Vec<BlockRun> {
        let mut left = Vec::new();
        let mut others = other.0.iter().peekable();
        for run in &self.0 {
            let mut at = run.start;
            while others.next_if(|other| other.end() <= at).is_some() {}
            while let Some(other) = others.peek().filter(|other| other.start < run.end()) {
                if other.start > at {
                    left.push(BlockRun { start: at, blocks: other.start - at });
                }
                at = other.end().max(at);
                if at >= run.end() {
                    break;
                }
                others.next();
            }
            if at < run.end() {
                left.push(BlockRun { start: at, blocks: run.end() - at });
            }
        }
        left
    }

    /// The list: for each run its first block and its blocks, u64 little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|run| [run.start.to_le_bytes(), run.blocks.to_le_bytes()].concat()).collect()
    }

    /// Reads a list of a disk of `size` bytes; none when it is not one, in whole.
    pub fn from_bytes(bytes: &[u8], size: u64) -> Option<Allocation> {
        let (runs, rest) = bytes.as_chunks::<RUN>();
        if !rest.is_empty() || runs.len() > MAX_RUNS {
            return None;
        }
        let mut allocation = Allocation(Vec::with_capacity(runs.len()));
        for run in runs {
            let number = |at: usize| {
                let mut raw = [0; 8];
                raw.copy_from_slice(&run[at..at + 8]);
                u64::from_le_bytes(raw)
            };
            let run = BlockRun { start: number(0), blocks: number(8) };
            let end = run.start.checked_add(run.blocks).filter(|_| run.blocks > 0)?;
            let apart = allocation.0.last().is_none_or(|last| last.end() < run.start);
            if !apart || end > blocks_in(size) {
                return None;
            }
            allocation.0.push(run);
        }
        Some(allocation)
    }

    /// The list as a file.
    pub fn encode(&self) -> Vec<u8> {
        seal(&KIND, &Body { runs: self.to_bytes() })
    }

    /// Reads the file of a disk of `size` bytes.
    ///
    /// # Errors
    /// [`FormatError`] for any other bytes.
    pub fn decode(bytes: &[u8], size: u64) -> Result<Allocation, FormatError> {
        let body: Body = open(&KIND, bytes, (MAX_RUNS * RUN + 256) as u64)?;
        Allocation::from_bytes(&body.runs, size).ok_or_else(|| KIND.body("its runs do not ascend within the disk"))
    }
}
