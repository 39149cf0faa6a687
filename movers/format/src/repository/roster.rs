//! The roster: which points a repository has, so that one that was deleted or put back is noticed without the control
//! plane. Written before each change of points, with what is about to change, and after it; a generation tells a newer one from an older copy.

use super::sealed::{SealedError, SealedKind, open_file, seal_file};
use super::{FileId, RepositoryKey, Suite};
use farshore_schemas::ids::{Digest, PointId};
use serde::{Deserialize, Serialize};

const MAX_ROSTER: usize = 64 * 1024 * 1024;

/// A point of the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterPoint {
    /// Its id.
    pub point: PointId,
    /// BLAKE3 of its file.
    pub file: Digest,
}

/// Every point of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// Grows by one with each writing.
    pub generation: u64,
    /// The points, by id.
    pub points: Vec<RosterPoint>,
    /// Points that are being added: each is there or not.
    pub coming: Vec<RosterPoint>,
    /// Points that are being dropped, likewise.
    pub going: Vec<PointId>,
}

impl Roster {
    /// The roster as a file.
    pub fn encode(&self, sealing: (Suite, Option<&RepositoryKey>, FileId)) -> Option<Vec<u8>> {
        seal_file(SealedKind::Roster, sealing, self)
    }

    /// Reads a roster.
    ///
    /// # Errors
    /// [`SealedError`].
    pub fn decode(bytes: &[u8], key: Option<&RepositoryKey>) -> Result<Roster, SealedError> {
        let roster: Roster = open_file(SealedKind::Roster, key, (bytes, MAX_ROSTER))?;
        if roster.points.windows(2).any(|pair| pair[0].point >= pair[1].point) {
            return Err(SealedError::Body("its points are not in order".into()));
        }
        Ok(roster)
    }
}
