//! Every byte of a small log is flipped, and its last frame is cut at every length: what was acknowledged is never dropped
//! silently, and damage is never repaired by guessing.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod common;

use common::{
    LINEAGE, Maker, SMALL, append_each, make, open, options, quick_dir, read_all, segment_files, site, snapshot,
};
use farshore_log::{
    GROUP_HEADER_LEN, Layout, LogError, LogReader, MemoryLog, MemoryStore, ProblemKind, ReadLog, SegmentLog, verify,
};
use farshore_runtime::log_port::EventLog;
use farshore_schemas::ids::{Lineage, Seq};
use std::fs;
use std::path::{Path, PathBuf};

const TINY: Layout = Layout { segment_bytes: 8 << 10, ahead_bytes: 256 };

/// A log of frames in groups of one, and a group of three at the end.
fn grouped(dir: &Path) -> Maker {
    let mut maker = make(dir, TINY, 4);
    write_group(dir, &mut maker, 3);
    maker
}

/// Adds one group of several frames to the only segment, as the writer lays it out.
fn write_group(dir: &Path, maker: &mut Maker, count: u32) {
    let path = dir.join("log/seg-00000000000000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let first = maker.last.next();
    let frames: Vec<u8> = (0..count).flat_map(|_| maker.next().bytes).collect();
    let header = farshore_log::GroupHeader { len: frames.len() as u32, frames: count, first, offset: at as u64 };
    let mut group = header.encode().to_vec();
    group.extend(frames);
    group.resize((header.end() - header.offset) as usize, 0xFF);
    bytes.truncate(at);
    bytes.extend(group);
    bytes.extend([0; 128]);
    fs::write(&path, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

fn last_nonzero(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).unwrap()
}

#[test]
fn any_flipped_byte_of_a_plain_segment_is_found_and_named() {
    let dir = quick_dir();
    let maker = grouped(dir.path());
    assert!(verify(dir.path()).unwrap().is_clean());
    let path = dir.path().join("log/seg-00000000000000000001.log");
    let good = fs::read(&path).unwrap();
    let written = last_nonzero(&good);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, &bad).unwrap();
        let report = verify(dir.path()).unwrap_or_default();
        let found = verify(dir.path()).is_err() || !report.is_clean();
        assert!(found, "a flip at {at} was not found");
        if let Some(problem) = report.problems.first() {
            assert_eq!(problem.file, path);
            assert!(problem.offset <= at as u64, "a flip at {at} is said to be at {}", problem.offset);
            assert!(problem.seqs.first <= maker.last.next());
        }
        let before = snapshot(dir.path());
        match SegmentLog::open(&options(dir.path(), TINY)) {
            Err(error) => {
                let named = format!("{error}");
                assert!(named.contains("seg-00000000000000000001.log"), "{named}");
                assert_eq!(snapshot(dir.path()), before, "a flip at {at} was refused, and yet something changed");
            }
            Ok(opened) => {
                assert!(at > written, "a flip at {at} of what was written was not refused");
                assert!(opened.recovered.is_some(), "the tail after a flip at {at} was dropped silently");
                assert_eq!(opened.tail, (maker.last, maker.chain));
                drop(opened);
                fs::remove_dir_all(dir.path().join("log/torn")).unwrap();
            }
        }
    }
}

#[test]
fn any_flipped_byte_of_a_sealed_segment_is_found_and_named() {
    let dir = quick_dir();
    let maker = make(dir.path(), Layout { segment_bytes: 2 << 10, ahead_bytes: 64 }, 16);
    assert!(verify(dir.path()).unwrap().is_clean());
    let sealed: Vec<PathBuf> =
        segment_files(dir.path()).into_iter().filter(|path| path.extension().unwrap() == "sealed").collect();
    assert!(sealed.len() > 1, "the log has sealed segments");
    let path = &sealed[1];
    let good = fs::read(path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(path, &bad).unwrap();
        match verify(dir.path()) {
            Ok(report) => {
                let problem = report.problems.first().expect("the flip is found");
                assert_eq!(&problem.file, path);
                assert!(problem.offset <= at as u64 || matches!(problem.kind, ProblemKind::Trailer(_)));
                if matches!(problem.kind, ProblemKind::Block(_)) {
                    assert!(problem.seqs.first > Seq(1) && problem.seqs.last < maker.last);
                    assert!(problem.seqs.last > problem.seqs.first, "a block is named by its range");
                }
            }
            Err(error) => assert!(matches!(error, LogError::Newer { .. }), "{error}"),
        }
        let before = snapshot(dir.path());
        let refused = SegmentLog::open(&options(dir.path(), TINY)).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains(path.file_name().unwrap().to_str().unwrap()), "{refused}");
        assert_eq!(snapshot(dir.path()), before, "a flip at {at} was refused, and yet something changed");
    }
    // What is too old to be read at a start still never gives a wrong frame.
    let mut bad = good.clone();
    bad[200] ^= 1;
    fs::write(path, &bad).unwrap();
    let reader = LogReader::open(dir.path()).unwrap();
    let mut frames = reader.frames_from(Seq(1)).unwrap();
    let refused = loop {
        match frames.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the damaged block was passed over"),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, LogError::Damaged(problem) if matches!(problem.kind, ProblemKind::Block(_))));
}

/// Opens a log that was cut and sees that it goes on after `kept` frames, and says so.
fn recovers(dir: &Path, kept: u64, note: &str) {
    let whole = LogReader::open(dir).unwrap();
    assert_eq!(whole.tail().0, Seq(kept), "{note}: read before recovery");
    assert_eq!(read_all(&whole, Seq(1)).len() as u64, kept, "{note}: read before recovery");
    let opened = open(dir, TINY);
    assert_eq!(opened.tail.0, Seq(kept), "{note}");
    let recovered = opened.recovered.as_ref().unwrap_or_else(|| panic!("{note}: not reported"));
    assert_eq!(recovered.kept, Seq(kept), "{note}");
    assert!(recovered.aside.exists());
    let mut maker = Maker::after(opened.tail, opened.lineage);
    append_each(&opened.log, &mut maker, 2);
    drop(opened);
    let report = verify(dir).unwrap();
    assert!(report.is_clean(), "{note}: {report:?}");
    assert_eq!(report.frames, kept + 2, "{note}");
}

#[test]
fn a_file_cut_anywhere_in_its_last_group_goes_on_after_the_last_whole_frame() {
    let good = quick_dir();
    grouped(good.path());
    let name = "log/seg-00000000000000000001.log";
    let bytes = fs::read(good.path().join(name)).unwrap();
    // Where each frame of the last group ends.
    let mut ends = Vec::new();
    let reader = LogReader::open(good.path()).unwrap();
    let lens: Vec<usize> = read_all(&reader, Seq(5)).iter().map(Vec::len).collect();
    let group = last_group(&bytes);
    let mut at = group + GROUP_HEADER_LEN;
    for len in lens {
        at += len;
        ends.push(at);
    }
    for cut in group + 1..=last_nonzero(&bytes) {
        let dir = quick_dir();
        copy(good.path(), dir.path());
        fs::write(dir.path().join(name), &bytes[..cut]).unwrap();
        let kept = 4 + ends.iter().filter(|end| **end <= cut).count() as u64;
        recovers(dir.path(), kept, &format!("cut at {cut}"));
    }
}

fn last_group(bytes: &[u8]) -> usize {
    (0..bytes.len() - 4).rev().find(|at| bytes[*at..*at + 4] == *b"FSG1").unwrap()
}

#[test]
fn sectors_that_a_power_cut_left_unwritten_are_a_torn_tail() {
    let good = quick_dir();
    let mut maker = make(good.path(), TINY, 2);
    write_group(good.path(), &mut maker, 6);
    let name = "log/seg-00000000000000000001.log";
    let bytes = fs::read(good.path().join(name)).unwrap();
    let (group, end) = (last_group(&bytes), last_nonzero(&bytes));
    assert!(end - group > 1024, "the group reaches over sectors");
    for sector in group / 512..=end / 512 {
        let dir = quick_dir();
        copy(good.path(), dir.path());
        let mut lost = bytes.clone();
        lost[(sector * 512).max(group)..((sector + 1) * 512).min(end + 1)].fill(0);
        fs::write(dir.path().join(name), &lost).unwrap();
        let kept = LogReader::open(dir.path()).unwrap().tail().0.0;
        assert!((2..8).contains(&kept));
        recovers(dir.path(), kept, &format!("sector {sector}"));
    }
}

#[test]
fn zeros_in_a_group_that_a_later_group_follows_are_damage() {
    let dir = quick_dir();
    make(dir.path(), TINY, 8);
    let path = dir.path().join("log/seg-00000000000000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[512..1024].fill(0);
    fs::write(&path, &bytes).unwrap();
    let before = snapshot(dir.path());
    let refused = SegmentLog::open(&options(dir.path(), TINY)).map(|_| ()).unwrap_err();
    assert!(refused.to_string().starts_with("FS-LOG-DAMAGED"), "{refused}");
    assert_eq!(snapshot(dir.path()), before);
}

#[test]
fn acknowledged_frames_that_were_cut_off_cleanly_or_zeroed_are_missed() {
    for zeroed in [false, true] {
        let dir = quick_dir();
        make(dir.path(), TINY, 6);
        let path = dir.path().join("log/seg-00000000000000000001.log");
        let mut bytes = fs::read(&path).unwrap();
        let group = last_group(&bytes);
        if zeroed {
            bytes[group..].fill(0)
        } else {
            bytes.truncate(group)
        }
        fs::write(&path, &bytes).unwrap();
        let report = verify(dir.path()).unwrap();
        assert!(!report.is_clean() && report.problems.is_empty());
        let opened = open(dir.path(), TINY);
        let lost = opened.lost.expect("the log knows how far it had acknowledged");
        assert_eq!((lost.kept, lost.acknowledged), (Seq(5), Seq(6)));
        assert_eq!(opened.tail.0, Seq(5));
        drop(opened);
        // It is said again until the site goes on, in a lineage of its own.
        let opened = open(dir.path(), TINY);
        assert_eq!(opened.lost, Some(lost));
        let renewed = Lineage([9; 16]);
        append_each(&opened.log, &mut Maker::after(opened.tail, renewed), 1);
        drop(opened);
        let opened = open(dir.path(), TINY);
        assert_eq!((opened.lost, opened.lineage), (None, renewed));
    }
}

#[test]
fn a_missing_segment_is_damage() {
    let dir = quick_dir();
    make(dir.path(), SMALL, 60);
    let files = segment_files(dir.path());
    assert!(files.len() > 3);
    for missing in &files[..files.len() - 1] {
        let copied = quick_dir();
        copy(dir.path(), copied.path());
        fs::remove_file(copied.path().join("log").join(missing.file_name().unwrap())).unwrap();
        assert!(!verify(copied.path()).unwrap().is_clean());
        let refused = SegmentLog::open(&options(copied.path(), SMALL)).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("missing before this file"), "{refused}");
    }
}

#[test]
fn a_segment_of_another_history_is_damage() {
    let ours = quick_dir();
    let theirs = quick_dir();
    make(ours.path(), SMALL, 40);
    let opened = open(theirs.path(), SMALL);
    let mut maker = Maker { payload: 41, ..Maker::new() };
    append_each(&opened.log, &mut maker, 40);
    drop(opened);
    let (our_files, their_files) = (segment_files(ours.path()), segment_files(theirs.path()));
    fs::copy(&their_files[0], &our_files[0]).unwrap();
    let refused = SegmentLog::open(&options(ours.path(), SMALL)).map(|_| ()).unwrap_err();
    assert!(matches!(refused, LogError::Damaged(_)), "{refused}");
    assert!(!verify(ours.path()).unwrap().is_clean());
}

#[test]
fn another_sites_folder_is_refused() {
    let dir = quick_dir();
    make(dir.path(), SMALL, 3);
    let mut options = options(dir.path(), SMALL);
    options.site = "dr".parse().unwrap();
    let refused = SegmentLog::open(&options).map(|_| ()).unwrap_err();
    assert!(refused.to_string().starts_with("FS-LOG-SITE"), "{refused}");
}

#[test]
fn a_log_in_memory_holds_the_same_frames_as_one_on_disk() {
    let dir = quick_dir();
    make(dir.path(), SMALL, 30);
    let store = MemoryStore::new(&site(), LINEAGE);
    let memory = MemoryLog::open(&store);
    append_each(&memory, &mut Maker::new(), 30);
    assert_eq!(memory.durable_tail(), LogReader::open(dir.path()).unwrap().tail());
    assert_eq!(read_all(&store, Seq(1)), read_all(&LogReader::open(dir.path()).unwrap(), Seq(1)));
}
