//! What happens next: a heap ordered by virtual time, with ties broken by a permutation that follows from the seed, so that
//! things of the same millisecond come in another order under another seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// See the module. `E` is whatever can happen.
#[derive(Debug)]
pub(crate) struct Schedule<E> {
    heap: BinaryHeap<Reverse<Item<E>>>,
    seed: u64,
    count: u64,
    now: i64,
}

#[derive(Debug)]
struct Item<E> {
    at: i64,
    tie: u64,
    event: E,
}

impl<E> PartialEq for Item<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.tie) == (other.at, other.tie)
    }
}
impl<E> Eq for Item<E> {}
impl<E> PartialOrd for Item<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Item<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tie).cmp(&(other.at, other.tie))
    }
}

impl<E> Schedule<E> {
    /// An empty one that begins at `now` (milliseconds since 1970).
    pub(crate) fn new(seed: u64, now: i64) -> Self {
        Schedule { heap: BinaryHeap::new(), seed, count: 0, now }
    }

    /// Virtual time.
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    /// Lets something happen `span` milliseconds from now.
    pub(crate) fn after(&mut self, span: u64, event: E) {
        self.at(self.now.saturating_add_unsigned(span), event);
    }

    /// Lets something happen at a time, at once if it has passed.
    pub(crate) fn at(&mut self, at: i64, event: E) {
        self.count += 1;
        // A bijection of the count: no two items of a run have the same tie.
        let tie = permute(self.count ^ self.seed.rotate_left(17));
        self.heap.push(Reverse(Item { at: at.max(self.now), tie, event }));
    }

    /// The next thing, with time moved on to it.
    pub(crate) fn pop(&mut self) -> Option<E> {
        let Reverse(item) = self.heap.pop()?;
        assert!(item.at >= self.now, "time does not run backwards");
        self.now = item.at;
        Some(item.event)
    }
}

fn permute(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64) -> Vec<u32> {
        let mut schedule = Schedule::new(seed, 0);
        (0..20).for_each(|n| schedule.at(5, n));
        schedule.at(1, 100);
        std::iter::from_fn(|| schedule.pop()).collect()
    }

    #[test]
    fn time_orders_and_the_seed_breaks_ties() {
        assert_eq!(order(1)[0], 100);
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }
}
