//! The block: the unit in which two ends of a replication compare, send and undo.

/// Bytes in a block.
pub const BLOCK: usize = 4096;

/// The first 16 bytes of BLAKE3 of a block's content. A short last block is digested as it is, without padding.
pub type BlockDigest = [u8; 16];

/// The digest that stands for a block of zeros, whatever its length: it is not computed, so that holes cost nothing.
pub const ZERO_DIGEST: BlockDigest = [0; 16];

/// Whether all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Whole lines at a time, so that the compiler can use wide registers and a data block is left after one line.
    let mut lines = bytes.chunks_exact(64);
    lines.all(|line| line.iter().fold(0u8, |any, byte| any | byte) == 0)
        && bytes.chunks_exact(64).remainder().iter().all(|byte| *byte == 0)
}

/// The digest of one block.
pub fn block_digest(block: &[u8]) -> BlockDigest {
    if is_zero(block) {
        return ZERO_DIGEST;
    }
    let mut digest = ZERO_DIGEST;
    digest.copy_from_slice(&blake3::hash(block).as_bytes()[..16]);
    digest
}

/// How many blocks a disk of `size` bytes has.
pub const fn blocks_in(size: u64) -> u64 {
    size.div_ceil(BLOCK as u64)
}
