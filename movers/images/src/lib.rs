//! Disk images by their format: raw files and block devices as they are, qcow2 by imago. A disk is backed up and restored
//! alike, whatever it lies in.
//!
//! Which format a file has is never guessed from its content alone: whoever can write to a raw disk could make it look like
//! a qcow2 image that names another file of this machine as its backing file, and have that backed up.

mod compressed;
mod error;
mod gate;
mod header;
mod qcow2;
mod target;

pub use error::ImageError;
pub use qcow2::Qcow2Source;
pub use target::Qcow2Target;

use farshore_repository::{RawSource, Source};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What every qcow2 image begins with.
const QCOW2: &[u8; 4] = b"QFI\xfb";

/// How a disk lies in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Byte for byte.
    Raw,
    /// As QEMU's copy-on-write image, version 2 or 3.
    Qcow2,
}

/// Whether an image may say that what it does not hold lies in another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backing {
    /// It is refused.
    #[default]
    Denied,
    /// Whatever file it names is read.
    Allowed,
}

/// A disk to be read.
#[derive(Debug)]
pub enum Image {
    /// See [`Format::Raw`].
    Raw(RawSource),
    /// See [`Format::Qcow2`].
    Qcow2(Qcow2Source),
}

impl Image {
    /// Opens an image of a format that is known.
    ///
    /// # Errors
    /// [`ImageError::Backing`], [`ImageError::Unsound`], or what the file system says.
    pub fn open(path: &Path, format: Format, backing: Backing) -> Result<Image, ImageError> {
        match format {
            Format::Qcow2 => Ok(Image::Qcow2(Qcow2Source::open(path, backing)?)),
            Format::Raw => Ok(Image::Raw(RawSource::open(path)?)),
        }
    }

    /// Opens an image by its name: what ends in `.qcow2` is one, everything else is raw.
    ///
    /// # Errors
    /// [`ImageError::Ambiguous`] for what is not named `.qcow2` and begins like one; else as [`Image::open`].
    pub fn open_by_name(path: &Path, backing: Backing) -> Result<Image, ImageError> {
        let format = if is_qcow2_name(path) { Format::Qcow2 } else { Format::Raw };
        let image = Image::open(path, format, backing)?;
        let Image::Raw(source) = &image else { return Ok(image) };
        let mut begin = [0; QCOW2.len()];
        if source.size() >= begin.len() as u64 {
            source.read_at(0, &mut begin).map_err(|source| ImageError::disk(path, source))?;
        }
        if begin == *QCOW2 { Err(ImageError::Ambiguous { path: path.to_owned() }) } else { Ok(image) }
    }

    /// Other files that it is read from.
    pub fn backing_files(&self) -> &[PathBuf] {
        match self {
            Image::Raw(_) => &[],
            Image::Qcow2(source) => source.backing_files(),
        }
    }

    fn source(&self) -> &dyn Source {
        match self {
            Image::Raw(source) => source,
            Image::Qcow2(source) => source,
        }
    }
}

impl Source for Image {
    fn size(&self) -> u64 {
        self.source().size()
    }

    fn extents(&self) -> &[Range<u64>] {
        self.source().extents()
    }

    fn allocated(&self) -> &[Range<u64>] {
        self.source().allocated()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.source().read_at(offset, into)
    }
}

/// Whether a file's name says that it is a qcow2 image.
pub fn is_qcow2_name(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("qcow2"))
}
