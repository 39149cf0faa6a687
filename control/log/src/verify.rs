//! Checks every byte of a log: headers, groups, padding, frames, chain, sealed blocks, trailers, file hashes. Goes on
//! with the next file after a problem, so that the report shows how far damage reaches.

use crate::baseline::{self, Ignored, Unfit};
use crate::catalog::{Segment, begins, follows};
use crate::chain::{Chain, frame_hash};
use crate::error::{LogError, Problem, ProblemKind};
use crate::folder::{self, SegmentFile, log_dir};
use crate::header::Form;
use crate::hint;
use crate::log::Lost;
use crate::read::LogReader;
use crate::scan::look;
use crate::sealed::SealedFile;
use farshore_schemas::frame::RawFrame;
use farshore_schemas::ids::{Digest, Seq};
use std::fs;
use std::path::Path;

/// What verify found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Segment files read.
    pub files: u64,
    /// Frames that are right.
    pub frames: u64,
    /// The first frame held and the last one that is right; 0 for none.
    pub first: Seq,
    /// See `first`.
    pub last: Seq,
    /// What is wrong: the first problem of each file.
    pub problems: Vec<Problem>,
    /// Acknowledged frames that are not there.
    pub lost: Option<Lost>,
    /// Baselines that are whole, signed by the site, and fit the frames.
    pub baselines: u64,
    /// Those that are not.
    pub unfit: Vec<Ignored>,
}

impl Report {
    /// Whether every byte is as it was written and nothing acknowledged is missing. A whole baseline that somebody unknown
    /// signed is never used, but no damage: the list of keys may not have come along with a copy.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty() && self.lost.is_none() && self.wrong_baselines().next().is_none()
    }

    /// Baselines that are damaged or belong to another history.
    pub fn wrong_baselines(&self) -> impl Iterator<Item = &Ignored> {
        self.unfit.iter().filter(|baseline| match baseline.why {
            Unfit::Damaged(_) | Unfit::Misfit(_) => true,
            Unfit::Untrusted(_) | Unfit::Archived(_) => false,
        })
    }
}

/// Verifies the log in `DIR/log`, changing nothing. Of a site that runs, a write that is under way shows as a torn tail.
///
/// # Errors
/// [`LogError::NoLog`], [`LogError::Io`], [`LogError::Newer`]; damage is in the report.
pub fn verify(dir: &Path) -> Result<Report, LogError> {
    let log = log_dir(dir);
    let files = folder::segments(&log)?;
    let Some(begin) = files.first() else {
        return Err(none(dir));
    };
    let mut report = Report { first: begin.first, ..Report::default() };
    let mut before: Option<Segment> = None;
    for (at, file) in files.iter().enumerate() {
        report.files += 1;
        let is_last = at + 1 == files.len();
        let fit = |segment: &Segment| match &before {
            // The plain twin of a sealed segment holds the same frames.
            Some(before) if before.header.first == segment.header.first => Ok(()),
            Some(before) => follows(before, &segment.header, file),
            None => begins(dir, &segment.header, file),
        };
        let read = segment(dir, file, is_last, &mut report.frames).and_then(|(segment, torn)| {
            report.problems.extend(torn);
            fit(&segment).map(|()| segment)
        });
        match read {
            Ok(segment) => {
                report.last = report.last.max(segment.tail.0);
                before = Some(segment);
            }
            Err(LogError::Damaged(problem)) => {
                report.problems.push(*problem);
                before = None;
                if !is_last {
                    before = header_only(&files[at + 1]);
                }
            }
            Err(error) => return Err(error),
        }
    }
    if report.problems.iter().all(|problem| problem.kind == ProblemKind::Torn) {
        report.lost = Lost::find(acknowledged(dir, report.last)?, report.last);
    }
    check_baselines(dir, &mut report)?;
    Ok(report)
}

/// There is no segment: because there never was one, or because all are gone.
pub(crate) fn none(dir: &Path) -> LogError {
    match acknowledged(dir, Seq(0)) {
        Ok(Some((acknowledged, _))) => LogError::Gone { dir: dir.to_owned(), acknowledged },
        Ok(None) => LogError::NoLog { dir: dir.to_owned() },
        Err(error) => error,
    }
}

/// The last frame that something beside the segments knows of: the hint, or a baseline past the last one that is there.
fn acknowledged(dir: &Path, last: Seq) -> Result<Option<(Seq, Digest)>, LogError> {
    let baseline = baseline::past(dir, last)?.into_iter().next();
    Ok(hint::read(&log_dir(dir)).into_iter().chain(baseline.map(|(_, lost)| (lost.seq, lost.head))).max())
}

/// Reads every baseline; those of a log without damage are held against its frames.
fn check_baselines(dir: &Path, report: &mut Report) -> Result<(), LogError> {
    let sound = report.problems.iter().all(|problem| problem.kind == ProblemKind::Torn);
    let found = if sound { baseline::baselines(dir, &LogReader::open(dir)?)? } else { baseline::all(dir)? };
    for held in found {
        match held.read {
            Ok(_) => report.baselines += 1,
            Err(why) => report.unfit.push(Ignored { path: held.path, why }),
        }
    }
    Ok(())
}

/// Stands for a damaged segment before `next`, whose frames cannot be vouched for: it ends where `next` begins.
fn header_only(next: &SegmentFile) -> Option<Segment> {
    let bytes = fs::read(&next.path).ok()?;
    let header = crate::header::SegmentHeader::decode(&bytes, &next.path, next.first).ok()?;
    let tail = (Seq(header.first.0.saturating_sub(1)), header.previous);
    Some(Segment { path: next.path.clone(), header, tail })
}

/// Reads one segment to its end; the second value is a torn tail.
fn segment(
    dir: &Path,
    file: &SegmentFile,
    is_last: bool,
    frames: &mut u64,
) -> Result<(Segment, Option<Problem>), LogError> {
    match file.form {
        Form::Plain => {
            let Some(look) = look(file, || folder::in_use(dir))? else {
                return Ok((sealed(&folder::sealed_twin(file), frames)?, None));
            };
            *frames += look.frames;
            let scan = look.scan?;
            let kind = if is_last {
                ProblemKind::Torn
            } else {
                ProblemKind::Group("it is unfinished although a later segment follows")
            };
            let torn = scan.torn.map(|torn| Problem::at(&file.path, torn.kept_end, scan.tail.0.next(), kind));
            Ok((Segment { path: file.path.clone(), header: scan.header, tail: scan.tail }, torn))
        }
        Form::Sealed => Ok((sealed(file, frames)?, None)),
    }
}

fn sealed(file: &SegmentFile, frames: &mut u64) -> Result<Segment, LogError> {
    let sealed = SealedFile::open(&file.path, file.first)?;
    let tail = check_sealed(&sealed, frames)?;
    Ok(Segment { path: file.path.clone(), header: sealed.header, tail })
}

/// Reads every block of a sealed segment and checks its frames, then the file's hash. Gives the last frame.
pub(crate) fn check_sealed(sealed: &SealedFile, frames: &mut u64) -> Result<(Seq, Digest), LogError> {
    let mut chain = Chain::of(&sealed.header);
    let mut block = Vec::new();
    for at in 0..sealed.blocks.len() {
        let entry = sealed.read_block(at, &mut block)?;
        let problem = |kind| Problem { file: sealed.path.clone(), offset: entry.offset, seqs: entry.range(), kind };
        let mut rest = block.as_slice();
        let mut count = 0;
        while !rest.is_empty() {
            let (frame, len) = RawFrame::decode(rest).map_err(|error| problem(ProblemKind::Frame(error)))?;
            chain.check(&frame).map_err(problem)?;
            chain.advance(frame_hash(&rest[..len]));
            rest = &rest[len..];
            count += 1;
        }
        if count != entry.frames {
            return Err(problem(ProblemKind::Block("it holds another number of frames than the index says")).into());
        }
        *frames += u64::from(count);
    }
    if chain.tail() != (sealed.trailer.last, sealed.trailer.last_hash) {
        let kind = ProblemKind::Trailer("it names another last frame");
        return Err(Problem::at(&sealed.path, sealed.trailer.index_at, sealed.trailer.last, kind).into());
    }
    sealed.check_file_hash()?;
    Ok(chain.tail())
}
