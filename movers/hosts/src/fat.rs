//! Finds `STAMPS.BIN` in a FAT file system that farshore made, by reading the volume's own structures: where a file's
//! bytes lie on the disk is something that the FAT library does not tell. A disk copied to another host so needs no
//! note about where its guest may stamp.

use crate::error::{HostError, Result};
use crate::stamps::{BLOCK, STAMP_BLOCK, Stamp};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The volume label of a file system made by farshore.
pub(crate) const LABEL: &[u8; 11] = b"FARSHORE   ";
/// The file that holds the stamps area, in the root folder.
pub(crate) const STAMPS_FILE: &str = "STAMPS.BIN";
const STAMPS_ENTRY: &[u8; 11] = b"STAMPS  BIN";
const ENTRY: usize = 32;
/// Root folders are searched this far.
const MOST_ENTRIES: usize = 4096;

struct Volume<'a> {
    file: &'a File,
    cluster_bytes: u64,
    fat_start: u64,
    root: Root,
    data_start: u64,
    clusters: u32,
}

enum Root {
    /// FAT16: a fixed range before the data.
    Fixed(Range<u64>),
    /// FAT32: a chain of clusters.
    Chain(u32),
}

/// The 4 KiB aligned range of `STAMPS.BIN` on a disk; none when the disk holds no file system of ours with such a file
/// in one piece, or the file holds no stamp.
pub(crate) fn find_stamps_file(file: &File, path: &Path) -> Result<Option<Range<u64>>> {
    let Some(span) = locate_stamps_file(file, path)? else { return Ok(None) };
    let mut block = vec![0u8; BLOCK];
    for at in span.clone().step_by(BLOCK) {
        file.read_exact_at(&mut block, at).map_err(HostError::io("reading", path))?;
        if Stamp::decode(&block).is_some() {
            return Ok(Some(span));
        }
    }
    Ok(None)
}

/// The same, whatever the file holds.
pub(crate) fn locate_stamps_file(file: &File, path: &Path) -> Result<Option<Range<u64>>> {
    match search(file) {
        Ok(found) => Ok(found),
        // Structures that point outside the disk: not made by us.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(HostError::io("reading", path)(error)),
    }
}

/// Whether a disk holds a FAT file system made by farshore.
pub(crate) fn is_ours(file: &File, path: &Path) -> Result<bool> {
    match Volume::open(file) {
        Ok(volume) => Ok(volume.is_some()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(HostError::io("reading", path)(error)),
    }
}

fn search(file: &File) -> io::Result<Option<Range<u64>>> {
    let Some(volume) = Volume::open(file)? else { return Ok(None) };
    let Some((first, size)) = volume.stamps_entry()? else { return Ok(None) };
    let clusters = size.div_ceil(volume.cluster_bytes);
    let Some(start) = volume.cluster_offset(first) else { return Ok(None) };
    for step in 0..clusters.saturating_sub(1) {
        let Ok(step) = u32::try_from(step) else { return Ok(None) };
        let Some(cluster) = first.checked_add(step) else { return Ok(None) };
        if volume.next(cluster)? != cluster.checked_add(1) {
            return Ok(None);
        }
    }
    let aligned = start.next_multiple_of(STAMP_BLOCK);
    let end = (start + size) / STAMP_BLOCK * STAMP_BLOCK;
    Ok((aligned < end).then_some(aligned..end))
}

impl<'a> Volume<'a> {
    fn open(file: &'a File) -> io::Result<Option<Volume<'a>>> {
        let mut boot = [0u8; 512];
        file.read_exact_at(&mut boot, 0)?;
        let u16_at = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let u32_at = |at: usize| u32::from_le_bytes([boot[at], boot[at + 1], boot[at + 2], boot[at + 3]]);
        let sector = u16_at(11);
        if boot[510..] != [0x55, 0xaa] || !(512..=4096).contains(&sector) || !sector.is_power_of_two() {
            return Ok(None);
        }
        let wide = u16_at(22) == 0;
        let label_at = if wide { 71 } else { 43 };
        let per_cluster = u64::from(boot[13]);
        if &boot[label_at..label_at + 11] != LABEL || !per_cluster.is_power_of_two() {
            return Ok(None);
        }
        let fat_sectors = if wide { u64::from(u32_at(36)) } else { u16_at(22) };
        let fat_start = u16_at(14) * sector;
        let root_start = fat_start + u64::from(boot[16]) * fat_sectors * sector;
        let root_bytes = (u16_at(17) * ENTRY as u64).next_multiple_of(sector);
        let sectors = if u16_at(19) == 0 { u64::from(u32_at(32)) } else { u16_at(19) };
        let data_start = root_start + root_bytes;
        let data_bytes = (sectors * sector).saturating_sub(data_start);
        let Ok(clusters) = u32::try_from(data_bytes / (per_cluster * sector)) else { return Ok(None) };
        // Fewer clusters would make it a FAT12, which is not what we make.
        if clusters < 4085 {
            return Ok(None);
        }
        let root = if wide { Root::Chain(u32_at(44)) } else { Root::Fixed(root_start..data_start) };
        Ok(Some(Volume { file, cluster_bytes: per_cluster * sector, fat_start, root, data_start, clusters }))
    }

    fn cluster_offset(&self, cluster: u32) -> Option<u64> {
        let index = cluster.checked_sub(2).filter(|index| *index < self.clusters)?;
        Some(self.data_start + u64::from(index) * self.cluster_bytes)
    }

    /// The cluster after this one in its file; none at the end of the file.
    fn next(&self, cluster: u32) -> io::Result<Option<u32>> {
        let next = match self.root {
            Root::Fixed(_) => {
                let mut entry = [0u8; 2];
                self.file.read_exact_at(&mut entry, self.fat_start + u64::from(cluster) * 2)?;
                u32::from(u16::from_le_bytes(entry))
            }
            Root::Chain(_) => {
                let mut entry = [0u8; 4];
                self.file.read_exact_at(&mut entry, self.fat_start + u64::from(cluster) * 4)?;
                u32::from_le_bytes(entry) & 0x0fff_ffff
            }
        };
        Ok(self.cluster_offset(next).map(|_| next))
    }

    /// First cluster and size of the stamps file.
    fn stamps_entry(&self) -> io::Result<Option<(u32, u64)>> {
        let mut left = MOST_ENTRIES;
        let mut place = match &self.root {
            Root::Fixed(range) => Some((range.clone(), None)),
            Root::Chain(first) => self.root_part(*first),
        };
        while let Some((range, cluster)) = place {
            let mut bytes = vec![0u8; (range.end - range.start).min((left * ENTRY) as u64) as usize];
            self.file.read_exact_at(&mut bytes, range.start)?;
            for entry in bytes.chunks_exact(ENTRY) {
                if entry[0] == 0 {
                    return Ok(None);
                }
                // 0x18: folders and volume labels.
                if &entry[..11] == STAMPS_ENTRY && entry[11] & 0x18 == 0 {
                    let half = |at: usize| u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
                    let high = if matches!(self.root, Root::Chain(_)) { half(20) << 16 } else { 0 };
                    let size = u32::from_le_bytes([entry[28], entry[29], entry[30], entry[31]]);
                    return Ok(Some((high | half(26), u64::from(size))));
                }
            }
            left -= bytes.len() / ENTRY;
            place = match cluster {
                Some(cluster) if left > 0 => self.next(cluster)?.and_then(|next| self.root_part(next)),
                Some(_) | None => None,
            };
        }
        Ok(None)
    }

    fn root_part(&self, cluster: u32) -> Option<(Range<u64>, Option<u32>)> {
        let start = self.cluster_offset(cluster)?;
        Some((start..start + self.cluster_bytes, Some(cluster)))
    }
}
