//! Cutting a region of a disk: into its chunks, and the leaf that says where each belongs.

use super::cut::Cutter;
use super::keys::Domain;
use super::tree::{Extent, Leaf};
use super::{ChunkId, RecordKind};
use crate::{BLOCK, is_zero};
use std::ops::Range;

/// A region as it is cut.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CutRegion {
    /// Its extents.
    pub leaf: Leaf,
    /// Its chunks, by their place in its content.
    pub chunks: Vec<(ChunkId, Range<usize>)>,
}

/// Cuts a region with this content, of which `allocated`, in whole blocks, in order and apart, takes space; everything else is
/// zeros.
pub fn cut_region(content: &[u8], allocated: &[Range<usize>], (domain, cutter): (&Domain, &Cutter)) -> CutRegion {
    let mut region = CutRegion::default();
    let mut at = 0;
    for extent in allocated {
        region.leaf.push_range(at..extent.start, |blocks| Extent::Hole { blocks });
        region.cut(content, extent.clone(), (domain, cutter));
        at = extent.end;
    }
    region.leaf.push_range(at..content.len(), |blocks| Extent::Hole { blocks });
    region
}

/// As [`cut_region`], for a region of `length` zeros.
pub fn zero_region(length: usize, allocated: &[Range<usize>]) -> CutRegion {
    let mut region = CutRegion::default();
    let mut at = 0;
    for extent in allocated {
        region.leaf.push_range(at..extent.start, |blocks| Extent::Hole { blocks });
        region.leaf.push_range(extent.clone(), |blocks| Extent::Zeros { blocks });
        at = extent.end;
    }
    region.leaf.push_range(at..length, |blocks| Extent::Hole { blocks });
    region
}

impl CutRegion {
    fn cut(&mut self, content: &[u8], extent: Range<usize>, (domain, cutter): (&Domain, &Cutter)) {
        let mut at = extent.start;
        while at < extent.end {
            let alike = |from: usize, zero: bool| {
                let blocks = content[from..extent.end].chunks(BLOCK).take_while(move |block| is_zero(block) == zero);
                blocks.map(<[u8]>::len).sum::<usize>()
            };
            let zeros = alike(at, true);
            self.leaf.push_range(at..at + zeros, |blocks| Extent::Zeros { blocks });
            at += zeros;
            let end = at + alike(at, false);
            while at < end {
                let (length, _) = cutter.first(&content[at..end]);
                let id = domain.id(RecordKind::Data, &content[at..at + length]);
                self.leaf.push(Extent::Data { blocks: length.div_ceil(BLOCK) as u16, id });
                self.chunks.push((id, at..at + length));
                at += length;
            }
        }
    }
}
