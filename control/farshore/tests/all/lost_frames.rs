//! A log whose last frames are gone although they had been acknowledged: whatever still knows of them says so, no verb hides
//! it, and the site goes on in a new lineage.

use crate::site::Site;
use crate::support::{farshore, text};
use farshore_log::GROUP_MAGIC;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A site's data after a clean run, its last group cut off without a trace in the segment, and no `log/tail`.
fn cut() -> (tempfile::TempDir, PathBuf) {
    let (folder, data, at) = ended();
    File::options().write(true).open(&at.0).unwrap().set_len(at.1).unwrap();
    (folder, data)
}

/// A site's data after a clean run without `log/tail`; the last segment, and where its last group begins.
fn ended() -> (tempfile::TempDir, PathBuf, (PathBuf, u64)) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    Site::up(&data, &[]).stop();
    fs::remove_file(data.join("log/tail")).unwrap();
    let segments = fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let last = segments.filter(|path| path.extension().is_some_and(|ending| ending == "log")).max().unwrap();
    let bytes = fs::read(&last).unwrap();
    let begin = bytes.windows(GROUP_MAGIC.len()).rposition(|window| window == GROUP_MAGIC).unwrap();
    (folder, data, (last, begin as u64))
}

fn without_baselines(data: &Path) {
    for entry in fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name().to_str().unwrap().starts_with("base-") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// Starts the site: it says the loss and goes on in a new lineage; the start after that has nothing to say.
fn goes_on_in_a_new_lineage(data: &Path) {
    let before = fs::read_to_string(data.join("run/up.log")).unwrap().len();
    let site = Site::up(data, &[]);
    let said = site.said().split_off(before);
    assert!(said.contains("FS-LOG-LOST"), "{said}");
    assert!(site.farshore(&["status"]).good().out.contains("FS-RUNTIME-RENEWED"), "the operator sees it");
    site.stop();
    let listed = farshore(&["log", "ls", "--data", text(data), "-o", "json"]).good().out;
    assert!(listed.contains("lineage renewed"), "{listed}");
    farshore(&["log", "verify", "--data", text(data)]).good();
    let before = fs::read_to_string(data.join("run/up.log")).unwrap().len();
    let site = Site::up(data, &[]);
    let said = site.said().split_off(before);
    site.stop();
    assert!(!said.contains("FS-LOG-LOST"), "{said}");
}

#[test]
fn a_signed_baseline_past_the_end_shows_the_loss() {
    let (_folder, data) = cut();
    farshore(&["log", "verify", "--data", text(&data)]).refused(21, &["FS-LOG-LOST", "had been acknowledged"]);
    fs::remove_dir_all(data.join("view")).unwrap();
    goes_on_in_a_new_lineage(&data);
}

#[test]
fn the_view_alone_shows_the_loss() {
    let (_folder, data) = cut();
    without_baselines(&data);
    farshore(&["log", "verify", "--data", text(&data)]).refused(21, &["FS-LOG-LOST", "had been acknowledged"]);
    farshore(&["log", "hash", "--data", text(&data)]).refused(21, &["FS-LOG-LOST"]);
    goes_on_in_a_new_lineage(&data);
}

#[test]
fn a_log_that_lost_its_first_frame_too_goes_on_and_stays_whole() {
    let (_folder, data, (segment, _)) = ended();
    // The header alone, and half of the first group.
    let whole = fs::read(&segment).unwrap();
    for kept in [160, 400] {
        let data = data.with_file_name(format!("kept-{kept}"));
        assert!(
            std::process::Command::new("cp")
                .arg("-a")
                .arg(segment_data(&segment))
                .arg(&data)
                .status()
                .unwrap()
                .success()
        );
        let segment = data.join("log").join(segment.file_name().unwrap());
        fs::write(&segment, &whole[..kept]).unwrap();
        farshore(&["log", "verify", "--data", text(&data)]).refused(21, &["FS-LOG-LOST"]);
        goes_on_in_a_new_lineage(&data);
    }
}

/// The data folder of a segment.
fn segment_data(segment: &Path) -> &Path {
    segment.parent().and_then(Path::parent).unwrap()
}

#[test]
fn a_log_without_a_segment_is_told_from_none_and_no_verb_makes_one() {
    let (_folder, data, (segment, _)) = ended();
    fs::remove_file(&segment).unwrap();
    for verb in ["verify", "ls", "rebuild", "baseline"] {
        farshore(&["log", verb, "--data", text(&data)]).refused(21, &["FS-LOG-LOST", "no segment left"]);
    }
    assert!(!segment.exists());
    goes_on_in_a_new_lineage(&data);
}

#[test]
fn a_rebuild_and_a_baseline_say_the_loss_and_do_not_hide_it_from_the_next_start() {
    let (_folder, data) = cut();
    let rebuilt = farshore(&["log", "rebuild", "--data", text(&data)]).good();
    assert!(rebuilt.err.contains("FS-LOG-LOST"), "{rebuilt:?}");
    let written = farshore(&["log", "baseline", "--data", text(&data)]).good();
    assert!(written.err.contains("FS-LOG-LOST"), "{written:?}");
    farshore(&["log", "verify", "--data", text(&data)]).refused(21, &["FS-LOG-LOST"]);
    goes_on_in_a_new_lineage(&data);
}

#[test]
fn a_verb_that_takes_the_log_says_what_it_put_aside_and_one_that_reads_changes_nothing() {
    let (_folder, data, (segment, begin)) = ended();
    without_baselines(&data);
    fs::remove_dir_all(data.join("view")).unwrap();
    let file = File::options().write(true).open(&segment).unwrap();
    file.set_len(begin + 100).unwrap();
    let torn = fs::read(&segment).unwrap();
    farshore(&["log", "verify", "--data", text(&data)]).refused(21, &["FS-LOG-TORN"]);
    farshore(&["log", "hash", "--data", text(&data)]).good();
    farshore(&["log", "replay", "--check", "--data", text(&data)]).good();
    assert_eq!(fs::read(&segment).unwrap(), torn, "whoever only reads changes nothing");
    let written = farshore(&["log", "baseline", "--data", text(&data)]).good();
    assert!(written.err.contains("ended in an unfinished write"), "{written:?}");
    farshore(&["log", "verify", "--data", text(&data)]).good();
}

#[test]
fn ranges_and_names_that_are_not_there_are_told_so() {
    let (_folder, data, _) = ended();
    let log = |args: &[&str]| farshore(&[&["log"], args, &["--data", text(&data)]].concat());
    log(&["show", "0"]).refused(10, &["FS-LOG-SEQ"]);
    log(&["replay", "--until", "99999"]).refused(10, &["FS-LOG-SEQ", "99999"]);
    log(&["replay", "--check", "--until", "99999"]).refused(10, &["FS-LOG-SEQ", "99999"]);
    log(&["ls", "--actor", "job/nope"]).refused(10, &["FS-LOG-NO-FRAME", "job/nope"]);
    let file = data.join("incident.seg");
    log(&["export", "--from", "20", "--to", "5", "--file", text(&file)]).refused(22, &["FS-LOG-RANGE", "20 to 5"]);
    assert!(!file.exists());
}
