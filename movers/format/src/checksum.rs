//! The checksum of a disk: BLAKE3 over the BLAKE3 digests of its regions of 4 MiB, in order, holes read as zeros. Both ends of
//! every transfer compute it over the bytes that they really hold, so that equal checksums prove equal disks.
//!
//! A region's digest does not depend on where the region lies, so that one of zeros has the same one everywhere and is
//! hashed once, and a region that is as it was is told by its digest alone. On a command line it is
//! `split -b 4M --filter='b3sum --raw' IMAGE | b3sum`.

use crate::is_zero;
use farshore_schemas::ids::Digest;
use std::sync::LazyLock;

/// Bytes in a region; a disk's last one may be shorter.
pub const REGION: u64 = 4 << 20;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The digest of a region of zeros.
static ZERO_REGION: LazyLock<Digest> = LazyLock::new(|| hash_zeros(REGION));

fn hash_zeros(length: u64) -> Digest {
    let mut hasher = blake3::Hasher::new();
    feed_zeros(&mut hasher, length);
    Digest(*hasher.finalize().as_bytes())
}

fn feed_zeros(hasher: &mut blake3::Hasher, length: u64) {
    let mut left = length;
    while left > 0 {
        let part = left.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..part as usize]);
        left -= part;
    }
}

/// The digest of `length` zeros, at most a region.
pub fn zero_sum(length: u64) -> Digest {
    if length == REGION { *ZERO_REGION } else { hash_zeros(length) }
}

/// The digest of a region that is in memory: plain BLAKE3 of its content.
pub fn region_sum(content: &[u8]) -> Digest {
    if content.len() as u64 == REGION && is_zero(content) {
        return *ZERO_REGION;
    }
    Digest(*blake3::hash(content).as_bytes())
}

/// A disk's checksum from the digests of its regions, in order.
pub fn join_sums<'a>(sums: impl IntoIterator<Item = &'a Digest>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    sums.into_iter().for_each(|sum| {
        hasher.update(&sum.0);
    });
    Digest(*hasher.finalize().as_bytes())
}

/// Computes a disk's checksum from its content in order. Keeps 8 MiB for a TiB.
#[derive(Debug, Clone, Default)]
pub struct DiskHasher {
    /// Digests of the regions that are whole.
    sums: Vec<Digest>,
    hasher: blake3::Hasher,
    /// Bytes of the last region that `hasher` has, and zeros behind them that it has not.
    hashed: u64,
    zeros: u64,
}

impl DiskHasher {
    /// A hasher at the start of a disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes of the disk.
    pub fn data(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(self.room() as usize));
            feed_zeros(&mut self.hasher, self.zeros);
            self.hasher.update(part);
            self.hashed += self.zeros + part.len() as u64;
            self.zeros = 0;
            self.end_region();
            rest = after;
        }
    }

    /// The next `count` bytes are zeros: a hole, which need not be read.
    pub fn zeros(&mut self, count: u64) {
        let mut left = count;
        while left > 0 {
            let part = left.min(self.room());
            self.zeros += part;
            self.end_region();
            left -= part;
        }
    }

    /// Bytes that the region which was begun lacks.
    fn room(&self) -> u64 {
        REGION - self.hashed - self.zeros
    }

    fn end_region(&mut self) {
        if self.room() == 0 {
            self.sums.push(self.last());
            self.hasher.reset();
            (self.hashed, self.zeros) = (0, 0);
        }
    }

    /// The digest of the region which was begun.
    fn last(&self) -> Digest {
        if self.hashed == 0 {
            return zero_sum(self.zeros);
        }
        let mut hasher = self.hasher.clone();
        feed_zeros(&mut hasher, self.zeros);
        Digest(*hasher.finalize().as_bytes())
    }

    /// Bytes taken in so far: the place on the disk that comes next.
    pub fn position(&self) -> u64 {
        self.sums.len() as u64 * REGION + self.hashed + self.zeros
    }

    /// The digest of each region of everything taken in.
    pub fn regions(&self) -> Vec<Digest> {
        let mut sums = self.sums.clone();
        if self.hashed + self.zeros > 0 {
            sums.push(self.last());
        }
        sums
    }

    /// The checksum of everything taken in.
    pub fn finish(&self) -> Digest {
        join_sums(&self.regions())
    }
}

/// The checksum of a disk that is in memory.
pub fn checksum(content: &[u8]) -> Digest {
    let sums: Vec<Digest> = content.chunks(REGION as usize).map(region_sum).collect();
    join_sums(&sums)
}
