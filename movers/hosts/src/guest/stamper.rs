//! Writes stamps round robin through the stamps area, and goes on counting where the last guest of this disk stopped.

use super::disks::Disks;
use super::now;
use crate::error::{HostError, Result};
use crate::process::ProcessId;
use crate::stamps::{BLOCK, STAMP_BLOCK, Stamp};
use crate::vm_file::StampsArea;
use farshore_schemas::messages::Epoch;
use farshore_schemas::units::Timestamp;

/// Stamps between two syncs: five syncs a second.
const BATCH: u64 = 10;

pub(super) struct Stamper {
    disk: usize,
    offset: u64,
    blocks: u64,
    /// The next block of the area.
    next: u64,
    count: u64,
    unsynced: u64,
    epoch: Epoch,
    since: Timestamp,
    guest: u64,
}

impl Stamper {
    pub(super) fn open(disks: &Disks, area: &StampsArea, epoch: &Epoch, process: &ProcessId) -> Result<Stamper> {
        let disk = disks.index(&area.disk).ok_or_else(|| HostError::DiskMissing { path: area.disk.as_str().into() })?;
        let blocks = area.length / STAMP_BLOCK;
        let mut newest: Option<(u64, u64)> = None;
        let mut block = vec![0u8; BLOCK];
        for index in 0..blocks {
            disks.read_at(disk, &mut block, area.offset + index * STAMP_BLOCK)?;
            if let Some(stamp) = Stamp::decode(&block)
                && newest.is_none_or(|(count, _)| stamp.count > count)
            {
                newest = Some((stamp.count, index));
            }
        }
        let (count, last) = newest.unwrap_or((0, blocks - 1));
        // Ticks grow with every process start and pids differ within one tick.
        let guest = process.started_ticks << 22 | u64::from(process.pid.unsigned_abs() & 0x3f_ffff);
        Ok(Stamper {
            disk,
            offset: area.offset,
            blocks,
            next: if count == 0 { 0 } else { (last + 1) % blocks },
            count,
            unsynced: 0,
            epoch: epoch.clone(),
            since: now(),
            guest,
        })
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Writes the next stamp; syncs at the end of a batch.
    pub(super) fn stamp(&mut self, disks: &mut Disks) -> Result<()> {
        let stamp = Stamp {
            count: self.count + 1,
            epoch: self.epoch.counter,
            site: self.epoch.site.clone(),
            time: now(),
            since: self.since,
            guest: self.guest,
        };
        disks.write_at(self.disk, stamp.encode().as_slice(), self.offset + self.next * STAMP_BLOCK)?;
        self.count += 1;
        self.next = (self.next + 1) % self.blocks;
        self.unsynced += 1;
        if self.unsynced >= BATCH { self.sync(disks) } else { Ok(()) }
    }

    pub(super) fn sync(&mut self, disks: &mut Disks) -> Result<()> {
        self.unsynced = 0;
        disks.sync(self.disk)
    }
}
