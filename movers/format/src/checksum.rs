//! The checksum of a disk: plain BLAKE3 over its content in order, holes read as zeros. Both ends of every transfer
//! compute it over the bytes that they really hold, so that equal checksums prove equal disks.

use farshore_schemas::ids::Digest;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Computes a disk's checksum from its content in order.
#[derive(Debug, Clone, Default)]
pub struct DiskHasher {
    hasher: blake3::Hasher,
    length: u64,
}

impl DiskHasher {
    /// A hasher at the start of a disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes of the disk.
    pub fn data(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// The next `count` bytes are zeros: a hole, which need not be read.
    pub fn zeros(&mut self, count: u64) {
        let mut left = count;
        while left > 0 {
            let part = left.min(ZEROS.len() as u64);
            self.hasher.update(&ZEROS[..part as usize]);
            left -= part;
        }
        self.length += count;
    }

    /// Bytes taken in so far: the place on the disk that comes next.
    pub fn position(&self) -> u64 {
        self.length
    }

    /// The checksum of everything taken in.
    pub fn finish(&self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }
}

/// The checksum of a disk that is in memory.
pub fn checksum(content: &[u8]) -> Digest {
    Digest(*blake3::hash(content).as_bytes())
}
