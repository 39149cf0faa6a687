//! Making the content of working disks the newest point: after a failback is committed, the state at the switch is what
//! both ends have.

use super::{BlockContent, DiskWriter, ReplicaStore};
use crate::{Error, Result, allocation, sparse};
use farshore_format::{BLOCK, ReplicaPoint};
use farshore_schemas::ids::{Digest, DiskName, PointId};
use farshore_schemas::messages::agent::{DiskFacts, DiskPoint};
use farshore_schemas::units::{ByteCount, Timestamp};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl ReplicaStore {
    /// Makes a point from images that are at rest: blocks that differ from the newest state are written, and each disk is
    /// proven against the image's checksum. Then forgets the points in `forget`. Done twice it answers the same, also
    /// when the images are gone by then.
    ///
    /// # Errors
    /// As [`ReplicaStore::begin_point`] and [`ReplicaStore::seal`].
    pub fn absorb(
        self: &Arc<Self>,
        (point, taken): (&PointId, Timestamp),
        images: &[(DiskName, PathBuf)],
        forget: &[PointId],
    ) -> Result<ReplicaPoint> {
        if let Some(sealed) = self.points().into_iter().find(|sealed| sealed.point == *point) {
            self.forget(forget)?;
            return Ok(sealed);
        }
        let mut disks = Vec::new();
        for (name, path) in images {
            disks.push(self.absorb_disk(point, name, path)?);
        }
        self.seal(point, taken, &disks, forget)
    }

    fn absorb_disk(self: &Arc<Self>, point: &PointId, name: &DiskName, path: &Path) -> Result<DiskPoint> {
        let failed = |error| self.io.failed("read", path, error);
        let image = self.io.open_ro(path)?;
        let size = ByteCount(image.metadata().map_err(failed)?.len());
        self.begin_point(point, &[DiskFacts { name: name.clone(), size }])?;
        let mut writer = self.writer(point, name)?;
        self.copy_changes(&mut writer, &image, path)?;
        writer.keep_allocation(&allocation::of(&image).map_err(failed)?)?;
        writer.finish()?;
        let (checksum, _) = sparse::checksum(&image).map_err(failed)?;
        Ok(DiskPoint { name: name.clone(), size, checksum, manifest: Digest::default() })
    }

    fn copy_changes(&self, writer: &mut DiskWriter, image: &File, path: &Path) -> Result<()> {
        // The file system's errors and the store's own travel together through the walk.
        let walked = sparse::walk::<WalkError>(image, 0, u64::MAX, |offset, piece| {
            match piece {
                sparse::Piece::Hole(length) => writer.apply_hole(offset, length)?,
                sparse::Piece::Data(bytes) => {
                    for (block, content) in (offset / BLOCK as u64..).zip(bytes.chunks(BLOCK)) {
                        writer.apply(block, BlockContent::Data(content))?;
                    }
                }
            }
            Ok(())
        });
        walked.map_err(|error| match error {
            WalkError::Read(source) => self.io.failed("read", path, source),
            WalkError::Store(error) => error,
        })
    }
}

enum WalkError {
    Read(std::io::Error),
    Store(Error),
}

impl From<std::io::Error> for WalkError {
    fn from(error: std::io::Error) -> Self {
        WalkError::Read(error)
    }
}

impl From<Error> for WalkError {
    fn from(error: Error) -> Self {
        WalkError::Store(error)
    }
}
