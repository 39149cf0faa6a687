//! What every reader that checks carries along: which seq is next, and which hash it must name. Used on append, on
//! recovery, by verify and by seal, so that the rule stands in one place.

use crate::error::ProblemKind;
use crate::header::SegmentHeader;
use farshore_schemas::frame::{RawFrame, genesis_hash, site_tag};
use farshore_schemas::ids::{Digest, Lineage, Seq};

/// The state of the chain before the next frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) lineage: Lineage,
    pub(crate) site: [u8; 16],
    pub(crate) next: Seq,
    /// Hash that the next frame must name.
    pub(crate) previous: Digest,
}

impl Chain {
    /// At the start of a segment.
    pub(crate) fn of(header: &SegmentHeader) -> Chain {
        Chain {
            lineage: header.lineage,
            site: site_tag(&header.site),
            next: header.first,
            previous: header.chain_start(),
        }
    }

    /// The same place, for a frame of this lineage: the first frame of a log names its own lineage, any other goes on.
    pub(crate) fn in_lineage(self, lineage: Lineage) -> Chain {
        let previous = if self.next == Seq(1) { genesis_hash(lineage) } else { self.previous };
        Chain { lineage, previous, ..self }
    }

    /// Whether a frame, whose crcs are right, is the next one.
    pub(crate) fn check(&self, frame: &RawFrame<'_>) -> Result<(), ProblemKind> {
        if frame.header.site != self.site {
            return Err(ProblemKind::Site);
        }
        if frame.header.lineage != self.lineage {
            return Err(ProblemKind::Lineage { found: frame.header.lineage, expected: self.lineage });
        }
        if frame.header.seq != self.next {
            return Err(ProblemKind::Seq { found: frame.header.seq, expected: self.next });
        }
        if frame.previous != self.previous {
            return Err(ProblemKind::Chain);
        }
        Ok(())
    }

    /// Goes on past a frame with this hash.
    pub(crate) fn advance(&mut self, hash: Digest) {
        self.next = self.next.next();
        self.previous = hash;
    }

    /// The last frame that was passed.
    pub(crate) fn tail(&self) -> (Seq, Digest) {
        (Seq(self.next.0 - 1), self.previous)
    }
}

/// A frame's hash.
pub(crate) fn frame_hash(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}
