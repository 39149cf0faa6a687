//! What the wiring plugs into the runtime.

use farshore_kernel::entity::Memory;
use farshore_schemas::ids::{Digest, EntityId, Seq};
use farshore_schemas::units::Timestamp;
use std::sync::Arc;

/// The only clock of the control plane. Its reading goes into the frame; deciders never see it otherwise.
pub trait Clock: Send + Sync {
    /// The wall time now.
    fn now(&self) -> Timestamp;
}

/// The system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Changes for the view: all entries that changed up to a frame that is durable. Applied whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewBatch {
    /// The last frame that the values contain.
    pub seq: Seq,
    /// Its hash.
    pub hash: Digest,
    /// Key and value of each entry that changed.
    pub changes: Vec<(String, Vec<u8>)>,
}

/// A view that takes batches, in order; it may take its time, since it can always be rebuilt from the log.
pub trait ViewSink: Send {
    /// Takes a batch.
    fn apply(&self, batch: ViewBatch);

    /// Waits until everything taken so far is stored.
    fn flush(&self);
}

/// No view: everything is folded from the log at start.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoView;

impl ViewSink for NoView {
    fn apply(&self, _batch: ViewBatch) {}
    fn flush(&self) {}
}

/// The view's key of an actor.
pub fn entity_key(id: &EntityId) -> String {
    format!("entity/{id}")
}

/// The view's key of what all actors share.
pub const SEQUENCER_KEY: &str = "sequencer";

/// Folds one actor anew from the log's durable frames up to a seq. Called on a blocking thread after an actor panicked.
pub type Rebuild = Arc<dyn Fn(&EntityId, Seq) -> Result<Memory, String> + Send + Sync>;
