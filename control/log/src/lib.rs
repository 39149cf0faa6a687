//! The event log of a site: segment files with group commit, recovery, verify, sealing, baselines and export, a log in
//! memory with the same port, and the sled view of what can be rebuilt. `docs/formats/log.md` describes every byte.
//!
//! The runtime appends through `farshore_runtime::log_port::EventLog`; everything that reads goes through [`ReadLog`].
//! What frames mean is not known here: this crate checks their crcs, order, lineage and chain, and keeps them.

mod append;
mod archive;
mod baseline;
mod catalog;
mod chain;
mod disk;
mod error;
mod export;
mod folder;
mod group;
mod header;
mod hint;
mod import;
mod keys;
mod log;
mod memory;
mod plain;
mod read;
mod recover;
mod scan;
mod seal;
mod sealed;
mod segment;
mod verify;
mod view;

pub use append::QUEUE;
pub use archive::{Archived, archivable, archive};
pub use baseline::{
    Baseline, Held, Ignored, Unfit, baselines, newest as newest_baseline, put_aside as put_baseline_aside,
};
pub use disk::{Disk, RealDisk, SegmentFile};
pub use error::{LogError, Problem, ProblemKind, SeqRange};
pub use export::{Export, export};
pub use folder::{Hold, hold};
pub use group::{GROUP_ALIGN, GROUP_HEADER_LEN, GROUP_MAGIC, GroupHeader, MAX_GROUP, MIN_PADDING, PADDING};
pub use header::{Form, SEGMENT_HEADER_LEN, SEGMENT_MAGIC, SEGMENT_VERSION, SegmentHeader};
pub use import::Import;
pub use keys::{PublicKey, SiteKey, list_keys, listed_keys};
pub use log::{LogOptions, Lost, OnSealed, Opened, SegmentLog};
pub use memory::{MemoryLog, MemoryStore};
pub use read::{Frames, LogReader, ReadLog, StoredFrame};
pub use recover::Recovered;
pub use sealed::{BLOCK_TARGET, INDEX_ENTRY_LEN, TRAILER_LEN, TRAILER_MAGIC};
pub use segment::Layout;
pub use verify::{Report, verify};
pub use view::{Change, View, ViewState};
