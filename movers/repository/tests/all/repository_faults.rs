//! Full disks, failed syncs, crashes, and the order in which a point becomes durable.

use crate::common::{FailSync, LINEAGE, Recorder, Step, StopAfter, manifest, name, noise, point, store_disk};
use crate::repository::read_back;
use farshore_format::CHUNK;
use farshore_repository::{Error, Faults, Repository, Result};
use std::path::Path;
use std::sync::{Arc, Mutex};

fn open_with(path: &Path, faults: &Arc<impl Faults + 'static>) -> Result<Repository> {
    Repository::open_with_faults(path, &name("main"), LINEAGE, faults.clone())
}

fn back_up(repository: &Repository, id: &str, content: &[u8]) -> Result<()> {
    let stored = store_disk(repository, "a.img", content)?;
    repository.commit_point(&manifest(id, vec![stored])).map(drop)
}

#[test]
fn everything_a_point_names_is_durable_before_its_manifest_has_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Arc::new(Recorder::default());
    let repository = open_with(folder.path(), &recorder).unwrap();
    back_up(&repository, "p1", &noise(1, 3 * CHUNK)).unwrap();
    let steps = recorder.0.lock().unwrap();
    let named = steps.iter().position(|step| matches!(step, Step::Rename(_, to) if to.ends_with("points/p1"))).unwrap();
    let all = steps.iter().position(|step| *step == Step::SyncAll).unwrap();
    let last_chunk = steps.iter().rposition(|step| {
        matches!(step, Step::Rename(_, to) if to.components().any(|part| ["chunks", "disks"].map(|s| s.as_ref()).contains(&part.as_os_str())))
    });
    assert!(last_chunk.unwrap() < all && all < named);
    let Step::Rename(temporary, _) = &steps[named] else { unreachable!() };
    assert_eq!(steps[named - 1], Step::Sync(temporary.clone()));
    assert_eq!(steps[named + 1], Step::Sync(folder.path().join("points")));
    assert_eq!(steps.len(), named + 2);
}

#[test]
fn a_full_disk_announces_nothing_and_leaves_points_intact_at_whichever_write() {
    let (first, second) = (noise(1, 2 * CHUNK), noise(2, 2 * CHUNK));
    for writes in 0.. {
        let folder = tempfile::tempdir().unwrap();
        back_up(&Repository::open(folder.path(), &name("main"), LINEAGE).unwrap(), "p1", &first).unwrap();
        let faults = Arc::new(StopAfter::full(writes));
        let repository = open_with(folder.path(), &faults).unwrap();
        let result = back_up(&repository, "p2", &second);
        if !faults.reached() {
            result.unwrap();
            assert!(writes > 5, "the test has met no write at all");
            break;
        }
        let error = result.unwrap_err();
        assert_eq!(error.code(), "FS-REPO-FULL");
        assert!(error.advice().contains("free space") && error.transient());
        assert_eq!(repository.point(&point("p2")).unwrap(), None);
        assert_eq!(repository.verify_point(&point("p1")).unwrap().damaged, 0);
        assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
        faults.mend();
        back_up(&repository, "p2", &second).unwrap();
        assert_eq!(read_back(&repository, "p2", "a.img"), second);
    }
}

#[test]
fn after_a_failed_sync_nothing_more_is_done_until_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Arc::new(FailSync(Mutex::new(false)));
    let repository = open_with(folder.path(), &faults).unwrap();
    *faults.0.lock().unwrap() = true;
    let error = back_up(&repository, "p1", &noise(1, CHUNK)).unwrap_err();
    assert!(matches!(error, Error::Sync { .. }));
    assert_eq!(error.code(), "FS-REPO-SYNC");
    assert!(repository.point(&point("p1")).unwrap().is_none());
    // The disk would let it pass now, but what it lost is unknown.
    assert_eq!(back_up(&repository, "p1", &noise(1, CHUNK)).unwrap_err().code(), "FS-REPO-SYNC");
    assert_eq!(repository.prune(&[], 1).unwrap_err().code(), "FS-REPO-SYNC");
    drop(repository);
    back_up(&Repository::open(folder.path(), &name("main"), LINEAGE).unwrap(), "p1", &noise(1, CHUNK)).unwrap();
}

#[test]
fn a_crash_at_any_change_leaves_every_committed_point_readable() {
    let (first, second) = (noise(1, CHUNK + 100), noise(2, CHUNK + 100));
    for changes in 0.. {
        let folder = tempfile::tempdir().unwrap();
        back_up(&Repository::open(folder.path(), &name("main"), LINEAGE).unwrap(), "p1", &first).unwrap();
        let faults = Arc::new(StopAfter::crash(changes));
        let story = || -> Result<()> {
            let repository = open_with(folder.path(), &faults)?;
            back_up(&repository, "p2", &second)?;
            repository.prune(&[point("p1")], 10)?;
            back_up(&repository, "p3", &first)?;
            repository.prune(&[point("p2")], 20)?;
            repository.prune(&[], 30).map(drop)
        };
        let told = story();
        let repository = Repository::open(folder.path(), &name("main"), LINEAGE).unwrap();
        for stored in repository.points().unwrap() {
            let verified = repository.verify_point(&stored.point).unwrap();
            assert_eq!(verified.damaged, 0, "{} after {changes} changes: {:?}", stored.point, verified.damage);
        }
        back_up(&repository, "p4", &second).unwrap();
        repository.prune(&[], 40).unwrap();
        repository.prune(&[], 50).unwrap();
        assert_eq!(read_back(&repository, "p4", "a.img"), second);
        if !faults.reached() {
            told.unwrap();
            assert!(changes > 40, "the test has met only {changes} changes");
            break;
        }
    }
}
