//! Moves old sealed segments out of a log's folder, once a baseline stands for them. Put back where they were, they are the
//! log again.

use crate::baseline;
use crate::disk::sync_dir;
use crate::error::LogError;
use crate::folder::{log_dir, segments_once};
use crate::header::Form;
use crate::read::{LogReader, ReadLog};
use crate::sealed::SealedFile;
use crate::verify::check_sealed;
use farshore_schemas::ids::Seq;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Archived {
    /// The files, where they are now, oldest first.
    pub files: Vec<PathBuf>,
    /// The last frame in them; 0 when nothing was moved.
    pub last: Seq,
}

/// Moves every sealed segment whose frames the newest valid baseline stands for to another folder, the oldest first, each
/// durable and checked there before it is removed here. The last segment always stays. The caller holds the log's lock.
///
/// # Errors
/// [`LogError`]; what was moved until then is whole.
pub fn archive(log: &LogReader, dir: &Path, to: &Path) -> Result<Archived, LogError> {
    let mut archived = Archived::default();
    let (newest, _) = baseline::newest(dir, log, log.tail().0)?;
    let Some(newest) = newest else { return Ok(archived) };
    fs::create_dir_all(to).map_err(LogError::io("make", to))?;
    let files = segments_once(&log_dir(dir))?;
    let but_last = files.iter().take(files.len().saturating_sub(1));
    for file in but_last.take_while(|file| file.form == Form::Sealed) {
        let sealed = SealedFile::open(&file.path, file.first)?;
        if sealed.trailer.last > newest.seq {
            break;
        }
        let there = to.join(file.path.file_name().unwrap_or_default());
        let beside = there.with_extension("tmp");
        let copied = copy(&file.path, &beside).and_then(|()| fs::rename(&beside, &there)).and_then(|()| sync_dir(to));
        copied.map_err(LogError::io("write", &there))?;
        check_sealed(&SealedFile::open(&there, file.first)?, &mut 0)?;
        let removed = fs::remove_file(&file.path).and_then(|()| sync_dir(&log_dir(dir)));
        removed.map_err(LogError::io("remove", &file.path))?;
        archived.files.push(there);
        archived.last = sealed.trailer.last;
    }
    Ok(archived)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}
