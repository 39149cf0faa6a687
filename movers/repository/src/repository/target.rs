//! Where a restore writes a disk to. Content arrives region by region and by several threads at once, in any order; no two
//! write to the same place.

use crate::direct::Direct;
use crate::{Error, allocation, sparse};
use farshore_format::Allocation;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use std::fs::{File, OpenOptions};
use std::io::Result;
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A disk that is written once.
pub trait Target: Sync {
    /// For messages.
    fn path(&self) -> &Path;

    /// Writes data. `offset` is a multiple of 4096.
    ///
    /// # Errors
    /// What the disk says.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()>;

    /// Makes a range that took no space in the source read as zeros.
    ///
    /// # Errors
    /// What the disk says.
    fn hole(&self, range: Range<u64>) -> Result<()>;

    /// Makes ranges, in order, that read as zeros and took space in the source do so here too. Called once, when all data is
    /// written.
    ///
    /// # Errors
    /// What the disk says: above all that it is full.
    fn zeros(&self, ranges: Vec<Range<u64>>) -> Result<()>;

    /// Makes all of it durable.
    ///
    /// # Errors
    /// What the disk says.
    fn sync(&self) -> Result<()>;
}

/// A new raw image: what is not written stays a hole.
#[derive(Debug)]
pub struct RawTarget<'a> {
    file: &'a File,
    path: &'a Path,
    direct: Direct,
}

impl<'a> RawTarget<'a> {
    /// Gives an empty file the size of the disk, in bytes.
    ///
    /// # Errors
    /// [`Error::Disk`] with what the file system says.
    pub fn new(file: &'a File, path: &'a Path, size: u64) -> crate::Result<RawTarget<'a>> {
        file.set_len(size).map_err(|source| Error::Disk { path: path.to_owned(), action: "written", source })?;
        Ok(RawTarget { file, path, direct: Direct::of(file) })
    }
}

impl Target for RawTarget<'_> {
    fn path(&self) -> &Path {
        self.path
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.direct.write(self.file, bytes, offset)
    }

    fn hole(&self, _range: Range<u64>) -> Result<()> {
        Ok(())
    }

    fn zeros(&self, ranges: Vec<Range<u64>>) -> Result<()> {
        allocation::allocate(self.file, &Allocation::of_ranges(ranges))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all()
    }
}

/// A block device: what it held is written over, holes as zeros. What lies behind the disk's end stays.
#[derive(Debug)]
pub struct DeviceTarget {
    file: File,
    path: PathBuf,
    direct: Direct,
}

impl DeviceTarget {
    /// Opens a device of at least `size` bytes for this program alone.
    ///
    /// # Errors
    /// [`Error::NotADevice`], [`Error::SmallDevice`], or [`Error::Disk`] with what the system says: that it is busy when it is
    /// mounted or part of something else.
    pub fn open(path: &Path, size: u64) -> crate::Result<DeviceTarget> {
        let unusable = |source| Error::Disk { path: path.to_owned(), action: "written", source };
        if !std::fs::metadata(path).map_err(unusable)?.file_type().is_block_device() {
            return Err(Error::NotADevice { path: path.to_owned() });
        }
        // On a device this does not make a file: the kernel refuses while anybody has it mounted.
        let flags = (OFlags::EXCL | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).map_err(unusable)?;
        if !file.metadata().map_err(unusable)?.file_type().is_block_device() {
            return Err(Error::NotADevice { path: path.to_owned() });
        }
        let found = rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|error| unusable(error.into()))?;
        if found < size {
            return Err(Error::SmallDevice { path: path.to_owned(), size, found });
        }
        let direct = Direct::of(&file);
        Ok(DeviceTarget { file, path: path.to_owned(), direct })
    }

    fn clear(&self, range: Range<u64>) -> Result<()> {
        let length = range.end - range.start;
        if length == 0 {
            return Ok(());
        }
        // Zeros by the device itself where it can; parts of a sector it cannot.
        match rustix::fs::fallocate(
            &self.file,
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            range.start,
            length,
        ) {
            Ok(()) => Ok(()),
            Err(_) => sparse::write_zeros(&self.file, range.start, length),
        }
    }
}

impl Target for DeviceTarget {
    fn path(&self) -> &Path {
        &self.path
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.direct.write(&self.file, bytes, offset)
    }

    fn hole(&self, range: Range<u64>) -> Result<()> {
        self.clear(range)
    }

    fn zeros(&self, ranges: Vec<Range<u64>>) -> Result<()> {
        ranges.into_iter().try_for_each(|range| self.clear(range))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all()
    }
}
