//! Room on a file system that is full: what a prune writes before it can free anything is little, and goes where a file lay
//! that holds nothing. Without it only somebody else could make room.

use super::Repository;
use crate::{Error, Result};
use rustix::fs::FallocateFlags;
use std::path::PathBuf;

/// Names of some thousand packs, and of some thousand points twice.
const RESERVE: u64 = 256 * 1024;

/// How much room a step of a prune counts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// For what is worth keeping of packs, too.
    Enough,
    /// For the little that says what goes: packs of which anything is named stay as they are.
    Scarce,
}

impl Repository {
    /// Takes a step; when the file system turns out to be full, once more in the room of the reserve. So the step must be one
    /// that does no harm when it is done twice.
    pub(super) fn with_room<T>(&self, step: impl Fn(Room) -> Result<T>) -> Result<T> {
        match step(Room::Enough) {
            Err(Error::Full { path, .. }) => {
                tracing::warn!(code = "FS-REPO-FULL", path = %path.display(), "the file system is full: what has to be written goes where the reserve was");
                self.io.remove_file(&self.reserve_path())?;
                let done = step(Room::Scarce)?;
                self.keep_reserve();
                Ok(done)
            }
            done => done,
        }
    }

    /// Puts the reserve there where it is missing and can be. It holds nothing and nobody counts on it, so nothing is made durable.
    pub(super) fn keep_reserve(&self) {
        let path = self.reserve_path();
        if path.exists() {
            return;
        }
        let kept = self.io.open_to_change(&path, (true, true)).and_then(|file| {
            // Written zeros are no room where a file system compresses.
            Ok(rustix::fs::fallocate(file, FallocateFlags::empty(), 0, RESERVE)?)
        });
        if let Err(error) = kept {
            tracing::debug!(path = %path.display(), %error, "no reserve is kept");
            self.io.discard(&path);
        }
    }

    fn reserve_path(&self) -> PathBuf {
        self.root.join("reserve")
    }
}
