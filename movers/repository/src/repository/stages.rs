//! How long each stage of a pipeline was busy, so that a run can name its bottleneck as the field does: source, proxy,
//! network, target.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Busy time of each stage, in nanoseconds summed over all threads.
#[derive(Debug, Default)]
pub struct Stages {
    source: AtomicU64,
    proxy: AtomicU64,
    target: AtomicU64,
}

/// A stage of the data path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Reading the disk.
    Source,
    /// Cutting, naming, looking up, compressing.
    Proxy,
    /// Sealing and writing packs, and waiting until they are durable.
    Target,
}

impl Stages {
    fn of(&self, stage: Stage) -> &AtomicU64 {
        match stage {
            Stage::Source => &self.source,
            Stage::Proxy => &self.proxy,
            Stage::Target => &self.target,
        }
    }

    /// Runs a part of a stage and counts its time.
    pub(super) fn time<T>(&self, stage: Stage, part: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let value = part();
        let spent = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.of(stage).fetch_add(spent, Ordering::Relaxed);
        value
    }

    /// Busy seconds of source, proxy and target.
    pub fn seconds(&self) -> [(&'static str, f64); 3] {
        let of = |stage| self.of(stage).load(Ordering::Relaxed) as f64 / 1e9;
        [("source", of(Stage::Source)), ("proxy", of(Stage::Proxy)), ("target", of(Stage::Target))]
    }

    /// The stage that was busy longest.
    pub fn bottleneck(&self) -> &'static str {
        let [first, rest @ ..] = self.seconds();
        rest.into_iter().fold(first, |most, stage| if stage.1 > most.1 { stage } else { most }).0
    }
}
