//! Baselines as an operator meets them: written at every clean end, used by a start without a view, compared by a rebuild,
//! refused when they are not what was written, and standing for segments that were archived.

use crate::site::{Site, refuses_to_start};
use crate::support::{farshore, text};
use farshore_log::{LogReader, ReadLog, SiteKey, newest_baseline};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A site's data after three runs, each in a lineage and so in segments of its own.
fn three_runs() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    Site::up(&data, &[]).stop();
    Site::up(&data, &["--renew-lineage", "a second history"]).stop();
    Site::up(&data, &["--renew-lineage", "a third history"]).stop();
    (folder, data)
}

/// A whole copy of a data folder, beside it.
fn copy(data: &Path, name: &str) -> PathBuf {
    let to = data.with_file_name(name);
    assert!(Command::new("cp").arg("-a").arg(data).arg(&to).status().unwrap().success());
    to
}

fn files(data: &Path, prefix: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).collect();
    files.sort();
    files
}

fn seq_of(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().rsplit('-').next().unwrap().parse().unwrap()
}

fn flip_middle(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn json(args: &[&str], data: &Path) -> Value {
    farshore(&[&["log"], args, &["--data", text(data), "-o", "json"]].concat()).good().json()
}

/// The state that the log folds to, and the last frame.
fn state(data: &Path) -> (String, u64) {
    let hash = json(&["hash"], data);
    (hash["state"].as_str().unwrap().to_owned(), hash["seq"].as_u64().unwrap())
}

/// Starts and stops a site that has no view; what the start said, and the state in memory at the end.
fn start_without_view(data: &Path) -> (String, Value) {
    fs::remove_dir_all(data.join("view")).unwrap();
    let before = fs::read_to_string(data.join("run/up.log")).unwrap_or_default().len();
    let site = Site::up(data, &[]);
    let said = site.said().split_off(before);
    site.stop();
    let last = fs::read(data.join("run/final-state.json")).unwrap();
    (said, serde_json::from_slice(&last).unwrap())
}

#[test]
fn a_start_without_a_view_begins_at_the_newest_baseline_that_is_sound() {
    let (_folder, data) = three_runs();
    let (right, last) = state(&data);
    let listed = json(&["baseline", "--list"], &data);
    let listed = listed.as_array().unwrap();
    assert!(listed.len() >= 3, "{listed:?}");
    assert!(listed.iter().all(|line| line["usable"] == true), "{listed:?}");
    assert_eq!(listed[0]["seq"], last, "a clean end leaves a baseline");
    assert_eq!(json(&["verify"], &data)["baselines"], listed.len());
    let rebuilt = json(&["rebuild"], &data);
    assert_eq!((&rebuilt["baselines"], &rebuilt["state"]), (&listed.len().into(), &right.as_str().into()));
    // All sound.
    let sound = copy(&data, "sound");
    let (said, end) = start_without_view(&sound);
    assert!(said.contains(&format!("the fold begins at the baseline of frame {last}")), "{said}");
    assert_eq!(state(&sound).0, end["state"].as_str().unwrap());
    farshore(&["log", "replay", "--check", "--data", text(&sound)]).good();
    // The newest one damaged.
    let newest = files(&data, "base-").pop().unwrap();
    flip_middle(&newest);
    farshore(&["log", "verify", "--data", text(&data)]).refused(21, &["FS-LOG-BASELINE", text(&newest), "hash"]);
    let one = copy(&data, "one");
    let (said, end) = start_without_view(&one);
    let older = listed[1]["seq"].as_u64().unwrap();
    assert!(said.contains("FS-LOG-BASELINE") && said.contains("its hash does not match"), "{said}");
    assert!(said.contains(&format!("the fold begins at the baseline of frame {older}")), "{said}");
    assert_eq!(state(&one).0, end["state"].as_str().unwrap());
    farshore(&["log", "verify", "--data", text(&one)]).good();
    // None sound: from the first frame.
    files(&data, "base-").iter().filter(|path| **path != newest).for_each(|path| flip_middle(path));
    let (said, end) = start_without_view(&data);
    assert!(said.contains("FS-LOG-BASELINE") && !said.contains("the fold begins at the baseline"), "{said}");
    assert_eq!(state(&data).0, end["state"].as_str().unwrap());
}

#[test]
fn a_rebuild_compares_with_every_baseline() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    Site::up(&data, &[]).stop();
    let reader = LogReader::open(&data).unwrap();
    let mut baseline = newest_baseline(&data, &reader, reader.tail().0).unwrap().0.unwrap();
    *baseline.entries.values_mut().next().unwrap().last_mut().unwrap() ^= 1;
    baseline.write(&data, &SiteKey::open_or_make(&data).unwrap()).unwrap();
    farshore(&["log", "verify", "--data", text(&data)]).good();
    let at = format!("at frame {} the log folds to other states", baseline.seq);
    farshore(&["log", "rebuild", "--data", text(&data)]).refused(21, &["FS-LOG-BASELINE-DIFFERS", &at]);
    fs::remove_file(files(&data, "base-").pop().unwrap()).unwrap();
    let written = json(&["baseline"], &data);
    assert_eq!((&written["new"], &written["seq"]), (&true.into(), &baseline.seq.0.into()));
    assert_eq!(json(&["baseline"], &data)["new"], false);
    farshore(&["log", "rebuild", "--data", text(&data)]).good();
}

#[test]
fn a_site_goes_on_when_old_segments_are_archived() {
    let (folder, data) = three_runs();
    let to = folder.path().join("archive");
    let (right, last) = state(&data);
    let archived = json(&["archive", "--to", text(&to)], &data);
    assert_eq!(archived["files"].as_array().unwrap().len(), 2, "{archived}");
    let first = archived["last"].as_u64().unwrap() + 1;
    let verified = json(&["verify"], &data);
    assert_eq!((&verified["clean"], &verified["first"]), (&true.into(), &first.into()));
    let said = farshore(&["log", "verify", "--data", text(&data)]).good().out;
    assert!(said.contains(&format!("the log begins at frame {first}")), "{said}");
    assert_eq!(state(&data), (right.clone(), last));
    assert_eq!(json(&["rebuild"], &data)["state"], right.as_str());
    // Every frame that is still here is decided again.
    let checked = json(&["replay", "--check"], &data);
    let after = first - 1;
    assert_eq!((&checked["after"], &checked["frames"]), (&after.into(), &(last - after).into()), "{checked}");
    assert_eq!(json(&["hash"], &data)["after"], after);
    let said = farshore(&["log", "replay", "--check", "--data", text(&data)]).good().out;
    assert!(said.contains(&format!("the frames up to {after} were archived")), "{said}");
    farshore(&["log", "replay", "--until", "1", "--data", text(&data)]).refused(21, &["FS-LOG-ARCHIVED"]);
    farshore(&["log", "archive", "--to", text(&to), "--data", text(&data)]).refused(10, &["FS-LOG-NOTHING"]);
    // Without a baseline nothing stands for what is not here.
    let bare = copy(&data, "bare");
    files(&bare, "base-").iter().for_each(|path| fs::remove_file(path).unwrap());
    refuses_to_start(&bare, &[]).refused(21, &["FS-LOG-DAMAGED", "frames from seq 1 on are missing"]);
    // Nor for a gap after it: an older baseline, and the segments after it are gone.
    let gap = copy(&data, "gap");
    let too_old = |path: &PathBuf| seq_of(path) + 1 < first;
    assert!(files(&gap, "base-").iter().any(too_old), "{:?}", files(&gap, "base-"));
    files(&gap, "base-").iter().filter(|path| !too_old(path)).for_each(|path| fs::remove_file(path).unwrap());
    refuses_to_start(&gap, &[]).refused(21, &["FS-LOG-DAMAGED", " are missing before this file"]);
    let (said, end) = start_without_view(&data);
    assert!(said.contains("the fold begins at the baseline of frame"), "{said}");
    let after = state(&data).0;
    assert_eq!(after, end["state"].as_str().unwrap());
    // Back in their place the segments are the log again, from its first frame.
    for file in fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().path()) {
        fs::rename(&file, data.join("log").join(file.file_name().unwrap())).unwrap();
    }
    assert_eq!(json(&["verify"], &data)["first"], 1);
    assert_eq!(state(&data).0, after);
    assert_eq!(json(&["rebuild"], &data)["state"], after.as_str());
}
