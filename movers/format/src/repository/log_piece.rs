//! A piece of a site's log as a repository keeps it beside its points: frames of one lineage that follow one another, byte for
//! byte as they stand in the site's log (docs/formats/log.md), with what it takes to put them back in their place.

use super::sealed::{SealedError, SealedKind, open_file, seal_file};
use super::{FileId, RepositoryKey, Suite};
use farshore_schemas::frame::{MAX_FRAME, RawFrame, site_tag};
use farshore_schemas::ids::{Digest, Lineage, Seq, SiteName};
use farshore_schemas::units::Timestamp;
use serde::{Deserialize, Serialize};

/// A piece takes no more frames once it holds this many bytes of them.
pub const LOG_PIECE_FULL: usize = 4 * 1024 * 1024;
/// Bytes of a body at most: a full piece, one frame that made it full, and what stands beside them.
const MAX_LOG_PIECE: usize = LOG_PIECE_FULL + MAX_FRAME + 64 * 1024;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPiece {
    /// Whose log.
    pub site: SiteName,
    /// The lineage of every frame in it.
    pub lineage: Lineage,
    /// The first frame.
    pub first: Seq,
    /// The last frame.
    pub last: Seq,
    /// What the first frame names as the hash of the frame before it.
    pub previous: Digest,
    /// Hash of the last frame.
    pub hash: Digest,
    /// When the last frame was put in.
    pub kept: Timestamp,
    /// Public halves of the keys with which the site signs its baselines.
    pub keys: Vec<Digest>,
    /// The frames, one behind the other.
    #[serde(with = "serde_bytes")]
    pub frames: Vec<u8>,
}

/// A frame of a piece.
#[derive(Debug, Clone, Copy)]
pub struct LogFrame<'a> {
    /// Its place.
    pub seq: Seq,
    /// Its hash.
    pub hash: Digest,
    /// All its bytes.
    pub bytes: &'a [u8],
}

impl LogPiece {
    /// Its frames, each checked: its crcs, its place, its site and lineage, and the hash of the frame before.
    ///
    /// # Errors
    /// What is wrong with the first that is not as it must be.
    pub fn each(&self, mut each: impl FnMut(LogFrame<'_>)) -> Result<(), String> {
        let (mut at, mut seq, mut previous) = (0, self.first, self.previous);
        let site = site_tag(&self.site);
        while at < self.frames.len() {
            let (raw, length) =
                RawFrame::decode(&self.frames[at..]).map_err(|error| format!("frame {seq}, byte {at}: {error}"))?;
            let header = raw.header;
            if (header.seq, header.lineage, header.site) != (seq, self.lineage, site) {
                return Err(format!("byte {at} is not frame {seq} of this site and lineage"));
            }
            if raw.previous != previous {
                return Err(format!("frame {seq} names another hash than that of the frame before it"));
            }
            let bytes = &self.frames[at..at + length];
            previous = Digest(*blake3::hash(bytes).as_bytes());
            each(LogFrame { seq, hash: previous, bytes });
            at += length;
            seq = seq.next();
        }
        if self.frames.is_empty() || seq != self.last.next() || previous != self.hash {
            return Err(format!("its frames do not end with frame {} as it says", self.last));
        }
        Ok(())
    }

    /// Adds the next frame, when it is that.
    ///
    /// # Errors
    /// Why it is not.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        let next = if self.frames.is_empty() { self.first } else { self.last.next() };
        let expected = if self.frames.is_empty() { self.previous } else { self.hash };
        let (raw, length) = RawFrame::decode(bytes).map_err(|error| format!("frame {next}: {error}"))?;
        let (header, tag) = (raw.header, site_tag(&self.site));
        if length != bytes.len() || (header.seq, header.lineage, header.site) != (next, self.lineage, tag) {
            return Err(format!("this is not frame {next} of the site {} under {}", self.site, self.lineage));
        }
        if raw.previous != expected {
            return Err(format!("frame {next} names another hash than that of the frame before it"));
        }
        self.frames.extend_from_slice(bytes);
        self.last = next;
        self.hash = Digest(*blake3::hash(bytes).as_bytes());
        Ok(())
    }

    /// The piece as a file.
    pub fn encode(&self, sealing: (Suite, Option<&RepositoryKey>, FileId)) -> Option<Vec<u8>> {
        seal_file(SealedKind::Log, sealing, self)
    }

    /// Reads a piece and checks every frame.
    ///
    /// # Errors
    /// [`SealedError`].
    pub fn decode(bytes: &[u8], key: Option<&RepositoryKey>) -> Result<LogPiece, SealedError> {
        let piece: LogPiece = open_file(SealedKind::Log, key, (bytes, MAX_LOG_PIECE))?;
        piece.each(|_| {}).map_err(SealedError::Body)?;
        Ok(piece)
    }
}
