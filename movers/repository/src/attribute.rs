//! The immutable attribute of files: while a file bears it, nobody changes, renames or deletes it, root included, who would
//! have to take it off first. ext4, xfs and btrfs have it; to set it takes `CAP_LINUX_IMMUTABLE`.

use crate::io::Io;
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;
use std::io::Result;
use std::path::Path;

/// Whether files can be made immutable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// They can.
    Set,
    /// The file system has no such attribute.
    Unsupported,
    /// This process may not set it.
    NotAllowed,
}

/// Sets it; none when there is no such file.
///
/// # Errors
/// What the disk says, but for what [`Attribute`] tells.
pub(crate) fn set(io: &Io, path: &Path) -> Result<Option<Attribute>> {
    let Some(file) = io.open_to_mark(path)? else { return Ok(None) };
    let set = ioctl_getflags(&file).and_then(|flags| {
        if flags.contains(IFlags::IMMUTABLE) { Ok(()) } else { ioctl_setflags(&file, flags | IFlags::IMMUTABLE) }
    });
    match set {
        Ok(()) => Ok(Some(Attribute::Set)),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(Some(Attribute::Unsupported)),
        Err(Errno::PERM | Errno::ACCESS) => Ok(Some(Attribute::NotAllowed)),
        Err(error) => Err(error.into()),
    }
}

/// Takes it off, where the file bears it.
///
/// # Errors
/// What the disk says, also when this process may not.
pub(crate) fn clear(io: &Io, path: &Path) -> Result<()> {
    let Some(file) = io.open_to_mark(path)? else { return Ok(()) };
    match ioctl_getflags(&file) {
        Ok(flags) if flags.contains(IFlags::IMMUTABLE) => Ok(ioctl_setflags(&file, flags - IFlags::IMMUTABLE)?),
        // A file system that does not know it has set it nowhere.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether a file bears it.
pub(crate) fn is_set(io: &Io, path: &Path) -> bool {
    let flags = io.open_to_mark(path).ok().flatten().and_then(|file| ioctl_getflags(&file).ok());
    flags.is_some_and(|flags| flags.contains(IFlags::IMMUTABLE))
}
