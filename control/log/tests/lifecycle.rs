//! Rotation, sealing, export, and a disk that fails at any call.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod common;

use common::{LINEAGE, Maker, SMALL, append, append_each, make, open, options, read_all, segment_files};
use farshore_log::{
    Disk, Export, LogError, LogReader, ProblemKind, ReadLog, RealDisk, SegmentFile, SegmentLog, export, verify,
};
use farshore_runtime::log_port::{EventLog, LogFailure};
use farshore_schemas::ids::{Lineage, Seq};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

#[test]
fn full_segments_are_sealed_and_read_like_plain_ones() {
    let dir = tempfile::tempdir().unwrap();
    let maker = make(dir.path(), SMALL, 100);
    let files = segment_files(dir.path());
    let (last, full) = files.split_last().unwrap();
    assert_eq!(last.extension().unwrap(), "log");
    assert!(full.len() > 5 && full.iter().all(|path| path.extension().unwrap() == "sealed"));
    let reader = LogReader::open(dir.path()).unwrap();
    let frames = read_all(&reader, Seq(1));
    assert_eq!(frames.len(), 100);
    assert_eq!(reader.tail(), (Seq(100), maker.chain));
    for seq in [1, 2, 13, 50, 99, 100] {
        assert_eq!(reader.frame(Seq(seq)).unwrap().as_ref(), frames.get(seq as usize - 1));
        assert_eq!(read_all(&reader, Seq(seq)).len(), 101 - seq as usize);
    }
    let report = verify(dir.path()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.frames, report.first, report.last), (100, Seq(1), Seq(100)));
    assert_eq!(report.files, files.len() as u64);
}

#[test]
fn a_reader_of_a_log_that_runs_sees_what_was_durable_when_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), SMALL);
    let mut maker = Maker::new();
    append_each(&opened.log, &mut maker, 30);
    let reader = opened.log.reader();
    let mut frames = reader.frames_from(Seq(1)).unwrap();
    assert_eq!(frames.next().unwrap().unwrap().seq(), Seq(1));
    // More is appended and sealed while the reader goes on.
    append_each(&opened.log, &mut maker, 30);
    let mut seen = 1;
    while let Some(frame) = frames.next().unwrap() {
        seen += 1;
        assert_eq!(frame.seq(), Seq(seen));
    }
    assert_eq!(seen, 30);
    assert_eq!(opened.log.reader().tail().0, Seq(60));
}

#[test]
fn a_segment_that_was_sealed_but_not_yet_removed_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let plain = tempfile::tempdir().unwrap();
    make(dir.path(), SMALL, 30);
    // The plain form of the first segment, from a log that has not rotated.
    make(plain.path(), common::SMALL, 1);
    let sealed = segment_files(dir.path())[0].clone();
    let twin = sealed.with_extension("log");
    fs::copy(segment_files(plain.path())[0].clone(), &twin).unwrap();
    fs::write(dir.path().join("log/seg-00000000000000000099.tmp"), b"half a seal").unwrap();
    assert_eq!(read_all(&LogReader::open(dir.path()).unwrap(), Seq(1)).len(), 30);
    let opened = open(dir.path(), SMALL);
    assert_eq!(opened.tail.0, Seq(30));
    assert!(!twin.exists() && sealed.exists());
    assert!(!dir.path().join("log/seg-00000000000000000099.tmp").exists());
}

#[test]
fn an_export_is_a_segment_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), SMALL, 40);
    let reader = LogReader::open(dir.path()).unwrap();
    let (file, incident) = (dir.path().join("incident.seg"), dir.path().join("kept.seg"));
    for (from, to) in [(1, 40), (7, 31), (5, 5)] {
        export(&reader, Seq(from), Seq(to), &file).unwrap();
        let taken = export(&reader, Seq(1), Seq(2), &file).unwrap_err();
        assert!(matches!(taken, LogError::Exists { .. }), "{taken}");
        let export = Export::open(&file).unwrap();
        assert_eq!((export.first(), export.tail().0, export.lineage()), (Seq(from), Seq(to), LINEAGE));
        let (from, to) = (from as usize, to as usize);
        assert_eq!(read_all(&export, export.first()), read_all(&reader, Seq(1))[from - 1..to]);
        fs::rename(&file, &incident).unwrap();
    }
    for (from, to) in [(0, 3), (3, 41), (41, 42)] {
        let refused = export(&reader, Seq(from), Seq(to), &file).unwrap_err();
        assert!(matches!(refused, LogError::NotHere { .. }), "{refused}");
    }
    let refused = export(&reader, Seq(9), Seq(8), &file).unwrap_err();
    assert!(refused.to_string().starts_with("FS-LOG-RANGE"), "{refused}");
    let file = incident;
    let good = fs::read(&file).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 4;
        fs::write(&file, bad).unwrap();
        assert!(Export::open(&file).is_err(), "a flip at {at} was not found");
    }
}

#[test]
fn an_export_over_two_lineages_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), SMALL);
    let mut maker = Maker::new();
    append_each(&opened.log, &mut maker, 3);
    maker.lineage = Lineage([9; 16]);
    append_each(&opened.log, &mut maker, 3);
    let file = dir.path().join("part.seg");
    let refused = export(&opened.log.reader(), Seq(2), Seq(5), &file).unwrap_err();
    assert!(matches!(refused, LogError::TwoLineages { at: Seq(4) }), "{refused}");
    export(&opened.log.reader(), Seq(4), Seq(6), &file).unwrap();
    assert_eq!(read_all(&Export::open(&file).unwrap(), Seq(4)).len(), 3);
}

/// A disk whose n-th call fails, and every one after it: counts down over all files.
struct Dying(Arc<AtomicI64>);
struct DyingFile(Box<dyn SegmentFile>, Arc<AtomicI64>);

fn tick(left: &AtomicI64) -> io::Result<()> {
    if left.fetch_sub(1, Ordering::SeqCst) > 0 { Ok(()) } else { Err(io::Error::other("the disk died")) }
}

impl SegmentFile for DyingFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = tick(&self.1) {
            // A write that fails may have reached the disk in part.
            self.0.write_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        self.0.write_at(bytes, offset)
    }
    fn sync(&mut self) -> io::Result<()> {
        tick(&self.1)?;
        self.0.sync()
    }
}

impl Disk for Dying {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        tick(&self.0)?;
        Ok(Box::new(DyingFile(RealDisk.create(path)?, Arc::clone(&self.0))))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        tick(&self.0)?;
        Ok(Box::new(DyingFile(RealDisk.open(path)?, Arc::clone(&self.0))))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        tick(&self.0)?;
        RealDisk.rename(from, to)
    }
}

#[test]
fn whichever_call_to_the_disk_fails_nothing_acknowledged_is_lost() {
    for calls in 0..90 {
        let dir = common::quick_dir();
        let mut options = options(dir.path(), SMALL);
        options.disk = Arc::new(Dying(Arc::new(AtomicI64::new(calls))));
        let mut acknowledged = (Seq(0), farshore_schemas::frame::genesis_hash(LINEAGE));
        if let Ok(opened) = SegmentLog::open(&options) {
            let mut maker = Maker::new();
            loop {
                match append(&opened.log, maker.next()) {
                    Ok(()) => acknowledged = (maker.last, maker.chain),
                    Err(failure) => {
                        assert!(matches!(failure, LogFailure::Io(_)), "{failure}");
                        break;
                    }
                }
            }
            assert_eq!(append(&opened.log, maker.next()), Err(LogFailure::Stopped));
            assert_eq!(opened.log.durable_tail(), acknowledged);
        }
        let opened = open(dir.path(), SMALL);
        assert!(opened.tail.0 >= acknowledged.0 && opened.tail.0 <= acknowledged.0.next(), "after {calls} calls");
        assert_eq!(opened.lost, None);
        let mut maker = Maker::after(opened.tail, opened.lineage);
        append_each(&opened.log, &mut maker, 3);
        let frames = read_all(&opened.log.reader(), Seq(1));
        assert_eq!(frames.len() as u64, maker.last.0);
        if acknowledged.0 > Seq(0) {
            let last = &frames[acknowledged.0.0 as usize - 1];
            assert_eq!(*blake3::hash(last).as_bytes(), acknowledged.1.0, "after {calls} calls");
        }
        drop(opened);
        assert!(verify(dir.path()).unwrap().is_clean(), "after {calls} calls");
    }
}

/// Opens a log whose sealing waits, after its first segment, until the sender is dropped.
fn open_with_held_sealing(dir: &Path) -> (farshore_log::Opened, Sender<()>, Receiver<Seq>) {
    let (release, held) = channel::<()>();
    let (tell, sealed) = channel();
    let held = Mutex::new(held);
    let mut options = options(dir, SMALL);
    options.on_sealed = Some(Arc::new(move |last| {
        let _ = tell.send(last);
        let _ = held.lock().unwrap().recv();
    }));
    (SegmentLog::open(&options).unwrap(), release, sealed)
}

#[test]
fn a_segment_that_is_being_read_may_be_sealed() {
    let dir = common::quick_dir();
    let (opened, release, sealed) = open_with_held_sealing(dir.path());
    let mut maker = Maker::after(opened.tail, opened.lineage);
    append_each(&opened.log, &mut maker, 40);
    let first_sealed = sealed.recv().unwrap();
    let reader = opened.log.reader();
    let mut frames = reader.frames_from(first_sealed.next()).unwrap();
    assert_eq!(frames.next().unwrap().map(|frame| frame.seq()), Some(first_sealed.next()));
    assert!(segment(dir.path(), first_sealed.next(), "log").exists(), "the segment that is read is plain still");
    drop(release);
    drop(opened);
    assert!(!segment(dir.path(), first_sealed.next(), "log").exists(), "it is sealed now");
    let mut last = first_sealed.next();
    while let Some(frame) = frames.next().unwrap() {
        last = frame.seq();
    }
    assert_eq!(last, maker.last);
}

fn segment(dir: &Path, first: Seq, ending: &str) -> std::path::PathBuf {
    dir.join(format!("log/seg-{:020}.{ending}", first.0))
}

#[test]
fn a_log_that_is_written_and_sealed_can_be_opened_and_verified_at_any_moment() {
    let dir = common::quick_dir();
    let opened = open(dir.path(), SMALL);
    let mut maker = Maker::after(opened.tail, opened.lineage);
    append_each(&opened.log, &mut maker, 1);
    let writing = std::thread::scope(|threads| {
        let writer = threads.spawn(|| append_each(&opened.log, &mut maker, 600));
        let mut looks = 0;
        while !writer.is_finished() || looks == 0 {
            let reader = LogReader::open(dir.path()).unwrap();
            let (tail, _) = reader.tail();
            assert_eq!(read_all(&reader, Seq(1)).len() as u64, tail.0);
            let report = verify(dir.path()).unwrap();
            assert!(report.problems.iter().all(|problem| problem.kind == ProblemKind::Torn), "{report:?}");
            looks += 1;
        }
        writer.join()
    });
    writing.unwrap();
    assert_eq!(maker.last, Seq(601));
}

#[test]
fn everything_but_the_segments_may_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let maker = make(dir.path(), SMALL, 25);
    fs::remove_file(dir.path().join("log/tail")).unwrap();
    fs::remove_file(dir.path().join("lock")).unwrap();
    assert!(verify(dir.path()).unwrap().is_clean());
    let opened = open(dir.path(), SMALL);
    assert_eq!((opened.tail, opened.lost), ((Seq(25), maker.chain), None));
}

#[test]
fn a_folder_without_a_log_says_so() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(LogReader::open(dir.path()), Err(LogError::NoLog { .. })));
    assert!(matches!(verify(dir.path()), Err(LogError::NoLog { .. })));
}
