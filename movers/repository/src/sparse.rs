//! Disk images with holes: reading their extents, writing without filling holes, copying, and what they take on disk.
//! Shared by everything that touches images. Offsets and lengths in bytes.

use crate::allocation;
use farshore_format::{BLOCK, DigestMap, DiskHasher, block_digest, is_zero};
use farshore_schemas::ids::Digest;
use rustix::fs::{FallocateFlags, SeekFrom};
use std::fs::{File, OpenOptions};
use std::io::Result;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Bytes read at once; a whole number of chunks and blocks.
const READ: usize = 1024 * 1024;

/// A run of an image that holds data, or may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it starts.
    pub offset: u64,
    /// Its length.
    pub length: u64,
}

impl Extent {
    /// The first byte after it.
    pub const fn end(&self) -> u64 {
        self.offset + self.length
    }
}

/// The runs of `file` that are not holes, in order. Where the file system knows no holes, one run over everything.
///
/// # Errors
/// What the file system says.
pub fn extents(file: &File) -> Result<Vec<Extent>> {
    let size = file.metadata()?.len();
    let mut extents = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) if start < size => start,
            Ok(_) | Err(rustix::io::Errno::NXIO) => break,
            Err(rustix::io::Errno::INVAL) => {
                extents.push(Extent { offset: at, length: size - at });
                break;
            }
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.clamp(start, size);
        if end == start {
            break;
        }
        extents.push(Extent { offset: start, length: end - start });
        at = end;
    }
    Ok(extents)
}

/// What walking an image meets, in order and without gaps.
#[derive(Debug)]
pub enum Piece<'a> {
    /// Bytes that were read, at most 1 MiB, beginning at a multiple of 4096.
    Data(&'a [u8]),
    /// A hole of this many bytes.
    Hole(u64),
}

/// Walks `[from, to)` of an image in order; `to` is cut to its end. `from` is a multiple of 4096. The image is read with
/// positioned reads only, so that several walks may share a file.
///
/// # Errors
/// What the file system says, or what `each` answers.
pub fn walk<E: From<std::io::Error>>(
    file: &File,
    from: u64,
    to: u64,
    mut each: impl FnMut(u64, Piece<'_>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let end = to.min(file.metadata()?.len());
    let block = BLOCK as u64;
    let mut buffer = vec![0; READ];
    let mut at = from;
    for extent in extents(file)? {
        // Data on a file system with smaller blocks may begin anywhere: go out to whole blocks.
        let start = (extent.offset / block * block).clamp(at.min(end), end);
        let stop = extent.end().next_multiple_of(block).min(end);
        if start > at {
            each(at, Piece::Hole(start - at))?;
            at = start;
        }
        while at < stop {
            let length = (stop - at).min(READ as u64 - at % READ as u64) as usize;
            file.read_exact_at(&mut buffer[..length], at)?;
            each(at, Piece::Data(&buffer[..length]))?;
            at += length as u64;
        }
    }
    if at < end {
        each(at, Piece::Hole(end - at))?;
    }
    Ok(())
}

/// BLAKE3 over the whole image, holes as zeros, and the bytes that were read for it.
///
/// # Errors
/// What the file system says.
pub fn checksum(file: &File) -> Result<(Digest, u64)> {
    let mut hasher = DiskHasher::new();
    let mut read = 0;
    walk::<std::io::Error>(file, 0, u64::MAX, |_, piece| {
        match piece {
            Piece::Data(bytes) => {
                read += bytes.len() as u64;
                hasher.data(bytes);
            }
            Piece::Hole(length) => hasher.zeros(length),
        }
        Ok(())
    })?;
    Ok((hasher.finish(), read))
}

/// The digest of every block of the image, and its checksum, in one reading.
///
/// # Errors
/// What the file system says.
pub fn digests(file: &File) -> Result<(DigestMap, Digest)> {
    let mut hasher = DiskHasher::new();
    let mut map = DigestMap::zero(file.metadata()?.len());
    walk::<std::io::Error>(file, 0, map.size(), |offset, piece| {
        match piece {
            Piece::Data(bytes) => {
                hasher.data(bytes);
                for (block, content) in (offset / BLOCK as u64..).zip(bytes.chunks(BLOCK)) {
                    map.set(block, block_digest(content));
                }
            }
            Piece::Hole(length) => hasher.zeros(length),
        }
        Ok(())
    })?;
    Ok((map, hasher.finish()))
}

/// Bytes that the file takes on disk.
///
/// # Errors
/// What the file system says.
pub fn allocated(file: &File) -> Result<u64> {
    Ok(file.metadata()?.blocks() * 512)
}

/// Makes `[offset, offset + length)` read as zeros and, where the file system can, take no space. The size stays.
///
/// # Errors
/// What the file system says.
pub fn punch(file: &File, offset: u64, length: u64) -> Result<()> {
    if length == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length) {
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(file, offset, length),
        other => Ok(other?),
    }
}

pub(crate) fn write_zeros(file: &File, offset: u64, length: u64) -> Result<()> {
    let zeros = vec![0; READ.min(length as usize)];
    let mut at = offset;
    while at < offset + length {
        let part = (offset + length - at).min(zeros.len() as u64) as usize;
        file.write_all_at(&zeros[..part], at)?;
        at += part as u64;
    }
    Ok(())
}

/// Writes `bytes` at `offset`, its zero blocks as holes. `offset` is a multiple of 4096.
///
/// # Errors
/// What the file system says.
pub fn write_sparse(file: &File, bytes: &[u8], offset: u64) -> Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        let zero = is_zero(&bytes[at..bytes.len().min(at + BLOCK)]);
        let run = bytes[at..].chunks(BLOCK).take_while(|block| is_zero(block) == zero).map(<[u8]>::len).sum::<usize>();
        if zero {
            punch(file, offset + at as u64, run as u64)?;
        } else {
            file.write_all_at(&bytes[at..at + run], offset + at as u64)?;
        }
        at += run;
    }
    Ok(())
}

/// Copies an image into a new file (one that is there loses its content): a reflink where the file system can, else its
/// extents, so that holes stay holes, and zeros that take space take it in the copy. Not yet durable.
///
/// # Errors
/// What the file system says.
pub fn copy(from: &File, to: &Path) -> Result<File> {
    let target = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(to)?;
    if rustix::fs::ioctl_ficlone(&target, from).is_ok() {
        return Ok(target);
    }
    let size = from.metadata()?.len();
    target.set_len(size)?;
    for extent in extents(from)? {
        copy_extent(from, &target, extent)?;
    }
    allocation::allocate(&target, &allocation::of(from)?)?;
    Ok(target)
}

fn copy_extent(from: &File, to: &File, extent: Extent) -> Result<()> {
    let (mut read_at, mut write_at) = (extent.offset, extent.offset);
    while read_at < extent.end() {
        let left = (extent.end() - read_at).min(1 << 30) as usize;
        match rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), left) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(
                rustix::io::Errno::XDEV
                | rustix::io::Errno::OPNOTSUPP
                | rustix::io::Errno::INVAL
                | rustix::io::Errno::NOSYS,
            ) => {
                return copy_by_hand(from, to, Extent { offset: read_at, length: extent.end() - read_at });
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, to: &File, extent: Extent) -> Result<()> {
    let mut buffer = vec![0; READ];
    let mut at = extent.offset;
    while at < extent.end() {
        let part = (extent.end() - at).min(READ as u64) as usize;
        from.read_exact_at(&mut buffer[..part], at)?;
        to.write_all_at(&buffer[..part], at)?;
        at += part as u64;
    }
    Ok(())
}
