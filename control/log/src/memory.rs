//! A log in memory: the same port and the same reading, for tests and tools that need no disk. What is appended
//! outlives the log as long as a clone of its [`MemoryStore`] does, which is how a test "restarts".

use crate::append::{Appender, Sink};
use crate::chain::{Chain, frame_hash};
use crate::error::LogError;
use crate::read::{ChunkPlace, Frames, ReadLog, Source};
use farshore_runtime::log_port::{EventLog, LogFailure, NewFrame, OnDurable};
use farshore_schemas::frame::{genesis_hash, site_tag};
use farshore_schemas::ids::{Digest, Lineage, Seq, SiteName};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
struct Kept {
    frames: Vec<Arc<[u8]>>,
    tail: (Seq, Digest),
    lineage: Lineage,
    fail_at: Option<Seq>,
}

/// What a log in memory has made durable.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    kept: Arc<Mutex<Kept>>,
    site: SiteName,
}

impl MemoryStore {
    /// An empty one.
    pub fn new(site: &SiteName, lineage: Lineage) -> MemoryStore {
        let tail = (Seq(0), genesis_hash(lineage));
        let kept = Kept { frames: Vec::new(), tail, lineage, fail_at: None };
        MemoryStore { kept: Arc::new(Mutex::new(kept)), site: site.clone() }
    }

    /// Lets the append of `seq` fail, as a disk would.
    pub fn fail_at(&self, seq: Seq) {
        self.with(|kept| kept.fail_at = Some(seq));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Kept) -> T) -> T {
        act(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ReadLog for MemoryStore {
    fn first(&self) -> Seq {
        Seq(1)
    }

    fn tail(&self) -> (Seq, Digest) {
        self.with(|kept| kept.tail)
    }

    fn lineage(&self) -> Lineage {
        self.with(|kept| kept.lineage)
    }

    fn frames_from(&self, seq: Seq) -> Result<Frames, LogError> {
        let last = self.tail().0;
        if seq < Seq(1) {
            return Err(LogError::NotHere { seq, first: Seq(1), last });
        }
        Ok(Frames::new(Source::Memory(MemorySource(self.clone())), seq, last))
    }
}

/// Gives frames out of memory.
pub(crate) struct MemorySource(MemoryStore);

impl MemorySource {
    pub(crate) fn fill(&mut self, chunk: &mut Vec<u8>, next: Seq) -> Option<ChunkPlace> {
        let at = usize::try_from(next.0.checked_sub(1)?).ok()?;
        let frame = self.0.with(|kept| kept.frames.get(at).cloned())?;
        chunk.extend_from_slice(&frame);
        Some(ChunkPlace { file: PathBuf::from("memory"), offset: 0, block: None })
    }
}

/// A log in memory.
pub struct MemoryLog {
    appender: Appender,
    store: MemoryStore,
}

impl MemoryLog {
    /// Goes on where the store ends.
    pub fn open(store: &MemoryStore) -> MemoryLog {
        let (tail, lineage) = store.with(|kept| {
            kept.fail_at = None;
            (kept.tail, kept.lineage)
        });
        let chain = Chain { lineage, site: site_tag(&store.site), next: tail.0.next(), previous: tail.1 };
        let appender = Appender::start("memory-log", chain, MemorySink(store.clone()));
        MemoryLog { appender, store: store.clone() }
    }

    /// Reads what is durable at the time of each call.
    pub fn reader(&self) -> MemoryStore {
        self.store.clone()
    }
}

impl EventLog for MemoryLog {
    fn append(&self, frame: NewFrame, on_durable: OnDurable) {
        self.appender.append(frame, on_durable);
    }

    fn durable_tail(&self) -> (Seq, Digest) {
        self.appender.durable().tail()
    }
}

struct MemorySink(MemoryStore);

impl Sink for MemorySink {
    fn commit(&mut self, group: &[NewFrame], before: &Chain, after: &Chain) -> Result<(), LogFailure> {
        debug_assert_eq!(before.next, group[0].seq);
        self.0.with(|kept| {
            if let Some(failing) = kept.fail_at.filter(|seq| group.iter().any(|frame| frame.seq == *seq)) {
                return Err(LogFailure::Io(format!("frame {failing} was told to fail")));
            }
            kept.frames.extend(group.iter().map(|frame| Arc::from(frame.bytes.as_slice())));
            debug_assert_eq!(group.last().map(|frame| frame_hash(&frame.bytes)), Some(after.previous));
            kept.tail = after.tail();
            kept.lineage = after.lineage;
            Ok(())
        })
    }

    fn close(&mut self) {}
}
