//! `farshore demo --keep`, and everything that the logs that it leaves must show.

use crate::altered_rules;
use crate::site::{Site, refuses_to_start};
use crate::support::{STEPS, demo, farshore, nothing_panicked, processes, steps, text, tree};
use farshore_kernel::entity::Memory;
use farshore_log::{GROUP_ALIGN, LogReader, ReadLog, View};
use farshore_schemas::codec;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const GIB: u64 = 1 << 30;

#[test]
fn the_demo_ends_well_and_its_logs_bear_every_look() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let (said, took, memory) = demo(&kept, &[], |_| {});
    let said = said.good();
    println!("the demo took {:.1} s and at most {} MiB", took.as_secs_f64(), memory >> 20);
    assert_eq!(steps(&said), STEPS);
    assert!(took < Duration::from_secs(60), "the demo took {took:?}");
    assert!(memory > 0 && memory < GIB, "the demo's processes held {memory} bytes");
    farshore(&["demo", "--keep", text(&kept)]).refused(22, &["FS-DEMO-FOLDER", "exists already"]);
    for site in ["hq", "dr"] {
        nothing_panicked(&kept.join(site));
        verify_and_hash(&kept.join(site));
    }
    replay(&kept.join("dr"));
    readable(&kept.join("dr"));
    an_altered_view_is_seen(&kept.join("dr"));
    flipped_bytes_are_found(&kept.join("dr"));
    a_start_on_damage_is_refused(&kept.join("dr"));
    a_torn_tail_is_recovered(&kept.join("hq"));
}

#[test]
fn the_demo_bears_the_loss_of_disks_and_says_when_there_is_nothing_to_protect() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let (said, ..) = demo(&kept, &["--lose-disks", "--seed", "7"], |_| {});
    let said = said.good();
    assert_eq!(steps(&said), STEPS);
    assert!(said.out.contains("its disks are gone"), "{said:?}");
    let left: Vec<_> = processes(&kept).into_iter().map(|process| process.args).collect();
    assert!(left.is_empty(), "nothing of a demo goes on: {left:?}");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    farshore(&["demo", "--from", text(&empty)]).refused(10, &["FS-DEMO-NO-VMS", text(&empty)]);
}

fn state_of(site: &Path) -> String {
    farshore(&["log", "hash", "--data", text(site)]).good().out.trim().to_owned()
}

/// The log is clean; its fold is what the process held in memory when it ended; and it needs nothing but the segments.
fn verify_and_hash(site: &Path) {
    farshore(&["log", "verify", "--data", text(site)]).good();
    let last: serde_json::Value =
        serde_json::from_slice(&fs::read(site.join("run/final-state.json")).unwrap()).unwrap();
    assert_eq!(state_of(site), last["state"].as_str().unwrap());
    fs::remove_dir_all(site.join("view")).unwrap();
    for entry in fs::read_dir(site.join("log")).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with("seg-") {
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
    farshore(&["log", "rebuild", "--data", text(site)]).good();
    assert!(site.join("view").exists(), "a rebuild makes the view");
    assert_eq!(state_of(site), last["state"].as_str().unwrap());
    farshore(&["log", "verify", "--data", text(site)]).good();
}

/// Every decision comes out as it was recorded, and the state at any frame can be had, the same each time.
fn replay(site: &Path) {
    let checked = farshore(&["log", "replay", "--data", text(site), "--check", "-o", "json"]).good().json();
    assert_eq!(checked["differences"], serde_json::json!([]));
    let frames = checked["frames"].as_u64().unwrap();
    assert!(frames > 100, "the demo decides more than {frames} times");
    let middle = (frames / 2).to_string();
    let state = || farshore(&["log", "replay", "--data", text(site), "--until", &middle, "-o", "json"]).good();
    let (once, again) = (state(), state());
    assert_eq!(once.out.as_bytes(), again.out.as_bytes());
    let state = once.json();
    assert_eq!(state["seq"], frames / 2);
    let jobs: Vec<_> = state["actors"].as_array().unwrap().iter().filter(|actor| actor["kind"] == "job").collect();
    assert_eq!(jobs[0]["name"], "offsite", "{jobs:?}");
}

/// A decision can be read: what came in, what was decided, what it sends, and why.
fn readable(site: &Path) {
    let listed =
        farshore(&["log", "ls", "--data", text(site), "--from", "1", "--limit", "9999", "-o", "json"]).good().json();
    let all = listed.as_array().unwrap();
    let run = all.iter().find(|line| line["input"] == "Plan.Run").expect("a plan was run");
    let seq = run["seq"].to_string();
    let shown = farshore(&["log", "show", &seq, "--data", text(site), "-o", "json"]).good().json();
    assert_eq!(shown["input"]["actor"]["kind"], "plan");
    assert_eq!(shown["input"]["input"]["Message"]["body"]["Plan"]["Run"]["action"], "failover");
    assert_eq!(shown["input"]["input"]["Message"]["body"]["Plan"]["Run"]["forced"]["reason"], "hq is lost");
    assert!(shown["cause"]["principal"].as_str().is_some_and(|principal| !principal.is_empty()), "{}", shown["cause"]);
    assert!(!shown["decided"]["events"].as_array().unwrap().is_empty());
    let sends = shown["sends"].as_array().unwrap();
    assert!(sends.iter().any(|send| send["to"]["entity"]["kind"] == "replica"), "{sends:?}");
    let text_form = farshore(&["log", "show", &seq, "--data", text(site)]).good().out;
    for word in ["action: failover", "reason: hq is lost", "cause:", "events:", "sends:"] {
        assert!(text_form.contains(word), "{word:?} in {text_form}");
    }
    farshore(&["log", "show", "999999", "--data", text(site)]).refused(10, &["FS-LOG-NO-FRAME"]);
}

/// One value of one actor altered in the view, with a right crc: the hashes differ, and it is said.
fn an_altered_view_is_seen(site: &Path) {
    let right = state_of(site);
    let reader = LogReader::open(site).unwrap();
    let view = View::look(site, &reader).unwrap();
    let key = "entity/job/offsite";
    let mut memory: Memory = codec::decode_checked(&view.entries().unwrap()[key]).unwrap();
    let mut state: farshore_core::job::State = codec::decode_checked(&memory.state).unwrap();
    let farshore_core::job::State::Defined(job) = &mut state else { panic!("the job is defined: {state:?}") };
    job.spec.keep.points = Some(8);
    memory.state = codec::encode(&state);
    let (seq, hash) = view.opened_at();
    view.apply(seq, hash, vec![(key.to_owned(), Some(codec::encode(&memory)))]);
    view.flush();
    drop(view);
    let said = farshore(&["log", "hash", "--data", text(site)]);
    said.refused(21, &["FS-LOG-VIEW-DIFFERS", "log rebuild", &right]);
    farshore(&["log", "rebuild", "--data", text(site)]).good();
    assert_eq!(state_of(site), right);
    altered_rules::each_line_left_out_of_an_evolve_gives_another_state(&reader, &right);
}

/// A data folder with a copy of a site's log and nothing else.
fn copy_of_log(site: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("log")).unwrap();
    fs::copy(site.join("site"), copy.path().join("site")).unwrap();
    for entry in fs::read_dir(site.join("log")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, copy.path().join("log").join(path.file_name().unwrap())).unwrap();
        }
    }
    copy
}

fn segments(site: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(site.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("seg-")).collect();
    segments.sort();
    segments
}

fn flip(path: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    byte[0] ^= 0x41;
    file.write_all_at(&byte, offset).unwrap();
}

/// Where a segment's last group ends: the file is longer, by zeros that wait to be written over.
fn used(path: &Path) -> u64 {
    fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
}

/// `count` offsets all over the groups of a segment, the first and the last byte among them.
fn sample(path: &Path, count: u64) -> Vec<u64> {
    let last = used(path) - 1;
    (0..=count).map(|number| last * number / count).collect()
}

/// `log verify` says which file, where in it, and which decision. (Every byte of a small log: control/log/tests/damage.rs.)
fn flipped_bytes_are_found(site: &Path) {
    let copy = copy_of_log(site);
    for segment in segments(copy.path()) {
        let zeros = (used(&segment) + fs::metadata(&segment).unwrap().len()) / 2;
        for offset in sample(&segment, 40).into_iter().chain([zeros]) {
            flip(&segment, offset);
            let said = farshore(&["log", "verify", "--data", text(copy.path())]);
            // Only what was never written may look like the tail of a write.
            let code = if offset == zeros { "FS-LOG-TORN" } else { "FS-LOG-DAMAGED" };
            said.refused(21, &[code, text(&segment), " at offset ", ", seq "]);
            flip(&segment, offset);
        }
    }
    farshore(&["log", "verify", "--data", text(copy.path())]).good();
}

/// A start on damage refuses and changes nothing; a flip in the last group may look like an unfinished write, and then
/// what was acknowledged is not dropped in silence.
fn a_start_on_damage_is_refused(site: &Path) {
    let copy = copy_of_log(site);
    let log = copy.path().join("log");
    for segment in segments(copy.path()) {
        let inside = sample(&segment, 8);
        for offset in &inside[..inside.len() - 1] {
            flip(&segment, *offset);
            let before = tree(&log);
            refuses_to_start(copy.path(), &["--bare"]).refused(21, &["FS-LOG-DAMAGED", text(&segment), " at offset "]);
            assert_eq!(tree(&log), before, "a start that refuses changes nothing");
            flip(&segment, *offset);
        }
    }
    let last = segments(site).pop().unwrap();
    let length = used(&last);
    for back in [1, 33, 150, 300] {
        let copy = copy_of_log(site);
        let segment = copy.path().join("log").join(last.file_name().unwrap());
        flip(&segment, length - back);
        let before = tree(&copy.path().join("log"));
        match Site::try_up(copy.path(), &["--bare"], &[]) {
            Err(said) => {
                said.refused(21, &["FS-LOG-DAMAGED"]);
                assert_eq!(tree(&copy.path().join("log")), before);
            }
            Ok(site) => {
                let said = site.said();
                assert!(said.contains("ended in an unfinished write"), "{said}");
                site.stop();
            }
        }
    }
}

/// A file cut in its last frame: the site starts from the frame before, and says so.
fn a_torn_tail_is_recovered(site: &Path) {
    let reader = LogReader::open(site).unwrap();
    let last = reader.tail().0;
    let frame = reader.frame(last).unwrap().unwrap().len() as u64;
    let segment = segments(site).pop().unwrap();
    let length = used(&segment);
    for cut in [2 * GROUP_ALIGN + 3, frame / 2, frame] {
        let copy = copy_of_log(site);
        let torn = copy.path().join("log").join(segment.file_name().unwrap());
        fs::File::options().write(true).open(&torn).unwrap().set_len(length - cut).unwrap();
        let up = Site::up(copy.path(), &["--bare", "--agent", "hq-mover"]);
        let said = up.said();
        assert!(said.contains("ended in an unfinished write"), "{said}");
        assert!(said.contains(&format!("goes on after frame {}", last.0 - 1)), "{said}");
        up.stop();
        farshore(&["log", "verify", "--data", text(copy.path())]).good();
        farshore(&["log", "replay", "--data", text(copy.path()), "--check"]).good();
    }
}
