//! The formats of the data path and their maths: block digests and how two ends compare them, the checksum of a disk,
//! repositories, replica points, allocated blocks and reverse deltas. Pure: no file, no clock, no thread. `farshore-repository` keeps these bytes in
//! files, `farshore-agent` sends them between movers. What is not here: where bytes lie, and when they are durable.
//!
//! Sizes are in bytes, block numbers count from 0 at the start of a disk. A disk whose size is not a multiple
//! of a block ends in a short one. Every decoder is bounded and consumes its whole input.

mod allocation;
mod block;
mod checksum;
mod chunk;
mod delta;
mod digests;
mod replica_point;
pub mod repository;
mod sealed;
mod tree;

pub use allocation::{Allocation, BlockRun, MAX_RUNS};
pub use block::{BLOCK, BlockDigest, ZERO_DIGEST, block_digest, blocks_in, is_zero};
pub use checksum::{DiskHasher, REGION, checksum, join_sums, region_sum, zero_sum};
pub use chunk::ChunkId;
pub use delta::{
    DeltaContent, DeltaError, DeltaHeader, DeltaRecord, DeltaTotals, HEADER_LEN, MAX_RUN, TRAILER_LEN, check_trailer,
    decode_header, decode_record, encode_header, encode_record, encode_trailer,
};
pub use digests::DigestMap;
pub use replica_point::ReplicaPoint;
pub use sealed::FormatError;
pub use tree::{DigestTree, LEVELS, NODE_BLOCKS, children_of, differing};
