//! Digests, trees, and checksums: what they say of disks.

use crate::samples::noise;
use farshore_format::{
    BLOCK, DigestMap, DigestTree, DiskHasher, LEVELS, NODE_BLOCKS, ZERO_DIGEST, block_digest, checksum, differing,
    is_zero,
};
use proptest::prelude::*;

#[test]
fn zero_blocks_have_the_zero_digest_whatever_their_length() {
    for length in [0, 1, 63, 64, 65, 700, BLOCK] {
        let mut block = vec![0; length];
        assert!(is_zero(&block));
        assert_eq!(block_digest(&block), ZERO_DIGEST);
        if length > 0 {
            block[length - 1] = 1;
            assert!(!is_zero(&block));
            assert_eq!(block_digest(&block)[..], blake3::hash(&block).as_bytes()[..16]);
        }
    }
}

#[test]
fn a_hole_in_the_checksum_is_the_same_as_its_zeros() {
    let data = noise(1, 10_000);
    let mut hasher = DiskHasher::new();
    hasher.data(&data);
    hasher.zeros(300_001);
    hasher.data(&data[..77]);
    let whole = [&data[..], &vec![0; 300_001], &data[..77]].concat();
    assert_eq!(hasher.finish(), checksum(&whole));
    assert_eq!(hasher.finish().0, *blake3::hash(blake3::hash(&whole).as_bytes()).as_bytes());
    assert_eq!(hasher.position(), whole.len() as u64);
}

/// Blocks that two ends find to differ by exchanging levels, and the digests that had to be sent for it.
fn find(mine: &DigestMap, theirs: &DigestMap) -> (Vec<u64>, usize) {
    let (mine, theirs) = (DigestTree::of(mine), DigestTree::of(theirs));
    let mut sent = mine.level(0).len();
    let mut nodes = differing(mine.level(0), theirs.level(0));
    for level in 0..LEVELS - 1 {
        let children = mine.children(level, &nodes);
        assert_eq!(children, theirs.children(level, &nodes));
        sent += children.len();
        let differs = differing(&mine.nodes(level + 1, &children), &theirs.nodes(level + 1, &children));
        nodes = differs.into_iter().map(|at| children[at as usize]).collect();
    }
    (nodes, sent)
}

#[test]
fn one_changed_block_in_a_large_disk_costs_its_path_only() {
    let mut mine = DigestMap::zero(1 << 30);
    for block in (0..1 << 18).step_by(3) {
        mine.set(block, [block as u8; 16]);
    }
    let mut theirs = mine.clone();
    theirs.set(100_000, [0xee; 16]);
    assert_eq!(find(&mine, &theirs), (vec![100_000], 1024 + 16 + 16));
    assert_ne!(mine.fingerprint(), theirs.fingerprint());
    assert_eq!(find(&mine, &mine.clone()), (vec![], 1024));
}

proptest! {
    #[test]
    fn the_tree_finds_exactly_the_blocks_that_differ(
        blocks in 1u64..5000,
        changes in prop::collection::btree_set(0u64..5000, 0..60),
        short in 1u64..=BLOCK as u64,
    ) {
        let size = (blocks - 1) * BLOCK as u64 + short;
        let mut mine = DigestMap::zero(size);
        (0..blocks).filter(|block| block % 5 != 0).for_each(|block| { mine.set(block, [block as u8 | 1; 16]); });
        let mut theirs = mine.clone();
        let changed: Vec<u64> = changes.into_iter().filter(|block| theirs.set(*block, [0xff; 16])).collect();
        let wanted: Vec<u64> = changed.into_iter().filter(|block| mine.get(*block) != theirs.get(*block)).collect();
        prop_assert_eq!(find(&mine, &theirs).0, wanted);
        let tree = DigestTree::of(&mine);
        for (level, blocks_per_node) in NODE_BLOCKS.iter().enumerate() {
            prop_assert_eq!(tree.level(level).len() as u64, blocks.div_ceil(*blocks_per_node));
        }
    }
}
