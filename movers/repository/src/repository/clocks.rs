//! What time it is for what must stay until a date. The machine's clock counts, but not where it is ahead of what monotonic
//! time says since the folder was opened: a clock that is set forward while the agent runs ends nothing early.

use super::trash::Monotonic;
use farshore_schemas::units::{Millis, Timestamp};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far a clock may be corrected while it runs, before it counts as set.
const CORRECTION: Millis = Millis::from_mins(5);

/// The clocks of a machine.
pub trait Clock: Send + Sync {
    /// What time it is.
    fn wall(&self) -> Timestamp;

    /// Monotonic time since some moment in the life of this process.
    fn monotonic(&self) -> Monotonic;
}

/// This machine's.
struct Machine(Instant);

impl Clock for Machine {
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Monotonic {
        self.0.elapsed()
    }
}

/// A clock, with what it showed when the folder was opened.
#[derive(Clone)]
pub(super) struct Clocks {
    clock: Arc<dyn Clock>,
    opened: (Timestamp, Monotonic),
}

impl std::fmt::Debug for Clocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clocks").field("opened", &self.opened).finish_non_exhaustive()
    }
}

impl Clocks {
    pub(super) fn machine() -> Clocks {
        Clocks::of(Arc::new(Machine(Instant::now())))
    }

    pub(super) fn of(clock: Arc<dyn Clock>) -> Clocks {
        let opened = (clock.wall(), clock.monotonic());
        Clocks { clock, opened }
    }

    /// What the machine's clock says.
    pub(super) fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    /// What time it is, at the latest.
    pub(super) fn now(&self) -> Timestamp {
        let (wall, monotonic) = self.opened;
        let passed = self.clock.monotonic().saturating_sub(monotonic);
        let passed = Millis(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        self.clock.wall().min(wall.after(passed).after(CORRECTION))
    }
}
