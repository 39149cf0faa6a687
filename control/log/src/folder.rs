//! Names in `DIR/log/`, and which segments there are.

use crate::error::LogError;
use crate::header::Form;
use farshore_schemas::ids::Seq;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOCK: &str = "lock";
/// How often a lock that is held is tried again, and after how long.
const TAKE_TRIES: u32 = 5;
const TAKE_AGAIN: Duration = Duration::from_millis(10);

/// A segment file by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentFile {
    pub(crate) first: Seq,
    pub(crate) form: Form,
    pub(crate) path: PathBuf,
}

pub(crate) fn log_dir(dir: &Path) -> PathBuf {
    dir.join("log")
}

pub(crate) fn segment_path(log: &Path, first: Seq, form: Form) -> PathBuf {
    let ending = match form {
        Form::Plain => "log",
        Form::Sealed => "sealed",
    };
    log.join(format!("seg-{:020}.{ending}", first.0))
}

/// The number in a name like `seg-00000000000000000001.log`.
pub(crate) fn parse_name(name: &str, prefix: &str, ending: &str) -> Option<Seq> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(ending)?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok().map(Seq) } else { None }
}

/// Every name in a folder, sorted; none when there is no such folder.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, LogError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LogError::io("list", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(LogError::io("list", dir))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// A data folder that this process holds, as the log of a site that runs does, until it is dropped.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "the lock goes with the open file")] File);

/// Takes a data folder for this process.
///
/// # Errors
/// [`LogError::Locked`], [`LogError::Io`].
pub fn hold(dir: &Path) -> Result<Hold, LogError> {
    let path = dir.join(LOCK);
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = open.map_err(LogError::io("open the lock file", &path))?;
    let mut patience = TAKE_TRIES;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Hold(file)),
            // It may be [`in_use`] that asks.
            Err(TryLockError::WouldBlock) if patience > 0 => std::thread::sleep(TAKE_AGAIN),
            Err(TryLockError::WouldBlock) => return Err(LogError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(LogError::io("lock", &path)(error)),
        }
        patience -= 1;
    }
}

/// Whether a process holds the data folder.
pub(crate) fn in_use(dir: &Path) -> bool {
    let probe = File::open(dir.join(LOCK)).map(|file| file.try_lock_shared());
    matches!(probe, Ok(Err(TryLockError::WouldBlock)))
}

/// The segments in a log folder by their first seq. Of a segment that stands there in both forms (a crash between
/// sealing and removing) the sealed one comes first.
pub(crate) fn segments(log: &Path) -> Result<Vec<SegmentFile>, LogError> {
    let mut found: Vec<SegmentFile> = names(log)?
        .iter()
        .filter_map(|name| {
            let (first, form) = parse_name(name, "seg-", ".log")
                .map(|first| (first, Form::Plain))
                .or_else(|| parse_name(name, "seg-", ".sealed").map(|first| (first, Form::Sealed)))?;
            Some(SegmentFile { first, form, path: log.join(name) })
        })
        .collect();
    found.sort_by_key(|segment| (segment.first, segment.form == Form::Plain));
    Ok(found)
}

/// The bytes of a plain segment; none when it has been sealed since the folder was listed, as a site that runs does.
pub(crate) fn read_plain(plain: &SegmentFile) -> Result<Option<Vec<u8>>, LogError> {
    match fs::read(&plain.path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && sealed_twin(plain).path.exists() => Ok(None),
        Err(error) => Err(LogError::io("read", &plain.path)(error)),
    }
}

/// What a plain segment is when it has been sealed.
pub(crate) fn sealed_twin(plain: &SegmentFile) -> SegmentFile {
    SegmentFile { first: plain.first, form: Form::Sealed, path: plain.path.with_extension("sealed") }
}

/// As [`segments`], but each segment once, the sealed form if there is one.
pub(crate) fn segments_once(log: &Path) -> Result<Vec<SegmentFile>, LogError> {
    let mut found = segments(log)?;
    found.dedup_by_key(|segment| segment.first);
    Ok(found)
}
