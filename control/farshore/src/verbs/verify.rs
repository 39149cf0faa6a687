//! `farshore log verify`, and what shows that a log has lost frames.

use crate::cli::Output;
use crate::failure::{Exit, Failure};
use crate::output::{count, say, structured};
use crate::site::data::DataFolder;
use farshore_log::{Lost, View};
use farshore_schemas::ids::Seq;
use serde_json::json;

/// Checks every byte, and what else knows how far the log had come.
pub(crate) fn verify(folder: &DataFolder, output: Output) -> Result<(), Failure> {
    folder.known_site()?;
    let mut report = farshore_log::verify(&folder.path).map_err(|error| Failure::log(&error))?;
    if report.problems.iter().all(|problem| problem.kind == farshore_log::ProblemKind::Torn) {
        report.lost = report.lost.max(lost_by_view(folder, report.last));
    }
    let lost = report.lost.iter().map(ToString::to_string);
    let problems: Vec<String> = report.problems.iter().map(ToString::to_string).chain(lost).collect();
    let unfit = |baseline: &farshore_log::Ignored| format!("{}: {}", baseline.path.display(), baseline.why);
    let shown = json!({
        "files": report.files, "frames": report.frames, "first": report.first.0, "baselines": report.baselines,
        "clean": report.is_clean(), "problems": problems, "unusedBaselines": report.unfit.iter().map(unfit).collect::<Vec<_>>(),
    });
    if !structured(output, &shown)? {
        say(&format!(
            "{}, {}, {}: {}",
            count(report.files, "file"),
            count(report.frames, "frame"),
            count(report.baselines, "baseline"),
            if report.is_clean() { "clean" } else { "NOT CLEAN" }
        ));
        if report.first > Seq(1) {
            say(&format!("the log begins at frame {}: a baseline stands for those before it", report.first));
        }
        report.unfit.iter().for_each(|baseline| say(&format!("not used: {}", unfit(baseline))));
    }
    if report.is_clean() {
        return Ok(());
    }
    if report.lost.is_some()
        && report.problems.iter().all(|problem| matches!(problem.kind, farshore_log::ProblemKind::Torn))
    {
        return Err(lost_failure(&problems.join("\n  ")));
    }
    if report.problems.is_empty() {
        let wrong: Vec<String> = report.wrong_baselines().map(unfit).collect();
        let advice =
            "the segments are sound; move the file away, a start does without it as long as no frame is missing";
        return Err(Failure::new("FS-LOG-BASELINE", wrong.join("\n  "), advice).with(Exit::Mismatch));
    }
    if report.problems.iter().all(|problem| matches!(problem.kind, farshore_log::ProblemKind::Torn)) {
        let advice =
            "start the site: it keeps the tail aside and goes on; where the site runs, this is a write under way";
        return Err(Failure::new("FS-LOG-TORN", problems.join("\n  "), advice).with(Exit::Mismatch));
    }
    let advice = "do not start the site on it; restore the file from a standby, a partner site's copy or a backup";
    Err(Failure::new("FS-LOG-DAMAGED", problems.join("\n  "), advice).with(Exit::Mismatch))
}

/// Of a log that has lost frames.
pub(crate) fn lost_failure(text: &str) -> Failure {
    let advice = "put the newest copy of the log back if there is one; else start the site: it takes a new lineage, asks its \
                  peers and says what was lost";
    Failure::new("FS-LOG-LOST", text.replace("FS-LOG-LOST: ", ""), advice).with(Exit::Mismatch)
}

/// What the log has lost, when its view reflects more. Of a site that runs the view is its own.
pub(crate) fn lost_by_view(folder: &DataFolder, last: Seq) -> Option<Lost> {
    let _held = farshore_log::hold(&folder.path).ok()?;
    Lost::find(View::reflects(&folder.path), last)
}
