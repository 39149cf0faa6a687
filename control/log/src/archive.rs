//! Moves old sealed segments out of a log's folder, once a baseline stands for them. Put back where they were, they are the
//! log again.

use crate::baseline;
use crate::disk::sync_dir;
use crate::error::{LogError, name_new};
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
    refuse_own(dir, to)?;
    let files = segments_once(&log_dir(dir))?;
    let but_last = files.iter().take(files.len().saturating_sub(1));
    for file in but_last.take_while(|file| file.form == Form::Sealed) {
        let sealed = SealedFile::open(&file.path, file.first)?;
        if sealed.trailer.last > newest.seq {
            break;
        }
        let there = to.join(file.path.file_name().unwrap_or_default());
        // The copy of an archiving that was interrupted is as good; anything else of that name is another site's.
        if !same(&file.path, &there).map_err(LogError::io("read", &there))? {
            let beside = there.with_extension("tmp");
            copy(&file.path, &beside).map_err(LogError::io("write", &beside))?;
            name_new(&beside, &there).inspect_err(|_| drop(fs::remove_file(&beside)))?;
        }
        sync_dir(to).map_err(LogError::io("write", &there))?;
        check_sealed(&SealedFile::open(&there, file.first)?, &mut 0)?;
        let removed = fs::remove_file(&file.path).and_then(|()| sync_dir(&log_dir(dir)));
        removed.map_err(LogError::io("remove", &file.path))?;
        archived.files.push(there);
        archived.last = sealed.trailer.last;
    }
    Ok(archived)
}

/// The last frame that [`archive`] could move: of the sealed segments at the front, but never of the last segment. A baseline
/// there lets whatever is to be proved later begin with the first frame that stays.
///
/// # Errors
/// [`LogError`].
pub fn archivable(dir: &Path) -> Result<Option<Seq>, LogError> {
    let files = segments_once(&log_dir(dir))?;
    let but_last = files.iter().take(files.len().saturating_sub(1));
    let last = but_last.take_while(|file| file.form == Form::Sealed).last();
    last.map(|file| Ok(SealedFile::open(&file.path, file.first)?.trailer.last)).transpose()
}

/// Not into the folder that the log lies in: a segment there is the log's, or in the way of a recovery.
fn refuse_own(dir: &Path, to: &Path) -> Result<(), LogError> {
    let real = |path: &Path| path.canonicalize().map_err(LogError::io("look at", path));
    if real(to)?.starts_with(real(dir)?) { Err(LogError::OwnFolder { path: to.to_owned() }) } else { Ok(()) }
}

/// Whether both files hold the same; false when the second is not there.
fn same(here: &Path, there: &Path) -> io::Result<bool> {
    if !there.exists() {
        return Ok(false);
    }
    Ok(fs::metadata(here)?.len() == fs::metadata(there)?.len() && fs::read(here)? == fs::read(there)?)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}
