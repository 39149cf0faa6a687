//! Recovery from an unfinished write. What is kept is made durable first, the tail is copied to `torn/`, and only then is
//! the segment cut. A crash at any step leaves a tail that is still torn, never a log that looks damaged.

use crate::catalog::Catalog;
use crate::disk::sync_dir;
use crate::error::LogError;
use crate::group::PADDING;
use farshore_schemas::ids::Seq;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What recovery did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The segment that had a torn tail.
    pub segment: PathBuf,
    /// Where in it the unfinished write began.
    pub offset: u64,
    /// The last frame kept; 0 for none.
    pub kept: Seq,
    /// Bytes put aside, without the zeros at their end.
    pub torn_bytes: u64,
    /// Where they are now.
    pub aside: PathBuf,
}

impl std::fmt::Display for Recovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} ended in an unfinished write at offset {}: the log goes on after frame {}; {} bytes are kept aside in {}",
            self.segment.display(),
            self.offset,
            self.kept,
            self.torn_bytes,
            self.aside.display()
        )
    }
}

/// Recovers the last segment, if it is torn.
///
/// # Errors
/// [`LogError::Io`].
pub(crate) fn recover(log: &Path, catalog: &Catalog) -> Result<Option<Recovered>, LogError> {
    let (Some(scan), Some(segment)) = (&catalog.open, catalog.segments.last()) else {
        return Ok(None);
    };
    let Some(torn) = scan.torn else {
        return Ok(None);
    };
    let path = &segment.path;
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(LogError::io("open", path))?;
    file.sync_all().map_err(LogError::io("sync", path))?;
    let (aside, torn_bytes) = put_aside(log, path, torn.kept_end)?;
    cut(&file, &torn).map_err(LogError::io("cut", path))?;
    let recovered = Recovered { segment: path.clone(), offset: torn.kept_end, kept: scan.tail.0, torn_bytes, aside };
    tracing::warn!(%recovered, "the event log had a torn tail");
    Ok(Some(recovered))
}

/// Copies what follows `from` to `torn/`, durably, under a name that is not taken.
fn put_aside(log: &Path, segment: &Path, from: u64) -> Result<(PathBuf, u64), LogError> {
    let bytes = fs::read(segment).map_err(LogError::io("read", segment))?;
    let tail = usize::try_from(from).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
    let len = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let dir = log.join("torn");
    fs::create_dir_all(&dir).map_err(LogError::io("make", &dir))?;
    let stem = segment.file_stem().and_then(|stem| stem.to_str()).unwrap_or("seg");
    let free = (0u32..).map(|count| dir.join(format!("{stem}-at-{from}-{count}.bin"))).find(|path| !path.exists());
    let aside = free.expect("a folder has fewer files than there are numbers");
    let write = || {
        let file = File::create_new(&aside)?;
        file.write_all_at(&tail[..len], 0)?;
        file.sync_all()?;
        sync_dir(&dir)?;
        sync_dir(log)
    };
    write().map_err(LogError::io("write", &aside))?;
    Ok((aside, len as u64))
}

/// Cuts the file where what is kept ends. If that is inside a group, the group is closed there: first its padding, then
/// its header, which lies in one sector. Until the header says so the group still ends past the end of the file: torn.
fn cut(file: &File, torn: &crate::scan::Torn) -> std::io::Result<()> {
    file.set_len(torn.kept_end)?;
    file.sync_all()?;
    if let Some(group) = torn.group {
        let padding = usize::try_from(group.end() - torn.kept_end).map_err(std::io::Error::other)?;
        file.write_all_at(&vec![PADDING; padding], torn.kept_end)?;
        file.sync_all()?;
        file.write_all_at(&group.encode(), group.offset)?;
        file.sync_all()?;
    }
    Ok(())
}
