//! Units of time and size. A number crosses a function border only as one of these.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A wall-clock instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The latest instant there is.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// This instant plus a span, held at the ends of the range.
    #[must_use]
    pub const fn after(self, span: Millis) -> Timestamp {
        Timestamp(self.0.saturating_add_unsigned(span.0))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Timestamp) -> Millis {
        if self.0 <= earlier.0 { Millis(0) } else { Millis(self.0.abs_diff(earlier.0)) }
    }
}

/// A span of time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// A span of whole seconds.
    pub const fn from_secs(seconds: u64) -> Millis {
        Millis(seconds.saturating_mul(1_000))
    }

    /// A span of whole minutes.
    pub const fn from_mins(minutes: u64) -> Millis {
        Millis::from_secs(minutes.saturating_mul(60))
    }
}

/// A hybrid logical clock value: wall milliseconds and a counter for what happened within one of them.
/// For display, merging and retention edges; never for order, fencing or leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Hlc {
    /// Wall part.
    pub wall: Timestamp,
    /// Count within the wall part.
    pub count: u32,
}

impl Hlc {
    /// A remote time this far ahead of ours is not merged but alarmed (DESIGN: clocks).
    pub const MAX_AHEAD: Millis = Millis::from_mins(5);

    /// The clock after a local event at wall time `now`.
    #[must_use]
    pub fn tick(self, now: Timestamp) -> Hlc {
        if now > self.wall {
            Hlc { wall: now, count: 0 }
        } else {
            Hlc { wall: self.wall, count: self.count.saturating_add(1) }
        }
    }

    /// The clock after hearing `remote` at wall time `now`. A remote time more than [`Hlc::MAX_AHEAD`] ahead is
    /// left out: the second value is then false.
    #[must_use]
    pub fn merge(self, remote: Hlc, now: Timestamp) -> (Hlc, bool) {
        if remote.wall > now.after(Hlc::MAX_AHEAD) {
            return (self.tick(now), false);
        }
        (if remote > self { remote.tick(now) } else { self.tick(now) }, true)
    }
}

/// A count of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct ByteCount(pub u64);

impl std::ops::Add for ByteCount {
    type Output = ByteCount;
    fn add(self, other: ByteCount) -> ByteCount {
        ByteCount(self.0.saturating_add(other.0))
    }
}

impl std::iter::Sum for ByteCount {
    fn sum<I: Iterator<Item = ByteCount>>(counts: I) -> ByteCount {
        counts.fold(ByteCount(0), |sum, count| sum + count)
    }
}

impl fmt::Display for ByteCount {
    /// Binary units with one decimal: `1.5 MiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
        let mut unit = 0;
        let mut scale = 1u64;
        while unit + 1 < UNITS.len() && self.0 / scale >= 1024 {
            scale *= 1024;
            unit += 1;
        }
        if unit == 0 {
            return write!(f, "{} B", self.0);
        }
        write!(f, "{}.{} {}", self.0 / scale, self.0 % scale * 10 / scale, UNITS[unit])
    }
}
