//! Writing past the page cache: the kernel's copy of each page costs more than most of what is done with the bytes, and what
//! is written here must reach the disk before anybody counts on it anyway. A file system that cannot is written to as ever.

use std::fs::{File, OpenOptions};
use std::io::Result;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// What the memory, the place and the length of a direct write are multiples of: enough for every disk's sectors.
pub(crate) const ALIGN: usize = 4096;
/// Shorter runs go through the page cache, which gathers them.
const LONG: usize = 64 * 1024;

/// A file opened a second time, to be written to directly; none where the file system cannot.
///
/// A run that goes through the page cache never shares a page with one that does not: runs are apart and begin at whole blocks,
/// and a block that is not whole ends the file.
#[derive(Debug)]
pub(crate) struct Direct(Option<File>);

impl Direct {
    pub(crate) fn of(file: &File) -> Direct {
        let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        // By its descriptor, so that it is the same file whatever its name stands for by now.
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        Direct(OpenOptions::new().write(true).custom_flags(flags).open(again).ok())
    }

    /// Writes a run to `file`, which this was made of: what is aligned of it directly if that is long.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> Result<()> {
        let whole = bytes.len() / ALIGN * ALIGN;
        let aligned = bytes.as_ptr().align_offset(ALIGN) == 0 && offset.is_multiple_of(ALIGN as u64);
        let Some(direct) = self.0.as_ref().filter(|_| aligned && whole >= LONG) else {
            return file.write_all_at(bytes, offset);
        };
        match direct.write_all_at(&bytes[..whole], offset) {
            Ok(()) => file.write_all_at(&bytes[whole..], offset + whole as u64),
            // A disk with larger sectors, or a file system that says only now that it cannot.
            Err(error) if cannot(&error) => file.write_all_at(bytes, offset),
            Err(error) => Err(error),
        }
    }
}

fn cannot(error: &std::io::Error) -> bool {
    let errors = [rustix::io::Errno::INVAL, rustix::io::Errno::OPNOTSUPP];
    errors.iter().any(|known| error.raw_os_error() == Some(known.raw_os_error()))
}

/// How many bytes at the beginning of this memory to leave out so that what follows is aligned.
pub(crate) fn to_aligned(memory: &[u8]) -> usize {
    memory.as_ptr().align_offset(ALIGN).min(ALIGN)
}

/// Memory for content that may be written directly.
#[derive(Debug)]
pub(crate) struct Aligned(Vec<u8>);

impl Aligned {
    pub(crate) fn new(length: usize) -> Aligned {
        Aligned(vec![0; length + ALIGN])
    }

    /// As many bytes as were asked for.
    pub(crate) fn content(&mut self) -> &mut [u8] {
        let skip = to_aligned(&self.0);
        let length = self.0.len() - ALIGN;
        &mut self.0[skip..skip + length]
    }
}
