//! The copy of the site's log beside the points: `log/LINEAGE/FIRST`, pieces of frames of one lineage. A log that was put back
//! goes on under another lineage, so that its frames lie beside those that it forgot and never over them. A piece is replaced by
//! a longer one of the same beginning, in one step, until it is full; after that it stays as it is.

use super::Repository;
use super::damaged::damage_of;
use super::verify::Verified;
use crate::{Error, Result};
use farshore_format::repository::{LogPiece, SealedError};
use farshore_schemas::frame::genesis_hash;
use farshore_schemas::ids::{Digest, Lineage, Seq};
use std::path::PathBuf;

const FOLDER: &str = "log";
/// Digits of a piece's name.
const DIGITS: usize = 20;

/// What is kept of one lineage of a site's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLog {
    /// The lineage.
    pub lineage: Lineage,
    /// The first frames of its pieces, in order.
    pub pieces: Vec<Seq>,
}

/// Where in a file of a piece lies what is wrong with it.
fn placed(error: &SealedError) -> String {
    let at = match error {
        SealedError::Head(_) => 0,
        SealedError::Newer { .. } => 8,
        SealedError::Unsealed => 10,
        // The hash covers all of it; what it does not fit is not known closer.
        SealedError::Hash => 0,
        SealedError::Key | SealedError::Body(_) => 48,
    };
    format!("at offset {at}: {error}")
}

/// The first frame of the piece that a file is named as.
fn piece_named(name: &str) -> Option<Seq> {
    let plain = name.len() == DIGITS && name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse().ok().filter(|_| plain).map(Seq)
}

impl Repository {
    fn log_folder(&self, lineage: Lineage) -> PathBuf {
        self.root.join(FOLDER).join(lineage.to_string())
    }

    /// The file of a piece.
    pub fn log_path(&self, lineage: Lineage, first: Seq) -> PathBuf {
        self.log_folder(lineage).join(format!("{:0DIGITS$}", first.0))
    }

    /// What is kept of every lineage.
    ///
    /// # Errors
    /// What the disk says.
    pub fn logs(&self) -> Result<Vec<KeptLog>> {
        let mut logs = Vec::new();
        for (lineage, folder) in self.log_folders()? {
            let pieces = self.io.names(&folder)?.iter().filter_map(|name| piece_named(name)).collect();
            logs.push(KeptLog { lineage, pieces });
        }
        Ok(logs)
    }

    /// The folders of lineages. What else lies beside them is not ours.
    pub(super) fn log_folders(&self) -> Result<Vec<(Lineage, PathBuf)>> {
        let root = self.root.join(FOLDER);
        let folder = |name: String| name.parse().ok().map(|lineage: Lineage| (lineage, self.log_folder(lineage)));
        let folders = self.io.names(&root)?.into_iter().filter_map(folder);
        Ok(folders.filter(|(_, folder)| folder.is_dir()).collect())
    }

    /// What lies among the pieces and is none.
    pub(super) fn strays_in_log(&self) -> Result<Vec<PathBuf>> {
        let root = self.root.join(FOLDER);
        let known: Vec<PathBuf> = self.log_folders()?.into_iter().map(|(_, folder)| folder).collect();
        let beside = self.io.names(&root)?.into_iter().map(|name| root.join(name));
        let mut strays: Vec<PathBuf> = beside.filter(|path| !known.contains(path)).collect();
        for folder in known {
            let names = self.io.names(&folder)?.into_iter();
            strays.extend(names.filter(|name| piece_named(name).is_none()).map(|name| folder.join(name)));
        }
        Ok(strays)
    }

    /// A piece, read and proven frame by frame.
    ///
    /// # Errors
    /// [`Error::Damage`] with the offset in the file, or what the disk says.
    pub fn log_piece(&self, lineage: Lineage, first: Seq) -> Result<LogPiece> {
        let path = self.log_path(lineage, first);
        let bytes = self.io.read(&path)?.ok_or_else(|| self.io.damage(&path, "it is missing"))?;
        let piece = LogPiece::decode(&bytes, self.sealing.key.as_ref());
        let piece = piece.map_err(|error| self.io.damage(&path, placed(&error)))?;
        if (piece.lineage, piece.first) != (lineage, first) {
            let why = format!("at offset 48: it holds frames from {} of lineage {}", piece.first, piece.lineage);
            return Err(self.io.damage(&path, why));
        }
        Ok(piece)
    }

    /// The hash of a frame; none when it is not kept under this lineage.
    ///
    /// # Errors
    /// As [`Repository::log_piece`].
    pub fn log_hash(&self, lineage: Lineage, seq: Seq) -> Result<Option<Digest>> {
        let kept = self.logs()?.into_iter().find(|kept| kept.lineage == lineage);
        let holding = kept.and_then(|kept| kept.pieces.into_iter().rfind(|first| *first <= seq));
        let Some(first) = holding else { return Ok(None) };
        let mut found = None;
        let piece = self.log_piece(lineage, first)?;
        let read = piece.each(|frame| found = if frame.seq == seq { Some(frame.hash) } else { found });
        read.map_err(|why| self.io.damage(&self.log_path(lineage, first), why))?;
        Ok(found)
    }

    /// The last piece of a lineage that is sound. Pieces after it are damaged: what they held is fetched again.
    pub(super) fn last_piece(&self, lineage: Lineage) -> Result<Option<LogPiece>> {
        let kept = self.logs()?.into_iter().find(|kept| kept.lineage == lineage);
        for first in kept.into_iter().flat_map(|kept| kept.pieces).rev() {
            match self.log_piece(lineage, first) {
                Ok(piece) => return Ok(Some(piece)),
                Err(error) if damage_of(&error).is_some() => {
                    tracing::error!(%error, "a piece of the site's log is damaged here: it is fetched again");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Puts a piece into place, durable.
    pub(super) fn put_piece(&self, piece: &LogPiece) -> Result<()> {
        let folder = self.log_folder(piece.lineage);
        if !folder.is_dir() {
            self.io.make_folder(&folder)?;
            self.io.sync_folder(&self.root.join(FOLDER))?;
            self.io.sync_folder(&self.root)?;
        }
        let bytes = piece.encode(self.sealing.fresh()).expect("an open repository that seals has its key");
        self.io.place_durable(&self.log_path(piece.lineage, piece.first), &bytes)
    }

    /// Reads the copy of the log and says what is damaged of it. No point suffers from that.
    pub(super) fn verify_log(&self, verified: &mut Verified) -> Result<()> {
        let logs = self.logs()?;
        for kept in &logs {
            let mut before: Option<(Seq, Digest)> = None;
            for first in &kept.pieces {
                let path = self.log_path(kept.lineage, *first).display().to_string();
                let piece = match self.log_piece(kept.lineage, *first) {
                    Ok(piece) => piece,
                    Err(error) => {
                        let Some(why) = damage_of(&error) else { return Err(error) };
                        verified.note_log(path, why);
                        before = None;
                        continue;
                    }
                };
                let joins = match before {
                    Some((last, hash)) => piece.first == last.next() && piece.previous == hash,
                    // After a damaged piece nothing can be told; the first one goes on from the log before it.
                    None => *first != kept.pieces[0] || self.begins(&piece, &logs)?,
                };
                if !joins {
                    verified.note_log(path, "at offset 48: frames before it are missing, or others");
                }
                verified.frames += piece.last.0 - piece.first.0 + 1;
                before = Some((piece.last, piece.hash));
            }
        }
        Ok(())
    }

    /// Whether a log may begin with this piece, or goes on with it after a frame of another lineage.
    fn begins(&self, piece: &LogPiece, logs: &[KeptLog]) -> Result<bool> {
        if piece.first == Seq(1) {
            return Ok(piece.previous == genesis_hash(piece.lineage));
        }
        Ok(self.lineage_before(piece, logs)?.is_some())
    }

    /// The lineage after whose frame a piece goes on.
    pub(super) fn lineage_before(&self, piece: &LogPiece, logs: &[KeptLog]) -> Result<Option<Lineage>> {
        let before = Seq(piece.first.0.saturating_sub(1));
        for kept in logs.iter().filter(|kept| kept.lineage != piece.lineage) {
            match self.log_hash(kept.lineage, before) {
                Ok(found) if found == Some(piece.previous) => return Ok(Some(kept.lineage)),
                Ok(_) => {}
                Err(error) if damage_of(&error).is_some() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The lineages of the log that ends in `lineage`, the oldest first, each with the last frame of it that belongs to that
    /// log; `until` bounds the newest.
    ///
    /// # Errors
    /// [`Error::LogIncomplete`] when frames before the first one kept are not here, or as [`Repository::log_piece`].
    pub fn log_line(&self, lineage: Lineage, until: Seq) -> Result<Vec<(KeptLog, Seq)>> {
        let logs = self.logs()?;
        let (mut lineage, mut until, mut line) = (lineage, until, Vec::new());
        loop {
            let kept = logs.iter().find(|kept| kept.lineage == lineage).filter(|kept| !kept.pieces.is_empty());
            let kept =
                kept.ok_or_else(|| Error::LogIncomplete { path: self.root.join(FOLDER), lineage, before: until })?;
            let first = kept.pieces[0];
            if first <= until {
                line.push((kept.clone(), until));
            }
            let piece = self.log_piece(lineage, first)?;
            if piece.first == Seq(1) {
                line.reverse();
                return Ok(line);
            }
            let incomplete = || Error::LogIncomplete { path: self.root.join(FOLDER), lineage, before: piece.first };
            let before = self.lineage_before(&piece, &logs)?.ok_or_else(incomplete)?;
            until = until.min(Seq(piece.first.0 - 1));
            lineage = before;
        }
    }
}
