//! Reading only what changed of a disk: from the border before a change on, until the borders that fall now meet those of
//! the point before. From there on equal content gives equal chunks, since cutting has no memory across a border.

use super::Repository;
use super::points::extent_len;
use farshore_format::repository::{CutRegion, Extent, Leaf, RecordKind};
use farshore_format::{BLOCK, is_zero};
use std::io::Result;
use std::ops::Range;

/// A region as the point before has it, and what changed of it since.
pub(super) struct Before<'a> {
    pub(super) leaf: &'a Leaf,
    /// Byte ranges of the region, in whole blocks, in order and apart.
    pub(super) changed: &'a [Range<usize>],
    /// What is allocated now within the changed ranges, likewise.
    pub(super) allocated: &'a [Range<usize>],
}

/// Reads a byte range of a region into its place.
type ReadRange<'a> = dyn FnMut(Range<usize>, &mut [u8]) -> Result<()> + 'a;

/// An extent of the leaf before, and where it lies.
struct Old {
    extent: Extent,
    range: Range<usize>,
}

/// Walks a region.
struct Walk<'a, 'b> {
    repository: &'a Repository,
    before: &'a Before<'a>,
    old: Vec<Old>,
    content: &'b mut [u8],
    read: &'b mut ReadRange<'b>,
    /// The region as it is now, with the chunks that were cut anew.
    recut: CutRegion,
}

impl Repository {
    /// Cuts a region again where it changed. `content` is as long as the region; only what is read into it counts.
    pub(super) fn recut<'b>(
        &self,
        before: &Before<'_>,
        content: &'b mut [u8],
        read: &'b mut ReadRange<'b>,
    ) -> Result<CutRegion> {
        let mut at = 0;
        let size = content.len() as u64;
        let old = before.leaf.extents.iter().map(|extent| {
            let start = at;
            at += extent_len(extent, (start as u64, size)) as usize;
            Old { extent: *extent, range: start..at }
        });
        let old = old.collect();
        let mut walk = Walk { repository: self, before, old, content, read, recut: CutRegion::default() };
        let mut next = 0;
        while next < walk.old.len() {
            next = if walk.touched(next) { walk.again(next)? } else { walk.keep(next) };
        }
        Ok(walk.recut)
    }
}

fn overlaps(ranges: &[Range<usize>], range: &Range<usize>) -> bool {
    let first = ranges.partition_point(|at| at.end <= range.start);
    ranges.get(first).is_some_and(|at| at.start < range.end)
}

impl Walk<'_, '_> {
    fn changed(&self, range: &Range<usize>) -> bool {
        overlaps(self.before.changed, range)
    }

    /// Whether the old extent at this index must be looked at again: it changed, or it is a chunk that only ended because
    /// no data followed, and what follows changed.
    fn touched(&self, index: usize) -> bool {
        let old = &self.old[index];
        let ended_early = match (&old.extent, self.old.get(index + 1).map(|next| &next.extent)) {
            (Extent::Data { .. }, Some(Extent::Hole { .. } | Extent::Zeros { .. })) => true,
            (Extent::Data { .. }, Some(Extent::Data { .. }) | None) => false,
            (Extent::Hole { .. } | Extent::Zeros { .. }, _) => false,
        };
        let behind = old.range.end..old.range.end + BLOCK;
        self.changed(&old.range) || (ended_early && self.changed(&behind))
    }

    fn keep(&mut self, index: usize) -> usize {
        self.recut.leaf.push(self.old[index].extent);
        index + 1
    }

    /// Cuts from the old extent at this index on until borders meet. Answers the index of the old extent that goes on there.
    fn again(&mut self, first: usize) -> Result<usize> {
        let mut at = self.old[first].range.start;
        // Everything before here is read, or known to be zeros.
        let mut known = at;
        let mut next = first;
        loop {
            while next < self.old.len() && (known <= at || self.touched(next)) {
                self.learn(next)?;
                known = self.old[next].range.end;
                next += 1;
            }
            let (piece, settled) = self.piece(at, known);
            // The piece could be longer if more were known, and more may be data.
            if !settled && piece.end == known && next < self.old.len() && self.goes_on(next) {
                self.learn(next)?;
                known = self.old[next].range.end;
                next += 1;
                continue;
            }
            self.push(piece.clone());
            at = piece.end;
            if at == known {
                return Ok(next);
            }
            // An old border within what is known: if nothing that changed lies behind it, the old extents go on.
            let meets = self.old[..next].binary_search_by(|old| old.range.start.cmp(&at)).ok();
            if let Some(index) = meets
                && !(index..next).any(|index| self.touched(index))
            {
                return Ok(index);
            }
        }
    }

    fn goes_on(&self, index: usize) -> bool {
        match self.old[index].extent {
            Extent::Data { .. } => true,
            Extent::Hole { .. } | Extent::Zeros { .. } => self.changed(&self.old[index].range),
        }
    }

    /// Reads what an old extent covers, unless it is zeros as before.
    fn learn(&mut self, index: usize) -> Result<()> {
        let old = &self.old[index];
        let range = old.range.clone();
        match old.extent {
            Extent::Data { .. } => (self.read)(range.clone(), &mut self.content[range]),
            Extent::Hole { .. } | Extent::Zeros { .. } => {
                self.content[range.clone()].fill(0);
                for changed in self.before.changed {
                    let part = changed.start.max(range.start)..changed.end.min(range.end);
                    if part.start < part.end {
                        (self.read)(part.clone(), &mut self.content[part])?;
                    }
                }
                Ok(())
            }
        }
    }

    /// What begins at `at`, as far as is known up to `known`; and whether it ends there whatever follows.
    fn piece(&self, at: usize, known: usize) -> (Range<usize>, bool) {
        let blocks = |zero: bool| {
            let same = self.content[at..known].chunks(BLOCK).take_while(|block| is_zero(block) == zero);
            same.map(<[u8]>::len).sum::<usize>()
        };
        let zeros = blocks(true);
        if zeros > 0 {
            // As much as is of one kind: allocated or not.
            let allocated = self.allocated(at);
            let alike = (at..at + zeros).step_by(BLOCK).take_while(|block| self.allocated(*block) == allocated).count();
            return (at..(at + alike * BLOCK).min(at + zeros), true);
        }
        let data = blocks(false);
        let (length, ruled) = self.repository.cutter().first(&self.content[at..at + data]);
        (at..at + length, ruled || length < data || at + data < known)
    }

    fn allocated(&self, at: usize) -> bool {
        let block = at..at + 1;
        if self.changed(&block) {
            return overlaps(self.before.allocated, &block);
        }
        let index = self.old.partition_point(|old| old.range.end <= at);
        match self.old.get(index).map(|old| &old.extent) {
            Some(Extent::Zeros { .. } | Extent::Data { .. }) => true,
            Some(Extent::Hole { .. }) | None => false,
        }
    }

    fn push(&mut self, piece: Range<usize>) {
        let content = &self.content[piece.clone()];
        if !is_zero(content) {
            let id = self.repository.domain().id(RecordKind::Data, content);
            self.recut.chunks.push((id, piece.clone()));
            self.recut.leaf.push_range(piece, |blocks| Extent::Data { blocks, id });
        } else if self.allocated(piece.start) {
            self.recut.leaf.push_range(piece, |blocks| Extent::Zeros { blocks });
        } else {
            self.recut.leaf.push_range(piece, |blocks| Extent::Hole { blocks });
        }
    }
}
