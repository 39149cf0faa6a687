//! Why an image cannot be read or written.

use std::io;
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A raw disk, or an image that was named badly?
    #[error("{} begins like a qcow2 image and is not named so", path.display())]
    Ambiguous {
        /// Which.
        path: PathBuf,
    },
    /// What it does not hold lies in another file.
    #[error("{} is read from another file, {}, and that was not allowed", path.display(), backing.display())]
    Backing {
        /// Which.
        path: PathBuf,
        /// The file that it names.
        backing: PathBuf,
    },
    /// It is no qcow2 image, or a damaged one.
    #[error("{} cannot be read as a qcow2 image: {why}", path.display())]
    Unsound {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A sound image of a kind that is not read here.
    #[error("{} is a qcow2 image that cannot be read here: {what}", path.display())]
    Unsupported {
        /// Which.
        path: PathBuf,
        /// What cannot be read.
        what: String,
    },
    /// A disk that cannot lie in such an image.
    #[error("a disk of {size} bytes does not fit into a qcow2 image, which has whole sectors of 512 bytes")]
    Size {
        /// Bytes of the disk.
        size: u64,
    },
    /// A raw image.
    #[error(transparent)]
    Raw(#[from] farshore_repository::Error),
}

impl ImageError {
    pub(crate) fn disk(path: &Path, source: io::Error) -> ImageError {
        ImageError::Raw(farshore_repository::Error::Disk { path: path.to_owned(), action: "read", source })
    }

    /// The stable code.
    pub fn code(&self) -> String {
        match self {
            ImageError::Ambiguous { .. } => "FS-IMAGE-FORMAT".to_owned(),
            ImageError::Backing { .. } => "FS-IMAGE-BACKING".to_owned(),
            ImageError::Unsound { .. } => "FS-IMAGE-UNSOUND".to_owned(),
            ImageError::Unsupported { .. } => "FS-IMAGE-UNSUPPORTED".to_owned(),
            ImageError::Size { .. } => "FS-IMAGE-SIZE".to_owned(),
            ImageError::Raw(error) => error.code(),
        }
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            ImageError::Ambiguous { .. } => {
                "say which it is: --format qcow2 reads the disk in it, --format raw takes its bytes for the disk"
            }
            ImageError::Backing { .. } => {
                "if both come from somebody you trust, allow it with --allow-backing; or make one image of both with qemu-img convert"
            }
            ImageError::Unsound { .. } => "look at it with qemu-img check; --format raw takes its bytes for the disk",
            ImageError::Unsupported { .. } => {
                "make a plain image of it with qemu-img convert, which is given the key of one that is encrypted, and back that up"
            }
            ImageError::Size { .. } => "restore it as a raw image",
            ImageError::Raw(error) => error.advice(),
        }
    }
}
