//! Stamps: blocks that a guest writes while it runs, each bearing its epoch and a count. Read back from the disks
//! they prove which guests ran and in which order, whatever anybody's log says: two guests of one VM that wrote in
//! the same span show as counts that are claimed twice, or as times that overlap.
//!
//! A stamp fills one 4 KiB block (little-endian): magic, epoch counter, count, time, guest, since, length and bytes of
//! the granting site's name, zeros, crc32c of all that.

use crate::error::{HostError, Result};
use crate::image::{self, Access};
use crate::vm_file::StampsArea;
use farshore_schemas::ids::SiteName;
use farshore_schemas::units::Timestamp;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a stamp's block.
pub const STAMP_BLOCK: u64 = 4096;
pub(crate) const BLOCK: usize = STAMP_BLOCK as usize;
const MAGIC: &[u8; 8] = b"FSSTAMP1";
const SITE_AT: usize = 49;
const LONGEST_SITE: usize = 63;
const CRC_AT: usize = BLOCK - 4;

/// One stamp.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Grows by one with each stamp of this disk, across restarts. 0 is a block that no guest has stamped yet.
    pub count: u64,
    /// Counter of the epoch that the guest ran under.
    pub epoch: u64,
    /// The site that granted the epoch.
    pub site: SiteName,
    /// When it was written, by the guest's clock.
    pub time: Timestamp,
    /// When this guest process started to stamp: with `time` it is the span in which this guest wrote.
    pub since: Timestamp,
    /// Tells guest processes apart: the pid and when the process was started.
    pub guest: u64,
}

impl Stamp {
    /// What marks a stamps area before any guest has stamped it.
    pub(crate) fn blank() -> Result<Stamp> {
        let time = Timestamp(0);
        Ok(Stamp { count: 0, epoch: 0, site: SiteName::parse("unstamped")?, time, since: time, guest: 0 })
    }

    pub(crate) fn encode(&self) -> Box<[u8; BLOCK]> {
        let mut block = Box::new([0u8; BLOCK]);
        block[..8].copy_from_slice(MAGIC);
        block[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        block[16..24].copy_from_slice(&self.count.to_le_bytes());
        block[24..32].copy_from_slice(&self.time.0.to_le_bytes());
        block[32..40].copy_from_slice(&self.guest.to_le_bytes());
        block[40..48].copy_from_slice(&self.since.0.to_le_bytes());
        let site = self.site.as_str().as_bytes();
        // A site's name is at most 63 bytes (schemas): it fits, and so does its length.
        let length = site.len().min(LONGEST_SITE);
        block[48] = length as u8;
        block[SITE_AT..SITE_AT + length].copy_from_slice(&site[..length]);
        let crc = crc32c::crc32c(&block[..CRC_AT]);
        block[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// The stamp in a block; none when the block is anything else, or half of one.
    pub(crate) fn decode(block: &[u8]) -> Option<Stamp> {
        if block.len() != BLOCK || &block[..8] != MAGIC {
            return None;
        }
        let number = |at: usize| block[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let crc = block[CRC_AT..].try_into().map(u32::from_le_bytes).ok()?;
        let length = usize::from(block[48]);
        if crc != crc32c::crc32c(&block[..CRC_AT]) || length > LONGEST_SITE {
            return None;
        }
        let site = std::str::from_utf8(&block[SITE_AT..SITE_AT + length]).ok()?;
        Some(Stamp {
            epoch: number(8)?,
            count: number(16)?,
            time: Timestamp(number(24)?.cast_signed()),
            guest: number(32)?,
            since: Timestamp(number(40)?.cast_signed()),
            site: SiteName::parse(site).ok()?,
        })
    }
}

/// All stamps in an area of a disk, by count. Blocks that no guest has stamped, and blocks that are no whole stamp, are
/// left out. `image` is the image of `area.disk`.
///
/// # Errors
/// When the image cannot be opened or read.
pub fn read_stamps(image: &Path, area: &StampsArea) -> Result<Vec<Stamp>> {
    let file = image::open(image, Access::Read)?;
    let mut stamps = Vec::new();
    let mut block = vec![0u8; BLOCK];
    for index in 0..area.length / STAMP_BLOCK {
        file.read_exact_at(&mut block, area.offset + index * STAMP_BLOCK)
            .map_err(HostError::io("reading stamps from", image))?;
        stamps.extend(Stamp::decode(&block).filter(|stamp| stamp.count > 0));
    }
    stamps.sort();
    Ok(stamps)
}
