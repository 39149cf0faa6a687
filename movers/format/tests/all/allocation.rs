//! Lists of allocated blocks: what they say, and that they stay bounded and whole.

use farshore_format::{Allocation, BLOCK, BlockRun, MAX_RUNS};
use proptest::prelude::*;
use std::collections::BTreeSet;

const B: u64 = BLOCK as u64;

fn run(start: u64, blocks: u64) -> BlockRun {
    BlockRun { start, blocks }
}

fn blocks(allocation: &Allocation) -> BTreeSet<u64> {
    allocation.runs().iter().flat_map(|run| run.start..run.end()).collect()
}

fn of(runs: &[(u64, u64)]) -> Allocation {
    Allocation::of_ranges(runs.iter().map(|(start, blocks)| start * B..(start + blocks) * B))
}

#[test]
fn ranges_go_out_to_whole_blocks_and_join_where_they_meet() {
    let allocation = Allocation::of_ranges([100..200, 300..B + 1, 2 * B..3 * B, 5 * B..5 * B, 9 * B + 7..10 * B - 1]);
    assert_eq!(allocation.runs(), [run(0, 3), run(9, 1)]);
    assert_eq!(allocation.runs()[1].span(9 * B + 50), (9 * B, 50), "the disk's last block is short");
    assert!(allocation.fits(9 * B + 50) && !allocation.fits(9 * B));
}

#[test]
fn a_list_that_would_be_too_long_counts_its_smallest_holes_as_allocated() {
    // Every second block, and one hole in a hundred is large: those stay.
    let mut at = 0;
    let pieces = 5 * MAX_RUNS as u64;
    let ranges: Vec<_> = (0..pieces)
        .map(|piece| {
            at += if piece % 100 == 99 { 1000 } else { 1 };
            at += 1;
            (at - 1) * B..at * B
        })
        .collect();
    let allocation = Allocation::of_ranges(ranges.clone());
    assert!(allocation.runs().len() <= MAX_RUNS, "{} runs", allocation.runs().len());
    let end = ranges.last().unwrap().end / B;
    let holes = end - allocation.blocks();
    assert!(holes >= pieces / 100 * 1000, "{holes} of {end} blocks are left as holes");
    let covered = |range: &std::ops::Range<u64>| {
        let at = allocation.runs().partition_point(|run| run.end() * B <= range.start);
        allocation.runs()[at].start * B <= range.start
    };
    assert!(ranges.iter().all(covered), "nothing that was allocated is lost");
    assert_eq!(Allocation::from_bytes(&allocation.to_bytes(), end * B), Some(allocation));
}

#[test]
fn what_is_no_list_of_the_disk_is_refused() {
    let size = 100 * B;
    let bytes = |runs: &[(u64, u64)]| -> Vec<u8> {
        runs.iter().flat_map(|(start, blocks)| [start.to_le_bytes(), blocks.to_le_bytes()].concat()).collect()
    };
    assert_eq!(Allocation::from_bytes(&bytes(&[(1, 2), (4, 96)]), size), Some(of(&[(1, 2), (4, 96)])));
    for wrong in [&[(4, 97)][..], &[(1, 0)], &[(1, 2), (3, 1)], &[(5, 1), (1, 1)], &[(u64::MAX, 1)], &[(1, u64::MAX)]] {
        assert_eq!(Allocation::from_bytes(&bytes(wrong), size), None, "{wrong:?}");
    }
    assert_eq!(Allocation::from_bytes(&bytes(&[(1, 2)])[..15], size), None);
    let long: Vec<(u64, u64)> = (0..=MAX_RUNS as u64).map(|at| (2 * at, 1)).collect();
    assert_eq!(Allocation::from_bytes(&bytes(&long), u64::MAX), None);
    assert!(Allocation::from_bytes(&bytes(&long[1..]), u64::MAX).is_some());
}

proptest! {
    #[test]
    fn union_and_difference_are_those_of_sets(
        a in prop::collection::vec((0u64..200, 1u64..20), 0..12),
        b in prop::collection::vec((0u64..200, 1u64..20), 0..12),
    ) {
        let sorted = |mut runs: Vec<(u64, u64)>| { runs.sort_unstable(); of(&runs) };
        let (a, b) = (sorted(a), sorted(b));
        let (in_a, in_b) = (blocks(&a), blocks(&b));
        prop_assert_eq!(blocks(&a.union(&b)), &in_a | &in_b);
        let without: BTreeSet<u64> = a.without(&b).iter().flat_map(|run| run.start..run.end()).collect();
        prop_assert_eq!(without, &in_a - &in_b);
        prop_assert_eq!(Allocation::from_bytes(&a.to_bytes(), 300 * B), Some(a));
    }
}
