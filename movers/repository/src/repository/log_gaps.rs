//! What of the site's log should be in the folder and is not: pieces that are gone or damaged, wherever they are. All pieces of a
//! long log cannot be read with each shipment, so each reads some, in turn, and those that were found damaged before.

use super::Repository;
use super::damaged::damage_of;
use super::log::KeptLog;
use super::log_keeper::SiteLog;
use crate::Result;
use farshore_format::repository::LogPiece;
use farshore_schemas::frame::genesis_hash;
use farshore_schemas::ids::{Digest, Lineage, Seq};
use std::collections::BTreeSet;

/// Pieces that one shipment reads through, of 4 MiB each.
const IN_TURN: usize = 16;

/// Frames of the site's log that are not here, or not as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogGap {
    /// Their lineage, as far as it is known.
    pub lineage: Lineage,
    /// The first.
    pub first: Seq,
    /// The last.
    pub last: Seq,
}

/// Where the reading through of pieces has come, and what it found.
#[derive(Debug, Default)]
pub(super) struct ReadThrough {
    at: usize,
    bad: BTreeSet<(Lineage, Seq)>,
}

/// Frames that are to be fetched again.
#[derive(Debug)]
pub(super) struct Stretch {
    /// Their lineage; none at the log's end, where others may follow.
    pub(super) lineage: Option<Lineage>,
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// The hash of the frame before, when it is known.
    pub(super) previous: Option<Digest>,
    /// What the frame after it names as the hash of the one before, when it is known.
    pub(super) joins: Option<Digest>,
    /// A piece that takes more frames.
    pub(super) piece: Option<LogPiece>,
}

impl Repository {
    /// What of a log up to a frame is not here: what the site still has and is to be fetched, and what it has no more.
    pub(super) fn log_gaps(
        &self,
        log: &SiteLog,
        end: Seq,
        through: &mut ReadThrough,
    ) -> Result<(Vec<Stretch>, Vec<LogGap>)> {
        let logs = self.logs()?;
        let (line, mut lost) = self.line_of(log, end, &logs)?;
        let read = through.turn(&line, &logs);
        let mut gaps = Vec::new();
        for run in &line {
            self.gaps_of(run, (&logs, &read), (through, &mut gaps))?;
        }
        let begun = log.lineages.first().map_or(Seq(1), |(_, first)| *first);
        let mut wanted = Vec::new();
        for gap in gaps {
            if gap.first < begun {
                lost.push(LogGap { last: gap.last.min(Seq(begun.0 - 1)), ..gap });
            }
            if gap.last >= begun {
                wanted.push(self.stretch(LogGap { first: gap.first.max(begun), ..gap }, &line)?);
            }
        }
        Ok((wanted, lost))
    }

    /// The runs of lineages that make up the log, the oldest first: as the site has them, and before those, which it may have
    /// archived, as the folder tells. What cannot be told is lost.
    fn line_of(&self, log: &SiteLog, end: Seq, logs: &[KeptLog]) -> Result<(Vec<LogGap>, Vec<LogGap>)> {
        let (mut line, mut last) = (Vec::new(), end);
        for (lineage, first) in log.lineages.iter().rev().filter(|(_, first)| *first <= end) {
            line.push(LogGap { lineage: *lineage, first: *first, last });
            last = Seq(first.0.saturating_sub(1));
        }
        let mut lost = Vec::new();
        while let Some(oldest) = line.last_mut().filter(|run| run.first > Seq(1)) {
            let unknown = |first: Seq| LogGap { lineage: oldest.lineage, first: Seq(1), last: Seq(first.0 - 1) };
            let Some(first) = first_piece(oldest.lineage, logs).filter(|first| *first <= oldest.first) else {
                lost.push(unknown(oldest.first));
                break;
            };
            oldest.first = first;
            if first == Seq(1) {
                break;
            }
            let before = match self.sound(oldest.lineage, first)? {
                Some(piece) => self.lineage_before(&piece, logs)?,
                None => None,
            };
            let Some(lineage) = before else {
                lost.push(unknown(first));
                break;
            };
            let last = Seq(first.0 - 1);
            let begins = first_piece(lineage, logs).unwrap_or(last).min(last);
            line.push(LogGap { lineage, first: begins, last });
        }
        line.reverse();
        Ok((line, lost))
    }

    /// What is missing of one run. What is not read counts as reaching to the piece after it.
    fn gaps_of(
        &self,
        run: &LogGap,
        (logs, read): (&[KeptLog], &BTreeSet<(Lineage, Seq)>),
        (through, gaps): (&mut ReadThrough, &mut Vec<LogGap>),
    ) -> Result<()> {
        let pieces = logs.iter().find(|kept| kept.lineage == run.lineage).map_or(&[][..], |kept| &kept.pieces);
        let (mut next, mut before) = (run.first, None);
        let mut gap = |first: Seq, last: Seq| {
            let last = last.min(run.last);
            if first <= last {
                gaps.push(LogGap { lineage: run.lineage, first, last });
            }
        };
        for (at, first) in pieces.iter().enumerate().filter(|(_, first)| **first <= run.last) {
            gap(next, Seq(first.0.saturating_sub(1)));
            let after = pieces.get(at + 1).map(|after| Seq(after.0 - 1));
            let name = (run.lineage, *first);
            if let Some(after) = after.filter(|_| !read.contains(&name)) {
                (next, before) = (after.next(), None);
                continue;
            }
            let joins = |piece: &LogPiece| before.is_none_or(|before| next != *first || before == piece.previous);
            match self.sound(run.lineage, *first)?.filter(joins) {
                Some(piece) => {
                    through.bad.remove(&name);
                    (next, before) = (piece.last.next(), Some(piece.hash));
                }
                None => {
                    through.bad.insert(name);
                    gap(*first, after.unwrap_or(run.last));
                    (next, before) = (after.unwrap_or(run.last).next(), None);
                }
            }
        }
        gap(next, run.last);
        Ok(())
    }

    /// A piece; none when it is damaged or gone.
    fn sound(&self, lineage: Lineage, first: Seq) -> Result<Option<LogPiece>> {
        match self.log_piece(lineage, first) {
            Ok(piece) => Ok(Some(piece)),
            Err(error) if damage_of(&error).is_some() => {
                tracing::error!(%error, "a piece of the site's log is damaged here");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What is known of the frames around a gap.
    fn stretch(&self, gap: LogGap, line: &[LogGap]) -> Result<Stretch> {
        let LogGap { lineage, first, last } = gap;
        let holding = |seq: Seq| line.iter().find(|run| run.first <= seq && seq <= run.last).map(|run| run.lineage);
        let before = Seq(first.0.saturating_sub(1));
        let previous = match holding(before) {
            None if first == Seq(1) => Some(genesis_hash(lineage)),
            None => None,
            Some(holding) => match self.log_hash(holding, before) {
                Err(error) if damage_of(&error).is_some() => None,
                hash => hash?,
            },
        };
        let joins = match holding(last.next()) {
            None => None,
            Some(holding) => self.sound(holding, last.next())?.map(|piece| piece.previous),
        };
        Ok(Stretch { lineage: Some(lineage), first, last, previous, joins, piece: None })
    }
}

fn first_piece(lineage: Lineage, logs: &[KeptLog]) -> Option<Seq> {
    logs.iter().find(|kept| kept.lineage == lineage).and_then(|kept| kept.pieces.first().copied())
}

impl ReadThrough {
    /// The pieces to read now: the next ones in turn, and those that were damaged.
    fn turn(&mut self, line: &[LogGap], logs: &[KeptLog]) -> BTreeSet<(Lineage, Seq)> {
        let of_run = |run: &LogGap| {
            let kept = logs.iter().filter(|kept| kept.lineage == run.lineage);
            let (lineage, last) = (run.lineage, run.last);
            kept.flat_map(|kept| kept.pieces.clone())
                .filter(move |first| *first <= last)
                .map(move |first| (lineage, first))
                .collect::<Vec<_>>()
        };
        let all: Vec<(Lineage, Seq)> = line.iter().flat_map(of_run).collect();
        let turn = all.iter().cycle().skip(self.at % all.len().max(1)).take(IN_TURN.min(all.len()));
        let read = turn.chain(&self.bad).copied().collect();
        self.at = (self.at + IN_TURN) % all.len().max(1);
        read
    }
}
