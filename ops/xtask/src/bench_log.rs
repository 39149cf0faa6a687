//! Measures the event log beside the raw limit of the same disk: durable appends by one writer and by many at once, and
//! opening a long log with and without its view. Gives JSON; times are in the unit that their name ends in.

use farshore_log::{LogError, LogOptions, ReadLog, SegmentLog, View, ViewState};
use farshore_runtime::log_port::{EventLog, LogFailure, NewFrame};
use farshore_schemas::codec;
use farshore_schemas::frame::{
    self, EventsSection, FrameError, FrameParts, Input, InputSection, SendsSection, Verdict,
};
use farshore_schemas::ids::{Digest, EntityId, Kind, Lineage, Name, Seq, SiteName};
use farshore_schemas::messages::job;
use farshore_schemas::units::{Hlc, Timestamp};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is measured and how much of it.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// A folder on the disk that is measured; a temporary one is made in it and removed.
    pub(crate) folder: PathBuf,
    /// Appends of one writer, and raw writes one by one.
    pub(crate) single: u64,
    /// Appends of all writers together, and frames in raw groups.
    pub(crate) many: u64,
    /// How many write at once.
    pub(crate) writers: u64,
    /// Frames in the log that is opened.
    pub(crate) opened: u64,
    /// Entries in its view.
    pub(crate) entries: u64,
}

impl Plan {
    /// What the figures in the README are from.
    pub(crate) fn full(folder: &Path) -> Plan {
        Plan {
            folder: folder.to_owned(),
            single: 20_000,
            many: 400_000,
            writers: 64,
            opened: 1_000_000,
            entries: 10_000,
        }
    }
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The disk said no.
    #[error("FS-BENCH-IO: the measurement stopped: {0}")]
    Io(#[from] io::Error),
    /// The log said no.
    #[error("FS-BENCH-LOG: the measurement stopped: {0}")]
    Log(#[from] LogError),
    /// An append said no.
    #[error("FS-BENCH-APPEND: the measurement stopped: {0}")]
    Append(#[from] LogFailure),
    /// A frame that was written cannot be read.
    #[error("FS-BENCH-FRAME: the measurement stopped: {0}")]
    Frame(#[from] FrameError),
    /// The log that was opened is not the one that was made.
    #[error("FS-BENCH-WRONG: the measurement stopped: {0}")]
    Wrong(&'static str),
}

/// Runs all of it.
///
/// # Errors
/// [`BenchError`].
pub(crate) fn run(plan: &Plan) -> Result<Value, BenchError> {
    let folder = tempfile::tempdir_in(&plan.folder)?;
    let frame_len = Maker::new().next().bytes.len();
    let raw_single = raw(&folder.path().join("raw"), frame_len, plan.single, 1)?;
    let raw_group = raw(&folder.path().join("raw"), frame_len, plan.many, 100)?;
    let single = appends(&folder.path().join("single"), 1, plan.single)?;
    let many = appends(&folder.path().join("many"), plan.writers, plan.many)?;
    let opening = opening(&folder.path().join("opened"), plan)?;
    let ratio = |ours: &Value, raw: &Value| {
        let rate = |value: &Value| value["per_second"].as_f64().unwrap_or(0.0);
        if rate(raw) > 0.0 { rate(ours) / rate(raw) } else { 0.0 }
    };
    Ok(json!({
        "frame_bytes": frame_len,
        "one_writer": { "raw": raw_single, "log": single, "of_raw": ratio(&single, &raw_single), "aim_of_raw": 0.8 },
        "many_writers": {
            "writers": plan.writers,
            "raw_groups_of_100": raw_group,
            "log": many,
            "of_raw": ratio(&many, &raw_group),
            "must_per_second": 50_000,
        },
        "open": opening,
    }))
}

/// Write and fdatasync into a file whose space is there already, `group` frames at a time.
fn raw(path: &Path, frame_len: usize, frames: u64, group: u64) -> Result<Value, BenchError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    let bytes = vec![0xA5; frame_len * usize::try_from(group).map_err(io::Error::other)?];
    let room = 8 << 20;
    file.write_all_at(&vec![0; room], 0)?;
    file.sync_all()?;
    let mut taken = Vec::new();
    let started = Instant::now();
    let mut at = 0;
    for _ in 0..frames.div_ceil(group) {
        let begun = Instant::now();
        if at + bytes.len() > room {
            at = 0;
        }
        file.write_all_at(&bytes, at as u64)?;
        file.sync_data()?;
        at += bytes.len();
        taken.push(begun.elapsed());
    }
    Ok(figures(taken, started.elapsed(), frames))
}

/// Appends through the log, each writer waiting for its frame before it sends the next.
fn appends(dir: &Path, writers: u64, frames: u64) -> Result<Value, BenchError> {
    let opened = SegmentLog::open(&LogOptions::new(dir, &site(), LINEAGE))?;
    let log = Mutex::new((opened.log, Maker::new()));
    let each = frames / writers;
    let started = Instant::now();
    let taken = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers).map(|_| scope.spawn(|| write_each(&log, each))).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| BenchError::Wrong("a writer panicked"))??);
        }
        Ok::<_, BenchError>(all)
    })?;
    let count = taken.len() as u64;
    Ok(figures(taken, started.elapsed(), count))
}

fn write_each(log: &Mutex<(SegmentLog, Maker)>, count: u64) -> Result<Vec<Duration>, BenchError> {
    let (done, outcome) = sync_channel(1);
    let mut taken = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        {
            let mut held = log.lock().unwrap_or_else(PoisonError::into_inner);
            let frame = held.1.next();
            let done = done.clone();
            held.0.append(frame, Box::new(move |result| _ = done.send(result)));
        }
        outcome.recv().map_err(|_| BenchError::Wrong("the log dropped a callback"))??;
        taken.push(begun.elapsed());
    }
    Ok(taken)
}

/// Makes a long log with a view, then opens it.
fn opening(dir: &Path, plan: &Plan) -> Result<Value, BenchError> {
    let tail = make_long(dir, plan)?;
    let begun = Instant::now();
    let opened = SegmentLog::open(&LogOptions::new(dir, &site(), LINEAGE))?;
    let log_alone = begun.elapsed();
    let state = View::open(dir, &opened.log.reader())?;
    let with_view = begun.elapsed();
    let ViewState::Ready(view) = state else {
        return Err(BenchError::Wrong("the view was not believed"));
    };
    if opened.tail != tail || view.opened_at() != tail {
        return Err(BenchError::Wrong("the log was opened at another frame than it ended with"));
    }
    drop((view, opened));
    std::fs::remove_dir_all(dir.join("view"))?;
    let begun = Instant::now();
    let opened = SegmentLog::open(&LogOptions::new(dir, &site(), LINEAGE))?;
    let view = View::open(dir, &opened.log.reader())?.into_view();
    let read = fold_into(&view, &opened.log.reader(), plan.entries)?;
    view.flush();
    let without_view = begun.elapsed();
    if view.applied() != tail {
        return Err(BenchError::Wrong("the view did not reach the tail"));
    }
    drop((view, opened));
    Ok(json!({
        "frames": plan.opened,
        "entries": plan.entries,
        "bytes_on_disk": folder_bytes(&dir.join("log"))?,
        "log_alone_ms": millis(log_alone),
        "with_view_ms": millis(with_view),
        "must_with_view_ms": 1000,
        "without_view_ms": millis(without_view),
        "read_frames_per_second": plan.opened as f64 / read.as_secs_f64(),
    }))
}

/// Appends without waiting for each frame; the view has `entries` entries and reflects the last frame.
fn make_long(dir: &Path, plan: &Plan) -> Result<(Seq, Digest), BenchError> {
    let opened = SegmentLog::open(&LogOptions::new(dir, &site(), LINEAGE))?;
    let view = View::open(dir, &opened.log.reader())?.into_view();
    let mut maker = Maker::new();
    let (done, outcomes) = channel();
    for _ in 0..plan.opened {
        let done = done.clone();
        opened.log.append(maker.next(), Box::new(move |result| _ = done.send(result)));
    }
    all_durable(&outcomes, plan.opened)?;
    let tail = opened.log.durable_tail();
    let changes = (0..plan.entries).map(|at| (format!("entity/vm/{at}"), Some(vec![1; 500]))).collect();
    view.apply(tail.0, tail.1, changes);
    view.flush();
    Ok(tail)
}

fn all_durable(outcomes: &Receiver<Result<(), LogFailure>>, count: u64) -> Result<(), BenchError> {
    for _ in 0..count {
        outcomes.recv().map_err(|_| BenchError::Wrong("the log dropped a callback"))??;
    }
    Ok(())
}

/// Reads every frame and its events section, and puts something of each into the view. How long reading alone took.
fn fold_into(view: &View, log: &dyn ReadLog, entries: u64) -> Result<Duration, BenchError> {
    let begun = Instant::now();
    let mut frames = log.frames_from(Seq(1))?;
    let mut bytes = 0;
    while let Some(frame) = frames.next()? {
        bytes += frame.bytes.len();
    }
    let read = begun.elapsed();
    std::hint::black_box(bytes);
    let (last, head) = log.tail();
    let mut frames = log.frames_from(Seq(1))?;
    while let Some(frame) = frames.next()? {
        let seq = frame.seq();
        let events = frame.raw.events_section()?;
        if seq.0 > last.0.saturating_sub(entries) {
            let hash = if seq == last { head } else { frame.hash() };
            view.apply(seq, hash, vec![(format!("entity/vm/{}", seq.0), Some(events.events))]);
        }
    }
    Ok(read)
}

fn folder_bytes(folder: &Path) -> Result<u64, BenchError> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

fn figures(mut taken: Vec<Duration>, wall: Duration, frames: u64) -> Value {
    taken.sort_unstable();
    let at = |share: f64| {
        let last = taken.len().saturating_sub(1);
        let place = (share * last as f64).round() as usize;
        taken.get(place).map_or(0.0, |duration| duration.as_secs_f64() * 1e6)
    };
    json!({
        "frames": frames,
        "per_second": frames as f64 / wall.as_secs_f64(),
        "p50_us": at(0.50),
        "p99_us": at(0.99),
    })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

const LINEAGE: Lineage = Lineage([0xB1; 16]);

fn site() -> SiteName {
    SiteName::parse("bench").expect("it is a token")
}

/// Makes frames like those of a small decision: a job that was told to run.
struct Maker {
    last: Seq,
    chain: Digest,
    actor: Arc<EntityId>,
    events: Vec<u8>,
}

impl Maker {
    fn new() -> Maker {
        let name = Name::parse("nightly").expect("it is a token");
        let event = job::Event::Enabled { enabled: true, at: Timestamp(1_763_800_000_000) };
        Maker {
            last: Seq(0),
            chain: frame::genesis_hash(LINEAGE),
            actor: Arc::new(EntityId { kind: Kind::Job, name }),
            events: codec::encode(&vec![event]),
        }
    }

    fn next(&mut self) -> NewFrame {
        let seq = self.last.next();
        let hlc = Hlc { wall: Timestamp(1_763_800_000_000), count: 0 };
        let actor = EntityId::clone(&self.actor);
        let input = InputSection {
            actor: actor.clone(),
            actor_seq: seq.0,
            owner_epoch: 0,
            core: 1,
            at: hlc.wall,
            hlc,
            input: Input::Wake,
        };
        let events = EventsSection {
            actor,
            actor_seq: seq.0,
            hlc,
            verdict: Verdict::Accepted,
            mark: None,
            acked: Vec::new(),
            events: self.events.clone(),
        };
        let sends = SendsSection { sends: Vec::new(), principal: "bench".to_owned(), trace: None };
        let (bytes, hash) = frame::encode(&FrameParts {
            seq,
            lineage: LINEAGE,
            site: frame::site_tag(&site()),
            input: &input,
            events: &events,
            sends: &sends,
            state_hash: None,
            previous: self.chain,
        })
        .expect("a small frame is not too large");
        self.last = seq;
        self.chain = hash;
        NewFrame { seq, bytes, hash }
    }
}
