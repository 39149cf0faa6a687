//! Files and folders that somebody put among the packs, points, pieces of the log and segments of the index. They are never read as ours, never deleted, and stop nothing;
//! a verification names them.

use super::Repository;
use crate::Result;
use farshore_format::repository::FileId;
use farshore_schemas::ids::{Digest, Name};
use std::path::{Path, PathBuf};

/// The pack that a file in a folder of packs is named as.
pub(super) fn pack_named(folder: &str, name: &str) -> Option<FileId> {
    let id = name.parse().ok().map(|id: Digest| FileId(id.0));
    // As it is written, or it would be looked for in another place.
    id.filter(|id| id.to_string() == name && name.starts_with(folder) && folder.len() == 2)
}

/// The number of the segment of the index that a file is named as.
pub(super) fn segment_named(name: &str) -> Option<u64> {
    name.strip_suffix(".idx").and_then(|name| name.parse().ok())
}

/// Whether a file may be a point.
pub(super) fn may_be_point(folder: &Path, name: &str) -> bool {
    // One that cannot be looked at is told as what it is when it is read.
    let other = || folder.join(name).metadata().is_ok_and(|there| !there.is_file());
    Name::parse(name).is_ok() && !other()
}

impl Repository {
    /// What lies among packs, points and the log and is none of them.
    pub(super) fn strays(&self) -> Result<Vec<PathBuf>> {
        let (packs, points) = (self.root.join("packs"), self.root.join("points"));
        let mut strays = self.strays_in_log()?;
        for folder in self.io.names(&packs)? {
            let path = packs.join(&folder);
            if folder.len() != 2 || !path.is_dir() {
                strays.push(path);
                continue;
            }
            let names = self.io.names(&path)?.into_iter();
            strays.extend(names.filter(|name| pack_named(&folder, name).is_none()).map(|name| path.join(name)));
        }
        let names = self.io.names(&points)?.into_iter();
        strays.extend(names.filter(|name| !may_be_point(&points, name)).map(|name| points.join(name)));
        let index = self.root.join("index");
        let names = self.io.names(&index)?.into_iter();
        strays.extend(names.filter(|name| segment_named(name).is_none()).map(|name| index.join(name)));
        strays.sort();
        Ok(strays)
    }
}
