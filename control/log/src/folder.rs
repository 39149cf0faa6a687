//! Names in `DIR/log/`, and which segments there are.

use crate::error::LogError;
use crate::header::Form;
use farshore_schemas::ids::Seq;
use std::fs;
use std::path::{Path, PathBuf};

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

/// As [`segments`], but each segment once, the sealed form if there is one.
pub(crate) fn segments_once(log: &Path) -> Result<Vec<SegmentFile>, LogError> {
    let mut found = segments(log)?;
    found.dedup_by_key(|segment| segment.first);
    Ok(found)
}
