//! Which blocks of an image take space, and giving another image the same. Two things tell: where data lies (`SEEK_DATA`),
//! and, on file systems that answer it, the map of extents (`FIEMAP`). The second knows space that was set aside and never
//! written: `SEEK_DATA` calls that a hole, and `mkfs.ext4` leaves its journal and inode tables so.
//!
//! Space is given in the way that is seen again, so that a disk that was restored and is backed up once more keeps it: by
//! `fallocate` where the map of extents is there, since it costs no writing, and by written zeros elsewhere.

use crate::sparse;
use farshore_format::{Allocation, BLOCK, BlockRun, is_zero};
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Error, Result};
use std::os::unix::fs::FileExt;

/// Bytes read at once; a whole number of blocks.
const READ: u64 = 1024 * 1024;

/// The blocks of an image that take space.
///
/// # Errors
/// What the file system says.
pub fn of(file: &File) -> Result<Allocation> {
    of_known(file, &sparse::extents(file)?)
}

/// As [`of`], where it is known where data lies: to find that out takes a call for each run, of which an old disk has many.
pub(crate) fn of_known(file: &File, data: &[sparse::Extent]) -> Result<Allocation> {
    let data = Allocation::of_ranges(data.iter().map(|extent| extent.offset..extent.end()));
    Ok(mapped(file)?.map_or(data.clone(), |mapped| data.union(&mapped)))
}

/// What the map of extents tells; none where the file system has none.
fn mapped(file: &File) -> Result<Option<Allocation>> {
    let size = file.metadata()?.len();
    let mut ranges = Vec::new();
    let mut at = 0;
    for extent in fiemap::Fiemap::new(file) {
        let extent = match extent {
            Err(error) if no_map(&error) => return Ok(None),
            extent => extent?,
        };
        let end = extent.fe_logical.saturating_add(extent.fe_length).min(size);
        // Space behind the end is not the disk's, and a map that does not go on would be asked for again for ever.
        if extent.fe_logical >= size || end <= at {
            break;
        }
        ranges.push(extent.fe_logical..end);
        at = end;
    }
    Ok(Some(Allocation::of_ranges(ranges)))
}

/// Whether an error says that there is no map to be had here: no such thing, or a sandbox that does not let it through.
fn no_map(error: &Error) -> bool {
    let absent = [Errno::OPNOTSUPP, Errno::NOTTY, Errno::NOSYS, Errno::INVAL, Errno::PERM];
    Errno::from_io_error(error).is_some_and(|errno| absent.contains(&errno))
}

/// Makes every one of these blocks take space, where the file system can; what they hold stays. Blocks beyond the end of
/// the image are left out. Not yet durable.
///
/// # Errors
/// What the file system says: above all that it is full.
pub fn allocate(file: &File, wanted: &Allocation) -> Result<()> {
    let size = file.metadata()?.len();
    let seen = mapped(file)?.is_some();
    for run in wanted.runs() {
        let (offset, length) = run.span(size);
        if length > 0 && !(seen && set_aside(file, offset, length)?) {
            fill_holes(file, offset, length)?;
        }
    }
    Ok(())
}

/// Whether the file system could.
fn set_aside(file: &File, offset: u64, length: u64) -> Result<bool> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, length) {
            Ok(()) => return Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes zeros where there are holes; nothing on a file system that knows none.
fn fill_holes(file: &File, offset: u64, length: u64) -> Result<()> {
    let end = offset + length;
    let mut at = offset;
    while at < end {
        let hole = match rustix::fs::seek(file, SeekFrom::Hole(at)) {
            Ok(hole) => hole,
            Err(Errno::INVAL) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if hole >= end {
            return Ok(());
        }
        at = match rustix::fs::seek(file, SeekFrom::Data(hole)) {
            Ok(data) => data.min(end),
            Err(Errno::NXIO) => end,
            Err(error) => return Err(error.into()),
        };
        sparse::write_zeros(file, hole, at - hole)?;
    }
    Ok(())
}

/// Makes an image take the space of these blocks and, besides, of blocks that hold something; zeros elsewhere become
/// holes. What the image reads as stays. Not yet durable.
///
/// # Errors
/// What the file system says: above all that it is full.
pub fn conform(file: &File, wanted: &Allocation) -> Result<()> {
    for run in of(file)?.without(wanted) {
        free_zeros(file, &run)?;
    }
    allocate(file, wanted)
}

fn free_zeros(file: &File, run: &BlockRun) -> Result<()> {
    let (mut at, length) = run.span(file.metadata()?.len());
    let end = at + length;
    let mut buffer = vec![0; READ.min(length) as usize];
    while at < end {
        let part = &mut buffer[..READ.min(end - at) as usize];
        file.read_exact_at(part, at)?;
        let mut zeros = 0;
        for (block, content) in part.chunks(BLOCK).enumerate() {
            if is_zero(content) {
                zeros += content.len();
                continue;
            }
            sparse::punch(file, at + (block * BLOCK - zeros) as u64, zeros as u64)?;
            zeros = 0;
        }
        at += part.len() as u64;
        sparse::punch(file, at - zeros as u64, zeros as u64)?;
    }
    Ok(())
}
