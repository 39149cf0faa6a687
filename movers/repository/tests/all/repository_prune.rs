//! A prune in steps, as a site's log orders them: what is marked counts no more for whoever comes later, what is swept is only what
//! nobody names, and the trash is held in monotonic time.

use crate::repository::{back_up, content, create, image, manifest, point_id, read_in, restore, threads, unlock};
use farshore_format::repository::{ChunkId, RecordKind};
use farshore_repository::{Monotonic, Repository};
use farshore_schemas::ids::PointId;
use farshore_schemas::units::{ByteCount, Millis};
use std::path::Path;
use std::sync::Arc;

const REGION: u64 = 4096 * 4096;
const HOUR: Millis = Millis::from_mins(60);

fn secs(seconds: u64) -> Monotonic {
    Monotonic::from_secs(seconds)
}

fn one() -> [PointId; 1] {
    [point_id("one")]
}

/// A repository with point one, of this image.
fn with_one(folder: &Path, runs: &[(u64, u64, u64)]) -> Arc<Repository> {
    let repository = create(&folder.join("r"), Some("x"));
    image(&folder.join("disk.raw"), REGION, runs);
    back_up(&repository, "one", &folder.join("disk.raw"));
    repository
}

fn again(repository: Arc<Repository>) -> Arc<Repository> {
    let path = repository.path().to_owned();
    drop(repository);
    Arc::new(Repository::open(&path, &unlock(Some("x"))).unwrap())
}

fn first_chunk(repository: &Repository) -> ChunkId {
    repository.domain().id(RecordKind::Data, &content(1, 3 * 4096))
}

#[test]
fn a_mark_moves_nothing_and_what_it_named_counts_no_more_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let repository = with_one(folder.path(), &[(0, 3, 1)]);
    let chunk = first_chunk(&repository);
    assert_eq!(repository.have(&[chunk]).unwrap(), [true]);
    let stored = repository.stored().unwrap();
    repository.mark_points(&one(), (7, 7)).unwrap();
    assert_eq!(repository.have(&[chunk]).unwrap(), [false], "a later session must store it again");
    assert_eq!(repository.stored().unwrap(), stored);
    assert_eq!(repository.trash().unwrap(), ByteCount(0));
    let repository = again(repository);
    assert_eq!(repository.have(&[chunk]).unwrap(), [false]);
    restore(&repository, "one", &folder.path().join("out")).unwrap();
    // Another mark, under which the point stays, lets it count again.
    repository.mark_points(&[], (9, 9)).unwrap();
    assert_eq!(repository.have(&[chunk]).unwrap(), [true]);
    assert_eq!(again(repository).have(&[chunk]).unwrap(), [true]);
}

/// A session that is not the process's to remember: its pins are lost with the restart.
#[test]
fn who_stores_again_what_was_marked_keeps_it_although_the_agent_restarts_before_the_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    let repository = with_one(folder.path(), &[(0, 900, 1)]);
    repository.mark_points(&one(), (7, 7)).unwrap();
    let session = repository.write_session();
    let found = read_in(&session, &disk, None);
    assert!(found.new.0 > 0, "nothing that is marked counts: {found:?}");
    drop(session);
    let repository = again(repository);
    let swept = repository.sweep_marked(&one(), (7, 8), (HOUR, secs(0))).unwrap();
    assert!(swept.marked.0 > 0, "{swept:?}");
    repository.commit_point(&manifest("two", &found)).unwrap();
    let out = folder.path().join("out");
    restore(&repository, "two", &out).unwrap();
    assert!(std::fs::read(&disk).unwrap() == std::fs::read(&out).unwrap());
    assert!(again(repository).verify(threads()).unwrap().sound());
}

#[test]
fn what_a_session_found_before_the_mark_is_kept_by_the_point_that_it_makes_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    let repository = with_one(folder.path(), &[(0, 900, 1)]);
    let session = repository.write_session();
    let found = read_in(&session, &disk, None);
    drop(session);
    let repository = again(repository);
    repository.mark_points(&one(), (7, 7)).unwrap();
    // The owner waits with the sweep until this session has ended; its commit finds everything where it was.
    repository.commit_point(&manifest("two", &found)).unwrap();
    let swept = repository.sweep_marked(&one(), (7, 8), (HOUR, secs(0))).unwrap();
    assert_eq!((swept.points, swept.marked), (one().to_vec(), ByteCount(0)));
    assert!(repository.point(&point_id("one")).unwrap().is_none());
    restore(&repository, "two", &folder.path().join("out")).unwrap();
    assert_eq!(repository.have(&[first_chunk(&repository)]).unwrap().len(), 1);
}

#[test]
fn a_sweep_takes_only_what_was_marked_and_not_what_was_stored_since() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    let repository = with_one(folder.path(), &[(0, 900, 1)]);
    repository.mark_points(&one(), (7, 7)).unwrap();
    image(&disk, REGION, &[(0, 900, 9)]);
    let session = repository.write_session();
    let stored = read_in(&session, &disk, None);
    drop(session);
    // No point names it yet, and nothing remembers the session.
    let repository = again(repository);
    repository.sweep_marked(&one(), (7, 8), (HOUR, secs(0))).unwrap();
    repository.commit_point(&manifest("two", &stored)).unwrap();
    restore(&repository, "two", &folder.path().join("out")).unwrap();
}

#[test]
fn a_commit_after_the_sweep_of_what_it_names_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    let repository = with_one(folder.path(), &[(0, 900, 1)]);
    let session = repository.write_session();
    let found = read_in(&session, &disk, None);
    drop(session);
    repository.mark_points(&one(), (7, 7)).unwrap();
    repository.sweep_marked(&one(), (7, 7), (HOUR, secs(0))).unwrap();
    let error = repository.commit_point(&manifest("two", &found)).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-INCOMPLETE", "{error}");
}

#[test]
fn steps_done_twice_and_steps_out_of_order_are_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let repository = with_one(folder.path(), &[(0, 900, 1)]);
    let held = (HOUR, secs(0));
    let error = repository.sweep_marked(&one(), (7, 7), held).unwrap_err();
    assert!(error.code() == "FS-REPO-NO-MARK" && error.transient(), "{error}");
    repository.mark_points(&one(), (7, 7)).unwrap();
    repository.mark_points(&one(), (7, 8)).unwrap();
    let error = repository.mark_points(&one(), (6, 6)).unwrap_err();
    assert_eq!(error.code(), "FS-REPO-POSITION", "{error}");
    let first = repository.sweep_marked(&one(), (7, 9), held).unwrap();
    let second = repository.sweep_marked(&one(), (7, 9), held).unwrap();
    assert_eq!((first.points, second.marked), (second.points.clone(), ByteCount(0)));
    assert!(first.marked.0 > 0);
    // Neither a mark that was overtaken nor one that never was is swept.
    for mark in [6, 8] {
        assert_eq!(repository.sweep_marked(&one(), (mark, 9), held).unwrap_err().code(), "FS-REPO-NO-MARK");
    }
    let trash = repository.trash().unwrap();
    assert!(repository.empty_trash((7, 10), (HOUR, secs(3600))).unwrap() >= trash);
    assert_eq!(repository.empty_trash((7, 11), (HOUR, secs(0))).unwrap(), ByteCount(0));
    assert_eq!(repository.empty_trash((5, 12), (HOUR, secs(0))).unwrap(), ByteCount(0));
}

#[test]
fn an_open_session_keeps_what_it_found_from_a_sweep_and_a_later_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.raw");
    let repository = with_one(folder.path(), &[(0, 900, 1)]);
    let early = repository.write_session();
    read_in(&early, &disk, None);
    let later = repository.write_session();
    repository.mark_points(&one(), (7, 7)).unwrap();
    let swept = repository.sweep_marked(&one(), (7, 7), (HOUR, secs(0))).unwrap();
    assert_eq!(swept.marked, ByteCount(0), "both sessions were open when it was found");
    // One that comes now finds nothing of it in what is marked, and so does not keep it.
    repository.mark_points(&one(), (8, 8)).unwrap();
    let third = repository.write_session();
    drop((early, later));
    repository.mark_points(&one(), (9, 9)).unwrap();
    let swept = repository.sweep_marked(&one(), (9, 9), (HOUR, secs(0))).unwrap();
    assert!(swept.marked.0 > 0, "the third session has found nothing: {swept:?}");
    drop(third);
}

fn trash_of(folder: &Path) -> Arc<Repository> {
    let repository = with_one(folder, &[(0, 900, 1)]);
    repository.mark_points(&one(), (7, 7)).unwrap();
    repository.sweep_marked(&one(), (7, 7), (HOUR, secs(50))).unwrap();
    repository
}

fn left(repository: &Repository, hold: Millis, now: Monotonic) -> Millis {
    match repository.empty_trash((7, 7), (hold, now)) {
        Err(farshore_repository::Error::Held { left, .. }) => left,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hold_counts_the_time_that_the_agent_ran_and_a_restart_only_lengthens_it() {
    let folder = tempfile::tempdir().unwrap();
    let repository = trash_of(folder.path());
    assert_eq!(left(&repository, HOUR, secs(50)), HOUR);
    assert_eq!(left(&repository, HOUR, secs(650)), Millis(3_000_000));
    repository.count_trash(secs(1250)).unwrap();
    // What passed since it was last kept is lost, and what passes until the first look counts for nothing.
    let repository = again(repository);
    assert_eq!(left(&repository, HOUR, secs(9000)), Millis(2_400_000));
    assert_eq!(left(&repository, HOUR, secs(10)), Millis(2_400_000), "time that goes back counts for nothing");
    assert_eq!(left(&repository, HOUR, secs(9000 + 2399)), Millis(1_000));
    assert!(repository.empty_trash((7, 8), (HOUR, secs(9000 + 2400))).unwrap().0 > 0);
    assert_eq!(repository.trash().unwrap(), ByteCount(0));
}

#[test]
fn a_hold_is_lengthened_never_shortened_and_one_that_cannot_be_read_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let repository = trash_of(folder.path());
    assert_eq!(left(&repository, Millis(0), secs(50)), HOUR);
    assert_eq!(left(&repository, Millis::from_mins(90), secs(50)), Millis::from_mins(90));
    assert_eq!(left(&repository, HOUR, secs(50)), Millis::from_mins(90));
    assert_eq!(left(&repository, HOUR, secs(50 + 3600)), Millis::from_mins(30));
    let hold = repository.path().join("trash").join(format!("{:020}", 7)).join("hold");
    std::fs::write(&hold, "x").unwrap();
    assert_eq!(left(&repository, HOUR, secs(50 + 3600)), HOUR);
}

#[test]
fn a_list_of_what_goes_that_cannot_be_read_is_no_mark() {
    let folder = tempfile::tempdir().unwrap();
    let repository = with_one(folder.path(), &[(0, 900, 1)]);
    repository.mark_points(&one(), (7, 7)).unwrap();
    std::fs::write(repository.path().join("going"), "{").unwrap();
    let repository = again(repository);
    assert_eq!(repository.sweep_marked(&one(), (7, 8), (HOUR, secs(0))).unwrap_err().code(), "FS-REPO-NO-MARK");
    repository.mark_points(&one(), (9, 9)).unwrap();
    assert!(repository.sweep_marked(&one(), (9, 9), (HOUR, secs(0))).unwrap().marked.0 > 0);
}
