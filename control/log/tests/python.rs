//! The reader in `ops/read_log.py` was written from the format document alone: it must read what is written here, and stop
//! where bytes are flipped.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod common;

use common::{Maker, append_each, make, open, segment_files};
use farshore_log::{Baseline, Layout, ReadLog, SiteKey, export};
use farshore_schemas::ids::{Lineage, Seq};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const LAYOUT: Layout = Layout { segment_bytes: 6 << 10, ahead_bytes: 256 };

fn read_log(arguments: &[&str], path: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/read_log.py");
    Command::new("python3").arg(script).args(arguments).arg(path).output().expect("python3 is installed")
}

/// Plain and sealed segments, two lineages, frames larger than a BLAKE3 chunk.
fn mixed(dir: &Path) -> Maker {
    let opened = open(dir, LAYOUT);
    let mut maker = Maker::after(opened.tail, opened.lineage);
    append_each(&opened.log, &mut maker, 12);
    maker.lineage = Lineage([8; 16]);
    maker.payload = 1500;
    append_each(&opened.log, &mut maker, 5);
    maker
}

#[test]
fn the_python_reader_prints_every_frame() {
    let dir = tempfile::tempdir().unwrap();
    let maker = mixed(dir.path());
    let endings: Vec<_> = segment_files(dir.path()).iter().map(|path| path.extension().unwrap().to_owned()).collect();
    assert!(endings.iter().any(|ending| ending == "sealed") && endings.iter().any(|ending| ending == "log"));
    let output = read_log(&[], dir.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<serde_json::Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 17);
    for (at, line) in lines.iter().enumerate() {
        assert_eq!(line["seq"], at as u64 + 1);
        assert_eq!(line["input"]["actor"]["name"], "nightly");
        assert_eq!(line["input"]["input"], "Wake");
        assert_eq!(line["events"]["verdict"], "Accepted");
        assert_eq!(line["events"]["events"][1], (7 + at as u64 + 1) % 128);
        assert_eq!(line["sends"]["principal"], "hq");
        assert_eq!(line["state_hash"].is_null(), (at + 1) % 4 != 0);
    }
    assert_eq!(lines[16]["hash"], maker.chain.to_string());
    assert_eq!(lines[16]["lineage"], maker.lineage.to_string());
}

#[test]
fn the_python_reader_reads_an_export() {
    let dir = tempfile::tempdir().unwrap();
    mixed(dir.path());
    let reader = farshore_log::LogReader::open(dir.path()).unwrap();
    let file = dir.path().join("part.seg");
    export(&reader, Seq(3), Seq(9), &file).unwrap();
    let output = read_log(&["--quiet"], &file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"frames\": 7"));
}

#[test]
fn the_python_reader_names_the_place_of_a_flip() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), Layout { segment_bytes: 3 << 10, ahead_bytes: 64 }, 12);
    let files = segment_files(dir.path());
    let pick =
        |ending: &str| -> PathBuf { files.iter().rfind(|path| path.extension().unwrap() == ending).unwrap().clone() };
    for path in [pick("sealed"), pick("log")] {
        let good = fs::read(&path).unwrap();
        // One flip in every part: header, first group or block, middle, end.
        for at in [9, 45, 158, 163, 190, 240, good.len() / 2, good.len() - 70, good.len() - 2] {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            fs::write(&path, &bad).unwrap();
            let output = read_log(&["--quiet"], dir.path());
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(matches!(output.status.code(), Some(1 | 3)), "a flip at {at} in {}: {said}", path.display());
            assert!(said.contains(path.file_name().unwrap().to_str().unwrap()), "{said}");
            assert!(said.contains(" at offset ") && said.contains(", seq "), "{said}");
        }
        fs::write(&path, &good).unwrap();
    }
}

#[test]
fn the_python_reader_says_when_the_tail_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), LAYOUT, 6);
    let path = &segment_files(dir.path())[0];
    let bytes = fs::read(path).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    fs::write(path, &bytes[..written - 100]).unwrap();
    let output = read_log(&["--quiet"], dir.path());
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("seq 6: the tail is torn"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"frames\": 5"));
}

#[test]
fn the_python_reader_checks_baselines() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), LAYOUT, 40);
    let reader = farshore_log::LogReader::open(dir.path()).unwrap();
    let key = SiteKey::open_or_make(dir.path()).unwrap();
    let files = segment_files(dir.path());
    let second: u64 = files[1].file_stem().unwrap().to_str().unwrap()[4..].parse().unwrap();
    let entries: BTreeMap<String, Vec<u8>> = [("entity/job/b".to_owned(), vec![7; 2000])].into();
    let head = reader.frame_hash(Seq(second - 1)).unwrap().unwrap();
    let baseline = Baseline::new(&common::site(), common::LINEAGE, (Seq(second - 1), head), entries);
    let path = baseline.write(dir.path(), &key).unwrap();
    let said = |code: i32, words: &str| {
        let output = read_log(&["--quiet"], dir.path());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "{words:?} in {said:?}");
    };
    said(0, "");
    let good = fs::read(&path).unwrap();
    for (back, words) in [(good.len() - 30, "hash"), (1, "signature"), (80, "signature"), (good.len(), "no baseline")] {
        let mut bad = good.clone();
        bad[good.len() - back] ^= 1;
        fs::write(&path, &bad).unwrap();
        said(1, words);
    }
    fs::write(&path, &good).unwrap();
    // It stands for the first segment, as long as its signer is known.
    fs::remove_file(&files[0]).unwrap();
    said(0, "");
    fs::remove_file(dir.path().join("site-keys")).unwrap();
    said(1, "frames from seq 1 on are missing");
    fs::remove_file(&path).unwrap();
    said(1, "frames from seq 1 on are missing");
    // Another history.
    let (dir, other) =
        (tempfile::tempdir().unwrap(), Baseline { head: farshore_schemas::ids::Digest([1; 32]), ..baseline });
    make(dir.path(), LAYOUT, 40);
    other.write(dir.path(), &SiteKey::open_or_make(dir.path()).unwrap()).unwrap();
    let output = read_log(&["--quiet"], dir.path());
    assert!(String::from_utf8_lossy(&output.stderr).contains("another history"), "{output:?}");
}
