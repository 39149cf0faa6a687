//! What the tests of the log share: frames that are right, and appending them one at a time or many at once.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use farshore_log::{Layout, LogOptions, Opened, ReadLog, SegmentLog};
use farshore_runtime::log_port::{EventLog, LogFailure, NewFrame};
use farshore_schemas::frame::{self, EventsSection, FrameParts, Input, InputSection, SendsSection, Verdict};
use farshore_schemas::ids::{Digest, Lineage, Seq, SiteName};
use farshore_schemas::units::{Hlc, Timestamp};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

pub(crate) const LINEAGE: Lineage = Lineage([7; 16]);
pub(crate) const SMALL: Layout = Layout { segment_bytes: 4 << 10, ahead_bytes: 1 << 10 };

pub(crate) fn site() -> SiteName {
    SiteName::parse("hq").unwrap()
}

/// A folder in memory where there is one: for tests that sync thousands of times and ask nothing of the disk.
pub(crate) fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Makes frames that follow one another.
#[derive(Clone)]
pub(crate) struct Maker {
    pub(crate) lineage: Lineage,
    pub(crate) last: Seq,
    pub(crate) chain: Digest,
    /// Bytes in the events of each frame.
    pub(crate) payload: usize,
}

impl Maker {
    pub(crate) fn after((last, chain): (Seq, Digest), lineage: Lineage) -> Maker {
        Maker { lineage, last, chain, payload: 40 }
    }

    pub(crate) fn new() -> Maker {
        Maker::after((Seq(0), frame::genesis_hash(LINEAGE)), LINEAGE)
    }

    pub(crate) fn next(&mut self) -> NewFrame {
        let seq = self.last.next();
        let hlc = Hlc { wall: Timestamp(1_700_000_000_000), count: seq.0 as u32 };
        let actor: farshore_schemas::ids::EntityId = "job/nightly".parse().unwrap();
        let input = InputSection {
            actor: actor.clone(),
            actor_seq: seq.0,
            owner_epoch: 1,
            core: 1,
            at: hlc.wall,
            hlc,
            input: Input::Wake,
        };
        // An array of numbers, some of which are zero bytes.
        let mut events = vec![0xdc, (self.payload >> 8) as u8, self.payload as u8];
        events.extend((0..self.payload).map(|at| ((at as u64 * 7 + seq.0) % 128) as u8));
        let events = EventsSection {
            actor,
            actor_seq: seq.0,
            hlc,
            verdict: Verdict::Accepted,
            mark: None,
            acked: Vec::new(),
            events,
        };
        let sends = SendsSection { sends: Vec::new(), principal: "hq".to_owned(), trace: None };
        let parts = FrameParts {
            seq,
            lineage: self.lineage,
            site: frame::site_tag(&site()),
            input: &input,
            events: &events,
            sends: &sends,
            state_hash: seq.0.is_multiple_of(4).then_some(Digest([3; 32])),
            previous: self.chain,
        };
        let (bytes, hash) = frame::encode(&parts).unwrap();
        self.last = seq;
        self.chain = hash;
        NewFrame { seq, bytes, hash }
    }
}

pub(crate) fn options(dir: &Path, layout: Layout) -> LogOptions {
    LogOptions { layout, ..LogOptions::new(dir, &site(), LINEAGE) }
}

pub(crate) fn open(dir: &Path, layout: Layout) -> Opened {
    SegmentLog::open(&options(dir, layout)).unwrap()
}

/// Appends frames one after the other, each made durable alone.
pub(crate) fn append_each(log: &dyn EventLog, maker: &mut Maker, count: usize) {
    for _ in 0..count {
        append(log, maker.next()).unwrap();
    }
}

/// Appends one frame and waits.
pub(crate) fn append(log: &dyn EventLog, frame: NewFrame) -> Result<(), LogFailure> {
    let (done, outcome) = channel();
    log.append(frame, Box::new(move |result| done.send(result).unwrap()));
    outcome.recv().unwrap()
}

/// Makes a log of `count` frames, each a group of its own, and stops cleanly.
pub(crate) fn make(dir: &Path, layout: Layout, count: usize) -> Maker {
    let opened = open(dir, layout);
    let mut maker = Maker::after(opened.tail, opened.lineage);
    append_each(&opened.log, &mut maker, count);
    maker
}

/// Every frame from `from`.
pub(crate) fn read_all(log: &dyn ReadLog, from: Seq) -> Vec<Vec<u8>> {
    let mut frames = log.frames_from(from).unwrap();
    let mut all = Vec::new();
    while let Some(frame) = frames.next().unwrap() {
        all.push(frame.bytes.to_vec());
    }
    all
}

/// Every file under a folder with its bytes, without the lock file.
pub(crate) fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(snapshot(&path));
        } else if path.file_name().unwrap() != "lock" {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    files
}

/// The segment files of a log, by name.
pub(crate) fn segment_files(dir: &Path) -> Vec<PathBuf> {
    snapshot(&dir.join("log")).into_keys().filter(|path| path.to_string_lossy().contains("seg-")).collect()
}
