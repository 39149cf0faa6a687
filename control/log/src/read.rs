//! Reading frames in order, from segments of both forms or from memory, without an allocation per frame. Both crcs of
//! every frame and the order of seqs are checked here; the hash chain is checked when a log is opened, sealed and verified.

use crate::catalog::Catalog;
use crate::chain::frame_hash;
use crate::error::{LogError, Problem, ProblemKind, SeqRange};
use crate::folder::{self, log_dir, segment_path};
use crate::header::{Form, SEGMENT_HEADER_LEN, SegmentHeader};
use crate::memory::MemorySource;
use crate::plain::PlainSource;
use crate::sealed::SealedFile;
use crate::verify;
use farshore_schemas::frame::{Header, RawFrame};
use farshore_schemas::ids::{Digest, Lineage, Seq};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A log that can be read.
pub trait ReadLog: Send + Sync {
    /// The first frame held; one after the tail when there is none.
    fn first(&self) -> Seq;

    /// The last frame that this reader gives, and its hash. Before the first frame: seq 0 and the lineage's genesis hash.
    fn tail(&self) -> (Seq, Digest);

    /// The lineage of the tail.
    fn lineage(&self) -> Lineage;

    /// Frames from `seq` to the tail, none when `seq` lies after it.
    ///
    /// # Errors
    /// [`LogError::NotHere`] for a seq before the first one held; what opening the segment gives.
    fn frames_from(&self, seq: Seq) -> Result<Frames, LogError>;

    /// One frame's bytes; none after the tail.
    ///
    /// # Errors
    /// As [`ReadLog::frames_from`].
    fn frame(&self, seq: Seq) -> Result<Option<Vec<u8>>, LogError> {
        let mut frames = self.frames_from(seq)?;
        Ok(frames.next()?.map(|stored| stored.bytes.to_vec()))
    }

    /// One frame's hash; none after the tail.
    ///
    /// # Errors
    /// As [`ReadLog::frames_from`].
    fn frame_hash(&self, seq: Seq) -> Result<Option<Digest>, LogError> {
        if seq == self.tail().0 {
            return Ok(Some(self.tail().1));
        }
        Ok(self.frame(seq)?.map(|bytes| frame_hash(&bytes)))
    }
}

/// A frame as it stands in the log.
#[derive(Debug, Clone, Copy)]
pub struct StoredFrame<'a> {
    /// Taken apart, sections still encoded.
    pub raw: RawFrame<'a>,
    /// All its bytes.
    pub bytes: &'a [u8],
}

impl StoredFrame<'_> {
    /// Its place.
    pub fn seq(&self) -> Seq {
        self.raw.header.seq
    }

    /// Its hash, computed now.
    pub fn hash(&self) -> Digest {
        frame_hash(self.bytes)
    }
}

/// Where frames come from: each call puts the bytes of some whole frames that follow one another into the buffer.
pub(crate) enum Source {
    Segments(SegmentSource),
    Memory(MemorySource),
}

/// Where in a file a chunk of frames lies, for reports.
#[derive(Debug, Clone)]
pub(crate) struct ChunkPlace {
    pub(crate) file: PathBuf,
    pub(crate) offset: u64,
    /// Offsets inside the chunk are not offsets of the file: report the chunk's seqs.
    pub(crate) block: Option<SeqRange>,
}

/// Frames in order. Not an `Iterator`: each frame borrows the buffer of this reader.
pub struct Frames {
    source: Source,
    chunk: Vec<u8>,
    place: ChunkPlace,
    at: usize,
    next: Seq,
    last: Seq,
}

impl Frames {
    pub(crate) fn new(source: Source, from: Seq, last: Seq) -> Frames {
        let place = ChunkPlace { file: PathBuf::new(), offset: 0, block: None };
        Frames { source, chunk: Vec::new(), place, at: 0, next: from, last }
    }

    /// The next frame; none at the tail.
    ///
    /// # Errors
    /// [`LogError::Damaged`], [`LogError::Io`]. Nothing more is to be read after one.
    #[expect(clippy::should_implement_trait, reason = "a frame borrows the buffer, which Iterator cannot say")]
    pub fn next(&mut self) -> Result<Option<StoredFrame<'_>>, LogError> {
        if self.next > self.last || !self.advance()? {
            return Ok(None);
        }
        let start = self.at;
        let (raw, len) = match RawFrame::decode(&self.chunk[start..]) {
            Ok(decoded) => decoded,
            Err(error) => return Err(problem(&self.place, start, self.next, ProblemKind::Frame(error)).into()),
        };
        if raw.header.seq != self.next {
            let kind = ProblemKind::Seq { found: raw.header.seq, expected: self.next };
            return Err(problem(&self.place, start, self.next, kind).into());
        }
        self.at = start + len;
        self.next = self.next.next();
        Ok(Some(StoredFrame { raw, bytes: &self.chunk[start..start + len] }))
    }

    /// Brings the next frame to the front of the chunk; false at the end of the source.
    fn advance(&mut self) -> Result<bool, LogError> {
        loop {
            while self.at < self.chunk.len() {
                let header = Header::decode(&self.chunk[self.at..])
                    .map_err(|error| problem(&self.place, self.at, self.next, ProblemKind::Frame(error)))?;
                if header.seq >= self.next {
                    return Ok(true);
                }
                self.at += header.frame_len();
            }
            self.at = 0;
            self.chunk.clear();
            let place = match &mut self.source {
                Source::Segments(source) => source.fill(&mut self.chunk, self.next)?,
                Source::Memory(source) => source.fill(&mut self.chunk, self.next),
            };
            match place {
                Some(place) => self.place = place,
                None => return Ok(false),
            }
        }
    }
}

fn problem(place: &ChunkPlace, at: usize, seq: Seq, kind: ProblemKind) -> Problem {
    match place.block {
        Some(seqs) => Problem { file: place.file.clone(), offset: place.offset, seqs, kind },
        None => Problem::at(&place.file, place.offset + at as u64, seq, kind),
    }
}

/// Walks the segments of a folder.
pub(crate) struct SegmentSource {
    log: PathBuf,
    /// First seqs of the segments that are still to be read.
    ahead: std::vec::IntoIter<Seq>,
    open: Option<OpenSegment>,
}

enum OpenSegment {
    Plain(PlainSource),
    Sealed(Box<SealedFile>, usize),
}

impl SegmentSource {
    /// Ready to give `from`; none when no segment can hold it.
    fn new(log: &Path, from: Seq) -> Result<Option<SegmentSource>, LogError> {
        let mut firsts: Vec<Seq> = folder::segments_once(log)?.iter().map(|segment| segment.first).collect();
        let holding = firsts.partition_point(|first| *first <= from);
        if holding == 0 {
            return Ok(None);
        }
        let ahead = firsts.split_off(holding - 1).into_iter();
        Ok(Some(SegmentSource { log: log.to_owned(), ahead, open: None }))
    }

    /// Over one sealed file.
    pub(crate) fn one(file: SealedFile) -> SegmentSource {
        let log = file.path.clone();
        SegmentSource { log, ahead: Vec::new().into_iter(), open: Some(OpenSegment::Sealed(Box::new(file), 0)) }
    }

    fn fill(&mut self, chunk: &mut Vec<u8>, next: Seq) -> Result<Option<ChunkPlace>, LogError> {
        loop {
            let place = match &mut self.open {
                Some(OpenSegment::Plain(source)) => source.fill(chunk)?,
                Some(OpenSegment::Sealed(file, at)) => fill_sealed(file, at, chunk, next)?,
                None => None,
            };
            if place.is_some() {
                return Ok(place);
            }
            let Some(first) = self.ahead.next() else {
                return Ok(None);
            };
            self.open = Some(open_segment(&self.log, first)?);
        }
    }
}

fn fill_sealed(
    file: &SealedFile,
    at: &mut usize,
    chunk: &mut Vec<u8>,
    next: Seq,
) -> Result<Option<ChunkPlace>, LogError> {
    while file.blocks.get(*at).is_some_and(|block| block.range().last < next) {
        *at += 1;
    }
    if *at == file.blocks.len() {
        return Ok(None);
    }
    let block = file.read_block(*at, chunk)?;
    *at += 1;
    Ok(Some(ChunkPlace { file: file.path.clone(), offset: block.offset, block: Some(block.range()) }))
}

/// Opens a segment in the form that it has now: it may be sealed at any moment.
fn open_segment(log: &Path, first: Seq) -> Result<OpenSegment, LogError> {
    let sealed = segment_path(log, first, Form::Sealed);
    if sealed.exists() {
        return Ok(OpenSegment::Sealed(Box::new(SealedFile::open(&sealed, first)?), 0));
    }
    match PlainSource::open(&segment_path(log, first, Form::Plain), first) {
        Ok(source) => Ok(OpenSegment::Plain(source)),
        Err(_) if sealed.exists() => Ok(OpenSegment::Sealed(Box::new(SealedFile::open(&sealed, first)?), 0)),
        Err(error) => Err(error),
    }
}

/// The header of a segment in whichever form it has now.
fn header_in(log: &Path, first: Seq) -> Result<SegmentHeader, LogError> {
    let read = |form| -> Result<SegmentHeader, LogError> {
        let path = segment_path(log, first, form);
        let mut raw = [0; SEGMENT_HEADER_LEN];
        let file = File::open(&path).map_err(LogError::io("open", &path))?;
        file.read_exact_at(&mut raw, 0).map_err(LogError::io("read", &path))?;
        SegmentHeader::decode(&raw, &path, first)
    };
    match read(Form::Plain) {
        Err(LogError::Io { .. }) => read(Form::Sealed),
        found => found,
    }
}

/// Reads a log folder without locking it: of a site that runs, everything up to the tail that was given or found.
#[derive(Debug, Clone)]
pub struct LogReader {
    log: PathBuf,
    first: Seq,
    tail: (Seq, Digest),
    lineage: Lineage,
}

impl LogReader {
    /// Opens the log in `DIR/log`, changing nothing. What an unfinished write left at the end is not given.
    ///
    /// # Errors
    /// [`LogError::NoLog`], [`LogError::Damaged`], [`LogError::Io`].
    pub fn open(dir: &Path) -> Result<LogReader, LogError> {
        let catalog = Catalog::survey(dir, None)?;
        let Some(first) = catalog.segments.first() else {
            return Err(verify::none(dir));
        };
        Ok(LogReader::up_to(dir, first.header.first, catalog.tail, catalog.lineage))
    }

    /// The data folder.
    pub fn dir(&self) -> &Path {
        self.log.parent().unwrap_or(Path::new("."))
    }

    pub(crate) fn up_to(dir: &Path, first: Seq, tail: (Seq, Digest), lineage: Lineage) -> LogReader {
        LogReader { log: log_dir(dir), first, tail, lineage }
    }

    /// Each lineage with its first frame, the oldest first. A new lineage begins a new segment, so their headers tell; the last
    /// one may have no frame yet.
    ///
    /// # Errors
    /// What opening a segment gives.
    pub fn lineages(&self) -> Result<Vec<(Lineage, Seq)>, LogError> {
        let mut lineages: Vec<(Lineage, Seq)> = Vec::new();
        for segment in folder::segments_once(&self.log)? {
            let header = header_in(&self.log, segment.first)?;
            if lineages.last().is_none_or(|(last, _)| *last != header.lineage) {
                lineages.push((header.lineage, header.first));
            }
        }
        Ok(lineages)
    }

    /// The header of the segment that holds `seq`.
    pub(crate) fn header_of(&self, seq: Seq) -> Result<SegmentHeader, LogError> {
        let gone = LogError::NotHere { seq, first: self.first, last: self.tail.0 };
        let mut segments = folder::segments_once(&self.log)?;
        let holding = segments.partition_point(|segment| segment.first <= seq);
        let segment = segments.drain(..holding).next_back().ok_or(gone)?;
        Ok(match open_segment(&self.log, segment.first)? {
            OpenSegment::Plain(source) => source.header,
            OpenSegment::Sealed(file, _) => file.header,
        })
    }
}

impl ReadLog for LogReader {
    fn first(&self) -> Seq {
        self.first
    }

    fn tail(&self) -> (Seq, Digest) {
        self.tail
    }

    fn lineage(&self) -> Lineage {
        self.lineage
    }

    fn frames_from(&self, seq: Seq) -> Result<Frames, LogError> {
        let not_here = LogError::NotHere { seq, first: self.first, last: self.tail.0 };
        if seq < self.first {
            return Err(not_here);
        }
        let source = SegmentSource::new(&self.log, seq)?.ok_or(not_here)?;
        Ok(Frames::new(Source::Segments(source), seq, self.tail.0))
    }
}
