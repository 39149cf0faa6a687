//! What is checked of both logs at the end: every byte, the fold against what was in memory, every decision decided again.

use crate::failure::{Exit, Failure};
use crate::site::data::DataFolder;
use crate::site::open::{first_lineage, fold_all, fold_failure};
use farshore_kernel::redecide::redecide;
use farshore_kernel::site::{Depth, Site};
use farshore_log::ReadLog;
use farshore_runtime::handle::FinalState;
use farshore_schemas::ids::Seq;
use std::path::Path;

/// What one log came to.
pub(crate) struct Checked {
    pub(crate) frames: u64,
    pub(crate) state: String,
}

/// Verifies, folds, decides again.
pub(crate) fn check(folder: &Path) -> Result<Checked, Failure> {
    let data = DataFolder::at(folder);
    let wrong = |code: &str, text: String| {
        Failure::new(code, text, "this is a defect: please report it with the folder").with(Exit::Mismatch)
    };
    let report = farshore_log::verify(folder).map_err(|error| Failure::log(&error))?;
    if !report.is_clean() {
        return Err(wrong(
            "FS-DEMO-LOG",
            report.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        ));
    }
    let (name, reader) = (data.known_site()?, data.reader()?);
    let folded = fold_all(&reader, &name, None, Depth::States)?;
    let text =
        std::fs::read(folder.join("run/final-state.json")).map_err(|error| Failure::io("read", folder, &error))?;
    let last: FinalState = serde_json::from_slice(&text).map_err(|error| Failure::defect(&error))?;
    if (last.seq, last.state) != (reader.tail().0, folded.state_hash()) {
        let text = format!(
            "memory ended at frame {} with state {}, the log folds to frame {} with {}",
            last.seq,
            last.state,
            reader.tail().0,
            folded.state_hash()
        );
        return Err(wrong("FS-DEMO-FOLD", text));
    }
    let mut site = Site::new(&name, first_lineage(&reader)?);
    let mut frames = reader.frames_from(Seq(1)).map_err(|error| Failure::log(&error))?;
    while let Some(stored) = frames.next().map_err(|error| Failure::log(&error))? {
        if let Some(one) = redecide(&mut site, &stored.raw, stored.hash()).map_err(|error| fold_failure(&error))? {
            return Err(wrong(
                "FS-DEMO-REDECIDE",
                format!("frame {} of {} comes out otherwise: {}", one.seq, one.actor, one.what),
            ));
        }
    }
    Ok(Checked { frames: last.seq.0, state: last.state.to_string() })
}
