//! What can be wrong with a log. A [`Problem`] names file, offset and seq (for a sealed block its range); a [`LogError`]
//! is what opening or reading returns.

use farshore_schemas::frame::FrameError;
use farshore_schemas::ids::{Lineage, Seq};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The frames that a problem touches: one, or those of a sealed block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeqRange {
    /// The first.
    pub first: Seq,
    /// The last, inclusive.
    pub last: Seq,
}

impl SeqRange {
    /// A range of one frame.
    pub const fn one(seq: Seq) -> SeqRange {
        SeqRange { first: seq, last: seq }
    }
}

impl fmt::Display for SeqRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}..={}", self.first, self.last) }
    }
}

/// What is wrong at a place in a segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    /// The segment header cannot be trusted.
    #[error("the segment header is damaged: {0}")]
    SegmentHeader(&'static str),
    /// The file has been renamed or its header replaced.
    #[error("the file's name and its header disagree on the first seq")]
    Name,
    /// The segment is of another site.
    #[error("it belongs to another site")]
    Site,
    /// A frame or segment of another history.
    #[error("its lineage is {found} where {expected} is expected")]
    Lineage {
        /// The one that is there.
        found: Lineage,
        /// The one that should be.
        expected: Lineage,
    },
    /// The header of a commit group cannot be trusted.
    #[error("the group header is damaged: {0}")]
    Group(&'static str),
    /// The bytes that fill a group up are not what they must be.
    #[error("the padding after a group is damaged")]
    Padding,
    /// A frame cannot be trusted.
    #[error("{0}")]
    Frame(FrameError),
    /// A gap or a repeat.
    #[error("seq {found} stands where {expected} is next")]
    Seq {
        /// The one that is there.
        found: Seq,
        /// The one that should be.
        expected: Seq,
    },
    /// A frame does not name the hash of the frame before it.
    #[error("the hash chain is broken: it does not name the frame before it")]
    Chain,
    /// A segment that must be there is not.
    #[error("frames from seq {expected} on are missing before this file")]
    Missing {
        /// The first that is missing.
        expected: Seq,
    },
    /// An unfinished write at the end. Starting the site recovers from it.
    #[error("the tail is torn: an unfinished write follows the last whole frame; a start keeps it aside and goes on")]
    Torn,
    /// The trailer of a sealed segment cannot be trusted.
    #[error("the trailer of the sealed segment is damaged: {0}")]
    Trailer(&'static str),
    /// The index of a sealed segment cannot be trusted.
    #[error("the index of the sealed segment is damaged: {0}")]
    Index(&'static str),
    /// A block of a sealed segment cannot be trusted.
    #[error("a block of the sealed segment is damaged: {0}")]
    Block(&'static str),
    /// The file's hash differs although every block is right.
    #[error("the hash of the sealed file does not match")]
    FileHash,
}

/// Something wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} at offset {offset}, seq {seqs}: {kind}", file.display())]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Bytes from its start.
    pub offset: u64,
    /// The frames touched; at the end of a log, the one that would be next.
    pub seqs: SeqRange,
    /// What is wrong.
    pub kind: ProblemKind,
}

impl Problem {
    pub(crate) fn at(file: &Path, offset: u64, seq: Seq, kind: ProblemKind) -> Problem {
        Problem { file: file.to_owned(), offset, seqs: SeqRange::one(seq), kind }
    }
}

/// Why a log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another process holds the data folder.
    #[error(
        "FS-LOG-LOCKED: the data folder {} is in use by another process; stop that process or name another folder",
        dir.display()
    )]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The file system said no.
    #[error("FS-LOG-IO: could not {what} {}: {source}; check the disk and the rights, then start again", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is there already.
    #[error("FS-LOG-EXISTS: {} is there already and is not written over; choose another name or folder", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// What is moved away must leave the site's own folder.
    #[error("FS-LOG-OWN-FOLDER: {} lies in the site's own data folder; choose a folder elsewhere", path.display())]
    OwnFolder {
        /// The folder that was named.
        path: PathBuf,
    },
    /// Acknowledged bytes are not what they were.
    #[error(
        "FS-LOG-DAMAGED: {0}; nothing was changed; put the file back from a copy or a peer, or cut the log there on purpose"
    )]
    Damaged(Box<Problem>),
    /// The folder holds another site's log.
    #[error("FS-LOG-SITE: {} is the log of site {found}, not of {expected}; name the right folder", dir.display())]
    WrongSite {
        /// The folder.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asked.
        expected: String,
    },
    /// A later program wrote it.
    #[error(
        "FS-LOG-NEWER: {} has segment format {found}, this program knows up to {known}; use a newer program",
        file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u16,
        /// Ours.
        known: u16,
    },
    /// There is no log in the folder.
    #[error("FS-LOG-NONE: there is no event log in {}; name a data folder of a site", dir.display())]
    NoLog {
        /// The folder.
        dir: PathBuf,
    },
    /// There were frames, and no segment is left.
    #[error(
        "FS-LOG-LOST: the event log in {} has no segment left, but frames up to {acknowledged} had been acknowledged; put the \
         newest copy of the log back; a start without it begins a new history and says so",
        dir.display()
    )]
    Gone {
        /// The folder.
        dir: PathBuf,
        /// The last frame known of.
        acknowledged: Seq,
    },
    /// A seq that this log does not hold.
    #[error("FS-LOG-SEQ: frame {seq} is not in this log, which holds {first} to {last}")]
    NotHere {
        /// The one asked for.
        seq: Seq,
        /// The first there is.
        first: Seq,
        /// The last there is.
        last: Seq,
    },
    /// A range that ends before it begins.
    #[error("FS-LOG-RANGE: there is no frame from {from} to {to}; name the lower seq first")]
    EmptyRange {
        /// Its first.
        from: Seq,
        /// Its last.
        to: Seq,
    },
    /// A range that crosses from one lineage into the next.
    #[error("FS-LOG-LINEAGE: the range holds frames of two lineages, the second from {at}; export them one by one")]
    TwoLineages {
        /// Where the second begins.
        at: Seq,
    },
}

impl LogError {
    /// Wraps what the file system said; made for `map_err`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError + use<> {
        let path = path.to_owned();
        move |source| LogError::Io { what, path, source }
    }
}

/// Gives a file its name, unless that is taken: by a second name, which never replaces, and by a look first where the file
/// system knows no second names.
pub(crate) fn name_new(from: &Path, to: &Path) -> Result<(), LogError> {
    let named = match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists || to.exists() => {
            return Err(LogError::Exists { path: to.to_owned() });
        }
        Err(_) => fs::rename(from, to),
    };
    named.map_err(LogError::io("name", to))
}

impl From<Problem> for LogError {
    fn from(problem: Problem) -> LogError {
        LogError::Damaged(Box::new(problem))
    }
}
