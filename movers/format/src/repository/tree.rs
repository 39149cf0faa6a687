//! A disk as a tree of records: the disk names lists, a list names leaves and tells the digests of their regions, a leaf
//! holds the extents of one region of 4 MiB. Chunks never cross a region's border, so regions are read, cut and restored
//! side by side, and an incremental backup writes anew only the leaves of the regions that changed, their lists, and the
//! disk. A region that is read again and has the digest that it had is not cut again.

use crate::chunk::ChunkId;
use crate::{BLOCK, repository::cut::MAX_BLOCKS};
use farshore_schemas::ids::Digest;
use std::ops::Range;

/// Bytes in a region; a disk's last one may be shorter. The checksum's regions are the same.
pub const REGION: u64 = crate::REGION;
/// Blocks in a region.
pub const REGION_BLOCKS: usize = REGION as usize / BLOCK;
/// Leaves that one list names, so that a list covers 8 GiB; a disk's last one may name fewer.
pub const LEAVES_PER_LIST: usize = 2048;
/// Most lists of a disk: 64 TiB.
const MAX_LISTS: usize = 8192;
/// What comes before the ids of its lists in a disk's record.
const DISK_HEAD: usize = 41;
/// Longest record of the tree: a disk with the most lists.
pub(super) const MAX_RECORD: usize = DISK_HEAD + MAX_LISTS * 32;

/// How many regions a disk of `size` bytes has.
pub const fn regions_in(size: u64) -> u64 {
    size.div_ceil(REGION)
}

/// Bytes of the region at this index; none beyond the disk's end.
pub fn region_len(size: u64, index: u64) -> Option<u64> {
    let start = index.checked_mul(REGION)?;
    size.checked_sub(start).filter(|left| *left > 0).map(|left| left.min(REGION))
}

/// Why a record of the tree makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {what} that makes no sense: {why}")]
pub struct TreeError {
    /// What the record should be.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
}

fn wrong(what: &'static str, why: impl Into<String>) -> TreeError {
    TreeError { what, why: why.into() }
}

/// A part of a region, in whole blocks; the disk's last block may be short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Nothing was allocated here; reads as zeros.
    Hole {
        /// Its length.
        blocks: u16,
    },
    /// Zeros that the source had allocated.
    Zeros {
        /// Its length.
        blocks: u16,
    },
    /// A chunk.
    Data {
        /// Its length.
        blocks: u16,
        /// Its id.
        id: ChunkId,
    },
}

impl Extent {
    /// Its length in blocks.
    pub fn blocks(&self) -> u16 {
        match self {
            Extent::Hole { blocks } | Extent::Zeros { blocks } | Extent::Data { blocks, id: _ } => *blocks,
        }
    }
}

/// The extents of a region, in order, without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leaf {
    /// Its extents.
    pub extents: Vec<Extent>,
}

impl Leaf {
    /// The leaf as a record: count (u32), then for each extent its kind (0 hole, 1 zeros, 2 data), its blocks (u16), and for
    /// data its id.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 + self.extents.len() * 35);
        bytes.extend_from_slice(&(self.extents.len() as u32).to_le_bytes());
        for extent in &self.extents {
            let (kind, id) = match extent {
                Extent::Hole { blocks: _ } => (0, None),
                Extent::Zeros { blocks: _ } => (1, None),
                Extent::Data { blocks: _, id } => (2, Some(id)),
            };
            bytes.push(kind);
            bytes.extend_from_slice(&extent.blocks().to_le_bytes());
            id.into_iter().for_each(|id| bytes.extend_from_slice(&id.0));
        }
        bytes
    }

    /// Reads the leaf of a region of `length` bytes.
    ///
    /// # Errors
    /// [`TreeError`] when its extents do not cover exactly that, or a chunk is longer than one may be.
    pub fn decode(bytes: &[u8], length: u64) -> Result<Leaf, TreeError> {
        let bad = |why: &str| wrong("leaf", why);
        let (count, mut rest) = bytes.split_first_chunk::<4>().ok_or_else(|| bad("it has no count"))?;
        let count = u32::from_le_bytes(*count) as usize;
        if count > REGION_BLOCKS {
            return Err(bad("it has more extents than blocks"));
        }
        let mut extents = Vec::with_capacity(count);
        let mut covered = 0u64;
        for _ in 0..count {
            let (head, after) = rest.split_first_chunk::<3>().ok_or_else(|| bad("it ends early"))?;
            let blocks = u16::from_le_bytes([head[1], head[2]]);
            rest = after;
            covered += u64::from(blocks);
            extents.push(match head[0] {
                0 => Extent::Hole { blocks },
                1 => Extent::Zeros { blocks },
                2 => {
                    let (id, after) = rest.split_first_chunk::<32>().ok_or_else(|| bad("it ends early"))?;
                    rest = after;
                    if usize::from(blocks) > MAX_BLOCKS {
                        return Err(bad("a chunk is too long"));
                    }
                    Extent::Data { blocks, id: ChunkId(*id) }
                }
                3..=u8::MAX => return Err(bad("an extent is of a kind that is not known")),
            });
            if blocks == 0 {
                return Err(bad("an extent is empty"));
            }
        }
        if !rest.is_empty() || covered != crate::blocks_in(length) {
            return Err(bad("it does not cover its region exactly"));
        }
        Ok(Leaf { extents })
    }

    /// Appends a run of bytes, from a block's border on, as an extent; nothing when it is empty.
    ///
    /// # Panics
    /// When it is longer than a region.
    pub fn push_range(&mut self, range: Range<usize>, extent: impl Fn(u16) -> Extent) {
        let blocks = range.len().div_ceil(BLOCK);
        if blocks > 0 {
            self.push(extent(u16::try_from(blocks).expect("a region has 1024 blocks")));
        }
    }

    /// What takes space of a region of `length` bytes, as byte ranges in order and apart.
    pub fn allocated(&self, length: usize) -> Vec<Range<usize>> {
        let mut allocated: Vec<Range<usize>> = Vec::new();
        let mut at = 0;
        for extent in &self.extents {
            let from = at;
            at = (from + usize::from(extent.blocks()) * BLOCK).min(length);
            match (extent, allocated.last_mut()) {
                (Extent::Hole { .. }, _) => {}
                (Extent::Zeros { .. } | Extent::Data { .. }, Some(last)) if last.end == from => last.end = at,
                (Extent::Zeros { .. } | Extent::Data { .. }, _) => allocated.push(from..at),
            }
        }
        allocated
    }

    /// Appends a hole or zeros, or joins them to those before.
    pub fn push(&mut self, extent: Extent) {
        let joined = match (self.extents.last_mut(), &extent) {
            (Some(Extent::Hole { blocks: have }), Extent::Hole { blocks })
            | (Some(Extent::Zeros { blocks: have }), Extent::Zeros { blocks }) => {
                *have += blocks;
                true
            }
            (None | Some(Extent::Hole { .. } | Extent::Zeros { .. } | Extent::Data { .. }), _) => false,
        };
        if !joined {
            self.extents.push(extent);
        }
    }
}

/// A region as its list has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its leaf.
    pub leaf: ChunkId,
    /// BLAKE3 of its content, holes read as zeros; none when only changed blocks of it were read.
    pub sum: Option<Digest>,
}

/// What a disk's regions are, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeafList {
    /// The regions; at most [`LEAVES_PER_LIST`].
    pub regions: Vec<Listed>,
}

/// What stands for the digest of a region that was not read in full.
const NO_SUM: Digest = Digest([0; 32]);

impl LeafList {
    /// The list as a record: for each region the id of its leaf and its digest, or 32 zeros.
    pub fn encode(&self) -> Vec<u8> {
        self.regions.iter().flat_map(|region| [region.leaf.0, region.sum.unwrap_or(NO_SUM).0]).flatten().collect()
    }

    /// Reads a list of `count` regions.
    ///
    /// # Errors
    /// [`TreeError`] when it has another length.
    pub fn decode(bytes: &[u8], count: usize) -> Result<LeafList, TreeError> {
        let (parts, rest) = bytes.as_chunks::<32>();
        let (pairs, half) = parts.as_chunks::<2>();
        if !rest.is_empty() || !half.is_empty() || pairs.len() != count {
            return Err(wrong("leaf list", format!("it has {} bytes for {count} regions", bytes.len())));
        }
        let listed = |[leaf, sum]: &[[u8; 32]; 2]| Listed {
            leaf: ChunkId(*leaf),
            sum: Some(Digest(*sum)).filter(|sum| *sum != NO_SUM),
        };
        Ok(LeafList { regions: pairs.iter().map(listed).collect() })
    }
}

/// The checksum of a disk of these regions; none when one was not read in full.
pub fn checksum_of(regions: &[Listed]) -> Option<Digest> {
    let sums: Option<Vec<Digest>> = regions.iter().map(|region| region.sum).collect();
    sums.map(|sums| crate::join_sums(&sums))
}

/// A disk at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskTree {
    /// Its size in bytes.
    pub size: u64,
    /// The checksum of its content; none when only changed blocks of a region were read.
    pub checksum: Option<Digest>,
    /// Its lists.
    pub lists: Vec<ChunkId>,
}

impl DiskTree {
    /// How many lists a disk of this size has.
    pub fn lists_in(size: u64) -> u64 {
        regions_in(size).div_ceil(LEAVES_PER_LIST as u64)
    }

    /// How many leaves the list at this index names.
    pub fn leaves_of(&self, list: usize) -> usize {
        let before = (list * LEAVES_PER_LIST) as u64;
        regions_in(self.size).saturating_sub(before).min(LEAVES_PER_LIST as u64) as usize
    }

    /// The disk as a record: size (u64), whether it has a checksum (0 or 1), the checksum or zeros, ids of its lists.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.size.to_le_bytes().to_vec();
        bytes.push(u8::from(self.checksum.is_some()));
        bytes.extend_from_slice(&self.checksum.unwrap_or_default().0);
        self.lists.iter().for_each(|id| bytes.extend_from_slice(&id.0));
        bytes
    }

    /// Reads a disk.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn decode(bytes: &[u8]) -> Result<DiskTree, TreeError> {
        let bad = |why: &str| wrong("disk", why);
        let (head, lists) = bytes.split_first_chunk::<DISK_HEAD>().ok_or_else(|| bad("it ends early"))?;
        let (size, head) = head.split_first_chunk::<8>().ok_or_else(|| bad("it ends early"))?;
        let size = u64::from_le_bytes(*size);
        let (has, sum) = head.split_first().ok_or_else(|| bad("it ends early"))?;
        let sum = <[u8; 32]>::try_from(sum).map(Digest).map_err(|_| bad("it ends early"))?;
        let checksum = match has {
            0 if sum == Digest::default() => None,
            1 => Some(sum),
            _ => return Err(bad("it neither has nor lacks a checksum")),
        };
        let (lists, rest) = lists.as_chunks::<32>();
        if !rest.is_empty() || lists.len() as u64 != DiskTree::lists_in(size) || lists.len() > MAX_LISTS {
            return Err(bad("its lists do not fit its size"));
        }
        Ok(DiskTree { size, checksum, lists: lists.iter().copied().map(ChunkId).collect() })
    }
}
