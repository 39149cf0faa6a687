//! What a backup reads: a disk at one moment.

use crate::{Error, allocation, sparse};
use std::fs::{File, FileType, OpenOptions};
use std::io::Result;
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// A disk that does not change while it is read. Shared by the pipeline's threads.
pub trait Source: Sync {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// What may hold data, in order, without overlap; everything else reads as zeros.
    fn extents(&self) -> &[Range<u64>];

    /// What takes space, likewise: the extents, and zeros that were set aside.
    fn allocated(&self) -> &[Range<u64>];

    /// Fills `into` with the bytes from `offset` on.
    ///
    /// # Errors
    /// What the disk says.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()>;
}

/// A raw image or a block device.
#[derive(Debug)]
pub struct RawSource {
    file: File,
    size: u64,
    extents: Vec<Range<u64>>,
    allocated: Vec<Range<u64>>,
}

fn is_disk(path: &Path, kind: FileType) -> crate::Result<()> {
    let what = if kind.is_file() || kind.is_block_device() {
        return Ok(());
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() {
        "a character device"
    } else {
        "no file"
    };
    Err(Error::NotADisk { path: path.to_owned(), what })
}

impl RawSource {
    /// Opens an image or block device. What is neither is not opened at all: that alone would wind a tape back, or wait for
    /// whoever writes to a pipe.
    ///
    /// # Errors
    /// [`Error::NotADisk`], or [`Error::Disk`] with what the file system says.
    pub fn open(path: &Path) -> crate::Result<RawSource> {
        let unreadable = |source| Error::Disk { path: path.to_owned(), action: "read", source };
        is_disk(path, std::fs::metadata(path).map_err(unreadable)?.file_type())?;
        // It may be something else by now, which must not keep us waiting.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
        is_disk(path, file.metadata().map_err(unreadable)?.file_type())?;
        RawSource::of(file).map_err(unreadable)
    }

    fn of(file: File) -> Result<RawSource> {
        let size = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential)?;
        let whole: Vec<Range<u64>> = std::iter::once(0..size).collect();
        let (extents, allocated) = if file.metadata()?.is_file() {
            let extents = sparse::extents(&file)?;
            let allocated = allocation::of_known(&file, &extents)?;
            (
                extents.into_iter().map(|extent| extent.offset..extent.end()).collect(),
                allocated.runs().iter().map(|run| run.span(size)).map(|(at, len)| at..at + len).collect(),
            )
        } else {
            (whole.clone(), whole)
        };
        Ok(RawSource { file, size, extents, allocated })
    }
}

impl Source for RawSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn extents(&self) -> &[Range<u64>] {
        &self.extents
    }

    fn allocated(&self) -> &[Range<u64>] {
        &self.allocated
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(into, offset)
    }
}
