//! Where a restore writes to: long runs past the page cache, since the kernel's copy of each page costs more than
//! everything else that a restore does, and what is written must reach the disk before the restore ends anyway.

use std::fs::{File, OpenOptions};
use std::io::Result;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// What the memory, the place and the length of a direct write are multiples of: enough for every disk's sectors.
const ALIGN: usize = 4096;
/// Shorter runs go through the page cache, which gathers them.
const LONG: usize = 64 * 1024;

/// An image that is being written.
#[derive(Debug)]
pub(super) struct Target<'a> {
    file: &'a File,
    pub(super) path: &'a Path,
    /// The same image, opened to be written to directly; none where the file system cannot.
    direct: Option<File>,
}

impl<'a> Target<'a> {
    pub(super) fn new(file: &'a File, path: &'a Path) -> Target<'a> {
        let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        // By its descriptor, so that it is the same file whatever its name stands for by now.
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        Target { file, path, direct: OpenOptions::new().write(true).custom_flags(flags).open(again).ok() }
    }

    /// The image as it was given.
    pub(super) fn file(&self) -> &File {
        self.file
    }

    /// Writes a run.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let whole = bytes.len() / ALIGN * ALIGN;
        let aligned = bytes.as_ptr().align_offset(ALIGN) == 0 && offset.is_multiple_of(ALIGN as u64);
        let Some(direct) = self.direct.as_ref().filter(|_| aligned && whole >= LONG) else {
            return self.file.write_all_at(bytes, offset);
        };
        match direct.write_all_at(&bytes[..whole], offset) {
            Ok(()) => {}
            // A disk with larger sectors, or a file system that says only now that it cannot.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                return self.file.write_all_at(bytes, offset);
            }
            Err(error) => return Err(error),
        }
        self.file.write_all_at(&bytes[whole..], offset + whole as u64)
    }
}

/// Memory for content that may be written directly.
#[derive(Debug)]
pub(super) struct Aligned(Vec<u8>);

impl Aligned {
    pub(super) fn new(length: usize) -> Aligned {
        Aligned(vec![0; length + ALIGN])
    }

    /// As many bytes as were asked for.
    pub(super) fn content(&mut self) -> &mut [u8] {
        let skip = self.0.as_ptr().align_offset(ALIGN).min(ALIGN);
        let length = self.0.len() - ALIGN;
        &mut self.0[skip..skip + length]
    }
}
