//! Takes the frames of a site's log that are not kept yet, in order, and keeps them in pieces. Where to go on is found out from
//! what is there: it resumes after any crash, and taking the same frames twice changes nothing.

use super::Repository;
use crate::{Error, Result};
use farshore_format::repository::{LOG_PIECE_FULL, LogPiece};
use farshore_schemas::frame::{RawFrame, genesis_hash};
use farshore_schemas::ids::{Digest, Lineage, Seq, SiteName};
use farshore_schemas::units::Timestamp;
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

/// See the module.
#[derive(Debug)]
pub struct LogKeeper<'a> {
    repository: &'a Repository,
    log: SiteLog,
    now: Timestamp,
    /// The piece that is being filled; not all of it is in the folder yet.
    piece: Option<LogPiece>,
    /// The last frame taken, or kept before; none when nothing is.
    end: Option<(Lineage, Seq, Digest)>,
    unwritten: bool,
    _alone: MutexGuard<'a, ()>,
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
        let alone = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let joint = self.joint(&log)?;
        let begun = log.lineages.first().map_or(Seq(1), |(_, first)| *first);
        let kept = joint.as_ref().map_or(Seq(0), |joint| joint.end.1);
        if kept.next() < begun {
            return Err(Error::LogArchived { first: begun });
        }
        let (piece, end) = joint.map_or((None, None), |joint| (joint.piece, Some(joint.end)));
        Ok(LogKeeper { repository: self, log, now, piece, end, unwritten: false, _alone: alone })
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
    /// The first frame that is not kept.
    pub fn next(&self) -> Seq {
        self.end.map_or(Seq(1), |(_, seq, _)| seq.next())
    }

    /// Takes the next frame.
    ///
    /// # Errors
    /// [`Error::LogFork`] when it does not go on from the frame before it, [`Error::LogFrame`], or what the disk says.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let next = self.next();
        let (raw, _) =
            RawFrame::decode(bytes).map_err(|error| Error::LogFrame { seq: next, why: error.to_string() })?;
        let lineage = raw.header.lineage;
        let expected = self.end.map_or_else(|| genesis_hash(lineage), |(_, _, hash)| hash);
        if raw.header.seq == next && raw.previous != expected {
            return Err(Error::LogFork { seq: next });
        }
        let takes = |piece: &LogPiece| piece.lineage == lineage && piece.frames.len() < LOG_PIECE_FULL;
        if !self.piece.as_ref().is_some_and(takes) {
            self.write()?;
            self.piece = Some(self.begin(lineage, next, expected));
        }
        let piece = self.piece.as_mut().expect("one was just begun where none was");
        piece.push(bytes).map_err(|why| Error::LogFrame { seq: next, why })?;
        self.end = Some((lineage, piece.last, piece.hash));
        self.unwritten = true;
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

    /// Makes what was taken durable and says up to which frame the log is kept.
    ///
    /// # Errors
    /// What the disk says.
    pub fn finish(mut self) -> Result<Option<(Lineage, Seq, Digest)>> {
        self.write()?;
        Ok(self.end)
    }
}
