//! What was looked for and found in this opening: leaves that can be counted on with all that they name, and the packs that this
//! lies in. It is forgotten as soon as one of these packs is not there any more. Sessions share it: one that takes what
//! another has left, or leaves what another takes, makes a walk longer or shorter. For each leaf in it the packs of all that
//! it names are in it, whoever put it there.

use super::Repository;
use crate::Result;
use farshore_format::repository::{ChunkId, REGION};
use std::collections::HashSet;
use std::sync::PoisonError;

/// Half of an id. Ids are keyed, so that two that are alike by half come about by chance alone, one in 2^128.
type Half = [u8; 16];

/// Leaves remembered at most, of all disks that were looked at: 64 MiB, enough for 16 TiB of regions of which no two are alike.
/// What would be beyond is not remembered: then nothing is kept of what a point relies on, and the next one walks the tree.
const REMEMBERED: usize = (64 << 20) / size_of::<Half>();

const _: () = assert!(REMEMBERED as u64 / 2 * REGION >= 8 << 40, "8 TiB, even if all of it changes between two points");

/// Leaves that can be counted on with all that they name, and the packs that this lies in.
#[derive(Debug, Default)]
pub(super) struct Whole {
    /// In order, each once.
    leaves: Vec<Half>,
    packs: HashSet<u32>,
}

fn half(id: &ChunkId) -> Half {
    let mut half = Half::default();
    half.copy_from_slice(&id.0[..size_of::<Half>()]);
    half
}

impl Whole {
    pub(super) fn of<'a>(leaves: impl IntoIterator<Item = &'a ChunkId>, packs: HashSet<u32>) -> Whole {
        let mut leaves: Vec<Half> = leaves.into_iter().map(half).collect();
        leaves.sort_unstable();
        leaves.dedup();
        Whole { leaves, packs }
    }

    pub(super) fn has(&self, leaf: &ChunkId) -> bool {
        self.leaves.binary_search(&half(leaf)).is_ok()
    }

    /// Adds another, unless that makes it too large.
    fn add(&mut self, mut other: Whole) {
        other.leaves.retain(|leaf| self.leaves.binary_search(leaf).is_err());
        if self.leaves.len() + other.leaves.len() > REMEMBERED {
            return;
        }
        self.leaves.reserve_exact(other.leaves.len());
        self.leaves.append(&mut other.leaves);
        self.leaves.sort_unstable();
        self.packs.extend(other.packs);
    }
}

impl Repository {
    /// What was found in this opening; nothing if anything of it is not there any more, or anything may be damaged.
    pub(super) fn found_before(&self) -> Result<Whole> {
        let found = std::mem::take(&mut *self.whole.lock().unwrap_or_else(PoisonError::into_inner));
        if !self.index().damage.is_none() {
            return Ok(Whole::default());
        }
        for pack in &found.packs {
            if !self.vet(*pack)? {
                return Ok(Whole::default());
            }
        }
        Ok(found)
    }

    /// The packs that these leaves and what they name lie in, and maybe others; none when not all of them were remembered. What
    /// was remembered is forgotten with that.
    pub(super) fn packs_of(&self, leaves: &[ChunkId]) -> Option<HashSet<u32>> {
        let whole = std::mem::take(&mut *self.whole.lock().unwrap_or_else(PoisonError::into_inner));
        leaves.iter().all(|leaf| whole.has(leaf)).then_some(whole.packs)
    }

    /// Notes what was found, besides what was before.
    pub(super) fn remember(&self, found: Whole) {
        if self.index().damage.is_none() {
            self.whole.lock().unwrap_or_else(PoisonError::into_inner).add(found);
        }
    }
}
