//! Which segments a log consists of, and whether they fit together: the part of opening that changes nothing. Sealed
//! segments are taken by their trailers; plain ones are read in full.

use crate::baseline;
use crate::error::{LogError, Problem, ProblemKind};
use crate::folder::{self, SegmentFile, log_dir};
use crate::header::{Form, SegmentHeader};
use crate::scan::{Scan, look};
use crate::sealed::SealedFile;
use farshore_schemas::frame::genesis_hash;
use farshore_schemas::ids::{Digest, Lineage, Seq, SiteName};
use std::path::{Path, PathBuf};

/// A segment that has been looked at.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    pub(crate) tail: (Seq, Digest),
}

/// A log's segments, in order.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) segments: Vec<Segment>,
    /// The last whole frame.
    pub(crate) tail: (Seq, Digest),
    /// The lineage of the tail; zeros when there is no segment.
    pub(crate) lineage: Lineage,
    /// The last segment, if it is plain.
    pub(crate) open: Option<Scan>,
    /// Plain files whose sealed twin is whole: what a crash between sealing and removing left.
    pub(crate) leftover: Vec<PathBuf>,
    /// Whether whoever looks holds the log's lock, so that nobody else writes.
    owned: bool,
}

impl Catalog {
    /// Looks at every segment in `DIR/log`. With a `site`, the log must be that site's, and the caller holds its lock.
    pub(crate) fn survey(dir: &Path, site: Option<&SiteName>) -> Result<Catalog, LogError> {
        let mut files = folder::segments(&log_dir(dir))?;
        let leftover = take_twins(&mut files)?;
        let mut catalog = Catalog {
            segments: Vec::new(),
            tail: (Seq(0), Digest::default()),
            lineage: Lineage::default(),
            open: None,
            leftover,
            owned: site.is_some(),
        };
        for (at, file) in files.iter().enumerate() {
            catalog.add(dir, file, at + 1 == files.len())?;
        }
        let other = catalog.segments.iter().find(|segment| site.is_some_and(|site| segment.header.site != *site));
        if let (Some(other), Some(site)) = (other, site) {
            let (found, expected) = (other.header.site.to_string(), site.to_string());
            return Err(LogError::WrongSite { dir: dir.to_owned(), found, expected });
        }
        Ok(catalog)
    }

    /// Reads sealed segments from the newest back, up to `budget` bytes of them, and compares their hashes.
    pub(crate) fn check_sealed(&self, budget: u64) -> Result<(), LogError> {
        let mut read = 0;
        for segment in self.segments.iter().rev().filter(|segment| segment.header.form == Form::Sealed) {
            if read >= budget {
                break;
            }
            read += SealedFile::open(&segment.path, segment.header.first)?.check_file_hash()?;
        }
        Ok(())
    }

    fn add(&mut self, dir: &Path, file: &SegmentFile, is_last: bool) -> Result<(), LogError> {
        let (header, tail) = match file.form {
            Form::Sealed => {
                let sealed = SealedFile::open(&file.path, file.first)?;
                (sealed.header.clone(), (sealed.trailer.last, sealed.trailer.last_hash))
            }
            Form::Plain => {
                let Some(look) = look(file, || !self.owned && folder::in_use(dir))? else {
                    return self.add(dir, &folder::sealed_twin(file), is_last);
                };
                let scan = look.scan?;
                let seen = (scan.header.clone(), scan.tail);
                if is_last {
                    self.open = Some(scan);
                } else if let Some(torn) = scan.torn {
                    // A later segment was begun only after everything in this one was durable.
                    let next = scan.tail.0.next();
                    let kind = ProblemKind::Group("it is unfinished although a later segment follows");
                    return Err(Problem::at(&file.path, torn.kept_end, next, kind).into());
                }
                seen
            }
        };
        match self.segments.last() {
            Some(before) => follows(before, &header, file)?,
            None => begins(dir, &header, file)?,
        }
        self.tail = tail;
        self.lineage = header.lineage;
        self.segments.push(Segment { path: file.path.clone(), header, tail });
        Ok(())
    }
}

/// Whether a segment goes on where the one before it ends.
pub(crate) fn follows(before: &Segment, header: &SegmentHeader, file: &SegmentFile) -> Result<(), LogError> {
    let expected = before.tail.0.next();
    let problem = |seq, kind| Err(Problem::at(&file.path, 0, seq, kind).into());
    if header.first > expected {
        return problem(expected, ProblemKind::Missing { expected });
    }
    if header.first < expected {
        return problem(header.first, ProblemKind::Seq { found: header.first, expected });
    }
    if header.site != before.header.site {
        return problem(header.first, ProblemKind::Site);
    }
    if header.previous != before.tail.1 {
        return problem(header.first, ProblemKind::Chain);
    }
    if (header.lineage != before.header.lineage) != header.begins_lineage {
        let kind = ProblemKind::Lineage { found: header.lineage, expected: before.header.lineage };
        return problem(header.first, kind);
    }
    Ok(())
}

/// Whether a log may begin with this segment: at seq 1, or where a baseline stands for what was archived.
pub(crate) fn begins(dir: &Path, header: &SegmentHeader, file: &SegmentFile) -> Result<(), LogError> {
    if header.first == Seq(1) {
        return Ok(());
    }
    match baseline::stands_for(dir, header)? {
        Ok(()) => Ok(()),
        Err(expected) => Err(Problem::at(&file.path, 0, expected, ProblemKind::Missing { expected }).into()),
    }
}

/// Takes out plain files whose sealed twin is there, once the twin is proved whole.
fn take_twins(files: &mut Vec<SegmentFile>) -> Result<Vec<PathBuf>, LogError> {
    let mut leftover = Vec::new();
    let mut sealed: Option<(Seq, PathBuf)> = None;
    let mut kept = Vec::new();
    for file in files.drain(..) {
        match (&file.form, &sealed) {
            (Form::Plain, Some((first, twin))) if *first == file.first => {
                SealedFile::open(twin, *first)?.check_file_hash()?;
                leftover.push(file.path);
            }
            (Form::Plain, Some(_) | None) => kept.push(file),
            (Form::Sealed, Some(_) | None) => {
                sealed = Some((file.first, file.path.clone()));
                kept.push(file);
            }
        }
    }
    *files = kept;
    Ok(leftover)
}

/// What a log without a frame has as its tail.
pub(crate) fn empty_tail(lineage: Lineage) -> (Seq, Digest) {
    (Seq(0), genesis_hash(lineage))
}
