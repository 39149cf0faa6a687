//! Where a disk is cut into chunks: at borders of 4 KiB blocks, where a keyed hash of the block before the border says so.
//! File systems place files at such borders, so the same file is cut the same way on every disk, and a bitmap of changed
//! blocks maps onto chunks. Blocks of zeros never belong to a chunk. Cutting has no memory across a border: from equal
//! content after a border follow equal borders, which is what lets an incremental backup stop where old and new borders meet.
//!
//! Mean and bounds are measured: `docs/decisions/0007-chunking.md`.

use super::keys::Domain;
use crate::BLOCK;

/// Fewest blocks in a chunk that is ended by the rule; zeros, a hole, or a region's end may end one sooner.
pub const MIN_BLOCKS: usize = 3;
/// Most blocks in a chunk.
pub const MAX_BLOCKS: usize = 32;
/// Most bytes in a chunk.
pub const MAX_CHUNK: usize = MAX_BLOCKS * BLOCK;
/// A border falls behind one in this many blocks once a chunk has its fewest.
const ONE_IN: u64 = 4;

/// Finds borders, under the key of a dedup domain.
#[derive(Clone)]
pub struct Cutter {
    secret: [u8; 192],
}

impl std::fmt::Debug for Cutter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cutter")
    }
}

impl Cutter {
    /// The cutter of a dedup domain.
    pub fn new(domain: &Domain) -> Cutter {
        Cutter { secret: domain.border_secret() }
    }

    /// Whether a border falls behind this block, if its chunk is long enough.
    fn ends(&self, block: &[u8]) -> bool {
        xxhash_rust::xxh3::xxh3_64_with_secret(block, &self.secret) < u64::MAX / ONE_IN
    }

    /// Length in bytes of the first chunk of `content`, which holds no block of zeros and begins at a border; and whether a
    /// rule ended it there. If not, the content ended first, and more content could have made the chunk longer.
    pub fn first(&self, content: &[u8]) -> (usize, bool) {
        let longest = content.len().min(MAX_CHUNK);
        let mut end = (MIN_BLOCKS - 1) * BLOCK;
        while end < longest {
            let block = &content[end..longest.min(end + BLOCK)];
            end += block.len();
            if block.len() == BLOCK && self.ends(block) {
                return (end, true);
            }
        }
        (longest, longest == MAX_CHUNK)
    }
}
