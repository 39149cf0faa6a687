//! Until when points must stay, whoever says otherwise. A file of its own, since a date may be lengthened and a point's file is
//! written once.

use super::sealed::{SealedError, SealedKind, open_file, seal_file};
use super::{FileId, RepositoryKey, Suite};
use farshore_schemas::ids::PointId;
use farshore_schemas::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const MAX_IMMUTABLE: usize = 64 * 1024 * 1024;

/// A point that must stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImmutablePoint {
    /// Its id.
    pub point: PointId,
    /// Until then.
    pub until: Timestamp,
}

/// Every point of a repository that must stay.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Immutable {
    /// The latest time that was seen.
    pub seen: Timestamp,
    /// The points, by id.
    pub points: Vec<ImmutablePoint>,
}

impl Immutable {
    /// What must stay by either list, each point until the later date.
    #[must_use]
    pub fn and(self, other: Immutable) -> Immutable {
        let mut dates: BTreeMap<PointId, Timestamp> = BTreeMap::new();
        for one in self.points.into_iter().chain(other.points) {
            let until = dates.entry(one.point).or_insert(one.until);
            *until = one.until.max(*until);
        }
        let points = dates.into_iter().map(|(point, until)| ImmutablePoint { point, until }).collect();
        Immutable { seen: self.seen.max(other.seen), points }
    }

    /// The list as a file.
    pub fn encode(&self, sealing: (Suite, Option<&RepositoryKey>, FileId)) -> Option<Vec<u8>> {
        seal_file(SealedKind::Immutable, sealing, self)
    }

    /// Reads a list.
    ///
    /// # Errors
    /// [`SealedError`].
    pub fn decode(bytes: &[u8], key: Option<&RepositoryKey>) -> Result<Immutable, SealedError> {
        let immutable: Immutable = open_file(SealedKind::Immutable, key, (bytes, MAX_IMMUTABLE))?;
        let sound = immutable.points.windows(2).all(|pair| pair[0].point < pair[1].point);
        if sound { Ok(immutable) } else { Err(SealedError::Body("its points are not in order".into())) }
    }
}
