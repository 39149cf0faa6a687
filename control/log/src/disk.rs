//! The few things that the writer asks of a file system, behind a trait so that tests can let any of them fail.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file that is being appended to.
pub trait SegmentFile: Send {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// What the system says; the file is then not to be trusted.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// fdatasync.
    ///
    /// # Errors
    /// What the system says. Never to be tried again: the kernel has dropped what it could not write.
    fn sync(&mut self) -> io::Result<()>;
}

/// Where segment files are made.
pub trait Disk: Send + Sync {
    /// Makes an empty file, in place of one that may be there.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;

    /// Opens a file for writing.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;

    /// Renames a file and makes the new name durable.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
}

/// The real one.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl SegmentFile for File {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(OpenOptions::new().write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        to.parent().map_or(Ok(()), sync_dir)
    }
}

/// Makes the names in a folder durable.
///
/// # Errors
/// What the system says.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Writes a file so that it is there in whole or not at all: beside it, fsync, rename, fsync of the folder.
///
/// # Errors
/// What the system says.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&beside)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}
