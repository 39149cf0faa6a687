//! The event log of a site on disk, open for appending: lock, survey, recovery, then the thread that appends.

use crate::append::Appender;
use crate::baseline;
use crate::catalog::{Catalog, empty_tail};
use crate::chain::Chain;
use crate::disk::{Disk, RealDisk, sync_dir};
use crate::error::LogError;
use crate::folder::{self, Hold, log_dir};
use crate::header::{Form, SegmentHeader};
use crate::hint::{self, Hint};
use crate::read::LogReader;
use crate::recover::{self, Recovered};
use crate::seal::Sealer;
use crate::segment::{Layout, OpenSegment, SegmentMaker, SegmentSink};
use farshore_runtime::log_port::{EventLog, NewFrame, OnDurable};
use farshore_schemas::frame::site_tag;
use farshore_schemas::ids::{Digest, Lineage, Seq, SiteName};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Called with a segment's last seq when it is sealed, on the thread that seals: it must not wait.
pub type OnSealed = Arc<dyn Fn(Seq) + Send + Sync>;

/// How a log is opened.
#[derive(Clone)]
pub struct LogOptions {
    /// The site's data folder; the log is in `log/` below it.
    pub dir: PathBuf,
    /// The site.
    pub site: SiteName,
    /// The lineage for a log that does not exist yet. Of one that exists, the files say it.
    pub new_lineage: Lineage,
    /// Sizes.
    pub layout: Layout,
    /// How many bytes of sealed segments are read and hashed before the log opens, the newest first: a small log is checked in
    /// whole, a large one opens fast. What is older is checked whenever it is read, and by [`verify`](crate::verify).
    pub check_sealed_bytes: u64,
    /// The file system; tests put one here that fails.
    pub disk: Arc<dyn Disk>,
    /// Who is told of sealed segments.
    pub on_sealed: Option<OnSealed>,
}

impl LogOptions {
    /// With the default layout on the real file system.
    pub fn new(dir: &Path, site: &SiteName, new_lineage: Lineage) -> LogOptions {
        LogOptions {
            dir: dir.to_owned(),
            site: site.clone(),
            new_lineage,
            layout: Layout::default(),
            check_sealed_bytes: 256 << 20,
            disk: Arc::new(RealDisk),
            on_sealed: None,
        }
    }
}

/// Acknowledged frames that are gone: the log's own note of its tail knew of them, or a baseline, or the view. The site must take a new lineage and
/// ask its peers before it decides anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lost {
    /// The last frame that is there.
    pub kept: Seq,
    /// The last frame that was acknowledged.
    pub acknowledged: Seq,
}

impl Lost {
    /// What is lost, when frames up to `acknowledged` are known of.
    pub fn find(acknowledged: Option<(Seq, Digest)>, kept: Seq) -> Option<Lost> {
        acknowledged.filter(|(seq, _)| *seq > kept).map(|(acknowledged, _)| Lost { kept, acknowledged })
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Lost { kept, acknowledged } = self;
        write!(
            f,
            "FS-LOG-LOST: the log ends at frame {kept}, but frames up to {acknowledged} had been acknowledged; the site has to \
             take a new lineage and ask its peers what they saw"
        )
    }
}

/// A log, opened.
pub struct Opened {
    /// The log.
    pub log: SegmentLog,
    /// Whether it was made just now.
    pub created: bool,
    /// The lineage of the last frame, or of the log to be.
    pub lineage: Lineage,
    /// The last frame and its hash; seq 0 and the lineage's genesis hash in an empty log.
    pub tail: (Seq, Digest),
    /// An unfinished write that was put aside.
    pub recovered: Option<Recovered>,
    /// Acknowledged frames that are gone, torn off or cut cleanly.
    pub lost: Option<Lost>,
    /// Baselines of such frames: where they are kept now.
    pub baselines_aside: Vec<PathBuf>,
}

/// The event log of a site on disk. Dropping it makes everything queued durable, seals what is full and releases the
/// data folder.
pub struct SegmentLog {
    appender: Appender,
    dir: PathBuf,
    first: Seq,
    /// Held for as long as the log is open. Declared after `appender`: the thread ends before the lock goes.
    _lock: Hold,
}

impl SegmentLog {
    /// Opens the log of a site, or makes it. Recovers from an unfinished write; changes nothing when there is damage.
    ///
    /// # Errors
    /// [`LogError::Locked`], [`LogError::Damaged`], [`LogError::WrongSite`], [`LogError::Newer`], [`LogError::Io`].
    pub fn open(options: &LogOptions) -> Result<Opened, LogError> {
        let log = log_dir(&options.dir);
        fs::create_dir_all(&log).map_err(LogError::io("make", &log))?;
        let lock = folder::hold(&options.dir)?;
        let catalog = Catalog::survey(&options.dir, Some(&options.site))?;
        catalog.check_sealed(options.check_sealed_bytes)?;
        let baselines_aside = put_lost_baselines_aside(&options.dir, catalog.tail.0)?;
        let lost = Lost::find(hint::read(&log), catalog.tail.0);
        clear_leftovers(&log, &catalog)?;
        let recovered = recover::recover(&log, &catalog)?;
        let created = catalog.segments.is_empty();
        if created {
            // The log's folder must not vanish with a power cut after frames in it were acknowledged.
            let above = options.dir.ancestors().take(2).filter(|dir| dir.is_dir());
            for dir in above {
                sync_dir(dir).map_err(LogError::io("sync", dir))?;
            }
        }
        let first = catalog.segments.first().map_or(Seq(1), |segment| segment.header.first);
        let lineage = if created { options.new_lineage } else { catalog.lineage };
        let tail = if catalog.tail.0 == Seq(0) { empty_tail(lineage) } else { catalog.tail };
        let maker = SegmentMaker {
            disk: Arc::clone(&options.disk),
            log: log.clone(),
            site: options.site.clone(),
            layout: options.layout,
        };
        let open = last_segment(&maker, &catalog, tail, lineage)?;
        let sealer = Sealer::start(options.on_sealed.clone());
        catalog
            .segments
            .iter()
            .filter(|segment| segment.header.form == Form::Plain && segment.path != open.path)
            .for_each(|segment| sealer.seal(segment.path.clone(), segment.header.first));
        // The hint is first written with the next append: until then a loss is reported at every start.
        let hint = Hint::open(&log).map_err(LogError::io("open the tail hint in", &log))?;
        let chain = Chain { lineage, site: site_tag(&options.site), next: tail.0.next(), previous: tail.1 };
        let sink = SegmentSink { maker, open, sealer, hint, buffer: Vec::new() };
        let appender = Appender::start("log-append", chain, sink);
        let log = SegmentLog { appender, dir: options.dir.clone(), first, _lock: lock };
        Ok(Opened { log, created, lineage, tail, recovered, lost, baselines_aside })
    }

    /// Reads everything that is durable now.
    pub fn reader(&self) -> LogReader {
        let durable = self.appender.durable();
        LogReader::up_to(&self.dir, self.first, durable.tail(), durable.lineage)
    }
}

impl EventLog for SegmentLog {
    fn append(&self, frame: NewFrame, on_durable: OnDurable) {
        self.appender.append(frame, on_durable);
    }

    fn durable_tail(&self) -> (Seq, Digest) {
        self.appender.durable().tail()
    }
}

/// Keeps baselines of frames that are gone where nothing reads them: new frames will bear the same seqs. That there were
/// such frames is noted first, durably.
fn put_lost_baselines_aside(dir: &Path, tail: Seq) -> Result<Vec<PathBuf>, LogError> {
    let lost = baseline::past(dir, tail)?;
    if let Some((_, newest)) = lost.first() {
        let log = log_dir(dir);
        hint::raise(&log, (newest.seq, newest.head)).map_err(LogError::io("note the loss in", &log))?;
    }
    lost.iter().map(|(path, _)| baseline::put_aside(path)).collect()
}

/// Removes what a crash left of files that had not got their names, and plain segments that are sealed already.
fn clear_leftovers(log: &Path, catalog: &Catalog) -> Result<(), LogError> {
    let unnamed = folder::names(log)?
        .into_iter()
        .filter(|name| {
            (name.starts_with("seg-") || name.starts_with("base-"))
                && (name.ends_with(".new") || name.ends_with(".tmp"))
        })
        .map(|name| log.join(name));
    let doomed: Vec<PathBuf> = unnamed.chain(catalog.leftover.iter().cloned()).collect();
    for path in &doomed {
        fs::remove_file(path).map_err(LogError::io("remove", path))?;
    }
    if doomed.is_empty() { Ok(()) } else { sync_dir(log).map_err(LogError::io("sync", log)) }
}

/// The segment to go on in: the last one if it is plain, else a new one.
fn last_segment(
    maker: &SegmentMaker,
    catalog: &Catalog,
    tail: (Seq, Digest),
    lineage: Lineage,
) -> Result<OpenSegment, LogError> {
    if let (Some(scan), Some(segment)) = (&catalog.open, catalog.segments.last()) {
        let at = match scan.torn {
            None => scan.end,
            Some(torn) => torn.group.map_or(torn.kept_end, |group| group.end()),
        };
        let io = |what| LogError::io(what, &segment.path);
        let filled = fs::metadata(&segment.path).map_err(io("read"))?.len();
        return Ok(OpenSegment {
            file: maker.disk.open(&segment.path).map_err(io("open"))?,
            path: segment.path.clone(),
            lineage: segment.header.lineage,
            first: segment.header.first,
            at,
            filled: filled.max(at),
        });
    }
    let header = SegmentHeader {
        form: Form::Plain,
        begins_lineage: catalog.segments.is_empty(),
        site: maker.site.clone(),
        lineage,
        first: tail.0.next(),
        previous: if tail.0 == Seq(0) { Digest::default() } else { tail.1 },
    };
    maker.create(&header).map_err(LogError::io("make a segment in", &maker.log))
}
