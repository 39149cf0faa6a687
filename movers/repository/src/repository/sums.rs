//! A disk's checksum out of its regions: BLAKE3 is a tree, and regions are aligned subtrees of it, so that threads can hash
//! them side by side and the whole is still plain BLAKE3 over the disk's content in order.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use farshore_schemas::ids::Digest;

/// The part of BLAKE3's tree over the disk that a region is: regions are aligned subtrees of it.
pub(super) fn chaining_value(content: &[u8], start: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(start);
    hasher.update(content);
    hasher.finalize_non_root()
}

/// BLAKE3 of a whole disk from its regions' chaining values; a disk of one region has none above it.
pub(super) fn join_sums(sums: &[[u8; 32]]) -> Option<Digest> {
    fn split(count: usize) -> usize {
        // The largest power of two below the count: the left subtree is always whole.
        1 << (count - 1).ilog2()
    }
    fn node(sums: &[[u8; 32]]) -> [u8; 32] {
        match sums {
            [one] => *one,
            many => {
                let (left, right) = many.split_at(split(many.len()));
                merge_subtrees_non_root(&node(left), &node(right), Mode::Hash)
            }
        }
    }
    if sums.len() < 2 {
        return None;
    }
    let (left, right) = sums.split_at(split(sums.len()));
    Some(Digest(*merge_subtrees_root(&node(left), &node(right), Mode::Hash).as_bytes()))
}
