//! A segment and a baseline of every version ever written are kept in `golden/` and must be read for ever. A new version gets
//! files of its own, written with `FARSHORE_WRITE_GOLDEN=1 cargo nextest run -p farshore-log golden`; files that are there are
//! never written again.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod common;

use common::{LINEAGE, SMALL, make, read_all, site};
use farshore_log::{Baseline, LogReader, ReadLog, SiteKey, export, newest_baseline, verify};
use farshore_schemas::ids::Seq;
use std::fs;
use std::path::{Path, PathBuf};

/// A key that is nobody's.
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A data folder with that key.
fn with_key() -> (tempfile::TempDir, SiteKey) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("secrets")).unwrap();
    fs::write(dir.path().join("secrets/site-key"), KEY).unwrap();
    let key = SiteKey::open_or_make(dir.path()).unwrap();
    (dir, key)
}

fn baseline(reader: &LogReader) -> Baseline {
    let entries = [
        ("entity/host/esx1".to_owned(), vec![0x80]),
        ("entity/job/nightly".to_owned(), (0..=255).collect()),
        ("sequencer".to_owned(), Vec::new()),
    ];
    Baseline::new(&site(), LINEAGE, reader.tail(), entries.into())
}

/// Writes the files of this version where they are not there yet.
fn write_missing() {
    let (dir, key) = with_key();
    make(dir.path(), SMALL, 20);
    let reader = LogReader::open(dir.path()).unwrap();
    if !golden("segment-v1.sealed").exists() {
        export(&reader, Seq(1), Seq(20), &golden("segment-v1.sealed")).unwrap();
    }
    if !golden("base-v1.bin").exists() {
        let written = baseline(&reader).write(dir.path(), &key).unwrap();
        fs::copy(written, golden("base-v1.bin")).unwrap();
    }
}

#[test]
fn a_golden_segment_and_the_baseline_over_it_are_read_as_ever() {
    if std::env::var_os("FARSHORE_WRITE_GOLDEN").is_some() {
        write_missing();
    }
    let (dir, key) = with_key();
    let log = dir.path().join("log");
    fs::create_dir(&log).unwrap();
    fs::copy(golden("segment-v1.sealed"), log.join("seg-00000000000000000001.sealed")).unwrap();
    let reader = LogReader::open(dir.path()).unwrap();
    assert_eq!((reader.first(), reader.tail().0, read_all(&reader, Seq(1)).len()), (Seq(1), Seq(20), 20));
    let kept = fs::read(golden("base-v1.bin")).unwrap();
    let path = log.join("base-00000000000000000020");
    fs::write(&path, &kept).unwrap();
    assert_eq!(newest_baseline(dir.path(), &reader, Seq(20)).unwrap(), (Some(baseline(&reader)), Vec::new()));
    let report = verify(dir.path()).unwrap();
    assert!(report.is_clean() && report.baselines == 1, "{report:?}");
    // The same baseline is written the same way.
    fs::remove_file(&path).unwrap();
    assert_eq!(baseline(&reader).write(dir.path(), &key).unwrap(), path);
    assert_eq!(fs::read(&path).unwrap(), kept, "a changed format needs a new magic and a file of its own");
}
