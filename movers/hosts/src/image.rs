//! Opening disk images and telling whether one changed. Symbolic links are never followed, so that no image can
//! lie outside its VM's folder; an image is a regular file, and sparse ones stay sparse.

use crate::error::{HostError, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// What tells one state of an image from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageFacts {
    /// Size in bytes.
    pub(crate) size: u64,
    /// Device and inode: another file under the same name is another image.
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// Nanoseconds since 1970 of the last change of content.
    pub(crate) mtime_ns: i64,
    /// The same of the last change of anything; cannot be set back by a user.
    pub(crate) ctime_ns: i64,
}

impl ImageFacts {
    pub(crate) fn of(file: &File, path: &Path) -> Result<ImageFacts> {
        Ok(Self::from_metadata(&file.metadata().map_err(HostError::io("looking at", path))?))
    }

    fn from_metadata(meta: &std::fs::Metadata) -> ImageFacts {
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        ImageFacts {
            size: meta.len(),
            device: meta.dev(),
            inode: meta.ino(),
            mtime_ns: nanos(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: nanos(meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether it is the same file of the same size, whatever was written to it.
    pub(crate) fn same_file(&self, other: &ImageFacts) -> bool {
        self.size == other.size && self.device == other.device && self.inode == other.inode
    }

    /// What differs, for people; none when nothing does.
    pub(crate) fn difference(&self, later: &ImageFacts) -> Option<String> {
        if self.size != later.size {
            return Some(format!("its size went from {} to {} bytes", self.size, later.size));
        }
        if !self.same_file(later) {
            return Some("another file took its place".to_owned());
        }
        (self != later).then(|| "it was written to by something else than its guest".to_owned())
    }
}

/// How an image is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Opens an image that must be a regular file and no symbolic link.
pub(crate) fn open(path: &Path, access: Access) -> Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .write(access == Access::Write)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(HostError::opening(path))?;
    let meta = file.metadata().map_err(HostError::io("looking at", path))?;
    if !meta.is_file() {
        return Err(HostError::NotAnImage { path: path.to_owned(), why: "it is not a regular file" });
    }
    Ok(file)
}

/// The ranges of a file that hold data, in order; the rest are holes and read as zeros.
pub(crate) fn data_ranges(file: &File, path: &Path) -> Result<Vec<Range<u64>>> {
    use rustix::fs::{SeekFrom, seek};
    let size = file.metadata().map_err(HostError::io("looking at", path))?.len();
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            // A file system that knows no holes: all of it is data.
            Err(rustix::io::Errno::INVAL) if at == 0 => return Ok(std::iter::once(0..size).collect()),
            Err(errno) => return Err(HostError::os("finding data in", path)(errno)),
        };
        if start >= size {
            break;
        }
        let end = seek(file, SeekFrom::Hole(start)).map_err(HostError::os("finding holes in", path))?.min(size);
        if end <= start {
            break;
        }
        ranges.push(start..end);
        at = end;
    }
    Ok(ranges)
}

/// Takes an exclusive lock on an image for as long as the file is open.
pub(crate) fn lock(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(std::fs::TryLockError::WouldBlock) => Err(HostError::DiskBusy { path: path.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(HostError::io("locking", path)(source)),
    }
}

/// Takes an exclusive lock, trying for at most `patience`; false when somebody else kept it.
pub(crate) fn lock_within(file: &File, path: &Path, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(false),
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
            Err(std::fs::TryLockError::Error(source)) => return Err(HostError::io("locking", path)(source)),
        }
    }
}

/// Makes what was done to a folder's entries durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let folder = File::open(path).map_err(HostError::io("opening", path))?;
    folder.sync_all().map_err(HostError::io("syncing", path))
}
