//! The port that a log implements: it takes whole frames in order and says when each is durable. The runtime never waits for
//! the disk on its arbiter: it goes on deciding, and releases a frame's sends and answers when the log says so.

use farshore_schemas::ids::{Digest, Seq};

/// A frame ready for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFrame {
    /// Its place: exactly one after the frame before.
    pub seq: Seq,
    /// All its bytes.
    pub bytes: Vec<u8>,
    /// Its hash: what the next frame names as the one before.
    pub hash: Digest,
}

/// Why a frame is not durable. After any of these the log takes nothing more: stop, reopen, recover.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogFailure {
    /// Writing or syncing failed. A failed fsync is never tried again.
    #[error("the event log could not be written: {0}")]
    Io(String),
    /// The frame is not the next one.
    #[error("frame {found} was appended where {expected} is next")]
    OutOfOrder {
        /// The seq that was offered.
        found: Seq,
        /// The seq that is next.
        expected: Seq,
    },
    /// An earlier append failed.
    #[error("the event log stopped after an earlier failure")]
    Stopped,
}

/// Called once with the outcome, on a thread of the log's.
pub type OnDurable = Box<dyn FnOnce(Result<(), LogFailure>) + Send>;

/// A log that takes frames.
pub trait EventLog: Send {
    /// Appends a frame and returns at once. `on_durable` is called after fdatasync has returned, in the order of appends;
    /// frames that come while the disk is busy are made durable together (group commit).
    fn append(&self, frame: NewFrame, on_durable: OnDurable);

    /// The last frame that is durable, with its hash.
    fn durable_tail(&self) -> (Seq, Digest);
}
