//! Writing a disk to a new qcow2 image.

use crate::ImageError;
use crate::gate::Gate;
use crate::qcow2::guarded;
use farshore_repository::{Error, Target};
use imago::file::File;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatCreateBuilder, FormatDriverBuilder};
use std::io::Result;
use std::ops::Range;
use std::path::{Path, PathBuf};

const SECTOR: u64 = 512;

/// A new qcow2 image, version 3, with clusters of 64 KiB; what was a hole takes no space in it.
#[derive(Debug)]
pub struct Qcow2Target {
    access: FormatAccess<File>,
    path: PathBuf,
}

impl Qcow2Target {
    /// Makes an image of an empty file, which is open for reading and writing.
    ///
    /// # Errors
    /// [`ImageError::Size`] for a disk that does not end with a sector, or what the file system says.
    pub fn new(file: std::fs::File, path: &Path, size: u64) -> std::result::Result<Qcow2Target, ImageError> {
        if !size.is_multiple_of(SECTOR) {
            return Err(ImageError::Size { size });
        }
        let made = guarded(|| {
            let create = Qcow2::<File>::create_builder(File::try_from(file)?).size(size);
            let gate = Gate::new(crate::Backing::Denied);
            create.create_open(gate, |file| Ok(Qcow2::<File>::builder(file).backing(None).write(true)))
        });
        let failed = |source| Error::Disk { path: path.to_owned(), action: "written", source };
        Ok(Qcow2Target { access: FormatAccess::new(made.map_err(failed)?), path: path.to_owned() })
    }
}

impl Target for Qcow2Target {
    fn path(&self) -> &Path {
        &self.path
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.access.write(bytes, offset)
    }

    fn hole(&self, _range: Range<u64>) -> Result<()> {
        Ok(())
    }

    fn zeros(&self, ranges: Vec<Range<u64>>) -> Result<()> {
        ranges.into_iter().try_for_each(|range| self.access.write_zeroes(range.start, range.end - range.start))
    }

    fn sync(&self) -> Result<()> {
        self.access.flush()?;
        self.access.sync()
    }
}
