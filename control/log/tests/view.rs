//! The view is believed only where it proves to be right.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod common;

use common::{LINEAGE, Maker, append_each, site};
use farshore_log::{Change, Lost, MemoryLog, MemoryStore, ReadLog, View, ViewState};
use farshore_schemas::ids::{Digest, Seq};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

fn log_of(frames: usize) -> MemoryStore {
    let store = MemoryStore::new(&site(), LINEAGE);
    append_each(&MemoryLog::open(&store), &mut Maker::new(), frames);
    store
}

fn put(key: &str, value: &[u8]) -> Change {
    (key.to_owned(), Some(value.to_vec()))
}

/// A view that reflects all of `log`.
fn filled(dir: &Path, log: &MemoryStore) {
    let view = View::open(dir, log).unwrap().into_view();
    for seq in 1..=log.tail().0.0 {
        let hash = log.frame_hash(Seq(seq)).unwrap().unwrap();
        view.apply(
            Seq(seq),
            hash,
            vec![put("entity/host/a", &seq.to_be_bytes()), put(&format!("entity/vm/{seq}"), b"on")],
        );
    }
    view.flush();
}

/// The view's database, for who spoils it. sled may hold its file a moment longer than the view that was dropped.
fn opened(dir: &Path) -> sled::Db {
    let since = Instant::now();
    loop {
        match sled::open(dir.join("view")) {
            Ok(db) => return db,
            Err(error) => assert!(since.elapsed() < Duration::from_secs(60), "{error}"),
        }
        std::thread::yield_now();
    }
}

fn why(state: ViewState) -> String {
    match state {
        ViewState::Ready(_) => panic!("the view was believed"),
        ViewState::Rebuild { view, why, .. } => {
            assert!(view.entries().unwrap().is_empty());
            assert_eq!(view.applied(), (Seq(0), Digest::default()));
            why
        }
    }
}

#[test]
fn a_view_is_there_again_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(50);
    filled(dir.path(), &log);
    let ViewState::Ready(view) = View::open(dir.path(), &log).unwrap() else { panic!("the view was not believed") };
    assert_eq!(view.opened_at(), log.tail());
    assert_eq!(view.applied(), log.tail());
    assert_eq!(view.entries().unwrap().len(), 51);
    assert_eq!(view.get("entity/host/a"), Some(50u64.to_be_bytes().to_vec()));
    view.apply(Seq(51), Digest([1; 32]), vec![("entity/host/a".to_owned(), None)]);
    view.flush();
    assert_eq!(view.get("entity/host/a"), None);
    assert_eq!(view.applied().0, Seq(51));
    assert_eq!(view.failure(), None);
}

#[test]
fn a_view_may_be_behind_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = log_of(5);
    filled(dir.path(), &store);
    let mut maker = Maker::after(store.tail(), LINEAGE);
    append_each(&MemoryLog::open(&store), &mut maker, 5);
    let ViewState::Ready(view) = View::open(dir.path(), &store).unwrap() else { panic!("the view was not believed") };
    assert_eq!(view.opened_at().0, Seq(5));
}

#[test]
fn a_view_that_knows_more_than_the_log_shows_that_frames_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let lost = Some(Lost { kept: Seq(3), acknowledged: Seq(9) });
    let said = |state: ViewState| match state {
        ViewState::Ready(_) => panic!("the view was believed"),
        ViewState::Rebuild { lost, .. } => lost,
    };
    filled(dir.path(), &log_of(9));
    assert_eq!(said(View::open(dir.path(), &log_of(3)).unwrap()), lost);
    let noted = fs::read(dir.path().join("log/tail")).unwrap();
    assert_eq!(noted[8..16], 9u64.to_le_bytes(), "the log notes it until it goes on");
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), &log_of(9));
    assert_eq!(said(View::rebuild(dir.path(), &log_of(3)).unwrap()), lost, "also of a rebuild that was asked for");
}

#[test]
fn a_view_without_a_log_behind_it_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    assert!(why(View::open(dir.path(), &log_of(3)).unwrap()).contains("no view yet"));
    filled(dir.path(), &log_of(9));
    assert!(why(View::open(dir.path(), &log_of(3)).unwrap()).contains("the log ends at 3"));
    filled(dir.path(), &log_of(3));
    // Another history of the same length.
    let store = MemoryStore::new(&site(), LINEAGE);
    append_each(&MemoryLog::open(&store), &mut Maker { payload: 9, ..Maker::new() }, 3);
    assert!(why(View::open(dir.path(), &store).unwrap()).contains("is not the one that it reflects"));
    assert!(dir.path().join("view.doubt").exists(), "what was doubted is kept aside");
}

#[test]
fn a_changed_value_is_doubted() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(4);
    filled(dir.path(), &log);
    {
        let db = opened(dir.path());
        let mut value = db.get(b"eentity/host/a").unwrap().unwrap().to_vec();
        *value.last_mut().unwrap() ^= 1;
        db.insert(b"eentity/host/a", value).unwrap();
    }
    assert!(why(View::open(dir.path(), &log).unwrap()).contains("entity/host/a is damaged"));
}

#[test]
fn a_value_under_another_key_is_doubted() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(4);
    filled(dir.path(), &log);
    {
        let db = opened(dir.path());
        let value = db.get(b"eentity/vm/1").unwrap().unwrap();
        db.insert(b"eentity/vm/9", value).unwrap();
    }
    assert!(why(View::open(dir.path(), &log).unwrap()).contains("entity/vm/9 is damaged"));
}

#[test]
fn entries_without_a_mark_are_doubted() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(4);
    filled(dir.path(), &log);
    opened(dir.path()).remove(b"applied").unwrap();
    assert!(why(View::open(dir.path(), &log).unwrap()).contains("no mark"));
}

/// Whatever is done to its files, opening gives a view that is right or an empty one, and never fails or panics.
#[test]
fn damage_to_the_files_never_gives_a_wrong_value() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(20);
    filled(dir.path(), &log);
    let good = common::snapshot(&dir.path().join("view"));
    let want = View::open(dir.path(), &log).unwrap().into_view().entries().unwrap();
    assert_eq!(want.len(), 21);
    for (path, bytes) in &good {
        for at in (0..bytes.len()).step_by(bytes.len() / 24 + 1) {
            fs::remove_dir_all(dir.path().join("view")).unwrap();
            for (path, bytes) in &good {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            let mut bad = bytes.clone();
            let to = (at + 16).min(bad.len());
            bad[at..to].fill(0xA5);
            fs::write(path, bad).unwrap();
            match View::open(dir.path(), &log).unwrap() {
                ViewState::Ready(view) => {
                    let entries = view.entries().unwrap();
                    let whole = view.opened_at() == log.tail();
                    assert!(!whole || entries == want, "{} at {at}", path.display());
                }
                ViewState::Rebuild { view, .. } => assert!(view.entries().unwrap().is_empty()),
            }
        }
    }
}
