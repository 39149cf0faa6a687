//! Changes files on a guest's disk, through the layer that keeps snapshots.

use super::disks::Disks;
use crate::error::{HostError, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One percent of the disk.
const SHARE: u64 = 100;

/// Changes about a hundredth of a disk that holds a file system made by farshore; returns the bytes of files written.
pub(super) fn write_files(disks: &mut Disks, disk: usize, seed: u64) -> Result<u64> {
    let path = disks.path(disk).to_owned();
    let budget = disks.size(disk) / SHARE;
    let stream = disks.stream(disk);
    // The FAT library asserts in places on what it reads from the disk: damage there must not end the guest.
    let changed = catch_unwind(AssertUnwindSafe(|| crate::volume::change(stream, seed, budget)));
    let changed = changed.unwrap_or_else(|_| Err(std::io::Error::other("the file system is damaged")));
    changed.map_err(|source| HostError::Fat { path, source })
}
