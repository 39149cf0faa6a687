//! The digest of every block of one state of a disk. Kept beside a replica's newest disk and, near the source, in a
//! repository, so that what changed is found without reading the other end.

use crate::sealed::{FormatError, Kind, open, seal};
use crate::{BlockDigest, ZERO_DIGEST, block_digest, blocks_in};
use farshore_schemas::ids::Digest;
use farshore_schemas::units::ByteCount;
use serde::{Deserialize, Serialize};

const KIND: Kind = Kind { magic: b"FSDIGEST", what: "digest map" };

/// Block digests of a disk, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestMap {
    size: u64,
    digests: Vec<BlockDigest>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    size: u64,
    #[serde(with = "serde_bytes")]
    digests: Vec<u8>,
}

impl DigestMap {
    /// The map of a disk of `size` bytes that is one hole.
    pub fn zero(size: u64) -> DigestMap {
        DigestMap { size, digests: vec![ZERO_DIGEST; blocks_in(size) as usize] }
    }

    /// The map of a disk that is in memory.
    pub fn of(content: &[u8]) -> DigestMap {
        DigestMap { size: content.len() as u64, digests: content.chunks(crate::BLOCK).map(block_digest).collect() }
    }

    /// The disk's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digests in block order.
    pub fn digests(&self) -> &[BlockDigest] {
        &self.digests
    }

    /// The digest of a block; none beyond the disk's end.
    pub fn get(&self, block: u64) -> Option<BlockDigest> {
        usize::try_from(block).ok().and_then(|at| self.digests.get(at)).copied()
    }

    /// Sets a block's digest; false when the disk has no such block.
    pub fn set(&mut self, block: u64, digest: BlockDigest) -> bool {
        let slot = usize::try_from(block).ok().and_then(|at| self.digests.get_mut(at));
        slot.map(|slot| *slot = digest).is_some()
    }

    /// The digest of a block is taken from its content. False when the disk has no such block.
    pub fn set_content(&mut self, block: u64, content: &[u8]) -> bool {
        self.set(block, block_digest(content))
    }

    /// BLAKE3 over size and digests: two ends that hold the same map agree on it.
    pub fn fingerprint(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.size.to_le_bytes());
        hasher.update(self.digests.as_flattened());
        Digest(*hasher.finalize().as_bytes())
    }

    /// The map as a file: sealed, compressed (16 bytes per block that is not zero, next to nothing for zeros).
    pub fn encode(&self) -> Vec<u8> {
        seal(&KIND, &Body { size: self.size, digests: self.digests.as_flattened().to_vec() })
    }

    /// Reads a map of a disk of at most `max_disk` bytes, which bounds the memory used.
    ///
    /// # Errors
    /// [`FormatError`] for any other bytes.
    pub fn decode(bytes: &[u8], max_disk: ByteCount) -> Result<DigestMap, FormatError> {
        let max = blocks_in(max_disk.0).saturating_mul(16).saturating_add(256);
        let body: Body = open(&KIND, bytes, max)?;
        let (digests, rest) = body.digests.as_chunks::<16>();
        if !rest.is_empty() || digests.len() as u64 != blocks_in(body.size) {
            return Err(KIND.body("it has not one digest for each block"));
        }
        Ok(DigestMap { size: body.size, digests: digests.to_vec() })
    }
}
