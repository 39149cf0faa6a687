//! Takes the frames of a site's log that are not kept yet, in order, and keeps them in pieces. Where to go on is found out from
//! what is there: it resumes after any crash, and taking the same frames twice changes nothing. What was damaged or lost of the
//! frames that are kept is taken again first.

use super::Repository;
use super::log_gaps::{LogGap, ReadThrough, Stretch};
use crate::{Error, Result};
use farshore_format::repository::{LOG_PIECE_FULL, LogPiece};
use farshore_schemas::frame::{RawFrame, genesis_hash};
use farshore_schemas::ids::{Digest, Lineage, Seq, SiteName};
use farshore_schemas::units::Timestamp;
use std::collections::VecDeque;
use std::sync::{MutexGuard, PoisonError};

/// A log as its site has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteLog {
    /// The site.
    pub site: SiteName,
    /// Public halves of the keys with which it signs its baselines.
    pub keys: Vec<Digest>,
    /// Each lineage with its first frame, the oldest first. The log begins with the first frame of the first one.
    pub lineages: Vec<(Lineage, Seq)>,
    /// The last frame that is durable.
    pub last: Seq,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipped {
    /// The last frame that is kept; none when there is none.
    pub end: Option<(Lineage, Seq, Digest)>,
    /// Frames before it that are not here, and that the site has no more.
    pub missing: Vec<LogGap>,
}

/// See the module.
#[derive(Debug)]
pub struct LogKeeper<'a> {
    repository: &'a Repository,
    log: SiteLog,
    now: Timestamp,
    /// What is to be taken, the one that is being taken first. The last one is the log's end.
    stretches: VecDeque<Stretch>,
    next: Seq,
    /// The hash of the frame before the next one, when it is known.
    before: Option<Digest>,
    /// The piece that is being filled; not all of it is in the folder yet.
    piece: Option<LogPiece>,
    /// The last frame at the log's end that was taken, or kept before; none when nothing is.
    end: Option<(Lineage, Seq, Digest)>,
    missing: Vec<LogGap>,
    unwritten: bool,
    _alone: MutexGuard<'a, ReadThrough>,
}

/// Where a log goes on.
struct Joint {
    end: (Lineage, Seq, Digest),
    /// The last piece, when it takes more frames.
    piece: Option<LogPiece>,
}

impl Repository {
    /// Begins to keep a site's log; `now` is noted with what is kept.
    ///
    /// # Errors
    /// [`Error::LogBehind`] and [`Error::LogFork`] when the log is not the one that is kept here, [`Error::LogArchived`] when
    /// its first frames are needed and it has them no more, or what the disk says.
    pub fn keep_log(&self, log: SiteLog, now: Timestamp) -> Result<LogKeeper<'_>> {
        self.io.usable()?;
        let mut alone = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.still_owned()?;
        let joint = self.joint(&log)?;
        let begun = log.lineages.first().map_or(Seq(1), |(_, first)| *first);
        let kept = joint.as_ref().map_or(Seq(0), |joint| joint.end.1);
        if kept.next() < begun {
            return Err(Error::LogArchived { first: begun });
        }
        let (piece, end) = joint.map_or((None, None), |joint| (joint.piece, Some(joint.end)));
        let (mut stretches, missing) = match end {
            Some((_, last, _)) => self.log_gaps(&log, last, &mut alone)?,
            None => (Vec::new(), Vec::new()),
        };
        if kept < log.last {
            let previous = end.map(|(_, _, hash)| hash);
            let first = log.lineages.first().filter(|_| end.is_none()).map(|(lineage, _)| genesis_hash(*lineage));
            let previous = previous.or(first);
            stretches.push(Stretch { lineage: None, first: kept.next(), last: log.last, previous, joins: None, piece });
        }
        let (stretches, next) = (VecDeque::from(stretches), kept.next());
        let (repository, unwritten, _alone) = (self, false, alone);
        let (before, piece) = (None, None);
        let mut keeper =
            LogKeeper { repository, log, now, stretches, next, before, piece, end, missing, unwritten, _alone };
        keeper.enter(None);
        Ok(keeper)
    }

    /// The newest frame of the log that is kept here.
    fn joint(&self, log: &SiteLog) -> Result<Option<Joint>> {
        let mut run_end = log.last;
        for (at, (lineage, first)) in log.lineages.iter().enumerate().rev() {
            let newest = at + 1 == log.lineages.len();
            if let Some(piece) = self.last_piece(*lineage)? {
                if newest && piece.last > run_end {
                    return Err(Error::LogBehind { lineage: *lineage, kept: piece.last, last: run_end });
                }
                let fork = Error::LogFork { seq: run_end };
                let (seq, hash) = if piece.last <= run_end {
                    (piece.last, piece.hash)
                } else {
                    (run_end, self.log_hash(*lineage, run_end)?.ok_or(fork)?)
                };
                let goes_on = seq == piece.last && piece.frames.len() < LOG_PIECE_FULL;
                return Ok(Some(Joint { end: (*lineage, seq, hash), piece: goes_on.then_some(piece) }));
            }
            run_end = Seq(first.0.saturating_sub(1));
        }
        Ok(None)
    }
}

impl LogKeeper<'_> {
    /// The next frames to take, the first and the last; none when all is kept that can be.
    pub fn wanted(&self) -> Option<(Seq, Seq)> {
        self.stretches.front().map(|stretch| (self.next, stretch.last))
    }

    /// Begins the next stretch, after one that ended with this frame.
    fn enter(&mut self, ended: Option<(Seq, Digest)>) {
        let Some(stretch) = self.stretches.front_mut() else { return };
        let goes_on = ended.filter(|(last, _)| last.next() == stretch.first).map(|(_, hash)| hash);
        self.next = stretch.first;
        self.before = stretch.previous.or(goes_on);
        self.piece = stretch.piece.take();
    }

    /// Takes the next frame.
    ///
    /// # Errors
    /// [`Error::LogFork`] when it does not go on from the frame before it, [`Error::LogFrame`], or what the disk says.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let next = self.next;
        let unfit = |why: String| Error::LogFrame { seq: next, why };
        let (raw, _) = RawFrame::decode(bytes).map_err(|error| unfit(error.to_string()))?;
        let lineage = raw.header.lineage;
        let stretch = self.stretches.front().ok_or_else(|| unfit("nothing more was asked for".to_owned()))?;
        let (last, joins, at_end) = (stretch.last, stretch.joins, stretch.lineage.is_none());
        let parted = self.before.is_some_and(|before| before != raw.previous);
        if raw.header.seq == next && (parted || stretch.lineage.is_some_and(|wanted| wanted != lineage)) {
            return Err(Error::LogFork { seq: next });
        }
        let takes = |piece: &LogPiece| piece.lineage == lineage && piece.frames.len() < LOG_PIECE_FULL;
        if !self.piece.as_ref().is_some_and(takes) {
            self.write()?;
            self.piece = Some(self.begin(lineage, next, raw.previous));
        }
        let piece = self.piece.as_mut().expect("one was just begun where none was");
        piece.push(bytes).map_err(unfit)?;
        let (seq, hash) = (piece.last, piece.hash);
        (self.next, self.before, self.unwritten) = (seq.next(), Some(hash), true);
        if at_end {
            self.end = Some((lineage, seq, hash));
        }
        if seq == last {
            if joins.is_some_and(|joins| joins != hash) {
                return Err(Error::LogFork { seq: seq.next() });
            }
            self.write()?;
            self.stretches.pop_front();
            self.enter(Some((seq, hash)));
        }
        Ok(())
    }

    fn begin(&self, lineage: Lineage, first: Seq, previous: Digest) -> LogPiece {
        LogPiece {
            site: self.log.site.clone(),
            lineage,
            first,
            last: first,
            previous,
            hash: previous,
            kept: self.now,
            keys: Vec::new(),
            frames: Vec::new(),
        }
    }

    fn write(&mut self) -> Result<()> {
        if let Some(piece) = self.piece.as_mut().filter(|_| self.unwritten) {
            piece.kept = self.now;
            piece.keys.clone_from(&self.log.keys);
            self.repository.put_piece(piece)?;
            self.unwritten = false;
        }
        Ok(())
    }

    /// Makes what was taken durable and says up to which frame the log is kept, and what of it is not.
    ///
    /// # Errors
    /// What the disk says.
    pub fn finish(mut self) -> Result<Shipped> {
        self.write()?;
        Ok(Shipped { end: self.end, missing: std::mem::take(&mut self.missing) })
    }
}
