//! Export: a range of frames as one sealed segment in a file of its own. Segment, export and incident bundle are one
//! format, so what reads a log reads an export.

use crate::chain::Chain;
use crate::error::{LogError, Problem, name_new};
use crate::header::{Form, SEGMENT_HEADER_LEN, SegmentHeader, array};
use crate::read::{Frames, LogReader, ReadLog, SegmentSource, Source};
use crate::sealed::SealedFile;
use crate::sealed::SealedWriter;
use crate::verify::check_sealed;
use farshore_schemas::frame::genesis_hash;
use farshore_schemas::ids::{Digest, Lineage, Seq, SiteName};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Writes frames `from..=to` of a log to `path`, durable before it has its name. Each frame's place in the chain is checked.
///
/// # Errors
/// [`LogError::NotHere`], [`LogError::TwoLineages`], [`LogError::Io`], what reading gives.
pub fn export(log: &LogReader, from: Seq, to: Seq, path: &Path) -> Result<(), LogError> {
    let (first, last) = (log.first(), log.tail().0);
    if from > to {
        return Err(LogError::EmptyRange { from, to });
    }
    if from < first || to > last {
        let seq = if from < first { from } else { to };
        return Err(LogError::NotHere { seq, first, last });
    }
    if path.exists() {
        return Err(LogError::Exists { path: path.to_owned() });
    }
    let io = |what| LogError::io(what, path);
    let segment = log.header_of(from)?;
    let mut frames = log.frames_from(from)?;
    let beside = path.with_extension("tmp");
    let mut writer: Option<(SealedWriter, Chain)> = None;
    while let Some(frame) = frames.next()?.filter(|frame| frame.seq() <= to) {
        let mut open = match writer.take() {
            Some(open) => open,
            None => {
                let header = SegmentHeader {
                    form: Form::Sealed,
                    begins_lineage: segment.begins_lineage && segment.first == from,
                    first: from,
                    previous: if from == Seq(1) { Digest::default() } else { frame.raw.previous },
                    ..segment.clone()
                };
                (SealedWriter::create(&beside, &header).map_err(io("write"))?, Chain::of(&header))
            }
        };
        if frame.raw.header.lineage != open.1.lineage {
            return Err(LogError::TwoLineages { at: frame.seq() });
        }
        open.1.check(&frame.raw).map_err(|kind| Problem::at(path, 0, frame.seq(), kind))?;
        open.1.advance(frame.hash());
        open.0.push(frame.bytes).map_err(io("write"))?;
        writer = Some(open);
    }
    let Some((writer, chain)) = writer.filter(|(_, chain)| chain.tail().0 == to) else {
        return Err(LogError::NotHere { seq: to, first, last });
    };
    let trailer = writer.finish().map_err(io("write"))?;
    assert!((trailer.last, trailer.last_hash) == chain.tail(), "an export ends where the range ends");
    name_new(&beside, path).inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// An export, open for reading. Every byte of it has been checked.
#[derive(Debug)]
pub struct Export {
    path: PathBuf,
    header: SegmentHeader,
    tail: (Seq, Digest),
}

impl Export {
    /// Opens and verifies an export.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(path: &Path) -> Result<Export, LogError> {
        let mut raw = [0; SEGMENT_HEADER_LEN];
        let mut file = File::open(path).map_err(LogError::io("open", path))?;
        // A short file is reported by what reads the segment.
        let got = file.read(&mut raw).map_err(LogError::io("read", path))?;
        let first = if got == raw.len() { Seq(u64::from_le_bytes(array(&raw[32..40]))) } else { Seq(0) };
        let sealed = SealedFile::open(path, first)?;
        let tail = check_sealed(&sealed, &mut 0)?;
        Ok(Export { path: path.to_owned(), header: sealed.header, tail })
    }

    /// Whose log it is from.
    pub fn site(&self) -> &SiteName {
        &self.header.site
    }
}

impl ReadLog for Export {
    fn first(&self) -> Seq {
        self.header.first
    }

    fn tail(&self) -> (Seq, Digest) {
        if self.tail.0 == Seq(0) { (Seq(0), genesis_hash(self.header.lineage)) } else { self.tail }
    }

    fn lineage(&self) -> Lineage {
        self.header.lineage
    }

    fn frames_from(&self, seq: Seq) -> Result<Frames, LogError> {
        if seq < self.header.first {
            return Err(LogError::NotHere { seq, first: self.header.first, last: self.tail.0 });
        }
        let sealed = SealedFile::open(&self.path, self.header.first)?;
        Ok(Frames::new(Source::Segments(SegmentSource::one(sealed)), seq, self.tail.0))
    }
}
