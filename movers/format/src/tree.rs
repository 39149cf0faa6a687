//! How two ends find the blocks that differ while sending little: digests of 1 MiB nodes first, then, under those that
//! differ, of 64 KiB nodes, then of blocks. One end sends a level, the other answers which of its nodes differ.

use crate::{BlockDigest, DigestMap, ZERO_DIGEST, block_digest};

/// Levels, from the coarsest: 1 MiB, 64 KiB, 4 KiB.
pub const LEVELS: usize = 3;
/// Blocks under a node, per level.
pub const NODE_BLOCKS: [u64; LEVELS] = [256, 16, 1];

const FANOUT: usize = 16;

/// All levels over one digest map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestTree {
    size: u64,
    levels: [Vec<BlockDigest>; LEVELS],
}

impl DigestTree {
    /// Builds the levels.
    pub fn of(map: &DigestMap) -> DigestTree {
        let blocks = map.digests().to_vec();
        let middle = fold(&blocks);
        let top = fold(&middle);
        DigestTree { size: map.size(), levels: [top, middle, blocks] }
    }

    /// The disk's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The nodes of a level, 0 being the coarsest; none when there is no such level.
    pub fn level(&self, level: usize) -> &[BlockDigest] {
        self.levels.get(level).map_or(&[], Vec::as_slice)
    }

    /// The digests of these nodes of a level, in the order asked; a node that the disk does not have reads as zeros.
    pub fn nodes(&self, level: usize, nodes: &[u64]) -> Vec<BlockDigest> {
        let all = self.level(level);
        let get = |node: &u64| usize::try_from(*node).ok().and_then(|at| all.get(at)).copied();
        nodes.iter().map(|node| get(node).unwrap_or(ZERO_DIGEST)).collect()
    }

    /// The children, one level down, of these nodes of `level`, in order, as far as the disk has them. Both ends with
    /// disks of the same size get the same list from the same nodes.
    pub fn children(&self, level: usize, nodes: &[u64]) -> Vec<u64> {
        let below = self.level(level + 1).len() as u64;
        nodes.iter().flat_map(|node| children_of(*node, below)).collect()
    }
}

/// The children of a node in a level below that has `below` nodes.
pub fn children_of(node: u64, below: u64) -> std::ops::Range<u64> {
    let first = node.saturating_mul(FANOUT as u64).min(below);
    first..first.saturating_add(FANOUT as u64).min(below)
}

/// Positions at which two lists of digests differ, in order. Where one is shorter, the missing ones read as zeros, as
/// a disk reads beyond its old end once it has grown.
pub fn differing(mine: &[BlockDigest], theirs: &[BlockDigest]) -> Vec<u64> {
    let at = |list: &[BlockDigest], index: usize| list.get(index).copied().unwrap_or(ZERO_DIGEST);
    let longest = mine.len().max(theirs.len());
    (0..longest).filter(|index| at(mine, *index) != at(theirs, *index)).map(|index| index as u64).collect()
}

fn fold(below: &[BlockDigest]) -> Vec<BlockDigest> {
    // A node over zeros alone is zero itself, so that holes stay cheap to send; else it is over its children's digests.
    below.chunks(FANOUT).map(|children| block_digest(children.as_flattened())).collect()
}
