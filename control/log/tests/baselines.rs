//! Baselines: which one is used, which are refused and why, what they stand for, and the archive.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod common;

use common::{LINEAGE, Maker, SMALL, append_each, make, open, options, read_all, segment_files, site, snapshot};
use farshore_log::{
    Baseline, LogError, LogReader, Lost, ProblemKind, ReadLog, SegmentLog, SiteKey, Unfit, archivable, archive,
    baselines, newest_baseline, put_baseline_aside, verify,
};
use farshore_schemas::ids::{Digest, Seq, SiteName};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

fn baseline(reader: &LogReader, seq: u64) -> Baseline {
    let entries: BTreeMap<String, Vec<u8>> =
        [("entity/host/a".to_owned(), vec![1, 2, 3]), ("entity/job/b".to_owned(), Vec::new())].into();
    let head = reader.frame_hash(Seq(seq)).unwrap().unwrap();
    Baseline::new(&site(), LINEAGE, (Seq(seq), head), entries)
}

/// A log of 40 frames in several segments, the key of its site, and a baseline per seq.
fn log_with(seqs: &[u64]) -> (tempfile::TempDir, LogReader, SiteKey) {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), SMALL, 40);
    let reader = LogReader::open(dir.path()).unwrap();
    let key = SiteKey::open_or_make(dir.path()).unwrap();
    seqs.iter().for_each(|seq| drop(baseline(&reader, *seq).write(dir.path(), &key).unwrap()));
    (dir, reader, key)
}

fn newest(dir: &Path, reader: &LogReader) -> (Option<Seq>, Vec<Unfit>) {
    let (found, ignored) = newest_baseline(dir, reader, reader.tail().0).unwrap();
    (found.map(|found| found.seq), ignored.into_iter().map(|ignored| ignored.why).collect())
}

fn path_of(dir: &Path, seq: u64) -> PathBuf {
    dir.join(format!("log/base-{seq:020}"))
}

#[test]
fn the_newest_baseline_that_fits_is_used_and_the_others_are_named() {
    let (dir, reader, key) = log_with(&[]);
    assert_eq!(newest(dir.path(), &reader), (None, Vec::new()));
    let (old, newer) = (baseline(&reader, 10), baseline(&reader, 20));
    old.write(dir.path(), &key).unwrap();
    let written = newer.write(dir.path(), &key).unwrap();
    assert_eq!(written, path_of(dir.path(), 20));
    assert_eq!(newest_baseline(dir.path(), &reader, Seq(40)).unwrap().0, Some(newer));
    assert_eq!(newest_baseline(dir.path(), &reader, Seq(19)).unwrap(), (Some(old), Vec::new()));
    let report = verify(dir.path()).unwrap();
    assert!(report.is_clean() && report.baselines == 2, "{report:?}");
}

#[test]
fn a_flipped_byte_or_a_cut_anywhere_makes_a_baseline_unusable() {
    let (dir, reader, _) = log_with(&[10, 20]);
    let path = path_of(dir.path(), 20);
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        fs::write(&path, &bad).unwrap();
        let (found, why) = newest(dir.path(), &reader);
        assert_eq!(found, Some(Seq(10)), "a flip at {at} was not found");
        assert!(matches!(why.as_slice(), [Unfit::Damaged(_)]), "{why:?}");
        fs::write(&path, &bad[..at]).unwrap();
        assert_eq!(newest(dir.path(), &reader).0, Some(Seq(10)), "cut at {at}");
    }
    let report = verify(dir.path()).unwrap();
    assert!(!report.is_clean());
    assert_eq!((report.baselines, report.wrong_baselines().count()), (1, 1));
    assert_eq!(report.unfit[0].path, path);
}

#[test]
fn a_baseline_of_another_history_or_site_is_not_used() {
    let (dir, reader, key) = log_with(&[10]);
    let right = baseline(&reader, 20);
    let said = |wrong: Baseline| {
        let path = wrong.write(dir.path(), &key).unwrap();
        let (found, why) = newest(dir.path(), &reader);
        assert!(!verify(dir.path()).unwrap().is_clean());
        fs::remove_file(path).unwrap();
        assert_eq!(found, Some(Seq(10)));
        let [Unfit::Misfit(why)] = why.as_slice() else { panic!("{why:?}") };
        why.clone()
    };
    assert!(said(Baseline { head: Digest([5; 32]), ..right.clone() }).contains("another hash"));
    assert!(said(Baseline { seq: Seq(41), ..right.clone() }).contains("the log ends at 40"));
    let other = SiteName::parse("dr").unwrap();
    let wrong = Baseline::new(&other, right.lineage, (right.seq, right.head), right.entries.clone());
    assert!(said(wrong).contains("another site"));
    let path = right.write(dir.path(), &key).unwrap();
    fs::rename(path, path_of(dir.path(), 21)).unwrap();
    let (found, why) = newest(dir.path(), &reader);
    assert_eq!((found, why), (Some(Seq(10)), vec![Unfit::Damaged("its name gives another seq".to_owned())]));
}

#[test]
fn a_baseline_that_somebody_else_signed_is_not_used() {
    let (dir, reader, key) = log_with(&[10]);
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = SiteKey::open_or_make(elsewhere.path()).unwrap();
    assert_ne!(stranger.public(), key.public());
    baseline(&reader, 20).write(dir.path(), &stranger).unwrap();
    assert_eq!(newest(dir.path(), &reader), (Some(Seq(10)), vec![Unfit::Untrusted(stranger.public())]));
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.is_clean(), report.baselines, report.unfit.len()), (true, 1, 1));
    // A copy without the list of keys trusts nobody; the site's own key, read again, lists itself.
    fs::remove_file(dir.path().join("site-keys")).unwrap();
    assert_eq!(newest(dir.path(), &reader).0, None);
    assert_eq!(SiteKey::open_or_make(dir.path()).unwrap().public(), key.public());
    assert_eq!(newest(dir.path(), &reader).0, Some(Seq(10)));
}

#[test]
fn the_key_is_for_its_owner_only_and_a_new_one_leaves_the_old_one_trusted() {
    let (dir, reader, key) = log_with(&[10]);
    let path = dir.path().join("secrets/site-key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::remove_file(&path).unwrap();
    let second = SiteKey::open_or_make(dir.path()).unwrap();
    assert_ne!(second.public(), key.public());
    baseline(&reader, 20).write(dir.path(), &second).unwrap();
    let found = baselines(dir.path(), &reader).unwrap();
    assert!(found.iter().all(|held| held.read.is_ok()), "{found:?}");
    fs::write(&path, "not a key").unwrap();
    assert!(matches!(SiteKey::open_or_make(dir.path()), Err(LogError::Io { .. })));
}

#[test]
fn the_newest_few_stay() {
    let (dir, reader, _) = log_with(&[5, 10, 15, 20, 25, 30]);
    let left: Vec<u64> = baselines(dir.path(), &reader).unwrap().iter().map(|held| held.seq.0).collect();
    assert_eq!(left, [30, 25, 20, 15]);
}

#[test]
fn one_that_does_not_fit_is_put_aside() {
    let (dir, reader, key) = log_with(&[10]);
    Baseline { head: Digest([5; 32]), ..baseline(&reader, 20) }.write(dir.path(), &key).unwrap();
    let (_, ignored) = newest_baseline(dir.path(), &reader, Seq(40)).unwrap();
    let aside = put_baseline_aside(&ignored[0].path).unwrap();
    assert!(aside.starts_with(dir.path().join("log/torn")) && aside.exists());
    assert_eq!(newest(dir.path(), &reader), (Some(Seq(10)), Vec::new()));
    assert!(verify(dir.path()).unwrap().is_clean());
}

#[test]
fn a_baseline_past_the_end_shows_that_frames_are_lost() {
    let (dir, _, key) = log_with(&[]);
    let longer = tempfile::tempdir().unwrap();
    make(longer.path(), SMALL, 50);
    let ahead = baseline(&LogReader::open(longer.path()).unwrap(), 45);
    let path = ahead.write(dir.path(), &key).unwrap();
    fs::remove_file(dir.path().join("log/tail")).unwrap();
    let lost = Some(Lost { kept: Seq(40), acknowledged: Seq(45) });
    assert_eq!(verify(dir.path()).unwrap().lost, lost);
    let opened = open(dir.path(), SMALL);
    let aside = dir.path().join("log/torn").join(path.file_name().unwrap());
    assert_eq!((opened.lost, opened.baselines_aside.as_slice()), (lost, [aside.clone()].as_slice()));
    assert!(aside.exists() && !path.exists());
    drop(opened);
    // It is said until the log goes on.
    assert_eq!(verify(dir.path()).unwrap().lost, lost);
    let opened = open(dir.path(), SMALL);
    assert_eq!((opened.lost, opened.baselines_aside.len()), (lost, 0));
    let mut maker = Maker::after(opened.tail, opened.lineage);
    append_each(&opened.log, &mut maker, 1);
    drop(opened);
    assert_eq!(open(dir.path(), SMALL).lost, None);
}

#[test]
fn what_a_baseline_stands_for_is_proved_from_stays() {
    let (dir, reader, key) = log_with(&[]);
    let elsewhere = tempfile::tempdir().unwrap();
    let last = archivable(dir.path()).unwrap().unwrap();
    baseline(&reader, last.0).write(dir.path(), &key).unwrap();
    assert_eq!(archive(&reader, dir.path(), elsewhere.path()).unwrap().last, last);
    let opened = open(dir.path(), SMALL);
    let mut maker = Maker::after(opened.tail, opened.lineage);
    for _ in 0..6 {
        append_each(&opened.log, &mut maker, 1);
        let reader = opened.log.reader();
        baseline(&reader, reader.tail().0.0).write(dir.path(), &key).unwrap();
    }
    let held = baselines(dir.path(), &opened.log.reader()).unwrap();
    assert_eq!(held.last().map(|held| held.seq), Some(last), "the one that the first frame held follows");
    assert_eq!(held.len(), 5, "and the newest few");
}

/// The first seqs of a log's segments.
fn firsts(dir: &Path) -> Vec<u64> {
    let stems = segment_files(dir).into_iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    stems.map(|stem| stem[4..].parse().unwrap()).collect()
}

#[test]
fn archived_segments_may_be_gone_when_a_baseline_stands_for_them() {
    let (dir, reader, key) = log_with(&[]);
    let (files, firsts) = (segment_files(dir.path()), firsts(dir.path()));
    baseline(&reader, firsts[1] - 1).write(dir.path(), &key).unwrap();
    fs::remove_file(&files[0]).unwrap();
    assert!(verify(dir.path()).unwrap().is_clean());
    let opened = open(dir.path(), SMALL);
    let reader = opened.log.reader();
    assert_eq!(reader.first(), Seq(firsts[1]));
    assert_eq!(newest(dir.path(), &reader).0, Some(Seq(firsts[1] - 1)));
    assert!(matches!(reader.frames_from(Seq(1)), Err(LogError::NotHere { .. })));
}

#[test]
fn a_gap_after_the_baseline_is_refused() {
    let (dir, reader, key) = log_with(&[]);
    let (files, firsts) = (segment_files(dir.path()), firsts(dir.path()));
    let before = firsts[1] - 1;
    let written = baseline(&reader, before).write(dir.path(), &key).unwrap();
    fs::remove_file(&files[0]).unwrap();
    fs::remove_file(&files[1]).unwrap();
    let refused = SegmentLog::open(&options(dir.path(), SMALL)).err().unwrap();
    let LogError::Damaged(problem) = refused else { panic!("{refused}") };
    assert_eq!(problem.kind, ProblemKind::Missing { expected: Seq(before + 1) });
    assert!(!verify(dir.path()).unwrap().is_clean());
    // Nor does a baseline that cannot be trusted stand for anything.
    let bytes = snapshot(dir.path());
    fs::remove_file(written).unwrap();
    let refused = SegmentLog::open(&options(dir.path(), SMALL)).err().unwrap();
    assert!(refused.to_string().contains("frames from seq 1 on are missing"), "{refused}");
    assert_eq!(snapshot(dir.path()).len(), bytes.len() - 1, "a start that refuses changes nothing");
}

#[test]
fn the_archive_takes_what_a_baseline_stands_for_and_gives_it_back() {
    let (dir, reader, key) = log_with(&[]);
    let elsewhere = tempfile::tempdir().unwrap();
    let to = elsewhere.path().join("archive");
    let firsts = firsts(dir.path());
    let all = read_all(&reader, Seq(1));
    assert_eq!(archive(&reader, dir.path(), &to).unwrap().files.len(), 0, "nothing stands for the segments yet");
    // In the middle of the third segment: the first two go.
    baseline(&reader, firsts[2] + 1).write(dir.path(), &key).unwrap();
    // Nothing is lost to a folder that is the log's own, nor to another site's archive.
    let before = snapshot(dir.path());
    let own = archive(&reader, dir.path(), &dir.path().join("log")).unwrap_err();
    assert!(own.to_string().starts_with("FS-LOG-OWN-FOLDER"), "{own}");
    let name = segment_files(dir.path())[0].file_name().unwrap().to_owned();
    fs::create_dir_all(&to).unwrap();
    fs::write(to.join(&name), b"another site's").unwrap();
    let taken = archive(&reader, dir.path(), &to).unwrap_err();
    assert!(taken.to_string().starts_with("FS-LOG-EXISTS"), "{taken}");
    assert_eq!(
        (fs::read(to.join(&name)).unwrap().as_slice(), snapshot(dir.path())),
        (b"another site's".as_slice(), before)
    );
    // The copy of one that was interrupted is taken as it is.
    fs::copy(&segment_files(dir.path())[0], to.join(&name)).unwrap();
    let archived = archive(&reader, dir.path(), &to).unwrap();
    assert_eq!((archived.files.len(), archived.last), (2, Seq(firsts[2] - 1)));
    assert!(archived.files.iter().all(|file| file.exists()));
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.is_clean(), report.first), (true, Seq(firsts[2])));
    baseline(&reader, 40).write(dir.path(), &key).unwrap();
    archive(&LogReader::open(dir.path()).unwrap(), dir.path(), &to).unwrap();
    assert_eq!(segment_files(dir.path()).len(), 1, "the last segment stays");
    let opened = open(dir.path(), SMALL);
    let mut maker = common::Maker::after(opened.tail, opened.lineage);
    append_each(&opened.log, &mut maker, 3);
    drop(opened);
    assert!(verify(dir.path()).unwrap().is_clean());
    for file in fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().path()) {
        fs::rename(&file, dir.path().join("log").join(file.file_name().unwrap())).unwrap();
    }
    let whole = LogReader::open(dir.path()).unwrap();
    assert_eq!(read_all(&whole, Seq(1))[..40], all);
    assert!(verify(dir.path()).unwrap().is_clean());
}

#[test]
fn who_wants_to_know_is_told_of_sealed_segments() {
    let dir = tempfile::tempdir().unwrap();
    let told: Arc<Mutex<Vec<Seq>>> = Arc::default();
    let hear = Arc::clone(&told);
    let mut options = options(dir.path(), SMALL);
    options.on_sealed = Some(Arc::new(move |last| hear.lock().unwrap().push(last)));
    let opened = SegmentLog::open(&options).unwrap();
    append_each(&opened.log, &mut common::Maker::new(), 40);
    drop(opened);
    let ends: Vec<Seq> = firsts(dir.path()).iter().skip(1).map(|first| Seq(first - 1)).collect();
    assert!(ends.len() > 2, "{ends:?}");
    assert_eq!(*told.lock().unwrap(), ends);
}
