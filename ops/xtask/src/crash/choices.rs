//! Chance from a seed: which process dies when, and what an operator does next. Timing on a real machine differs from run
//! to run, so a seed gives the same choices, not the same run.

use std::ops::Range;
use std::time::Duration;

/// A `SplitMix64` generator: small, and the same everywhere.
pub(crate) struct Choices(u64);

impl Choices {
    /// One stream of choices; `stream` tells those of one run apart.
    pub(crate) fn new(seed: u64, stream: u64) -> Choices {
        let mut choices =
            Choices(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03));
        choices.number();
        choices
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of a range that is not empty.
    pub(crate) fn of(&mut self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start)
    }

    /// True in so many cases of a hundred.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.of(0..100) < percent
    }

    /// A span of so many milliseconds.
    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.of(range))
    }
}
