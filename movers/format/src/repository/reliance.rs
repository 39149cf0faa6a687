//! Which packs a disk of a point relies on: derived from its tree when the point is made, so that the next point need not walk
//! the whole tree to know that all of it is still there. What cannot be read is made anew.

use super::sealed::{SealedError, SealedKind, open_file, seal_file};
use super::{FileId, RepositoryKey, Suite};
use farshore_schemas::ids::Digest;
use serde::{Deserialize, Serialize};

/// 100 million packs of 32 MiB.
const MAX_RELIANCE: usize = 64 * 1024 * 1024;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reliance {
    /// Id of the disk's record.
    pub disk: Digest,
    /// Ids of the packs: every record that its tree names is in one of them. There may be others among them.
    pub packs: Vec<Digest>,
}

impl Reliance {
    /// The list as a file.
    pub fn encode(&self, sealing: (Suite, Option<&RepositoryKey>, FileId)) -> Option<Vec<u8>> {
        seal_file(SealedKind::Reliance, sealing, self)
    }

    /// Reads a list.
    ///
    /// # Errors
    /// [`SealedError`].
    pub fn decode(bytes: &[u8], key: Option<&RepositoryKey>) -> Result<Reliance, SealedError> {
        open_file(SealedKind::Reliance, key, (bytes, MAX_RELIANCE))
    }
}
