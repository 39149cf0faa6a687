//! `farshore log baseline` and `farshore log archive`: places to begin a fold at, and moving away what lies before them.

use crate::cli::Output;
use crate::failure::{Exit, Failure};
use crate::output::{count, hint, rows, say, structured};
use crate::site::baseline;
use crate::site::data::DataFolder;
use crate::site::open::notes_of;
use farshore_log::{LogOptions, ReadLog, SegmentLog, archivable, archive, baselines};
use farshore_schemas::ids::Lineage;
use serde_json::{Value, json};
use std::path::Path;

/// Takes the data folder and opens its log, which recovers from an unfinished write; says what that came to. The site must
/// not run.
pub(crate) fn take(folder: &DataFolder, quiet: bool) -> Result<SegmentLog, Failure> {
    // A verb makes no log where there is none.
    folder.reader()?;
    let options = LogOptions::new(&folder.path, &folder.known_site()?, Lineage::default());
    let opened = SegmentLog::open(&options).map_err(|error| Failure::log(&error))?;
    notes_of(&opened).iter().for_each(|note| hint(quiet, note));
    Ok(opened.log)
}

/// Writes a baseline at the log's tail.
pub(crate) fn write(folder: &DataFolder, output: Output, quiet: bool) -> Result<(), Failure> {
    let (name, log) = (folder.known_site()?, take(folder, quiet)?);
    let reader = log.reader();
    let Some(written) = baseline::write(&reader, &name, reader.tail().0, None)? else {
        return Err(Failure::new("FS-LOG-EMPTY", "the log has no frame yet", "start the site first").not_found());
    };
    let shown = json!({ "site": name.to_string(), "seq": written.seq.0, "state": written.state.to_string(), "new": written.path.is_some() });
    if !structured(output, &shown)? {
        let what = if written.path.is_some() { "is written" } else { "was there already" };
        say(&format!("the baseline at frame {} {what}; state {}", written.seq, written.state));
    }
    Ok(())
}

/// Lists the baselines, and whether each can be used.
pub(crate) fn list(folder: &DataFolder, output: Output) -> Result<(), Failure> {
    let reader = folder.reader()?;
    let found = baselines(&folder.path, &reader).map_err(|error| Failure::log(&error))?;
    let listed: Vec<Value> = found
        .iter()
        .map(|held| {
            let (entries, why) = match &held.read {
                Ok(baseline) => (Some(baseline.entries.len()), None),
                Err(why) => (None, Some(why.to_string())),
            };
            json!({ "seq": held.seq.0, "usable": why.is_none(), "entries": entries, "why": why, "file": held.path.display().to_string() })
        })
        .collect();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    rows(output, &listed, &["seq", "usable", "why not"], |line| {
        let why = if line["why"].is_null() { String::new() } else { text(&line["why"]) };
        vec![text(&line["seq"]), text(&line["usable"]), why]
    })
}

/// Moves the segments at the front; writes a baseline first, at the last frame that goes.
pub(crate) fn move_away(folder: &DataFolder, to: &Path, output: Output, quiet: bool) -> Result<(), Failure> {
    let (name, log) = (folder.known_site()?, take(folder, quiet)?);
    let reader = log.reader();
    if let Some(last) = archivable(&folder.path).map_err(|error| Failure::log(&error))? {
        baseline::write(&reader, &name, last, None)?;
    }
    let archived = archive(&reader, &folder.path, to).map_err(|error| Failure::log(&error))?;
    let files: Vec<String> = archived.files.iter().map(|file| file.display().to_string()).collect();
    let shown = json!({ "site": name.to_string(), "last": archived.last.0, "files": files });
    if files.is_empty() {
        let text = "there is no sealed segment that could be moved: the last one always stays";
        return Err(Failure::new("FS-LOG-NOTHING", text, "try again when the log has grown").with(Exit::NotFound));
    }
    if !structured(output, &shown)? {
        say(&format!(
            "moved {}, up to frame {}, to {}; the log begins at frame {} now",
            count(files.len(), "segment"),
            archived.last,
            to.display(),
            archived.last.next()
        ));
    }
    Ok(())
}
