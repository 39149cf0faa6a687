//! Regions that were read lately, so that what reads a disk in small pieces has each region read and proven once.

use farshore_repository::Result;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// A file by its number in the tree, and a region of it.
type Key = (usize, u64);

/// A region, once somebody has read it. Whoever wants it meanwhile waits.
type Slot = Arc<Mutex<Option<Arc<Vec<u8>>>>>;

#[derive(Debug)]
pub(crate) struct Cache {
    most: usize,
    /// The one that was wanted last is at the end.
    slots: Mutex<VecDeque<(Key, Slot)>>,
}

impl Cache {
    pub(crate) fn new(most: usize) -> Cache {
        Cache { most, slots: Mutex::default() }
    }

    /// A region, which `read` reads if need be.
    pub(crate) fn get(&self, key: Key, read: impl FnOnce() -> Result<Vec<u8>>) -> Result<Arc<Vec<u8>>> {
        let slot = self.slot(key);
        let mut content = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = &*content {
            return Ok(there.clone());
        }
        // What fails is tried again by whoever wants it next.
        Ok(content.insert(Arc::new(read()?)).clone())
    }

    fn slot(&self, key: Key) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let there = slots.iter().position(|(other, _)| *other == key).and_then(|at| slots.remove(at));
        let (_, slot) = there.unwrap_or_else(|| (key, Slot::default()));
        slots.push_back((key, slot.clone()));
        if slots.len() > self.most {
            slots.pop_front();
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_lately_is_not_read_again() {
        let cache = Cache::new(2);
        let mut reads = Vec::new();
        for region in [0, 1, 0, 2, 0, 1] {
            let got = cache.get((7, region), || {
                reads.push(region);
                Ok(vec![region as u8])
            });
            assert_eq!(*got.unwrap(), [region as u8]);
        }
        assert_eq!(reads, [0, 1, 2, 1]);
    }

    #[test]
    fn what_could_not_be_read_is_tried_again() {
        let cache = Cache::new(2);
        let broken = || Err(farshore_repository::Error::NoChunk { id: farshore_format::ChunkId([0; 32]) });
        assert!(cache.get((0, 0), broken).is_err());
        assert_eq!(*cache.get((0, 0), || Ok(vec![1])).unwrap(), [1]);
    }
}
